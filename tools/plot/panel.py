"""One panel: the axes with loss, evaluations, step times or MFU."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator
from matplotlib.transforms import ScaledTranslation

from ..core.formats import count
from .columns import Column, Columns, thin
from .drawing import Drawing, Plotted
from .limits import limit_y
from .lines import draw_line, first_above_0, smoothed
from .series import Series
from .theme import DASHES, MARKERS, clean, columns, set_log

WARMUP_ITERS = 5
"""The first steps of a session are slower: left out of step times, as in the guide."""
LABELS_IN = 0.42
"""Height of the tick labels and the label of an x axis."""
PALE: dict[str, Any] = {"lw": 0.8, "zorder": 1.5}
N_MARKED = 60
"""Up to this many evaluations, each has a marker."""


def draw_loss(axes: Axes, drawing: Drawing) -> None:
    """Training loss, the raw line behind the smoothed one; of one run also validation loss."""
    for i, series in enumerate(drawing.series):
        _draw_iterations(axes, drawing, i, "loss", "training loss")
        _draw_superseded(axes, drawing, i, series.superseded, "loss")
    if drawing.is_single:
        _draw_evals(axes, drawing, 0, "val_loss", colour=1)
        if not len(drawing.series[0].iterations):  # a run that logged only evaluations
            _draw_evals(axes, drawing, 0, "train_loss", colour=0)
    _draw_resumes(axes, drawing, "loss")
    _finish_loss(axes, drawing, "loss" if drawing.is_single else "training loss")


def draw_val(axes: Axes, drawing: Drawing) -> None:
    """Validation loss."""
    for i, series in enumerate(drawing.series):
        _draw_superseded(axes, drawing, i, series.superseded_evals, "val_loss")
        _draw_evals(axes, drawing, i, "val_loss", colour=i)
    _finish_loss(axes, drawing, "validation loss")


def draw_train_and_val(axes: Axes, drawing: Drawing) -> None:
    """Training and validation loss, each as evaluated."""
    for i, series in enumerate(drawing.series):
        _draw_superseded(axes, drawing, i, series.superseded_evals, "val_loss")
        _draw_evals(axes, drawing, i, "train_loss", colour=i, hollow=True)
        _draw_evals(axes, drawing, i, "val_loss", colour=1 if drawing.is_single else i)
    _draw_resumes(axes, drawing, None)
    _finish_loss(axes, drawing, "loss at evaluations")
    if not drawing.is_single:
        style: dict[str, Any] = {"color": drawing.theme.faint, "marker": "o", "ms": 5}
        drawing.keys["training"] = Line2D([], [], lw=0.9, mfc="none", **style)
        drawing.keys["validation"] = Line2D([], [], lw=1.7, **style)


def draw_time(axes: Axes, drawing: Drawing) -> None:
    """A histogram of step times, without the first steps of each session."""
    times = [_steady_times_ms(series) for series in drawing.series]
    every = np.concatenate(times)
    axes.set_xlabel(f"time per iteration, without the first {WARMUP_ITERS} (ms)")
    axes.set_ylabel("share of iterations (%)")
    if not len(every):
        _write_message(axes, drawing, f"no step times after the first {WARMUP_ITERS} iterations")
        return
    edges = _edges(every, max(map(len, times)))
    n_slower = int((every > edges[-1]).sum())
    slower = f"{n_slower:,} slower, up to {every.max():,.4g} ms" if n_slower else None
    for i, values in enumerate(times):
        share = np.histogram(values, edges)[0] * 100 / max(1, len(values))
        colour, dashes = drawing.colour(i), drawing.dashes(i)
        style: dict[str, Any] = {"lw": 0.8, "zorder": 1.5} if drawing.is_pale(i) else {"lw": 1.4}
        axes.stairs(share, edges, color=colour, ls=dashes, **style)
        if drawing.is_single:
            axes.stairs(share, edges, fill=True, color=colour, alpha=0.3)
            median = float(np.median(values))
            label = f"median {median:,.4g} ms"
            axes.axvline(median, color=drawing.theme.ink, lw=1.2, ls=DASHES[1], label=label)
    axes.set_xlim(edges[0], edges[-1])
    axes.set_ylim(0, axes.get_ylim()[1] * 1.12)
    if drawing.is_single:
        axes.plot([], [], ls="none", label=slower)
        _draw_legend(axes, drawing)
    elif slower:
        place: dict[str, Any] = {"ha": "right", "va": "top", "color": drawing.theme.faint}
        axes.text(0.99, 0.98, slower, transform=axes.transAxes, fontsize=8, **place)


def draw_mfu(axes: Axes, drawing: Drawing) -> None:
    """Model FLOPs utilization, where it is known."""
    known = [i for i, s in enumerate(drawing.series) if np.isfinite(s.iterations["mfu"]).any()]
    for i in known:
        _draw_iterations(axes, drawing, i, "mfu", "MFU")
    if known:
        _draw_resumes(axes, drawing, "mfu")
    else:
        _write_message(axes, drawing, "MFU is unknown")
    finish(axes, drawing, "model FLOPs utilization (%)")
    axes.set_ylim(0)


def _has_loss(series: Series) -> bool:
    return _has_any(series.iterations, "loss")


def _has_evals(series: Series) -> bool:
    return _has_any(series.evals, "val_loss") or _has_any(series.evals, "train_loss")


def _has_val(series: Series) -> bool:
    return _has_any(series.evals, "val_loss")


def _has_time(series: Series) -> bool:
    return len(_steady_times_ms(series)) > 0


def _has_mfu(series: Series) -> bool:
    return _has_any(series.iterations, "mfu")


def _has_any(rows: Columns, key: str) -> bool:
    """Whether a column has a value, finite or not."""
    return bool(np.isfinite(rows[key]).any() or rows.nonfinite[key])


Panel = Callable[[Axes, Drawing], None]
KINDS: dict[str, dict[Panel, Callable[[Series], bool]]] = {
    "loss": {draw_loss: _has_loss},
    "analysis": {draw_loss: _has_loss, draw_time: _has_time, draw_mfu: _has_mfu},
    "eval": {draw_train_and_val: _has_evals},
    "compare": {draw_loss: _has_loss, draw_val: _has_val},
}
"""The panels of each kind of plot, and whether a run has values for them."""


def panels_of(kind: str, runs: Sequence[Series]) -> list[Panel]:
    """The panels for which a run has values; the first one if there are none."""
    panels = KINDS[kind]
    with_values = [panel for panel, has_values in panels.items() if any(map(has_values, runs))]
    if len(runs) == 1 and draw_loss in panels and _has_evals(runs[0]):  # it has these, too
        with_values = [*dict.fromkeys([draw_loss, *with_values])]
    return with_values or [*panels][:1]


def _draw_iterations(axes: Axes, drawing: Drawing, i: int, key: str, label: str) -> None:
    """A column of the iterations, with the smoothed curve over it if there is smoothing."""
    series = drawing.series[i]
    rows, y = series.iterations, series.iterations[key]
    x, colour, dashes = drawing.place(i, rows["iter"]), drawing.colour(i), drawing.dashes(i)
    single, width = drawing.is_single, drawing.width(i)
    style: dict[str, Any] = {"color": colour, "ls": dashes, "lw": 1.8, "zorder": 3}
    if key == "loss":
        drawing.plotted.append(Plotted(label, x, y, colour))
    gaps = drawing.starts(i, drawing.x)
    if not width:
        style |= PALE if drawing.is_pale(i) else {"lw": 1.3, "zorder": 2}
        draw_line(axes, drawing, x, y, gaps, **style, label=label)
    else:
        if drawing.is_pale(i):
            style |= PALE
        else:
            raw: dict[str, Any] = {"color": colour, "lw": 0.7, "alpha": 0.35 if single else 0.18}
            draw_line(axes, drawing, x, y, gaps, **raw, label=f"{label}, each iteration")
        label = f"smoothed over {drawing.window_iters:,} iterations"
        at, means = smoothed(drawing, y, width)
        draw_line(axes, drawing, x[at], means, gaps, **style, label=label)
    _mark_nonfinite(axes, drawing, i, x, rows, key)


def _draw_evals(
    axes: Axes, drawing: Drawing, i: int, key: str, *, colour: int, hollow: bool = False
) -> None:
    """A column of the evaluations, with markers if they are few."""
    rows = drawing.series[i].evals
    if not np.isfinite(rows[key]).any() and not rows.nonfinite[key]:
        return
    x, paint = drawing.place_evals(i), drawing.colour(colour)
    style: dict[str, Any] = {"color": paint, "ls": drawing.dashes(i), "zorder": 4}
    style |= {"lw": 0.9 if hollow and not drawing.is_single else 1.7}
    drawing.plotted.append(Plotted(key.replace("_", " "), x, rows[key], paint))
    if drawing.is_pale(i):
        style |= PALE
    elif len(rows) <= N_MARKED:
        marker = MARKERS[colour % len(MARKERS)] if drawing.is_single else drawing.marker(colour)
        style |= {"marker": marker, "ms": 4.5, "mfc": drawing.theme.ground if hollow else paint}
    label = "training loss" if key == "train_loss" else _best_label(rows)
    gaps = drawing.starts(i, drawing.x)
    draw_line(axes, drawing, x, rows[key], gaps, **style, label=label)
    _mark_nonfinite(axes, drawing, i, x, rows, key)


def _draw_superseded(
    axes: Axes, drawing: Drawing, i: int, batches: Sequence[Columns], key: str
) -> None:
    """Superseded rows, smoothed like the others."""
    if not drawing.with_superseded:
        return
    ink = drawing.theme.ink
    style: dict[str, Any] = {"lw": 1.5, "ls": DASHES[2], "zorder": 3.5}
    for n, rows in enumerate(batches):
        x, y = drawing.place(i, rows["iter"]), rows[key]
        paint: dict[str, Any] = {"color": ink if drawing.is_single else drawing.colour(i)}
        if key == "loss" and drawing.width(i):
            draw_line(axes, drawing, x, y, lw=0.6, alpha=0.3, **paint)
            at, y = smoothed(drawing, y, drawing.width(i))
            x = x[at]
        draw_line(axes, drawing, x, y, **style, **paint, label=None if n else "superseded")
        drawing.keys["superseded"] = Line2D([], [], color=ink, **style)


def _mark_nonfinite(
    axes: Axes, drawing: Drawing, i: int, x: Column, rows: Columns, key: str
) -> None:
    """A cross at the bottom wherever the value was NaN or infinite."""
    where = np.array(sorted(rows.nonfinite[key]), np.intp)
    where = where[np.isfinite(x[where]) & drawing.inside(x[where])]
    if not len(where):
        return
    names = sorted(set(rows.nonfinite[key].values()))
    label = f"{', '.join(names)} ({len(where):,}×)"
    crosses: dict[str, Any] = {"ls": "none", "marker": "x", "ms": 7, "mew": 1.8}
    colour = drawing.theme.bad if drawing.is_single else drawing.colour(i)
    foot = axes.get_xaxis_transform()
    spread = where[thin(x[where], np.zeros(len(where)), 40)]  # 40 crosses side by side fill it
    style = crosses | {"color": colour, "clip_on": False, "zorder": 6}
    axes.plot(x[spread], np.full(len(spread), 0.025), transform=foot, label=label, **style)
    drawing.keys["not finite"] = Line2D([], [], color=drawing.theme.ink, **crosses)


def _draw_resumes(axes: Axes, drawing: Drawing, key: str | None) -> None:
    """Where a run was resumed: a vertical line for one run, a marker on each curve for several."""
    for i, series in enumerate(drawing.series):
        kinds = {
            "resumed": [r for r in series.resumes if not r.n_again],
            "rewound": [r for r in series.resumes if r.n_again],
        }
        for (name, resumes), dashes, marker in zip(
            kinds.items(), (DASHES[2], DASHES[3]), (">", "<"), strict=True
        ):
            if not resumes:
                continue
            iters = np.array([r.at for r in resumes], float)
            x = drawing.place(i, iters)
            sign: dict[str, Any] = {"ls": "none", "marker": marker, "ms": 8.5}
            sign |= {"mfc": drawing.theme.ground, "mew": 1.6}
            if drawing.is_single:
                for n, at in enumerate(x):
                    label = None if n else _resume_label(name, resumes)
                    axes.axvline(at, color=drawing.theme.faint, lw=1.1, ls=dashes, label=label)
            elif key is not None:
                rows = series.iterations
                at, means = smoothed(drawing, rows[key], drawing.width(i))
                nearest = np.searchsorted(rows["iter"][at], iters).clip(0, len(at) - 1)
                y = means[nearest] if len(at) else np.full(len(iters), math.nan)
                axes.plot(x, y, mec=drawing.colour(i), zorder=6, **sign)
                drawing.keys[name] = Line2D([], [], mec=drawing.theme.ink, **sign)


def _finish_loss(axes: Axes, drawing: Drawing, label: str) -> None:
    units = {series.loss_unit for series in drawing.series}
    is_known = len(units) == 1 and units != {""}
    finish(axes, drawing, f"{label} ({clean(*units)})" if is_known else label)
    limit_y(axes, drawing, drawing.plotted, drawing.view.y_range)
    drawing.plotted.clear()
    ys = _values([np.asarray(line.get_ydata(), float) for line in _lines(axes)])
    if drawing.view.log_y and len(ys) and ys.max() > 0:
        low = ys.min()
        set_log(axes, "y", low, ys.max(), None if low > 0 else first_above_0(ys))


def finish(axes: Axes, drawing: Drawing, label: str) -> None:
    """Labels, ticks and scales; a legend if the figure has no common one."""
    whole = drawing.x_unit == 1 and drawing.x != "time"
    axes.set_xlabel(drawing.x_label)
    axes.set_ylabel(label)
    axes.xaxis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 5, 10], integer=whole))
    axes.xaxis.set_major_formatter(FuncFormatter(count))
    format_y(axes)
    lines = _lines(axes)
    if not lines and not axes.texts:
        _write_message(axes, drawing, "nothing logged")
    xs = _values([np.asarray(line.get_xdata(), float) for line in lines])
    if len(xs) and xs.min() == xs.max():
        axes.set_xlim(xs[0] - 1, xs[0] + 1)
    elif drawing.view.log_x and len(xs):
        set_log(axes, "x", 0, xs.max(), straight_to=first_above_0(xs))
        axes.set_xlim(0, xs.max() * 1.05)
    _draw_legend(axes, drawing)


def format_y(axes: Axes) -> None:
    """Numbers on the y axis in full up to 10,000, then as 50k."""
    if max(map(abs, axes.get_ylim())) < 10_000:
        axes.ticklabel_format(axis="y", useOffset=False, style="plain")
    else:
        axes.yaxis.set_major_formatter(FuncFormatter(count))


def _draw_legend(axes: Axes, drawing: Drawing) -> None:
    """The legend of a panel with one run, below it, where it covers no values."""
    handles, label = axes.get_legend_handles_labels()
    if not drawing.is_single or not label:
        return
    n_across = columns(label, drawing.panel_in - 0.5)
    drawing.n_rows = max(drawing.n_rows, -(-len(label) // n_across))
    below = ScaledTranslation(-0.1, -LABELS_IN, axes.figure.dpi_scale_trans)
    place: dict[str, Any] = {"bbox_to_anchor": (0, 0), "bbox_transform": axes.transAxes + below}
    axes.legend(handles, label, ncols=n_across, loc="upper left", **place)


def _lines(axes: Axes) -> list[Line2D]:
    """The lines of values: no vertical lines, no marks at the bottom."""
    return [line for line in axes.get_lines() if line.get_transform() == axes.transData]


def _write_message(axes: Axes, drawing: Drawing, label: str) -> None:
    """A message where there is nothing to draw."""
    axes.text(0.5, 0.5, label, transform=axes.transAxes, ha="center", color=drawing.theme.faint)
    axes.set_yticks([])
    axes.grid(visible=False)


def _steady_times_ms(series: Series) -> Column:
    """Step times in ms, without the first steps of each session."""
    iters, times = series.iterations["iter"], series.iterations["time_ms"]
    starts = [iters[0] if len(iters) else 0.0, *(float(r.at) for r in series.resumes)]
    warm = np.ones(len(iters), bool)
    for start in starts:
        at = int(np.searchsorted(iters, start))
        warm[at : at + WARMUP_ITERS] = False
    return times[warm & np.isfinite(times)]


def _edges(times_ms: Column, n: int) -> Column:
    """Edges of the histogram, without the slowest hundredth; `n`: times in the longest run."""
    low, high = float(times_ms.min()), float(np.quantile(times_ms, 0.99))
    least = max(abs(high) / 20, 1e-6)  # equal times are one bar in the middle
    middle, width = (low + high) / 2, max((high - low) * 1.05, least)
    n_bars = int(np.clip(1.5 * np.sqrt(n), 5, 40))
    edges: Column = np.linspace(middle - width / 2, middle + width / 2, n_bars + 1)
    return edges


def _best_label(rows: Columns) -> str:
    losses = rows["val_loss"]
    if not np.isfinite(losses).any():
        return "validation loss"
    best = int(np.nanargmin(losses))
    return f"validation loss, best {losses[best]:.4f} at {rows['iter'][best]:,.0f}"


def _resume_label(name: str, resumes: Sequence[Any]) -> str:
    if len(resumes) > 1:
        return f"{name} ({len(resumes):,}×)"
    resume = resumes[0]
    if not resume.n_again:
        return f"resumed at {resume.at:,}"
    end = resume.at + resume.n_again - 1
    again = f"{resume.at:,} to {end:,}" if resume.n_again > 1 else f"{resume.at:,}"
    return f"rewound: {again} logged again"


def _values(columns: Sequence[Column]) -> Column:
    every = np.concatenate([np.empty(0), *columns])
    finite: Column = every[np.isfinite(every)]
    return finite
