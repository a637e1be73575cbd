"""The writer: opens a journal, appends to it, closes it. `durability` syncs it.

Accepted means that `write` returned: the event survives any death of this process. When and how
often it is synced is the `durability` policy; the thread that appends never waits for the disk
except under `every`, in `sync` and in `close`.
"""

import contextlib
import errno
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import orjson

from eventlog.blocks import open_to_read
from eventlog.disk import DISK, UNSUPPORTED, Disk, made_ns, moved_up
from eventlog.errors import JournalClosed
from eventlog.format.record import MAX_LINE_BYTES, Clock, Values, encode_fields
from eventlog.interruption import ignoring, is_interruption
from eventlog.masking import load_masking
from eventlog.read.identify import check_is_journal
from eventlog.write.appender import Appender
from eventlog.write.aside import Aside, fitted
from eventlog.write.durability import CLOSE_PATIENCE_S, DurableSession
from eventlog.write.fork import OPENING, Child, call_in_children, give_up_descriptors
from eventlog.write.lock import take_lock
from eventlog.write.messages import error_text, say
from eventlog.write.own_events import OwnEvents
from eventlog.write.relocation import RelocatingAppender
from eventlog.write.repair import repair_tail
from eventlog.write.sessions import new_session_name, place_in_run
from eventlog.write.sync import TICK_S, sync

if TYPE_CHECKING:
    from eventlog.masking.names import Masking

READ_ONLY = frozenset((errno.EROFS, errno.EACCES, errno.EPERM))
SAY_AFTER_S = 3.0  # a wait for the disk that takes longer is reported
SMALL_BYTES = MAX_LINE_BYTES - (64 << 10)  # encoded fields of this size certainly fit in a line

Durability = Literal["every", "interval", "checkpoint", "never"]
"""When events become durable: each before `append` returns; all within an interval and urgent
ones at once; urgent ones at once and no other; whenever the kernel writes them."""


class Journal(DurableSession):
    """One writer's session in one journal file.

    Safe to append to from several threads, from signal handlers and destructors: the fields
    of an event become bytes before the lock is acquired, the lock is re-entrant, and an append
    that interrupted another one of its own thread finishes that first. A forked child holds
    nothing: its appends are ignored and counted.
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
        on_created: Callable[["Journal"], None] | None = None,
    ) -> None:
        """Open `path` (created if missing) and begin a session with an `open` event.

        A tail that a crash cut is repaired first: the cut bytes are kept in a file beside
        the journal, and the `open` event says where. The `open` event is durable on return.
        `fallback` is a folder on another disk, for when the journal's own fails. On a network
        file system a later session of a journal writes a segment of its own. `on_created` gets
        this object before anything is opened: an exception from outside may come at any time.

        Raises:
            JournalLocked: another process is writing it.
            NotAJournal: it has bytes, but no record; nothing is changed.
            OSError: the journal cannot be opened or written.
        """
        super().__init__(path, disk, sync_interval_s if durability == "interval" else None)
        self.s = new_session_name()
        self.close_n = -1
        """The number of the `close` event."""
        self.note_ignored: Callable[[int], None] = self._say_ignored
        """Called in a forked child whose parent is gone, with the number of ignored events."""
        self._pid = os.getpid()
        self._masking: Masking | None = None
        self._durability = durability
        self._syncs_in_calls = durability == "every"
        self._sync_at = 0.0  # when the next call syncs, if no thread does
        self._clock = Clock()
        self._is_released = False
        self._descriptors: list[int] = []
        _LIVE.add(self)
        if on_created is not None:
            on_created(self)
        try:
            self._open(self._path, opening, fallback)
            self._start_thread()
        except BaseException:
            self._abandon()
            raise

    def _start_thread(self) -> None:
        try:
            self._thread.start()
        except RuntimeError as error:
            if is_interruption(error):
                raise
            self._syncs_in_calls = True
            say(f"{self.path}: no thread can sync it ({error}): the calls that log into it do")

    def _abandon(self) -> None:
        """The session could not begin: close all that was opened."""
        self._closed = self._is_released = True
        if self._appender is not None:
            self._appender.is_closed = True
        if self._thread.has_started:  # the exception came after that
            self._thread.wake()
            self._thread.wait_for_end(CLOSE_PATIENCE_S)
        descriptors = list(self._descriptors)
        if self._appender is not None:
            descriptors += self._appender.files.descriptors
        with OPENING:
            for fd in dict.fromkeys(descriptors):
                with contextlib.suppress(OSError):
                    self._disk.close(fd)
            _LIVE.discard(self)
        self._counter.close()

    def _open(self, path: Path, opening: dict[str, Any], fallback: Path | None) -> None:
        disk = self._disk
        check_is_journal(path)
        with OPENING:
            fd, is_writable = open_journal(path, disk)
            self._descriptors.append(fd)
        try:
            has_lock = take_lock(fd, path, disk)
            is_shared = os.fstat(fd).st_size > 0 and (disk.is_network(path) or not is_writable)
            folders = [path.parent] + ([fallback] if fallback is not None else [])
            run_id = str(opening.get("run_id") or "")
            number, prev = place_in_run(path, folders, run_id)
            damage, torn = None, False
            if not is_shared:
                damage, torn = repair_tail(fd, path, name=self.s, disk=disk)
            appender = self._appender = RelocatingAppender(
                fd,
                path,
                s=self.s,
                clock=self._clock,
                folders=folders,
                disk=disk,
                warn=self._messages.append,
                torn=torn,
                run_id=run_id,
                may_reserve=has_lock,
            )
            self._own_events = OwnEvents(
                appender, s=self.s, clock=self._clock, warn=self._messages.append
            )
            if is_shared:
                appender.begin_segment()
            fields = opening | {"session_number": number, "has_lock": has_lock}
            is_other = fallback is not None and fallback != path.parent
            fields |= identity_of(fallback, disk) if fallback and is_other else {}
            fields |= {"prev": prev} if prev else {}
            fields |= {"found": damage} if damage else {}
            self._begin(appender, fields)
        finally:
            self._say_messages()

    def _begin(self, appender: Appender, fields: dict[str, Any]) -> None:
        """Append the `open` event and make it durable.

        Where there is no space for it in an existing journal, it is in a segment.
        """
        appender.opening = self._own_events.append("open", fields)
        if appender.n_waiting:
            appender.remove_torn_opening()
            if appender.files.begin and appender.to_segment():
                self._messages.append(
                    f"{appender.journal}: has no space; this session is in {appender.path}"
                )
        goal = appender.goal()
        if appender.n_waiting or goal is None:
            raise OSError(f"{appender.journal}: the disk refused the journal's first line")
        appender.begun()
        try:
            sync(goal, self._disk)
        except OSError as error:
            if error.errno not in UNSUPPORTED:
                raise
            self._sync_is_unsupported(error)
        else:
            self._disk.sync_dir(appender.journal.parent)
            appender.reached(goal)

    # ---- appending

    def append(
        self,
        event: str,
        fields: dict[str, Any],
        *,
        urgent: bool = False,
        values: Values = "any",
    ) -> None:
        """Append one event. Urgent: to be durable at once, not within a second.

        What does not fit in a line goes into a file of its own. `values` is what is known of them.

        Raises:
            JournalClosed: after `close`.
            Exception: what a signal handler or another thread raised meanwhile; the event is
                then kept, or nothing of it was written.
        """
        if self.child is not None:
            self.child.ignore()
            return
        encoded = encode_fields(fields, values)  # may run their code: no lock is held
        asides: tuple[Aside, ...] = ()
        # More quotes than the names have: there is text, which may be a credential.
        if len(encoded) > SMALL_BYTES or (
            values != "numbers" and encoded.count(b'"') != 2 * len(fields)
        ):
            encoded, asides = fitted(self.path.stem, event, self._masked(event, encoded))
        appender: Appender = self._appender  # type: ignore[assignment]
        with self._lock:
            if self._closed:
                self._refuse(event)
                return
            try:
                appender.append(event, encoded, asides)
            except JournalClosed:
                if not self._closed:
                    raise  # of another journal: raised by a signal handler
                self._refuse(event)  # a signal handler closed it, or forked
                return
            if urgent:
                appender.write_waiting()
            if appender.has_news:
                self._own_events.report()
        if self._messages:
            self._say_messages()
        if self._syncs_in_calls:
            self._sync_in_call(urgent)
        elif urgent and self._durability != "never":
            self._thread.wake()

    def _sync_in_call(self, urgent: bool) -> None:
        """Under `every`; or where there is no thread, as often as that would sync."""
        if self._durability == "every":
            if not self._writer.lacks_space:
                self.sync()
            elif not self._writer.n_waiting:  # a large event's content waits, perhaps for hours
                self._sync_once()
            return
        now, interval_s = time.monotonic(), self._thread.interval_s
        is_urgent = urgent and self._durability != "never"
        if is_urgent or now >= self._sync_at:
            self._sync_at = now + (interval_s or TICK_S)
            self._sync_once(is_wanted=is_urgent or interval_s is not None)

    def _masked(self, event: str, encoded: bytes) -> bytes:
        """Encoded fields without credentials; only texts can hold one."""
        masking = load_masking()
        if self._masking is None:
            self._masking = masking.Masking.from_environment()
        fields = orjson.loads(encoded)
        clean = masking.mask_event(event, fields, self._masking)
        return encoded if clean is fields else encode_fields(clean)

    def _refuse(self, event: str) -> None:
        """The journal is closed, or belongs to the process that forked this one."""
        if self.child is None:
            raise JournalClosed(f"{self.path}: closed; a {event!r} event came after that")
        self.child.ignore()

    # ---- the end

    def close(self, fields: dict[str, Any]) -> None:
        """Append a `close` event, make everything durable, release the lock.

        Waits for the disk, at most CLOSE_PATIENCE_S. A second call does nothing.
        """
        if self.child is not None:
            self.child.write()
            return
        if self._is_released:
            return
        encoded = self._masked("close", encode_fields(fields))
        give_up_at = time.monotonic() + CLOSE_PATIENCE_S
        with self._lock:
            if not self._closed:
                self._writer.settle()
                self._writer.check_place()  # no sync does, if all is durable
        if self._durability != "never" and not self._writer.lacks_space:
            self._sync_before_end()
        is_nested = self._is_nested
        with self._lock:
            if not self._closed:
                self._append_end(encoded)
        self._thread.wake()
        if not is_nested:
            self._thread.wait_for_end(max(1.0, give_up_at - time.monotonic()))
        if is_nested or self._thread.has_ended:
            self._sync_last(is_nested)
            self._release()
        else:
            self._messages.append(
                f"{self.path}: closed, but the disk has not confirmed the last events "
                f"after {CLOSE_PATIENCE_S:.0f} s"
            )  # the descriptor stays with the thread that still waits for it
        self._say_messages()

    def _sync_before_end(self) -> None:
        """So that the last line says what is durable."""
        if not self.sync(SAY_AFTER_S) and not self._writer.cannot_sync:
            most_s = f"{CLOSE_PATIENCE_S:.0f} s at most"
            say(f"{self.path}: closing; waits for the disk to confirm all events, {most_s}")
            self.sync(CLOSE_PATIENCE_S / 2 - SAY_AFTER_S)

    def _append_end(self, encoded: bytes) -> None:
        self._writer.is_ending = True
        self._own_events.count_ignored(self._counter)
        self.close_n = self.n
        self._own_events.end(encoded)
        self._closed = self._writer.is_closed = True

    def _sync_last(self, is_nested: bool) -> None:
        """Sync what the thread has not, because it has ended or waits for this one."""
        appender = self._writer
        is_left = appender.durable_n < appender.n and not appender.cannot_sync
        if is_nested or is_left:
            try:
                self._sync_once()
            except Exception as error:
                if is_interruption(error):
                    raise
                self._thread.errors += 1
                self._messages.append(
                    f"{self.path}: closed, last events not synced ({error_text(error)})"
                )

    def _release(self) -> None:
        # A fork meanwhile would keep the lock, or close a descriptor that is another file by then.
        with OPENING:
            self._writer.close()
            _LIVE.discard(self)
        self._counter.close()
        self._is_released = True

    # ---- fork

    def _give_up_in_child(self) -> None:
        """In a forked child: give up the files, so that the lock ends with its owner."""
        self._closed = True
        appender, descriptors = self._appender, self._descriptors
        if appender is not None:
            appender.is_closed = True
            descriptors = appender.files.descriptors
        self._thread.end_in_child()
        self._messages.clear()
        self.child = Child(self._counter, self._pid, lambda number: self.note_ignored(number))
        give_up_descriptors(descriptors)
        _LIVE.discard(self)

    def _say_ignored(self, number: int) -> None:
        say(f"{self.path}: {number} events of a forked child were ignored")


def open_journal(path: Path, disk: Disk) -> tuple[int, bool]:
    """A descriptor of the journal, created if missing, and whether it may be written.

    Raises:
        OSError: it cannot be opened, or created.
    """
    try:
        return disk.open_append(path), True
    except OSError as error:
        if error.errno not in READ_ONLY or not path.exists() or not path.stat().st_size:
            raise
        return moved_up(open_to_read(path)), False  # it has the lock; the session is in a segment


def identity_of(fallback: Path, disk: Disk) -> dict[str, int]:
    """By what the fallback folder is recognized later; it is made if it is missing."""
    with ignoring(OSError):
        disk.make_folder(fallback)
        found = {"fallback_device": os.stat(fallback).st_dev, "fallback_made_ns": made_ns(fallback)}
        return {name: value for name, value in found.items() if value is not None}
    return {}


_LIVE = call_in_children(Journal._give_up_in_child)
