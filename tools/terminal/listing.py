"""The runs as a list in the terminal, of which one is the cursor's."""

import re
from collections import Counter

import numpy as np

from ..core.formats import duration
from ..core.rows import Row
from ..core.table import one_line
from ..live.folders import Folders
from ..live.following import Following
from .braille import Cell
from .chart import Lines

STYLES = ("bright_cyan", "bright_yellow", "bright_magenta", "bright_green", "bright_red", "white")
GLYPHS = {"running": "●", "completed": "✓", "interrupted": "◌", "failed": "✗", "unreadable": "?"}
_STAMP = re.compile(r"(?<=.)_\d{8}_\d{6}(_\d+)?$")


class Listing(Lines):
    """The runs, of which one is the cursor's; only those that are seen are drawn."""

    can_focus = True

    def __init__(self, folders: Folders) -> None:
        super().__init__(id="runs")
        self._folders = folders
        self.rows: list[Row] = []
        self._names: Counter[str] = Counter()
        self.picked: list[str] = []
        self.cursor = 0
        self._top = 0

    @property
    def current(self) -> Row | None:
        return self.rows[self.cursor] if self.rows else None

    def show(self, rows: list[Row]) -> None:
        """Other rows; the cursor stays on its run, if it is still there."""
        at = self.current["id"] if self.current else None
        self.rows = rows
        self._names = Counter(_unstamped(row) for row in rows)
        ids = [row["id"] for row in rows]
        self.cursor = ids.index(at) if at in ids else min(self.cursor, max(0, len(rows) - 1))
        self.changed()

    def move(self, n: int) -> None:
        self.cursor = min(max(0, self.cursor + n), max(0, len(self.rows) - 1))
        self.changed()

    def text_rows(self, width: int, height: int) -> list[list[Cell]]:
        self._top = min(self._top, self.cursor, max(0, len(self.rows) - height))
        self._top = max(self._top, self.cursor - height + 1, 0)
        if not self.rows:
            return [[(" no runs yet", "")]]
        return [
            self._line(row, width, is_cursor=at == self.cursor)
            for at, row in enumerate(self.rows[self._top : self._top + height], self._top)
        ]

    def _line(self, row: Row, width: int, *, is_cursor: bool) -> list[Cell]:
        letter, style = " ", ""
        if row["id"] in self.picked:
            number = self.picked.index(row["id"])
            letter, style = chr(ord("A") + number), f"bold {STYLES[number]}"
        glyph = GLYPHS.get(str(row["status"]), "·")
        behind = f" {progress(row)}"
        if row.get("live") and (eta_s := self._eta_s(row)) is not None:
            behind += f" {duration(eta_s)}"
        room = max(0, width - 3 - len(behind))
        name = _unstamped(row)
        if self._names[name] > 1:
            name = one_line(str(row["run"]))
        if len(name) > room:  # runs of one day differ at their ends
            name = f"{name[: room // 3]}…{name[len(name) - (room - room // 3 - 1) :]}"
        cells = [
            (letter, style),
            (f"{glyph} ", _status_style(row)),
            (f"{name:<{room}}{behind}", ""),
        ]
        return [(text, f"{style} reverse") for text, style in cells] if is_cursor else cells

    def _eta_s(self, row: Row) -> float | None:
        with self._folders.at(row["id"]) as run:
            return pace_eta_s(run, row.get("max_iters")) if run else None


def _unstamped(row: Row) -> str:
    """A run's name without the time that the logger put behind it."""
    name = one_line(str(row["run"]))
    return _STAMP.sub("", name) or name


def progress(row: Row) -> str:
    """How far a run is, in four characters: a percentage, while it is not complete."""
    if row.get("progress") is not None:
        return "read"
    last, total = row.get("last_iter"), row.get("max_iters")
    last = last if last is not None else (row.get("iterations") or 0) - 1
    if row["status"] == "completed" or not total or type(last) is not int:
        return "    "
    return f"{min(99, max(0, int(100 * last / total))):3}%"


def _status_style(row: Row) -> str:
    return {
        "running": "bold bright_green", "failed": "bold bright_red", "unreadable": "bright_red",
        "interrupted": "bright_yellow",
    }.get(str(row["status"]), "")  # fmt: skip


def pace_eta_s(run: Following, total: int | None) -> float | None:
    """Seconds to the last iteration, at the pace of the latest two hundred."""
    rows = run.iterations
    n = min(200, len(rows))
    if n < 2 or total is None:
        return None
    ends = np.array([len(rows) - n, len(rows) - 1])
    (begin, end), (first, last) = rows.times.floats_at(ends), rows.iters.floats_at(ends)
    return float((end - begin) / max(1, last - first) * max(0, total - last))
