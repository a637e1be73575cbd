"""Exceptions raised from outside while our code runs: by a signal handler or another thread.

A watchdog may raise TimeoutError, which is an OSError, between any two bytecodes. It must reach the
training loop and not be mistaken for an error of the disk or of a value's `__repr__`.
"""

import os
import signal
from collections.abc import Callable
from types import CodeType, TracebackType
from typing import Any

_HERE = os.path.dirname(__file__) + os.sep
_INTEGRATIONS = os.path.join(_HERE, "integrations", "")  # they call frameworks' code
_LIBRARY = os.path.dirname(os.__file__) + os.sep
_MODULES = frozenset(("builtins", "eventlog", "io", "json", "orjson", "re", "select", "zlib"))
"""The modules that define the exceptions which our own calls raise."""

_RAISED_HERE = frozenset(("RAISE_VARARGS", "RERAISE"))
_RAISE_NOTHING = frozenset(("RESUME", "JUMP_BACKWARD", "JUMP_ABSOLUTE", "NOP"))
_RAISED_BY_C_WITHOUT_ARGUMENTS = (StopIteration, StopAsyncIteration, MemoryError)


def is_interruption(error: BaseException | None) -> bool:
    """Whether `error` was raised by a signal handler, or set by another thread.

    A signal handler's frame is in the traceback. What `PyThreadState_SetAsyncExc` sets has no
    arguments and appears at an instruction other than a raise; in a value's own code only at one
    that cannot raise, since exceptions of C code may have no arguments either (`queue.Empty`).
    """
    if error is None:
        return False
    if not isinstance(error, Exception):
        return True  # KeyboardInterrupt and SystemExit are never ours
    traceback = error.__traceback__
    if traceback is None:
        return False
    last = traceback
    handlers = _handlers()
    is_users = False  # whether code of a value ran, such as its `__repr__`
    while True:
        is_users = is_users or _is_users(last.tb_frame.f_code)
        if last.tb_frame.f_code in handlers:
            return True
        if last.tb_next is None:
            break
        last = last.tb_next
    if isinstance(error, TimeoutError) and error.errno is None:
        return True  # a watchdog's: a system call's has a number
    is_ours = _is_ours(last.tb_frame.f_code.co_filename)
    is_known = type(error).__module__.partition(".")[0] in _MODULES
    if isinstance(error, _RAISED_BY_C_WITHOUT_ARGUMENTS):
        return False
    if error.args and (not is_ours or is_known):
        return False
    from dis import opname  # the import takes milliseconds

    instruction = opname[last.tb_frame.f_code.co_code[last.tb_lasti]]
    if is_users and not is_ours:
        return instruction in _RAISE_NOTHING  # at a call it may be the value's own
    return instruction not in _RAISED_HERE


def is_of_a_call(error: OSError) -> bool:
    """Whether `error` is from a system call of ours, and was not raised from outside."""
    return not is_interruption(error)


def came_from_elsewhere(error: BaseException) -> bool:
    """Whether the code that raised `error` is neither ours nor Python's: a signal handler's.

    Only valid if no other code of the program was called.
    """
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    if last is None:
        return False
    return _is_users(last.tb_frame.f_code)


def _is_users(code: CodeType) -> bool:
    """Whether it is the user's: neither ours nor Python's."""
    name = code.co_filename
    if _is_ours(name) or name.startswith("<frozen"):
        return False
    return not name.startswith(_LIBRARY) or "site-packages" in name


def _is_ours(name: str) -> bool:
    return name.startswith(_HERE) and not name.startswith(_INTEGRATIONS)


def _handlers() -> set[CodeType]:
    """The code objects of this process's signal handlers."""
    codes = set()
    for number in signal.valid_signals():
        handler = signal.getsignal(number)
        if callable(handler) and not isinstance(handler, signal.Handlers):
            code = _code(handler)
            if code is not None:
                codes.add(code)
    return codes


def _code(handler: Callable[..., Any]) -> CodeType | None:
    handler = getattr(handler, "func", handler)  # functools.partial
    handler = getattr(handler, "__func__", handler)  # a bound method
    if not hasattr(handler, "__code__"):
        handler = getattr(type(handler).__call__, "__func__", type(handler).__call__)
    code = getattr(handler, "__code__", None)
    return code if isinstance(code, CodeType) else None


class ignoring:
    """Like `contextlib.suppress`, but lets exceptions from outside pass."""

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
