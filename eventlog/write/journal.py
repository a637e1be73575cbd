"""The writer: opens a journal, appends to it, makes it durable, closes it.

Accepted means that `write` returned: the event survives any death of this process.
Durable means that `fdatasync` returned after it: the event survives power loss. A thread
syncs, when and how often is the `durability` policy; the thread that appends never waits
for the disk except under `every`, in `sync` and in `close`.
"""

import contextlib
import errno
import os
import secrets
import select
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Literal

import orjson

from eventlog.blocks import open_to_read
from eventlog.disk import DISK, UNSUPPORTED, Disk
from eventlog.errors import JournalClosed, JournalLocked
from eventlog.format.record import (
    MAX_LINE_BYTES,
    Clock,
    encode_fields,
    fits_in_a_line,
    seal,
    text_of,
)
from eventlog.format.segment import encode_header
from eventlog.format.text import print_lines, printable
from eventlog.interruption import ignoring, is_interruption
from eventlog.read.ends import last_open
from eventlog.read.identify import check_is_journal
from eventlog.write.appender import RETRY_AFTER_S, Appender, Goal
from eventlog.write.aside import Aside, set_aside
from eventlog.write.forked import WHY, Child, Counter, free_in_child, let_go
from eventlog.write.last_session import last_session
from eventlog.write.repair import repair_tail

LOCK_PATIENCE_S = 0.05  # a reader's probe holds the lock for microseconds, a writer for good
CLOSE_PATIENCE_S = 30.0
SAY_AFTER_S = 3.0  # of a wait for the disk, that there is one
MESSAGE_MAX = 900  # characters: so much a pipe takes at once that takes anything
SMALL_BYTES = MAX_LINE_BYTES - (64 << 10)  # fields of so many bytes fit in a line for sure
TICK_S = 1.0  # between two looks at the files, where no interval is asked for

Durability = Literal["every", "interval", "checkpoint", "never"]
"""When events become durable: each before `append` returns; all within an interval and urgent
ones at once; at urgent ones only; when the kernel likes."""


class Journal:
    """One writer's session in one journal file.

    Safe to append to from several threads, from signal handlers and destructors: the fields
    of an event become bytes before the lock is taken, the lock is re-entrant, and an append
    that finds another one of its own thread unfinished finishes it first. After a fork the
    child holds nothing: its appends are ignored and counted.
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
        begun: Callable[["Journal"], None] | None = None,
    ) -> None:
        """Open `path` (created if missing) and begin a session with an `open` event.

        A tail that a crash cut is repaired first: the cut bytes are kept in a file beside
        the journal, and the `open` event says where. The `open` event is durable on return.
        `fallback` is a folder on another disk, for when the journal's own fails. On a network
        file system a later session of a journal writes a segment of its own. `begun` is called
        with it before anything is opened: an exception from outside may come when all is done.

        Raises:
            JournalLocked: another process is writing it.
            NotAJournal: it has bytes, but no record; nothing is changed.
            OSError: the journal cannot be opened or written.
        """
        self.s = session_name()
        self.close_n = -1
        """The number of the `close` event."""
        self.errors = 0
        """Exceptions that came into the thread that syncs."""
        self.child: Child | None = None
        """In a forked child: what counts the events that are ignored."""
        self._path = path = Path(os.path.abspath(path))
        self._pid = os.getpid()
        self._disk = disk
        self._durability = durability
        self._interval_s = sync_interval_s if durability == "interval" else None
        self._clock = Clock()
        self._lock = threading.RLock()
        self._messages: deque[str] = deque()
        self._notes: deque[bytes] = deque()  # lines to be written into the journal that was left
        self._has_ignored = False
        self._lost_before = 0  # dropped and logged, before the end
        self._closed = self._is_released = False
        self._wake: SimpleQueue[None] = (
            SimpleQueue()
        )  # an Event would hang a handler inside its `set`
        self._waiters: deque[SimpleQueue[None]] = deque()  # for the next sync to be over
        self._counter = Counter()
        self.note_ignored: Callable[[int], None] | None = None
        """Called in a forked child whose parent is gone: so many events were ignored."""
        self._descriptors: list[int] = []
        self._appender: Appender | None = None
        self._has_ended = False  # `Thread.is_alive`, interrupted, says for ever after that it has
        self._end: SimpleQueue[None] = SimpleQueue()
        self._thread = threading.Thread(
            target=self._sync_until_closed, name="journal-sync", daemon=True
        )
        _LIVE.add(self)
        if begun is not None:
            begun(self)
        try:
            self._open(path, opening, fallback)
            self._thread.start()
        except BaseException:
            self._abandon()
            raise

    def _abandon(self) -> None:
        """It could not begin: nothing that was opened stays open."""
        self._closed = self._is_released = True
        if self._thread.ident is not None:  # the exception came when it had begun
            self._wake.put(None)
            self._wait_for_thread(CLOSE_PATIENCE_S)
        descriptors = list(self._descriptors)
        if self._appender is not None:
            descriptors += self._appender.descriptors
        with _OPENING:
            for fd in dict.fromkeys(descriptors):
                with contextlib.suppress(OSError):
                    self._disk.close(fd)
            _LIVE.discard(self)
        self._counter.close()

    def _open(self, path: Path, opening: dict[str, Any], fallback: Path | None) -> None:
        disk = self._disk
        check_is_journal(path)
        with _OPENING:  # a fork now would hand the descriptor, and the lock, to the child
            fd = disk.open_append(path)
            self._descriptors.append(fd)
        try:
            has_lock = take_lock(fd, path, disk)
            is_shared = os.fstat(fd).st_size > 0 and disk.is_network(path)
            folders = [path.parent] + ([fallback] if fallback is not None else [])
            run_id = str(opening.get("run_id") or "")
            number, prev = last_session(path, folders, run_id)
            found, torn = None, False
            if not is_shared:
                found, torn = repair_tail(fd, path, name=self.s, disk=disk)
            appender = self._appender = Appender(
                fd,
                path,
                s=self.s,
                clock=self._clock,
                folders=folders,
                disk=disk,
                warn=self._messages.append,
                torn=torn,
                run_id=run_id,
                header=self._header,
                may_reserve=has_lock,
            )
            if is_shared:
                appender.begin_segment()
            appender.opening = self._append_event(
                "open",
                opening
                | {"session_number": number, "has_lock": has_lock}
                | ({"prev": prev} if prev else {})
                | ({"found": found} if found else {}),
            )
            goal = appender.goal()
            if appender.n_waiting or goal is None:
                raise OSError(f"{path}: the disk refused the journal's first line")
            try:
                sync(goal, disk)
            except OSError as error:
                if error.errno not in UNSUPPORTED:
                    raise
                self._no_sync(error)
            else:
                disk.sync_dir(path.parent)
                appender.reached(goal)
        finally:
            self._say_messages()

    @property
    def path(self) -> Path:
        """Where the journal is, absolute; somebody may have moved it."""
        return self._path if self._appender is None else self._appender.journal

    @property
    def path_to_read(self) -> Path:
        """The journal, or where that is gone the segment that the session went on in."""
        return self.path if os.path.lexists(self.path) else self._writer.path

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
        """Records that no disk has taken and none will."""
        return self._lost_before + self._writer.lost

    @property
    def _writer(self) -> Appender:
        assert self._appender is not None
        return self._appender

    # ---- appending

    def append(self, event: str, fields: dict[str, Any], *, urgent: bool = False) -> None:
        """Append one event. Urgent: to be durable at once, not within a second.

        What does not fit in a line is set aside in a file of its own.

        Raises:
            JournalClosed: after `close`.
            Exception: what a signal handler or another thread raised meanwhile; the event is
                then kept, or nothing of it was written.
        """
        if self.child is not None:
            self.child.ignore()
            return
        encoded = encode_fields(fields)  # runs code of others: no lock is held
        asides: tuple[Aside, ...] = ()
        if type(event) is not str:
            event = str(event)
        # More quotes than the names have: there is text, which may be a credential.
        if encoded.count(b'"') != 2 * len(fields) or len(encoded) > SMALL_BYTES:
            encoded, asides = self._fitted(event, masked(event, encoded))
        appender: Appender = self._appender  # type: ignore[assignment]
        with self._lock:
            if self._closed:
                self._refuse(event)
                return
            try:
                appender.append(event, encoded, asides)
            except JournalClosed:  # by a handler that closed it, or that forked
                self._refuse(event)
                return
            if urgent:
                appender.write_waiting()
            if appender.has_news:
                self._report()
        if self._messages:
            self._say_messages()
        if self._durability == "every":
            self.sync()
        elif urgent and self._durability != "never":
            self._wake.put(None)

    def _refuse(self, event: str) -> None:
        """The journal takes no more: it is closed, or was another process's before a fork."""
        if self.child is None:
            raise JournalClosed(f"{self.path}: closed; a {event!r} event came after that")
        self.child.ignore()

    def _fitted(self, event: str, encoded: bytes) -> tuple[bytes, tuple[Aside, ...]]:
        """The fields of an event as they stand in its line, and what that has no room for."""
        if fits_in_a_line(event, encoded):
            return encoded, ()
        fields, asides = set_aside(self.path.stem, event, orjson.loads(encoded))
        return encode_fields(fields), asides

    def _append_event(self, event: str, fields: dict[str, Any]) -> bytes:
        """Append an event of the journal's own; its line."""
        return self._writer.append(event, *self._fitted(event, encode_fields(fields)))

    def _report(self) -> None:
        """Log what became of the journal itself: where it goes on, what was dropped."""
        appender = self._writer
        appender.has_news = False
        while appender.moves:
            move = appender.moves.popleft()
            fields = {
                "file": move.path.name,
                "folder": str(move.path.parent),
                "number": move.number,
                "first_n": move.first_n,
            }
            # The same line in the journal: who has that alone is to know that it is not all.
            self._notes.append(appender.append("segment", encode_fields(fields)))
        if appender.cut_to is not None:
            (before, after), appender.cut_to = appender.cut_to, None
            why = f"somebody cut the file from {before:,} to {after:,} bytes"
            self._append_event("io_error", {"call": "ftruncate", "error": why})
        if appender.dropped and appender.n_waiting:
            appender.has_news = True  # when what waits is written
        elif appender.dropped:
            dropped, appender.dropped = appender.dropped, 0
            self._lost_before += dropped
            self._append_event("gap", {"dropped": dropped, "why": "the disk refused for too long"})
        while self._notes and appender.note_in_journal(self._notes[0]):
            self._notes.popleft()
        if self._notes:
            appender.link_in_folder()

    def _header(self, number: int, first_n: int) -> bytes:
        return encode_header(
            run_id=self._writer.run_id,
            journal=self.path.name,
            session=self.s,
            number=number,
            first_n=first_n,
            s=session_name(),
            t=self._clock.now(),
        )

    def _say_messages(self) -> None:
        """Say what is to be said, with no lock held: standard error may be somebody's code."""
        if self._lock._is_owned():  # type: ignore[attr-defined]
            return  # called from within an append: that one says it
        while self._messages:
            with ignoring(IndexError):
                say(self._messages.popleft())

    # ---- durability

    def sync(self, timeout_s: float = CLOSE_PATIENCE_S) -> bool:
        """Wait until all that was appended so far is durable; False if it is not by then."""
        if self.child is not None:
            return False
        target = self.n
        if self._is_nested or (self._has_ended and not self._is_decided(target)):
            self._sync_once()
            return self.durable_n >= target
        deadline = time.monotonic() + timeout_s
        while not self._is_decided(target):
            is_over: SimpleQueue[None] = SimpleQueue()  # no lock that an exception leaves held
            self._waiters.append(is_over)
            left = deadline - time.monotonic()
            if self._is_decided(target) or left <= 0 or self._has_ended:
                break
            self._wake.put(None)
            with contextlib.suppress(Empty):
                is_over.get(timeout=min(left, RETRY_AFTER_S))
        return self.durable_n >= target

    def _is_decided(self, target: int) -> bool:
        """Whether so many records are durable, or no sync will make them that."""
        return self.durable_n >= target or self._writer.is_past_hope or self._closed

    @property
    def _is_nested(self) -> bool:
        """Whether an append of this same thread goes on, or it is the one that syncs.

        The thread that syncs would wait for the lock, and this thread for that one.
        """
        is_owner: bool = self._lock._is_owned()  # type: ignore[attr-defined]
        return is_owner or threading.current_thread() is self._thread

    def _wait_for_thread(self, timeout_s: float) -> None:
        with contextlib.suppress(Empty):
            self._end.get(timeout=timeout_s)
            self._end.put(None)  # for who else waits

    def _sync_until_closed(self) -> None:
        try:
            is_done, pause_s = False, 0.0
            while not is_done:
                try:
                    is_done = self._has_synced_on(pause_s)
                except BaseException:  # came while another one was counted
                    self.errors += 1
                    is_done = self._closed
                pause_s = TICK_S  # what fails again and again shall not keep a core busy
        finally:
            self._has_ended = True
            self._end.put(None)

    def _has_synced_on(self, pause_s: float) -> bool:
        """Whether the thread is done. No exception ends it: others depend on its syncs."""
        try:
            if pause_s:
                self._is_woken(pause_s)
            self._sync_on()
            return True
        except BaseException as error:
            self._count_error(error)
        return self._closed  # `close` then syncs itself

    def _count_error(self, error: BaseException) -> None:
        self.errors += 1
        if self.errors == 1:
            what = f"{type(error).__name__}: {text_of(error)}"
            say(f"{self.path}: an exception came into the thread that syncs ({what}); it goes on")

    def _sync_on(self) -> None:
        closing = False
        begun = time.monotonic()
        while not closing:
            # From begin to begin, or a slow disk would add its own time to the interval.
            interval_s = self._interval_s or TICK_S
            is_wanted = self._is_woken(max(0.0, begun + interval_s - time.monotonic()))
            begun = time.monotonic()
            closing = self._closed  # read before the sync: what `close` appended is then in it
            self._sync_once(is_wanted=is_wanted or closing or self._interval_s is not None)

    def _is_woken(self, timeout_s: float) -> bool:
        """Whether somebody wants a sync within the time."""
        try:
            self._wake.get(timeout=timeout_s)
        except Empty:
            return False
        while not self._wake.empty():  # one sync is enough for all of them
            self._wake.get()
        return True

    def _sync_once(self, *, is_wanted: bool = True) -> None:
        appender = self._writer
        with self._lock:
            if appender.writing is not None:
                appender.settle()
            if not self._closed:
                appender.check_place()
            appender.retry()
            self._count_ignored()
            self._report()
            goal = appender.goal() if is_wanted else None
        while goal is not None:
            try:
                sync(goal, self._disk)
            except OSError as error:
                if is_interruption(error):
                    raise
                if error.errno in (errno.EMFILE, errno.ENFILE):
                    break  # this process has no descriptor left: the next time, then
                with self._lock:
                    self._sync_failed(error)
                    goal = appender.goal()
            else:
                with self._lock:
                    appender.reached(goal)
                goal = None
        self._say_messages()
        waiters, self._waiters = self._waiters, deque()
        for waiter in waiters.copy():
            waiter.put(None)

    def _sync_failed(self, error: OSError) -> None:
        """Never ask again for this file: what is not durable goes on in a segment."""
        if error.errno in UNSUPPORTED:
            self._no_sync(error)
            return
        appender = self._writer
        durable_n = appender.durable_n
        moved = appender.missed(error)
        fields = {"call": "fdatasync", "error": str(error), "durable_records": durable_n}
        if moved:
            fields["segment"] = str(appender.path)
        if not self._closed:
            self._append_event("io_error", fields)
            self._report()

    def _no_sync(self, error: OSError) -> None:
        self._messages.append(
            f"{self.path}: files cannot be synced here ({error}): events survive the death of "
            f"this process, and a power loss only when the system has written them"
        )
        self._writer.never_sync()

    def _count_ignored(self) -> None:
        ignored = 0 if self._closed else self._counter.take()
        if ignored:
            self._append_event("ignored", {"events": ignored, "why": WHY})
            if not self._has_ignored:  # by the writer: of many workers each would say it
                self._has_ignored = True
                self._messages.append(
                    f"{self.path}: forked children of this process log into it; that is ignored "
                    f"and counted (one writer per journal)"
                )

    def close(self, fields: dict[str, Any]) -> None:
        """Append a `close` event, make everything durable, give the lock back.

        Waits for the disk, at most CLOSE_PATIENCE_S. A second call does nothing.
        """
        if self.child is not None:
            self.child.write()
            return
        if self._is_released:
            return
        encoded = masked("close", encode_fields(fields))
        give_up_at = time.monotonic() + CLOSE_PATIENCE_S
        with self._lock:
            if not self._closed:
                self._writer.settle()
                self._writer.check_place()  # all may be durable: then no sync looks
        if self._durability != "never" and not self._writer.n_waiting:
            self._sync_before_end()
        is_nested = self._is_nested
        with self._lock:
            if not self._closed:
                self._append_end(encoded)
        self._wake.put(None)
        if not is_nested:
            self._wait_for_thread(max(1.0, give_up_at - time.monotonic()))
        if is_nested or self._has_ended:
            self._sync_last(is_nested)
        if not self._has_ended and not is_nested:
            self._messages.append(
                f"{self.path}: closed, but the disk has not confirmed the last events "
                f"after {CLOSE_PATIENCE_S:.0f} s"
            )  # the descriptor stays with the thread that still waits for it
        else:
            # A fork now would keep the lock, or close what is another file by then.
            with _OPENING:
                self._writer.close()
                _LIVE.discard(self)
            self._counter.close()
            self._is_released = True
        self._say_messages()

    def _sync_before_end(self) -> None:
        """So that the last line says what is durable."""
        if not self.sync(SAY_AFTER_S) and not self._writer.is_past_hope:
            most_s = f"{CLOSE_PATIENCE_S:.0f} s at most"
            say(f"{self.path}: to be closed; waits for the disk to confirm all events, {most_s}")
            self.sync(CLOSE_PATIENCE_S / 2 - SAY_AFTER_S)

    def _sync_last(self, is_nested: bool) -> None:
        """What the thread has not made durable, because it has ended or waits for this one."""
        appender = self._writer
        is_left = appender.durable_n < appender.n and not appender.is_past_hope
        if is_nested or is_left:
            try:
                self._sync_once()
            except Exception as error:
                if is_interruption(error):
                    raise
                self.errors += 1
                self._messages.append(
                    f"{self.path}: closed, and the last events were not synced "
                    f"({type(error).__name__}: {text_of(error)})"
                )

    def _append_end(self, encoded: bytes) -> None:
        appender = self._writer
        appender.is_ending = True
        self._count_ignored()
        self.close_n = self.n
        appender.append("close", encoded)
        if not appender.write_end():
            self._give_up()
        self._report()
        if appender.is_homeless:
            appender.lost = appender.accepted_n
        self._closed = appender.is_closed = True

    def _give_up(self) -> None:
        """No disk takes what waits: write how much it is into the space kept for that."""
        appender = self._writer
        close = appender.waiting_line()
        dropped = appender.give_up() - 1 + appender.dropped  # but for the `close` event
        appender.dropped = 0
        fields = {"dropped": dropped, "why": "no disk took them before the end"}
        gap = seal(appender.n, self.s, self._clock.now(), "gap", encode_fields(fields))
        appender.n += 1
        is_noted = appender.note_in_journal(close) and appender.note_in_journal(gap)
        appender.lost = dropped if is_noted else dropped + 1
        self._messages.append(
            f"{self.path}: closed, but no disk took the last {dropped:,} events: they are lost"
            + ("" if is_noted else ", and the journal has no room to say so")
        )

    # ---- fork

    def _let_go_after_fork(self) -> None:
        """In a forked child: give up the files, so that the lock ends with its owner.

        The numbers of the descriptors stay taken: an append that the fork interrupted may
        still write to one of them.
        """
        free_in_child(self._lock)
        self._closed = True
        if self._appender is not None:
            self._appender.is_closed = True
        self._wake = SimpleQueue()
        self._waiters = deque()
        self._has_ended = True  # the thread that syncs is not in this child
        self._end.put(None)
        self._messages.clear()
        self.child = Child(self._counter, self._pid, self._note_ignored)
        appender = self._appender
        descriptors = self._descriptors if appender is None else appender.descriptors
        let_go(descriptors)

    def _note_ignored(self, number: int) -> None:
        if self.note_ignored is None:
            say(f"{self.path}: {number} events of a forked child were ignored")
        else:
            self.note_ignored(number)


def masked(event: str, encoded: bytes) -> bytes:
    """Encoded fields without credentials; only texts can hold one."""
    from eventlog.masking.masking import mask_event  # 10 ms that readers need not pay

    fields = orjson.loads(encoded)
    clean = mask_event(event, fields)
    return encoded if clean is fields else encode_fields(clean)


def sync(goal: Goal, disk: Disk) -> None:
    """Make a goal durable: first the files that its lines name, then the lines, then the names.

    Raises:
        OSError: the disk refused.
    """
    for path in goal.asides:
        fd = open_to_read(path)  # somebody may have put a FIFO there
        try:
            disk.sync_data(fd)
        finally:
            os.close(fd)
    disk.sync_data(goal.fd)
    if goal.folder is not None:
        disk.sync_dir(goal.folder)


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
    return printable(
        f"{path}: is being written by {who}. One journal has one writer: stop that process, "
        f"or start a new run"
    )


def say(message: str) -> None:
    """A message for a person, on stderr; where nobody can take it, none.

    A pipe that nobody reads any more would hold up the training when it is full.
    """
    try:
        with ignoring(OSError, ValueError, AttributeError):
            poll = select.poll()
            poll.register(sys.stderr.fileno(), select.POLLOUT)
            if not poll.poll(0):
                return
        if len(message) > MESSAGE_MAX:
            message = f"{message[:MESSAGE_MAX]}... ({len(message):,} characters)"
        print_lines(f"eventlog: {message}", file=sys.stderr, flush=True)
    except Exception as error:  # somebody's stderr may raise anything
        if is_interruption(error):
            raise


_LIVE: "weakref.WeakSet[Journal]" = weakref.WeakSet()
_OPENING = threading.RLock()
FORK_PATIENCE_S = 1.0  # a journal that is opened on a file system that hangs


def _before_fork() -> None:
    """No fork between the opening of a journal's file and the moment we know of it.

    The lock of an append is not taken: in the child nothing is appended, and a fork must not
    wait for a disk.
    """
    _OPENING.acquire(timeout=FORK_PATIENCE_S)


def _after_fork_in_parent() -> None:
    if _OPENING._is_owned():  # type: ignore[attr-defined]
        _OPENING.release()


def _after_fork_in_child() -> None:
    _after_fork_in_parent()
    free_in_child(_OPENING)
    for journal in list(_LIVE):
        journal._let_go_after_fork()
    _LIVE.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork_in_child,
    )
