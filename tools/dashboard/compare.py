"""Groups of runs side by side, as `runs compare --group-by` has them: with p-values.

Of runs that have a loss the results are those of the list; of others each metric, its best and its
last value.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

import eventlog

from ..core import rows as rows_
from ..core import runs, seeds
from ..core.rows import Row
from ..core.series import best
from ..live.usual import usual_first
from .request import NAME_MAX, Site, json_response, run_ids
from .run_groups import COLUMNS, as_json, groups_of

METRICS_MAX = 50  # the usual ones first
LOSSES = ("best_val_loss", "final_loss")


def compared(site: Site, request: Request) -> Response:
    """The groups of the runs `runs`, each with its differences to the first group."""
    by = request.query_params.get("by", "")[:NAME_MAX]
    rows, results = _with_metrics(site, site.folders.whole_rows(run_ids(request)))
    try:
        found = groups_of(rows, by)
    except runs.Refusal as refusal:
        return json_response({"error": str(refusal)})
    names = [*COLUMNS, *(result["key"] for result in results)]
    answer = [as_json(group, names) for group in found]
    notes = seeds.notes_on(found, seeds.keys_of(by))
    reasons: list[tuple[str, str | None]] = []
    try:
        for group, of in zip(found[1:], answer[1:], strict=True):
            of["differences"] = {name: _difference(group, found[0], name) for name in of["stats"]}
            reasons += _reasons(group.name, of["differences"])
        notes += seeds.notes_on_test(reasons, several=True) if len(found) > 1 else []
    except runs.Refusal as refusal:  # scipy is not installed
        notes.append(f"no p-values: {refusal}")
    return json_response({"groups": answer, "series": results, "notes": notes})


def _reasons(group: str, differences: dict[str, Any]) -> list[tuple[str, str | None]]:
    """Why p-values are unknown: of each result, or once if the reason is the same for all."""
    reasons = {name: difference["why_no_p"] for name, difference in differences.items()}
    if len({*reasons.values()}) == 1:
        return [(group, next(iter(reasons.values())))]
    return [(f"{group}, {name}", why) for name, why in reasons.items()]


def _difference(group: seeds.Group, first: seeds.Group, name: str) -> dict[str, Any]:
    difference = seeds.difference(group.stat(name), first.stat(name))
    return difference | {"p_text": None if difference["p"] is None else f"{difference['p']:.3g}"}


def _with_metrics(site: Site, rows: Sequence[Row]) -> tuple[Sequence[Row], list[dict[str, Any]]]:
    """Rows without a loss with the best and the last value of each metric, and these results."""
    if any(row[name] is not None or row.get("nonfinite") for row in rows for name in LOSSES):
        return rows, []
    of_runs = [_metrics(site, row) for row in rows]
    usual, others = usual_first(dict.fromkeys(name for named in of_runs for name in named))
    results: list[dict[str, Any]] = []
    for name in [*usual, *others][:METRICS_MAX]:
        goal = next(
            (goal for named in of_runs if name in named and (goal := named[name].goal)), None
        )
        if goal is not None:
            results.append({"key": f"{name}:best", "text": f"{name}, best", "goal": goal})
        results.append({"key": f"{name}:last", "text": f"{name}, last", "goal": None})
    goals = {result["key"]: result["goal"] for result in results}
    with_values = []
    for row, named in zip(rows, of_runs, strict=True):
        values = {f"{name}:last": one.last for name, one in named.items()}
        values |= {
            key: best(one, goals[key])[0]
            for name, one in named.items()
            if (key := f"{name}:best") in goals
        }
        with_values.append(rows_.with_values(row, values))
    return with_values, results


def _metrics(site: Site, row: Row) -> dict[str, eventlog.Series]:
    """The metrics of one run that are numbers and not hidden."""
    if runs.is_journal(Path(row["path"])):
        with site.folders.at(row["id"]) as following:
            run = None if following is None else following.run()
    else:
        run = runs.glance_at(Path(row["path"])).run
    named = {} if run is None else run.series()
    return {
        name: one
        for name, one in named.items()
        if one.table == "metrics" and one.is_numeric and one.definition.get("hidden") is not True
    }
