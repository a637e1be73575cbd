"""The page of charts: a grid as large as the window, with one cursor for all of them."""

from collections.abc import Sequence

from textual.containers import Grid
from textual.message import Message

from ..core.seeds import Group
from ..live.folders import Folders
from . import means, values
from .chart import AXIS_WIDTH, Chart, Drawing, End, axis_label
from .drawing import axis_name, drawing, x_range
from .view import COLUMNS_MAX, ROWS_MAX, View, layout

GUTTER = 1  # between two charts in a row


class Charts(Grid):
    """The charts of some series of some runs."""

    DEFAULT_CSS = """
    Charts { grid-gutter: 0 1; padding-left: 1; }
    """

    class Resized(Message):
        """There is room for more charts or for fewer."""

    class Turned(Message):
        """The wheel was turned over the charts: by so many pages."""

        def __init__(self, pages: int) -> None:
            super().__init__()
            self.pages = pages

    def __init__(self, folders: Folders, view: View) -> None:
        self.all = [Chart(n) for n in range(COLUMNS_MAX * ROWS_MAX)]
        super().__init__(*self.all, id="charts")
        self._folders, self._view = folders, view
        self._ids: Sequence[str] = ()
        self._at = 0  # the chart whose values are moved along with the keys
        self.page_size = 4
        """How many charts a page has, where none is enlarged."""

    @property
    def shown(self) -> list[Chart]:
        """The charts that have a series."""
        return [chart for chart in self.all if chart.display and chart.drawing is not None]

    def show(
        self, ids: Sequence[str], groups: Sequence[Group], found: Sequence[str], note: str
    ) -> None:
        """Draw the page of the series `found`; where there are none, `note`.

        Args:
            groups: whose means are drawn in place of the runs `ids`.
            note: also what stands in place of a line that the runs have not logged.
        """
        self._ids = ids
        view, (width, height) = self._view, self.size
        columns, rows = layout(width, height, len(found))
        self.page_size = columns * rows
        names = view.page(found, self.page_size) or [""]
        if view.enlarged is not None or not found:
            columns = rows = 1
        self.styles.grid_size_columns, self.styles.grid_size_rows = columns, rows
        n_columns = max(10, (width - GUTTER * (columns - 1)) // columns - AXIS_WIDTH - 1)
        for number, chart in enumerate(self.all):
            chart.display = number < columns * rows
            name = names[number] if number < len(names) else None
            chart.beside = names
            drawn = None if name is None else self._drawn(name, groups, n_columns, note)
            chart.show(name or "", drawn)
        self._at = min(self._at, len(self.shown) - 1)
        self.point()

    def _drawn(self, metric: str, groups: Sequence[Group], n_columns: int, note: str) -> Drawing:
        if not metric:
            return Drawing("", [], [], None, [], note=note)
        folders, ids, view = self._folders, self._ids, self._view
        x = axis_name(folders, ids, view, metric)
        of_view = (metric, view, x_range(folders, ids, view, x), 2 * n_columns, x)
        if groups:
            drawn = means.drawing_of_means(folders, [*map(means.ids_of, groups)], *of_view)
        else:
            drawn = drawing(folders, ids, *of_view)
        if drawn.frame is None and note and not drawn.lines:
            drawn.note = note
        return drawn

    # ---- the cursor

    def point(self) -> None:
        """Show the values at the cursor in every chart that has its axis."""
        for chart in self.shown:
            chart.point(*self._read(chart))

    def _read(self, chart: Chart) -> tuple[float | None, Sequence[End]]:
        view, drawn = self._view, chart.drawing
        if view.cursor is None or drawn is None or drawn.axis != view.cursor_axis:
            return None, ()
        if drawn.frame is None or not drawn.frame.left <= view.cursor <= drawn.frame.right:
            return None, ()
        if drawn.means:
            return view.cursor, values.read_means(drawn, view.cursor)
        axis = drawn.axis
        return view.cursor, values.read(self._folders, self._ids, chart.metric, axis, view.cursor)

    def on_chart_pointed(self, event: Chart.Pointed) -> None:
        """The mouse moves the cursor to the logged value next to it."""
        drawn, x = event.chart.drawing, event.x
        if drawn is not None and x is not None:
            self._at = self.all.index(event.chart)
            if not drawn.means:
                x = values.snapped(self._folders, self._ids, event.chart.metric, drawn.axis, x)
            self._view.cursor_axis = drawn.axis
        self._view.cursor = x
        self.point()

    def move_cursor(self, columns: float, *, is_step: bool = False) -> None:
        """Move the cursor by characters, by one at least of the values that were logged.

        The first move puts it on the last value.

        Args:
            is_step: to the next logged value instead, in the direction of `columns`.
        """
        charts = [self.all[self._at], *self.shown]
        chart = next((c for c in charts if c.drawing and c.drawing.frame and c.display), None)
        if chart is None or chart.drawing is None or chart.drawing.frame is None:
            return
        drawn, frame, view = chart.drawing, chart.drawing.frame, self._view
        self._at = self.all.index(chart)
        is_first = view.cursor is None or view.cursor_axis != drawn.axis
        x = frame.right if is_first or view.cursor is None else view.cursor
        width = 0.0 if is_step or is_first else frame.x_of(1, chart.n_columns) - frame.left
        by = -1e-12 * max(1.0, abs(x)) if is_first else columns * (width or 1e-12)
        if is_first and not drawn.means:
            place = values.snapped(self._folders, self._ids, chart.metric, drawn.axis, x)
        else:
            of_chart = (self._folders, self._ids, drawn, chart.metric)
            place = values.next_place(*of_chart, x, by)
        if place is not None and frame.left <= place <= frame.right:
            view.cursor, view.cursor_axis = place, drawn.axis
            self.point()

    def reading(self) -> str:
        """The values at the cursor in full, of the chart that it was moved in."""
        chart = self.all[self._at]
        if chart.cursor is None or chart.drawing is None:
            return ""
        axis = chart.drawing.axis
        place = axis_label(chart.cursor, axis)
        unit = {"iter": "step ", "time": "", "tokens": "token "}.get(axis, f"{axis} ")
        many = len(chart.drawing.ends) > 1
        texts = [f"{end.letter} {end.exact}" if many else end.exact for end in chart.read]
        return f"at {unit}{place}: {chart.metric}  {'  '.join(texts) or 'no value'}"

    # ---- the window and the mouse

    def on_resize(self) -> None:
        self.post_message(self.Resized())

    def on_mouse_scroll_down(self) -> None:
        self.post_message(self.Turned(1))

    def on_mouse_scroll_up(self) -> None:
        self.post_message(self.Turned(-1))
