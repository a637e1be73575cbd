"""`runs query`: SQL over runs in folders and archives, with DuckDB.

    runs query "select run, best_val_loss from runs order by 2 limit 5" out
    runs query "select run, avg(loss) from iterations where iter >= 900 group by run" /backup/runs
    runs query "select run, max(value) from series where name = 'val/acc' group by run" out

Tables: `runs` (one row per run: its summary; `config`, `metadata` and `journal` as JSON),
`iterations`, `evals`, `checkpoints`, `metrics`, `system`, and `series`, which has every value of
them in a row of its own: run, run_id, step, name (as it was logged), value, text, time (UTC).
`run_id` joins them; `describe iterations` lists the columns. `metrics` has at most 1,000 columns
for metrics; those of more names are in `series` alone. `groups` (run_id, settings, seed) says which
runs differ in their seeds alone:

    runs query "select settings, step, avg(value), stddev_samp(value), count(*)
        from series join groups using (run_id) where name = 'val/acc' group by all order by all"

One SELECT, read-only: it has access to these tables, to no other file and no network.
"""

import argparse
import csv
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple

from ..core import runs
from ..core.library import need
from ..core.options import add_format
from ..core.runs import Refusal
from ..core.series import exact
from ..core.table import csv_text, one_line, print, print_table, printable_json
from .tables import GROUPS, TABLES, Source, create_views, quote, sources_of

if TYPE_CHECKING:
    import duckdb

MEMORY = "800MB"  # memory limit of DuckDB: the command stays below 1 GB
FETCH_ROWS = 10_000
TABLE_ROWS = 10_000  # a table is laid out as a whole: 10 KB per row


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    command = commands.add_parser(
        "query",
        help="Query runs and archives in SQL.",
        description=(__doc__ or "").partition(": ")[2],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("sql", metavar="SQL", help="one SELECT")
    command.add_argument(
        "paths", nargs="*", default=[runs.FOLDER], metavar="RUN|ARCHIVE", help="default: out"
    )
    add_format(command)
    command.set_defaults(run=_query)


def _query(arguments: argparse.Namespace) -> int:
    with answer(arguments.sql, arguments.paths) as result:
        for why in result.left_out:
            print(why, file=sys.stderr)
        if arguments.format == "json":
            _print_json(result.names, result.rows)
        elif arguments.format == "csv":
            _print_csv(result.names, result.rows)
        else:
            rows = list(islice(result.rows, TABLE_ROWS))
            _print_table(result.names, rows, markdown=arguments.format == "markdown")
            if next(result.rows, None) is not None:
                note = f"the first {TABLE_ROWS:,} rows; --csv and --json print all"
                print(note, file=sys.stderr)
        return 1 if result.left_out else 0


class Answer(NamedTuple):
    """The result of a SELECT: names of columns, and rows as they are fetched."""

    names: list[str]
    rows: Iterator[tuple[Any, ...]]
    left_out: list[str]
    """Files in folders that could not be read, and why."""


@contextmanager
def answer(sql: str, names: Iterable[str]) -> Iterator[Answer]:
    """The result of `sql` over the runs and archives in `names`.

    A run that is in several of them counts once: as it is in a folder, else in the archive that
    is named first.

    Raises:
        Refusal: it is not one SELECT, or DuckDB cannot execute it.
        FileNotFoundError: a name matches nothing.
    """
    need("duckdb")
    import duckdb

    sources: list[Source] = []
    try:
        with duckdb.connect() as base, TemporaryDirectory(prefix="runs-query-") as spill:
            _only_select(base, sql)
            sources += sources_of(base, list(names), sql, Path(spill))
            create_views(base, sources, sql)
            _restrict(base, [path for source in sources for path in source.paths], spill)
            cursor = base.execute(sql)
            described = [(name, str(kind)) for name, kind, *_ in cursor.description or ()]
            if any("TIME ZONE" in kind for _, kind in described):
                cursor = base.execute(_without_zones(sql, [kind for _, kind in described]))
            left_out = [why for source in sources for why in source.left_out]
            yield Answer(_unique([name for name, _ in described]), _fetch(cursor), left_out)
    except duckdb.Error as error:
        for source in sources:
            source.refuse_if_replaced()
        raise Refusal(_message(error)) from None


def _only_select(base: "duckdb.DuckDBPyConnection", sql: str) -> None:
    import duckdb

    if sql != sql.encode(errors="replace").decode():
        raise Refusal(f"runs query: must be UTF-8, got {sql[:80]!r}")
    kinds = [statement.type for statement in base.extract_statements(sql)]
    if kinds != [duckdb.StatementType.SELECT]:
        raise Refusal(f"runs query: must be one SELECT, got {sql[:80]!r}")


def _restrict(base: "duckdb.DuckDBPyConnection", paths: list[str], spill: str) -> None:
    """Let the database read these files only, and lock its settings."""
    base.execute(f"set memory_limit = '{MEMORY}'")
    base.execute(f"set temp_directory = {quote(spill)}")
    base.execute(f"set allowed_paths = [{', '.join(map(quote, paths))}]")
    for setting in (
        "autoinstall_known_extensions", "autoload_known_extensions", "enable_external_access",
    ):  # fmt: skip
        base.execute(f"set {setting} = false")
    base.execute("set python_enable_replacements = false")
    base.execute("set enable_progress_bar = false")  # it is printed into the answer
    base.execute("set TimeZone = 'UTC'")
    base.execute("set lock_configuration = true")


def _without_zones(sql: str, kinds: list[str]) -> str:
    """The query with time zone columns as text: for Python values DuckDB needs pytz."""
    names = [f"c{at}" for at in range(len(kinds))]
    texts = (
        f"{name}::varchar" if "TIME ZONE" in kind else name
        for name, kind in zip(names, kinds, strict=True)
    )
    return f"select {', '.join(texts)} from ({sql.strip().rstrip(';')}\n) t({', '.join(names)})"


def _fetch(cursor: "duckdb.DuckDBPyConnection") -> Iterator[tuple[Any, ...]]:
    while rows := cursor.fetchmany(FETCH_ROWS):
        yield from rows


def _message(error: Exception) -> str:
    """DuckDB's message in one line, with the names of tables if it is about those."""
    message = " ".join(str(error).partition("\n\nLINE")[0].split())
    if "Table with name" in message:
        message += f" There are: {', '.join([*TABLES, GROUPS])}"
    if "operations are disabled by configuration" in message:
        message += f". A query sees {', '.join(TABLES)}, no other file and no network"
    return f"runs query: {message}"


# ---- the answer


def _unique(names: Sequence[str]) -> list[str]:
    """Unique names of columns: `a`, `a_2`."""
    seen: dict[str, None] = {}
    for name in names:
        number, candidate = 1, name
        while candidate in seen:
            number += 1
            candidate = f"{name}_{number}"
        seen[candidate] = None
    return list(seen)


def _print_json(names: list[str], rows: Iterable[tuple[Any, ...]]) -> None:
    """Strict JSON; a number that is not finite is null, with its name in `nonfinite`."""
    for values in rows:
        row = {name: _plain(value) for name, value in zip(names, values, strict=True)}
        nonfinite = {k: str(v) for k, v in row.items() if exact(v) is not v}
        if nonfinite:
            row |= dict.fromkeys(nonfinite) | {"nonfinite": nonfinite}
        print(printable_json(json.dumps(row, ensure_ascii=False, default=str)))


def _print_csv(names: list[str], rows: Iterable[tuple[Any, ...]]) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(map(csv_text, names))
    for values in rows:
        writer.writerow([_csv_cell(_plain(value)) for value in values])


def _print_table(names: list[str], rows: list[tuple[Any, ...]], *, markdown: bool) -> None:
    columns = {str(at): name for at, name in enumerate(names)}
    numeric = [
        key
        for at, key in enumerate(columns)
        if all(isinstance(row[at], int | float | Decimal | None) for row in rows)
    ]
    cells = [dict(zip(columns, (_cell(_plain(v)) for v in row), strict=True)) for row in rows]
    print_table(cells, columns, numeric=numeric, markdown=markdown)


def _plain(value: Any) -> Any:
    """A value that JSON can represent; a whole decimal becomes an integer of any size."""
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, dict):
        return {str(k): _within(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_within(v) for v in value]
    return value if isinstance(value, int | float | str | None) else str(value)


def _within(value: Any) -> Any:
    """As `_plain`, within a list or an object: non-finite numbers become their name."""
    return exact(_plain(value))


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
