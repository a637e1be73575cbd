"""Server-sent events: changed rows of the table, and how many rows the followed runs have.

A page that reads slowly gets fewer events, not a backlog: the server remembers only which version
of the table it has.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from ..live.folders import Folders
from .request import Site, as_json, run_ids, whole

LISTENERS_MAX = 256
RETRY = "retry: 1000\n\n"
HEARTBEAT = ": heartbeat\n\n"
HEARTBEAT_S = 15.0  # after this long without an event
ROWS_S = 1.0  # between two events with rows of the table
POLL_S = 0.25
STATE_WAIT_S = 0.05  # for a run that is being read


def events(site: Site, request: Request) -> Response:
    """The events from the version `since` on, of the table and of the given runs."""
    if request.method == "HEAD":  # the answer has no body, and must end
        return Response(media_type="text/event-stream")
    if site.n_listeners >= LISTENERS_MAX:
        raise HTTPException(503, f"{LISTENERS_MAX} pages are open already")
    return _EventStream(_events(site, run_ids(request), whole(request, "since", 0)), site)


class _EventStream(StreamingResponse):
    """A stream that is counted while it lasts."""

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
    sent_at, rows_at = time.monotonic(), 0.0
    yield RETRY
    while not site.is_ending():
        now = time.monotonic()
        events = []
        if folders.version != since and now >= rows_at + ROWS_S:
            rows_at = now
            changes = await run_in_threadpool(_changes, folders, since)
            since = changes["version"]
            events.append(_event("runs", changes, since))
        if ids:
            current = await run_in_threadpool(_states, folders, ids)
            changed = {id: state for id, state in current.items() if states.get(id) != state}
            states |= changed
            events += [_event("rows", changed)] if changed else []
        if not events and now >= sent_at + HEARTBEAT_S:
            events.append(HEARTBEAT)
        for event in events:
            sent_at = now
            yield event
        await asyncio.sleep(POLL_S)


def _changes(folders: Folders, since: int) -> dict[str, Any]:
    """What changed in the table since a version."""
    version = folders.version  # before the rows: later changes are sent again
    return {
        "version": version,
        "runs": folders.rows(since),
        "gone": folders.gone(since),
        "problems": folders.problems,
        "complete": folders.is_complete,
    }


def _states(folders: Folders, ids: Sequence[str]) -> dict[str, Any]:
    """How far the curves of each run are. A run that is being read is left out."""
    states: dict[str, Any] = {}
    for id in ids:
        with contextlib.suppress(TimeoutError), folders.at(id, STATE_WAIT_S) as following:
            if following is not None:
                content = following.content
                states[id] = {
                    "generation": content.generation,
                    "rows": content.n_rows,
                    "records": content.n_records,
                    "reading": following.progress if following.is_reading else None,
                    "error": following.error,
                }
    return states


def _event(name: str, data: Any, id: int | None = None) -> str:
    numbered = "" if id is None else f"id: {id}\n"
    return f"{numbered}event: {name}\ndata: {as_json(data).decode()}\n\n"
