"""Runs as a pandas frame, one row for each: `eventlog.frame`."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Union

import eventlog

from ..core import rows, runs

if TYPE_CHECKING:
    import pandas

Source = Union[eventlog.Run, str, "os.PathLike[str]"]


def frame_of_runs(sources: Iterable[Source]) -> "pandas.DataFrame":
    """A row for each run: the fields of `runs ls`, and those of its config as `config.NAME`."""
    import pandas

    return pandas.DataFrame([_row(loaded) for source in sources for loaded in _load(source)])


def _load(source: Source) -> Iterable[runs.Found]:
    if isinstance(source, eventlog.Run):
        return [runs.Found(source.path or Path(source.run_name), source)]
    return runs.glance([source])


def _row(loaded: runs.Found) -> dict[str, Any]:
    row = rows.row(loaded)
    config = eventlog.flat_cells(row.pop("config") or {})
    del row["metadata"]
    return row | {f"config.{name}": value for name, value in config.items()}
