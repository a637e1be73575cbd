"""Draw runs as a matplotlib figure: loss, evaluations, step times, MFU.

    from .figure import draw
    draw(["out/run_a.json", "out/run_b.json"], x="tokens", log_y=True).savefig("ab.png")

`encode` gives the bytes of a file; they are the same each time.
"""

import io
import os
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from matplotlib import style
from matplotlib.figure import Figure

import eventlog

from ..core import seeds
from ..core.formats import count
from ..core.labels import labels
from ..core.runs import Refusal, one, read_at
from ..core.series import plain
from . import legend
from .any_series import draw_any
from .drawing import Drawing, View
from .fonts import find_for
from .limits import check, check_not_empty
from .panel import KINDS, panels_of
from .series import Series
from .theme import LEGEND_ROW_IN, THEMES, Theme, clean, fit

Kind = Literal["loss", "analysis", "eval", "compare"]
ThemeName = Literal["light", "dark"]
Source = eventlog.Run | str | os.PathLike[str]

FORMS: dict[str, dict[str, Any]] = {  # metadata without time and version: the same bytes
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None},
}
TITLE_SIZE, FACTS_SIZE = 12, 8.5
PANEL_IN, HEAD_IN, MARGIN_IN = 4.5, 0.58, 0.12


class NotebookFigure(Figure):
    """A matplotlib Figure that a notebook displays."""

    messages: Sequence[str] = ()
    """What it leaves out: runs, series, values."""

    def _repr_png_(self) -> bytes:
        return encode(self, "png")


def draw(
    runs: Sequence[Source],
    kind: Kind | None = None,
    *,
    smooth_iters: int | None = None,
    superseded: bool = False,
    group_by: str | None = None,
    band: str = "std",
    title: str | None = None,
    width_in: float | None = None,
    height_in: float | None = None,
    dpi: float = 150,
    theme: ThemeName = "light",
    **view: Any,
) -> NotebookFigure:
    """A matplotlib Figure of runs, given as runs or by name.

    Args:
        kind: `loss`, `analysis` (loss, step times, MFU), `eval` (training against validation) or
            `compare` (training and validation); None: an analysis of one run, a comparison of more.
        smooth_iters: width of the smoothing; 0: none, None: 1/25 of the longest run.
        superseded: also draw superseded rows, if the run has them.
        group_by: `seeds`, or keys (`config.lr`): one line a group, the mean of `metrics`; without
            these of the losses.
        band: around it, `std` (standard deviation), `range` (min and max) or `none`.
        view: the fields of a `View`: `metrics`, `x`, `log_y`, ...

    Raises:
        Refusal: there is nothing to draw or no space for it, or all runs are missing what the x
            axis needs; a run that is missing it is left out, and named in `messages` of the figure.
        FileNotFoundError: as `tools.core.runs.one`.
    """
    loaded = [run if isinstance(run, eventlog.Run) else one(run, read_at).run for run in runs]
    series = [Series(run) for run in loaded if run is not None]
    drawing = _drawing(series, kind, View(**view), smooth_iters, group_by)
    drawing = replace(drawing, with_superseded=superseded, band=band, theme=THEMES[theme])
    with style.context(["default", drawing.theme.style()]):
        return _render(drawing, title, width_in, height_in, dpi)


def _drawing(
    series: list[Series], kind: Kind | None, view: View, smooth_iters: int | None, by: str | None
) -> Drawing:
    """What to draw: the series, the kind of plot and the x axis.

    Raises:
        Refusal: as `draw`.
    """
    if not series:
        raise Refusal("no runs to draw")
    if by and kind is None and not (view.metrics or view.right):
        view = replace(view, metrics=_usual(series))
    is_any = bool(view.metrics or view.right)
    view = replace(view, x="iter" if view.x == "step" else view.x)
    x = view.x or ("iter" if is_any else _defined_axis(series))
    series, messages = _drawable(series, x)
    check(view)
    if by and not is_any:
        raise Refusal("--group-by draws series, not a --kind. Use: --metric NAME")
    if smooth_iters is None:
        smooth_iters = 0 if is_any else _window_iters(series)
    rows = legend.rows_of(series)
    find_for(_texts(series, view))
    groups = legend.groups_of(rows, by) if by else []
    x_label, x_unit = _x_axis(series, x)
    drawing = Drawing(
        series=series,
        kind="metrics" if is_any else kind or ("analysis" if len(series) == 1 else "compare"),
        view=view,
        x=x,
        x_label=x_label,
        x_unit=x_unit,
        window_iters=smooth_iters,
        groups=groups,
        messages=messages + seeds.notes_on(groups, seeds.keys_of(by or "")),
        labels=[clean(name) for name in labels(rows)],
    )
    legend.choose_named(drawing)
    return drawing


def _texts(series: Sequence[Series], view: View) -> Iterator[str]:
    """What a figure may show of the runs."""
    for one_ in series:
        yield one_.run.name
        yield str(one_.run.config)
        yield from one_.named if view.metrics or view.right else ()


def _render(
    drawing: Drawing, title: str | None, width_in: float | None, height_in: float | None, dpi: float
) -> NotebookFigure:
    """The figure: panels side by side, a legend below them, the title above."""
    is_any = drawing.kind not in KINDS
    panels = [draw_any] if is_any else panels_of(drawing.kind, drawing.series)
    width_in = width_in or (8.0 if len(panels) == 1 else 5.2 * len(panels))
    drawing.panel_in = width_in / len(panels)
    drawing.n_pixels = max(50, round(width_in * dpi / len(panels)))
    figure = NotebookFigure(figsize=(width_in, height_in or PANEL_IN), dpi=dpi)
    for panel, axes in zip(panels, np.ravel(figure.subplots(1, len(panels))), strict=True):
        panel(axes, drawing)
    check_not_empty(drawing)
    _share_x(figure, drawing)
    n_rows, facts = _legend_and_facts(figure, drawing)
    figure.set_figheight(height_in or PANEL_IN + n_rows * LEGEND_ROW_IN)
    write_head(figure, drawing.theme, title or _title(figure, drawing), facts)
    lay_out(figure)
    figure.messages = drawing.messages
    return figure


def _defined_axis(series: Sequence[Series]) -> str:
    """The axis that all runs have for their losses; `iter` if they have different ones."""
    defined = {run.defined_axis for run in series}
    return defined.pop() if len(defined) == 1 else "iter"


def _drawable(series: Sequence[Series], x: str) -> tuple[list[Series], list[str]]:
    """The runs that have what `x` needs, and a message for each of the others.

    Raises:
        Refusal: none has it.
    """
    drawable: list[Series] = []
    messages: list[str] = []
    for run in series:
        try:
            run.check_axis(x)
            drawable.append(run)
        except Refusal as refusal:
            messages.append(f"{refusal} (left out)")
            last = refusal
    if not drawable:
        raise last
    return drawable, messages


def _legend_and_facts(figure: Figure, drawing: Drawing) -> tuple[int, list[str]]:
    """Draw the common legend of several runs; the rows of legends, and facts for the head."""
    if drawing.is_single:
        return drawing.n_rows, [*drawing.notes, *_facts(drawing.series[0].run)]
    n_rows = legend.draw(figure, drawing, width_in=figure.get_figwidth() - 2 * MARGIN_IN)
    facts = [*drawing.notes, *legend.facts(drawing)]
    if drawing.kind != "eval" and any(map(drawing.width, range(len(drawing.series)))):
        facts.append(f"smoothed over {drawing.window_iters:,} iterations")
    return n_rows, facts


def encode(figure: Figure, form: str) -> bytes:
    """The figure as `png`, `svg` or `pdf`: equal figures give equal bytes."""
    file = io.BytesIO()
    with style.context(["default", {"svg.hashsalt": "runs plot"}]):
        figure.savefig(file, format=form, metadata=FORMS[form])
    return file.getvalue()


def _window_iters(series: Sequence[Series]) -> int:
    """1/25 of the longest run, rounded to two digits of which the second is 0 or 5."""
    spans = [s.iterations["iter"][-1] - s.iterations["iter"][0] for s in series if s.iterations]
    width = max(spans, default=0.0) / 25
    if width < 2:
        return 0
    step = 5 * 10 ** max(0, int(np.log10(width)) - 1) if width >= 10 else 1
    return int(round(width / step) * step)


def _x_axis(series: Sequence[Series], x: str) -> tuple[str, float]:
    """The label of the x axis, and how many iterations, tokens or seconds one unit has."""
    if x == "iter":
        return "step" if all(run.logs_metrics_alone for run in series) else "iteration", 1.0
    if x != "time":
        return clean(plain(x)), 1.0
    lasts = [
        [row["step"] for row in s.run.metrics[-1:]]
        if s.logs_metrics_alone
        else s.iterations["iter"][-1:]
        for s in series
    ]
    ends = [
        s.place(np.array(at, float), "time") for s, at in zip(series, lasts, strict=True) if len(at)
    ]
    longest_s = max((float(end[0]) for end in ends), default=0.0)
    units = ((48 * 3600, 86400.0, "days"), (2 * 3600, 3600.0, "h"), (120, 60.0, "min"))
    for above_s, unit_s, name in units:
        if longest_s > above_s:
            return f"wall time ({name})", unit_s
    return "wall time (s)", 1.0


def _share_x(figure: Figure, drawing: Drawing) -> None:
    """Give panels side by side the same x range: the one that was asked for, or that of all."""
    is_any = drawing.kind not in KINDS
    panels = [axes for axes in figure.axes if is_any or axes.get_xlabel() == drawing.x_label]
    ends = [axes.get_xlim() for axes in panels if axes.get_lines()]
    for axes in panels if ends else ():
        axes.set_xlim(min(low for low, _ in ends), max(high for _, high in ends))
        asked = (None if end is None else end / drawing.x_unit for end in drawing.view.x_range)
        axes.set_xlim(*asked)


def write_head(figure: Figure, theme: Theme, title: str, facts: list[str]) -> None:
    """Write the title, and the facts below it."""
    width_in, height_in = figure.get_size_inches()
    text_width_in, x = width_in - 2 * MARGIN_IN, MARGIN_IN / width_in
    headline = fit(clean(title), text_width_in, TITLE_SIZE, "bold")
    below = fit(clean(" · ".join(facts)), text_width_in, FACTS_SIZE)
    figure.text(
        x, 1 - 0.13 / height_in, headline, size=TITLE_SIZE, weight="bold", va="top", color=theme.ink
    )
    figure.text(x, 1 - 0.37 / height_in, below, size=FACTS_SIZE, va="top", color=theme.faint)
    rect = (0, 0, 1, 1 - HEAD_IN / height_in)
    figure.set_layout_engine("constrained", rect=rect, w_pad=MARGIN_IN, h_pad=0.08, wspace=0.03)


def lay_out(figure: Figure) -> None:
    """Lay out the figure once.

    Otherwise matplotlib makes new ticks each time it draws and moves everything slightly.

    Raises:
        Refusal: the figure is too small for its text.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "constrained_layout not applied")
        try:
            figure.draw_without_rendering()
        except UserWarning:
            width_in, height_in = figure.get_size_inches()
            raise Refusal(
                f"{width_in:g} x {height_in:g} inches are too small for this plot: "
                "make --width or --height larger"
            ) from None
    figure.set_layout_engine("none")


def _title(figure: Figure, drawing: Drawing) -> str:
    if drawing.is_single:
        return drawing.series[0].run.name
    what = {"loss": "training loss", "analysis": "loss, step times and MFU"}
    if drawing.kind == "metrics":
        labels = (axes.get_ylabel() for axes in figure.axes)
        what["metrics"] = " · ".join(label for label in labels if label)
    return f"{len(drawing.series):,} runs: {what.get(drawing.kind, 'training and validation loss')}"


def _facts(run: eventlog.Run) -> list[str]:
    """Facts about a run that are needed to interpret its plot."""
    known = run.metadata
    phase = known.get("phase") or ", ".join(k for k in known if k.startswith("use_") and known[k])
    device = known.get("device")
    if device != "cpu":  # the name of a CPU says little
        device = known.get("device_name") or device
    n_params, n_tokens = known.get("n_params"), known.get("tokens_per_iter")
    facts = [
        f"{count(n_params)} parameters" if isinstance(n_params, int | float) else "",
        str(known.get("dtype") or ""),
        f"{known.get('world_size', 1)} × {device}" if device else "",
        str(phase or ""),
        f"{count(n_tokens)} tokens per iteration" if isinstance(n_tokens, int | float) else "",
        run.status,
    ]
    return [fact for fact in facts if fact]


def _usual(series: Sequence[Series]) -> list[str]:
    """The losses of the runs, by the names of their series."""
    names: dict[str, None] = {}
    for of_run in series:
        losses = [one.name for one in of_run.losses if one is not None]
        names |= dict.fromkeys(
            [n for n in ("loss", "eval/val_loss") if n in of_run.named] or losses
        )
    return [*names]
