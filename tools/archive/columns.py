"""A run as Arrow columns, with types that can be combined with those of any other run.

Numbers keep their value: floats are float64 (NaN stays NaN), integers int64, beyond 2^53
decimal(20, 0), so that no engine turns them into floats. Other values than numbers, booleans and
text are JSON text. Names of columns are in lower case, because SQL ignores case, with `_` for the
dots of nested fields (names of metrics keep theirs). Values that fit into no column are in `extra`,
as JSON.

`series` has every value of every table in a row of its own, under the name as it was logged. So
`metrics` need not have them all: what fits into none of its 1,000 columns is in `series` alone.
"""

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from itertools import chain
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

import eventlog

from ..core import history
from ..core.history import SERIES, STORED, TABLES, WIDE_MAX, History, Row, Value, batches
from ..core.series import exact

FLOAT, INT, BIG, TEXT, TRUTH, TIME = (
    pa.float64(), pa.int64(), pa.decimal128(20, 0), pa.string(), pa.bool_(), pa.timestamp("us"),
)  # fmt: skip
TYPES = {str(kind): kind for kind in (FLOAT, INT, BIG, TEXT, TRUTH, TIME)}

_FIXED = {"iter": INT, "step": INT, "path": TEXT, "timestamp": TEXT} | dict.fromkeys(
    ("loss", "time_ms", "mfu", "train_loss", "val_loss", "lr"), FLOAT
)
FIXED: dict[str, dict[str, pa.DataType]] = {
    str(kind.rule): {name: _FIXED[name] for name in kind.row if name in _FIXED}
    for kind in eventlog.KINDS.values()
    if kind.rule in STORED
} | {
    "system": {"iter": INT, "timestamp": TEXT},
    # `value`: of a number, the nearest float64; `text`: of all else, and of integers beyond 2^53;
    # `time`: in UTC
    SERIES: {"step": INT, "name": TEXT, "value": FLOAT, "text": TEXT, "time": TIME},
}
"""The columns that every run has."""

OWN = {"run": TEXT, "run_id": TEXT}
RESERVED = frozenset({*OWN, "month", "extra"})
"""Names that a field of a run cannot have as a column."""

RUNS = {
    "run": TEXT, "run_id": TEXT, "month": TEXT, "status": TEXT, "reason": TEXT,
    "start_time": TEXT, "end_time": TEXT,
    "total_iterations": INT, "final_iter": INT, "final_train_loss": FLOAT, "best_val_loss": FLOAT,
    "avg_time_ms": FLOAT, "avg_mfu": FLOAT, "total_eval_steps": INT, "total_checkpoints": INT,
    "config": TEXT, "metadata": TEXT, "journal": TEXT, "source": TEXT, "ends_nonfinite": TEXT,
}  # fmt: skip
"""The columns of the table of runs: fields of the summary, and objects as JSON text.

`ends_nonfinite`: the series whose last value is NaN or infinite (`{"loss": "nan"}`), null: none.
"""

EXACT = 1 << 53  # up to this limit, a float64 represents every integer
EVEN_ROWS = 1 << 13  # rows whose values are converted together; they may have 1,000 columns
CHUNK_ROWS = 1 << 16  # rows that are dicts at the same time, of 480 bytes each
MAX_COLUMNS = 256  # of a run in a table; more names than that are data, not columns
MAX_NAME = 100


def describe(run: eventlog.Run) -> Row:
    """A run as a row of the table of runs."""
    row: Row = {
        "run": _text(run.run_name),
        "run_id": id_of(run),
        "month": month_of(run),
        "status": run.status,
        "reason": _text(run.journal.get("reason")),
        "start_time": run.start_time,
        "end_time": run.end_time,
        "config": _json(run.config),
        "metadata": _json(run.metadata),
        "journal": _json(run.journal),
        "source": _text(str(run.path)),
        "ends_nonfinite": _json(ends) if (ends := run.ends_nonfinite()) else None,
    }
    for name in RUNS.keys() - row.keys():
        row[name] = _figure(run.summary.get(name), RUNS[name])
    return row


def id_of(run: eventlog.Run) -> str:
    """16 hex digits, the same for a run's journal and its run JSON, in any folder.

    A copy under another name is another run: it may be continued differently.
    """
    known = History(run).id
    if run.path is None or run.path.stem == run.run_name:
        return known
    return sha256(f"{known}\n{run.path.stem}".encode(errors="replace")).hexdigest()[:16]


def month_of(run: eventlog.Run) -> str:
    """The month in which a run began, `2026-11`, or `unknown`."""
    month = (run.start_time or "")[:7]
    is_month = len(month) == 7 and month[4] == "-" and (month[:4] + month[5:]).isdecimal()
    return month if is_month and month.isascii() else "unknown"


def values_of(run: History, month: str) -> Iterator[pa.Table]:
    """The table `series` of a run in parts, with the month in each row; one part at least."""
    for part in chain(_series_of(run), [_series([], {"run": "", "run_id": ""})]):
        yield part.append_column("month", pa.repeat(pa.scalar(month), part.num_rows))


def tables_of(run: History, tables: Iterable[str] = STORED) -> dict[str, pa.Table]:
    """The tables of a run, with its name and id in each row."""
    own = _own(run)
    return {
        table: unite(
            table,
            _series_of(run)
            if table == SERIES
            else (_table(chunk, table, own) for chunk in batches(run.stored(table), CHUNK_ROWS)),
        )
        for table in tables
    }


def unite(
    kind: str, tables: Iterable[pa.Table], known: Mapping[str, pa.DataType] | None = None
) -> pa.Table:
    """All rows, each column with a type that holds all values; `known`: columns to include.

    Of `metrics`, columns beyond the first 1,000 are left out.
    """
    tables = list(tables)
    types: dict[str, pa.DataType] = {**OWN, **FIXED[kind], **(known or {})}
    n_most = WIDE_MAX + 1 if kind == "metrics" else math.inf  # the month is one more
    for field in chain.from_iterable(table.schema for table in tables):
        if field.name in types or len(types) < n_most:
            types[field.name] = wider(types.get(field.name, field.type), field.type)
    if _has_extra(kind):
        types["extra"] = types.pop("extra", TEXT)
    schema = pa.schema(types.items())
    return pa.concat_tables([schema.empty_table(), *(_fit(table, schema) for table in tables)])


def _has_extra(kind: str) -> bool:
    return kind not in ("metrics", SERIES)


def wider(one: pa.DataType, other: pa.DataType) -> pa.DataType:
    """The type that holds the values of both without rounding."""
    if one == other:
        return one
    pair = {one, other}
    if pair == {INT, FLOAT}:
        return FLOAT  # int64 columns hold nothing beyond 2^53, or they are decimals
    return BIG if pair == {INT, BIG} else TEXT


def _fit(table: pa.Table, schema: pa.Schema) -> pa.Table:
    at = {name: k for k, name in enumerate(table.column_names)}  # by name takes time for each one
    columns = [
        table.column(at[field.name]).cast(field.type)
        if field.name in at
        else pa.nulls(table.num_rows, field.type)
        for field in schema
    ]
    return pa.table(columns, schema=schema)


def in_order(table: pa.Table) -> pa.Table:
    """Sorted by run, and within a run by iteration as before (Arrow's sort is stable)."""
    order = pc.sort_indices(table, sort_keys=[("run", "ascending"), ("run_id", "ascending")])
    return table.take(order)


def _own(run: History) -> dict[str, str]:
    return {"run": _text(run.run.run_name) or "", "run_id": id_of(run.run)}


def _series_of(run: History) -> Iterator[pa.Table]:
    """The table `series` of a run in parts."""
    own = _own(run)
    for table in TABLES:
        for rows in batches(run.flat_rows(table), EVEN_ROWS):
            if (part := _series_of_even(run, table, rows, own)) is not None:
                yield part
                continue
            for values in batches(run.values_in(table, rows), CHUNK_ROWS):
                yield _series(values, own)


def _series_of_even(
    run: History, table: str, rows: list[Row], own: Mapping[str, str]
) -> pa.Table | None:
    """As `_series`, of rows that all have the same columns, with numbers that a float64 holds and
    one time each, which is the usual case and is much faster; None: they have not."""
    columns = tuple(rows[0])
    if not all(tuple(row) == columns for row in rows):
        return None
    named = {c: name for c in columns if (name := run.names.get((table, c))) is not None}
    if table != "metrics" and "mfu" in named:
        is_unknown = {row["mfu"] == eventlog.MFU_UNKNOWN for row in rows}
        if is_unknown == {True}:
            del named["mfu"]
        elif True in is_unknown:
            return None
    values = list(chain.from_iterable([row[c] for c in named] for row in rows))
    times = [run.times_of(table, row) for row in rows]
    is_even = {float, int}.issuperset(map(type, values)) and _within(values, EXACT)
    if not is_even or any(later for _, later in times):
        return None
    n, k = len(rows), len(named)
    of_row, of_name = np.repeat(np.arange(n), k), np.tile(np.arange(k), n)
    arrays = [
        *(pa.repeat(pa.scalar(value, TEXT), n * k) for value in own.values()),
        pa.array([row[TABLES[table]] for row in rows], INT).take(of_row),
        pa.array([_text(name) for name in named.values()], TEXT).take(of_name),
        pa.array(np.array(values, float)),
        pa.nulls(n * k, TEXT),
        pa.array([history.micros(time) for time, _ in times], TIME).take(of_row),
    ]
    return pa.table(arrays, names=[*own, *FIXED[SERIES]])


def _series(values: list[Value], own: Mapping[str, str]) -> pa.Table:
    """A row for each value of a series."""
    times = {value.time: history.micros(value.time) for value in values}
    columns = [
        *(pa.repeat(pa.scalar(value, TEXT), len(values)) for value in own.values()),
        pa.array([value.step for value in values], INT),
        pa.array([_text(value.name) for value in values], TEXT),
        pa.array([history.number(value.value) for value in values], FLOAT, from_pandas=False),
        pa.array([history.text(value.value) for value in values], TEXT),
        pa.array([times[value.time] for value in values], TIME),
    ]
    return pa.table(columns, names=[*own, *FIXED[SERIES]])


def _table(rows: list[Row], kind: str, own: Mapping[str, str]) -> pa.Table:
    rows = [eventlog.flat_cells(row) if _is_nested(row) else row for row in rows]
    columns: dict[str, pa.Array] = {
        name: pa.repeat(pa.scalar(value, TEXT), len(rows)) for name, value in own.items()
    }
    extra: dict[int, Row] = {}
    for name in dict.fromkeys(chain.from_iterable(rows)):
        values = [row.get(name) for row in rows]
        column = name.lower() if kind == "metrics" else name.lower().replace(".", "_")
        array = None
        n_left = (MAX_COLUMNS if _has_extra(kind) else WIDE_MAX) - len(columns)
        if not (column in columns or column in RESERVED) and n_left > 0 and _is_name(column):
            array = _array(values, FIXED[kind].get(column))
        if array is not None:
            columns[column] = array
            continue
        if not _has_extra(kind):
            continue
        for at, value in enumerate(values):
            if value is not None:
                extra.setdefault(at, {})[name] = exact(value)
    if extra:
        texts = [_json(extra[at]) if at in extra else None for at in range(len(rows))]
        columns["extra"] = pa.array(texts, TEXT)
    return pa.table(columns)


_NESTED = {dict, list}


def _is_nested(row: Row) -> bool:
    return "nonfinite" in row or not _NESTED.isdisjoint(map(type, row.values()))


def _is_name(name: str) -> bool:
    return 0 < len(name) <= MAX_NAME and name.isprintable()


def _array(values: Sequence[Any], fixed: pa.DataType | None) -> pa.Array | None:
    """A column of these values; None if there are none or they do not fit the fixed type."""
    types = set(map(type, values)) - {type(None)}
    if not types:
        return None
    is_small = int not in types or _within(values, EXACT)
    if types == {float} or (types == {float, int} and is_small):
        kind = FLOAT
    elif types == {int}:
        kind = INT if is_small or (fixed == INT and _within(values, 1 << 63)) else BIG
        kind = kind if _within(values, 10**20) else TEXT
    elif types == {bool}:
        kind = TRUTH
    else:
        kind = TEXT
    if fixed is not None and (kind := wider(kind, fixed)) != fixed:
        return None
    if kind == TEXT:
        values = [_text(value) for value in values]
    return pa.array(values, kind, from_pandas=False)


def _within(values: Sequence[Any], limit: int) -> bool:
    return all(-limit < v < limit for v in values if type(v) is int)


def _figure(value: Any, kind: pa.DataType) -> float | int | None:
    if type(value) not in (int, float):
        return None
    if kind == INT:
        return value if type(value) is int and _within([value], 1 << 63) else None
    return float(value) if _within([value], 1 << 1000) else None


def _text(value: Any) -> str | None:
    """The text, with what UTF-8 cannot represent replaced."""
    if value is None:
        return None
    value = exact(value)
    text = value if isinstance(value, str) else _json(value)
    return text.encode("utf-8", "backslashreplace").decode()


def _json(value: Any) -> str:
    try:
        return orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS).decode()
    except TypeError:  # a lone surrogate, an integer beyond 64 bits
        return json.dumps(value, ensure_ascii=True, default=str)
