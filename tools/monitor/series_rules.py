"""Rules of the user for any series: `runs guard --rule "val/loss no improvement 1000"`.

rule = SeriesRule.parse("val/* > 5")
watch = SeriesWatch([rule], Limits())
watch.add(record, t)            # findings as (rule, text)
watch.stalled(now)              # a text for each series that has been silent for too long
"""

import math
import operator
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Literal

import eventlog
from eventlog import duration

from ..core.runs import Refusal
from .rules import WINDOW, Limits, Rule, Window, spike

Check = Literal["nan", "spike", "stall", ">", "<", ">=", "<=", "no improvement"]
FORMS = (
    "NAME nan, NAME spike, NAME > 5 (<, >=, <=), NAME stall 10m, NAME no improvement 1000; "
    "NAME may have wildcards: train/*"
)
_FORM = re.compile(
    r"(?P<name>.+?)\s+(?:(?P<bare>nan|spike)|(?P<stall>stall)\s+(?P<s>[\d.]+\s*[smhd]?)"
    r"|(?P<sign>>=|<=|>|<)\s*(?P<limit>\S+)|(?P<no>no[ _]improvement)\s+(?:for\s+)?(?P<steps>\d+))",
    re.DOTALL,
)
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_RULES: dict[Check, Rule] = {
    "nan": "nonfinite", "spike": "spike", "stall": "stall", "no improvement": "no_improvement",
}  # fmt: skip
_PREFIXES = eventlog.SERIES_PREFIXES
_TABLES = {kind.name: kind.rule for kind in eventlog.KINDS.values() if kind.rule in _PREFIXES}


_SIGNS = {">": operator.gt, "<": operator.lt, ">=": operator.ge, "<=": operator.le}


@dataclass(frozen=True)
class SeriesRule:
    """A check of the series that a pattern names."""

    pattern: str
    check: Check
    limit: float = 0.0
    """Of a value; for `stall` in seconds, for `no improvement` in steps."""

    @classmethod
    def parse(cls, text: str) -> "SeriesRule":
        """Raises Refusal where `text` is no rule."""
        match = _FORM.fullmatch(text.strip())
        try:
            if match is None:
                raise ValueError
            name = match["name"]
            if match["bare"]:
                return cls(name, "nan" if match["bare"] == "nan" else "spike")
            if match["stall"]:
                number, unit = re.fullmatch(r"([\d.]+)\s*(\w?)", match["s"]).groups()  # type: ignore[union-attr]
                return cls(name, "stall", float(number) * _SECONDS[unit or "s"])
            if match["no"]:
                return cls(name, "no improvement", float(match["steps"]))
            return cls(name, match["sign"], float(match["limit"]))  # type: ignore[arg-type]
        except ValueError:
            raise Refusal(f"--rule: unknown rule: {text!r}. A rule is one of: {FORMS}") from None

    @property
    def rule(self) -> Rule:
        """The name of its alerts."""
        return _RULES.get(self.check, "threshold")


@dataclass
class _State:
    """What is known of a series for one rule."""

    rule: SeriesRule
    name: str
    t: float = 0.0
    is_bad: bool = False
    best: float | None = None
    best_step: int = 0
    losses: Window = field(default_factory=Window)
    since_spike: int = WINDOW


class SeriesWatch:
    """The rules of the user, and what is known of the series that they are for."""

    def __init__(self, rules: Sequence[SeriesRule], limits: Limits) -> None:
        self._rules, self._limits = rules, limits
        self._states: dict[str, list[_State]] = {}
        self._definitions: dict[str, dict[str, Any]] = {}  # of metrics, by name

    def clear(self) -> None:
        """Forget what was seen: another session begins."""
        self._states = {}

    def add(self, record: eventlog.Record, t: float) -> list[tuple[Rule, str]]:
        """What is wrong with the values of a record; nothing without a rule."""
        if record.event == "define":
            name = str(record.fields.get("name"))
            self._definitions[name] = self._definitions.get(name, {}) | record.fields
        table = _TABLES.get(record.event) if self._rules else None
        if table is None:
            return []
        fields = eventlog.flat_cells({k: v for k, v in record.fields.items() if k != "durable"})
        step = fields.get("step", fields.get("iter"))
        broken = []
        for column, value in fields.items():
            if type(value) not in (int, float) or column in ("iter", "step"):
                continue
            for state in self._of(_PREFIXES[table] + column):
                state.t = t
                text = self._check(state, float(value), step if type(step) is int else None)
                if text is not None:
                    broken.append((state.rule.rule, text))
        return broken

    def stalled(self, now: float) -> list[str]:
        """Of each series that has been silent for too long, since when."""
        return [
            f"{state.name}: no value for {duration(now - state.t)}"
            for states in self._states.values()
            for state in states
            if state.rule.check == "stall" and now - state.t > state.rule.limit
        ]

    def _of(self, name: str) -> list[_State]:
        states = self._states.get(name)
        if states is None:
            rules = [r for r in self._rules if name == r.pattern or fnmatchcase(name, r.pattern)]
            states = self._states[name] = [_State(rule, name) for rule in rules]
        return states

    def _check(self, state: _State, value: float, step: int | None) -> str | None:
        """What is wrong with the latest value, once: not again while it stays so."""
        where = "" if step is None else f" at step {step:,}"
        match state.rule.check:
            case "nan":
                is_bad, text = not math.isfinite(value), f"{state.name} {value}{where}"
            case "spike":
                return self._spike(state, value, where)
            case "stall":
                return None
            case "no improvement":
                return self._no_improvement(state, value, step)
            case sign:
                limit = state.rule.limit
                is_bad = _SIGNS[sign](value, limit)
                text = f"{state.name} {value:.6g}{where}, {sign} {limit:g}"
        is_new = is_bad and not state.is_bad
        state.is_bad = is_bad
        return text if is_new else None

    def _spike(self, state: _State, value: float, where: str) -> str | None:
        peak = spike(state.losses, value, self._limits)
        if math.isfinite(value):
            state.losses.add(value)
        state.since_spike += 1
        is_new = peak is not None and state.since_spike >= WINDOW
        if peak is None:
            return None
        state.since_spike = 0
        text = f"{state.name} {value:.4g}{where}, the median before it {peak['median']:.4g}"
        return text if is_new else None

    def _no_improvement(self, state: _State, value: float, step: int | None) -> str | None:
        if step is None:
            return None
        defined = eventlog.definition_of(state.name, self._definitions)
        goal = eventlog.Series(state.name, "metrics", state.name, definition=defined).goal
        is_better = state.best is None or (
            value > state.best if goal == "maximize" else value < state.best
        )
        if math.isfinite(value) and is_better:
            state.best, state.best_step, state.is_bad = value, step, False
            return None
        n_steps = step - state.best_step
        if state.best is None or n_steps < state.rule.limit or state.is_bad:
            return None
        state.is_bad = True
        return (
            f"{state.name}: no improvement in {n_steps:,} steps, "
            f"the best is {state.best:.6g} at step {state.best_step:,}"
        )
