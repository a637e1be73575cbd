"""Python's own `logging`: its lines beside the numbers, in the same journal.

logging.getLogger().addHandler(JournalHandler(run))
"""

import contextlib
import logging
import threading
from typing import Any

import eventlog
from eventlog import is_interruption

NESTED_MAX = 10  # lines that making one line may log; a value whose repr logs itself logs for ever


class JournalHandler(logging.Handler):
    """Each line is a `log` event: `level`, `logger`, `text`, with the traceback if it has one.

    `run` is what `eventlog.init` or `eventlog.open_run` gave. What is logged while a line is made,
    by a value's own `__repr__`, comes after it. Lines of this package's own loggers are left out:
    the journal says itself what happens to it.
    """

    def __init__(
        self, run: eventlog.ActiveRun | eventlog.Session, level: int | str = logging.INFO
    ) -> None:
        super().__init__(level)
        self._session = run.session if isinstance(run, eventlog.ActiveRun) else run
        self._of_thread = _OfThread()

    def createLock(self) -> None:
        """No lock: `append` has its own, and other people's code runs while a line is made."""
        self.lock: Any = _NoLock()

    def emit(self, record: logging.LogRecord) -> None:
        if self._session is None or record.name.partition(".")[0] == "eventlog":
            return
        mine = self._of_thread
        mine.n_nested += mine.is_busy
        if mine.is_busy:  # within this very method, further up
            if mine.n_nested <= NESTED_MAX:
                mine.waiting.append(record)
            return
        mine.is_busy, mine.n_nested = True, 0
        try:
            self._write(record)
            while mine.waiting:
                self._write(mine.waiting.pop(0))
        finally:
            mine.waiting.clear()
            mine.is_busy = False

    def _write(self, record: logging.LogRecord) -> None:
        try:
            text = self.format(record)
            assert self._session is not None
            self._session.log("log", level=record.levelname, logger=record.name, text=text)
        except Exception as error:  # arguments that do not fit the message: logging's own rule
            if is_interruption(error):
                raise
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:
        """As `logging` does it: a traceback on stderr, which may be closed."""
        with contextlib.suppress(Exception):
            super().handleError(record)


class _OfThread(threading.local):
    """What one thread is doing in a handler."""

    def __init__(self) -> None:
        self.is_busy, self.n_nested = False, 0
        self.waiting: list[logging.LogRecord] = []


class _NoLock(contextlib.nullcontext[None]):
    """What `logging` takes for a lock."""

    def acquire(self) -> None:
        pass

    def release(self) -> None:
        pass
