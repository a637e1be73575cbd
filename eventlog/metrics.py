"""Numbers that a run logs under names of its own: a row a step, whatever was logged of it.

Several events of a step are one row; a name said twice has its latest value. A session
that goes on at a step that was taken takes it and all later ones back, as an iteration
does; within a session an earlier step is another word on that step.
"""

import math
from array import array
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from eventlog.run import Row, Rows, encode_row

NAMES_MAX = 1000
"""So many names have figures: a run that invents a name a step must not burst its summary."""


def step_of(fields: Row) -> int | None:
    """The step of a `metrics` event; an importer calls it `iter`. None: it has none."""
    for key in ("step", "iter"):
        step = fields.get(key)
        if type(step) is int and -(1 << 63) <= step < 1 << 63:
            return step
    return None


class Metrics:
    """The rows so far, ascending by `step`, and what was `taken_back`."""

    def __init__(self) -> None:
        self.taken_back: list[bytes] = []
        self._steps = array("q")
        self._rows: list[bytes] = []
        self._sessions: set[str] = set()
        self._figures: dict[str, Row] = {}
        self._is_stale = False

    def __len__(self) -> int:
        return len(self._rows)

    def rows(self) -> Rows:
        """As they are now; what is added later is not in them."""
        return Rows(self._rows)

    def take(self, session: str, step: int, fields: Row) -> None:
        """Add what session `session` logged of `step`."""
        if session not in self._sessions:
            self._sessions.add(session)
            self.take_back(step)
        own = "step" if type(fields.get("step")) is int else "iter"
        values = {k: v for k, v in fields.items() if k != own}
        at = bisect_left(self._steps, step)
        if at < len(self._steps) and self._steps[at] == step:
            known = orjson.loads(self._rows[at])
            self._is_stale = self._is_stale or not known.keys().isdisjoint(values)
            self._rows[at] = encode_row(_merged(known, values))
        else:
            self._steps.insert(at, step)
            self._rows.insert(at, encode_row({"step": step} | values))
        if not self._is_stale:
            self._measure(step, values)

    def goes_on(self, step: int) -> bool:
        """Whether there are rows, all of them before `step`."""
        return bool(self._steps) and step > self._steps[-1]

    def take_many(
        self, steps: "array[int]", rows: bytes, columns: Mapping[str, Sequence[Any]]
    ) -> None:
        """Add what the session that logged the latest row has logged of later steps, ascending.

        Args:
            rows: as they stand in the run JSON, a line each.
            columns: what each of them has under a name, the same names as in that row.
        """
        self._steps.extend(steps)
        self._rows.extend(rows.split(b"\n"))
        for name, values in columns.items():
            figures = self._figures.get(name)
            if figures is None:
                continue  # one name too many
            figures["last"], figures["step"] = values[-1], steps[-1]
            if type(values[-1]) in (int, float):
                latest_first = values[::-1]
                figures["min"] = min([*latest_first, figures.get("min", values[0])])
                figures["max"] = max([*latest_first, figures.get("max", values[0])])

    def take_back(self, from_step: int) -> None:
        """Remove the rows of `from_step` and later."""
        at = bisect_left(self._steps, from_step)
        if at < len(self._steps):
            self.taken_back += self._rows[at:]
            del self._steps[at:]
            del self._rows[at:]
            self._is_stale = True

    def figures(self) -> Row:
        """How many rows there are, the last step, and by name its last, least, greatest value."""
        if self._is_stale:
            self._figures, self._is_stale = {}, False
            for step, row in zip(self._steps, self._rows, strict=True):
                self._measure(step, {k: v for k, v in orjson.loads(row).items() if k != "step"})
        names = {name: dict(figures) for name, figures in self._figures.items()}
        return {"rows": len(self._rows), "last_step": self._steps[-1], "names": names}

    def _measure(self, step: int, values: Row) -> None:
        named = values.get("nonfinite")
        nonfinite = named if isinstance(named, dict) else {}
        for name, value in values.items():
            if name == "nonfinite" and value is nonfinite:
                continue
            figures = self._figures.get(name)
            if figures is None:
                if len(self._figures) >= NAMES_MAX:
                    continue
                figures = self._figures[name] = {"last": None, "step": step}
            if step >= figures["step"]:
                figures["last"], figures["step"] = value, step
                figures.pop("nonfinite", None)
                if name in nonfinite:
                    figures["nonfinite"] = {"last": nonfinite[name]}
            if type(value) in (int, float) and math.isfinite(value):
                figures["min"] = min(value, figures.get("min", value))
                figures["max"] = max(value, figures.get("max", value))


def _merged(known: Row, values: Row) -> Row:
    """A row with more values; what was not finite before and is said anew is forgotten."""
    row = known | values
    before, now = known.get("nonfinite"), values.get("nonfinite")
    if isinstance(before, dict):
        kept = {path: name for path, name in before.items() if not _is_said(path, values)}
        row["nonfinite"] = kept | (now if isinstance(now, dict) else {})
        if not row["nonfinite"]:
            del row["nonfinite"]
    return row


def _is_said(path: str, values: Row) -> bool:
    return any(path == name or path.startswith(f"{name}.") for name in values)
