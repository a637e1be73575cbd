"""The journals of a run's ranks, where they were asked for: beside its own, one a rank.

    out/run_20261123_032501.jsonl           the run's journal, as ever
    out/run_20261123_032501.rank3.journal   what its rank 3 says: a journal in the same format

Another suffix, so that nobody who lists runs takes one for a run.
"""

import os
from pathlib import Path

from eventlog.format.files import parse_rank_name


def find_ranks(path: str | os.PathLike[str]) -> dict[int, Path]:
    """The journals of the ranks of the run in `path` (journal or run JSON), by rank.

    Each is for `load_run`: `metadata` has `rank`, `world_size` and the `session` of the run.

    Raises:
        OSError: the folder cannot be read.
    """
    path = Path(path)
    found = {}
    for name in os.listdir(path.parent):
        parsed = parse_rank_name(name)
        if parsed is not None and parsed[0] == path.stem:
            found[parsed[1]] = path.with_name(name)
    return dict(sorted(found.items()))
