"""Series as a person writes them in flags: `val/acc`, `train/*`, `train/loss:min`, `val/acc@1000`.

    NAME         its last value, or what the run defined for it (`summary`)
    NAME:STAT    last, first, min, max, best, mean or count
    NAME@STEP    its value at STEP: the latest at or before it; none if the series ends before STEP

A series that has exactly the name written is that series, so `a:min` may be a name too. NAME may
have wildcards, and may be `TABLE/COLUMN` (`iterations/loss`).

    source = Source(found)              # of runs.glance: loads the whole run only if it has to
    source.values("val/*:max")          # {"val/acc:max": 0.93, "val/f1:max": 0.88}
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import eventlog

from . import runs
from .axis import AXES
from .runs import Found, Refusal

Goal = Literal["minimize", "maximize"]
IN_SUMMARY = ("last", "min", "max", "best", "count")
STATS = (*IN_SUMMARY, "first", "mean")
_FILES_MAX = 50  # that are read for such names
_ASKED = re.compile(rf"(?s)(?P<name>.+?)(?::(?P<stat>{'|'.join(STATS)})|@(?P<step>-?\d{{1,18}}))")
_WILD = frozenset("*?[")


def unit_of(one: eventlog.Series, metadata: Mapping[str, Any]) -> str:
    """The unit that the run with this metadata defined for a series; empty: none is known.

    The losses of iterations and evaluations are in nats per token where the run counts tokens, as
    our trainer does.
    """
    if unit := one.definition.get("unit"):
        return str(unit)
    is_loss = one.table in ("iterations", "evals") and one.column in eventlog.LOSSES
    return "nats per token" if is_loss and metadata.get("tokens_per_iter") else ""


@dataclass(frozen=True)
class Asked:
    """A name or pattern, and which of its values; `suffix` is that as it was written."""

    name: str
    stat: str | None = None
    step: int | None = None
    suffix: str = ""


def readings(text: str) -> list[Asked]:
    """What `text` may mean: a name as it stands, then a name with a statistic or a step."""
    found = _ASKED.fullmatch(text)
    if found is None:
        return [Asked(text)]
    step = None if found["step"] is None else int(found["step"])
    return [Asked(text), Asked(found["name"], found["stat"], step, text[len(found["name"]) :])]


def is_wild(text: str) -> bool:
    return not _WILD.isdisjoint(text)


def matches(label: str, text: str) -> bool:
    """Whether `text` asks for the value that `Source.values` called `label`."""
    return label == text or (is_wild(text) and fnmatchcase(label, text))


class Source:
    """The series of one run, from the summaries of its metrics where these are enough."""

    def __init__(self, found: Found) -> None:
        self._found = found
        self._columns: dict[str, tuple[list[int], list[Any]]] = {}
        self._every: dict[str, eventlog.Series] | None = None

    @property
    def run(self) -> eventlog.Run:
        """The run as loaded so far."""
        assert self._found.run is not None
        return self._found.run

    @property
    def is_known(self) -> bool:
        """Whether all series are known without reading the whole run."""
        found = self._found
        return found.run is None or found.is_whole or _has_metrics_alone(found.run)

    def series(self, *patterns: str) -> dict[str, eventlog.Series]:
        """As `Run.series`, but of `system` nothing if the journal is not there."""
        if self._found.run is None:
            return {}
        try:
            series = self._logged(patterns)
            is_complete = bool(series) and bool(patterns) and not any(map(is_wild, patterns))
            if self._found.is_whole or is_complete or _has_metrics_alone(self.run):
                return series
            return self._whole().series(*patterns)
        except OSError:
            return {}

    def _logged(self, patterns: Sequence[str]) -> dict[str, eventlog.Series]:
        """As `Run.series`; names are looked up in what was computed for the first of them."""
        if not patterns or any(is_wild(p) or p.startswith("system/") for p in patterns):
            return self.run.series(*patterns)
        if self._every is None:
            self._every = self.run.series()
        every = self._every
        full = {f"{one.table}/{one.column}" for one in every.values()} - every.keys()
        if not full.isdisjoint(patterns):
            return self.run.series(*patterns)
        return {name: every[name] for name in patterns if name in every}

    def metrics(self) -> list[eventlog.Series]:
        """Those of the metrics, for which no rows are read."""
        named = self._found.run.series() if self._found.run is not None else {}
        return [one for one in named.values() if one.table == "metrics"]

    def _whole(self) -> eventlog.Run:
        if not self._found.is_whole:
            loaded = runs.load_at(self._found.path)
            if loaded.run is not None:  # else it was deleted meanwhile
                self._found, self._every = loaded, None
        return self.run

    def points(self, one: eventlog.Series) -> tuple[list[int], list[Any]]:
        """The numbers on the axis of a series, and its values there."""
        if one.name not in self._columns:
            self._read([one])
        return self._columns[one.name]

    def _read(self, series: Sequence[eventlog.Series]) -> None:
        """Read the points of several series at once: for each alone all rows would be read."""
        missing = [one for one in series if one.name not in self._columns]
        self._columns |= points(self._whole(), missing) if missing else {}

    def find(self, text: str) -> tuple[Asked, dict[str, eventlog.Series]]:
        """What `text` asks for in this run, and the series that it names, if there are any."""
        found = [(asked, self.series(asked.name)) for asked in readings(text)]
        # In `*:min` the wildcard is in the name; `train/loss:min` may be a series that it matches.
        exact = [(asked, named) for asked, named in found if asked.name in named]
        return next((pair for pair in exact or found[::-1] if pair[1]), found[0])

    def values(self, text: str) -> dict[str, Any]:
        """The values that `text` asks for; each by the name of its series and what was asked."""
        asked, named = self.find(text)
        self._read([one for one in named.values() if _stat_of(one, asked) not in IN_SUMMARY])
        wild = is_wild(asked.name) and asked.name not in named
        return {
            (name if wild else asked.name) + asked.suffix: self.value(one, asked)
            for name, one in named.items()
        }

    def value(self, one: eventlog.Series, asked: Asked) -> Any:
        """One value of a series."""
        stat = _stat_of(one, asked)
        if asked.step is not None:
            return self.at(one, asked.step)
        if stat in IN_SUMMARY:
            return getattr(one, stat)
        values = self.points(one)[1]
        if stat == "first":
            return values[0] if values else None
        numbers = [v for v in values if type(v) in (int, float)]
        if not numbers:
            return None
        is_finite = all(map(math.isfinite, numbers))
        return math.fsum(n / len(numbers) for n in numbers) if is_finite else math.nan

    def at(self, one: eventlog.Series, step: int) -> Any:
        """The value at `step` or the latest before it; None if the series ends before."""
        steps, values = self.points(one)
        before = [value for at, value in zip(steps, values, strict=True) if at <= step]
        return before[-1] if before and steps[-1] >= step else None


def _stat_of(one: eventlog.Series, asked: Asked) -> str | None:
    """The statistic of a series that is asked for; None: its value at a step."""
    if asked.step is not None:
        return None
    return asked.stat or defined_stat(one)


def defined_stat(one: eventlog.Series) -> str:
    """The first statistic that the run defined as `summary` of a series of numbers; else `last`."""
    summary = one.definition.get("summary")
    stats = summary if isinstance(summary, list) else [summary]
    return next((stat for stat in stats if stat in STATS and one.is_numeric), "last")


def points(
    run: eventlog.Run, series: Sequence[eventlog.Series]
) -> dict[str, tuple[list[int], list[Any]]]:
    """The points of several series by name, with one pass over each table."""
    found: dict[str, tuple[list[int], list[Any]]] = {one.name: ([], []) for one in series}
    for table in dict.fromkeys(one.table for one in series):
        axis = "step" if table == "metrics" else "iter"
        columns = [(one.column, *found[one.name]) for one in series if one.table == table]
        for row in run.rows(table):
            for column, steps, values in columns:
                value = row.get(column)
                if value is not None and not (column == "mfu" and value == eventlog.MFU_UNKNOWN):
                    steps.append(row[axis])
                    values.append(value)
    return found


def axis_of(one: eventlog.Series, named: Mapping[str, eventlog.Series]) -> str:
    """The x axis that the run defined for a series: `iter`, or the name of another of `named`.

    A series that is called like an axis has its table before its name (`metrics/iter`).
    """
    axis = None if one.step_metric is None else named.get(one.step_metric)
    if axis is None or axis.min is None:
        return "iter"
    return f"{axis.table}/{axis.column}" if axis.name in (*AXES, "step") else axis.name


def plain(axis: str) -> str:
    """The name of an axis as it was logged."""
    table, _, name = axis.partition("/")
    return name if table == "metrics" and name in (*AXES, "step") else axis


def direction(text: str) -> tuple[str, Goal | None]:
    """A name without its leading sign, and what the sign says: `-` more is better, `+` less is."""
    if text[:1] in ("-", "+") and len(text) > 1:
        return text[1:], "maximize" if text[0] == "-" else "minimize"
    return text, None


def best(one: eventlog.Series, goal: Goal | None) -> tuple[float | None, int | None]:
    """The best value and its step; None where it is not known which way is better."""
    goal = goal or one.goal
    if goal is None:
        return None, None
    return (one.max, one.max_step) if goal == "maximize" else (one.min, one.min_step)


def unknown(flag: str, name: str, known: Iterable[str]) -> Refusal:
    """An error for a series that no run has, with names like it."""
    hint = eventlog.did_you_mean(eventlog.similar(name, known), "See: runs show RUN")
    return Refusal(f"{flag}: unknown series {name[:200]!r}.{hint}")


def names_in(paths: Iterable[str | Path]) -> list[str]:
    """The names of the series of the first runs, for an error message."""
    names: dict[str, None] = {}
    for path in islice(paths, _FILES_MAX):
        found = runs.load_at(Path(path))
        if found.run is not None:
            names |= dict.fromkeys(found.run.series())
        if len(names) >= eventlog.NEAR_MAX:
            break
    return [*names]


def exact(value: Any) -> Any:
    """A value for a table or CSV: a number that is not finite is its name."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def with_marks(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Fields for JSON, which has null for a number that is not finite: its name is beside them."""
    marks = {key: str(v) for key, v in fields.items() if exact(v) is not v}
    return {**fields, **({"nonfinite": marks} if marks else {})}


def summary(one: eventlog.Series) -> dict[str, Any]:
    """What JSON says of a series; a last value that is not finite is null and named beside it."""
    fields: dict[str, Any] = {
        "table": one.table, "count": one.count, "last": one.last, "last_step": one.last_step,
        "min": one.min, "min_step": one.min_step, "max": one.max, "max_step": one.max_step,
        "n_nonfinite": one.n_nonfinite, "n_superseded": one.n_superseded, "goal": one.goal,
    }  # fmt: skip
    if one.ends_nonfinite:
        fields |= {"last": None, "nonfinite": {"last": str(one.last)}}
    return fields | ({"definition": dict(one.definition)} if one.definition else {})


def _has_metrics_alone(run: eventlog.Run) -> bool:
    """Whether the summaries of its metrics are all of its series, by the ends of its run JSON."""
    metrics = run.journal.get("metrics")
    names = metrics.get("names") if isinstance(metrics, dict) else None
    counted = ("total_iterations", "total_eval_steps", "total_checkpoints")
    return (
        isinstance(names, dict)
        and bool(names)
        and all(isinstance(of, dict) and "count" in of for of in names.values())
        and not any(run.summary.get(key) for key in counted)
    )
