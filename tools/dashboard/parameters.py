"""The parameters of a study: the settings that vary between its runs, and how much each matters.

They are those that `runs tune` chose for its trials, else the settings in which the runs differ:
any group of runs is a study.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from ..core.importance import RUNS_MIN, Importance, importances
from ..core.rows import Row
from ..core.runs import Refusal
from ..core.seeds import is_bookkeeping, is_seed

CHOICES_MAX = 30  # of a categorical parameter; text with more values is not a choice
NUMBER_MAX = 1e150  # the distance between two such numbers is still finite
LOG_MIN = 8  # least ratio of the ends of a log axis; below it linear looks the same
CHOSEN = "params."  # what `runs tune` puts before the names of a trial's parameters


Point = tuple[tuple[tuple[str, float | str], ...], float]
"""The parameters of a completed trial by name, and its result."""


@dataclass(frozen=True)
class Parameter:
    """An axis: numbers from `low` to `high`, or one of some choices."""

    name: str
    kind: Literal["linear", "log", "categorical"]
    low: float = 0.0
    high: float = 0.0
    is_whole: bool = False
    choices: tuple[str, ...] = ()

    @property
    def is_varied(self) -> bool:
        return self.low < self.high or len(self.choices) > 1

    @property
    def may_matter(self) -> bool:
        """Whether it changes what is trained: seeds, folders, intervals of logging do not."""
        return not is_seed(self.name) and not is_bookkeeping(self.name)

    def value_of(self, row: Row) -> float | str | None:
        """A run's value on this axis; None if it has no place there."""
        value = setting(row, self.name)
        if value is None:
            return None
        return as_text(value) if self.kind == "categorical" else as_number(value)

    def as_json(self) -> dict[str, Any]:
        axis: dict[str, Any] = {"name": self.name, "kind": self.kind}
        if self.kind == "categorical":
            return axis | {"choices": self.choices}
        return axis | {"low": self.low, "high": self.high, "whole": self.is_whole}


def parameters_of(rows: Sequence[Row]) -> list[Parameter]:
    """The parameters that were chosen for the runs, or in which they differ, in their order."""
    chosen = {key: None for row in rows for key in row["metadata"] or () if key.startswith(CHOSEN)}
    if chosen:
        names = [key.removeprefix(CHOSEN) for key in chosen]
    else:
        names = list(dict.fromkeys(key for row in rows for key in row["config"] or ()))
    parameters = []
    for name in names:
        values = [setting(row, name) for row in rows]
        if len({as_text(v) for v in values}) > 1 or (chosen and len(rows) == 1):
            parameter = _parameter(name, values)
            if chosen or not _is_identifier(parameter, values):
                parameters.append(parameter)
    return parameters


def setting(row: Row, name: str) -> Any:
    """A parameter that was chosen for a run, else its setting of that name."""
    metadata, config = row["metadata"] or {}, row["config"] or {}
    value = metadata.get(CHOSEN + name)
    return config.get(name) if value is None else value


def _parameter(name: str, all_values: Sequence[Any]) -> Parameter:
    """The axis on which these values are spread most evenly."""
    values = [value for value in all_values if value is not None]
    numbers = sorted(n for n in map(as_number, values) if n is not None)
    if len(numbers) < len(values) or not numbers:
        choices = sorted({as_text(value) for value in values}, key=_choice_order)
        return Parameter(name, "categorical", choices=tuple(choices))
    low, high = numbers[0], numbers[-1]
    is_log = low > 0 and high / low >= LOG_MIN and _is_even_by_log(sorted({*numbers}))
    is_whole = all(type(value) is int for value in values) and abs(low) + abs(high) < 1 << 53
    return Parameter(name, "log" if is_log else "linear", low, high, is_whole)


def _is_even_by_log(numbers: Sequence[float]) -> bool:
    """Whether the mean of the numbers is nearer to the middle of a log axis than of a linear."""
    low, high = numbers[0], numbers[-1]
    linear = sum((n - low) / (high - low) for n in numbers) / len(numbers)
    log = sum(math.log(n / low) for n in numbers) / math.log(high / low) / len(numbers)
    return abs(log - 0.5) < abs(linear - 0.5)


def _is_identifier(parameter: Parameter, values: Sequence[Any]) -> bool:
    """Whether nearly every run has a different text, such as its folder: that is not a choice."""
    n = len(parameter.choices)
    return n > CHOICES_MAX or (n > 2 and n == len(values))


def as_number(value: Any) -> float | None:
    """A value as a number on an axis; None if it is not one; true and false are not."""
    if type(value) not in (int, float) or not abs(value) < NUMBER_MAX:
        return None
    return float(value)


def as_text(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "–"}[value]
    try:
        return str(value)
    except ValueError:  # an integer of more than 4,300 digits
        return "a number of many digits"


def _choice_order(text: str) -> tuple[float, str]:
    """Numbers by their size, then other text."""
    try:
        number = float(text)
    except ValueError:
        return math.inf, text
    return (number, text) if math.isfinite(number) else (math.inf, text)


# ---- importances


def importances_or_why(
    parameters: tuple[Parameter, ...], points: tuple[Point, ...]
) -> tuple[dict[str, Importance], str]:
    """The importance of each parameter that is known, and what to know about them."""
    n = len(points)
    if not parameters:
        return {}, "The runs do not differ in any setting."
    if n < RUNS_MIN:
        runs = "1 run has" if n == 1 else f"{n} runs have"
        return {}, f"Too few runs: {runs} completed with a result, {RUNS_MIN} are needed."
    if len({value for _, value in points}) == 1:
        return {}, "All runs have the same result: no parameter made a difference."
    names = tuple(p.name for p in parameters)
    try:
        by_name = _importances(names, points)
    except Refusal as refusal:  # scipy is not installed
        return {}, str(refusal)
    if not by_name:
        return {}, f"Every parameter has too many different values for {n:,} runs."
    return by_name, (
        f"What each parameter alone explains of the differences between {n:,} runs (of their "
        f"ranks), with its 90 % confidence interval. Parameters that were changed together have "
        f"the same share."
    )


@lru_cache(maxsize=64)
def _importances(names: tuple[str, ...], points: tuple[Point, ...]) -> dict[str, Importance]:
    chosen = [dict(values) for values, _ in points]
    settings = {name: [values.get(name) for values in chosen] for name in names}
    return importances(settings, [result for _, result in points])
