"""Rows of a run as curves: they grow, are superseded after a rewind, and are read at any zoom.

rows = Rows(Spill())
rows.add(0, "2026-11-23T03:25:01.123456+00:00", {"loss": 4.1})
rows.settle()
curve = rows.curve("loss", Axis("iter"), n_buckets=600)
curve.x, curve.y                        # points to draw, with the extremes of all rows
"""

import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..core.axis import AxisName, Scale, clock
from .pyramid import BASE_ROWS, Buckets, Column, Floats, Growing, Ints, Spill

Range = tuple[int, int, str]
Columns = Mapping[str, Sequence[Any]]
"""The fields of rows, by name."""

COLUMNS_MAX = 300  # of one table, each with a place in every row
SHAPES_MAX = 4_096  # sets of names that are remembered
NO_COLUMNS = frozenset(("iter", "nonfinite", "timestamp", "durable"))
RANGES_MAX = 10_000  # of rows that are not finite; then the last one is extended
BESIDE_BUCKETS = 512  # on either side of a line, of what its smoothed line needs
ROWS_MAX = 1 << 32  # rows are counted in 32 bits


@dataclass(frozen=True)
class Axis:
    """The x axis of a chart: `iter`, `tokens` seen before it, or `time` since the run began."""

    name: AxisName = "iter"
    started: float = 0.0
    """For `time`: what is 0, in seconds since 1970."""
    knots: tuple[tuple[float, float], ...] = ()
    """For `tokens`: pairs (first iteration, tokens per step from there on), ascending."""

    def place(self, rows: "Rows", at: Ints) -> Floats:
        """Where on the axis the rows `at` are."""
        if self.name == "time":
            return rows.times.floats_at(at) - self.started
        iters = rows.iters.floats_at(at)
        return Scale.of(self.knots).place(iters) if self.name == "tokens" else iters

    def range_of(self, rows: "Rows") -> tuple[float, float]:
        """Where on the axis the rows begin and end; there is one at least."""
        if self.name == "time" and not rows.is_in_order_of_time:
            times = rows.times.floats - self.started
            return float(times.min()), float(times.max())
        first, last = self.place(rows, np.array([0, len(rows) - 1])).tolist()
        return first, last

    def rows(self, rows: "Rows", edges: Floats) -> Ints:
        """The first row at or behind each of `edges`."""
        if self.name == "time":
            return np.searchsorted(rows.times.values, edges + self.started)
        if self.name == "tokens":
            edges = Scale.of(self.knots).iters(edges)
        # an edge beyond 64 bits is beyond every row
        iters = np.ceil(np.clip(edges, -9e18, 9e18)).astype(np.int64)
        indices: Ints = np.searchsorted(rows.iters.values, iters)
        return indices


@dataclass(frozen=True)
class Curve:
    """The points of a line, and means for a smoothed one, which begin before and end after it."""

    x: Floats
    y: Floats
    """NaN: a gap in the line."""
    mean_x: Floats = field(default_factory=lambda: np.empty(0))
    means: Floats = field(default_factory=lambda: np.empty(0))
    counts: Ints = field(default_factory=lambda: np.empty(0, np.int64))
    """How many values each mean has."""
    nonfinite: list[tuple[float, str]] = field(default_factory=list)
    """Where a value is not finite, and its name."""
    is_thinned: bool = False
    """Whether the line has the extremes of buckets, and not every row."""


class Rows:
    """Rows with an iteration, a time and columns of numbers; iterations and times ascend."""

    __slots__ = (
        "_names",
        "_others",
        "_spill",
        "_waiting",
        "columns",
        "iters",
        "nonfinite",
        "times",
    )

    def __init__(self, spill: Spill) -> None:
        self._spill = spill
        self._waiting: list[tuple[int, str, Mapping[str, Any]]] = []
        self._names: dict[str, None] = {}
        self._others: dict[tuple[str, ...], list[str]] = {}
        self.iters, self.times = Growing("i8"), Growing("f8")
        self.columns: dict[str, Column] = {}
        self.nonfinite: dict[str, list[Range]] = {}

    def __len__(self) -> int:
        return len(self.iters)

    @property
    def is_in_order_of_time(self) -> bool:
        return True

    def along(self, axis: Axis) -> "Rows":
        """The rows in the order of an axis."""
        return self

    @property
    def last_iter(self) -> int | None:
        """The iteration of the latest row, pending ones included."""
        if self._waiting:
            return self._waiting[-1][0]
        return int(self.iters.values[-1]) if len(self.iters) else None

    def add(self, i: int, t: str, values: Mapping[str, Any]) -> None:
        """Add a row; it is visible after `settle`. Values that are not numbers are left out."""
        self._waiting.append((i, t, values))

    def others(self, values: Mapping[str, Any]) -> list[str]:
        """Which of the names of a row have no column here: there are `COLUMNS_MAX` before them."""
        shape = tuple(values)
        known = self._others.get(shape)
        if known is None:
            new = [k for k in shape if k not in self._names and k not in NO_COLUMNS]
            self._names |= dict.fromkeys(new[: COLUMNS_MAX - len(self._names)])
            known = [name for name in new if name not in self._names]
            if len(self._others) >= SHAPES_MAX:
                self._others.clear()
            self._others[shape] = known
        return known

    def settle(self) -> None:
        """Make the added rows visible."""
        waiting = self._waiting[: ROWS_MAX - len(self)]
        self._waiting = []
        if not waiting:
            return
        added = [values for _, _, values in waiting]
        new = self._new_keys(dict.fromkeys(map(tuple, added)))
        self._grow(
            [i for i, _, _ in waiting],
            [t for _, t, _ in waiting],
            new,
            lambda key: [row.get(key) for row in added],
            marks_in(added),
        )

    def add_rows(self, iters: Sequence[int], times: Sequence[str], columns: Columns) -> None:
        """Add rows with the same fields, none of them in `others`; they are visible at once."""
        self.settle()
        n = len(iters)
        marks = dict(enumerate(columns.get("nonfinite", ())))
        new = self._new_keys([tuple(columns)])
        self._grow(iters, times, new, lambda key: columns.get(key) or [None] * n, marks)

    def _grow(
        self,
        iters: Sequence[int],
        times: Sequence[str],
        new: Iterable[str],
        values_of: Callable[[str], Sequence[Any]],
        marks: Mapping[int, Any],
    ) -> None:
        """Add rows: `new`, the names of columns that there were not; `marks`, their `nonfinite`."""
        first, n = len(self), len(iters)
        last_i = self.iters.values[-1] if first else -(1 << 63)
        last_t = self.times.values[-1] if first else -np.inf
        ascending = np.maximum.accumulate(np.array(iters, np.int64))
        self.iters.append(np.maximum(ascending, last_i))
        self.times.append(clock(times, last_t))
        marked = {key for named in marks.values() if isinstance(named, dict) for key in named}
        for key in [*self.columns, *new]:
            self._enter(key, first, values_of(key), is_marked=key in marked)
        for at, named in marks.items():
            self._note_nonfinite(first + at, named)
        assert all(len(column) == first + n for column in self.columns.values())

    def _new_keys(self, shapes: Iterable[tuple[str, ...]]) -> list[str]:
        """Names of rows that have no column yet, in their order."""
        new: dict[str, None] = {}
        for keys in shapes:
            new |= dict.fromkeys(k for k in keys if k not in self.columns and k not in NO_COLUMNS)
        chosen = [key for key in new if key in self._names or not self._names]
        return chosen[: max(0, COLUMNS_MAX - len(self.columns))]

    def n_rows_of(self, n_added: int) -> int:
        """How many rows the first `n_added` events of the table made."""
        return n_added

    def _enter(self, key: str, first: int, values: Sequence[Any], *, is_marked: bool) -> None:
        floats = floats_of(values)
        if key == "mfu":
            floats[floats <= 0] = np.nan  # the guide's logs say -100.0 where it is not known
        column = self.columns.get(key)
        if column is None:
            if not is_marked and not np.isfinite(floats).any():
                return  # text, or no number so far
            column = self.columns[key] = Column(self._spill)
            for at in range(0, first, 1 << 16):  # missing in the rows before
                column.append(np.full(min(1 << 16, first - at), np.nan))
        column.append(floats)

    def _note_nonfinite(self, row: int, named: Any) -> None:
        for key, name in named.items() if isinstance(named, dict) else ():
            if key not in self.columns:
                continue
            ranges = self.nonfinite.setdefault(key, [])
            if ranges and ranges[-1][1] == row - 1 and ranges[-1][2] == str(name)[:4]:
                ranges[-1] = (ranges[-1][0], row, ranges[-1][2])
            elif len(ranges) < RANGES_MAX:
                ranges.append((row, row, str(name)[:4]))
            else:
                ranges[-1] = (ranges[-1][0], row, "nan")

    def supersede(self, from_iter: int) -> "Rows | None":
        """Remove and return the rows of iteration `from_iter` and later; None: there are none."""
        last = self.last_iter
        if last is None or last < from_iter:
            return None
        self.settle()
        at, end = int(np.searchsorted(self.iters.values, from_iter)), len(self)
        removed = Rows(self._spill)
        removed.iters.append(self.iters.values[at:])
        removed.times.append(self.times.values[at:])
        for key, column in self.columns.items():
            removed.columns[key] = Column(self._spill)
            for begin in range(at, end, 1 << 16):
                removed.columns[key].append(column.read(begin, min(begin + (1 << 16), end)))
        for key, ranges in self.nonfinite.items():
            cut = bisect_right(ranges, at, key=lambda s: s[1])
            removed.nonfinite[key] = [(max(a, at) - at, b - at, w) for a, b, w in ranges[cut:]]
        self._truncate(at)
        return removed

    def _truncate(self, n: int) -> None:
        """Keep the first `n` rows."""
        for column in self.columns.values():
            column.truncate(n)
        for key, ranges in self.nonfinite.items():
            self.nonfinite[key] = [(a, min(b, n - 1), name) for a, b, name in ranges if a < n]
        self.iters.truncate(n)
        self.times.truncate(n)

    def curve(
        self,
        key: str,
        axis: Axis,
        *,
        begin: float | None = None,
        end: float | None = None,
        n_buckets: int = 600,
        is_log: bool = False,
        after_row: int = 0,
        smoothing: float = 0,
    ) -> Curve:
        """A column from `begin` to `end` on `axis`, and one row more on either side.

        All rows if there are at most two per bucket, else the lowest and highest of each bucket.

        Args:
            after_row: all rows from this one on, and no others.
            smoothing: the width with which `core.smoothing.smooth` is to smooth the means. They
                then include all that a window in the line reaches. The smoothed line is that of
                all rows: exactly where every row is drawn and the width is at most 800 values,
                else with the ends of its windows off by at most an eighth of a bucket, and those
                outside the line by at most a thousandth of the width.
        """
        column = self.columns.get(key)
        if column is None or not len(self):
            return Curve(np.empty(0), np.empty(0))
        if after_row:
            return self._whole(key, column, axis, after_row, len(self))
        edges = self._edges(axis, begin, end, n_buckets, is_log)
        first, last = int(edges[0]), int(edges[-1])
        if last - first > 2 * n_buckets:
            return self._thinned(key, column, axis, edges, smoothing)
        curve = self._whole(key, column, axis, first, last)
        if not smoothing:
            return curve
        means = column.extremes(_widened(column, np.arange(first, last + 1), smoothing))
        return self._with_means(curve, axis, means, first, last)

    def _thinned(
        self, key: str, column: Column, axis: Axis, edges: Ints, smoothing: float
    ) -> Curve:
        """The lowest and the highest row of each bucket between `edges`."""
        buckets = means = column.extremes(edges)
        if smoothing:
            means = column.extremes(_widened(column, _quartered(edges), smoothing))
        rows, values = buckets.points()
        breaks = self.nonfinite_between(key, int(edges[0]), int(edges[-1]))
        rows = np.append(rows, [a for a, _, _ in breaks]).astype(np.int64)
        values = np.append(values, np.full(len(breaks), np.nan))
        order = np.argsort(rows, kind="stable")
        x, named = axis.place(self, rows[order]), self._named(axis, breaks)
        curve = Curve(x, values[order], nonfinite=named, is_thinned=True)
        return self._with_means(curve, axis, means)

    def _with_means(
        self, curve: Curve, axis: Axis, means: Buckets, first: int = 0, last: int = 0
    ) -> Curve:
        """The curve with these means, but from row `first` to `last` with those that it has."""
        at, end = np.searchsorted(means.middles, [first, last])
        mean_x = axis.place(self, means.middles)
        return replace(
            curve,
            mean_x=np.concatenate([mean_x[:at], curve.mean_x, mean_x[end:]]),
            means=np.concatenate([means.means[:at], curve.means, means.means[end:]]),
            counts=np.concatenate([means.counts[:at], curve.counts, means.counts[end:]]),
        )

    def _edges(
        self, axis: Axis, begin: float | None, end: float | None, n_buckets: int, is_log: bool
    ) -> Ints:
        """The first row of each bucket, equally wide on screen, and the end of the last."""
        ends = axis.place(self, np.array([0, len(self) - 1]))
        low = float(ends[0]) if begin is None else begin
        high = float(ends[1]) if end is None else end
        if is_log:
            low = max(low, min(1.0, high) / 1e6)
            if begin is None:
                later = int(np.clip(axis.rows(self, np.array([0.0]))[0] + 1, 0, len(self) - 1))
                low = max(low, min(float(axis.place(self, np.array([later]))[0]), high))
            places = np.geomspace(low, max(high, low * (1 + 1e-9)), n_buckets + 1)
        else:
            places = np.linspace(low, max(high, low), n_buckets + 1)
        rows = axis.rows(self, places)
        past = axis.rows(self, np.array([np.nextafter(places[-1], np.inf)]))
        edges: Ints = np.clip(np.concatenate([rows[:1] - 1, rows, past + 1]), 0, len(self))
        return edges

    def _whole(self, key: str, column: Column, axis: Axis, first: int, last: int) -> Curve:
        """Every row from `first` to `last` that has a value."""
        values = column.read(first, last)
        breaks = self.nonfinite_between(key, first, last)
        is_break = np.zeros(len(values), bool)
        for a, b, _ in breaks:
            is_break[max(a, first) - first : b + 1 - first] = True
        shown = np.flatnonzero(np.isfinite(values) | is_break)
        x, y = axis.place(self, shown + first), values[shown]
        return Curve(x, y, x, y, np.ones(len(x), np.int64), self._named(axis, breaks))

    def last_mark(self, key: str) -> str | None:
        """What the value of the last row is, if it is not finite."""
        ranges = self.nonfinite.get(key)
        return ranges[-1][2] if ranges and ranges[-1][1] == len(self) - 1 else None

    def nonfinite_between(self, key: str, first: int, last: int) -> list[Range]:
        """From which row to which its values are not finite, and what they are."""
        ranges = self.nonfinite.get(key, [])
        at = bisect_right(ranges, first - 1, key=lambda s: s[1])
        inside = []
        for range_ in ranges[at:]:
            if range_[0] >= last:
                break
            inside.append((max(range_[0], first), min(range_[1], last - 1), range_[2]))
        return inside

    def _named(self, axis: Axis, breaks: list[Range]) -> list[tuple[float, str]]:
        x = axis.place(self, np.array([a for a, _, _ in breaks], np.int64))
        return [(float(x), name) for x, (_, _, name) in zip(x, breaks, strict=True)]


def _quartered(edges: Ints) -> Ints:
    """Edges of buckets a fourth as wide."""
    at = np.arange(4 * (len(edges) - 1) + 1) / 4
    return np.interp(at, np.arange(len(edges)), edges).astype(np.int64)


def _widened(column: Column, edges: Ints, smoothing: float) -> Ints:
    """`edges`, and before and after them those of what windows of that width reach."""
    reach = math.ceil(smoothing / 2) + 1  # values; rows without one do not count
    first, last = int(edges[0]), int(edges[-1])
    before = after = reach + 2 * BASE_ROWS
    while first > before and column.n_values(first - before, first) < reach:
        before *= 2
    while last + after < len(column) and column.n_values(last, last + after) < reach:
        after *= 2
    left = np.linspace(max(0, first - before), first, BESIDE_BUCKETS + 1)
    right = np.linspace(last, min(len(column), last + after), BESIDE_BUCKETS + 1)
    widened: Ints = np.unique(np.concatenate([left, edges, right]).astype(np.int64))
    return widened


def marks_in(rows: Sequence[Mapping[str, Any]]) -> dict[int, Any]:
    """What rows say of values that are not finite, by the index of the row."""
    return {at: row["nonfinite"] for at, row in enumerate(rows) if "nonfinite" in row}


def floats_of(values: Sequence[Any]) -> Floats:
    """Values as floats; NaN for what is not a number."""
    if {*map(type, values)} <= {float, int, type(None)}:
        try:
            return np.array(values, np.float64)
        except OverflowError:  # an integer of three hundred digits
            pass
    return np.array([_float(value) for value in values])


def _float(value: Any) -> float:
    try:
        return float(value) if type(value) in (float, int) else np.nan
    except OverflowError:
        return np.nan
