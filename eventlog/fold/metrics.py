"""Numbers that a run logs under names of its own: one row a step.

Several events of a step make one row, in which the latest value of a name counts. The first event
of a session supersedes the rows of its step and of later ones that other sessions logged; within a
session an earlier step adds to the row of that step. The time for an event does not grow with the
number of rows.
"""

import math
from bisect import bisect_left

import orjson

from eventlog.fold.document import Row, Rows
from eventlog.fold.tables import StepRows
from eventlog.format.json_rows import encode_row
from eventlog.read.batch import Batch

_MISSING = object()
_LARGE = 32  # values in a row; smaller rows are parsed and encoded again in the time of an event

NAMES_MAX = 1000
"""At most this many names have a summary: a run may use a new name in every step."""


def step_of(fields: Row) -> int | None:
    """The step of a `metrics` event; an importer calls it `iter`. None: it has none."""
    for key in ("step", "iter"):
        step = fields.get(key)
        if type(step) is int and -(1 << 63) <= step < 1 << 63:
            return step
    return None


class Metrics:
    """The rows so far, ascending by `step`, and what was `superseded`."""

    def __init__(self) -> None:
        self.superseded: list[bytes] = []
        self._stored = StepRows()
        self._open: dict[int, OpenRow] = {}  # rows that are not encoded each time they grow
        self._changed: set[int] = set()  # those of them that are newer than what is stored
        self._latest: int | None = None  # the step of the latest event
        self._sessions: set[str] = set()
        self._summaries: dict[str, Row] = {}
        self._is_stale = False
        self._was_stale = False

    def __len__(self) -> int:
        return len(self._stored)

    def rows(self) -> Rows:
        """The rows as they are now; what is added later is not in them."""
        self._store()
        return Rows(self._stored.rows())

    def add(self, session: str, step: int, fields: Row) -> None:
        """Add the fields of an event of `step`, logged by `session`."""
        if session not in self._sessions:
            self._sessions.add(session)
            self.supersede(step)
        axis = "step" if type(fields.get("step")) is int else "iter"
        values = {k: v for k, v in fields.items() if k != axis}
        is_later = self._stored.ends_before(step)
        if self._was_stale and not is_later and len(self._stored):
            self._is_stale = self._is_stale or step < self._stored.last_step
        row = None if is_later else self._opened(step)
        if step != self._latest:
            self._leave()
            self._latest = step
        if row is None:
            self._stored.put(step, encode_row({"step": step} | values))
        else:
            self._is_stale = self._is_stale or not row.values.keys().isdisjoint(values)
            row.merge(values)
            self._changed.add(step)
        if not self._is_stale:
            self._measure(step, values)

    def has_session(self, session: str) -> bool:
        """Whether a session has logged metrics: its first event supersedes those of others."""
        return session in self._sessions

    def _opened(self, step: int) -> "OpenRow | None":
        row = self._open.get(step)
        stored = self._stored.get(step) if row is None else None
        if stored is not None:
            row = OpenRow(orjson.loads(stored), is_returned_to=step != self._latest)
            self._open[step] = row
        return row

    def _leave(self) -> None:
        """Another step follows: encode the latest row and keep only its bytes.

        Not a large one that was returned to: if names are logged one by one, each for all steps,
        every row would be parsed and encoded once for each name.
        """
        if self._latest is None:
            return
        row = self._open.get(self._latest)
        if row is None or (row.is_returned_to and len(row.values) > _LARGE):
            return
        self._store_one(self._latest)
        del self._open[self._latest]

    def _store_one(self, step: int) -> None:
        if step in self._changed:
            self._changed.remove(step)
            self._stored.put(step, encode_row(self._open[step].values))

    def _store(self) -> None:
        for step in [*self._changed]:
            self._store_one(step)

    def ends_before(self, step: int) -> bool:
        """Whether there are rows, all of them before `step`."""
        return self._stored.ends_before(step)

    def add_batch(self, batch: Batch) -> None:
        """Add later steps, logged by the session that logged the latest row."""
        self._leave()
        self._latest = None
        self._stored.extend(batch.steps, batch.rows().split(b"\n"))
        for name in batch.shape.names[1:]:
            summary = self._summaries.get(name)
            if summary is None:
                continue  # one name too many
            values = batch.column(name)
            summary["last"], summary["step"] = values[-1], batch.steps[-1]
            if type(values[-1]) in (int, float):
                latest_first = values[::-1]
                summary["min"] = min([*latest_first, summary.get("min", values[0])])
                summary["max"] = max([*latest_first, summary.get("max", values[0])])

    def supersede(self, from_step: int) -> None:
        """Remove the rows of `from_step` and later."""
        if not len(self._stored) or from_step > self._stored.last_step:
            return
        removed = self._stored.cut(from_step)
        for step, stored in removed:
            row = self._open.pop(step, None)
            is_newer = row is not None and step in self._changed
            self.superseded.append(encode_row(row.values) if row and is_newer else stored)
            self._changed.discard(step)
        self._is_stale = True

    def summary(self) -> Row:
        """`rows`, `last_step`, and of each name the `last` value, its `step`, `min` and `max`."""
        self._store()
        if self._is_stale:
            self._summaries, self._is_stale, self._was_stale = {}, False, True
            for step, row in self._stored.items():
                self._measure(step, {k: v for k, v in orjson.loads(row).items() if k != "step"})
        names = {name: dict(summary) for name, summary in self._summaries.items()}
        return {"rows": len(self._stored), "last_step": self._stored.last_step, "names": names}

    def _measure(self, step: int, values: Row) -> None:
        named = values.get("nonfinite")
        nonfinite = named if isinstance(named, dict) else {}
        for name, value in values.items():
            if name == "nonfinite" and value is nonfinite:
                continue
            summary = self._summaries.get(name)
            if summary is None:
                if len(self._summaries) >= NAMES_MAX:
                    continue
                summary = self._summaries[name] = {"last": None, "step": step}
            if step >= summary["step"]:
                summary["last"], summary["step"] = value, step
                summary.pop("nonfinite", None)
                if name in nonfinite:
                    summary["nonfinite"] = {"last": nonfinite[name]}
            if type(value) in (int, float) and math.isfinite(value):
                summary["min"] = min(value, summary.get("min", value))
                summary["max"] = max(value, summary.get("max", value))


class OpenRow:
    """A row that grows: the time to merge an event depends on its own size, not on the row's."""

    __slots__ = ("_nested", "is_returned_to", "values")

    def __init__(self, values: Row, *, is_returned_to: bool = False) -> None:
        self.values = values
        self.is_returned_to = is_returned_to
        """Whether other steps were logged in between."""
        self._nested: list[str] = []  # paths in `nonfinite` with a dot in them, sorted
        self._own_nonfinite()

    def merge(self, values: Row) -> None:
        """Add values; a name that is logged again loses its mark in `nonfinite`."""
        known, new = self.values.get("nonfinite"), values.get("nonfinite")
        self.values |= values
        if not isinstance(known, dict):
            if "nonfinite" in values:
                self._own_nonfinite()
            return
        for name in values:
            self._forget(known, name)
        if isinstance(new, dict):
            known |= new
            for path in new:
                self._note_nested(path)
        if known:
            self.values["nonfinite"] = known
        else:
            del self.values["nonfinite"]

    def _own_nonfinite(self) -> None:
        """Copy the event's `nonfinite`, as it will grow."""
        marks = self.values.get("nonfinite")
        if isinstance(marks, dict):
            self.values["nonfinite"] = dict(marks)
            self._nested = sorted(path for path in marks if "." in path)

    def _forget(self, nonfinite: Row, name: str) -> None:
        """Remove the marks of `name`, and of what is nested in it."""
        nested = self._nested
        if nonfinite.pop(name, _MISSING) is not _MISSING and "." in name:
            del nested[bisect_left(nested, name)]
        if nested:
            inside = f"{name}."
            at = end = bisect_left(nested, inside)
            while end < len(nested) and nested[end].startswith(inside):
                nonfinite.pop(nested[end])
                end += 1
            del nested[at:end]

    def _note_nested(self, path: str) -> None:
        if "." in path:
            at = bisect_left(self._nested, path)
            if self._nested[at : at + 1] != [path]:
                self._nested.insert(at, path)
