"""The exit code of this program, for functions that `atexit` calls, which do not get it.

A program that raises SystemExit(3), in whatever way, did not complete. When a SystemExit ends a
program, the interpreter reads its `code` with no Python frame below: only then can the code be
known. So `SystemExit.code`, and that of each class derived from it that has its own, is replaced by
a descriptor that notes such a read and otherwise behaves as before. If that fails, the code is
unknown.
"""

import gc
import operator
import struct
import sys
from collections.abc import Iterable
from types import TracebackType
from typing import Any

from eventlog.interruption import ignoring
from eventlog.tracker.click_exit import is_aborted
from eventlog.tracker.received import signal_behind, tracebacks_apart, with_contexts
from eventlog.tracker.sys_exit import replace_exit
from eventlog.write.messages import error_text

INTERRUPTED = (130, 143)
"""Exit codes of shells for SIGINT and SIGTERM, used by programs too."""
_LONG_MAX = (1 << 8 * struct.calcsize("l") - 1) - 1
_LONG_MIN = -_LONG_MAX - 1

_code: Any = None
_has_exited = False
_interruption: KeyboardInterrupt | None = None
_is_watched = False


def watch() -> None:
    """Start to watch for the exit code; a second call does nothing."""
    global _is_watched
    if _is_watched:
        return
    _is_watched = True
    if sys.implementation.name != "cpython":
        return
    try:
        import ctypes  # takes 10 ms; a Python that was built without libffi has none

        attributes = next(d for d in gc.get_referents(SystemExit.__dict__) if "code" in d)
        attributes["code"] = _Code(attributes["code"])
        attributes["__init_subclass__"] = classmethod(_watch_class)
        ctypes.pythonapi.PyType_Modified(ctypes.py_object(SystemExit))
        _watch_derived(SystemExit)
        if sys.version_info < (3, 12):
            replace_exit(lambda kind: ctypes.pythonapi.PyType_Modified(ctypes.py_object(kind)))
    except Exception:  # an interpreter that keeps its attributes elsewhere
        return


class _Code:
    """What a class has as `code`, with a note of the interpreter's own read of it."""

    def __init__(self, own: Any) -> None:
        self._own, kind = own, type(own)
        self._is_data = hasattr(kind, "__set__") or hasattr(kind, "__delete__")
        self.__doc__ = getattr(own, "__doc__", None)

    def __get__(self, error: SystemExit | None, kind: type[SystemExit]) -> Any:
        own = self._own
        if error is not None and not self._is_data and "code" in vars(error):
            code = vars(error)["code"]
        else:
            get = getattr(type(own), "__get__", None)
            code = own if get is None else get(own, error, kind)
        if error is not None and sys._getframe().f_back is None:
            note(error, code)
        return code

    def __set__(self, error: SystemExit, code: Any) -> None:
        if self._is_data:
            self._own.__set__(error, code)
        else:
            vars(error)["code"] = code

    def __delete__(self, error: SystemExit) -> None:
        if self._is_data:
            self._own.__delete__(error)
        elif vars(error).pop("code", self) is self:
            raise AttributeError("code")


def _watch_class(kind: type[SystemExit]) -> None:
    """A class derived from SystemExit may have its own `code`: a value, a property, a slot."""
    own = vars(kind).get("code", _watch_class)
    if own is not _watch_class and not isinstance(own, _Code):
        with ignoring(Exception):  # its metaclass forbids it
            kind.code = _Code(own)  # type: ignore[assignment]


def _watch_derived(kind: type[SystemExit]) -> None:
    for derived in type.__subclasses__(kind):
        _watch_class(derived)
        _watch_derived(derived)


def note(error: SystemExit, code: Any) -> None:
    """The program exits with this code, whatever is raised here: that would take its place."""
    global _code, _has_exited, _interruption
    _code, _has_exited = code, True
    try:
        _interruption = interruption_behind(error, code, tracebacks_apart(error))
    except BaseException:  # by a signal handler, too
        _interruption = None


def interruption_behind(
    error: SystemExit, code: Any, apart: Iterable[TracebackType] = ()
) -> KeyboardInterrupt | None:
    """The signal or Ctrl-C because of which a program exits: its handler does so, or the program
    does with an error while it handles it. `apart`: as for `signal_behind`."""
    with ignoring(Exception):  # of an unusual class
        received = signal_behind(error, f"exit code {exit_status(code)}", apart)
        if received is not None:
            return received
        if exit_status(code) and any(map(is_aborted, (*apart, error.__traceback__))):
            return KeyboardInterrupt()
        for one in with_contexts(error):
            if isinstance(one, SystemExit) or exit_status(code):
                received = signal_behind(one, error_text(one))
                if received is not None:
                    received.places = []
                    return received
                if isinstance(one, KeyboardInterrupt):
                    return KeyboardInterrupt()
    return None


def has_exited() -> bool:
    """Whether a SystemExit ends the program, with whatever code."""
    return _has_exited


def exit_status(code: Any) -> int:
    """The status that a shell sees if a program exits with `code`: 0 is success."""
    if code is None:
        return 0
    if not issubclass(type(code), int):
        return 1
    return int.__and__(code, 0xFF) if _LONG_MIN <= int(code) <= _LONG_MAX else 255


def status_of(code: Any) -> int:
    """The same for an argument: any whole number is a code, numpy's too."""
    with ignoring(Exception):  # not a number: a message, None, any class
        code = operator.index(code)
    return exit_status(code)


def error() -> BaseException | None:
    """The exit of the program, if it is no success; the signal or Ctrl-C that is why, if any."""
    return _interruption or (SystemExit(_code) if exit_status(_code) else None)
