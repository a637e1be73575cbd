"""The theme of plots: colours, line styles, fonts, log axes."""

import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from matplotlib.axes import Axes
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextToPath
from matplotlib.ticker import (
    FixedLocator,
    FuncFormatter,
    Locator,
    LogLocator,
    MaxNLocator,
    NullLocator,
)

from ..core.formats import count
from .fonts import families, has_glyph

POINTS_PER_INCH = 72
TEXT_MAX = 1000
LEGEND_SIZE = 8.5
NAME_IN = 3.2  # a longer name in a legend is cut
LEGEND_ROW_IN = 0.19
_HANDLE_IN = 0.62


@dataclass(frozen=True)
class Theme:
    """The colours of a theme."""

    ground: str
    ink: str
    faint: str
    grid: str
    bad: str
    pale: str
    """Of runs that are not named."""
    runs: tuple[str, ...]

    def style(self) -> dict[str, Any]:
        """The rcParams of this theme."""
        return {
            "font.family": families(),
            "font.size": 9,
            "text.parse_math": False,  # a `$` in the name of a run is a `$`
            "text.color": self.ink,
            "figure.facecolor": self.ground,
            "axes.facecolor": self.ground,
            "axes.edgecolor": self.faint,
            "axes.labelcolor": self.ink,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "axes.axisbelow": True,
            "axes.unicode_minus": True,
            "grid.color": self.grid,
            "grid.linewidth": 0.8,
            "xtick.color": self.faint,
            "ytick.color": self.faint,
            "xtick.labelcolor": self.ink,
            "ytick.labelcolor": self.ink,
            "legend.frameon": False,
            "legend.fontsize": LEGEND_SIZE,
            "legend.handlelength": 2.6,
            "legend.columnspacing": 1.2,
            "legend.labelspacing": 0.35,
            "legend.borderpad": 0.2,
            "lines.solid_capstyle": "round",
            "lines.dash_capstyle": "butt",
        }


# The colour-blind safe palette of Okabe and Ito, without the colours that have no contrast to the
# background: yellow on white, blue and black on dark.
THEMES = {
    "light": Theme(
        ground="#ffffff", ink="#222222", faint="#6b6b6b", grid="#e6e6e6", bad="#b00020",
        pale="#b4b9be",
        runs=("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b58900", "#3a97cc", "#000000"),
    ),
    "dark": Theme(
        ground="#15181c", ink="#e6e6e6", faint="#9aa0a6", grid="#2b3036", bad="#ff6b6b",
        pale="#4c545c",
        runs=("#56b4e9", "#e69f00", "#1fbf92", "#cc79a7", "#f0e442", "#e8702a", "#ffffff"),
    ),
}  # fmt: skip
# 7 colours and 4 line styles have no common divisor: 28 runs differ
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (6, 1.5, 1.2, 1.5)))
MARKERS = ("o", "s", "D", "^", "v", "P", "X", "<", ">")


def clean(text: str) -> str:
    """`text` on one line, with a box for each character that no font has."""
    text = text if len(text) <= TEXT_MAX else _shorten(text, TEXT_MAX)
    printable = (" " if unicodedata.category(c)[0] in "CZ" else c for c in text)
    text = " ".join("".join(printable).split())
    return "".join(c if c.isascii() or has_glyph(c) else "□" for c in text)


def fit(text: str, width_in: float, size: float, weight: str = "normal") -> str:
    """`text`, without its middle if it is wider than `width_in` inches."""
    if width_of(text, size, weight) <= width_in:
        return text
    low, high = 0, len(text)  # characters: `low` fit, `high` do not
    while high - low > 1:
        middle = (low + high) // 2
        fits = width_of(_shorten(text, middle), size, weight) <= width_in
        low, high = (middle, high) if fits else (low, middle)
    return _shorten(text, low)


def columns(names: Sequence[str], width_in: float) -> int:
    """How many entries of a legend fit side by side."""
    widest_in = max(width_of(name, LEGEND_SIZE) for name in names) + _HANDLE_IN
    return max(1, min(len(names), int(width_in / widest_in)))


def width_of(text: str, size: float, weight: str = "normal") -> float:
    """Width in inches of `text` at `size` points."""
    font = FontProperties(family=families(), size=size, weight=weight)
    width, _, _ = TextToPath().get_text_width_height_descent(text, font, ismath=False)
    return width / POINTS_PER_INCH


def set_log(
    axes: Axes, name: Literal["x", "y"], low: float, high: float, straight_to: float | None = None
) -> None:
    """Make an axis logarithmic from `low` to `high`, with readable ticks.

    `straight_to`: the axis is linear from this value down to 0; without it `low` must be positive.
    """
    set_scale = axes.set_xscale if name == "x" else axes.set_yscale
    axis = axes.xaxis if name == "x" else axes.yaxis
    ratio = high / (straight_to or low)
    few, many = (100, 30) if name == "x" else (1000, 1000)  # labels side by side need more space
    steps = (1.0, 2.0, 5.0) if ratio < many else (1.0, 3.0) if ratio < few else (1.0,)
    locator: Locator
    if straight_to:
        set_scale("symlog", linthresh=straight_to, linscale=0.4)
        decades = range(math.floor(math.log10(straight_to)), math.ceil(math.log10(high)) + 1)
        ticks = [step * 10.0**decade for decade in decades for step in steps]
        locator = FixedLocator([0, *(t for t in ticks if straight_to <= t <= high)])
    else:
        set_scale("log")
        locator = (
            MaxNLocator(6, steps=[1, 2, 5, 10])
            if ratio < 10
            else LogLocator(subs=steps, numticks=12)
        )
    axis.set_major_locator(locator)
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(count))


def _shorten(text: str, n: int) -> str:
    return text[: math.ceil(n / 2)] + "…" + text[len(text) - n // 2 :]
