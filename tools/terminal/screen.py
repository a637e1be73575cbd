"""The screen of `runs watch`: the list of runs, four charts, and the state of one run.

It shows what `Folders` knows, and reads no file itself.
"""

from collections.abc import Sequence
from typing import ClassVar

from textual import events
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Grid, Horizontal
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from eventlog import seconds

from ..core import seeds
from ..core.rows import Row
from ..core.runs import Refusal
from ..core.series import plain
from ..core.table import one_line
from ..core.where import select
from ..live.folders import Folders
from . import means
from .chart import AXIS_WIDTH, Chart
from .drawing import (
    CHARTS,
    View,
    axes_of,
    axis_name,
    drawing,
    metrics_of,
    run_at,
    shown_metrics,
    x_range,
)
from .listing import Listing
from .summary import summary

POLL_S = 0.5
PROMPTED_MAX = 100  # names of series in a prompt
SHOWN_MAX = 6  # runs in one chart; more cannot be distinguished
SEARCHED = ("run", "status", "tags", "file")
HELP = """\
Runs     up, down, page up, page down    choose a run
         space     show it beside others: A, B, C ... (up to 6)
         e         runs that differ in the seed alone as one line: their
                   mean, between dim lines at ± standard deviation
         /         filter: a part of a name,
                   or config.n_layer = 6 and best_val_loss < 4
         !  NaN    in the list: events lost or ignored, or the journal
                   missing (below in words); a series that ends in NaN
Charts   1 2 3 4   enlarge one, and back
         m         the next four series
         k         series by name: grad* val/* lr
         s  l      smoother, log scale
         x         by iteration, tokens, time, or a series as axis
         + -       zoom; left, right: move; 0: show all
Below    e eval   c checkpoint   r resume   s signal   | end
a chart  ! not finite   a alert   x error   g events lost   n note
         of the run that is shown; of several, of A
q        quit. The same as plain text: eventlog tail -f
                                                 any key: back"""


class Help(ModalScreen[None]):
    """All keys, until one is pressed."""

    def compose(self) -> ComposeResult:
        yield Static(HELP, id="help", markup=False)

    def on_key(self, event: events.Key) -> None:
        event.stop()
        self.dismiss()


class Watch(App[None]):
    """The application."""

    CSS = """
    Screen { layout: vertical; background: ansi_default; color: ansi_default; }
    #head { height: 1; text-style: bold; }
    #middle { height: 1fr; }
    #runs { width: 28%; min-width: 28; max-width: 60; border-right: solid ansi_bright_black; }
    #charts { grid-size: 2 2; grid-gutter: 0 1; padding-left: 1; }
    #charts.enlarged { grid-size: 1 1; }
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
        Binding("0", "show_all"), Binding("m", "metrics"), Binding("e", "mean"),
        *(Binding(str(n), f"enlarge({n - 1})") for n in (1, 2, 3, 4)),
        Binding("escape", "shrink"),
        Binding("slash", "ask('where')"), Binding("k", "ask('metrics')"),
    ]  # fmt: skip

    def __init__(self, folders: Folders, *, where: str = "") -> None:
        super().__init__(ansi_color=True)  # the terminal's own colours, none with NO_COLOR
        self.folders = folders
        self.view = View()
        self.where = where
        self.listing = Listing(folders)
        self.charts = [Chart(n) for n in range(CHARTS)]
        self._problem = ""
        self._prompt = ""
        self._version = -1
        self._groups: list[seeds.Group] = []  # each is a line, while means are shown
        self._grouped: tuple[object, list[seeds.Group]] = (None, [])  # all, and of which runs
        self._has_chosen = False
        self._is_mounted = False

    def compose(self) -> ComposeResult:
        yield Static(id="head", markup=False)
        with Horizontal(id="middle"):
            yield self.listing
            yield Grid(*self.charts, id="charts")
        yield Static(id="foot", markup=False)
        yield Input(id="ask", compact=True)

    def on_mount(self) -> None:
        self._is_mounted = True
        self.listing.focus()
        self.poll()
        self.set_interval(POLL_S, self.poll)

    def on_resize(self) -> None:
        self.call_after_refresh(self.show)

    def poll(self) -> None:
        """Show what has changed since the last poll."""
        if self.folders.version != self._version:
            self._version = self.folders.version
            self.listing.show(self._filtered())
            self.show()

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
        self.query_one("#head", Static).update(self._head())
        self.query_one("#foot", Static).update(self._foot())

    def _filtered(self) -> list[Row]:
        """The runs to list: the live ones first, then the newest."""
        rows = sorted(self.folders.rows(), key=_order)
        self._problem = "; ".join(self.folders.problems)
        if not self.where:
            return rows
        if not any(sign in self.where for sign in "<>=()") and " " not in self.where.strip():
            word = self.where.strip().lower()
            return [r for r in rows if any(word in str(r.get(key)).lower() for key in SEARCHED)]
        try:
            return select(rows, self.where)
        except Refusal as refusal:
            self._problem = str(refusal).removeprefix("--where: ")
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

    def _show_charts(self, ids: Sequence[str]) -> None:
        view = self.view
        metrics = shown_metrics(view, self._known_metrics())
        for number, chart in enumerate(self.charts):
            chart.display = view.enlarged in (None, number)
            metric = metrics[number] if number < len(metrics) else ""
            width = max(10, (chart.size.width or 40) - AXIS_WIDTH - 1)
            x = axis_name(self.folders, ids, view, metric)
            edges = x_range(self.folders, ids, view, x)
            of_view = (metric, view, edges, 2 * width, x)
            if self._groups:
                groups = [*map(means.ids_of, self._groups)]
                chart.show(means.drawing_of_means(self.folders, groups, *of_view))
            else:
                chart.show(drawing(self.folders, ids, *of_view))
        self.query_one("#charts").set_class(view.enlarged is not None, "enlarged")

    def _head(self) -> str:
        view, rows = self.view, self.listing.rows
        live = sum(bool(row.get("live")) for row in rows)
        parts = [self._problem] if self._problem else []
        parts += [
            f"{len(rows):,} runs, {live} live",
            f"by {plain(view.axis or self._default_axis())}",
        ]
        n_series = len(self._known_metrics())
        parts += [f"{CHARTS} of {n_series:,} series"] if n_series > CHARTS else []
        parts += ["mean of seeds"] if view.is_mean else []
        parts += [f"smooth {view.smoothing}"] if view.smoothing else []
        parts += ["log"] if view.is_log else []
        width = view.end - view.begin
        parts += [f"zoom {1 / width:.3g}x"] if width < 1 else []
        parts += [f"/{self.where}"] if self.where else []
        parts += ["? help", " ".join(self.folders.names)]
        return one_line(" · ".join(parts))[: self.size.width]

    def _default_axis(self) -> str:
        return "what the runs define" if axes_of(self.folders, self._shown()) else "iter"

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
        return "\n".join(one_line(line)[: self.size.width] for line in lines)

    # ---- keys

    def action_cursor(self, n: int) -> None:
        self._has_chosen = True
        self.listing.move(n)
        self.show()

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

    def action_metrics(self) -> None:
        self.view.next_metrics(self._known_metrics())
        self.show()

    def action_enlarge(self, number: int) -> None:
        self.view.enlarged = None if self.view.enlarged == number else number
        self.show()
        self.call_after_refresh(self.show)  # at its new size

    def action_shrink(self) -> None:
        self.view.enlarged = None
        self._close_prompt()
        self.show()
        self.call_after_refresh(self.show)

    def action_help(self) -> None:
        self.push_screen(Help())

    # ---- prompts: a filter, or names of series

    def action_ask(self, prompt: str) -> None:
        ask = self.query_one("#ask", Input)
        self._prompt = prompt
        ask.placeholder = {
            "where": "runs: a part of the name, or config.n_layer = 6 and best_val_loss < 4",
            "metrics": one_line(f"series: {' '.join(self._known_metrics()[:PROMPTED_MAX])}"),
        }[prompt]
        ask.value = self.where if prompt == "where" else ""
        ask.add_class("asked")
        ask.focus()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        if self._prompt == "where":
            self.where = event.value.strip()
            self.listing.show(self._filtered())
        else:
            chosen = metrics_of(self.folders, self._shown(), event.value)
            self.view.metrics = chosen[:CHARTS] if event.value.strip() else []
        self._close_prompt()
        self.show()

    def _close_prompt(self) -> None:
        self.query_one("#ask").remove_class("asked")
        self.listing.focus()

    def _known_metrics(self) -> list[str]:
        return metrics_of(self.folders, self._shown())


def _order(row: Row) -> tuple[bool, float]:
    return not row.get("live"), -(seconds(row.get("started")) or 0.0)
