"""Lines to disk, in order, whatever the disk does. Never raises for what a disk did.

A line the disk refuses waits in memory; it is tried again once a second and before every
urgent event. Lines that are written but not yet durable are remembered too, because a
sync that failed must not be repeated on the same file: the kernel has marked the pages
clean and reports success for bytes it dropped. They are written again, with the same
numbers, into a new file beside the journal, a *segment*; readers merge it. The same way
out is taken when memory for refused lines runs out, and at the end. When no folder takes
a segment, iterations are dropped, oldest first and never anything else.

A write may be interrupted between any two bytecodes: by an exception that a signal handler
raises or another thread sets, or by a handler that appends an event itself. `writing` is
the record that is on its way; whoever comes next finishes it (`settle`), and what was
interrupted sees that and leaves it alone. The size of the file says what was written.
The pairs of a check and one call or store need no lock: CPython runs handlers and switches
threads only after calls and at backward jumps.
"""

import contextlib
import errno
import math
import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from eventlog.disk import Disk
from eventlog.errors import JournalClosed
from eventlog.format.events import MAY_BE_DROPPED
from eventlog.format.files import segment_name
from eventlog.format.record import Clock, decode, seal
from eventlog.interruption import ignoring, is_of_a_call
from eventlog.write.aside import Aside
from eventlog.write.relocation import COPY_BYTES, check_place
from eventlog.write.reserve import Reserve
from eventlog.write.waiting import Entry, Waiting
from eventlog.write.waiting import size_of as _size

__all__ = ["Appender", "Entry", "Goal", "Move"]

RETRY_AFTER_S = 1.0
WARN_EVERY_S = 60.0
CHECK_EVERY_US = 10_000  # whether the descriptor is still ours
WAITING_MAX_BYTES = 64 << 20  # about 350,000 iterations that the disk refused
UNSYNCED_MAX_BYTES = 8 << 20  # a second's worth at 45,000 events a second
MAX_SEGMENTS = 100  # of one session: a disk that fails this often has no more to give


@dataclass(frozen=True)
class Goal:
    """What one sync is to make durable."""

    fd: int
    n: int
    folder: Path | None
    """A folder whose names must be synced as well: a file in it is new."""
    asides: tuple[Path, ...] = ()


class Move(NamedTuple):
    """The session went on in a segment."""

    path: Path
    number: int
    first_n: int


class Appender:
    """Appends numbered lines to a file, and to segments when that file fails. Not locked."""

    def __init__(
        self,
        fd: int,
        path: Path,
        *,
        s: str,
        clock: Clock,
        folders: Sequence[Path],
        disk: Disk,
        warn: Callable[[str], None],
        torn: bool,
        run_id: str = "",
        header: Callable[[int, int], bytes] = lambda number, first_n: b"",
        may_reserve: bool = True,
    ) -> None:
        """`header(number, first_n)` is the first line of a segment."""
        self.path = path
        """The file that is written now."""
        self.n = 0
        """Records appended so far, which is the next one's number."""
        self.writing: Entry | None = None
        """The record that is on its way to the disk, or was when an exception came."""
        self.durable_n = 0
        """Records known to survive power loss, from the first on."""
        self.is_closed = False
        """Whether no more records are to be written."""
        self.dropped = 0
        """Records that were dropped, until it is logged."""
        self.has_news = False
        """Whether there are `moves` or dropped records."""
        self.lost = 0
        """Records that no disk has taken and none will."""
        self.is_homeless = False
        """Whether what was written is nowhere that a reader looks."""
        self.cut_to: tuple[int, int] | None = None
        """The sizes before and after somebody cut the file, until it is logged."""
        self.opening = b""
        """The session's first line, to be written again where somebody cuts it off."""
        self.moves: deque[Move] = deque()
        """Segments that the session went on in, until it is logged."""
        self.sync_failed = False
        """Whether no file is left that a sync could be asked for."""
        self.journal = path
        self._s, self._clock, self.run_id, self._header = s, clock, run_id, header
        self._durable_in_line = 0
        self._check_at_us = 0
        self._folders = deque(folders)
        self._n_segments = 0
        self.disk = disk
        self._write = disk.writer
        self.warn = warn
        self.fd = fd
        self._fds = [fd]  # the journal's own stays open to the end: it holds the lock
        self._held: list[int] = []
        self._fd_for_notes = fd
        self._torn = torn  # the file ends inside a line: the next write begins with LF
        self._new_name = False
        self._new_asides: list[Path] = []  # to be synced
        self._durable_asides: set[Path] = set()
        self._has_hole = False
        self._has_note = False  # the file has a line that no sync covers and no number counts
        self._is_rewritten = False  # what the file begins with was durable before, elsewhere
        self.has_whole_session = False
        """Whether a segment has the session from its first record on."""
        self._is_shared = False
        self._is_moving = False
        self.is_ending = False
        self._move_again_at = 0.0
        self._waiting = Waiting()
        self._unsynced: deque[Entry] = deque()
        self._unsynced_bytes = 0
        self._retry_at = self._warn_again_at = self._segment_again_at = 0.0
        self.end = (0, disk.size(fd))  # one attribute: both change at once
        self.identity = self.journal_identity = disk.identity(fd)
        self._begin = self.end[1]  # of this session in the journal
        self._may_reserve = may_reserve
        self._reserve = Reserve(disk, is_allowed=may_reserve)

    @property
    def accepted_n(self) -> int:
        """Records the kernel has, from the first on: they survive this process."""
        return self.end[0]

    def begin_segment(self) -> None:
        """Write this session to a file of its own from its first record on.

        Raises:
            OSError: no folder takes one.
        """
        if not self.to_segment():
            raise OSError(f"{self.path}: no folder takes a segment of it")
        self.moves.clear()  # other machines may write the journal: nothing is changed in it
        self.has_news = False
        self._fd_for_notes = -1
        self._is_shared = self.has_whole_session = True

    # ---- writing

    def append(self, event: str, encoded: bytes, asides: tuple[Aside, ...] = ()) -> bytes:
        """Write the next record, or let it wait until the disk takes it; its line.

        `encoded`: its fields; `asides`: what they have no room for.
        """
        clock, s, is_expendable = self._clock, self._s, event in MAY_BE_DROPPED
        while True:
            if self.writing is not None:
                self.settle()  # an exception, or a handler that appends, interrupted it
            n = self.n
            durable_n = self.durable_n if n else 0
            in_line = None if durable_n == self._durable_in_line else durable_n
            line = seal(n, s, clock.now(), event, encoded, in_line)
            entry = (n, line, is_expendable, asides)
            size_bytes = len(line)
            end = (n + 1, self.end[1] + size_bytes)
            write, remember = self._write, self._unsynced.append
            if self.is_closed:  # by a handler that interrupted this
                raise JournalClosed(f"{self.journal}: closed; a {event!r} event came after that")
            if self.n == n and self.writing is None:  # nothing runs between this and the stores
                self.writing = entry
                self.n = n + 1
                break
        self._durable_in_line = durable_n
        if not 0 <= self._check_at_us - clock.us <= CHECK_EVERY_US:  # somebody may set the clock
            self._check_descriptor(clock.us)
            end, remember = (n + 1, self.end[1] + size_bytes), self._unsynced.append
        waiting = self._waiting
        if waiting.kept or waiting.expendable or self._torn or self._reserve.is_full or asides:
            self._wait(entry)
            if time.monotonic() >= self._retry_at:
                self.write_waiting()
            return line
        fd = self.fd
        try:
            if self.writing is not entry:
                return line  # a signal handler has settled it
            n_bytes = write(fd, line)
        except OSError as error:
            if not is_of_a_call(error):
                raise
            self._refused(error)
        else:
            if self.writing is not entry:
                return line
            if n_bytes == size_bytes:  # what `_accept` does, without a call
                remember(entry)
                if self.writing is entry:
                    self.end = end
                    self.writing = None
                self._unsynced_bytes += size_bytes
                if end[1] > self._reserve.ask_at or self._unsynced_bytes > UNSYNCED_MAX_BYTES:
                    self._make_room()
                return line
            self._took_a_part(n_bytes)
        self._wait(entry)
        if time.monotonic() >= self._retry_at:
            self.write_waiting()
        return line

    def _check_descriptor(self, now_us: int) -> None:
        self._check_at_us = now_us + CHECK_EVERY_US
        if not self.owns_descriptor():
            self.check_place()

    def settle(self) -> None:
        """Finish the write that was interrupted: each record stands in the file once."""
        entry = self.writing
        if entry is None:
            return
        try:
            extra_bytes = self.disk.size(self.fd) - self.end[1]
        except OSError as error:  # a descriptor that somebody closed
            if not is_of_a_call(error):
                raise
            extra_bytes = 0
        if self.writing is not entry:
            return
        size_bytes = len(entry[1]) + self._torn
        if entry[0] < self.end[0]:
            self.writing = None
        elif extra_bytes == size_bytes:
            self._accept(entry, (entry[0] + 1, self.end[1] + size_bytes))
            self._forget_accepted()
            self._torn = False
        else:
            if extra_bytes > 0:
                self._took_a_part(extra_bytes)
            self._wait(entry)
            self.write_waiting()

    def write_waiting(self) -> None:
        """Write what waits, in order, as far as the disk takes it."""
        if self._reserve.is_full and not self._reserve.take(self.fd, self.end[1]):
            self._refused(None)
            return
        while (entry := self._waiting.first) is not None:
            if entry[0] < self.end[0]:
                self._forget_accepted()
                continue
            try:
                self._write_asides(entry, self.path.parent)
                data = b"\n" + entry[1] if self._torn else entry[1]
                size_bytes = len(data)
                if entry[0] < self.end[0]:
                    continue  # a signal handler that appended has written it meanwhile
                end = (entry[0] + 1, self.end[1] + size_bytes)
                fd = self.fd
                if self.writing is None:
                    self.writing = entry
                if self.writing is not entry:
                    self.settle()
                    continue
                n_bytes = self._write(fd, data)
            except OSError as error:
                if not is_of_a_call(error):
                    raise
                self.writing = None
                self._refused(error)
                return
            if self.writing is not entry:
                continue
            if n_bytes < size_bytes:
                self._took_a_part(n_bytes)
                self.writing = None
                self._refused(None)
                return
            self._accept(entry, end)
            self._torn = False
            self._forget_accepted()
            if self._reserve.is_full:
                return

    def retry(self) -> None:
        """Write what waits, if it is time to try again."""
        if len(self._waiting) and time.monotonic() >= self._retry_at:
            self.write_waiting()

    @property
    def is_past_hope(self) -> bool:
        """Whether waiting is in vain: not all records can become durable any more."""
        return self.sync_failed or self._has_hole

    @property
    def n_waiting(self) -> int:
        """Records in memory that no disk has taken."""
        return len(self._waiting)

    def _accept(self, entry: Entry, end: tuple[int, int]) -> None:
        """`entry` is written, and the file ends at `end`."""
        if self._unsynced and self._unsynced[-1] is entry:
            pass
        elif self.writing is entry:
            self._unsynced.append(entry)
        if self.writing is entry:
            self.end = end
            self.writing = None
        self._unsynced_bytes += _size(entry)
        self._make_room()

    def _make_room(self) -> None:
        """Take space ahead; forget what is too much to be written again after a failed sync."""
        if self.end[1] > self._reserve.ask_at:
            self._reserve.take(self.fd, self.end[1])
        while self._unsynced_bytes > UNSYNCED_MAX_BYTES and len(self._unsynced) > 1:
            self._unsynced_bytes -= _size(self._unsynced.popleft())

    def _took_a_part(self, n_bytes: int) -> None:
        if n_bytes:
            self._torn = True
            self.end = (self.end[0], self.end[1] + n_bytes)

    def _forget_accepted(self) -> None:
        """What is written does not wait any more."""
        self._waiting.forget_before(self.end[0])

    def _wait(self, entry: Entry) -> None:
        if entry[0] >= self.end[0]:
            self._waiting.add(entry)
        if self.writing is entry:
            self.writing = None
        if self._waiting.n_bytes > WAITING_MAX_BYTES and not self._go_on_elsewhere():
            self._drop()

    def _go_on_elsewhere(self) -> bool:
        """What the file does not take goes into a segment, and on there."""
        refusing = self.path
        moved = self.to_segment()
        if moved:
            self.warn(f"{refusing}: still takes nothing; what waited is in {self.path}")
        return moved

    def _drop(self) -> None:
        """Make room: the oldest iterations go, never anything else."""
        while self._waiting.n_bytes > WAITING_MAX_BYTES and self._waiting.drop_oldest():
            self.dropped += 1
            self.has_news = True

    def _refused(self, error: OSError | None) -> None:
        self._retry_at = time.monotonic() + RETRY_AFTER_S
        if error is not None and error.errno == errno.EBADF:
            self.check_place()
        self.warn_now_and_then(
            f"{self.path}: the disk refuses to write ({error or 'it is full'}); training goes "
            f"on, events wait in memory and are written when it takes them again"
        )

    def warn_now_and_then(self, message: str) -> None:
        now = time.monotonic()
        if now >= self._warn_again_at:
            self._warn_again_at = now + WARN_EVERY_S
            self.warn(message)

    def _write_asides(self, entry: Entry, folder: Path) -> None:
        for aside in entry[3]:
            path = folder / aside.name
            if aside.write(folder, self.disk):
                self._durable_asides.discard(path)
                self._new_asides.append(path)
            elif path not in self._durable_asides and path not in self._new_asides:
                self._new_asides.append(path)  # of an earlier session, which may have been killed

    # ---- durability

    def goal(self) -> Goal | None:
        """What is to be synced next; None: nothing, or no file to be trusted with it."""
        if self.sync_failed and time.monotonic() >= self._segment_again_at:
            self.sync_failed = not self.to_segment()  # perhaps a disk has room by now
            self._segment_again_at = time.monotonic() + WARN_EVERY_S
        if self.sync_failed or (self.accepted_n <= self.durable_n and not self._has_note):
            return None
        is_new = self._new_name or self._new_asides
        folder = self.path.parent if is_new else None
        return Goal(self.fd, self.accepted_n, folder, tuple(self._new_asides))

    def reached(self, goal: Goal) -> None:
        """`goal` was synced."""
        if goal.fd != self.fd:
            return  # the file was given up meanwhile: its lines are in the segment, unsynced
        self._has_note = self._is_rewritten = False
        self._new_name = self._new_name and goal.folder is None
        for path in goal.asides:
            with ignoring(ValueError):  # two threads may have synced the same
                self._new_asides.remove(path)
        self._durable_asides.update({*goal.asides} - {*self._new_asides})
        if self._has_hole:
            return  # what no file that was synced has cannot be called durable any more
        self.durable_n = max(self.durable_n, goal.n)
        while self._unsynced and self._unsynced[0][0] < self.durable_n:
            self._unsynced_bytes -= _size(self._unsynced.popleft())
        if not self._unsynced:
            self._unsynced_bytes = 0

    def missed(self, error: OSError) -> bool:
        """A sync failed: go on in a segment; False if no folder takes one."""
        moved = self.to_segment()
        self.sync_failed = not moved
        self._segment_again_at = time.monotonic() + WARN_EVERY_S
        self.warn(
            f"{self.journal}: the disk could not make the journal durable ({error}); "
            + (
                f"going on in {self.path}"
                if moved
                else f"events are still written, but a power loss may cost those since record "
                f"{self.durable_n:,}"
            )
        )
        return moved

    def to_segment(self, first: bytes | None = None) -> bool:
        """Go on in a new file that begins with all that is not durable.

        `first`: the lines of the whole session instead, where their file is not at its path.
        """
        now = time.monotonic()
        if self._is_moving or (now < self._move_again_at and not self.is_ending):
            return (
                False  # a signal handler came in the middle of it; or no folder took one just now
            )
        if first is None and self._is_rewritten and self.owns_descriptor():
            first = self.lines_of_session()  # no sync has made durable again what was before
        self._is_moving = True
        self._move_again_at = now + RETRY_AFTER_S
        try:
            return any(
                self._move_to(folder, first)
                for folder in self._next_folders()
                if self._n_segments < MAX_SEGMENTS
            )
        finally:
            self._is_moving = False

    def _next_folders(self) -> list[Path]:
        folders = list(self._folders)
        self._folders.rotate(-1)  # the next time the other disk is asked first
        return folders

    def _move_to(self, folder: Path, first: bytes | None) -> bool:
        accepted_n, number = self.end[0], self._n_segments
        path = folder / segment_name(self.journal.stem, self.run_id, self._s, number)
        entries = [entry for entry in self._waiting if entry[0] >= accepted_n]
        if first is None:
            entries = [*self._unsynced, *entries]
            first_n = entries[0][0] if entries else accepted_n
        else:
            first_n = 0
            first += b"" if first.endswith(b"\n") else b"\n"
        lines = [self._header(number, first_n), first or b"", *(entry[1] for entry in entries)]
        data = b"".join(lines)
        fd = -1
        try:
            self.make_folder(folder)
            fd = self.disk.open_new(path)
            for entry in entries:
                self._write_asides(entry, folder)
            self.write_all(fd, data)
            identity = self.disk.identity(fd)
        except BaseException as error:
            if fd >= 0:
                self.disk.close(fd)
            if isinstance(error, OSError) and is_of_a_call(error):
                if isinstance(error, FileExistsError):
                    self._n_segments += 1
                else:
                    with ignoring(OSError):
                        self.disk.unlink(path)
                return False
            raise
        self._n_segments += 1
        self._move_again_at = 0.0
        self.is_homeless = False
        is_holed = first_n > self.durable_n or self.end[0] != accepted_n  # a handler appended
        self._has_hole = self._has_hole or is_holed
        self._has_note, self._is_rewritten = False, first is not None
        self.has_whole_session = self.has_whole_session or first is not None
        self._fds.append(fd)
        self.fd, self.path, self.identity = fd, path, identity
        self._torn, self._new_name = False, True
        self._reserve = Reserve(self.disk, is_allowed=self._may_reserve)
        self._unsynced = deque(entries)
        self._unsynced_bytes = sum(map(_size, entries))
        self.end = (entries[-1][0] + 1 if entries else accepted_n, len(data))
        self._forget_accepted()
        self.moves.append(Move(path, number, first_n))
        self.has_news = True
        return True

    def make_folder(self, folder: Path) -> None:
        """Make a folder whose name is as durable as what will be in it."""
        if not folder.is_dir():
            self.make_folder(folder.parent)
            folder.mkdir(exist_ok=True)
            self.disk.sync_dir(folder.parent)

    def write_all(self, fd: int, data: bytes) -> None:
        done = 0
        while done < len(data):
            taken = self.disk.write(fd, data[done:])
            if not taken:
                raise OSError(errno.ENOSPC, "a write of no bytes")
            done += taken

    # ---- where the file is

    def owns_descriptor(self) -> bool:
        """Whether the descriptor is still that of the file: somebody may have closed it."""
        try:
            return self.disk.identity(self.fd) == self.identity
        except OSError as error:
            if not is_of_a_call(error):
                raise
            return error.errno != errno.EBADF  # a disk that fails is no closed descriptor

    def check_place(self) -> None:
        """Look whether the file is where it was opened; go on elsewhere if it is not."""
        check_place(self)

    def use(self, fd: int, size_bytes: int | None = None) -> None:
        """Write on in `fd`, of the same content; the descriptor so far is not closed."""
        self._fds = [fd if known == self.fd else known for known in self._fds]
        if size_bytes is not None:
            self.end = (self.end[0], size_bytes)
            self._reserve = Reserve(self.disk, is_allowed=self._may_reserve)
        if self.path == self.journal:
            self.journal_identity = self.disk.identity(fd)
        self.fd, self.identity = fd, self.disk.identity(fd)

    @property
    def journal_fd(self) -> int:
        """The descriptor of the journal itself, which its session may have left.

        Of what is at its path, if that is another file of the same run by now.
        """
        return next(iter([*self._held[-1:], *self._fds]), -1)

    def put_back(self, fd: int) -> None:
        """The journal that the session has left was written again, as `fd`."""
        old, at = self.journal_fd, -1 if self._held else 0
        (self._held or self._fds)[at] = fd
        self._fd_for_notes = fd
        self.journal_identity = self.disk.identity(fd)
        self.disk.close(old)

    def forget_descriptor(self) -> None:
        """Never close the descriptor, nor write to it: it may be another file's."""
        self._fds = [fd for fd in self._fds if fd != self.fd]
        if self._fd_for_notes == self.fd:
            self._fd_for_notes = -1

    def lines_of_session(self) -> bytes:
        """What this session has written to its file so far."""
        begin = self._begin if self.path == self.journal else 0
        sizes = range(begin, self.end[1], COPY_BYTES)
        return b"".join(os.pread(self.fd, COPY_BYTES, at) for at in sizes)

    def lines_of_all_files(self) -> bytes:
        """What this session has written so far, in its order, from the journal that it left on."""
        found: dict[int, bytes] = {}
        for fd in self._fds:
            begin = self._begin if fd == self._fds[0] else 0
            sizes = range(begin, self.disk.size(fd), COPY_BYTES)
            data = b"".join(os.pread(fd, COPY_BYTES, at) for at in sizes)
            for line in data.split(b"\n"):
                record = decode(line)
                if record is not None and record.s == self._s:
                    found[record.n] = line + b"\n"
        return b"".join(found[n] for n in sorted(found))

    def hold(self, fd: int) -> None:
        """Keep `fd`, the file at the journal's path now, open: for its lock, and for notes."""
        self._held.append(fd)
        self._fd_for_notes = fd
        self.journal_identity = self.disk.identity(fd)

    def takes_no_notes(self) -> None:
        """The file at the journal's path is somebody else's."""
        self._fd_for_notes = -1

    def was_cut(self, size_bytes: int) -> None:
        """Somebody took bytes from the end of the file."""
        self.cut_to = (self.end[1], size_bytes)
        self.has_news = True
        self.end = (self.end[0], size_bytes)
        self._torn = True
        begin = self._begin if self.path == self.journal else 0
        if size_bytes < begin + len(self.opening):
            self._open_again()

    def _open_again(self) -> None:
        """Write the session's first line again, the same bytes: whose run it is, and its config."""
        with ignoring(OSError):
            line = b"\n" + self.opening
            self._torn = self._write(self.fd, line) < len(line)
            self._has_note = True
        with ignoring(OSError):
            while (size_bytes := self.disk.size(self.fd)) != self.end[1]:  # a handler may append
                self.end = (self.end[0], size_bytes)

    # ---- the end

    def write_end(self) -> bool:
        """Write what waits, into a segment if the file still does not take it; False: none does."""
        self.write_waiting()
        return not len(self._waiting) or self._go_on_elsewhere()

    def give_up(self) -> int:
        """Forget what waits; how many records that is."""
        n_waiting = len(self._waiting)
        self._waiting.clear()
        return n_waiting

    def note_in_journal(self, line: bytes) -> bool:
        """Write a line into the journal that the session has left, or that is full.

        The last bytes of the space that was reserved are for this.
        """
        fd = self._fd_for_notes
        if fd < 0:
            return False
        try:
            last = os.pread(fd, 1, max(0, self.disk.size(fd) - 1))
            data = line if last in (b"\n", b"") else b"\n" + line
            self._has_note = self._has_note or fd == self.fd
            return self.disk.write(fd, data) == len(data)
        except OSError as error:
            if not is_of_a_call(error):
                raise
            return False

    def waiting_line(self) -> bytes:
        """The last line that waits."""
        last = self._waiting.last
        return b"" if last is None else last[1]

    def never_sync(self) -> None:
        """Files cannot be synced here: ask no more."""
        self.sync_failed = True
        self._segment_again_at = math.inf

    def link_in_folder(self) -> bool:
        """Leave a link to the segment beside the journal, where a full disk takes no more bytes."""
        link = self.journal.with_name(self.path.name)
        try:
            if link != self.path and not os.path.lexists(link):
                self.disk.link(link, self.path)
        except OSError as error:
            if not is_of_a_call(error):
                raise
            return False
        return True

    def close(self) -> None:
        """Give back the space that was reserved and not needed, then the files."""
        for fd in self._fds[self._is_shared :]:
            self._reserve.give_back(fd)
        self.let_go()

    def let_go(self) -> None:
        """Close the files and do nothing else."""
        for fd in self.descriptors:
            with contextlib.suppress(OSError):
                self.disk.close(fd)
        self._fds.clear()
        self._held.clear()

    @property
    def descriptors(self) -> list[int]:
        """All that are open."""
        return [*self._fds, *self._held]
