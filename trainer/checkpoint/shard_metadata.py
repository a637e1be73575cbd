"""The metadata of a sharded checkpoint, read without running anything that is in it.

Torch's distributed checkpoint keeps it as a pickle, `.metadata`, and torch's own reader loads that
with `pickle.load`: whoever can write into the folder could run a program here. This reader makes
only the classes below, which hold numbers and names.
"""

import pickle
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch.distributed.checkpoint import metadata as dcp
from torch.distributed.checkpoint.filesystem import FileSystemReader, _StorageInfo
from torch.serialization import _get_layout

NAME = ".metadata"
DTYPES = {
    name: value for name, value in vars(torch).items() if isinstance(value, torch.dtype)
}  # float32, bfloat16, ...


class PathText(str):
    """Stands for a path in the pickle: where the folder was when it was written."""

    def __new__(cls, *parts: Any) -> "PathText":
        return super().__new__(cls, "/".join(str(part) for part in parts))


FILLED = (
    dcp.Metadata, dcp.MetadataIndex, dcp.StorageMeta, dcp.TensorStorageMetadata,
    dcp.TensorProperties, dcp.ChunkStorageMetadata, _StorageInfo,
)  # fmt: skip
"""Classes whose objects get their fields after they are made."""

ALLOWED: dict[tuple[str, str], Any] = {
    # BytesStorageMetadata is not among them: torch reads what it describes by a plain unpickling.
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


class SafeUnpickler(pickle._Unpickler):  # in Python, since its BUILD is overridden
    """Makes what is in `ALLOWED`, and refuses everything else.

    Raises:
        pickle.UnpicklingError: at the first name that is not allowed.
    """

    dispatch: ClassVar[dict[int, Any]] = dict(pickle._Unpickler.dispatch)

    def find_class(self, module: str, name: str) -> Any:
        try:
            return ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it names {module}.{name}") from None

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError("it refers to objects outside of it")

    def load_build(self) -> None:
        """As in pickle, but for new objects alone: BUILD could also change a class."""
        if not isinstance(self.stack[-2], FILLED):  # type: ignore[attr-defined]
            raise pickle.UnpicklingError("it changes something that is not its own")
        super().load_build()  # type: ignore[misc]

    dispatch[pickle.BUILD[0]] = load_build


class SafeReader(FileSystemReader):
    """Torch's reader of a sharded checkpoint, for a folder that need not be trusted."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._folder = folder

    def read_metadata(self, *args: Any, **kwargs: Any) -> dcp.Metadata:
        """What the folder holds.

        Raises:
            ValueError: it is not what this trainer writes; names the file and what is wrong.
        """
        path = self._folder / NAME
        try:
            with path.open("rb") as file:
                metadata = SafeUnpickler(file).load()
        except OSError:
            raise
        except Exception as error:  # strange bytes make pickle raise whatever comes to hand
            raise ValueError(
                f"{path}: it is not the metadata of a checkpoint ({error}); nothing of it was run"
            ) from None
        if not isinstance(metadata, dcp.Metadata):
            raise ValueError(f"{path}: it is not the metadata of a checkpoint")
        try:
            tensors_in(metadata)
            check_places(metadata)
        except (ValueError, AttributeError) as error:  # an object without its fields
            raise ValueError(f"{path}: {error}") from None
        if not isinstance(metadata.storage_meta, dcp.StorageMeta):
            metadata.storage_meta = dcp.StorageMeta()
        metadata.storage_meta.load_id = self.load_id
        return metadata


def check_places(metadata: dcp.Metadata) -> None:
    """Every part lies in a file of the folder itself, and is stored as it is.

    Raises:
        ValueError: one does not.
    """
    places = metadata.storage_data
    if not isinstance(places, dict):
        raise ValueError("it does not say where the tensors are")
    for place in places.values():
        name = place.relative_path
        if not isinstance(name, str) or name in ("", ".", "..") or Path(name).name != name:
            raise ValueError(f"it names a file outside of the folder: {name!r}")
        if place.transform_descriptors:
            raise ValueError(f"{name} is stored in a form that is not read here")


def tensors_in(metadata: dcp.Metadata) -> dict[str, dcp.TensorStorageMetadata]:
    """What is stored under each key.

    Raises:
        ValueError: something that is not a tensor.
    """
    stored = getattr(metadata, "state_dict_metadata", None)
    if not isinstance(stored, dict):
        raise ValueError("it does not say which tensors it holds")
    for key, value in stored.items():
        if not isinstance(key, str):
            raise ValueError(f"it holds something under {key!r}, which is not a name")
        whole = isinstance(value, dcp.TensorStorageMetadata) and isinstance(value.size, torch.Size)
        if not whole or not isinstance(value.properties.dtype, torch.dtype):
            raise ValueError(f"it holds something that is not a tensor under {key!r}")
    return stored
