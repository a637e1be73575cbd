"""A run as other programs need it: non-finite numbers and times are in the rows.

A run JSON has a non-finite number beside the row (`"loss": null, "nonfinite": {"loss": "nan"}`) and
has no times of iterations and metrics; the journal does. Here `rows` are flat dicts for tables,
`values` one value of one series each, and `points` what was logged at one time, for trackers.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from heapq import merge
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import orjson

import eventlog
from eventlog import seconds

from . import runs

Row = dict[str, Any]
T = TypeVar("T")

EVENTS = {
    str(kind.rule): kind for kind in eventlog.KINDS.values() if kind.key and kind.axis == "iter"
}
"""The tables by iteration in a run JSON, each with the kind of event that is a row of it."""
TABLES: dict[str, str] = {
    str(kind.rule): kind.axis or "iter"
    for kind in eventlog.KINDS.values()
    if kind.key or kind.rule == "system"
}
"""The tables of a run (`Run.rows`), each with the column that it is ordered by."""
SERIES = "series"
STORED = (*TABLES, SERIES)
"""What files and databases have of a run: its tables, and every value of them in one long table."""

WIDE_MAX = 1_000
"""A table with more columns is not written as a table; its values are in `series`."""

Names = Mapping[tuple[str, str], str]
NAMES: Names = {
    ("evals", "train_loss"): "train/loss",
    ("evals", "val_loss"): "val/loss",
    ("iterations", "loss"): "train/iter_loss",
}
"""The names that the trainer itself logs to W&B (nanoGPT's), by table and column."""

_KEYS = {str(kind.rule): kind.key for kind in eventlog.KINDS.values() if kind.key}
_ORDER = sorted(TABLES, key=lambda table: table != "evals")  # at one step
_TIMED = frozenset(  # rows of other tables have their times themselves
    str(kind.rule) for kind in eventlog.KINDS.values() if kind.key and "timestamp" not in kind.row
)

_TIMED_EVENTS = {
    name: kind.axis or "iter" for name, kind in eventlog.KINDS.items() if kind.rule in _TIMED
}

Progress = Callable[[Iterable[Row], int], Iterable[Row]]


class Value(NamedTuple):
    """One value of one series."""

    step: int
    name: str
    """As `Run.series` names it."""
    value: Any
    """A number, finite or not, or words: text, true or false, a list as JSON."""
    time: str | None
    """When it was logged, in ISO 8601, if that is known."""


class Point(NamedTuple):
    """What was logged at one step and one time."""

    table: str
    step: int
    time_s: float
    """Since the epoch."""
    values: dict[str, float]
    """Numbers by name."""
    words: dict[str, str]
    """All else by name."""


def _no_progress(rows: Iterable[Row], n_rows: int) -> Iterable[Row]:
    return rows


class Times:
    """When the rows of a run were logged: a row sink. A later event of a name overwrites."""

    def __init__(self) -> None:
        self._first: dict[tuple[str, int], str] = {}
        self._later: dict[tuple[str, int], dict[str, str]] = {}  # by name, of several events

    @classmethod
    def of(cls, journal: Path) -> "Times":
        """The times in a journal, as far as it can be read."""
        times = cls()
        with suppress(OSError, eventlog.EventlogError):
            for record in eventlog.scan(journal):
                axis = _TIMED_EVENTS.get(record.event)
                if axis is not None:
                    number = record.fields.get(axis)
                    if type(number) is not int:
                        number = record.fields.get("iter")  # an importer's step
                    if type(number) is int:
                        times.add(record, number)
        return times

    def add(self, record: eventlog.Record, number: int) -> None:
        table = eventlog.KINDS[record.event].rule
        if table not in _TIMED:
            return
        row = str(table), number
        if table != "metrics" or row not in self._first:
            self._first[row] = record.t
        else:
            names = eventlog.flatten(record.fields)
            self._later.setdefault(row, {}).update(dict.fromkeys(names, record.t))

    def add_rows(
        self,
        event: str,
        numbers: Sequence[int],
        times: Sequence[str],
        columns: Mapping[str, Sequence[Any]],
    ) -> None:
        table = eventlog.KINDS[event].rule
        if table in _TIMED:
            rows = [(str(table), number) for number in numbers]
            self._first.update(zip(rows, times, strict=True))
            for row in rows if self._later else ():  # of rows that were superseded
                self._later.pop(row, None)

    def supersede(
        self,
        event: str,
        from_number: int,
        before: int | None = None,
        names: Collection[str] | None = None,
    ) -> None:
        pass

    def clear(self) -> None:
        self._first.clear()
        self._later.clear()

    def of_table(self, table: str) -> dict[int, str]:
        """When each row of a table was logged, by its number on the axis."""
        return {number: time for (of, number), time in self._first.items() if of == table}

    def of_row(self, table: str, number: int) -> str | None:
        """When the latest value of a row was logged."""
        later = self._later.get((table, number))
        return max(later.values()) if later else self._first.get((table, number))

    def of_columns(self, table: str, number: int) -> tuple[str | None, dict[str, str]]:
        """When a row was logged, and each of those columns that were logged later."""
        return self._first.get((table, number)), self._later.get((table, number), {})


@dataclass
class History:
    """A run to export. `progress` wraps the rows to draw a progress bar."""

    run: eventlog.Run
    progress: Progress = _no_progress
    known_times: Times | None = None

    @property
    def id(self) -> str:
        """16 hex digits, the same for a run's journal and its run JSON, in any folder."""
        return sha256(f"{self.run.run_name}\n{self.run.start_time}".encode()).hexdigest()[:16]

    @cached_property
    def times(self) -> Times:
        """When its rows were logged, from its journal if there is one."""
        if self.known_times is not None:
            return self.known_times
        path = self.run.path
        return Times() if path is None else Times.of(runs.journal_of(path))

    @property
    def n_rows(self) -> int:
        return sum(len(self.stored(table)) for table in TABLES)

    def stored(self, table: str) -> Sequence[Row]:
        """The rows of a table as the run JSON has them; of `system`, flat."""
        return getattr(self.run, _KEYS[table]) if table in _KEYS else self._system

    @cached_property
    def _system(self) -> list[Row]:
        events = self.run.journal.get("events")
        if isinstance(events, dict) and events.get("system"):
            with suppress(OSError, eventlog.EventlogError):
                return [*self.run.rows("system")]
        return []

    def rows(self, table: str) -> Iterator[Row]:
        """Flat rows in the order of the table's axis, with a `timestamp` if their time is known."""
        if table not in _TIMED:
            yield from self.flat_rows(table)
            return
        times, axis = self.times, TABLES[table]
        for row in self.flat_rows(table):
            time = times.of_row(table, row[axis]) if "timestamp" not in row else None
            yield row if time is None else row | {"timestamp": time}

    def flat_rows(self, table: str) -> Iterator[Row]:
        """Flat rows in the order of the table's axis."""
        stored = self.stored(table)
        rows = stored if table not in _KEYS else self.run.rows(table)
        return iter(self.progress(rows, len(stored)))

    @cached_property
    def names(self) -> dict[tuple[str, str], str]:
        """The name of each series, by its table and column."""
        names = {(one.table, one.column): one.name for one in self.run.series().values()}
        in_use = {*names.values()}
        for column in dict.fromkeys(name for row in self._system for name in row):
            if column not in ("iter", "timestamp") and f"system/{column}" not in in_use:
                names["system", column] = f"system/{column}"
        return names

    def values(self) -> Iterator[Value]:
        """All values of all series: table by table, each in the order of its axis."""
        for table in TABLES:
            yield from self.values_in(table, self.flat_rows(table))

    def values_in(self, table: str, rows: Iterable[Row]) -> Iterator[Value]:
        """The values in flat rows of a table."""
        names, axis = self.names, TABLES[table]
        for row in rows:
            time, later = self.times_of(table, row)
            for column, value in row.items():
                name = names.get((table, column))
                if name is not None and _is_value(table, column, value):
                    yield Value(row[axis], name, value, later.get(column, time))

    def times_of(self, table: str, row: Row) -> tuple[str | None, dict[str, str]]:
        """When a row was logged, and those of its columns that were logged later."""
        own = row.get("timestamp")
        if isinstance(own, str) and seconds(own) is not None:
            return own, {}
        return self.times.of_columns(table, row[TABLES[table]])

    def points(self, names: Names = NAMES) -> Iterator[Point]:
        """All values of the run by step; at one step evals come first, as they were made.

        `names` replace those of the series, except where another series has that name. An unknown
        MFU is left out; of several checkpoints at an iteration the last one counts. A row without a
        time has the time of the row before it.
        """
        in_use = {*self.names.values()}
        names = self.names | {
            key: name for key, name in names.items() if key in self.names and name not in in_use
        }
        streams = (self._points_of(table, at, names) for at, table in enumerate(_ORDER))
        time_s = seconds(self.run.start_time) or 0.0
        for step, at, time, values in merge(*streams, key=lambda item: item[:2]):
            own_s = seconds(time)
            time_s = time_s if own_s is None else own_s
            numbers = {name: n for name, v in values.items() if (n := number(v)) is not None}
            words = {name: _words(v) for name, v in values.items() if name not in numbers}
            yield Point(_ORDER[at], step, time_s, numbers, words)

    def _points_of(
        self, table: str, at: int, names: Names
    ) -> Iterator[tuple[int, int, str | None, Row]]:
        axis = TABLES[table]
        rows: Iterable[Row] = self.flat_rows(table)
        if table == "checkpoints":
            rows = {row[axis]: row for row in rows}.values()
        for row in rows:
            time, later = self.times_of(table, row)
            by_time: dict[str | None, Row] = {}
            for column, value in row.items():
                name = names.get((table, column))
                if name is not None and _is_value(table, column, value):
                    by_time.setdefault(later.get(column, time), {})[name] = value
            for own, values in sorted(by_time.items(), key=lambda item: item[0] or ""):
                yield row[axis], at, own, values

    def settings(self) -> dict[str, Any]:
        """The configuration: dotted names -> scalars; a list is its JSON text."""
        return eventlog.flat_cells(self.run.config)

    def facts(self) -> dict[str, Any]:
        """The metadata, in the same form."""
        return eventlog.flat_cells(self.run.metadata)

    def about(self) -> dict[str, Any]:
        """Everything but the rows."""
        run = self.run
        return {
            "id": self.id,
            "run_name": run.run_name,
            "start_time": run.start_time,
            "end_time": run.end_time,
            "status": run.status,
            "config": run.config,
            "metadata": run.metadata,
            "summary": run.summary,
        } | ({"definitions": known} if (known := run.journal.get("definitions")) else {})


def load(path: Path, progress: Progress = _no_progress) -> History:
    """The history of the run in `path`, from its journal if there is one: it has all times.

    Raises:
        eventlog.EventlogError, OSError: there is no run, or it cannot be read.
    """
    journal = runs.journal_of(path)
    if journal.exists():
        with suppress(eventlog.UnreadableRun):
            runs.check_looks_like_a_run(journal)
            return _from_journal(journal, progress)
    runs.check_looks_like_a_run(path)
    return History(eventlog.load_run(path), progress)


def _from_journal(journal: Path, progress: Progress) -> History:
    """The run of a journal, and when each row was logged."""
    times = Times()
    return History(eventlog.load_run(journal, sink=times), progress, times)


def batches(rows: Iterable[T], n: int) -> Iterator[list[T]]:
    """The rows in lists of `n`; the last may be shorter."""
    left = iter(rows)
    while batch := list(islice(left, n)):
        yield batch


# ---- values


def _is_value(table: str, column: str, value: Any) -> bool:
    """Whether a cell has a value: not one that is missing, and not an MFU that is not known."""
    if value is None:
        return False
    return table == "metrics" or column != "mfu" or value != eventlog.MFU_UNKNOWN


def number(value: Any) -> float | None:
    """A number as a float64; None: it is words."""
    if type(value) is float:
        return value
    if type(value) is int:
        with suppress(OverflowError):
            return float(value)
    return None


def text(value: Any) -> str | None:
    """What a float64 does not hold of a value: words, and all digits of a large integer."""
    if type(value) is float or (type(value) is int and number(value) == value):
        return None
    return _words(value)


def _words(value: Any) -> str:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    return str(value) if type(value) is int else orjson.dumps(value, default=str).decode()


def micros(time: str | None) -> int | None:
    """An ISO 8601 time in microseconds since 1970; None: it is none."""
    time_s = seconds(time)
    return None if time_s is None else round(time_s * 1e6)
