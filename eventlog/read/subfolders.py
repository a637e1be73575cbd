"""A folder and its subfolders at any depth, each once, with the files in them.

walk = Walk()
for listing in walk.below("multirun"):     # the folder itself, then what is in it
    print(listing.path, [entry.name for entry in listing.files])
print(walk.left_out)                       # a message for each place that was not searched
"""

import os
import re
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

FOLDERS_MAX = 50_000
ENTRIES_MAX = 1_000_000
"""Of one search: that of a home folder ends after seconds, and says so."""

SKIPPED = frozenset((
    ".cache", ".git", ".hg", ".hydra", ".ipynb_checkpoints", ".svn", ".tox", ".Trash", ".venv",
    "__pycache__", "node_modules", "site-packages",
))  # fmt: skip
"""Folders by these names are searched only if they are named themselves."""
_ENVIRONMENT = "pyvenv.cfg"  # a folder with this file is a virtual environment

UNREADABLE_MAX = 3
"""Folders that are named each."""

Entry = os.DirEntry[str]


class Listing(NamedTuple):
    """A folder, and what is in it besides folders."""

    path: str
    files: list[Entry]
    is_below: bool
    """Whether it is a subfolder of the one that was named."""


class Walk:
    """One search of some folders: a folder that several of them lead to is listed once."""

    def __init__(self) -> None:
        self._ended: list[str] = []
        self._unreadable: list[str] = []
        self._seen: set[tuple[int, int]] = set()
        self._n_folders = self._n_entries = 0

    def below(self, root: str | os.PathLike[str]) -> Iterator[Listing]:
        """The folder, then its subfolders, those of one level by name.

        Links to folders are followed after everything else, so that a folder is listed by its
        own path if it is inside, and a link that leads to a folder above it ends.

        Raises:
            OSError: `root` cannot be read. A subfolder that cannot is in `left_out`.
        """
        root = os.fspath(root)
        folders, links = deque([root]), deque[str]()
        while folders or links:
            path = folders.popleft() if folders else links.popleft()
            if self._is_full(root, path):
                return
            try:
                found = self._list(path)
            except FileNotFoundError:  # deleted meanwhile
                if path == root:
                    raise
                continue
            except OSError as error:
                if path == root:
                    raise
                self._unreadable.append(f"{path}: not searched: {error.strerror or error}")
                continue
            if found is not None:
                files, subfolders, linked = found
                yield Listing(path, files, is_below=path != root)
                folders += sorted(subfolders, key=_natural)
                links += sorted(linked, key=_natural)

    @property
    def left_out(self) -> list[str]:
        """What was not searched and why, a few messages."""
        n_more = len(self._unreadable) - UNREADABLE_MAX
        more = [f"{n_more:,} more folders could not be searched"] if n_more > 0 else []
        return [*self._ended, *self._unreadable[:UNREADABLE_MAX], *more]

    def _is_full(self, root: str, path: str) -> bool:
        if self._n_folders < FOLDERS_MAX and self._n_entries < ENTRIES_MAX:
            return False
        self._ended.append(
            f"{root}: the search for runs ended after {self._n_folders:,} folders with "
            f"{self._n_entries:,} files, before {path}. Name the folders of the runs themselves"
        )
        return True

    def _list(self, path: str) -> tuple[list[Entry], list[str], list[str]] | None:
        """The files, subfolders and links to folders; None: it was listed before."""
        status = os.stat(path)
        identity = (status.st_dev, status.st_ino)
        if identity in self._seen:
            return None
        self._seen.add(identity)
        files, folders, links = list_folder(path)
        self._n_folders += 1
        self._n_entries += len(files)
        if any(entry.name == _ENVIRONMENT for entry in files):
            return files, [], []
        return files, folders, links


def list_folder(path: str | os.PathLike[str]) -> tuple[list[Entry], list[str], list[str]]:
    """What is in a folder: its files, and the paths of subfolders and of links to folders.

    Raises:
        OSError: the folder cannot be read.
    """
    files: list[Entry] = []
    folders: list[str] = []
    links: list[str] = []
    with os.scandir(path) as entries:
        for entry in entries:
            is_folder = False
            with suppress(OSError):  # a link in a loop of links
                is_folder = entry.is_dir()
            if not is_folder:
                files.append(entry)
            elif entry.name not in SKIPPED:
                (links if entry.is_symlink() else folders).append(entry.path)
    return files, folders, links


_NUMBER = re.compile(r"(\d+)")


def _natural(path: str) -> list[tuple[int, str]]:
    """A sort key: `trial_2` before `trial_10`."""
    parts = _NUMBER.split(os.path.basename(path))
    return [(int(part), "") if part.isascii() and part.isdigit() else (-1, part) for part in parts]
