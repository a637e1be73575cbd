"""All files of one run as one: a tar, compressed with zstd.

`tar --zstd -xf NAME.tar.zst` is all that is needed to have them again, byte for byte.
"""

import os
import re
import stat
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from hashlib import sha256
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple

import eventlog
from tools import runs
from tools.runs import Refusal
from tools.vault.store import READ_BYTES, Damaged

LEVEL = 9  # of zstd: journals take a seventh less than at 3, at 50 MB/s
ASIDE = {".segment": 3, ".torn": 2, ".aside": 4, ".journal": 1}
"""What stands beside a journal, `<stem>.<session>...`: the dots behind the run's stem, or behind
`<stem>.rank3`, whose own journal is `<stem>.rank3.journal`."""
_RANK = re.compile(r"\.rank\d+$")


@dataclass(frozen=True)
class Original:
    """A file of a run, as it was when it was packed."""

    name: str
    size_bytes: int
    mtime_ns: int
    sha256: str
    folder: str
    """Where it was, if that was not beside the journal: a segment on another disk."""


def group(folder: Path) -> dict[str, list[Path]]:
    """The files in `folder` that belong to runs, by the run's stem; links are none."""
    found: dict[str, list[Path]] = {}
    with os.scandir(folder) as entries:
        names = sorted(e.name for e in entries if e.is_file(follow_symlinks=False))
    for name in names:
        suffix = os.path.splitext(name)[1]
        if suffix in runs.SUFFIXES:
            found.setdefault(name.removesuffix(suffix), []).append(folder / name)
        elif suffix in ASIDE:
            stem = _RANK.sub("", name.rsplit(".", ASIDE[suffix])[0])
            found.setdefault(stem, []).append(folder / name)
    return found


def elsewhere(run: eventlog.Run, files: Iterable[Path]) -> list[Path]:
    """The segments of a run that are not among `files`: in the session's `fallback` folder."""
    there = {path.name for path in files}
    absent = [s["file"] for s in run.journal.get("segments") or () if s["file"] not in there]
    if not absent or run.path is None or not runs.is_journal(run.path):
        return []
    opened = (r.fields.get("fallback") for r in eventlog.scan(run.path) if r.event == "open")
    folders = dict.fromkeys(Path(folder) for folder in opened if isinstance(folder, str))
    paths = (folder / name for name in absent for folder in folders)
    return [path for path in paths if path.is_file()]


def pack(files: Iterable[Path], home: Path, out: IO[bytes]) -> list[Original]:
    """Write the bundle of `files` to `out`; what was packed.

    Raises:
        Refusal: a file cannot be read, or became shorter meanwhile.
        OSError: `out` cannot be written.
    """
    import zstandard  # here: a command that needs no bundle must not need the library

    packed = []
    compressor = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True)
    with (
        compressor.stream_writer(out, closefd=False) as stream,
        tarfile.open(fileobj=stream, mode="w|", format=tarfile.PAX_FORMAT) as tar,
    ):
        for path in files:
            with _opened(path) as file:
                told = os.fstat(file.fileno())
                info = tarfile.TarInfo(path.name)
                info.size, info.mode = told.st_size, stat.S_IMODE(told.st_mode)
                info.mtime = told.st_mtime_ns // 10**9
                info.pax_headers = {"mtime": str(Decimal(told.st_mtime_ns).scaleb(-9))}
                hashed = _Hashed(file, path)
                tar.addfile(info, hashed)
            folder = "" if path.parent == home else str(path.parent)
            digest = hashed.digest.hexdigest()
            packed.append(Original(path.name, told.st_size, told.st_mtime_ns, digest, folder))
    return packed


class Packed(NamedTuple):
    """A file in a bundle."""

    name: str
    mtime_ns: int
    content: IO[bytes]


def unpack(stream: IO[bytes]) -> Iterator[Packed]:
    """Each file in a bundle, in order; read the one before the next.

    Raises:
        Damaged: it is no bundle, or not whole, or a name in it is more than a name.
    """
    import zstandard

    try:
        with (
            zstandard.ZstdDecompressor().stream_reader(stream) as plain,
            tarfile.open(fileobj=plain, mode="r|") as tar,
        ):
            for info in tar:
                file = tar.extractfile(info)
                if file is None or info.name == ".." or Path(info.name).name != info.name:
                    raise Damaged(f"{info.name!r} is no plain file")
                told = info.pax_headers.get("mtime", info.mtime)
                yield Packed(info.name, int(Decimal(told).scaleb(9)), file)
    except (tarfile.TarError, zstandard.ZstdError, EOFError) as error:
        raise Damaged(str(error)) from None


Growth = Literal["same", "longer", "shorter", "other"]


def growth(old: IO[bytes], new: IO[bytes]) -> Growth:
    """What became of a journal: it only ever grows, but for half a line at its end.

    `longer`: all whole lines of `old` begin `new`; `shorter`: the reverse; `other`: neither.
    """
    while True:
        one, other = _read_full(old), _read_full(new)
        if one == other:
            if not one:
                return "same"
            continue
        pairs = enumerate(zip(one, other, strict=False))
        at = next((at for at, (a, b) in pairs if a != b), min(len(one), len(other)))
        if not _has_line_end(one[at:], old):
            return "longer"
        return "other" if _has_line_end(other[at:], new) else "shorter"


def _read_full(stream: IO[bytes]) -> bytes:
    pieces, left = [], READ_BYTES
    while left and (piece := stream.read(left)):
        pieces.append(piece)
        left -= len(piece)
    return b"".join(pieces)


def _has_line_end(begun: bytes, stream: IO[bytes]) -> bool:
    piece = begun
    while piece and b"\n" not in piece:
        piece = stream.read(READ_BYTES)
    return bool(piece)


def file_sha256(stream: IO[bytes]) -> str:
    """The SHA-256 of all that is left in `stream`, in hex."""
    digest = sha256()
    while chunk := stream.read(READ_BYTES):
        digest.update(chunk)
    return digest.hexdigest()


def _opened(path: Path) -> IO[bytes]:
    try:
        return open(path, "rb")
    except OSError as error:
        raise Refusal(f"{path}: {error.strerror or error}") from None


class _Hashed:
    """A file that is read, and what passed; what is wrong with it is not the archive's fault."""

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
