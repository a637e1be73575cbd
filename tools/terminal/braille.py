"""Lines as text: each character holds eight dots, two across and four down.

    rows = draw([Line(x, y, "cyan")], Frame(0, 500, 2, 8), width=40, height=8)
    print("\\n".join("".join(cell for cell, _ in row) for row in rows))

A character shows the dots of all lines in it, in the style of the last one.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..live.pyramid import Floats, Ints

Cell = tuple[str, str]
"""A character and its style."""

# Unicode's numbering of the dots, by row and column within a character.
_BITS = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]], np.uint8)
_BLANK = 0x2800


@dataclass(frozen=True)
class Line:
    """Points in order of x. A NaN breaks the line."""

    x: Floats
    y: Floats
    style: str = ""


@dataclass(frozen=True)
class Frame:
    """The part of the plane that is drawn."""

    left: float
    right: float
    low: float
    high: float
    is_log: bool = False
    """Whether y is logarithmic: `low` must then be greater than 0."""

    def columns(self, x: Floats, n: int) -> Ints:
        """The column of each `x`, of `n`; outside 0 to n - 1 for what is outside the frame."""
        width = max(self.right - self.left, 1e-12)
        return _whole(np.floor((x - self.left) / width * (n - 1) + 0.5))

    def x_of(self, column: int, n: int) -> float:
        """The `x` in the middle of a column, of `n`."""
        return self.left + column / max(1, n - 1) * (self.right - self.left)

    def rows(self, y: Floats, n: int) -> Ints:
        """The row of each `y`, of `n`, counted from the top."""
        low, high = self.low, self.high
        if self.is_log:
            y, low, high = np.log(np.maximum(y, low)), math.log(low), math.log(high)
        height = max(high - low, 1e-12)
        return _whole(np.floor((high - y) / height * (n - 1) + 0.5))


def frame_around(
    lines: Sequence[Line], left: float, right: float, *, is_log: bool = False
) -> Frame | None:
    """The frame from `left` to `right` that contains all lines; None if there is no value."""
    values = [line.y[(line.x >= left) & (line.x <= right) & np.isfinite(line.y)] for line in lines]
    finite = np.concatenate([*values, np.empty(0)])
    if is_log:
        finite = finite[finite > 0]
    if not len(finite):
        return None
    low, high = float(finite.min()), float(finite.max())
    if low == high:  # a flat line is in the middle
        margin = abs(low) * 0.05 or 1.0
        low, high = (low / 1.1, high * 1.1) if is_log else (low - margin, high + margin)
    return Frame(left, right, low, high, is_log)


def draw(lines: Sequence[Line], frame: Frame, width: int, height: int) -> list[list[Cell]]:
    """`height` rows of `width` characters; later lines are drawn over earlier ones."""
    dots = np.zeros((height, width), np.uint8)
    owner = np.full((height, width), -1)
    for number, line in enumerate(lines):
        columns, rows = _dots(line, frame, 2 * width, 4 * height)
        np.bitwise_or.at(dots, (rows // 4, columns // 2), _BITS[rows % 4, columns % 2])
        owner[rows // 4, columns // 2] = number
    styles = [*(line.style for line in lines), ""]
    return [
        [
            (chr(_BLANK + bits) if bits else " ", styles[at])
            for bits, at in zip(dot_row, owner_row, strict=True)
        ]
        for dot_row, owner_row in zip(dots.tolist(), owner.tolist(), strict=True)
    ]


def _dots(line: Line, frame: Frame, n_columns: int, n_rows: int) -> tuple[Ints, Ints]:
    """The dots of a line: of its points, and between neighbours."""
    known = np.isfinite(line.y) & np.isfinite(line.x)
    if frame.is_log:
        known &= line.y > 0
    x = np.where(known, line.x, frame.left)
    y = np.where(known, line.y, frame.low if frame.low > 0 else 1.0)
    columns = np.clip(frame.columns(x, n_columns), -n_columns, 2 * n_columns)
    rows = np.clip(frame.rows(y, n_rows), -n_rows, 2 * n_rows)
    joined = known[:-1] & known[1:]
    steps = np.maximum(np.abs(np.diff(columns)), np.abs(np.diff(rows)))[joined]
    start = np.flatnonzero(joined)
    which = np.repeat(np.arange(len(start)), steps + 1)
    first = np.cumsum(steps + 1) - (steps + 1)
    part = (np.arange(len(which)) - first[which]) / np.maximum(steps, 1)[which]
    a, b = start[which], start[which] + 1
    between_columns = _whole(np.round(columns[a] + part * (columns[b] - columns[a])))
    between_rows = _whole(np.round(rows[a] + part * (rows[b] - rows[a])))
    columns = np.concatenate([columns[known], between_columns])
    rows = np.concatenate([rows[known], between_rows])
    inside = (columns >= 0) & (columns < n_columns) & (rows >= 0) & (rows < n_rows)
    return columns[inside], rows[inside]


def _whole(values: NDArray[np.float64]) -> Ints:
    return np.clip(values, -1e9, 1e9).astype(np.int64)
