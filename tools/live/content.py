"""What has been read of one run: its rows as curves, and its marks on a time line.

Rows that a resumed run logs again supersede the earlier ones, as in the run JSON; these are kept in
`superseded`.
"""

import time
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import Any, NamedTuple, TypeGuard

import eventlog
from eventlog import seconds

from ..core.axis import clock_of_steps, token_knots
from ..core.formats import is_number, iso
from ..core.origin import of_open
from .curves import Columns, Rows
from .groups import Groups
from .pyramid import Spill

Table = str
"""A kind of event whose rows have numbers to draw."""
TABLES = tuple(kind.name for kind in eventlog.KINDS.values() if kind.is_drawn)
_KIND_OF: dict[str, str] = {
    kind.rule: kind.name for kind in eventlog.KINDS.values() if kind.is_drawn
}

SUPERSEDED_MAX = 50
MARKS_MAX = 5_000
ORIGINS_MAX = 200
LATEST_RECORDS = 200
LINE_MAX = 2_000  # of each of them
TEXT_MAX = 500
LOG_MAX = 2_000  # lines of a program's own log
_MARKS = frozenset(kind.name for kind in eventlog.KINDS.values() if kind.is_mark)

_generations = count(int(time.time() * 1000))  # a restarted server must not repeat any


class Superseded(NamedTuple):
    """Rows that were superseded."""

    table: Table
    rows: Rows
    record: int
    """How many records had been read: equal for those that were superseded together."""


@dataclass
class Content:
    """What has been read of a run: its curves, as the row sink of `fold`, which has the rest."""

    generation: int = field(default_factory=lambda: next(_generations))
    """Changes when rows were removed."""
    spill: Spill = field(default_factory=Spill)
    fold: eventlog.Fold = field(init=False)
    tables: dict[Table, Rows] = field(init=False)
    """Those of which each event has a row of its own."""
    metrics: Groups = field(init=False)
    others: dict[Table, Groups] = field(init=False)
    """What tables with more columns than `COLUMNS_MAX` have besides these."""
    superseded: list[Superseded] = field(default_factory=list)
    """Rows that were superseded, the earliest first."""
    marks: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=MARKS_MAX))
    """Events to mark on a time line: `kind`, `t`, `iter` (the latest before it), `text`."""
    latest: deque[eventlog.Record] = field(default_factory=lambda: deque(maxlen=LATEST_RECORDS))
    origins: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=ORIGINS_MAX))
    """Host, program, commit and versions of each session, with its `s`."""
    n_records: int = 0
    knots: list[tuple[float, float]] = field(default_factory=list)
    """Pairs (first iteration, tokens per step from there on)."""
    log: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=LOG_MAX))
    """The latest lines of the program's own log: `t`, `level`, `logger`, `text`."""
    _names: tuple[tuple[int, ...], list[str]] = field(default=((), []), init=False)
    _recent: deque[Sequence[eventlog.Record]] = field(default_factory=deque, init=False)
    """The latest that were read, before `settle` makes them `latest`."""
    _n_recent: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self.tables = {name: Rows(self.spill) for name in TABLES if name != "metrics"}
        self.others = {}
        self.metrics = Groups(self.spill, partial(self._keep, "metrics"))
        self.fold = eventlog.Fold(with_rows=False, sink=self)

    def read(self, items: eventlog.Items) -> Iterator[int]:
        """Read what a reader gives; yields after each piece how many records it had."""
        for records in self.fold.add_all(items):
            self.n_records += len(records)
            self._recent.append(records)
            self._n_recent += len(records)
            while self._n_recent - len(self._recent[0]) >= LATEST_RECORDS:
                self._n_recent -= len(self._recent.popleft())
            if len(records) == 1:
                self._note(records[0])
            yield len(records)

    def _note(self, record: eventlog.Record) -> None:
        if record.event == "open":
            self._note_tokens(record.fields)
            self.origins.append({"s": record.s, **of_open(record.fields)})
        if record.event in _MARKS:
            self._mark(record)
        elif record.event == "log":
            line = {key: str(record.fields.get(key) or "") for key in ("level", "logger", "text")}
            self.log.append({"t": record.t, **line, "text": line["text"][:LINE_MAX]})

    def settle(self) -> None:
        for records in self._recent:
            for record in records[-LATEST_RECORDS:]:
                self.latest.append(record._replace(line=record.line[:LINE_MAX]))
        self._recent.clear()
        self._n_recent = 0
        for table, rows in self.tables.items():
            rows.settle()
            if table in self.others:
                self.others[table].n_added = len(rows)
                self.others[table].settle()
        self.metrics.settle()

    @property
    def n_rows(self) -> dict[Table, int]:
        """How many rows each table has; of `metrics`, how many events."""
        counts = {name: len(rows) for name, rows in self.tables.items()}
        return {name: counts.get(name, self.metrics.n_added) for name in TABLES}

    # ---- series, by the names that `Run.series` has for them

    def series(self) -> list[str]:
        """The names of all series that have a number, in the order of their tables."""
        counts = tuple(map(self._n_columns, eventlog.SERIES_PREFIXES))
        if counts != self._names[0]:
            names: dict[str, None] = {}
            for table, prefix in eventlog.SERIES_PREFIXES.items():
                for column in self.columns(table):
                    name = prefix + column
                    names[name if name not in names else f"{table}/{column}"] = None
            self._names = (counts, list(names))
        return self._names[1]

    def find(self, name: str) -> tuple[Table, Rows, str] | None:
        """Where a series is: its table, its rows and its column there; None: it is not logged."""
        prefixes = eventlog.SERIES_PREFIXES.items()
        found = [
            self._place(table, name[len(prefix) :])
            for table, prefix in prefixes
            if name.startswith(prefix)
        ]
        places = [place for place in found if place is not None]
        if places:  # a metric of that name may have been superseded, with all of its values
            return next((p for p in places if len(places) == 1 or _has_value(*p)), places[0])
        table, _, column = name.partition("/")
        return self._place(table, column)

    def all_rows(self) -> Iterator[Rows]:
        """All that have a row."""
        groups = (self.metrics, *self.others.values())
        of_groups = dict.fromkeys(rows for of in groups for rows in of.by_name.values())
        return (rows for rows in (*self.tables.values(), *of_groups) if len(rows))

    def columns(self, table: str) -> Mapping[str, Rows]:
        """The columns of a table, by name, and the rows that each is in."""
        rows, groups = self._parts(table)
        others = groups.by_name if groups is not None else {}
        return others if rows is None else dict.fromkeys(rows.columns, rows) | others

    def _n_columns(self, table: str) -> int:
        rows, groups = self._parts(table)
        return len(rows.columns if rows else ()) + len(groups.by_name if groups else ())

    def _place(self, table: str, column: str) -> tuple[Table, Rows, str] | None:
        rows, groups = self._parts(table)
        if rows is None or column not in rows.columns:
            rows = groups.by_name.get(column) if groups is not None else None
        return None if rows is None else (_KIND_OF[table], rows, column)

    def _parts(self, table: str) -> tuple[Rows | None, Groups | None]:
        """The rows of a table, and the groups of its columns: one of them may be missing."""
        kind = _KIND_OF.get(table, "")
        groups = self.metrics if kind == "metrics" else self.others.get(kind)
        return self.tables.get(kind), groups

    # ---- as the row sink of the fold

    def add(self, record: eventlog.Record, number: int) -> None:
        source_t = record.fields.get("timestamp")  # of an imported run
        t = source_t if isinstance(source_t, str) else record.t
        if record.event == "metrics":
            self.metrics.add(number, t, record.fields)
        elif record.event in self.tables:
            self._add_row(record.event, number, t, record.fields)

    def add_rows(
        self, event: str, numbers: Sequence[int], times: Sequence[str], columns: Columns
    ) -> None:
        source_times = columns.get("timestamp", (None,))  # of an imported run: equal in all rows
        times = source_times if isinstance(source_times[0], str) else times
        if event == "metrics":
            self.metrics.add_rows(numbers, times, columns)
            return
        rows = self.tables[event]
        if rows.others({name: values[0] for name, values in columns.items()}):
            for number, t, *values in zip(numbers, times, *columns.values(), strict=True):
                self._add_row(event, number, t, dict(zip(columns, values, strict=True)))
        else:
            rows.add_rows(numbers, times, columns)

    def _add_row(self, table: Table, number: int, t: str, fields: dict[str, Any]) -> None:
        rows = self.tables[table]
        rows.add(number, t, fields)
        names = rows.others(fields)
        if names:
            groups = self.others.get(table)
            if groups is None:
                groups = self.others[table] = Groups(self.spill, partial(self._keep, table))
            more = {name: fields[name] for name in names}
            marks = fields.get("nonfinite")
            groups.add(number, t, more | ({"nonfinite": marks} if marks else {}))

    def supersede(
        self,
        event: str,
        from_number: int,
        before: int | None = None,
        names: Collection[str] | None = None,
    ) -> None:
        if event == "metrics":
            self.metrics.supersede(from_number, before, names)
            return
        rows = self.tables[event].supersede(from_number) if event in self.tables else None
        if rows is not None:
            self._keep(event, rows)
        if event in self.others:
            self.others[event].supersede(from_number)
            self.others[event].forget_lengths()

    def _keep(self, event: Table, rows: Rows) -> None:
        self.generation = next(_generations)
        if len(rows):
            self.superseded.append(Superseded(event, rows, self.n_records))
            del self.superseded[:-SUPERSEDED_MAX]

    def clear(self) -> None:
        raise AssertionError("a journal that is read anew has a new `Content`")

    def _note_tokens(self, fields: dict[str, Any]) -> None:
        metadata = fields.get("metadata")
        per_iter = metadata.get("tokens_per_iter") if isinstance(metadata, dict) else None
        if is_number(per_iter) and per_iter > 0:
            at = fields.get("from_iter")
            at = at if type(at) is int and self.knots else 0
            self.knots = [*((i, n) for i, n in self.knots if i < at), (at, float(per_iter))]

    def _mark(self, record: eventlog.Record) -> None:
        i = record.fields.get("iter")
        kind = record.event
        if kind == "open" and len(self.fold.sessions) > 1:
            kind, i = "resume", record.fields.get("from_iter", i)
        at = i if _is_iter(i) else max(0, self.fold.position)
        text = eventlog.describe(record, longest=TEXT_MAX)[:TEXT_MAX]
        self.marks.append({"kind": kind, "t": record.t, "iter": at, "text": text})


def record_text(record: eventlog.Record) -> str:
    """The text of a record in one line, after its number on the axis if it has one."""
    kind = eventlog.KINDS.get(record.event)
    number = record.fields.get(kind.axis) if kind and kind.axis and kind.text else None
    text = eventlog.describe(record, longest=TEXT_MAX)
    return (text if number is None else f"{number}  {text}")[:TEXT_MAX]


def content_of(run: eventlog.Run) -> Content:
    """The curves of a run JSON. Its iterations have no times: these are the sums of step times."""
    content = Content()
    rows = _numbered(run.training_iterations, "iter")
    clock = clock_of_steps(row.get("time_ms") for row in rows) + (seconds(run.start_time) or 0.0)
    for row, at in zip(rows, clock.tolist(), strict=True):
        content.tables["iter"].add(row["iter"], row.get("timestamp") or iso(at) or "", row)
    for row in _numbered(run.eval_steps, "iter"):
        at = str(row.get("timestamp") or run.start_time or "")
        content.tables["eval"].add(row["iter"], at, row)
    for row in _numbered(run.checkpoints, "iter"):
        text = f"path {row.get('path')}"[:TEXT_MAX]
        t = str(row.get("timestamp") or "")
        content.marks.append({"kind": "checkpoint", "t": t, "iter": row["iter"], "text": text})
    for row in _numbered(run.metrics, "step"):
        content.metrics.add(row["step"], str(run.start_time or ""), row)
    content.knots = token_knots(run)
    content.settle()
    content.n_records = sum(content.n_rows.values())
    return content


def _numbered(rows: Sequence[dict[str, Any]], key: str) -> list[dict[str, Any]]:
    """The rows that have a number on their axis, by that number."""
    return sorted((row for row in rows if _is_iter(row.get(key))), key=lambda row: row[key])


def _is_iter(value: Any) -> TypeGuard[int]:
    return type(value) is int and -(1 << 63) <= value < 1 << 63


def _has_value(table: Table, rows: Rows, column: str) -> bool:
    return bool(rows.columns[column].total()[1] or rows.nonfinite.get(column))
