"""Checkpoints: `out/ckpt.pt`, always the latest, and `out/best.pt`, of the best val loss.

A checkpoint is a plain dict for `torch.load(weights_only=True)`: nanoGPT's keys and a few more.
It is written beside, made durable and renamed, so at any moment the name holds one whole file.
Its event is logged after that: an event in the journal proves a complete checkpoint on disk.
"""

import os
from pathlib import Path
from typing import Any

import torch

from eventlog import atomic_write

FORMAT = 1
LATEST, BEST = "ckpt.pt", "best.pt"


def save(out_dir: Path, state: dict[str, Any], *, is_best: bool) -> tuple[Path, int]:
    """`state`, durable as the latest checkpoint; its path and its size in bytes.

    The best one is a second name of the same file, not a second copy: the next save renames a
    new file over the first name, and the second goes on holding the old one.

    Raises:
        OSError: the disk refused; the checkpoint before is still there, whole.
    """
    path = out_dir / LATEST
    size_bytes = atomic_write(path, lambda file: torch.save({"format": FORMAT, **state}, file))
    if is_best:
        link = out_dir / f".{BEST}.{os.getpid()}"
        link.unlink(missing_ok=True)
        os.link(path, link)
        link.replace(out_dir / BEST)
    return path, size_bytes


def load(path: Path) -> dict[str, Any]:
    """The checkpoint at `path`, its tensors on the CPU.

    Raises:
        ValueError: there is none, or it is not one of ours; names the file and the way out.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ValueError(
            f"{path}: there is no checkpoint to go on from; "
            "start with --init_from=scratch, or name another --out_dir"
        ) from None
    except OSError:
        raise
    except Exception as error:  # on strange bytes torch's reader raises whatever comes to hand
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise ValueError(f"{path}: it cannot be read as a checkpoint ({reason})") from None
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise ValueError(f"{path}: it is not a checkpoint of this trainer (format {FORMAT})")
    return state


def shape_of(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """The flags that the shape of the weights has settled."""
    names = ("block_size", "n_layer", "n_head", "n_embd", "bias")
    return {name: checkpoint["model_args"][name] for name in names}


def check_same_tokenizer(
    checkpoint: dict[str, Any], tokenizer: dict[str, Any], dataset: dict[str, Any]
) -> None:
    """Refuse data whose token ids do not mean what they meant to the weights.

    Raises:
        ValueError: the tokenizer is another one; names both.
    """
    if checkpoint["tokenizer"] != tokenizer:
        before = checkpoint["dataset"]
        raise ValueError(
            f"the checkpoint's tokenizer is {before['tokenizer']} made from {before['name']}, but "
            f"the data's is {dataset['tokenizer']} made from {dataset['name']}: give the same "
            "--input and --tokenizer, or start with --init_from=scratch"
        )


def changes(checkpoint: dict[str, Any], config: dict[str, Any], dataset: dict[str, Any]) -> str:
    """What makes the run that goes on another one: `learning_rate 0.001 -> 0.0005, ...`."""
    before = checkpoint["config"] | {"text": checkpoint["dataset"]["sha256"][:8]}
    now = config | {"text": dataset["sha256"][:8]}
    return ", ".join(
        f"{name} {show(before.get(name))} -> {show(now[name])}"
        for name in now
        if name not in BYSTANDERS and before.get(name) != now[name]
    )


def show(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


# Flags that do not move a training loss.
BYSTANDERS = {
    "preset", "init_from", "eval_interval", "eval_iters", "eval_only", "always_save_checkpoint",
    "out_dir", "log_interval", "save_log_to_json", "log_save_interval", "log_iterations",
    "wandb_log", "wandb_project", "wandb_run_name", "data_dir", "input", "peak_flops",
}  # fmt: skip
