"""Every row of some series as CSV, not thinned: `run,iter,seconds,<series>,...`."""

import csv
import io
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from ..core.axis import AXES, Floats
from ..live import by_series
from ..live.curves import Axis, Rows
from ..live.following import Following
from .curves import lacks_axis
from .request import Site, View, run_ids

ROWS_AT_ONCE = 20_000


def csv_file(site: Site, request: Request) -> Response:
    """The rows in view of several runs."""
    lines = _lines(site, run_ids(request), View.of(request))
    response = StreamingResponse(lines, media_type="text/csv; charset=utf-8")
    response.headers["content-disposition"] = 'attachment; filename="runs.csv"'
    return response


def _lines(site: Site, ids: Sequence[str], view: View) -> Iterator[str]:
    yield _csv([["run", "iter", "seconds", *map(_cell, view.keys)]])
    for id in ids:
        # series of the same rows are in the same lines
        with site.folders.at(id) as following:
            found = {key: following.content.find(key) for key in view.keys} if following else {}
            rows = {key: place[1] for key, place in found.items() if place is not None}
        for of in dict.fromkeys(rows.values()):
            keys = [key if rows.get(key) is of else None for key in view.keys]
            yield from _table_lines(site, id, keys, view)


def _table_lines(site: Site, id: str, keys: Sequence[str | None], view: View) -> Iterator[str]:
    """Series of the same rows. The run is held only while some of them are read."""
    row = 0
    while True:
        with site.folders.at(id) as following:
            if following is None or lacks_axis(following, view.axis):
                return
            found = {key: following.content.find(key) for key in keys if key is not None}
            places = {key: place for key, place in found.items() if place is not None}
            if not places:
                return
            rows = next(iter(places.values()))[1]
            x = view.axis or by_series.of(following).defined().get(next(iter(places)), "iter")
            axis = following.axis(x) if x in AXES else None
            other = following.content.find(x) if axis is None else None
            is_inside = None
            if axis is not None:
                begin, end = _rows_in_view(rows, axis, view)
            elif other is None:
                return
            else:
                begin, end = 0, len(rows)
                is_inside = _is_in_view(by_series.places(rows.iters.values, other), view)
            begin = max(row, begin)
            row = min(begin + ROWS_AT_ONCE, end)
            if begin >= row:
                return
            columns = [places[key][2] if key in places else None for key in keys]
            text = _text(following, rows, columns, begin, row, is_inside)
        yield text


def _is_in_view(x: Floats, view: View) -> NDArray[np.bool_]:
    """Which rows are in view, by their places on an axis that is a series."""
    low = -math.inf if view.begin is None else view.begin
    high = math.inf if view.end is None else view.end
    return (x >= low) & (x <= high)


def _rows_in_view(rows: Rows, axis: Axis, view: View) -> tuple[int, int]:
    begin, end = 0, len(rows)
    if view.begin is not None and end:
        begin = int(axis.rows(rows, np.array([view.begin]))[0])
    if view.end is not None and end:
        end = int(axis.rows(rows, np.array([np.nextafter(view.end, math.inf)]))[0])
    return begin, end


def _text(
    following: Following,
    rows: Rows,
    names: Sequence[str | None],
    begin: int,
    end: int,
    is_inside: NDArray[np.bool_] | None,
) -> str:
    """The rows from `begin` to `end` that have a value, of those that are inside of the view."""
    seconds = rows.times.floats_at(np.arange(begin, end)) - following.started
    iters = rows.iters.values[begin:end].tolist()
    columns = [_cells(rows, name, begin, end) for name in names]
    run = _cell(following.run().run_name)
    lines = [
        [run, i, f"{t:.3f}" if math.isfinite(t) else "", *values]
        for at, (i, t, values) in enumerate(
            zip(iters, seconds, zip(*columns, strict=True), strict=True), begin
        )
        if any(values) and (is_inside is None or is_inside[at])
    ]
    return _csv(lines)


def _cells(rows: Rows, name: str | None, begin: int, end: int) -> list[str]:
    """The values of a column as text; empty where there is none, `nan` or `inf` where one is."""
    if name is None or name not in rows.columns:
        return [""] * (end - begin)
    values = rows.columns[name].read(begin, end).tolist()
    cells = [repr(value) if math.isfinite(value) else "" for value in values]
    for first, last, mark in rows.nonfinite_between(name, begin, end):
        cells[first - begin : last + 1 - begin] = [mark] * (last + 1 - first)
    return cells


def _csv(lines: Sequence[Sequence[Any]]) -> str:
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows(lines)
    return file.getvalue()


def _cell(text: str) -> str:
    """Text that no spreadsheet evaluates as a formula."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text
