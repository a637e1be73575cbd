"""A run's history as other programs want it: every number in its place, every time known.

The run document says a non-finite number beside the row (`"loss": null, "nonfinite":
{"loss": "nan"}`) and leaves an iteration's time in the journal. Here both are put back:
`rows` are flat dicts for tables, `points` are named numbers for trackers.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from heapq import merge
from pathlib import Path
from typing import Any, Literal, NamedTuple

import eventlog

from . import runs

Row = dict[str, Any]
Kind = Literal["iterations", "evals", "checkpoints"]
KINDS: tuple[Kind, ...] = ("iterations", "evals", "checkpoints")

Names = Mapping[tuple[Kind, str], str]
NAMES: Names = {
    ("evals", "train_loss"): "train/loss",
    ("evals", "val_loss"): "val/loss",
    ("iterations", "loss"): "train/iter_loss",
}
"""What the trainer calls them when it logs to W&B itself (nanoGPT's names)."""

_PREFIXES = {"iterations": "", "evals": "eval/", "checkpoints": "checkpoint/"}

Watch = Callable[[Iterable[Row], int], Iterable[Row]]


class Point(NamedTuple):
    """Named numbers of one row, at one iteration."""

    kind: Kind
    iter: int
    time_s: float
    """Since the epoch."""
    values: dict[str, float]


def _unwatched(rows: Iterable[Row], n_rows: int) -> Iterable[Row]:
    return rows


@dataclass
class History:
    """A run to hand over. `watch` sees the rows pass, for a progress bar."""

    run: eventlog.Run
    watch: Watch = _unwatched
    times: Mapping[int, str] = field(default_factory=dict)
    """When an iteration was logged, where that is known."""

    @property
    def id(self) -> str:
        """Sixteen hex digits, the same for a run's journal and its run JSON, in any folder."""
        return sha256(f"{self.run.run_name}\n{self.run.start_time}".encode()).hexdigest()[:16]

    @property
    def n_rows(self) -> int:
        return sum(len(self._kept(kind)) for kind in KINDS)

    def rows(self, kind: Kind) -> Iterator[Row]:
        """Flat rows by ascending iteration: objects are dotted names, NaN is NaN."""
        rows = self._kept(kind)
        found = map(flat, map(restored, self.watch(_ascending(rows, kind), len(rows))))
        return map(self._with_time, found) if kind == "iterations" and self.times else found

    def _with_time(self, row: Row) -> Row:
        if "timestamp" not in row:
            row["timestamp"] = self.times.get(row["iter"])
        return row

    def points(self, names: Names = NAMES) -> Iterator[Point]:
        """All numbers of the run by iteration; an evaluation before the step it came before.

        An MFU that is not known is left out; of several checkpoints of an iteration the last
        one counts. Where a row has no time of its own it has the last one before it.
        """
        checkpoints = {row["iter"]: row for row in self.rows("checkpoints")}.values()
        streams: list[Iterator[tuple[int, int, Kind, Row]]] = [
            ((row["iter"], 0, "evals", row) for row in self.rows("evals")),
            ((row["iter"], 1, "iterations", row) for row in self.rows("iterations")),
            ((row["iter"], 2, "checkpoints", row) for row in checkpoints),
        ]
        time_s = seconds(self.run.start_time) or 0.0
        for i, _, kind, row in merge(*streams, key=lambda item: item[:2]):
            own_s = seconds(row.get("timestamp"))
            time_s = time_s if own_s is None else own_s
            values = _numbers(kind, row, names)
            if values:
                yield Point(kind, i, time_s, values)

    def _kept(self, kind: Kind) -> Any:
        run = self.run
        return {
            "iterations": run.training_iterations,
            "evals": run.eval_steps,
            "checkpoints": run.checkpoints,
        }[kind]

    def settings(self) -> dict[str, Any]:
        """Configuration as dotted names -> JSON's scalars; a list is its JSON text."""
        return flat(restored(self.run.config))

    def facts(self) -> dict[str, Any]:
        """Metadata, the same way."""
        return flat(restored(self.run.metadata))

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


def load(path: Path, watch: Watch = _unwatched) -> History:
    """The history of the run in `path`, from its journal where that is there: it knows the most.

    Raises:
        eventlog.EventlogError, OSError: there is none, or none to be read.
    """
    journal = runs.journal_of(path)
    if journal.exists():
        with suppress(eventlog.UnreadableRun):
            runs.refuse_what_is_no_run(journal)
            return _from_journal(journal, watch)
    runs.refuse_what_is_no_run(path)
    return History(eventlog.load_run(path), watch)


def _from_journal(journal: Path, watch: Watch) -> History:
    times = _Times()
    run = eventlog.load_run(journal, sink=times)
    return History(run, watch, times.by_iter)


class _Times:
    """When each iteration was logged: a row sink. The time of a later row overwrites."""

    def __init__(self) -> None:
        self.by_iter: dict[int, str] = {}

    def add(self, record: eventlog.Record, number: int) -> None:
        if record.event == "iter":
            self.by_iter[number] = record.t

    def supersede(self, event: str, from_number: int) -> None:
        pass

    def clear(self) -> None:
        self.by_iter.clear()


# ---- values


def seconds(timestamp: Any) -> float | None:
    """An ISO 8601 time as seconds since the epoch; one without offset is local time."""
    if isinstance(timestamp, str):
        with suppress(ValueError, OverflowError):
            return datetime.fromisoformat(timestamp).timestamp()
    return None


def restored(row: Row) -> Row:
    """A row with its non-finite numbers where `nonfinite` says that they were."""
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


def flat(row: Row, prefix: str = "") -> Row:
    """Objects within as dotted names, lists as JSON text."""
    found: Row = {}
    for key, value in row.items():
        if isinstance(value, dict):
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = json.dumps(value) if isinstance(value, list) else value
    return found


def _ascending(rows: Any, kind: Kind) -> Iterable[Row]:
    """Rows with an iteration number, by it. An older logger's resumed run has some twice: the
    later one counts then, but several checkpoints of an iteration stay if their files differ."""
    if not isinstance(rows, list):
        return rows  # type: ignore[no-any-return]
    numbered = [row for row in rows if type(row.get("iter")) is int]
    if kind == "checkpoints":
        latest = {(row["iter"], str(row.get("path"))): row for row in numbered}
    else:
        latest = {(row["iter"], ""): row for row in numbered}
    return sorted(latest.values(), key=lambda row: row["iter"])


def _numbers(kind: Kind, row: Row, names: Names) -> dict[str, float]:
    values: dict[str, float] = {}
    for key, value in row.items():
        if key == "iter" or type(value) not in (float, int):
            continue
        if key == "mfu" and value == eventlog.MFU_UNKNOWN:
            continue
        name = names.get((kind, key), _PREFIXES[kind] + key)
        values[name] = float(value)
    return values
