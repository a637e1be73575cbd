"""A column of numbers and its exact mean, for which each number is added up once.

A run is folded again and again while it grows, so the sums of blocks that are complete are stored.
"""

import math
from array import array
from collections.abc import Iterable

BLOCK = 4096


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
        del self._sums[at // BLOCK :]
        del self._counts[at // BLOCK :]

    def mean(self) -> float | None:
        """The exact mean, rounded once; None of nothing. The same however the values came."""
        n_whole = len(self.values) // BLOCK
        for k in range(len(self._sums), n_whole):
            counting = self._counting(k * BLOCK, (k + 1) * BLOCK)
            self._sums.append(_exact_sum(counting))
            self._counts.append(len(counting))
        rest = self._counting(n_whole * BLOCK, len(self.values))
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
    """A few floats whose exact sum is that of `values`: what `fsum` rounds away is the next."""
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
