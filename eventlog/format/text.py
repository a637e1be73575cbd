"""Text that others wrote, for a terminal.

A name, a note, a path or an error may hold what a terminal obeys: an escape sequence that clears
the screen or sets its title, a line feed that begins a forged line, an override of the writing
direction. `printable` makes such characters visible. Everything that a command prints and did not
make up itself goes through it: `print_lines` does that with all it is given.
"""

import builtins
from typing import TextIO


def printable(text: object, *, keep: str = "") -> str:
    """`text` in one line: what a terminal would obey is shown as Python writes it, `\\x1b`.

    That is controls, separators of lines, marks of direction, invisible characters and lone
    surrogates, which no encoding takes. The characters in `keep` stay as they are.
    """
    text = str(text)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else repr(c)[1:-1] for c in text)


def printable_json(text: str) -> str:
    """The same JSON, with such characters of its strings escaped as JSON does: `\\u009b`."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in "\r\n\t" else _escaped(c) for c in text)


def print_lines(
    *values: object,
    sep: str = " ",
    end: str = "\n",
    file: TextIO | None = None,
    flush: bool = False,
) -> None:
    """`print` for what others wrote: line feeds stay, everything else is `printable`."""
    shown = (printable(value, keep="\n") for value in values)
    builtins.print(*shown, sep=sep, end=end, file=file, flush=flush)


def _escaped(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))
