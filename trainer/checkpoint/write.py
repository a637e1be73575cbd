"""Write one checkpoint, full or sharded, so that a crash leaves the old one or the new one.

A file is written under a temporary name, synced and renamed, and so is a folder: a name always
stands for one complete checkpoint. Its event is logged afterwards, so an event in the journal
proves a complete checkpoint on disk. Any phase with any number of ranks can resume from it.
"""

import hashlib
import json
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemWriter
from torch.distributed.checkpoint.state_dict_saver import save as save_distributed

from trainer.checkpoint import layout
from trainer.checkpoint.layout import FORMAT, LATEST, MANIFEST, META, TENSORS, State
from trainer.checkpoint.read import with_tied
from trainer.storage.files import atomic_write, link_or_copy, sha256_of, sync, sync_folder


class Saved(NamedTuple):
    """A checkpoint on disk, with the fields of its event."""

    path: Path
    size_bytes: int
    sha256: str
    """Of the file; of a folder, that of its manifest, which lists the SHA-256 of every file."""


class LinkFailed(OSError):
    """The checkpoint is durable, but its links (best, layout.numbered, latest folder) failed."""

    def __init__(self, error: OSError, saved: Saved) -> None:
        super().__init__(f"{saved.path} is saved, but its other names could not be set: {error}")
        self.saved = saved


def save_full(out_dir: Path, state: State, *, is_best: bool, keep: int = 1) -> Saved:
    """Save `state` as the latest checkpoint, in one file. On rank 0 only.

    Args:
        keep: how many of the latest are kept, this one included; the best is kept as well.

    Raises:
        OSError: writing failed; the previous checkpoint is intact.
        LinkFailed: this checkpoint is durable, but its other names could not be set.
    """
    path = out_dir / LATEST
    digest = hashlib.sha256()
    content = {"format": FORMAT, **with_tied(state)}
    size_bytes = atomic_write(path, lambda file: torch.save(content, file), digest=digest)
    saved = Saved(path, size_bytes, digest.hexdigest())
    # The other names are hard links. The next save renames a new file to `path`, and they keep
    # the old one.
    try:
        if is_best:
            link_or_copy(path, out_dir / layout.BEST)
        if keep > 1:
            link_or_copy(path, out_dir / f"ckpt.{state['iter_num']:08}.pt")
            for old in layout.numbered(out_dir, ".pt")[:-keep]:
                old.unlink()
        if is_best or keep > 1:
            sync_folder(out_dir)
    except OSError as error:
        raise LinkFailed(error, saved) from None
    return saved


def save_sharded(
    out_dir: Path,
    state: State,
    *,
    is_best: bool,
    keep: int = 1,
    group: dist.ProcessGroup | None = None,
) -> Saved | None:
    """Save `state` as a folder to which every rank writes its part; the result is on rank 0.

    Collective among the ranks of `group` (gloo; None: there is one process).

    Raises:
        OSError: writing failed on some rank; the previous checkpoint is intact.
        LinkFailed: this checkpoint is durable, but its other names could not be set.
    """
    rank = dist.get_rank(group) if group is not None else 0
    # Only rank 0 chooses the name: another rank could see a folder that rank 0 is still sealing.
    created: list[Any] = [create_folder(out_dir, state["iter_num"]) if rank == 0 else None]
    if group is not None:
        dist.broadcast_object_list(created, group=group, group_src=0)
    if isinstance(created[0], OSError):  # raised on every rank: none waits for rank 0
        raise created[0]
    folder: Path = created[0]
    partial = layout.partial_name(folder)
    write_shards(partial, {kind: state[kind] for kind in TENSORS}, group)
    if rank != 0:
        return None
    rest = {"format": FORMAT, **{k: v for k, v in state.items() if k not in TENSORS}}
    torch.save(rest, partial / META)
    size_bytes, sha256 = seal(partial)
    partial.rename(folder)
    saved = Saved(folder, size_bytes, sha256)
    sync_folder(out_dir)
    try:
        update_links(out_dir, folder, is_best=is_best, keep=keep)
    except OSError as error:
        raise LinkFailed(error, saved) from None
    return saved


def create_folder(out_dir: Path, iter_num: int) -> Path | OSError:
    """Create the partial folder of a new checkpoint; its final name, or the error."""
    try:
        layout.remove_partial(out_dir)
        folder = layout.unused_name(out_dir / f"ckpt.{iter_num:08}")
        layout.partial_name(folder).mkdir(parents=True)
        return folder
    except OSError as error:
        return error


def write_shards(folder: Path, tensors: State, group: dist.ProcessGroup | None) -> None:
    """Write this rank's part of the tensors. Collective among the ranks of `group`."""
    with warnings.catch_warnings():
        # torch warns that there is no process group, which is intended for one process.
        warnings.simplefilter("ignore", UserWarning)
        try:
            save_distributed(
                tensors,
                storage_writer=FileSystemWriter(folder, sync_files=False),
                process_group=group,
                no_dist=group is None,
            )
        except CheckpointException as failure:  # a BaseException
            (rank, (error, _)), *_ = failure.failures.items()
            raise OSError(f"{folder}: rank {rank} could not write its part: {error}") from None


def seal(folder: Path) -> tuple[int, str]:
    """Sync every file in `folder` and write the manifest: (size in bytes, SHA-256).

    Torch's writer does not sync the folder, nor `.metadata` after its bytes are written.
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


def update_links(out_dir: Path, folder: Path, *, is_best: bool, keep: int) -> None:
    """Point `ckpt` (and `best`) to the new folder, and remove the oldest ones beyond `keep`."""
    layout.link_to_folder(out_dir / layout.LATEST_FOLDER, folder.name)
    if is_best:
        layout.link_to_folder(out_dir / layout.BEST_FOLDER, folder.name)
    sync_folder(out_dir)
    for old in layout.numbered(out_dir, "")[:-keep]:
        if old.name != layout.link_target(out_dir / layout.BEST_FOLDER).name:
            # Renamed first: a half-removed folder under its own name would look damaged.
            old.rename(layout.partial_name(old))
    layout.remove_partial(out_dir)
