"""Lines that fit into a terminal; into a pipe they go as they are."""

import os
import sys
import textwrap
import unicodedata
from collections.abc import Iterable, Iterator

_GAP = "  "  # between the fields of a line


def columns() -> int | None:
    """The width of the terminal that stdout is; None: it is none."""
    if not sys.stdout.isatty():
        return None
    if os.environ.get("COLUMNS", "").isdecimal():
        return int(os.environ["COLUMNS"]) or None
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns or None
    except OSError:
        return None


def width(text: str) -> int:
    """How many columns a text takes: those of Chinese, Japanese and Korean take two."""
    if text.isascii():
        return len(text)
    return sum(_width(c) for c in text)


def _width(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def fitted(line: str, most: int, n_fixed: int = 1) -> str:
    """A line with those of its fields that fit, and how many others there are: `… +56`.

    Fields are separated by two spaces. The first `n_fixed` are there in any case.
    """
    if width(line) <= most:
        return line
    fields = line.split(_GAP)
    kept, left = fields[:n_fixed], fields[n_fixed:]
    room = most - width(_GAP.join(kept)) - len(f"{_GAP}… +{len(left):,}")
    n_left_out = 0
    for field in left:
        if width(_GAP + field) <= room:
            kept.append(field)
            room -= width(_GAP + field)
        else:
            n_left_out += bool(field)
    return cut(f"{_GAP.join(kept)}{_GAP}… +{n_left_out:,}", most)


def cut(text: str, most: int) -> str:
    """A text that ends in … where it is too long."""
    if width(text) <= most:
        return text
    while text and width(text) > most - 1:
        text = text[:-1]
    return f"{text}…"


def wrapped(lines: Iterable[str], most: int, indent: int) -> Iterator[str]:
    """Lines that fit; what does not continues at `indent`. Words, such as paths, stay whole."""
    for line in lines:
        if width(line) <= most:
            yield line
        else:
            yield from textwrap.wrap(
                line,
                most,
                subsequent_indent=" " * indent,
                break_long_words=False,
                break_on_hyphens=False,
            )
