"""The other files of runs: in the journal's folder, or in the folder for when that disk fails."""

import os
from bisect import bisect_left
from functools import lru_cache
from itertools import takewhile
from pathlib import Path

import eventlog

_SUFFIXES = (eventlog.SEGMENT_SUFFIX, eventlog.ASIDE_SUFFIX, eventlog.TORN_SUFFIX)


def files_of(stem: str, folder: Path) -> list[str]:
    """The names of files in a folder that may belong to the run of the journal `stem`.

    Raises:
        OSError: the folder cannot be read.
    """
    names = _names(folder, os.stat(folder).st_mtime_ns)
    begin = f"{stem}."
    at = bisect_left(names, begin)
    return [*takewhile(lambda name: name.startswith(begin), names[at:])]


def segment_sizes(stem: str, folder: Path) -> dict[str, int]:
    """How many bytes each segment of a run has in its fallback folder; none if that is gone."""
    try:
        names = files_of(stem, folder)
        segments = [name for name in names if eventlog.parse_segment_name(name, stem)]
        return {name: os.stat(folder / name).st_size for name in segments}
    except (OSError, ValueError):  # a file may name any folder
        return {}


@lru_cache(maxsize=16)
def _names(folder: Path, changed_ns: int) -> list[str]:
    """All of a folder, which may have those of ten thousand runs."""
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if entry.name.endswith(_SUFFIXES))
