"""Checkpoints: `out/ckpt.pt`, always the latest, and `out/best.pt`, of the best val loss.

A checkpoint is a plain dict for `torch.load(weights_only=True)`: nanoGPT's keys and a few more.
It is written beside, made durable and renamed, so at any moment the name holds one whole file.
Its event is logged after that: an event in the journal proves a complete checkpoint on disk.
"""

import errno
import hashlib
import os
from pathlib import Path
from typing import Any, NamedTuple

import torch

from eventlog import atomic_write, scan

FORMAT = 1
LATEST, BEST = "ckpt.pt", "best.pt"


class Saved(NamedTuple):
    """A checkpoint on disk, as its event tells it."""

    path: Path
    size_bytes: int
    sha256: str


def save(out_dir: Path, state: dict[str, Any], *, is_best: bool) -> Saved:
    """`state`, durable as the latest checkpoint.

    The best one is a second name of the same file, not a second copy: the next save renames a
    new file over the first name, and the second goes on holding the old one.

    Raises:
        OSError: the disk refused; the checkpoint before is still there, whole.
    """
    path = out_dir / LATEST
    digest = hashlib.sha256()
    size_bytes = atomic_write(
        path, lambda file: torch.save({"format": FORMAT, **state}, file), digest=digest
    )
    if is_best:
        link = out_dir / f".{BEST}.{os.getpid()}"
        link.unlink(missing_ok=True)
        os.link(path, link)
        link.replace(out_dir / BEST)
    return Saved(path, size_bytes, digest.hexdigest())


def newest(out_dir: Path) -> tuple[Path, list[str]]:
    """The newest checkpoint that is whole and is the file its event speaks of.

    And remarks for a person: which one was passed over, and why; what the journal lost.

    Raises:
        ValueError: there is none, or none that is whole; says what is wrong with each.
    """
    remarks: list[str] = []
    for path in (out_dir / LATEST, out_dir / BEST):
        if not path.exists():
            continue
        try:
            remarks += check_against_journal(path, load(path))
        except ValueError as error:
            remarks.append(f"passed over: {error}")
        else:
            return path, remarks
    if remarks:
        raise ValueError("; ".join(remarks))
    raise ValueError(
        f"{out_dir / LATEST}: there is no checkpoint to go on from; "
        "start with --init_from=scratch, or name another --out_dir"
    )


def check_against_journal(path: Path, state: dict[str, Any]) -> list[str]:
    """Hold a checkpoint against the journal it was written beside; remarks on that journal.

    A checkpoint remembers how many records its session had before it; its event, if the
    process lived to log it, is the first one after that, and holds the file's SHA-256.

    Raises:
        ValueError: these are not the bytes that the event speaks of.
    """
    position = state.get("journal")
    journal = path.parent / position["file"] if position else None
    if position is None or journal is None or not journal.exists():
        return []
    s, n_before = position["session"], position["records"]
    n_found = 0
    for record in scan(journal):
        if record.s == s and record.n < n_before:
            n_found += 1
        elif record.s == s and record.event == "checkpoint":
            told = record.fields.get("sha256")
            if told is not None and told != sha256_of(path):
                raise ValueError(
                    f"{path}: its bytes are not those that were saved at iteration "
                    f"{state['iter_num']} (SHA-256 {told[:12]}... in {journal})"
                )
            break
    if n_found == n_before:
        return []
    return [
        f"{journal} has {n_found:,} of the {n_before:,} records that its session {s} had when "
        f"{path} was saved; see: eventlog verify {journal}"
    ]


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
    except Exception as error:  # on strange bytes torch's reader raises whatever comes to hand,
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # of half a file this
            raise
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
