"""The metric by which trials are compared."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """A field of evaluations to optimize: `best_FIELD` is its best value, `FIELD` its last."""

    name: str = "best_val_loss"
    maximize: bool = False

    @property
    def field(self) -> str:
        return self.name.removeprefix("best_")

    def of(self, values: list[float]) -> float | None:
        """The metric of a trial from its evaluations in order; None if none is finite."""
        if not self.name.startswith("best_"):
            return values[-1] if values and math.isfinite(values[-1]) else None
        finite = [value for value in values if math.isfinite(value)]
        return (max if self.maximize else min)(finite, default=None)
