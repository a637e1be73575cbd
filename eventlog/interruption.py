"""Exceptions raised from outside while our code runs: by a signal handler or another thread.

A watchdog may raise TimeoutError, which is an OSError, between any two bytecodes. It must reach the
training loop and not be mistaken for an error of the disk or of a value's `__repr__`.
"""

import _signal
import os
import re
import sys
from collections.abc import Callable
from itertools import chain, pairwise, repeat, starmap
from types import CodeType, FrameType, TracebackType
from typing import Any, TypeVar

_HERE = os.path.dirname(__file__) + os.sep
_INTEGRATIONS = os.path.join(_HERE, "integrations", "")  # they call frameworks' code
_LIBRARY = os.path.dirname(os.__file__) + os.sep
_MODULES = frozenset(("builtins", "eventlog", "io", "json", "orjson", "re", "select", "zlib"))
"""The modules that define the exceptions which our own calls raise."""

_CHECK_FOR_INTERRUPTIONS = (
    "CALL", "COMPARE_OP", "JUMP_BACKWARD", "POP_JUMP_BACKWARD", "PRECALL", "RESUME",
)  # fmt: skip
"""How the names of the instructions begin at which the interpreter runs signal handlers, and raises
what other threads set."""
_RAISE_NOTHING = frozenset(("RESUME", "JUMP_BACKWARD", "JUMP_ABSOLUTE", "NOP"))
_OPTIMIZED, _VARARGS = 1, 4  # inspect.CO_OPTIMIZED, CO_VARARGS
_NUMBER_OF_SIGNAL = re.compile(r"_+|s|sn|args|\w*(?:sig|num|no)\w*", re.IGNORECASE)
_UNSHARED = 3  # references to a frame's variables: its own, ours, and that of the call that counts
_RAISED_BY_C_WITHOUT_ARGUMENTS = (StopIteration, StopAsyncIteration, MemoryError)

# What an exception is, without the code of its class: a property `args` may itself raise.
_args = vars(BaseException)["args"].__get__
_traceback = vars(BaseException)["__traceback__"].__get__
_errno = vars(OSError)["errno"].__get__
_module = vars(type)["__module__"].__get__

_Result = TypeVar("_Result")


def of_value(call: Callable[..., _Result], *args: Any) -> _Result:
    """`call(*args)`, which runs code of a value, such as its `__repr__` or `item`.

    It is not called by an instruction that checks for interruptions. What the value itself raises,
    also in C, can then be distinguished from them.
    """
    (result,) = starmap(call, (args,))
    return result


def is_interruption(error: BaseException | None) -> bool:
    """Whether `error` was raised by a signal handler, or set by another thread.

    A signal handler's frame is in the traceback. What `PyThreadState_SetAsyncExc` sets appears at
    an instruction that checks for it; in a value's own code only at one that raises nothing else,
    since exceptions of C code may have no arguments either (`queue.Empty`).
    """
    if error is None:
        return False
    kind = type(error)
    if not issubclass(kind, Exception):
        return True  # KeyboardInterrupt and SystemExit are never ours
    last = entry = _traceback(error)
    if last is None:
        return False
    handlers = _handlers()
    is_users = False  # whether code of the user ran, such as a value's `__repr__`
    while True:
        frame = last.tb_frame
        if frame.f_code in handlers or _is_call_of_handler(frame):
            return True
        is_users = is_users or is_code_of_user(frame.f_code)
        entry = entry if is_users else last
        if last.tb_next is None:
            break
        last = last.tb_next
    may_be_watchdogs = _checks(entry) or (not _args(error) and _checks(last))
    if may_be_watchdogs and issubclass(kind, TimeoutError) and _errno(error) is None:
        return True  # a system call's has a number
    is_ours = _is_ours(last.tb_frame.f_code.co_filename)
    is_known = str(_module(kind)).partition(".")[0] in _MODULES
    if issubclass(kind, _RAISED_BY_C_WITHOUT_ARGUMENTS):
        return _instruction(last) in _RAISE_NOTHING
    if _args(error) and (not is_ours or is_known):
        return False
    if is_users and not is_ours:
        return _instruction(last) in _RAISE_NOTHING  # at a call it may be the value's own
    return _checks(last)


def _instruction(traceback: TracebackType) -> str:
    """The name of the instruction; a call's if the function it calls had not begun."""
    try:
        from dis import opname  # the import takes milliseconds
    except ImportError:  # the interpreter shuts down
        return ""
    code, at = traceback.tb_frame.f_code.co_code, traceback.tb_lasti
    while at > 0 and opname[code[at]] == "CACHE":  # behind the call
        at -= 2
    return opname[code[at]]


def _checks(traceback: TracebackType) -> bool:
    """Whether an exception from outside can appear there."""
    return _instruction(traceback).startswith(_CHECK_FOR_INTERRUPTIONS)


def signal_being_handled() -> int | None:
    """The signal whose handler called this, directly or not; 0: it is unknown which; None: none.

    Only arguments of functions that may be handlers are read. A handler that is no longer installed
    names `signal`, with which it has installed another one.
    """
    handlers = _handlers()
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        number = _signal_of(frame, handlers)
        if number is not None:
            return number
        frame = frame.f_back
    return None


def signal_that_raised(traceback: TracebackType | None) -> int | None:
    """The signal whose handler raised an exception, directly or not, as above. It may have been
    replaced since, by the one that was installed before."""
    handlers = _handlers()
    while traceback is not None:
        frame = traceback.tb_frame
        number = _signal_of(frame, handlers)
        if number is None:
            number = _signal_of_call(frame, by_name=True)
        if number is not None:
            return number
        traceback = traceback.tb_next
    return None


def _signal_of(frame: FrameType, handlers: set[CodeType]) -> int | None:
    """The signal for which a function was called. The program may call a handler itself, without a
    frame; a handler may delete its arguments."""
    is_handler = frame.f_code in handlers
    if not is_handler and "signal" not in frame.f_code.co_names:
        return None
    number = _signal_of_call(frame)
    if number is None and is_handler and is_code_of_user(frame.f_code):
        has_frame = any(type(value) is FrameType for value in _arguments(frame, deleted=frame))
        return 0 if has_frame else None
    return number


def _is_call_of_handler(frame: FrameType) -> bool:
    """Whether a frame has a signal handler's arguments: it may have been replaced since."""
    return _signal_of_call(frame) is not None


def _signal_of_call(frame: FrameType, *, by_name: bool = False) -> int | None:
    """The signal among a frame's arguments, if they are those of a signal handler.

    `by_name`: only if the number is called like one, and the frame is the caller's: functions that
    walk stacks have a number and a frame, too.
    """
    code = frame.f_code
    if not is_code_of_user(code) or not (code.co_argcount > 1 or code.co_flags & _VARARGS):
        return None
    numbers = _signal.valid_signals()
    names = chain(code.co_varnames[: code.co_argcount], repeat("args"))
    for name, (number, after) in zip(names, pairwise(_arguments(frame)), strict=False):
        if type(after) is FrameType and isinstance(number, int) and number in numbers:
            is_like_one = after is frame.f_back and _NUMBER_OF_SIGNAL.fullmatch(name)
            if is_like_one or not by_name:
                return int(number)
    return None


def _arguments(frame: FrameType, deleted: object = None) -> list[object]:
    """A function's positional arguments, as they are now."""
    code, variables = frame.f_code, frame.f_locals
    values = [variables.get(name, deleted) for name in code.co_varnames[: code.co_argcount]]
    if code.co_flags & _VARARGS:
        rest = variables.get(code.co_varnames[code.co_argcount + code.co_kwonlyargcount])
        values += rest if type(rest) is tuple else (deleted,)
    if code.co_flags & _OPTIMIZED and type(variables) is dict:
        # Until Python 3.12 it keeps them until the function ends. What `exec` made is only there,
        # and a function that is traced gets its variables back from it.
        is_traced = sys.gettrace() is not None or sys.getprofile() is not None
        if not is_traced and sys.getrefcount(variables) <= _UNSHARED:
            for name in (*code.co_varnames, *code.co_cellvars, *code.co_freevars):
                variables.pop(name, None)
    return values


def is_of_a_call(error: OSError) -> bool:
    """Whether `error` is from a system call of ours, and was not raised from outside."""
    return not is_interruption(error)


def came_from_elsewhere(error: BaseException) -> bool:
    """Whether the code that raised `error` is neither ours nor Python's: a signal handler's.

    Only valid if no other code of the program was called.
    """
    last = _traceback(error)
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    if last is None:
        return False
    return is_code_of_user(last.tb_frame.f_code)


def is_code_of_user(code: CodeType) -> bool:
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
    for number in _signal.valid_signals():
        handler: Any = _signal.getsignal(number)  # `signal`'s has an `except ValueError` around it
        if callable(handler):
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
        is_one = kind is not None and issubclass(kind, self._kinds)
        return is_one and not is_interruption(error)
