"""A bundle: all files of one run in a tar, compressed with zstd.

`tar --zstd -xf NAME.tar.zst` restores them, byte for byte.
"""

import io
import os
import shutil
import stat
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from hashlib import sha256
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

from ..core.runs import Refusal
from . import files
from .store import Damaged

LEVEL = 9  # of zstd: journals take a seventh less than at 3, at 50 MB/s
HEADER_BYTES = 1 << 20  # of a file in a bundle: its name and its times take 2 KB
EXPANSION_MAX = 1_000  # times its size; journals expand 5 to 20 times
EXPANSION_FREE = 256 << 20  # bytes to which a bundle of any size may expand


@dataclass(frozen=True)
class Original:
    """A file of a run as it was packed."""

    name: str
    size_bytes: int
    mtime_ns: int
    sha256: str
    folder: str
    """Its folder, if that is not the journal's: a segment on another disk."""


def pack(paths: Sequence[Path], home: Path, out: IO[bytes]) -> list[Original]:
    """Write a bundle of the files `paths` to `out`; returns what was packed.

    Raises:
        Refusal: a file cannot be read, or became shorter meanwhile.
        OSError: `out` cannot be written.
    """
    import zstandard  # here: a command that needs no bundle must not need the library

    try:
        files.check_file_names(path.name for path in paths)
    except ValueError as error:
        raise Refusal(f"{home}: cannot be archived under such a name: {error}") from None
    packed = []
    compressor = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True)
    with (
        compressor.stream_writer(out, closefd=False) as stream,
        tarfile.open(fileobj=stream, mode="w|", format=tarfile.PAX_FORMAT) as tar,
    ):
        for path in paths:
            with _opened(path) as file:
                status = os.fstat(file.fileno())
                info = tarfile.TarInfo(path.name)
                info.size, info.mode = status.st_size, stat.S_IMODE(status.st_mode)
                info.mtime = status.st_mtime_ns // 10**9
                info.pax_headers = {"mtime": str(Decimal(status.st_mtime_ns).scaleb(-9))}
                hashed = _Hashed(file, path)
                tar.addfile(info, hashed)
            folder = "" if path.parent == home else str(path.parent)
            digest = hashed.digest.hexdigest()
            packed.append(Original(path.name, status.st_size, status.st_mtime_ns, digest, folder))
    return packed


class Packed(NamedTuple):
    """A file in a bundle."""

    name: str
    size_bytes: int
    mtime_ns: int
    content: IO[bytes]


def unpack(stream: IO[bytes]) -> Iterator[Packed]:
    """The files of a bundle in order; read each before asking for the next.

    Raises:
        Damaged: it is not a complete bundle of the files of one run, or expands to more than a
            bundle of its size can. Reading `content` raises it too.
    """
    import zstandard

    source = _Counted(stream)
    expanded = zstandard.ZstdDecompressor().stream_reader(cast(IO[bytes], source))
    plain = cast(Any, _Bounded(expanded, source))
    with _damage(), expanded, tarfile.open(fileobj=plain, mode="r|") as tar:
        names: dict[str, None] = {}
        for info in tar:
            if not info.isreg() or info.issparse():
                raise Damaged(f"{info.name!r} is not a regular file")
            if files.check_file_name(info.name) in names:
                raise Damaged(f"{info.name!r} is in it twice")
            names[info.name] = None
            file = tar.extractfile(info)
            assert file is not None  # it is a regular file
            plain.allow(info.offset_data + info.size)
            content = cast(IO[bytes], _Content(file))
            yield Packed(info.name, info.size, _mtime_ns(info), content)
        files.check_file_names(names)


def check_space(packed: Packed, folder: Path) -> None:
    """Check that the disk of `folder` has space for the file.

    Raises:
        Refusal: it does not.
    """
    free = shutil.disk_usage(folder).free
    if packed.size_bytes > free:
        raise Refusal(
            f"{folder}: {packed.name} has {packed.size_bytes:,} bytes, {free:,} are free there"
        )


@contextmanager
def _damage() -> Iterator[None]:
    """Turn what the libraries raise about unreadable bytes into `Damaged`."""
    import zstandard

    try:
        yield
    except (tarfile.TarError, zstandard.ZstdError, EOFError) as error:
        raise Damaged(str(error) or type(error).__name__) from None
    except (ValueError, ArithmeticError, LookupError) as error:  # odd numbers, names, encodings
        raise Damaged(str(error) or type(error).__name__) from None


def _mtime_ns(info: tarfile.TarInfo) -> int:
    text = str(info.pax_headers.get("mtime", info.mtime))
    if len(text) > 64:  # pax headers are of any length
        raise ValueError(f"{info.name!r}: its time is too long to be one")
    seconds = Decimal(text)
    if not seconds.is_finite() or seconds.adjusted() > 9:  # up to the year 2286
        raise ValueError(f"{info.name!r}: {text!r} is not a time that a file can have")
    return int(seconds.scaleb(9))


class _Counted:
    """A compressed bundle that counts the bytes read."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream, self.n_bytes = stream, 0

    def read(self, n_bytes: int = -1) -> bytes:
        data = self._stream.read(n_bytes)
        self.n_bytes += len(data)
        return data


class _Bounded:
    """The expanded bundle; raises if it expands too much or a header is too long."""

    def __init__(self, expanded: Any, source: _Counted) -> None:
        self._expanded, self._source = expanded, source
        self._n_bytes, self._limit = 0, HEADER_BYTES

    def allow(self, end: int) -> None:
        """Allow reading to byte `end`, where the current file ends, and a header after it."""
        self._limit = end + HEADER_BYTES

    def read(self, n_bytes: int) -> bytes:
        data: bytes = self._expanded.read(n_bytes)
        self._n_bytes += len(data)
        if self._n_bytes > EXPANSION_FREE + EXPANSION_MAX * self._source.n_bytes:
            raise Damaged(f"expands to more than {EXPANSION_MAX:,} times its size")
        if self._n_bytes > self._limit:
            raise Damaged(f"a header in it has more than {HEADER_BYTES:,} bytes")
        return data


class _Content(io.RawIOBase):
    """A file in a bundle; can be read once, front to back."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def readable(self) -> bool:
        return True

    def read(self, n_bytes: int = -1) -> bytes:
        with _damage():
            return self._file.read(n_bytes)

    def readinto(self, buffer: Any) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def _opened(path: Path) -> IO[bytes]:
    try:
        return open(path, "rb")
    except OSError as error:
        raise Refusal(f"{path}: {error.strerror or error}") from None


class _Hashed:
    """A file that is hashed while it is read; its errors are refusals, not damage."""

    def __init__(self, file: IO[bytes], path: Path) -> None:
        self._file, self._path = file, path
        self.digest: Any = sha256()

    def read(self, n_bytes: int = -1) -> bytes:
        try:
            data = self._file.read(n_bytes)
        except OSError as error:
            raise Refusal(f"{self._path}: {error.strerror or error}") from None
        if len(data) < n_bytes:
            raise Refusal(f"{self._path}: became shorter while it was read")
        self.digest.update(data)
        return data
