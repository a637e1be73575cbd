"""Parquet: a file for each table of the run, and series.parquet, in a folder of the run's name.

`series.parquet` has every value of every table in a row of its own: run, name, step, value, text,
time. A number is in `value` (float64), all else in `text`, which also has all digits of an integer
beyond 2^53; `time` is a timestamp in UTC. A table without rows, or with more than 1,000 columns,
has no file.

Integers are int64, other numbers float64, NaN stays NaN and missing values are null. The
configuration and metadata are in each file's key-value metadata, and in run.json. A file is
replaced as a whole or not at all.
"""

import io
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import orjson

from ...core.history import (
    SERIES,
    TABLES,
    WIDE_MAX,
    History,
    Row,
    Value,
    batches,
    micros,
    number,
    text,
)  # fmt: skip
from ...core.library import need
from .files import replace, run_folder, too_wide
from .outcome import Outcome, State, worst

ROWS_A_GROUP = 100_000


def export(history: History, out: Path) -> Outcome:
    need("pyarrow")
    folder = run_folder(history, out)
    types = {table: _types(history, table) for table in TABLES}
    states = [_write_table(history, table, types[table], folder) for table in TABLES]
    state = worst(*states, _write_series(history, folder))
    columns = {table: list(names) for table, names in types.items()}
    n_added = history.n_rows if state != "unchanged" else 0
    return Outcome(str(folder), state, n_added, too_wide(history, columns))


def _types(history: History, table: str) -> dict[str, set[type]]:
    """The types of the values in each column, the axis first; empty without rows."""
    types: dict[str, set[type]] = {}
    for row in history.rows(table):
        types = types or {TABLES[table]: {int}}
        for key, value in row.items():
            types.setdefault(key, set()).add(_type(value))
    return types


def _write_table(history: History, table: str, types: dict[str, set[type]], folder: Path) -> State:
    import pyarrow

    path = folder / f"{table}.parquet"
    if not 0 < len(types) <= WIDE_MAX:
        return replace(path, lambda: iter([]))
    fields = [(_utf8(key), _column_type(kinds)) for key, kinds in types.items()]
    return _write(history, path, pyarrow.schema(fields), history.rows(table), _table)


def _write_series(history: History, folder: Path) -> State:
    import pyarrow

    schema = pyarrow.schema(
        {
            "run": pyarrow.string(), "name": pyarrow.string(), "step": pyarrow.int64(),
            "value": pyarrow.float64(), "text": pyarrow.string(), "time": pyarrow.timestamp("us"),
        }
    )  # fmt: skip

    def table(values: list[Value], schema: Any) -> Any:
        return _series(_utf8(history.run.run_name), values, schema)

    return _write(history, folder / f"{SERIES}.parquet", schema, history.values(), table)


def _write(
    history: History,
    path: Path,
    schema: Any,
    rows: Iterable[Any],
    table: Callable[[list[Any], Any], Any],
) -> State:
    import pyarrow.parquet

    about = {b"runjournal": orjson.dumps(history.about(), default=str)}
    schema = schema.with_metadata(about)
    document = io.BytesIO()
    with pyarrow.parquet.ParquetWriter(document, schema, compression="zstd") as writer:
        for group in batches(rows, ROWS_A_GROUP):
            writer.write_table(table(group, schema))
    return replace(path, lambda: iter([document.getvalue()]))


def _table(rows: list[Row], schema: Any) -> Any:
    import pyarrow

    columns = []
    by_name = {_utf8(name): name for row in rows for name in row}
    for field in schema:
        name = by_name.get(field.name, field.name)
        values = [row.get(name) for row in rows]
        if pyarrow.types.is_string(field.type):
            values = [_text(value) for value in values]
        elif pyarrow.types.is_floating(field.type):
            values = [None if value is None else float(value) for value in values]
        columns.append(pyarrow.array(values, field.type, from_pandas=False))
    return pyarrow.Table.from_arrays(columns, schema=schema)


def _series(run: str, values: list[Value], schema: Any) -> Any:
    import pyarrow

    times = {value.time: micros(value.time) for value in values}
    columns = [
        pyarrow.repeat(pyarrow.scalar(run), len(values)),
        pyarrow.array([_utf8(value.name) for value in values], pyarrow.string()),
        pyarrow.array([value.step for value in values], pyarrow.int64()),
        pyarrow.array([number(v.value) for v in values], pyarrow.float64(), from_pandas=False),
        pyarrow.array([text(value.value) for value in values], pyarrow.string()),
        pyarrow.array([times[value.time] for value in values], pyarrow.timestamp("us")),
    ]
    return pyarrow.Table.from_arrays(columns, schema=schema)


def _type(value: Any) -> type:
    if type(value) is int and not -(1 << 63) <= value < 1 << 63:
        return str
    return type(value)


def _column_type(kinds: set[type]) -> Any:
    import pyarrow

    kinds = kinds - {type(None)}
    if kinds == {int}:
        return pyarrow.int64()
    if kinds == {bool}:
        return pyarrow.bool_()
    if kinds and kinds <= {int, float}:
        return pyarrow.float64()
    return pyarrow.string()


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return None if value is None else _utf8(value)
    return str(value) if type(value) in (int, float) else orjson.dumps(value).decode()


def _utf8(text: str) -> str:
    """The text, with what UTF-8 cannot represent replaced."""
    return text.encode("utf-8", "backslashreplace").decode()
