"""Segments, in which a session goes on when its file fails, and all files it has open."""

import contextlib
import os
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from eventlog.disk import Disk
from eventlog.format.files import segment_name
from eventlog.format.record import Clock, decode, encode_header
from eventlog.interruption import ignoring, is_of_a_call
from eventlog.write.sessions import new_session_name

MAX_SEGMENTS = 100  # of one session: a disk that fails this often is not tried again


class Move(NamedTuple):
    """The session went on in a segment."""

    path: Path
    number: int
    first_n: int


Created = tuple[int, Path, tuple[int, int], int]
"""Descriptor, path, identity and size of a new segment. A plain tuple: making another one is a
call, in which an exception may come before anyone knows the descriptor."""


class Segments:
    """Creates the segments of one session, in each of its folders in turn."""

    def __init__(
        self, folders: Sequence[Path], *, s: str, run_id: str, clock: Clock, disk: Disk
    ) -> None:
        self.number = 0
        """The number of the next segment."""
        self.is_creating = False
        self.retry_at = 0.0
        """The time before which no folder is tried again."""
        self._folders = deque(folders)
        self._s, self._run_id, self._clock, self._disk = s, run_id, clock, disk

    @property
    def is_exhausted(self) -> bool:
        return self.number >= MAX_SEGMENTS

    def next_folders(self) -> list[Path]:
        folders = list(self._folders)
        self._folders.rotate(-1)  # the next time the other disk is tried first
        return folders

    def create(
        self,
        folder: Path,
        journal: Path,
        first_n: int,
        lines: Sequence[bytes],
        write_asides: Callable[[], None],
    ) -> Created | None:
        """A new segment that holds `lines`, from record `first_n` on; None: the disk refused.

        `write_asides` writes the files that the lines name into the folder.
        """
        path = folder / segment_name(journal.stem, self._run_id, self._s, self.number)
        data = b"".join([self._header(journal, first_n), *lines])
        fd = -1
        try:
            self._disk.make_folder(folder)
            fd = self._disk.open_new(path)
            write_asides()
            self._disk.write_all(fd, data)
            identity = self._disk.identity(fd)
        except BaseException as error:
            if fd >= 0:
                self._disk.close(fd)
            if isinstance(error, OSError) and is_of_a_call(error):
                if isinstance(error, FileExistsError):
                    self.number += 1
                else:
                    with ignoring(OSError):
                        self._disk.unlink(path)
                return None
            raise
        self.number += 1
        self.retry_at = 0.0
        return fd, path, identity, len(data)

    def _header(self, journal: Path, first_n: int) -> bytes:
        return encode_header(
            run_id=self._run_id,
            journal=journal.name,
            session=self._s,
            number=self.number,
            first_n=first_n,
            s=new_session_name(),
            t=self._clock.now(),
        )


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

    def forget_unnamed(self) -> None:
        """Write no notes into a journal that has no name any more.

        One over which another file system was mounted has a name: it will be seen again.
        """
        with ignoring(OSError):
            if self.fd_for_notes >= 0 and os.fstat(self.fd_for_notes).st_nlink == 0:
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
        with ignoring(OSError):
            last = os.pread(fd, 1, max(0, self._disk.size(fd) - 1))
            data = line if last in (b"\n", b"") else b"\n" + line
            return self._disk.write(fd, data) == len(data)
        return False

    def close(self) -> None:
        for fd in self.descriptors:
            with contextlib.suppress(OSError):
                self._disk.close(fd)
        self.written.clear()
        self._held.clear()
