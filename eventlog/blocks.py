"""Reading files: regular files only, and skipping what a disk cannot read.

Files are not mapped into memory: an unreadable sector or a truncation by another program would
end the process (SIGBUS). Here the first is a hole, which the scanner reports, and the second is
the end of the file.
"""

import errno
import os
import stat
from collections.abc import Callable, Generator
from hashlib import file_digest
from pathlib import Path

CHUNK_BYTES = 1 << 17  # about 800 iterations, read at once
SECTOR_BYTES = 512  # the least that a disk loses at once

NoteHole = Callable[[int, int], None]
"""Called with offset and size of bytes that the disk could not read."""

_UNREADABLE = frozenset(
    getattr(errno, name)
    for name in ("EIO", "ENODATA", "EILSEQ", "EREMOTEIO", "EBADMSG", "EUCLEAN")
    if hasattr(errno, name)
)
_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def open_to_read(path: str | os.PathLike[str]) -> int:
    """A descriptor to read a regular file; never waits for another process.

    Raises:
        OSError: it is missing, unreadable, or not a regular file (EINVAL).
    """
    check_is_file(path)  # before opening it: that would be noticed by a device or a FIFO's writer
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        _check_mode(os.fstat(fd).st_mode, path)
    except BaseException:
        os.close(fd)
        raise
    return fd


def check_is_file(path: str | os.PathLike[str]) -> int:
    """The size in bytes of a regular file, which is not opened: opening a FIFO may block.

    Raises:
        OSError: it is missing, or not a regular file (EINVAL); the message says what it is.
    """
    status = os.stat(path)
    _check_mode(status.st_mode, path)
    return status.st_size


def _check_mode(mode: int, path: str | os.PathLike[str]) -> None:
    if not stat.S_ISREG(mode):
        kind = _KINDS.get(stat.S_IFMT(mode), "not a file")
        raise OSError(errno.EINVAL, f"is {kind}, not a regular file", os.fspath(path))


def read_at(fd: int, offset: int, size_bytes: int, note_hole: NoteHole | None = None) -> bytes:
    """Read `size_bytes` from `offset` on: fewer at the end of the file, zeros where unreadable.

    Around an unreadable place, smaller and smaller parts are read, down to a sector.
    """
    pieces = []
    while size_bytes > 0:
        piece = _read_once(fd, offset, size_bytes, note_hole)
        if not piece:
            break
        pieces.append(piece)
        offset += len(piece)
        size_bytes -= len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _read_once(fd: int, offset: int, size_bytes: int, note_hole: NoteHole | None) -> bytes:
    try:
        return os.pread(fd, size_bytes, offset)
    except OSError as error:
        if error.errno not in _UNREADABLE:
            raise
    to_next = SECTOR_BYTES - offset % SECTOR_BYTES
    if size_bytes <= to_next:
        size_bytes = min(size_bytes, os.fstat(fd).st_size - offset)
        if size_bytes > 0 and note_hole is not None:
            note_hole(offset, size_bytes)
        return bytes(max(0, size_bytes))
    middle = (offset + size_bytes // 2) // SECTOR_BYTES * SECTOR_BYTES
    return read_at(fd, offset, max(to_next, middle - offset), note_hole)


def read_chunks(
    path: str | os.PathLike[str], offset: int = 0, note_hole: NoteHole | None = None
) -> Generator[bytes, None, None]:
    """The bytes of a file, in pieces, from `offset` to the end that it has at the first read.

    Bytes that are added later are left out: the file may have been cut and written again by then,
    so that they do not continue what was read before. Holes are noted before the piece that
    contains them is returned.

    Raises:
        OSError: the file is missing, unreadable, or not a regular file.
    """
    fd = open_to_read(path)
    try:
        end = os.fstat(fd).st_size
        while offset < end:
            chunk = read_at(fd, offset, min(end - offset, CHUNK_BYTES), note_hole)
            if not chunk:
                return
            offset += len(chunk)
            yield chunk
    finally:
        os.close(fd)


def read_head(path: Path, size_bytes: int) -> bytes:
    """The first `size_bytes` of a regular file, or all of it.

    Raises:
        OSError: as `read_chunks`.
    """
    fd = open_to_read(path)
    try:
        return read_at(fd, 0, size_bytes)
    finally:
        os.close(fd)


def read_all(path: Path) -> bytes:
    """A whole regular file.

    Raises:
        OSError: as `read_chunks`, or a part of it is unreadable.
    """

    def refuse(offset: int, size_bytes: int) -> None:
        raise OSError(
            errno.EIO, f"{size_bytes:,} bytes at byte {offset:,} are unreadable", os.fspath(path)
        )

    return b"".join(read_chunks(path, 0, refuse))


def sha256_of(path: Path) -> str:
    """The SHA-256 of a regular file, in hexadecimal.

    Raises:
        OSError: it is missing, unreadable, or not a regular file.
    """
    with os.fdopen(open_to_read(path), "rb") as file:
        return file_digest(file, "sha256").hexdigest()


def rfind(fd: int, mark: bytes, end: int) -> int:
    """The last place of `mark` before `end`, as `bytes.rfind`; -1: none."""
    window = max(CHUNK_BYTES * 8, 2 * len(mark))
    while end > 0:
        begin = max(0, end - window)
        at = read_at(fd, begin, end - begin).rfind(mark)
        if at >= 0:
            return begin + at
        if begin == 0:
            break
        end = begin + len(mark) - 1
    return -1


def find(fd: int, mark: bytes, begin: int) -> int:
    """The first place of `mark` from `begin` on, as `bytes.find`; -1: none."""
    window = max(CHUNK_BYTES * 8, 2 * len(mark))
    while data := read_at(fd, begin, window):
        at = data.find(mark)
        if at >= 0:
            return begin + at
        if len(data) < len(mark):
            break
        begin += len(data) - len(mark) + 1
    return -1


def line_around(fd: int, at: int, most_bytes: int) -> tuple[int, bytes]:
    """Where the line of byte `at` begins, and the line, without LF and not longer than this."""
    low = max(0, at - most_bytes)
    data = read_at(fd, low, at - low + most_bytes)
    start = data.rfind(b"\n", 0, at - low) + 1
    end = data.find(b"\n", at - low)
    return low + start, data[start : end if end >= 0 else len(data)]
