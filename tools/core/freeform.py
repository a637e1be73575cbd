"""Which of the metrics that a run logged under its own names are its losses."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import eventlog

Row = dict[str, Any]

LOSSES = (
    "train/iter_loss", "loss", "train_loss_step", "train/loss_step", "Loss/train", "train/loss",
    "train_loss", "loss/train", "training_loss", "train/loss_epoch", "train_loss_epoch",
)  # fmt: skip
VAL_LOSSES = (
    "val/loss", "val_loss", "Loss/val", "eval/loss", "eval_loss", "loss/val", "valid_loss",
    "validation_loss", "val_loss_epoch", "val/loss_epoch", "Loss/validation", "Loss/test",
)  # fmt: skip


def losses(names: Iterable[str]) -> tuple[str | None, str | None]:
    """The names of the training and the validation loss among `names`; None if missing."""
    usual = {name.replace(".", "/"): name for name in names}  # a dict's inner names have dots
    val_loss = next((usual[name] for name in VAL_LOSSES if name in usual), None)
    usual_losses = [usual[name] for name in LOSSES if name in usual and usual[name] != val_loss]
    return next(iter(usual_losses), None), val_loss


def summary_of(run: eventlog.Run) -> Row:
    """`iterations`, `final_loss` and `best_val_loss` of a run that logged metrics alone."""
    metrics = run.journal.get("metrics")
    if run.summary.get("total_iterations") or not isinstance(metrics, dict):
        return {}
    names = metrics.get("names") or {}
    loss, val_loss = losses(names)
    return {
        "iterations": metrics.get("rows"),
        "final_loss": _number(names.get(loss, {}).get("last")),
        "best_val_loss": _number(names.get(val_loss, {}).get("min")),
    }


def with_curves(run: eventlog.Run) -> eventlog.Run:
    """A run that logged only metrics, with its losses as iterations and evals; others unchanged."""
    if len(run.training_iterations) or len(run.eval_steps) or not len(run.metrics):
        return run
    loss, val_loss = losses(dict.fromkeys(name for row in run.metrics for name in row))
    superseded = run.journal.get("superseded_metrics") or []
    journal = run.journal | {
        "superseded_iterations": _renamed(superseded, loss, "loss"),
        "superseded_evals": _renamed(superseded, val_loss, "val_loss"),
    }
    return replace(
        run,
        training_iterations=_renamed(run.metrics, loss, "loss"),
        eval_steps=_renamed(run.metrics, val_loss, "val_loss"),
        journal=journal,
    )


def _renamed(rows: Sequence[Row], name: str | None, own: str) -> list[Row]:
    """The rows that have `name`, with the step as `iter` and the value as `own`."""
    if name is None:
        return []
    return [_row(row, name, own) for row in rows if name in row and type(row.get("step")) is int]


def _row(row: Row, name: str, own: str) -> Row:
    nonfinite = row.get("nonfinite")
    renamed = {"iter": row["step"], own: row[name]}
    if isinstance(nonfinite, dict) and name in nonfinite:
        renamed["nonfinite"] = {own: nonfinite[name]}
    return renamed


def _number(value: Any) -> float | None:
    return float(value) if type(value) in (float, int) else None
