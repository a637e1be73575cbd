"""For notebooks: plots of runs, and a data frame with one row per run.

Both are made by the tools. These register two functions under the entry point group `eventlog`, so
that eventlog imports neither the tools nor matplotlib. `Run.frame` and `Run.plot` are for one
loaded run.
"""

import importlib
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

Source = Any  # a Run; or a file, a folder, a glob, the beginning of a run's name


def plot(runs: Source | Iterable[Source], kind: str | None = None, **options: Any) -> "Figure":
    """A matplotlib Figure of one run or of several, as `runs plot` draws it; a notebook shows it.

    Each of `runs` is what `load_run` returns, or the file or name of a run. `kind` is `loss`,
    `analysis` (loss, step times in ms, MFU in percent), `eval` or `compare`; None: an analysis of
    one run, a comparison of several. Options are those of `runs plot`: `x` (`iter`, `tokens`,
    `time`), `smooth_iters`, `log_x`, `log_y`, `superseded`, `title`, `width_in`, `height_in`,
    `dpi` and `theme` (`light`, `dark`). `metrics` draws any series in place of a kind, by names or
    wildcards, and `right` draws some on an axis of their own:
    `plot(run, metrics=["train/*"])`; with them `x_range`, `y_range` and `all_values` (outliers,
    too). What the figure leaves out is in its `messages`.

    Raises:
        ImportError: the tools or matplotlib are not installed; says what to install.
        Exception: there is nothing to draw, or a run lacks what `x` needs; says which.
        EventlogError, OSError: a run cannot be read.
    """
    return _extension("plot")(_listed(runs), kind, **options)  # type: ignore[no-any-return]


def frame(runs: Source | Iterable[Source]) -> "DataFrame":
    """A pandas frame with a row for each run: what `runs ls` shows, its config as `config.NAME`.

    `runs` are files, folders, globs or names of runs, or what `load_run` returns. `avg_time_ms` is
    in milliseconds, `avg_mfu` in percent, losses in nats. The rows of one run are
    `load_run(...).frame("iterations")`.

    Raises:
        ImportError: the tools or pandas are not installed; says what to install.
        EventlogError, OSError: a folder or file cannot be read.
    """
    need_pandas()
    return _extension("frame")(_listed(runs))


def frame_of_rows(rows: Sequence[Mapping[str, Any]], axis: str) -> "DataFrame":
    """A frame of flat rows, with the column `axis` at least; integers keep all of their digits."""
    pandas = need_pandas()
    frame = pandas.DataFrame(rows) if rows else pandas.DataFrame(columns=[axis])
    most = 1 << 53  # pandas makes floats of the integers of a column in which one is missing
    large = [n for n in frame if frame[n].dtype.kind == "f" and (frame[n].abs() >= most).any()]
    for name in large:
        values = [row.get(name, math.nan) for row in rows]
        if any(type(value) is int and abs(value) > most for value in values):
            frame[name] = pandas.Series(values, dtype=object)
    return frame


def need_pandas() -> Any:
    """pandas. Raises ImportError, which says how to install it."""
    try:
        return importlib.import_module("pandas")
    except ModuleNotFoundError as error:
        raise ImportError(f"a data frame needs {error.name}: pip install pandas") from error


def _listed(runs: Source | Iterable[Source]) -> list[Source]:
    is_one = isinstance(runs, str | os.PathLike) or not isinstance(runs, Iterable)
    return [runs] if is_one else [*runs]


def _extension(name: str) -> Any:
    """The function that an installed package registered as `name`.

    Raises:
        ImportError: none did, or a library that it needs is missing; says what to install.
    """
    from importlib.metadata import entry_points  # takes 20 ms, which a training does not need

    install = "pip install 'runjournal[tools]'"
    for point in entry_points(group="eventlog", name=name):
        try:
            return point.load()
        except ModuleNotFoundError as error:
            raise ImportError(f"eventlog.{name} needs {error.name}: {install}") from error
    raise ImportError(f"eventlog.{name} needs the tools of runjournal: {install}")
