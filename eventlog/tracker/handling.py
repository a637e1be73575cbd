"""The exception that is being handled, and whether it goes on after that.

`run.finish()` in a `finally` does not say how the run ended. In a `finally` or a `with`, an
exception goes on when the block has ended; in an `except` it does not, unless the block raises.
"""

import dis
import sys
from collections.abc import Iterable
from itertools import takewhile
from types import CodeType

from eventlog.interruption import ignoring

_MATCHES = frozenset(("CHECK_EXC_MATCH", "CHECK_EG_MATCH"))
"""The instructions that compare an exception with the class of an `except`."""


def exception_that_goes_on() -> BaseException | None:
    """The exception that is being handled, if it will leave the block that handles it.

    None also where that cannot be known. KeyboardInterrupt and SystemExit end a run in any block.
    """
    error = sys.exc_info()[1]
    if error is None or not isinstance(error, Exception):
        return None if isinstance(error, GeneratorExit) else error
    goes_on = False
    with ignoring(Exception):  # an interpreter with another bytecode
        goes_on = _goes_on(error)
    return error if goes_on else None


def _goes_on(error: Exception) -> bool:
    if error.__traceback__ is None:
        return False
    frame = error.__traceback__.tb_frame  # it begins where the exception is being handled
    block = _Block(frame.f_code, frame.f_lasti)
    names = [i.opname for i in block.instructions]
    if names[1] != "POP_TOP" and _MATCHES.isdisjoint(names):
        return True  # a `finally` or a `with`
    later = (i.opname for i in block.instructions if i.offset > frame.f_lasti)
    return "RAISE_VARARGS" in takewhile(lambda name: name not in _MATCHES, later)


class _Block:
    """The innermost `except`, `finally` or `with` block of exceptions around an instruction."""

    def __init__(self, code: CodeType, at: int) -> None:
        bytecode = dis.Bytecode(code)
        self._entries = bytecode.exception_entries  # type: ignore[attr-defined]
        self._all = {i.offset: i for i in bytecode}
        self._cleanup = self._cleanup_around(at)
        self.instructions = [*self._within()]

    def _target(self, at: int) -> int:
        """Where an exception goes that is raised at an instruction.

        Raises:
            ValueError: out of the function.
        """
        covering = [e for e in self._entries if e.start <= at < e.end]
        return max(covering, key=lambda e: e.depth).target if covering else _no_block()

    def _cleanup_around(self, at: int) -> int:
        """Where an exception in the block around an instruction goes: `POP_EXCEPT`, `RERAISE`."""
        target = self._target(at)
        while not self._is_cleanup(target):
            if self._all[target].opname == "PUSH_EXC_INFO":  # of a `try` in the block
                target = self._cleanup_around(target + 2)
            target = self._target(target)
        return target

    def _is_cleanup(self, target: int) -> bool:
        after = [i.opname for i in self._all.values() if i.offset >= target][:3]
        return after == ["COPY", "POP_EXCEPT", "RERAISE"]

    def _within(self) -> Iterable[dis.Instruction]:
        """The instructions of the block, from `PUSH_EXC_INFO` on; not those of blocks in it."""
        for instruction in self._all.values():
            first = instruction.opname == "PUSH_EXC_INFO"
            at = instruction.offset + 2 * first
            try:
                if self._cleanup_around(at) == self._cleanup:
                    yield instruction
            except ValueError:
                continue


def _no_block() -> int:
    raise ValueError
