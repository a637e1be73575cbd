"""Columns of the table of runs: which there are, which matter, and values of series.

Without a choice of the user the table has the results that runs have, the metrics that have a goal,
and the settings in which runs differ: those first that explain most of their results.
"""

from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import Response

import eventlog

from ..core import rows as rows_
from ..core.importance import shares
from ..core.rows import Row
from ..core.seeds import is_seed
from ..live.values import SeriesValues
from .parameters import Parameter, parameters_of
from .request import Site, json_response, names_of, whole
from .responses import TEXT_MAX
from .study import RUNS_MAX, as_points

READ_S = 0.3  # of series, for one answer
COLUMNS_MAX = 60
SETTINGS_MAX = 6  # by default
METRICS_MAX = 3
CHOICES_MAX = 2_000  # settings, and series, that can be chosen
RESULTS = ("best_val_loss", "final_loss")
MEASURED = ("iterations", "avg_time_ms", "avg_mfu")
"""Shown where runs differ in them."""
_EVALUATED = ("val", "eval", "test", "valid", "validation", "dev")


def columns(site: Site, request: Request) -> Response:
    """All columns that can be chosen, and those of a table without a choice."""
    left = site.values.read_names(READ_S)
    rows = [row for row in site.folders.rows() if not row["error"]]
    settings = dict.fromkeys(f"config.{name}" for row in rows for name in row["config"])
    metadata = dict.fromkeys(f"metadata.{name}" for row in rows for name in row["metadata"])
    counts = site.values.counts()
    series = [
        {"key": _key(name, of.table, settings), "name": name, "n_runs": counts[name]}
        for name, of in list(site.values.named.items())[:CHOICES_MAX]
    ]
    return json_response(
        {
            "default": _default(rows, site.values),
            "settings": [*settings, *metadata][:CHOICES_MAX],
            "series": series,
            "n_settings": len(settings) + len(metadata),
            "n_series": len(site.values.named),
            "left": left,
        }
    )


def values(site: Site, request: Request) -> Response:
    """What each run has of the series `names`, of those that were read after version `since`.

    `left`: how many runs are still to be read.
    """
    params = request.query_params
    names = [name[:TEXT_MAX] for name in names_of(params.get("names", ""))][:COLUMNS_MAX]
    since = whole(request, "since", 0)
    left = site.values.read(names, READ_S) if names else 0
    version = site.values.version
    return json_response(
        {"version": version, "left": left, "values": site.values.known(names, since)}
    )


def _key(name: str, table: str, settings: dict[str, None]) -> str:
    """The column of a series: its name, with the table before it if the name is that of a field."""
    is_taken = rows_.is_field(name) or f"config.{name}" in settings
    column = name.removeprefix(eventlog.SERIES_PREFIXES.get(table, ""))
    return f"{table}/{column}" if is_taken else name


def _default(rows: Sequence[Row], series: SeriesValues) -> list[str]:
    """The columns that say something about these runs."""
    newest = sorted(rows, key=lambda row: str(row["started"] or ""))[-RUNS_MAX:]
    results = [k for k in RESULTS if any(row[k] is not None for row in newest)]
    results += [k for k in MEASURED if len({row[k] for row in newest} - {None}) > 1 - _is_few(rows)]
    groups = {str(row["metadata"].get("group")) for row in newest}
    group = ["metadata.group"] if len(groups) > 1 else []
    note = ["note"] if any(row["note"] for row in newest) else []
    return [
        "status", "run", *results, *_metrics(series), *_settings(newest, results),
        *group, "started", *note,
    ]  # fmt: skip


def _is_few(rows: Sequence[Row]) -> bool:
    """Whether there is nothing to compare a run with."""
    return len(rows) < 2


def _metrics(series: SeriesValues) -> list[str]:
    """The best values of metrics that have a goal, besides losses and what measures the machine."""
    chosen = [
        name
        for name, of in list(series.named.items())
        if of.table == "metrics" and of.goal == "maximize" and of.is_numeric
    ]
    chosen.sort(key=lambda name: name.lower().replace(".", "/").split("/")[0] not in _EVALUATED)
    return [f"{name}:best" for name in chosen[:METRICS_MAX]]


def _settings(rows: Sequence[Row], results: Sequence[str]) -> list[str]:
    """The settings in which runs differ, those first that explain most of their results.

    Seeds are the last ones; folders, names and intervals of logging are left out.
    """
    parameters = [p for p in parameters_of(rows) if p.is_varied]
    varied = [p for p in parameters if p.may_matter]
    result = next((name for name in results if name in RESULTS), None)
    known: dict[str, float] = {}
    if result:
        points = as_points(rows, result, varied)
        of_runs = [dict(values) for values, _ in points]
        settings = {p.name: [values.get(p.name) for values in of_runs] for p in varied}
        known = shares(settings, [result for _, result in points])

    def order(parameter: Parameter) -> tuple[float, int]:
        return -known.get(parameter.name, 0.0), len(parameter.choices)

    seeds = [p for p in parameters if is_seed(p.name)]
    return [f"config.{p.name}" for p in [*sorted(varied, key=order)[:SETTINGS_MAX], *seeds[:1]]]
