"""A group of runs as a study: what was varied in it, what came of it, and which parameter matters.

    rows = members(folders.rows(), "metadata.group", "lr")
    told = study(rows)

The parameters are those that `runs tune` told its trials, else the settings in which the runs
differ: any group will do, and no store of a study is needed.
"""

import contextlib
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import orjson

import eventlog

from ..core import rows as rows_
from ..core.rows import Row
from ..core.runs import LARGE_BYTES, STUDY
from ..tuning.metric import Metric

Point = tuple[tuple[tuple[str, float | str], ...], float]
"""What a run was given, by name, and what came of it."""

FIGURES = (
    Metric("best_val_loss"), Metric("final_loss"), Metric("avg_time_ms"), Metric("avg_mfu", True),
)  # fmt: skip
"""What rows have; a study may look for something else."""
RUNS_MAX = 1_000  # the newest
PARAMETERS_MAX = 20  # more axes than anybody can follow
CHOICES_MAX = 30  # of a setting with words, or it is no choice
NUMBER_MAX = 1e150  # a distance between two such numbers is still a number
LOG_MIN = 8  # times the least that the greatest is, or both axes look the same
COMPLETE_MIN = 4  # runs; of fewer the best one alone would say what matters
FAR = 3.0  # a figure so many times further from the best than most are would press them to a line
TOLD = "params."  # how a trial's metadata have what `runs tune` chose


@dataclass(frozen=True)
class Parameter:
    """An axis: numbers from `low` to `high`, or one of some words."""

    name: str
    kind: Literal["linear", "log", "words"]
    low: float = 0.0
    high: float = 0.0
    is_whole: bool = False
    choices: tuple[str, ...] = ()

    @property
    def is_varied(self) -> bool:
        return self.low < self.high or len(self.choices) > 1

    def of(self, value: Any) -> float | str | None:
        """A setting's value as it stands on this axis; None where it has no place there."""
        if value is None:
            return None
        return _words(value) if self.kind == "words" else _number(value)


def members(rows: Sequence[Row], by: str, of: str) -> list[Row]:
    """The runs whose field `by` is `of`, as text or as JSON; all where `by` is empty."""
    readable = [row for row in rows if row["status"] != "unreadable"]
    if not by:
        return readable
    wanted: Any = of
    with contextlib.suppress(orjson.JSONDecodeError):
        wanted = orjson.loads(of)
    values = [(row, rows_.value(row, by)) for row in readable]
    return [row for row, value in values if value == of or _is_same(value, wanted)]


def study(rows: Sequence[Row], figure: str = "", metric: Metric | None = None) -> dict[str, Any]:
    """All that the page shows of a group, as JSON; trials are ranked, the best one first.

    `metric`: what `runs tune` looked for. Asked for no figure, or none that there is, it is that.
    """
    figures = {m.name: m for m in (*((metric,) if metric else ()), *FIGURES)}
    asked = figures.get(figure) or next(iter(figures.values()))
    maximize = asked.maximize
    taken = sorted(rows, key=lambda row: str(row["started"] or ""), reverse=True)[:RUNS_MAX]
    taken.reverse()
    parameters = _parameters(taken)
    shown = parameters[:PARAMETERS_MAX]
    trials = [_trial(row, nth, shown, _figure(row, asked)) for nth, row in enumerate(taken)]
    trials.sort(key=lambda t: _rank(t, maximize))
    points = tuple(
        (tuple((n, v) for n, v in given.items() if v is not None), trial["value"])
        for trial in trials
        if trial["state"] == "complete" and trial["value"] is not None
        for given in [dict(zip((p.name for p in shown), trial["values"], strict=True))]
    )
    shares, why = _shares(tuple(p for p in shown if p.is_varied), points, maximize)
    return {
        "figure": {"name": asked.name, "maximize": maximize, **_limits(trials, maximize)},
        "figures": list(figures),
        "parameters": [_told(p) | {"importance": shares.get(p.name)} for p in shown],
        "trials": trials,
        "best": trials[0]["id"] if points else None,
        "why": why,
        "n_runs": len(rows),
        "not_shown": [p.name for p in parameters[PARAMETERS_MAX:]],
    }


def _is_same(value: Any, wanted: Any) -> bool:
    """To Python 1 is True."""
    return isinstance(value, bool) == isinstance(wanted, bool) and bool(value == wanted)


def _trial(
    row: Row, nth: int, parameters: Sequence[Parameter], value: float | None
) -> dict[str, Any]:
    number = rows_.value(row, "metadata.trial")
    return {
        "id": row["id"],
        "run": row["run"],
        "trial": number if type(number) is int else nth,
        "state": _state(row),
        "value": value,
        "values": [p.of(_setting(row, p.name)) for p in parameters],
    }


def _state(row: Row) -> str:
    """As `runs tune` has it, which tags what it has ended."""
    if row["status"] == "running":
        return "running"
    tags = row["tags"] if isinstance(row["tags"], list) else ()
    for tag in ("pruned", "failed"):
        if tag in tags:
            return tag
    return "complete" if row["status"] == "completed" else str(row["status"])


def _rank(trial: dict[str, Any], maximize: bool) -> tuple[bool, bool, float, int]:
    """Complete ones from the best on, then what else has a figure, then the others."""
    value = trial["value"]
    size = math.inf if value is None else -value if maximize else value
    return trial["state"] != "complete" or value is None, value is None, size, trial["trial"]


def _limits(trials: Sequence[dict[str, Any]], maximize: bool) -> dict[str, float | None]:
    """From the best to the worst that is not out of all proportion."""
    sign = -1.0 if maximize else 1.0
    sizes = sorted(sign * t["value"] for t in trials if t["value"] is not None)
    if not sizes:
        return {"low": None, "high": None}
    best, most = sizes[0], sizes[(3 * len(sizes)) // 4 - (len(sizes) > 1)]
    worst = min(sizes[-1], best + FAR * (most - best)) if most > best else sizes[-1]
    low, high = sorted((sign * best, sign * worst))
    return {"low": low, "high": high}


# ---- what was looked for


def metric_of(rows: Sequence[Row], is_ours: Callable[[Path], bool]) -> Metric | None:
    """What `runs tune` was told to look for; None where it was no study, or `is_ours` its store."""
    paths = {Path(row["path"]).parent.parent / STUDY for row in rows if row["metadata"]}
    if len(paths) != 1:
        return None
    (path,) = paths
    try:
        if not path.is_file() or not is_ours(path):
            return None
        opened = next((r for r in eventlog.scan(path) if r.event == "open"), None)
    except (eventlog.EventlogError, OSError):
        return None
    config = opened.fields.get("config") if opened else None
    match config:
        case {"metric": str(name), "maximize": bool(maximize)}:
            return Metric(name, maximize)
    return None


def _figure(row: Row, metric: Metric) -> float | None:
    if metric.name in row:
        return _number(row[metric.name])
    try:
        told = os.stat(row["path"])
        if told.st_size > LARGE_BYTES:
            return None
        values = _evals(row["path"], told.st_mtime_ns, told.st_size, metric.field)
    except (eventlog.EventlogError, OSError):
        return None
    return _number(metric.of(list(values)))


@lru_cache(maxsize=4 * RUNS_MAX)
def _evals(path: str, _changed_ns: int, _size_bytes: int, field: str) -> tuple[float, ...]:
    """A figure of each evaluation, read anew when the file has changed."""
    found = (_number(told.get(field)) for told in eventlog.load_run(path).eval_steps)
    return tuple(value for value in found if value is not None)


# ---- parameters


def _parameters(rows: Sequence[Row]) -> list[Parameter]:
    """What was chosen for the runs, or in what they differ, in the order of their settings."""
    told = {key: None for row in rows for key in row["metadata"] or () if key.startswith(TOLD)}
    if told:
        names = [key.removeprefix(TOLD) for key in told]
    else:
        names = list(dict.fromkeys(key for row in rows for key in row["config"] or ()))
    found = []
    for name in names:
        values = [_setting(row, name) for row in rows]
        if len({_words(v) for v in values}) > 1 or (told and len(rows) == 1):
            parameter = _parameter(name, values)
            if told or not _is_name(parameter, values):
                found.append(parameter)
    return found


def _setting(row: Row, name: str) -> Any:
    metadata, config = row["metadata"] or {}, row["config"] or {}
    value = metadata.get(TOLD + name)
    return config.get(name) if value is None else value


def _parameter(name: str, values: Sequence[Any]) -> Parameter:
    """The axis on which these values are spread most evenly."""
    given = [value for value in values if value is not None]
    numbers = sorted(n for n in map(_number, given) if n is not None)
    if len(numbers) < len(given) or not numbers:
        choices = sorted({_words(value) for value in given}, key=_order)
        return Parameter(name, "words", choices=tuple(choices))
    low, high = numbers[0], numbers[-1]
    is_log = low > 0 and high / low >= LOG_MIN and _is_even_by_log(sorted({*numbers}))
    is_whole = all(type(value) is int for value in given) and abs(low) + abs(high) < 1 << 53
    return Parameter(name, "log" if is_log else "linear", low, high, is_whole)


def _is_even_by_log(numbers: Sequence[float]) -> bool:
    """Whether the middle of these is nearer to the middle of a log axis than of a linear one."""
    low, high = numbers[0], numbers[-1]
    linear = sum((n - low) / (high - low) for n in numbers) / len(numbers)
    log = sum(math.log(n / low) for n in numbers) / math.log(high / low) / len(numbers)
    return abs(log - 0.5) < abs(linear - 0.5)


def _is_name(parameter: Parameter, values: Sequence[Any]) -> bool:
    """Whether words are a run's own, as its folder is, and nothing that was chosen among."""
    n = len(parameter.choices)
    return n > CHOICES_MAX or (n > 2 and n == len(values))


def _told(parameter: Parameter) -> dict[str, Any]:
    if parameter.kind == "words":
        return {"name": parameter.name, "kind": "words", "choices": parameter.choices}
    ends = {"low": parameter.low, "high": parameter.high}
    return {"name": parameter.name, "kind": parameter.kind, **ends, "whole": parameter.is_whole}


def _number(value: Any) -> float | None:
    """A value that has a place on an axis of numbers; true and false have none."""
    if type(value) not in (int, float) or not abs(value) < NUMBER_MAX:
        return None
    return float(value)


def _words(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "–"}[value]
    try:
        return str(value)
    except ValueError:  # an integer of 5,000 digits
        return "a number of many digits"


def _order(words: str) -> tuple[float, str]:
    """Numbers by their size, before words."""
    try:
        number = float(words)
    except ValueError:
        return math.inf, words
    return (number, words) if math.isfinite(number) else (math.inf, words)


# ---- importance


def _shares(
    parameters: tuple[Parameter, ...], points: tuple[Point, ...], maximize: bool
) -> tuple[dict[str, float], str]:
    """Each parameter's share in what makes runs good, or why that cannot be told."""
    n = len(points)
    if not parameters:
        return {}, "The runs do not differ in any setting."
    if n < COMPLETE_MIN:
        runs = "1 run has" if n == 1 else f"{n} runs have"
        return {}, f"Too few runs to tell: {runs} completed, {COMPLETE_MIN} are needed."
    if len({value for _, value in points}) == 1:
        return {}, "All runs came to the same: nothing made a difference."
    try:
        shares = importances(parameters, points, maximize)
    except ImportError:
        return {}, "To tell what matters Optuna is needed: pip install optuna"
    except (ValueError, ArithmeticError, RuntimeError) as error:
        return {}, f"Optuna cannot tell from these values: {error}"
    return shares, ""


@lru_cache(maxsize=64)
def importances(
    parameters: tuple[Parameter, ...], points: tuple[Point, ...], maximize: bool
) -> dict[str, float]:
    """PED-ANOVA's importances, as Optuna computes them: shares of 1.

    Raises:
        ImportError: Optuna is not installed.
    """
    import optuna

    from ..tuning import importance

    distributions = {parameter.name: _distribution(parameter) for parameter in parameters}
    made = optuna.create_study(direction="maximize" if maximize else "minimize")
    for given, value in points:
        params: dict[str, Any] = {name: v for name, v in given if name in distributions}
        made.add_trial(
            optuna.trial.create_trial(
                value=value,
                params=params,
                distributions={name: distributions[name] for name in params},
            )
        )
    return importance.importances(made)


def _distribution(parameter: Parameter) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if parameter.kind == "words":
        return CategoricalDistribution(parameter.choices)
    is_log = parameter.kind == "log"
    if parameter.is_whole:
        return IntDistribution(int(parameter.low), int(parameter.high), log=is_log)
    return FloatDistribution(parameter.low, parameter.high, log=is_log)
