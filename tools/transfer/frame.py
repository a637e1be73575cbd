"""A run as pandas data frames, for notebooks.

    from tools.transfer.frame import frame

    iterations = frame("out/run_20261123_032501.json")
    evals = frame("out/run_20261123_032501.json", "evals")

Three kinds of rows are three frames: their columns differ, and a long table of all would
be mostly empty. `iterations.merge(evals, on="iter", how="left")` puts two side by side.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Union

import eventlog
from tools.history import History, Kind, load
from tools.library import need

if TYPE_CHECKING:
    import pandas

Source = Union[eventlog.Run, str, "os.PathLike[str]"]


def frame(run: Source, kind: Kind = "iterations") -> "pandas.DataFrame":
    """One row an iteration (`iterations`), evaluation (`evals`) or checkpoint (`checkpoints`).

    `run` is a run JSON, a journal, or what `eventlog.load_run` gave; from a journal each
    iteration has its `timestamp`. NaN and infinities are numbers again; in pandas a number
    that is missing is NaN, too. Objects within a row are columns with dotted names.

    Raises:
        tools.runs.Refusal: pandas is not installed.
        eventlog.EventlogError, OSError: the run cannot be read.
    """
    pandas = need("pandas")
    history = History(run) if isinstance(run, eventlog.Run) else load(Path(run))
    return pandas.DataFrame(list(history.rows(kind)))
