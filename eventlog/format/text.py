"""Text from other sources, made safe for a terminal.

A name, a note, a path or an error may have control characters: an escape sequence that clears the
screen or sets its title, a line feed that begins a forged line, an override of the writing
direction. `printable` makes them visible. Commands print such text through it, or with
`print_lines`.
"""

import builtins
from collections.abc import Iterable
from itertools import islice
from typing import TextIO

NEAR_MAX = 2_000  # names that are searched for similar ones: among millions it takes minutes


def printable(text: object, *, keep: str = "") -> str:
    """`text` in one line: control characters are shown as Python writes them, `\\x1b`.

    That is controls, line separators, marks of direction, invisible characters and lone
    surrogates, which cannot be encoded. The characters in `keep` are left as they are.
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
    """`print` for text from other sources: line feeds stay, everything else is `printable`."""
    shown = (printable(value, keep="\n") for value in values)
    builtins.print(*shown, sep=sep, end=end, file=file, flush=flush)


def _escaped(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))


def similar(name: str, known: Iterable[str]) -> list[str]:
    """Up to three of the known names that are most like `name`."""
    from difflib import get_close_matches

    return get_close_matches(name, [*islice(known, NEAR_MAX)], 3, 0.5)


def did_you_mean(similar_names: Iterable[str], otherwise: str = "") -> str:
    """` Did you mean a or b?`, to stand behind a sentence; without names ` ` and `otherwise`."""
    names = " or ".join(dict.fromkeys(similar_names))
    return f" Did you mean {names}?" if names else otherwise and f" {otherwise}"


def counted(number: int, noun: str) -> str:
    """`1 event`, `2 events`, `1,000 events`."""
    return f"{number:,} {noun}{'s' * (number != 1)}"
