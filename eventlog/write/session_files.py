"""The files that a session has open: its journal, and the segments it went on in."""

import contextlib
import os

from eventlog.disk import Disk
from eventlog.format.record import decode
from eventlog.interruption import is_of_a_call

COPY_BYTES = 1 << 20


def read_range(fd: int, begin: int, end: int) -> bytes:
    return b"".join(os.pread(fd, COPY_BYTES, at) for at in range(begin, end, COPY_BYTES))


class SessionFiles:
    """Descriptors, in the order in which the files were written.

    The journal's own stays open to the end, also when its session has left it: it has the lock.
    """

    def __init__(self, fd: int, disk: Disk, *, begin: int) -> None:
        """`begin`: where the session begins in the journal."""
        self._disk = disk
        self.written = [fd]
        self._held: list[int] = []
        self.fd_for_notes = fd
        """The journal's descriptor, for lines in it after its session left it; -1: none may be."""
        self.journal_identity = disk.identity(fd)
        self.begin = begin

    @property
    def descriptors(self) -> list[int]:
        """All that are open."""
        return [*self.written, *self._held]

    @property
    def journal_fd(self) -> int:
        """The descriptor of what is at the journal's path: the journal, or another file of the
        same run; -1: none."""
        return next(iter([*self._held[-1:], *self.written]), -1)

    def replace(self, old: int, new: int, *, is_journal: bool) -> None:
        """Use `new` in place of `old`; does not close `old`."""
        self.written = [new if fd == old else fd for fd in self.written]
        if is_journal:
            self.journal_identity = self._disk.identity(new)

    def replace_journal(self, fd: int) -> None:
        """The journal was written again, as `fd`, after its session had left it."""
        old, at = self.journal_fd, -1 if self._held else 0
        (self._held or self.written)[at] = fd
        self.fd_for_notes = fd
        self.journal_identity = self._disk.identity(fd)
        self._disk.close(old)

    def hold(self, fd: int) -> None:
        """Keep `fd`, the file now at the journal's path, open: for its lock, and for notes."""
        self._held.append(fd)
        self.fd_for_notes = fd
        self.journal_identity = self._disk.identity(fd)

    def forget(self, fd: int) -> None:
        """Never write to a descriptor nor close it: its number may be another file's."""
        self.written = [other for other in self.written if other != fd]
        if self.fd_for_notes == fd:
            self.fd_for_notes = -1

    def lines(self, session: str) -> bytes:
        """The lines of a session in all files, in the order of their numbers."""
        lines: dict[int, bytes] = {}
        for fd in self.written:
            begin = self.begin if fd == self.written[0] else 0
            for line in read_range(fd, begin, self._disk.size(fd)).split(b"\n"):
                record = decode(line)
                if record is not None and record.s == session:
                    lines[record.n] = line + b"\n"
        return b"".join(lines[n] for n in sorted(lines))

    def write_note(self, line: bytes) -> bool:
        """Write a line into the journal that the session has left, or that is full.

        The last bytes of the space that was reserved are for this. False: it was not written.
        """
        fd = self.fd_for_notes
        if fd < 0:
            return False
        try:
            last = os.pread(fd, 1, max(0, self._disk.size(fd) - 1))
            data = line if last in (b"\n", b"") else b"\n" + line
            return self._disk.write(fd, data) == len(data)
        except OSError as error:
            if not is_of_a_call(error):
                raise
            return False

    def close(self) -> None:
        for fd in self.descriptors:
            with contextlib.suppress(OSError):
                self._disk.close(fd)
        self.written.clear()
        self._held.clear()
