"""Lines to disk, in order, whatever the disk does. Never raises for what a disk did.

A line the disk refuses waits in memory; it is tried again once a second and before every
urgent event. Lines that are written but not yet durable are remembered too, because a
sync that failed must not be repeated on the same file: the kernel has marked the pages
clean and reports success for bytes it dropped. They are written again, with the same
numbers, into a new file beside the journal, a *segment*; readers merge it. The same way
out is taken when memory for refused lines runs out. Each folder is tried once; when none
takes a segment, iterations are dropped, oldest first and never anything else.
"""

import contextlib
import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from eventlog.disk import Disk

RETRY_AFTER_S = 1.0
WARN_EVERY_S = 60.0
WAITING_MAX_BYTES = 64 << 20  # about 350,000 iterations that the disk refused
UNSYNCED_MAX_BYTES = 8 << 20  # a second's worth at 45,000 events a second
RESERVE_BYTES = 4 << 20  # about 23,000 iterations that a disk filled by others still takes
SEGMENT_SUFFIX = ".segment"
MAX_SEGMENTS = 100  # of one session: a disk that fails this often has no more to give


@dataclass(frozen=True)
class Goal:
    """What one sync is to make durable."""

    fd: int
    n: int
    folder: Path | None
    """A folder whose names must be synced as well: the file in it is new."""


class Appender:
    """Appends numbered lines to a file, and to segments when that file fails. Not locked."""

    def __init__(
        self,
        fd: int,
        path: Path,
        *,
        s: str,
        folders: Sequence[Path],
        disk: Disk,
        warn: Callable[[str], None],
        torn: bool,
        may_reserve: bool = True,
    ) -> None:
        self.path = path
        """The file that is written now."""
        self.accepted_n = 0
        """Records the kernel has, from the first on: they survive this process."""
        self.durable_n = 0
        """Records known to survive power loss, from the first on."""
        self.dropped = 0
        self.sync_failed = False
        """Whether no file is left that a sync could be asked for."""
        self._journal = path
        self._s = s
        self._folders = deque(folders)
        self._n_segments = 0
        self._disk = disk
        self._warn = warn
        self._fd = fd
        self._fds = [fd]  # the journal's own stays open to the end: it holds the lock
        self._torn = torn  # the file ends inside a line: the next write begins with LF
        self._new_name = False
        self._has_hole = False
        self._waiting: deque[tuple[int, bytes, bool]] = deque()
        self._waiting_bytes = 0
        self._unsynced: deque[tuple[int, bytes]] = deque()
        self._unsynced_bytes = 0
        self._retry_at = self._warn_again_at = self._segment_again_at = 0.0
        self._size_bytes = os.fstat(fd).st_size
        self._reserved_to = 0
        # Space is given back by a truncation, which only the one writer of a file may do.
        self._may_reserve = may_reserve

    def begin_segment(self) -> None:
        """Write this session to a file of its own from its first record on.

        Raises:
            OSError: no folder takes one.
        """
        if not self._to_segment():
            raise OSError(f"{self.path}: no folder takes a segment of it")

    def write(self, n: int, line: bytes, *, expendable: bool = False) -> None:
        """Write record `n`, or let it wait until the disk takes it.

        `expendable`: may be dropped if it must wait too long.
        """
        if not self._waiting and not self._torn:
            try:
                n_bytes = self._disk.write(self._fd, line)
            except OSError as error:
                self._refused(error)
            else:
                if n_bytes == len(line):
                    self._accept(n, line)
                    return
                self._torn = True
                self._refused(None)
        self._wait(n, line, expendable)
        if time.monotonic() >= self._retry_at:
            self.write_waiting()

    def write_again(self, n: int, line: bytes) -> None:
        """Write a record of which nobody knows whether, or how far, it was written."""
        self._torn = True
        self._wait(n, line, False)
        self.write_waiting()

    def write_waiting(self) -> None:
        """Write what waits, in order, as far as the disk takes it."""
        while self._waiting:
            n, line, _ = self._waiting[0]
            data = b"\n" + line if self._torn else line
            try:
                n_bytes = self._disk.write(self._fd, data)
            except OSError as error:
                self._refused(error)
                return
            if n_bytes < len(data):
                self._torn = self._torn or n_bytes > 0
                self._refused(None)
                return
            self._torn = False
            self._waiting.popleft()
            self._waiting_bytes -= len(line)
            self._accept(n, line)

    def retry(self) -> None:
        """Write what waits, if it is time to try again."""
        if self._waiting and time.monotonic() >= self._retry_at:
            self.write_waiting()

    @property
    def is_past_hope(self) -> bool:
        """Whether waiting is in vain: not all records can become durable any more."""
        return self.sync_failed or self._has_hole

    @property
    def n_waiting(self) -> int:
        """Records in memory that no disk has taken."""
        return len(self._waiting)

    def _accept(self, n: int, line: bytes) -> None:
        self.accepted_n = n + 1
        self._size_bytes += len(line)
        if self._size_bytes > self._reserved_to - RESERVE_BYTES // 2:
            self._reserve()
        self._unsynced.append((n, line))
        self._unsynced_bytes += len(line)
        if self._unsynced_bytes > UNSYNCED_MAX_BYTES:
            self._unsynced_bytes -= len(self._unsynced.popleft()[1])

    def _reserve(self) -> None:
        self._reserved_to = self._size_bytes + RESERVE_BYTES
        if not self._may_reserve:
            return
        with contextlib.suppress(OSError):  # a file system that cannot, or a disk already full
            self._disk.reserve(self._fd, self._size_bytes, RESERVE_BYTES)

    def _wait(self, n: int, line: bytes, expendable: bool) -> None:
        self._waiting.append((n, line, expendable))
        self._waiting_bytes += len(line)
        if self._waiting_bytes > WAITING_MAX_BYTES and not self._to_segment():
            self._drop()

    def _drop(self) -> None:
        """Make room: the oldest iterations go, never anything else."""
        while self._waiting_bytes > WAITING_MAX_BYTES:
            at = next((i for i, (_, _, drop) in enumerate(self._waiting) if drop), None)
            if at is None:
                return
            self._waiting_bytes -= len(self._waiting[at][1])
            del self._waiting[at]
            self.dropped += 1

    def _refused(self, error: OSError | None) -> None:
        now = time.monotonic()
        self._retry_at = now + RETRY_AFTER_S
        if now >= self._warn_again_at:
            self._warn_again_at = now + WARN_EVERY_S
            self._warn(
                f"{self.path}: the disk refuses to write ({error or 'it is full'}); training goes "
                f"on, events wait in memory and are written when it takes them again"
            )

    # ---- durability

    def goal(self) -> Goal | None:
        """What is to be synced next; None: nothing, or no file to be trusted with it."""
        if self.sync_failed and time.monotonic() >= self._segment_again_at:
            self.sync_failed = not self._to_segment()  # perhaps a disk has room by now
            self._segment_again_at = time.monotonic() + WARN_EVERY_S
        if self.sync_failed or self.accepted_n <= self.durable_n:
            return None
        return Goal(self._fd, self.accepted_n, self.path.parent if self._new_name else None)

    def reached(self, goal: Goal) -> None:
        """`goal` was synced."""
        if goal.fd != self._fd:
            return  # the file was given up meanwhile: its lines are in the segment, unsynced
        self._new_name = self._new_name and goal.folder is None
        if self._has_hole:
            return  # what no file that was synced has cannot be called durable any more
        self.durable_n = max(self.durable_n, goal.n)
        while self._unsynced and self._unsynced[0][0] < self.durable_n:
            self._unsynced_bytes -= len(self._unsynced.popleft()[1])

    def missed(self, error: OSError) -> bool:
        """A sync failed: go on in a segment; False if no folder takes one."""
        moved = self._to_segment()
        self.sync_failed = not moved
        self._segment_again_at = time.monotonic() + WARN_EVERY_S
        self._warn(
            f"{self._journal}: the disk could not make the journal durable ({error}); "
            + (
                f"going on in {self.path}"
                if moved
                else f"events are still written, but a power loss may cost those since record "
                f"{self.durable_n:,}"
            )
        )
        return moved

    def _to_segment(self) -> bool:
        """Go on in a new file that begins with all that is not durable."""
        for _ in range(len(self._folders)):
            if self._n_segments >= MAX_SEGMENTS:
                break
            folder = self._folders[0]
            self._folders.rotate(-1)  # the next time the other disk is asked first
            name = f"{self._journal.stem}.{self._s}.{self._n_segments}{SEGMENT_SUFFIX}"
            self._n_segments += 1
            lines = [line for _, line in self._unsynced] + [line for _, line, _ in self._waiting]
            fd = -1
            try:
                self._make(folder)
                fd = self._disk.open_new(folder / name)
                self._write_all(fd, b"".join(lines))
            except OSError:
                if fd >= 0:
                    self._disk.close(fd)
                continue
            first_n = self._unsynced[0][0] if self._unsynced else self.accepted_n
            self._has_hole = self._has_hole or first_n > self.durable_n
            self._fds.append(fd)
            self._fd, self.path = fd, folder / name
            self._torn, self._new_name = False, True
            self._size_bytes = self._reserved_to = 0
            for n, line, _ in self._waiting:
                self._accept(n, line)
            self._waiting.clear()
            self._waiting_bytes = 0
            return True
        return False

    def _make(self, folder: Path) -> None:
        """Make a folder whose name is as durable as what will be in it."""
        if not folder.is_dir():
            self._make(folder.parent)
            folder.mkdir(exist_ok=True)
            self._disk.sync_dir(folder.parent)

    def _write_all(self, fd: int, data: bytes) -> None:
        done = 0
        while done < len(data):
            taken = self._disk.write(fd, data[done:])
            if not taken:
                raise OSError("a write of no bytes")
            done += taken

    def close(self) -> None:
        """Give back the space that was reserved and not needed, then the files."""
        if self._may_reserve:
            with contextlib.suppress(OSError):
                self._disk.truncate(self._fd, os.fstat(self._fd).st_size)
        self.let_go()

    def let_go(self) -> None:
        """Close the files and do nothing else: in a forked child they are not ours."""
        for fd in self._fds:
            with contextlib.suppress(OSError):
                self._disk.close(fd)
        self._fds.clear()
