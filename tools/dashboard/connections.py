"""Limits on the connections of the page's server: how many, how slow, and how much they log.

A client that opens connections and never sends a request must not lock out others.
"""

import asyncio
import logging
import resource
import time
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

CONNECTIONS_MAX = 512
HEADER_S = 10.0  # for a request's headers to arrive
HEADER_BYTES = 64 << 10  # a request line has up to 64 runs and 300 metrics
LOG_LINES = 20  # of one logger in LOG_S; further ones are only counted
LOG_S = 60.0


def connection_limit() -> int:
    """How many connections are accepted: at most half of the files the process may open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    n_files = 4 * CONNECTIONS_MAX
    if soft < n_files:
        soft = n_files if hard == resource.RLIM_INFINITY else min(n_files, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return max(1, min(CONNECTIONS_MAX, soft // 2))


class LimitedProtocol(H11Protocol):
    """HTTP/1.1 with a limit on connections and on the time that a request's headers take.

    With too many connections the oldest idle one is closed for the new one; where all are being
    answered, the new one is closed.
    """

    connections_max = CONNECTIONS_MAX
    header_s = HEADER_S
    _header_timer: asyncio.TimerHandle | None = None
    _since = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._since = time.monotonic()
        if len(self.connections) > self.connections_max:
            idle = [c for c in self.connections if isinstance(c, LimitedProtocol) and c.is_idle]
            min(idle, key=lambda c: c._since).abort()  # the new one is idle, so there is one
        if not transport.is_closing():
            self._await_headers()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self.is_idle:
            self._await_headers()  # of the next request
        else:
            self._since = time.monotonic()
            self._stop_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        self._unset_keepalive_if_required()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        self._since = time.monotonic()
        super().on_response_complete()
        if self.conn.their_state is h11.SEND_BODY:  # no route expects a body
            self.transport.close()

    @property
    def is_idle(self) -> bool:
        """Whether no request is being answered."""
        return self.cycle is None or bool(self.cycle.response_complete)

    def abort(self) -> None:
        """Close the connection at once, and do not count it any more."""
        self._stop_timer()
        self.connections.discard(self)
        self.transport.abort()

    def _await_headers(self) -> None:
        """Start the time limit for the headers. Bytes that trickle in do not extend it."""
        if self._header_timer is None:
            self._header_timer = self.loop.call_later(self.header_s, self.abort)

    def _stop_timer(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None


class LogLimit(logging.Filter):
    """Passes a limited number of a logger's lines a minute, and says how many it dropped."""

    def __init__(self) -> None:
        super().__init__()
        self._start, self._n = -LOG_S, 0

    def filter(self, record: logging.LogRecord) -> bool:
        now = time.monotonic()
        if now - self._start >= LOG_S:
            n_dropped = max(0, self._n - LOG_LINES)
            self._start, self._n = now, 0
            if n_dropped:
                record.msg = f"{record.getMessage()} ({n_dropped:,} more lines were dropped)"
                record.args = ()
        self._n += 1
        return self._n <= LOG_LINES


def limit_log(*names: str) -> None:
    """Limit how much clients can make these loggers write."""
    for name in names:
        logger: Any = logging.getLogger(name)
        if not any(isinstance(filter, LogLimit) for filter in logger.filters):
            logger.addFilter(LogLimit())
