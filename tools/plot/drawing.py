"""What a figure draws: which series of which runs, on which axes, and in which style."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from ..core.axis import session_starts
from ..core.seeds import Group
from .columns import Column
from .series import Series
from .theme import DASHES, MARKERS, THEMES, Theme

Range = tuple[float | None, float | None]


@dataclass(frozen=True)
class View:
    """Which series to draw, and on which axes."""

    metrics: Sequence[str] = ()
    right: Sequence[str] = ()
    """Series by name or wildcard, in place of a kind of plot; `right`: on an axis of their own."""
    x: str | None = None
    """`iter` (or `step`), `tokens` seen, `time` (seconds by the clock since the first event), or
    the name of a series. None: what the run defined for each series (`step_metric`, or a counter
    that it logs in every row), else `iter`."""
    x_range: Range = (None, None)
    """In iterations, tokens, seconds, or values of the series that is the axis."""
    y_range: Range = (None, None)
    """Of the left axis of `metrics`, or of the losses."""
    log_x: bool = False
    log_y: bool = False
    all_values: bool = False
    """Draw outliers too, which squash the rest."""


class Plotted(NamedTuple):
    """The values of one line."""

    name: str
    x: Column
    y: Column
    colour: str


@dataclass
class Drawing:
    """The runs to draw, and the settings."""

    series: list[Series]
    kind: str
    """One of `KINDS`, or `metrics`."""
    view: View
    x: str
    """An `AxisName`, or the name of a series."""
    x_label: str
    x_unit: float
    """How many iterations, tokens or seconds are 1 on the x axis."""
    window_iters: int
    with_superseded: bool = False
    theme: Theme = THEMES["light"]
    panel_in: float = 0.0
    """Width of a panel in inches, and in pixels."""
    n_pixels: int = 0
    groups: list[Group] = field(default_factory=list)
    """Groups of runs that are drawn as one line with a band; `at` in their rows is the run."""
    band: str = "std"
    """`std`, `range` (min and max) or `none`."""
    keys: dict[str, Line2D] = field(default_factory=dict)
    """Entries of a common legend besides the names of runs."""
    n_rows: int = 0
    """The number of rows of the longest legend below a panel."""
    are_runs_dashed: bool = True
    """Whether runs differ in their line styles, and not only in colour."""
    notes: list[str] = field(default_factory=list)
    """What the head of the figure says first: what is not drawn."""
    messages: list[str] = field(default_factory=list)
    """The same in full, for stderr."""
    labels: list[str] = field(default_factory=list)
    """Names of the runs for the legend."""
    named: list[int] | None = None
    """Of many runs or groups the best ones, best first; None: all are named."""
    plotted: list[Plotted] = field(default_factory=list)
    """What the panel that is being drawn has on its left axis."""
    x_span: tuple[float, float] = (np.inf, -np.inf)
    """From where to where there are values, whatever is drawn of them."""
    is_empty: bool = True
    """Whether nothing was within the range of x so far."""

    @property
    def is_single(self) -> bool:
        return len(self.series) == 1

    def is_pale(self, i: int) -> bool:
        """Whether a run or group is one of many that are not named."""
        return self.named is not None and i not in self.named

    def colour(self, i: int) -> str:
        if self.is_pale(i):
            return self.theme.pale
        return self.theme.runs[self._style(i) % len(self.theme.runs)]

    def dashes(self, i: int) -> Any:
        return DASHES[0] if self.is_pale(i) else DASHES[self._style(i) % len(DASHES)]

    def marker(self, i: int) -> str:
        return MARKERS[self._style(i) % len(MARKERS)]

    def _style(self, i: int) -> int:
        return i if self.named is None else self.named.index(i)

    def inside(self, x: Column) -> NDArray[np.bool_]:
        """Which places on the x axis, in its unit, are in the range that was asked for."""
        if len(known := x[np.isfinite(x)]):
            first, last = self.x_span
            self.x_span = min(first, float(known.min())), max(last, float(known.max()))
        ends = zip(self.view.x_range, (-np.inf, np.inf), strict=True)
        low, high = (far if end is None else end / self.x_unit for end, far in ends)
        kept: NDArray[np.bool_] = (x >= low) & (x <= high)
        self.is_empty &= not kept.any()
        return kept

    def width(self, i: int) -> int:
        """Width of the smoothing in rows; 0: none."""
        rows = round(self.window_iters / self.series[i].stride)
        return rows if rows > 2 else 0

    def starts(self, i: int, x: str) -> Column:
        """Where on the x axis lines of a run have a gap, if it is time: nobody was running."""
        return session_starts(self.series[i].run) / self.x_unit if x == "time" else np.empty(0)

    def place(self, i: int, iters: Column) -> Column:
        return self.series[i].place(iters, self.x) / self.x_unit

    def place_evals(self, i: int) -> Column:
        return self.series[i].place_evals(self.x) / self.x_unit
