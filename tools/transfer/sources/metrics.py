"""The metrics of a source by step, and the events that they become."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

import eventlog
from eventlog import LOSSES, VAL_LOSSES

from ...core.formats import iso
from .source import Event, LossNames, SourceRun

Name = str | tuple[str, ...]
"""A metric's name in the source; of a nested one the names from outside to inside."""

Values = dict[Name, tuple[Any, float | None]]
"""A value by name, and the second since 1970 at which it was logged."""

RESERVED = frozenset(
    ("n", "s", "t", "event", "durable", "crc", "annotates", "nonfinite", "step", "timestamp")
)
"""Names of our own in a row: a metric with one of them gets an underscore at its end."""

EVAL_TRAIN_LOSSES = ("train/loss", "eval/train_loss", "Loss/train_eval")
ITERATION_FIELDS = ("time_ms", "mfu", "lr", "grad_norm", "tokens_per_s")
DEPTH_MAX = 20  # objects nested deeper stay as they are


def flat(values: Mapping[Any, Any], outer: tuple[str, ...] = ()) -> dict[Name, Any]:
    """Values by name; those of a nested object by the names from outside to inside."""
    named: dict[Name, Any] = {}
    for key, value in values.items():
        path = (*outer, str(key))
        if isinstance(value, dict) and value and len(path) < DEPTH_MAX:
            named |= flat(value, path)
        else:
            named[path if outer else path[0]] = value
    return named


def dotted(name: Name) -> str:
    """A name as one text: those from outside to inside with dots."""
    return name if isinstance(name, str) else ".".join(name)


def field_names(
    names: Collection[Name], reserved: Collection[str] = frozenset()
) -> dict[Name, str]:
    """Each name as one text; lengthened where that is reserved or the text of another one."""
    fields: dict[Name, str] = {n: n for n in names if isinstance(n, str) and n not in reserved}
    in_use = {*reserved, *fields.values()}
    for name in names:
        if name not in fields:
            text = dotted(name)
            while text in in_use:
                text += "_"
            in_use.add(text)
            fields[name] = text
    return fields


def is_number(value: Any) -> bool:
    """Whether it is a number in a journal, too; integers beyond 64 bits are text there."""
    return type(value) is float or (type(value) is int and -(1 << 63) <= value < 1 << 64)


class Metrics:
    """Values by step and name.

    Of several values of a name at a step the last one counts. The earlier ones become events
    before it: they are in the journal, superseded.
    """

    def __init__(self) -> None:
        self._steps: dict[int, list[Values]] = {}  # the k-th has the k-th value of each name
        self._by_name: dict[Name, set[int]] = {}
        self._not_numbers: set[Name] = set()
        self.superseded: Counter[Name] = Counter()

    def __contains__(self, name: Name) -> bool:
        return name in self._by_name

    def add(self, step: int, values: Mapping[Name, Any], time_s: float | None = None) -> None:
        """Add values of a step. One that is equal to the latest of its name changes nothing."""
        layers = self._steps.setdefault(step, [{}])
        for name, value in values.items():
            depth = 0
            if step in self._by_name.setdefault(name, set()):
                depth = next(k for k in reversed(range(len(layers))) if name in layers[k]) + 1
                if _same(layers[depth - 1][name][0], value):
                    continue
                self.superseded[name] += 1
                if depth == len(layers):
                    layers.append({})
            layers[depth][name] = value, time_s
            self._by_name[name].add(step)
            if not is_number(value):
                self._not_numbers.add(name)

    def purge(self, from_step: int) -> int:
        """Remove all values of `from_step` and later; returns how many there were."""
        steps = [step for step in self._steps if step >= from_step]
        removed = sum(len(layer) for step in steps for layer in self._steps.pop(step))
        for name, known in [*self._by_name.items()]:
            known.difference_update(steps)
            if not known:
                del self._by_name[name]
        return removed

    def into(self, run: SourceRun, loss_names: LossNames) -> None:
        """Set the events of `run`, which names were changed, and how many values are superseded."""
        tables = self._tables(loss_names)
        rest = [name for name in self._by_name if name not in tables]
        fields = {n: f for n, (_, f) in tables.items()} | field_names(rest, RESERVED)
        run.events = list(self._events(tables, fields))
        run.renamed = {dotted(n): field for n, field in fields.items() if dotted(n) != field}
        run.left_out += [
            f"{n:,} values of {dotted(name)!r}: superseded by later ones of the same step"
            for name, n in self.superseded.items()
        ]

    def _events(
        self, tables: Mapping[Name, tuple[str, str]], fields: Mapping[Name, str]
    ) -> Iterator[Event]:
        """The events by step: losses as `iter` and `eval`, all other values as `metrics`."""
        for step in sorted(self._steps):
            for kind in _ORDER:
                row: Values = {}
                for layer in self._steps[step]:
                    new = {n: v for n, v in layer.items() if _kind(n, tables) == kind}
                    row = new if kind == "metrics" else row | new
                    if new:
                        yield kind, _row(kind, step, row, fields)

    def _tables(self, loss_names: LossNames) -> dict[Name, tuple[str, str]]:
        """Kind and field of the metrics that have one in `iter` or `eval`.

        Only names of which every value is a number and fits there.
        """
        tables: dict[Name, tuple[str, str]] = {}
        numbers = {name: name for name in self._by_name if name not in self._not_numbers}
        by_text = {dotted(name): name for name in numbers} | numbers
        val_loss = _first([loss_names.val_loss] if loss_names.val_loss else VAL_LOSSES, by_text)
        usual = [name for name in LOSSES if name != val_loss]
        loss = _first([loss_names.loss] if loss_names.loss else usual, by_text)
        if val_loss is not None:
            tables[val_loss] = "eval", "val_loss"
            for name in EVAL_TRAIN_LOSSES:
                if name in numbers and name != loss and self._is_within(name, val_loss):
                    tables[name] = "eval", "train_loss"
                    break
        if loss is not None:
            tables[loss] = "iter", "loss"
            for name in ITERATION_FIELDS:
                if name in numbers and name not in tables and self._is_within(name, loss):
                    tables[name] = "iter", name
        return tables

    def _is_within(self, name: Name, other: Name) -> bool:
        """Whether `other` has a value at each step of `name`."""
        return self._by_name[name] <= self._by_name[other]


_ORDER = [
    kind.name
    for rule in ("evals", "iterations", "metrics")  # an iteration supersedes earlier metrics
    for kind in eventlog.KINDS.values()
    if kind.rule == rule
]


def _kind(name: Name, tables: Mapping[Name, tuple[str, str]]) -> str:
    return tables[name][0] if name in tables else "metrics"


def _first(candidates: Iterable[str], names: Mapping[Name, Name]) -> Name | None:
    return next((names[name] for name in candidates if name in names), None)


def _same(a: Any, b: Any) -> bool:
    return type(a) is type(b) and repr(a) == repr(b)  # NaN is NaN, and 0.0 is not -0.0


_MAIN = (("iter", "loss"), ("eval", "val_loss"))


def _row(kind: str, step: int, values: Values, fields: Mapping[Name, str]) -> dict[str, Any]:
    """The fields of an event, with the time of its loss, else of its first value."""
    row = {fields[name]: value for name, (value, _) in values.items()}
    times_s = [time_s for n, (_, time_s) in values.items() if (kind, fields[n]) in _MAIN]
    times_s += [time_s for _, time_s in values.values()]
    time = None if times_s[0] is None else iso(times_s[0])
    more = {} if time is None else {"timestamp": time}
    return {"step" if kind == "metrics" else "iter": step} | row | more
