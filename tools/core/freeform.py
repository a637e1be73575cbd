"""Free-form metrics where a loss is looked for: which of a run's own names is the loss."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import eventlog

from .names import LOSSES, VAL_LOSSES

Row = dict[str, Any]


def losses(names: Iterable[str]) -> tuple[str | None, str | None]:
    """The names of the training and of the validation loss, by what is usual; None: no such."""
    usual = {name.replace(".", "/"): name for name in names}  # a dict's inner names have dots
    val_loss = next((usual[name] for name in VAL_LOSSES if name in usual), None)
    found = [usual[name] for name in LOSSES if name in usual and usual[name] != val_loss]
    return next(iter(found), None), val_loss


def figures(run: eventlog.Run) -> Row:
    """`iterations`, `final_loss` and `best_val_loss` of a run that logged metrics alone."""
    told = run.journal.get("metrics")
    if run.summary.get("total_iterations") or not isinstance(told, dict):
        return {}
    names = told.get("names") or {}
    loss, val_loss = losses(names)
    return {
        "iterations": told.get("rows"),
        "final_loss": _number(names.get(loss, {}).get("last")),
        "best_val_loss": _number(names.get(val_loss, {}).get("min")),
    }


def with_curves(run: eventlog.Run) -> eventlog.Run:
    """The run, its losses among the metrics as its iterations and evals if it has none."""
    if len(run.training_iterations) or len(run.eval_steps) or not len(run.metrics):
        return run
    loss, val_loss = losses(dict.fromkeys(name for row in run.metrics for name in row))
    taken_back = run.journal.get("superseded_metrics") or []
    journal = run.journal | {
        "superseded_iterations": _renamed(taken_back, loss, "loss"),
        "superseded_evals": _renamed(taken_back, val_loss, "val_loss"),
    }
    return replace(
        run,
        training_iterations=_renamed(run.metrics, loss, "loss"),
        eval_steps=_renamed(run.metrics, val_loss, "val_loss"),
        journal=journal,
    )


def _renamed(rows: Sequence[Row], name: str | None, own: str) -> list[Row]:
    """Of the rows that have `name`: the step as `iter`, the value under our word for it."""
    if name is None:
        return []
    return [_row(row, name, own) for row in rows if name in row and type(row.get("step")) is int]


def _row(row: Row, name: str, own: str) -> Row:
    nonfinite = row.get("nonfinite")
    told = {"iter": row["step"], own: row[name]}
    if isinstance(nonfinite, dict) and name in nonfinite:
        told["nonfinite"] = {own: nonfinite[name]}
    return told


def _number(value: Any) -> float | None:
    return float(value) if type(value) in (float, int) else None
