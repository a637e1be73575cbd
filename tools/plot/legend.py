"""The common legend of several runs: what each line is, and which of many lines are named.

Runs are named by the settings in which they differ. Of many, the best few have colours and names;
the others are pale and counted.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ..core import rows as rows_
from ..core import seeds
from ..core.formats import first_of
from ..core.labels import different
from ..core.rows import Row
from ..core.runs import Found
from .drawing import Drawing
from .series import Series
from .theme import LEGEND_SIZE, NAME_IN, clean, columns, fit

ALL_NAMED_MAX = 14
"""Up to this many lines are all named: each colour with two line styles."""
BEST_NAMED = 7
"""Of more lines, so many are: one a colour."""
N_DIFFERENT = 6
BANDS = {"std": ["band: ± standard deviation"], "range": ["band: min to max"]}


def rows_of(series: Sequence[Series]) -> list[Row]:
    """The runs as rows, each with its place (`at`)."""
    rows = [rows_.row(Found(one.run.path or Path(), one.run)) for one in series]
    for at, (row, one) in enumerate(zip(rows, series, strict=True)):
        row |= {"at": at, "path": str(one.run.path or "")}
    return rows


def groups_of(rows: Sequence[Row], group_by: str) -> list[seeds.Group]:
    """The groups of runs, whose rows have the place of each (`at`)."""
    by = seeds.keys_of(group_by)
    for name in by or ():
        rows_.check_field(rows, name, "--group-by")
    return seeds.groups(rows, by)


def choose_named(drawing: Drawing) -> None:
    """Choose the best of many lines, and say so in the head of the figure."""
    n_lines = len(drawing.groups or drawing.series)
    if n_lines <= ALL_NAMED_MAX:
        return
    what, scores = _scores(drawing)
    if drawing.groups:
        members = [[row["at"] for row in group.rows] for group in drawing.groups]
        scores = np.array([_mean(scores[at]) for at in members])
    order = np.argsort(scores, kind="stable")  # NaN is last
    drawing.named = [int(i) for i in order[:BEST_NAMED]]
    of = "groups" if drawing.groups else "runs"
    how = f"best by {what}" if what else "first"
    drawing.notes.append(f"{BEST_NAMED} of {n_lines:,} {of} named, the {how}")


def _scores(drawing: Drawing) -> tuple[str, np.ndarray[Any, np.dtype[np.float64]]]:
    """What runs are compared by, and a number for each run, the least of the best one.

    NaN where it is unknown; nothing to compare by if it is not known which values are better.
    """
    names = [*drawing.view.metrics, *drawing.view.right]
    if not names:
        for what, key in (("validation loss", "val_loss"), ("training loss", "loss")):
            columns = [
                (s.evals if key == "val_loss" else s.iterations)[key] for s in drawing.series
            ]
            scores = np.array([np.min(y[np.isfinite(y)], initial=np.inf) for y in columns])
            if np.isfinite(scores).any():
                return what, np.where(np.isfinite(scores), scores, np.nan)
        return "", np.full(len(drawing.series), np.nan)
    found = [next(iter(s.run.series(*names).values()), None) for s in drawing.series]
    known = [one for one in found if one is not None and one.goal is not None]
    if not known:
        return "", np.full(len(drawing.series), np.nan)
    name, sign = known[0].name, -1 if known[0].goal == "maximize" else 1
    bests = [None if one is None or one.name != name else one.best for one in found]
    return clean(name), np.array([np.nan if best is None else sign * best for best in bests])


def _mean(scores: Any) -> float:
    known = scores[np.isfinite(scores)]
    return float(known.mean()) if len(known) else np.nan


def facts(drawing: Drawing) -> list[str]:
    """What the lines are, and in which settings the runs differ."""
    if drawing.groups:
        keys = dict.fromkeys(k.removeprefix("config.") for g in drawing.groups for k in g.settings)
        equal = ", ".join(keys) or "settings"
        return [f"mean of runs with equal {equal}", *BANDS.get(drawing.band, ())]
    rows = rows_of(drawing.series)
    settings = [seeds.settings_of(row) for row in rows]
    names = seeds.shortest(different(settings))
    return [f"different: {first_of(names, N_DIFFERENT)}" if names else "equal configurations"]


def draw(figure: Figure, drawing: Drawing, *, width_in: float) -> int:
    """Draw a legend of all runs below the panels; returns its number of rows."""
    theme = drawing.theme
    is_marked = drawing.kind in ("compare", "eval")
    names, bests = _names(drawing), [""] * len(drawing.series)
    if is_marked:
        bests = [_best(s) for s in drawing.series]
    shown = range(len(names)) if drawing.named is None else drawing.named
    labels = [fit(names[i], NAME_IN, LEGEND_SIZE) + bests[i] for i in shown]
    handles = [
        Line2D([], [], color=drawing.colour(i), lw=1.8, ms=4.5,
               ls=drawing.dashes(i) if drawing.are_runs_dashed else "-",
               marker=drawing.marker(i) if is_marked else None)
        for i in shown
    ]  # fmt: skip
    if n_more := len(names) - len(labels):
        labels.append(f"{n_more:,} more")
        handles.append(Line2D([], [], color=theme.pale, lw=1.8))
    labels += drawing.keys
    handles += drawing.keys.values()
    n_across = columns(labels, width_in)
    figure.legend(handles, labels, loc="outside lower left", ncols=n_across, labelcolor=theme.ink)
    return -(-len(labels) // n_across)


def _names(drawing: Drawing) -> list[str]:
    """A name for each line."""
    if not drawing.groups:
        return drawing.labels
    named = [(clean(group.name), len(group.rows)) for group in drawing.groups]
    return [f"{name} ({n} run{'' if n == 1 else 's'})" for name, n in named]


def _best(series: Series) -> str:
    losses = series.evals["val_loss"]
    return f", best {np.nanmin(losses):.4f}" if np.isfinite(losses).any() else ""
