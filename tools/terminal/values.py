"""What runs logged at a place of the x axis: the values at the cursor."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..core.formats import short
from ..live import by_series
from ..live.curves import Axis, Rows
from ..live.folders import Folders
from ..live.following import Following
from ..live.pyramid import Ints
from .chart import STYLES, Drawing, End
from .drawing import run_at

BLOCK_ROWS = 1 << 12


class Value(NamedTuple):
    """A value as it was logged."""

    x: float
    step: int
    value: float
    """NaN where it is not finite."""
    mark: str
    """What it is where it is not finite: `nan`, `inf`, `-inf`."""

    @property
    def exact(self) -> str:
        return self.mark or repr(self.value)


def value_at(run: Following, metric: str, axis: str, x: float) -> Value | None:
    """The latest value at or before `x`; None: there is none, or the series ends before `x`."""
    place = _place(run, metric, axis)
    if place is None:
        return None
    rows, column, of = place
    last, end = _last_row(rows, column), _first_row(rows, of, x + _error(of, x))
    if end > last:
        is_at_end = last >= 0 and abs(_x(rows, of, last) - x) <= _error(of, x)
        return _value(rows, column, of, last) if is_at_end else None
    row = _logged_before(rows, column, end)
    return None if row is None else _value(rows, column, of, row)


def nearest(run: Following, metric: str, axis: str, x: float) -> float | None:
    """Where on the axis the logged value next to `x` is."""
    place = _place(run, metric, axis)
    if place is None:
        return None
    rows, column, of = place
    at = min(_first_row(rows, of, x), _last_row(rows, column) + 1)
    beside = _logged_before(rows, column, at), _logged_from(rows, column, at)
    places = [_x(rows, of, row) for row in beside if row is not None]
    return min(places, key=lambda place: abs(place - x), default=None)


def beyond(run: Following, metric: str, axis: str, x: float, by: float) -> float | None:
    """Where the next logged value is, at least `by` away from `x`: before it where `by` < 0."""
    place = _place(run, metric, axis)
    if place is None:
        return None
    rows, column, of = place
    by = max(abs(by), 2 * _error(of, x)) * (-1 if by < 0 else 1)
    if by < 0:
        end = _first_row(rows, of, x + by + _error(of, x))
        row = _logged_before(rows, column, min(end, _last_row(rows, column) + 1))
    else:
        row = _logged_from(rows, column, _first_row(rows, of, x + by - _error(of, x)))
    return None if row is None else _x(rows, of, row)


def _place(run: Following, metric: str, axis: str) -> tuple[Rows, str, Axis] | None:
    place = by_series.of(run).place(metric, axis)
    if place is None or place[4] is None or not len(place[1]):
        return None
    return place[1].along(place[4]), place[2], place[4]


def _x(rows: Rows, axis: Axis, row: int) -> float:
    return float(axis.place(rows, np.array([row]))[0])


def _error(axis: Axis, x: float) -> float:
    """How far a place may be off: on an axis of time, that of seconds since 1970."""
    return 2 * float(np.spacing(abs(x) + axis.started))


def _first_row(rows: Rows, axis: Axis, x: float) -> int:
    """The first row at or behind `x`."""
    return int(axis.rows(rows, np.array([x]))[0])


def _value(rows: Rows, column: str, axis: Axis, row: int) -> Value:
    marks = rows.nonfinite_between(column, row, row + 1)
    value = float(rows.columns[column].read(row, row + 1)[0])
    mark = marks[0][2] if marks else ""
    return Value(_x(rows, axis, row), int(rows.iters.values[row]), value, mark)


def _last_row(rows: Rows, column: str) -> int:
    """The last row that has a value, finite or not; -1: there is none."""
    last, ranges = rows.columns[column].last_row(), rows.nonfinite.get(column)
    return max(-1 if last is None else last, ranges[-1][1] if ranges else -1)


def _logged_before(rows: Rows, column: str, end: int) -> int | None:
    """The last row before `end` that has a value, finite or not."""
    while end > 0:
        begin = max(0, end - BLOCK_ROWS)
        if len(found := _logged(rows, column, begin, end)):
            return int(found[-1])
        end = begin
    return None


def _logged_from(rows: Rows, column: str, begin: int) -> int | None:
    """The first row from `begin` on that has a value, finite or not."""
    last = _last_row(rows, column)
    while begin <= last:
        end = min(last + 1, begin + BLOCK_ROWS)
        if len(found := _logged(rows, column, begin, end)):
            return int(found[0])
        begin = end
    return None


def _logged(rows: Rows, column: str, begin: int, end: int) -> Ints:
    is_logged = np.isfinite(rows.columns[column].read(begin, end))
    for first, last, _ in rows.nonfinite_between(column, begin, end):
        is_logged[first - begin : last + 1 - begin] = True
    return np.flatnonzero(is_logged) + begin


# ---- of a chart


def snapped(folders: Folders, ids: Sequence[str], metric: str, axis: str, x: float) -> float | None:
    """The place next to `x` at which one of some runs logged a value."""
    places = []
    for id in ids:
        with run_at(folders, id) as run:
            if run is not None and (place := nearest(run, metric, axis, x)) is not None:
                places.append(place)
    return min(places, key=lambda place: abs(place - x), default=None)


def read(folders: Folders, ids: Sequence[str], metric: str, axis: str, x: float) -> list[End]:
    """What each run has at `x`, or had before it; nothing of a run that ends before."""
    ends = []
    for number, id in enumerate(ids):
        with run_at(folders, id) as run:
            value = value_at(run, metric, axis, x) if run is not None else None
        if value is not None:
            ends.append(_end(number, value, x))
    return ends


def _end(number: int, value: Value, x: float) -> End:
    text = value.mark or short(value.value)
    is_here = abs(value.x - x) <= 1e-6 * max(1.0, abs(x) * 1e-6)
    exact = value.exact if is_here else f"{value.exact} (step {value.step:,})"
    return End(chr(ord("A") + number), STYLES[number], value.x, value.value, text, exact)


def next_place(
    folders: Folders, ids: Sequence[str], drawing: Drawing, metric: str, x: float, by: float
) -> float | None:
    """The first place at least `by` away from `x` at which one of the lines has a value."""
    places = []
    for _, line in drawing.means:
        is_beyond = line.x <= x + by if by < 0 else line.x >= x + by
        places += line.x[is_beyond & (line.x != x) & np.isfinite(line.y)].tolist()
    for id in () if drawing.means else ids:
        with run_at(folders, id) as run:
            if run and (place := beyond(run, metric, drawing.axis, x, by)) is not None:
                places.append(place)
    return min(places, key=lambda place: abs(place - x), default=None)


def read_means(drawing: Drawing, x: float) -> list[End]:
    """The means that are drawn at `x`, or before it; nothing of one that ends before."""
    ends = []
    for number, line in drawing.means:
        at = int(np.searchsorted(line.x, x, side="right")) - 1
        if at >= 0 and x <= line.x[-1]:
            value = Value(float(line.x[at]), int(line.x[at]), float(line.y[at]), "")
            ends.append(_end(number, value, x))
    return ends
