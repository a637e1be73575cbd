"""Adds runs to an archive: new runs, and archived ones that have grown.

Files are written first, and the manifest that names them last, in batches: a kill loses a batch of
work, never the archive. The next archiver continues from the bundles that exist.
"""

import contextlib
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import eventlog

from ..core import runs
from ..core.history import SERIES, History, Row
from ..core.runs import Refusal
from ..core.table import with_progress
from . import bundle, columns, manifest, parts
from .bundle import Original
from .catalog import N_VALUES, Catalog, Entry
from .comparison import Comparison, carry_over, compare, write
from .creation import add_readme, create, reset
from .files import elsewhere
from .parts import Piece
from .store import Damaged, Store, Stored, open_store

BATCH_S = 60.0  # a kill costs a minute of work
STALE_S = 86_400.0  # where there is no lock, younger files may belong to a running archiver

State = Literal["new", "grown", "unchanged", "live", "failed"]


class Archiver:
    """Adds runs to one archive, which it locks where that is possible."""

    def __init__(self, catalog: Catalog, *, replace: bool = False, is_alone: bool = True) -> None:
        self.catalog, self._replace, self._is_alone = catalog, replace, is_alone
        self.left_out: dict[str, str] = {}
        """Bundles that exist but could not be added, and why."""
        self.carried: dict[str, str] = {}
        """Files that a run has no longer and that are kept from its archived copy."""
        self._batch: dict[str, Piece] = {}
        self._batch_since = time.monotonic()
        self._known = {_signature(e): e for e in catalog.entries.values()}

    @classmethod
    @contextlib.contextmanager
    def open(cls, url: str, *, replace: bool = False, repair: bool = False) -> Iterator["Archiver"]:
        """An archiver for `url`, where an archive is created if there is none.

        `repair`: everything but the bundles is rebuilt from them.

        Raises:
            Refusal: another process is archiving there, or there are other files.
            Damaged: the archive's manifest or index is damaged.
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
        """Add the run in `path`; `files` are all its files in that folder.

        Raises:
            Refusal: it cannot be read, or does not continue what is archived of it.
            Damaged: what is archived of it is damaged.
            OSError: a file cannot be read, or the archive cannot be written.
        """
        if self._is_known(files):
            return "unchanged"
        before = _stats(files)
        run = _load(path)
        if run.status == "running" and run.path is not None and runs.is_journal(run.path):
            return "live"
        row = columns.describe(run)
        old = self._known_as(row["run_id"])
        everything = [*files, *elsewhere(files)]
        missing: frozenset[str] = frozenset()
        if old is not None and not self._replace:
            compared = self._compare(old, run, path, everything)
            if not compared.grown:
                if old.has_series or not compared.is_equal:
                    return "unchanged"
                self._put(run, row, old.bundle, old.files)  # archived before there were all tables
                return "grown"
            missing = compared.missing
        if not self._add_whole(run, row, everything, old, missing, lambda: _stats(files) == before):
            return "live"
        for file in old.files if old is not None else ():
            if file.name in missing:
                known = Path(file.folder or path.parent, file.name)
                self.carried[str(known)] = f"{known}: missing; the archive keeps its copy of it"
        return "new" if old is None else "grown"

    def _known_as(self, run_id: str) -> Entry | None:
        if run_id in self._batch:
            self.commit()
        return self.catalog.entries.get(run_id)

    def _put(self, run: eventlog.Run, row: Row, stored: Stored, packed: Iterable[Original]) -> None:
        """Put a run whose bundle is stored into the batch."""
        row |= {
            "bundle": stored.name,
            "bundle_bytes": stored.size_bytes,
            "bundle_sha256": stored.sha256,
            "files": [asdict(original) for original in packed],
        }
        tables = columns.tables_of(History(run))
        row[N_VALUES] = tables[SERIES].num_rows
        self._batch[row["run_id"]] = Piece(row, tables)
        n_rows = sum(p.tables[SERIES].num_rows for p in self._batch.values())
        if n_rows >= parts.PART_ROWS or time.monotonic() - self._batch_since > BATCH_S:
            self.commit()

    def _sweep(self, age_s: float) -> None:
        """Add the bundles that the manifest does not name, and remove other unnamed files.

        A killed archiver left them; or the manifest is an older copy or was reset, and these
        bundles are all that there is of their runs. Files younger than `age_s` stay: they may
        belong to a running archiver.
        """
        store, entries = self.catalog.store, self.catalog.entries.values()
        known = [f.name for f in self.catalog.manifest.files] + [e.bundle.name for e in entries]
        unnamed = manifest.strangers(store, known)
        left = sorted(n for n, old_s in unnamed.items() if manifest.is_ours(n) and old_s >= age_s)
        bundles = list(filter(manifest.is_bundle, left))
        for name in with_progress(bundles, "recovering"):
            try:
                self._recover(name)
            except Exception as error:  # the bundle may be crafted
                why = error if isinstance(error, Refusal | OSError) else f"{error!r:.200}"
                self.left_out[name] = f"{name}: not in the archive, and left as it is: {why}"
        self.commit()
        for name in left:
            if not manifest.is_bundle(name):
                store.remove(name)

    def _recover(self, name: str) -> None:
        """Add the run of a bundle that exists, unless the archive has all of it.

        Raises:
            Damaged: the bundle is damaged, or the one that is archived of this run.
            Refusal: there is no run in it, or it does not continue the archived one.
        """
        store = self.catalog.store
        with TemporaryDirectory(prefix="runs-archive-") as folder:
            packed = _unpack(store, name, Path(folder))
            files = [Path(folder, original.name) for original in packed]
            path = _main_file(files)
            run = _load(path)
            row = columns.describe(run) | {"source": name}
            old = self._known_as(row["run_id"])
            if old is None:
                self._put(run, row, store.measure(name), packed)
                return
            compared = self._compare(old, run, path, files)
            grown = compared.grown
            if _extent(packed) <= _extent(old.files):  # an older run JSON has nothing more
                grown -= {path.with_suffix(eventlog.RUN_JSON_SUFFIX).name}
            if not grown:
                store.remove(name)
            elif not compared.missing:
                self._put(run, row, store.measure(name), packed)
            else:
                self._add_whole(run, row, files, old, compared.missing)
                store.remove(name)

    def commit(self) -> None:
        """Make the batch part of the archive: all of it, or nothing."""
        if self._batch:
            old = self.catalog.manifest
            new = parts.merged(self.catalog, list(self._batch.values()))
            switched = manifest.switch(self.catalog.store, old, new)
            needed = {piece.row["bundle"] for piece in self._batch.values()}
            old_bundles = {
                e.bundle.name for i, e in self.catalog.entries.items() if i in self._batch
            }
            replaced = sorted(old_bundles - needed)
            self.catalog = Catalog(self.catalog.store, switched)
            left = {file.name for file in switched.files}
            if (
                self._is_alone
            ):  # else another manifest may still name them; `_sweep` removes them later
                for name in [f.name for f in old.files if f.name not in left] + replaced:
                    self.catalog.store.remove(name)
            self._batch.clear()
        self._batch_since = time.monotonic()

    def _is_known(self, files: list[Path]) -> bool:
        """Whether all files have the size and time with which they were archived."""
        entry = self._known.get(_stats(files))
        if entry is None or not entry.has_series or self._replace:
            return False
        unnamed = {f: Path(f.folder, f.name) for f in entry.files if f.folder}
        return all(
            (p.stat().st_size, p.stat().st_mtime_ns) == (f.size_bytes, f.mtime_ns)
            for f, p in unnamed.items()
            if p.exists()
        )

    def _compare(self, old: Entry, run: eventlog.Run, path: Path, files: list[Path]) -> Comparison:
        """What the run has, compared with what is archived of it.

        Raises:
            Refusal: it does not continue the archived run; replacing that would lose data.
        """
        has_journal = any(file.name.endswith(eventlog.JOURNAL_SUFFIX) for file in old.files)
        n_iterations = run.summary["total_iterations"] or 0
        if not has_journal and not runs.is_journal(path) and n_iterations < old.n_iterations:
            raise Refusal(
                f"{path}: has {n_iterations:,} iterations, the archive has "
                f"{old.n_iterations:,} of it and keeps them; --replace archives it as it is now"
            )
        return compare(self.catalog.store, old, files)

    def _add_whole(
        self,
        run: eventlog.Run,
        row: Row,
        files: list[Path],
        old: Entry | None,
        missing: Collection[str],
        is_unchanged: Callable[[], bool] = lambda: True,
    ) -> bool:
        """Pack `files` and put their run into the batch, unless they have changed meanwhile.

        The `missing` files are added from the archived copy `old`.
        """
        store = self.catalog.store
        with TemporaryDirectory(prefix="runs-archive-") as folder:
            kept = carry_over(store, old, missing, Path(folder)) if old and missing else {}
            stored, packed = self._pack(run, row["month"], files, kept)
            if not is_unchanged():
                store.remove(stored.name)
                return False
            if kept:  # `run` lacks what is in these files
                whole = Path(folder, "whole")
                whole.mkdir()
                names = [original.name for original in _unpack(store, stored.name, whole)]
                run = _load(_main_file([whole / name for name in names]))
                row = columns.describe(run) | {"source": row["source"]}
            self._put(run, row, stored, packed)
        return True

    def _pack(
        self, run: eventlog.Run, month: str, files: list[Path], kept: Mapping[Path, str]
    ) -> tuple[Stored, list[Original]]:
        """A new bundle of `files` and of `kept`, which were in the folders that it names."""
        names = [path.name for path in files]
        if len(set(names)) < len(names):
            raise Refusal(f"{files[0]}: two files of this run have the same name: {names}")
        packed: list[Original] = []
        name = (run.path or files[0]).stem
        stem = "".join(c if c.isalnum() and c.isascii() else "_" for c in name)[:80]
        stored = self.catalog.store.write(
            manifest.new_name(f"journals/month={month}", stem, ".tar.zst"),
            lambda out: packed.extend(bundle.pack([*files, *kept], files[0].parent, out)),
        )
        folders = {path.name: folder for path, folder in kept.items()}
        return stored, [replace(p, folder=folders.get(p.name, p.folder)) for p in packed]


def _main_file(files: list[Path]) -> Path:
    """The journal or the run JSON among the files of a run."""
    return next((path for path in reversed(files) if path.suffix in runs.SUFFIXES), files[0])


def _load(path: Path) -> eventlog.Run:
    """The run from its journal, else from its run JSON.

    Raises:
        Refusal: neither can be read.
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
    """Write the files of a bundle to `folder`, with their times.

    Raises:
        Damaged: it is not a complete bundle.
    """
    originals = []
    with store.read(name) as stream:
        for packed in bundle.unpack(stream):
            path = write(packed, folder)
            size_bytes, sha256 = path.stat().st_size, eventlog.sha256_of(path)
            originals.append(Original(packed.name, size_bytes, packed.mtime_ns, sha256, ""))
    if not originals:
        raise Damaged(f"{name}: is empty")
    return originals


def _extent(files: Iterable[Original]) -> tuple[int, int]:
    """How much of a run the files have: bytes of the journal, then the latest time."""
    journals = [f.size_bytes for f in files if f.name.endswith(eventlog.JOURNAL_SUFFIX)]
    return sum(journals), max(f.mtime_ns for f in files)


_Signature = frozenset[tuple[str, int, int]]


def _signature(entry: Entry) -> _Signature:
    return frozenset((f.name, f.size_bytes, f.mtime_ns) for f in entry.files if not f.folder)


def _stats(files: Iterable[Path]) -> _Signature:
    sizes = ((path.name, path.stat()) for path in files)
    return frozenset((name, stat.st_size, stat.st_mtime_ns) for name, stat in sizes)
