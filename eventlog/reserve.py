"""Space taken ahead of a file's end, so that a disk filled by others still takes its next lines."""

import errno
import math

from eventlog.disk import Disk
from eventlog.interruption import is_interruption

RESERVE_BYTES = 4 << 20  # about 23,000 iterations
LAST_BYTES = 64 << 10  # of them for the end alone: where the session went on, what was lost


class Reserve:
    """The space behind the end of one file."""

    def __init__(self, disk: Disk, *, is_allowed: bool) -> None:
        """`is_allowed`: space is given back by a truncation, which only a sole writer may do."""
        self._disk = disk
        self._is_allowed = is_allowed
        self._reserved_to = 0
        self.ask_at: float = 0
        """The size of the file from which `take` is to be called."""
        self.is_full = False
        """Whether the disk has no space: the file is to have no more lines but its last ones."""

    def take(self, fd: int, size_bytes: int) -> bool:
        """Take space behind a file of `size_bytes`; False: the disk is full."""
        if not self._is_allowed:
            self.ask_at = math.inf
            return True
        self.ask_at = size_bytes + RESERVE_BYTES // 2
        for more_bytes in (RESERVE_BYTES, RESERVE_BYTES // 8, 4 * LAST_BYTES):
            try:
                self._disk.reserve(fd, size_bytes, more_bytes)
            except OSError as error:
                if is_interruption(error):
                    raise
                if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                    break  # a file system that cannot
            else:
                self._reserved_to = size_bytes + more_bytes
                self.ask_at = self._reserved_to - more_bytes // 2
                self.is_full = False
                return True
        if self._reserved_to:
            self.ask_at = self._reserved_to - LAST_BYTES
            self.is_full = size_bytes > self.ask_at
        return not self.is_full

    def give_back(self, fd: int) -> None:
        """Give back what is not needed."""
        if self._is_allowed:
            try:
                self._disk.truncate(fd, self._disk.size(fd))
            except OSError as error:
                if is_interruption(error):
                    raise
