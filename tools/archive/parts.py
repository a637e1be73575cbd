"""The Parquet files of an archive: rewritten with the rows of new runs in them."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ..core.history import STORED, Row
from . import columns, manifest
from .catalog import INDEX, Catalog, read_parquet
from .manifest import Manifest, Part
from .store import Store, Stored

PART_ROWS = 1_000_000  # 30 MB: a part with this many rows is not rewritten any more
GROUP_ROWS = 1 << 16  # a reader of one run must read at least one group: 1 MB


@dataclass(frozen=True)
class Piece:
    """A run to be added: its row in the index, and its tables."""

    row: Row
    tables: dict[str, pa.Table]


def merged(catalog: Catalog, batch: Sequence[Piece]) -> Manifest:
    """Write the Parquet files of the archive with `batch` added; returns the new manifest."""
    old, store = catalog.manifest, catalog.store
    types: dict[str, dict[str, str]] = {}
    parts: list[Part] = []
    for kind in STORED:
        tables = [piece.tables[kind] for piece in batch]
        known = {n: columns.TYPES[t] for n, t in old.types.get(kind, {}).items()}
        schema = columns.unite(kind, [t.schema.empty_table() for t in tables], known).schema
        types[kind] = {f.name: str(f.type) for f in schema}
        parts += _merge(catalog, batch, kind, {f.name: f.type for f in schema})
    index = pa.Table.from_pylist([p.row for p in batch], INDEX)
    others = catalog.index.filter(pc.invert(pc.is_in(catalog.index["run_id"], index["run_id"])))
    index = columns.in_order(pa.concat_tables([others, index]))
    stored = write_parquet(store, manifest.new_name("runs", "runs", ".parquet"), index)
    return replace(old, runs=stored, types=types, parts=tuple(parts))


def _merge(
    catalog: Catalog, batch: Sequence[Piece], kind: str, types: dict[str, pa.DataType]
) -> Iterator[Part]:
    """The parts of a kind with the batch in them; parts without a change stay."""
    old, store = catalog.manifest, catalog.store
    known = old.types.get(kind, {})
    is_wider = any(str(types[name]) != kind_of for name, kind_of in known.items())
    replaced = {piece.row["run_id"] for piece in batch} & catalog.entries.keys()
    touched: dict[str, list[pa.Table]] = {}
    for piece in batch:
        touched.setdefault(piece.row["month"], []).append(piece.tables[kind])
    rewritten = {part.name for m, t in touched.items() for part in _small(old.of(kind, m), t)}
    for part in old.of(kind):
        if not (part.name in rewritten or is_wider or _has_any(store, part, replaced)):
            yield part
            continue
        table = read_parquet(store, part)
        table = table.filter(pc.invert(pc.is_in(table["run_id"], pa.array(replaced, pa.string()))))
        if part.name in rewritten:
            touched[part.month].append(table)
        else:
            yield from _write_parts(store, kind, part.month, columns.unite(kind, [table], types))
    for month, tables in touched.items():
        table = columns.in_order(columns.unite(kind, tables, types))
        yield from _write_parts(store, kind, month, table)


def _has_any(store: Store, part: Part, run_ids: Iterable[str]) -> bool:
    ids = pa.array(run_ids, pa.string())
    if not len(ids):
        return False
    table = read_parquet(store, part, ["run_id"])
    return bool(pc.any(pc.is_in(table["run_id"], ids)).as_py())


def _write_parts(store: Store, kind: str, month: str, table: pa.Table) -> Iterator[Part]:
    for piece in _split(table):
        name = manifest.new_name(f"{kind}/month={month}", "part", ".parquet")
        stored = write_parquet(store, name, piece)
        yield Part(**asdict(stored), kind=kind, month=month, n_rows=piece.num_rows)


def _small(parts: Iterable[Part], tables: Iterable[pa.Table]) -> Iterator[Part]:
    """The parts of a month to rewrite together with these rows, so that small ones do not pile up.

    Those at most twice as large as what is written anyway: each of n rows is then written at most
    log2(n) times, and a month has at most log2(n) parts that are not full.
    """
    n_rows = sum(table.num_rows for table in tables)
    for part in sorted(parts, key=lambda part: part.n_rows):
        if part.n_rows < PART_ROWS and part.n_rows <= 2 * n_rows:
            n_rows += part.n_rows
            yield part


def _split(table: pa.Table) -> Iterator[pa.Table]:
    """Pieces of about PART_ROWS rows; a run is never split."""
    if not table.num_rows:
        return
    if table.num_rows < 2 * PART_ROWS:
        yield table
        return
    ids = table["run_id"].combine_chunks()
    changes = pc.indices_nonzero(pc.not_equal(ids[1:], ids[:-1])).to_pylist()
    begin = 0
    for end in (at + 1 for at in changes):
        if end - begin >= PART_ROWS:
            yield table.slice(begin, end - begin)
            begin = end
    yield table.slice(begin)


def write_parquet(store: Store, name: str, table: pa.Table) -> Stored:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", compression_level=9, row_group_size=GROUP_ROWS)
    data = sink.getvalue()
    return store.write(name, lambda file: file.write(data))
