"""Parquet: iterations.parquet, evals.parquet, checkpoints.parquet in a folder of the run's name.

Integers are int64, other numbers float64, NaN stays NaN and missing values are null. The
configuration and metadata are in each file's key-value metadata, and in run.json. A file is
replaced as a whole or not at all.
"""

import io
from pathlib import Path
from typing import Any

import orjson

from ...core.history import KINDS, History, Kind, Row
from ...core.library import need
from .files import replace, run_folder
from .outcome import Outcome, State, worst

ROWS_A_GROUP = 100_000


def export(history: History, out: Path) -> Outcome:
    folder = run_folder(history, out)
    state = worst(*(_write(history, kind, folder / f"{kind}.parquet") for kind in KINDS))
    return Outcome(str(folder), state, history.n_rows if state != "unchanged" else 0)


def _write(history: History, kind: Kind, path: Path) -> State:
    need("pyarrow")
    import pyarrow
    import pyarrow.parquet

    types: dict[str, set[type]] = {"iter": {int}}
    for row in history.rows(kind):
        for key, value in row.items():
            types.setdefault(key, set()).add(_type(value))
    about = {b"runjournal": orjson.dumps(history.about(), default=str)}
    schema = pyarrow.schema(
        [(key, _column_type(kinds)) for key, kinds in types.items()], metadata=about
    )

    document = io.BytesIO()
    with pyarrow.parquet.ParquetWriter(document, schema, compression="zstd") as writer:
        group: list[Row] = []
        for row in history.rows(kind):
            group.append(row)
            if len(group) == ROWS_A_GROUP:
                writer.write_table(_table(group, schema))
                group.clear()
        writer.write_table(_table(group, schema))
    return replace(path, lambda: iter([document.getvalue()]))


def _table(rows: list[Row], schema: Any) -> Any:
    import pyarrow

    columns = []
    for field in schema:
        values = [row.get(field.name) for row in rows]
        if pyarrow.types.is_string(field.type):
            values = [_text(value) for value in values]
        elif pyarrow.types.is_floating(field.type):
            values = [None if value is None else float(value) for value in values]
        columns.append(pyarrow.array(values, field.type, from_pandas=False))
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
    return value if value is None or isinstance(value, str) else orjson.dumps(value).decode()
