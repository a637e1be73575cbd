"""One panel with any series of the runs: `runs plot --metric 'train/*' --metric val/loss`.

Each side of the panel is an axis of its own.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from ..core import seeds
from ..core import series as series_
from ..core.formats import first_of, number
from ..core.runs import Refusal
from ..core.smoothing import is_noisy
from .columns import Column, of_series
from .drawing import Drawing, Plotted
from .limits import limit_y
from .lines import draw_line, mark, smoothed
from .panel import PALE, finish, format_y
from .theme import DASHES, LEGEND_SIZE, NAME_IN, clean, fit, set_log

SERIES_MAX = 60
NOTES_MAX = 5


@dataclass
class Curve:
    """A series of one run, as it is drawn."""

    run_at: int
    name: str
    unit: str
    colour: str
    dashes: Any
    x: Column
    y: Column
    nonfinite: dict[int, str]
    stride: float
    """The usual number of steps between two values."""
    axis: str = "iter"
    low: Column | None = None
    """Of a group of runs: the lower and upper edge of its band."""
    high: Column | None = None


def draw_any(axes: Axes, drawing: Drawing) -> None:
    """Draw the view's `metrics` on the left axis and its `right` on the right one.

    Raises:
        Refusal: no run has a series that is named, or it has no number.
    """
    view = drawing.view
    left, right = _names(drawing, view.metrics), _names(drawing, view.right)
    left = [name for name in left if name not in right]
    if not left:
        left, right = right, []
    names = [*left, *right][:SERIES_MAX]
    if n_more := len(left) + len(right) - len(names):
        drawing.notes.append(f"{n_more:,} more series not drawn")
        drawing.messages.append(f"{n_more:,} of {n_more + len(names):,} series are not drawn")
    drawing.are_runs_dashed = len(names) == 1
    curves = list(_curves(drawing, names))
    if drawing.groups:
        curves = list(_means(drawing, curves, names))
    sides = {"left": [c for c in curves if c.name in left]}
    if on_right := [c for c in curves if c.name in right]:
        sides["right"] = on_right
    twin = axes.twinx() if on_right else axes
    for side, of_side in sides.items():
        on = axes if side == "left" else twin
        for curve in of_side:
            _draw_curve(on, drawing, curve)
        plotted = [Plotted(c.name, c.x, c.y, c.colour) for c in of_side]
        limit_y(on, drawing, plotted, view.y_range if side == "left" else (None, None))
    _write_legend(axes, drawing, curves, right)
    finish(axes, drawing, _label(sides["left"]))
    if view.x is None:
        _label_x(axes, drawing, curves)
    if on_right:
        twin.spines["right"].set_visible(True)
        twin.grid(visible=False)
        twin.set_ylabel(_label(on_right))
        format_y(twin)
    for side, of_side in sides.items() if view.log_y else ():
        _make_log(axes if side == "left" else twin, of_side)


def _names(drawing: Drawing, patterns: Sequence[str]) -> list[str]:
    """The series that patterns name, in their order; of a wildcard, those that are not hidden."""
    names: dict[str, None] = {}
    for pattern in patterns:
        found = [s.find(pattern) for s in drawing.series]
        numeric = [one for named in found for one in named.values() if one.is_numeric]
        shown = [one.name for one in numeric if not one.definition.get("hidden")]
        if not any(found):
            every = (name for s in drawing.series for name in s.named)
            raise series_.unknown("--metric", pattern, dict.fromkeys(every))
        if not numeric:
            raise Refusal(f"--metric: {pattern!r} has no numbers. See: runs show RUN")
        of_pattern = [one.name for one in numeric]
        is_named = pattern in of_pattern or not shown
        names |= dict.fromkeys(of_pattern if is_named else shown)
    return list(names)


def _curves(drawing: Drawing, names: Sequence[str]) -> Iterator[Curve]:
    """The curves of all runs. One run: a colour a series; several: a colour a run."""
    for i, series in enumerate(drawing.series):
        named = series.named
        chosen = [named[name] for name in names if name in named and named[name].is_numeric]
        points = of_series(series.run, chosen)
        for one in chosen:
            at = names.index(one.name)
            columns = points[one.name]
            paint = at if drawing.is_single else i
            dashes = drawing.dashes(i) if len(names) == 1 else DASHES[at % len(DASHES)]
            if drawing.is_single:
                dashes = DASHES[at // len(drawing.theme.runs) % len(DASHES)]
            axis = series_.axis_of(one, named) if drawing.view.x is None else drawing.x
            yield _within(
                Curve(
                    i, one.name, series_.unit_of(one, series.run.metadata),
                    drawing.colour(paint), dashes,
                    series.place(columns["iter"], axis) / drawing.x_unit,
                    columns["y"], columns.nonfinite["y"],
                    float(np.median(np.diff(columns["iter"]))) if len(columns) > 1 else 1.0,
                    axis,
                ),
                drawing,
            )  # fmt: skip


def _means(drawing: Drawing, curves: Sequence[Curve], names: Sequence[str]) -> Iterator[Curve]:
    """A curve for each series and group of runs: the mean, with a band around it."""
    notes: list[str] = []
    for k, group in enumerate(drawing.groups):
        name, members = group.name, [row["at"] for row in group.rows]
        for at, series in enumerate(names):
            of = [c for c in curves if c.name == series and c.run_at in members]
            if not of:
                continue
            band = seeds.band([(c.x, c.y) for c in of])
            spread = np.where(band.n > 1, band.std, 0.0)
            edges = {
                "std": (band.mean - spread, band.mean + spread),
                "range": (band.low, band.high),
            }
            low, high = edges.get(drawing.band, (None, None))
            marks = (
                {
                    int(np.searchsorted(band.steps, c.x[i])): n
                    for c in of
                    for i, n in c.nonfinite.items()
                }
                if len(band.steps)
                else {}
            )
            dashes = drawing.dashes(k) if len(names) == 1 else DASHES[at % len(DASHES)]
            last = len(band.steps) - 1
            yield replace(
                of[0], run_at=k, colour=drawing.colour(k), dashes=dashes, x=band.steps, y=band.mean,
                low=low, high=high, nonfinite={min(i, last): n for i, n in marks.items()},
                stride=float(np.median(np.diff(band.steps))) if last > 0 else 1.0,
            )  # fmt: skip
            fewer = np.flatnonzero(band.n < len(members))
            if len(fewer):
                notes.append(
                    f"{series}, {name}: at {len(fewer):,} of {last + 1:,} places the mean is of "
                    f"fewer than its {len(members)} runs, from {number(band.steps[fewer[0]])} on"
                )
    drawing.messages += notes[:NOTES_MAX]
    if n_more := len(notes[NOTES_MAX:]):
        drawing.messages.append(f"{n_more:,} more means are in places of fewer runs")


def _within(curve: Curve, drawing: Drawing) -> Curve:
    """The part of a curve that is within the range of x, from left to right."""
    kept = np.flatnonzero(drawing.inside(curve.x))
    kept = kept[np.argsort(curve.x[kept], kind="stable")]  # a series that is the axis may go back
    if curve.nonfinite:
        place = {int(old): new for new, old in enumerate(kept)}
        curve.nonfinite = {place[i]: name for i, name in curve.nonfinite.items() if i in place}
    curve.x, curve.y = curve.x[kept], curve.y[kept]
    return curve


def _draw_curve(axes: Axes, drawing: Drawing, curve: Curve) -> None:
    """The curve, with the smoothed one over it if there is smoothing; crosses where not finite."""
    style: dict[str, Any] = {"color": curve.colour, "ls": curve.dashes, "lw": 1.5}
    is_pale = not drawing.is_single and drawing.is_pale(curve.run_at)
    style |= PALE if is_pale else {}
    if curve.low is not None and curve.high is not None and not is_pale:
        axes.fill_between(curve.x, curve.low, curve.high, color=curve.colour, alpha=0.2, lw=0)
    gaps = () if drawing.groups else drawing.starts(curve.run_at, curve.axis)
    width = round(drawing.window_iters / (curve.stride or 1.0))
    if 2 < width < len(curve.y) and is_noisy(curve.name):
        raw: dict[str, Any] = {"color": curve.colour, "lw": 0.7, "alpha": 0.35}
        if not is_pale:
            draw_line(axes, drawing, curve.x, curve.y, gaps, **raw)
        at, means = smoothed(drawing, curve.y, width)
        draw_line(axes, drawing, curve.x[at], means, gaps, **{"zorder": 3} | style)
    else:
        draw_line(axes, drawing, curve.x, curve.y, gaps, **style)
    mark(axes, curve.x, sorted(curve.nonfinite), curve.colour, "x", 0.025)


def _make_log(axes: Axes, curves: Sequence[Curve]) -> None:
    """A log axis, if there are values above 0; linear near 0 if some are not."""
    finite = np.concatenate([np.empty(0), *(c.y[np.isfinite(c.y)] for c in curves)])
    above = finite[finite > 0]
    if len(above):
        low, high = float(finite.min()), float(above.max())
        set_log(axes, "y", low, high, None if low > 0 else float(above.min()))


def _write_legend(
    axes: Axes, drawing: Drawing, curves: Sequence[Curve], right: Sequence[str]
) -> None:
    """Name the series: by their colours of one run, by their line styles of several runs."""
    named = {curve.name: curve for curve in reversed(curves)}
    bad: dict[str, Counter[str]] = {}
    for curve in curves:
        bad.setdefault(curve.name, Counter()).update(curve.nonfinite.values())
    for name, curve in reversed(named.items()):
        label = f"{_shown(name)} (right)" if name in right else _shown(name)
        label += "".join(f", {n:,}× {kind}" for kind, n in sorted(bad[name].items()))
        ink = curve.colour if drawing.is_single else drawing.theme.ink
        style: dict[str, Any] = {"color": ink, "ls": curve.dashes, "lw": 1.5}
        if drawing.is_single:
            axes.plot([], [], label=label, **style)
        elif len(named) > 1:
            drawing.keys[label] = Line2D([], [], **style)
        elif bad[name]:
            drawing.keys[label] = Line2D([], [], color=ink, ls="none", marker="x", ms=7, mew=1.6)


def _label_x(axes: Axes, drawing: Drawing, curves: Sequence[Curve]) -> None:
    """Name the axes that the run defined; several where its series have different ones."""
    by = dict.fromkeys(curve.axis for curve in curves)
    names = [drawing.x_label if name == "iter" else _shown(series_.plain(name)) for name in by]
    if names:
        axes.set_xlabel(", ".join(names[:3]) + (" ..." if len(names) > 3 else ""))


def _label(curves: Sequence[Curve]) -> str:
    """The label of an axis: the names of its series, with their unit if it is one."""
    names = [_shown(name) for name in dict.fromkeys(curve.name for curve in curves)]
    units = {curve.unit for curve in curves}
    text = first_of(names, 3)
    return f"{text} ({clean(*units)})" if len(units) == 1 and units != {""} else text


def _shown(name: str) -> str:
    """A name as a label; programs may have names of thousands of characters."""
    return fit(clean(name), NAME_IN, LEGEND_SIZE)
