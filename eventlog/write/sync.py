"""Syncs: which files one makes durable, the thread that makes them, and waiting for it."""

import contextlib
import errno
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue

from eventlog.blocks import open_to_read
from eventlog.disk import UNSUPPORTED, Disk
from eventlog.interruption import is_of_a_call

TICK_S = 1.0  # between two checks of the files, if no sync interval is set


class SyncThread:
    """Calls `sync_once` at each interval, and at once when woken, until `is_closed` is true.

    No exception ends it, since others depend on its syncs. Its queues are SimpleQueues: an
    exception leaves no lock of theirs held, and a signal handler may use them (an Event hangs a
    handler that interrupts its `set`).
    """

    def __init__(
        self,
        sync_once: Callable[..., None],
        is_closed: Callable[[], bool],
        interval_s: float | None,
        warn: Callable[[BaseException], None],
    ) -> None:
        """`interval_s` None: sync only when woken. `warn` gets the first exception."""
        self.errors = 0
        """Exceptions that came into the thread."""
        self._has_warned = False
        self.has_ended = False
        """`Thread.is_alive`, once interrupted, says for ever that the thread has ended."""
        self.sync_once, self._is_closed = sync_once, is_closed
        self.interval_s, self._warn = interval_s, warn
        self._wakes: SimpleQueue[None] = SimpleQueue()
        self._waiters: deque[SimpleQueue[None]] = deque()
        self._end: SimpleQueue[None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="journal-sync", daemon=True)

    def start(self) -> None:
        """Raises RuntimeError: the system allows no more threads; somebody else has to sync."""
        try:
            self._thread.start()
        except RuntimeError:
            self.has_ended = True
            self._end.put(None)
            raise

    @property
    def has_started(self) -> bool:
        return self._thread.ident is not None

    @property
    def is_current(self) -> bool:
        """Whether this is called in the thread itself."""
        return threading.current_thread() is self._thread

    def wake(self) -> None:
        """Have it sync at once."""
        self._wakes.put(None)

    def wait_for_sync(self, timeout_s: float, is_decided: Callable[[], bool]) -> bool:
        """Wake it and wait for its next sync; False: there is no need, or no time, to wait."""
        is_over: SimpleQueue[None] = SimpleQueue()
        self._waiters.append(is_over)
        if is_decided() or timeout_s <= 0 or self.has_ended:
            return False
        self.wake()
        with contextlib.suppress(Empty):
            is_over.get(timeout=timeout_s)
        return True

    def notify_waiters(self) -> None:
        """A sync is over."""
        waiters, self._waiters = self._waiters, deque()
        for waiter in waiters.copy():
            waiter.put(None)

    def wait_for_end(self, timeout_s: float) -> None:
        with contextlib.suppress(Empty):
            self._end.get(timeout=timeout_s)
            self._end.put(None)  # for others that wait

    def end_in_child(self) -> None:
        """In a forked child: the child does not have this thread."""
        self._wakes, self._waiters = SimpleQueue(), deque()
        self.has_ended = True
        self._end.put(None)

    def _run(self) -> None:
        try:
            is_done, pause_s = False, 0.0
            while not is_done:
                try:
                    is_done = self._is_done(pause_s)
                except BaseException:  # came while another one was counted
                    self.errors += 1
                    is_done = self._is_closed()
                pause_s = TICK_S  # an error that repeats must not keep a core busy
        finally:
            self.has_ended = True
            self._end.put(None)

    def _is_done(self, pause_s: float) -> bool:
        """Sync on; whether the journal is closed."""
        try:
            if pause_s:
                self._is_woken(pause_s)
            self._sync_until_closed()
            return True
        except BaseException as error:
            self._count_error(error)
        return self._is_closed()  # `close` then syncs itself

    def _count_error(self, error: BaseException) -> None:
        self.errors += 1
        if not self._has_warned:
            self._warn(error)
            self._has_warned = True  # not before: another exception may have interrupted it

    def _sync_until_closed(self) -> None:
        is_closing = False
        begun = time.monotonic()
        while not is_closing:
            # From begin to begin, or a slow disk would add its own time to the interval.
            interval_s = self.interval_s or TICK_S
            is_wanted = self._is_woken(max(0.0, begun + interval_s - time.monotonic()))
            begun = time.monotonic()
            is_closing = self._is_closed()  # before the sync: it then covers the last event
            self.sync_once(is_wanted=is_wanted or is_closing or self.interval_s is not None)

    def _is_woken(self, timeout_s: float) -> bool:
        """Whether somebody wants a sync within the time."""
        try:
            self._wakes.get(timeout=timeout_s)
        except Empty:
            return False
        while not self._wakes.empty():  # one sync serves all of them
            self._wakes.get()
        return True


class AsideNotSynced(OSError):
    """The file of a large event is not durable; the lines may still become it."""

    def __init__(self, path: Path, error: OSError) -> None:
        super().__init__(error.errno, error.strerror, str(path))
        self.path = path


@dataclass(frozen=True)
class Goal:
    """What one sync makes durable."""

    fd: int
    n: int
    """Records of the session whose lines are durable after it, from the first on."""
    durable_n: int
    """Those of them that are durable as a whole: fewer while content of a large one waits."""
    folder: Path | None
    """A folder whose names must be synced as well: a file in it is new."""
    asides: tuple[Path, ...] = ()


def sync(goal: Goal, disk: Disk) -> None:
    """Sync the files that the lines name, then the lines, then the names of the files.

    Raises:
        AsideNotSynced: a file of a large event is not there, or the disk refused it.
        OSError: the disk refused.
    """
    for path in goal.asides:
        try:
            fd = open_to_read(path)  # raises for a FIFO that was put there
            try:
                disk.sync_data(fd)
            finally:
                os.close(fd)
        except OSError as error:
            if not is_of_a_call(error) or error.errno in {errno.EMFILE, errno.ENFILE, *UNSUPPORTED}:
                raise
            raise AsideNotSynced(path, error) from error
    disk.sync_data(goal.fd)
    for folder in dict.fromkeys([goal.folder, *(path.parent for path in goal.asides)]):
        if folder is not None:
            disk.sync_dir(folder)
