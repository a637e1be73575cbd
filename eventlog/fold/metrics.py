"""What a run logs under names of its own: one row a step, and a summary of each name.

Several events of a step make one row, in which the latest value of a name counts. What a session
logs of a name at a step supersedes what earlier sessions logged of that name from that step on;
names that it does not log stay as they are. Within a session a value supersedes the one that its
name has at that step. The time for an event does not grow with the number of rows.
"""

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any

import orjson

from eventlog.fold.flat_rows import dotted
from eventlog.fold.rows import Row, Rows
from eventlog.fold.tables import StepRows
from eventlog.format.json_rows import encode_row
from eventlog.read.batch import Batch

_MISSING = object()
_LARGE = 32  # values in a row; smaller rows are parsed and encoded again in the time of an event

Superseded = Callable[[int, int | None, Collection[str] | None], None]
"""Called with the first step, the step before which (None: no end) and the names (None: all)."""


def step_of(fields: Row) -> int | None:
    """The step of a `metrics` event; an importer calls it `iter`. None: it has none."""
    for key in ("step", "iter"):
        step = fields.get(key)
        if type(step) is int and -(1 << 63) <= step < 1 << 63:
            return step
    return None


class Metrics:
    """The rows so far, ascending by `step`, and what was `superseded`.

    Args:
        on_supersede: called before values of earlier sessions are superseded.
    """

    def __init__(self, on_supersede: Superseded | None = None) -> None:
        self.superseded: list[bytes] = []
        """Rows of superseded values, in the order in which they were superseded."""
        self._on_supersede = on_supersede
        self._stored = StepRows()
        self._open: dict[int, OpenRow] = {}  # rows that are not encoded each time they grow
        self._changed: set[int] = set()  # those of them that are newer than what is stored
        self._latest: int | None = None  # the step of the latest event
        self._session: str | None = None  # that of the latest event
        self._is_first = True  # whether no other session has logged before it
        self._own_from: dict[str, int] = {}  # from which step on a name's values are its own
        self._summaries: dict[str, Row] = {}
        self._is_stale = False
        self._was_stale = False
        self._n_superseded: Counter[str] = Counter()  # values by name, of the first rows
        self._n_counted = 0  # that are counted there

    def __len__(self) -> int:
        return len(self._stored)

    def rows(self) -> Rows:
        """The rows as they are now; what is added later is not in them."""
        self._store()
        return self._stored.rows()

    def add(self, session: str, step: int, fields: Row) -> None:
        """Add the fields of an event of `step`, logged by `session`."""
        own = "step" if type(fields.get("step")) is int else "iter"
        values = {k: v for k, v in fields.items() if k != own}
        is_later = self._stored.ends_before(step)
        row = None if is_later else self._opened(step)
        if session != self._session:
            self._is_first = self._session is None
            self._session, self._own_from = session, {}
        if not self._is_first:
            self._supersede_earlier(step, values)
        if self._was_stale and not is_later and len(self._stored):
            self._is_stale = self._is_stale or step < self._stored.last_step
        if step != self._latest:
            self._leave()
            self._latest = step
        if row is None:
            self._stored.put(step, encode_row({"step": step} | values))
        else:
            self._is_stale = self._is_stale or not row.values.keys().isdisjoint(values)
            self._keep(step, row.merge(values))
            self._changed.add(step)
        if not self._is_stale:
            self._measure(step, values)

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
        self._stored.extend(batch.steps, batch.rows())
        values = {name: batch.last.fields[name] for name in batch.shape.names[1:]}
        if not self._is_first:
            for name in values:
                self._own_from.setdefault(name, batch.steps[0])
        self._measure_batch(batch, values)

    # ---- superseding

    def supersede(self, from_step: int) -> None:
        """Remove the rows of `from_step` and later."""
        if self._on_supersede is not None:
            self._on_supersede(from_step, None, None)
        if not len(self._stored) or from_step > self._stored.last_step:
            return
        removed = self._stored.cut(from_step)
        for step, stored in removed:
            row = self._open.pop(step, None)
            is_newer = row is not None and step in self._changed
            self.superseded.append(encode_row(row.values) if row and is_newer else stored)
            self._changed.discard(step)
        self._is_stale = True

    def _supersede_earlier(self, step: int, values: Row) -> None:
        """Supersede what earlier sessions logged of these names from `step` on."""
        names: dict[int | None, list[str]] = {}  # by the step from which on values are our own
        for name in values:
            before = self._own_from.get(name)
            if before is None or step < before:
                self._own_from[name] = step
                names.setdefault(before, []).append(name)
        for before, of_before in names.items():
            if self._on_supersede is not None:
                self._on_supersede(step, before, of_before)
            self._supersede_names(step, before, of_before)

    def _supersede_names(self, from_step: int, before: int | None, names: list[str]) -> None:
        keys = [encode_row(name) + b": " for name in names]
        for step, stored in self._stored.between(from_step, before):
            row = self._open.get(step)
            if row is None:
                if not any(key in stored for key in keys):
                    continue
                row = OpenRow(orjson.loads(stored))
            removed = row.remove(names)
            if not removed:
                continue
            self._keep(step, removed)
            self._is_stale = True
            if len(row.values) == 1 and step != from_step:  # which gets new values at once
                self._stored.remove(step)
                self._open.pop(step, None)
                self._changed.discard(step)
            elif step in self._open:
                self._changed.add(step)
            else:
                self._stored.put(step, encode_row(row.values))

    @property
    def n_superseded(self) -> int:
        """How many values were superseded."""
        self._count_superseded()
        return self._n_superseded.total()

    def _count_superseded(self) -> None:
        for encoded in self.superseded[self._n_counted :]:
            row = orjson.loads(encoded)
            self._n_superseded.update(name for _, name, _, _ in _cells(row) if name != "step")
        self._n_counted = len(self.superseded)

    def _keep(self, step: int, superseded: Row) -> None:
        if superseded:
            self.superseded.append(encode_row({"step": step} | superseded))

    # ---- summaries

    def summary(self) -> Row:
        """`rows`, `last_step`, and of each of its `names`:

        how often it was logged (`count`), the `last` value and its `step`, `min` and `max` of the
        finite numbers and the first steps that have them, how many were not finite, and how many
        values were superseded.
        """
        self._store()
        if self._is_stale:
            self._summaries, self._is_stale, self._was_stale = {}, False, True
            for step, row in self._stored.items():
                self._measure(step, {k: v for k, v in orjson.loads(row).items() if k != "step"})
        self._count_superseded()
        names = {}
        for name, summary in self._summaries.items():
            n_superseded = self._n_superseded[name]
            names[name] = summary | ({"superseded": n_superseded} if n_superseded else {})
        return {"rows": len(self._stored), "last_step": self._stored.last_step, "names": names}

    def _summary_of(self, name: str) -> Row:
        summary = self._summaries.get(name)
        if summary is None:
            summary = self._summaries[name] = {"count": 0, "last": None, "step": None}
        return summary

    def _measure(self, step: int, values: Row) -> None:
        for _, path, value, mark in _cells(values):
            summary = self._count(path, step, value, mark)
            if type(value) in (int, float) and math.isfinite(value):
                _note_extremes(summary, step, value)

    def _measure_batch(self, batch: Batch, last: Row) -> None:
        """Measure many rows. What is not a number in the `last` is the same in all of them."""
        for name, path, value, mark in _cells(last):
            summary = self._count(path, batch.steps[-1], value, mark, times=len(batch))
            if type(value) in (int, float):
                column = [value] if name in batch.shape.constants else batch.column(name)
                for at in (column.index(min(column)), column.index(max(column))):
                    _note_extremes(summary, batch.steps[at], column[at])

    def _count(self, path: str, step: int, value: Any, mark: Any, *, times: int = 1) -> Row:
        """Count a value, which was logged so many `times`, last at `step`; returns its summary."""
        summary = self._summary_of(path)
        if value is None and mark is None:
            return summary
        summary["count"] += times
        if summary["step"] is None or step >= summary["step"]:
            summary["last"], summary["step"] = value, step
            summary.pop("nonfinite", None)
            if mark is not None:
                summary["nonfinite"] = {"last": mark}
        if mark is not None:
            summary["n_nonfinite"] = summary.get("n_nonfinite", 0) + times
        return summary


def _note_extremes(summary: Row, step: int, value: float) -> None:
    """Of equal values that of the first step counts."""
    if "min" not in summary or (value, step) < (summary["min"], summary["min_step"]):
        summary["min"], summary["min_step"] = value, step
    if "max" not in summary or (-value, step) < (-summary["max"], summary["max_step"]):
        summary["max"], summary["max_step"] = value, step


def _cells(values: Row) -> Iterator[tuple[str, str, Any, Any]]:
    """Name, path, value and mark (None: it has none) of all values.

    The path of a nested value has dots, that of others is the name.
    """
    named = values.get("nonfinite")
    marks = named if isinstance(named, dict) else {}
    for name, value in values.items():
        if name == "nonfinite" and value is marks:
            continue
        if type(value) is dict:
            for path, inner in dotted(value, f"{name}."):
                yield name, path, inner, marks.get(path)
        else:
            yield name, name, value, marks.get(name)


class OpenRow:
    """A row that grows: the time to merge an event depends on its own size, not on the row's."""

    __slots__ = ("_nested", "is_returned_to", "values")

    def __init__(self, values: Row, *, is_returned_to: bool = False) -> None:
        self.values = values
        self.is_returned_to = is_returned_to
        """Whether other steps were logged in between."""
        self._nested: list[str] = []  # paths in `nonfinite` that are no names, sorted
        self._own_nonfinite()

    def merge(self, values: Row) -> Row:
        """Add values; returns what they replace by other values, as a row without its step."""
        named = values.get("nonfinite")
        marks = named if isinstance(named, dict) else {}
        replaced, replaced_marks, forgotten = Row(), Row(), Row()
        for name in values:
            forgotten |= self._forget(name)
        for name, value in values.items():
            if name == "nonfinite" and value is marks:
                if self._marks() is None:
                    self.values["nonfinite"] = {}
                continue
            old = self.values.get(name, _MISSING)
            old_marks = _marks_of(name, old, forgotten)
            self.values[name] = value
            is_same = _is_same(old, value) and old_marks == _marks_of(name, value, marks)
            if old is not _MISSING and not is_same:
                replaced[name] = old
                replaced_marks |= old_marks
        self._add_marks(marks)
        return replaced | ({"nonfinite": replaced_marks} if replaced_marks else {})

    def remove(self, names: Iterable[str]) -> Row:
        """Remove names; returns what they had, as a row without its step."""
        removed, marks = Row(), Row()
        for name in names:
            if name not in self.values or (name == "nonfinite" and self._marks() is not None):
                continue
            marks |= self._forget(name)
            removed[name] = self.values.pop(name)
        self._add_marks({})
        return removed | ({"nonfinite": marks} if marks else {})

    def _marks(self) -> Row | None:
        marks = self.values.get("nonfinite")
        return marks if isinstance(marks, dict) else None

    def _own_nonfinite(self) -> None:
        """Copy the event's `nonfinite`, as it will grow."""
        marks = self._marks()
        if marks is not None:
            self.values["nonfinite"] = dict(marks)
            self._nested = sorted(path for path in marks if self._is_nested(path))

    def _is_nested(self, path: str) -> bool:
        """Whether a mark is that of a value within another one; a name may have dots, too."""
        return "." in path and path not in self.values

    def _forget(self, name: str) -> Row:
        """Remove the marks of a name and of what is nested in it, and return them."""
        marks, forgotten = self._marks(), Row()
        if marks:
            if name in marks:
                forgotten[name] = marks.pop(name)
                at = bisect_left(self._nested, name)
                if self._nested[at : at + 1] == [name]:  # it is also the path of another value
                    del self._nested[at]
            inside = f"{name}."
            at = end = bisect_left(self._nested, inside)
            while end < len(self._nested) and self._nested[end].startswith(inside):
                forgotten[self._nested[end]] = marks.pop(self._nested[end])
                end += 1
            del self._nested[at:end]
        return forgotten

    def _add_marks(self, new: Row) -> None:
        """Add marks; a row without any has no `nonfinite`."""
        marks = self._marks()
        if marks is None:
            return
        marks |= new
        for path in new:
            at = bisect_left(self._nested, path)
            if self._is_nested(path) and self._nested[at : at + 1] != [path]:
                self._nested.insert(at, path)
        if not marks:
            del self.values["nonfinite"]


def _is_same(old: Any, new: Any) -> bool:
    if type(old) in (dict, list):
        return encode_row(old) == encode_row(new)
    return type(old) is type(new) and bool(old == new)


def _marks_of(name: str, value: Any, marks: Row) -> Row:
    """The marks of one name among those of an event."""
    if type(value) not in (dict, list):
        return {name: marks[name]} if name in marks else {}
    return {path: mark for path, mark in marks.items() if path.startswith(f"{name}.")}
