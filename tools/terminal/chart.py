"""A chart in the terminal: its lines, its axes, and a letter where something happened."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter

import numpy as np
from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip
from textual.widget import Widget

from ..core.formats import duration, short
from ..core.names import AxisName
from ..core.text import printable
from .braille import Cell, Frame, Line, draw

AXIS_WIDTH = 7
# On the line under a chart, the later ones above the earlier ones.
MARKS = {
    "eval": ("e", "cyan"), "note": ("n", "white"), "checkpoint": ("c", "green"),
    "open": ("r", "bright_blue"), "resume": ("r", "bright_blue"), "close": ("|", "white"),
    "alert": ("a", "bright_yellow"), "gap": ("g", "bright_red"), "io_error": ("g", "bright_red"),
    "signal": ("s", "bright_magenta"), "error": ("x", "bright_red"),
    "nonfinite": ("!", "bright_red"),
}  # fmt: skip


@dataclass
class Drawing:
    """One chart's lines, and where its marks are."""

    title: str
    lines: list[Line]
    ends: list[tuple[str, str, float, float]]
    """Of each run: letter, style, and where its line ends."""
    frame: Frame | None
    marks: list[tuple[float, str]]
    unit: AxisName = "iter"


class Lines(Widget):
    """Rows of text made when something changed, and only then: `text_rows` says which."""

    _strips: list[Strip] | None = None

    def text_rows(self, width: int, height: int) -> list[list[Cell]]:
        """Pieces of text and their styles, for each row."""
        raise NotImplementedError

    def changed(self) -> None:
        """Have it drawn anew."""
        self._strips = None
        self.refresh()

    def on_resize(self) -> None:
        self.changed()

    def render_line(self, y: int) -> Strip:
        """Straight to the screen: 26 ms for 140 x 40; by way of `render` it takes 90."""
        if self._strips is None:
            rows = self.text_rows(self.size.width, self.size.height)
            self._strips = [Strip(_segments(row)) for row in rows]
        width = self.size.width
        strip = self._strips[y] if y < len(self._strips) else Strip([])
        return strip.adjust_cell_length(width).crop(0, width)


def _segments(row: list[Cell]) -> Iterator[Segment]:
    """Neighbours of one style at once."""
    for style, cells in groupby(row, key=itemgetter(1)):
        yield Segment(printable("".join(cell for cell, _ in cells)), Style.parse(style))


class Chart(Lines):
    """A drawing, as large as there is room."""

    def __init__(self, number: int) -> None:
        super().__init__(id=f"chart{number}")
        self.drawing: Drawing | None = None

    def show(self, drawing: Drawing) -> None:
        self.drawing = drawing
        self.changed()

    def text_rows(self, width: int, height: int) -> list[list[Cell]]:
        drawing = self.drawing
        n_columns, n_rows = width - AXIS_WIDTH - 1, height - 3
        if drawing is None or n_columns < 4 or n_rows < 2:
            return []
        title: list[Cell] = [(drawing.title, "bold")]
        if drawing.frame is None:
            return [title, [(" " * AXIS_WIDTH + "no such figure", "")]]
        dots = draw(drawing.lines, drawing.frame, n_columns, n_rows)
        _letter(dots, drawing)
        labels = _labels(drawing.frame, n_rows)
        rows = [
            [(f"{label:>{AXIS_WIDTH - 1}} ", ""), *row]
            for label, row in zip(labels, dots, strict=True)
        ]
        left, right = (_place(x, drawing.unit) for x in (drawing.frame.left, drawing.frame.right))
        room = max(len(left) + 1 + len(right), n_columns)
        edge: Cell = (" " * AXIS_WIDTH, "")
        places = f"{left}{right:>{room - len(left)}}"
        return [title, *rows, [edge, *_mark_row(drawing, n_columns)], [edge, (places, "")]]


def _letter(rows: list[list[Cell]], drawing: Drawing) -> None:
    """Each run's letter at the end of its line: it is known also without colour."""
    if len(drawing.ends) < 2 or drawing.frame is None:
        return
    height, width = len(rows), len(rows[0])
    for letter, style, x, y in drawing.ends:
        at = np.array([x]), np.array([y])
        column = int(drawing.frame.columns(at[0], width)[0])
        row = int(drawing.frame.rows(at[1], height)[0])
        if 0 <= column < width and 0 <= row < height:
            rows[row][column] = (letter, f"bold {style}")


def _labels(frame: Frame, n_rows: int) -> list[str]:
    labels = [""] * n_rows
    labels[0], labels[-1] = short(frame.high), short(frame.low)
    if n_rows >= 5:
        part = (n_rows // 2) / (n_rows - 1)
        middle = frame.high * (frame.low / frame.high) ** part if frame.is_log else None
        labels[n_rows // 2] = short(middle or frame.high + part * (frame.low - frame.high))
    return labels


def _mark_row(drawing: Drawing, n_columns: int) -> list[Cell]:
    """The axis, with a letter where something happened."""
    assert drawing.frame is not None
    row: list[Cell] = [("─", "")] * n_columns
    order = list(MARKS)
    marks = sorted(drawing.marks, key=lambda mark: order.index(mark[1]))
    columns = drawing.frame.columns(np.array([x for x, _ in marks], float), n_columns)
    for column, (_, kind) in zip(columns.tolist(), marks, strict=True):
        if 0 <= column < n_columns:
            row[column] = MARKS[kind]
    return row


def _place(x: float, unit: AxisName) -> str:
    if unit == "iter" and 0 <= x < 1e7:
        return f"{x:,.0f}"
    return duration(x) if unit == "time" else short(x, 8)
