"""Hugging Face Trainer: `trainer_state.json`, or a folder that has one (a checkpoint's).

`loss` is the training loss, `eval_loss` the validation loss; the step is the one that the
Trainer counts (1 after the first). The rest of the state becomes metadata.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...core.runs import Refusal
from .reading import number, read_all, whole
from .source_run import LossNames, Metrics, SourceRun

FILE = "trainer_state.json"
SETTINGS = (
    "max_steps", "num_train_epochs", "train_batch_size",
    "logging_steps", "eval_steps", "save_steps",
)  # fmt: skip


def fits(path: Path) -> bool:
    return path.name == FILE if path.is_file() else (path / FILE).exists()


def read(path: Path, loss_names: LossNames) -> Iterator[SourceRun]:
    file = path / FILE if path.is_dir() else path
    try:
        state = json.loads(read_all(file))
    except (ValueError, RecursionError) as error:
        raise Refusal(
            f"{file}: not JSON ({error}). An earlier checkpoint-N/{FILE} has the history up to it"
        ) from None
    if not isinstance(state, dict) or not isinstance(state.get("log_history"), list):
        raise Refusal(f"{file}: not the state of a Trainer: it has no log_history")
    run = SourceRun(_name(file), [file])
    metrics = Metrics()
    for entry in state.pop("log_history"):
        step = whole(entry.get("step")) if isinstance(entry, dict) else None
        if step is None:
            run.left_out.append(f"an entry of log_history without a step: {str(entry)[:80]}")
            continue
        values = {k: number(v) for k, v in entry.items() if k != "step"}
        if "eval_loss" in values:
            values.pop("epoch", None)  # the training's entry of this step has it
        metrics.add(step, {k: v for k, v in values.items() if v is not None})
        run.left_out += [
            f"step {step}: {k!r} is not a number" for k, v in values.items() if v is None
        ]
    run.events = list(metrics.events(loss_names))
    run.config = {k: state[k] for k in SETTINGS if k in state}
    run.metadata["trainer_state"] = {k: v for k, v in state.items() if k not in SETTINGS}
    _set_status(state, run)
    return iter([run])


def _set_status(state: dict[str, Any], run: SourceRun) -> None:
    step, max_steps = state.get("global_step"), state.get("max_steps")
    if isinstance(step, int) and isinstance(max_steps, int) and step < max_steps:
        run.status, run.reason = "interrupted", f"ended at step {step:,} of {max_steps:,}"
    else:
        run.reason = None


def _name(file: Path) -> str:
    parts = [part for part in file.resolve().parts[:-1] if not part.startswith("checkpoint-")]
    return parts[-1] or "trainer"
