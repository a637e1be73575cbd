"""A study as a figure.

First row: the metric of each trial with the best so far, and the importance of each parameter.
Second row: parallel coordinates, better trials in stronger colour.
Below: for each parameter a panel with the metric over its value.
"""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from ..core.formats import count
from ..core.importance import RUNS_MIN
from ..plot.figure import HEAD_IN, NotebookFigure, lay_out, write_head
from ..plot.theme import THEMES, Theme, clean, fit, set_log
from .space import Parameter, as_argument
from .study import Result, Study

PANEL_IN = 2.9
N_ACROSS = 4
WIDTH_IN = 11.0
N_IMPORTANCES = 12


def draw(study: Study, theme_name: str = "light", dpi: float = 150) -> NotebookFigure:
    """A matplotlib Figure of a study with at least one complete trial."""
    theme = THEMES[theme_name]
    names = list(study.plan.space)
    n_across = min(N_ACROSS, max(2, len(names)))
    n_rows = 2 + -(-len(names) // n_across)
    with style.context(["default", theme.style()]):
        figure = NotebookFigure(figsize=(WIDTH_IN, HEAD_IN + PANEL_IN * n_rows), dpi=dpi)
        grid = figure.add_gridspec(n_rows, 2 * n_across)
        split = n_across + n_across // 2
        history = figure.add_subplot(grid[0, :split])
        _draw_history(history, study, theme)
        _draw_importances(figure.add_subplot(grid[0, split:]), study, theme)
        _draw_lines(figure.add_subplot(grid[1, :]), study, theme)
        for i, name in enumerate(names):
            row, column = divmod(i, n_across)
            axes = figure.add_subplot(grid[2 + row, 2 * column : 2 * column + 2])
            _draw_slice(axes, study, study.plan.space[name], theme)
            if column == 0:
                axes.set_ylabel(study.plan.metric.name)
        _write_head(figure, study, theme)
        lay_out(figure)
    return figure


def _draw_history(axes: Axes, study: Study, theme: Theme) -> None:
    results = _measured(study)
    _dots(axes, study, results, [result.number for result in results], theme)
    best = np.maximum if study.plan.metric.maximize else np.minimum
    complete = [result for result in results if result.state == "complete"]
    line = best.accumulate([_value(study, result) for result in complete])
    numbers = [result.number for result in complete]
    axes.step(
        [*numbers, max(study.results)], [*line, line[-1]], where="post", lw=1.6,
        color=theme.runs[1], label="best so far", zorder=2,
    )  # fmt: skip
    axes.set_xlabel("trial")
    axes.set_ylabel(study.plan.metric.name)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    # Above the axes: inside, the legend's markers could be mistaken for trials.
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=4, borderaxespad=0)


def _draw_importances(axes: Axes, study: Study, theme: Theme) -> None:
    found = list(study.importances().items())[:N_IMPORTANCES]
    axes.set_title("what each explains alone", size=9, loc="left", color=theme.faint)
    axes.grid(visible=False)
    axes.set_xticks([])
    axes.spines[["left", "bottom"]].set_visible(False)
    if not found:
        axes.set_yticks([])
        text = f"too few complete trials to tell: {RUNS_MIN} are needed"
        axes.text(0.5, 0.5, text, ha="center", color=theme.faint, transform=axes.transAxes)
        return
    places = range(len(found))
    colours = [theme.runs[0] if one.is_clear else theme.faint for _, one in found]
    axes.barh(places, [one.share for _, one in found], color=colours, height=0.6)
    axes.hlines(
        places, [o.low for _, o in found], [o.high for _, o in found], color=theme.ink, lw=1
    )
    axes.set_yticks(places, [fit(clean(name), 1.4, 9) for name, _ in found])
    axes.tick_params(axis="y", length=0)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.35 * max(one.high for _, one in found))
    for place, (_, one) in zip(places, found, strict=True):
        text = f"  {one.share:.0%}" if one.is_clear else f"  {one.share:.0%}, not clear"
        axes.text(max(one.high, one.share), place, text, va="center", color=theme.ink)


def _draw_lines(axes: Axes, study: Study, theme: Theme) -> None:
    """Parallel coordinates: an axis for each parameter, and the metric as the last one."""
    results = sorted(_measured(study), key=lambda r: _badness(study, r), reverse=True)
    parameters = list(study.plan.space.values())
    low, high = _limits(study, results)
    for nth, result in enumerate(results, 1):
        heights = [_height(parameter, result) for parameter in parameters]
        figure = min(max((_value(study, result) - low) / (high - low), 0.0), 1.0)
        is_best = result is study.best
        axes.plot(
            range(len(parameters) + 1), [*heights, figure],
            color=theme.runs[1] if is_best else theme.runs[0],
            lw=2.4 if is_best else 1.2, ls="-" if result.state == "complete" else (0, (4, 2)),
            alpha=1.0 if is_best else 0.15 + 0.7 * (nth / len(results)) ** 2,
            zorder=4 if is_best else 3,
        )  # fmt: skip
    axes.set_ylim(-0.06, 1.06)
    axes.set_xlim(-0.25, len(parameters) + 0.45)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    names = [*(parameter.name for parameter in parameters), study.plan.metric.name]
    axes.set_xticks(
        range(len(names)), [fit(clean(name), WIDTH_IN / len(names), 9) for name in names]
    )
    axes.grid(visible=False, axis="y")
    axes.vlines(range(len(names)), 0, 1, color=theme.faint, lw=1, zorder=2)
    ends = [_ends(parameter) for parameter in parameters]
    for x, marks in enumerate([*ends, [(0.0, f"{low:.3g}"), (1.0, f"{high:.3g}")]]):
        for height, text in marks:
            axes.annotate(
                fit(clean(text), 0.8, 8), (x, height), (5, 0), textcoords="offset points",
                size=8, va="center", color=theme.ink, zorder=5,
                bbox={"facecolor": theme.ground, "edgecolor": "none", "pad": 1, "alpha": 0.8},
            )  # fmt: skip


def _height(parameter: Parameter, result: Result) -> float:
    """Where a trial's value is on its axis, from 0 to 1."""
    value = result.params[parameter.name]
    if parameter.choices:
        # Spread: lines through one point could not be distinguished.
        at = (parameter.choices.index(value) + 0.5) / len(parameter.choices)
        return at + 0.15 * math.sin(2.4 * result.number) / len(parameter.choices)
    low, high, number = parameter.low, parameter.high, float(value)
    if parameter.is_log:
        return math.log(number / low) / math.log(high / low)
    return float((number - low) / (high - low))


def _ends(parameter: Parameter) -> list[tuple[float, str]]:
    """The labels beside a parameter's axis, with their heights."""
    n = len(parameter.choices)
    if parameter.choices:
        return [((i + 0.5) / n, as_argument(choice)) for i, choice in enumerate(parameter.choices)]
    return [(0.0, f"{parameter.low:.4g}"), (1.0, f"{parameter.high:.4g}")]


def _badness(study: Study, result: Result) -> float:
    return (-1.0 if study.plan.metric.maximize else 1.0) * _value(study, result)


def _draw_slice(axes: Axes, study: Study, parameter: Parameter, theme: Theme) -> None:
    results = _measured(study)
    values = [result.params[parameter.name] for result in results]
    axes.set_xlabel(clean(parameter.name))
    if parameter.choices:
        # Spread: trials with equal values would be one dot.
        at = [float(parameter.choices.index(value)) for value in values]
        places = [x + 0.22 * math.sin(2.4 * r.number) for x, r in zip(at, results, strict=True)]
        _dots(axes, study, results, places, theme)
        names = [fit(clean(as_argument(choice)), 0.8, 9) for choice in parameter.choices]
        axes.set_xticks(range(len(names)), names)
        axes.set_xlim(-0.5, len(names) - 0.5)
        return
    _dots(axes, study, results, [float(value) for value in values], theme)
    if parameter.is_log:
        set_log(axes, "x", parameter.low, parameter.high)
        axes.set_xlim(parameter.low / 1.1, parameter.high * 1.1)
    else:
        margin = 0.04 * (parameter.high - parameter.low)
        axes.set_xlim(parameter.low - margin, parameter.high + margin)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=parameter.is_whole))
        axes.xaxis.set_major_formatter(FuncFormatter(count))


def _dots(
    axes: Axes, study: Study, results: Sequence[Result], places: Sequence[float], theme: Theme
) -> None:
    """Draw trials: filled if complete, hollow if pruned, a triangle at the edge if far away."""
    low, high = _limits(study, results)
    axes.set_ylim(low, high)
    best = study.best
    for state, face in (("pruned", "none"), ("complete", theme.runs[0])):
        shown = [(x, r) for x, r in zip(places, results, strict=True) if r.state == state]
        ys = [_value(study, r) for _, r in shown]
        near = [(x, y) for (x, _), y in zip(shown, ys, strict=True) if low <= y <= high]
        far = [(x, y) for (x, _), y in zip(shown, ys, strict=True) if not low <= y <= high]
        axes.scatter(
            [x for x, _ in near], [y for _, y in near], s=22, facecolors=face,
            edgecolors=theme.runs[0], linewidths=1, label=state if near else None, zorder=3,
        )  # fmt: skip
        margin = 0.02 * (high - low)
        for marker, edge in (("^", high - margin), ("v", low + margin)):
            xs = [x for x, y in far if (y > high) == (marker == "^")]
            axes.scatter(xs, [edge] * len(xs), s=22, marker=marker, facecolors=face,
                         edgecolors=theme.runs[0], linewidths=1, zorder=3)  # fmt: skip
    if best is not None and best in results:
        axes.scatter(
            [places[list(results).index(best)]], [_value(study, best)], s=90, facecolors="none",
            edgecolors=theme.runs[1], linewidths=1.6, zorder=4,
        )  # fmt: skip


def _limits(study: Study, results: Sequence[Result]) -> tuple[float, float]:
    """The range of the metric, with a margin, without trials that are far away."""
    low, high = study.plan.metric.limits([_value(study, result) for result in results])
    margin = 0.06 * (high - low) or 0.05 * abs(low) or 1.0
    return low - margin, high + margin


def _measured(study: Study) -> list[Result]:
    """Trials that have a finite metric, in order."""
    return [
        result
        for result in study.results.values()
        if result.state in ("complete", "pruned") and math.isfinite(_value(study, result))
    ]


def _value(study: Study, result: Result) -> float:
    if result.value is not None:
        return result.value
    value = study.plan.metric.of(list(result.values.values()))
    return math.nan if value is None else value


def _write_head(figure: NotebookFigure, study: Study, theme: Theme) -> None:
    states = [result.state for result in study.results.values()]
    counts = [f"{states.count(s)} {s}" for s in dict.fromkeys(sorted(states))]
    best = study.best
    facts = [*counts, f"{study.plan.sampler} sampler, {study.plan.pruner} pruner"]
    if best is not None and best.value is not None:
        chosen = ", ".join(
            f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {as_argument(value)}"
            for name, value in best.params.items()
        )
        facts.insert(0, f"best {best.value:.4f} of trial {best.number}: {chosen}")
    write_head(figure, theme, f"{study.name}: {len(states)} trials", facts)
