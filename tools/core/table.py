"""Rows -> a table for a terminal, markdown, CSV, or JSON lines for a program."""

import csv
import math
import re
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import orjson
from rich import box
from rich.console import Console
from rich.progress import track
from rich.table import Table

from .formats import figure
from .text import printable, printable_json

Row = Mapping[str, Any]
T = TypeVar("T")

_COLOUR = re.compile(r"(\x1b\[[0-9;]*m)")
_PIPE_COLUMNS = 10_000  # a pipe has no edge to wrap at


def print_table(
    rows: Sequence[Row],
    columns: Mapping[str, str],
    *,
    signed: Collection[str] = (),
    expendable: Sequence[str] = (),
    markdown: bool = False,
) -> None:
    """A table of `columns` (key -> heading); numbers to the right, unknown figures as a dash.

    `signed` columns are differences: with their sign, and nothing where there is none. Those
    `expendable` are left out, the first one first, as far as a terminal is too narrow.
    """
    console = _console(is_wide=markdown)
    unbounded = console.options.update(max_width=_PIPE_COLUMNS)
    for n in range(len(expendable) + 1):
        kept = {key: name for key, name in columns.items() if key not in expendable[:n]}
        table = _table(rows, kept, signed, markdown)
        if console.measure(table, options=unbounded).maximum <= console.width:
            break
    print_rich(table, is_wide=markdown)


def _table(
    rows: Sequence[Row], columns: Mapping[str, str], signed: Collection[str], markdown: bool
) -> Table:
    frame = box.MARKDOWN if markdown else box.SIMPLE_HEAD
    table = Table(box=frame, pad_edge=markdown, show_edge=markdown)
    for key, heading in columns.items():
        numeric = all(isinstance(row.get(key), int | float | None) for row in rows)
        table.add_column(
            printable(heading), justify="right" if numeric else "left", overflow="fold"
        )
    for row in rows:
        cells = (_difference(row[key]) if key in signed else cell(row.get(key)) for key in columns)
        table.add_row(*(c.replace("|", "\\|") if markdown else c for c in cells))
    return table


def print_rich(what: Any, *, is_wide: bool = False) -> None:
    """Anything of rich's on stdout; into a pipe, or `is_wide`, nothing is wrapped."""
    console = _console(is_wide=is_wide)
    with console.capture() as captured:
        console.print(what)
    lines = (_without_foreign(line.rstrip()) for line in captured.get().split("\n"))
    print("\n".join(lines).strip("\n"))


def _without_foreign(line: str) -> str:
    """A line with rich's own colours, and nothing else that a terminal obeys."""
    return "".join(
        part if _COLOUR.fullmatch(part) else printable(part) for part in _COLOUR.split(line)
    )


def _console(*, is_wide: bool) -> Console:
    width = None if sys.stdout.isatty() and not is_wide else _PIPE_COLUMNS
    return Console(width=width, highlight=False, markup=False, emoji=False)


def print_json(rows: Iterable[Row]) -> None:
    """One strict JSON object a line; an unknown figure is null."""
    for row in rows:
        encoded = orjson.dumps(row, default=str, option=orjson.OPT_NON_STR_KEYS)
        print(printable_json(encoded.decode()))


def print_csv(rows: Iterable[Row], columns: Iterable[str]) -> None:
    """CSV with a line of names; figures in full, an unknown one is an empty cell."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    columns = list(columns)
    writer.writerow(map(printable, columns))
    writer.writerows([_csv_cell(row.get(key)) for key in columns] for row in rows)


def with_progress(items: Sequence[T], words: str, *, at_least: int = 2) -> Iterator[T]:
    """`items`, with a bar on stderr that goes when it is done, if a terminal looks.

    Fewer items than `at_least` are done before a bar can be read.
    """
    console = Console(stderr=True)
    yield from track(
        items,
        description=words,
        console=console,
        transient=True,
        disable=not console.is_terminal or len(items) < at_least,
    )


def cell(value: Any) -> str:
    """A value as a table shows it: about six digits, a dash for what is unknown."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "-"
    if isinstance(value, float):
        return figure(value)
    if isinstance(value, list):
        return printable(" ".join(map(str, value))) or "-"
    return one_line(str(value))


def in_full(value: Any) -> str:
    """A value as it is, on one line: what is shown to be compared must not be rounded."""
    if value is None:
        return "-"
    if isinstance(value, Mapping):
        return one_line(", ".join(f"{k} {in_full(v)}" for k, v in value.items()))
    if isinstance(value, list):
        return one_line(" ".join(map(in_full, value)))
    return one_line(str(value))


def csv_text(text: str) -> str:
    """A text in a cell of CSV, which may have several lines."""
    return printable(text, keep="\n\t")


def _difference(value: float | None) -> str:
    return "" if value is None else figure(value, "+")


def one_line(text: str) -> str:
    """`text` with what a terminal would obey (line feeds, escapes) made visible."""
    return printable(text)


def _csv_cell(value: Any) -> Any:
    if isinstance(value, list | dict):
        encoded = orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS)
        return printable_json(encoded.decode())
    if isinstance(value, str):
        return csv_text(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value
