"""All runs of some folders as they are now: rows for a table, curves of those requested.

    folders = Folders(["out"])
    with folders:                           # a thread reads on
        folders.rows()                      # as `runs ls --json`, each with an `id`
        with folders.at("3f9a0c1b22d4") as run: ...

Of a run that ended only both ends of its run JSON are read; its journal is read when its curves are
requested, and forgotten after a while. A live run is always followed.
"""

import hashlib
import itertools
import os
import stat
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import eventlog

from ..core import ends as ends_
from ..core import index, runs
from ..core import rows as rows_
from .following import Following
from .settings import bounded, settings_of
from .summaries import ends_nonfinite, some_names

HELD_S = 5.0  # how long a request waits for a run that is being read
REFRESH_S = 1.0  # between two checks of the folders
REFRESH_SHARE = 5.0  # or so many times what a check takes, of thousands of subfolders
READ_S = 0.2  # between two checks of the journals that are followed
SLICE_S = 0.02  # of reading, before other runs are read
KEPT_MAX = 32  # runs whose curves stay in memory without requests
REQUESTED_S = 60.0  # a run that was requested stays in memory for this long
READING = "reading"
"""The status of a run whose journal has not been read once, if no run JSON has an earlier one."""


@dataclass
class Entry:
    """One run of the folders."""

    id: str
    path: Path
    """Of its journal, or of its run JSON where there is no journal."""
    row: rows_.Row = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    """To tell runs apart by: what `row` leaves out of it is there as a hash."""
    version: int = 0
    """Grows with every change of `row`; no two changes, of any runs, have the same."""
    seen: tuple[Any, ...] = ()
    following: Following | None = None
    lock: threading.RLock = field(default_factory=threading.RLock)
    """Held while `following` is used: a run that is slow to read does not block others."""
    wanted_until: float = 0.0
    alerts: list[dict[str, Any]] = field(default_factory=list)
    """Alerts of a guard about it."""

    @property
    def is_known(self) -> bool:
        """Whether its row is of the whole run."""
        return bool(self.row) and self.row["status"] != READING


class Folders:
    """The runs that `names` match, followed by a thread while it is entered."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = list(names)
        self.version = time.time_ns() // 1_000_000
        """Of the latest change; greater than those of an earlier server."""
        self.problems: list[str] = []
        """Names that match no run, one message each."""
        self._is_listed = False
        self.is_complete = False
        """Whether every run has been read once."""
        self.lock = threading.RLock()
        self._entries: dict[str, Entry] = {}
        self._gone: dict[str, int] = {}  # id -> the version at which it went
        self._roots: list[str] = []  # the folders that were named, links resolved
        self._absolute: dict[Path, str] = {}  # folder -> its absolute path
        self._reals: dict[Path, str] = {}  # folder -> its real path, as of the latest refresh
        self._end = threading.Event()
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="follow", daemon=True)

    def __enter__(self) -> "Folders":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._end.set()
        self._wake.set()
        self._thread.join(timeout=10)

    def __len__(self) -> int:
        return len(self._entries)

    def rows(self, since: int = 0) -> list[rows_.Row]:
        """The rows that changed after version `since`."""
        with self.lock:
            return [e.row for e in self._entries.values() if e.version > since and e.row]

    def whole_rows(self, ids: Iterable[str] | None = None) -> list[rows_.Row]:
        """The rows of the runs that could be read, with configs that tell them apart."""
        with self.lock:
            known = self._entries if ids is None else [id for id in ids if id in self._entries]
            entries = [self._entries[id] for id in known]
            entries = [e for e in entries if e.row and not e.row["error"]]
            return [entry.row | {"config": entry.config} for entry in entries]

    def readable(self) -> list[Entry]:
        """The runs that could be read."""
        with self.lock:
            return [e for e in self._entries.values() if e.row and not e.row["error"]]

    def gone(self, since: int = 0) -> list[str]:
        """The ids of runs that were removed after version `since`."""
        with self.lock:
            return [id for id, version in self._gone.items() if version > since]

    @contextmanager
    def at(self, id: str, wait_s: float = HELD_S) -> Iterator[Following | None]:
        """The run `id`, locked; None if there is none. From now on it is followed.

        Raises:
            TimeoutError: it is still being read.
        """
        entry, following = self._requested(id)
        if entry is None or following is None:
            yield None
            return
        if not entry.lock.acquire(timeout=wait_s):
            raise TimeoutError(f"{entry.path.name}: is being read; try again")
        try:
            yield following
        finally:
            entry.lock.release()

    def _requested(self, id: str) -> tuple[Entry | None, Following | None]:
        with self.lock:
            entry = self._entries.get(id)
            if entry is None:
                return None, None
            entry.wanted_until = time.monotonic() + REQUESTED_S
            if entry.following is None and not self._why_not(entry.path):
                entry.following = Following(entry.path)
                self._wake.set()
            return entry, entry.following

    def warn(self, alerts: Mapping[Path, list[dict[str, Any]]]) -> None:
        """Set the alerts in the rows of runs, by journal; all other runs have none."""
        by_id = {self._id(path): of_run for path, of_run in alerts.items()}
        with self.lock:
            for entry in self._entries.values():
                of_run = by_id.get(entry.id, [])
                if of_run != entry.alerts:
                    entry.alerts = of_run
                    self._enter(entry, entry.row | {"alerts": of_run} if entry.row else {})

    # ---- the thread

    def _follow(self) -> None:
        refresh_at = 0.0
        while not self._end.is_set():
            begun = time.monotonic()
            if begun >= refresh_at:
                self.refresh()
                took_s = time.monotonic() - begun
                refresh_at = time.monotonic() + max(REFRESH_S, REFRESH_SHARE * took_s)
            if not self.read_on():
                self._wake.wait(READ_S)
                self._wake.clear()

    def refresh(self) -> None:
        """Find the runs, and read the run JSONs of those that ended."""
        paths, problems = self._find()
        self._reals = {}
        with self.lock:
            self.problems = problems
            for id in [id for id in self._entries if id not in paths]:
                del self._entries[id]
                self.version += 1
                self._gone[id] = self.version
        for id, path in paths.items():
            if self._end.is_set():
                return
            self._refresh_one(id, path)
        index.flush()
        self._is_listed = True
        self._forget_idle()

    def _find(self) -> tuple[dict[str, Path], list[str]]:
        problems = []
        roots: set[str] = set()
        search = runs.Search()
        for name in self.names:
            try:
                found = search.add(name)
            except (runs.Refusal, OSError) as error:
                problems.append(_utf8(str(error)))
                continue
            roots |= {os.path.realpath(root) for root in _roots(name, found)}
        self._roots = sorted(roots)
        problems += map(_utf8, search.left_out())
        return {self._id(path): path for path in search.paths()}, problems

    def _id(self, path: Path) -> str:
        """Depends only on the absolute path: links stay valid when the server is restarted."""
        folder = self._absolute.get(path.parent)
        if folder is None:
            folder = self._absolute[path.parent] = os.path.abspath(path.parent)
        stem = os.path.join(folder, path.stem)
        return hashlib.blake2s(os.fsencode(stem), digest_size=6).hexdigest()

    def _refresh_one(self, id: str, path: Path) -> None:
        entry = self._entries.get(id)
        if entry is None:
            journal = runs.journal_of(path)
            entry = Entry(id, journal if journal.exists() else path)
            with self.lock:
                self._entries[id] = entry
                self._gone.pop(id, None)
        why = self._why_not(path, in_refresh=True)
        if why:
            with self.lock:
                entry.following = None
                entry.seen = ()
            self._update(entry, rows_.row(runs.Found(path, None, why)), {})
            return
        if entry.following is not None and (entry.following.is_alive or entry.row.get("live")):
            return  # it is followed; its run JSON has nothing new
        try:
            stats = [os.stat(p) for p in dict.fromkeys((path, entry.path))]
        except OSError:
            return
        seen = (str(path), *((s.st_ino, s.st_size, s.st_mtime_ns) for s in stats))
        if seen == entry.seen:
            return
        entry.seen = seen
        is_file = stat.S_ISREG(stats[-1].st_mode)  # opening a FIFO would block
        alive = runs.is_journal(entry.path) and is_file and eventlog.is_locked(entry.path)
        row = None if alive or runs.is_journal(path) else _glance(path, entry.path, stats[0])
        if row is not None:
            self._update(entry, row, row.get("ends_nonfinite", {}))
        else:
            with self.lock:
                entry.following = entry.following or Following(entry.path)

    def is_inside(self, path: Path) -> bool:
        """Whether a path is inside the folders after resolving links."""
        return self._is_inside(os.path.realpath(path))

    def _is_inside(self, real: str) -> bool:
        inside = (real.startswith(root.rstrip(os.sep) + os.sep) for root in self._roots)
        return real in self._roots or any(inside)

    def _why_not(self, path: Path, *, in_refresh: bool = False) -> str:
        """Why a run is not shown: a link out of the folders. Empty: it is shown."""
        folder = self._reals.get(path.parent) if in_refresh else None
        if folder is None:  # a trial's folder may be a link
            folder = self._reals[path.parent] = os.path.realpath(path.parent)
        if not self._is_inside(folder):
            return "in a folder that is a link out of the folders that are served"
        for file in (path, runs.journal_of(path)):
            if os.path.islink(file) and not self.is_inside(file):
                return "a link that leads out of the folders that are served"
        return ""

    def read_on(self) -> bool:
        """Read a little of each run that is followed; returns whether there is more to read."""
        more = is_missing = False
        for entry in list(self._entries.values()):
            following = entry.following
            if following is None:
                continue
            with entry.lock:
                changed = following.read_on(SLICE_S)
                more |= following.is_reading
                if changed or not entry.row:
                    self._update_followed(entry, following)
                is_missing |= not entry.row and following.is_reading
            time.sleep(0)  # let requests that wait for this run continue
        if self._is_listed and not is_missing and not self.is_complete:
            with self.lock:
                self.is_complete = True
                self.version += 1  # so that pages hear of it
        return more

    def _update_followed(self, entry: Entry, following: Following) -> None:
        is_known = following.was_read or not runs.is_journal(following.path)
        if following.error:
            found = runs.Found(entry.path, None, following.error)
        elif following.content.n_records and (is_known or not entry.is_known):
            found = runs.Found(entry.path, following.run())
        else:
            return  # what its run JSON says is more than what has been read of its journal
        ends = ends_nonfinite(following, found.run) if found.run else {}
        row = rows_.row(found)
        if not is_known and not following.error:
            row["status"] = READING
        self._update(entry, row, ends, following)

    def _update(
        self,
        entry: Entry,
        row: rows_.Row,
        ends: Mapping[str, str],
        following: Following | None = None,
    ) -> None:
        """Enter the row of a run, without its age, which clients compute from `started`."""
        row["id"] = entry.id
        row["file"] = entry.path.name
        for key in ("run", "file", "path", "error"):
            row[key] = _utf8(row[key])
        settings = settings_of(row["config"])
        row["config"], row["metadata"] = bounded(row["config"]), bounded(row["metadata"])
        entry.config = row["config"] if settings == row["config"] else settings
        row |= _place(following, row) | {"warnings": rows_.warnings(row)}
        row = rows_.with_ends(row, ends) | {"ends_nonfinite": some_names(ends)}
        with self.lock:
            self._enter(entry, row | {"alerts": entry.alerts})

    def _enter(self, entry: Entry, row: rows_.Row) -> None:
        if row != entry.row:
            self.version += 1
            entry.row, entry.version = row, self.version

    def _forget_idle(self) -> None:
        """Forget the curves of runs that ended and were not requested lately."""
        now = time.monotonic()
        with self.lock:
            idle = [
                entry
                for entry in self._entries.values()
                if entry.following is not None
                and not entry.following.is_alive
                and not entry.following.is_reading
                and entry.row
                and entry.wanted_until < now
            ]
            idle.sort(key=lambda entry: entry.wanted_until)
            for entry in idle[: max(0, len(idle) - KEPT_MAX)]:
                entry.following = None


def _roots(name: str, found: Sequence[Path]) -> Iterable[str | Path]:
    """The folders that a name adds: itself, or those of the runs that it matches."""
    if os.path.isdir(name):
        return [name]
    if any(c in name for c in "*?["):
        parts = Path(name).parts
        return [Path(*itertools.takewhile(lambda part: not set(part) & set("*?["), parts))]
    return [path.parent for path in found]


def _glance(path: Path, journal: Path, status: os.stat_result) -> rows_.Row | None:
    """The row of a run JSON, which has this status; None: its journal must be read.

    `runs.glance_at` would fold the journal of one that says `running`, rows and all.
    """
    row = rows_.indexed(path)
    if row is not None:
        return row
    try:
        eventlog.check_is_file(path)
        run = ends_.read(path)
    except eventlog.EventlogError as error:
        return rows_.row(runs.Found(path, None, str(error).removeprefix(f"{path}: ")))
    except OSError as error:
        return rows_.row(runs.Found(path, None, error.strerror or str(error)))
    if run is None or run.status == "running":
        return None if runs.is_journal(journal) else rows_.glance(path)
    row = rows_.row(runs.Found(path, run, is_whole=False))
    rows_.keep(path, status, row)
    return row


def _place(following: Following | None, row: rows_.Row) -> dict[str, Any]:
    """The progress of a run: its last iteration, and of how many."""
    total = rows_.value(row, "config.max_iters")
    return {
        "max_iters": total if type(total) is int else None,
        "last_iter": following.last_iter if following else None,
        "progress": following.progress if following and following.is_reading else None,
    }


def _utf8(text: Any) -> Any:
    """Text as valid UTF-8: file names may be any bytes, and JSON needs UTF-8."""
    return text.encode("utf-8", "replace").decode() if isinstance(text, str) else text
