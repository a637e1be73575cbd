"""A chart in the terminal: its lines, its axes, and a letter for each event."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from textwrap import wrap
from typing import NamedTuple

import numpy as np
from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip
from textual.widget import Widget

from eventlog import duration

from ..core.formats import short
from ..core.table import printable
from .braille import Cell, Frame, Line, draw

AXIS_WIDTH = 7
# Of the runs of a chart, in the order in which they were picked.
STYLES = ("bright_cyan", "bright_yellow", "bright_magenta", "bright_green", "bright_red", "white")
# The letter and the style of each event, on the x axis; later ones hide earlier ones. Any other
# has its first letter.
MARKS = {
    "eval": ("e", "cyan"), "note": ("n", "white"), "checkpoint": ("c", "green"),
    "open": ("r", "bright_blue"), "resume": ("r", "bright_blue"), "close": ("|", "white"),
    "alert": ("a", "bright_yellow"), "gap": ("g", "bright_red"), "io_error": ("g", "bright_red"),
    "signal": ("s", "bright_magenta"), "error": ("x", "bright_red"),
    "nonfinite": ("!", "bright_red"),
}  # fmt: skip


class End(NamedTuple):
    """The end of a run's line."""

    letter: str
    style: str
    x: float
    y: float
    value: str
    """Its value there, or what it is if it is not finite."""


@dataclass
class Drawing:
    """What a chart shows."""

    title: str
    lines: list[Line]
    ends: list[End]
    frame: Frame | None
    marks: list[tuple[float, str]]
    """Events: x and kind."""
    axis: str = "iter"
    note: str = "not logged"
    """What there is in place of a line."""


class Rows(Widget):
    """Rows of text, computed only when something has changed."""

    _strips: list[Strip] | None = None

    def text_rows(self, width: int, height: int) -> list[list[Cell]]:
        """The cells of each row."""
        raise NotImplementedError

    def changed(self) -> None:
        """Compute the rows again before the next drawing."""
        self._strips = None
        self.refresh()

    def on_resize(self) -> None:
        self.changed()

    def render_line(self, y: int) -> Strip:
        """A row as a strip: `render` would be several times slower."""
        if self._strips is None:
            rows = self.text_rows(self.size.width, self.size.height)
            self._strips = [Strip(_segments(row)) for row in rows]
        width = self.size.width
        strip = self._strips[y] if y < len(self._strips) else Strip([])
        return strip.adjust_cell_length(width).crop(0, width)


def _segments(row: list[Cell]) -> Iterator[Segment]:
    """One segment for neighbours of one style."""
    for style, cells in groupby(row, key=itemgetter(1)):
        yield Segment(printable("".join(cell for cell, _ in cells)), Style.parse(style))


class Chart(Rows):
    """A drawing at the size of the widget."""

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
            lines = wrap(drawing.note, n_columns)[: height - 1]
            return [title, *([(" " * AXIS_WIDTH + line, "")] for line in lines)]
        dots = draw(drawing.lines, drawing.frame, n_columns, n_rows)
        _put_letters(dots, drawing)
        labels = _labels(drawing.frame, n_rows)
        rows = [
            [(f"{label:>{AXIS_WIDTH - 1}} ", ""), *row]
            for label, row in zip(labels, dots, strict=True)
        ]
        left, right = (
            _axis_label(x, drawing.axis) for x in (drawing.frame.left, drawing.frame.right)
        )
        row_width = max(len(left) + 1 + len(right), n_columns)
        indent: Cell = (" " * AXIS_WIDTH, "")
        ends = f"{left}{right:>{row_width - len(left)}}"
        return [title, *rows, [indent, *_mark_row(drawing, n_columns)], [indent, (ends, "")]]


def _put_letters(rows: list[list[Cell]], drawing: Drawing) -> None:
    """Put each run's letter at the end of its line, so that lines differ without colours, too."""
    if len(drawing.ends) < 2 or drawing.frame is None:
        return
    height, width = len(rows), len(rows[0])
    for letter, style, x, y, _ in drawing.ends:
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
    """The x axis, with a letter for each event."""
    assert drawing.frame is not None
    row: list[Cell] = [("─", "")] * n_columns
    order = {kind: at for at, kind in enumerate(MARKS)}
    marks = sorted(drawing.marks, key=lambda mark: order.get(mark[1], -1))
    columns = drawing.frame.columns(np.array([x for x, _ in marks], float), n_columns)
    for column, (_, kind) in zip(columns.tolist(), marks, strict=True):
        if 0 <= column < n_columns:
            row[column] = MARKS.get(kind, (kind[0], "white"))
    return row


def _axis_label(x: float, axis: str) -> str:
    if axis == "iter" and 0 <= x < 1e7:
        return f"{x:,.0f}"
    return duration(x) if axis == "time" else short(x, 8)
