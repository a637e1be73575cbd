"""CSV: a file for each table of the run, series.csv and run.json in a folder of the run's name.

`series.csv` has every value of every table in a line of its own: run, name, step, value, text,
time. A number is in `value`, all else in `text`, which also has all digits of an integer beyond
2^53; `time` is in ISO 8601. A table without rows, or with more than 1,000 columns, has no file.

Numbers read back as the same 64 bits (pandas before 3 needs `float_precision="round_trip"`); NaN
and infinities are nan, inf, -inf; missing values are empty. A file is replaced as a whole or not
at all.
"""

import csv
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ...core.history import SERIES, TABLES, WIDE_MAX, History, number, text
from .files import columns_of, replace, run_folder, too_wide
from .outcome import Outcome, worst

LINES_AT_ONCE = 1000
SERIES_COLUMNS = ("run", "name", "step", "value", "text", "time")


def export(history: History, out: Path) -> Outcome:
    folder = run_folder(history, out)
    columns = {table: columns_of(history, table) for table in TABLES}
    states = [
        replace(folder / f"{table}.csv", lambda table=table: _table(history, table, columns[table]))  # type: ignore[misc]
        for table in TABLES
    ]
    states.append(
        replace(folder / f"{SERIES}.csv", lambda: _lines(SERIES_COLUMNS, _series(history)))
    )
    state = worst(*states)
    n_added = history.n_rows if state != "unchanged" else 0
    return Outcome(str(folder), state, n_added, too_wide(history, columns))


def _table(history: History, table: str, columns: list[str]) -> Iterator[bytes]:
    if 0 < len(columns) <= WIDE_MAX:
        rows = ([row.get(key) for key in columns] for row in history.rows(table))
        yield from _lines(columns, rows)


def _series(history: History) -> Iterator[list[Any]]:
    run = history.run.run_name
    for step, name, value, time in history.values():
        yield [run, name, step, number(value), text(value), time]


def _lines(columns: Iterable[str], rows: Iterable[Iterable[Any]]) -> Iterator[bytes]:
    lines = _Lines()
    writer = csv.writer(lines, lineterminator="\r\n")  # so that text with either is quoted
    writer.writerow(map(_cell, columns))
    for row in rows:
        writer.writerow(map(_cell, row))
        if len(lines) >= LINES_AT_ONCE:
            yield lines.taken()
    yield lines.taken()


class _Lines(list[str]):
    """Lines of CSV, which end in a line feed alone."""

    def write(self, line: str) -> None:
        self.append(line.removesuffix("\r\n") + "\n")

    def taken(self) -> bytes:
        text = "".join(self)
        self.clear()
        return text.encode("utf-8", "backslashreplace")


def _cell(value: Any) -> Any:
    return repr(value) if isinstance(value, float) else "" if value is None else value
