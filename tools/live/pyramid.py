"""One column of a run, row by row, with its exact extremes at every zoom.

    loss = Column(spill)
    loss.append(np.array([4.1, 3.9, math.nan, 88.0, 3.7]))
    loss.extremes(np.array([0, 3, 5]))      # rows 0 to 2, rows 3 to 4: lowest, highest, mean

Above the rows are levels: the lowest, the highest and the sum of each 32 rows, of each 256, of
each 2,048 and so on. A chart of ten million rows is read from the level that fits its width, and
no row is left out of it. Full blocks of rows go to an unnamed file, so that only the levels and the
latest rows are in memory.
"""

import os
import tempfile
import weakref
from dataclasses import dataclass
from typing import IO

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

BASE_ROWS = 32
STEP = 8
N_LEVELS = 5  # 32, 256, 2,048, 16,384, 131,072 rows
SIZES = [BASE_ROWS * STEP**level for level in range(N_LEVELS)]
FINENESS = 4  # a bucket is made of at least this many entries, which limits the error of its edges
_NEVER = 1 << 62
BLOCK_ROWS = 1 << 16  # rows kept in memory; a multiple of every size up to 16,384


class Growing:
    """A one-dimensional array that grows at its end."""

    __slots__ = ("_space", "n")

    def __init__(self, dtype: str) -> None:
        self._space = np.empty(4, dtype)  # a run may have 100,000 columns of one value
        self.n = 0

    def __len__(self) -> int:
        return self.n

    @property
    def values(self) -> NDArray[np.generic]:
        """A view, valid until it grows."""
        return self._space[: self.n]

    @property
    def floats(self) -> Floats:
        """A copy."""
        return self.values.astype(np.float64)

    def floats_at(self, at: Ints) -> Floats:
        """The values at the indices `at`."""
        return self.values[at].astype(np.float64)

    def append(self, values: NDArray[np.generic]) -> None:
        self.put(self.n, values)

    def put(self, at: int, values: NDArray[np.generic]) -> None:
        """Write `values` from index `at` on; what followed is removed."""
        end = at + len(values)
        if end > len(self._space):
            # by half, not twice: ten million rows must not leave ten million empty
            space = np.empty(max(end, len(self._space) * 3 // 2 + 2), self._space.dtype)
            space[:at] = self._space[:at]
            self._space = space
        self._space[at:end] = values
        self.n = end

    def truncate(self, n: int) -> None:
        self.n = min(n, self.n)


class Spill:
    """The file for full blocks: unnamed, and gone when it is closed."""

    def __init__(self) -> None:
        self._file: IO[bytes] | None = None  # created for the first block: most runs have none
        self._end = 0

    def put(self, block: Floats) -> int:
        """Write a block; returns where it begins, for `get`."""
        if self._file is None:
            self._file = tempfile.TemporaryFile(prefix="runs-")  # noqa: SIM115 (it lives on)
            weakref.finalize(self, self._file.close)
        at = self._end
        data = memoryview(block.tobytes())
        while data:
            n_bytes = os.pwrite(self._file.fileno(), data, self._end)
            self._end += n_bytes
            data = data[n_bytes:]
        return at

    def get(self, at: int, first: int, last: int) -> Floats:
        """Rows `first` to `last` (exclusive) of the block that begins at `at`."""
        assert self._file is not None
        return np.frombuffer(os.pread(self._file.fileno(), 8 * (last - first), at + 8 * first))


@dataclass(frozen=True)
class Buckets:
    """Summaries of ranges of rows. A range without a finite value is left out."""

    low_rows: Ints
    lows: Floats
    high_rows: Ints
    highs: Floats
    means: Floats
    counts: Ints
    """How many finite values the mean is of."""
    middles: Ints
    """The row in the middle of each."""

    def points(self) -> tuple[Ints, Floats]:
        """Rows and values that draw them all: of each bucket the lowest and highest, in order."""
        rows = np.stack([self.low_rows, self.high_rows], 1)
        values = np.stack([self.lows, self.highs], 1)
        swapped = rows[:, 0] > rows[:, 1]
        rows[swapped], values[swapped] = rows[swapped, ::-1], values[swapped, ::-1]
        rows, values = rows.ravel(), values.ravel()
        new = np.append(True, np.diff(rows) > 0)
        return rows[new], values[new]


class _Level:
    """The buckets of one size, the last one perhaps not full."""

    def __init__(self) -> None:
        self.lows, self.highs, self.sums = Growing("f8"), Growing("f8"), Growing("f8")
        self.low_rows, self.high_rows, self.counts = Growing("u4"), Growing("u4"), Growing("u4")

    def put(self, at: int, entries: list[NDArray[np.generic]]) -> None:
        for column, values in zip(self._columns, entries, strict=True):
            column.put(at, values)

    def part(self, a: int, b: int) -> list[NDArray[np.generic]]:
        return [column.values[a:b] for column in self._columns]

    @property
    def _columns(self) -> tuple[Growing, ...]:
        return (self.lows, self.highs, self.sums, self.low_rows, self.high_rows, self.counts)


class Column:
    """Values by row. Values that are not finite are ignored in extremes and means."""

    __slots__ = ("_changed_from", "_levels", "_spill", "_spilled", "_tail")

    def __init__(self, spill: Spill) -> None:
        self._spill = spill
        self._spilled: list[int] = []
        self._tail = Growing("f8")
        self._levels: list[_Level] = []  # made for the first chart that is thinned
        self._changed_from = _NEVER  # the first row that the levels do not know

    def __len__(self) -> int:
        return len(self._spilled) * BLOCK_ROWS + len(self._tail)

    def append(self, values: Floats) -> None:
        """Add rows at the end."""
        while len(values):
            free = BLOCK_ROWS - len(self._tail)
            self._changed_from = min(self._changed_from, len(self))
            self._tail.append(values[:free])
            values = values[free:]
            if len(self._tail) == BLOCK_ROWS:
                self._build()
                self._spilled.append(self._spill.put(self._tail.floats))
                self._tail.truncate(0)

    def truncate(self, n_rows: int) -> None:
        """Keep the first `n_rows` rows."""
        if n_rows >= len(self):
            return
        at, rest = divmod(n_rows, BLOCK_ROWS)
        if at < len(self._spilled):
            self._tail.put(0, self._spill.get(self._spilled[at], 0, rest))
            del self._spilled[at:]
        self._tail.truncate(rest)
        self._changed_from = min(self._changed_from, max(0, n_rows - 1))
        if self._levels:
            self._build()

    def read(self, first: int, last: int) -> Floats:
        """Rows `first` to `last` (exclusive)."""
        pieces = []
        for at in range(first // BLOCK_ROWS, len(self._spilled)):
            begin = at * BLOCK_ROWS
            if begin >= last:
                break
            a, b = max(first - begin, 0), min(last - begin, BLOCK_ROWS)
            pieces.append(self._spill.get(self._spilled[at], a, b))
        begin = len(self._spilled) * BLOCK_ROWS
        if last > begin:
            pieces.append(self._tail.floats[max(0, first - begin) : last - begin])
        return np.concatenate(pieces) if pieces else np.empty(0)

    def extremes(self, edges: Ints) -> Buckets:
        """Lowest, highest and mean between each two of `edges`, ascending row numbers.

        The inner edges may be moved, by at most a fourth of the bucket behind them: every row
        between the first edge and the last is in exactly one bucket.
        """
        self._build()
        edges = np.clip(edges, 0, len(self))
        widths = np.diff(edges)
        level = np.searchsorted(np.array(SIZES) * FINENESS, widths, side="right") - 1
        edges = _aligned(edges, level)
        cuts = np.flatnonzero(np.diff(level)) + 1
        begins, ends = [0, *cuts.tolist()], [*cuts.tolist(), len(level)]
        parts = [
            self._merged(int(level[a]), edges[a : b + 1])
            for a, b in zip(begins, ends, strict=True)
            if b > a and edges[b] > edges[a]
        ]
        joined = [np.concatenate(column) for column in zip(*parts, strict=True)] if parts else []
        if not joined:
            joined = [np.empty(0) for _ in range(7)]
        lows, highs, sums, low_rows, high_rows, counts, middles = joined
        known = counts > 0
        n = counts[known].astype(np.int64)
        return Buckets(
            low_rows[known].astype(np.int64),
            lows[known],
            high_rows[known].astype(np.int64),
            highs[known],
            sums[known] / n,
            n,
            middles[known].astype(np.int64),
        )

    def n_values(self, first: int, last: int) -> int:
        """How many finite values rows `first` to `last` (without it) have at least: the rows of
        the first and the last block do not count if they are not all of it."""
        self._build()
        counts = self._levels[0].counts.values
        return int(counts[-(-first // BASE_ROWS) : last // BASE_ROWS].sum())

    def total(self) -> tuple[float, int]:
        """The sum, infinite where it is beyond all numbers, and the number of finite values."""
        with np.errstate(over="ignore"):
            if not self._levels and not self._spilled:
                values = self._tail.floats
                values = values[np.isfinite(values)]
                return float(values.sum()), len(values)
            self._build()
            top = self._levels[-1]
            return float(top.sums.values.sum()), int(top.counts.values.sum())

    def last(self) -> float | None:
        """The last finite value."""
        row = self.last_row()
        return None if row is None else float(self.read(row, row + 1)[0])

    def last_row(self) -> int | None:
        """The row of the last finite value."""
        at, values = 0, self._tail.floats
        if self._levels or self._spilled:
            self._build()
            known = np.flatnonzero(self._levels[0].counts.values)
            at = int(known[-1]) * BASE_ROWS if len(known) else len(self)
            values = self.read(at, min(at + BASE_ROWS, len(self)))
        finite = np.flatnonzero(np.isfinite(values))
        return at + int(finite[-1]) if len(finite) else None

    def _merged(self, level: int, edges: Ints) -> list[NDArray[np.generic]]:
        """The entries of one level, one for each bucket that has rows."""
        if level < 0:
            entries = _rows_as_entries(self.read(int(edges[0]), int(edges[-1])), int(edges[0]))
            starts = edges - edges[0]
        else:
            at = -(-edges // SIZES[level])  # the end of all rows need not be a bucket's
            entries = self._levels[level].part(int(at[0]), int(at[-1]))
            starts = at - at[0]
        filled = np.diff(starts) > 0
        middles = (edges[:-1] + edges[1:] - 1)[filled] // 2
        return [*_reduced(entries, starts[:-1][filled], np.diff(starts)[filled]), middles]

    def _build(self) -> None:
        """Update the levels from the first changed row on."""
        if self._changed_from == _NEVER and self._levels:
            return
        self._levels = self._levels or [_Level() for _ in SIZES]
        self._changed_from = min(self._changed_from, len(self))
        at, self._changed_from = self._changed_from // BASE_ROWS, _NEVER
        begin = at * BASE_ROWS
        entries = _rows_as_entries(self.read(begin, len(self)), begin)
        for size, level in zip(SIZES, self._levels, strict=True):
            step = BASE_ROWS if size == BASE_ROWS else STEP
            starts = np.arange(0, len(entries[0]), step)
            counts = np.diff(np.append(starts, len(entries[0])))
            level.put(at, _reduced(entries, starts, counts))
            at //= STEP
            entries = level.part(at * STEP, len(level.lows))


def _rows_as_entries(values: Floats, first: int) -> list[NDArray[np.generic]]:
    finite = np.isfinite(values)
    rows = np.arange(first, first + len(values), dtype=np.uint32)
    lows, highs = np.where(finite, values, np.inf), np.where(finite, values, -np.inf)
    return [lows, highs, np.where(finite, values, 0.0), rows, rows, finite.astype(np.uint32)]


def _reduced(
    entries: list[NDArray[np.generic]], starts: Ints, widths: Ints
) -> list[NDArray[np.generic]]:
    """Neighbouring entries as one: those from each of `starts` on, `widths` of them."""
    if not len(starts):
        return [column[:0] for column in entries]
    lows, highs, sums, low_rows, high_rows, counts = entries
    low = np.minimum.reduceat(lows, starts)
    high = np.maximum.reduceat(highs, starts)
    return [
        low,
        high,
        np.add.reduceat(sums, starts),
        low_rows[_first_hits(lows == np.repeat(low, widths), starts)],
        high_rows[_first_hits(highs == np.repeat(high, widths), starts)],
        np.add.reduceat(counts, starts),
    ]


def _first_hits(hits: NDArray[np.bool_], starts: Ints) -> Ints:
    """The first index from each of `starts` on where `hits` is true: each range has one."""
    where = np.flatnonzero(hits)
    return where[np.searchsorted(where, starts)]


def _aligned(edges: Ints, level: Ints) -> Ints:
    """Edges moved to where buckets of their levels begin; they stay in order.

    Sizes divide each other: an edge pushed back by a coarser neighbour fits its own level, too.
    """
    size = np.array([1, *SIZES])[level + 1]
    inner = np.maximum(size[1:], size[:-1])
    moved = edges.copy()
    if len(edges) > 1:
        moved[0] = edges[0] // size[0] * size[0]
        moved[1:-1] = edges[1:-1] // inner * inner
        moved = np.minimum.accumulate(moved[::-1])[::-1]
    return moved
