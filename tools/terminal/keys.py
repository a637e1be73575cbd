"""The keys of `runs watch`, and the screen that lists them."""

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import ModalScreen
from textual.widgets import Static

HELP = """\
Runs     up, down, page up ...  choose a run
         space, click           show it beside others: A, B, C (up to 6)
         enter                  its settings, series, alerts, events, log
         /                      filter: a part of a name, tag or note, or
                                cfg.n_layer = 6 and best_val_loss < 4
         e                      runs that differ in the seed alone as their
                                mean, between lines at ± standard deviation
         !  NaN                 events lost or ignored, or the journal
                                missing; a series that ends in NaN
Charts   n p, wheel             the next page of series, the previous one
         f                      search for series: grad* val/* lr
         1 to 9, click          enlarge one; again or escape: back
         left, right, mouse     read the values;  , .  step by step
         s  l                   smoother, log scale
         x                      by iteration, tokens, time, or a series
         + - 0                  zoom, show all;  < >  move
Below    e eval   c checkpoint   r resume   s signal   | end
a chart  ! not finite   a alert   x error   g events lost   n note
         of the run that is shown; of several, of A
q        quit. The same as plain text: eventlog tail -f
                                                     any key: back"""

BINDINGS: list[BindingType] = [
    Binding("f,k", "ask('series')", "series", key_display="f"),
    Binding("slash", "ask('runs')", "filter", key_display="/"),
    Binding("n,m", "turn(1)", "page", key_display="n p"),
    Binding("left", "read(-1)", "values", key_display="← →"),
    Binding("enter", "overview", "run", key_display="enter"),
    Binding("x", "axis", "axis"),
    Binding("e", "mean", "mean"),
    Binding("question_mark,h,f1", "help", "keys", key_display="?"),
    Binding("q,ctrl+c", "quit", "quit", key_display="q"),
    *(
        Binding(key, action, show=False)
        for key, action in {
            "up": "cursor(-1)", "down": "cursor(1)",
            "pageup": "cursor(-10)", "pagedown": "cursor(10)",
            "home": "cursor(-1000000)", "end": "cursor(1000000)",
            "space": "pick", "s": "smooth", "l": "log", "escape": "leave",
            "plus,equals_sign": "zoom(0.5)", "minus": "zoom(2)", "0": "show_all",
            "less_than_sign,shift+left": "move(-0.25)",
            "greater_than_sign,shift+right": "move(0.25)",
            "p": "turn(-1)", "right": "read(1)", "comma": "step(-1)", "full_stop": "step(1)",
            **{str(n): f"enlarge({n - 1})" for n in range(1, 10)},
        }.items()
    ),
]  # fmt: skip


class Help(ModalScreen[None]):
    """All keys, until one is pressed."""

    DEFAULT_CSS = """
    Help { align: center middle; }
    Help Static { width: 80; height: auto; max-height: 100%; padding: 0 1; border: solid; }
    """

    def compose(self) -> ComposeResult:
        yield Static(HELP, markup=False)

    def on_key(self, event: events.Key) -> None:
        event.stop()
        self.dismiss()

    def on_click(self) -> None:
        self.dismiss()
