"""The segments of a run: found by their names in the folders that are known so far.

Also what is wrong with them as files: missing, unreadable, of another run.
"""

import bisect
import contextlib
import errno
import os
import socket
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from eventlog.disk import file_system_of, made_ns
from eventlog.format.files import parse_orphan
from eventlog.format.record import Record
from eventlog.format.times import seconds
from eventlog.read.candidates import Candidate, by_session, list_segments
from eventlog.read.defects import Defect
from eventlog.read.ends import first_open


class _Expected(NamedTuple):
    """A segment in which a session says it went on."""

    folder: str
    record: Record
    file: str


class Place(NamedTuple):
    """Where the fallback folder of a session was when it began, and which folder it was."""

    host: Any = None
    device: Any = None
    made_ns: Any = None
    opened: str = ""
    """When the session began."""


class Segments:
    """The segments of the journal `path`. If `path` is a segment of a run whose journal is gone:
    those of that run.

    Args:
        folders: the folders to search, the journal's own first; `add_folder` adds to it.
        sessions: those whose records were read, which the reader adds to.
    """

    def __init__(self, path: Path, folders: dict[Path, None], sessions: Mapping[str, None]) -> None:
        self.path = path
        self.folders = folders
        self.run_id: str | None = None
        self.by_session: dict[str, list[Candidate]] = {}
        """Files that are named like segments, by session; see `ours`."""
        self._stem, self._only_run = parse_orphan(path) or (path.stem, "")
        self._sessions = sessions
        self._candidates: dict[Path, Candidate] = {}
        self._files: set[tuple[str, int, int, int]] = set()  # session, number, device, inode
        self._unreadable_folders: dict[Path, OSError] = {}
        self._expected: dict[tuple[str, str], _Expected] = {}
        self._fallbacks: dict[str, tuple[Path, Place]] = {}

    # ---- finding

    def find(self) -> None:
        """Find files that are named like segments."""
        if self.run_id is None:
            with contextlib.suppress(OSError):
                opened = first_open(self.path)
                run_id = opened.fields.get("run_id") if opened is not None else None
                self.run_id = run_id if isinstance(run_id, str) else None
        known, self._candidates = self._candidates, {}
        self._unreadable_folders.clear()
        self._files.clear()
        for folder in self.folders:
            new = self._find_in(folder, known)
            if self.run_id is None:  # then a segment beside the journal may have it
                beside = [c for c in new if c.is_beside and c.run_id]
                beside.sort(key=lambda c: c.path.name)
                self.run_id = beside[0].run_id if beside else None
        self.by_session = by_session(self._candidates.values())

    def add_folder(self, folder: Path) -> set[str]:
        """Search one more folder; returns the sessions of which segments were found in it."""
        if folder in self.folders:
            return set()
        self.folders[folder] = None
        new = self._find_in(folder, {})
        for candidate in new:
            of_session = self.by_session.setdefault(candidate.s, [])
            bisect.insort(of_session, candidate, key=lambda c: (c.number, c.path))
        return {candidate.s for candidate in new}

    def _find_in(self, folder: Path, known: dict[Path, Candidate]) -> list[Candidate]:
        try:
            listed = list_segments(self._stem, folder, is_beside=folder == self.path.parent)
        except (OSError, ValueError) as error:  # a fallback folder need not be there
            if isinstance(error, OSError):
                self._unreadable_folders[folder] = error
            return []
        new = []
        for candidate in listed:
            if self._only_run and candidate.run != self._only_run:
                continue
            candidate = known.get(candidate.path, candidate)
            candidate.read_first_records()
            if self._is_new_file(candidate):
                self._candidates[candidate.path] = candidate
                new.append(candidate)
        return new

    def _is_new_file(self, candidate: Candidate) -> bool:
        """False: it is a segment that was found already, a link to one, or the file at `path`."""
        if self._only_run and candidate.path.name == self.path.name:
            return False
        try:
            status = os.stat(candidate.path)
        except OSError:
            return True
        file = (candidate.s, candidate.number, status.st_dev, status.st_ino)
        is_new = file not in self._files
        self._files.add(file)
        return is_new

    # ---- whose they are

    def ours(self, s: str) -> list[Candidate]:
        """The segments of session `s` of this run, in the order in which they were written."""
        of_session = self.by_session.get(s, ())
        of_session = [c for c in of_session if not c.is_of_another_run(self.run_id)]
        is_ours = s in self._sessions or any(c.belongs_to(self.run_id) for c in of_session)
        return of_session if is_ours else []

    def readable(self) -> Iterable[Candidate]:
        """All segments of this run that can be read."""
        return (c for s in self.by_session for c in self.ours(s) if c.error is None)

    @property
    def others(self) -> set[str]:
        """Sessions of other runs, whose segments have the name of this one's journal."""
        return {s for s in self.by_session if not self.ours(s)}

    def first_record(self, s: str) -> Record | None:
        """The first record in the segments of session `s`."""
        return next((c.first for c in self.ours(s) if c.first and c.error is None), None)

    # ---- what is wrong

    def expect(self, record: Record, folder: str, file: str) -> None:
        """Remember a `segment` event: its session goes on in a file in `folder`.

        `file`: where the event stands; empty for the journal.
        """
        self._expected[record.s, record.fields["file"]] = _Expected(folder, record, file)

    def missing(self, read: Iterable[Path], closed: Mapping[str, int]) -> list[Defect]:
        """The segments that sessions went on in and that are not here, or cannot be read.

        `read`: the files that were; `closed`: the sessions whose `close` event was read.
        """
        names = {path.name for path in (self.path, *read)}
        names |= {c.path.name for c in self._candidates.values() if c.error is not None}
        defects = [
            self._missing(s, name, expected, closed)
            for (s, name), expected in self._expected.items()
            if name not in names
        ]
        return defects + [
            Defect(
                "missing_segment",
                -1,
                session=c.s,
                lost=_cost_without(c.s, closed),
                file=c.path.name,
                detail=f"{c.path}: {c.error.strerror}",
            )
            for c in self._candidates.values()
            if c.error is not None and not c.is_of_another_run(self.run_id)
            if c.run or (c.is_file and (c.is_beside or c.s in self._sessions))
        ]

    def _missing(self, s: str, name: str, expected: _Expected, closed: Mapping[str, int]) -> Defect:
        folder, record, file = expected
        error = self._unreadable_folders.get(Path(folder))
        why = f": {error.strerror}" if error is not None else ""
        return Defect(
            "missing_segment",
            record.offset,
            record.size_bytes,
            s,
            lost=_cost_without(s, closed),
            file=file,
            detail=f"{os.path.join(folder, name)}{why}",
        )

    def note_fallback(self, s: str, folder: Path, place: Place) -> None:
        """Remember that `folder` was there when session `s` began."""
        self._fallbacks[s] = folder, place

    def missing_folders(self, s: str) -> list[Defect]:
        """Fallback folders that are gone or cannot be read, where session `s` may have gone on.

        One that is not there counts if it was when the session began; also if it was made again
        since. It costs nothing on another machine, or if another file system is in its place: a new
        container.
        """
        was_there, place = self._fallbacks.get(s, (None, Place()))
        of_named = {Path(expected.folder) for expected in self._expected.values()}
        defects = []
        for folder, error in self._unreadable_folders.items():
            is_gone = error.errno == errno.ENOENT
            if folder in of_named or (is_gone and folder != was_there):
                continue
            is_elsewhere = is_gone and not _is_here(place, folder.parent)
            where = f"{folder} of {place.host}" if is_elsewhere else f"{folder}: {error.strerror}"
            lost = 0 if is_elsewhere else None
            defects.append(Defect("missing_folder", -1, session=s, lost=lost, detail=where))
        if was_there is None or was_there in (*self._unreadable_folders, *of_named):
            return defects
        if any(c.path.parent == was_there for c in self.ours(s)):
            return defects  # the writer may have made the folder again itself
        if place.host != socket.gethostname():
            where = f"{was_there} of {place.host}"
            defects.append(Defect("missing_folder", -1, session=s, lost=0, detail=where))
        elif self._was_made_again(was_there, place):
            where = f"{was_there}: deleted and made again since the session began"
            defects.append(Defect("missing_folder", -1, session=s, lost=None, detail=where))
        return defects

    def _was_made_again(self, folder: Path, place: Place) -> bool:
        """Whether a fallback folder is another one than when its session began."""
        if not _is_here(place, folder) or _was_restored(folder):
            return False
        if place.made_ns is None or made_ns(folder) in (None, place.made_ns):
            return False
        return not _was_made_after(self.path, place.opened)

    def other_files(self) -> list[Defect]:
        """What is named like a segment and is a directory, a FIFO, another run's segment, ..."""
        other = []
        for c in self._candidates.values():
            is_near = c.is_beside or c.s in self._sessions
            if c.error is not None and not c.is_file and is_near and not c.run:
                other.append((c, c.error.strerror or str(c.error)))
            elif c.is_beside and c.error is None and c.is_of_another_run(self.run_id):
                other.append((c, "is of another run"))
        return [
            Defect("other_file", -1, session=c.s, lost=0, file=c.path.name, detail=why)
            for c, why in other
        ]


def _was_restored(folder: Path) -> bool:
    """Whether a folder was changed before it was made: a program made it with an earlier time."""
    with contextlib.suppress(OSError):
        return os.stat(folder).st_mtime_ns < (made_ns(folder) or 0)
    return False


def _was_made_after(journal: Path, t: str) -> bool:
    """Whether a journal was made after one of its sessions began: it was copied or restored, and
    the session's other folders perhaps, too."""
    made, opened_s = made_ns(journal), seconds(t)
    return made is not None and opened_s is not None and made > (opened_s + 1.0) * 1e9


def _is_here(place: Place, folder: Path) -> bool:
    """Whether a folder, or what is left of its path, is on that machine and file system."""
    try:
        existing = next(f for f in (folder, *folder.parents) if os.path.lexists(f))
        if existing != folder and file_system_of(existing) == "overlay":
            return False  # another container may have the same numbers
        return place[:2] == (socket.gethostname(), os.stat(existing).st_dev)
    except (OSError, ValueError):
        return False


def _cost_without(s: str, closed: Mapping[str, int]) -> int | None:
    """How many events a missing segment of session `s` costs beyond the gaps; None: unknown.

    0 if the end of the session was read: then the numbers show every missing record.
    """
    return 0 if s in closed else None
