"""The exception that is being handled, and whether it goes on after that.

`run.finish()` in a `finally` does not say how the run ended. In a `finally` or a `with`, an
exception goes on when the block has ended; in an `except` it does not, unless the block raises
whatever happens after `run.finish()`. Python does not say which block handles an exception, its
bytecode does.
"""

import dis
import sys
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator
from functools import cached_property
from types import CodeType, FrameType

from eventlog.interruption import ignoring

_MATCHES = frozenset(("CHECK_EXC_MATCH", "CHECK_EG_MATCH"))
"""The instructions that compare an exception with the class of an `except`."""
_RAISES = frozenset(("RAISE_VARARGS", "RERAISE"))
_LEAVES = frozenset(("POP_EXCEPT", "RETURN_VALUE", "RETURN_CONST"))
"""The instructions with which a block ends that does not raise."""
_JUMPS_ALWAYS = frozenset(("JUMP_FORWARD", "JUMP_BACKWARD", "JUMP_BACKWARD_NO_INTERRUPT"))


Handled = frozenset[tuple[int, int, int, int]]
"""Exceptions that were being handled at some time, without references to them."""


def handled_now() -> Handled:
    """The exceptions that are being handled, for `exception_that_goes_on`."""
    with ignoring(Exception):
        return frozenset(_key(error) for error, _ in _handled())
    return frozenset()


def exception_that_goes_on(earlier: Handled = frozenset()) -> BaseException | None:
    """The exception that is being handled, if it will leave the block that handles it.

    That may be in a block around the innermost one. None also where it cannot be known.
    KeyboardInterrupt and SystemExit end a run in any block. `earlier`: what was being handled when
    the run began, also by the parent of a forked process: that does not end it.
    """
    with ignoring(Exception):  # an interpreter with another bytecode
        for error, block in _handled():
            if isinstance(error, GeneratorExit) or (earlier and _key(error) in earlier):
                continue
            if isinstance(error, KeyboardInterrupt | SystemExit) or block.lets_go_on():
                return error
    return None


def _key(error: BaseException) -> tuple[int, int, int, int]:
    """What tells an exception from another one that later has its place in memory."""
    trace = error.__traceback__
    assert trace is not None
    return id(error), id(type(error)), id(trace.tb_frame.f_code), trace.tb_lasti


def _handled() -> "Iterator[tuple[BaseException, _Block]]":
    """The exceptions that are being handled, the innermost first, and by which block.

    An exception has the one that was being handled as its context. That one may have been left
    since: then there is no block around for it.
    """
    frames = set(_frames(sys._getframe()))
    n_inside: Counter[FrameType] = Counter()
    seen: set[int] = set()
    error = sys.exc_info()[1]
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        frame = _handler_of(error, frames)
        if frame is not None:
            blocks = _blocks_around(frame)
            if n_inside[frame] < len(blocks):
                yield error, blocks[n_inside[frame]]
                n_inside[frame] += 1
        error = error.__context__


def _handler_of(error: BaseException, frames: set[FrameType]) -> FrameType | None:
    """The function that handles an exception: its traceback begins there, unless a function that
    has ended since raised it once more."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame not in frames:
        trace = trace.tb_next
    return None if trace is None else trace.tb_frame


def _frames(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


def _blocks_around(frame: FrameType) -> "list[_Block]":
    """The blocks of exceptions around where a function is, the innermost first."""
    code = _Code(frame.f_code)
    blocks: list[_Block] = []
    cleanup = code.cleanup_around(frame.f_lasti)
    while cleanup is not None:
        blocks.append(_Block(code, cleanup, frame.f_lasti, len(blocks)))
        cleanup = code.cleanup_around(cleanup)
    return blocks


class _Code:
    """The instructions of a function, and where exceptions go in it."""

    def __init__(self, code: CodeType) -> None:
        bytecode = dis.Bytecode(code)
        self._entries = bytecode.exception_entries  # type: ignore[attr-defined]
        self._starts = [entry.start for entry in self._entries]  # ascending, they do not overlap
        self.all = list(bytecode)
        self._offsets = [instruction.offset for instruction in self.all]

    @cached_property
    def handlers(self) -> list[int]:
        """Where the blocks begin that exceptions go to."""
        targets = sorted({entry.target for entry in self._entries})
        return [at for at in targets if self.all[self.place(at)].opname == "PUSH_EXC_INFO"]

    def cleanup_around(self, at: int) -> int | None:
        """Where an exception in the innermost block around an instruction goes: to `POP_EXCEPT`
        and `RERAISE`. None: there is no block of an exception around it."""
        target = self._target(at)
        while target is not None and not self._is_cleanup(target):
            if self.all[self.place(target)].opname == "PUSH_EXC_INFO":  # of a `try` in the block
                target = self.cleanup_around(target + 2)
            target = None if target is None else self._target(target)
        return target

    def _target(self, at: int) -> int | None:
        """Where an exception goes that is raised at an instruction; None: out of the function."""
        k = bisect_right(self._starts, at) - 1
        is_covered = k >= 0 and at < self._entries[k].end
        return self._entries[k].target if is_covered else None

    def _is_cleanup(self, target: int) -> bool:
        at = self.place(target)
        after = [instruction.opname for instruction in self.all[at : at + 3]]
        return after == ["COPY", "POP_EXCEPT", "RERAISE"]

    def flow(self, starts: list[int], n_inside: int = 0) -> set[str]:
        """What may be executed from these places on until the block is left, if nothing in it
        raises: names of instructions. A loop that never ends has no way out.

        `n_inside`: how many blocks within this one are left first.
        """
        names: set[str] = set()
        seen: set[tuple[int, int]] = set()
        ways = [(at, n_inside) for at in starts]
        while ways:
            at, n = way = ways.pop()
            if way in seen:
                continue
            seen.add(way)
            if self.all[at].opname == "POP_EXCEPT" and n:
                ways.append((at + 1, n - 1))
                continue
            names.add(self.all[at].opname)
            ways += [(after, n) for after in self.next(at)]
        return names

    def place(self, offset: int) -> int:
        """Which instruction is at an offset, or has its cache there."""
        return bisect_right(self._offsets, offset) - 1

    def next(self, at: int) -> list[int]:
        instruction = self.all[at]
        if instruction.opname in _RAISES or instruction.opname in _LEAVES:
            return []
        places = [] if instruction.opname in _JUMPS_ALWAYS else [at + 1]
        if instruction.opcode in dis.hasjrel or instruction.opcode in dis.hasjabs:
            places.append(self.place(instruction.argval))
        return places


class _Block:
    """An `except`, `finally` or `with` block that handles an exception, and where it is now."""

    def __init__(self, code: _Code, cleanup: int, now: int, n_inside: int) -> None:
        self._code, self._cleanup, self._now, self._n_inside = code, cleanup, now, n_inside

    def lets_go_on(self) -> bool:
        """Whether the exception, or another one instead of it, leaves the block."""
        if not self._is_except():
            return True
        after = self._code.next(self._code.place(self._now))
        ways = self._code.flow(after, self._n_inside)
        return not _RAISES.isdisjoint(ways) and _LEAVES.isdisjoint(ways)

    def _is_except(self) -> bool:
        code = self._code
        start = next(at for at in code.handlers if code.cleanup_around(at + 2) == self._cleanup)
        first = code.place(start) + 1
        is_bare = code.all[first].opname == "POP_TOP"
        return is_bare or not _MATCHES.isdisjoint(code.flow([first]))
