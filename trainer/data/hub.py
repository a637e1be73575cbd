"""Data sets by name: their Parquet files on the Hugging Face hub, at a fixed revision.

    fineweb-edu          a sample of ten billion tokens, 28.5 GB; also :100BT, :350BT, :all
    fineweb              the same of FineWeb
    openwebtext          all of it, 24 GB

What was fetched stays in the hub's own cache (`HF_HOME`): called again after a kill, it goes on
with the file that was cut off. A revision is a commit: the same name is always the same text.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Progress = Callable[[int], object]  # told how many bytes went by


@dataclass(frozen=True)
class HubSet:
    """Every Parquet file below `folder` of a data set's repository, at one commit."""

    name: str
    repo: str
    revision: str
    folder: str

    @property
    def address(self) -> str:
        return f"hub:{self.repo}@{self.revision}/{self.folder}"


SAMPLES = {"10BT": "sample/10BT", "100BT": "sample/100BT", "350BT": "sample/350BT", "all": "data"}
# name -> repository, commit, size -> folder; the first size is what the bare name means
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
        ValueError: it has no such size; names those it has.
    """
    name, _, size = input.partition(":")
    if name not in SETS:
        return None
    repo, revision, folders = SETS[name]
    size = size or next(iter(folders))
    if size not in folders:
        sizes = ", ".join(f"{name}:{known}" for known in folders)
        raise ValueError(f"--input={input}: there is no such size, there is {sizes}")
    return HubSet(f"{name}-{size}", repo, revision, folders[size])


def list_files(wanted: HubSet) -> list[tuple[str, int]]:
    """(path in the repository, bytes) of each file, in order of path.

    Raises:
        ValueError: the hub cannot be reached, or huggingface_hub is missing; names the way out.
    """
    hub = import_hub(wanted)
    try:
        # Asked without the retries of what follows: offline it is said at once, not after 25 s.
        hub.HfApi().dataset_info(wanted.repo, revision=wanted.revision, expand=["sha"], timeout=10)
        tree = hub.HfApi().list_repo_tree(
            wanted.repo,
            wanted.folder,
            repo_type="dataset",
            revision=wanted.revision,
            recursive=True,
        )
        found = sorted((f.path, f.size) for f in tree if f.path.endswith(".parquet"))
    except (OSError, hub.errors.HTTPError) as error:
        raise unreachable(wanted, error) from None
    if not found:
        raise ValueError(f"{wanted.address}: there are no Parquet files")
    return found


def download(wanted: HubSet, files: list[tuple[str, int]], progress: Progress) -> list[Path]:
    """The `files` on this machine, fetched where they are not, in the same order.

    Raises:
        ValueError: the hub cannot be reached, or the disk is too small.
    """
    hub = import_hub(wanted)
    cache = Path(hub.constants.HF_HUB_CACHE)
    paths = []
    for name, size_bytes in files:
        told = Told(hub, progress)
        try:
            path = hub.hf_hub_download(
                wanted.repo,
                name,
                repo_type="dataset",
                revision=wanted.revision,
                tqdm_class=told.bar,
            )
        except (OSError, hub.errors.HTTPError) as error:
            free_bytes = shutil.disk_usage(cache if cache.exists() else Path.home()).free
            if free_bytes < size_bytes:
                raise ValueError(
                    f"{cache} has {free_bytes:,} bytes left, and {name} needs {size_bytes:,}: "
                    "make room, or set HF_HOME to a larger disk"
                ) from None
            raise unreachable(wanted, error) from None
        progress(size_bytes - told.n_bytes)  # all of it, where it was here before
        paths.append(Path(path))
    return paths


class Told:
    """Takes the place of the hub's progress bar: passes on what it is told, and shows nothing."""

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


def unreachable(wanted: HubSet, error: Exception) -> ValueError:
    why = " ".join(str(error).split())[:200] or type(error).__name__
    return ValueError(
        f"{wanted.address} could not be fetched ({why}): go online and call again, it goes on "
        f"where it was; or copy the Parquet files of that folder here and give --input=FOLDER"
    )


def import_hub(wanted: HubSet) -> Any:
    try:
        import huggingface_hub
        import huggingface_hub.constants
        import huggingface_hub.errors
        import huggingface_hub.utils
    except ImportError:
        raise ValueError(
            f"{wanted.name} is on the Hugging Face hub, which needs huggingface_hub: "
            "pip install huggingface_hub; or give its Parquet files with --input=FOLDER"
        ) from None
    return huggingface_hub
