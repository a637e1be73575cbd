"""Whether an exception ends a run because of a signal or Ctrl-C.

A signal handler that raises SystemExit or KeyboardInterrupt ends the program, with whatever exit
code. Another exception of a handler counts if the signal asks a program to end: SIGALRM may be a
time limit of the program's own, SIGCHLD a worker that died.
"""

import gc
import signal
import sys
from collections.abc import Iterable, Iterator
from types import FrameType, TracebackType

from eventlog.interruption import signal_that_raised

Place = tuple[int, int]
"""A function's code and an instruction in it."""
Key = tuple[int, int, Place | None]
"""An exception, without a reference to it."""
_YOUNG_MAX = 100_000  # objects; there are more if the program collects them by itself
_traceback = vars(BaseException)["__traceback__"].__get__  # a class may have another property
_ASKS_TO_END = frozenset(
    getattr(signal, f"SIG{name}", None)  # not every system has all of them
    for name in ("TERM", "INT", "HUP", "QUIT", "USR1", "USR2", "XCPU", "BREAK")
)


class SignalReceived(KeyboardInterrupt):
    """A signal whose handler ends the run; 0: it is unknown which.

    `places`: where the exception of the handler passed.
    """

    def __init__(self, number: int, reason: str = "in its handler") -> None:
        super().__init__(number)
        names = {0: "a signal"} | {one.value: one.name for one in signal.Signals}
        self.name = names.get(number, f"signal {number}")  # most real-time signals have no name
        self.reason = f"{self.name}, {reason}"
        self.places: list[Place] = []


def with_contexts(error: BaseException) -> Iterator[BaseException]:
    """An exception, and those that were being handled when it and they were raised."""
    seen: set[int] = set()
    one: BaseException | None = error
    while one is not None and id(one) not in seen:
        seen.add(id(one))
        yield one
        one = one.__context__


def places_of(trace: TracebackType | None) -> list[Place]:
    """Where an exception was raised, the innermost function last."""
    return [(id(one.tb_frame.f_code), one.tb_lasti) for one in _from(trace)]


def key_of(error: BaseException | None) -> Key | None:
    """What tells an exception from another one that later has its place in memory: an exception
    that is kept keeps the variables of all functions that it left."""
    if error is None:
        return None
    return id(error), id(type(error)), next(iter(reversed(places_of(error.__traceback__))), None)


def signal_behind(
    error: BaseException, text: str, apart: Iterable[TracebackType] = ()
) -> SignalReceived | None:
    """The signal whose handler raised an exception.

    `text`: what the exception is, for the reason. `apart`: tracebacks of which one may be its own.
    """
    is_exit = isinstance(error, SystemExit)
    for trace in (*apart, error.__traceback__):
        number = signal_that_raised(trace)
        if number is None or (number == 0 and not is_exit):
            continue
        if number in _ASKS_TO_END or isinstance(error, SystemExit | KeyboardInterrupt):
            is_named = is_exit or isinstance(error, KeyboardInterrupt)
            reason = "in its handler" if is_named else f"in its handler: {text}"
            received = SignalReceived(number, reason)
            if not number:
                received.reason = f"{text} in a signal handler"
            received.places = places_of(trace)
            return received
    return None


def tracebacks_apart(error: BaseException) -> list[TracebackType]:
    """Those of which one may be that of an exception that ends the program: until Python 3.12 the
    interpreter keeps apart from it where it passed since a block handled it last."""
    if sys.version_info >= (3, 12) or gc.get_count()[0] > _YOUNG_MAX:
        return []
    young = gc.get_objects(0) + gc.get_objects(1)  # nothing of the program ran since
    traces = [one for one in young if type(one) is TracebackType]
    errors = [one for one in young if issubclass(type(one), BaseException)]
    held = {id(one.tb_next) for one in traces} | {id(_traceback(one)) for one in errors}
    known = _traceback(error)
    apart = [
        one for one in traces if id(one) not in held and (known is None or known in _from(one))
    ]
    return apart if len(apart) < 2 else [one for one in apart if not _is_kept(one)]


def _is_kept(trace: TracebackType) -> bool:
    """Whether the program keeps a traceback, which is then not that of the exception that ends it:
    nothing but our lists and functions refers to that one."""
    running = set()
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        running.add(id(frame))
        frame = frame.f_back
    referrers = gc.get_referrers(trace)
    return any(type(one) is not list and id(one) not in running for one in referrers)


def _from(trace: TracebackType | None) -> Iterator[TracebackType]:
    while trace is not None:
        yield trace
        trace = trace.tb_next
