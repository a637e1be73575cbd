"""What makes one trial better than another."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """What is to be small, or large: of evaluations `best_FIELD` the best, `FIELD` the last."""

    name: str = "best_val_loss"
    maximize: bool = False

    @property
    def field(self) -> str:
        return self.name.removeprefix("best_")

    def of(self, values: list[float]) -> float | None:
        """The figure of a trial from its evaluations in order; None where none is a number."""
        if not self.name.startswith("best_"):
            return values[-1] if values and math.isfinite(values[-1]) else None
        finite = [value for value in values if math.isfinite(value)]
        return (max if self.maximize else min)(finite, default=None)
