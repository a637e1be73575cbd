"""The journals of a run's ranks, where they were asked for: beside its own, one a rank.

    out/run_20261123_032501.jsonl           the run's journal, as ever
    out/run_20261123_032501.rank3.journal   what its rank 3 says: a journal in the same format

Another suffix, so that nobody who lists runs takes one for a run.
"""

import os
import re
from pathlib import Path

RANK_SUFFIX = ".journal"

_NAME = re.compile(rf"(?P<stem>.+)\.rank(?P<rank>\d+){re.escape(RANK_SUFFIX)}", re.DOTALL)


def rank_path(journal: Path, rank: int) -> Path:
    """The journal of a rank of the run whose journal, or run JSON, that is."""
    return journal.with_suffix(f".rank{rank}{RANK_SUFFIX}")


def find_ranks(path: str | os.PathLike[str]) -> dict[int, Path]:
    """The journals of the ranks of the run in `path` (journal or run JSON), by rank.

    Each is for `load_run`: `metadata` has `rank`, `world_size` and the `session` of the run.

    Raises:
        OSError: the folder cannot be read.
    """
    path = Path(path)
    found = {}
    for name in os.listdir(path.parent):
        match = _NAME.fullmatch(name)
        if match is not None and match["stem"] == path.stem:
            found[int(match["rank"])] = path.with_name(name)
    return dict(sorted(found.items()))
