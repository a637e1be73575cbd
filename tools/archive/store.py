"""Files under a URL: a folder, or any storage that fsspec supports (`s3://bucket/runs`).

In both a file is complete or does not exist. A folder is locked while files are added, if its file
system has locks; object storages have none.
"""

import abc
import contextlib
import os
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import IO, Any

import eventlog

from ..core.library import need
from ..core.locks import lock
from ..core.runs import Refusal
from .files import check_path

READ_BYTES = 1 << 20
Write = Callable[[IO[bytes]], object]


@dataclass(frozen=True)
class Stored:
    """A file as it was written: its name below the URL, its size, its SHA-256."""

    name: str
    size_bytes: int
    sha256: str


class Damaged(OSError):
    """A stored file is not what was written; `str()` names the file and the damage."""


def open_store(url: str) -> "Store":
    """The store at `url`, which need not exist yet.

    Raises:
        Refusal: such URLs are not supported, or the library for them is not installed.
    """
    if url.startswith("file://") or "://" not in url:
        return Folder(Path(url.removeprefix("file://")))
    return Bucket(url)


class Store(abc.ABC):
    """Files by name, relative to `url`, with `/`."""

    url: str

    @abc.abstractmethod
    def read(self, name: str) -> IO[bytes]:
        """Open a file; FileNotFoundError if there is none."""

    @abc.abstractmethod
    def write(self, name: str, write: Write) -> Stored:
        """Store what `write(stream)` writes: all of it, or no file."""

    @abc.abstractmethod
    def remove(self, name: str) -> None:
        """Remove a file, if it exists."""

    @abc.abstractmethod
    def names(self) -> dict[str, float]:
        """All files, each with its age in seconds."""

    @abc.abstractmethod
    def locked(self) -> contextlib.AbstractContextManager[bool]:
        """A context in which to add files; True if it excludes other processes."""

    @abc.abstractmethod
    def address(self, name: str) -> str:
        """The path or URL of the file for other programs."""

    def measure(self, name: str) -> Stored:
        """The file as it is now.

        Raises:
            FileNotFoundError: there is none.
            Damaged: it cannot be read to its end.
        """
        digest, size_bytes = sha256(), 0
        try:
            with self.read(name) as stream:
                while chunk := stream.read(READ_BYTES):
                    digest.update(chunk)
                    size_bytes += len(chunk)
        except (FileNotFoundError, Damaged):
            raise
        except OSError as error:  # the disk may still read other files
            raise Damaged(f"{name}: cannot be read: {error.strerror or error}") from None
        return Stored(name, size_bytes, digest.hexdigest())

    def check(self, file: Stored) -> None:
        """Compare the file with what was written.

        Raises:
            Damaged: it is missing, cannot be read, or has other bytes.
        """
        try:
            now = self.measure(file.name)
        except FileNotFoundError:
            raise Damaged(f"{file.name}: missing; expected {file.size_bytes:,} bytes") from None
        if now.size_bytes != file.size_bytes:
            raise Damaged(
                f"{file.name}: damaged: expected {file.size_bytes:,} bytes, "
                f"found {now.size_bytes:,}"
            )
        if now.sha256 != file.sha256:
            raise Damaged(
                f"{file.name}: damaged: expected SHA-256 {file.sha256[:16]}..., "
                f"found {now.sha256[:16]}..."
            )


class Folder(Store):
    """A folder of this machine."""

    def __init__(self, path: Path) -> None:
        self.path = Path(os.path.abspath(path.expanduser()))
        self.url = str(self.path)

    def read(self, name: str) -> IO[bytes]:
        # O_NONBLOCK: opening a FIFO would wait for a writer.
        fd = os.open(self._inside(name), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise Damaged(f"{name}: cannot be read: it is not a file")
        return open(fd, "rb")

    def write(self, name: str, write: Write) -> Stored:
        path, digest = self._inside(name, follow=False), sha256()
        if not path.parent.is_dir():
            _make_durable_folder(path.parent)
        size_bytes = eventlog.atomic_write(path, write, digest=digest)
        return Stored(name, size_bytes, digest.hexdigest())

    def remove(self, name: str) -> None:
        self._inside(name, follow=False).unlink(missing_ok=True)

    def _inside(self, name: str, *, follow: bool = True) -> Path:
        """The path of a file in this folder; `follow`: also check where a link leads.

        Raises:
            Damaged: it is outside of the folder.
        """
        path, root = self.path / _checked(name), os.path.realpath(self.path)
        real = os.path.realpath(path if follow else path.parent)
        if real != root and not real.startswith(root.rstrip(os.sep) + os.sep):
            raise Damaged(f"{name}: a link leads out of the archive, to {real}")
        return path

    def names(self) -> dict[str, float]:
        now, ages = time.time(), {}
        for folder, _, files in os.walk(self.path):
            for path in (Path(folder, file) for file in files):
                with contextlib.suppress(FileNotFoundError):
                    age_s = now - path.lstat().st_mtime
                    ages[path.relative_to(self.path).as_posix()] = age_s
        return ages

    @contextlib.contextmanager
    def locked(self) -> Iterator[bool]:
        """As `Store.locked`; the kernel releases the lock when the process ends.

        Raises:
            Refusal: another process holds it.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            is_locked = lock(fd)
            if is_locked is False:
                raise Refusal(
                    f"{self.url}: another process is archiving there; try again when it is done"
                )
            yield bool(is_locked)
        finally:
            os.close(fd)

    def address(self, name: str) -> str:
        path = self._inside(name)
        if path.exists() and not path.is_file():
            raise Damaged(f"{name}: cannot be read: it is not a file")
        return str(path)


def _checked(name: str) -> str:
    try:
        return check_path(name)
    except ValueError as error:
        raise Damaged(str(error)) from None


def _make_durable_folder(path: Path) -> None:
    """Make a folder that survives a power loss: its parents are synced."""
    missing = [p for p in (path, *path.parents) if not p.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for folder in missing:
        fd = os.open(folder.parent, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


class Bucket(Store):
    """Any storage that fsspec supports: S3, Google Cloud, Azure, HDFS, SFTP, memory, ..."""

    def __init__(self, url: str) -> None:
        need("fsspec")
        import fsspec

        try:
            self.fs, root = fsspec.core.url_to_fs(url)
        except (ImportError, ValueError) as error:  # s3:// without s3fs; no such protocol
            raise Refusal(f"{url}: {error}") from None
        self.root: str = root.rstrip("/")
        self.url = url.rstrip("/")

    def read(self, name: str) -> IO[bytes]:
        return self.fs.open(f"{self.root}/{_checked(name)}", "rb")  # type: ignore[no-any-return]

    def write(self, name: str, write: Write) -> Stored:
        path = f"{self.root}/{_checked(name)}"
        with self.fs.transaction, self.fs.open(path, "wb") as stream:  # whole, or not at all
            counted = _Counted(stream)
            write(counted)  # type: ignore[arg-type]
        return Stored(name, counted.size_bytes, counted.digest.hexdigest())

    def remove(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            self.fs.rm_file(f"{self.root}/{_checked(name)}")

    def names(self) -> dict[str, float]:
        self.fs.invalidate_cache()
        paths = self.fs.find(self.root)
        return {path[len(self.root) + 1 :]: self._age_s(path) for path in paths}

    def _age_s(self, path: str) -> float:
        try:
            return time.time() - float(self.fs.modified(path).timestamp())
        except (NotImplementedError, OSError):
            return 0.0  # as if it were new, so that it stays

    @contextlib.contextmanager
    def locked(self) -> Iterator[bool]:
        yield False

    def address(self, name: str) -> str:
        return str(self.fs.unstrip_protocol(f"{self.root}/{_checked(name)}"))


class _Counted:
    """A stream that counts and hashes what is written to it."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.digest, self.size_bytes = sha256(), 0

    def write(self, data: Any) -> int:
        self._stream.write(data)
        self.digest.update(data)
        self.size_bytes += memoryview(data).nbytes
        return memoryview(data).nbytes
