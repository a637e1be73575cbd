"""Exceptions that came from outside while our code ran: a signal handler's, another thread's.

A watchdog raises TimeoutError, which is an OSError, between any two bytecodes. It must reach the
training loop, and must not pass for what a disk or a value's `__repr__` did.
"""

import signal
from collections.abc import Callable
from types import CodeType, TracebackType
from typing import Any

_RAISED_HERE = frozenset(("RAISE_VARARGS", "RERAISE"))
_RAISED_BY_C_WITHOUT_ARGUMENTS = (StopIteration, StopAsyncIteration, MemoryError)


def is_interruption(error: BaseException | None) -> bool:
    """Whether `error` was raised by a signal handler, or set by another thread.

    A signal handler's frame is in the traceback. What `PyThreadState_SetAsyncExc` sets has no
    arguments and appears at an instruction that raises nothing.
    """
    if error is None:
        return False
    if not isinstance(error, Exception):
        return True  # KeyboardInterrupt, SystemExit: never ours
    traceback = error.__traceback__
    if traceback is None:
        return False
    last = traceback
    handlers = _handlers()
    while True:
        if last.tb_frame.f_code in handlers:
            return True
        if last.tb_next is None:
            break
        last = last.tb_next
    if error.args or isinstance(error, _RAISED_BY_C_WITHOUT_ARGUMENTS):
        return False
    from dis import opname  # milliseconds that nobody else need pay

    return opname[last.tb_frame.f_code.co_code[last.tb_lasti]] not in _RAISED_HERE


def _handlers() -> set[CodeType]:
    """The code of the signal handlers that this process has."""
    found = set()
    for number in signal.valid_signals():
        handler = signal.getsignal(number)
        if callable(handler) and not isinstance(handler, signal.Handlers):
            code = _code(handler)
            if code is not None:
                found.add(code)
    return found


def _code(handler: Callable[..., Any]) -> CodeType | None:
    handler = getattr(handler, "func", handler)  # functools.partial
    handler = getattr(handler, "__func__", handler)  # a bound method
    if not hasattr(handler, "__code__"):
        handler = getattr(type(handler).__call__, "__func__", type(handler).__call__)
    code = getattr(handler, "__code__", None)
    return code if isinstance(code, CodeType) else None


class ignoring:
    """Like `contextlib.suppress`, but lets interruptions pass."""

    def __init__(self, *kinds: type[BaseException]) -> None:
        self._kinds = kinds

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        return isinstance(error, self._kinds) and not is_interruption(error)
