"""All values of a run in one Parquet file of the user's cache folder, so that they are read once.

    state = state_of(path)
    file = of_run(path, state)                  # None: read the run, then
    file = write(path, state, tables, folder)   # in `folder` where nothing can be kept

Only the values of a run that ended are kept, whose run JSON has all of its journal and whose
journal has no other files: its values and their times then depend on these two files alone. The
index has the state of both and the CRC of the Parquet file, which is read and checked each time.
"""

import contextlib
import hashlib
import os
import secrets
import time
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from . import beside, index, runs

if TYPE_CHECKING:
    import pyarrow

BYTES_MAX = 4 << 30
"""Of all files; those used least recently are removed."""
BYTES_LEAST = 64 << 10  # a smaller run JSON is read as fast
IN_USE_S = 3_600.0  # a file used so recently stays: another process may be reading it
UNUSED_S = 30 * 86_400.0
_CHUNK_BYTES = 1 << 24
_VALUES = "values"  # in the index, and the name of the folder


class State(NamedTuple):
    """What the values of a run depend on."""

    run_json: os.stat_result
    journal: os.stat_result

    @property
    def text(self) -> str:
        return hashlib.blake2s(b"".join(map(index.stamp, self))).hexdigest()


def state_of(path: Path) -> State | None:
    """The state of a run whose values depend on its two files alone; None: of any other."""
    if runs.is_journal(path):
        return None
    journal = runs.journal_of(path)
    try:
        state = State(os.stat(path), os.stat(journal))
        is_whole = (
            state.run_json.st_size >= BYTES_LEAST
            and all(map(index.is_settled, state))
            and runs.has_all(path, state.journal.st_size, {})
            and not beside.files_of(journal.stem, journal.parent)
        )
    except OSError:
        return None
    return state if is_whole else None


def of_run(path: Path, state: State | None) -> Path | None:
    """The file of a run in this state; None: there is none, or it is damaged."""
    folder = _folder()
    if folder is None or state is None:
        return None
    file = folder / _name(path)
    kept = index.get(path, _VALUES, state.run_json)
    with contextlib.suppress(OSError):
        if kept is not None and kept.decode() == f"{state.text} {_crc_of(file):08x}":
            os.utime(file)
            return file
    return None


def write(
    path: Path,
    state: State | None,
    tables: Callable[[], Iterable["pyarrow.Table"]],
    otherwise: Path,
) -> Path:
    """Write the values of a run that was read since it was in this state.

    Args:
        tables: parts of the table of values, each small; the first one must be there.
        otherwise: the folder to write to if they cannot be kept.

    Raises:
        OSError: neither place takes them.
    """
    folder = _folder()
    if folder is not None and state is not None:
        temporary = folder / f"{secrets.token_hex(8)}.tmp"
        with contextlib.suppress(OSError):
            try:
                _write(tables(), temporary)
                kept = f"{state.text} {_crc_of(temporary):08x}"
                now = state_of(path)
                if now is not None and now.text == state.text:
                    _make_room(folder)
                    file = folder / _name(path)
                    temporary.replace(file)
                    index.put(path, _VALUES, state.run_json, kept.encode())
                    return file
            finally:
                temporary.unlink(missing_ok=True)
    file = otherwise / _name(path)
    _write(tables(), file)
    return file


def _write(tables: Iterable["pyarrow.Table"], file: Path) -> None:
    from pyarrow import parquet

    parts = iter(tables)
    first = next(parts)
    with parquet.ParquetWriter(file, first.schema, compression="zstd") as writer:
        writer.write_table(first)
        for part in parts:
            writer.write_table(part)


def _name(path: Path) -> str:
    where = os.fsencode(os.path.abspath(path))
    return f"{hashlib.blake2s(where, digest_size=16).hexdigest()}.parquet"


def _folder() -> Path | None:
    """The folder of the files; None: there is none, or another user could write there."""
    folder = index.cache_folder()
    if folder is None:
        return None
    folder /= _VALUES
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        index.check_is_ours(folder.parent)
        index.check_is_ours(folder)
    except (OSError, index.Unusable):
        return None
    return folder


def _crc_of(file: Path) -> int:
    crc = 0
    with open(file, "rb") as data:
        while chunk := data.read(_CHUNK_BYTES):
            crc = zlib.crc32(chunk, crc)
    return crc


def _make_room(folder: Path) -> None:
    """Remove the files that were not used for a month, and the least recent ones over the limit."""
    now = time.time()
    with os.scandir(folder) as entries:
        files = sorted((e.stat().st_mtime, e.stat().st_size, e.path) for e in entries)
    n_bytes = sum(size for _, size, _ in files)
    for used_s, size, file in files:
        is_needless = n_bytes > BYTES_MAX or now - used_s > UNUSED_S
        if is_needless and now - used_s > IN_USE_S:
            os.unlink(file)
            n_bytes -= size
