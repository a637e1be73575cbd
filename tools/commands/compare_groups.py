"""`runs compare --group-by`: series of groups of runs, their differences and how sure these are."""

from collections.abc import Sequence

import eventlog

from ..core import rows as rows_
from ..core import runs, seeds
from ..core.rows import Row
from ..core.series import Source
from . import compare_series
from .group_runs import groups_of, stat_text


def usual(found: Sequence[runs.Found]) -> list[str]:
    """The losses of the runs."""
    names: dict[str, None] = {}
    for one in (f for f in found if f.run is not None):
        series = Source(one).series("loss", "eval/val_loss") or {}
        losses = [loss.name for loss in one.run.losses() if loss is not None] if one.run else []
        names |= dict.fromkeys([*series, *losses])
    return [*names] or ["*"]


def compared(
    found: Sequence[runs.Found],
    by: Sequence[str] | None,
    patterns: Sequence[str],
    x: str = "",
    limit: float = 0.0,
) -> list[Row]:
    """A row for each series and group; `best` and `last` (`value` at a limit) are each a `Stat`.

    Raises:
        Refusal: as `compare_series.compared`, or no run has a key of `by`.
    """
    groups = groups_of([rows_.row(f) for f in found], by)
    of_runs = compare_series.compared(found, patterns, x, limit)
    names = dict.fromkeys(row["series"] for row in of_runs)
    keys = ("value", "best") if x else ("best", "last")
    rows: list[Row] = []
    for name in names:
        of_series = {row["path"]: row for row in of_runs if row["series"] == name}
        rows += _of_series(groups, name, of_series, keys)
    return rows


def _of_series(
    groups: Sequence[seeds.Group], name: str, of_series: dict[str, Row], keys: Sequence[str]
) -> list[Row]:
    goal = next(row["goal"] for row in of_series.values())
    rows: list[Row] = []
    for group in groups:
        of_group = [of_series.get(row["path"], {}) for row in group.rows]
        row: Row = {"series": name, "group": group.name, "settings": group.settings}
        row |= {"n_runs": len(of_group), "goal": goal}
        rows.append(row | {key: seeds.stat([of.get(key) for of in of_group]) for key in keys})
    for row in rows:
        for key in keys:
            is_first = row is rows[0]
            found = {} if is_first else seeds.difference(row[key], rows[0][key])
            row |= {f"{key}_{of}": found.get(of) for of in ("diff", "p", "why_no_p")}
    means = [row["best"].mean for row in rows if row["best"].n]
    best = (max if goal == "maximize" else min)(means, default=None)
    for row in rows:
        row["is_best"] = len(rows) > 1 and bool(row["best"].n) and row["best"].mean == best
    return rows


def columns(*, at: bool) -> dict[str, str]:
    """The columns of a table."""
    first, second = ("value", "best") if at else ("best", "last")
    return {
        "series": "series", "group": "group", "n_runs": "runs", "mark": "", first: first,
        f"{first}_diff": "Δ", f"{first}_p": "p", second: second, f"{second}_diff": "Δ",
        f"{second}_p": "p",
    }  # fmt: skip


SIGNED = ("best_diff", "last_diff", "value_diff")


def as_json(rows: Sequence[Row]) -> list[Row]:
    """Each `Stat` as an object; the test is named where there is a p-value."""
    return [
        {k: v.as_json() if isinstance(v, seeds.Stat) else v for k, v in row.items()}
        | {"test": seeds.TEST}
        for row in rows
    ]


def flat(rows: Sequence[Row]) -> list[Row]:
    """For CSV: `best.mean`, `best.std`, ..."""
    return [eventlog.flatten(row) for row in as_json(rows)]


def shown(rows: Sequence[Row]) -> tuple[list[Row], list[str]]:
    """The rows of a table, each series named once; and a note on the test."""
    table: list[Row] = []
    last = None
    for row in compare_series.best_first(rows):
        cells = {k: stat_text(v) if isinstance(v, seeds.Stat) else v for k, v in row.items()}
        cells |= {
            k: f"{v:.3g}" for k, v in row.items() if isinstance(v, float) and k.endswith("_p")
        }
        cells["mark"] = compare_series.BEST if row["is_best"] else ""
        cells["series"] = "" if row["series"] == last else row["series"]
        last = row["series"]
        table.append(cells)
    reasons = [
        (row["group"], why) for row in rows for k, why in row.items() if k.endswith("why_no_p")
    ]
    notes = seeds.notes_on_test(reasons, several=len(table) > 2) if len(table) > 1 else []
    return table, notes
