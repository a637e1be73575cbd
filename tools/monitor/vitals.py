"""What is known of a run's health: the numbers that the rules check.

    vitals = Vitals(Limits())
    for record in eventlog.scan("out/run_20261123_032501.jsonl"):
        for finding in vitals.add(record): ...          # a NaN, a spike: of that very record
    vitals.standing(now, is_alive=True)                 # a stall, a crash: as of now

Only the latest part of a run is remembered, so memory is bounded.
"""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import isfinite
from statistics import median
from typing import Any

import eventlog
from eventlog import seconds

from ..core.formats import first_of
from .rules import (
    BASE_MIN,
    RECENT,
    WINDOW,
    Finding,
    Limits,
    Rule,
    Window,
    crash,
    deadline_s,
    finite_fields,
    nonfinite,
    overdue,
    slow,
    spike,
    stall,
)
from .series_rules import SeriesRule, SeriesWatch

CALM_STEPS = 20  # so many finite steps in a row, and a NaN after them is a new occurrence
SKIPPED_MAX = 8  # so many steps in a row may be skipped by the loss scale of float16
WARMUP_ITERS = 5  # of a session: slow by threads, caches and compilation
NAMED_MAX = 5  # metrics in the text of an alert
CHECKPOINTS = 9
BASE_MAX = 360


class Vitals:
    """What is known of a run's health. Add its records in order, each once."""

    def __init__(self, limits: Limits, series_rules: Sequence[SeriesRule] = ()) -> None:
        self.limits = limits
        self.session = ""
        self.record = -1
        self.t = 0.0
        """Time of the latest event that is progress, in seconds since 1970."""
        self.iter: int | None = None
        self.opened: eventlog.Record | None = None
        """The `open` event of the session, if it was read."""
        self.config: dict[str, Any] = {}
        self.status = ""
        """Of the `close` event; empty while there is none."""
        self.checkpoint_bytes = 0
        self._checkpoints: deque[int] = deque(maxlen=CHECKPOINTS)
        self._losses = Window()
        self._is_slow = False
        self._series = SeriesWatch(series_rules, limits)
        self._begin()

    def _begin(self) -> None:
        """A session begins, perhaps on another machine or with other flags."""
        self.status = ""
        self._gaps: dict[str, deque[float]] = {
            name: deque(maxlen=8 if kind.axis == "iter" and name != "iter" else 64)
            for name, kind in eventlog.KINDS.items()
            if kind.axis is not None
        }
        self.opened = None
        self._longest_s = 0.0  # between two steps of metrics
        self._step: tuple[int, float] | None = None  # the latest of metrics, and when it began
        self._known: set[str] = set()  # metrics that had a finite number
        self._calm: dict[str, int] = {}  # of those that were not finite: finite ones since
        self._loss_name: str | None = None
        self._series.clear()
        self._n_steps = 0
        self._last_kind = ""
        self._is_idle = False  # since an `idle` event, and no later step was logged
        self._interval = [0.0, 0.0]  # seconds, iterations
        self._recent: deque[float] = deque()
        self._usual: deque[float] = deque(maxlen=BASE_MAX)
        self._calm_steps = CALM_STEPS
        self._is_bad: dict[str, bool] = {}  # by kind of event: whether the latest is not finite
        self._skipped = 0
        self._steps_since_spike = WINDOW
        self._losses.clear()

    @property
    def ends_nonfinite(self) -> bool:
        """Whether the latest value of a loss, or of a metric that was finite, is not finite."""
        bad = [name for name, n_finite in self._calm.items() if not n_finite]
        of_metrics = not self._known.isdisjoint(bad) or any(eventlog.usual_losses(bad))
        return of_metrics or any(self._is_bad.values())

    def add(self, record: eventlog.Record) -> list[Finding]:
        """Add a record; returns what is wrong with it."""
        event, fields = record.event, record.fields
        kind = eventlog.KINDS.get(event)
        if "annotates" in fields:
            return []
        t = seconds(record.t) or 0.0
        if kind is not None and not kind.is_progress:
            return self._of_series(self._series.add(record, t)) if record.s == self.session else []
        if record.s != self.session:
            self.session, self.t = record.s, t
            self._begin()
        gap = max(0.0, t - self.t)
        self.record, self.t = record.n, t
        findings = [*self._add_nonfinite(record)]
        match event:
            case "open":
                self.opened = record
                config = fields.get("config")
                self.config = config if isinstance(config, dict) and config else self.config
                self._rewind(fields.get("from_iter"))
            case "iter" if type(fields.get("iter")) is int:
                findings += self._add_step(record, gap)
            case "idle":
                self._is_idle = True
            case "metrics":
                findings += self._add_metrics(fields, t)
            case "eval":
                self._gaps["eval"].append(max(gap, _ms(fields, "time_ms") / 1000))
            case "checkpoint":
                self._add_checkpoint(fields, gap)
            case "rewind":
                self._rewind(fields.get("to_iter"))
            case "close":
                self.status = str(fields.get("status", "completed"))
                findings += self._add_close(fields)
        self._last_kind = event
        findings += self._of_series(self._series.add(record, t))
        return list(_one_of_each(findings))

    def standing(
        self,
        now: float,
        *,
        is_alive: bool,
        quiet_since: float | None = None,
        was_alive: bool = True,
        is_gone: bool = False,
    ) -> dict[Rule, Finding]:
        """What is wrong with the run as of `now`, by rule.

        Args:
            is_alive: whether a process holds the journal's lock.
            quiet_since: the time of the last progress, if it is known better than by the latest
                record's own clock.
            was_alive: whether a process was seen to hold it: some file systems have no locks.
            is_gone: whether the process is known to have ended.
        """
        if self.status or self._is_idle or not self.session:
            return {}
        quiet_s = max(0.0, now - (self.t if quiet_since is None else quiet_since))
        allowed_s = deadline_s(self._gaps, self.limits, longest_s=self._longest_s)
        after_s = self.limits.crash_s if was_alive else min(allowed_s, self.limits.start_s)
        after_s = after_s if was_alive or not is_gone else -1.0
        crashed = crash(quiet_s, is_alive=is_alive, after_s=after_s)
        if crashed is not None:
            return {"crash": self.finding("crash", crashed)}
        stalled = stall(quiet_s, allowed_s) if self._has_rhythm else None
        problems: dict[Rule, str | tuple[str, dict[str, Any]] | None] = {
            "stall": stalled or "; ".join(self._series.stalled(now)) or None,
            "slow": self._slow(),
            "checkpoint_overdue": self._overdue(),
        }
        return {
            rule: self.finding(rule, problem)
            for rule, problem in problems.items()
            if problem is not None
        }

    @property
    def _has_rhythm(self) -> bool:
        """Whether the usual interval is known: a run that logs only evals must have some first."""
        is_sparse = self.config.get("log_iterations") is False
        return not is_sparse or len(self._gaps["eval"]) >= 3

    # ---- adding

    def _add_step(self, record: eventlog.Record, gap: float) -> list[Finding]:
        fields, i = record.fields, record.fields["iter"]
        before, self.iter = self.iter, i
        self._is_idle = False
        self._n_steps += 1
        self._gaps["iter"].append(gap)
        is_next = before is not None and i > before and self._last_kind == "iter"
        if before is not None and is_next and self._n_steps > WARMUP_ITERS:
            self._add_pace(gap, i - before)
        loss = fields.get("loss")
        if not isinstance(loss, float | int) or not isfinite(loss):
            return []
        return self._add_loss(float(loss))

    def _add_metrics(self, fields: Mapping[str, Any], t: float) -> list[Finding]:
        step = next((fields[k] for k in ("step", "iter") if type(fields.get(k)) is int), None)
        if step is None:
            return []
        if self._step is not None and self._step[0] != step:
            gap = max(0.0, t - self._step[1])
            self._gaps["metrics"].append(gap)
            self._longest_s = max(self._longest_s, gap)
        if self._step is None or self._step[0] != step:
            self._is_idle = self._is_idle and self._step is not None and step < self._step[0]
            self._step = (step, t)
        if not self._n_steps:
            self.iter = step
        numbers = {
            k: v for k, v in fields.items()
            if type(v) in (int, float) and k not in ("step", "iter", "durable")
        }  # fmt: skip
        findings = self._metrics_nonfinite(fields, numbers, step)
        if not numbers.keys() <= self._known:
            self._known |= numbers.keys()
            loss_name = eventlog.usual_losses(self._known)[0]
            if loss_name != self._loss_name and not self._n_steps:
                self._losses.clear()
            self._loss_name = loss_name
        loss = numbers.get(self._loss_name or "")
        if loss is not None and not self._n_steps:
            findings += self._add_loss(float(loss), str(self._loss_name), "step")
        return findings

    def _metrics_nonfinite(
        self, fields: Mapping[str, Any], numbers: Mapping[str, Any], step: int
    ) -> list[Finding]:
        """A finding where a metric that was finite is not any more, or a loss never was.

        Again only after CALM_STEPS finite values of it.
        """
        for name in self._calm.keys() & numbers.keys():
            self._calm[name] += 1
            if self._calm[name] >= CALM_STEPS:
                del self._calm[name]
        marks = fields.get("nonfinite")
        if not isinstance(marks, dict):
            return []
        usual = eventlog.usual_losses(marks)
        new = [n for n in marks if n not in self._calm and (n in self._known or n in usual)]
        self._calm |= dict.fromkeys(marks, 0)
        if not new:
            return []
        named = first_of([f"{name} {marks[name]}" for name in new], NAMED_MAX)
        return [self.finding("nonfinite", f"{named} at step {step}")]

    def _of_series(self, broken: Sequence[tuple[Rule, str]]) -> list[Finding]:
        return [self.finding(rule, text) for rule, text in broken]

    def _add_loss(self, loss: float, name: str = "loss", axis: str = "iteration") -> list[Finding]:
        peak = spike(self._losses, loss, self.limits)
        self._losses.add(loss)
        self._steps_since_spike += 1
        if peak is None:
            return []
        is_new = self._steps_since_spike >= WINDOW
        self._steps_since_spike = 0
        if not is_new:
            return []
        before = f"the median before it {peak['median']:.4g}"
        text = f"{name} {loss:.4g} at {axis} {self.iter}, {before}"
        return [self.finding("spike", (f"{text} (z {peak['z']:.0f})", peak))]

    def _add_pace(self, gap: float, n_iters: int) -> None:
        """Collect intervals: a sixth of the time after which a run is called slow, or one step."""
        self._interval[0] += gap
        self._interval[1] += n_iters
        if self._interval[0] < self.limits.slow_s / RECENT:
            return
        self._recent.append(self._interval[0] / self._interval[1])
        self._interval = [0.0, 0.0]
        if len(self._recent) > RECENT:
            pace = self._recent.popleft()
            # a run that stays slow does not become the norm
            if len(self._usual) < BASE_MIN or pace < self.limits.slow_factor * median(self._usual):
                self._usual.append(pace)

    def _add_checkpoint(self, fields: Mapping[str, Any], gap: float) -> None:
        took_s = max(_ms(fields, "time_ms"), _ms(fields, "save_ms")) / 1000
        self._gaps["checkpoint"].append(max(gap, took_s))
        i, size_bytes = fields.get("iter"), fields.get("size_bytes")
        if type(i) is int and (not self._checkpoints or i > self._checkpoints[-1]):
            self._checkpoints.append(i)
        if type(size_bytes) is int:
            self.checkpoint_bytes = size_bytes

    def _add_nonfinite(self, record: eventlog.Record) -> list[Finding]:
        """The first NaN is a finding; another one only after CALM_STEPS finite steps."""
        bad = nonfinite(record.event, record.fields)
        is_step = bool(finite_fields(record.event))
        if is_step and record.fields.get("skipped"):
            self._skipped += 1
            if self._skipped == SKIPPED_MAX:
                bad = bad or [f"{SKIPPED_MAX} steps skipped in a row"]
        elif is_step:
            self._skipped = 0
        if is_step:
            self._is_bad[record.event] = bool(bad)
        if not bad:
            self._calm_steps += is_step and not record.fields.get("skipped")
            return []
        is_new = self._calm_steps >= CALM_STEPS
        self._calm_steps = 0
        if not is_new:
            return []
        i = record.fields.get("iter")
        where = f" at iteration {i}" if type(i) is int else ""
        finding = self.finding("nonfinite", f"{', '.join(bad)}{where}")
        return [replace(finding, iter=i) if where else finding]

    def _add_close(self, fields: Mapping[str, Any]) -> list[Finding]:
        if self.status != "failed" or self._calm_steps < CALM_STEPS:
            return []  # the NaN it stopped at is a finding already
        reason = fields.get("reason") or "no reason given"
        return [self.finding("failed", f"closed as failed: {reason}")]

    def _rewind(self, to_iter: Any) -> None:
        """Iterations from `to_iter` on will be logged again: forget them."""
        if type(to_iter) is not int:
            return
        while self._checkpoints and self._checkpoints[-1] > to_iter:
            self._checkpoints.pop()
        self.iter = to_iter
        self._losses.clear()

    # ---- findings

    def _slow(self) -> tuple[str, dict[str, Any]] | None:
        values = slow(self._recent, self._usual, self.limits, stands=self._is_slow)
        self._is_slow = values is not None
        if values is None:
            return None
        times = values["time_ms"] / values["usual_ms"]
        text = f"{values['time_ms']:.4g} ms an iteration, {values['usual_ms']:.4g} ms before"
        return f"{text}: {times:.1f} times as long", values

    def _overdue(self) -> tuple[str, dict[str, Any]] | None:
        if self.iter is None or self.config.get("always_save_checkpoint") is False:
            return None  # it saves when the loss improves, at no regular interval
        values = overdue(tuple(self._checkpoints), self.iter, self.limits)
        if values is None:
            return None
        since = self.iter - values["since_iter"]
        text = f"the last checkpoint is {since:,} iterations old"
        return f"{text}, there was one every {values['usual_iters']:,}", values

    def finding(self, rule: Rule, problem: str | tuple[str, dict[str, Any]]) -> Finding:
        """A finding as of the latest record; `problem` is a text, or a text and its numbers."""
        text, values = (problem, {}) if isinstance(problem, str) else problem
        return Finding(rule, text, values, self.t, self.session, self.record, self.iter)


def _one_of_each(findings: Sequence[Finding]) -> Iterator[Finding]:
    """One finding for each rule: alerts are told apart by rule and record."""
    for rule in dict.fromkeys(finding.rule for finding in findings):
        of_rule = [finding for finding in findings if finding.rule == rule]
        texts = dict.fromkeys(finding.text for finding in of_rule)
        yield replace(of_rule[0], text="; ".join(texts))


def _ms(fields: Mapping[str, Any], key: str) -> float:
    value = fields.get(key)
    return float(value) if isinstance(value, float | int) and 0 < value < 1e9 else 0.0
