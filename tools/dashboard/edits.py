"""What the page of a server with `--edit` writes: notes, tags and names of runs, and its layout.

Notes, tags and names are events beside the journal (`core.remarks`). The layout of the charts is a
file in the first served folder; every server of that folder shows it.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

import eventlog

from ..core import remarks
from ..core.runs import Refusal, journal_of
from .request import Site, json_response

BODY_BYTES_MAX = 100_000
LAYOUT = "page.layout"
LAYOUT_BYTES_MAX = 50_000
Fields = dict[str, Any]


async def body_of(request: Request) -> Fields:
    """The JSON object that a request sent.

    Raises:
        HTTPException: it is too large, or no JSON object.
    """
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > BODY_BYTES_MAX:
            raise HTTPException(413, f"at most {BODY_BYTES_MAX:,} bytes are allowed")
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise HTTPException(400, f"malformed JSON: {error}") from None
    if not isinstance(fields, dict):
        raise HTTPException(400, "a JSON object is expected")
    return fields


def answered(site: Site, change: Callable[[Site, Fields], Any], fields: Fields) -> Response:
    """The answer after a change was made, or the reason why it was not."""
    if not site.can_edit:
        raise HTTPException(405, "this server is read-only")
    try:
        return json_response(change(site, fields))
    except (Refusal, OSError, eventlog.EventlogError) as error:
        raise HTTPException(409, str(error) or type(error).__name__) from None


def note(site: Site, fields: Fields) -> Fields:
    remarks.add_note(_path_of(site, fields), _text(fields, "text"))
    return _remarks_of(site, fields)


def tag(site: Site, fields: Fields) -> Fields:
    tags = fields.get("tags")
    if not isinstance(tags, list) or not all(isinstance(one, str) for one in tags):
        raise HTTPException(400, "tags must be a list of text: +good, -bad")
    remarks.change_tags(_path_of(site, fields), tags)
    return _remarks_of(site, fields)


def rename(site: Site, fields: Fields) -> Fields:
    remarks.rename(_path_of(site, fields), _text(fields, "name").strip())
    return _remarks_of(site, fields)


def keep_layout(site: Site, fields: Fields) -> Fields:
    """Keep the layout of the charts for all who look at this folder."""
    if not isinstance(fields.get("layout"), dict):
        raise HTTPException(400, "layout must be an object")
    try:
        text = orjson.dumps(fields["layout"], option=orjson.OPT_INDENT_2) + b"\n"
    except TypeError as error:  # it is nested too deeply, or has half a character
        raise HTTPException(400, f"layout: {error}") from None
    if len(text) > LAYOUT_BYTES_MAX:
        raise HTTPException(413, f"a layout has at most {LAYOUT_BYTES_MAX:,} bytes")
    path = _layout_path(site)
    if path is None:
        raise Refusal("no folder is served in which a layout could be kept")
    eventlog.atomic_write(path, lambda file: file.write(text))
    return {"layout": fields["layout"]}


EDITS: dict[str, Callable[[Site, Fields], Fields]] = {
    "/api/note": note,
    "/api/tag": tag,
    "/api/rename": rename,
    "/api/layout/keep": keep_layout,
}


def layout(site: Site, request: Request) -> Response:
    """The layout that is kept in the folder, and whether this page may edit."""
    kept: Any = None
    path = _layout_path(site)
    try:
        if path is not None and path.stat().st_size <= LAYOUT_BYTES_MAX:
            kept = orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError):
        pass  # none is kept, or a person is editing it: the usual one
    return json_response({"layout": kept, "edit": site.can_edit})


def _layout_path(site: Site) -> Path | None:
    for name in map(Path, site.folders.names):
        if name.is_dir():
            return name / LAYOUT
        if name.is_file():
            return name.parent / LAYOUT
    return None


def _path_of(site: Site, fields: Fields) -> Path:
    with site.folders.at(_text(fields, "id")) as following:
        if following is None:
            raise HTTPException(404, "unknown run")
        return following.path


def _remarks_of(site: Site, fields: Fields) -> Fields:
    """The run's tags and notes after the change."""
    journal = eventlog.load_run(journal_of(_path_of(site, fields))).journal
    return {"tags": journal.get("tags") or [], "notes": journal.get("notes") or []}


def _text(fields: Fields, key: str) -> str:
    value = fields.get(key)
    if not isinstance(value, str):
        raise HTTPException(400, f"{key} must be text")
    return value
