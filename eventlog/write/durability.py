"""When a session's records are durable: the syncs of its files, and waiting for one.

Durable means that `fdatasync` returned after the record was written: it survives power loss. A
thread syncs; a sync that failed is never repeated on the same file.
"""

import errno
import os
import threading
import time
from collections import deque
from pathlib import Path

from eventlog.disk import UNSUPPORTED, Disk
from eventlog.interruption import ignoring, is_interruption
from eventlog.write.appender import Appender
from eventlog.write.aside import RETRY_AFTER_S
from eventlog.write.fork import Child, Counter, free_after_fork
from eventlog.write.messages import error_text, say
from eventlog.write.own_events import OwnEvents
from eventlog.write.sync import AsideNotSynced, SyncThread, sync

CLOSE_PATIENCE_S = 30.0
PAUSE_S = 0.05  # between two syncs that somebody waits for, if the first had nothing to sync


class DurableSession:
    """The files of one session, and the thread that syncs them. `Journal` fills and closes it."""

    _own_events: OwnEvents

    def __init__(self, path: Path, disk: Disk, sync_interval_s: float | None) -> None:
        """`sync_interval_s` None: sync only what is urgent."""
        self.child: Child | None = None
        """In a forked child: counts the events that are ignored."""
        self._path = Path(os.path.abspath(path))
        self._disk = disk
        self._lock = free_after_fork(threading.RLock())
        self._messages: deque[str] = deque()
        self._closed = False
        self._counter = Counter()
        self._appender: Appender | None = None
        self._thread = SyncThread(
            self._sync_once, lambda: self._closed, sync_interval_s, self._warn_of_exception
        )

    @property
    def path(self) -> Path:
        """Where the journal is now, absolute; it may have been moved."""
        return self._path if self._appender is None else self._appender.journal

    @property
    def path_to_read(self) -> Path:
        """The journal, or if that is gone the segment in which the session went on."""
        return self.path if os.path.lexists(self.path) else self._writer.path

    @property
    def path_of_end(self) -> Path:
        """The journal or segment to which the latest records were written."""
        return self._writer.path

    @property
    def n(self) -> int:
        """Records appended so far, which is the next one's number."""
        return self._writer.n

    @property
    def durable_n(self) -> int:
        """Records known to survive power loss, from the first on."""
        return self._writer.durable_n

    @property
    def lost(self) -> int:
        """Records that are lost: no disk accepted them."""
        return self._own_events.lost + self._writer.lost + self._writer.left_out

    @property
    def errors(self) -> int:
        """Exceptions that came while the journal was synced."""
        return self._thread.errors

    @property
    def _writer(self) -> Appender:
        assert self._appender is not None
        return self._appender

    def sync(self, timeout_s: float = CLOSE_PATIENCE_S) -> bool:
        """Wait until all that was appended so far is durable; False if it is not by then."""
        if self.child is not None:
            return False
        target = self.n
        if self._is_nested or (self._thread.has_ended and not self._is_decided(target)):
            self._sync_once()
            return self.durable_n >= target
        give_up_at = time.monotonic() + timeout_s
        while not self._is_decided(target):
            left_s = min(give_up_at - time.monotonic(), RETRY_AFTER_S)
            before_n = self.durable_n
            if not self._thread.wait_for_sync(left_s, lambda: self._is_decided(target)):
                break
            if self.durable_n == before_n:  # a full disk: the next sync would end at once, too
                time.sleep(min(max(0.0, left_s), PAUSE_S))
        return self.durable_n >= target

    def _is_decided(self, target: int) -> bool:
        """Whether `target` records are durable, or never will be."""
        return self.durable_n >= target or self._writer.cannot_sync or self._closed

    @property
    def _is_nested(self) -> bool:
        """Whether this is called within an append of this thread, or in the thread that syncs.

        That thread waits for the lock, so this one must not wait for that thread.
        """
        is_owner: bool = self._lock._is_owned()  # type: ignore[attr-defined]
        return is_owner or self._thread.is_current

    def _sync_once(self, *, is_wanted: bool = True) -> None:
        appender = self._writer
        with self._lock:
            if appender.writing is not None:
                appender.settle()
            if not self._closed:
                appender.check_place()
            appender.retry()
            if not self._closed:
                self._own_events.count_ignored(self._counter)
            self._own_events.report()
            goal = appender.goal() if is_wanted else None
        while goal is not None:
            try:
                sync(goal, self._disk)
            except OSError as error:
                if is_interruption(error):
                    raise
                if error.errno in (errno.EMFILE, errno.ENFILE):
                    break  # this process has no descriptor left: try again the next time
                with self._lock:
                    if isinstance(error, AsideNotSynced):
                        appender.missed_aside(error)
                    elif error.errno in UNSUPPORTED:
                        self._sync_is_unsupported(error)
                    else:  # never sync this file again: go on in a segment
                        self._own_events.sync_failed(error)
                    goal = appender.goal()
            else:
                with self._lock:
                    appender.reached(goal)
                goal = None
        self._say_messages()
        self._thread.notify_waiters()

    def _sync_is_unsupported(self, error: OSError) -> None:
        self._messages.append(
            f"{self.path}: files cannot be synced here ({error}): events survive the death of "
            f"this process, and a power loss only when the system has written them"
        )
        self._writer.never_sync()

    def _warn_of_exception(self, error: BaseException) -> None:
        say(
            f"{self.path}: an exception came into the thread that syncs ({error_text(error)}); "
            f"it goes on"
        )

    def _say_messages(self) -> None:
        """Print messages with no lock held: sys.stderr may be code of the program."""
        if self._lock._is_owned():  # type: ignore[attr-defined]
            return  # called within an append, which then prints them
        while self._messages:
            with ignoring(IndexError):
                say(self._messages.popleft())
