"""All runs of some folders as they are now: rows for a table, curves of those looked at.

    folders = Folders(["out"])
    with folders:                           # a thread reads on
        folders.rows()                      # as `runs ls --json`, each with an `id`
        with folders.at("3f9a0c1b22d4") as run: ...

A run that ended is known by the ends of its run JSON; its journal is read when somebody asks
for its curves, and let go when nobody has for a while. A live run is followed always.
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

from ..core import rows as rows_
from ..core import runs
from .following import Following

HELD_S = 5.0  # how long somebody waits for a run that is being read
LOOK_S = 1.0  # between two looks at the folders
READ_S = 0.2  # between two looks at the journals that are followed
SLICE_S = 0.02  # of reading, before others get their turn
KEPT_MAX = 32  # runs whose curves are kept when nobody looks at them
WANTED_S = 60.0  # who asked for a run is taken to look at it so long
CONFIG_MAX = 500  # entries of a config that a row has
TEXT_MAX = 500  # characters of each


@dataclass
class Entry:
    """One run of the folders."""

    id: str
    path: Path
    """Of its journal, or of its run JSON where there is no journal."""
    row: rows_.Row = field(default_factory=dict)
    version: int = 0
    """Grows with every change of `row`; no two changes of any run have the same."""
    seen: tuple[Any, ...] = ()
    following: Following | None = None
    lock: threading.RLock = field(default_factory=threading.RLock)
    """Of what `following` reads: one run that is slow to read holds up no other."""
    wanted_until: float = 0.0
    alerts: list[dict[str, Any]] = field(default_factory=list)
    """What a guard says of it."""


class Folders:
    """The runs that names mean, followed by a thread while it is entered."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = list(names)
        self.version = time.time_ns() // 1_000_000
        """Of the latest change; what a server before this one counted is less."""
        self.problems: list[str] = []
        """Names that mean nothing, in a line each."""
        self.is_complete = False
        """Whether every run has been looked at once."""
        self.lock = threading.RLock()
        self._entries: dict[str, Entry] = {}
        self._gone: dict[str, int] = {}  # id -> the version at which it went
        self._roots: list[str] = []  # folders that somebody named, where their links lead
        self._reals: dict[Path, str] = {}  # folder -> where it leads, as of the latest look
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

    def gone(self, since: int = 0) -> list[str]:
        """The runs that went after version `since`."""
        with self.lock:
            return [id for id, version in self._gone.items() if version > since]

    @contextmanager
    def at(self, id: str, wait_s: float = HELD_S) -> Iterator[Following | None]:
        """The run `id`, held still; None if there is none. From now on it is followed.

        Raises:
            TimeoutError: it is being read all the time; others can be looked at.
        """
        entry, following = self._wanted(id)
        if entry is None or following is None:
            yield None
            return
        if not entry.lock.acquire(timeout=wait_s):
            raise TimeoutError(f"{entry.path.name}: is being read; try again")
        try:
            yield following
        finally:
            entry.lock.release()

    def _wanted(self, id: str) -> tuple[Entry | None, Following | None]:
        with self.lock:
            entry = self._entries.get(id)
            if entry is None:
                return None, None
            entry.wanted_until = time.monotonic() + WANTED_S
            if entry.following is None and not self._why_not(entry.path):
                entry.following = Following(entry.path)
                self._wake.set()
            return entry, entry.following

    def warn(self, alerts: Mapping[Path, list[dict[str, Any]]]) -> None:
        """Say in the rows what is wrong with runs, by their journals; of all others nothing is."""
        by_id = {self._id(path): told for path, told in alerts.items()}
        with self.lock:
            for entry in self._entries.values():
                told = by_id.get(entry.id, [])
                if told != entry.alerts:
                    entry.alerts = told
                    self._enter(entry, entry.row | {"alerts": told} if entry.row else {})

    # ---- the thread

    def _follow(self) -> None:
        looked = -LOOK_S
        while not self._end.is_set():
            if time.monotonic() - looked >= LOOK_S:
                self.look()
                looked = time.monotonic()
            if not self.read_on():
                self._wake.wait(READ_S)
                self._wake.clear()

    def look(self) -> None:
        """See which runs there are, and what the run JSONs of those that ended say."""
        paths, problems = self._find()
        self._reals = {}
        with self.lock:
            self.problems = problems
            for id in [id for id in self._entries if id not in paths]:
                del self._entries[id]
                self.version += 1
                self._gone[id] = self.version
        now = time.time()
        for id, path in paths.items():
            if self._end.is_set():
                return
            self._look_at(id, path, now)
        self.is_complete = True
        self._let_go()

    def _find(self) -> tuple[dict[str, Path], list[str]]:
        paths: dict[str, Path] = {}
        problems = []
        roots: set[str] = set()
        for name in self.names:
            try:
                found = runs.find([name])
            except (runs.Refusal, OSError) as error:
                problems.append(_utf8(str(error)))
                continue
            paths |= {self._id(path): path for path in found}
            roots |= {os.path.realpath(root) for root in _roots(name, found)}
        self._roots = sorted(roots)
        return paths, problems

    def _id(self, path: Path) -> str:
        """The same as long as the folder is named the same way: links outlive the server."""
        stem = path.with_suffix("")
        return hashlib.blake2s(os.fsencode(stem), digest_size=6).hexdigest()

    def _look_at(self, id: str, path: Path, now: float) -> None:
        entry = self._entries.get(id)
        if entry is None:
            journal = runs.journal_of(path)
            entry = Entry(id, journal if journal.exists() else path)
            with self.lock:
                self._entries[id] = entry
                self._gone.pop(id, None)
        why = self._why_not(path, in_look=True)
        if why:
            with self.lock:
                entry.following = None
                entry.seen = ()
            self._tell(entry, runs.Found(path, None, why), now)
            return
        if entry.following is not None and (entry.following.is_alive or entry.row.get("live")):
            return  # it is read on; its snapshots say nothing that is new
        try:
            stats = [os.stat(p) for p in dict.fromkeys((path, entry.path))]
        except OSError:
            return
        seen = (str(path), *((s.st_ino, s.st_size, s.st_mtime_ns) for s in stats))
        if seen == entry.seen:
            return
        entry.seen = seen
        is_file = stat.S_ISREG(stats[-1].st_mode)  # to open a FIFO would wait for ever
        alive = runs.is_journal(entry.path) and is_file and eventlog.is_locked(entry.path)
        found = None if alive or runs.is_journal(path) else _glance(path, entry.path)
        if found is not None:
            self._tell(entry, found, now)
        else:
            with self.lock:
                entry.following = entry.following or Following(entry.path)

    def is_inside(self, path: Path) -> bool:
        """Whether a path leads to somewhere in the folders, wherever its links go."""
        return self._is_inside(os.path.realpath(path))

    def _is_inside(self, real: str) -> bool:
        inside = (real.startswith(root.rstrip(os.sep) + os.sep) for root in self._roots)
        return real in self._roots or any(inside)

    def _why_not(self, path: Path, *, in_look: bool = False) -> str:
        """A link may lead anywhere; what it leads to is shown only if it is in the folders."""
        folder = self._reals.get(path.parent) if in_look else None
        if folder is None:  # a trial's folder may be a link
            folder = self._reals[path.parent] = os.path.realpath(path.parent)
        if not self._is_inside(folder):
            return "in a folder that is a link out of the folders that are served"
        for file in (path, runs.journal_of(path)):
            if os.path.islink(file) and not self.is_inside(file):
                return "a link that leads out of the folders that are served"
        return ""

    def read_on(self) -> bool:
        """Read a little of each run that is followed; whether there is more to read at once."""
        more = False
        for entry in list(self._entries.values()):
            following = entry.following
            if following is None:
                continue
            with entry.lock:
                changed = following.read_on(SLICE_S)
                more |= following.is_reading
                if changed or not entry.row:
                    self._tell_followed(entry, following)
            time.sleep(0)  # who waits for this run gets it now
        return more

    def _tell_followed(self, entry: Entry, following: Following) -> None:
        if following.error:
            found = runs.Found(entry.path, None, following.error)
        elif following.known.n_records:
            found = runs.Found(entry.path, following.run())
        else:
            return
        self._tell(entry, found, time.time(), following)

    def _tell(
        self, entry: Entry, found: runs.Found, now: float, following: Following | None = None
    ) -> None:
        row = rows_.row(found, now)
        row["age_s"] = None  # it would change with every look: a reader has `started`
        row["id"] = entry.id
        row["file"] = entry.path.name
        for key in ("run", "file", "path", "error"):
            row[key] = _utf8(row[key])
        row["config"], row["metadata"] = _bounded(row["config"]), _bounded(row["metadata"])
        row |= _place(following, row)
        with self.lock:
            self._enter(entry, row | {"alerts": entry.alerts})

    def _enter(self, entry: Entry, row: rows_.Row) -> None:
        if row != entry.row:
            self.version += 1
            entry.row, entry.version = row, self.version

    def _let_go(self) -> None:
        """Forget the curves of runs that ended and that nobody has looked at lately."""
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
    """The folders that are served because of a name: itself, or those of the runs it means."""
    if os.path.isdir(name):
        return [name]
    if any(c in name for c in "*?["):
        parts = Path(name).parts
        return [Path(*itertools.takewhile(lambda part: not set(part) & set("*?["), parts))]
    return [path.parent for path in found]


def _glance(path: Path, journal: Path) -> runs.Found | None:
    """The run of a run JSON without its arrays; None: its journal must tell.

    `runs.glance_at` would fold the journal of one that says `running`, rows and all.
    """
    try:
        runs.check_is_regular_file(path)
        run = runs._read_ends(path)
    except eventlog.EventlogError as error:
        return runs.Found(path, None, str(error).removeprefix(f"{path}: "))
    except OSError as error:
        return runs.Found(path, None, error.strerror or str(error))
    if run is None or run.status == "running":
        return None if runs.is_journal(journal) else runs.load_at(path)
    return runs.Found(path, run, is_whole=False)


def _place(following: Following | None, row: rows_.Row) -> dict[str, Any]:
    """How far a run is: its last iteration, and of how many."""
    total = rows_.value(row, "config.max_iters")
    return {
        "max_iters": total if type(total) is int else None,
        "last_iter": following.iterations.last_iter if following else None,
        "progress": following.progress if following and following.is_reading else None,
    }


def _utf8(text: Any) -> Any:
    """A file's name may be any bytes; one that is no UTF-8 must not keep the page from all."""
    return text.encode("utf-8", "replace").decode() if isinstance(text, str) else text


def _bounded(values: dict[str, Any], prefix: str = "", depth: int = 0) -> dict[str, Any]:
    """Nested settings as dotted names, so many of them, each so long."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"[:TEXT_MAX]
        if isinstance(value, dict) and depth < 4:
            flat |= _bounded(value, f"{name}.", depth + 1)
        elif isinstance(value, str | list | dict):
            text = value if isinstance(value, str) else _text(value)
            flat[name] = text if len(text) <= TEXT_MAX else text[:TEXT_MAX] + "…"
        else:
            flat[name] = value
        if len(flat) >= CONFIG_MAX:
            break
    return dict(list(flat.items())[:CONFIG_MAX])


def _text(value: Any) -> str:
    """A list or a deep object in brief: no more of it is made text than is shown."""
    if isinstance(value, list):
        return f"[{', '.join(str(v)[:40] for v in value[:20])}{', …' * (len(value) > 20)}]"
    return f"{{{len(value)} entries}}"
