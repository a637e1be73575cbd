"""Lines, with gaps where nothing is known; marks at the edges of a panel."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike, NDArray

from ..core.axis import with_gaps
from ..core.smoothing import bucket_means, smooth
from .columns import Column, thin
from .drawing import Drawing

MARKS_MAX = 40  # side by side they fill an edge


def smoothed(drawing: Drawing, y: Column, width: int) -> tuple[NDArray[np.int64], Column]:
    """The smoothed curve: at which rows, and the means there."""
    at, means, counts = bucket_means(y, drawing.n_pixels)
    return at, smooth(means, width, counts)


def draw_line(
    axes: Axes,
    drawing: Drawing,
    x: Column,
    y: Column,
    gaps: Sequence[float] | Column = (),
    *,
    label: str | None = None,
    **style: Any,
) -> None:
    """A line with gaps where `y` is NaN and at `gaps`; a value alone between gaps is a dot.

    It goes from left to right; points without an `x`, or outside of its range, are left out.
    """
    inside = drawing.inside(x)
    x, y = with_gaps(*ascending(x[inside], y[inside]), gaps)
    if not len(x):
        return
    along = np.log10(np.maximum(x, first_above_0(x))) if drawing.view.log_x else x
    at = thin(along, y, drawing.n_pixels)
    known = np.concatenate([[False], np.isfinite(y), [False]])
    alone = known[1:-1] & ~known[:-2] & ~known[2:]
    if alone.any() and "marker" not in style:
        dots = {k: v for k, v in style.items() if k in ("color", "zorder")}
        has_line = (np.isfinite(y) & ~alone).any()
        dots |= {"ls": "none", "marker": ".", "ms": 7}
        axes.plot(x[alone], y[alone], label=None if has_line else label, **dots)
        label = label if has_line else None
    axes.plot(x[at], y[at], label=label, **style)


def ascending(x: Column, y: Column) -> tuple[Column, Column]:
    """The points that have an `x`, from left to right: a series that is the axis may go back."""
    known = np.isfinite(x)
    if known.all() and not (np.diff(x) < 0).any():
        return x, y
    order = np.argsort(x[known], kind="stable")
    return x[known][order], y[known][order]


def mark(axes: Axes, x: Column, where: ArrayLike, colour: str, marker: str, height: float) -> None:
    """Mark some of the places `x` at an edge of the panel."""
    at = np.array(where, np.intp)
    if not len(at):
        return
    at = at[thin(x[at], np.zeros(len(at)), MARKS_MAX)]
    style: dict[str, Any] = {"ls": "none", "marker": marker, "ms": 7, "mew": 1.6, "zorder": 6}
    axes.plot(
        x[at], np.full(len(at), height), transform=axes.get_xaxis_transform(),
        color=colour, clip_on=False, **style,
    )  # fmt: skip


def first_above_0(x: Column) -> float:
    above = x[x > 0]
    return float(above.min()) if len(above) else 1.0
