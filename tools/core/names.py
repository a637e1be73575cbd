"""The names of a run's fields: one own name for each, and the other names people use for it.

The run JSON, the guide, `compare_runs` and the headings of tables use different names. Every flag
that takes a field accepts all of them.
"""

from typing import Literal

AxisName = Literal["iter", "tokens", "time"]
AXES: tuple[AxisName, ...] = ("iter", "tokens", "time")
"""What a chart may have on its x axis."""

OTHER_NAMES = {
    "run": ("run_name", "name"),
    "iterations": ("total_iterations", "total_iters", "n_iterations", "iters"),
    "best_val_loss": ("best val", "best_loss"),
    "final_loss": ("final_train_loss", "final loss", "final_training_loss"),
    "avg_time_ms": ("ms/iter", "ms_per_iter", "time_ms", "avg_ms"),
    "avg_mfu": ("mfu", "MFU", "MFU %"),
    "started": ("start_time",),
    "ended": ("end_time",),
    "age_s": ("age",),
}

_OWN = {other: own for own, others in OTHER_NAMES.items() for other in others}


def own_name(name: str) -> str:
    """The name of a field in a row, for any of its names."""
    return _OWN.get(name, name)


LOSSES = (
    "train/iter_loss", "loss", "train_loss_step", "train/loss_step", "Loss/train", "train/loss",
    "train_loss", "loss/train", "training_loss", "train/loss_epoch", "train_loss_epoch",
)  # fmt: skip
VAL_LOSSES = (
    "val/loss", "val_loss", "Loss/val", "eval/loss", "eval_loss", "loss/val", "valid_loss",
    "validation_loss", "val_loss_epoch", "val/loss_epoch", "Loss/validation", "Loss/test",
)  # fmt: skip
