"""Curves of what a run logs under names of its own: thousands of them, each at steps of its own.

    groups = Groups(Spill())
    groups.add(0, "2026-11-23T03:25:01.123456+00:00", {"step": 0, "train/loss": 4.1, "lr": 1e-3})
    groups.add(7, "2026-11-23T03:25:02.123456+00:00", {"step": 7, "val/acc": 0.5})
    groups.settle()
    groups.by_name["val/acc"].curve("val/acc", Axis("iter"))

Names that are always logged together share their steps and times: they are the columns of one
group. A group whose names are logged apart is split.
"""

from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

import eventlog

from ..core.axis import seconds_of
from .curves import ROWS_MAX, Axis, Columns, Curve, Range, Rows, floats_of, marks_in
from .pyramid import Column, Ints, Spill

SHAPES_MAX = 4_096  # sets of names whose groups are remembered
HISTORY = 32  # lengths of a group that are remembered: a page that lacks more gets all rows
_MARKS = ("", "nan", "inf", "-inf")
_NUMBERS = frozenset((int, float))


class Group(Rows):
    """Rows that all have the same names. They ascend by step; times are as they were logged.

    A row takes the place of one with the same step, and steps may come in any order.
    """

    __slots__ = ("_by_time", "_history")

    def __init__(self, spill: Spill, names: Iterable[str]) -> None:
        super().__init__(spill)
        self.columns = {name: Column(spill) for name in names}
        self._by_time: Group | None = None  # the rows ordered by time, where that differs
        self._history: list[tuple[int, int]] = []  # how many rows so many events of the table made

    def n_rows_of(self, n_added: int) -> int:
        """As of `Rows`; 0 where that is not known any more."""
        at = bisect_right(self._history, n_added, key=lambda pair: pair[0])
        return self._history[at - 1][1] if at else 0

    def settle(self, n_added: int = 0) -> "Group | None":  # type: ignore[override]
        """As of `Rows`; the rows whose places were taken, which may be none. None: it only grew."""
        waiting, self._waiting = self._waiting[: ROWS_MAX - len(self)], []
        if not waiting:
            return None
        self._by_time = None
        iters = np.array([i for i, _, _ in waiting], np.int64)
        lowest = int(iters.min())
        is_later = not len(self) or lowest > int(self.iters.values[-1])
        if is_later and bool((np.diff(iters) > 0).all()):
            self._extend_by(iters, waiting)
            self._note_length(n_added)
            return None
        coming = Group(self._spill, self.columns)
        coming._extend_by(iters, waiting)
        at = int(np.searchsorted(self.iters.values, lowest))
        known = self._copy(np.arange(at, len(self)))
        self._truncate(at)
        both = np.concatenate([known.iters.values, iters])
        order: Ints = np.argsort(both, kind="stable")
        is_last = np.append(np.diff(both[order]) > 0, True)
        self._append_of(known, coming, order[is_last])
        replaced = Group(self._spill, self.columns)
        replaced._append_of(known, coming, order[~is_last])
        self._note_length(n_added)
        return replaced

    def _note_length(self, n_added: int) -> None:
        self._history.append((n_added, len(self)))
        del self._history[:-HISTORY]

    def remove(self, from_step: int, before: int | None) -> "Group | None":
        """Remove and return the rows from a step on and before another; None: there are none."""
        steps = self.iters.values
        begin = int(np.searchsorted(steps, from_step))
        end = len(self) if before is None else int(np.searchsorted(steps, before))
        if begin >= end:
            return None
        removed = self._copy(np.arange(begin, end))
        rest = self._copy(np.arange(end, len(self)))
        self._truncate(begin)
        self._append_of(rest, Group(self._spill, self.columns), np.arange(len(rest)))
        return removed

    def part(self, names: Collection[str]) -> "Group":
        """Move the columns `names` to a group of their own."""
        part = Group(self._spill, ())
        part.iters.append(self.iters.values)
        part.times.append(self.times.values)
        for name in names:
            part.columns[name] = self.columns.pop(name)
            if name in self.nonfinite:
                part.nonfinite[name] = self.nonfinite.pop(name)
        part._history = [*self._history]
        self._by_time = None
        return part

    def curve(self, key: str, axis: Axis, **options: Any) -> Curve:
        """As of `Rows`."""
        rows = self.along(axis)
        if rows is not self:
            options["after_row"] = 0
        return super(Group, rows).curve(key, axis, **options)

    @property
    def is_in_order_of_time(self) -> bool:
        return bool((np.diff(self.times.floats) >= 0).all())

    def along(self, axis: Axis) -> "Group":
        """As of `Rows`."""
        return self._ordered_by_time() if axis.name == "time" else self

    def _ordered_by_time(self) -> "Group":
        if self._by_time is None and not self.is_in_order_of_time:
            self._by_time = self._copy(np.argsort(self.times.values, kind="stable"))
        return self if self._by_time is None else self._by_time

    # ---- rows in any order

    def add_rows(  # type: ignore[override]
        self, steps: Sequence[int], times: Sequence[str], columns: Columns, n_added: int
    ) -> None:
        """Add rows with the same fields and steps beyond all others; they are visible at once."""
        marks = dict(enumerate(columns.get("nonfinite", ())))
        self._extend(np.array(steps, np.int64), times, columns.__getitem__, marks)
        self._by_time = None
        self._note_length(n_added)

    def _extend(
        self,
        iters: Ints,
        times: Sequence[str],
        values_of: Callable[[str], Sequence[Any]],
        marks: Mapping[int, Any],
    ) -> None:
        first = len(self)
        self.iters.append(iters)
        self.times.append(seconds_of(times))
        for key, column in self.columns.items():
            column.append(floats_of(values_of(key)))
        for at, named in marks.items():
            self._note_nonfinite(first + at, named)

    def _extend_by(
        self, iters: Ints, waiting: Sequence[tuple[int, str, Mapping[str, Any]]]
    ) -> None:
        added = [values for _, _, values in waiting]
        times = [t for _, t, _ in waiting]
        self._extend(iters, times, lambda key: [row.get(key) for row in added], marks_in(added))

    def _copy(self, at: Ints) -> "Group":
        """The rows `at`, in their order."""
        copy = Group(self._spill, self.columns)
        copy._append_of(self, Group(self._spill, self.columns), at)
        return copy

    def _append_of(self, one: "Group", other: "Group", at: Ints) -> None:
        """Add the rows `at` of two groups one after the other."""
        first = len(self)
        self.iters.append(np.concatenate([one.iters.values, other.iters.values])[at])
        self.times.append(np.concatenate([one.times.values, other.times.values])[at])
        for key, column in self.columns.items():
            both = [group.columns[key].read(0, len(group)) for group in (one, other)]
            column.append(np.concatenate(both)[at])
            if key in one.nonfinite or key in other.nonfinite:
                marks = np.concatenate([marks_of(group, key) for group in (one, other)])[at]
                self.nonfinite.setdefault(key, []).extend(ranges_of(marks, first))

    def _truncate(self, n: int) -> None:
        super()._truncate(n)
        self._history, self._by_time = [], None


def marks_of(rows: Rows, key: str) -> NDArray[np.int8]:
    """Of each row the index of its mark in `_MARKS`."""
    codes = np.zeros(len(rows), np.int8)
    for first, last, name in rows.nonfinite.get(key, ()):
        codes[first : last + 1] = _MARKS.index(name) if name in _MARKS else 1
    return codes


def ranges_of(codes: NDArray[np.int8], first: int) -> list[Range]:
    edges = [0, *(np.flatnonzero(np.diff(codes)) + 1).tolist(), len(codes)]
    return [
        (first + a, first + b - 1, _MARKS[codes[a]])
        for a, b in pairwise(edges)
        if b > a and codes[a]
    ]


class Groups:
    """All names that a run has logged, each in its group.

    Args:
        on_removed: called with rows whose places were taken, or that were superseded. They may be
            none where others only moved.
    """

    def __init__(self, spill: Spill, on_removed: Callable[[Rows], None]) -> None:
        self._spill, self._on_removed = spill, on_removed
        self.by_name: dict[str, Group] = {}
        self.n_added = 0
        """How many events were added."""
        self._changed: dict[Group, None] = {}
        self._of_shape: dict[tuple[Any, ...], tuple[Group, ...]] = {}

    def __len__(self) -> int:
        return self.n_added

    def add(self, step: int, t: str, fields: Mapping[str, Any]) -> None:
        """Add what an event says; it is visible after `settle`."""
        self.n_added += 1
        fields, groups = self._flat(fields)
        for group in groups:
            group.add(step, t, fields)
            self._changed[group] = None

    def add_rows(self, steps: Sequence[int], times: Sequence[str], columns: Columns) -> None:
        """Add events with the same fields, at steps beyond all others; they are visible at once.

        Only their numbers differ.
        """
        n = len(steps)
        self.n_added += n
        flat, groups = self._flat({name: values[0] for name, values in columns.items()})
        constants = {name: [value] * n for name, value in flat.items() if name not in columns}
        for group in groups:
            self._settle(group)
            group.add_rows(steps, times, {**columns, **constants}, self.n_added)

    def _flat(self, fields: Mapping[str, Any]) -> tuple[Mapping[str, Any], tuple[Group, ...]]:
        """Fields without objects in them, and the groups that have them."""
        types = tuple(map(type, fields.values()))
        if dict in types:
            marks = fields.get("nonfinite")
            fields = {k: v for k, v in fields.items() if k != "nonfinite" or v is not marks}
            fields = eventlog.flatten(eventlog.without_aside(fields))
            fields |= {"nonfinite": marks} if isinstance(marks, dict) else {}
            types = tuple(map(type, fields.values()))
        shape = (tuple(fields), types)
        groups = self._of_shape.get(shape)
        if groups is None:
            groups = self._groups_of(self._names_in(fields))
            if "nonfinite" not in fields:
                if len(self._of_shape) >= SHAPES_MAX:
                    self._of_shape.clear()
                self._of_shape[shape] = groups
        return fields, groups

    def _names_in(self, fields: Mapping[str, Any]) -> list[str]:
        """The names of the values that are numbers, finite or not; and of others that were before:

        text takes the place of a number of the same step.
        """
        axis = "step" if type(fields.get("step")) is int else "iter"
        named = fields.get("nonfinite")
        marks = named if isinstance(named, dict) else {}
        return [
            name
            for name, value in fields.items()
            if (
                type(value) in _NUMBERS or (value is None and name in marks) or name in self.by_name
            )
            and name not in (axis, "durable")
        ]

    def _groups_of(self, names: Iterable[str]) -> tuple[Group, ...]:
        """The groups that together have these names and no others."""
        known: dict[Group, list[str]] = {}
        new = []
        for name in names:
            group = self.by_name.get(name)
            if group is None:
                new.append(name)
            else:
                known.setdefault(group, []).append(name)
        groups = [self._part(group, some) for group, some in known.items()]
        if new:
            group = Group(self._spill, new)
            self.by_name |= dict.fromkeys(new, group)
            self._of_shape.clear()  # a name may have been text in other events
            groups.append(group)
        return tuple(groups)

    def _part(self, group: Group, names: list[str]) -> Group:
        """The group that has these names alone."""
        if len(names) == len(group.columns):
            return group
        self._settle(group)
        part = group.part(names)
        self.by_name |= dict.fromkeys(names, part)
        self._of_shape.clear()
        return part

    def settle(self) -> None:
        """Make the added values visible."""
        for group in [*self._changed]:
            self._settle(group)

    def _settle(self, group: Group) -> None:
        self._changed.pop(group, None)
        replaced = group.settle(self.n_added)
        if replaced is not None:
            self._on_removed(replaced)

    def supersede(
        self, from_step: int, before: int | None = None, names: Collection[str] | None = None
    ) -> None:
        """Remove the values of steps from `from_step` on, and less than `before`.

        `names`: only of these, as fields of an event; None: of all.
        """
        chosen: dict[Group, list[str]] = {}
        for name in self.by_name if names is None else self._names_of(names):
            chosen.setdefault(self.by_name[name], []).append(name)
        for group, some in chosen.items():
            self._settle(group)
            last = group.last_iter
            if last is None or last < from_step:
                continue
            removed = self._part(group, some).remove(from_step, before)
            if removed is not None:
                self._on_removed(removed)

    def forget_lengths(self) -> None:
        """A page then gets all rows: events are counted from fewer on."""
        for group in self.by_name.values():
            group._history.clear()

    def _names_of(self, fields: Iterable[str]) -> Iterable[str]:
        """The names of some fields, of which objects have many."""
        for field in fields:
            if field in self.by_name:
                yield field
            elif field != "nonfinite":
                yield from [name for name in self.by_name if name.startswith(f"{field}.")]
