"""The tables of a run while it is folded: rows by step, iterations, columns with their means.

A run is folded again and again while it grows, so sums of blocks that are complete are stored, and
the time for a row does not grow with the rows before it.
"""

import math
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from itertools import chain, pairwise
from operator import itemgetter
from typing import Any

from eventlog.fold.rows import Row, Rows
from eventlog.format.events import KINDS, MFU_UNKNOWN
from eventlog.format.json_rows import encode_row, spaced
from eventlog.format.record import ANNOTATES, TRAILER_BYTES, Record
from eventlog.read.batch import MARKS, Batch

ROW_BLOCK = 512  # rows in a block after a split: an insertion moves at most twice as many
SUM_BLOCK = 4096  # values whose sum is stored
_first = itemgetter(0)

_DEFAULTS = KINDS["iter"].row
_LEADING = tuple(_DEFAULTS)  # the guide's fields first, whatever order they were logged in
_FIELDS_AT = len(b'"event":"iter",')


class StepRows:
    """One encoded row for each step, ascending by step. Steps may come in any order.

    Rows are kept in blocks. Nearly always a step is later than all before it and its row goes to
    the end. A block that is full is one text, a row a line, which needs half the memory of rows; it
    becomes a list again when one of its rows is looked up. A long list is split when an earlier
    step goes into it.
    """

    def __init__(self) -> None:
        self._steps: list[array[int]] = []  # of each block; no block is empty
        self._rows: list[list[bytes] | bytes] = []
        self._n_rows = 0

    def __len__(self) -> int:
        return self._n_rows

    @property
    def last_step(self) -> int:
        """The greatest step; there must be a row."""
        return self._steps[-1][-1]

    def ends_before(self, step: int) -> bool:
        """Whether there are rows, all of them before `step`."""
        return bool(self._steps) and step > self._steps[-1][-1]

    def get(self, step: int) -> bytes | None:
        """The row of `step`, if there is one."""
        if not self._steps or step > self._steps[-1][-1]:
            return None
        k, at, is_there = self._place(step)
        return self._opened(k)[at] if is_there else None

    def put(self, step: int, row: bytes) -> None:
        """Set the row of `step`."""
        if not self._steps or step > self._steps[-1][-1]:
            self._append(step, row)
            return
        k, at, is_there = self._place(step)
        if is_there:
            self._opened(k)[at] = row
            return
        if len(self._steps[k]) >= 2 * ROW_BLOCK:
            self._split(k)
            k, at, _ = self._place(step)
        self._steps[k].insert(at, step)
        self._opened(k).insert(at, row)
        self._n_rows += 1

    def _append(self, step: int, row: bytes) -> None:
        last = self._rows[-1] if self._rows else b""
        if isinstance(last, list) and len(last) >= ROW_BLOCK:
            self._rows[-1] = last = b"\n".join(last)
        if isinstance(last, list):
            self._steps[-1].append(step)
            last.append(row)
        else:
            self._steps.append(array("q", (step,)))
            self._rows.append([row])
        self._n_rows += 1

    def extend(self, steps: "array[int]", text: bytes) -> None:
        """Add rows, the lines of `text`, of steps that ascend and are later than all there are."""
        if steps:
            self._steps.append(steps[:])
            self._rows.append(text)
            self._n_rows += len(steps)

    def cut(self, from_step: int) -> list[tuple[int, bytes]]:
        """Remove the rows of `from_step` and later, and return them, ascending."""
        removed: list[list[tuple[int, bytes]]] = []
        while self._steps and self._steps[-1][-1] >= from_step:
            at = bisect_left(self._steps[-1], from_step)
            rows = self._opened(-1)
            removed.append([*zip(self._steps[-1][at:], rows[at:], strict=True)])
            del self._steps[-1][at:], rows[at:]
            if not at:
                del self._steps[-1], self._rows[-1]
        self._n_rows -= sum(map(len, removed))
        return [*chain.from_iterable(reversed(removed))]

    def between(self, from_step: int, before: int | None) -> list[tuple[int, bytes]]:
        """The rows from `from_step` on; those of `before` and later are not among them."""
        if not self._steps or from_step > self._steps[-1][-1]:
            return []
        found: list[tuple[int, bytes]] = []
        first, at, _ = self._place(from_step)
        for k in range(first, len(self._steps)):
            steps = self._steps[k]
            end = len(steps) if before is None else bisect_left(steps, before)
            found += zip(steps[at:end], _lines(self._rows[k])[at:end], strict=True)
            if end < len(steps):
                break
            at = 0
        return found

    def remove(self, step: int) -> None:
        """Remove the row of `step`; there must be one."""
        k, at, _ = self._place(step)
        del self._steps[k][at], self._opened(k)[at]
        if not self._steps[k]:
            del self._steps[k], self._rows[k]
        self._n_rows -= 1

    def rows(self) -> Rows:
        """All rows; what is changed later is not in them."""
        rows = Rows()
        for steps, block in zip(self._steps, self._rows, strict=True):
            rows.extend(block if isinstance(block, bytes) else b"\n".join(block), len(steps))
        return rows

    def items(self) -> Iterator[tuple[int, bytes]]:
        """All steps and their rows."""
        for steps, rows in zip(self._steps, self._rows, strict=True):
            yield from zip(steps, _lines(rows), strict=True)

    def _opened(self, k: int) -> list[bytes]:
        """The rows of block `k`, to be changed."""
        rows = self._rows[k] = _lines(self._rows[k])
        return rows

    def _place(self, step: int) -> tuple[int, int, bool]:
        """The block of `step`, its index there, and whether it has a row already."""
        k = max(0, bisect_right(self._steps, step, key=_first) - 1)
        steps = self._steps[k]
        at = bisect_left(steps, step)
        return k, at, at < len(steps) and steps[at] == step

    def _split(self, k: int) -> None:
        steps, rows = self._steps[k], self._opened(k)
        starts = range(0, len(steps), ROW_BLOCK)
        self._steps[k : k + 1] = [steps[at : at + ROW_BLOCK] for at in starts]
        self._rows[k : k + 1] = [rows[at : at + ROW_BLOCK] for at in starts]


def _lines(block: list[bytes] | bytes) -> list[bytes]:
    return block.split(b"\n") if isinstance(block, bytes) else block


class Column:
    """Floats in the order of their iterations. `mean` is that of the finite ones above `floor`."""

    def __init__(self, values: Iterable[float] = (), *, floor: float = -math.inf) -> None:
        self.values = array("d", values)
        self._floor = floor
        self._sums: list[list[float]] = []  # of each whole block, as floats that add up to it
        self._counts: list[int] = []

    def append(self, value: float) -> None:
        self.values.append(value)

    def extend(self, values: Iterable[float]) -> None:
        self.values.extend(values)

    def cut(self, at: int) -> None:
        """Remove the values from index `at` on."""
        del self.values[at:]
        del self._sums[at // SUM_BLOCK :]
        del self._counts[at // SUM_BLOCK :]

    def mean(self) -> float | None:
        """The exact mean, rounded once, however the values were added; None if there are none."""
        n_whole = len(self.values) // SUM_BLOCK
        for k in range(len(self._sums), n_whole):
            counting = self._counting(k * SUM_BLOCK, (k + 1) * SUM_BLOCK)
            self._sums.append(_exact_sum(counting))
            self._counts.append(len(counting))
        rest = self._counting(n_whole * SUM_BLOCK, len(self.values))
        n_values = sum(self._counts) + len(rest)
        if not n_values:
            return None
        return _divided([part for parts in self._sums for part in parts] + rest, n_values)

    def _counting(self, begin: int, end: int) -> list[float]:
        floor, inf = self._floor, math.inf
        values = self.values[begin:end].tolist()
        if math.isfinite(sum(values)) and (floor == -inf or min(values, default=inf) > floor):
            return values  # all of them; checking each one takes four times as long
        return [value for value in values if floor < value < inf]


def _exact_sum(values: list[float]) -> list[float]:
    """A few floats with the exact sum of `values`: each is what `fsum` rounded away before."""
    parts: list[float] = []
    try:
        while rest := math.fsum([*values, *(-part for part in parts)]):
            parts.append(rest)
    except OverflowError:  # the sum is no float
        return values
    return parts


def _divided(values: list[float], n: int) -> float:
    try:
        return math.fsum(values) / n
    except OverflowError:  # the sum is no float, the mean is
        from fractions import Fraction  # slow to import

        return float(sum(map(Fraction, values)) / n)


class Iterations:
    """Their rows as in the run JSON, and the columns that the summary is computed from.

    `with_rows` False: their numbers alone, 8 bytes each.
    """

    def __init__(self, *, with_rows: bool = True) -> None:
        self.numbers = array("q")
        self.losses = array("d")
        self.times_ms = Column()
        self.mfus = Column(floor=0.0)
        self._rows = Rows()
        self._with_rows = with_rows
        self._names: tuple[str, ...] = ()  # of the latest row that has the usual fields

    def __len__(self) -> int:
        return len(self.numbers)

    def rows(self) -> Rows:
        """The rows as they are now; what is added later is not in them."""
        return self._rows.copy()

    def last(self) -> Row:
        """The last row; {} where there are none, or none are kept."""
        return self._rows[-1] if len(self._rows) else {}

    def ends_before(self, i: int) -> bool:
        """Whether there are iterations, all of them before `i`."""
        return bool(self.numbers) and i > self.numbers[-1]

    def add(self, fields: Row, line: bytes) -> None:
        """Add an iteration behind all others; `line` is that of its record, if there is one."""
        self.numbers.append(fields["iter"])
        if not self._with_rows:
            return
        at = line.find(MARKS["iter"])
        if at >= 0 and self._is_usual(tuple(fields)) and type(fields["mfu"]) in (float, int):
            # The line's own bytes: encoding the fields again would be slow.
            row = spaced(b"{%b}" % line[at + _FIELDS_AT : -TRAILER_BYTES])
        else:
            fields = {**_DEFAULTS, **fields}
            if type(fields["mfu"]) not in (float, int):
                fields["mfu"] = MFU_UNKNOWN
            row = encode_row(fields)
        self._rows.append(row)
        self.losses.append(number(fields["loss"]))
        self.times_ms.append(number(fields["time_ms"]))
        self.mfus.append(number(fields["mfu"]))

    def add_batch(self, batch: Batch) -> None:
        """Add many, behind all others."""
        self.numbers.extend(batch.steps)
        if not self._with_rows:
            return
        times_ms = batch.column("time_ms")
        self.losses.extend(batch.column("loss"))
        self.times_ms.extend([math.nan] * len(batch) if times_ms[0] is None else times_ms)
        self.mfus.extend(batch.column("mfu"))
        self._rows.extend(batch.rows(), len(batch))

    def _is_usual(self, names: tuple[str, ...]) -> bool:
        """Whether the fields are in the guide's order; nearly all lines of a run have the same."""
        if names != self._names:
            if names[: len(_LEADING)] != _LEADING:
                return False
            self._names = names
        return True

    def cut(self, from_iter: int) -> list[bytes]:
        """Remove iteration `from_iter` and later ones; their rows, empty where none are kept."""
        if not self.numbers or from_iter > self.numbers[-1]:
            return []
        at = bisect_left(self.numbers, from_iter)
        n_removed = len(self.numbers) - at
        del self.numbers[at:]
        if not self._with_rows:
            return [b""] * n_removed
        del self.losses[at:]
        self.times_ms.cut(at)
        self.mfus.cut(at)
        return self._rows.cut(at)

    def missing(self) -> list[list[int]]:
        """Ranges [first, last] that are absent from a run that logs every iteration.

        A run that logs every tenth by intention has none: fewer than half its steps are 1.
        """
        numbers = self.numbers
        if not numbers or numbers[-1] - numbers[0] == len(numbers) - 1:
            return []
        holes = [(a, b) for a, b in pairwise(numbers) if b - a > 1]
        if 2 * len(holes) > len(numbers) - 1:
            return []
        return [[a + 1, b - 1] for a, b in holes]


class Remarks:
    """Notes, tags, names and alerts of a run, in the order of their times, however read."""

    def __init__(self) -> None:
        self.run_id: str | None = None
        """The id of the run; annotations of other runs are left out."""
        self._records: list[Record] = []

    def add(self, record: Record) -> None:
        self._records.append(record)

    def of_kind(self, event: str) -> list[Row]:
        """The events of one kind: `t`, `text` and their other fields."""
        hidden = (ANNOTATES, "durable")
        return [
            {"t": record.t} | {k: v for k, v in record.fields.items() if k not in hidden}
            for record in self._by_time(event)
        ]

    def tags(self) -> list[str]:
        """The tags that were added and not removed later."""
        tags: set[str] = set()
        for record in self._by_time("tag"):
            removed, added = record.fields.get("remove"), record.fields.get("add")
            tags -= set(map(str, removed if isinstance(removed, list) else ()))
            tags |= set(map(str, added if isinstance(added, list) else ()))
        return sorted(tags)

    def name(self) -> str:
        """The name that the run was renamed to; empty: it has its own."""
        renamed = self._by_time("rename")
        name = renamed[-1].fields.get("name") if renamed else None
        return name if isinstance(name, str) else ""

    def _by_time(self, event: str) -> list[Record]:
        ours = [
            r
            for r in self._records
            if r.event == event
            and (self.run_id is None or r.fields.get(ANNOTATES) in (None, self.run_id))
        ]
        return sorted(ours, key=lambda r: (r.t, r.s, r.n))


def number(value: Any) -> float:
    """A value as a float; NaN if it is not a number."""
    if type(value) is float:
        return value
    try:
        return float(value) if type(value) is int else math.nan
    except OverflowError:  # an integer of three hundred digits
        return math.nan
