"""Every row of some metrics as CSV, not thinned: `run,iter,seconds,<metric>,...`."""

import csv
import io
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from ..live.curves import Axis, Rows
from ..live.following import TABLES, Following, Table
from .request import Site, View, run_ids, table_of

ROWS_AT_ONCE = 20_000


def csv_file(site: Site, request: Request) -> Response:
    """The rows in view of several runs."""
    lines = _lines(site, run_ids(request), View.of(request))
    response = StreamingResponse(lines, media_type="text/csv; charset=utf-8")
    response.headers["content-disposition"] = 'attachment; filename="runs.csv"'
    return response


def _lines(site: Site, ids: Sequence[str], view: View) -> Iterator[str]:
    yield ",".join(["run", "iter", "seconds", *(_cell(key) for key in view.keys)]) + "\n"
    for id in ids:
        for table in TABLES:
            # by key; None for a metric of another table, whose column stays empty
            names = [name if of == table else None for of, name in map(table_of, view.keys)]
            if any(names):
                yield from _table_lines(site, id, table, names, view)


def _table_lines(
    site: Site, id: str, table: Table, names: Sequence[str | None], view: View
) -> Iterator[str]:
    """One table of a run. The run is held only while some rows of it are read."""
    row = 0
    while True:
        with site.folders.at(id) as following:
            rows = following.known.tables[table] if following else None
            axis = following.axis(view.axis) if following else None
            if following is None or rows is None or axis is None:
                return
            begin, end = _rows_in_view(rows, axis, view)
            begin = max(row, begin)
            row = min(begin + ROWS_AT_ONCE, end)
            if begin >= row or not any(name in rows.columns for name in names):
                return
            text = _text(following, rows, names, begin, row)
        yield text


def _rows_in_view(rows: Rows, axis: Axis, view: View) -> tuple[int, int]:
    begin, end = 0, len(rows)
    if view.begin is not None and end:
        begin = int(axis.rows(rows, np.array([view.begin]))[0])
    if view.end is not None and end:
        end = int(axis.rows(rows, np.array([np.nextafter(view.end, math.inf)]))[0])
    return begin, end


def _text(
    following: Following, rows: Rows, names: Sequence[str | None], begin: int, end: int
) -> str:
    """The rows from `begin` to `end` that have a value."""
    seconds = rows.times.floats_at(np.arange(begin, end)) - following.started
    iters = rows.iters.values[begin:end].tolist()
    columns = [rows.columns[n].read(begin, end) if n in rows.columns else None for n in names]
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    run = _cell(following.run().run_name)
    for k, (i, t) in enumerate(zip(iters, seconds, strict=True)):
        values = [_value(column, k) for column in columns]
        if any(values):
            writer.writerow([run, i, f"{t:.3f}" if math.isfinite(t) else "", *values])
    return file.getvalue()


def _value(column: Any, k: int) -> str:
    value = math.nan if column is None else float(column[k])
    return repr(value) if math.isfinite(value) else ""


def _cell(text: str) -> str:
    """Text that no spreadsheet evaluates as a formula."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text
