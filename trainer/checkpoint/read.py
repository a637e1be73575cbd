"""Read one checkpoint, full or sharded, without running any code that it contains."""

import errno
import hashlib
import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.checkpoint.state_dict_loader import load as load_distributed

from trainer.checkpoint.layout import FORMAT, MANIFEST, META, TENSORS, State
from trainer.checkpoint.shard_metadata import SafeReader, tensors_in
from trainer.storage.files import open_file, sha256_of


class Foreign(ValueError):
    """A checkpoint or journal of another program or run: an error, never skipped silently."""


def load(path: Path) -> State:
    """The whole checkpoint at `path`, file or folder, with full tensors on the CPU.

    Raises:
        ValueError: there is no checkpoint, or it is not one of this trainer's.
    """
    state = load_without_shards(path)
    if path.is_dir():
        empty = {
            kind: {name: torch.empty(size, dtype=dtype) for name, (size, dtype) in named.items()}
            for kind, named in read_shapes(path).items()
        }
        state = with_tied(state | load_shards(path, empty))
    return state


def load_without_shards(path: Path) -> State:
    """The whole checkpoint if it is a file; if it is a folder, all but the tensors.

    Raises:
        ValueError: as `load`.
    """
    file = path / META if path.is_dir() else path
    try:
        open_file(file).close()
        # Memory-mapped: tensors that are not used cost no memory.
        state = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except FileNotFoundError:
        raise ValueError(
            f"{path}: no checkpoint found; start a new run with --init_from=scratch, "
            "or give another --out_dir"
        ) from None
    except Exception as error:  # torch's reader raises any type of exception on invalid bytes;
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # EINVAL on a cut file
            raise
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise ValueError(f"{path}: cannot be read as a checkpoint ({reason})") from None
    format_found = state.get("format") if isinstance(state, dict) else None
    if format_found != FORMAT:
        raise Foreign(
            f"{path}: not a checkpoint of this trainer (expected format {FORMAT}, found "
            f"{format_found!r}): move it away, or give another --out_dir"
        )
    return dict(state)


def load_shards(
    folder: Path, into: Mapping[str, Mapping[str, Tensor]]
) -> dict[str, dict[str, Tensor]]:
    """Read the tensors of a sharded checkpoint into those of `into`. Not collective."""
    tensors = {kind: dict(named) for kind, named in into.items()}
    with warnings.catch_warnings():
        # torch warns that there is no process group, which is intended: each rank reads alone.
        warnings.simplefilter("ignore", UserWarning)
        load_distributed(tensors, storage_reader=SafeReader(folder), no_dist=True)
    return tensors


def read_shapes(folder: Path) -> dict[str, dict[str, tuple[torch.Size, torch.dtype]]]:
    """ "model" or "optimizer" -> name -> (shape, dtype) of the tensors in a sharded checkpoint.

    Raises:
        ValueError: its metadata is not what this trainer writes.
    """
    shapes: dict[str, dict[str, tuple[torch.Size, torch.dtype]]] = {kind: {} for kind in TENSORS}
    for key, tensor in tensors_in(SafeReader(folder).read_metadata()).items():
        kind, _, name = key.partition(".")
        if kind not in shapes:
            raise ValueError(f"{folder}: unknown tensor {key!r}: expected model.* or optimizer.*")
        shapes[kind][name] = (tensor.size, tensor.properties.dtype)
    return shapes


def with_tied(state: State) -> State:
    """`state` with tied weights under both of their names, as `load_state_dict` expects."""
    model = state["model"]
    return {**state, "model": model | {name: model[of] for name, of in state["tied"].items()}}


def check_manifest(folder: Path) -> str:
    """Check every file of a sharded checkpoint against the manifest; the manifest's SHA-256.

    Raises:
        ValueError: a file is missing, cut or damaged.
    """
    try:
        with open_file(folder / MANIFEST) as file:
            data = file.read()
        manifest = json.loads(data)
    except (OSError, ValueError):
        raise ValueError(f"{folder}: incomplete: {MANIFEST} cannot be read") from None
    if not isinstance(manifest, dict) or not all(map(is_entry, manifest.items())):
        raise ValueError(f"{folder / MANIFEST}: not a list of the folder's files")
    for name, entry in manifest.items():
        path = folder / name
        size_bytes = path.stat().st_size if path.exists() else 0
        if not path.exists() or size_bytes != entry["size_bytes"]:
            raise ValueError(
                f"{path}: expected {entry['size_bytes']:,} bytes, found {size_bytes:,}"
            )
        if sha256_of(path) != entry["sha256"]:
            raise ValueError(f"{path}: damaged: its SHA-256 is not the one in {MANIFEST}")
    return hashlib.sha256(data).hexdigest()


def is_entry(item: tuple[str, Any]) -> bool:
    """Whether a manifest's entry is well-formed and names a file directly in the folder."""
    name, entry = item
    return (
        Path(name).name == name
        and isinstance(entry, dict)
        and entry.keys() >= {"size_bytes", "sha256"}
    )
