"""Checkpoints: what a run needs to go on, whole and durable, or not there.

    out/ckpt.pt              the latest: a plain dict for torch.load(weights_only=True), with
                             nanoGPT's keys and a few more
    out/best.pt              of the best val loss; a second name of the same file, not a copy
    out/ckpt.00000500.pt     earlier ones, where several are kept
    out/ckpt.00000500/       the same as a folder that all ranks write together (sharded, torch's
                             distributed checkpoint); out/ckpt and out/best then point to folders

A file is written beside, made durable and renamed, a folder likewise, so at any moment a name
holds one whole checkpoint. Its event is logged after that: an event in the journal proves a
complete checkpoint on disk. Any phase and any number of ranks can go on from any of them.
"""

import errno
import hashlib
import json
import os
import re
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load as load_distributed
from torch.distributed.checkpoint.state_dict_saver import save as save_distributed

from eventlog import atomic_write, scan

FORMAT = 2
LATEST, BEST = "ckpt.pt", "best.pt"
LATEST_FOLDER, BEST_FOLDER = "ckpt", "best"
META, MANIFEST = "meta.pt", "manifest.json"
TENSORS = ("model", "optimizer")

CheckpointFormat = Literal["full", "sharded"]
State = dict[str, Any]


class Saved(NamedTuple):
    """A checkpoint on disk, as its event tells it."""

    path: Path
    size_bytes: int
    sha256: str
    """Of the file; of a folder its manifest's, which holds that of each file in it."""


# Writing


def save_full(out_dir: Path, state: State, *, is_best: bool, keep: int = 1) -> Saved:
    """`state`, durable as the latest checkpoint. On rank 0 alone.

    Args:
        keep: how many of the latest stay, this one included; the best stays besides.

    Raises:
        OSError: the disk refused; the checkpoint before is still there, whole.
    """
    path = out_dir / LATEST
    digest = hashlib.sha256()
    whole = {"format": FORMAT, **with_tied(state)}
    size_bytes = atomic_write(path, lambda file: torch.save(whole, file), digest=digest)
    # The best is a second name of the same file: the next save renames a new file over the first
    # name, and the second goes on holding the old one. So are those that are kept.
    if is_best:
        point(out_dir / BEST, lambda name: os.link(path, name))
    if keep > 1:
        numbered = out_dir / f"ckpt.{state['iter_num']:08}.pt"
        point(numbered, lambda name: os.link(path, name))
        for old in kept(out_dir, ".pt")[:-keep]:
            old.unlink()
    return Saved(path, size_bytes, digest.hexdigest())


def save_sharded(
    out_dir: Path,
    state: State,
    *,
    is_best: bool,
    keep: int = 1,
    group: dist.ProcessGroup | None = None,
) -> Saved | None:
    """The same as a folder that every rank writes its part of; what was saved, on rank 0.

    Collective among the ranks of `group` (gloo; None: this process is alone).

    Raises:
        OSError: the disk refused a rank; the one before is still there.
    """
    rank = dist.get_rank(group) if group is not None else 0
    # Rank 0 alone looks for a name: it may still be sealing a take of the same iteration.
    begun: list[Any] = [begin_folder(out_dir, state["iter_num"]) if rank == 0 else None]
    if group is not None:
        dist.broadcast_object_list(begun, group=group, group_src=0)
    if isinstance(begun[0], OSError):  # on every rank, or the others would wait for rank 0
        raise begun[0]
    folder: Path = begun[0]
    partial = partial_of(folder)
    tensors = {kind: state[kind] for kind in TENSORS}
    with warnings.catch_warnings():
        # "no process group": with one rank there is none, and that is meant.
        warnings.simplefilter("ignore", UserWarning)
        try:
            save_distributed(
                tensors,
                storage_writer=FileSystemWriter(partial, sync_files=False),
                process_group=group,
                no_dist=group is None,
            )
        except CheckpointException as refusal:  # no Exception, for some reason
            (whose, (error, _)), *_ = refusal.failures.items()
            raise OSError(f"{partial}: rank {whose} could not write its part: {error}") from None
    if rank != 0:
        return None
    rest = {"format": FORMAT, **{k: v for k, v in state.items() if k not in TENSORS}}
    torch.save(rest, partial / META)
    size_bytes, sha256 = seal(partial)
    partial.rename(folder)
    point(out_dir / LATEST_FOLDER, lambda name: name.symlink_to(folder.name))
    if is_best:
        point(out_dir / BEST_FOLDER, lambda name: name.symlink_to(folder.name))
    sync(out_dir)
    best = out_dir / BEST_FOLDER
    held = best.readlink().name if best.is_symlink() else ""
    for old in kept(out_dir, "")[:-keep]:
        if old.name != held:
            # Out of sight first: half of it under its name would look like a damaged one.
            old.rename(partial_of(old))
    clear(out_dir)
    return Saved(folder, size_bytes, sha256)


def begin_folder(out_dir: Path, iter_num: int) -> Path | OSError:
    """The folder of a new checkpoint, to be filled under its partial name; or why there is none."""
    try:
        clear(out_dir)
        folder = unused(out_dir / f"ckpt.{iter_num:08}")
        partial_of(folder).mkdir(parents=True)
        return folder
    except OSError as error:
        return error


def with_tied(state: State) -> State:
    """`state` with the weights that have a second name under both, as `load_state_dict` wants."""
    model = state["model"]
    return {**state, "model": model | {name: model[of] for name, of in state["tied"].items()}}


def seal(folder: Path) -> tuple[int, str]:
    """Make every file in `folder` durable and write down what it holds: (bytes, SHA-256).

    Torch's own writer syncs no folder, and its `.metadata` before the bytes are in it.
    """
    files = sorted(path for path in folder.iterdir() if path.name != MANIFEST)
    manifest = {}
    for path in files:
        sync(path)
        manifest[path.name] = {"size_bytes": path.stat().st_size, "sha256": sha256_of(path)}
    data = json.dumps(manifest, indent=1).encode()
    (folder / MANIFEST).write_bytes(data)
    sync(folder / MANIFEST)
    sync(folder)
    size_bytes = sum(path.stat().st_size for path in files) + len(data)
    return size_bytes, hashlib.sha256(data).hexdigest()


def point(path: Path, make: Callable[[Path], None]) -> None:
    """Give `path` another meaning at once: `make` a link beside it, then rename."""
    link = path.with_name(f".{path.name}.{os.getpid()}")
    link.unlink(missing_ok=True)
    make(link)
    link.replace(path)


def clear(out_dir: Path) -> None:
    """Remove what is half written or half removed."""
    for partial in out_dir.glob(".ckpt.*.partial"):
        shutil.rmtree(partial, ignore_errors=True)


def partial_of(folder: Path) -> Path:
    """Where a folder is while it is half written or half removed: no name of a checkpoint."""
    return folder.with_name(f".{folder.name}.partial")


def unused(path: Path) -> Path:
    """`path`, or with a number behind it where an earlier take of the iteration has the name."""
    takes = [path, *(path.with_name(f"{path.name}-{n}") for n in range(1, 10_000))]
    return next(take for take in takes if not take.exists())


def kept(out_dir: Path, suffix: Literal[".pt", ""]) -> list[Path]:
    """The numbered checkpoints of one form, the one written first first.

    Not the lowest iteration: a run that went back writes lower numbers later.
    """
    name = re.compile(r"ckpt\.\d{8}(-\d+)?" + re.escape(suffix))
    found = [path for path in out_dir.glob("ckpt.*") if name.fullmatch(path.name)]
    return sorted(found, key=lambda path: path.stat().st_mtime_ns)


def sync(path: Path) -> None:
    """A file's bytes, or a folder's names, are on disk when this returns."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# Finding the one to go on from


def newest(out_dir: Path, journal: str | None = None) -> tuple[Path, list[str]]:
    """The newest checkpoint that is whole and is the one its event speaks of.

    And remarks for a person: which one was passed over, and why; what the journal lost.

    Args:
        journal: leave out the checkpoints of runs with other journals.

    Raises:
        ValueError: there is none, or none that is whole; says what is wrong with each.
    """
    remarks: list[str] = []
    for path in candidates(out_dir):
        try:
            state = load_rest(path)
            if is_of(state, journal):
                remarks += check_against_journal(path, state)
            else:
                continue
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


def find(out_dir: Path, which: Literal["latest", "best"]) -> Path:
    """The checkpoint of that name, in whichever form; the newer of two."""
    names = {"latest": (LATEST, LATEST_FOLDER), "best": (BEST, BEST_FOLDER)}[which]
    there = [out_dir / name for name in names if (out_dir / name).exists()]
    return max(there, key=lambda path: path.stat().st_mtime_ns, default=out_dir / names[0])


def exists(out_dir: Path, journal: str | None = None) -> bool:
    """Whether there is anything to go on from, whole or not; of that journal's run if named."""
    for path in candidates(out_dir):
        if journal is None:
            return True
        try:
            if is_of(load_rest(path), journal):
                return True
        except ValueError:
            # If that run has saved one, this may be it: what is wrong is for `newest` to say.
            return any(record.event == "checkpoint" for record in scan(out_dir / journal))
    return False


def written_ns(out_dir: Path) -> int | None:
    """When the newest checkpoint in the folder was written; None without one."""
    return max((path.stat().st_mtime_ns for path in candidates(out_dir)), default=None)


def is_of(state: State, journal: str | None) -> bool:
    """Whether a checkpoint was written beside that journal."""
    return journal is None or (state["journal"] or {}).get("file") == journal


def candidates(out_dir: Path) -> Iterator[Path]:
    """Every checkpoint in the folder once, the one written last first; half a folder is none."""
    names = [LATEST, *(path.name for path in reversed(kept(out_dir, ".pt")))]
    names += [LATEST_FOLDER, *(path.name for path in reversed(kept(out_dir, "")))]
    names += [BEST, BEST_FOLDER]
    seen: dict[tuple[int, int], tuple[int, int, Path]] = {}
    for order, name in enumerate(names):
        try:
            status = (out_dir / name).stat()
        except OSError:
            continue
        path = out_dir / name
        path = path.parent / path.readlink() if path.is_symlink() else path
        seen.setdefault((status.st_dev, status.st_ino), (-status.st_mtime_ns, order, path))
    yield from (path for _, _, path in sorted(seen.values()))


def check_against_journal(path: Path, state: State) -> list[str]:
    """Hold a checkpoint against the journal it was written beside; remarks on that journal.

    A checkpoint remembers how many records its session had before it; its event, if the
    process lived to log it, is the first one after that, and holds the SHA-256.

    Raises:
        ValueError: these are not the bytes that the event speaks of.
    """
    sha256 = check_manifest(path) if path.is_dir() else None
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
            if told is not None and told != (sha256 or sha256_of(path)):
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


def check_manifest(folder: Path) -> str:
    """The manifest's SHA-256, after every file of the folder was held against it.

    Raises:
        ValueError: a file is missing, cut or damaged; names it.
    """
    try:
        data = (folder / MANIFEST).read_bytes()
        manifest = json.loads(data)
    except (OSError, ValueError):
        raise ValueError(f"{folder}: it was not written to its end (no {MANIFEST})") from None
    for name, told in manifest.items():
        path = folder / name
        if not path.exists() or path.stat().st_size != told["size_bytes"]:
            size_bytes = path.stat().st_size if path.exists() else 0
            raise ValueError(f"{path}: {size_bytes:,} bytes, saved were {told['size_bytes']:,}")
        if sha256_of(path) != told["sha256"]:
            raise ValueError(f"{path}: its bytes are not those that were saved")
    return hashlib.sha256(data).hexdigest()


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# Reading


def load(path: Path) -> State:
    """All of the checkpoint at `path`, file or folder, its tensors whole and on the CPU.

    Raises:
        ValueError: there is none, or it is not one of ours; names the file and the way out.
    """
    state = load_rest(path)
    if path.is_dir():
        empty = {
            kind: {name: torch.empty(size, dtype=dtype) for name, (size, dtype) in named.items()}
            for kind, named in read_sizes(path).items()
        }
        state = with_tied(state | load_tensors(path, empty))
    return state


def load_rest(path: Path) -> State:
    """What is in a checkpoint; of a folder all but the tensors.

    Raises:
        ValueError: as `load`.
    """
    file = path / META if path.is_dir() else path
    try:
        # Mapped, a file costs memory only where it is touched.
        state = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
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


def load_tensors(
    folder: Path, into: Mapping[str, Mapping[str, Tensor]]
) -> dict[str, dict[str, Tensor]]:
    """The tensors of a sharded checkpoint, read into those given; each rank reads for itself."""
    tensors = {kind: dict(named) for kind, named in into.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # as in `save_sharded`
        load_distributed(tensors, storage_reader=FileSystemReader(folder), no_dist=True)
    return tensors


def read_sizes(folder: Path) -> dict[str, dict[str, tuple[torch.Size, torch.dtype]]]:
    """Kind -> name -> (shape, dtype) of every tensor in a sharded checkpoint."""
    sizes: dict[str, dict[str, tuple[torch.Size, torch.dtype]]] = {kind: {} for kind in TENSORS}
    for key, told in FileSystemReader(folder).read_metadata().state_dict_metadata.items():
        kind, _, name = key.partition(".")
        assert isinstance(told, TensorStorageMetadata)
        sizes[kind][name] = (told.size, told.properties.dtype)
    return sizes


def shape_of(checkpoint: State) -> dict[str, Any]:
    """The flags that the shape of the weights has settled."""
    names = ("block_size", "n_layer", "n_head", "n_embd", "bias")
    return {name: checkpoint["model_args"][name] for name in names}


def check_same_flags(checkpoint: State, config: dict[str, Any]) -> None:
    """Refuse flags with which the checkpoint cannot go on, before any work is done for them.

    Raises:
        ValueError: names the flag, what it was and what it is.
    """
    before = {
        "optimizer": checkpoint["config"].get("optimizer", "adamw"),
        "tokenizer": checkpoint["dataset"]["tokenizer"],
    }
    for flag, value in before.items():
        if value != (now := config[flag]):
            raise ValueError(
                f"the checkpoint's {flag} is {value}, but --{flag}={now}: "
                f"give --{flag}={value}, or start with --init_from=scratch"
            )


def check_same_tokenizer(
    checkpoint: State, tokenizer: dict[str, Any], dataset: dict[str, Any]
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


def changes(checkpoint: State, config: dict[str, Any], dataset: dict[str, Any]) -> str:
    """What makes the run that goes on another one: `learning_rate 0.001 -> 0.0005, ...`."""
    before = checkpoint["config"] | {"text": checkpoint["dataset"]["sha256"][:8]}
    now = config | {"text": dataset["sha256"][:8]}
    return ", ".join(
        f"{name} {show(before[name])} -> {show(now[name])}"
        for name in now
        if name not in BYSTANDERS and before.get(name, now[name]) != now[name]  # a newer flag
    )


def show(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


# Flags that do not move a training loss.
BYSTANDERS = {
    "preset", "init_from", "eval_interval", "eval_iters", "eval_only", "always_save_checkpoint",
    "out_dir", "log_interval", "save_log_to_json", "log_save_interval", "log_iterations",
    "wandb_log", "wandb_project", "wandb_run_name", "data_dir", "input", "peak_flops",
    "checkpoint_format", "keep_checkpoints", "async_checkpoint", "nonfinite",
}  # fmt: skip
