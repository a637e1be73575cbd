"""Adds runs to an archive: new ones, and those that went on. `catalog` knows those in it.

Files are written first and named last (`manifest.py`), in batches: whoever is killed loses a
batch of work, never the archive. The next one goes on from the bundles that are there.
"""

import contextlib
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

import eventlog

from ..core import runs
from ..core.digest import sha256_of
from ..core.history import KINDS, Kind, Row
from ..core.runs import Refusal
from ..core.table import with_progress
from . import bundle, columns, manifest
from .bundle import Original
from .catalog import INDEX, Catalog, Entry, read_parquet
from .creation import add_readme, create, reset
from .files import elsewhere
from .manifest import Manifest, Part
from .store import Damaged, Store, Stored, open_store

PART_ROWS = 1_000_000  # 30 MB: a part that has so many is written anew no more
GROUP_ROWS = 1 << 16  # what a reader that wants one run must read: 1 MB
BATCH_S = 60.0  # a kill costs a minute of work
STALE_S = 86_400.0  # where nobody can be locked out, younger files may be somebody's work

State = Literal["new", "grown", "unchanged", "live", "failed"]


class Archiver:
    """Adds runs to one archive, which it locks where that is possible."""

    def __init__(self, catalog: Catalog, *, replace: bool = False, is_alone: bool = True) -> None:
        self.catalog, self._replace, self._is_alone = catalog, replace, is_alone
        self.left_out: dict[str, str] = {}
        """Bundles in the place that could not be taken in, and why."""
        self._batch: dict[str, _Piece] = {}
        self._batch_since = time.monotonic()
        self._known = {_signature(e): e for e in catalog.entries.values()}

    @classmethod
    @contextlib.contextmanager
    def open(cls, url: str, *, replace: bool = False, repair: bool = False) -> Iterator["Archiver"]:
        """An archiver for `url`; an archive is begun there if there is none.

        `repair`: all but the bundles is made anew from them, whatever is damaged.

        Raises:
            Refusal: somebody else is archiving there, or other files are there.
            Damaged: the archive's manifest or index is.
        """
        store = open_store(url)
        if repair and not any(map(manifest.is_bundle, store.names())):
            raise FileNotFoundError(f"{store.url}: nothing to repair: there are no bundles")
        with store.locked() as is_alone:
            contents = reset(store) if repair else manifest.load(store) or create(store)
            catalog = Catalog(store, add_readme(store, contents))
            archiver = cls(catalog, replace=replace, is_alone=is_alone)
            archiver.left_out |= catalog.bad
            archiver._sweep(0.0 if is_alone or repair else STALE_S)
            yield archiver
            archiver.commit()

    def add(self, path: Path, files: list[Path]) -> State:
        """Take in the run in `path`, of which these are all files in its folder.

        Raises:
            Refusal: it cannot be read, or is another history than what is archived of it.
            Damaged: what is archived of it is.
            OSError: a file cannot be read, or the archive not be written.
        """
        if self._is_known(files):
            return "unchanged"
        before = _stats(files)
        run = _load(path)
        if run.status == "running" and run.path is not None and runs.is_journal(run.path):
            return "live"
        row = columns.describe(run)
        old = self._known_as(row["run_id"])
        if old is not None and not self._replace and not self._continues(old, run, path, files):
            return "unchanged"
        stored, packed = self._pack(run, row["month"], [*files, *elsewhere(files)])
        if _stats(files) != before:
            self.catalog.store.remove(stored.name)
            return "live"
        self._take(run, row, stored, packed)
        return "new" if old is None else "grown"

    def _known_as(self, run_id: str) -> Entry | None:
        if run_id in self._batch:
            self.commit()
        return self.catalog.entries.get(run_id)

    def _take(
        self, run: eventlog.Run, row: Row, stored: Stored, packed: Iterable[Original]
    ) -> None:
        """The run into the batch, with its bundle as it is stored."""
        row |= {
            "bundle": stored.name,
            "bundle_bytes": stored.size_bytes,
            "bundle_sha256": stored.sha256,
            "files": [asdict(original) for original in packed],
        }
        self._batch[row["run_id"]] = _Piece(row, columns.tables_of(run))
        n_rows = sum(p.tables["iterations"].num_rows for p in self._batch.values())
        if n_rows >= PART_ROWS or time.monotonic() - self._batch_since > BATCH_S:
            self.commit()

    def _sweep(self, age_s: float) -> None:
        """Take in the bundles that the archive does not name, and remove its other leavings.

        An archiver that was killed left them; or the manifest is an older copy, or made anew:
        then these bundles are all that there is of their runs. Nothing younger than `age_s`
        is touched: somebody may be at work on it.
        """
        store, entries = self.catalog.store, self.catalog.entries.values()
        known = [f.name for f in self.catalog.manifest.files] + [e.bundle.name for e in entries]
        there = manifest.strangers(store, known)
        left = sorted(n for n, old_s in there.items() if manifest.is_ours(n) and old_s >= age_s)
        bundles = list(filter(manifest.is_bundle, left))
        for name in with_progress(bundles, "taking in"):
            try:
                self._take_in(name)
            except Exception as error:  # it may be made up to break what reads it
                why = error if isinstance(error, Refusal | OSError) else f"{error!r:.200}"
                self.left_out[name] = f"{name}: not in the archive, and left as it is: {why}"
        self.commit()
        for name in left:
            if not manifest.is_bundle(name):
                store.remove(name)

    def _take_in(self, name: str) -> None:
        """The run of a bundle that is in the place, unless the archive has all of it.

        Raises:
            Damaged: the bundle is; or the one that the archive has of this run.
            Refusal: there is no run in it, or another history than the archived one.
        """
        store = self.catalog.store
        with TemporaryDirectory(prefix="runs-archive-") as folder:
            packed = _unpack(store, name, Path(folder))
            files = [Path(folder, original.name) for original in packed]
            path = next((p for p in reversed(files) if p.suffix in runs.SUFFIXES), files[0])
            run = _load(path)
            row = columns.describe(run) | {"source": name}
            old = self._known_as(row["run_id"])
            if old is not None:
                has_more = self._continues(old, run, path, files)
                if not (has_more and _extent(packed) > _extent(old.files)):
                    store.remove(name)
                    return
            self._take(run, row, store.measure(name), packed)

    def commit(self) -> None:
        """Make what was added part of the archive; all of it, or nothing."""
        if self._batch:
            old = self.catalog.manifest
            new = self._merged()
            switched = manifest.switch(self.catalog.store, old, new)
            replaced = [e.bundle.name for i, e in self.catalog.entries.items() if i in self._batch]
            self.catalog = Catalog(self.catalog.store, switched)
            left = {file.name for file in switched.files}
            if self._is_alone:  # else somebody's manifest may name them yet; the sweep, later
                for name in [f.name for f in old.files if f.name not in left] + replaced:
                    self.catalog.store.remove(name)
            self._batch.clear()
        self._batch_since = time.monotonic()

    def _is_known(self, files: list[Path]) -> bool:
        """Whether all files are as they were archived, as far as size and time tell."""
        entry = self._known.get(_stats(files))
        if entry is None or self._replace:
            return False
        there = {f: Path(f.folder, f.name) for f in entry.files if f.folder}
        return all(
            (p.stat().st_size, p.stat().st_mtime_ns) == (f.size_bytes, f.mtime_ns)
            for f, p in there.items()
            if p.exists()
        )

    def _continues(self, old: Entry, run: eventlog.Run, path: Path, files: list[Path]) -> bool:
        """Whether the run has more than is archived of it; False: the archive has it all.

        Raises:
            Refusal: it is another history; replacing the archived one would lose it.
        """
        archived = {f.name: f for f in old.files}
        known = next((name for name in archived if name.endswith(".jsonl")), None)
        journal = runs.journal_of(path)
        became: bundle.Growth = "same"
        if known is not None:
            if not journal.exists():
                return False
            became = self._growth(old, known, journal)
        elif runs.is_journal(path):
            return True
        elif (run.summary["total_iterations"] or 0) < old.n_iterations:
            raise Refusal(
                f"{path}: has {run.summary['total_iterations']:,} iterations, {old.n_iterations:,} "
                f"are archived, which were kept; --replace archives it as it is now"
            )
        if became == "other":
            raise Refusal(
                f"{journal}: no longer begins with what was archived of it, which was kept. See: "
                f"eventlog verify {journal}; --replace archives it as it is now"
            )
        if became == "same":
            return any(_is_new(file, archived) for file in files)
        return became == "longer"

    def _growth(self, old: Entry, known: str, journal: Path) -> bundle.Growth:
        self.catalog.store.check(old.bundle)
        with self.catalog.store.read(old.bundle.name) as stream, journal.open("rb") as new:
            for packed in bundle.unpack(stream):
                if packed.name == known:
                    return bundle.growth(packed.content, new)
        raise Damaged(f"{old.bundle.name}: damaged: it has no {known}")

    def _pack(
        self, run: eventlog.Run, month: str, files: list[Path]
    ) -> tuple[Stored, list[Original]]:
        names = [path.name for path in files]
        if len(set(names)) < len(names):
            raise Refusal(f"{files[0]}: two files of one name belong to this run: {names}")
        packed: list[Original] = []
        name = (run.path or files[0]).stem
        stem = "".join(c if c.isalnum() and c.isascii() else "_" for c in name)[:80]
        stored = self.catalog.store.write(
            manifest.new_name(f"journals/month={month}", stem, ".tar.zst"),
            lambda out: packed.extend(bundle.pack(files, files[0].parent, out)),
        )
        return stored, packed

    # ---- a batch becomes files

    def _merged(self) -> Manifest:
        old, store = self.catalog.manifest, self.catalog.store
        types: dict[Kind, dict[str, str]] = {}
        parts: list[Part] = []
        for kind in KINDS:
            tables = [piece.tables[kind] for piece in self._batch.values()]
            known = {n: columns.TYPES[t] for n, t in old.types.get(kind, {}).items()}
            schema = columns.unite(kind, [t.schema.empty_table() for t in tables], known).schema
            types[kind] = {f.name: str(f.type) for f in schema}
            parts += self._merge(kind, {f.name: f.type for f in schema})
        index = pa.Table.from_pylist([p.row for p in self._batch.values()], INDEX)
        kept = self.catalog.index.filter(
            pc.invert(pc.is_in(self.catalog.index["run_id"], index["run_id"]))
        )
        index = columns.in_order(pa.concat_tables([kept, index]))
        stored = _write_parquet(store, manifest.new_name("runs", "runs", ".parquet"), index)
        return replace(old, runs=stored, types=types, parts=tuple(parts))

    def _merge(self, kind: Kind, types: dict[str, pa.DataType]) -> Iterator[Part]:
        """The parts of a kind with the batch in them; those it does not touch stay."""
        old = self.catalog.manifest
        told = old.types.get(kind, {})
        is_wider = any(str(types[name]) != kind_of for name, kind_of in told.items())
        gone = self._batch.keys() & self.catalog.entries.keys()
        touched: dict[str, list[pa.Table]] = {}
        for piece in self._batch.values():
            touched.setdefault(piece.row["month"], []).append(piece.tables[kind])
        absorbed = {part.name for m, t in touched.items() for part in _small(old.of(kind, m), t)}
        for part in old.of(kind):
            if not (part.name in absorbed or is_wider or self._has_any(part, gone)):
                yield part
                continue
            table = read_parquet(self.catalog.store, part)
            table = table.filter(pc.invert(pc.is_in(table["run_id"], pa.array(gone, pa.string()))))
            if part.name in absorbed:
                touched[part.month].append(table)
            else:
                yield from self._write_parts(kind, part.month, columns.unite(kind, [table], types))
        for month, tables in touched.items():
            whole = columns.in_order(columns.unite(kind, tables, types))
            yield from self._write_parts(kind, month, whole)

    def _has_any(self, part: Part, run_ids: Iterable[str]) -> bool:
        wanted = pa.array(run_ids, pa.string())
        if not len(wanted):
            return False
        table = read_parquet(self.catalog.store, part, ["run_id"])
        return bool(pc.any(pc.is_in(table["run_id"], wanted)).as_py())

    def _write_parts(self, kind: Kind, month: str, table: pa.Table) -> Iterator[Part]:
        for piece in _split(table):
            name = manifest.new_name(f"{kind}/month={month}", "part", ".parquet")
            stored = _write_parquet(self.catalog.store, name, piece)
            yield Part(**asdict(stored), kind=kind, month=month, n_rows=piece.num_rows)


@dataclass(frozen=True)
class _Piece:
    """A run on its way into the archive: its row in the index, and its tables."""

    row: Row
    tables: dict[Kind, pa.Table]


def _load(path: Path) -> eventlog.Run:
    """The run as its journal tells it, else its run JSON.

    Raises:
        Refusal: there is none in either; says why.
    """
    journal = runs.journal_of(path)
    error = ""
    for name in dict.fromkeys((journal, path)):
        if name.exists():
            (found,) = runs.load([name])
            if found.run is not None:
                return found.run
            error = found.error
    raise Refusal(error)


def _unpack(store: Store, name: str, folder: Path) -> list[Original]:
    """The files of a bundle, written to `folder` with their times; what they are.

    Raises:
        Damaged: it is no bundle, or not whole.
    """
    originals = []
    with store.read(name) as stream:
        for packed in bundle.unpack(stream):
            path = folder / packed.name
            bundle.need_room(packed, folder)
            with path.open("xb") as file:
                shutil.copyfileobj(packed.content, file)
            os.utime(path, ns=(packed.mtime_ns, packed.mtime_ns))
            size_bytes, sha256 = path.stat().st_size, sha256_of(path)
            originals.append(Original(packed.name, size_bytes, packed.mtime_ns, sha256, ""))
    if not originals:
        raise Damaged(f"{name}: there is nothing in it")
    return originals


def _extent(files: Iterable[Original]) -> tuple[int, int]:
    """How much of a run there is in its files: bytes of the journal; then, who wrote last."""
    journals = [f.size_bytes for f in files if f.name.endswith(".jsonl")]
    return sum(journals), max(f.mtime_ns for f in files)


def _small(parts: Iterable[Part], tables: Iterable[pa.Table]) -> Iterator[Part]:
    """The parts of a month that are written anew with these rows, so that they do not pile up.

    Those at most twice as large as what is written anyway: of n rows each is then written
    at most log2(n) times, and a month has at most log2(n) parts that are not full.
    """
    n_rows = sum(table.num_rows for table in tables)
    for part in sorted(parts, key=lambda part: part.n_rows):
        if part.n_rows < PART_ROWS and part.n_rows <= 2 * n_rows:
            n_rows += part.n_rows
            yield part


def _split(table: pa.Table) -> Iterator[pa.Table]:
    """Pieces of about PART_ROWS rows, none within a run."""
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


def _write_parquet(store: Store, name: str, table: pa.Table) -> Stored:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", compression_level=9, row_group_size=GROUP_ROWS)
    data = sink.getvalue()
    return store.write(name, lambda file: file.write(data))


_Signature = frozenset[tuple[str, int, int]]


def _signature(entry: Entry) -> _Signature:
    return frozenset((f.name, f.size_bytes, f.mtime_ns) for f in entry.files if not f.folder)


def _stats(files: Iterable[Path]) -> _Signature:
    told = ((path.name, path.stat()) for path in files)
    return frozenset((name, stat.st_size, stat.st_mtime_ns) for name, stat in told)


def _is_new(path: Path, archived: dict[str, Original]) -> bool:
    known = archived.get(path.name)
    if known is None or known.size_bytes != path.stat().st_size:
        return True
    return known.sha256 != sha256_of(path)
