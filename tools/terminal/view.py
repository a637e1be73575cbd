"""What of the runs is on the screen: the series, the page of charts, the part of the x axis."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from ..core.axis import AXES

T = TypeVar("T")

COLUMNS_MAX, ROWS_MAX = 4, 3  # of charts
CHART_WIDTH_MIN, CHART_HEIGHT_MIN = 25, 9  # characters; in less room there are fewer charts
CHART_SHAPE = 2.5  # characters across for one down, where the room can be divided in several ways
SMOOTHINGS = (0, 10, 50, 200)  # logged values
ZOOM_MIN = 1e-6  # of the whole x axis


def layout(width: int, height: int, n: int) -> tuple[int, int]:
    """How many columns and rows of charts show `n` series: as few as hold them, 12 at most."""
    columns = min(COLUMNS_MAX, max(1, width // CHART_WIDTH_MIN))
    rows = min(ROWS_MAX, max(1, height // CHART_HEIGHT_MIN))
    n = min(max(1, n), columns * rows)
    grids = [(c, r) for c in range(1, columns + 1) for r in range(1, rows + 1) if c * r >= n]

    def cost(grid: tuple[int, int]) -> tuple[int, float]:
        c, r = grid
        return c * r, abs(math.log(max(width, 1) / c * r / max(height, 1) / CHART_SHAPE))

    return min(grids, key=cost)


@dataclass
class View:
    """`begin` and `end`: the part of the x axis, as shares of the whole."""

    find: str = ""
    """The names that were searched for; empty: all series."""
    first: int = 0
    """The first series on the page of charts; a page begins at a multiple of its length."""
    enlarged: str | None = None
    """The series whose chart fills the screen, if one does."""
    is_mean: bool = False
    """Whether runs that differ in the seed alone are one line."""
    axis: str = ""
    """An `AxisName`, the name of a series, or empty: what the runs defined for each series."""
    smoothing: int = 0
    is_log: bool = False
    begin: float = 0.0
    end: float = 1.0
    """At 1 the right edge follows the run."""
    cursor: float | None = None
    """Where values are read, on the axis `cursor_axis`."""
    cursor_axis: str = "iter"

    def page(self, found: Sequence[str], size: int) -> list[str]:
        """The series of the page, which has `size` charts."""
        if self.enlarged is not None:
            return [self.enlarged]
        at = min(self.first, max(0, len(found) - 1)) // size * size
        return list(found[at : at + size])

    def turn(self, found: Sequence[str], size: int, pages: int) -> None:
        """Go on by pages; by series where one is enlarged. The first follows the last."""
        if not found:
            return
        if self.enlarged is not None:
            at = found.index(self.enlarged) + pages if self.enlarged in found else 0
            self.enlarged = found[at % len(found)]
            self.first = found.index(self.enlarged)
            return
        n_pages = -(-len(found) // size)
        at = min(self.first, len(found) - 1) // size
        self.first = (at + pages) % n_pages * size

    def search(self, text: str) -> None:
        """Show the series that `text` selects, from the first on."""
        self.find, self.first, self.enlarged = text.strip(), 0, None

    def zoom(self, factor: float) -> None:
        """Make the part `factor` times as wide. A right edge at the end stays there."""
        width = min(1.0, max(ZOOM_MIN, (self.end - self.begin) * factor))
        middle = (self.begin + self.end) / 2
        begin = 1 - width if self.end == 1.0 else middle - width / 2
        self.begin = min(max(0.0, begin), 1 - width)
        self.end = 1.0 if self.end == 1.0 else min(1.0, self.begin + width)

    def move(self, part: float) -> None:
        """Move by a share of the width: to the right where it is positive."""
        width = self.end - self.begin
        self.begin = min(max(0.0, self.begin + part * width), 1 - width)
        self.end = self.begin + width
        if self.end > 1 - 1e-9:
            self.end = 1.0

    def show_all(self) -> None:
        self.begin, self.end = 0.0, 1.0

    def next_smoothing(self) -> None:
        self.smoothing = _after(self.smoothing, SMOOTHINGS)

    def next_axis(self, offered: Sequence[str]) -> None:
        """Change to the next axis and show all of it: a part of one is meaningless on another.

        `offered`: the series that are axes of others.
        """
        axes = ("", *AXES, *offered) if offered else AXES
        self.axis = _after(self.axis if self.axis in axes else axes[0], axes)
        self.cursor = None
        self.show_all()

    def scale_to(self, low: float, high: float) -> tuple[float, float]:
        """The part as values, where the whole axis goes from `low` to `high`."""
        width = high - low
        return low + self.begin * width, low + self.end * width


def _after(value: T, values: tuple[T, ...]) -> T:
    return values[(values.index(value) + 1) % len(values)]
