"""Rows of a run's tables as flat rows: one value per column, for data frames, exports and SQL.

A run JSON names a number that is not finite beside its row (`"loss": null, "nonfinite": {"loss":
"nan"}`), keeps objects inside rows, and leaves the times of iterations in the journal.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from copy import deepcopy
from operator import lt
from pathlib import Path
from typing import Any

from eventlog.format.events import KINDS, Kind
from eventlog.format.text import did_you_mean, similar
from eventlog.read.reader import scan

Row = dict[str, Any]

SYSTEM = "system"
"""The table that only the journal has."""
_ASIDE = "set_aside"
ASIDE_NAMES = frozenset(f"{_ASIDE}.{key}" for key in ("file", "size_bytes", "sha256", "omitted"))
"""What a run JSON calls the parts of the reference to the file of a large event."""


def tables() -> list[str]:
    """The tables that a run JSON has."""
    return [kind.rule for kind in KINDS.values() if kind.key]


def check_table(name: str) -> None:
    """Raises ValueError for an unknown table."""
    known = [*tables(), SYSTEM]
    if name not in known:
        hint = did_you_mean(similar(name, known), f"Known tables: {', '.join(known)}")
        raise ValueError(f"unknown table: {name!r}.{hint}")


def axis_of(table: str) -> str:
    """The column that a table is ordered by."""
    return kind_of(table).axis or "iter"


def kind_of(table: str) -> Kind:
    """The kind of event that a table has a row of."""
    return next(kind for kind in KINDS.values() if kind.rule == table)


def flat_rows(rows: Iterable[Row], table: str) -> Iterator[Row]:
    """The rows of one table, flat, in the order of its axis."""
    return map(flat_cells, _ascending(rows, table))


def _ascending(rows: Iterable[Row], table: str) -> Iterable[Row]:
    """The rows that have a number on the axis, in its order.

    If an older logger resumed the run, some numbers occur twice, and the later row counts.
    Checkpoints of one iteration are all kept if their files differ.
    """
    if not isinstance(rows, list):  # folded by this package: they are in order
        return rows
    axis = axis_of(table)
    if _is_ascending([row.get(axis) for row in rows]):
        return rows
    numbered = (row for row in rows if type(row.get(axis)) is int)
    file = "path" if table == "checkpoints" else ""
    latest = {(row[axis], str(row.get(file))): row for row in numbered}
    return sorted(latest.values(), key=lambda row: row[axis])


def _is_ascending(numbers: list[Any]) -> bool:
    """Whether these are integers, each greater than the one before."""
    return {int}.issuperset(map(type, numbers)) and all(map(lt, numbers, numbers[1:]))


def logged_times(journal: Path, table: str) -> dict[int, str]:
    """When each row was logged, by its number on the axis; the latest time of one counts."""
    event, axis = kind_of(table).name, axis_of(table)
    return {
        i: record.t
        for record in scan(journal)
        if record.event == event and type(i := record.fields.get(axis)) is int
    }


def system_rows(journal: Path) -> Iterator[Row]:
    """A row for each sample of the machine: the last iteration before it, its time, the values."""
    progress = {kind_of(table).name: axis_of(table) for table in ("iterations", "metrics")}
    position = 0
    for record in scan(journal):
        if record.event in progress:
            i = record.fields.get(progress[record.event])
            position = i if type(i) is int else position
        elif record.event == SYSTEM:
            yield flat_cells({"iter": position, "timestamp": record.t} | record.fields)


def restore_nonfinite(row: Row) -> Row:
    """A row with NaN and infinities where its `nonfinite` names them; an equal row otherwise."""
    named = row.get("nonfinite")
    if not isinstance(named, dict):
        return row
    row = deepcopy({k: v for k, v in row.items() if k != "nonfinite"})
    for path, name in named.items():
        with suppress(ValueError, KeyError, IndexError, TypeError):
            _put(row, path, float(name))
    return row


def _put(inside: Any, path: str, value: float) -> None:
    """Set what `path` names; a key may have dots in it itself."""
    if isinstance(inside, dict) and path in inside:
        inside[path] = value
        return
    if isinstance(inside, list):
        at, _, rest = path.partition(".")
        if rest:
            _put(inside[int(at)], rest, value)
        else:
            inside[int(at)] = value
        return
    key = max(k for k in inside if path.startswith(f"{k}."))
    _put(inside[key], path[len(key) + 1 :], value)


def dotted(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Names and values, those in nested objects by dotted names; two may have the same name."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from dotted(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def flatten(values: Mapping[str, Any]) -> Row:
    """Nested objects as dotted names."""
    return dict(dotted(values))


def without_aside(fields: Row) -> Row:
    """Fields without the reference to the file of a large event, which nobody logged."""
    reference = fields.get(_ASIDE)
    if not isinstance(reference, dict) or "sha256" not in reference:
        return fields
    return {name: value for name, value in fields.items() if name != _ASIDE}


_CELLS = frozenset({float, int, str, bool, type(None)})


def flat_cells(row: Row) -> Row:
    """A row of which every value fits in one cell.

    Objects are dotted names, lists are JSON text, NaN and infinities are numbers. The reference to
    the file of a large event is left out.
    """
    if _CELLS.issuperset(map(type, row.values())):  # most rows
        return dict(row)
    row = flatten(restore_nonfinite(without_aside(row)))
    return row | {key: json.dumps(value) for key, value in row.items() if isinstance(value, list)}
