"""Rows of a run as curves: they grow, are superseded after a rewind, and are read at any zoom.

rows = Rows(Spill())
rows.add(0, "2026-11-23T03:25:01.123456+00:00", {"loss": 4.1})
rows.settle()
curve = rows.curve("loss", Axis("iter"), n_buckets=600)
curve.x, curve.y                        # points to draw, with the extremes of all rows
"""

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..core.axis import Scale
from ..core.formats import seconds
from ..core.rows import AxisName
from .pyramid import Column, Floats, Growing, Ints, Spill

Range = tuple[int, int, str]

FIGURES_MAX = 300  # columns: a run may use new names in every event
RANGES_MAX = 10_000  # of rows that are not finite; then the last one is extended
ROWS_MAX = 1 << 32  # rows are counted in 32 bits


@dataclass(frozen=True)
class Axis:
    """What a chart's x is: `iter`, `tokens` seen before it, or `time` since the run began."""

    name: AxisName = "iter"
    started: float = 0.0
    """For `time`: what is 0, in seconds since 1970."""
    knots: tuple[tuple[float, float], ...] = ()
    """For `tokens`: from which iteration on a step takes how many; ascending."""

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
        # an edge beyond what 64 bits can say is beyond every row
        iters = np.ceil(np.clip(edges, -9e18, 9e18)).astype(np.int64)
        found: Ints = np.searchsorted(rows.iters.values, iters)
        return found


@dataclass(frozen=True)
class Curve:
    """The points of a line, and means for a smoothed one."""

    x: Floats
    y: Floats
    """NaN: a gap in the line."""
    mean_x: Floats
    means: Floats
    counts: Ints
    """How many values each mean has; all 1 if every row is drawn."""
    nonfinite: list[tuple[float, str]] = field(default_factory=list)
    """Where a value is not finite, and its name."""


class Rows:
    """Rows with an iteration, a time and columns of numbers; iterations and times ascend."""

    __slots__ = ("_spill", "_waiting", "figures", "iters", "nonfinite", "times")

    def __init__(self, spill: Spill) -> None:
        self._spill = spill
        self._waiting: list[tuple[int, str, Mapping[str, Any]]] = []
        self.iters, self.times = Growing("i8"), Growing("f8")
        self.figures: dict[str, Column] = {}
        self.nonfinite: dict[str, list[Range]] = {}

    def __len__(self) -> int:
        return len(self.iters)

    @property
    def is_in_order_of_time(self) -> bool:
        return True

    @property
    def last_iter(self) -> int | None:
        """The iteration of the latest row, pending ones included."""
        if self._waiting:
            return self._waiting[-1][0]
        return int(self.iters.values[-1]) if len(self.iters) else None

    def add(self, i: int, t: str, figures: Mapping[str, Any]) -> None:
        """Add a row; it is visible after `settle`. Values that are not numbers are left out."""
        self._waiting.append((i, t, figures))

    def settle(self) -> None:
        """Make the added rows visible."""
        waiting = self._waiting[: ROWS_MAX - len(self)]
        self._waiting = []
        if not waiting:
            return
        first, n = len(self), len(waiting)
        last_i = self.iters.values[-1] if first else -(1 << 63)
        last_t = self.times.values[-1] if first else -np.inf
        iters = np.array([i for i, _, _ in waiting], np.int64)
        self.iters.append(np.maximum(np.maximum.accumulate(iters), last_i))
        times = np.fmax.accumulate(np.append(last_t, _seconds([t for _, t, _ in waiting])))[1:]
        self.times.append(times)  # if the clock was set back, time stands still
        added = [figures for _, _, figures in waiting]
        marked = {key for row in added for key in _marks(row)}
        for key in [*self.figures, *_new_keys(added, self.figures)]:
            self._enter(key, first, [row.get(key) for row in added], is_marked=key in marked)
        for at, figures in enumerate(added):
            if "nonfinite" in figures:
                self._note_nonfinite(first + at, figures["nonfinite"])
        assert all(len(column) == first + n for column in self.figures.values())

    def n_rows_of(self, n_added: int) -> int:
        """How many rows the first `n_added` events of the table made."""
        return n_added

    def _enter(self, key: str, first: int, values: list[Any], *, is_marked: bool) -> None:
        figures = _figures(values)
        if key == "mfu":
            figures[figures <= 0] = np.nan  # the guide's logs say -100.0 where it is not known
        column = self.figures.get(key)
        if column is None:
            if not is_marked and not np.isfinite(figures).any():
                return  # text, or no number so far
            column = self.figures[key] = Column(self._spill)
            for at in range(0, first, 1 << 16):  # missing in the rows before
                column.append(np.full(min(1 << 16, first - at), np.nan))
        column.append(figures)

    def _note_nonfinite(self, row: int, named: Any) -> None:
        for key, name in named.items() if isinstance(named, dict) else ():
            if key not in self.figures:
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
        for key, column in self.figures.items():
            removed.figures[key] = Column(self._spill)
            for begin in range(at, end, 1 << 16):
                removed.figures[key].append(column.read(begin, min(begin + (1 << 16), end)))
            column.truncate(at)
        for key, ranges in self.nonfinite.items():
            cut = bisect_right(ranges, at, key=lambda s: s[1])
            removed.nonfinite[key] = [(max(a, at) - at, b - at, w) for a, b, w in ranges[cut:]]
            left = [(a, min(b, at - 1), w) for a, b, w in ranges if a < at]
            self.nonfinite[key] = left
        self.iters.truncate(at)
        self.times.truncate(at)
        return removed

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
    ) -> Curve:
        """A column from `begin` to `end` on `axis`, and one row more on either side.

        All rows if there are at most two a bucket, else the lowest and highest of each bucket.
        `after_row`: all rows from this one on, and no others.
        """
        column = self.figures.get(key)
        if column is None or not len(self):
            empty = np.empty(0)
            return Curve(empty, empty, empty, empty, np.empty(0, np.int64))
        if after_row:
            return self._whole(key, column, axis, after_row, len(self))
        edges = self._edges(axis, begin, end, n_buckets, is_log)
        first, last = int(edges[0]), int(edges[-1])
        if last - first <= 2 * n_buckets:
            return self._whole(key, column, axis, first, last)
        buckets = column.extremes(edges)
        rows, values = buckets.points()
        breaks = self.nonfinite_between(key, first, last)
        rows = np.append(rows, [a for a, _, _ in breaks]).astype(np.int64)
        values = np.append(values, np.full(len(breaks), np.nan))
        order = np.argsort(rows, kind="stable")
        return Curve(
            axis.place(self, rows[order]),
            values[order],
            axis.place(self, buckets.middles),
            buckets.means,
            buckets.counts,
            self._named(axis, breaks),
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
        known = np.isfinite(values)
        shown = np.flatnonzero(known | is_break)
        x = axis.place(self, shown + first)
        y = values[shown]
        finite = known[shown]
        ones = np.ones(int(finite.sum()), np.int64)
        return Curve(x, y, x[finite], y[finite], ones, self._named(axis, breaks))

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


def _new_keys(rows: list[Mapping[str, Any]], known: Mapping[str, Any]) -> Iterable[str]:
    """Keys that have no column yet, in the order of the rows."""
    new: dict[str, None] = {}
    for keys in {tuple(figures) for figures in rows}:
        new |= dict.fromkeys(k for k in keys if k not in known)
    skipped = ("iter", "nonfinite", "timestamp", "durable")
    return [k for k in new if k not in skipped][: max(0, FIGURES_MAX - len(known))]


def _marks(row: Mapping[str, Any]) -> Iterable[str]:
    named = row.get("nonfinite")
    return named if isinstance(named, dict) else ()


def _figures(values: list[Any]) -> Floats:
    """Values as floats; NaN for what is not a number."""
    if {*map(type, values)} <= {float, int, type(None)}:
        try:
            return np.array(values, np.float64)
        except OverflowError:  # an integer of three hundred digits
            pass
    return np.array([_figure(value) for value in values])


def _figure(value: Any) -> float:
    try:
        return float(value) if type(value) in (float, int) else np.nan
    except OverflowError:
        return np.nan


def _seconds(times: list[str]) -> Floats:
    """Seconds since 1970; NaN where a time is none."""
    try:  # of format 1: fixed width, UTC
        return np.array([t[:26] for t in times], "datetime64[us]").astype(np.float64) / 1e6
    except ValueError:
        return np.array([seconds(t) for t in times], np.float64)
