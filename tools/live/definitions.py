"""What a run that is followed says of its series (`define_metric`), and which of them are listed.

of(following).named()["val/acc"].definition     # {"unit": "%", "goal": "maximize"}
of(following).listed()                          # names of series with numbers, none hidden
of(following).listed("val/*")                   # those that are searched for, hidden ones too
"""

import math
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from eventlog import Series

from ..core.series import IN_SUMMARY, defined_stat, exact, unit_of
from .content import Content
from .curves import Rows
from .following import Following
from .search import search
from .summaries import summaries

PAUSE = 20  # times as long as reading the series took, before they are read again
BLOCK_ROWS = 1 << 16
MARKS = {"nan": "NaN", "inf": "infinity", "-inf": "-infinity"}


class Definitions:
    """The series of one run with their definitions, read again as the run grows."""

    def __init__(self, following: Following) -> None:
        self._following = following
        self._content: Content | None = None
        self._named: dict[str, Series] = {}
        self._metadata: Mapping[str, Any] = {}
        self._n_records, self._again_at = -1, 0.0

    def named(self, *, is_exact: bool = False) -> Mapping[str, Series]:
        """All series by name; of a long run a little older than its content unless `is_exact`."""
        content, now = self._following.content, time.monotonic()
        is_new = content is not self._content
        is_due = is_exact or now >= self._again_at
        if is_new or (content.n_records != self._n_records and is_due):
            self._content, self._n_records = content, content.n_records
            run = self._following.run()
            self._named, self._metadata = summaries(self._following, run), run.metadata
            self._again_at = time.monotonic() + PAUSE * (time.monotonic() - now)
        return self._named

    def listed(self, text: str = "") -> list[str]:
        """The names of the series that have a number and are not hidden; or those that `text` asks
        for: hidden ones too, and those of words alone."""
        names = self._following.content.series()
        named = self.named()
        if text.strip():
            return search(dict.fromkeys([*names, *named]), text)
        hidden = {name for name, one in named.items() if one.definition.get("hidden") is True}
        return [name for name in names if name not in hidden]

    def count(self) -> int:
        """How many series there are, hidden ones and those of words included."""
        return len(self._following.content.series()) + sum(
            not one.is_numeric for one in self.named().values()
        )

    def unit(self, name: str) -> str:
        """The unit of a series: see `core.series.unit_of`."""
        one = self.named().get(name)
        return unit_of(one, self._metadata) if one else ""

    def value(self, name: str) -> tuple[Any, str]:
        """The value of a series for a table, and which one it is: what the run defined, else last.

        None and `last`: it has only just been logged.
        """
        one = self.named().get(name)
        if one is None:
            return None, "last"
        stat = defined_stat(one)
        if stat in IN_SUMMARY:
            return getattr(one, stat), stat
        found = self._following.content.find(name)
        if found is None:
            return None, stat
        _, rows, column = found
        return _first(rows, column) if stat == "first" else _mean(rows, column), stat

    def no_number(self, name: str) -> str:
        """Why nothing of a series can be drawn: `no number: 12 x NaN at steps 3 to 40`.

        Empty: it has a finite value.
        """
        found = self._following.content.find(name)
        parts: list[str] = []
        if found is not None:
            _, rows, column = found
            if rows.columns[column].total()[1]:
                return ""
            parts = _marks_text(rows, column)
        one = self.named().get(name)
        if not parts and one is not None and not one.is_numeric:
            parts = [f"{one.count:,} x text, the last {str(exact(one.last))[:60]!r}"]
        return f"no number: {', '.join(parts)}" if parts else "no number"


def _marks_text(rows: Rows, column: str) -> list[str]:
    """How often each mark was logged, the last one with the steps of all."""
    ranges = rows.nonfinite.get(column, [])
    counts: dict[str, int] = {}
    for first, last, mark in ranges:
        counts[mark] = counts.get(mark, 0) + last - first + 1
    if not ranges:
        return []
    parts = [f"{n:,} x {MARKS.get(mark, mark)}" for mark, n in counts.items()]
    steps = rows.iters.values
    first, last = int(steps[ranges[0][0]]), int(steps[ranges[-1][1]])
    where = f" at step {first:,}" if first == last else f" at steps {first:,} to {last:,}"
    return [*parts[:-1], parts[-1] + where]


def _first(rows: Rows, column: str) -> float | None:
    marks = rows.nonfinite.get(column, [])
    first_mark = marks[0][0] if marks else len(rows)
    for begin in range(0, len(rows), BLOCK_ROWS):
        values = rows.columns[column].read(begin, min(begin + BLOCK_ROWS, len(rows)))
        known = np.flatnonzero(np.isfinite(values))
        if len(known) and begin + int(known[0]) < first_mark:
            return float(values[known[0]])
        if len(known) or first_mark < begin + BLOCK_ROWS:
            break
    return float(marks[0][2]) if marks else None


def _mean(rows: Rows, column: str) -> float | None:
    total, n = rows.columns[column].total()
    if rows.nonfinite.get(column):
        return math.nan
    return total / n if n else None


def of(following: Following) -> Definitions:
    """What a run says of its series, remembered with it."""
    known = following.definitions
    if not isinstance(known, Definitions):
        known = following.definitions = Definitions(following)
    return known
