"""The screen of `runs watch`: the list of runs, a page of charts, and the state of one run.

It shows what `Folders` knows, and reads no file itself.
"""

from typing import ClassVar

from textual.app import App, ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal
from textual.timer import Timer
from textual.widgets import Footer, Input, Static

from eventlog import counted, seconds

from ..core import seeds
from ..core.rows import Row
from ..core.runs import Refusal
from ..core.series import plain
from ..core.table import one_line
from ..live.folders import Folders
from ..live.values import SeriesValues
from . import means
from .chart import Chart
from .charts import Charts
from .drawing import axes_of, is_being_read, metrics_of, run_at
from .filter import matching
from .keys import BINDINGS, Help
from .listing import Listing
from .overview import Overview
from .prompt import Prompt
from .summary import summary
from .view import View

POLL_S = 0.5
TYPED_S = 0.3  # after the last key of a filter, it is tried
PROMPTED_MAX = 100  # names of series in a prompt
SHOWN_MAX = 6  # runs in one chart; more cannot be distinguished
PLACEHOLDER = "a part of a name, tag or note, or cfg.n_layer = 6 and best_val_loss < 4"


class Watch(App[None]):
    """The application."""

    CSS = """
    Screen { layout: vertical; background: ansi_default; color: ansi_default; }
    #head { height: 1; text-style: bold; }
    #middle { height: 1fr; }
    #runs { width: 28%; min-width: 28; max-width: 60; border-right: solid ansi_bright_black; }
    #foot { height: 2; }
    #head, #foot { text-wrap: nowrap; text-overflow: ellipsis; }
    Footer, FooterKey, FooterKey .footer-key--key, FooterKey .footer-key--description {
        background: ansi_default; color: ansi_default;
    }
    #foot.wrong { color: ansi_bright_red; text-wrap: wrap; }
    """
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = BINDINGS

    def __init__(self, folders: Folders, *, where: str = "") -> None:
        super().__init__(ansi_color=True)  # the terminal's own colours, none with NO_COLOR
        self.folders = folders
        self.view = View()
        self.where = where
        self.listing = Listing(folders)
        self.charts = Charts(folders, self.view)
        self.prompt = Prompt()
        self.head = Static(id="head", markup=False)
        self.foot = Static(id="foot", markup=False)
        self.hints = Footer(compact=True, show_command_palette=False)
        self._problem = ""
        self._version = -1
        self._n_runs = 0  # before the filter
        self._values = SeriesValues(folders)  # of series that the filter asks for
        self._n_left = 0  # runs that are still to be read for it
        self._found: list[str] = []  # series, by what was searched for
        self._n_series = 0  # before the search
        self._is_reading = True  # a run that is shown
        self._groups: list[seeds.Group] = []  # each is a line, while means are shown
        self._grouped: tuple[object, list[seeds.Group]] = (None, [])  # all, and of which runs
        self._has_chosen = False
        self._is_mounted = False
        self._typed: Timer | None = None

    def compose(self) -> ComposeResult:
        yield self.head
        with Horizontal(id="middle"):
            yield self.listing
            yield self.charts
        yield self.foot
        yield self.hints
        yield self.prompt

    def on_mount(self) -> None:
        self._is_mounted = True
        self.listing.focus()
        self.poll()
        self.set_interval(POLL_S, self.poll)

    def on_charts_resized(self) -> None:
        self.show()

    def poll(self) -> None:
        """Show what has changed since the last poll."""
        if self.folders.version != self._version or self._is_reading or self._n_left:
            self._version = self.folders.version
            self.listing.show(self._filtered())
            self.show()
            if isinstance(self.screen, Overview):
                self.screen.show()

    # ---- what is shown

    def show(self) -> None:
        """Draw the whole screen."""
        if not self._is_mounted:
            return
        if not self._has_chosen and self.listing.rows:
            self.listing.cursor = 0  # the newest, until the user chooses another
        self._groups = self._shown_groups()
        self._show_charts(self._shown())
        self.listing.changed()
        self.head.update(self._head())
        self._show_foot()

    def _filtered(self) -> list[Row]:
        """The runs to list: the live ones first, then the newest."""
        rows = sorted(self.folders.rows(), key=_order)
        n_unread = len(self.folders) - len(rows)
        self._n_runs = len(rows)
        self._problem = "; ".join(self.folders.problems)
        if not self.folders.is_complete or n_unread > 0:
            self.listing.note = "reading…"
        else:
            self.listing.note = "no run matches the filter" if rows else "no runs yet"
        try:
            found, self._n_left = matching(rows, self.where, self._values)
            if self._n_left:
                self.listing.note = f"reading {counted(self._n_left, 'run')} for the filter…"
            return found
        except Refusal as refusal:
            self._problem, self._n_left = str(refusal).removeprefix("--where: "), 0
            return rows

    def _shown(self) -> list[str]:
        """The ids of the runs in the charts."""
        if self._groups:
            return [id for group in self._groups for id in means.ids_of(group)]
        return self._picked()

    def _picked(self) -> list[str]:
        """The ids of the picked runs; if there are none, that of the run at the cursor."""
        listed = {row["id"] for row in self.listing.rows}
        self.listing.picked = [id for id in self.listing.picked if id in listed]
        current = self.listing.current
        return self.listing.picked or ([current["id"]] if current else [])

    def _shown_groups(self) -> list[seeds.Group]:
        """The groups of listed runs that have a picked one, and their letters in the list."""
        picked = self._picked()
        self.listing.numbers = {id: number for number, id in enumerate(self.listing.picked)}
        if not self.view.is_mean:
            return []
        listed = [(row["id"], row["sessions"]) for row in self.listing.rows]
        if self._grouped[0] != listed:  # to group thousands takes a second
            rows = self.folders.whole_rows(id for id, _ in listed)
            self._grouped = listed, seeds.groups(rows)
        groups = means.with_picked(self._grouped[1], picked)[:SHOWN_MAX]
        ids = [(id, number) for number, group in enumerate(groups) for id in means.ids_of(group)]
        self.listing.numbers = dict(ids)
        return groups

    def _show_charts(self, ids: list[str]) -> None:
        self._is_reading = is_being_read(self.folders, ids)  # before the series are listed
        find = self.view.find
        self._found = metrics_of(self.folders, ids, find)
        self._n_series = len(metrics_of(self.folders, ids, "*")) if find else len(self._found)
        note = "reading…" if self._is_reading else ""
        if not self._found and not note and ids:
            note = f"no series matches {find!r}" if find and self._n_series else "no series"
        self.charts.show(ids, self._groups, self._found, note)

    def _head(self) -> str:
        view, rows = self.view, self.listing.rows
        live = sum(bool(row.get("live")) for row in rows)
        of = f"{len(rows):,} of {self._n_runs:,}" if len(rows) < self._n_runs else f"{len(rows):,}"
        parts = [self._problem] if self._problem and not self.prompt.is_open else []
        parts += [f"{of} runs, {live} live"] if rows or self._n_runs else [self.listing.note]
        parts += self._series_text()
        parts += [f"by {plain(view.axis or self._default_axis())}"]
        parts += ["mean of seeds"] if view.is_mean else []
        parts += [f"smooth {view.smoothing}"] if view.smoothing else []
        parts += ["log"] if view.is_log else []
        width = view.end - view.begin
        parts += [f"zoom {1 / width:.3g}x"] if width < 1 else []
        left = f" (reading {self._n_left:,} runs)" if self._n_left else ""
        parts += [f"f {self.where}{left}"] if self.where else []
        return one_line(" · ".join([*parts, " ".join(self.folders.names)]))

    def _series_text(self) -> list[str]:
        """Which of how many series the page shows: `9 of 61 series`, `page 2 of 7`."""
        view, size, n = self.view, self.charts.page_size, len(self._found)
        if view.find:
            parts = [f"{n:,} of {self._n_series:,} series: {view.find}"]
        else:
            parts = [f"{min(n, size)} of {n:,} series"] if n > size else []
        if n > size and view.enlarged is None:
            at = min(view.first, n - 1) // size + 1
            parts.append(f"page {at:,} of {-(-n // size):,}")
        return parts

    def _default_axis(self) -> str:
        return "what the runs define" if axes_of(self.folders, self._shown()) else "iter"

    def _show_foot(self) -> None:
        is_wrong = self.prompt.is_open and self.prompt.of == "runs" and bool(self._problem)
        self.foot.set_class(is_wrong, "wrong")
        self.foot.update(one_line(self._problem) if is_wrong else self._foot())

    def _foot(self) -> str:
        row = self.listing.current
        if row is None:
            return ""
        if row.get("error"):
            return one_line(f"{row['run']}: {row['error']}")
        with run_at(self.folders, row["id"]) as run:
            lines = summary(row, run)
        if self._groups:
            texts = (means.text_of(*pair) for pair in enumerate(self._groups))
            lines = lines[0], "  ".join([*row["warnings"], *texts])
        if reading := self.charts.reading():
            lines = lines[0], reading
        return "\n".join(map(one_line, lines))

    # ---- keys and mouse: runs

    def action_cursor(self, n: int) -> None:
        self._has_chosen = True
        self.listing.move(n)
        self.show()

    def on_listing_scrolled(self, event: Listing.Scrolled) -> None:
        self.action_cursor(event.n)

    def on_listing_clicked(self) -> None:
        self.action_pick()

    def action_pick(self) -> None:
        """Show the cursor's run beside the others, or stop showing it."""
        current, picked = self.listing.current, self.listing.picked
        if current is None:
            return
        self._has_chosen = True
        groups = [means.ids_of(group) for group in self._groups]
        beside = next((ids for ids in groups if current["id"] in ids), [current["id"]])
        if any(id in picked for id in beside):
            self.listing.picked = [id for id in picked if id not in beside]
        elif len(picked) < SHOWN_MAX:
            picked.append(current["id"])
        self.show()

    def action_overview(self) -> None:
        if (row := self.listing.current) is not None:
            self.push_screen(Overview(self.folders, row["id"]))

    # ---- keys and mouse: charts

    def action_mean(self) -> None:
        self.view.is_mean = not self.view.is_mean
        self.show()

    def action_smooth(self) -> None:
        self.view.next_smoothing()
        self.show()

    def action_log(self) -> None:
        self.view.is_log = not self.view.is_log
        self.show()

    def action_axis(self) -> None:
        self.view.next_axis(axes_of(self.folders, self._shown()))
        self.show()

    def action_zoom(self, factor: float) -> None:
        self.view.zoom(factor)
        self.show()

    def action_move(self, part: float) -> None:
        self.view.move(part)
        self.show()

    def action_show_all(self) -> None:
        self.view.show_all()
        self.show()

    def action_turn(self, pages: int) -> None:
        self.view.turn(self._found, self.charts.page_size, pages)
        self.show()

    def on_charts_turned(self, event: Charts.Turned) -> None:
        self.action_turn(event.pages)

    def action_enlarge(self, number: int) -> None:
        """Enlarge a chart of the page; if one is enlarged, show the page again."""
        if self.view.enlarged is not None:
            self._shrink()
        elif number < len(page := self.view.page(self._found, self.charts.page_size)):
            self.view.enlarged = page[number]
        self.show()

    def on_chart_clicked(self, event: Chart.Clicked) -> None:
        if event.chart.metric:
            self.action_enlarge(self.charts.all.index(event.chart))

    def on_chart_pointed(self) -> None:
        self._show_foot()

    def action_read(self, columns: int) -> None:
        self.charts.move_cursor(columns)
        self._show_foot()

    def action_step(self, direction: int) -> None:
        self.charts.move_cursor(direction, is_step=True)
        self._show_foot()

    def action_leave(self) -> None:
        """Leave what was opened last: the prompt, the cursor, the enlarged chart, the search."""
        if self.prompt.is_open:
            self._ask_again(self.prompt.before)
            self._close_prompt()
        elif self.view.cursor is not None:
            self.view.cursor = None
        elif self.view.enlarged is not None:
            self._shrink()
        elif self.view.find:
            self.view.search("")
        self.show()

    def _shrink(self) -> None:
        """Show the page that has the enlarged chart."""
        if self.view.enlarged in self._found:
            self.view.first = self._found.index(self.view.enlarged)
        self.view.enlarged = None

    def action_help(self) -> None:
        self.push_screen(Help())

    # ---- the prompt: names of series, or a filter of runs

    def action_ask(self, of: str) -> None:
        known = " ".join(metrics_of(self.folders, self._shown())[:PROMPTED_MAX])
        text = self.where if of == "runs" else self.view.find
        self.hints.display = False
        self.prompt.open(of, text, PLACEHOLDER if of == "runs" else one_line(known))
        self._count()

    def on_input_changed(self, event: Input.Changed) -> None:
        if self._typed is not None:
            self._typed.stop()
        if self.prompt.of == "runs":  # of thousands, a filter takes a moment
            self._typed = self.set_timer(TYPED_S, lambda: self._ask_again(event.value))
        else:
            self._ask_again(event.value)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Close the prompt, unless the filter is wrong."""
        self._ask_again(event.value)
        if self.prompt.of != "runs" or not self._problem:
            self._close_prompt()

    def _ask_again(self, text: str) -> None:
        if self.prompt.of == "runs":
            self.where = text.strip()
            self.listing.show(self._filtered())
        else:
            self.view.search(text)
        self.show()
        self._count()

    def _count(self) -> None:
        if self.prompt.of == "runs":
            self.prompt.select(f"{len(self.listing.rows):,} of {counted(self._n_runs, 'run')}")
        else:
            self.prompt.select(f"{len(self._found):,} of {self._n_series:,} series")

    def _close_prompt(self) -> None:
        if self._typed is not None:
            self._typed.stop()
        self.prompt.close()
        self.hints.display = True
        self.listing.focus()
        self._show_foot()


def _order(row: Row) -> tuple[bool, float]:
    return not row.get("live"), -(seconds(row.get("started")) or 0.0)
