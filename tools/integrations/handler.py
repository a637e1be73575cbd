"""Python's own `logging`: its lines beside the numbers, in the same journal.

logging.getLogger().addHandler(JournalHandler(run))
"""

import logging

import eventlog


class JournalHandler(logging.Handler):
    """Each line is a `log` event: `level`, `logger`, `text`, with the traceback if it has one.

    `run` is what `eventlog.init` or `eventlog.open_run` gave.
    """

    def __init__(
        self, run: eventlog.ActiveRun | eventlog.Session, level: int | str = logging.INFO
    ) -> None:
        super().__init__(level)
        self._session = run.session if isinstance(run, eventlog.ActiveRun) else run

    def emit(self, record: logging.LogRecord) -> None:
        if self._session is None:
            return
        try:
            text = self.format(record)
        except Exception:  # arguments that do not fit the message: logging's own rule
            self.handleError(record)
            return
        self._session.log("log", level=record.levelname, logger=record.name, text=text)
