"""The series of a run that is followed, each with its latest and its extreme values."""

from collections.abc import Mapping
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np

import eventlog
from eventlog import Series

from ..core.series import exact
from .curves import Rows
from .following import Following
from .pyramid import BLOCK_ROWS, Column

NAMED_MAX = 5  # names of series that end in NaN


def summaries(following: Following, run: eventlog.Run) -> dict[str, Series]:
    """All series of `following.run()`, by the names that `Run.series` has for them."""
    found = run.series()
    definitions = run.journal.get("definitions") or {}
    for table, prefix in eventlog.SERIES_PREFIXES.items():
        if table == "metrics":
            continue
        for column, rows in following.content.columns(table).items():
            known = found.get(prefix + column)
            if known is None or known.table != table:
                name = prefix + column if known is None else f"{table}/{column}"
                defined = eventlog.definition_of(prefix + column, definitions)
                one = replace(
                    _summary(name, table, column, rows),
                    definition=defined,
                    step_metric=defined.get("step_metric"),
                )
                found.setdefault(name, one)
    return found


def _summary(name: str, table: str, column: str, rows: Rows) -> Series:
    marks = rows.nonfinite.get(column, ())
    n_nonfinite = sum(b - a + 1 for a, b, _ in marks)
    known = _extremes(rows.columns[column], len(rows))
    if known is None:
        last, last_step = None, None
        if marks:
            last, last_step = float(marks[-1][2]), int(rows.iters.values[marks[-1][1]])
        return Series(name, table, column, n_nonfinite, last, last_step, n_nonfinite=n_nonfinite)
    count, low, low_row, high, high_row = known
    iters, mark = rows.iters.values, rows.last_mark(column)
    last_row = rows.columns[column].last_row()
    return Series(
        name,
        table,
        column,
        count=count + n_nonfinite,
        last=float(mark) if mark else rows.columns[column].last(),
        last_step=rows.last_iter if mark or last_row is None else int(iters[last_row]),
        min=low,
        min_step=int(iters[low_row]),
        max=high,
        max_step=int(iters[high_row]),
        n_nonfinite=n_nonfinite,
    )


def _extremes(column: Column, n: int) -> tuple[int, float, int, float, int] | None:
    """The number of finite values, the least and its row, the greatest and its row."""
    if n <= BLOCK_ROWS:  # of ten thousand short columns, the levels would take seconds
        values = column.read(0, n)
        known = np.flatnonzero(np.isfinite(values))
        if not len(known):
            return None
        finite = values[known]
        low, high = int(np.argmin(finite)), int(np.argmax(finite))
        rows = known[[low, high]].tolist()
        return len(known), float(finite[low]), rows[0], float(finite[high]), rows[1]
    whole = column.extremes(np.array([0, n]))
    if not len(whole.lows):
        return None
    low, high = int(np.argmin(whole.lows)), int(np.argmax(whole.highs))
    low_row, high_row = int(whole.low_rows[low]), int(whole.high_rows[high])
    count = int(whole.counts.sum())
    return count, float(whole.lows[low]), low_row, float(whole.highs[high]), high_row


def ends_nonfinite(following: Following | None, run: eventlog.Run) -> dict[str, str]:
    """The series whose last value is NaN or infinite, and which of these it is.

    `following`: None where only the run JSON was read, which has these itself.
    """
    ends = run.ends_nonfinite()
    if following is not None:
        for table in ("iterations", "evals"):
            for column, rows in following.content.columns(table).items():
                if mark := rows.last_mark(column):
                    ends[eventlog.SERIES_PREFIXES[table] + column] = mark
    return ends


def some_names(ends: Mapping[str, str]) -> list[str]:
    """A few of the names, then how many more there are."""
    names = [*islice(ends, NAMED_MAX)]
    return [*names, f"and {len(ends) - NAMED_MAX:,} more"] if len(ends) > NAMED_MAX else names


def as_json(series: Series, value: Any, stat: str, unit: str) -> dict[str, Any]:
    """For the page: a number that is not finite is text.

    Args:
        value: that of the table, which is the statistic `stat` of the series
    """
    return {
        "name": series.name,
        "value": exact(value),
        "stat": stat,
        "unit": unit,
        "goal": series.goal,
        "count": series.count,
        "last": exact(series.last),
        "step": series.last_step,
        "min": series.min,
        "min_step": series.min_step,
        "max": series.max,
        "max_step": series.max_step,
        "n_nonfinite": series.n_nonfinite,
        "is_numeric": series.is_numeric,
    }
