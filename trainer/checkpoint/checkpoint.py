"""Checkpoints: what a run needs to go on, whole and durable, or not there.

In a folder of its run (`run_files` says which):

    ckpt.pt              the latest: a plain dict for torch.load(weights_only=True), with
                         nanoGPT's keys and a few more
    best.pt              of the best val loss; a second name of the same file, not a copy
    ckpt.00000500.pt     earlier ones, where several are kept
    ckpt.00000500/       the same as a folder that all ranks write together (sharded, torch's
                         distributed checkpoint); ckpt and best then point to folders

A file is written beside, made durable and renamed, a folder likewise, so at any moment a name
holds one whole checkpoint. Its event is logged after that: an event in the journal proves a
complete checkpoint on disk. Any phase and any number of ranks can go on from any of them.
"""

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import socket
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemWriter
from torch.distributed.checkpoint.state_dict_loader import load as load_distributed
from torch.distributed.checkpoint.state_dict_saver import save as save_distributed

from eventlog import atomic_write
from trainer.checkpoint.shard_metadata import SafeReader, tensors_in

FORMAT = 2
LATEST, BEST = "ckpt.pt", "best.pt"
LATEST_FOLDER, BEST_FOLDER = "ckpt", "best"
META, MANIFEST = "meta.pt", "manifest.json"
TENSORS = ("model", "optimizer")
REQUIRED = frozenset(("model_args", "iter_num", "config", "dataset", "tokenizer"))
"""What no checkpoint can be without, besides its tensors."""

POINTER_MAX_BYTES = 4096
NAME = re.compile(r"ckpt\.\d{8}(-\d+)?")  # of a numbered one, without its suffix

CheckpointFormat = Literal["full", "sharded"]
State = dict[str, Any]


class Saved(NamedTuple):
    """A checkpoint on disk, as its event tells it."""

    path: Path
    size_bytes: int
    sha256: str
    """Of the file; of a folder its manifest's, which holds that of each file in it."""


class Foreign(ValueError):
    """A checkpoint of another program or another run: to be refused, not passed over."""


class NotBest(OSError):
    """A checkpoint is durable, but could not be kept as the best or under its number."""

    def __init__(self, message: str, saved: Saved) -> None:
        super().__init__(message)
        self.saved = saved


# Writing


def save_full(out_dir: Path, state: State, *, is_best: bool, keep: int = 1) -> Saved:
    """`state`, durable as the latest checkpoint. On rank 0 alone.

    Args:
        keep: how many of the latest stay, this one included; the best stays besides.

    Raises:
        OSError: the disk refused; the checkpoint before is still there, whole.
        NotBest: this one is there, whole, but not under its other names.
    """
    path = out_dir / LATEST
    digest = hashlib.sha256()
    whole = {"format": FORMAT, **with_tied(state)}
    size_bytes = atomic_write(path, lambda file: torch.save(whole, file), digest=digest)
    # The best is a second name of the same file: the next save renames a new file over the first
    # name, and the second goes on holding the old one. So are those that are kept.
    saved = Saved(path, size_bytes, digest.hexdigest())
    try:
        if is_best:
            second_name(out_dir / BEST, path)
        if keep > 1:
            second_name(out_dir / f"ckpt.{state['iter_num']:08}.pt", path)
            for old in kept(out_dir, ".pt")[:-keep]:
                old.unlink()
        if is_best or keep > 1:
            sync_folder(out_dir)
    except OSError as error:
        raise NotBest(f"{path} is saved, but not under its other names: {error}", saved) from None
    return saved


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
    saved = Saved(folder, size_bytes, sha256)
    sync_folder(out_dir)
    try:
        point_to_folder(out_dir / LATEST_FOLDER, folder.name)
        if is_best:
            point_to_folder(out_dir / BEST_FOLDER, folder.name)
        sync_folder(out_dir)
        for old in kept(out_dir, "")[:-keep]:
            if old.name != pointed(out_dir / BEST_FOLDER).name:
                # Out of sight first: half of it under its name would look like a damaged one.
                old.rename(partial_of(old))
        clear(out_dir)
    except OSError as error:
        raise NotBest(f"{folder} is saved, but not under its other names: {error}", saved) from None
    return saved


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
    sync_folder(folder)
    size_bytes = sum(path.stat().st_size for path in files) + len(data)
    return size_bytes, hashlib.sha256(data).hexdigest()


def point(path: Path, make: Callable[[Path], object]) -> None:
    """Give `path` another meaning at once: `make` a file beside it, then rename."""
    beside = path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}")
    beside.unlink(missing_ok=True)
    try:
        make(beside)
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def second_name(path: Path, of: Path) -> None:
    """Let `path` be the file `of`: a hard link, or a copy where there are none, at once."""

    def link_or_copy(beside: Path) -> None:
        try:
            os.link(of, beside)
        except OSError:  # no hard links here (EPERM, ENOTSUP), or too many of this file (EMLINK)
            beside.unlink(missing_ok=True)
            shutil.copyfile(of, beside)
            sync(beside)
            with contextlib.suppress(OSError):  # its times say which checkpoint is the newest
                os.utime(beside, ns=(of.stat().st_atime_ns, of.stat().st_mtime_ns))

    point(path, link_or_copy)


def point_to_folder(path: Path, name: str) -> None:
    """Let `path` point to the folder `name` beside it: a symbolic link, or a file with its name."""

    def link_or_write(beside: Path) -> None:
        try:
            beside.symlink_to(name)
        except OSError:
            beside.unlink(missing_ok=True)
            beside.write_text(name, "utf-8")
            sync(beside)

    point(path, link_or_write)


def pointed(path: Path) -> Path:
    """What `path` points to, by a symbolic link or as `point_to_folder` wrote it; else itself."""
    if path.is_symlink():
        return path.parent / path.readlink()
    if path.suffix or not path.is_file() or path.stat().st_size > POINTER_MAX_BYTES:
        return path
    target = Path(path.read_text("utf-8", "replace"))
    whole = NAME.fullmatch(target.name) and len(target.parts) <= 2 and ".." not in target.parts
    return path.parent / target if whole and not target.is_absolute() else path


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
    name = re.compile(NAME.pattern + re.escape(suffix))
    found = [path for path in out_dir.glob("ckpt.*") if name.fullmatch(path.name)]
    return sorted(found, key=lambda path: path.stat().st_mtime_ns)


def sync(path: Path) -> None:
    """A file's bytes are on disk when this returns."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(path: Path) -> None:
    """A folder's names are on disk when this returns, where the file system can do that."""
    try:
        sync(path)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EACCES, errno.EBADF):
            raise


# Finding them


def find(out_dir: Path, which: Literal["latest", "best"]) -> Path:
    """The checkpoint of that name, in whichever form; the newer of two."""
    names = {"latest": (LATEST, LATEST_FOLDER), "best": (BEST, BEST_FOLDER)}[which]
    there = [pointed(out_dir / name) for name in names if (out_dir / name).exists()]
    there = [path for path in there if path.exists()]
    return max(there, key=lambda path: path.stat().st_mtime_ns, default=out_dir / names[0])


def candidates(out_dir: Path) -> Iterator[Path]:
    """Every checkpoint in the folder once, the one written last first; half a folder is none."""
    names = [LATEST, *(path.name for path in reversed(kept(out_dir, ".pt")))]
    names += [LATEST_FOLDER, *(path.name for path in reversed(kept(out_dir, "")))]
    names += [BEST, BEST_FOLDER]
    seen: dict[tuple[int, int], tuple[int, int, Path]] = {}
    for order, name in enumerate(names):
        try:
            path = pointed(out_dir / name)
            status = path.stat()
        except OSError:
            continue
        seen.setdefault((status.st_dev, status.st_ino), (-status.st_mtime_ns, order, path))
    yield from (path for _, _, path in sorted(seen.values()))


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
    if not isinstance(manifest, dict) or not all(map(is_entry, manifest.items())):
        raise ValueError(f"{folder / MANIFEST}: it is not the list of the folder's files")
    for name, told in manifest.items():
        path = folder / name
        if not path.exists() or path.stat().st_size != told["size_bytes"]:
            size_bytes = path.stat().st_size if path.exists() else 0
            raise ValueError(f"{path}: {size_bytes:,} bytes, saved were {told['size_bytes']:,}")
        if sha256_of(path) != told["sha256"]:
            raise ValueError(f"{path}: its bytes are not those that were saved")
    return hashlib.sha256(data).hexdigest()


def is_entry(item: tuple[str, Any]) -> bool:
    """Whether a manifest's entry has the form of one, and names a file of the folder itself."""
    name, told = item
    return Path(name).name == name and isinstance(told, dict) and told.keys() >= {
        "size_bytes", "sha256",
    }  # fmt: skip


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
    found = state.get("format") if isinstance(state, dict) else None
    if found != FORMAT:
        raise Foreign(
            f"{path}: it is not a checkpoint of this trainer (format {FORMAT}, found {found!r}): "
            "move it away, or name another --out_dir"
        )
    return dict(state)


def load_tensors(
    folder: Path, into: Mapping[str, Mapping[str, Tensor]]
) -> dict[str, dict[str, Tensor]]:
    """The tensors of a sharded checkpoint, read into those given; each rank reads for itself."""
    tensors = {kind: dict(named) for kind, named in into.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # as in `save_sharded`
        load_distributed(tensors, storage_reader=SafeReader(folder), no_dist=True)
    return tensors


def read_sizes(folder: Path) -> dict[str, dict[str, tuple[torch.Size, torch.dtype]]]:
    """Kind -> name -> (shape, dtype) of every tensor in a sharded checkpoint.

    Raises:
        ValueError: its metadata is not what this trainer writes.
    """
    sizes: dict[str, dict[str, tuple[torch.Size, torch.dtype]]] = {kind: {} for kind in TENSORS}
    for key, tensor in tensors_in(SafeReader(folder).read_metadata()).items():
        kind, _, name = key.partition(".")
        if kind not in sizes:
            raise ValueError(f"{folder}: it holds a tensor {key!r}, which is of no kind known here")
        sizes[kind][name] = (tensor.size, tensor.properties.dtype)
    return sizes
