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
    """How far the losses of two runs are equal, iteration by iteration."""

    n_equal: int
    """Equal iterations before the first difference."""
    differs_at: int | None = None
    """The first iteration that differs; None if none does."""
    ours: float | None = None
    theirs: float | None = None
    """The losses there; None where a run has none."""
    largest: float = 0.0
    """The largest difference among the iterations that both have."""
    largest_at: int | None = None

    @property
    def is_exact(self) -> bool:
        """Whether there was something to compare, and all of it is equal."""
        return self.n_equal > 0 and self.differs_at is None

    def __str__(self) -> str:
        if self.differs_at is None:
            text = f"{self.n_equal:,} iterations equal" if self.n_equal else "nothing to compare"
        else:
            text = (
                f"differs at iteration {self.differs_at:,}: loss {_text(self.ours)} and "
                f"{_text(self.theirs)}, after {self.n_equal:,} equal iterations"
            )
        if self.largest_at is not None:
            text += f"; the largest difference is {self.largest:.3g}, at {self.largest_at:,}"
        return text


def agreement(ours: eventlog.Run, theirs: eventlog.Run, *, tolerance: float = 0.0) -> Agreement:
    """Compare the losses of two runs. NaN equals NaN; an iteration that one is missing differs.

    Args:
        tolerance: the largest difference that still counts as equal.
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
    if not len(run.training_iterations):  # metrics: one of them is the loss
        loss, _ = run.losses()
        return {} if loss is None else dict(run.points(loss.name))
    return {row["iter"]: loss_of(row) for row in run.training_iterations if "iter" in row}


def loss_of(row: Mapping[str, Any], key: str = "loss") -> float | None:
    """The loss as logged: in a run JSON a NaN is a null, with its name in `nonfinite`."""
    loss = row.get(key)
    if isinstance(loss, int | float):
        return float(loss)
    name = (row.get("nonfinite") or {}).get(key)
    return float(name) if name else None


def _gap(a: float | None, b: float | None) -> float:
    """The difference of two losses; infinite if one is missing or only one is finite."""
    if a is None or b is None:
        return math.inf
    if a == b or (math.isnan(a) and math.isnan(b)):
        return 0.0
    gap = abs(a - b)
    return math.inf if math.isnan(gap) else gap


def _text(loss: float | None) -> str:
    return "missing" if loss is None else repr(loss)
