"""What was read of the ends of run files, kept in one SQLite file so that it is not read again.

    status = os.stat(path)
    data = get(path, "row", status)         # None: read the file, then
    put(path, "row", status, data)

The file is `runs/index.sqlite` in the user's cache folder ($XDG_CACHE_HOME, else ~/.cache). It can
be deleted at any time. What is kept of a file counts only while the file has the same device,
inode, size, mtime and ctime, and was written by the same version of this code. Of a file that
changed less than `SETTLED_S` ago nothing is kept: it could change again within a tick of its file
system's clock, and nothing would show that.

Where the index cannot be used (read-only, locked, damaged, another user's, a full disk), all files
are read, without a message. `RUNS_CACHE=off` does without it, `RUNS_CACHE=verbose` says why it is
not used, and `RUNS_CACHE=FOLDER` has it in another folder.
"""

import atexit
import contextlib
import hashlib
import os
import sqlite3
import stat
import struct
import sys
import threading
import time
import zlib
from collections.abc import Collection
from functools import cache
from pathlib import Path

import eventlog

FORMAT = 1
"""Of the tables below; an index of another format is deleted."""
BYTES_MAX = 512 << 20
"""At this size the half that was written first is removed."""
SETTLED_S = 2.0  # the coarsest mtime of a usual file system (FAT)
WAIT_S = 0.2  # for another process that writes
PENDING_MAX = 500  # entries in memory before they are written
PENDING_S = 1.0
LISTED_S = 60.0  # between two searches for deleted runs of a folder
UNUSED_DAYS = 30  # a folder that was not listed for so long leaves

_TABLES = """
create table kept (
    folder blob, name blob, what text, stamp blob, crc integer, data blob,
    primary key (folder, name, what)
);
create table folders (folder blob primary key, day integer);
"""
_Key = tuple[bytes, bytes, str]
_Change = tuple[str, list[tuple[object, ...]]]  # a statement, and the values of each call
_Entry = tuple[bytes, bytes]  # the stamp of the file, and what is kept of it


def get(path: Path, what: str, status: os.stat_result) -> bytes | None:
    """What was kept of the file with this status; None: nothing."""
    index = of_user()
    return None if index is None else index.get(_key(path, what), stamp(status))


def put(path: Path, what: str, status: os.stat_result, data: bytes) -> None:
    """Keep `data`, which was read of the file while it had this status."""
    index = of_user()
    if index is not None and is_settled(status):
        index.put(_key(path, what), stamp(status), data)


def flush() -> None:
    """Write what is pending; at the exit of the process this happens by itself."""
    index = of_user()
    if index is not None:
        index.flush()


def forget_all_but(folder: Path, names: Collection[str]) -> None:
    """Remove what is kept of files of the folder that are not there any more."""
    index = of_user()
    if index is not None:
        index.forget_all_but(os.fsencode(os.path.abspath(folder)), names)


def is_settled(status: os.stat_result) -> bool:
    """Whether a later change of the file will show in its times."""
    latest_s = max(status.st_mtime_ns, status.st_ctime_ns) / 1e9
    return time.time() - latest_s > SETTLED_S


def is_same(one: os.stat_result, other: os.stat_result) -> bool:
    """Whether a file did not change between two looks at it."""
    return stamp(one) == stamp(other)


def cache_folder() -> Path | None:
    """The folder for what can be made again at any time; None: none is to be used."""
    setting = os.environ.get("RUNS_CACHE", "")
    if setting == "off":
        return None
    if setting not in ("", "verbose"):
        return Path(setting)
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "runs"
    except RuntimeError:  # no home
        return None


def of_user() -> "Index | None":
    """The index of this process; None: there is none, or it cannot be used."""
    key = (os.getpid(), os.environ.get("RUNS_CACHE"), os.environ.get("XDG_CACHE_HOME"))
    if key not in _indexes:  # a fork must not use the connection of its parent
        _indexes[key] = _open(cache_folder())
    index = _indexes[key]
    return None if index is None or index.is_closed else index


_indexes: dict[tuple[int, str | None, str | None], "Index | None"] = {}


def _open(folder: Path | None) -> "Index | None":
    if folder is None:
        return None
    try:
        index = Index(folder)
    except (OSError, sqlite3.Error, Unusable) as error:
        _say(f"{folder}: the index is not used: {error}")
        return None
    atexit.register(index.close)
    return index


class Unusable(Exception):
    """The index must not be used; `str()` says why."""


class Index:
    """The index in a folder. It may be used by several threads and processes."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "index.sqlite"
        self.is_closed = False
        self._pid = os.getpid()
        self._lock = threading.RLock()
        self._pending: dict[_Key, _Entry] = {}
        self._changes: list[_Change] = []  # of thousands of subfolders in one transaction
        self._written_at = time.monotonic()
        self._listed: dict[bytes, float] = {}
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        check_is_ours(folder)
        if self.path.exists():
            check_is_ours(self.path)
        self._base = self._opened()

    def _opened(self) -> sqlite3.Connection:
        base = self._connected()
        try:
            (version,) = base.execute("pragma user_version").fetchone()
            if version == FORMAT and base.execute("select count(*) from folders").fetchone():
                return base
            if version == 0 and not base.execute("select name from sqlite_master").fetchone():
                return self._created(base)
        except sqlite3.OperationalError:
            base.close()
            raise
        except sqlite3.DatabaseError:  # damaged
            pass
        base.close()
        self._unlink()
        return self._created(self._connected())

    def _connected(self) -> sqlite3.Connection:
        base = sqlite3.connect(
            self.path, timeout=WAIT_S, isolation_level=None, check_same_thread=False
        )
        base.execute("pragma synchronous = off")  # after a power loss it may be damaged: see `get`
        return base

    def _created(self, base: sqlite3.Connection) -> sqlite3.Connection:
        """Create the tables, unless another process does so at this moment."""
        with contextlib.suppress(sqlite3.OperationalError):
            base.executescript(f"begin exclusive; {_TABLES} pragma user_version = {FORMAT}; commit")
        base.execute("select count(*) from folders")
        return base

    def get(self, key: _Key, stamp: bytes) -> bytes | None:
        with self._lock:
            pending = self._pending.get(key)
            if pending is not None:
                return pending[1] if pending[0] == stamp else None
            row = self._fetch(
                "select stamp, crc, data from kept where folder = ? and name = ? and what = ?", key
            )
        if row is None or row[0] != stamp or row[1] != _crc(key, stamp, row[2]):
            return None
        with contextlib.suppress(zlib.error):
            return zlib.decompress(row[2])
        return None

    def _fetch(self, sql: str, values: tuple[object, ...]) -> tuple[bytes, int, bytes] | None:
        if self.is_closed:
            return None
        try:
            row: tuple[bytes, int, bytes] | None = self._base.execute(sql, values).fetchone()
            return row
        except (sqlite3.Error, OverflowError) as error:
            self._give_up(error)
            return None

    def put(self, key: _Key, stamp: bytes, data: bytes) -> None:
        with self._lock:
            self._pending[key] = (stamp, data)
            waits_s = time.monotonic() - self._written_at
            if len(self._pending) >= PENDING_MAX or waits_s > PENDING_S:
                self.flush()

    def flush(self) -> None:
        with self._lock:
            self._written_at = time.monotonic()
            if (self._pending or self._changes) and not self.is_closed:
                entries = [_row(*item) for item in self._pending.items()]
                insert = ("insert or replace into kept values (?, ?, ?, ?, ?, ?)", entries)
                self._write([*self._changes, insert])
            self._pending.clear()
            self._changes.clear()

    def forget_all_but(self, folder: bytes, names: Collection[str]) -> None:
        with self._lock:
            now = time.monotonic()
            if self.is_closed or now - self._listed.get(folder, -LISTED_S) < LISTED_S:
                return
            self._listed[folder] = now
            here = {os.fsencode(name) for name in names}
            today = int(time.time() // 86_400)
            try:
                rows = self._base.execute(
                    "select distinct name from kept where folder = ?", (folder,)
                ).fetchall()
                used = self._base.execute(
                    "select day from folders where folder = ?", (folder,)
                ).fetchone()
            except sqlite3.Error as error:
                self._give_up(error)
                return
            gone: list[tuple[object, ...]] = [(folder, n) for (n,) in rows if n not in here]
            changes: list[_Change] = []
            if gone:
                changes.append(("delete from kept where folder = ? and name = ?", gone))
            if used != (today,):
                changes += self._of_a_day(folder, today)
            self._changes += changes
            if len(self._changes) >= PENDING_MAX:
                self.flush()

    def _of_a_day(self, folder: bytes, today: int) -> list[_Change]:
        """Note that the folder was used today, and remove those that have not been used lately."""
        unused: list[tuple[object, ...]] = [(today - UNUSED_DAYS,)]
        return [
            ("insert or replace into folders values (?, ?)", [(folder, today)]),
            ("delete from kept where folder in (select folder from folders where day < ?)", unused),
            ("delete from folders where day < ?", unused),
        ]

    def _write(self, changes: list[_Change]) -> None:
        try:
            self._base.execute("begin immediate")
            for sql, rows in changes:
                self._base.executemany(sql, rows)
            if self._n_bytes() > BYTES_MAX:
                self._base.execute(
                    "delete from kept where rowid in (select rowid from kept order by rowid "
                    "limit (select count(*) / 2 from kept))"
                )
            self._base.execute("commit")
        except sqlite3.Error as error:
            with contextlib.suppress(sqlite3.Error):
                self._base.execute("rollback")
            self._give_up(error)

    def _n_bytes(self) -> int:
        """Bytes in use; what was removed is used again."""
        size, pages, free = (
            self._base.execute(f"pragma {name}").fetchone()[0]
            for name in ("page_size", "page_count", "freelist_count")
        )
        return int(size * (pages - free))

    def _give_up(self, error: Exception) -> None:
        """Do without the index from now on; a damaged one is deleted."""
        _say(f"{self.path}: the index is not used any more: {error}")
        self._pending.clear()
        self._changes.clear()
        self.close()
        if isinstance(error, sqlite3.DatabaseError) and not isinstance(
            error, sqlite3.OperationalError | sqlite3.ProgrammingError
        ):
            with contextlib.suppress(OSError):
                self._unlink()

    def _unlink(self) -> None:
        """Its journal first: SQLite would apply it to the next file of this name."""
        self.path.with_name(f"{self.path.name}-journal").unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)

    def close(self) -> None:
        with self._lock:
            if self.is_closed or os.getpid() != self._pid:
                return
            self.flush()
            self.is_closed = True
            with contextlib.suppress(sqlite3.Error):
                self._base.close()


def _key(path: Path, what: str) -> _Key:
    folder, name = os.path.split(os.path.abspath(path))
    return os.fsencode(folder), os.fsencode(name), what


def stamp(status: os.stat_result) -> bytes:
    numbers = (
        status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns,
    )  # fmt: skip
    return struct.pack("<5Q", *(n & (1 << 64) - 1 for n in numbers)) + _code()


@cache
def _code() -> bytes:
    """Which code computes what is kept: the files of the modules that do."""
    package = Path(eventlog.__path__[0])
    folders = (Path(__file__).parent, package / "fold", package / "format")
    digest = hashlib.blake2s(digest_size=8)
    for folder in folders:
        for file in sorted(folder.glob("*.py")):
            status = file.stat()
            digest.update(f"{file.name} {status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.digest()


def _row(key: _Key, entry: _Entry) -> tuple[object, ...]:
    stamp, data = entry
    packed = zlib.compress(data, 1)
    return *key, stamp, _crc(key, stamp, packed), packed


def _crc(key: _Key, stamp: bytes, data: object) -> int:
    """A damaged index may return anything."""
    if not isinstance(data, bytes):
        return -1
    return zlib.crc32(b"\0".join((key[0], key[1], key[2].encode(), stamp, data)))


def check_is_ours(path: Path) -> None:
    """Raises Unusable if another user could write what is read from here."""
    status = path.lstat()
    if stat.S_ISLNK(status.st_mode):
        status = path.stat()
    if status.st_uid != os.geteuid():
        raise Unusable(f"{path} belongs to another user")
    if status.st_mode & stat.S_IWOTH:
        raise Unusable(f"{path} can be written by all users")


def _say(message: str) -> None:
    if os.environ.get("RUNS_CACHE") == "verbose":
        eventlog.print_lines(message, file=sys.stderr)
