"""Writes lines to disk, in order. Never raises for what a disk did.

A line the disk refuses waits in memory; it is tried again once a second and before every
urgent event. Lines that are written but not yet durable are remembered too, because a
sync that failed must not be repeated on the same file: the kernel has marked the pages
clean and reports success for bytes it dropped. They are written again, with the same
numbers, into a new file beside the journal, a *segment*; readers merge it. The same happens
when memory for refused lines runs out, and at the end. When no folder takes a segment, the
oldest iterations are dropped, never anything else.

A write may be interrupted between any two bytecodes: by an exception that a signal handler
raises or another thread sets, or by a handler that appends an event itself. `writing` is
the record being written; the next caller finishes it (`settle`), and the interrupted call
sees that and leaves it alone. The size of the file says what was written.
Pairs of a check and one call or store need no lock: CPython runs handlers and switches
threads only after calls and at backward jumps.
"""

import errno
import math
import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

from eventlog.disk import Disk
from eventlog.errors import JournalClosed
from eventlog.format.record import Clock, seal
from eventlog.interruption import ignoring, is_of_a_call
from eventlog.write.aside import Aside, AsideFiles
from eventlog.write.relocation import check_place
from eventlog.write.reserve import Reserve
from eventlog.write.segments import Move, Segments
from eventlog.write.session_files import SessionFiles, read_range
from eventlog.write.sync import Goal
from eventlog.write.waiting import Entry, Unsynced, Waiting, size_of

RETRY_AFTER_S = 1.0
WARN_EVERY_S = 60.0
CHECK_EVERY_US = 10_000  # that the descriptor is still ours
DROPPABLE = frozenset(("iter", "metrics"))  # dropped first when no disk takes anything
WAITING_MAX_BYTES = 64 << 20  # about 350,000 iterations that the disk refused
UNSYNCED_MAX_BYTES = 8 << 20  # a second's worth at 45,000 events a second


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
        run_id: str,
        may_reserve: bool,
    ) -> None:
        """`torn`: the file ends inside a line, so the next write begins with LF.

        `warn` takes messages for a person; `folders` are those for segments.
        """
        self.path = path
        """The file that is written now."""
        self.journal = path
        self.run_id, self.disk, self.warn = run_id, disk, warn
        self.files = SessionFiles(fd, disk)
        self.fd, self.identity = fd, self.files.journal_identity
        self.n = 0
        """Records appended so far, which is the next one's number."""
        self.end = (0, self.files.begin)
        """Records that the kernel has accepted, and the size of the file: both change at once."""
        self.writing: Entry | None = None
        """The record being written, or that was when an exception came."""
        self.durable_n = 0
        """Records known to survive power loss, from the first on."""
        self.is_closed = False
        """Whether no more records are to be written."""
        self.is_ending = False
        """Whether the session writes its last records."""
        self.has_news = False
        """Whether there is something about the files to be logged, as follows."""
        self.moves: deque[Move] = deque()
        """Segments that the session went on in, until it is logged."""
        self.dropped = 0
        """Records that were dropped, until it is logged."""
        self.cut_to: tuple[int, int] | None = None
        """The sizes before and after somebody cut the file, until it is logged."""
        self.lost = 0
        """Records that no disk has taken and none will."""
        self.is_unreachable = False
        """Whether no reader will find what was written."""
        self.opening = b""
        """The session's first line, to be written again if somebody cuts it off."""
        self.sync_failed = False
        """Whether no file is left that can be synced."""
        self.has_whole_session = False
        """Whether a segment has the session from its first record on."""
        self._s, self._clock = s, clock
        self._write = disk.writer
        self._torn = torn
        self._durable_in_line = 0
        self._check_at_us = 0
        self._segments = Segments(folders, s=s, run_id=run_id, clock=clock, disk=disk)
        self._asides = AsideFiles(disk)
        self._waiting = Waiting()
        self._unsynced = Unsynced()
        self._has_new_name = False
        self._has_hole = False  # no file that was synced has all records
        self._has_note = False  # the file has a line that no sync covers and no number counts
        self._is_rewritten = False  # what the file begins with was durable before, elsewhere
        self._is_shared = False  # other machines may write the journal
        self._retry_at = self._warn_again_at = self._segment_again_at = 0.0
        self._may_reserve = may_reserve
        self._reserve = Reserve(disk, is_allowed=may_reserve)

    @property
    def accepted_n(self) -> int:
        """Records that the kernel has, from the first on: they survive this process."""
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
        self.files.fd_for_notes = -1
        self._is_shared = self.has_whole_session = True

    # ---- writing

    def append(self, event: str, encoded: bytes, asides: tuple[Aside, ...] = ()) -> bytes:
        """Write the next record, or keep it until the disk takes it; its line.

        `encoded`: its fields; `asides`: what of them does not fit in the line.
        """
        clock, s, is_droppable = self._clock, self._s, event in DROPPABLE
        while True:
            if self.writing is not None:
                self.settle()  # an exception, or a handler that appends, interrupted it
            n = self.n
            durable_n = self.durable_n if n else 0
            in_line = None if durable_n == self._durable_in_line else durable_n
            line = seal(n, s, clock.now(), event, encoded, in_line)
            entry = (n, line, is_droppable, asides)
            size_bytes = len(line)
            end = (n + 1, self.end[1] + size_bytes)
            write, unsynced = self._write, self._unsynced
            remember = unsynced.append
            if self.is_closed:  # by a handler that interrupted this
                raise JournalClosed(f"{self.journal}: closed; a {event!r} event came after that")
            if self.n == n and self.writing is None:  # nothing runs between this and the stores
                self.writing = entry
                self.n = n + 1
                break
        self._durable_in_line = durable_n
        if not 0 <= self._check_at_us - clock.us <= CHECK_EVERY_US:  # somebody may set the clock
            self._check_descriptor(clock.us)
            end, unsynced = (n + 1, self.end[1] + size_bytes), self._unsynced
            remember = unsynced.append
        waiting = self._waiting
        if waiting.required or waiting.droppable or self._torn or self._reserve.is_full or asides:
            self._wait_or_write(entry)
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
            if n_bytes == size_bytes:  # as `_accept`, without a call
                remember(entry)
                if self.writing is entry:
                    self.end = end
                    self.writing = None
                unsynced.n_bytes += size_bytes
                if end[1] > self._reserve.ask_at or unsynced.n_bytes > UNSYNCED_MAX_BYTES:
                    self._make_room()
                return line
            self._accept_part(n_bytes)
        self._wait_or_write(entry)
        return line

    def _wait_or_write(self, entry: Entry) -> None:
        self._wait(entry)
        if time.monotonic() >= self._retry_at:
            self.write_waiting()

    def _check_descriptor(self, now_us: int) -> None:
        self._check_at_us = now_us + CHECK_EVERY_US
        if not self.owns_descriptor():
            self.check_place()

    def settle(self) -> None:
        """Finish a write that was interrupted, so that the record is in the file once."""
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
                self._accept_part(extra_bytes)
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
                self._asides.write(entry[3], self.path.parent)
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
                self._accept_part(n_bytes)
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
    def cannot_sync(self) -> bool:
        """Whether not all records can become durable any more."""
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
        self._unsynced.n_bytes += size_of(entry)
        self._make_room()

    def _make_room(self) -> None:
        """Reserve space; forget records that are too many to be written again."""
        if self.end[1] > self._reserve.ask_at:
            self._reserve.take(self.fd, self.end[1])
        self._unsynced.shrink(UNSYNCED_MAX_BYTES)

    def _accept_part(self, n_bytes: int) -> None:
        """So many bytes of a line are written."""
        if n_bytes:
            self._torn = True
            self.end = (self.end[0], self.end[1] + n_bytes)

    def _forget_accepted(self) -> None:
        """Remove what is written from what waits."""
        self._waiting.forget_before(self.end[0])

    def _wait(self, entry: Entry) -> None:
        if entry[0] >= self.end[0]:
            self._waiting.add(entry)
        if self.writing is entry:
            self.writing = None
        if self._waiting.n_bytes > WAITING_MAX_BYTES and not self._leave_full_file():
            self._drop()

    def _leave_full_file(self) -> bool:
        """Write what the file does not take into a segment, and go on there."""
        refusing = self.path
        moved = self.to_segment()
        if moved:
            self.warn(f"{refusing}: still refuses writes; waiting events are now in {self.path}")
        return moved

    def _drop(self) -> None:
        """Drop the oldest iterations, never anything else, until the rest fits in memory."""
        while self._waiting.n_bytes > WAITING_MAX_BYTES and self._waiting.drop_oldest():
            self.dropped += 1
            self.has_news = True

    def _refused(self, error: OSError | None) -> None:
        self._retry_at = time.monotonic() + RETRY_AFTER_S
        if error is not None and error.errno == errno.EBADF:
            self.check_place()
        self.warn_now_and_then(
            f"{self.path}: the disk refuses writes ({error or 'it is full'}); training goes on, "
            f"and events wait in memory until it accepts them again"
        )

    def warn_now_and_then(self, message: str) -> None:
        now = time.monotonic()
        if now >= self._warn_again_at:
            self._warn_again_at = now + WARN_EVERY_S
            self.warn(message)

    # ---- durability

    def goal(self) -> Goal | None:
        """What to sync next; None: nothing, or no file that can be synced."""
        if self.sync_failed and time.monotonic() >= self._segment_again_at:
            self.sync_failed = not self.to_segment()  # perhaps a disk has room by now
            self._segment_again_at = time.monotonic() + WARN_EVERY_S
        if self.sync_failed or (self.accepted_n <= self.durable_n and not self._has_note):
            return None
        is_new = self._has_new_name or self._asides.unsynced
        folder = self.path.parent if is_new else None
        return Goal(self.fd, self.accepted_n, folder, tuple(self._asides.unsynced))

    def reached(self, goal: Goal) -> None:
        """`goal` was synced."""
        if goal.fd != self.fd:
            return  # the session left the file meanwhile: its lines are in the segment, unsynced
        self._has_note = self._is_rewritten = False
        self._has_new_name = self._has_new_name and goal.folder is None
        self._asides.were_synced(goal.asides)
        if self._has_hole:
            return
        self.durable_n = max(self.durable_n, goal.n)
        self._unsynced.forget_before(self.durable_n)

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
        now, segments = time.monotonic(), self._segments
        if segments.is_creating or (now < segments.retry_at and not self.is_ending):
            return False  # a signal handler interrupted it; or no folder took one just now
        if first is None and self._is_rewritten and self.owns_descriptor():
            first = self.lines_of_session()  # no sync has made durable again what was before
        segments.is_creating = True
        segments.retry_at = now + RETRY_AFTER_S
        try:
            return any(
                self._move_to(folder, first)
                for folder in segments.next_folders()
                if not segments.is_exhausted
            )
        finally:
            segments.is_creating = False

    def _move_to(self, folder: Path, first: bytes | None) -> bool:
        accepted_n, number = self.end[0], self._segments.number
        entries = [entry for entry in self._waiting if entry[0] >= accepted_n]
        lines, first_n = [], 0
        if first is None:
            entries = [*self._unsynced, *entries]
            first_n = entries[0][0] if entries else accepted_n
        else:
            lines = [first, b"" if first.endswith(b"\n") else b"\n"]
        lines += [entry[1] for entry in entries]
        asides = tuple(aside for entry in entries for aside in entry[3])
        created = self._segments.create(
            folder, self.journal, first_n, lines, lambda: self._asides.write(asides, folder)
        )
        if created is None:
            return False
        fd, path, identity, size_bytes = created
        self.is_unreachable = False
        is_holed = first_n > self.durable_n or self.end[0] != accepted_n  # a handler appended
        self._has_hole = self._has_hole or is_holed
        self._has_note, self._is_rewritten = False, first is not None
        self.has_whole_session = self.has_whole_session or first is not None
        self.files.written.append(fd)
        self.fd, self.path, self.identity = fd, path, identity
        self._torn, self._has_new_name = False, True
        self._reserve = Reserve(self.disk, is_allowed=self._may_reserve)
        self._unsynced = Unsynced(entries)
        self.end = (entries[-1][0] + 1 if entries else accepted_n, size_bytes)
        self._forget_accepted()
        self.moves.append(Move(path, number, first_n))
        self.has_news = True
        return True

    # ---- where the file is

    def owns_descriptor(self) -> bool:
        """Whether the descriptor is still the file's: the program may have closed it."""
        try:
            return self.disk.identity(self.fd) == self.identity
        except OSError as error:
            if not is_of_a_call(error):
                raise
            return error.errno != errno.EBADF  # the disk fails; the descriptor is open

    def check_place(self) -> None:
        """Check that the file is where it was opened; go on elsewhere if it is not."""
        check_place(self)

    def use(self, fd: int, size_bytes: int | None = None) -> None:
        """Write to `fd`, of the same content, from now on; does not close the descriptor so far."""
        self.files.replace(self.fd, fd, is_journal=self.path == self.journal)
        if size_bytes is not None:
            self.end = (self.end[0], size_bytes)
            self._reserve = Reserve(self.disk, is_allowed=self._may_reserve)
        self.fd, self.identity = fd, self.disk.identity(fd)

    def lines_of_session(self) -> bytes:
        """What this session has written to its file so far."""
        return read_range(self.fd, self._begin, self.end[1])

    def lines_of_all_files(self) -> bytes:
        """What this session has written so far, in its journal and in segments."""
        return self.files.lines(self._s)

    @property
    def _begin(self) -> int:
        """Where this session begins in its file."""
        return self.files.begin if self.path == self.journal else 0

    def was_cut(self, size_bytes: int) -> None:
        """Somebody took bytes from the end of the file."""
        self.cut_to = (self.end[1], size_bytes)
        self.has_news = True
        self.end = (self.end[0], size_bytes)
        self._torn = True
        if size_bytes < self._begin + len(self.opening):
            self._write_opening()

    def _write_opening(self) -> None:
        """Write the session's first line again, with the run's identity and config."""
        with ignoring(OSError):
            line = b"\n" + self.opening
            self._torn = self._write(self.fd, line) < len(line)
            self._has_note = True
        with ignoring(OSError):
            while (size_bytes := self.disk.size(self.fd)) != self.end[1]:  # a handler may append
                self.end = (self.end[0], size_bytes)

    # ---- the end

    def write_end(self) -> bool:
        """Write what waits, if need be into a segment; False: no file takes it."""
        self.write_waiting()
        return not len(self._waiting) or self._leave_full_file()

    def give_up(self) -> int:
        """Discard what waits; the number of records."""
        n_waiting = len(self._waiting)
        self._waiting.clear()
        return n_waiting

    def note_in_journal(self, line: bytes) -> bool:
        """As `SessionFiles.write_note`."""
        self._has_note = self._has_note or self.files.fd_for_notes == self.fd
        return self.files.write_note(line)

    def waiting_line(self) -> bytes:
        """The last line that waits."""
        last = self._waiting.last
        return b"" if last is None else last[1]

    def never_sync(self) -> None:
        """Files cannot be synced here: do not try again."""
        self.sync_failed = True
        self._segment_again_at = math.inf

    def link_in_folder(self) -> bool:
        """Make a link to the segment beside the journal: a full disk still takes that."""
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
        """Give back the reserved space, and close the files."""
        for fd in self.files.written[self._is_shared :]:
            self._reserve.give_back(fd)
        self.files.close()
