"""The screen of one run: what it is, its settings, series, alerts, events and log."""

from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import ModalScreen
from textual.widgets import DataTable, Footer, Input, Static, Tab, Tabs

from ..core.table import printable
from ..live.folders import Folders
from .drawing import run_at
from .names import shortened
from .sheets import SHEETS, Sheet, sheet

NAME_WIDTH_MAX = 40
TEXT_MAX = 2_000  # characters of a value


class Overview(ModalScreen[None]):
    """Tables of one run; `/` searches the one that is shown."""

    CSS = """
    Overview { layout: vertical; background: ansi_default; color: ansi_default; }
    Overview #title { height: 1; text-style: bold; text-wrap: nowrap; text-overflow: ellipsis; }
    Overview Tab, Overview Tab.-active { color: ansi_default; background: ansi_default; }
    Overview Tab.-active { text-style: reverse; }
    Overview Underline { display: none; }
    Overview Tabs { height: 1; background: ansi_default; }
    Overview DataTable {
        height: 1fr; background: ansi_default; color: ansi_default;
        scrollbar-color: ansi_bright_black; scrollbar-background: ansi_default;
        scrollbar-color-hover: ansi_bright_black; scrollbar-background-hover: ansi_default;
        scrollbar-color-active: ansi_bright_black; scrollbar-background-active: ansi_default;
        scrollbar-corner-color: ansi_default;
    }
    Overview DataTable > .datatable--header, Overview DataTable > .datatable--fixed,
    Overview DataTable > .datatable--header-hover, Overview DataTable > .datatable--hover {
        background: ansi_default; color: ansi_default;
    }
    Overview DataTable > .datatable--header { text-style: bold underline; }
    Overview DataTable > .datatable--cursor, Overview DataTable > .datatable--fixed-cursor,
    Overview DataTable > .datatable--header-cursor {
        background: ansi_default; color: ansi_default; text-style: reverse;
    }
    Overview #whole { height: auto; max-height: 5; }
    Overview Input { display: none; height: 1; border: none; padding: 0; }
    Overview Input.open { display: block; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q", "back", "back", key_display="esc"),
        Binding("slash", "ask", "search", key_display="/"),
        Binding("tab", "tab(1)", "next table", priority=True),
        Binding("shift+tab", "tab(-1)", "previous", show=False, priority=True),
        *(Binding(str(n), f"tab_at({n - 1})", show=False) for n in range(1, len(SHEETS) + 1)),
    ]

    def __init__(self, folders: Folders, id: str) -> None:
        super().__init__()
        self._folders, self._id_of_run = folders, id
        self.head = Static(id="title", markup=False)
        self.tabs = Tabs(*(Tab(f"{n} {name}", id=name) for n, name in enumerate(SHEETS, 1)))
        self.table: DataTable[Text] = DataTable(cursor_type="row")
        self.whole = Static(id="whole", markup=False)
        self.ask = Input(placeholder="a part of a name or of a text", compact=True)
        self._shown: tuple[str, Sheet] | None = None

    def compose(self) -> ComposeResult:
        yield self.head
        yield self.tabs
        yield self.table
        yield self.whole
        yield self.ask
        yield Footer(compact=True, show_command_palette=False)

    def on_mount(self) -> None:
        self.table.focus()
        self.show()

    @property
    def name_of_sheet(self) -> str:
        return self.tabs.active or next(iter(SHEETS))

    # ---- what is shown

    def show(self) -> None:
        """Show the run as it is now."""
        row = next((r for r in self._folders.rows() if r["id"] == self._id_of_run), None)
        if row is None:
            return
        find = self.ask.value
        with run_at(self._folders, self._id_of_run) as run:
            shown = None if run is None else sheet(self.name_of_sheet, row, run, find)
            is_read = run is not None and run.was_read
        title = f"{row['run']}  {row['status']}"
        if shown is None or not is_read:
            title += "  reading…"
        else:
            n, of = len(shown.rows), shown.n_all
            title += f"  {n:,} of {of:,} rows" if n < of else f"  {n:,} rows" if n > 20 else ""
        if row.get("error"):
            title = f"{row['run']}: {row['error']}"
        if shown is not None and not shown.rows:
            title += f"  {shown.empty}" if not find else "  nothing has this text"
        self.head.update(printable(title))
        if shown is not None and self._shown != (self.name_of_sheet, shown):
            self._fill(shown)

    def _fill(self, shown: Sheet) -> None:
        table = self.table
        name = self.name_of_sheet
        is_same = self._shown is not None and self._shown[0] == name
        at, top = table.cursor_row, table.scroll_offset
        table.clear(columns=not is_same)
        if not is_same:
            for number, column in enumerate(shown.columns):
                table.add_column(_cell(column, number in shown.numeric))
        for cells in shown.rows:
            table.add_row(
                *(_cell(text, n in shown.numeric, n == 0) for n, text in enumerate(cells))
            )
        table.fixed_columns = 1 if shown.numeric and name == "series" else 0
        self._shown = name, shown
        if is_same:
            table.move_cursor(row=at, scroll=False)
            table.scroll_to(top.x, top.y, animate=False)
        self._show_whole()

    def _show_whole(self) -> None:
        """Below the table, in full, the row at the cursor: a long text is cut in the table."""
        at = self.table.cursor_row
        rows = self._shown[1].rows if self._shown else []
        text = ""
        if self.name_of_sheet != "series" and 0 <= at < len(rows):
            text = printable(rows[at][-1][:TEXT_MAX])
        elif 0 <= at < len(rows):
            text = printable(rows[at][0])
        self.whole.update(text)

    # ---- keys and mouse

    def on_data_table_row_highlighted(self) -> None:
        self._show_whole()

    def on_tabs_tab_activated(self) -> None:
        self.show()

    def action_tab(self, by: int) -> None:
        names = list(SHEETS)
        self.tabs.active = names[(names.index(self.name_of_sheet) + by) % len(names)]

    def action_tab_at(self, at: int) -> None:
        self.tabs.active = list(SHEETS)[at]

    def action_ask(self) -> None:
        self.ask.add_class("open")
        self.ask.focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        self.show()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self._close()

    def action_back(self) -> None:
        """Leave the search, or the screen."""
        if self.ask.has_class("open") or self.ask.value:
            self.ask.value = ""
            self._close()
        else:
            self.dismiss()

    def _close(self) -> None:
        self.ask.set_class(bool(self.ask.value), "open")
        self.table.focus()


def _cell(text: str, is_number: bool, is_name: bool = False) -> Text:
    shown = printable(text[:TEXT_MAX])
    shown = shortened(shown, NAME_WIDTH_MAX) if is_name else shown
    return Text(shown, justify="right" if is_number else "left", no_wrap=True)
