"""The space that a writer reserves behind the end of its files, when it could not give it back."""

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from eventlog.blocks import check_is_file
from eventlog.disk import DISK, Disk

_LEAST_BYTES = 256 << 10  # what a file system keeps behind an end of its own accord is no matter
_BLOCK_BYTES = 512  # the unit of st_blocks, whatever the file system's own is


def release(journal: Path, segments: Iterable[Path] = (), *, disk: Disk = DISK) -> None:
    """Give back the space that killed sessions reserved; nothing where somebody writes.

    What the files hold and their times stay. Not on a network file system, where the lock of
    another machine may not be seen. What a disk refuses is left as it is.
    """
    with suppress(OSError):
        if not any(map(_has_reserved, (journal, *segments))) or disk.is_network(journal):
            return
        lock = _open(journal)
        try:
            if not disk.lock_shared(lock):
                return
            for path in (journal, *segments):
                with suppress(OSError):
                    _release(path, disk)
        finally:
            os.close(lock)


def _has_reserved(path: Path) -> bool:
    with suppress(OSError):
        status = os.stat(path)
        return status.st_blocks * _BLOCK_BYTES > status.st_size + _LEAST_BYTES
    return False


def _release(path: Path, disk: Disk) -> None:
    if not _has_reserved(path) or disk.is_network(path):
        return
    fd = _open(path)
    try:
        disk.release_reserved(fd)
    finally:
        os.close(fd)


def _open(path: Path) -> int:
    check_is_file(path)
    return os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
