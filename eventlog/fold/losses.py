"""Which series of a run are its training and its validation loss."""

from collections.abc import Iterable, Mapping

from eventlog.fold.series import Series

LOSSES = (
    "train/iter_loss", "loss", "train_loss_step", "train/loss_step", "Loss/train", "train/loss",
    "train_loss", "loss/train", "training_loss", "train/loss_epoch", "train_loss_epoch",
)  # fmt: skip
"""Usual names of a metric that is the training loss, the finest first."""
VAL_LOSSES = (
    "val/loss", "val_loss", "Loss/val", "eval/loss", "eval_loss", "loss/val", "valid_loss",
    "validation_loss", "val_loss_epoch", "val/loss_epoch", "Loss/validation", "Loss/test",
)  # fmt: skip


def losses(named: Mapping[str, Series]) -> tuple[Series | None, Series | None]:
    """The training and the validation loss among the series of a run; None where there is none.

    Those of `iterations` and `evals`, else the metrics that have usual names.
    """
    loss = _column(named, "iterations", "loss")
    val_loss = _column(named, "evals", "val_loss")
    usual_loss, usual_val_loss = usual_losses(name for name, one in named.items() if one.is_numeric)
    return (
        loss or (named[usual_loss] if usual_loss else None),
        val_loss or (named[usual_val_loss] if usual_val_loss else None),
    )


def _column(named: Mapping[str, Series], table: str, column: str) -> Series | None:
    matching = (one for one in named.values() if (one.table, one.column) == (table, column))
    return next(matching, None)


def usual_losses(names: Iterable[str]) -> tuple[str | None, str | None]:
    """The names of the training and the validation loss among those of metrics; None: none."""
    usual = {name.replace(".", "/"): name for name in names}  # a dict's inner names have dots
    val_loss = next((usual[name] for name in VAL_LOSSES if name in usual), None)
    losses = (usual[name] for name in LOSSES if name in usual and usual[name] != val_loss)
    return next(losses, None), val_loss
