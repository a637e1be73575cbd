"""Rows as columns of numbers, and which of their points are enough to draw a line."""

import contextlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

import eventlog

from ..core.stored import pieces

Column = NDArray[np.float64]

ITERS_MAX = 2.0**53  # up to this limit, a float represents every integer
_NUMBERS = frozenset((float, int))
DRAWN_MAX = 1e100  # beyond it, and below 1 / it, the margins of a log axis overflow


@dataclass(frozen=True)
class Columns:
    """Rows by ascending iteration. A value that is missing or not finite is NaN."""

    values: dict[str, Column]
    nonfinite: dict[str, dict[int, str]]
    """By column: the rows where a value was logged that is not finite, and its name."""

    def __getitem__(self, key: str) -> Column:
        return self.values[key]

    def __len__(self) -> int:
        return len(self.values["iter"])


def of_series(run: eventlog.Run, series: Sequence[eventlog.Series]) -> dict[str, Columns]:
    """The values (`y`) of several series by name, with one pass over each table."""
    found: dict[str, list[Columns]] = {one.name: [] for one in series}
    for table in dict.fromkeys(one.table for one in series):
        axis = "step" if table == "metrics" else "iter"
        columns = [(one.column, found[one.name]) for one in series if one.table == table]
        for rows in pieces(run, table):
            steps = _numbers(cells(rows, axis))
            for column, parts in columns:
                parts.append(_of_column(rows, steps, column))
    return {name: joined(parts, ("iter", "y")) for name, parts in found.items()}


def cells(rows: Sequence[dict[str, Any]], column: str) -> list[Any]:
    """A column of rows; None where a row does not have it."""
    try:
        return [*map(itemgetter(column), rows)]
    except KeyError:
        return [row.get(column) for row in rows]


def _of_column(rows: Sequence[dict[str, Any]], steps: Column, column: str) -> Columns:
    """The values of one column of flat rows, where there are any."""
    values = cells(rows, column)
    if column == "mfu":
        values = [None if value == eventlog.MFU_UNKNOWN else value for value in values]
    if not _NUMBERS.issuperset(map(type, values)):
        known = [value is not None for value in values]
        steps, values = steps[known], [*compress(values, known)]
    return columns_of({"iter": steps, "y": values})


def read_columns(rows: Iterable[dict[str, Any]], keys: Sequence[str]) -> Columns:
    """`keys` of `rows`, the first of them the iteration; rows without one are left out."""
    stored = getattr(rows, "pieces", None)
    lists = (piece for piece, _ in stored()) if stored else [[*rows]]
    return joined([_columns_of_rows(piece, keys) for piece in lists], keys)


def _columns_of_rows(rows: Sequence[dict[str, Any]], keys: Sequence[str]) -> Columns:
    named = {at: row["nonfinite"] for at, row in enumerate(rows) if "nonfinite" in row}
    return columns_of({key: cells(rows, key) for key in keys}, named)


def joined(parts: Sequence[Columns], keys: Sequence[str]) -> Columns:
    """Columns of parts of a table as those of the whole."""
    if len(parts) == 1:
        return parts[0]
    values = {key: np.concatenate([np.empty(0), *(part[key] for part in parts)]) for key in keys}
    nonfinite: dict[str, dict[int, str]] = {key: {} for key in keys}
    n = 0
    for part in parts:
        for key, names in part.nonfinite.items():
            nonfinite[key] |= {n + at: name for at, name in names.items()}
        n += len(part)
    return Columns(values, nonfinite)


def columns_of(
    values: Mapping[str, Sequence[Any] | Column], named: Mapping[int, Any] | None = None
) -> Columns:
    """Columns of values by name, the first the iteration; values without one are left out.

    `named`: of rows whose values are null, which of them were not finite, and what they were.
    """
    columns = {key: _numbers(of_key) for key, of_key in values.items()}
    iters, *others = columns
    here = np.flatnonzero(np.abs(columns[iters]) < ITERS_MAX)
    if (np.diff(columns[iters][here]) < 0).any():  # an older logger, resumed
        here = here[np.argsort(columns[iters][here], kind="stable")]
    columns = {key: column[here] for key, column in columns.items()}
    nonfinite: dict[str, dict[int, str]] = {iters: {}}
    for key in others:
        unknown = np.flatnonzero(np.isnan(columns[key])).tolist()
        names = {i: nonfinite_name(values[key][at := here[i]], key, (named or {}).get(at))
                 for i in unknown}  # fmt: skip
        nonfinite[key] = {i: name for i, name in names.items() if name}
    return Columns(columns, nonfinite)


def _numbers(values: Sequence[Any] | Column) -> Column:
    """Finite numbers that can be drawn; NaN for each value that is not one."""
    if isinstance(values, np.ndarray):  # they are
        return values
    numbers = None
    if _NUMBERS.issuperset(map(type, values)):
        with contextlib.suppress(OverflowError):  # an integer of three hundred digits
            numbers = np.array(values, float)
    if numbers is None:
        numbers = np.array([number_of(value) for value in values], float)
    numbers[~np.isfinite(numbers)] = math.nan
    numbers[np.abs(numbers) < 1 / DRAWN_MAX] = 0.0
    drawn: Column = np.clip(numbers, -DRAWN_MAX, DRAWN_MAX)
    return drawn


def thin(x: Column, y: Column, n_columns: int) -> NDArray[np.intp]:
    """Which points are enough to draw the same line: in each of `n_columns` of x the first, last,
    lowest and highest, so that no spike is lost, and one that is not finite, for the gap.

    `x` must be ascending and finite.
    """
    if len(x) <= 4 * n_columns:
        return np.arange(len(x))
    width = (x[-1] - x[0]) / n_columns or 1.0
    column = np.minimum((x - x[0]) / width, n_columns - 1).astype(np.intp)
    finite = np.flatnonzero(np.isfinite(y))
    broken = np.flatnonzero(~np.isfinite(y))
    by_height = finite[np.lexsort((y[finite], column[finite]))]
    kept = [_ends(np.arange(len(x)), column), _ends(by_height, column), _ends(broken, column)]
    return np.unique(np.concatenate(kept))


def _ends(points: NDArray[np.intp], column: NDArray[np.intp]) -> NDArray[np.intp]:
    """The first and last of `points` in each column; `points` are ordered by column."""
    new = np.flatnonzero(np.diff(column[points])) + 1
    return np.concatenate([points[:1], points[new], points[new - 1], points[-1:]])


def nonfinite_name(value: Any, key: str, named: Any) -> str:
    """What a value is that is not finite; `named`: its row's `nonfinite`."""
    if isinstance(value, float):
        return str(value)
    return str(named.get(key, "")) if isinstance(named, dict) else ""


def number_of(value: Any) -> float:
    """A number as a float; NaN if the value is not one, or too large for a float."""
    with contextlib.suppress(OverflowError):
        if type(value) in (float, int):
            return float(value)
    return math.nan
