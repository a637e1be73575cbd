"""The ranges of the axes: what was asked for, else without outliers that would squash the rest.

What is outside of the y axis is marked at its edge, counted in the head of the figure, and listed
in `Drawing.messages`.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from ..core.formats import count, number
from ..core.runs import Refusal
from .columns import Column
from .drawing import Drawing, Plotted, Range, View
from .lines import mark

SPANS = 2.0
"""A value further away from the others than so many times their range is cut off."""
MEDIAN_OF = 5  # neighbours: the range of the others is that of these medians


def check(view: View) -> None:
    """Raises Refusal if a range of the view is none, or cannot be drawn on a log axis."""
    for flag, (low, high), is_log in (
        ("--xlim", view.x_range, False),
        ("--ylim", view.y_range, view.log_y),
    ):
        written = " ".join("auto" if end is None else f"{end:g}" for end in (low, high))
        if not all(np.isfinite(end) for end in (low, high) if end is not None):
            raise Refusal(f"{flag} {written}: LOW and HIGH must be finite numbers or auto")
        if low is not None and high is not None and low >= high:
            raise Refusal(f"{flag} {written}: LOW must be below HIGH")
        if is_log and any(end is not None and end <= 0 for end in (low, high)):
            raise Refusal(f"{flag} {written}: with --log-y, LOW and HIGH must be above 0")


def check_not_empty(drawing: Drawing) -> None:
    """Raises Refusal if the range of x has no value, though there are some outside of it."""
    (low, high), unit = drawing.x_span, drawing.x_unit
    if drawing.is_empty and low <= high and drawing.view.x_range != (None, None):
        first, last = count(low * unit), count(high * unit)
        raise Refusal(f"--xlim: no values there. {drawing.x_label} goes from {first} to {last}")


def limit_y(axes: Axes, drawing: Drawing, curves: Sequence[Plotted], limits: Range) -> None:
    """Set the range of y, and say what is outside of it."""
    low, high = limits
    view = drawing.view
    if low is None and high is None and not (view.all_values or view.log_y):
        low, high = _usual_range(curves)
    if low is not None or high is not None:
        axes.set_ylim(low, high)
    n, furthest = 0, {"up to": -np.inf, "down to": np.inf}
    for curve in curves:
        above = np.flatnonzero(curve.y > (np.inf if high is None else high))
        below = np.flatnonzero(curve.y < (-np.inf if low is None else low))
        n += len(above) + len(below)
        furthest["up to"] = max(furthest["up to"], curve.y[above].max(initial=-np.inf))
        furthest["down to"] = min(furthest["down to"], curve.y[below].min(initial=np.inf))
        mark(axes, curve.x, above, curve.colour, "^", 0.985)
        mark(axes, curve.x, below, curve.colour, "v", 0.015)
    if n:
        to = [f"{way} {number(value)}" for way, value in furthest.items() if np.isfinite(value)]
        text = f"{n:,} value{'' if n == 1 else 's'} outside the axis, {' and '.join(to)}"
        how = "" if limits != (None, None) else "; --all-values draws all"
        names = ", ".join(dict.fromkeys(c.name for c in curves))
        drawing.notes.append(text)
        drawing.messages.append(f"{names[:200]}: {text}{how}")


def _usual_range(curves: Sequence[Plotted]) -> tuple[float | None, float | None]:
    """The range of y without values far away from all others; None where there are none."""
    finite = [c.y[np.isfinite(c.y)] for c in curves]
    medians = np.concatenate([np.empty(0), *map(_medians, finite)])
    values = np.concatenate([np.empty(0), *finite])
    if not len(medians) or medians.min() == medians.max():
        return None, None
    room = SPANS * (medians.max() - medians.min())
    low, high = medians.min() - room, medians.max() + room
    kept = values[(values >= low) & (values <= high)]
    if len(kept) == len(values):
        return None, None
    margin = 0.05 * (kept.max() - kept.min())
    return float(kept.min() - margin), float(kept.max() + margin)


def _medians(values: Column) -> Column:
    """The median of each value and its neighbours."""
    if len(values) < MEDIAN_OF:
        return values
    windows = np.lib.stride_tricks.sliding_window_view(values, MEDIAN_OF)
    medians: Column = np.median(windows, axis=1)
    return medians
