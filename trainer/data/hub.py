"""Data sets by name: their Parquet files on the Hugging Face hub, at a fixed commit.

    fineweb-edu          a sample of ten billion tokens, 28.5 GB; also :100BT, :350BT, :all
    fineweb              the same of FineWeb
    openwebtext          all of it, 24 GB

Files are kept in the hub's cache (`HF_HOME`). After a kill the download continues where it stopped.
The commit is fixed: the same name is always the same text.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Progress = Callable[[int], object]  # called with a number of bytes that were read


@dataclass(frozen=True)
class HubSet:
    """The Parquet files below `folder` of a data set's repository, at one commit."""

    name: str
    repo: str
    revision: str
    folder: str

    @property
    def address(self) -> str:
        return f"hub:{self.repo}@{self.revision}/{self.folder}"


SAMPLES = {"10BT": "sample/10BT", "100BT": "sample/100BT", "350BT": "sample/350BT", "all": "data"}
# name -> repository, commit, size -> folder; a name without a size means the first one
SETS = {
    "fineweb-edu": (
        "HuggingFaceFW/fineweb-edu", "87f09149ef4734204d70ed1d046ddc9ca3f2b8f9", SAMPLES,
    ),
    "fineweb": (
        "HuggingFaceFW/fineweb", "9bb295ddab0e05d785b879661af7260fed5140fc", SAMPLES,
    ),
    "openwebtext": (
        "Skylion007/openwebtext", "b4325f019c648b1641a1784748667e8b74e5e064",
        {"all": "plain_text"},
    ),
}  # fmt: skip


def find(input: str) -> HubSet | None:
    """The data set that `input` names, such as `fineweb-edu:100BT`; None if it names none.

    Raises:
        ValueError: the data set has no such size.
    """
    name, _, size = input.partition(":")
    if name not in SETS:
        return None
    repo, revision, folders = SETS[name]
    size = size or next(iter(folders))
    if size not in folders:
        sizes = ", ".join(f"{name}:{known}" for known in folders)
        raise ValueError(f"--input={input}: unknown size; available: {sizes}")
    return HubSet(f"{name}-{size}", repo, revision, folders[size])


def list_files(data_set: HubSet) -> list[tuple[str, int]]:
    """(path in the repository, size in bytes) of each file, sorted by path.

    Raises:
        ValueError: the hub cannot be reached, or huggingface_hub is not installed.
    """
    hub = import_hub(data_set)
    try:
        # Unlike list_repo_tree this does not retry: offline it fails at once, not after 25 s.
        hub.HfApi().dataset_info(
            data_set.repo, revision=data_set.revision, expand=["sha"], timeout=10
        )
        tree = hub.HfApi().list_repo_tree(
            data_set.repo,
            data_set.folder,
            repo_type="dataset",
            revision=data_set.revision,
            recursive=True,
        )
        files = sorted((f.path, f.size) for f in tree if f.path.endswith(".parquet"))
    except (OSError, hub.errors.HTTPError) as error:
        raise unreachable(data_set, error) from None
    if not files:
        raise ValueError(f"{data_set.address}: no Parquet files found")
    return files


def download(data_set: HubSet, files: list[tuple[str, int]], progress: Progress) -> list[Path]:
    """The local paths of `files`, in the same order; those not in the cache are downloaded.

    Raises:
        ValueError: the hub cannot be reached, or the disk is too small.
    """
    hub = import_hub(data_set)
    cache = Path(hub.constants.HF_HUB_CACHE)
    paths = []
    for name, size_bytes in files:
        counter = ByteCounter(hub, progress)
        try:
            path = hub.hf_hub_download(
                data_set.repo,
                name,
                repo_type="dataset",
                revision=data_set.revision,
                tqdm_class=counter.bar,
            )
        except (OSError, hub.errors.HTTPError) as error:
            free_bytes = shutil.disk_usage(cache if cache.exists() else Path.home()).free
            if free_bytes < size_bytes:
                raise ValueError(
                    f"{cache}: {free_bytes:,} bytes free, but {name} needs {size_bytes:,}: "
                    "free some space, or set HF_HOME to a folder on a larger disk"
                ) from None
            raise unreachable(data_set, error) from None
        progress(size_bytes - counter.n_bytes)  # the whole file if it was in the cache
        paths.append(Path(path))
    return paths


class ByteCounter:
    """Replaces the hub's progress bar: counts the bytes and reports them to `progress`."""

    def __init__(self, hub: Any, progress: Progress) -> None:
        self._hub = hub
        self._progress = progress
        self.n_bytes = 0

    def bar(self, **kwargs: Any) -> Any:
        bar = self._hub.utils.tqdm(disable=True)
        bar.update = self._update
        return bar

    def _update(self, n_bytes: float | None = 1) -> None:
        self.n_bytes += int(n_bytes or 0)
        self._progress(int(n_bytes or 0))


def unreachable(data_set: HubSet, error: Exception) -> ValueError:
    why = " ".join(str(error).split())[:200] or type(error).__name__
    return ValueError(
        f"{data_set.address} could not be downloaded ({why}): go online and run the command again "
        "to continue; or copy the Parquet files of that folder here and give --input=FOLDER"
    )


def import_hub(data_set: HubSet) -> Any:
    try:
        import huggingface_hub
        import huggingface_hub.constants
        import huggingface_hub.errors
        import huggingface_hub.utils
    except ImportError:
        raise ValueError(
            f"{data_set.name} is on the Hugging Face hub, which needs huggingface_hub: "
            "pip install huggingface_hub; or give its Parquet files with --input=FOLDER"
        ) from None
    return huggingface_hub
