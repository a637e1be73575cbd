"""Print text, and rows as a table, markdown, CSV or JSON lines.

Names, notes, paths and errors come from files that anybody may have written, and may contain
escape sequences: `print` of this module and all else here make control characters visible.
"""

import builtins
import csv
import math
import re
import shutil
import sys
import textwrap
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import orjson
from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.progress import track
from rich.table import Table

from eventlog import print_lines as print
from eventlog import printable, printable_json

from .formats import number

__all__ = [
    "cell", "csv_text", "in_full", "one_line", "print", "print_csv", "print_json", "print_note",
    "print_rich", "print_table", "printable", "printable_json", "with_progress",
]  # fmt: skip


Row = Mapping[str, Any]
T = TypeVar("T")

_COLOUR = re.compile(r"(\x1b\[[0-9;]*m)")
_PIPE_COLUMNS = 10_000  # a pipe has no edge to wrap at
_FOLDED_COLUMNS = 24  # of a text that is folded to make room
_LEAST_COLUMNS = 10  # for each column of a table, on average
_GAP_COLUMNS = 3  # between two columns of a table


def print_table(
    rows: Sequence[Row],
    columns: Mapping[str, str],
    *,
    signed: Collection[str] = (),
    numeric: Collection[str] | None = None,
    expendable: Sequence[str] = (),
    markdown: bool = False,
) -> None:
    """Print `columns` (key -> heading) of rows; numbers are right-aligned, unknown ones a dash.

    `numeric`: the columns with numbers, if that cannot be seen in the values.

    `signed` columns are differences: shown with their sign, empty where unknown. In a terminal
    that is too narrow, long texts are folded; then `expendable` columns are left out, in this
    order, and named on stderr; if that is not enough, each row is printed as lines of its own.
    """
    console = _console(is_wide=markdown)
    if numeric is None:
        numeric = [k for k in columns if all(_is_numeric(row.get(k)) for row in rows)]
    shown = dict(columns)
    left_out: list[str] = []
    while not _fits(rows, shown, signed, numeric, console) and len(left_out) < len(expendable):
        left_out.append(expendable[len(left_out)])
        shown.pop(left_out[-1], None)
    if not _fits(rows, shown, signed, numeric, console) and console.width < _LEAST_COLUMNS * len(
        shown
    ):
        _print_records(rows, columns, signed)
        return
    print_rich(_table(rows, shown, signed, numeric, markdown), is_wide=markdown)
    if names := [_full_name(key, columns) for key in left_out if key in columns]:
        print_note(f"not shown in {console.width} columns: {', '.join(names)}. --json has all")


def print_note(text: str) -> None:
    """Print a sentence on stderr, in a terminal as lines that fit."""
    if sys.stderr.isatty():
        width = shutil.get_terminal_size().columns
        text = textwrap.fill(
            text, width, break_long_words=False, break_on_hyphens=False, subsequent_indent="  "
        )
    print(text, file=sys.stderr)


def _fits(
    rows: Sequence[Row],
    columns: Mapping[str, str],
    signed: Collection[str],
    numeric: Collection[str],
    console: Console,
) -> bool:
    """Whether a table fits, with its long texts folded to `_FOLDED_COLUMNS`."""
    width = _GAP_COLUMNS * (len(columns) - 1)
    for key, heading in columns.items():
        cells = [_text(row.get(key), is_signed=key in signed) for row in rows]
        natural = max(map(cell_len, [printable(heading), *cells]))
        width += natural if key in numeric else min(natural, _FOLDED_COLUMNS)
    return width <= console.width


def _print_records(
    rows: Sequence[Row], columns: Mapping[str, str], signed: Collection[str]
) -> None:
    """Each row as lines `heading  value`, with an empty line between two rows."""
    for at, row in enumerate(rows):
        table = Table.grid(padding=(0, 2))
        table.add_column(overflow="fold", max_width=_FOLDED_COLUMNS)
        table.add_column(overflow="fold")
        for key in columns:
            if text := _text(row.get(key), is_signed=key in signed):
                table.add_row(printable(_full_name(key, columns)), text)
        if at:
            print()
        print_rich(table)


def _full_name(key: str, columns: Mapping[str, str]) -> str:
    """A heading that can be read without those beside it."""
    of = columns.get(key.removesuffix("_diff"))
    return f"{columns[key]} of {of}" if key.endswith("_diff") and of else columns[key]


def _table(
    rows: Sequence[Row],
    columns: Mapping[str, str],
    signed: Collection[str],
    numeric: Collection[str],
    markdown: bool,
) -> Table:
    frame = box.MARKDOWN if markdown else box.SIMPLE_HEAD
    table = Table(box=frame, pad_edge=markdown, show_edge=markdown)
    for key, heading in columns.items():
        table.add_column(
            printable(heading),
            justify="right" if key in numeric else "left",
            overflow="fold",
            no_wrap=key in numeric and not markdown,
        )
    for row in rows:
        cells = (_text(row.get(key), is_signed=key in signed) for key in columns)
        table.add_row(*(c.replace("|", "\\|") if markdown else c for c in cells))
    return table


def _text(value: Any, *, is_signed: bool) -> str:
    return _difference(value) if is_signed else cell(value)


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
