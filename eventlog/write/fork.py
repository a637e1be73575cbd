"""Forks: none while a file is opened, what a forked child gives up, and what it logs.

One journal has one writer. A data loader's worker inherits the run and may log into it without
knowing; the writer learns the number of such events from a counter that both processes share. A
child whose parent is gone (a program that forks to become a daemon) writes the number itself, as
an annotation beside the journal.
"""

import os
import select
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from eventlog.disk import DISK, moved_up
from eventlog.interruption import ignoring

OPENING = threading.RLock()
"""Held while a file is opened or closed: a fork between that and the moment we know of it would
hand the descriptor, and the lock on the file, to the child."""

OPENING_PATIENCE_S = 1.0  # a fork waits no longer, if a file system hangs while a file is opened
LOCK_PATIENCE_S = 0.1  # and no longer for all other locks: a fork must not wait for a disk

T = TypeVar("T")


class _Forks(threading.local):
    """For each fork that this thread has begun, the locks that it did not own before."""

    def __init__(self) -> None:
        self.locks: list[list[Any]] = []


_forks = _Forks()


def free_after_fork(lock: T) -> T:
    """The RLock `lock`, which from now on is free in forked children, even if it is held here.

    The thread that forks acquires it first. A fork between the moments at which another thread gets
    it and notes that it owns it would leave a lock that cannot be freed for those that wait for
    it: the forking thread itself, if a signal handler of its forks during its wait.
    """
    _LOCKS.add(lock)
    return lock


def _before_fork() -> None:
    locks = [lock for lock in list(_LOCKS) if not lock._is_owned()]
    _forks.locks.append(locks)
    give_up_at = time.monotonic() + LOCK_PATIENCE_S
    for lock in locks:
        if lock is OPENING:
            lock.acquire(timeout=OPENING_PATIENCE_S)
        else:
            lock.acquire(timeout=max(0.0, give_up_at - time.monotonic()))


def _release() -> None:
    for lock in _forks.locks.pop() if _forks.locks else ():
        if lock._is_owned():
            lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_release,
        after_in_child=_release,
    )


def call_in_children(call: Callable[[T], None]) -> "weakref.WeakSet[T]":
    """A set of objects; every forked child calls `call` with each of them.

    An exception keeps no object from its call, and a call that raised is repeated: a signal handler
    may raise in it. Python prints the last exception.
    """
    objects: weakref.WeakSet[T] = weakref.WeakSet()

    def after_fork() -> None:
        errors = []
        for item in list(objects):
            for _ in range(2):
                try:
                    call(item)
                    break
                except BaseException as error:
                    errors.append(error)
        if errors:
            raise errors[-1]

    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=after_fork)
    return objects


def _free_in_child(lock: Any) -> None:
    """Free, in a forked child, an RLock whose owner is a thread that the child does not have.

    The lock itself where possible, not a new one in its place: a thread that forks in a signal
    handler while it waits for the lock goes on to wait for the one it knows.
    """
    if lock._is_owned():
        return
    try:
        lock._release_save()  # does not check the owner
    except RuntimeError:  # no owner; or a later Python, which checks, and can reset the lock
        if lock.acquire(blocking=False):
            lock.release()
        else:
            lock._at_fork_reinit()


_LOCKS = call_in_children(_free_in_child)
_LOCKS.add(OPENING)


def give_up_descriptors(descriptors: Sequence[int]) -> None:
    """Close files in a forked child, but keep their descriptor numbers in use.

    An append that the fork interrupted may still write to one of them. Each number becomes
    /dev/null; it is closed only if the process can open no file at all.
    """
    if not descriptors:
        return
    null_fd = _open_null(descriptors[0])
    for fd in descriptors:
        if fd != null_fd:
            try:
                os.dup2(null_fd, fd, inheritable=False)
            except OSError:
                _close(fd)
    if null_fd not in descriptors:
        _close(null_fd)


def _open_null(spare_fd: int) -> int:
    """A descriptor of /dev/null, under the number `spare_fd` if no other is free; -1: none."""
    for attempt in range(2):
        with ignoring(OSError):
            return os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        if not attempt:
            _close(spare_fd)
    return -1


def _close(fd: int) -> None:
    with ignoring(OSError):
        os.close(fd)


WRITER_PATIENCE_S = 1.5  # it takes the number once a second
WHY = "logged by a forked child: one journal has one writer"


_CLOSED = 1 << 62  # added to the number when the writer closes the journal


class Counter:
    """A number that a process and its forked children share; always 0 without eventfd."""

    def __init__(self) -> None:
        self._fd = -1
        if hasattr(os, "eventfd"):  # Linux
            with ignoring(OSError):
                self._fd = moved_up(os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC))
                self._identity = DISK.identity(self._fd)

    def add(self, number: int) -> None:
        if number and self._is_ours():
            with ignoring(OSError):
                os.eventfd_write(self._fd, number)

    def take(self) -> int:
        """The sum of what was added since the last call."""
        return self._read()[0]

    def is_closed(self) -> bool:
        """Whether the writer has closed the journal, and takes no more."""
        number, is_closed = self._read()
        self.add(number)
        return is_closed

    def _read(self) -> tuple[int, bool]:
        if self._is_ours():
            with ignoring(OSError):  # nothing was added
                number = os.eventfd_read(self._fd)
                if number >= _CLOSED:
                    self.add(_CLOSED)
                return number % _CLOSED, number >= _CLOSED
        return 0, False

    def has_any(self) -> bool:
        """Whether something was added since the last call of `take`."""
        if not self._is_ours():
            return False
        ready = select.poll()
        ready.register(self._fd, select.POLLIN)
        return bool(ready.poll(0))

    def close(self) -> None:
        """In the writer: children then write their number themselves."""
        self.add(_CLOSED)
        if self._is_ours():
            with ignoring(OSError):
                os.close(self._fd)
        self._fd = -1

    def _is_ours(self) -> bool:
        """The program may have closed the descriptor, and its number may be another file's."""
        if self._fd >= 0:
            with ignoring(OSError):
                return DISK.identity(self._fd) == self._identity
        return False


class Child:
    """Counts, in a forked child, the events that are ignored."""

    def __init__(self, counter: Counter, writer: int, annotate: Callable[[int], None]) -> None:
        """`writer`: the process that writes the journal. `annotate(number)` writes beside the
        journal how many events were ignored."""
        self.n_events = 0
        """Events that this process has logged."""
        self._counter = counter
        self._annotate = annotate
        self._writer = writer
        self._n_unwritten = 0
        self._write_at = 1

    def ignore(self) -> None:
        """Count one more event."""
        self.n_events += 1
        if os.getppid() == self._writer:
            self._counter.add(1)
            return
        self._n_unwritten += 1
        if self._n_unwritten >= self._write_at:
            self._write_at *= 10  # few annotations, however many events
            self.write()

    def write(self) -> None:
        """Write the number of events not written yet, unless the writer does."""
        if self._is_left_to_the_writer():
            return
        number, self._n_unwritten = self._n_unwritten + self._counter.take(), 0
        if number:
            self._annotate(number)

    def _is_left_to_the_writer(self) -> bool:
        """Whether the writer lives and has taken the number, or is still to take it.

        A writer that is just ending takes it no more: wait until that is known.
        """
        give_up_at = time.monotonic() + WRITER_PATIENCE_S
        while os.getppid() == self._writer and not self._counter.is_closed():
            if not self._counter.has_any() or time.monotonic() >= give_up_at:
                return True
            time.sleep(0.01)
        return False
