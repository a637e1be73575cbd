"""The list of runs, with a cursor on one of them."""

from collections import Counter
from textwrap import wrap

from rich.cells import set_cell_size
from textual import events
from textual.message import Message

from eventlog import duration

from ..core.rows import Row
from ..core.runs import STAMP
from ..core.table import one_line
from ..live.folders import Folders
from .braille import Cell
from .chart import STYLES, Rows
from .drawing import run_at
from .names import shortened
from .summary import eta_s, progress

GLYPHS = {
    "running": "●",
    "completed": "✓",
    "interrupted": "◌",
    "failed": "✗",
    "unreadable": "?",
    "reading": "…",
}


WHEEL_RUNS = 3  # that one step of the wheel goes on


class Listing(Rows):
    """The list of runs. Only the visible part is drawn."""

    can_focus = True

    class Clicked(Message):
        """A run was clicked; the cursor is on it."""

    class Scrolled(Message):
        """The wheel was turned over the list, by `n` runs."""

        def __init__(self, n: int) -> None:
            super().__init__()
            self.n = n

    def __init__(self, folders: Folders) -> None:
        super().__init__(id="runs")
        self._folders = folders
        self.rows: list[Row] = []
        self._names: Counter[str] = Counter()
        self.picked: list[str] = []
        self.numbers: dict[str, int] = {}
        """The number of the line of a run, from which it has its letter and colour."""
        self.cursor = 0
        self.note = "reading…"
        """What there is in place of runs."""
        self._top = 0

    @property
    def current(self) -> Row | None:
        return self.rows[self.cursor] if self.rows else None

    def show(self, rows: list[Row]) -> None:
        """Replace the rows. The cursor stays on its run if that is still listed."""
        at = self.current["id"] if self.current else None
        self.rows = rows
        self._names = Counter(_unstamped(row) for row in rows)
        ids = [row["id"] for row in rows]
        self.cursor = ids.index(at) if at in ids else min(self.cursor, max(0, len(rows) - 1))
        self.changed()

    def move(self, n: int) -> None:
        self.cursor = min(max(0, self.cursor + n), max(0, len(self.rows) - 1))
        self.changed()

    def on_click(self, event: events.Click) -> None:
        if 0 <= (at := self._top + event.y) < len(self.rows):
            self.cursor = at
            self.post_message(self.Clicked())

    def on_mouse_scroll_down(self) -> None:
        self.post_message(self.Scrolled(WHEEL_RUNS))

    def on_mouse_scroll_up(self) -> None:
        self.post_message(self.Scrolled(-WHEEL_RUNS))

    def text_rows(self, width: int, height: int) -> list[list[Cell]]:
        self._top = min(self._top, self.cursor, max(0, len(self.rows) - height))
        self._top = max(self._top, self.cursor - height + 1, 0)
        if not self.rows:
            return [[(f" {line}", "")] for line in wrap(self.note, max(1, width - 1))]
        return [
            self._line(row, width, is_cursor=at == self.cursor)
            for at, row in enumerate(self.rows[self._top : self._top + height], self._top)
        ]

    def _line(self, row: Row, width: int, *, is_cursor: bool) -> list[Cell]:
        letter, style = " ", ""
        if (number := self.numbers.get(row["id"])) is not None:
            letter, style = chr(ord("A") + number), f"bold {STYLES[number]}"
        glyph = GLYPHS.get(str(row["status"]), "·")
        suffix = f"{' NaN' if row.get('ends_nonfinite') else ''} {progress(row)}"
        if row.get("live") and (left_s := self._eta_s(row)) is not None:
            suffix += f" {duration(left_s)}"
        name = _unstamped(row)
        if self._names[name] > 1:
            name = one_line(str(row["run"]))
        if row["warnings"]:  # in words where there is room; they are below the charts, too
            words = f"  {', '.join(row['warnings'])}"
            is_room = len(name) + len(words) + len(suffix) <= width - 3
            suffix = f"{words if is_room else ' !'}{suffix}"
        n_left = max(0, width - 3 - len(suffix))
        name = shortened(name, n_left)  # runs of one day differ at their ends
        cells = [
            (letter, style),
            (f"{glyph} ", _status_style(row)),
            (f"{set_cell_size(name, n_left)}{suffix}", ""),
        ]
        return [(text, f"{style} reverse") for text, style in cells] if is_cursor else cells

    def _eta_s(self, row: Row) -> float | None:
        with run_at(self._folders, row["id"]) as run:
            return eta_s(run, row.get("max_iters")) if run else None


def _unstamped(row: Row) -> str:
    """A run's name without the time that the logger appends."""
    name = one_line(str(row["run"]))
    return STAMP.sub("", name) or name


def _status_style(row: Row) -> str:
    return {
        "running": "bold bright_green", "failed": "bold bright_red", "unreadable": "bright_red",
        "interrupted": "bright_yellow",
    }.get(str(row["status"]), "")  # fmt: skip
