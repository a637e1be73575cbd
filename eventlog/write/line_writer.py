"""Writes lines to a file, in order. Never raises for what a disk did.

A line that the disk refuses waits in memory; it is tried again once a second and before every
urgent event. If memory for such lines runs out, the oldest iterations are dropped, never
anything else.

A write may be interrupted between any two bytecodes: by an exception that a signal handler
raises or another thread sets, or by a handler that appends an event itself. `writing` is
the record being written; the next caller finishes it (`settle`), and the interrupted call
sees that and leaves it alone. The size of the file says what was written.
Pairs of a check and one call or store need no lock: CPython runs handlers and switches
threads only after calls and at backward jumps.
"""

import errno
import time
from collections.abc import Callable
from pathlib import Path

from eventlog.disk import NO_SPACE, Disk
from eventlog.errors import JournalClosed
from eventlog.format.events import MAY_BE_DROPPED
from eventlog.format.record import Clock, seal
from eventlog.interruption import is_of_a_call
from eventlog.write.aside import (
    PENDING_MAX_BYTES,
    RETRY_AFTER_S,
    WARN_EVERY_S,
    Aside,
    AsideFiles,
)
from eventlog.write.reserve import LAST_BYTES, Reserve
from eventlog.write.waiting import Entry, Unsynced, Waiting, content_bytes

CHECK_EVERY_US = 10_000  # that the descriptor is still ours
WAITING_MAX_BYTES = 64 << 20  # about 350,000 iterations that the disk refused
UNSYNCED_MAX_BYTES = 9 << 20  # 8 MiB, a second's worth at 45,000 events a second, stay


class LineWriter:
    """Appends numbered lines to a file. Not locked."""

    # An object of its subclasses has more than 30 attributes: CPython then looks up each in a hash
    # table, and not in the object.
    __slots__ = (
        "_asides",
        "_check_at_us",
        "_clock",
        "_durable_in_line",
        "_is_at_limit",
        "_may_reserve",
        "_refuses_since",
        "_reserve",
        "_retry_at",
        "_s",
        "_torn",
        "_unsynced",
        "_waiting",
        "_warn_again_at",
        "_write",
        "disk",
        "dropped",
        "durable_n",
        "end",
        "fd",
        "has_news",
        "is_closed",
        "n",
        "path",
        "synced_n",
        "warn",
        "writing",
    )

    def __init__(
        self,
        fd: int,
        path: Path,
        *,
        s: str,
        clock: Clock,
        disk: Disk,
        warn: Callable[[str], None],
        torn: bool,
        may_reserve: bool,
    ) -> None:
        """`torn`: the file ends inside a line, so the next write begins with LF."""
        self.path = path
        """The file that is written now."""
        self.fd, self.disk, self.warn = fd, disk, warn
        self.n = 0
        """Records appended so far, which is the next one's number."""
        self.end = (0, disk.size(fd))
        """Records that the kernel has accepted, and the size of the file: both change at once."""
        self.writing: Entry | None = None
        """The record being written, or that was when an exception came."""
        self.durable_n = 0
        """Records known to survive power loss, from the first on."""
        self.synced_n = 0
        """Records whose lines do; the content of a large one may still be in memory."""
        self.is_closed = False
        """Whether no more records are to be written."""
        self.dropped = 0
        """Records that were dropped, until it is logged."""
        self.has_news = False
        """Whether there is something about the files to be logged, such as `dropped`."""
        self._s, self._clock = s, clock
        self._write = disk.writer
        self._torn = torn
        self._is_at_limit = False  # another file may take what this one does not: `ulimit -f`
        self._refuses_since: float | None = None  # with another error than that there is no space
        self._durable_in_line = 0
        self._check_at_us = 0
        self._asides = AsideFiles(disk, warn)
        self._waiting = Waiting()
        self._unsynced = Unsynced()
        self._retry_at = self._warn_again_at = 0.0
        self._may_reserve = may_reserve
        self._reserve = Reserve(disk, is_allowed=may_reserve)

    @property
    def accepted_n(self) -> int:
        """Records that the kernel has, from the first on: they survive this process."""
        return self.end[0]

    @property
    def left_out(self) -> int:
        """Large events of which only the line is written, not the content."""
        return len({n for n, _ in self._asides.left_out})

    @property
    def n_waiting(self) -> int:
        """Records in memory that no disk has accepted."""
        return len(self._waiting)

    @property
    def lacks_space(self) -> bool:
        """Whether a record, or the content of a large one, is in memory alone."""
        return bool(len(self._waiting)) or self._asides.first_pending is not None

    # ---- writing

    def append(self, event: str, encoded: bytes, asides: tuple[Aside, ...] = ()) -> bytes:
        """Write the next record, or keep it until the disk accepts it; returns its line.

        `encoded`: its fields; `asides`: what of them does not fit in the line.
        """
        clock, s, is_droppable = self._clock, self._s, event in MAY_BE_DROPPED
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
                raise JournalClosed(f"{self.path}: closed; a {event!r} event came after that")
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
        if (
            waiting.required or waiting.droppable or self._torn or self._reserve.is_full or asides
            or size_bytes > LAST_BYTES
        ):  # fmt: skip
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
        if entry[3] and self._waiting.content_bytes > PENDING_MAX_BYTES:
            self._leave_out_content(entry)

    def _leave_out_content(self, entry: Entry) -> None:
        """Too much content waits for its lines to be written: lose that of this record alone."""
        if self._waiting.leave_out_content(entry):
            for aside in entry[3]:
                self._asides.leave_out(entry[0], aside)
            self.warn_now_and_then(
                f"{self.path}: the disk refuses writes, and {PENDING_MAX_BYTES >> 20} MiB of the "
                f"content of large events wait in memory; of further ones only lines are kept"
            )

    def _check_descriptor(self, now_us: int) -> None:
        """Check the place if the descriptor is another file's: the program may have closed ours."""
        self._check_at_us = now_us + CHECK_EVERY_US
        try:
            # Costs a quarter of `owns_descriptor`, and almost always has its answer:
            # only this session moves its descriptor, with each line.
            is_moved = self.disk.position(self.fd) != self.end[1]
        except OSError as error:
            if not is_of_a_call(error):
                raise
            is_moved = True
        if is_moved and not self.owns_descriptor():
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
        """Write what waits, in order, as far as the disk accepts it."""
        if self._reserve.is_full and not self._reserve.take(self.fd, self.end[1]):
            self._refused(None)
            return
        while (entry := self._waiting.first) is not None:
            if entry[0] < self.end[0]:
                self._forget_accepted()
                continue
            try:
                self._asides.write(entry[0], entry[3], self.path.parent)
                data = b"\n" + entry[1] if self._torn else entry[1]
                size_bytes = len(data)
                if entry[0] < self.end[0]:
                    continue  # a signal handler that appended has written it meanwhile
                if size_bytes > LAST_BYTES and not self._has_room(size_bytes):
                    self._refused(None)
                    return
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
            self._torn, self._refuses_since = False, None
            self._forget_accepted()
            if self._reserve.is_full:
                return

    def _has_room(self, size_bytes: int) -> bool:
        return self._reserve.has_room(self.fd, self.end[1], size_bytes)

    def drop_large(self) -> bool:
        """Drop the large records that keep others from being written; False: there is none.

        At the end, where no file has space for them, so that they do not cost those after them.
        """
        was_dropped = False
        while (entry := self._waiting.first) is not None and len(entry[1]) > LAST_BYTES:
            if entry[0] >= self.end[0]:
                self._waiting.drop_first()
                self._asides.forget(entry[0])
                self.dropped += 1
                self.has_news = was_dropped = True
            self.write_waiting()
        return was_dropped

    def retry(self) -> None:
        """Write what waits, if it is time to try again."""
        if self._asides.first_pending is not None:
            self._asides.retry(self.path.parent)
        if not len(self._waiting) or time.monotonic() < self._retry_at:
            return
        self.write_waiting()
        while len(self._waiting) and self._is_at_limit and self._leave_file():
            self.write_waiting()  # each file holds a part of it

    def _accept(self, entry: Entry, end: tuple[int, int]) -> None:
        """`entry` is written, and the file ends at `end`."""
        if self._unsynced and self._unsynced[-1] is entry:
            pass
        elif self.writing is entry:
            self._unsynced.append(entry)
        if self.writing is entry:
            self.end = end
            self.writing = None
        self._unsynced.n_bytes += len(entry[1])
        self._unsynced.content_bytes += content_bytes(entry)
        self._make_room()

    def _make_room(self) -> None:
        """Reserve space; forget records that are too many to be written again."""
        if self.end[1] > self._reserve.ask_at:
            self._reserve.take(self.fd, self.end[1])
        is_too_much = self._unsynced.n_bytes > UNSYNCED_MAX_BYTES
        # To less than is allowed, so that not each of the next lines calls this.
        most_bytes = UNSYNCED_MAX_BYTES // 9 * 8 if is_too_much else UNSYNCED_MAX_BYTES
        self._unsynced.shrink(most_bytes, PENDING_MAX_BYTES)

    def _accept_part(self, n_bytes: int) -> None:
        """Only the first `n_bytes` of a line are written."""
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
        is_too_much = self._waiting.n_bytes > WAITING_MAX_BYTES
        if is_too_much or self._is_at_limit:
            moved = self._leave_file()
            if is_too_much and not moved:
                self._drop()

    def _drop(self) -> None:
        """Drop the oldest iterations, never anything else, until the rest fits in memory."""
        while self._waiting.n_bytes > WAITING_MAX_BYTES and self._waiting.drop_oldest():
            self.dropped += 1
            self.has_news = True

    def _refused(self, error: OSError | None) -> None:
        now = time.monotonic()
        self._retry_at = now + RETRY_AFTER_S
        if error is not None and error.errno == errno.EBADF:
            self.check_place()
        if error is None or error.errno in NO_SPACE:
            self._refuses_since = None
            self._is_at_limit = error is not None and error.errno == errno.EFBIG
        else:  # not one that passes by itself, if it is there a second later
            self._refuses_since = now if self._refuses_since is None else self._refuses_since
            self._is_at_limit = now - self._refuses_since >= RETRY_AFTER_S
        self.warn_now_and_then(
            f"{self.path}: the disk refuses writes ({error or 'it is full'}); training goes on, "
            f"and events wait in memory until it accepts them again"
        )

    def warn_now_and_then(self, message: str) -> None:
        now = time.monotonic()
        if now >= self._warn_again_at:
            self._warn_again_at = now + WARN_EVERY_S
            self.warn(message)

    def give_up(self) -> int:
        """Discard what waits; the number of records."""
        n_waiting = len(self._waiting)
        for entry in self._waiting:
            self._asides.forget(entry[0])
        self._waiting.clear()
        return n_waiting

    def waiting_line(self) -> bytes:
        """The last line that waits."""
        last = self._waiting.last
        return b"" if last is None else last[1]

    # ---- what its subclasses do when a file fails

    def _leave_file(self) -> bool:
        """Go on in another file, with all that waits; False: there is none."""
        raise NotImplementedError

    def owns_descriptor(self) -> bool:
        """Whether the descriptor is still the file's: the program may have closed it."""
        raise NotImplementedError

    def check_place(self) -> None:
        """Check that the file is where it was opened; go on elsewhere if it is not."""
        raise NotImplementedError
