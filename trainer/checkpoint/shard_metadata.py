"""Read the metadata of a sharded checkpoint without running code that it contains.

Torch's distributed checkpoint stores it as a pickle, `.metadata`, and torch's reader loads it with
`pickle.load`: anyone who can write into the folder could run code here. This reader creates only
objects of the classes below, which hold numbers and names.
"""

import pickle
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch.distributed.checkpoint import metadata as dcp
from torch.distributed.checkpoint.filesystem import FileSystemReader, _StorageInfo
from torch.serialization import _get_layout

from trainer.storage.files import open_file

NAME = ".metadata"
DTYPES = {
    name: value for name, value in vars(torch).items() if isinstance(value, torch.dtype)
}  # float32, bfloat16, ...


class PathText(str):
    """Replaces a path in the pickle: the folder in which the checkpoint was written."""

    def __new__(cls, *parts: Any) -> "PathText":
        return super().__new__(cls, "/".join(str(part) for part in parts))


FILLED = (
    dcp.Metadata, dcp.MetadataIndex, dcp.StorageMeta, dcp.TensorStorageMetadata,
    dcp.TensorProperties, dcp.ChunkStorageMetadata, _StorageInfo,
)  # fmt: skip
"""Classes whose objects get their fields after they are created."""

ALLOWED: dict[tuple[str, str], Any] = {
    # Without BytesStorageMetadata: torch unpickles what it describes without any check.
    **{(kind.__module__, kind.__name__): kind for kind in (*FILLED, dcp._MEM_FORMAT_ENCODING)},
    ("torch", "Size"): torch.Size,
    ("torch.serialization", "_get_layout"): _get_layout,
    **{("torch", name): dtype for name, dtype in DTYPES.items()},
    **{
        (module, name): PathText
        for module in ("pathlib", "pathlib._local")
        for name in ("PosixPath", "WindowsPath", "PurePosixPath", "Path")
    },
}  # fmt: skip


class SafeUnpickler(pickle._Unpickler):  # the one in Python: its BUILD can be overridden
    """Creates objects of the classes in `ALLOWED` only.

    Raises:
        pickle.UnpicklingError: at the first name that is not allowed.
    """

    dispatch: ClassVar[dict[int, Any]] = dict(pickle._Unpickler.dispatch)

    def find_class(self, module: str, name: str) -> Any:
        try:
            return ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"{module}.{name} is not allowed in it") from None

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError("it refers to objects outside of the file")

    def load_build(self) -> None:
        """As in pickle, but only for new objects: BUILD could also change a class."""
        if not isinstance(self.stack[-2], FILLED):  # type: ignore[attr-defined]
            raise pickle.UnpicklingError("it changes an object that it did not create")
        super().load_build()  # type: ignore[misc]

    dispatch[pickle.BUILD[0]] = load_build


class SafeReader(FileSystemReader):
    """Torch's reader of sharded checkpoints, for a folder that need not be trusted."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._folder = folder

    def read_metadata(self, *args: Any, **kwargs: Any) -> dcp.Metadata:
        """The names, shapes and places of the folder's tensors.

        Raises:
            ValueError: it is not what this trainer writes.
        """
        path = self._folder / NAME
        try:
            with open_file(path) as file:
                metadata = SafeUnpickler(file).load()
        except OSError:
            raise
        except Exception as error:  # pickle raises any type of exception on invalid bytes
            raise ValueError(
                f"{path}: not the metadata of a checkpoint ({error}); no code in it was run"
            ) from None
        if not isinstance(metadata, dcp.Metadata):
            raise ValueError(f"{path}: not the metadata of a checkpoint")
        try:
            tensors_in(metadata)
            check_places(metadata)
        except (ValueError, AttributeError) as error:  # AttributeError: fields are missing
            raise ValueError(f"{path}: {error}") from None
        if not isinstance(metadata.storage_meta, dcp.StorageMeta):
            metadata.storage_meta = dcp.StorageMeta()
        metadata.storage_meta.load_id = self.load_id
        return metadata


def check_places(metadata: dcp.Metadata) -> None:
    """Check that every tensor is stored, without a transform, in a file directly in the folder.

    Raises:
        ValueError: one is not.
    """
    places = metadata.storage_data
    if not isinstance(places, dict):
        raise ValueError("it does not say in which files the tensors are")
    for place in places.values():
        name = place.relative_path
        if not isinstance(name, str) or name in ("", ".", "..") or Path(name).name != name:
            raise ValueError(f"a file outside of the folder: {name!r}")
        if place.transform_descriptors:
            raise ValueError(f"{name} is stored with a transform, which is not supported")


def tensors_in(metadata: dcp.Metadata) -> dict[str, dcp.TensorStorageMetadata]:
    """Key -> the tensor's metadata.

    Raises:
        ValueError: something in it is not a tensor.
    """
    stored = getattr(metadata, "state_dict_metadata", None)
    if not isinstance(stored, dict):
        raise ValueError("it does not list the tensors")
    for key, value in stored.items():
        if not isinstance(key, str):
            raise ValueError(f"the key {key!r} is not a string")
        is_tensor = isinstance(value, dcp.TensorStorageMetadata)
        has_shape = is_tensor and isinstance(value.size, torch.Size)
        if not has_shape or not isinstance(value.properties.dtype, torch.dtype):
            raise ValueError(f"{key!r} is not a tensor")
    return stored
