"""Runs that differ in the seed alone as one line: their mean, between lines at ± std."""

from collections.abc import Sequence

import numpy as np

from ..core import seeds
from ..core.smoothing import smooth
from ..live.by_series import BY_VALUE
from ..live.folders import Folders
from ..live.means import Members, rows_of
from .braille import Line
from .chart import STYLES, Drawing
from .drawing import end_of, finish, run_at
from .view import View

ROWS_MAX = 4_000  # of each run; the mean of more is that of short ranges
RUNS_MAX = 64  # of a group


def with_picked(groups: Sequence[seeds.Group], picked: Sequence[str]) -> list[seeds.Group]:
    """The groups that have a picked run, in the order of these."""
    by_id = {row["id"]: at for at, group in enumerate(groups) for row in group.rows}
    return [groups[at] for at in dict.fromkeys(by_id[id] for id in picked if id in by_id)]


def ids_of(group: seeds.Group) -> list[str]:
    """The runs that are drawn as one line."""
    return [row["id"] for row in group.rows[:RUNS_MAX]]


def text_of(number: int, group: seeds.Group) -> str:
    """`A lr=0.001: mean of 5 runs`."""
    n, n_drawn = len(group.rows), len(ids_of(group))
    of = f"{n_drawn} of {n:,} runs" if n_drawn < n else f"{n} runs"
    return f"{chr(ord('A') + number)} {group.name}: {'1 run' if n == 1 else f'mean of {of}'}"


def drawing_of_means(
    folders: Folders,
    groups: Sequence[Sequence[str]],
    metric: str,
    view: View,
    edges: tuple[float, float],
    n_buckets: int,
    x: str,
) -> Drawing:
    """A metric by the axis `x`, a line for each group of runs; its only marks are of NaN."""
    shown = Drawing(metric, [], [], None, [], x)
    all_members = [_members(folders, ids, metric, edges, x) for ids in groups]
    for number, members in enumerate(all_members):
        if not members.curves:
            continue
        band, style = members.band(), STYLES[number]
        width = view.smoothing if members.table != "eval" else 0  # evals are few
        low, mean, high = (
            smooth(of, width) for of in (band.mean - band.std, band.mean, band.mean + band.std)
        )
        curve = rows_of(band.steps, mean).curve(
            "mean", BY_VALUE, begin=edges[0], end=edges[1], n_buckets=n_buckets
        )
        at = np.searchsorted(band.steps, curve.x)
        shown.lines += [Line(curve.x, of[at], f"dim {style}") for of in (low, high)]
        line = Line(curve.x, curve.y, style)
        shown.means.append((number, line))
        shown.ends += end_of(number, line, edges, None)
        shown.marks += [(at, "nonfinite") for c in members.curves for at, _ in c.nonfinite]
    shown.lines += [line for _, line in shown.means]
    notes = {
        of.note: None for of in all_members if not any(np.isfinite(c.y).any() for c in of.curves)
    }
    finish(shown, metric, view, edges, [of.unit for of in all_members], notes)
    return shown


def _members(
    folders: Folders, ids: Sequence[str], metric: str, edges: tuple[float, float], x: str
) -> Members:
    members = Members()
    for id in ids:
        with run_at(folders, id) as run:
            if run is not None:
                members.add(run, metric, x, edges, ROWS_MAX)
    return members
