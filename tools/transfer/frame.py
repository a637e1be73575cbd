"""Runs as a pandas frame, one row for each: `eventlog.frame`."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Union

import eventlog

from ..core import rows, runs, series

if TYPE_CHECKING:
    import pandas

Source = Union[eventlog.Run, str, "os.PathLike[str]"]


def frame_of_runs(sources: Iterable[Source]) -> "pandas.DataFrame":
    """A row for each run: the fields of `runs ls`, and those of its config as `config.NAME`.

    Each metric has under its name what `runs ls` has: its last value, or what the run defined
    (`define_metric(summary=...)`); and its best as `NAME:best` if it is known whether less or more
    is better. Where a field has the name of a metric, the metric is `metrics/NAME`.
    `ends_nonfinite` has the names of the series whose last value is NaN or infinite; `final_loss`
    is that value where it is the training loss.
    """
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
    row |= {name: float(mark) for name, mark in row.pop("nonfinite", {}).items()}
    row["ends_nonfinite"] = ", ".join(row.get("ends_nonfinite", ()))
    row |= {f"config.{name}": value for name, value in config.items()}
    return row | _metrics(series.Source(loaded), row)


def _metrics(source: series.Source, row: dict[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for one in source.metrics():
        name = f"metrics/{one.name}" if one.name in row else one.name
        values[name] = source.value(one, series.Asked(one.name))
        if one.goal is not None and one.best is not None:
            values[f"{name}:best"] = one.best
    return values
