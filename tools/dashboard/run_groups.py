"""Runs that differ in the seed alone, or that have equal keys, as one: with `core.seeds`.

`table` has a row for each group: mean, standard deviation and number of runs of each column.
`curves_of` has one curve for each group: the mean, and a band around it.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from starlette.requests import Request
from starlette.responses import Response

from ..core import rows as rows_
from ..core import seeds
from ..core.rows import Row
from ..core.runs import Refusal
from ..core.seeds import Band, Group
from ..live.means import Members
from ..live.pyramid import Floats
from .request import NAME_MAX, Site, View, json_response, names_of
from .responses import selected

COLUMNS = ("iterations", "best_val_loss", "final_loss", "avg_time_ms", "avg_mfu")
CELLS_MAX = 40_000_000  # of the tables of steps x runs that one answer is computed from
SERIES_MAX = 60  # columns of the table
ROWS_MIN = 1_000  # of each run, however many runs there are


def table(site: Site, request: Request) -> Response:
    """The groups of all runs, or of those for which the expression `q` is true."""
    params = request.query_params
    by = params.get("by", "")[:NAME_MAX]
    expression = params.get("q", "")
    words = params.get("words", "").lower().split()
    names = names_of(params.get("names", ""))[:SERIES_MAX]
    try:
        ids = None
        if expression:
            ids = [row["id"] for row in selected(site, expression)[0]]
        rows = site.folders.whole_rows(ids)
        rows = [row for row in rows if has_words(row, words)]
        rows = _with_series(site, rows, names)
        found = groups_of(rows, by)
    except Refusal as refusal:
        return json_response({"error": str(refusal).removeprefix("--where: ")})
    answer = [as_json(group, [*COLUMNS, *names]) for group in found]
    notes = seeds.notes_on(found, seeds.keys_of(by))
    return json_response({"groups": answer, "notes": notes})


def _with_series(site: Site, rows: Sequence[Row], names: Sequence[str]) -> list[Row]:
    """Rows with what is known of these series: the page asks for them itself."""
    known = site.values.known(names) if names else {}
    return [rows_.with_values(row, known.get(row["id"], {})) for row in rows]


def groups_of(rows: Sequence[Row], by: str) -> list[Group]:
    """The groups as `--group-by` has them.

    Raises:
        Refusal: no run has a key.
    """
    keys = seeds.keys_of(by)
    without_paths = [row | {"path": None} for row in rows] if keys else []  # no run file is read
    for name in keys or ():
        rows_.check_field(without_paths, name, "--group-by")
    return seeds.groups(rows, keys)


def has_words(row: Row, words: Sequence[str]) -> bool:
    """Whether a run's name, file, status, tags, notes and group have all of these words.

    As on the page: `matching` in `rows.js`.
    """
    group = (row["metadata"] or {}).get("group") or ""
    fields = (
        row["run"],
        row["file"],
        row["status"],
        *(row["tags"] or ()),
        row["note"] or "",
        group,
    )
    text = " ".join(map(str, fields)).lower()
    return all(word in text for word in words)


def as_json(group: Group, names: Iterable[str] = COLUMNS) -> dict[str, Any]:
    """The runs of a group, and mean and standard deviation of what they have of `names`."""
    stats = {name: group.stat(name) for name in names}
    return {
        "name": group.name,
        "ids": [row["id"] for row in group.rows],
        "stats": {
            name: stat.as_json() | {"text": stat.text()}
            for name, stat in stats.items()
            if stat.n or stat.n_nonfinite
        },
    }


# ---- curves


def curves_of(
    site: Site, ids: Sequence[str], view: View
) -> Iterator[tuple[dict[str, Any], list[tuple[str, Members]]]]:
    """Each group of the runs `ids`, and the curves of its runs by key.

    Raises:
        Refusal: no run has a key.
    """
    found = groups_of(site.folders.whole_rows(ids), view.group_by)
    n_most = max((len(group.rows) for group in found), default=1)
    n_tables = max(1, len(view.keys) * len(found))
    rows_max = max(ROWS_MIN, 2 * view.n_buckets, CELLS_MAX // (n_tables * n_most**2))
    for group in found:
        members = {key: Members() for key in view.keys}
        for row in group.rows:
            with site.folders.at(row["id"]) as following:
                if following is None:
                    continue
                for key, of in members.items():
                    of.add(following, key, view.axis, (view.begin, view.end), rows_max)
        head = {"name": group.name, "ids": [row["id"] for row in group.rows]}
        yield head, [(key, of) for key, of in members.items() if of.curves]


def spread_at(band: Band, x: Floats) -> list[Floats]:
    """Standard deviation, min, max and number of runs at some of the steps of a band."""
    at = np.searchsorted(band.steps, x)
    return [of[at].astype(np.float64) for of in (band.std, band.low, band.high, band.n)]
