"""Rows -> a table for a terminal, or JSON lines for a program."""

import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

Row = Mapping[str, Any]


def print_table(rows: Sequence[Row], columns: Mapping[str, str]) -> None:
    """A table of `columns` (key -> heading); numbers to the right, unknown figures as a dash."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for key, heading in columns.items():
        numeric = all(isinstance(row.get(key), int | float | None) for row in rows)
        table.add_column(heading, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(_cell(row.get(key)) for key in columns))
    width = None if sys.stdout.isatty() else 200  # a pipe has no edge to wrap at
    Console(width=width, highlight=False, markup=False).print(table)


def print_json(rows: Iterable[Row]) -> None:
    """One strict JSON object a line; an unknown figure is null."""
    for row in rows:
        print(json.dumps({k: None if _unknown(v) else v for k, v in row.items()}))


def _cell(value: Any) -> str:
    if value is None or _unknown(value):
        return "-"
    return f"{value:.4f}" if isinstance(value, float) else f"{value}"


def _unknown(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)
