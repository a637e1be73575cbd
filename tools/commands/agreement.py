"""Whether the losses of two runs are equal, iteration by iteration.

from .agreement import agreement
assert agreement(resumed, never_killed).is_exact
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import eventlog


@dataclass(frozen=True)
class Agreement:
    """How far the losses of two runs agree, iteration by iteration."""

    n_equal: int
    """Iterations that agree before the first that does not."""
    differs_at: int | None = None
    """The first iteration that does not agree; None: all do."""
    ours: float | None = None
    theirs: float | None = None
    """The losses there; None where a run has none."""
    largest: float = 0.0
    """The largest difference seen in all iterations that both have."""
    largest_at: int | None = None

    @property
    def is_exact(self) -> bool:
        """Whether there was something to compare, and all of it agrees."""
        return self.n_equal > 0 and self.differs_at is None

    def __str__(self) -> str:
        if self.differs_at is None:
            said = f"{self.n_equal:,} iterations equal" if self.n_equal else "nothing to compare"
        else:
            said = (
                f"differs at iteration {self.differs_at:,}: loss {_said(self.ours)} and "
                f"{_said(self.theirs)}, after {self.n_equal:,} equal iterations"
            )
        if self.largest_at is not None:
            said += f"; the largest difference is {self.largest:.3g}, at {self.largest_at:,}"
        return said


def agreement(ours: eventlog.Run, theirs: eventlog.Run, *, tolerance: float = 0.0) -> Agreement:
    """Compare the losses of two runs. NaN equals NaN; an iteration that one lacks differs.

    Args:
        tolerance: losses may be so far apart and still count as equal.
    """
    a, b = _losses(ours), _losses(theirs)
    n_equal, differs_at, largest, largest_at = 0, None, 0.0, None
    for i in sorted(a.keys() | b.keys()):
        gap = _gap(a.get(i), b.get(i))
        if largest < gap < math.inf:
            largest, largest_at = gap, i
        if gap > tolerance and differs_at is None:
            differs_at = i
        n_equal += differs_at is None
    if differs_at is None:
        return Agreement(n_equal, largest=largest, largest_at=largest_at)
    return Agreement(n_equal, differs_at, a.get(differs_at), b.get(differs_at), largest, largest_at)


def _losses(run: eventlog.Run) -> dict[int, float | None]:
    return {row["iter"]: loss_of(row) for row in run.training_iterations if "iter" in row}


def loss_of(row: Mapping[str, Any], key: str = "loss") -> float | None:
    """The loss as it was logged: a run JSON keeps a NaN by name, beside a null."""
    loss = row.get(key)
    if isinstance(loss, int | float):
        return float(loss)
    name = (row.get("nonfinite") or {}).get(key)
    return float(name) if name else None


def _gap(a: float | None, b: float | None) -> float:
    """How far apart two losses are; infinite where only one is there, or finite."""
    if a is None or b is None:
        return math.inf
    if a == b or (math.isnan(a) and math.isnan(b)):
        return 0.0
    gap = abs(a - b)
    return math.inf if math.isnan(gap) else gap


def _said(loss: float | None) -> str:
    return "missing" if loss is None else repr(loss)
