"""Hugging Face Trainer: `trainer_state.json`, or a folder that has one (a checkpoint's).

Every entry of its `log_history` is imported at the step that the Trainer counts (1 after the
first). The rest of the state becomes metadata. Of several checkpoints the last one is read: it has
the history of the earlier ones.
"""

import json
from pathlib import Path
from typing import Any

from ...core.runs import Refusal
from .metrics import Metrics, flat
from .reading import read_all, whole
from .source import LossNames, Source, SourceRun

FILE, CHECKPOINT = "trainer_state.json", "checkpoint-"
SETTINGS = (
    "max_steps", "num_train_epochs", "train_batch_size",
    "logging_steps", "eval_steps", "save_steps",
)  # fmt: skip
RESULTS = ("best_metric", "best_global_step", "best_model_checkpoint")


def find(path: Path) -> list[Source]:
    """The runs in a file or folder."""
    files = path.rglob(FILE) if path.is_dir() else [path] if path.name == FILE else []
    latest: dict[Path, Path] = {}
    for file in sorted(filter(Path.is_file, files), key=_position):
        latest[_folder(file)] = file
    return [Source([file], folder.name or "trainer", file) for folder, file in latest.items()]


def _folder(file: Path) -> Path:
    """The folder of the run: that of its checkpoints."""
    folder = file.resolve().parent
    return folder.parent if folder.name.startswith(CHECKPOINT) else folder


def _position(file: Path) -> tuple[float, str]:
    """Checkpoints by their step; the state that was saved at the end comes last."""
    number = file.resolve().parent.name.removeprefix(CHECKPOINT)
    return float(number) if number.isdecimal() else float("inf"), str(file)


def read(source: Source, loss_names: LossNames) -> SourceRun:
    (file,) = source.files
    try:
        state = json.loads(read_all(file))
    except (ValueError, RecursionError) as error:
        raise Refusal(
            f"{file}: not JSON ({error}). An earlier checkpoint-N/{FILE} has the history up to it"
        ) from None
    if not isinstance(state, dict) or not isinstance(state.get("log_history"), list):
        raise Refusal(f"{file}: not the state of a Trainer: it has no log_history")
    run = SourceRun(source.name, [file], key=str(_folder(file)))
    metrics = Metrics()
    n_without_step = 0
    for entry in state.pop("log_history"):
        step = whole(entry.get("step")) if isinstance(entry, dict) else None
        if step is None:
            n_without_step += 1
        else:
            metrics.add(step, flat({k: v for k, v in entry.items() if k != "step"}))
    if n_without_step:
        run.unreadable.append(f"{n_without_step:,} entries of log_history without a step")
    metrics.into(run, loss_names)
    run.config = {k: state[k] for k in SETTINGS if k in state}
    run.summary = {k: state[k] for k in RESULTS if state.get(k) is not None}
    run.metadata["trainer_state"] = {k: v for k, v in state.items() if k not in SETTINGS}
    _set_status(state, run)
    return run


def _set_status(state: dict[str, Any], run: SourceRun) -> None:
    step, max_steps = state.get("global_step"), state.get("max_steps")
    if not (isinstance(step, int) and isinstance(max_steps, int) and step < max_steps):
        run.reason = None
    elif _was_stopped(state):
        run.reason = f"the Trainer was stopped at step {step:,} of {max_steps:,}"
    else:
        run.status, run.reason = "interrupted", f"ended at step {step:,} of {max_steps:,}"


def _was_stopped(state: dict[str, Any]) -> bool:
    """Whether a callback had it stop, such as early stopping."""
    try:
        control = state["stateful_callbacks"]["TrainerControl"]
        return control["args"]["should_training_stop"] is True
    except (KeyError, TypeError):
        return False
