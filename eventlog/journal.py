"""The writer: opens a journal, appends to it, makes it durable, closes it.

Accepted means that `write` returned: the event survives any death of this process.
Durable means that `fdatasync` returned after it: the event survives power loss. A thread
syncs, when and how often is the `durability` policy; the thread that appends never waits
for the disk except under `every`, in `sync` and in `close`.
"""

import contextlib
import os
import secrets
import sys
import threading
import time
import weakref
from pathlib import Path
from typing import Any, Literal

from eventlog.appender import RETRY_AFTER_S, Appender
from eventlog.disk import DISK, Disk
from eventlog.ends import last_open as last_open
from eventlog.ends import last_record
from eventlog.errors import JournalClosed, JournalLocked
from eventlog.record import Clock, encode
from eventlog.repair import repair_tail

LOCK_PATIENCE_S = 0.05  # a reader's probe holds the lock for microseconds, a writer for good
CLOSE_PATIENCE_S = 30.0
EXPENDABLE = frozenset(("iter", "metrics"))  # what goes first where no disk takes anything

Durability = Literal["every", "interval", "checkpoint", "never"]
"""When events become durable: each before `append` returns; all within an interval and urgent
ones at once; at urgent ones only; when the kernel likes."""


class Journal:
    """One writer's session in one journal file. Safe to append to from several threads.

    After a fork the child holds nothing: its appends are ignored, with one warning.
    """

    def __init__(
        self,
        path: Path,
        opening: dict[str, Any],
        *,
        durability: Durability = "interval",
        sync_interval_s: float = 1.0,
        fallback: Path | None = None,
        disk: Disk = DISK,
    ) -> None:
        """Open `path` (created if missing) and begin a session with an `open` event.

        A tail that a crash cut is repaired first: the cut bytes are kept in a file beside
        the journal, and the `open` event says where. The `open` event is durable on return.
        `fallback` is a folder on another disk, for when the journal's own fails. On a network
        file system a later session of a journal writes a segment of its own.

        Raises:
            JournalLocked: another process is writing it.
            OSError: the journal cannot be opened or written.
        """
        self.path = path
        self.s = session_name()
        self.n = 0
        """Records appended so far, which is the next one's number."""
        self._disk = disk
        self._durability = durability
        self._interval_s = sync_interval_s if durability == "interval" else None
        self._is_fork = False
        self._clock = Clock()
        self._lock = threading.Lock()
        self._told_durable = 0
        self._in_flight: tuple[int, bytes] | None = None
        self._warned_in_child = False
        self._closed = False
        self._wanted = threading.Event()
        self._synced = threading.Condition()

        fd = disk.open_append(path)
        try:
            has_locks = take_lock(fd, path, disk)
            last = last_record(path)
            is_shared = os.fstat(fd).st_size > 0 and disk.is_network(path)
            found, torn = None, False
            if not is_shared:
                found, torn = repair_tail(fd, path, name=self.s, disk=disk)
            folders = [path.parent] + ([fallback] if fallback is not None else [])
            self._appender = Appender(
                fd,
                path,
                s=self.s,
                folders=folders,
                disk=disk,
                warn=say,
                torn=torn,
                may_reserve=has_locks,
            )
            if is_shared:
                self._appender.begin_segment()
            met = {"prev": {"s": last.s, "n": last.n}} if last else {}
            self._append("open", opening | met | ({"found": found} if found else {}))
            goal = self._appender.goal()
            if self._appender.n_waiting or goal is None:
                raise OSError(f"{path}: the disk refused the journal's first line")
            disk.sync_data(goal.fd)
            disk.sync_dir(path.parent)
            self._appender.reached(goal)
        except BaseException:
            disk.close(fd)
            raise
        _LIVE.add(self)
        self._thread = threading.Thread(
            target=self._sync_until_closed, name="journal-sync", daemon=True
        )
        self._thread.start()

    @property
    def durable_n(self) -> int:
        """Records known to survive power loss, from the first on."""
        return self._appender.durable_n

    # ---- appending

    def append(self, event: str, fields: dict[str, Any], *, urgent: bool = False) -> int:
        """Append one event; its number. Urgent: to be durable at once, not within a second.

        Raises:
            JournalClosed: after `close`.
            RecordTooLarge: the event does not fit in a line; nothing was written.
        """
        if self._is_fork:
            return self._ignore_in_child()
        with self._lock:
            if self._closed:
                raise JournalClosed(f"{self.path}: closed; a {event!r} event came after that")
            n = self._append(event, fields)
            if urgent:
                self._appender.write_waiting()
        if self._durability == "every":
            self.sync()
        elif urgent and self._durability != "never":
            self._wanted.set()
        return n

    def _append(self, event: str, fields: dict[str, Any]) -> int:
        if self._in_flight is not None:
            self._take_up_interrupted()
        n = self.n
        durable_n = self._appender.durable_n if n else 0
        told = None if durable_n == self._told_durable else durable_n
        line = encode(n, self.s, self._clock.now(), event, fields, told)
        self._told_durable = durable_n
        # From here on an exception (a signal handler may raise one between any two
        # bytecodes) must neither lose this record nor give its number to another.
        self._in_flight = (n, line)
        self.n = n + 1
        self._appender.write(n, line, expendable=event in EXPENDABLE)
        self._in_flight = None
        if self._appender.dropped and not self._appender.n_waiting:
            self._tell_dropped()
        return n

    def _take_up_interrupted(self) -> None:
        """Write again what an exception interrupted; readers know a repeated record."""
        assert self._in_flight is not None
        n, line = self._in_flight
        self._in_flight = None
        self.n = n + 1
        self._appender.write_again(n, line)

    def _tell_dropped(self) -> None:
        dropped, self._appender.dropped = self._appender.dropped, 0
        self._append("gap", {"dropped": dropped, "why": "the disk refused for too long"})

    # ---- durability

    def sync(self, timeout_s: float = CLOSE_PATIENCE_S) -> bool:
        """Wait until all that was appended so far is durable; False if it is not by then."""
        if self._is_fork:
            return False
        target = self.n
        deadline = time.monotonic() + timeout_s
        with self._synced:
            while self.durable_n < target and not (self._appender.is_past_hope or self._closed):
                self._wanted.set()
                left = deadline - time.monotonic()
                if left <= 0 or not self._thread.is_alive():
                    break
                self._synced.wait(min(left, RETRY_AFTER_S))
        return self.durable_n >= target

    def _sync_until_closed(self) -> None:
        closing = False
        begun = time.monotonic()
        while not closing:
            if self._interval_s is None:
                self._wanted.wait()
            else:  # from begin to begin, or a slow disk would add its own time to the interval
                self._wanted.wait(max(0.0, begun + self._interval_s - time.monotonic()))
            self._wanted.clear()
            begun = time.monotonic()
            closing = self._closed  # read before the sync: what `close` appended is then in it
            self._sync_once()

    def _sync_once(self) -> None:
        with self._lock:
            self._appender.retry()
            goal = self._appender.goal()
        while goal is not None:
            try:
                self._disk.sync_data(goal.fd)
                if goal.folder is not None:
                    self._disk.sync_dir(goal.folder)
            except OSError as error:
                with self._lock:
                    self._sync_failed(error)
                    goal = self._appender.goal()
            else:
                with self._lock:
                    self._appender.reached(goal)
                goal = None
        with self._synced:
            self._synced.notify_all()

    def _sync_failed(self, error: OSError) -> None:
        """Never ask again for this file: what is not durable goes on in a segment."""
        durable_n = self._appender.durable_n
        moved = self._appender.missed(error)
        fields = {"call": "fdatasync", "error": str(error), "durable_records": durable_n}
        if moved:
            fields["segment"] = str(self._appender.path)
        self._append("io_error", fields)

    def close(self, fields: dict[str, Any]) -> None:
        """Append a `close` event, make everything durable, give the lock back.

        Waits for the disk, at most CLOSE_PATIENCE_S. A second call does nothing.
        """
        if self._is_fork or self._closed:
            return
        with self._lock:
            self._append("close", fields)
            self._appender.write_waiting()
            if self._appender.dropped and not self._appender.n_waiting:
                self._tell_dropped()
            self._closed = True
        self._wanted.set()
        self._thread.join(CLOSE_PATIENCE_S)
        _LIVE.discard(self)
        if self._thread.is_alive():
            say(
                f"{self.path}: closed, but the disk has not confirmed the last events "
                f"after {CLOSE_PATIENCE_S:.0f} s"
            )
            return  # the descriptor stays with the thread that still waits for it
        if self._appender.n_waiting:
            say(
                f"{self.path}: closed, but the disk refused the last "
                f"{self._appender.n_waiting} events; they are lost"
            )
        self._appender.close()

    # ---- fork

    def _ignore_in_child(self) -> int:
        if not self._warned_in_child:
            self._warned_in_child = True
            say(
                f"{self.path}: this process is a fork of the writer; what it logs is ignored "
                f"(one writer per journal)"
            )
        return -1

    def _let_go_after_fork(self) -> None:
        """In a forked child: close the files, so that the lock ends with its owner."""
        self._is_fork = True
        self._lock = threading.Lock()
        self._wanted = threading.Event()
        self._synced = threading.Condition()
        self._appender.let_go()


def take_lock(fd: int, path: Path, disk: Disk) -> bool:
    """Whether the journal's lock is held, and not only asked for where there are no locks.

    Raises:
        JournalLocked: another process holds it; says which.
    """
    give_up = time.monotonic() + LOCK_PATIENCE_S
    while (answer := disk.lock(fd)) is False:
        if time.monotonic() > give_up:
            raise JournalLocked(_refusal(path))
        time.sleep(LOCK_PATIENCE_S / 10)
    return answer is True


def session_name() -> str:
    """Eight random hex digits, the first a letter, so that no reader takes one for a number."""
    return secrets.choice("abcdef") + secrets.token_hex(4)[1:]


def _refusal(path: Path) -> str:
    opened = last_open(path)
    if opened is None:
        who = "another process"
    else:
        told = opened.fields
        command = " ".join(map(str, told.get("command") or []))
        who = (
            f"process {told.get('pid')} on {told.get('host')} since {opened.t[:19]}Z "
            f"(session {opened.s}{': ' + command if command else ''})"
        )
    return (
        f"{path}: is being written by {who}. One journal has one writer: stop that process, "
        f"or start a new run"
    )


def say(message: str) -> None:
    """Words for a person, on stderr; where there is no stderr, none."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        print(f"eventlog: {message}", file=sys.stderr, flush=True)


_LIVE: "weakref.WeakSet[Journal]" = weakref.WeakSet()
_held: list[Journal] = []


def _before_fork() -> None:
    """No fork in the middle of an append: the child must not inherit half of one."""
    for journal in list(_LIVE):
        journal._lock.acquire()
        _held.append(journal)


def _after_fork_in_parent() -> None:
    while _held:
        _held.pop()._lock.release()


def _after_fork_in_child() -> None:
    while _held:
        _held.pop()._let_go_after_fork()
    _LIVE.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork_in_child,
    )
