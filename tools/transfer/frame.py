"""A run as pandas data frames, for notebooks.

    from .frame import frame

    iterations = frame("out/run_20261123_032501.json")
    evals = frame("out/run_20261123_032501.json", "evals")

Each kind of rows is a frame of its own, because the columns differ.
`iterations.merge(evals, on="iter", how="left")` joins two.
"""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Union

import eventlog

from ..core import rows as rows_
from ..core import runs
from ..core.history import KINDS, History, Kind, flat_cells, load
from ..core.library import need

if TYPE_CHECKING:
    import pandas

Source = Union[eventlog.Run, str, "os.PathLike[str]"]


def frame(
    run: Source | Iterable[Source], kind: Kind | Literal["runs"] = "iterations"
) -> "pandas.DataFrame":
    """One row per iteration (`iterations`), evaluation (`evals`) or checkpoint (`checkpoints`).

    `runs`: one row per run, with the fields of `runs ls` and its config as `config.NAME`; `run` may
    then also be a folder, a glob, or several of these.

    `run` is a run JSON, a journal, or a run from `eventlog.load_run`; from a journal each iteration
    has its `timestamp`. NaN and infinities are numbers; in pandas a missing number is NaN, too.
    Nested fields are columns with dotted names.

    Raises:
        tools.core.runs.Refusal: pandas is not installed; there is no such kind of rows.
        eventlog.EventlogError, OSError: the run cannot be read.
    """
    pandas = need("pandas")
    if kind == "runs":
        sources = [run] if isinstance(run, eventlog.Run | str | os.PathLike) else run
        return pandas.DataFrame([_row(loaded) for source in sources for loaded in _load(source)])
    if kind not in KINDS:
        known = ", ".join((*KINDS, "runs"))
        raise runs.Refusal(f"frame: unknown kind of rows: {kind!r}. Must be one of {known}")
    if not isinstance(run, eventlog.Run | str | os.PathLike):
        raise runs.Refusal(f"frame: {kind!r} must be of one run; only 'runs' can be of several")
    history = History(run) if isinstance(run, eventlog.Run) else load(Path(run))
    return pandas.DataFrame(list(history.rows(kind)))


def _load(source: Source) -> Iterable[runs.Found]:
    if isinstance(source, eventlog.Run):
        return [runs.Found(source.path or Path(source.run_name), source)]
    return runs.glance([source])


def _row(loaded: runs.Found) -> dict[str, Any]:
    row = rows_.row(loaded)
    config = flat_cells({"config": row.pop("config") or {}})
    del row["metadata"]
    return row | config
