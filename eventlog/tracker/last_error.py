"""The exception that ended the program; in IPython and notebooks the one that ended the last cell.

IPython keeps the exception of a cell in `sys.last_value` when later cells have succeeded. So does
Python at its prompt that of a line: there it tells how a run ends only if it came out of a function
of the program, or if the line itself logs.
"""

import os
import sys
from traceback import walk_tb
from types import TracebackType
from typing import Any, Protocol
from weakref import WeakSet

from eventlog.interruption import ignoring, is_code_of_user
from eventlog.tracker.received import Key, key_of

_PACKAGES = "-packages" + os.sep  # `site-packages`, or `dist-packages` of a distribution
_cell_error: BaseException | None = None
_has_cell_ended = False
_known: Key | None = None  # `sys.last_value` at the end of the cell before
_error_of_program: BaseException | None = None  # not of a line at a prompt
_are_lines_watched = False


class Watcher(Protocol):
    """A run that learns how each cell ends."""

    def note_cell(self, error: BaseException | None) -> None: ...


_watchers: WeakSet[Watcher] = WeakSet()


def watch_cells(watcher: Watcher) -> None:
    """Note the outcome of each cell from now on: in IPython, or of a line at a prompt."""
    global _known
    with ignoring(Exception):  # another version of IPython
        if "IPython" in sys.modules:
            shell = sys.modules["IPython"].get_ipython()
            if shell is not None:
                if not _watchers:
                    _known = key_of(reported_error())
                _watchers.add(watcher)
                shell.events.register("post_run_cell", _note_outcome)
                return
    if sys.flags.inspect or hasattr(sys, "ps1"):
        _watch_lines()


def _note_outcome(result: Any) -> None:
    global _cell_error, _has_cell_ended, _known
    if result is not None:  # None: IPython itself failed
        before, during = result.error_before_exec, result.error_in_exec
        latest = reported_error()
        is_raised = latest is not None and latest.__traceback__ is not None
        if during is None and is_raised and key_of(latest) != _known:
            during = latest  # of the program of a `%run`
        _cell_error, _has_cell_ended = during if before is None else before, True
        _known = key_of(latest)
        for watcher in list(_watchers):
            watcher.note_cell(_cell_error)


def last_error() -> BaseException | None:
    """What ended the last cell, or where no cell has ended what Python reported last."""
    if _has_cell_ended:
        return _cell_error
    error = reported_error()
    return _error_of_program if error is None or _is_of_a_line(error) else error


def reported_error() -> BaseException | None:
    """What Python or IPython reported last, in whichever cell."""
    return getattr(sys, "last_value", None)


def _watch_lines() -> None:
    """Note at Python's prompt the last error that is not of a line alone."""
    global _are_lines_watched
    if _are_lines_watched:
        return
    _are_lines_watched, hook = True, sys.excepthook

    def note(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        global _error_of_program
        with ignoring(Exception):
            _error_of_program = _error_of_program if _is_of_a_line(error) else error
        hook(kind, error, trace)

    sys.excepthook = note


def _is_of_a_line(error: BaseException) -> bool:
    """Whether an exception is one of a line at a prompt, such as a misspelled name, or of a library
    that the line calls."""
    codes = [frame.f_code for frame, _ in walk_tb(error.__traceback__)]
    users = [code for code in codes if is_code_of_user(code)]  # without the prompt's own
    if not users:  # a line that cannot be compiled
        return hasattr(sys, "ps1")
    line, *called = users
    logs = any(name.startswith("log") for name in line.co_names)
    calls_program = any(_PACKAGES not in code.co_filename for code in called)
    return _is_line(line.co_filename) and not logs and not calls_program


def _is_line(filename: str) -> bool:
    """Whether code is a line at a prompt. A program that is read from stdin has the same name."""
    is_prompt = filename == "<stdin>" or filename.startswith("<python-input-")
    return filename == "<console>" or (is_prompt and hasattr(sys, "ps1"))
