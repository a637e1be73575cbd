"""Whether a run that `finish()` closed as completed ended by what then ended its program.

`finish()` in an `except` does not tell what the block does then. The program's end does: it ends by
the exception that was being handled, by one that was raised meanwhile, or with an exit code.

What stays unknown: the run is completed, whatever ends the program, if another run has begun
since, if `os._exit` or a signal ends the program, or if `finish()` was called behind the `except`
and the program then raises an exception. An exit code tells nothing of a run that was not finished
in a block that handles an exception, if the program has had other runs.
"""

import atexit
import os
import sys
from collections.abc import Callable
from types import FrameType

from eventlog.tracker import exit_code
from eventlog.tracker.handling import Handled
from eventlog.tracker.last_error import last_error
from eventlog.tracker.received import Key, Place, SignalReceived, key_of, places_of, with_contexts

_GENERATOR = 0x20  # inspect.CO_GENERATOR

_n_begun = 0
_correct: Callable[[], None] | None = None


def note_begin() -> None:
    """A run begins in this process: the end of the program tells nothing of those before."""
    global _n_begun, _correct
    _n_begun, _correct = _n_begun + 1, None


def at_end(correct: Callable[[], None]) -> None:
    """Have `correct` called at the end of the program, unless another run begins."""
    global _correct
    atexit.unregister(_at_exit)
    atexit.register(_at_exit)
    _correct = correct


def _at_exit() -> None:
    if _correct is not None:
        _correct()


class Ending:
    """What was going on when `finish()` was called, without a reference to it."""

    def __init__(self, handled_before: Handled) -> None:
        """`handled_before`: what was being handled when the run began."""
        error = sys.exc_info()[1]
        known = {key[:2] for key in handled_before}
        self._pid = os.getpid()
        self._handled: object = None
        self._closed_at: Place | None = None
        if error is not None and (id(error), id(type(error))) not in known:
            self._handled = key_of(error)
            if isinstance(error, GeneratorExit):
                self._closed_at = _consumer()

    def failure(self, earlier: Key | None) -> BaseException | None:
        """What ended the program and therefore the run; None: nothing, or it cannot be known.

        `earlier`: the key of the exception that was the last when the run began.
        """
        if os.getpid() != self._pid:
            return None
        error = last_error()
        if error is not None and key_of(error) != earlier:
            return error if self._ended_by(error) else None
        error = exit_code.error()
        if isinstance(error, SignalReceived) and error.places:
            is_of_run = self._closed_at in error.places
        else:
            is_of_run = self._handled is not None or _n_begun == 1
        return error if is_of_run else None

    def _ended_by(self, error: BaseException) -> bool:
        if self._handled is None:
            return False
        return any(
            key_of(one) == self._handled or self._closed_at in places_of(one.__traceback__)
            for one in with_contexts(error)
        )


def _consumer() -> Place | None:
    """Where the function is that lets go of a generator, which is being closed: at the
    instruction that raised, if an exception is why."""
    frame: FrameType | None = sys._getframe()
    while frame is not None and not frame.f_code.co_flags & _GENERATOR:
        frame = frame.f_back
    consumer = None if frame is None else frame.f_back
    return None if consumer is None else (id(consumer.f_code), consumer.f_lasti)
