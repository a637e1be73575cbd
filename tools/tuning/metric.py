"""What a study optimizes. This module does without optuna, which takes long to import."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

FAR = 3.0
"""An axis ends at this multiple of the distance of most values from the best."""


@dataclass(frozen=True)
class Metric:
    """A series or a field of evaluations to optimize.

    `NAME` is its last value, `best_NAME` and `NAME:best` its best one.
    """

    name: str = "best_val_loss"
    maximize: bool = False

    @property
    def field(self) -> str:
        """The name of the series, or the field of evaluations."""
        return self.name.removeprefix("best_").removesuffix(":best").removesuffix(":last")

    def of(self, values: list[float]) -> float | None:
        """The metric of a trial from its evaluations in order; None if none is finite."""
        if not self.name.startswith("best_") and not self.name.endswith(":best"):
            return values[-1] if values and math.isfinite(values[-1]) else None
        finite = [value for value in values if math.isfinite(value)]
        return (max if self.maximize else min)(finite, default=None)

    def limits(self, values: Sequence[float]) -> tuple[float, float]:
        """The lowest and highest value of an axis, without values that are far from the best."""
        sign = -1.0 if self.maximize else 1.0
        losses = sorted(sign * value for value in values)
        best, most = losses[0], losses[(3 * len(losses)) // 4 - (len(losses) > 1)]
        worst = min(losses[-1], best + FAR * (most - best)) if most > best else losses[-1]
        return (best, worst) if sign > 0 else (-worst, -best)
