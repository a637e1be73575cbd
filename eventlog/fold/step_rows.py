"""Rows ordered by step. Steps may come in any order; the time for each does not grow with them.

Rows are kept in blocks. Nearly always a step is later than all before it and its row goes to the
end of the last block, however long that is. A block is split when an earlier step goes into it.
"""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from itertools import chain
from operator import itemgetter

_BLOCK = 512  # rows in a block after a split: an insertion moves at most twice as many
_first = itemgetter(0)


class StepRows:
    """One encoded row for each step, ascending by step."""

    def __init__(self) -> None:
        self._steps: list[array[int]] = []  # of each block; no block is empty
        self._rows: list[list[bytes]] = []
        self._n_rows = 0

    def __len__(self) -> int:
        return self._n_rows

    @property
    def last_step(self) -> int:
        """The greatest step; there must be a row."""
        return self._steps[-1][-1]

    def goes_on(self, step: int) -> bool:
        """Whether there are rows, all of them before `step`."""
        return bool(self._steps) and step > self._steps[-1][-1]

    def get(self, step: int) -> bytes | None:
        """The row of `step`, if there is one."""
        if not self._steps or step > self._steps[-1][-1]:
            return None
        k, at, is_there = self._place(step)
        return self._rows[k][at] if is_there else None

    def put(self, step: int, row: bytes) -> None:
        """Set the row of `step`."""
        if not self._steps:
            self.extend(array("q", (step,)), [row])
            return
        if step > self._steps[-1][-1]:
            self._steps[-1].append(step)
            self._rows[-1].append(row)
            self._n_rows += 1
            return
        k, at, is_there = self._place(step)
        if is_there:
            self._rows[k][at] = row
            return
        if len(self._steps[k]) >= 2 * _BLOCK:
            self._split(k)
            k, at, _ = self._place(step)
        self._steps[k].insert(at, step)
        self._rows[k].insert(at, row)
        self._n_rows += 1

    def extend(self, steps: "array[int]", rows: list[bytes]) -> None:
        """Add rows of steps that ascend and are later than all there are."""
        if not self._steps:
            self._steps.append(array("q"))
            self._rows.append([])
        self._steps[-1].extend(steps)
        self._rows[-1].extend(rows)
        self._n_rows += len(steps)

    def cut(self, from_step: int) -> list[tuple[int, bytes]]:
        """Remove the rows of `from_step` and later, and return them, ascending."""
        removed: list[list[tuple[int, bytes]]] = []
        while self._steps and self._steps[-1][-1] >= from_step:
            at = bisect_left(self._steps[-1], from_step)
            removed.append([*zip(self._steps[-1][at:], self._rows[-1][at:], strict=True)])
            del self._steps[-1][at:], self._rows[-1][at:]
            if not at:
                del self._steps[-1], self._rows[-1]
        self._n_rows -= sum(map(len, removed))
        return [*chain.from_iterable(reversed(removed))]

    def rows(self) -> list[bytes]:
        """All rows."""
        return [*chain.from_iterable(self._rows)]

    def items(self) -> Iterator[tuple[int, bytes]]:
        """All steps and their rows."""
        for steps, rows in zip(self._steps, self._rows, strict=True):
            yield from zip(steps, rows, strict=True)

    def _place(self, step: int) -> tuple[int, int, bool]:
        """The block of `step`, its index there, and whether it has a row already."""
        k = max(0, bisect_right(self._steps, step, key=_first) - 1)
        steps = self._steps[k]
        at = bisect_left(steps, step)
        return k, at, at < len(steps) and steps[at] == step

    def _split(self, k: int) -> None:
        steps, rows = self._steps[k], self._rows[k]
        starts = range(0, len(steps), _BLOCK)
        self._steps[k : k + 1] = [steps[at : at + _BLOCK] for at in starts]
        self._rows[k : k + 1] = [rows[at : at + _BLOCK] for at in starts]
