"""The tables of `runs query`: views over folders of runs and over archives."""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ..core import runs, seeds, values_file
from ..core.history import SERIES, STORED, History
from ..core.library import need
from ..core.rows import Row
from ..core.runs import Refusal
from . import manifest
from .manifest import Manifest
from .store import Bucket, Folder, Store, open_store

if TYPE_CHECKING:
    import duckdb

TABLES = ("runs", *STORED)
GROUPS = "groups"
"""A table made for the query: run_id, settings (`lr=0.1`), seed."""


@dataclass
class Source:
    """A folder or an archive: a SELECT for each table."""

    selects: dict[str, str]
    paths: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    archive: tuple[Store, Manifest] | None = None

    def refuse_if_replaced(self) -> None:
        """Raise Refusal if the archive has changed meanwhile: its files may have been removed."""
        if self.archive is not None:
            store, contents = self.archive
            if manifest.load(store) != contents:
                raise Refusal(
                    f"{store.url}: another process archived there meanwhile; run the query again"
                )


def sources_of(
    base: "duckdb.DuckDBPyConnection", names: Sequence[str], sql: str, spill: Path
) -> Iterator[Source]:
    """All folders as one, then each archive; the first source that has a run counts.

    `spill`: a folder for values that cannot be kept in the cache folder.
    """
    local = [name for name in names if not _is_archive(name)]
    if local:
        yield _local(base, local, sql, spill)
    for name in names:
        if name not in local:
            store = open_store(name)
            if isinstance(store, Bucket):
                base.register_filesystem(store.fs)
            yield _archived(store, manifest.need(store))


def create_views(
    base: "duckdb.DuckDBPyConnection", sources: Sequence[Source], sql: str = ""
) -> None:
    """Create the tables as views of all sources."""
    for table in TABLES:
        selects = []
        for at, source in enumerate(sources):
            before = [f"select run_id from ({s.selects['runs']})" for s in sources[:at]]
            but = f" where run_id not in ({' union all '.join(before)})" if before else ""
            selects.append(f"select * from ({source.selects[table]}){but}")
        base.execute(f"create view {table} as {' union all by name '.join(selects)}")
    if re.search(rf"\b{GROUPS}\b", sql, re.IGNORECASE):
        _register_groups(base)


def _register_groups(base: "duckdb.DuckDBPyConnection") -> None:
    """The table that says which runs differ in their seeds alone."""
    import pyarrow

    rows = base.execute("select run_id, config from runs order by start_time, run_id").fetchall()
    configs: list[Row] = []
    for run_id, config in rows:
        configs.append({"run_id": run_id, "config": json.loads(config or "{}"), "metadata": {}})
    groups = [
        {
            "run_id": row["run_id"],
            "settings": group.name,
            "seed": None if (seed := seeds.seed_of(row)) is None else str(seed),
        }
        for group in seeds.groups(configs)
        for row in group.rows
    ]
    text = pyarrow.string()
    schema = pyarrow.schema({"run_id": text, "settings": text, "seed": text})
    base.register(GROUPS, pyarrow.Table.from_pylist(groups, schema))


def _is_archive(name: str) -> bool:
    store = open_store(name)
    return not isinstance(store, Folder) or (store.path / manifest.NAME).is_file()


def _archived(store: Store, contents: Manifest) -> Source:
    """The tables of an archive: exactly the files that its manifest names."""
    selects = {"runs": _empty("runs")}
    if contents.runs is not None:
        selects["runs"] = (
            f"select * exclude (files) from {_read([store.address(contents.runs.name)])}"
        )
    for kind in STORED:
        months: dict[str, list[str]] = {}
        for part in contents.of(kind):
            months.setdefault(part.month, []).append(store.address(part.name))
        of_months = [
            f"select *, {quote(month)} as month from {_read(paths)}"
            for month, paths in sorted(months.items())
        ]
        selects[kind] = " union all by name ".join(of_months) or _empty(kind)
    paths = [store.address(file.name) for file in contents.files if file != contents.readme]
    return Source(selects, paths, archive=(store, contents))


def _read(paths: list[str]) -> str:
    """The rows of Parquet files, without columns for folders called `key=value`."""
    listed = f"[{', '.join(map(quote, paths))}]"
    return f"read_parquet({listed}, union_by_name = true, hive_partitioning = false)"


def _empty(table: str) -> str:
    """No rows, but the columns that a table always has."""
    from . import columns

    fixed = {kind: columns.OWN | columns.FIXED[kind] for kind in STORED}
    kinds = {
        columns.FLOAT: "double", columns.INT: "bigint", columns.TEXT: "varchar",
        columns.TIME: "timestamp",
    }  # fmt: skip
    types = columns.RUNS if table == "runs" else fixed[table] | {"month": columns.TEXT}
    listed = ", ".join(f"null::{kinds[kind]} as {name}" for name, kind in types.items())
    return f"select {listed} where false"


def _local(base: "duckdb.DuckDBPyConnection", names: list[str], sql: str, spill: Path) -> Source:
    """The tables of runs in folders; only those that the query names have rows."""
    need("pyarrow")
    import pyarrow

    from . import columns

    named = [kind for kind in STORED if re.search(rf"\b{kind}\b", sql, re.IGNORECASE)]
    rows, left_out, files = [], [], []
    tables: dict[str, list[pyarrow.Table]] = {kind: [] for kind in STORED}
    for path in runs.find(names):
        state = values_file.state_of(path) if SERIES in named else None
        file = values_file.of_run(path, state)
        to_read = [kind for kind in named if kind != SERIES or file is None]
        found = runs.load_at(path) if to_read else runs.glance_at(path)
        if found.run is None:
            left_out.append(found.error)
            continue
        rows.append(columns.describe(found.run))
        loaded, month = History(found.run), rows[-1]["month"]
        for kind in to_read:
            if kind == SERIES:
                state = state if found.path == path else None
                parts = partial(columns.values_of, loaded, month)
                file = values_file.write(path, state, parts, spill)
                continue
            table = columns.tables_of(loaded, [kind])[kind]
            months = pyarrow.repeat(pyarrow.scalar(month), table.num_rows)
            tables[kind].append(table.append_column("month", months))
        files += [] if file is None else [str(file)]
    base.register("local_runs", pyarrow.Table.from_pylist(rows, pyarrow.schema(columns.RUNS)))
    for kind in STORED:
        known = {"month": columns.TEXT}
        base.register(f"local_{kind}", columns.unite(kind, tables[kind], known))
    selects = {table: f"select * from local_{table}" for table in TABLES}
    if files:
        selects[SERIES] = f"select * from {_read(files)}"
    return Source(selects, files, left_out)


def quote(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
