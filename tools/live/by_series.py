"""Another series of a run as the x axis of its curves: what `define_metric(step_metric=...)` says.

A value stands where that series had its last finite value, at the step of the value or before it,
as in W&B; values before its first one are not drawn. The points are in the order of the axis.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eventlog import Series

from ..core.axis import AXES
from ..core.series import axis_of
from . import definitions
from .content import Content, Superseded, Table
from .curves import Axis, Rows
from .following import Following
from .groups import marks_of, ranges_of
from .pyramid import Column, Floats, Spill

CACHED_MAX = 512  # curves of a run, each with its rows in the order of an axis
AXES_MAX = 50  # that are offered
BY_VALUE = Axis("time")  # of rows whose times are the values of the axis


class BySeries:
    """The axes of one run that is followed, and its curves by them."""

    def __init__(self, following: Following) -> None:
        self._following = following
        self._content: Content | None = None
        self._cached: dict[tuple[str, str], tuple[Any, Rows]] = {}
        self._named: Mapping[str, Series] = {}
        self._defined: dict[str, str] = {}

    def defined(self) -> dict[str, str]:
        """The axes that the run defined, by the names of their series: as `axis_of`."""
        named = definitions.of(self._following).named()
        if named is not self._named:
            self._named = named
            axes = ((name, axis_of(one, named)) for name, one in named.items())
            self._defined = {name: axis for name, axis in axes if axis != "iter"}
        return self._defined

    def offered(self) -> list[str]:
        """The series that are the axis of others."""
        return [*dict.fromkeys(self.defined().values())][:AXES_MAX]

    def place(self, name: str, x: str) -> tuple[Table, Rows, str, str, Axis | None] | None:
        """Where a series is: table, rows, column, the name of its axis, and the axis.

        Args:
            x: an `AxisName`, the name of a series, or empty: what the run defined.

        Returns None: it is not logged. An axis None: the run lacks it.
        """
        content = self._following.content
        found = content.find(name)
        if found is None:
            return None
        x = x or self.defined().get(name, "iter")
        if x in AXES:
            return *found, x, self._following.axis(x)
        axis = content.find(x)
        if axis is None:
            return *found, x, None
        table, rows, column = found
        return table, self._by(name, rows, column, x, axis), column, x, BY_VALUE

    def range_of(self, x: str) -> tuple[float, float] | None:
        """The least and the greatest value of a series that is an axis."""
        found = self._following.content.find(x)
        if found is None:
            return None
        _, rows, column = found
        whole = rows.columns[column].extremes(np.array([0, len(rows)]))
        return (float(whole.lows.min()), float(whole.highs.max())) if len(whole.lows) else None

    def _by(
        self, name: str, rows: Rows, column: str, x: str, axis: tuple[Table, Rows, str]
    ) -> Rows:
        """The values of one column by another, the axis in the place of the times."""
        content = self._following.content
        if content is not self._content:
            self._cached.clear()
            self._content = content
        mark = (content.generation, len(rows), len(axis[1]))
        known = self._cached.get((name, x))
        if known is not None and known[0] == mark:
            return known[1]
        placed = by_axis(rows, column, places(rows.iters.values, axis))
        self._cached.pop((name, x), None)
        self._cached[name, x] = mark, placed
        while len(self._cached) > CACHED_MAX:
            del self._cached[next(iter(self._cached))]
        return placed

    def superseded(self, taken: Superseded, column: str, x: str) -> Rows | None:
        """Superseded values of one column by the axis as it was then; None: there is no axis."""
        content = self._following.content
        axis = content.find(x)
        if axis is None:
            return None
        steps, values = _finite(axis[1], axis[2])
        for other in content.superseded:
            if (other.record, other.table) == (taken.record, axis[0]) and (
                axis[2] in other.rows.columns
            ):
                later, then = _finite(other.rows, axis[2])
                is_before = steps < other.rows.iters.values[0]
                steps = np.concatenate([steps[is_before], later])
                values = np.concatenate([values[is_before], then])
                break
        return by_axis(taken.rows, column, _places(taken.rows.iters.values, steps, values))


def places(at_steps: NDArray[Any], axis: tuple[Table, Rows, str]) -> Floats:
    """Where some steps are on an axis that is a series; NaN before its first value."""
    return _places(at_steps, *_finite(axis[1], axis[2]))


def _finite(rows: Rows, column: str) -> tuple[NDArray[Any], Floats]:
    """The steps at which a column has a finite value, and these."""
    values = rows.columns[column].read(0, len(rows))
    known = np.isfinite(values)
    return rows.iters.values[known], values[known]


def _places(at_steps: NDArray[Any], steps: NDArray[Any], values: Floats) -> Floats:
    if not len(values):
        return np.full(len(at_steps), np.nan)
    at = np.searchsorted(steps, at_steps, side="right") - 1
    placed: Floats = np.where(at < 0, np.nan, values[np.maximum(at, 0)])
    return placed


def by_axis(rows: Rows, column: str, x: Floats) -> Rows:
    """The rows that have a place `x`, in its order, with that column alone; times are places."""
    inside = np.flatnonzero(np.isfinite(x))
    order = inside[np.argsort(x[inside], kind="stable")]
    spill = Spill()
    placed = Rows(spill)
    placed.iters.append(rows.iters.values[order])
    placed.times.append(x[order])
    placed.columns[column] = Column(spill)
    placed.columns[column].append(rows.columns[column].read(0, len(rows))[order])
    if column in rows.nonfinite:
        placed.nonfinite[column] = ranges_of(marks_of(rows, column)[order], 0)
    return placed


def of(following: Following) -> BySeries:
    """The axes of a run, remembered with it."""
    known = following.by_series
    if not isinstance(known, BySeries):
        known = following.by_series = BySeries(following)
    return known
