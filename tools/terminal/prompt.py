"""The line in which a person types names of series, or a filter of runs."""

from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.widgets import Input, Static


class Prompt(Horizontal):
    """A label, the text, and how much it selects; hidden until it is opened."""

    DEFAULT_CSS = """
    Prompt { dock: bottom; height: 1; display: none; }
    Prompt.open { display: block; }
    Prompt Input { width: 1fr; border: none; padding: 0; height: 1; }
    Prompt #asked { width: auto; text-style: bold; }
    Prompt #selected { width: auto; padding-left: 1; }
    """

    def __init__(self) -> None:
        super().__init__(id="prompt")
        self.of = ""
        """What is asked for: `series` or `runs`."""
        self.before = ""
        """The text when it was opened."""

    def compose(self) -> ComposeResult:
        yield Static(id="asked", markup=False)
        yield Input(id="ask", compact=True)
        yield Static(id="selected", markup=False)

    @property
    def is_open(self) -> bool:
        return self.has_class("open")

    def open(self, of: str, text: str, placeholder: str) -> None:
        self.of, self.before = of, text
        self.query_one("#asked", Static).update(f"{of}: ")
        self.query_one("#selected", Static).update("")
        ask = self.query_one(Input)
        with self.prevent(Input.Changed):
            ask.value, ask.placeholder = text, placeholder
        ask.cursor_position = len(text)
        self.add_class("open")
        ask.focus()

    def select(self, text: str) -> None:
        """Say how much the text selects: `7 of 60 series`."""
        self.query_one("#selected", Static).update(text)

    def close(self) -> None:
        self.remove_class("open")
