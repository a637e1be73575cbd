"""The exception that is being handled, and whether it goes on after that.

`run.finish()` in a `finally` does not say how the run ended. In a `finally` or a `with`, an
exception goes on when the block has ended, unless the block returns or breaks whatever happens
after `run.finish()`; in an `except` it does not, unless the block raises whatever happens, or exits
with an error: `sys.exit(1)`, `exit(1)`, `os._exit(1)`. Python does not say which block handles an
exception, its bytecode does. What a function does that the block calls is unknown, and an exit with
a code that is not written there.
"""

import dis
import sys
from bisect import bisect_right
from collections.abc import Iterator
from functools import cached_property, lru_cache
from types import CodeType, FrameType

from eventlog.interruption import ignoring, signal_being_handled
from eventlog.tracker.exit_code import INTERRUPTED, exit_status
from eventlog.tracker.received import SignalReceived

_MATCHES = frozenset(("CHECK_EXC_MATCH", "CHECK_EG_MATCH"))
"""The instructions that compare an exception with the class of an `except`."""
RAISES = frozenset(("RAISE_VARARGS", "RERAISE"))
_LEAVES = frozenset(("POP_EXCEPT", "RETURN_VALUE", "RETURN_CONST"))
"""The instructions with which a block ends that does not raise."""
_EXITS = frozenset(("exit", "_exit", "quit"))
LOADS = ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_METHOD", "LOAD_ATTR", "LOAD_DEREF", "LOAD_FAST")
_BEFORE_A_CALL = frozenset(("PUSH_NULL", "PRECALL"))
_JUMPS_ALWAYS = frozenset(("JUMP_FORWARD", "JUMP_BACKWARD", "JUMP_BACKWARD_NO_INTERRUPT"))


Handled = frozenset[tuple[int, ...]]
"""Exceptions that were being handled at some time, and by which blocks, and the signal; without
references."""


def handled_now() -> Handled:
    """The exceptions that are being handled, for `exception_that_goes_on`."""
    with ignoring(Exception):
        number = signal_being_handled()
        keys = {_key(error, block) for error, block in _handled()}
        return frozenset(keys if number is None else {*keys, (number,)})
    return frozenset()


def exception_that_goes_on(earlier: Handled = frozenset()) -> BaseException | None:
    """The exception that is being handled, if it will leave the block that handles it.

    That may be in a block around the innermost one. None also where it cannot be known.
    KeyboardInterrupt and SystemExit end a run in any block, a signal whose handler calls this in
    any function. `earlier`: what was being handled when the run began, also by the parent of a
    forked process: that does not end it.
    """
    with ignoring(Exception):  # an interpreter with another bytecode
        number = signal_being_handled()
        if number is not None and (number,) not in earlier:
            return SignalReceived(number)
        for error, block in _handled():
            if isinstance(error, GeneratorExit) or (earlier and _key(error, block) in earlier):
                continue
            if isinstance(error, KeyboardInterrupt | SystemExit) or block.lets_go_on():
                return error
    return None


def is_of_ctrl_c(error: BaseException | None) -> bool:
    """Whether it is a KeyboardInterrupt, or the CancelledError that asyncio makes of Ctrl-C."""
    runners = sys.modules.get("asyncio.runners")
    if runners is None or not isinstance(error, runners.exceptions.CancelledError):
        return isinstance(error, KeyboardInterrupt)
    with ignoring(Exception):  # another version of asyncio
        for frame, _ in _callers(sys._getframe()):
            if frame.f_code is runners.Runner.run.__code__:
                return bool(frame.f_locals["self"]._interrupt_count > 0)
    return False


def cause_of_cancel(error: BaseException | None) -> BaseException | None:
    """What ends asyncio's runner, which therefore cancels the tasks, in place of that error; None
    if the program's main coroutine has returned."""
    runners = sys.modules.get("asyncio.runners")
    if runners is not None and isinstance(error, runners.exceptions.CancelledError):
        with ignoring(Exception):  # another version of asyncio
            for frame, _ in _callers(sys._getframe()):
                if frame.f_code is runners.Runner.__exit__.__code__:
                    cause: BaseException | None = frame.f_locals["exc_val"]
                    return cause
    return error


def _key(error: BaseException, block: "_Block") -> tuple[int, int, int, int]:
    """What tells an exception from another one that later has its place in memory."""
    return id(error), id(type(error)), id(block.code.code), block.cleanup


def _handled() -> "Iterator[tuple[BaseException, _Block]]":
    """The exceptions that are being handled, the innermost first, and by which block."""
    frames = dict(_callers(sys._getframe()))
    blocks: dict[FrameType, list[_Block]] = {}
    seen: set[int] = set()
    error = sys.exc_info()[1]
    place = None if error is None else _handler_of(error, frames)
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if place is not None and place[0] in frames:
            frame, at = place
            around = blocks.setdefault(frame, _blocks_around(frame.f_code, frames[frame]))
            of_error = _blocks_around(frame.f_code, at)[0].cleanup
            active = [block for block in around if block.cleanup == of_error]
            if active:
                yield error, active[0]
        place = _context_of(error)
        error = error.__context__


def _handler_of(error: BaseException, frames: dict[FrameType, int]) -> tuple[FrameType, int] | None:
    """The function that handles an exception, and where it is: its traceback begins there, unless
    a function that has ended since raised it once more."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame not in frames:
        trace = trace.tb_next
    if trace is None or not _blocks_around(trace.tb_frame.f_code, frames[trace.tb_frame]):
        return None
    return trace.tb_frame, frames[trace.tb_frame]


def _context_of(error: BaseException) -> tuple[FrameType, int] | None:
    """Where an exception was raised in the block that was handling its context: in which function,
    and at which instruction. That block may have been left since."""
    places = []
    trace = error.__traceback__
    while trace is not None:
        places.append((trace.tb_frame, trace.tb_lasti))
        trace = trace.tb_next
    callers = _callers(places[0][0].f_back) if places else iter(())
    for frame, at in (*reversed(places), *callers):
        if Code.of(frame.f_code).cleanup_around(at) is not None:
            return frame, at
    return None


def _callers(frame: FrameType | None) -> Iterator[tuple[FrameType, int]]:
    """Functions that are running, the innermost first, and where they are."""
    while frame is not None:
        yield frame, frame.f_lasti
        frame = frame.f_back


def _blocks_around(code: CodeType, at: int) -> "list[_Block]":
    """The blocks of exceptions around an instruction of a function, the innermost first."""
    of = Code.of(code)
    blocks: list[_Block] = []
    cleanup = of.cleanup_around(at)
    while cleanup is not None:
        blocks.append(_Block(of, cleanup, at, len(blocks)))
        cleanup = of.cleanup_around(cleanup)
    return blocks


class Code:
    """The instructions of a function, and where exceptions go in it."""

    @staticmethod
    @lru_cache(maxsize=16)
    def of(code: CodeType) -> "Code":
        return Code(code)

    def __init__(self, code: CodeType) -> None:
        self.code = code
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
                target = self.cleanup_around(target)
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
        """What may be executed from these places on until the block is left, if nothing but a
        `raise` raises: names of instructions. A loop that never ends has no way out.

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
            handler = self._handler_of_raise(at)
            if handler is not None:
                ways.append((handler, n + 1))
                continue
            if self.is_raise(at):
                names.add("RAISE_VARARGS")
                continue
            names.add(self.all[at].opname)
            ways += [(after, n) for after in self.next(at)]
        return names

    def _handler_of_raise(self, at: int) -> int | None:
        """The `except` or `finally` within a block to which a `raise` there goes. A `with` counts
        as one that stops no exception."""
        target = self._target(self.all[at].offset)
        if target is None or not self.is_raise(at):
            return None
        place = self.place(target)
        first, second = self.all[place].opname, self.all[place + 1].opname
        return place if first == "PUSH_EXC_INFO" and second != "WITH_EXCEPT_START" else None

    def is_raise(self, at: int) -> bool:
        """Whether a `raise` is there, or a call such as `sys.exit(1)` begins. The exit code of a
        signal is no error: how the run ends is then known at the exit."""
        if self.all[at].opname == "RAISE_VARARGS":
            return True
        if self.all[at].argval not in _EXITS or self.all[at].opname not in LOADS:
            return False
        after = [one for one in self.all[at + 1 : at + 5] if one.opname not in _BEFORE_A_CALL]
        is_call = len(after) > 1 and after[1].opname.startswith("CALL")
        if not is_call or after[0].opname not in ("LOAD_CONST", "LOAD_SMALL_INT"):
            return False
        return after[0].argval not in INTERRUPTED and exit_status(after[0].argval) != 0

    def place(self, offset: int) -> int:
        """Which instruction is at an offset, or has its cache there."""
        return bisect_right(self._offsets, offset) - 1

    def next(self, at: int) -> list[int]:
        instruction = self.all[at]
        if instruction.opname in RAISES or instruction.opname in _LEAVES:
            return []
        places = [] if instruction.opname in _JUMPS_ALWAYS else [at + 1]
        if instruction.opcode in dis.hasjrel or instruction.opcode in dis.hasjabs:
            places.append(self.place(instruction.argval))
        return places


class _Block:
    """An `except`, `finally` or `with` block that handles an exception, and where it is now."""

    def __init__(self, code: Code, cleanup: int, now: int, n_inside: int) -> None:
        self.code, self.cleanup = code, cleanup
        self._now, self._n_inside = now, n_inside

    def lets_go_on(self) -> bool:
        """Whether the exception, or another one instead of it, leaves the block. Where the block
        may end either way, that of a `finally` does, that of an `except` does not."""
        after = self.code.next(self.code.place(self._now))
        ways = self.code.flow(after, self._n_inside)
        may_raise, may_not = not RAISES.isdisjoint(ways), not _LEAVES.isdisjoint(ways)
        return may_raise and not may_not if self._is_except() else may_raise or not may_not

    def _is_except(self) -> bool:
        code = self.code
        start = next(at for at in code.handlers if code.cleanup_around(at) == self.cleanup)
        first = code.place(start) + 1
        is_bare = code.all[first].opname == "POP_TOP"
        return is_bare or not _MATCHES.isdisjoint(code.flow([first]))
