"""A run as other programs need it: non-finite numbers and times are in the rows.

A run JSON has a non-finite number beside the row (`"loss": null, "nonfinite":
{"loss": "nan"}`) and has no times of iterations; the journal does. Here
`rows` are flat dicts for tables, `points` are named numbers for trackers.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from heapq import merge
from pathlib import Path
from typing import Any, NamedTuple

import eventlog

from . import runs
from .formats import is_number, seconds

Row = dict[str, Any]
Kind = str
"""A table whose rows are in the run JSON, by iteration."""
EVENTS = {
    str(kind.rule): kind for kind in eventlog.KINDS.values() if kind.key and kind.axis == "iter"
}
"""The kind of event that each of them has a row of."""
KINDS: tuple[Kind, ...] = tuple(EVENTS)

Names = Mapping[tuple[Kind, str], str]
NAMES: Names = {
    ("evals", "train_loss"): "train/loss",
    ("evals", "val_loss"): "val/loss",
    ("iterations", "loss"): "train/iter_loss",
}
"""The names that the trainer itself logs to W&B (nanoGPT's)."""

Progress = Callable[[Iterable[Row], int], Iterable[Row]]


class Point(NamedTuple):
    """Named numbers of one row, at one iteration."""

    kind: Kind
    iter: int
    time_s: float
    """Since the epoch."""
    values: dict[str, float]


def _no_progress(rows: Iterable[Row], n_rows: int) -> Iterable[Row]:
    return rows


@dataclass
class History:
    """A run to export. `progress` wraps the rows to draw a progress bar."""

    run: eventlog.Run
    progress: Progress = _no_progress
    times: Mapping[int, str] = field(default_factory=dict)
    """When each iteration was logged, as far as known."""

    @property
    def id(self) -> str:
        """16 hex digits, the same for a run's journal and its run JSON, in any folder."""
        return sha256(f"{self.run.run_name}\n{self.run.start_time}".encode()).hexdigest()[:16]

    @property
    def n_rows(self) -> int:
        return sum(map(len, map(self._rows_of, KINDS)))

    def rows(self, kind: Kind) -> Iterator[Row]:
        """Flat rows by ascending iteration: nested objects as dotted names, NaN as NaN."""
        flat_rows = iter(self.progress(self.run.rows(kind), len(self._rows_of(kind))))
        return map(self._with_time, flat_rows) if kind == "iterations" and self.times else flat_rows

    def _with_time(self, row: Row) -> Row:
        if "timestamp" not in row:
            row["timestamp"] = self.times.get(row["iter"])
        return row

    def points(self, names: Names = NAMES) -> Iterator[Point]:
        """All numbers of the run by iteration; an evaluation comes before its iteration.

        An unknown MFU is left out; of several checkpoints at an iteration the last one counts. A
        row without a time has the time of the row before it.
        """
        evals_first = sorted(KINDS, key=lambda kind: kind != "evals")
        time_s = seconds(self.run.start_time) or 0.0
        # Of rows with the same key, `merge` yields those of the stream before first.
        for i, kind, row in merge(*map(self._numbered, evals_first), key=lambda item: item[0]):
            own_s = seconds(row.get("timestamp"))
            time_s = time_s if own_s is None else own_s
            values = _numbers(kind, row, names)
            if values:
                yield Point(kind, i, time_s, values)

    def _numbered(self, kind: Kind) -> Iterator[tuple[int, Kind, Row]]:
        rows: Iterable[Row] = self.rows(kind)
        if kind == "checkpoints":
            rows = {row["iter"]: row for row in rows}.values()
        return ((row["iter"], kind, row) for row in rows)

    def _rows_of(self, kind: Kind) -> Any:
        return getattr(self.run, EVENTS[kind].key)

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
        }


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
    """The run of a journal, and when each iteration was logged, the last time it was."""
    times = _Times()
    run = eventlog.load_run(journal, sink=times)
    return History(run, progress, times.by_iter)


class _Times:
    """When each iteration was logged: a row sink. The time of a later row overwrites."""

    def __init__(self) -> None:
        self.by_iter: dict[int, str] = {}

    def add(self, record: eventlog.Record, number: int) -> None:
        if record.event == "iter":
            self.by_iter[number] = record.t

    def supersede(
        self,
        event: str,
        from_number: int,
        before: int | None = None,
        names: Collection[str] | None = None,
    ) -> None:
        pass

    def clear(self) -> None:
        self.by_iter.clear()


# ---- values


def _numbers(kind: Kind, row: Row, names: Names) -> dict[str, float]:
    values: dict[str, float] = {}
    prefix = "" if kind == "iterations" else f"{EVENTS[kind].name}/"
    for key, value in row.items():
        if key == "iter" or not is_number(value):
            continue
        if key == "mfu" and value == eventlog.MFU_UNKNOWN:
            continue
        name = names.get((kind, key), prefix + key)
        values[name] = float(value)
    return values
