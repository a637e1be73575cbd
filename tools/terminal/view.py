"""What the screen shows: which metrics, and which part of the x axis."""

from dataclasses import dataclass, field
from typing import TypeVar

from ..core.names import AXES, AxisName

T = TypeVar("T")

METRICS = ("loss", "val_loss", "time_ms", "mfu")
SMOOTHINGS = (0, 10, 50, 200)  # logged values
ZOOM_MIN = 1e-6  # of the whole x axis


@dataclass
class View:
    """The part of the x axis is given by `begin` and `end`, as shares of the whole."""

    metrics: list[str] = field(default_factory=lambda: list(METRICS))
    axis: AxisName = "iter"
    smoothing: int = 0
    is_log: bool = False
    begin: float = 0.0
    end: float = 1.0
    """At 1 the right edge follows the run."""
    enlarged: int | None = None
    """The chart that fills the screen, if one does."""

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

    def next_axis(self) -> None:
        """The next axis, all of it: a part of one means nothing on another."""
        self.axis = _after(self.axis, AXES)
        self.show_all()

    def next_metrics(self, known: list[str]) -> None:
        """The next four of the metrics, from the first again after the last."""
        n, first = len(METRICS), self.metrics[0]
        at = known.index(first) + n if first in known else 0
        self.metrics = known[at : at + n] or known[:n]

    def scale_to(self, low: float, high: float) -> tuple[float, float]:
        """The part as values, where the whole axis goes from `low` to `high`."""
        width = high - low
        return low + self.begin * width, low + self.end * width


def _after(value: T, values: tuple[T, ...]) -> T:
    return values[(values.index(value) + 1) % len(values)]
