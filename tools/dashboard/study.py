"""A group of runs as a study: its parameters with their importances, and its ranked trials.

rows = members(folders.rows(), "metadata.group", "lr")
answer = study(rows)
"""

import contextlib
import math
import os
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import orjson

import eventlog

from ..core import rows as rows_
from ..core.importance import Importance
from ..core.rows import Row
from ..core.runs import LARGE_BYTES, STUDY
from ..tuning.metric import Metric
from .parameters import Parameter, Point, as_number, importances_or_why, parameters_of

METRICS = (
    Metric("best_val_loss"), Metric("final_loss"), Metric("avg_time_ms"), Metric("avg_mfu", True),
)  # fmt: skip
"""Results that every row has; a study may have another objective."""
RUNS_MAX = 1_000  # the newest
PARAMETERS_MAX = 20  # axes
IMPORTANCES_MAX = 100


def members(rows: Sequence[Row], by: str, of: str) -> list[Row]:
    """The runs whose field `by` is `of`, as text or as JSON; all if `by` is empty."""
    readable = [row for row in rows if row["status"] != "unreadable"]
    if not by:
        return readable
    expected: Any = of
    with contextlib.suppress(orjson.JSONDecodeError):
        expected = orjson.loads(of)
    values = [(row, rows_.value(row, by)) for row in readable]
    return [row for row, value in values if value == of or _is_equal(value, expected)]


def _is_equal(value: Any, expected: Any) -> bool:
    """Whether two JSON values are equal; in Python True equals 1."""
    return isinstance(value, bool) == isinstance(expected, bool) and bool(value == expected)


def study(rows: Sequence[Row], name: str = "", objective: Metric | None = None) -> dict[str, Any]:
    """The JSON of a group for the page. The best trial comes first.

    Args:
        name: the metric to rank by; an unknown one means the objective
        objective: that of the study; without it the first of `METRICS`
    """
    metrics = {m.name: m for m in (*((objective,) if objective else ()), *METRICS)}
    metric = metrics.get(name) or next(iter(metrics.values()))
    newest = sorted(rows, key=lambda row: str(row["started"] or ""), reverse=True)[:RUNS_MAX]
    oldest_first = newest[::-1]
    every_parameter = parameters_of(oldest_first)
    results = [_result(row, metric) for row in oldest_first]
    varied = tuple(p for p in every_parameter if p.is_varied and p.may_matter)[:IMPORTANCES_MAX]
    points = _points(oldest_first, results, varied)
    found, why = importances_or_why(varied, points)
    parameters = _axes(every_parameter, found)
    trials = [
        _trial(row, number, parameters, result)
        for number, (row, result) in enumerate(zip(oldest_first, results, strict=True))
    ]
    trials.sort(key=lambda trial: _rank(trial, metric.maximize))
    values = [trial["value"] for trial in trials if trial["value"] is not None]
    low, high = metric.limits(values) if values else (None, None)
    return {
        "metric": {"name": metric.name, "maximize": metric.maximize, "low": low, "high": high},
        "metrics": list(metrics),
        "parameters": [p.as_json() for p in parameters],
        "importances": [{"name": name} | one.as_json() for name, one in found.items()],
        "trials": trials,
        "best": trials[0]["id"] if points else None,
        "why": why,
        "n_runs": len(rows),
        "not_shown": [p.name for p in every_parameter if p not in parameters],
    }


def _axes(every: Sequence[Parameter], found: Mapping[str, Importance]) -> list[Parameter]:
    """The parameters to draw, in their order: of too many those that matter most."""
    if len(every) <= PARAMETERS_MAX:
        return list(every)
    order = sorted(
        every,
        key=lambda p: (not p.may_matter, -found[p.name].share if p.name in found else 0.0),
    )
    chosen = {p.name for p in order[:PARAMETERS_MAX]}
    return [p for p in every if p.name in chosen]


# ---- trials


def _trial(
    row: Row, number: int, parameters: Sequence[Parameter], result: float | None
) -> dict[str, Any]:
    logged = rows_.value(row, "metadata.trial")
    return {
        "id": row["id"],
        "run": row["run"],
        "trial": logged if type(logged) is int else number,
        "state": _state(row),
        "value": result,
        "values": [parameter.value_of(row) for parameter in parameters],
    }


def _state(row: Row) -> str:
    """The state as `runs tune` names it, which tags the trials that it ends."""
    if row["status"] == "running":
        return "running"
    tags = row["tags"] if isinstance(row["tags"], list) else ()
    for tag in ("pruned", "failed"):
        if tag in tags:
            return tag
    return "complete" if row["status"] == "completed" else str(row["status"])


def _rank(trial: dict[str, Any], maximize: bool) -> tuple[bool, bool, float, int]:
    """Completed trials from the best on, then others with a result, then the rest."""
    value = trial["value"]
    size = math.inf if value is None else -value if maximize else value
    return trial["state"] != "complete" or value is None, value is None, size, trial["trial"]


def _points(
    rows: Sequence[Row], results: Sequence[float | None], parameters: Sequence[Parameter]
) -> tuple[Point, ...]:
    """The completed trials that have a result."""
    return tuple(
        (tuple((p.name, v) for p in parameters if (v := p.value_of(row)) is not None), result)
        for row, result in zip(rows, results, strict=True)
        if result is not None and _state(row) == "complete"
    )


def as_points(
    rows: Sequence[Row], result: str, parameters: Sequence[Parameter]
) -> tuple[Point, ...]:
    """The completed runs that have a result, which is a field of each row."""
    return _points(rows, [as_number(row[result]) for row in rows], parameters)


# ---- the objective and its value


def objective_of(rows: Sequence[Row], is_served: Callable[[Path], bool]) -> Metric | None:
    """The objective of a study of `runs tune`.

    None if the runs are not such a study, or its journal is not in a folder that is served.
    """
    paths = {Path(row["path"]).parent.parent / STUDY for row in rows if row["metadata"]}
    if len(paths) != 1:
        return None
    (path,) = paths
    try:
        if not path.is_file() or not is_served(path):
            return None
        opened = next((r for r in eventlog.scan(path) if r.event == "open"), None)
    except (eventlog.EventlogError, OSError):
        return None
    config = opened.fields.get("config") if opened else None
    match config:
        case {"metric": str(name), "maximize": bool(maximize)}:
            return Metric(name, maximize)
    return None


def _result(row: Row, metric: Metric) -> float | None:
    """A run's value of the metric; None if unknown, or if its file is too large to read for it."""
    if metric.name in row:
        return as_number(row[metric.name])
    try:
        stat = os.stat(row["path"])
        if stat.st_size > LARGE_BYTES:
            return None
        values = _evals(row["path"], stat.st_mtime_ns, stat.st_size, metric.field)
    except (eventlog.EventlogError, OSError):
        return None
    return as_number(metric.of(list(values)))


@lru_cache(maxsize=4 * RUNS_MAX)
def _evals(path: str, _mtime_ns: int, _size_bytes: int, field: str) -> tuple[float, ...]:
    """A field of each evaluation. Read again when the file has changed."""
    values = (as_number(event.get(field)) for event in eventlog.load_run(path).eval_steps)
    return tuple(value for value in values if value is not None)
