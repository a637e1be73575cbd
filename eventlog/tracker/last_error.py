"""The exception that ended the program; in IPython and notebooks the one that ended the last cell.

IPython keeps the exception of a cell in `sys.last_value` when later cells have succeeded.
"""

import sys
from typing import Any, Protocol
from weakref import WeakSet

from eventlog.interruption import ignoring

_cell_error: BaseException | None = None
_has_cell_ended = False


class Watcher(Protocol):
    """A run that learns how each cell ends."""

    def note_cell(self, error: BaseException | None) -> None: ...


_watchers: WeakSet[Watcher] = WeakSet()


def watch_cells(watcher: Watcher) -> None:
    """Note the outcome of each cell from now on, if this is IPython."""
    _watchers.add(watcher)
    with ignoring(Exception):  # another version of IPython
        if "IPython" in sys.modules:
            shell = sys.modules["IPython"].get_ipython()
            if shell is not None:
                shell.events.register("post_run_cell", _note_outcome)


def _note_outcome(result: Any) -> None:
    global _cell_error, _has_cell_ended
    if result is not None:  # None: IPython itself failed
        before, during = result.error_before_exec, result.error_in_exec
        _cell_error, _has_cell_ended = during if before is None else before, True
        for watcher in list(_watchers):
            watcher.note_cell(_cell_error)


def last_error() -> BaseException | None:
    """What ended the last cell, or where no cell has ended what Python reported last."""
    return _cell_error if _has_cell_ended else getattr(sys, "last_value", None)
