"""Values of series of every run of some folders, for a table: each run is read once for each name.

    values = SeriesValues(folders)
    left = values.read(["val/acc:max", "loss"], budget_s=0.3)   # runs still to be read
    values.known(["val/acc:max"])           # {"3f9a0c1b22d4": {"val/acc:max": 0.93}}

Names are those of `core.series`. A live run is read again as it grows. Of a run that logged metrics
alone the ends of its run JSON are enough; any other is read as a whole, if its journal is not in
memory anyway.
"""

import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import eventlog

from ..core import runs, series
from ..core.rows import Row, is_field, value, with_values
from ..core.series import Asked, Goal, Source
from . import definitions
from .curves import Rows
from .folders import Entry, Folders
from .following import Following

WHOLE_MAX = 50  # runs that are read as a whole only to learn the names of their series
RECENT_S = 60.0  # for this long a value that was asked for is read of each run
LOCK_S = 2.0  # how long a request waits for another one that reads
BUSY_S = 0.05  # how long to wait for a run that is being read
NAMED_MAX = 20_000


@dataclass(frozen=True)
class Named:
    """A series that some runs have."""

    table: str
    goal: Goal | None
    is_numeric: bool


@dataclass
class _Known:
    """What was read of one run."""

    version: int = -1
    """Of its row when it was read."""
    changed: int = 0
    values: dict[str, Any] = field(default_factory=dict)
    names: tuple[str, ...] | None = None


class SeriesValues:
    """Values of series of the runs of `folders`."""

    def __init__(self, folders: Folders) -> None:
        self.version = time.time_ns() // 1_000_000
        """Grows with each run that was read; greater than those of an earlier server."""
        self.named: dict[str, Named] = {}
        """Every series that is known so far, by name."""
        self._folders = folders
        self._known: dict[str, _Known] = {}
        self._tuples: dict[tuple[str, ...], tuple[str, ...]] = {}  # most runs have equal names
        self._asked: dict[str, float] = {}  # value -> when it was last asked for
        self._n_whole = 0
        self._lock = threading.Lock()

    def read(self, names: Sequence[str], budget_s: float) -> int:
        """Read these values of the runs that lack them, for about `budget_s`.

        Returns how many runs are still to be read.
        """
        now = time.monotonic()
        recent = {name: at for name, at in self._asked.items() if now - at < RECENT_S}
        self._asked = recent | dict.fromkeys(names, now)

        def lacks(entry: Entry, known: _Known) -> bool:
            return known.version != entry.version or not known.values.keys() >= set(names)

        return self._read_all(lacks, self._read, budget_s)

    def with_series(
        self, rows: Sequence[Row], asked: Iterable[str], budget_s: float
    ) -> tuple[list[Row], int]:
        """Rows with the series that an expression asks for, as `runs ls` has them.

        Returns how many runs are still to be read, too.
        """
        names = [
            name
            for name in dict.fromkeys(asked)
            if not is_field(name)
            and not name.startswith(("config.", "metadata."))
            and all(value(row, name) is None for row in rows)
        ]
        if not names:
            return list(rows), 0
        left = self.read(names, budget_s)
        known = self.known(names)
        return [with_values(row, known.get(row["id"], {})) for row in rows], left

    def read_names(self, budget_s: float) -> int:
        """Read which series the runs have; returns of how many runs that is not known yet."""

        def lacks(entry: Entry, known: _Known) -> bool:
            return known.names is None

        return self._read_all(lacks, self._read_names, budget_s)

    def known(self, names: Sequence[str], since: int = 0) -> dict[str, dict[str, Any]]:
        """By run: what it has of these values, if it was read after version `since`."""
        found = {
            id: {name: value for name in names if (value := one.values.get(name)) is not None}
            for id, one in list(self._known.items())
            if one.changed > since
        }
        return found if since else {id: values for id, values in found.items() if values}

    def counts(self) -> Counter[str]:
        """How many runs have each series, of the runs whose names are known."""
        of_tuples = Counter(one.names for one in list(self._known.values()) if one.names)
        counts: Counter[str] = Counter()
        for names, n in of_tuples.items():
            counts.update(dict.fromkeys(names, n))
        return counts

    # ---- reading

    def _read_all(
        self,
        lacks: Callable[[Entry, _Known], bool],
        read: Callable[[Entry], bool],
        budget_s: float,
    ) -> int:
        if not self._lock.acquire(timeout=LOCK_S):
            return sum(lacks(*pair) for pair in self._pairs())
        try:
            left, until = 0, time.monotonic() + budget_s
            for entry, known in self._pairs():
                if not lacks(entry, known):
                    continue
                if time.monotonic() > until or not read(entry):
                    left += 1
            return left
        finally:
            self._lock.release()

    def _pairs(self) -> Iterator[tuple[Entry, _Known]]:
        entries = self._folders.readable()
        here = {entry.id for entry in entries}
        for id in [id for id in list(self._known) if id not in here]:
            self._known.pop(id, None)
        entries.sort(key=lambda entry: str(entry.row["started"] or ""), reverse=True)
        for entry in entries:  # the newest first, as in the list
            yield entry, self._known.setdefault(entry.id, _Known())

    def _read(self, entry: Entry) -> bool:
        """Read all values of one run that were asked for; returns whether that was possible now."""
        known, version, names = self._known[entry.id], entry.version, list(self._asked)
        following = entry.following
        if following is not None and _is_read(following):
            if not entry.lock.acquire(timeout=BUSY_S):
                return False
            try:
                named = definitions.of(following).named(is_exact=True)
                values = {name: _value(following, named, name) for name in names}
                self._name(known, named)
            finally:
                entry.lock.release()
        else:
            source = Source(runs.glance_at(_file_of(entry)))
            values = {name: source.values(name).get(name) for name in names}
            if known.names is None and source.is_known:
                self._name(known, source.series())
        values = {name: series.exact(value) for name, value in values.items()}
        is_changed = any(known.values.get(name) != value for name, value in values.items())
        if known.version != version:
            known.values = {}  # what is not asked for now is outdated
        known.values |= values
        known.version = version
        if is_changed:
            self.version += 1
            known.changed = self.version
        return True

    def _read_names(self, entry: Entry) -> bool:
        if self._asked:
            self._read(entry)  # so that a run is not read twice
        if self._known[entry.id].names is not None:
            return True
        known, following = self._known[entry.id], entry.following
        if following is not None and _is_read(following):
            if not entry.lock.acquire(timeout=BUSY_S):
                return False
            try:
                self._name(known, definitions.of(following).named())
            finally:
                entry.lock.release()
            return True
        source = Source(runs.glance_at(_file_of(entry)))
        if source.is_known or self._n_whole < WHOLE_MAX:
            self._n_whole += not source.is_known
            self._name(known, source.series())
        else:
            self._name(known, {one.name: one for one in source.metrics()})
        return True

    def _name(self, known: _Known, named: Mapping[str, eventlog.Series]) -> None:
        """Note the series of one run."""
        names = tuple(named)
        known.names = self._tuples.setdefault(names, names)
        for name, one in named.items():
            if name not in self.named and len(self.named) < NAMED_MAX:
                self.named[name] = Named(one.table, one.goal, one.is_numeric)


def _file_of(entry: Entry) -> Path:
    """The file that the folders have for a run: its run JSON, or its journal if that has more."""
    return Path(entry.seen[0]) if entry.seen else entry.path


# ---- a run whose journal is in memory


def _is_read(following: Following) -> bool:
    """Whether its journal has been read, or grows: its run JSON would be outdated."""
    has_read = bool(following.content.n_records) and not following.is_reading
    return following.is_alive or has_read


def _value(following: Following, named: Mapping[str, eventlog.Series], text: str) -> Any:
    """What `text` asks for of a run, as `Source.values` has it."""
    for asked in series.readings(text):
        of_tables = (one for one in named.values() if f"{one.table}/{one.column}" == asked.name)
        one = named.get(asked.name) or next(of_tables, None)
        if one is not None:
            return _value_of(following, one, asked)
    return None


def _value_of(following: Following, one: eventlog.Series, asked: Asked) -> Any:
    stat = asked.stat or series.defined_stat(one)
    if asked.step is None and stat in series.IN_SUMMARY:
        return getattr(one, stat)
    place = following.content.find(one.name)
    if place is None:
        return None
    _, rows, column = place
    at, values = _points(rows, column)
    if not len(values):
        return None
    if asked.step is not None:
        before = int(np.searchsorted(at, asked.step, side="right"))
        return float(values[before - 1]) if before and at[-1] >= asked.step else None
    if stat == "first":
        return float(values[0])
    return float(np.mean(values)) if np.isfinite(values).all() else math.nan


def _points(rows: Rows, column: str) -> tuple[Any, Any]:
    """The steps and values of a series, those that are not finite included."""
    values = np.array(rows.columns[column].read(0, len(rows)), np.float64)
    has_value = np.isfinite(values)
    for first, last, mark in rows.nonfinite.get(column, ()):
        values[first : last + 1] = float(mark)
        has_value[first : last + 1] = True
    return np.asarray(rows.iters.values)[: len(values)][has_value], values[has_value]
