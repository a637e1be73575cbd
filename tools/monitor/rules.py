"""What may be wrong with a run, as its journal shows it.

Each rule is a pure function of the values and the time that are passed to it; none reads a clock
or a file. `Vitals` (vitals.py) keeps the values.
"""

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import isfinite
from statistics import median
from typing import Any, Literal, get_args

import eventlog
from eventlog import duration

from ..core.formats import size

Rule = Literal[
    "stall", "crash", "failed", "nonfinite", "spike", "slow", "checkpoint_overdue", "disk",
    "threshold", "no_improvement",
]  # fmt: skip
RULES: tuple[Rule, ...] = get_args(Rule)
STANDING: tuple[Rule, ...] = ("stall", "crash", "slow", "checkpoint_overdue", "disk")
"""Rules whose problem lasts for a while and then is over; the others are about one record."""

WINDOW = 128  # losses that a spike is measured by
WINDOW_MIN = 32
RHYTHM_MIN = 5  # intervals from which the usual one is known
RECENT = 6  # batches of iterations that are compared with those before them
BASE_MIN = 12
_MAD_TO_SIGMA = 1.4826  # of a normal distribution
_SCALE_MIN = 0.005  # of the median: among nearly equal losses a tiny rise is not a spike


@dataclass(frozen=True)
class Limits:
    """The limits beyond which something is wrong."""

    stall_s: float = 60.0
    """The shortest silence that is a stall."""
    stall_factor: float = 10.0
    """A multiple of the median interval between two iterations."""
    pause_factor: float = 4.0
    """A multiple of the time that evaluations and checkpoints take."""
    start_s: float = 1800.0
    """The silence allowed while the usual interval is unknown: compilation is slow."""
    crash_s: float = 5.0
    """Seconds after the lock is gone, so that the last events of the process have been read."""
    spike_z: float = 12.0
    spike_part: float = 0.2
    """At least this multiple of the median of the losses before it."""
    slow_factor: float = 2.0
    slow_s: float = 60.0
    """For at least this long."""
    overdue_factor: float = 3.0
    """A multiple of the longest of the latest intervals between checkpoints, in iterations."""
    disk_part: float = 0.05
    disk_bytes: float = 10 * 2.0**30
    """Free space is little if it is below both."""
    disk_full_in_s: float = 3600.0


@dataclass(frozen=True)
class Finding:
    """Something wrong with a run: the rule, a line of text, and the measured values."""

    rule: Rule
    text: str
    values: dict[str, Any] = field(default_factory=dict)
    t: float = 0.0
    """When, in seconds since 1970."""
    session: str = ""
    record: int = -1
    """Number of the record in the session: that which shows it, or the last before it."""
    iter: int | None = None


# ---- the rules


def deadline_s(
    gaps: Mapping[str, Sequence[float]], limits: Limits, *, longest_s: float = 0.0
) -> float:
    """How long a healthy run may be silent.

    Args:
        gaps: by event, the intervals (s) before it; of `metrics`, those between two steps.
        longest_s: the longest interval between two steps of `metrics`: nobody says what a pause
            was for.
    """
    steps = gaps.get("iter", ())
    evals = gaps.get("eval", ())
    metrics = gaps.get("metrics", ())
    if len(steps) >= RHYTHM_MIN:
        allowed = max(limits.stall_s, limits.stall_factor * median(steps))
    elif not steps and len(metrics) >= RHYTHM_MIN:
        allowed = max(limits.stall_s, limits.stall_factor * median(metrics))
        allowed = max(allowed, limits.pause_factor * longest_s)
    elif not steps and len(evals) >= 3:
        allowed = max(limits.stall_s, limits.pause_factor * median(evals))  # none are logged
    else:
        allowed = limits.start_s
    rare = (kind for kind in gaps if eventlog.KINDS[kind].is_durable_at_once)  # not the steps
    pauses = (median(gaps[kind]) for kind in rare if gaps[kind])
    return max(allowed, limits.pause_factor * sum(pauses))


def stall(quiet_s: float, allowed_s: float) -> str | None:
    """No event for longer than allowed."""
    if quiet_s <= allowed_s:
        return None
    return f"no event for {duration(quiet_s)}, expected one within {duration(allowed_s)}"


def crash(quiet_s: float, *, is_alive: bool, after_s: float) -> str | None:
    """Nobody holds the journal's lock."""
    if is_alive or quiet_s <= after_s:
        return None
    return f"the process is gone without a close event, {duration(quiet_s)} after its last one"


def spike(losses: "Window", loss: float, limits: Limits) -> dict[str, float] | None:
    """A loss far above those before it: its robust z-score and its ratio to their median."""
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

    Once raised (`stands`), it is over only half-way back to normal, so that a value at the limit
    does not raise it again and again.
    """
    if len(recent) < RECENT or len(before) < BASE_MIN:
        return None
    usual, now = median(before), median(recent)
    factor = (1 + limits.slow_factor) / 2 if stands else limits.slow_factor
    if usual <= 0 or now < factor * usual:
        return None
    unusual = sorted(before)[int(0.9 * (len(before) - 1))]
    if not stands and sorted(recent)[1] <= unusual:  # one of them may be fast by chance
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
    when = f", full in {duration(full_in_s)} at this rate" if full_in_s is not None else ""
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


def finite_fields(event: str) -> tuple[str, ...]:
    """The fields of a kind of event that are finite numbers in a healthy run."""
    kind = eventlog.KINDS.get(event)
    return kind.finite if kind is not None else ()


def nonfinite(event: str, fields: Mapping[str, Any]) -> list[str]:
    """Which values of a record should be finite and are not: losses, and the gradient's norm.

    A step that was skipped because of its gradient alone (`skipped`) does not count: with float16
    that is usual.
    """
    named = fields.get("nonfinite")
    bad = {str(k): str(v) for k, v in named.items()} if isinstance(named, dict) else {}
    names = finite_fields(event)
    if event == "nonfinite":
        names = tuple(bad) or ("loss",)
    elif fields.get("skipped") and "loss" not in bad:
        names = ()
    return [f"{key} {bad.get(key, 'nan')}" for key in names if key in bad or event == "nonfinite"]


class Window:
    """The latest values, kept sorted, so that their median is fast."""

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
