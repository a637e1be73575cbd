"""Segments: the files that a session goes on in when its own fails."""

from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from eventlog.disk import Disk
from eventlog.format.files import segment_name
from eventlog.format.record import Clock
from eventlog.format.segment import encode_header
from eventlog.interruption import ignoring, is_of_a_call
from eventlog.write.sessions import new_session_name

MAX_SEGMENTS = 100  # of one session: a disk that fails this often takes no more


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
        """The next one's."""
        self.is_creating = False
        self.retry_at = 0.0
        """The time before which no folder is asked again."""
        self._folders = deque(folders)
        self._s, self._run_id, self._clock, self._disk = s, run_id, clock, disk

    @property
    def is_exhausted(self) -> bool:
        return self.number >= MAX_SEGMENTS

    def next_folders(self) -> list[Path]:
        folders = list(self._folders)
        self._folders.rotate(-1)  # the next time the other disk is asked first
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
