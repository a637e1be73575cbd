"""The x axis of charts: iterations, the tokens seen before them, or time.

Time is that of the clock when a row was logged, in seconds since the first event of the run; it
includes evaluations, checkpoints and the time between two sessions, in which lines have a gap.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

import eventlog
from eventlog import seconds

from .formats import is_finite, is_number

AxisName = Literal["iter", "tokens", "time"]
AXES: tuple[AxisName, ...] = ("iter", "tokens", "time")
"""What a chart may have on its x axis, besides a series."""
Floats = NDArray[np.float64]
Knots = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Scale:
    """An x axis in tokens or seconds: from iteration `starts[k]` on a step adds `per_step[k]`."""

    starts: Floats
    per_step: Floats

    @classmethod
    def of(cls, knots: Knots) -> "Scale":
        """A scale of pairs (first iteration, what a step adds from there on), ascending."""
        return cls(np.array([i for i, _ in knots], float), np.array([n for _, n in knots], float))

    def place(self, iters: Floats) -> Floats:
        """The sum over all steps before each of `iters`."""
        at = np.clip(np.searchsorted(self.starts, iters, side="right") - 1, 0, None)
        placed: Floats = self._before[at] + (iters - self.starts[at]) * self.per_step[at]
        return placed

    def iters(self, places: Floats) -> Floats:
        """The inverse of `place`."""
        at = np.clip(np.searchsorted(self._before, places, side="right") - 1, 0, None)
        iters: Floats = self.starts[at] + (places - self._before[at]) / self.per_step[at]
        return iters

    @property
    def _before(self) -> Floats:
        return np.append(0.0, np.cumsum(np.diff(self.starts) * self.per_step[:-1]))


def token_knots(run: eventlog.Run) -> list[tuple[float, float]]:
    """Pairs (first iteration, tokens per step from there on): each session may change the number.

    Empty if the run has no tokens_per_iter.
    """
    knots: list[tuple[float, Any]] = [(0, run.metadata.get("tokens_per_iter"))]
    for session in reversed(run.journal.get("sessions") or []):
        changed = session.get("changed", {}).get("tokens_per_iter")
        if changed and type(session.get("from_iter")) is int:
            start = min(session["from_iter"], *(i for i, _ in knots[:-1]), math.inf)
            knots[-1] = (start, knots[-1][1])
            knots.append((0, changed[0]))
    knots.reverse()
    is_known = all(is_finite(n) and n > 0 for _, n in knots)
    return knots if is_known else []


# ---- time


def session_starts(run: eventlog.Run) -> Floats:
    """When the sessions after the first one began, in seconds since the first event of the run."""
    started = seconds(run.start_time)
    times = [seconds(one.get("started")) for one in run.journal.get("sessions") or ()]
    if started is None:
        return np.empty(0)
    return np.array([time - started for time in times[1:] if time is not None])


def with_gaps(x: Floats, y: Floats, starts: Iterable[float]) -> tuple[Floats, Floats]:
    """A line, x ascending, with a NaN before the first point at or after each of `starts`.

    Before that point nobody was running.
    """
    at = np.unique(np.searchsorted(x, np.fromiter(starts, float)))
    at = at[(at > 0) & (at < len(x))]
    return np.insert(x, at, x[at]), np.insert(y, at, np.nan)


def clock(times: Sequence[Any], after: float = -np.inf) -> Floats:
    """ISO 8601 times in seconds since 1970, none before `after` or the one before it.

    If the clock was set back, time stands still; it does where a time is none, too.
    """
    ascending: Floats = np.fmax.accumulate(np.append(after, seconds_of(times)))[1:]
    return ascending


def seconds_of(times: Sequence[Any]) -> Floats:
    """ISO 8601 times in seconds since 1970; NaN where a time is none."""
    try:  # of format 1: fixed width, UTC
        return np.array([t[:26] for t in times], "datetime64[us]").astype(np.float64) / 1e6
    except (ValueError, TypeError):
        return np.array([seconds(t) for t in times], np.float64)


def clock_of_steps(times_ms: Iterable[Any]) -> Floats:
    """What all steps before each took, in seconds: for a run JSON without a journal, which has no
    times of iterations."""
    steps_s = [t / 1000 if is_number(t) and 0 < t < 1e9 else 0.0 for t in times_ms]
    return np.append(0.0, np.cumsum(steps_s))[: len(steps_s)]
