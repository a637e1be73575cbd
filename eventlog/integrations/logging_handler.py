"""Python's own `logging`: log lines as events of a run.

logging.getLogger().addHandler(JournalHandler(run))
"""

import contextlib
import logging
import threading
from typing import Any

import eventlog
from eventlog import is_interruption

NESTED_MAX = 10  # lines logged while one line is formatted; a `__repr__` may log without end


class JournalHandler(logging.Handler):
    """Each line is a `log` event: `level`, `logger`, `text`, with the traceback if there is one.

    `run` is what `eventlog.init` or `eventlog.open_run` returned. Lines logged while a line is
    formatted, by a value's own `__repr__`, come after it. Lines of this package's own loggers are
    left out: the journal has its own events for what happens to it.
    """

    def __init__(
        self, run: eventlog.ActiveRun | eventlog.Session, level: int | str = logging.INFO
    ) -> None:
        super().__init__(level)
        self._session = run.session if isinstance(run, eventlog.ActiveRun) else run
        self._of_thread = _OfThread()

    def createLock(self) -> None:
        """No lock: `append` has its own, and code of the program runs while a line is formatted."""
        self.lock: Any = _NoLock()

    def emit(self, record: logging.LogRecord) -> None:
        if self._session is None or record.name.partition(".")[0] == "eventlog":
            return
        thread = self._of_thread
        thread.n_nested += thread.is_busy
        if thread.is_busy:  # called within this method, in the same thread
            if thread.n_nested <= NESTED_MAX:
                thread.waiting.append(record)
            return
        thread.is_busy, thread.n_nested = True, 0
        try:
            self._write(record)
            while thread.waiting:
                self._write(thread.waiting.pop(0))
        finally:
            thread.waiting.clear()
            thread.is_busy = False

    def _write(self, record: logging.LogRecord) -> None:
        try:
            text = self.format(record)
            assert self._session is not None
            self._session.log("log", level=record.levelname, logger=record.name, text=text)
        except Exception as error:  # such as arguments that do not fit the message
            if is_interruption(error):
                raise
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:
        """As in `logging`: a traceback on stderr, which may be closed."""
        with contextlib.suppress(Exception):
            super().handleError(record)


class _OfThread(threading.local):
    """The state of one thread in a handler."""

    def __init__(self) -> None:
        self.is_busy, self.n_nested = False, 0
        self.waiting: list[logging.LogRecord] = []


class _NoLock(contextlib.nullcontext[None]):
    """A lock for `logging` that does nothing."""

    def acquire(self) -> None:
        pass

    def release(self) -> None:
        pass
