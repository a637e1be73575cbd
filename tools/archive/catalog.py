"""Which runs an archive has, and where their bytes are; read-only."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import file_digest

import pyarrow as pa
import pyarrow.parquet as pq

from ..core import runs
from ..core.history import Row
from ..core.runs import Refusal
from . import bundle, columns, manifest
from .bundle import Original
from .files import check_file_names
from .manifest import Manifest
from .store import Damaged, Store, Stored, open_store

ROWS_FREE, ROWS_A_BYTE = 2_000_000, 100  # rows that a Parquet file may have; each takes 2 bytes

N_VALUES = "n_values"
"""How many values of the run are in `series`; null: it was archived before there was that table."""

_ORIGINALS = pa.list_(
    pa.struct(
        {"name": pa.string(), "size_bytes": pa.int64(), "mtime_ns": pa.int64(),
         "sha256": pa.string(), "folder": pa.string()}
    )
)  # fmt: skip
INDEX = pa.schema(
    {
        **columns.RUNS, "bundle": pa.string(), "bundle_bytes": pa.int64(),
        "bundle_sha256": pa.string(), "files": _ORIGINALS, N_VALUES: pa.int64(),
    }
)  # fmt: skip


LATER = ("ends_nonfinite", N_VALUES)
"""Columns that the indexes of earlier versions do not have."""


@dataclass(frozen=True)
class Entry:
    """A run in the archive."""

    run: str
    run_id: str
    month: str
    n_iterations: int
    bundle: Stored
    has_series: bool
    files: tuple[Original, ...]


class Catalog:
    """The runs of an archive, from its manifest and index."""

    def __init__(self, store: Store, contents: Manifest) -> None:
        self.store, self.manifest = store, contents
        self.index = _read_index(store, contents)
        self.entries: dict[str, Entry] = {}
        self.bad: dict[str, str] = {}
        """Runs with an invalid entry in the index, by name, and why."""
        for row in _rows(self.index):
            try:
                entry = _entry(row)
            except (ValueError, TypeError) as error:
                name = str(row["run"])
                self.bad[name] = f"{name!r} is left out: its entry in the index is invalid: {error}"
            else:
                self.entries[entry.run_id] = entry

    @classmethod
    def open(cls, url: str) -> "Catalog":
        """The archive at `url`.

        Raises:
            FileNotFoundError: there is none.
            Damaged: its manifest or its index of runs is damaged.
        """
        store = open_store(url)
        return cls(store, manifest.need(store))

    def find(self, name: str) -> Entry:
        """The one run with this name or id, with this name before its time, or that begins so.

        Raises:
            Refusal: there is none, or there are several; lists them.
        """
        entries = list(self.entries.values())
        matches = [e for e in entries if name in (e.run, e.run_id, *_stems(e))]
        matches = matches or [
            e for e in entries if any(runs.is_called(name, one) for one in (e.run, *_stems(e)))
        ]
        matches = matches or [e for e in entries if f"{e.run}\n{e.run_id}".startswith(name)]
        matches = matches or [e for e in entries if e.run_id.startswith(name)]
        if len(matches) == 1:
            return matches[0]
        bad = [why for known, why in self.bad.items() if known.startswith(name)]
        if not matches and bad:
            raise Refusal(bad[0])
        if not matches:
            raise Refusal(
                f"{name}: no such run in {self.store.url}; to list them: "
                f'runs query "select run, run_id from runs" {self.store.url}'
            )
        some = ", ".join(f"{e.run} ({e.run_id})" for e in matches[:5])
        raise Refusal(f"{name}: ambiguous: matches {len(matches):,} runs ({some})")


def check_bundle(store: Store, entry: Entry) -> None:
    """Check that a bundle has the bytes that were written, and each file in it those packed.

    Raises:
        Damaged: it does not; names the file in it, if possible.
    """
    store.check(entry.bundle)
    packed = {f.name: (f.size_bytes, f.sha256) for f in entry.files}
    unpacked = {}
    try:
        with store.read(entry.bundle.name) as stream:
            for file in bundle.unpack(stream):
                if file.size_bytes != packed.get(file.name, (file.size_bytes, ""))[0]:
                    raise Damaged(f"{file.name} in it claims to have {file.size_bytes:,} bytes")
                sha256 = file_digest(file.content, "sha256").hexdigest()  # type: ignore[arg-type]
                unpacked[file.name] = file.size_bytes, sha256
    except OSError as error:  # Damaged is one
        raise Damaged(f"{entry.bundle.name}: damaged: {error}") from None
    wrong = sorted(n for n in packed.keys() | unpacked.keys() if packed.get(n) != unpacked.get(n))
    if wrong:
        raise Damaged(f"{entry.bundle.name}: damaged: {', '.join(wrong)} in it")


def read_parquet(store: Store, file: Stored, names: list[str] | None = None) -> pa.Table:
    """A Parquet file of the archive.

    Raises:
        Damaged: its bytes are not what was written.
    """
    store.check(file)
    try:
        return _parquet_rows(store, file, names)
    except (pa.ArrowException, ValueError, KeyError) as error:
        raise Damaged(f"{file.name}: damaged: {str(error).partition(chr(10))[0]}") from None


def _parquet_rows(store: Store, file: Stored, names: list[str] | None) -> pa.Table:
    # Not read_table: its threads may drop the file's last reference while Python ends, and then
    # the process aborts (1 of 25 calls of `runs archive`, pyarrow 26.0.1).
    with (
        store.read(file.name) as stream,
        pq.ParquetFile(pa.PythonFile(stream, mode="r"), pre_buffer=False) as parquet,
    ):
        n_rows = parquet.metadata.num_rows
        if n_rows > ROWS_FREE + ROWS_A_BYTE * file.size_bytes:
            raise Damaged(f"{file.name}: damaged: claims to have {n_rows:,} rows")
        return parquet.read(columns=names, use_threads=False)


def _read_index(store: Store, contents: Manifest) -> pa.Table:
    """The index of runs, with the columns that it must have.

    Raises:
        Damaged: it is not an index.
    """
    if contents.runs is None:
        return INDEX.empty_table()
    index = read_parquet(store, contents.runs)
    try:
        for name in LATER:  # than the first archives
            if name not in index.column_names:
                index = index.append_column(name, pa.nulls(len(index), INDEX.field(name).type))
        return index.select(INDEX.names).cast(INDEX)
    except (pa.ArrowException, KeyError, ValueError) as error:
        why = str(error).partition("\n")[0]
        raise Damaged(f"{contents.runs.name}: not an index of runs: {why}") from None


def _rows(index: pa.Table) -> list[Row]:
    # most of the bytes, and not needed for an entry
    large = ("config", "metadata", "journal", "ends_nonfinite")
    rows: list[Row] = index.drop_columns(large).to_pylist()
    return rows


def _entry(row: Row) -> Entry:
    """The entry in a row of the index, which may come from an untrusted source.

    Raises:
        ValueError, TypeError: no archiver writes such a row.
    """
    stored = manifest.check(Stored(row["bundle"], row["bundle_bytes"], row["bundle_sha256"]))
    if not manifest.is_bundle(stored.name):
        raise ValueError(f"{stored.name!r} is not a bundle")
    files = tuple(Original(**original) for original in row["files"])
    check_file_names(file.name for file in files)
    if not all(isinstance(row[name], str) for name in ("run", "run_id", "month")):
        raise ValueError("it has no name, no id or no month")
    for file in files:
        if not (isinstance(file.size_bytes, int) and isinstance(file.mtime_ns, int)):
            raise ValueError(f"{file.name!r} has no size or no time")
        if not (isinstance(file.sha256, str) and isinstance(file.folder, str)):
            raise ValueError(f"{file.name!r} has no SHA-256 or no folder")
    n_iterations = row["total_iterations"] or 0
    has_series = row[N_VALUES] is not None
    return Entry(row["run"], row["run_id"], row["month"], n_iterations, stored, has_series, files)


def _stems(entry: Entry) -> Iterator[str]:
    return (os.path.splitext(f.name)[0] for f in entry.files if f.name.endswith(runs.SUFFIXES))
