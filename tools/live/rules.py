"""What may be wrong with a run, by what its journal says.

    vitals = Vitals(Limits())
    for record in eventlog.scan("out/run_20261123_032501.jsonl"):
        for finding in vitals.take(record): ...         # a NaN, a spike: of that very record
    vitals.standing(now, is_alive=True)                 # a stall, a crash: as of now

Each rule is a pure function of figures and of the time it is given; none reads a clock or a
file. `Vitals` keeps the figures: the latest of a run, bounded, however long the run is.
"""

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import pairwise
from math import isfinite
from statistics import median
from typing import Any, Literal, get_args

import eventlog

Rule = Literal[
    "stall", "crash", "failed", "nonfinite", "spike", "slow", "checkpoint_overdue", "disk"
]
RULES: tuple[Rule, ...] = get_args(Rule)
STANDING: tuple[Rule, ...] = ("stall", "crash", "slow", "checkpoint_overdue", "disk")
"""What is so for a while and then over; the others happen at one record."""

WINDOW = 128  # losses that a spike is measured by
WINDOW_MIN = 32
CALM_STEPS = 20  # finite ones in a row: what is not finite after them is a new occurrence
SKIPPED_MAX = 8  # steps in a row that float16's loss scale may leave out and be healthy
WARMUP_ITERS = 5  # a session's first steps pay for threads, caches and compilation
RHYTHM_MIN = 5  # intervals before one is called a rhythm
RECENT = 6  # stretches that are compared with those before them
BASE_MIN, BASE_MAX = 12, 360
CHECKPOINTS = 9
_MAD_TO_SIGMA = 1.4826  # of a normal distribution
_SCALE_MIN = 0.005  # of the median: losses that hardly differ make no spike of a hair


@dataclass(frozen=True)
class Limits:
    """From where on something is wrong."""

    stall_s: float = 60.0
    """The shortest silence that is a stall."""
    stall_factor: float = 10.0
    """Of the median interval between two iterations."""
    pause_factor: float = 4.0
    """Of what evaluations and checkpoints take."""
    start_s: float = 1800.0
    """The silence allowed while nothing is known of the rhythm: compilation is slow."""
    crash_s: float = 5.0
    """After the lock is gone: what the process wrote last must have been seen."""
    spike_z: float = 12.0
    spike_part: float = 0.2
    """Of the median of the losses before it, at least."""
    slow_factor: float = 2.0
    slow_s: float = 60.0
    """How long, at least."""
    overdue_factor: float = 3.0
    """Of the longest of the latest intervals between checkpoints, in iterations."""
    disk_part: float = 0.05
    disk_bytes: float = 10 * 2.0**30
    """Free space is little if it is below both."""
    disk_full_in_s: float = 3600.0


@dataclass(frozen=True)
class Finding:
    """Something wrong with a run: which rule says so, in a line, and by which figures."""

    rule: Rule
    text: str
    figures: dict[str, Any] = field(default_factory=dict)
    t: float = 0.0
    """When, in seconds since 1970."""
    session: str = ""
    record: int = -1
    """Number of the record in the session: that which shows it, or the last before it."""
    iter: int | None = None


# ---- the rules


def deadline_s(gaps: Mapping[str, Sequence[float]], limits: Limits) -> float:
    """How long a healthy run may be silent, by the intervals (s) that ended with each event."""
    steps = gaps.get("iter", ())
    evals = gaps.get("eval", ())
    if len(steps) >= RHYTHM_MIN:
        allowed = max(limits.stall_s, limits.stall_factor * median(steps))
    elif not steps and len(evals) >= 3:
        allowed = max(limits.stall_s, limits.pause_factor * median(evals))  # none are logged
    else:
        allowed = limits.start_s
    pauses = (median(gaps[kind]) for kind in ("eval", "checkpoint") if gaps.get(kind))
    return max(allowed, limits.pause_factor * sum(pauses))


def stall(quiet_s: float, allowed_s: float) -> str | None:
    """No event for longer than allowed."""
    if quiet_s <= allowed_s:
        return None
    return f"no event for {seconds(quiet_s)}, {seconds(allowed_s)} would be long"


def crash(quiet_s: float, *, is_alive: bool, is_closed: bool, after_s: float) -> str | None:
    """Nobody holds the journal's lock, and nobody closed it."""
    if is_alive or is_closed or quiet_s <= after_s:
        return None
    return f"the process is gone without a close event, {seconds(quiet_s)} after its last one"


def spike(losses: "Window", loss: float, limits: Limits) -> dict[str, float] | None:
    """A loss far above those before it: robust z-score and relative size, by their median."""
    if len(losses) < WINDOW_MIN or not isfinite(loss):
        return None
    middle = losses.median
    rise = loss - middle
    if rise < limits.spike_part * abs(middle) or rise <= 0:
        return None
    scale = max(_MAD_TO_SIGMA * losses.deviation, _SCALE_MIN * abs(middle), 1e-12)
    if rise / scale < limits.spike_z:
        return None
    return {"loss": loss, "median": middle, "z": round(rise / scale, 1)}


def slow(
    recent: Sequence[float], before: Sequence[float], limits: Limits, *, stands: bool = False
) -> dict[str, float] | None:
    """Iterations that take much longer than those before, all of `recent` (s an iteration).

    Once it stands, it is over only half-way back: a figure at the limit does not flicker.
    """
    if len(recent) < RECENT or len(before) < BASE_MIN:
        return None
    usual, now = median(before), median(recent)
    factor = (1 + limits.slow_factor) / 2 if stands else limits.slow_factor
    if usual <= 0 or now < factor * usual:
        return None
    unusual = sorted(before)[int(0.9 * (len(before) - 1))]
    if not stands and sorted(recent)[1] <= unusual:  # one of them may be a lucky one
        return None
    return {"time_ms": 1000 * now, "usual_ms": 1000 * usual}


def overdue(checkpoints: Sequence[int], at_iter: int, limits: Limits) -> dict[str, int] | None:
    """Iterations since the last checkpoint, against the longest of the intervals before."""
    gaps = [b - a for a, b in pairwise(checkpoints)]
    if len(gaps) < 3 or at_iter - checkpoints[-1] <= limits.overdue_factor * max(gaps):
        return None
    return {"since_iter": checkpoints[-1], "usual_iters": max(gaps)}


def disk(
    total_bytes: int,
    free_bytes: int,
    needed_bytes: int,
    history: Sequence[tuple[float, int]],
    limits: Limits,
) -> str | None:
    """Little space, none for the next checkpoint, or soon none by the trend.

    `history`: (time, free bytes) so far, the earliest first; a trend needs ten minutes of it.
    """
    full_in_s = time_to_full_s(history)
    when = f", full in {seconds(full_in_s)} at this rate" if full_in_s is not None else ""
    left = f"{size(free_bytes)} of {size(total_bytes)} free"
    if free_bytes < needed_bytes:
        return f"{left}, the next checkpoint takes {size(needed_bytes)}{when}"
    if free_bytes < min(limits.disk_part * total_bytes, limits.disk_bytes):
        return left + when
    if full_in_s is not None and full_in_s < limits.disk_full_in_s and free_bytes < total_bytes / 5:
        return left + when
    return None


def time_to_full_s(history: Sequence[tuple[float, int]]) -> float | None:
    """When the free space is used up if it goes on as it went; None if it does not shrink.

    The slope is the median of those between the first half and the second: a checkpoint that
    was written or a cache that was emptied is not a trend.
    """
    if len(history) < 10 or history[-1][0] - history[0][0] < 600:
        return None
    half = len(history) // 2
    pairs = zip(history[:half], history[-half:], strict=True)
    slope = median((b - a) / (t - s) for (s, a), (t, b) in pairs if t > s)
    return history[-1][1] / -slope if slope < 0 else None


def nonfinite(event: str, fields: Mapping[str, Any]) -> list[str]:
    """Which figures of a record are no numbers and should be: losses, and the gradient's norm.

    A step that was left out (`skipped`) for its gradient alone is none: float16 does that.
    """
    named = fields.get("nonfinite")
    bad = {str(k): str(v) for k, v in named.items()} if isinstance(named, dict) else {}
    wanted = {"iter": ["loss", "grad_norm"], "eval": ["train_loss", "val_loss"]}.get(event, [])
    if event == "nonfinite":
        wanted = list(bad) or ["loss"]
    elif fields.get("skipped") and "loss" not in bad:
        wanted = []
    return [f"{key} {bad.get(key, 'nan')}" for key in wanted if key in bad or event == "nonfinite"]


# ---- what they look at


class Window:
    """The latest figures, with their median at hand: 1 µs a figure."""

    def __init__(self, size: int = WINDOW) -> None:
        self._size = size
        self._values: deque[float] = deque()
        self._sorted: list[float] = []

    def __len__(self) -> int:
        return len(self._values)

    def add(self, value: float) -> None:
        self._values.append(value)
        insort(self._sorted, value)
        if len(self._values) > self._size:
            del self._sorted[bisect_left(self._sorted, self._values.popleft())]

    def clear(self) -> None:
        self._values.clear()
        self._sorted.clear()

    @property
    def median(self) -> float:
        half = len(self._sorted) // 2
        odd = len(self._sorted) % 2
        return self._sorted[half] if odd else (self._sorted[half - 1] + self._sorted[half]) / 2

    @property
    def deviation(self) -> float:
        """The median distance from the median."""
        middle = self.median
        return median(abs(value - middle) for value in self._sorted)


class Vitals:
    """What is known of a run's health. Records are to be taken in order, each once."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.session = ""
        self.record = -1
        self.t = 0.0
        """Of the latest event that is progress, in seconds since 1970."""
        self.iter: int | None = None
        self.config: dict[str, Any] = {}
        self.status = ""
        """As closed; empty while it is not."""
        self.checkpoint_bytes = 0
        self._checkpoints: deque[int] = deque(maxlen=CHECKPOINTS)
        self._losses = Window()
        self._is_slow = False
        self._begin()

    def _begin(self) -> None:
        """A session begins: perhaps another machine, perhaps other flags."""
        self.status = ""
        self._gaps: dict[str, deque[float]] = {
            "iter": deque(maxlen=64), "eval": deque(maxlen=8), "checkpoint": deque(maxlen=8)
        }  # fmt: skip
        self._n_steps = 0
        self._last_kind = ""
        self._stretch = [0.0, 0.0]  # seconds, iterations
        self._recent: deque[float] = deque()
        self._usual: deque[float] = deque(maxlen=BASE_MAX)
        self._calm_steps = CALM_STEPS
        self._skipped = 0
        self._steps_since_spike = WINDOW
        self._losses.clear()

    def take(self, record: eventlog.Record) -> list[Finding]:
        """Enter a record; what is wrong with it."""
        event, fields = record.event, record.fields
        if "annotates" in fields or event == "system":
            return []  # somebody else said it, or a thread that lives on when the training hangs
        t = at_seconds(record.t)
        if record.s != self.session:
            self.session, self.t = record.s, t
            self._begin()
        gap = max(0.0, t - self.t)
        self.record, self.t = record.n, t
        found = [*self._take_nonfinite(record)]
        match event:
            case "open":
                given = fields.get("config")
                self.config = given if isinstance(given, dict) and given else self.config
                self._rewind(fields.get("from_iter"))
            case "iter" if type(fields.get("iter")) is int:
                found += self._take_step(record, gap)
            case "eval":
                self._gaps["eval"].append(max(gap, _ms(fields, "time_ms") / 1000))
            case "checkpoint":
                self._take_checkpoint(fields, gap)
            case "rewind":
                self._rewind(fields.get("to_iter"))
            case "close":
                self.status = str(fields.get("status", "completed"))
                found += self._take_close(fields)
        self._last_kind = event
        return found

    def standing(
        self,
        now: float,
        *,
        is_alive: bool,
        quiet_since: float | None = None,
        was_alive: bool = True,
    ) -> dict[Rule, Finding]:
        """What is wrong with the run as of `now`, by rule.

        Args:
            is_alive: whether somebody holds the journal's lock.
            quiet_since: since when nothing came, where that is known better than by the
                latest record's own clock.
            was_alive: whether somebody was seen to hold it: there are file systems without locks.
        """
        if self.status or not self.session:
            return {}
        found: dict[Rule, str | tuple[str, dict[str, Any]] | None] = {}
        quiet_s = max(0.0, now - (self.t if quiet_since is None else quiet_since))
        allowed_s = deadline_s(self._gaps, self.limits)
        after_s = self.limits.crash_s if was_alive else min(allowed_s, self.limits.start_s)
        found["crash"] = crash(
            quiet_s, is_alive=is_alive, is_closed=bool(self.status), after_s=after_s
        )
        if found["crash"] is None and self._has_rhythm:
            found["stall"] = stall(quiet_s, allowed_s)
        if found["crash"] is None:
            found["slow"] = self._slow()
            found["checkpoint_overdue"] = self._overdue()
        return {rule: self.finding(rule, told) for rule, told in found.items() if told is not None}

    @property
    def _has_rhythm(self) -> bool:
        """A run that logs evals alone has to make some before one can be late."""
        is_sparse = self.config.get("log_iterations") is False
        return not is_sparse or len(self._gaps["eval"]) >= 3

    # ---- what records bring

    def _take_step(self, record: eventlog.Record, gap: float) -> list[Finding]:
        fields, i = record.fields, record.fields["iter"]
        before, self.iter = self.iter, i
        self._n_steps += 1
        self._gaps["iter"].append(gap)
        is_next = before is not None and i > before and self._last_kind == "iter"
        if before is not None and is_next and self._n_steps > WARMUP_ITERS:
            self._take_pace(gap, i - before)
        loss = fields.get("loss")
        if not isinstance(loss, float | int) or not isfinite(loss):
            return []
        return self._take_loss(float(loss))

    def _take_loss(self, loss: float) -> list[Finding]:
        peak = spike(self._losses, loss, self.limits)
        self._losses.add(loss)
        self._steps_since_spike += 1
        if peak is None:
            return []
        is_new = self._steps_since_spike >= WINDOW
        self._steps_since_spike = 0
        if not is_new:
            return []
        words = (
            f"loss {loss:.4g} at iteration {self.iter}, the median before it {peak['median']:.4g}"
        )
        return [self.finding("spike", (f"{words} (z {peak['z']:.0f})", peak))]

    def _take_pace(self, gap: float, n_iters: int) -> None:
        """Into stretches of a tenth of the time that makes slowness, or of one step."""
        self._stretch[0] += gap
        self._stretch[1] += n_iters
        if self._stretch[0] < self.limits.slow_s / RECENT:
            return
        self._recent.append(self._stretch[0] / self._stretch[1])
        self._stretch = [0.0, 0.0]
        if len(self._recent) > RECENT:
            pace = self._recent.popleft()
            # what is slow does not become usual by lasting
            if len(self._usual) < BASE_MIN or pace < self.limits.slow_factor * median(self._usual):
                self._usual.append(pace)

    def _take_checkpoint(self, fields: Mapping[str, Any], gap: float) -> None:
        took_s = max(_ms(fields, "time_ms"), _ms(fields, "save_ms")) / 1000
        self._gaps["checkpoint"].append(max(gap, took_s))
        i, size_bytes = fields.get("iter"), fields.get("size_bytes")
        if type(i) is int and (not self._checkpoints or i > self._checkpoints[-1]):
            self._checkpoints.append(i)
        if type(size_bytes) is int:
            self.checkpoint_bytes = size_bytes

    def _take_nonfinite(self, record: eventlog.Record) -> list[Finding]:
        """Of NaN after NaN the first one is told, until there was none for a while."""
        bad = nonfinite(record.event, record.fields)
        is_step = record.event in ("iter", "eval")
        if is_step and record.fields.get("skipped"):
            self._skipped += 1
            if self._skipped == SKIPPED_MAX:
                bad = bad or [f"{SKIPPED_MAX} steps left out in a row"]
        elif is_step:
            self._skipped = 0
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

    def _take_close(self, fields: Mapping[str, Any]) -> list[Finding]:
        if self.status != "failed" or self._calm_steps < CALM_STEPS:
            return []  # that it stopped because of a NaN has been told
        reason = fields.get("reason") or "no reason given"
        return [self.finding("failed", f"closed as failed: {reason}")]

    def _rewind(self, to_iter: Any) -> None:
        """Iterations are taken again: what they were does not count."""
        if type(to_iter) is not int:
            return
        while self._checkpoints and self._checkpoints[-1] > to_iter:
            self._checkpoints.pop()
        self.iter = to_iter
        self._losses.clear()

    # ---- what they amount to

    def _slow(self) -> tuple[str, dict[str, Any]] | None:
        figures = slow(self._recent, self._usual, self.limits, stands=self._is_slow)
        self._is_slow = figures is not None
        if figures is None:
            return None
        times = figures["time_ms"] / figures["usual_ms"]
        words = f"{figures['time_ms']:.4g} ms an iteration, {figures['usual_ms']:.4g} ms before"
        return f"{words}: {times:.1f} times as long", figures

    def _overdue(self) -> tuple[str, dict[str, Any]] | None:
        if self.iter is None or self.config.get("always_save_checkpoint") is False:
            return None  # it saves when it gets better, which has no rhythm
        figures = overdue(tuple(self._checkpoints), self.iter, self.limits)
        if figures is None:
            return None
        since = self.iter - figures["since_iter"]
        words = f"the last checkpoint is {since:,} iterations old"
        return f"{words}, there was one every {figures['usual_iters']:,}", figures

    def finding(self, rule: Rule, told: str | tuple[str, dict[str, Any]]) -> Finding:
        """Something wrong with the run as it stands, in words and figures."""
        text, figures = (told, {}) if isinstance(told, str) else told
        return Finding(rule, text, figures, self.t, self.session, self.record, self.iter)


def at_seconds(time: str) -> float:
    """A record's time in seconds since 1970; 0 where it is none."""
    try:
        return datetime.fromisoformat(time).timestamp()
    except (ValueError, OverflowError, OSError):
        return 0.0


def seconds(s: float) -> str:
    """A duration: 0.4 s, 12 s, 5 min, 3.2 h."""
    if s < 120:
        return f"{s:.0f} s" if s >= 10 else f"{s:.2g} s"
    return f"{s / 60:.0f} min" if s < 7200 else f"{s / 3600:.1f} h"


def size(n_bytes: float) -> str:
    """A size: 512 MB, 1.5 GB."""
    for unit in ("kB", "MB", "GB"):
        n_bytes /= 1000
        if n_bytes < 1000:
            return f"{n_bytes:.3g} {unit}"
    return f"{n_bytes / 1000:.3g} TB"


def _ms(fields: Mapping[str, Any], key: str) -> float:
    value = fields.get(key)
    return float(value) if isinstance(value, float | int) and 0 < value < 1e9 else 0.0
