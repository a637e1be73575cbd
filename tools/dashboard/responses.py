"""Responses as JSON: the table of runs, a filter, one run, a study."""

import os
from collections.abc import Iterable, Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from eventlog import Series

from ..core.axis import AXES
from ..core.rows import Row
from ..core.runs import Refusal
from ..core.where import names, select
from ..live import definitions, summaries
from ..live.content import record_text
from ..live.folders import READING
from ..live.following import Following
from ..live.search import search
from ..live.usual import usual_first
from . import study as study_
from .request import NAME_MAX, Site, finite, json_response, whole

TEXT_MAX = 500  # characters of a filter, or of a group's name
FILTER_S = 2.0  # time limit of a filter, and of the wait for its turn
SESSIONS_MAX = NOTES_MAX = DEFECTS_MAX = 200
MISSING_MAX = 100
CHECKPOINTS_MAX = 200  # the latest
SERIES_MAX = 500
EVENTS_MAX = 100  # the latest


def runs(site: Site, request: Request) -> Response:
    """Every row, or those that changed `since` a version."""
    since = whole(request, "since", 0)
    folders = site.folders
    version = folders.version  # before the rows: later changes are sent again
    return json_response(
        {
            "version": version,
            "folders": [_as_text(name) for name in folders.names],
            "places": [_as_text(os.path.abspath(name)) for name in folders.names],
            "problems": folders.problems,
            "complete": folders.is_complete,
            "runs": folders.rows(since),
            "gone": folders.gone(since) if since else [],
        }
    )


def _as_text(path: str) -> str:
    return os.fsencode(path).decode("utf-8", "replace")


def where(site: Site, request: Request) -> Response:
    """The ids of the runs for which an expression is true, as in `runs ls --where`.

    `left`: how many runs are still to be read for it; those that are true so far are known.
    """
    try:
        rows, left = selected(site, request.query_params.get("q", ""))
    except Refusal as refusal:
        return json_response({"error": str(refusal).removeprefix("--where: ")})
    return json_response({"ids": [row["id"] for row in rows], "left": left})


def selected(site: Site, expression: str) -> tuple[list[Row], int]:
    """The rows for which an expression is true, and how many runs are still to be read for it.

    Raises:
        Refusal: the expression is wrong or too long, or takes too much time.
    """
    if len(expression) > TEXT_MAX:
        raise Refusal(f"at most {TEXT_MAX} characters are allowed, got {len(expression):,}")
    if not site.filtering.acquire(timeout=FILTER_S):
        raise HTTPException(503, "the server is busy with other filters; try again")
    try:
        rows, left = site.values.with_series(site.folders.rows(), names(expression), FILTER_S)
        if left and not any(row.get("series") for row in rows):
            return [], left  # a series that no run has so far may be one of those still to be read
        return select(rows, expression, limit_s=FILTER_S), left
    finally:
        site.filtering.release()


def run(site: Site, request: Request) -> Response:
    """Everything about one run but its curves."""
    with site.folders.at(request.query_params.get("id", "")) as following:
        if following is None:
            raise HTTPException(404, "unknown run")
        content = following.content
        run = following.run()
        is_known = following.was_read or not following.is_reading
        return json_response(
            {
                "reading": following.progress if following.is_reading else None,
                "error": following.error,
                "generation": content.generation,
                "started": finite(following.started),
                "status": run.status if is_known else READING,
                "summary": run.summary,
                "marks": list(content.marks),
                "axes": [name for name in AXES if following.axis(name)],
                "tail": [
                    {"t": r.t, "s": r.s, "n": r.n, "event": r.event, "text": record_text(r)}
                    for r in list(content.latest)[-EVENTS_MAX:]
                ],
                "origins": _origins(content.origins),
                "checkpoints": list(run.checkpoints)[-CHECKPOINTS_MAX:],
                **_of_journal(run.journal),
                **_series(following, request.query_params.get("find", "")[:NAME_MAX]),
            }
        )


def _origins(sessions: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Host, program, commit and versions of the first session, and of later ones what differs."""
    origins: list[dict[str, Any]] = []
    before: Mapping[str, Any] = {}
    for number, session in enumerate(sessions, 1):
        changed = {k: v for k, v in session.items() if k != "s" and before.get(k) != v}
        if changed:
            origins.append({"session": number, **changed})
        before = session
    return origins


def _of_journal(journal: Mapping[str, Any]) -> dict[str, Any]:
    """What a run JSON says of its journal, cut off where it is long."""
    return {
        "reason": journal.get("reason"),
        "sessions": (journal.get("sessions") or [])[-SESSIONS_MAX:],
        "superseded": journal.get("superseded") or {},
        "ignored": journal.get("ignored") or 0,
        "missing": (journal.get("missing_iterations") or [])[:MISSING_MAX],
        "defects": (journal.get("defects") or [])[:DEFECTS_MAX],
        "tags": journal.get("tags") or [],
        "notes": (journal.get("notes") or [])[-NOTES_MAX:],
    }


def _series(following: Following, find: str) -> dict[str, Any]:
    """The summaries of a run's series: the usual ones first; `find`: those that match it."""
    defined = definitions.of(following)
    named = defined.named(is_exact=True)
    usual, others = usual_first(_series_names(named, find))
    shown = [*usual, *others][:SERIES_MAX]
    return {
        "series": [
            summaries.as_json(named[name], *defined.value(name), defined.unit(name))
            for name in shown
        ],
        "n_series": len(named),
        "n_found": len(usual) + len(others),
        "n_usual": len(usual),
    }


def _series_names(named: Mapping[str, Series], find: str) -> list[str]:
    """The series that are listed: all that are not hidden, or those that are searched for."""
    if find.strip():
        return search(named, find)
    return [name for name, one in named.items() if one.definition.get("hidden") is not True]


def study(site: Site, request: Request) -> Response:
    """A group of runs: its parameters with their importances, and its trials."""
    params = request.query_params
    group = params.get("of", "")[:TEXT_MAX]
    rows = study_.members(site.folders.rows(), params.get("by", ""), group)
    objective = study_.objective_of(rows, site.folders.is_inside)
    return json_response(study_.study(rows, params.get("metric", ""), objective))
