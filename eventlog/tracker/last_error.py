"""The exception that ended the program; in IPython and notebooks the one that ended the last cell.

IPython keeps the exception of a cell in `sys.last_value` when later cells have succeeded.
"""

import sys
from typing import Any

from eventlog.interruption import ignoring

_cell_error: BaseException | None = None
_has_cell_ended = False


def watch_cells() -> None:
    """Note the outcome of each cell from now on, if this is IPython; a second call does nothing."""
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


def last_error() -> BaseException | None:
    """What ended the last cell, or where no cell has ended what Python reported last."""
    return _cell_error if _has_cell_ended else getattr(sys, "last_value", None)
