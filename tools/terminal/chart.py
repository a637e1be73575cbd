"""A chart in the terminal: its lines, its axes, and a letter for each event."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from textwrap import wrap
from typing import NamedTuple

import numpy as np
from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from eventlog import duration

from ..core.formats import short
from ..core.table import printable
from .braille import Cell, Frame, Line, draw
from .names import shortened

AXIS_WIDTH = 7
NAME_WIDTH_MIN = 10  # of a series, whatever values are beside it
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
    """A point of a run's line: its end, or what it has at the cursor."""

    letter: str
    style: str
    x: float
    y: float
    value: str
    """Its value there, or what it is if it is not finite."""
    exact: str = ""
    """The value in full; of one that was logged before the cursor, with its step."""


@dataclass
class Drawing:
    """What a chart shows."""

    title: str
    """The name of the series, with its unit."""
    lines: list[Line]
    ends: list[End]
    frame: Frame | None
    marks: list[tuple[float, str]]
    """Events: x and kind."""
    axis: str = "iter"
    note: str = "not logged"
    """What there is in place of a line."""
    means: list[tuple[int, Line]] = field(default_factory=list)
    """Lines that are the mean of several runs, each with its number."""


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
    """A drawing at the size of the widget. The mouse reads its values, a click enlarges it."""

    class Pointed(Message):
        """The mouse is over a chart at `x` of its axis; None: it has left."""

        def __init__(self, chart: "Chart", x: float | None) -> None:
            super().__init__()
            self.chart, self.x = chart, x

    class Clicked(Message):
        """A chart was clicked."""

        def __init__(self, chart: "Chart") -> None:
            super().__init__()
            self.chart = chart

    def __init__(self, number: int) -> None:
        super().__init__(id=f"chart{number}")
        self.metric = ""
        """The name of its series as logged."""
        self.beside: Sequence[str] = ()
        """The names of the series of the page."""
        self.drawing: Drawing | None = None
        self.cursor: float | None = None
        self.read: Sequence[End] = ()
        """The values at the cursor."""

    def show(self, metric: str, drawing: Drawing | None) -> None:
        self.metric, self.drawing = metric, drawing
        self.changed()

    def point(self, cursor: float | None, read: Sequence[End]) -> None:
        """Show values at the cursor in place of the latest ones; None: there is no cursor."""
        if (self.cursor, self.read) != (cursor, read):
            self.cursor, self.read = cursor, read
            self.changed()

    @property
    def n_columns(self) -> int:
        """Characters across, without the labels of the y axis."""
        return self.size.width - AXIS_WIDTH - 1

    def on_mouse_move(self, event: events.MouseMove) -> None:
        if self.drawing is not None and self.drawing.frame is not None and self.n_columns > 1:
            column = min(max(0, event.x - AXIS_WIDTH), self.n_columns - 1)
            self.post_message(self.Pointed(self, self.drawing.frame.x_of(column, self.n_columns)))

    def on_leave(self) -> None:
        self.post_message(self.Pointed(self, None))

    def on_click(self) -> None:
        self.post_message(self.Clicked(self))

    def text_rows(self, width: int, height: int) -> list[list[Cell]]:
        drawing = self.drawing
        n_columns, n_rows = self.n_columns, height - 3
        if drawing is None or n_columns < 4 or n_rows < 2:
            return []
        points = drawing.ends if self.cursor is None else self.read
        title = _title(drawing, points, width, self.beside)
        title += [("  -", "")] if self.cursor is not None and not points else []
        if drawing.frame is None:
            lines = wrap(drawing.note, n_columns)[: height - 1]
            return [title, *([(" " * AXIS_WIDTH + line, "")] for line in lines)]
        dots = draw(drawing.lines, drawing.frame, n_columns, n_rows)
        _put_letters(dots, drawing)
        if self.cursor is not None:
            _put_cursor(dots, int(drawing.frame.columns(np.array([self.cursor]), n_columns)[0]))
        labels = _labels(drawing.frame, n_rows)
        rows = [
            [(f"{label:>{AXIS_WIDTH - 1}} ", ""), *row]
            for label, row in zip(labels, dots, strict=True)
        ]
        indent: Cell = (" " * AXIS_WIDTH, "")
        ends = _x_labels(drawing.frame, drawing.axis, self.cursor, n_columns)
        return [title, *rows, [indent, *_mark_row(drawing, n_columns)], [indent, (ends, "")]]


def _title(
    drawing: Drawing, points: Sequence[End], width: int, beside: Sequence[str]
) -> list[Cell]:
    """The series, and the value of each line: as many as fit, with fewer digits where they must."""
    name = printable(drawing.title)
    n_name = min(cell_len(name), max(NAME_WIDTH_MIN, width // 2))
    is_one = len(points) == 1 and len(drawing.ends) < 2
    values = [("" if is_one else f"{p.letter} ", p.value, p) for p in points]
    gap = "  "
    if sum(2 + len(letter + value) for letter, value, _ in values) > width - n_name:
        gap, values = " ", [(letter, _few_digits(value), p) for letter, value, p in values]
    cells: list[Cell] = []
    n_left = width - n_name
    for letter, value, point in values:
        text = f"{gap if cells else '  '}{letter}{value}"
        if len(text) > n_left - (2 if point is not points[-1] else 0):
            cells.append((" …"[: max(0, n_left)], ""))
            n_left -= 2
            break
        cells.append((text, "bold" if is_one else f"bold {point.style}"))
        n_left -= len(text)
    return [(shortened(name, n_name + max(0, n_left), beside), "bold"), *cells]


def _few_digits(value: str) -> str:
    """A number that `short` wrote, with three digits."""
    number = value.rstrip("kMBTP")
    try:
        return f"{float(number.replace(',', '')):.3g}{value[len(number) :]}"
    except ValueError:  # nan, inf, or in another form
        return value


def _put_cursor(rows: list[list[Cell]], column: int) -> None:
    """Draw a line down a column of characters, behind the dots."""
    for row in rows:
        if 0 <= column < len(row) and row[column][0] == " ":
            row[column] = ("│", "bright_black")


def _x_labels(frame: Frame, axis: str, cursor: float | None, n_columns: int) -> str:
    """The ends of the x axis, and where the cursor is between them."""
    left, right = (axis_label(x, axis) for x in (frame.left, frame.right))
    n_between = max(n_columns, len(left) + 1 + len(right)) - len(left) - len(right)
    if cursor is None or not frame.left <= cursor <= frame.right:
        return f"{left}{' ' * n_between}{right}"
    here = axis_label(cursor, axis)
    at = int(frame.columns(np.array([cursor]), n_columns)[0]) - len(here) // 2
    at = min(max(0, at), max(0, n_columns - len(here)))
    left = left if len(left) < at else ""
    right = right if at + len(here) < n_columns - len(right) else ""
    text = f"{left:<{at}}{here}"
    return f"{text}{right:>{max(0, n_columns - len(text))}}"


def _put_letters(rows: list[list[Cell]], drawing: Drawing) -> None:
    """Put each run's letter at the end of its line, so that lines differ without colours, too."""
    if len(drawing.ends) < 2 or drawing.frame is None:
        return
    height, width = len(rows), len(rows[0])
    for end in drawing.ends:
        at = np.array([end.x]), np.array([end.y])
        column = int(drawing.frame.columns(at[0], width)[0])
        row = int(drawing.frame.rows(at[1], height)[0])
        if 0 <= column < width and 0 <= row < height:
            rows[row][column] = (end.letter, f"bold {end.style}")


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


def axis_label(x: float, axis: str) -> str:
    """A place on an axis: its number, or the time since the run began."""
    if axis == "iter" and 0 <= x < 1e7:
        return f"{x:,.0f}"
    return duration(x) if axis == "time" else short(x, 8)
