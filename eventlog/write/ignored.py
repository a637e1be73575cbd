"""Events that a forked child logs into its parent's run: ignored and counted.

One journal has one writer. A data loader's worker inherits the run and may log into it without
knowing; the writer learns the number of such events from a counter that both processes share. A
child whose parent is gone (a program that forks to become a daemon) writes the number itself, as
an annotation beside the journal.
"""

import os
from collections.abc import Callable

from eventlog.disk import DISK, moved_up
from eventlog.interruption import ignoring

WHY = "logged by a forked child: one journal has one writer"


class Counter:
    """A number that a process and its forked children share; always 0 without eventfd."""

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
        """The sum of what was added since the last call."""
        if self._is_ours():
            with ignoring(OSError):  # nothing was added
                return os.eventfd_read(self._fd)
        return 0

    def close(self) -> None:
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
        """Write the number of events not written yet, if the writer is gone."""
        if os.getppid() == self._writer:
            return
        number, self._n_unwritten = self._n_unwritten + self._counter.take(), 0
        if number:
            self._annotate(number)
