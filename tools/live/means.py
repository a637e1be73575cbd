"""A series of several runs as one curve: their mean at each step, and its spread (`core.seeds`).

members = Members()
for run in runs:
    members.add(run, "val/loss", "", (None, None), 10_000)
members.band().mean
"""

from dataclasses import dataclass, field

import numpy as np

from ..core.seeds import Band, band
from . import by_series, definitions
from .content import Table
from .curves import Curve, Rows
from .following import Following
from .pyramid import Column, Floats, Spill


@dataclass
class Members:
    """The curves of one series of a group of runs."""

    table: Table = ""
    axis: str = ""
    n_other_axis: int = 0
    """Runs that have it by another axis than the first one: they are left out."""
    unit: str = ""
    note: str = ""
    """Why none of them has a number."""
    curves: list[Curve] = field(default_factory=list)

    def add(
        self,
        following: Following,
        name: str,
        x: str,
        part: tuple[float | None, float | None],
        rows_max: int,
    ) -> None:
        """Add the curve of one run, unless that is by another axis than the first one.

        Args:
            x: an `AxisName`, the name of a series, or empty: what the run defined.
            part: the part of the axis that is read of a run with more than `rows_max` rows.
        """
        place = by_series.of(following).place(name, x)
        if place is None:
            return
        table, rows, column, x, axis = place
        if axis is None:
            return
        if self.curves and self.axis != x:
            self.n_other_axis += 1
            return
        begin, end = (None, None) if len(rows) <= rows_max else part
        curve = rows.curve(column, axis, begin=begin, end=end, n_buckets=rows_max // 2)
        self.table, self.axis = table, x
        self.unit = self.unit or definitions.of(following).unit(name)
        self.note = definitions.of(following).no_number(name)
        self.curves.append(curve)

    def band(self) -> Band:
        """Mean and spread; of a run with too many rows by the means of its buckets."""
        return band([(c.mean_x, c.means) if c.is_thinned else (c.x, c.y) for c in self.curves])


def rows_of(steps: Floats, mean: Floats) -> Rows:
    """Means as the rows `mean`, which are read at any zoom `BY_VALUE`."""
    spill = Spill()
    rows = Rows(spill)
    rows.iters.append(np.arange(len(steps)))
    rows.times.append(steps)
    rows.columns["mean"] = Column(spill)
    rows.columns["mean"].append(mean)
    return rows
