"""What a forked child logs into its parent's run: ignored, and counted where it can be found.

One journal has one writer. A data loader's worker inherits the run and may log into it without
knowing; the number of such events reaches the writer through a counter that both have. A child
whose parent is gone (a program that forks to leave its terminal) writes the number itself, as
an annotation beside the journal.
"""

import os
from collections.abc import Callable, Sequence
from typing import Any

from eventlog.disk import DISK, moved_up
from eventlog.interruption import ignoring

WHY = "logged by a forked child: one journal has one writer"


def free_in_child(lock: Any) -> None:
    """Free, in a forked child, an RLock whose owner is a thread that is not in the child.

    The same lock, not a new one in its place: a thread that a signal handler has interrupted in its
    wait for the lock, and that forks, goes on to wait for the one it knows.
    """
    if lock._is_owned():
        return
    try:
        lock._release_save()  # asks for no owner
    except RuntimeError:  # it has none; or a later Python asks for it, and frees the lock in place
        if lock.acquire(blocking=False):
            lock.release()
        else:
            lock._at_fork_reinit()


def let_go(descriptors: Sequence[int]) -> None:
    """Give up, in a forked child, the files under these numbers.

    The numbers stay taken, unless the child is allowed no descriptor at all: then they are closed.
    """
    if not descriptors:
        return
    nowhere = _open_nowhere(descriptors[0])
    for fd in descriptors:
        if fd != nowhere:
            try:
                os.dup2(nowhere, fd, inheritable=False)
            except OSError:
                _close(fd)
    if nowhere not in descriptors:
        _close(nowhere)


def _open_nowhere(not_needed: int) -> int:
    """A descriptor of /dev/null: under the number `not_needed` if no other is free; or -1."""
    for attempt in range(2):
        with ignoring(OSError):
            return os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        if not attempt:
            _close(not_needed)
    return -1


def _close(fd: int) -> None:
    with ignoring(OSError):
        os.close(fd)


class Counter:
    """A number that a process and its forked children share; only counted where there is none."""

    def __init__(self) -> None:
        self._fd = -1
        if hasattr(os, "eventfd"):  # Linux
            with ignoring(OSError):
                self._fd = moved_up(os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC))
                self._identity = DISK.identity(self._fd)

    def add(self, number: int) -> None:
        if self._is_ours():
            with ignoring(OSError):
                os.eventfd_write(self._fd, number)

    def take(self) -> int:
        """What was added since the last time."""
        if self._is_ours():
            with ignoring(OSError):  # nothing was
                return os.eventfd_read(self._fd)
        return 0

    def close(self) -> None:
        if self._is_ours():
            with ignoring(OSError):
                os.close(self._fd)
        self._fd = -1

    def _is_ours(self) -> bool:
        """Somebody may have closed it, and its number be another file's."""
        if self._fd >= 0:
            with ignoring(OSError):
                return DISK.identity(self._fd) == self._identity
        return False


class Child:
    """Counts, in a forked child, the events that are ignored."""

    def __init__(self, counter: Counter, writer: int, annotate: Callable[[int], None]) -> None:
        """`writer` is the process that writes the journal.

        `annotate(number)` writes beside the journal how many events were ignored.
        """
        self.events = 0
        """All that this process was given."""
        self._counter = counter
        self._annotate = annotate
        self._parent = writer
        self._left = 0
        self._next = 1

    def ignore(self) -> None:
        """One more event."""
        self.events += 1
        if os.getppid() == self._parent:
            self._counter.add(1)
            return
        self._left += 1
        if self._left >= self._next:
            self._next *= 10  # few annotations, however many events
            self.write()

    def write(self) -> None:
        """Where nobody else does, write the number of those that are not written yet."""
        if os.getppid() == self._parent:
            return
        number, self._left = self._left + self._counter.take(), 0
        if number:
            self._annotate(number)
