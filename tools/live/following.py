"""Runs as they grow: each journal is read once, and then only what was appended.

    run = Following(Path("out/run_20261123_032501.jsonl"))
    while run.read_on():                    # True: something is new
        print(run.iterations.last_iter, run.status)

Rows that a resumed run logs again supersede the earlier ones, as in the run JSON; these are kept in
`superseded`. A journal that was cut or replaced is read again; until that is complete, the earlier
content is shown.
"""

import math
import os
import time
from collections import deque
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count, islice
from pathlib import Path
from typing import Any, TypeGuard

import eventlog

from ..core import runs
from ..core.axis import clock_of_steps, token_knots
from ..core.formats import is_number, iso, seconds
from ..core.rows import AxisName
from .curves import Axis, Rows
from .groups import Groups
from .pyramid import Spill

Table = str
"""A kind of event whose rows have numbers to draw."""
TABLES = tuple(kind.name for kind in eventlog.KINDS.values() if kind.is_drawn)
_KIND_OF: dict[str, str] = {
    kind.rule: kind.name for kind in eventlog.KINDS.values() if kind.is_drawn
}

BATCH_RECORDS = 5_000
CLOCK_RECORDS = 100  # records between two checks of the clock: 0.4 ms where folding is fast
JSON_MAX_BYTES = 256 << 20  # a run JSON without its journal is held whole while it is read
BESIDE_S = 1.0  # between two searches for segments
SUPERSEDED_MAX = 50
MARKS_MAX = 5_000
LATEST_RECORDS = 200
LINE_MAX = 2_000  # of each of them
TEXT_MAX = 500
_MARKS = frozenset(kind.name for kind in eventlog.KINDS.values() if kind.is_mark)

_generations = count(int(time.time() * 1000))  # a restarted server must not repeat any


@dataclass
class Known:
    """What has been read of a run: its curves, as the row sink of `fold`, which has the rest."""

    generation: int = field(default_factory=lambda: next(_generations))
    """Changes when rows were removed."""
    spill: Spill = field(default_factory=Spill)
    fold: eventlog.Fold = field(init=False)
    tables: dict[Table, Rows] = field(init=False)
    """Those of which each event has a row of its own."""
    metrics: Groups = field(init=False)
    superseded: list[tuple[Table, Rows]] = field(default_factory=list)
    """Rows that were superseded, the earliest first."""
    marks: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=MARKS_MAX))
    """Events to mark on a time line: `kind`, `t`, `iter` (the latest before it), `text`."""
    latest: deque[eventlog.Record] = field(default_factory=lambda: deque(maxlen=LATEST_RECORDS))
    n_records: int = 0
    knots: list[tuple[float, float]] = field(default_factory=list)
    """Pairs (first iteration, tokens per step from there on)."""
    _names: tuple[tuple[int, ...], list[str]] = field(default=((), []), init=False)

    def __post_init__(self) -> None:
        self.tables = {name: Rows(self.spill) for name in TABLES if name != "metrics"}
        self.metrics = Groups(self.spill, lambda rows: self._keep("metrics", rows))
        self.fold = eventlog.Fold(with_rows=False, sink=self)

    def read(self, record: eventlog.Record) -> None:
        """Add one record."""
        self.n_records += 1
        self.latest.append(record._replace(line=record.line[:LINE_MAX]))
        self.fold.add(record)
        if record.event == "open":
            self._note_tokens(record.fields)
        if record.event in _MARKS:
            self._mark(record)

    def settle(self) -> None:
        for rows in self.tables.values():
            rows.settle()
        self.metrics.settle()

    @property
    def n_rows(self) -> dict[Table, int]:
        """How many rows each table has; of `metrics`, how many events."""
        counts = {name: len(rows) for name, rows in self.tables.items()}
        return {name: counts.get(name, self.metrics.n_added) for name in TABLES}

    # ---- series, by the names that `Run.series` has for them

    def series(self) -> list[str]:
        """The names of all series that have a number, in the order of their tables."""
        counts = tuple(len(self.columns(table)) for table in eventlog.SERIES_PREFIXES)
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
        for table, prefix in eventlog.SERIES_PREFIXES.items():
            if name.startswith(prefix) and name[len(prefix) :] in self.columns(table):
                return self._place(table, name[len(prefix) :])
        table, _, column = name.partition("/")
        return self._place(table, column) if column in self.columns(table) else None

    def all_rows(self) -> Iterator[Rows]:
        """All that have a row."""
        of_metrics = dict.fromkeys(self.metrics.by_name.values())
        return (rows for rows in (*self.tables.values(), *of_metrics) if len(rows))

    def columns(self, table: str) -> Mapping[str, Rows]:
        """The columns of a table, by name, and the rows that each is in."""
        if table == "metrics":
            return self.metrics.by_name
        rows = self.tables.get(_KIND_OF.get(table, ""))
        return dict.fromkeys(rows.columns, rows) if rows is not None else {}

    def _place(self, table: str, column: str) -> tuple[Table, Rows, str]:
        kind = _KIND_OF[table]
        rows = self.metrics.by_name[column] if table == "metrics" else self.tables[kind]
        return kind, rows, column

    # ---- as the row sink of the fold

    def add(self, record: eventlog.Record, number: int) -> None:
        source_t = record.fields.get("timestamp")  # of an imported run
        t = source_t if isinstance(source_t, str) else record.t
        if record.event == "metrics":
            self.metrics.add(number, t, record.fields)
        elif record.event in self.tables:
            self.tables[record.event].add(number, t, record.fields)

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

    def _keep(self, event: Table, rows: Rows) -> None:
        self.generation = next(_generations)
        if len(rows):
            self.superseded.append((event, rows))
            del self.superseded[:-SUPERSEDED_MAX]

    def clear(self) -> None:
        raise AssertionError("a journal that is read anew has a new `Known`")

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


class Following:
    """One run file that is followed; `read_on` reads what is new in it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.known = Known()
        self.error = ""
        """Why it cannot be read, in a line."""
        self.is_alive = False
        """Whether a writer is alive."""
        self._coming: Known | None = None  # being read again, until that is complete
        self._reading: Iterator[eventlog.Record] | None = None
        self._reader: eventlog.Reader | None = None
        self._seen: tuple[int, ...] = ()
        self._look_beside_at = 0.0
        self._whole: eventlog.Run | None = None

    # ---- reading

    def read_on(self, budget_s: float = 0.05) -> bool:
        """Read for about `budget_s`; returns whether anything changed, or is still to be read."""
        was = (self.error, self.is_alive)
        try:
            runs.check_is_regular_file(self.path)
            if not runs.is_journal(self.path):
                return self._read_json()
            changed = self._read_journal(budget_s)
        except (eventlog.EventlogError, OSError) as error:
            self._reading, self._seen = None, ()
            text = error.strerror or str(error) if isinstance(error, OSError) else str(error)
            self.error, self.is_alive = self._without_path(text), False
            changed = False
        return changed or was != (self.error, self.is_alive)

    @property
    def is_reading(self) -> bool:
        """Whether a part of the file that is known to be there has not been read yet."""
        return self._reading is not None

    @property
    def progress(self) -> float:
        """How much of the journal has been read, 0 to 1."""
        if self._reading is None or self._reader is None:
            return 1.0
        try:
            return min(1.0, self._reader.journal.size_bytes / max(1, os.stat(self.path).st_size))
        except OSError:
            return 1.0

    def _read_journal(self, budget_s: float) -> bool:
        if self._reading is None and not self._begin_reading():
            self.error = self._why_not()
            return False
        known = self._coming or self.known
        until = time.monotonic() + budget_s
        while self._reading is not None:
            n_records = 0
            for n_records, record in enumerate(islice(self._reading, BATCH_RECORDS), 1):
                known.read(record)
                if n_records % CLOCK_RECORDS == 0 and time.monotonic() > until:
                    break
            else:
                if n_records < BATCH_RECORDS:
                    self._reading = None
            if time.monotonic() > until:
                break
        known.settle()
        if self._reading is None and self._coming is not None:
            self.known, self._coming = self._coming, None
        if self._reading is None:
            self.error = self._why_not()
        return True

    def _why_not(self) -> str:
        sequence = self._reader.sequence if self._reader else None
        if sequence is not None and sequence.newer_format is not None:
            return (
                f"has a session of format {sequence.newer_format!r}, this program reads up to "
                f"{eventlog.FORMAT}. Use a newer eventlog"
            )
        return "" if self.known.n_records else "not a journal: not one whole record in it"

    def _begin_reading(self) -> bool:
        """Begin to read what is new; returns whether there is anything."""
        stat = os.stat(self.path)
        alive = eventlog.is_locked(self.path)
        reader, was_alive, self.is_alive = self._reader, self.is_alive, alive
        seen = (stat.st_ino, stat.st_size, stat.st_mtime_ns, alive)
        if seen == self._seen and not self._has_new_segments():
            return was_alive != alive
        self._seen = seen
        if reader is None or reader.is_outdated:
            self._begin_again()
            reader = self._reader
        assert reader is not None
        rest = not alive and stat.st_size > reader.journal.size_bytes
        # If no writer is alive, a last line without LF is read as complete. When the run is resumed
        # everything is read again then, so this is done only if there is such a line.
        to_the_end = rest and not self._ends_with_lf(stat.st_size)
        if to_the_end and self.known.n_records and self._coming is None:
            self._begin_again()
            reader = self._reader
            assert reader is not None
        if reader.is_behind or to_the_end:
            self._reading = reader.read_on(to_the_end=to_the_end)
            return True
        return was_alive != alive

    def _has_new_segments(self) -> bool:
        """Whether there are new segments, checked rarely: the folder may be large."""
        now = time.monotonic()
        if self._reader is None or now < self._look_beside_at:
            return False
        self._look_beside_at = now + BESIDE_S
        return self._reader.is_behind

    def _begin_again(self) -> None:
        self._reader = eventlog.Reader(self.path)
        self._coming = Known() if self.known.n_records else None
        if self._coming is None:
            self.known = Known()

    def _ends_with_lf(self, size_bytes: int) -> bool:
        with open(self.path, "rb") as file:
            file.seek(max(0, size_bytes - 1))
            return file.read(1) == b"\n"

    def _read_json(self) -> bool:
        """Read a run JSON as a whole if it changed: older loggers wrote no journal."""
        try:
            stat = os.stat(self.path)
            seen = (stat.st_ino, stat.st_size, stat.st_mtime_ns)
            if seen == self._seen:
                return False
            self._seen = seen
            if stat.st_size > JSON_MAX_BYTES:
                raise eventlog.UnreadableRun(
                    f"{stat.st_size:,} bytes of JSON and no journal beside it: "
                    f"up to {JSON_MAX_BYTES:,} are drawn here. See: runs plot {self.path}"
                )
            run = eventlog.load_run(self.path)
        except (eventlog.EventlogError, OSError) as error:
            text = error.strerror or str(error) if isinstance(error, OSError) else str(error)
            self.error = self._without_path(text)
            return True
        self.error, self.known = "", _known_of(run)
        run.training_iterations, run.eval_steps = [], []  # they are in the tables
        self._whole = run
        return True

    def _without_path(self, text: str) -> str:
        """An error without the path, which is shown beside it, and as UTF-8."""
        return text.removeprefix(f"{self.path}: ").encode("utf-8", "replace").decode()

    # ---- the run

    @property
    def iterations(self) -> Rows:
        return self.known.tables["iter"]

    @property
    def evals(self) -> Rows:
        return self.known.tables["eval"]

    @property
    def last_iter(self) -> int | None:
        """The latest iteration; of a run that logs only metrics the latest step."""
        last = self.iterations.last_iter
        position = self.known.fold.position
        return last if last is not None or position < 0 else position

    @property
    def status(self) -> str:
        return self.run().status

    @property
    def started(self) -> float:
        """When the run began, in seconds since 1970; NaN if unknown."""
        started = seconds(self._whole.start_time if self._whole else self.known.fold.started)
        return math.nan if started is None else started

    def axis(self, name: AxisName) -> Axis | None:
        """The x axis `name` of this run; None if the run lacks what that needs."""
        knots = self.known.knots
        if name == "tokens" and not knots:
            return None
        started = self.started
        if name == "time" and started != started:
            return None
        return Axis(name, 0.0 if started != started else started, tuple(knots))

    def run(self) -> eventlog.Run:
        """The run without its iterations, which are in `iterations`."""
        if self._whole is not None:
            return self._whole
        reader, known = self._reader, self.known
        run = known.fold.run(
            alive=self.is_alive,
            journal={
                "file": self.path.name,
                "defects": [d.to_dict() for d in reader.defects] if reader else [],
            },
        )
        run.run_name = run.run_name or os.fsencode(self.path.stem).decode("utf-8", "replace")
        run.path = self.path
        run.summary |= self._iterations_summary()
        return run

    def _iterations_summary(self) -> dict[str, Any]:
        """The part of the summary that a fold without rows does not have."""
        rows = self.iterations
        loss = rows.columns.get("loss")
        return {
            "final_train_loss": loss.last() if loss else None,
            "avg_time_ms": _mean(rows, "time_ms"),
            "avg_mfu": _mean(rows, "mfu"),
        }


def record_text(record: eventlog.Record) -> str:
    """The text of a record in one line, after its number on the axis if it has one."""
    kind = eventlog.KINDS.get(record.event)
    number = record.fields.get(kind.axis) if kind and kind.axis and kind.text else None
    text = eventlog.describe(record, longest=TEXT_MAX)
    return (text if number is None else f"{number}  {text}")[:TEXT_MAX]


def _mean(rows: Rows, key: str) -> float | None:
    column = rows.columns.get(key)
    total, n = column.total() if column else (0.0, 0)
    return total / n if n else None


def _is_iter(value: Any) -> TypeGuard[int]:
    return type(value) is int and -(1 << 63) <= value < 1 << 63


def _known_of(run: eventlog.Run) -> Known:
    """The curves of a run JSON. Its iterations have no times: these are the sums of step times."""
    known = Known()
    rows = [row for row in run.training_iterations if _is_iter(row.get("iter"))]
    rows.sort(key=lambda row: row["iter"])
    clock = clock_of_steps(row.get("time_ms") for row in rows) + (seconds(run.start_time) or 0.0)
    for row, at in zip(rows, clock.tolist(), strict=True):
        known.tables["iter"].add(row["iter"], row.get("timestamp") or iso(at) or "", row)
    for row in sorted(run.eval_steps, key=lambda row: _sortable(row.get("iter"))):
        if _is_iter(row.get("iter")):
            at = str(row.get("timestamp") or run.start_time or "")
            known.tables["eval"].add(row["iter"], at, row)
    for row in run.checkpoints:
        if _is_iter(row.get("iter")):
            text = f"path {row.get('path')}"[:TEXT_MAX]
            t = str(row.get("timestamp") or "")
            known.marks.append({"kind": "checkpoint", "t": t, "iter": row["iter"], "text": text})
    for row in run.metrics:
        if _is_iter(row.get("step")):
            known.metrics.add(row["step"], str(run.start_time or ""), row)
    known.knots = token_knots(run)
    known.settle()
    known.n_records = sum(known.n_rows.values())
    return known


def _sortable(value: Any) -> int:
    return value if type(value) is int else 0
