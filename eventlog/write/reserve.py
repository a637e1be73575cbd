"""Space reserved behind a file's end, so that its next lines fit on a disk that others filled.

The writer gives it back at the end; `release` does so after the writer was killed.
"""

import errno
import math
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from eventlog.blocks import check_is_file
from eventlog.disk import DISK, NO_SPACE, Disk
from eventlog.interruption import ignoring, is_of_a_call

RESERVE_BYTES = 4 << 20  # about 23,000 iterations
LESS_BYTES = tuple((512 << 10) >> k for k in range(8))  # down to 4 KiB, on a disk with no more
LAST_BYTES = 64 << 10  # of them for the last lines: where the session went on, what was lost

_LEAST_BYTES = 256 << 10  # less than this a file system may allocate by itself
_BLOCK_BYTES = 512  # the unit of st_blocks, whatever the file system's own is


class Reserve:
    """The space behind the end of one file."""

    def __init__(self, disk: Disk, *, is_allowed: bool) -> None:
        """`is_allowed`: giving space back is a truncation, which is only safe with one writer."""
        self._disk = disk
        self._is_allowed = is_allowed
        self._reserved_to = 0
        self._last_bytes = LAST_BYTES
        self.ask_at: float = 0
        """The size of the file at which `take` has to be called again."""
        self.is_full = False
        """Whether the disk has no space: only the last lines of the file may still be written."""

    def take(self, fd: int, size_bytes: int) -> bool:
        """Reserve space behind a file of `size_bytes`; False: the disk is full."""
        if not self._is_allowed:
            self.ask_at = math.inf
            return True
        self.ask_at = size_bytes + RESERVE_BYTES // 2
        more_bytes = self._extend(fd, size_bytes)
        if more_bytes:
            self._reserved_to = size_bytes + more_bytes
            self._last_bytes = min(LAST_BYTES, more_bytes // 2)
            self.ask_at = self._reserved_to - more_bytes // 2
            self.is_full = False
        elif self._reserved_to:
            self.ask_at = self._reserved_to - self._last_bytes
            self.is_full = size_bytes > self.ask_at
        return not self.is_full

    def has_room(self, fd: int, size_bytes: int, line_bytes: int) -> bool:
        """Whether a long line fits behind a file of `size_bytes`, and the last lines after it.

        Without that, a line that is longer than the space for those would take it.
        """
        end = size_bytes + line_bytes
        if not self._is_allowed or not self._reserved_to or end <= self._reserved_to - LAST_BYTES:
            return True
        more_bytes = self._extend(fd, size_bytes, line_bytes)
        if more_bytes:
            self._reserved_to = max(self._reserved_to, end + more_bytes)
        return more_bytes is None or more_bytes >= LAST_BYTES

    def _extend(self, fd: int, size_bytes: int, line_bytes: int = 0) -> int | None:
        """Reserve space for a line and as much as possible behind it; how much, 0: the disk is
        full. None: the file system cannot reserve, or not for a file of that length."""
        is_too_long = False
        for more_bytes in (RESERVE_BYTES, *LESS_BYTES):
            try:
                self._disk.reserve(fd, size_bytes, line_bytes + more_bytes)
                return more_bytes
            except OSError as error:
                if not is_of_a_call(error):
                    raise
                if error.errno not in NO_SPACE:
                    return None
                is_too_long = error.errno == errno.EFBIG
        return None if is_too_long else 0

    def give_back(self, fd: int) -> None:
        """Give back what was not used."""
        if self._is_allowed:
            with ignoring(OSError):
                self._disk.truncate(fd, self._disk.size(fd))


def release(journal: Path, segments: Iterable[Path] = (), *, disk: Disk = DISK) -> None:
    """Give back the space that killed sessions reserved, unless the journal is being written.

    Content and times of the files stay. Does nothing on a network file system, where the lock of
    another machine may not be visible, nor for what the disk refuses.
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
