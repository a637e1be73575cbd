"""Which flags of a resumed run its checkpoint decides, and which changes are reported."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from trainer.checkpoint.layout import State

SHAPE = ("block_size", "n_layer", "n_head", "n_embd", "bias")
ALWAYS_CHECKED = ("tokenizer", "optimizer")  # also if they have their default values
NO_EFFECT_ON_TRAINING = {
    "preset", "init_from", "eval_interval", "eval_iters", "eval_only", "always_save_checkpoint",
    "out_dir", "log_interval", "save_log_to_json", "log_save_interval", "log_iterations",
    "wandb_log", "wandb_project", "wandb_run_name", "data_dir", "input", "peak_flops",
    "checkpoint_format", "keep_checkpoints", "async_checkpoint", "nonfinite", "resume_from",
    "wandb_required",
}  # fmt: skip


def flags_from_checkpoint(
    path: Path, state: State, last_iter: int, config: Mapping[str, Any], explicit: Collection[str]
) -> dict[str, Any]:
    """The flags that take their value from the checkpoint: the shape of the weights; and max_iters
    and wandb_run_name unless they were given.

    Args:
        last_iter: the last iteration that the run has made.
        explicit: the flags that were given. The others take the checkpoint's value.

    Raises:
        ValueError: flags contradict the checkpoint, or --max_iters is below `last_iter`.
    """
    values = {
        **{name: state["model_args"][name] for name in SHAPE},
        "tokenizer": state["dataset"]["tokenizer"],
        "optimizer": state["config"].get("optimizer", "adamw"),
    }
    # Another preset than before also asks for its default shape.
    is_new_preset = config["preset"] != state["config"].get("preset", config["preset"])
    is_new_shape = "preset" in explicit and is_new_preset
    checked = {*explicit, *ALWAYS_CHECKED, *(SHAPE if is_new_shape else ())}
    wrong = [name for name in values if name in checked and config[name] != values[name]]
    if wrong:
        given_flags = " ".join(f"--{name}={config[name]}" for name in wrong)
        expected = " ".join(f"--{name}={values[name]}" for name in wrong)
        raise ValueError(
            f"{path}: the checkpoint has {expected}, but {given_flags} was given: to resume, give "
            f"{expected}, or start a new run with --init_from=scratch"
        )
    for name in ("max_iters", "wandb_run_name"):
        if name not in explicit and name in state["config"]:
            values[name] = state["config"][name]
    max_iters = values.get("max_iters", config["max_iters"])
    if max_iters < last_iter and not config["eval_only"]:
        raise ValueError(
            f"{path}: the run already has iteration {last_iter}, but --max_iters={max_iters} was "
            f"given: to train further, give --max_iters above {last_iter}"
        )
    return values


def check_same_tokenizer(state: State, tokenizer: dict[str, Any], dataset: dict[str, Any]) -> None:
    """Check that token ids mean the same in the data and in the checkpoint.

    Raises:
        ValueError: the data was prepared with another tokenizer than the checkpoint's.
    """
    if state["tokenizer"] != tokenizer:
        saved = state["dataset"]
        raise ValueError(
            f"the checkpoint has the tokenizer {saved['tokenizer']} trained on {saved['name']}, "
            f"the data has {dataset['tokenizer']} trained on {dataset['name']}: give the same "
            "--input and --tokenizer, or start a new run with --init_from=scratch"
        )


def check_same_vocabulary(state: State, vocab_size: int) -> None:
    """Check that the weights have a row for each token id of the data.

    Raises:
        ValueError: the data has another number of token ids than the weights.
    """
    expected = state["model_args"]["vocab_size"]
    if expected != vocab_size:
        raise ValueError(
            f"the checkpoint's vocabulary has {expected:,} rows, the data's {vocab_size:,}: give "
            "the same --input and --tokenizer, or start a new run with --init_from=scratch"
        )


def changes(state: State, config: dict[str, Any], dataset: dict[str, Any]) -> str:
    """What changes the training since the checkpoint: `learning_rate 0.001 -> 0.0005, ...`."""
    before = state["config"] | {"text": state["dataset"]["sha256"][:8]}
    now = config | {"text": dataset["sha256"][:8]}
    return ", ".join(
        f"{name} {format_value(before[name])} -> {format_value(now[name])}"
        for name in now
        # A flag that the checkpoint does not have is newer than the checkpoint.
        if name not in NO_EFFECT_ON_TRAINING and before.get(name, now[name]) != now[name]
    )


def format_value(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
