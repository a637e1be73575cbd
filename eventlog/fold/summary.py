"""The summary of a run, computed from its columns."""

import math
from array import array
from typing import Any

from eventlog.fold.tables import Column, number


def summarize(
    iters: "array[int] | list[Any]",
    losses: "array[float] | list[float]",
    times_ms: Column,
    mfus: Column,
    val_losses: list[Any],
    n_checkpoints: int,
) -> dict[str, Any]:
    """The summary of a run from its columns, in which a missing or non-finite value is NaN.

    `final_train_loss` is the last finite loss, `avg_time_ms` the plain mean over all
    iterations, `avg_mfu` the mean where MFU is known (above the floor of 0 of its column),
    `best_val_loss` the true minimum. Each is None if its column has no such value.
    """
    known_val = [v for v in map(number, val_losses) if math.isfinite(v)]
    return {
        "total_iterations": len(iters),
        "final_iter": iters[-1] if len(iters) else None,
        "final_train_loss": next((x for x in reversed(losses) if math.isfinite(x)), None),
        "best_val_loss": min(known_val, default=None),
        "avg_time_ms": times_ms.mean(),
        "avg_mfu": mfus.mean(),
        "total_eval_steps": len(val_losses),
        "total_checkpoints": n_checkpoints,
    }
