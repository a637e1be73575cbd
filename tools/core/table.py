"""Print text, and rows as a table, markdown, CSV or JSON lines.

Names, notes, paths and errors come from files that anybody may have written, and may contain
escape sequences: `print` of this module and all else here make control characters visible.
"""

import builtins
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

from eventlog import print_lines as print
from eventlog import printable, printable_json

from .formats import number

__all__ = [
    "cell", "csv_text", "in_full", "one_line", "print", "print_csv", "print_json", "print_rich",
    "print_table", "printable", "printable_json", "with_progress",
]  # fmt: skip


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
    """Print `columns` (key -> heading) of rows; numbers are right-aligned, unknown ones a dash.

    `signed` columns are differences: shown with their sign, empty where unknown. `expendable`
    columns are dropped, in this order, until the table fits into the terminal.
    """
    console = _console(is_wide=markdown)
    unbounded = console.options.update(max_width=_PIPE_COLUMNS)
    for n in range(len(expendable) + 1):
        shown = {key: name for key, name in columns.items() if key not in expendable[:n]}
        table = _table(rows, shown, signed, markdown)
        if console.measure(table, options=unbounded).maximum <= console.width:
            break
    print_rich(table, is_wide=markdown)


def _table(
    rows: Sequence[Row], columns: Mapping[str, str], signed: Collection[str], markdown: bool
) -> Table:
    frame = box.MARKDOWN if markdown else box.SIMPLE_HEAD
    table = Table(box=frame, pad_edge=markdown, show_edge=markdown)
    for key, heading in columns.items():
        numeric = all(_is_numeric(row.get(key)) for row in rows)
        table.add_column(
            printable(heading), justify="right" if numeric else "left", overflow="fold"
        )
    for row in rows:
        cells = (_difference(row[key]) if key in signed else cell(row.get(key)) for key in columns)
        table.add_row(*(c.replace("|", "\\|") if markdown else c for c in cells))
    return table


def _is_numeric(value: Any) -> bool:
    return isinstance(value, int | float | None) or value in ("nan", "inf", "-inf")


def print_rich(what: Any, *, is_wide: bool = False) -> None:
    """Print a rich renderable on stdout; into a pipe, or if `is_wide`, without wrapping."""
    console = _console(is_wide=is_wide)
    with console.capture() as captured:
        console.print(what)
    lines = (_without_foreign(line.rstrip()) for line in captured.get().split("\n"))
    builtins.print("\n".join(lines).strip("\n"))


def _without_foreign(line: str) -> str:
    """A line with rich's colours; all other control characters made visible."""
    return "".join(
        part if _COLOUR.fullmatch(part) else printable(part) for part in _COLOUR.split(line)
    )


def _console(*, is_wide: bool) -> Console:
    width = None if sys.stdout.isatty() and not is_wide else _PIPE_COLUMNS
    return Console(width=width, highlight=False, markup=False, emoji=False)


def print_json(rows: Iterable[Row]) -> None:
    """Print one strict JSON object per line; an unknown number is null."""
    for row in rows:
        encoded = orjson.dumps(row, default=str, option=orjson.OPT_NON_STR_KEYS)
        builtins.print(printable_json(encoded.decode()))


def print_csv(rows: Iterable[Row], columns: Iterable[str]) -> None:
    """Print CSV with a header; numbers in full, an unknown one is an empty cell."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    columns = list(columns)
    writer.writerow(map(printable, columns))
    writer.writerows([_csv_cell(row.get(key)) for key in columns] for row in rows)


def with_progress(items: Sequence[T], label: str, *, at_least: int = 2) -> Iterator[T]:
    """Yield `items` behind a progress bar on stderr, if that is a terminal.

    There is no bar for fewer items than `at_least`.
    """
    console = Console(stderr=True)
    yield from track(
        items,
        description=label,
        console=console,
        transient=True,
        disable=not console.is_terminal or len(items) < at_least,
    )


def cell(value: Any) -> str:
    """A value in a table: numbers with about six digits, a dash if unknown."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return number(value) if math.isfinite(value) else str(value)
    if isinstance(value, list):
        return printable(" ".join(map(str, value))) or "-"
    return one_line(str(value))


def in_full(value: Any) -> str:
    """A value in full on one line: values that are compared must not be rounded."""
    if value is None:
        return "-"
    if isinstance(value, Mapping):
        return one_line(", ".join(f"{k} {in_full(v)}" for k, v in value.items()))
    if isinstance(value, list):
        return one_line(" ".join(map(in_full, value)))
    return one_line(str(value))


def csv_text(text: str) -> str:
    """A text in a cell of CSV; line feeds and tabs stay."""
    return printable(text, keep="\n\t")


def _difference(value: float | None) -> str:
    return "" if value is None else number(value, "+")


def one_line(text: str) -> str:
    """`text` with control characters (line feeds, escapes) made visible."""
    return printable(text)


def _csv_cell(value: Any) -> Any:
    if isinstance(value, list | dict):
        encoded = orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS)
        return printable_json(encoded.decode())
    if isinstance(value, str):
        return csv_text(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value
