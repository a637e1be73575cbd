"""The writer: opens a journal, appends to it, makes it durable, closes it.

Accepted means that `write` returned: the event survives any death of this process.
Durable means that `fdatasync` returned after it: the event survives power loss. A thread
syncs within `sync_interval_s`, and at once after an urgent event; the thread that appends
never waits for the disk except in `sync` and `close`.

A disk that refuses does not stop training: lines wait in memory and are written, in order,
when it takes them again. A sync that failed is never repeated on the same file, because the
kernel then reports success for pages it has already dropped.
"""

import contextlib
import mmap
import os
import secrets
import sys
import threading
import time
import weakref
from collections import deque
from pathlib import Path
from typing import Any

from eventlog.disk import DISK, Disk
from eventlog.errors import JournalClosed, JournalLocked
from eventlog.record import Clock, Record, decode, encode

LOCK_PATIENCE_S = 0.05  # a reader's probe holds the lock for microseconds, a writer for good
RETRY_AFTER_S = 1.0
BACKLOG_MAX_BYTES = 64 << 20  # about 350,000 iterations while the disk is full
CLOSE_PATIENCE_S = 30.0

_OPEN_MARK = b'"event":"open"'


class Journal:
    """One writer's session in one journal file. Safe to append to from several threads.

    After a fork the child holds nothing: its appends are ignored, with one warning.
    """

    def __init__(
        self,
        path: Path,
        opening: dict[str, Any],
        *,
        sync_interval_s: float = 1.0,
        disk: Disk = DISK,
    ) -> None:
        """Open `path` (created if missing) and begin a session with an `open` event.

        A tail that a crash cut is repaired first: the cut bytes are kept in a file beside
        the journal, and the `open` event says where. The `open` event is durable on return.

        Raises:
            JournalLocked: another process is writing it.
            OSError: the journal cannot be opened or written.
        """
        self.path = path
        self.s = _session_name()
        self.n = 0
        """Records appended so far, which is the next one's number."""
        self.durable_n = 0
        """Records known to survive power loss, from the first on."""
        self.dropped = 0
        self._disk = disk
        self._interval_s = sync_interval_s
        self._pid = os.getpid()
        self._clock = Clock()
        self._lock = threading.Lock()
        self._written_n = 0  # records the kernel has, from the first on
        self._told_durable = 0
        self._in_flight: tuple[int, bytes] | None = None
        self._backlog: deque[tuple[bool, bytes]] = deque()
        self._backlog_bytes = 0
        self._torn = False  # the file ends inside a line: the next write begins with LF
        self._retry_at = 0.0
        self._warned_at = -float("inf")
        self._closed = False
        self._sync_error: OSError | None = None
        self._wanted = threading.Event()
        self._synced = threading.Condition()

        self._fd = disk.open_append(path)
        try:
            self._take_lock()
            found = self._repair_tail()
            self._append("open", opening | ({"found": found} if found else {}))
            if self._backlog:
                raise OSError(f"{path}: the disk refused the journal's first line")
            disk.sync_data(self._fd)
            disk.sync_dir(path.parent)
        except BaseException:
            disk.close(self._fd)
            raise
        self.durable_n = 1
        _LIVE.add(self)
        self._thread = threading.Thread(
            target=self._sync_until_closed, name="journal-sync", daemon=True
        )
        self._thread.start()

    # ---- appending

    def append(self, event: str, fields: dict[str, Any], *, urgent: bool = False) -> int:
        """Append one event; its number. Urgent: to be durable at once, not within a second.

        Raises:
            JournalClosed: after `close`.
            RecordTooLarge: the event does not fit in a line; nothing was written.
        """
        if os.getpid() != self._pid:
            return self._ignore_in_child()
        with self._lock:
            if self._closed:
                raise JournalClosed(f"{self.path}: closed; a {event!r} event came after that")
            n = self._append(event, fields)
            if urgent and self._backlog:
                self._write_backlog()
        if urgent:
            self._wanted.set()
        return n

    def _append(self, event: str, fields: dict[str, Any]) -> int:
        if self._in_flight is not None:
            self._take_up_interrupted()
        n = self.n
        durable = self.durable_n if self.durable_n != self._told_durable else None
        line = encode(n, self.s, self._clock.now(), event, fields, durable)
        self._told_durable = self.durable_n
        # From here on an exception (a signal handler may raise one between any two
        # bytecodes) must neither lose this record nor give its number to another.
        self._in_flight = (n, line)
        self.n = n + 1
        self._write(line, event == "iter")
        self._in_flight = None
        return n

    def _take_up_interrupted(self) -> None:
        """Write again what an exception interrupted; readers know a repeated record."""
        assert self._in_flight is not None
        n, line = self._in_flight
        self._in_flight = None
        self.n = n + 1
        self._torn = True
        self._keep(line, False)
        self._write_backlog()

    def _write(self, line: bytes, is_iter: bool) -> None:
        if self._backlog or self._torn:
            self._keep(line, is_iter)
            if time.monotonic() >= self._retry_at:
                self._write_backlog()
            return
        try:
            n_bytes = self._disk.write(self._fd, line)
        except OSError as error:
            self._refused(error)
        else:
            if n_bytes == len(line):
                self._written_n = self.n
                return
            self._torn = True
            self._refused(None)
        self._keep(line, is_iter)

    def _keep(self, line: bytes, is_iter: bool) -> None:
        """Hold a line in memory. At the limit the oldest iterations go, never anything else."""
        self._backlog.append((is_iter, line))
        self._backlog_bytes += len(line)
        while self._backlog_bytes > BACKLOG_MAX_BYTES:
            at = next((i for i, (drop, _) in enumerate(self._backlog) if drop), None)
            if at is None:
                return
            self._backlog_bytes -= len(self._backlog[at][1])
            del self._backlog[at]
            self.dropped += 1

    def _write_backlog(self) -> None:
        """Write what waits, in order, as far as the disk takes it."""
        while self._backlog:
            line = self._backlog[0][1]
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
            self._backlog.popleft()
            self._backlog_bytes -= len(line)
        self._written_n = self.n
        if self.dropped:
            dropped, self.dropped = self.dropped, 0
            self._append("gap", {"dropped": dropped, "why": "the disk refused for too long"})

    def _refused(self, error: OSError | None) -> None:
        self._retry_at = time.monotonic() + RETRY_AFTER_S
        self._warn(
            f"{self.path}: the disk refuses to write ({error or 'it is full'}); training goes "
            f"on, events wait in memory and are written when it takes them again"
        )

    # ---- durability

    def sync(self, timeout_s: float = CLOSE_PATIENCE_S) -> bool:
        """Wait until all that was appended so far is durable; False if it is not by then."""
        if os.getpid() != self._pid:
            return False
        target = self.n
        deadline = time.monotonic() + timeout_s
        with self._synced:
            while self.durable_n < target and self._sync_error is None and not self._closed:
                self._wanted.set()
                left = deadline - time.monotonic()
                if left <= 0 or not self._thread.is_alive():
                    break
                self._synced.wait(min(left, RETRY_AFTER_S))
        return self.durable_n >= target

    def _sync_until_closed(self) -> None:
        closing = False
        while not closing:
            self._wanted.wait(self._interval_s)
            self._wanted.clear()
            closing = self._closed  # read before the sync: what `close` appended is then in it
            self._sync_once()

    def _sync_once(self) -> None:
        with self._lock:
            if self._backlog and time.monotonic() >= self._retry_at:
                self._write_backlog()
            target = self._written_n
        if target > self.durable_n and self._sync_error is None:
            try:
                self._disk.sync_data(self._fd)
            except OSError as error:
                self._sync_error = error
                self._warn(
                    f"{self.path}: the disk could not make the journal durable ({error}); "
                    f"events are still written, but a power loss may cost those since "
                    f"record {self.durable_n:,}"
                )
                with self._lock:
                    self._append(
                        "io_error",
                        {
                            "call": "fdatasync",
                            "error": str(error),
                            "durable_records": self.durable_n,
                        },
                    )
            else:
                self.durable_n = target
        with self._synced:
            self._synced.notify_all()

    def close(self, fields: dict[str, Any]) -> None:
        """Append a `close` event, make everything durable, give the lock back.

        Waits for the disk, at most CLOSE_PATIENCE_S. A second call does nothing.
        """
        if os.getpid() != self._pid or self._closed:
            return
        with self._lock:
            self._append("close", fields)
            self._write_backlog()
            self._closed = True
        self._wanted.set()
        self._thread.join(CLOSE_PATIENCE_S)
        _LIVE.discard(self)
        if self._thread.is_alive():
            self._warn(
                f"{self.path}: closed, but the disk has not confirmed the last events "
                f"after {CLOSE_PATIENCE_S:.0f} s"
            )
            return  # the descriptor stays with the thread that still waits for it
        if self._backlog:
            self._warn(
                f"{self.path}: closed, but the disk refused the last {len(self._backlog)} "
                f"events; they are lost"
            )
        self._disk.close(self._fd)

    # ---- opening

    def _take_lock(self) -> None:
        give_up = time.monotonic() + LOCK_PATIENCE_S
        while not self._disk.lock(self._fd):
            if time.monotonic() > give_up:
                raise JournalLocked(_refusal(self.path))
            time.sleep(LOCK_PATIENCE_S / 10)

    def _repair_tail(self) -> dict[str, Any] | None:
        """Make the file end in LF: cut what a crash left of a line, after keeping it aside."""
        size = os.fstat(self._fd).st_size
        if size == 0:
            return None
        with mmap.mmap(self._fd, size, access=mmap.ACCESS_READ) as data:
            start = data.rfind(b"\n") + 1
            tail = data[start:]
        if not tail:
            return None
        self._torn = True
        if decode(tail) is not None:
            return {"unterminated": {"offset": start, "size_bytes": len(tail)}}
        found: dict[str, Any] = {"offset": start, "size_bytes": len(tail), "kept_in": None}
        kept = self.path.with_name(f"{self.path.stem}.{self.s}.torn")
        try:
            self._keep_aside(kept, tail)
            self._disk.truncate(self._fd, start)
        except OSError as error:  # nothing is cut that is not kept: the LF alone parts old from new
            return {"torn": found | {"error": str(error)}}
        self._torn = False
        return {"torn": found | {"kept_in": kept.name}}

    def _keep_aside(self, kept: Path, tail: bytes) -> None:
        fd = self._disk.open_new(kept)
        try:
            done = 0
            while done < len(tail):
                done += self._disk.write(fd, tail[done:])
            self._disk.sync_data(fd)
        finally:
            self._disk.close(fd)
        self._disk.sync_dir(kept.parent)

    # ---- fork, warnings

    def _ignore_in_child(self) -> int:
        if self._warned_at != float("inf"):
            self._warned_at = float("inf")
            say(
                f"{self.path}: this process is a fork of the writer; what it logs is ignored "
                f"(one writer per journal)"
            )
        return -1

    def _warn(self, message: str) -> None:
        if time.monotonic() - self._warned_at >= 60:
            self._warned_at = time.monotonic()
            say(message)

    def _let_go_after_fork(self) -> None:
        """In a forked child: close the descriptor, so that the lock ends with its owner."""
        self._lock = threading.Lock()
        self._wanted = threading.Event()
        self._synced = threading.Condition()
        self._disk.close(self._fd)


def _session_name() -> str:
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


def last_open(path: Path) -> Record | None:
    """The `open` event of the latest session, found from the end of the file."""
    with open(path, "rb") as file:
        if os.fstat(file.fileno()).st_size == 0:
            return None
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            at = len(data)
            while (at := data.rfind(_OPEN_MARK, 0, at)) >= 0:
                start = data.rfind(b"\n", 0, at) + 1
                end = data.find(b"\n", at)
                record = decode(data[start : end if end >= 0 else len(data)], start)
                if record is not None and record.event == "open":
                    return record
    return None


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
