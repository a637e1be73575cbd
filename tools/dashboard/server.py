"""The page's server: its routes, its files, and the limits it runs under.

Without `Site.can_edit` it only reads. A request names a run by an id that the server issued, never
by a path; the files of the page are those of one folder. `auth` decides which requests are
answered.
"""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from . import columns, compare, csv_file, curves, edits, live, responses, run_groups
from .auth import Auth, text_response
from .connections import HEADER_BYTES, LimitedProtocol, connection_limit, limit_log
from .request import Site

PAGE = Path(__file__).parent / "page"

API: dict[str, Callable[[Site, Request], Response]] = {
    "/api/runs": responses.runs,
    "/api/where": responses.where,
    "/api/columns": columns.columns,
    "/api/values": columns.values,
    "/api/run": responses.run,
    "/api/study": responses.study,
    "/api/groups": run_groups.table,
    "/api/compare": compare.compared,
    "/api/curves": curves.curves,
    "/api/csv": csv_file.csv_file,
    "/api/layout": edits.layout,
}
SHUTDOWN_S = 2  # for open connections when the server ends
KEEP_ALIVE_S = 30


def server(site: Site) -> uvicorn.Server:
    """The server of a site: `run(sockets=[...])` serves until `should_exit` is set."""
    LimitedProtocol.connections_max = connection_limit()
    running = uvicorn.Server(
        uvicorn.Config(
            app(site),
            http=LimitedProtocol,
            ws="none",
            h11_max_incomplete_event_size=HEADER_BYTES,
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=SHUTDOWN_S,
            timeout_keep_alive=KEEP_ALIVE_S,
        )
    )
    limit_log("uvicorn.error", "asyncio")
    site.is_ending = lambda: running.should_exit
    return running


def app(site: Site) -> ASGIApp:
    """The server of a site as an ASGI application."""

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        with site.folders:
            yield

    def in_thread(answer: Callable[[Site, Request], Response]) -> Callable[[Request], Any]:
        async def endpoint(request: Request) -> Response:
            return await run_in_threadpool(answer, site, request)

        return endpoint

    def edit(change: Callable[[Site, Any], Any]) -> Callable[[Request], Any]:
        async def endpoint(request: Request) -> Response:
            fields = await edits.body_of(request)
            return await run_in_threadpool(edits.answered, site, change, fields)

        return endpoint

    async def events(request: Request) -> Response:
        return live.events(site, request)

    routes = [
        *(Route(path, in_thread(answer)) for path, answer in API.items()),
        *(Route(path, edit(change), methods=["POST"]) for path, change in edits.EDITS.items()),
        Route("/api/live", events),
        Mount("/", StaticFiles(directory=PAGE, html=True)),
    ]
    handlers: Any = {HTTPException: _refused, TimeoutError: _busy}
    inner = Starlette(routes=routes, lifespan=lifespan, exception_handlers=handlers)
    return Auth(
        inner, hosts=site.hosts, token=site.token, cookie=site.cookie, can_edit=site.can_edit
    )


def _busy(request: Request, error: Exception) -> Response:
    return text_response(503, str(error))


def _refused(request: Request, error: Exception) -> Response | Awaitable[Response]:
    assert isinstance(error, HTTPException)
    return text_response(error.status_code, str(error.detail))
