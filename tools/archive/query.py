"""`runs query`: SQL over runs, those in folders and those in archives, through DuckDB.

    runs query "select run, best_val_loss from runs order by 2 limit 5" out
    runs query "select run, avg(loss) from iterations where iter >= 900 group by run" /backup/runs

Tables: `runs` (a row a run: figures; `config`, `metadata` and `journal` as JSON),
`iterations`, `evals`, `checkpoints`; `run_id` joins them. `describe iterations` names the
columns. One SELECT, read-only: it sees these tables, no other file and no network.
"""

import argparse
import csv
import json
import math
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import islice
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple

from rich import box
from rich.table import Table

from ..core import runs
from ..core.history import KINDS, Kind
from ..core.library import need
from ..core.runs import Refusal
from ..core.table import csv_text, one_line, print_rich
from ..core.text import print, printable_json
from . import manifest
from .manifest import Manifest
from .store import Bucket, Folder, Store, open_store

if TYPE_CHECKING:
    import duckdb

MEMORY = "800MB"  # what DuckDB may take for its work: the command stays below 1 GB
TABLES = ("runs", *KINDS)
FETCH_ROWS = 10_000
TABLE_ROWS = 10_000  # a table is laid out as a whole: 10 KB a row


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    command = commands.add_parser(
        "query",
        help="Ask runs and archives in SQL.",
        description=(__doc__ or "").partition(": ")[2],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("sql", metavar="SQL", help="one SELECT")
    command.add_argument(
        "paths", nargs="*", default=[runs.FOLDER], metavar="RUN|ARCHIVE", help="default: out"
    )
    form = command.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="one JSON object a line")
    form.add_argument("--csv", action="store_true", help="CSV with a line of names")
    command.set_defaults(run=_query)


def _query(arguments: argparse.Namespace) -> int:
    with answer(arguments.sql, arguments.paths) as told:
        for why in told.left_out:
            print(why, file=sys.stderr)
        if arguments.json:
            _print_json(told.names, told.rows)
        elif arguments.csv:
            _print_csv(told.names, told.rows)
        else:
            rows = list(islice(told.rows, TABLE_ROWS))
            _print_table(told.names, rows)
            if next(told.rows, None) is not None:
                words = f"the first {TABLE_ROWS:,} rows; --csv and --json print all"
                print(words, file=sys.stderr)
        return 1 if told.left_out else 0


class Answer(NamedTuple):
    """What a SELECT gives: its columns' names, and its rows as they are asked for."""

    names: list[str]
    rows: Iterator[tuple[Any, ...]]
    left_out: list[str]
    """Why a file in a folder is in no table: it cannot be read."""


@contextmanager
def answer(sql: str, names: Iterable[str]) -> Iterator[Answer]:
    """The answer to `sql` over the runs and archives in `names`.

    A run that is in a folder and in an archive, or in two archives, counts once: as it is in
    the folder, else in the archive that is named first.

    Raises:
        Refusal: it is no SELECT, or DuckDB says that it cannot be answered, in one line.
        FileNotFoundError: a name means nothing.
    """
    need("duckdb")
    import duckdb

    sources: list[_Source] = []
    try:
        with duckdb.connect() as base, TemporaryDirectory(prefix="runs-query-") as spill:
            _only_select(base, sql)
            sources += _sources(base, list(names), sql)
            _fill(base, sources)
            _shut(base, [path for source in sources for path in source.paths], spill)
            cursor = base.execute(sql)
            told = [(name, str(kind)) for name, kind, *_ in cursor.description or ()]
            if any("TIME ZONE" in kind for _, kind in told):
                cursor = base.execute(_without_zones(sql, [kind for _, kind in told]))
            left_out = [why for source in sources for why in source.left_out]
            yield Answer(_unique([name for name, _ in told]), _fetch(cursor), left_out)
    except duckdb.Error as error:
        for source in sources:
            source.refuse_if_replaced()
        raise Refusal(_words(error)) from None


def _only_select(base: "duckdb.DuckDBPyConnection", sql: str) -> None:
    import duckdb

    if sql != sql.encode(errors="replace").decode():
        raise Refusal(f"runs query: not UTF-8: {sql[:80]!r}")
    kinds = [statement.type for statement in base.extract_statements(sql)]
    if kinds != [duckdb.StatementType.SELECT]:
        raise Refusal(f"runs query: not one SELECT, and it only reads: {sql[:80]!r}")


def _shut(base: "duckdb.DuckDBPyConnection", paths: list[str], spill: str) -> None:
    """From here on the database reads these files, and nothing else can be read or set."""
    base.execute(f"set memory_limit = '{MEMORY}'")
    base.execute(f"set temp_directory = {_quote(spill)}")
    base.execute(f"set allowed_paths = [{', '.join(map(_quote, paths))}]")
    for setting in (
        "autoinstall_known_extensions", "autoload_known_extensions", "enable_external_access",
    ):  # fmt: skip
        base.execute(f"set {setting} = false")
    base.execute("set python_enable_replacements = false")
    base.execute("set TimeZone = 'UTC'")
    base.execute("set lock_configuration = true")


def _without_zones(sql: str, kinds: list[str]) -> str:
    """Times with a zone as text: Python gets them only with a library of their own (pytz)."""
    names = [f"c{at}" for at in range(len(kinds))]
    texts = (
        f"{name}::varchar" if "TIME ZONE" in kind else name
        for name, kind in zip(names, kinds, strict=True)
    )
    return f"select {', '.join(texts)} from ({sql.strip().rstrip(';')}\n) t({', '.join(names)})"


def _fetch(cursor: "duckdb.DuckDBPyConnection") -> Iterator[tuple[Any, ...]]:
    while rows := cursor.fetchmany(FETCH_ROWS):
        yield from rows


def _words(error: Exception) -> str:
    """DuckDB's complaint in one line, with what it may not know."""
    told = " ".join(str(error).partition("\n\nLINE")[0].split())
    if "Table with name" in told:
        told += f" There are: {', '.join(TABLES)}"
    if "operations are disabled by configuration" in told:
        told += f". A query sees {', '.join(TABLES)}, no other file and no network"
    return f"runs query: {told}"


# ---- the tables


@dataclass
class _Source:
    """Where rows come from: for each table a SELECT."""

    selects: dict[str, str]
    paths: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    archive: tuple[Store, Manifest] | None = None

    def refuse_if_replaced(self) -> None:
        """Raises Refusal if the archive is another by now: its files may have gone."""
        if self.archive is not None:
            store, told = self.archive
            if manifest.load(store) != told:
                raise Refusal(f"{store.url}: somebody archived there meanwhile; ask again")


def _sources(
    base: "duckdb.DuckDBPyConnection", names: Sequence[str], sql: str
) -> Iterator[_Source]:
    """Folders first, all as one, then each archive: of a run the first that has it counts."""
    local = [name for name in names if not _is_archive(name)]
    if local:
        yield _local(base, local, sql)
    for name in names:
        if name not in local:
            store = open_store(name)
            if isinstance(store, Bucket):
                base.register_filesystem(store.fs)
            yield _archived(store, manifest.need(store))


def _fill(base: "duckdb.DuckDBPyConnection", sources: Sequence[_Source]) -> None:
    """Make the tables, as views of their sources."""
    for table in TABLES:
        selects = []
        for at, source in enumerate(sources):
            before = [f"select run_id from ({s.selects['runs']})" for s in sources[:at]]
            but = f" where run_id not in ({' union all '.join(before)})" if before else ""
            selects.append(f"select * from ({source.selects[table]}){but}")
        base.execute(f"create view {table} as {' union all by name '.join(selects)}")


def _is_archive(name: str) -> bool:
    store = open_store(name)
    return not isinstance(store, Folder) or (store.path / manifest.NAME).is_file()


def _archived(store: Store, told: Manifest) -> _Source:
    """The tables of an archive: exactly the files its manifest names."""
    selects = {"runs": _empty("runs")}
    if told.runs is not None:
        selects["runs"] = f"select * exclude (files) from {_read([store.address(told.runs.name)])}"
    for kind in KINDS:
        months: dict[str, list[str]] = {}
        for part in told.of(kind):
            months.setdefault(part.month, []).append(store.address(part.name))
        of_months = [
            f"select *, {_quote(month)} as month from {_read(paths)}"
            for month, paths in sorted(months.items())
        ]
        selects[kind] = " union all by name ".join(of_months) or _empty(kind)
    paths = [store.address(file.name) for file in told.files if file != told.readme]
    return _Source(selects, paths, archive=(store, told))


def _read(paths: list[str]) -> str:
    """The rows of Parquet files; `key=value` in the folders above the archive is no column."""
    listed = f"[{', '.join(map(_quote, paths))}]"
    return f"read_parquet({listed}, union_by_name = true, hive_partitioning = false)"


def _empty(table: str) -> str:
    """No rows, but the columns that there always are."""
    from . import columns

    fixed = {kind: columns.OWN | columns.FIXED[kind] for kind in KINDS}
    kinds = {columns.FLOAT: "double", columns.INT: "bigint", columns.TEXT: "varchar"}
    types = columns.RUNS if table == "runs" else fixed[table] | {"month": columns.TEXT}  # type: ignore[index]
    listed = ", ".join(f"null::{kinds[kind]} as {name}" for name, kind in types.items())
    return f"select {listed} where false"


def _local(base: "duckdb.DuckDBPyConnection", names: list[str], sql: str) -> _Source:
    """The tables of runs in folders; only those that the query names are filled."""
    need("pyarrow")
    import pyarrow

    from . import columns

    named = [kind for kind in KINDS if re.search(rf"\b{kind}\b", sql, re.IGNORECASE)]
    rows, left_out = [], []
    tables: dict[Kind, list[pyarrow.Table]] = {kind: [] for kind in KINDS}
    for found in runs.load(names) if named else runs.glance(names):
        if found.run is None:
            left_out.append(found.error)
            continue
        rows.append(columns.describe(found.run))
        for kind in named:
            table = columns.tables_of(found.run, [kind])[kind]
            month = pyarrow.repeat(pyarrow.scalar(rows[-1]["month"]), table.num_rows)
            tables[kind].append(table.append_column("month", month))
    base.register("local_runs", pyarrow.Table.from_pylist(rows, pyarrow.schema(columns.RUNS)))
    for kind in KINDS:
        known = {"month": columns.TEXT}
        base.register(f"local_{kind}", columns.unite(kind, tables[kind], known))
    return _Source({table: f"select * from local_{table}" for table in TABLES}, [], left_out)


def _quote(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


# ---- the answer


def _unique(names: Sequence[str]) -> list[str]:
    """Column names that differ: `a`, `a_2`."""
    seen: dict[str, None] = {}
    for name in names:
        number, candidate = 1, name
        while candidate in seen:
            number += 1
            candidate = f"{name}_{number}"
        seen[candidate] = None
    return list(seen)


def _print_json(names: list[str], rows: Iterable[tuple[Any, ...]]) -> None:
    """Strict JSON; a number that is not finite is null, and named as in a journal."""
    for values in rows:
        row = {name: _plain(value) for name, value in zip(names, values, strict=True)}
        odd = {k: str(v) for k, v in row.items() if isinstance(v, float) and not math.isfinite(v)}
        if odd:
            row |= dict.fromkeys(odd) | {"nonfinite": odd}
        print(printable_json(json.dumps(row, ensure_ascii=False, default=str)))


def _print_csv(names: list[str], rows: Iterable[tuple[Any, ...]]) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(map(csv_text, names))
    for values in rows:
        writer.writerow([_csv_cell(_plain(value)) for value in values])


def _print_table(names: list[str], rows: list[tuple[Any, ...]]) -> None:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for at, name in enumerate(names):
        numeric = all(isinstance(row[at], int | float | Decimal | None) for row in rows)
        table.add_column(one_line(name), justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(_cell(_plain(value)) for value in row))
    print_rich(table)


def _plain(value: Any) -> Any:
    """What JSON has a word for; a whole decimal is an integer, however large."""
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, dict):
        return {str(k): _within(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_within(v) for v in value]
    return value if isinstance(value, int | float | str | None) else str(value)


def _within(value: Any) -> Any:
    """As `_plain`, in a list or an object: there what is not finite is its name."""
    value = _plain(value)
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _csv_cell(value: Any) -> Any:
    if isinstance(value, str):
        return csv_text(value)
    return json.dumps(value) if isinstance(value, dict | list) else value


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.10g}"
    return one_line(str(_csv_cell(value)))
