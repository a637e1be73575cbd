"""The page's server: what it answers, to whom, and what it never does.

Read-only. A run is asked for by an id that was given out before, never by a path; files of
the page are names in a table. Who may ask is decided at the door (door.py).
"""

import asyncio
import contextlib
import csv
import io
import math
import os
import struct
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import orjson
import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from ..core import rows as rows_
from ..core.names import AxisName
from ..core.runs import Refusal
from ..core.where import select
from ..live.curves import Axis, Curve, Rows
from ..live.folders import Folders
from ..live.following import TABLES, TAKES_MAX, Following, Table, told
from .auth import Door, words
from .connections import HEADER_BYTES, LimitedProtocol, limit, limit_log
from .study import members, metric_of, study

PAGE = Path(__file__).parent / "page"
FILES = {
    "/": ("page.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
    **{
        f"/{name}.js": (f"{name}.js", "text/javascript; charset=utf-8")
        for name in ("main", "state", "server", "chart", "plot", "grid", "list", "compare", "run",
                     "study", "coordinates", "smooth", "words", "dom")
    },
}  # fmt: skip

RUNS_MAX = 64  # in one request
KEYS_MAX = 300
BUCKETS_MAX = 4_000
TAIL_ROWS = 5_000  # a chart that is further behind begins anew
TAIL_VALUES = 120_000  # the same, for all figures of a run
BUCKETS_IN_ALL = 1_000_000  # of one answer: 60 MB, 64 runs of 24 figures at full width
CSV_ROWS = 20_000  # read at once
TEXT_MAX = 500  # of a filter
FILTER_S = 2.0  # that one may take; two are computed at once
LIVE_MAX = 256  # pages that listen at once
BEAT_S = 15.0  # silence after which a listener is told that there is nothing to tell
ROWS_S = 1.0  # between two tellings of the table
STATE_S = 0.05  # how long the others wait for a run that is being read
TELL_S = 0.25  # between two looks for something to tell
ENDING_S = 2  # open connections may take so long when the server ends


@dataclass
class Site:
    """What is served, and to whom."""

    folders: Folders
    hosts: frozenset[str]
    """Names that a browser may have for us; an address is always right."""
    token: str | None = None
    cookie: str = "runs"
    is_ending: Callable[[], bool] = field(default=lambda: False)
    n_listeners: int = field(default=0, init=False)
    filtering: threading.Semaphore = field(default_factory=partial(threading.Semaphore, 2))


def app(site: Site) -> ASGIApp:
    """The server of a site, as an ASGI application."""

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        with site.folders:
            yield

    def answering(answer: Callable[[Site, Request], Response]) -> Callable[[Request], Any]:
        async def endpoint(request: Request) -> Response:
            return await run_in_threadpool(answer, site, request)

        return endpoint

    async def live(request: Request) -> Response:
        return _live(site, request)

    routes = [Route(path, _file) for path in FILES] + [
        Route("/api/runs", answering(_runs)),
        Route("/api/where", answering(_where)),
        Route("/api/run", answering(_run)),
        Route("/api/study", answering(_study)),
        Route("/api/curves", answering(_curves)),
        Route("/api/csv", answering(_csv)),
        Route("/api/live", live),
    ]
    handlers: Any = {HTTPException: _refused, TimeoutError: _busy}
    inner = Starlette(routes=routes, lifespan=lifespan, exception_handlers=handlers)
    return Door(inner, hosts=site.hosts, token=site.token, cookie=site.cookie)


def server(site: Site) -> uvicorn.Server:
    """What answers for a site: `run(sockets=[...])` until `should_exit`."""
    LimitedProtocol.connections_max = limit()
    serving = uvicorn.Server(
        uvicorn.Config(
            app(site),
            http=LimitedProtocol,
            ws="none",
            h11_max_incomplete_event_size=HEADER_BYTES,
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=ENDING_S,
            timeout_keep_alive=30,
        )
    )
    limit_log("uvicorn.error", "asyncio")
    site.is_ending = lambda: serving.should_exit
    return serving


# ---- answers


async def _file(request: Request) -> Response:
    name, kind = FILES[request.url.path]
    return Response((PAGE / name).read_bytes(), media_type=kind)


def _runs(site: Site, request: Request) -> Response:
    """Every row, or those that changed `since` a version."""
    since = _whole(request, "since", 0)
    folders = site.folders
    version = folders.version  # before the rows: what changes meanwhile is told again
    return _json(
        {
            "version": version,
            "folders": [os.fsencode(name).decode("utf-8", "replace") for name in folders.names],
            "problems": folders.problems,
            "complete": folders.is_complete,
            "runs": folders.rows(since),
            "gone": folders.gone(since) if since else [],
        }
    )


def _where(site: Site, request: Request) -> Response:
    """The ids of the runs for which an expression is true, as `runs ls --where`."""
    expression = request.query_params.get("q", "")
    if len(expression) > TEXT_MAX:
        return _json({"error": f"has {len(expression):,} characters, at most {TEXT_MAX} may be"})
    if not site.filtering.acquire(timeout=FILTER_S):
        raise HTTPException(503, "other filters are being computed; try again")
    try:
        found = select(site.folders.rows(), expression, limit_s=FILTER_S)
    except Refusal as refusal:
        return _json({"error": str(refusal).removeprefix("--where: ")})
    finally:
        site.filtering.release()
    return _json({"ids": [row["id"] for row in found]})


def _run(site: Site, request: Request) -> Response:
    """All there is to say of one run, but its curves."""
    with site.folders.at(request.query_params.get("id", "")) as following:
        if following is None:
            raise HTTPException(404, "no such run")
        known = following.known
        run = following.run()
        journal = run.journal
        return _json(
            {
                "reading": following.progress if following.is_reading else None,
                "error": following.error,
                "generation": known.generation,
                "started": _finite(following.started),
                "status": run.status,
                "reason": journal.get("reason"),
                "summary": run.summary,
                "sessions": (journal.get("sessions") or [])[-200:],
                "superseded": journal.get("superseded") or {},
                "missing": (journal.get("missing_iterations") or [])[:100],
                "defects": (journal.get("defects") or [])[:200],
                "tags": journal.get("tags") or [],
                "notes": (journal.get("notes") or [])[-200:],
                "marks": list(known.marks),
                "axes": [n for n in ("iter", "tokens", "time") if following.axis(_axis(n))],
                "tail": [
                    {"t": r.t, "s": r.s, "n": r.n, "event": r.event, "text": told(r)}
                    for r in list(known.latest)[-100:]
                ],
            }
        )


def _study(site: Site, request: Request) -> Response:
    """A group of runs: its parameters, its trials, and which parameter matters."""
    asked = request.query_params
    rows = members(site.folders.rows(), asked.get("by", ""), asked.get("of", "")[:TEXT_MAX])
    metric = metric_of(rows, site.folders.is_inside)
    return _json(study(rows, asked.get("figure", ""), metric))


def _curves(site: Site, request: Request) -> Response:
    """Curves of several runs and figures, packed: see `_packed`."""
    view = _View.of(request)
    ids = request.query_params.get("runs", "").split(",")[:RUNS_MAX]
    n_curves = max(1, len(ids) * len(view.keys) * (1 + view.with_takes * TAKES_MAX))
    view = replace(view, n_buckets=max(10, min(view.n_buckets, BUCKETS_IN_ALL // n_curves)))
    answer: list[dict[str, Any]] = []
    arrays: list[np.ndarray[Any, Any]] = []
    for asked in ids:
        id, *had = asked.split("~")
        with site.folders.at(id) as following:
            if following is None:
                answer.append({"id": id, "gone": True})
                continue
            answer.append(_curves_of(following, id, had, view, arrays))
    return Response(_packed({"runs": answer}, arrays), media_type="application/octet-stream")


@dataclass(frozen=True)
class _View:
    """What part of which figures is asked for."""

    keys: list[str]
    axis: AxisName
    begin: float | None
    end: float | None
    n_buckets: int
    is_log: bool
    with_takes: bool

    @classmethod
    def of(cls, request: Request) -> "_View":
        asked = request.query_params
        keys = [key for key in asked.get("keys", "").split("\n") if key][:KEYS_MAX]
        return cls(
            keys,
            _axis(asked.get("x", "iter")),
            _number(request, "from"),
            _number(request, "to"),
            min(BUCKETS_MAX, max(10, _whole(request, "px", 600))),
            asked.get("log") == "1",
            asked.get("takes") == "1",
        )


def _curves_of(
    following: Following,
    id: str,
    had: list[str],
    view: _View,
    arrays: list[np.ndarray[Any, Any]],
) -> dict[str, Any]:
    """One run of the answer. `had`: the generation and the rows of each table the page has."""
    known = following.known
    rows = {name: len(known.tables[name]) for name in TABLES}
    told: dict[str, Any] = {
        "id": id,
        "generation": known.generation,
        "rows": rows,
        "figures": {name: list(known.tables[name].figures) for name in TABLES},
        "reading": following.progress if following.is_reading else None,
        "error": following.error,
        "series": [],
    }
    axis = following.axis(view.axis)
    if axis is None:
        return told | {"no_axis": True}
    after = _after(had, known.generation, rows, TAIL_VALUES // max(1, len(view.keys)))
    for key in view.keys:
        table, name = _table_of(key)
        if name not in known.tables[table].figures:
            continue
        curve = _curve(known.tables[table], name, axis, view, after[table])
        told["series"].append({"key": key, "tail": bool(after[table])} | _sizes(curve, arrays))
    if view.with_takes:
        for key in view.keys:
            table, name = _table_of(key)
            for at, (of, taken) in enumerate(known.takes):
                if of == table and name in taken.figures:
                    curve = _curve(taken, name, axis, view, 0)
                    told["series"].append({"key": key, "take": at} | _sizes(curve, arrays))
    return told


def _after(
    had: list[str], generation: int, rows: dict[Table, int], rows_max: int
) -> dict[Table, int]:
    """From which row on the page misses rows; 0: it begins anew."""
    try:
        of, *counts = map(int, had)
    except ValueError:
        return dict.fromkeys(TABLES, 0)
    if of != generation or len(counts) != len(TABLES):
        return dict.fromkeys(TABLES, 0)
    after = dict(zip(TABLES, counts, strict=True))
    behind = max(rows[name] - after[name] for name in TABLES)
    return after if 0 <= behind <= min(TAIL_ROWS, rows_max) else dict.fromkeys(TABLES, 0)


def _curve(rows: Rows, name: str, axis: Axis, view: _View, after_row: int) -> Curve:
    return rows.curve(
        name,
        axis,
        begin=view.begin,
        end=view.end,
        n_buckets=view.n_buckets,
        is_log=view.is_log,
        after_row=after_row,
    )


def _sizes(curve: Curve, arrays: list[np.ndarray[Any, Any]]) -> dict[str, Any]:
    """Add a curve's arrays to the answer's; how long they are."""
    is_whole = bool((curve.counts == 1).all())
    arrays += [curve.x, curve.y]
    if not is_whole:  # else the means are the points
        arrays += [curve.mean_x, curve.means, curve.counts.astype(np.float64)]
    return {
        "n": len(curve.x),
        "means": 0 if is_whole else len(curve.means),
        "nonfinite": curve.nonfinite[:1000],
    }


def _packed(head: dict[str, Any], arrays: Iterable[np.ndarray[Any, Any]]) -> bytes:
    """Length of the JSON (4 bytes), the JSON, spaces up to a multiple of 8, the float64 arrays."""
    text = orjson.dumps(head)
    text += b" " * (-(4 + len(text)) % 8)
    data = [np.ascontiguousarray(a, np.float64).tobytes() for a in arrays]
    return b"".join([struct.pack("<I", len(text)), text, *data])


def _csv(site: Site, request: Request) -> Response:
    """Every row of some figures as CSV, not thinned: `run,iter,time,...`."""
    view = _View.of(request)
    ids = request.query_params.get("runs", "").split(",")[:RUNS_MAX]
    answer = StreamingResponse(_csv_lines(site, ids, view), media_type="text/csv; charset=utf-8")
    answer.headers["content-disposition"] = 'attachment; filename="runs.csv"'
    return answer


def _csv_lines(site: Site, ids: Sequence[str], view: _View) -> Iterator[str]:
    yield ",".join(["run", "iter", "seconds", *(_csv_cell(k) for k in view.keys)]) + "\n"
    for id in ids:
        for table in TABLES:
            names = {key: _table_of(key)[1] for key in view.keys if _table_of(key)[0] == table}
            first = 0
            while names:
                with site.folders.at(id) as following:
                    if following is None:
                        break
                    rows, run = following.known.tables[table], following.run().run_name
                    text, first = _csv_part(following, rows, run, names, view, first)
                if not first:
                    break
                yield text


def _csv_part(
    following: Following,
    rows: Rows,
    run: str,
    names: dict[str, str],
    view: _View,
    first: int,
) -> tuple[str, int]:
    """Some rows of one run as CSV, and the row to go on with; 0: there are no more."""
    axis = following.axis(view.axis)
    if axis is None or not len(rows) or not any(n in rows.figures for n in names.values()):
        return "", 0
    edges = [-math.inf if view.begin is None else view.begin]
    begin = int(axis.rows(rows, np.array(edges))[0]) if view.begin is not None else 0
    end = len(rows)
    if view.end is not None:
        end = int(axis.rows(rows, np.array([np.nextafter(view.end, math.inf)]))[0])
    a = max(first, begin)
    b = min(a + CSV_ROWS, end)
    if a >= b:
        return "", 0
    at = np.arange(a, b)
    seconds = rows.times.floats_at(at) - following.started
    columns = [
        rows.figures[names[key]].read(a, b) if names.get(key) in rows.figures else None
        for key in view.keys
    ]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    name = _csv_cell(run)
    for k, (i, t) in enumerate(zip(rows.iters.values[a:b].tolist(), seconds, strict=True)):
        figures = [_csv_figure(column, k) for column in columns]
        if any(figures):
            writer.writerow([name, i, f"{t:.3f}" if math.isfinite(t) else "", *figures])
    return out.getvalue(), b


def _csv_figure(column: Any, k: int) -> str:
    value = math.nan if column is None else float(column[k])
    return repr(value) if math.isfinite(value) else ""


def _csv_cell(text: str) -> str:
    """Text that no spreadsheet takes for a formula."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


# ---- live


def _live(site: Site, request: Request) -> Response:
    """Server-sent events: what changed in the table, how many rows the watched runs have.

    A page that is slow is told less often, never more at once: nothing waits for it but the
    number of the version it knows.
    """
    if site.n_listeners >= LIVE_MAX:
        raise HTTPException(503, f"{LIVE_MAX} pages listen already")
    ids = [id for id in request.query_params.get("runs", "").split(",")[:RUNS_MAX] if id]
    since = _whole(request, "since", 0)
    events = _events(site, ids, since)
    return _EventStream(events, site)


class _EventStream(StreamingResponse):
    """A stream that counts itself while it lasts."""

    def __init__(self, events: AsyncIterator[str], site: Site) -> None:
        super().__init__(events, media_type="text/event-stream")
        self.site = site

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.site.n_listeners += 1
        try:
            await super().__call__(scope, receive, send)
        finally:
            self.site.n_listeners -= 1


async def _events(site: Site, ids: Sequence[str], since: int) -> AsyncIterator[str]:
    folders = site.folders
    states: dict[str, Any] = {}
    quiet_s, rows_at = 0.0, 0.0
    yield "retry: 1000\n\n"
    while not site.is_ending():
        told = False
        if folders.version != since and time.monotonic() >= rows_at:
            rows_at = time.monotonic() + ROWS_S
            version = folders.version
            rows, gone = await run_in_threadpool(_changed, folders, since)
            since = version
            head = {"version": version, "runs": rows, "gone": gone, "problems": folders.problems}
            yield _event("runs", head | {"complete": folders.is_complete}, version)
            told = True
        if ids:
            fresh = await run_in_threadpool(_states, folders, ids)
            changed = {id: state for id, state in fresh.items() if states.get(id) != state}
            if changed:
                states |= changed
                yield _event("rows", changed)
                told = True
        quiet_s = 0.0 if told else quiet_s + TELL_S
        if quiet_s >= BEAT_S:
            yield ": still here\n\n"
            quiet_s = 0.0
        await asyncio.sleep(TELL_S)


def _changed(folders: Folders, since: int) -> tuple[list[rows_.Row], list[str]]:
    return folders.rows(since), folders.gone(since)


def _states(folders: Folders, ids: Sequence[str]) -> dict[str, Any]:
    """How far the curves of each run are."""
    states: dict[str, Any] = {}
    for id in ids:
        with contextlib.suppress(TimeoutError), folders.at(id, STATE_S) as following:
            if following is not None:
                known = following.known
                states[id] = {
                    "generation": known.generation,
                    "rows": {name: len(known.tables[name]) for name in TABLES},
                    "records": known.n_records,
                    "reading": following.progress if following.is_reading else None,
                    "error": following.error,
                }
    return states


def _event(name: str, data: Any, id: int | None = None) -> str:
    numbered = "" if id is None else f"id: {id}\n"
    text = orjson.dumps(data, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
    return f"{numbered}event: {name}\ndata: {text}\n\n"


# ---- small things


def _table_of(key: str) -> tuple[Table, str]:
    """`loss` is of the iterations, `eval/val_loss` of the evaluations."""
    table, slash, name = key.partition("/")
    return (table, name) if slash and table in TABLES else ("iter", key)


def _axis(name: str) -> AxisName:
    return cast(AxisName, name) if name in ("iter", "tokens", "time") else "iter"


def _number(request: Request, key: str) -> float | None:
    try:
        value = float(request.query_params[key])
    except (KeyError, ValueError):
        return None
    return value if math.isfinite(value) else None


def _whole(request: Request, key: str, otherwise: int) -> int:
    try:
        return min(1 << 62, max(0, int(request.query_params[key][:20])))
    except (KeyError, ValueError):
        return otherwise


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _json(value: Any) -> Response:
    body = orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS)
    return Response(body, media_type="application/json")


def _busy(request: Request, error: Exception) -> Response:
    return words(503, str(error))


def _refused(request: Request, error: Exception) -> Response | Awaitable[Response]:
    assert isinstance(error, HTTPException)
    return words(error.status_code, str(error.detail))
