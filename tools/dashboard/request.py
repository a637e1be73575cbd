"""Requests: the site they are for, their parameters, and their answers as JSON."""

import math
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from ..live.folders import Folders
from ..live.values import SeriesValues

RUNS_MAX = 64  # in one request
KEYS_MAX = 300
NAME_MAX = 4_000  # of a series that is an axis, or of keys
BUCKETS_MAX = 4_000
SMOOTHING_MAX = 1_000_000
_ESCAPED = {"n": "\n", "e": ""}


@dataclass(frozen=True)
class View:
    """Which series are asked for, and which part of the x axis."""

    keys: list[str]
    axis: str
    """An `AxisName`, the name of a series, or empty: what each run defined for each series."""
    begin: float | None
    end: float | None
    n_buckets: int
    is_log: bool
    with_superseded: bool
    smoothing: int
    group_by: str
    """As of `runs plot --group-by`: `seeds` or keys; empty: a curve for each run."""
    find: str
    """Which series the page lists (`live.search`); empty: all that are not hidden."""

    @classmethod
    def of(cls, request: Request) -> "View":
        params = request.query_params
        axis = params.get("x", "")[:NAME_MAX]
        return cls(
            names_of(params.get("keys", ""))[:KEYS_MAX],
            "iter" if axis == "step" else axis,
            number(request, "from"),
            number(request, "to"),
            min(BUCKETS_MAX, max(10, whole(request, "px", 600))),
            params.get("log") == "1",
            params.get("superseded") == "1",
            min(SMOOTHING_MAX, whole(request, "smooth", 0)),
            params.get("group", "")[:NAME_MAX],
            params.get("find", "")[:NAME_MAX],
        )


def run_ids(request: Request) -> list[str]:
    """The runs of a request, each an id, perhaps with `~` and what the page has of it."""
    return [id for id in request.query_params.get("runs", "").split(",")[:RUNS_MAX] if id]


def names_of(text: str) -> list[str]:
    """The names of a list, each on its line."""
    return [_unescaped(key) for key in text.split("\n") if key]


def _unescaped(key: str) -> str:
    """A name as it was logged: in a list it has `\\n` for a line feed, and `\\e` if it is empty."""
    if "\\" not in key:
        return key
    return re.sub(r"\\(.)", lambda found: _ESCAPED.get(found[1], found[1]), key)


def number(request: Request, key: str) -> float | None:
    """A finite number, None for anything else."""
    try:
        return finite(float(request.query_params[key]))
    except (KeyError, ValueError):
        return None


def whole(request: Request, key: str, default: int) -> int:
    """A whole number of at least 0; `default` for what is not one."""
    try:
        return min(1 << 62, max(0, int(request.query_params[key][:20])))
    except (KeyError, ValueError):
        return default


def finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def as_json(value: Any) -> bytes:
    """JSON in which whole numbers that JavaScript would round, beyond 2^53, are text."""
    option = orjson.OPT_NON_STR_KEYS
    try:
        return orjson.dumps(value, default=str, option=option | orjson.OPT_STRICT_INTEGER)
    except TypeError:
        return orjson.dumps(_with_large_as_text(value), default=str, option=option)


def _with_large_as_text(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _with_large_as_text(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_with_large_as_text(item) for item in value]
    return str(value) if type(value) is int and abs(value) >= 1 << 53 else value


def json_response(value: Any) -> Response:
    return Response(as_json(value), media_type="application/json")


FILTERS_AT_ONCE = 2


@dataclass
class Site:
    """The folders of a server, who may read them, and what the server is busy with."""

    folders: Folders
    hosts: frozenset[str]
    """Host names that a request may be for; IP addresses always may be."""
    token: str | None = None
    cookie: str = "runs"
    can_edit: bool = False
    """Whether the page may add notes and tags and keep a layout; only with a token."""
    is_ending: Callable[[], bool] = field(default=lambda: False)
    n_listeners: int = field(default=0, init=False)
    filtering: threading.Semaphore = field(
        default_factory=partial(threading.Semaphore, FILTERS_AT_ONCE)
    )
    values: SeriesValues = field(init=False)
    """Those that columns of the table and filters asked for."""

    def __post_init__(self) -> None:
        self.values = SeriesValues(self.folders)
