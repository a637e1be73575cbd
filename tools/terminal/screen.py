"""The screen of `runs watch`: the runs on the left, four charts, and what the run is at.

It shows what `Folders` knows and reads nothing itself; twice a second it looks what is new.
"""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from typing import ClassVar

import numpy as np
from textual import events
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Grid, Horizontal
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from ..core.formats import duration, short
from ..core.names import AXES, AxisName
from ..core.rows import Row
from ..core.runs import Refusal
from ..core.smoothing import smooth
from ..core.table import one_line
from ..core.times import seconds
from ..core.where import select
from ..live.curves import Axis, Rows
from ..live.folders import Folders
from ..live.following import TABLES, Following
from .braille import Line, frame_around
from .chart import AXIS_WIDTH, MARKS, Chart, Drawing
from .listing import STYLES, Listing, pace_eta_s

LOOK_S = 0.5
SHOWN_MAX = 6  # runs in one chart; more cannot be told apart
KEYS = ("loss", "val_loss", "time_ms", "mfu")
SMOOTHINGS = (0, 10, 50, 200)  # logged values
HELP = """\
Runs     up, down, page up, page down    the run
         space     beside others: A, B, C ... (up to 6)
         /         list some:  a part of a name,
                   or config.n_layer = 6 and best_val_loss < 4
Charts   1 2 3 4   one of them large, and back
         m         the next four figures
         k         figures by name: grad* lr
         s  l      smoother, log scale
         x         by iteration, tokens, hours
         + -       zoom; left, right: move; 0: all of it
Below    e eval   c checkpoint   r resume   s signal   | end
a chart  ! not finite   a alert   x error   g events lost   n note
         of the run that is shown, of several of A
q        quit. The plain form of this: eventlog tail -f
                                                 any key: back"""


@dataclass
class View:
    """What is asked for: which runs, figures, and part of them."""

    keys: list[str] = field(default_factory=lambda: list(KEYS))
    axis: AxisName = "iter"
    smoothing: int = 0
    is_log: bool = False
    begin: float = 0.0
    """Of the whole x range, 0 to 1."""
    end: float = 1.0
    """1: the right edge goes on with the run."""
    large: int | None = None
    """Which chart fills the screen, if one does."""

    def zoom(self, factor: float) -> None:
        """Make the part `factor` times as wide; an edge at the end stays there."""
        width = min(1.0, max(1e-6, (self.end - self.begin) * factor))
        middle = (self.begin + self.end) / 2
        begin = 1 - width if self.end == 1.0 else middle - width / 2
        self.begin = min(max(0.0, begin), 1 - width)
        self.end = 1.0 if self.end == 1.0 else min(1.0, self.begin + width)

    def move(self, part: float) -> None:
        width = self.end - self.begin
        self.begin = min(max(0.0, self.begin + part * width), 1 - width)
        self.end = self.begin + width
        if self.end > 1 - 1e-9:
            self.end = 1.0


class Help(ModalScreen[None]):
    """All keys, until one is pressed."""

    def compose(self) -> ComposeResult:
        yield Static(HELP, id="help", markup=False)

    def on_key(self, event: events.Key) -> None:
        event.stop()
        self.dismiss()


class Watch(App[None]):
    """All of it."""

    CSS = """
    Screen { layout: vertical; background: ansi_default; color: ansi_default; }
    #head { height: 1; text-style: bold; }
    #middle { height: 1fr; }
    #runs { width: 28%; min-width: 28; max-width: 60; border-right: solid ansi_bright_black; }
    #charts { grid-size: 2 2; grid-gutter: 0 1; padding-left: 1; }
    #charts.large { grid-size: 1 1; }
    #foot { height: 2; }
    #ask { dock: bottom; height: 1; border: none; display: none; padding: 0; }
    #ask.asked { display: block; }
    Help { align: center middle; }
    #help { width: 76; height: auto; max-height: 100%; padding: 1; border: solid; }
    """
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q,ctrl+c", "quit", "quit", priority=False),
        Binding("question_mark,h,f1", "help", "help"),
        Binding("up", "cursor(-1)"), Binding("down", "cursor(1)"),
        Binding("pageup", "cursor(-10)"), Binding("pagedown", "cursor(10)"),
        Binding("home", "cursor(-1000000)"), Binding("end", "cursor(1000000)"),
        Binding("space", "pick"),
        Binding("s", "smooth"), Binding("l", "log"), Binding("x", "axis"),
        Binding("plus,equals_sign", "zoom(0.5)"), Binding("minus", "zoom(2)"),
        Binding("left", "move(-0.25)"), Binding("right", "move(0.25)"),
        Binding("0", "whole"), Binding("m", "more"),
        *(Binding(str(n), f"large({n - 1})") for n in (1, 2, 3, 4)),
        Binding("escape", "small"),
        Binding("slash", "ask('where')"), Binding("k", "ask('keys')"),
    ]  # fmt: skip

    def __init__(self, folders: Folders, *, where: str = "") -> None:
        # Without colour: the terminal's own, and none of ours.
        super().__init__(ansi_color=True)
        self.folders = folders
        self.view = View()
        self.where = where
        self.listing = Listing(folders)
        self.charts = [Chart(n) for n in range(4)]
        self._problem = ""
        self._asked = ""
        self._version = -1
        self._has_chosen = False
        self._is_ready = False

    def compose(self) -> ComposeResult:
        yield Static(id="head", markup=False)
        with Horizontal(id="middle"):
            yield self.listing
            yield Grid(*self.charts, id="charts")
        yield Static(id="foot", markup=False)
        yield Input(id="ask", compact=True)

    def on_mount(self) -> None:
        self._is_ready = True
        self.listing.focus()
        self.look()
        self.set_interval(LOOK_S, self.look)

    def on_resize(self) -> None:
        self.call_after_refresh(self.show)

    # ---- what is new

    def look(self) -> None:
        """Show what changed since the last look."""
        if self.folders.version != self._version:
            self._version = self.folders.version
            self.listing.show(self._listed())
            self.show()

    def _listed(self) -> list[Row]:
        """The runs to list: those being written first, then the latest."""
        rows = sorted(self.folders.rows(), key=_order)
        self._problem = "; ".join(self.folders.problems)
        if not self.where:
            return rows
        if not any(sign in self.where for sign in "<>=()") and " " not in self.where.strip():
            word = self.where.strip().lower()
            told = ("run", "status", "tags", "file")
            return [r for r in rows if any(word in str(r.get(key)).lower() for key in told)]
        try:
            return select(rows, self.where)
        except Refusal as refusal:
            self._problem = str(refusal).removeprefix("--where: ")
            return rows

    def show(self) -> None:
        """Draw everything anew."""
        if not self._is_ready:
            return
        if not self._has_chosen and self.listing.rows:
            self.listing.cursor = 0  # until somebody chooses, the newest one
        shown = self._shown()
        for number, (chart, drawing) in enumerate(zip(self.charts, self._drawings(shown))):  # noqa: B905
            chart.display = self.view.large in (None, number)
            chart.show(drawing)
        self.listing.changed()
        self.query_one("#charts").set_class(self.view.large is not None, "large")
        self.query_one("#head", Static).update(self._head())
        self.query_one("#foot", Static).update(self._foot())

    def _shown(self) -> list[str]:
        """Ids of the runs in the charts."""
        there = {row["id"] for row in self.listing.rows}
        self.listing.picked = [id for id in self.listing.picked if id in there]
        current = self.listing.current
        return self.listing.picked or ([current["id"]] if current else [])

    def _head(self) -> str:
        view, rows = self.view, self.listing.rows
        live = sum(bool(row.get("live")) for row in rows)
        parts = [self._problem] if self._problem else []
        parts += [f"{len(rows):,} runs, {live} live", f"by {view.axis}"]
        parts += [f"smooth {view.smoothing}"] if view.smoothing else []
        parts += ["log"] if view.is_log else []
        width = view.end - view.begin
        parts += [f"zoom {1 / width:.3g}x"] if width < 1 else []
        parts += [f"/{self.where}"] if self.where else []
        parts += ["? help", " ".join(self.folders.names)]
        return one_line(" · ".join(parts))[: self.size.width]

    def _foot(self) -> str:
        row = self.listing.current
        if row is None:
            return ""
        if row.get("error"):
            return one_line(f"{row['run']}: {row['error']}")
        with self.folders.at(row["id"]) as run:
            first, second = _words(row, run)
        return "\n".join(one_line(line)[: self.size.width] for line in (first, second))

    # ---- charts

    def _drawings(self, shown: Sequence[str]) -> Iterator[Drawing]:
        left, right = self._range(shown)
        for chart, key in zip(self.charts, [*self.view.keys, "", "", "", ""], strict=False):
            width = max(10, (chart.size.width or 40) - AXIS_WIDTH - 1)
            yield self._drawing(key, shown, left, right, 2 * width)

    def _range(self, shown: Sequence[str]) -> tuple[float, float]:
        """The part of the x axis that is looked at."""
        lows, highs = [], []
        for id in shown:
            with self.folders.at(id) as run:
                axis = run.axis(self.view.axis) if run else None
                if run is None or axis is None:
                    continue
                for name in TABLES:
                    rows = run.known.tables[name]
                    if len(rows):
                        ends = axis.place(rows, np.array([0, len(rows) - 1]))
                        lows.append(float(ends[0]))
                        highs.append(float(ends[1]))
        low, high = min(lows, default=0.0), max(highs, default=1.0)
        if high <= low:
            high = low + 1
        width = high - low
        return low + self.view.begin * width, low + self.view.end * width

    def _drawing(
        self, key: str, shown: Sequence[str], left: float, right: float, n_buckets: int
    ) -> Drawing:
        raw: list[Line] = []
        smoothed: list[Line] = []
        ends, marks = [], []
        for number, id in enumerate(shown):
            style = STYLES[number]
            with self.folders.at(id) as run:
                axis = run.axis(self.view.axis) if run else None
                rows = _table(run, key) if run else None
                if run is None or axis is None or rows is None:
                    continue
                curve = rows.curve(key, axis, begin=left, end=right, n_buckets=n_buckets)
                marks += _marks(run, axis, left, right) if number == 0 else []
                marks += [(x, "nonfinite") for x, _ in curve.nonfinite]
            is_smoothed = self.view.smoothing > 0 and rows is run.iterations  # evals are few
            line = Line(curve.x, curve.y, f"dim {style}" if is_smoothed else style)
            raw.append(line)
            if is_smoothed:
                means = smooth(curve.means, self.view.smoothing, curve.counts)
                smoothed.append(Line(curve.mean_x, means, style))
            seen = np.flatnonzero(np.isfinite(line.y) & (line.x >= left) & (line.x <= right))
            if len(seen):
                last = int(seen[-1])
                ends.append((chr(ord("A") + number), style, line.x[last], line.y[last]))
        frame = frame_around(raw, left, right, is_log=self.view.is_log)
        return Drawing(_title(key, ends), [*raw, *smoothed], ends, frame, marks, self.view.axis)

    def _keys(self) -> list[str]:
        """All figures of the runs that are shown, the four first ones first."""
        known = dict.fromkeys(KEYS)
        for id in self._shown():
            with self.folders.at(id) as run:
                for name in TABLES if run else ():
                    known |= dict.fromkeys(run.known.tables[name].figures) if run else {}
        return list(known)

    # ---- keys

    def action_cursor(self, n: int) -> None:
        self._has_chosen = True
        self.listing.move(n)
        self.show()

    def action_pick(self) -> None:
        """Show the cursor's run beside the others, or not any more."""
        current, picked = self.listing.current, self.listing.picked
        if current is None:
            return
        self._has_chosen = True
        if current["id"] in picked:
            picked.remove(current["id"])
        elif len(picked) < SHOWN_MAX:
            picked.append(current["id"])
        self.show()

    def action_smooth(self) -> None:
        at = SMOOTHINGS.index(self.view.smoothing)
        self.view.smoothing = SMOOTHINGS[(at + 1) % len(SMOOTHINGS)]
        self.show()

    def action_log(self) -> None:
        self.view.is_log = not self.view.is_log
        self.show()

    def action_axis(self) -> None:
        """The next axis, the whole of it: another one's part means nothing there."""
        self.view.axis = AXES[(AXES.index(self.view.axis) + 1) % len(AXES)]
        self.action_whole()

    def action_zoom(self, factor: float) -> None:
        self.view.zoom(factor)
        self.show()

    def action_move(self, part: float) -> None:
        self.view.move(part)
        self.show()

    def action_whole(self) -> None:
        self.view.begin, self.view.end = 0.0, 1.0
        self.show()

    def action_more(self) -> None:
        """The next four figures, round and round."""
        keys = self._keys()
        first = self.view.keys[0]
        at = keys.index(first) + len(KEYS) if first in keys else 0
        self.view.keys = keys[at : at + 4] or keys[:4]
        self.show()

    def action_large(self, number: int) -> None:
        self.view.large = None if self.view.large == number else number
        self.show()
        self.call_after_refresh(self.show)  # it has another size now

    def action_small(self) -> None:
        self.view.large = None
        self._end_asking()
        self.show()
        self.call_after_refresh(self.show)

    def action_help(self) -> None:
        self.push_screen(Help())

    def action_ask(self, what: str) -> None:
        ask = self.query_one("#ask", Input)
        self._asked = what
        ask.placeholder = {
            "where": "runs: a part of the name, or config.n_layer = 6 and best_val_loss < 4",
            "keys": one_line(f"figures: {' '.join(self._keys())}"),
        }[what]
        ask.value = self.where if what == "where" else ""
        ask.add_class("asked")
        ask.focus()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        if self._asked == "where":
            self.where = event.value.strip()
            self.listing.show(self._listed())
        else:
            patterns = event.value.split()
            chosen = [k for k in self._keys() if any(fnmatch(k, p) for p in patterns)]
            self.view.keys = chosen[:4] or list(KEYS)
        self._end_asking()
        self.show()

    def _end_asking(self) -> None:
        self.query_one("#ask").remove_class("asked")
        self.listing.focus()


def _order(row: Row) -> tuple[bool, float]:
    return not row.get("live"), -(seconds(row.get("started")) or 0.0)


def _table(run: Following, key: str) -> Rows | None:
    """The rows that have the figure, those of iterations first."""
    for name in TABLES:
        if key in run.known.tables[name].figures:
            return run.known.tables[name]
    return None


def _title(key: str, ends: Sequence[tuple[str, str, float, float]]) -> str:
    """The figure, and what it is at the end of each line."""
    if len(ends) == 1:
        return f"{key}  {short(ends[0][3])}"
    return f"{key}  {'  '.join(f'{letter} {short(y)}' for letter, _, _, y in ends)}"


def _marks(run: Following, axis: Axis, left: float, right: float) -> list[tuple[float, str]]:
    """What happened to a run between `left` and `right`, and where."""
    marks: list[tuple[float, str]] = []
    if len(run.evals):
        places = axis.place(run.evals, np.arange(len(run.evals)))
        inside = places[(places >= left) & (places <= right)]
        marks += [(x, "eval") for x in np.unique(inside).tolist()]
    for mark in run.known.marks:
        if mark["kind"] in MARKS and (mark["kind"] != "open" or mark["iter"] > 0):
            x = _mark_place(run, axis, mark["iter"], mark["t"])
            if left <= x <= right:
                marks.append((x, mark["kind"]))
    return marks


def _mark_place(run: Following, axis: Axis, i: int, t: str) -> float:
    if axis.name == "iter":
        return float(i)
    if axis.name == "time":
        return (seconds(t) or math.nan) - axis.started
    if not len(run.iterations):
        return 0.0
    at = np.searchsorted(run.iterations.iters.values, i)
    return float(axis.place(run.iterations, np.clip([at], 0, len(run.iterations) - 1))[0])


def _words(row: Row, run: Following | None) -> tuple[str, str]:
    """What there is to say of a run: how far it is, and its latest event."""
    words = [f"{row['run']}  {row['status']}"]
    last, total = row.get("last_iter"), row.get("max_iters")
    if last is not None:
        words.append(f"iter {last:,}{f'/{total:,}' if total else ''}")
    if run is None:
        return "  ".join(words), ""
    if row.get("live") and (eta_s := pace_eta_s(run, total)) is not None:
        words.append(f"eta {duration(eta_s)}")
    for key, name in (("loss", "loss"), ("val_loss", "val"), ("time_ms", "ms"), ("mfu", "mfu %")):
        rows = _table(run, key)
        value = rows.figures[key].last() if rows else None
        words += [f"{name} {short(value)}"] if value is not None else []
    if not run.known.marks:
        return "  ".join(words), ""
    mark = run.known.marks[-1]
    at = time.strftime("%H:%M:%S", time.localtime(seconds(mark["t"]))) if mark["t"] else ""
    reason = run.run().journal.get("reason") if not row.get("live") else None
    latest = f"{at} {mark['kind']} at {mark['iter']:,}  {mark['text']}"
    return "  ".join(words), reason or latest
