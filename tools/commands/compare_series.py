"""`runs compare --metric`: any series of several runs side by side."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import eventlog

from ..core import runs, seeds, series
from ..core.formats import first_of, is_finite
from ..core.series import Goal, Source

Row = dict[str, Any]

COLUMNS = {
    "series": "series", "run_name": "run", "mark": "", "best": "best", "best_diff": "Δ",
    "best_step": "at", "last": "last", "last_diff": "Δ", "last_step": "at",
    "n_nonfinite": "not finite",
}  # fmt: skip
AT_COLUMNS = {
    "series": "series", "run_name": "run", "mark": "", "value": "value", "value_diff": "Δ",
    "step": "at", "best": "best until then", "best_diff": "Δ", "best_step": "at",
}  # fmt: skip
SIGNED = ("best_diff", "last_diff", "value_diff")
EXPENDABLE = ("n_nonfinite", "last_step", "last_diff", "best_step", "step")
BEST = "best"
"""What marks the best run of a series."""
SERIES_MAX = 50  # in a table; CSV and JSON have all


def compared(
    found: Sequence[runs.Found], patterns: Iterable[str], x: str = "", limit: float = 0.0
) -> list[Row]:
    """A row for each series and run that has it, series by series, with differences to the first.

    Args:
        patterns: names of series or wildcards; a leading `-`: more is better, `+`: less is.
        x, limit: the runs as they were at this `iter`, `time` (s) or number of `tokens`.

    Raises:
        Refusal: no run has a series that a pattern names; or lacks what `x` needs.
    """
    sources = [Source(f) for f in found if f.run is not None]
    goals: dict[str, Goal | None] = {}
    for pattern in patterns:
        name, forced = series.direction(pattern)
        named = [source.series(name) for source in sources]
        if not any(named):
            raise series.unknown("--metric", name, series.names_in(f.path for f in found))
        numeric = [one for ones in named for one in ones.values() if one.is_numeric]
        if not numeric:
            raise runs.Refusal(f"--metric: {name[:200]!r} has no numbers. See: runs show RUN")
        for one in numeric:
            goals[one.name] = forced or goals.get(one.name) or one.goal
    rows: list[Row] = []
    for name, goal in goals.items():
        rows += _of_series(sources, name, goal, x, limit)
    return rows


def _of_series(
    sources: Sequence[Source], name: str, goal: Goal | None, x: str, limit: float
) -> list[Row]:
    rows = []
    for source in sources:
        for one in source.series(name).values():
            row: Row = {"series": name, "run_name": source.run.name}
            row |= _at(source, one, goal, x, limit) if x else _whole(one, goal)
            rows.append(row | {"goal": goal, "path": str(source.run.path)})
    for key in ("value", "best") if x else ("best", "last"):
        _differ(rows, key)
    _mark(rows, goal)
    return rows


def _whole(one: eventlog.Series, goal: Goal | None) -> Row:
    best, best_step = series.best(one, goal)
    return {
        "count": one.count, "best": best, "best_step": best_step, "last": one.last,
        "last_step": one.last_step, "n_nonfinite": one.n_nonfinite or None,
    }  # fmt: skip


def _at(source: Source, one: eventlog.Series, goal: Goal | None, x: str, limit: float) -> Row:
    """The latest value of a series at or before a limit, and the best one until then."""
    steps, values = source.points(one)
    within = reached(source.run, steps, x, limit, after=int(one.table == "iterations"))
    points = [p for p, is_in in zip(zip(steps, values, strict=True), within, strict=True) if is_in]
    step, value = points[-1] if points else (None, None)
    pick = max if goal == "maximize" else min
    finite = [(v, at) for at, v in points if is_finite(v)]
    best, best_step = pick(finite, key=lambda p: p[0], default=(None, None))
    if goal is None:
        best = best_step = None
    return {"value": value, "step": step, "best": best, "best_step": best_step}


def reached(
    run: eventlog.Run, steps: Sequence[int], x: str, limit: float, *, after: int
) -> list[bool]:
    """Which of `steps` the run had reached at `limit`.

    `after` is 1 for an iteration, which adds time and tokens, and 0 for what is logged before it.

    Raises:
        Refusal: the run lacks what `x` needs.
    """
    if x == "iter":
        return [step <= limit for step in steps]
    if not steps:
        return []
    import numpy as np  # slow to import; the other comparisons do not need it

    from ..plot.series import Series

    try:
        places = np.array(steps, float) + after
        of = Series(run)
        at = of.training_seconds(places) if x == "time" else of.place(places, "tokens")
    except runs.Refusal:
        lacks = "a time_ms in its iterations" if x == "time" else "tokens_per_iter in its metadata"
        raise runs.Refusal(f"{run.path}: is missing {lacks}. Use: --at-iter") from None
    return [bool(place <= limit * (1 + 1e-12)) for place in at]


def _differ(rows: Sequence[Row], key: str) -> None:
    """Add to each row its difference to the first."""
    for row in rows:
        a, b = rows[0][key], row[key]
        known = row is not rows[0] and is_finite(a) and is_finite(b)
        row[f"{key}_diff"] = b - a if known else None


def _mark(rows: Sequence[Row], goal: Goal | None) -> None:
    """Mark the best of several runs; equal ones all are."""
    known = [row["best"] for row in rows if row["best"] is not None]
    best = (max if goal == "maximize" else min)(known, default=None)
    for row in rows:
        row["is_best"] = goal is not None and len(rows) > 1 and row["best"] == best is not None
        row["mark"] = BEST if row["is_best"] else ""


def best_first(rows: Sequence[Row]) -> list[Row]:
    """The rows of each series, the best first; as they are where no direction is known."""
    places = {name: at for at, name in enumerate(dict.fromkeys(row["series"] for row in rows))}

    def key(row: Row) -> tuple[int, float]:
        best = row["best"].mean if isinstance(row["best"], seeds.Stat) else row["best"]
        if not is_finite(best) or row["goal"] is None:
            return places[row["series"]], math.inf
        return places[row["series"]], -best if row["goal"] == "maximize" else best

    return sorted(rows, key=key)


def shown(rows: Sequence[Row]) -> tuple[list[Row], list[str]]:
    """The rows of a table, each series named once; and what the table leaves out."""
    names = list(dict.fromkeys(row["series"] for row in rows))
    cut = {*names[:SERIES_MAX]}
    table: list[Row] = []
    for row in (row for row in best_first(rows) if row["series"] in cut):
        again = bool(table) and table[-1]["of"] == row["series"]
        values = {key: series.exact(value) for key, value in row.items()}
        table.append(values | {"of": row["series"], "series": "" if again else row["series"]})
    parts = []
    if rows and len({row["path"] for row in rows}) > 1:
        parts.append(f"Δ: to {rows[0]['run_name']}, the run named first")
    if len(names) > SERIES_MAX:
        more = len(names) - SERIES_MAX
        parts.append(f"... and {more:,} more series: --json or --format csv has all")
    undirected = list(dict.fromkeys(row["series"] for row in rows if row["goal"] is None))
    if undirected:
        parts.append(
            f"unknown whether less or more is better of {first_of(undirected, 3)}: "
            f"--metric=-NAME (more), --metric=+NAME (less)"
        )
    return table, parts
