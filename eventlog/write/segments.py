"""Segments, in which a session goes on when its file fails, and all files it has open."""

import contextlib
import errno
import os
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, takewhile
from pathlib import Path
from typing import NamedTuple

from eventlog.disk import NO_SPACE, Disk, has_name
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


Created = tuple[int, Path, tuple[int, int], int, int]
"""Descriptor, path, identity and size of a new segment, and the number of lines in it. A plain
tuple: making another one is a call, in which an exception may come before anyone knows the
descriptor."""


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
        *,
        least: int,
    ) -> Created | None:
        """A new segment that holds `lines`, from record `first_n` on; None: the disk refused.

        `write_asides` writes the files that the lines name into the folder. Where there is no space
        for all lines it holds as many as fit, at least the first `least`.
        """
        path = folder / segment_name(journal.stem, self._run_id, self._s, self.number)
        pieces = [self._header(journal, first_n), *lines]
        n_lines = len(lines)
        fd = -1
        try:
            self._disk.make_folder(folder)
            fd = self._disk.open_new(path)
            self._disk.only_append(fd)
            write_asides()
            try:
                self._disk.write_all(fd, b"".join(pieces))
            except OSError as error:
                if error.errno not in NO_SPACE or not is_of_a_call(error):
                    raise
                n_lines = whole_pieces(pieces, self._disk.size(fd)) - 1
                if n_lines < least:
                    raise
                del pieces[1 + n_lines :]
                self._disk.truncate(fd, sum(map(len, pieces)))
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
        return fd, path, identity, sum(map(len, pieces)), n_lines

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


def whole_pieces(pieces: Iterable[bytes], size_bytes: int) -> int:
    """How many of the first `pieces` are within `size_bytes`."""
    ends = accumulate(map(len, pieces))
    return sum(1 for _ in takewhile(lambda end: end <= size_bytes, ends))


COPY_BYTES = 1 << 20


def read_range(fd: int, begin: int, end: int) -> bytes:
    return b"".join(os.pread(fd, COPY_BYTES, at) for at in range(begin, end, COPY_BYTES))


def owns(fd: int, identity: tuple[int, int], disk: Disk) -> bool:
    """Whether a descriptor is still that of the file `identity`: the program may have closed it."""
    try:
        return disk.identity(fd) == identity
    except OSError as error:
        if not is_of_a_call(error):
            raise
        return error.errno != errno.EBADF  # the disk fails; the descriptor is open


@dataclass(eq=False)
class OpenFile:
    """A file that a session has open."""

    fd: int
    """-1: the program closed it."""
    identity: tuple[int, int]
    begin: int = 0
    """Where the session begins in it."""
    size_bytes: int = 0
    """Of the journal: when its session left it, or when it was last looked at."""
    path: Path | None = None
    """Of a segment; None: all that it holds is in later ones."""
    is_gone: bool = False
    """Whether it is a segment that readers do not find any more."""

    def use(self, fd: int, disk: Disk) -> None:
        """Use `fd`, which has the same content; the descriptor before is not closed."""
        self.fd, self.identity, self.is_gone = fd, disk.identity(fd), False


class SessionFiles:
    """The files of a session, in the order in which they were written.

    The journal stays open to the end, also when its session has left it: it has the lock. The
    program may close any descriptor and get the same number for a file of its own, which is then
    neither read, written nor closed.
    """

    def __init__(self, fd: int, disk: Disk, *, begin: int) -> None:
        """`begin`: where the session begins in the journal."""
        self._disk = disk
        first = OpenFile(fd, disk.identity(fd), begin)
        self._written = [first]
        self._journal = first
        self._for_notes: OpenFile | None = first
        self.has_notes = True
        """Whether lines may be written into the journal after its session left it."""

    @property
    def descriptors(self) -> list[int]:
        """All that are open and have not become other files."""
        return self._owned(dict.fromkeys([*self._written, self._journal]))

    @property
    def written(self) -> list[int]:
        """Those of the files that the session has written."""
        return self._owned(self._written)

    @property
    def segments(self) -> list[int]:
        return self._owned(self._written[1:])

    @property
    def begin(self) -> int:
        """Where the session begins in the journal."""
        return self._written[0].begin

    @property
    def journal(self) -> OpenFile:
        """What is at the journal's path: the journal, or another file of the same run."""
        return self._journal

    def _owned(self, files: Iterable[OpenFile]) -> list[int]:
        return [file.fd for file in files if self._owns(file)]

    def _owns(self, file: OpenFile) -> bool:
        return file.fd >= 0 and owns(file.fd, file.identity, self._disk)

    @property
    def left_segments(self) -> list[OpenFile]:
        """Those that the session has left for another one, and that are still needed."""
        return [f for f in self._written[1:-1] if f.path is not None and self._owns(f)]

    def forget_left_segments(self) -> None:
        """All that they hold is in the latest one."""
        for file in self._written[1:-1]:
            file.path, file.is_gone = None, False

    def add(self, fd: int, identity: tuple[int, int], path: Path, size_before: int) -> None:
        """The session goes on in a segment; the file before had that size."""
        if self._written[-1] is self._journal:
            self._journal.size_bytes = size_before
        self._written.append(OpenFile(fd, identity, path=path))

    def replace_latest(self, fd: int) -> None:
        """Use `fd`, which has the same content; the descriptor before is not closed."""
        self._written[-1].use(fd, self._disk)

    def forget_latest(self) -> None:
        """Never use its descriptor again: the number may be another file's."""
        self._written[-1].fd = -1

    def replace_journal(self, fd: int) -> None:
        """The journal was opened or written again after its session had left it."""
        journal = self._for_notes = self._journal
        old = journal.fd if fd != journal.fd and self._owns(journal) else -1
        journal.fd, journal.identity = fd, self._disk.identity(fd)
        if old >= 0:
            self._disk.close(old)

    def hold(self, fd: int) -> None:
        """Keep `fd`, the file now at the journal's path, open: for its lock, and for notes."""
        before = self._journal
        self._journal = self._for_notes = OpenFile(fd, self._disk.identity(fd))
        if before not in self._written and self._owns(before):
            self._disk.close(before.fd)

    def forget_unnamed(self) -> None:
        """Write no notes into a journal that has no name any more.

        One over which another file system was mounted has a name: it will be seen again.
        """
        file = self._for_notes
        with ignoring(OSError):
            if file is not None and self._owns(file) and not has_name(file.fd):
                self._for_notes = None

    def lines(self, session: str) -> bytes:
        """The lines of a session in all files, in the order of their numbers."""
        lines = self._lines(self._written, session)
        return b"".join(lines[n] for n in sorted(lines))

    def n_gone(self, session: str) -> int:
        """How many records of a session are in no file that readers find."""
        gone = [file for file in self._written if file.is_gone]
        found = [file for file in self._written if not file.is_gone]
        return len(self._lines(gone, session).keys() - self._lines(found, session)) if gone else 0

    def _lines(self, files: Iterable[OpenFile], session: str) -> dict[int, bytes]:
        lines: dict[int, bytes] = {}
        for file in filter(self._owns, files):
            end = self._disk.size(file.fd)
            for line in read_range(file.fd, file.begin, end).split(b"\n"):
                record = decode(line)
                if record is not None and record.s == session:
                    lines[record.n] = line + b"\n"
        return lines

    def takes_notes(self, fd: int) -> bool:
        """Whether notes are written to this descriptor."""
        return self._for_notes is not None and self._for_notes.fd == fd

    def write_note(self, line: bytes) -> bool:
        """Write a line into the journal that the session has left, or that is full.

        The last bytes of the space that was reserved are for this. False: it was not written.
        """
        file = self._for_notes
        if file is None or not self.has_notes or not self._owns(file):
            return False
        with ignoring(OSError):
            last = os.pread(file.fd, 1, max(0, self._disk.size(file.fd) - 1))
            data = line if last in (b"\n", b"") else b"\n" + line
            return self._disk.write(file.fd, data) == len(data)
        return False

    def close(self) -> None:
        for fd in self.descriptors:
            with contextlib.suppress(OSError):
                self._disk.close(fd)
        self._written.clear()
        self._journal.fd = -1
