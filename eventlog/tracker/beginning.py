"""Where a run was begun, and whether an exception kept it from its `finish()`.

A sweep calls a function for each trial, which begins a run and finishes it, and handles what the
function raises: of that nothing is left when the next run begins, or the program ends. But if each
way through the function calls `finish` of its run, it did not end in one of these.

Unknown stays an exception in a function that begins a run and does not always finish it, because
it returns the run or finishes it on a condition; in a coroutine or a generator; and while the
function is running, unless it begins the next run at the same place.
"""

import dis
import sys
from types import CodeType, FrameType

from eventlog.interruption import ignoring, is_code_of_user
from eventlog.tracker.handling import RAISES, Code

_MODULES = ("eventlog", "wandb")
_SUSPENDS = 0x20 | 0x80 | 0x200  # generators and coroutines, as in `inspect`
_RETURNS = ("RETURN_VALUE", "RETURN_CONST")


class Beginning:
    """The function that calls `init`, and where in it, without a reference to its variables."""

    def __init__(self) -> None:
        frame: FrameType | None = sys._getframe()
        while frame is not None and not is_code_of_user(frame.f_code):
            frame = frame.f_back
        self._code = None if frame is None else frame.f_code
        self._at = 0 if frame is None else frame.f_lasti

    def was_left(self) -> bool:
        """Whether the function has certainly been left by an exception since, or the part of it
        that ends with `finish`; to be called if that was not called."""
        code = self._code
        if code is None or code.co_flags & _SUSPENDS:
            return False
        with ignoring(Exception):  # an interpreter with another bytecode
            has_ended = all(at == self._at for at in _running(code))
            return has_ended and _always_finishes(Code.of(code), self._at)
        return False


def _running(code: CodeType) -> list[int]:
    """Where functions with this code are, in all threads."""
    places = []
    for top in sys._current_frames().values():
        frame: FrameType | None = top
        while frame is not None:
            if frame.f_code is code:
                places.append(frame.f_lasti)
            frame = frame.f_back
    return places


def _always_finishes(code: Code, offset: int) -> bool:
    """Whether each way from a call of `init` on which nothing raises calls `finish` of what it
    returns before the function returns or calls `init` there again."""
    begin = code.place(offset)
    owners = {*_MODULES, _name_of_result(code, begin)}
    finishes = False
    seen, ways = {begin}, code.next(begin)
    while ways:
        at = ways.pop()
        one, before = code.all[at], code.all[at - 1]
        if one.argval == "finish" and _is_called(code, at) and before.argval in owners:
            finishes = True
        elif at == begin or one.opname in _RETURNS:
            return False
        elif at not in seen and one.opname not in RAISES and not code.is_raise(at):
            ways += [at + 1] if one.opname == "POP_EXCEPT" else code.next(at)
        seen.add(at)
    return finishes


def _is_called(code: Code, at: int) -> bool:
    """Whether the attribute loaded there is called; otherwise it may be passed on, to a timer.

    Of an imported module it is loaded as any value is, and the call needs a NULL on the stack.
    """
    load, module = code.all[at], code.all[at - 1]
    if load.opname == "LOAD_METHOD" or (sys.version_info >= (3, 12) and _has_flag(load)):
        return True
    beside = at + 1 if sys.version_info >= (3, 13) else at - 2
    has_null = module.opname == "LOAD_GLOBAL" and _has_flag(module)
    return load.opname == "LOAD_ATTR" and (has_null or code.all[beside].opname == "PUSH_NULL")


def _has_flag(load: dis.Instruction) -> bool:
    """Whether a LOAD_GLOBAL pushes a NULL, too; a LOAD_ATTR loads a method."""
    return load.opname in ("LOAD_GLOBAL", "LOAD_ATTR") and bool((load.arg or 0) & 1)


def _name_of_result(code: Code, call: int) -> str:
    """The variable or attribute that gets the result of a call."""
    for one in code.all[call + 1 : call + 4]:
        if one.opname.startswith("STORE_"):
            return str(one.argval)
        if not one.opname.startswith("LOAD_"):  # of the object whose attribute it is
            return ""
    return ""
