"""The content of each chart: its series, lines, marks and range."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

import numpy as np

from ..core.axis import AXES, with_gaps
from ..core.formats import short
from ..core.series import plain
from ..core.smoothing import is_noisy, smooth
from ..live import by_series, definitions
from ..live.curves import Curve
from ..live.folders import Folders
from ..live.following import Following
from ..live.marks import places
from ..live.usual import usual_first
from .braille import Line, frame_around
from .chart import STYLES, Drawing, End
from .view import View

BUSY_S = 0.1  # how long the screen waits for a run that is being read


@contextmanager
def run_at(folders: Folders, id: str) -> Iterator[Following | None]:
    """The run, locked; None if it is gone, or while a large part of it is being read."""
    with ExitStack() as stack:
        try:
            run = stack.enter_context(folders.at(id, BUSY_S))
        except TimeoutError:
            run = None
        yield run


def metrics_of(folders: Folders, ids: Sequence[str], text: str = "") -> list[str]:
    """The series of some runs that are not hidden, the usual ones first; or those that `text`
    asks for."""
    usual: dict[str, None] = {}
    others: dict[str, None] = {}
    for id in ids:
        with run_at(folders, id) as run:
            first, last = usual_first(definitions.of(run).listed(text) if run else ())
            usual |= dict.fromkeys(first)
            others |= dict.fromkeys(last)
    return list(usual | others)


def is_being_read(folders: Folders, ids: Sequence[str]) -> bool:
    """Whether one of some runs may have series that are not known yet."""
    for id in ids:
        try:
            with folders.at(id, BUSY_S) as run:
                if run is not None and not (run.was_read or run.error):
                    return True
        except TimeoutError:
            return True
    return False


def axes_of(folders: Folders, ids: Sequence[str]) -> list[str]:
    """The series that some runs have as axes of others."""
    offered: dict[str, None] = {}
    for id in ids:
        with run_at(folders, id) as run:
            offered |= dict.fromkeys(by_series.of(run).offered() if run else ())
    return list(offered)


def axis_name(folders: Folders, ids: Sequence[str], view: View, metric: str) -> str:
    """The axis of a series: that of the view, else what the first run that logs it defined."""
    for id in () if view.axis else ids:
        with run_at(folders, id) as run:
            if run is not None and run.content.find(metric) is not None:
                return by_series.of(run).defined().get(metric, "iter")
    return view.axis or "iter"


def x_range(
    folders: Folders, ids: Sequence[str], view: View, x: str = "iter"
) -> tuple[float, float]:
    """The left and right edge of the view of some runs, on the axis `x`."""
    lows, highs = [], []
    for id in ids:
        with run_at(folders, id) as run:
            if run is not None and x not in AXES and (ends := by_series.of(run).range_of(x)):
                lows.append(ends[0])
                highs.append(ends[1])
            axis = run.axis(x) if run and x in AXES else None
            if run is None or axis is None:
                continue
            for rows in run.content.all_rows():
                low, high = axis.range_of(rows)
                lows.append(low)
                highs.append(high)
    low, high = min(lows, default=0.0), max(highs, default=1.0)
    return view.scale_to(low, high if high > low else low + 1)


def drawing(
    folders: Folders,
    ids: Sequence[str],
    metric: str,
    view: View,
    edges: tuple[float, float],
    n_buckets: int,
    x: str = "iter",
) -> Drawing:
    """A metric of some runs by the axis `x`. The marks are those of the first run."""
    left, right = edges
    shown = Drawing(metric, [], [], None, [], x)
    smoothed: list[Line] = []
    notes: dict[str, None] = {}
    units: dict[str, None] = {}
    for number, id in enumerate(ids):
        style = STYLES[number]
        with run_at(folders, id) as run:
            if run is None:
                continue
            if metric in run.content.series() or metric in definitions.of(run).named():
                notes |= dict.fromkeys([definitions.of(run).no_number(metric)])
                units |= dict.fromkeys([definitions.of(run).unit(metric)])
            read = _read(run, metric, view, edges, n_buckets, x)
            if read is None:
                continue
            curve, is_smoothed, last_mark = read
            marks = list(places(run, x))
            if number == 0:
                shown.marks += [(at, kind) for at, kind in marks if left <= at <= right]
        shown.marks += [(at, "nonfinite") for at, _ in curve.nonfinite]
        starts = [at for at, kind in marks if kind == "resume"] if x == "time" else []
        line = Line(*with_gaps(curve.x, curve.y, starts), f"dim {style}" if is_smoothed else style)
        shown.lines.append(line)
        if is_smoothed and len(curve.x):
            line = _smoothed(curve, view.smoothing, style, starts)
            smoothed.append(line)
        shown.ends += end_of(number, line, edges, last_mark)
    finish(shown, metric, view, edges, units, notes)
    shown.lines += smoothed
    return shown


def finish(
    shown: Drawing,
    metric: str,
    view: View,
    edges: tuple[float, float],
    units: Iterable[str],
    notes: Iterable[str],
) -> None:
    """Set the frame around the lines, the name, and the note in place of a line."""
    x = shown.axis
    shown.frame = frame_around(shown.lines, *edges, is_log=view.is_log)
    name = metric if view.axis or x == "iter" else f"{metric} by {plain(x)}"
    unit = next(filter(None, units), "")
    shown.title = f"{name} ({unit})" if unit else name
    shown.note = "; ".join(filter(None, notes)) or ("no value here" if shown.lines else shown.note)


def _read(
    run: Following, metric: str, view: View, edges: tuple[float, float], n_buckets: int, x: str
) -> tuple[Curve, bool, str | None] | None:
    """The curve of a run, whether it is to be smoothed, and what its last value is if not finite.

    None: the run lacks the series or the axis.
    """
    place, found = by_series.of(run).place(metric, x), run.content.find(metric)
    if place is None or found is None or (axis := place[4]) is None:
        return None
    _, rows, column = place[:3]
    is_smoothed = view.smoothing > 0 and is_noisy(metric)
    curve = rows.curve(
        column, axis, begin=edges[0], end=edges[1], n_buckets=n_buckets,
        smoothing=view.smoothing if is_smoothed else 0,
    )  # fmt: skip
    return curve, is_smoothed, found[1].last_mark(column) if view.end == 1.0 else None


def _smoothed(curve: Curve, smoothing: int, style: str, starts: Sequence[float]) -> Line:
    means = smooth(curve.means, smoothing, curve.counts)
    inside = (curve.mean_x >= curve.x[0]) & (curve.mean_x <= curve.x[-1])
    return Line(*with_gaps(curve.mean_x[inside], means[inside], starts), style)


def end_of(
    number: int, line: Line, edges: tuple[float, float], last_mark: str | None
) -> Iterator[End]:
    """The last visible point of a run's line, if there is one."""
    is_visible = np.isfinite(line.y) & (line.x >= edges[0]) & (line.x <= edges[1])
    visible = np.flatnonzero(is_visible)
    if len(visible):
        last = int(visible[-1])
        value = last_mark or short(line.y[last])
        yield End(chr(ord("A") + number), STYLES[number], line.x[last], line.y[last], value)
