"""The journals of a run's ranks, where ranks log too: beside the run's own, one a rank.

out/run_20261123_032501.jsonl           the run's journal
out/run_20261123_032501.rank3.journal   that of rank 3, in the same format
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
    journals = {}
    for name in os.listdir(path.parent):
        parsed = parse_rank_name(name)
        if parsed is not None and parsed[0] == path.stem:
            journals[parsed[1]] = path.with_name(name)
    return dict(sorted(journals.items()))
