"""The records of a run in the order of events, from its journal and its segments.

A segment is where a session went on after its file failed; it stands beside the journal or in
the session's `fallback` folder. What it has of a session comes before the next session of the
journal. Which segments are the run's: `candidates.py`. Where sessions belong that stand in
segments alone: `order.py`.
"""

import bisect
import contextlib
import errno
import heapq
import os
from collections.abc import Container, Iterator
from itertools import chain, groupby
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

from eventlog.blocks import read_chunks
from eventlog.format.files import parse_orphan
from eventlog.format.record import Record
from eventlog.read.batch import Batch, singly
from eventlog.read.candidates import Candidate, by_session, list_segments
from eventlog.read.ends import first_open
from eventlog.read.order import SessionStart, in_order, session_start, sessions_among, starts_in
from eventlog.read.scanner import Scanner
from eventlog.read.sequence import Defect, Ledger


def scan(path: str | os.PathLike[str]) -> Iterator[Record]:
    """The verified records of a run, in order, from its journal and its segments."""
    return Reader(Path(path)).read_on(to_the_end=True)


_LATEST = "~"  # behind every time, as text


class Aside(NamedTuple):
    """A file that has the content of an event too large for a line, as that line says."""

    folder: Path
    name: Any
    size_bytes: Any
    sha256: Any
    offset: int
    s: str
    n: int
    file: str


class _Expected(NamedTuple):
    """A segment in which a session says it went on."""

    folder: str
    record: Record
    file: str


class Reader:
    """Reads a journal as far as it is, and on when it has grown.

    Or a segment whose journal is gone, and the others of its run.
    """

    def __init__(self, path: Path, *, start: int = 0) -> None:
        """A reader of the journal `path`, from byte `start` on: 0 to judge it, later to look."""
        self.path = path
        self._stem, self._of_run = parse_orphan(path) or (path.stem, "")
        self._folders = {path.parent: None}
        self.restart(start)

    def restart(self, start: int = 0) -> None:
        """Forget all that was read."""
        self._start = start
        self.ledger = Ledger()
        self.journal = Scanner(self.ledger, in_batches=True)
        self.asides: list[Aside] = []
        """The files that lines of the run name as their content."""
        self.remarks: list[Record] = []
        """Where sessions went on, what was not logged, and what a resumed training found lost."""
        self._segments: dict[Path, Scanner] = {}
        self._closed_folders: dict[Path, OSError] = {}
        self._candidates: dict[Path, Candidate] = {}
        self._files: set[tuple[str, int, int, int]] = set()  # session, number, device, inode
        self._by_session: dict[str, list[Candidate]] = {}
        self._read_now: set[Path] = set()
        self._expected: dict[tuple[str, str], _Expected] = {}
        self._in_journal: set[str] = set()  # sessions with segments that have records there too
        self._alone: dict[str, SessionStart] = {}  # those that stand in segments alone
        self._notes: dict[str, str] = {}  # annotators with their time, and those without a record
        self._unplanned: dict[str, None] = {}  # of which is not known yet which of these they are
        self._order: list[str] = []  # of all sessions, where some stand in segments alone
        self._places: dict[str, int] = {}  # of the sessions in the order
        self._order_size = -1  # of the journal, when the order was made
        self._n_passed = 0  # so many of the order were given, or stand in the journal
        self._run_id: str | None = None
        self._sessions: dict[str, None] = {}  # those whose records were given, in order
        self._last_n: dict[str, int] = {}  # of those that were given from segments
        self._latest = ""  # the session whose record was given last
        self.closed: dict[str, int] = {}
        """The number of the `close` event of each session that has one."""
        self._identity: tuple[int, int] | None = None  # of the file that is read
        self._ended = False
        self.is_misordered = False
        """Whether records came too late for the order of events: `restart` then, and read anew."""

    @property
    def end(self) -> int:
        """The byte of the journal up to which it was read."""
        return self._start + self.journal.size_bytes

    @property
    def is_outdated(self) -> bool:
        """Whether what was read may not stand in the journal any more: `restart` then.

        A torn tail is cut when somebody writes again, and what was read as the end is none.
        """
        now = os.stat(self.path)
        return (
            self._ended
            or self.is_misordered
            or now.st_size < self.end
            or self._identity not in (None, (now.st_dev, now.st_ino))
        )

    @property
    def is_behind(self) -> bool:
        """Whether the files have other bytes than those that were read, or there are more files."""
        read = {self.path: self.end}
        read |= {path: scanner.size_bytes for path, scanner in self._segments.items()}
        self._look()
        ours = (c for s in self._by_session for c in self._ours(s) if c.error is None)
        there = [self.path, *(c.path for c in ours)]
        return any(_size_of(path) not in (None, read.get(path)) for path in there)

    @property
    def files(self) -> list[Path]:
        """The files that were read: the journal and its segments."""
        return [self.path, *self._segments]

    def segments_of(self, sessions: Container[str]) -> list[Path]:
        """The segments that were read, of these sessions."""
        return [c.path for s in self._by_session if s in sessions for c in self._ours(s)]

    @property
    def others(self) -> set[str]:
        """Sessions of other runs, whose segments have the name of this one's journal."""
        return {s for s in self._by_session if not self._ours(s)}

    @property
    def folders(self) -> list[Path]:
        """The folders in which the run's files may stand: the journal's first."""
        return [*self._folders]

    @property
    def segments(self) -> list[dict[str, Any]]:
        """What was read of each segment."""
        return [
            {"file": path.name, "bytes": scanner.size_bytes, "crc": f"{scanner.crc:08x}"}
            for path, scanner in sorted(self._segments.items())
        ]

    @property
    def defects(self) -> list[Defect]:
        """Everything found wrong so far, the journal's own first, by offset."""
        damage = [d for scanner in self._segments.values() for d in scanner.damage]
        files = [*self._bad_files(), *self.missing_segments]
        found = [*self.journal.defects, *damage, *files]
        return sorted(found, key=lambda defect: (defect.file, defect.offset))

    @property
    def missing_segments(self) -> list[Defect]:
        """The segments in which sessions say they went on, and that are not here."""
        read = {self.path.name, *(path.name for path in self._segments)}
        unreadable = {c.path.name for c in self._candidates.values() if c.error is not None}
        missing = []
        for (s, name), (folder, record, file) in self._expected.items():
            if name not in read and name not in unreadable:
                error = self._closed_folders.get(Path(folder))
                why = f": {error.strerror}" if error is not None else ""
                where = f"{os.path.join(folder, name)}{why}"
                lost = self._cost_without(s)
                missing.append(
                    Defect(
                        "missing_segment",
                        record.offset,
                        record.size_bytes,
                        s,
                        lost=lost,
                        file=file,
                        detail=where,
                    )
                )
        return missing + self._unreadable_segments() + self._unreadable_folders()

    def _unreadable_folders(self) -> list[Defect]:
        """Fallback folders that cannot be read, where a session without an end may have gone on."""
        sessions = [s for s in self._sessions if s not in self._notes]
        if not self._ended or not sessions or sessions[-1] in self.closed:
            return []
        return [
            Defect(
                "missing_segment",
                -1,
                session=sessions[-1],
                lost=None,
                detail=f"{folder}: {error.strerror}; the session may have gone on there",
            )
            for folder, error in self._closed_folders.items()
            if error.errno != errno.ENOENT
        ]

    def _unreadable_segments(self) -> list[Defect]:
        return [
            Defect(
                "missing_segment",
                -1,
                session=c.s,
                lost=self._cost_without(c.s),
                file=c.path.name,
                detail=f"{c.path}: {c.error.strerror}",
            )
            for c in self._candidates.values()
            if c.error is not None and not c.is_of_another_run(self._run_id)
            if c.run or (c.is_file and (c.is_beside or c.s in self._sessions))
        ]

    def _cost_without(self, s: str) -> int | None:
        """What the lack of a segment of session `s` costs beyond the gaps; None: unknown.

        Nothing, where the session's end is here: then each record that is missing has a number.
        """
        return 0 if s in self.closed else None

    def _bad_files(self) -> list[Defect]:
        """What has a segment's name and is a directory, a FIFO, another run's, ..."""
        bad = []
        for c in self._candidates.values():
            is_near = c.is_beside or c.s in self._sessions
            if c.error is not None and not c.is_file and is_near and not c.run:
                bad.append((c, c.error.strerror or str(c.error)))
            elif c.is_beside and c.error is None and c.is_of_another_run(self._run_id):
                bad.append((c, "is of another run"))
        return [
            Defect("other_file", -1, session=c.s, lost=0, file=c.path.name, detail=why)
            for c, why in bad
        ]

    # ---- reading

    def read_on(self, *, to_the_end: bool) -> Iterator[Record]:
        """The records that were not given before.

        `to_the_end`: nobody writes any more, so a last line without LF is the end of it.
        """
        return singly(self.read_batches_on(to_the_end=to_the_end))

    def read_batches_on(
        self, *, to_the_end: bool, most_bytes: int | None = None
    ) -> Iterator[Record | Batch]:
        """As `read_on`, and many iterations at once where nothing is unusual about them.

        `most_bytes`: about where to stop for this time, as long as the run has no segments.
        """
        now = os.stat(self.path)
        self._identity = (now.st_dev, now.st_ino)
        self._read_now.clear()
        self._look()
        self._plan()
        most_bytes = None if self._by_session else most_bytes
        journal = self._read(self.path, self.journal, to_the_end, self._start, most_bytes)
        done = set()
        for s, group in groupby(journal, key=attrgetter("s")):
            first = next(group)
            if s not in self._sessions:
                self._plan(new=s)
                for before in self._alone_before(s):
                    yield from self._give_segments(before, to_the_end)
                    done.add(before)
                self._sessions.setdefault(s)
            elif self._latest in self._alone:  # it went on in the journal, and comes before that
                self.is_misordered = True
            self._latest = s
            # The file that failed may have holes that only the segment fills: by number, then.
            segments = self._read_segments(s, to_the_end)
            whole = chain([first], group)  # noqa: B031 (the first is put back, not read twice)
            yield from self._by_number(s, [whole, *segments]) if segments else whole
            done.add(s)
        while left := self._left(to_the_end):  # what is read may name a folder with more of them
            for s in left:
                for record in self._give_segments(s, to_the_end):
                    # Of a folder that was named too late, by the session itself.
                    self.is_misordered = self.is_misordered or s in done
                    yield record
        given = [s for s in self._sessions if s in self._places]
        right = [s for s in self._order if s in self._sessions]
        self.is_misordered = self.is_misordered or given != right
        self._ended = to_the_end

    def _left(self, to_the_end: bool) -> list[str]:
        """The sessions of which a segment was not looked into, in order."""
        self._plan()
        last_of_all = sorted(self._notes, key=lambda s: (self._notes[s], s))
        known = [*self._sessions, *self._alone_before(None), *last_of_all]
        if to_the_end and not self._start:  # also those of whose sessions nothing is given
            known += [s for s in self._by_session if s in self._in_journal]
        return [s for s in dict.fromkeys(known) if self._unread(s)]

    def _unread(self, s: str) -> list[Candidate]:
        return [c for c in self._ours(s) if c.error is None and c.path not in self._read_now]

    def _read(
        self,
        path: Path,
        scanner: Scanner,
        to_the_end: bool,
        start: int = 0,
        most_bytes: int | None = None,
    ) -> Iterator[Record | Batch]:
        last = None if most_bytes is None else scanner.size_bytes + most_bytes
        scanner.forget_pending()  # it may be a torn line that was cut since
        file = scanner.file

        def note_hole(offset: int, size_bytes: int) -> None:
            scanner.note_hole(offset - start, size_bytes)

        for chunk in read_chunks(path, start + scanner.size_bytes, note_hole):
            for item in scanner.feed_on(chunk):
                self._note(item, path.parent, file)
                yield item
            if last is not None and scanner.size_bytes >= last:
                return
        if to_the_end:
            for record in scanner.finish():
                self._note(record, path.parent, file)
                yield record

    def _give_segments(self, s: str, to_the_end: bool) -> Iterator[Record]:
        streams = self._read_segments(s, to_the_end)
        if streams:
            is_late = s in self._sessions and s != self._latest  # behind later sessions
            self._sessions.setdefault(s)
            for record in self._by_number(s, streams):
                if "annotates" not in record.fields:  # those have no place in the order
                    self.is_misordered = self.is_misordered or is_late
                    self._latest = s
                yield record

    def _read_segments(self, s: str, to_the_end: bool) -> list[Iterator[Record | Batch]]:
        """What the segments of session `s` have that was not given, a stream for each."""
        return [self._read_segment(candidate, to_the_end) for candidate in self._unread(s)]

    def _read_segment(self, candidate: Candidate, to_the_end: bool) -> Iterator[Record | Batch]:
        path = candidate.path
        self._read_now.add(path)
        scanner = self._segments.setdefault(path, Scanner(self.ledger, path.name))
        try:
            yield from self._read(path, scanner, to_the_end)
        except OSError as error:  # it was readable a moment ago
            candidate.error = error

    def _by_number(self, s: str, streams: list[Iterator[Record | Batch]]) -> Iterator[Record]:
        """The records of one session from all its files, in its order."""
        last = self._last_n.get(s, -1)
        for record in heapq.merge(*map(singly, streams), key=attrgetter("n")):
            self.is_misordered = self.is_misordered or record.n < last
            last = self._last_n[s] = max(last, record.n)
            yield record

    # ---- what lines say of files and folders

    def _note(self, item: Record | Batch, folder: Path, file: str) -> None:
        if isinstance(item, Batch):
            if "set_aside" in item.shape.constants:
                self._note_aside(item.shape.constants["set_aside"], item.last, folder, file)
            return
        fields = item.fields
        if "set_aside" in fields:
            self._note_aside(fields["set_aside"], item, folder, file)
        match item.event:
            case "iter" | "metrics":
                return
            case "open":
                self._note_open(item, folder, file)
            case "close":
                self.closed[item.s] = item.n
            case "ignored" | "lost_tail":
                self.remarks.append(item)
            case "segment" if isinstance(fields.get("file"), str):
                at = fields.get("folder")
                at = at if isinstance(at, str) and os.path.isabs(at) else str(folder)
                self._expected[item.s, fields["file"]] = _Expected(at, item, file)
                self.remarks.append(item)
                self._add_folder(Path(at))

    def _note_open(self, record: Record, folder: Path, file: str) -> None:
        for part in ("config", "metadata"):
            held = record.fields.get(part)
            if isinstance(held, dict) and "set_aside" in held:
                self._note_aside(held["set_aside"], record, folder, file)
        fallback = record.fields.get("fallback")
        if isinstance(fallback, str):
            self._add_folder(Path(fallback))

    def _note_aside(self, said: Any, record: Record, folder: Path, file: str) -> None:
        if isinstance(said, dict) and "sha256" in said:
            name, size, sha256 = said.get("file"), said.get("size_bytes"), said["sha256"]
            place = (record.offset, record.s, record.n, file)
            self.asides.append(Aside(folder, name, size, sha256, *place))

    # ---- segments

    def _look(self) -> None:
        """Find what is called like a segment in the folders that are known by now."""
        if self._run_id is None:
            with contextlib.suppress(OSError):
                opened = first_open(self.path)
                run_id = opened.fields.get("run_id") if opened is not None else None
                self._run_id = run_id if isinstance(run_id, str) else None
                self.ledger.run_id = self.ledger.run_id or self._run_id
        known, self._candidates = self._candidates, {}
        self._closed_folders.clear()
        self._files.clear()
        for folder in self._folders:
            found = self._look_into(folder, known)
            if self._run_id is None:  # then a segment beside the journal may have it
                beside = [c for c in found if c.is_beside and c.run_id]
                beside.sort(key=lambda c: c.path.name)
                self._run_id = beside[0].run_id if beside else None
                self.ledger.run_id = self.ledger.run_id or self._run_id
        self._by_session = by_session(self._candidates.values())
        self._n_passed = 0
        self._unplanned = dict.fromkeys([*self._by_session, *self._alone, *self._notes])

    def _look_into(self, folder: Path, known: dict[Path, Candidate]) -> list[Candidate]:
        """What is called like a segment in a folder and was not found before."""
        try:
            found = list_segments(self._stem, folder, is_beside=folder == self.path.parent)
        except (OSError, ValueError) as error:  # a fallback folder need not be there
            if isinstance(error, OSError):
                self._closed_folders[folder] = error
            return []
        new = []
        for candidate in found:
            if self._of_run and candidate.run != self._of_run:
                continue
            candidate = known.get(candidate.path, candidate)
            candidate.look()
            if self._is_new_file(candidate):
                self._candidates[candidate.path] = candidate
                new.append(candidate)
        return new

    def _is_new_file(self, candidate: Candidate) -> bool:
        """False: it is a link to a segment that was found, or that one, or the file itself."""
        if self._of_run and candidate.path.name == self.path.name:
            return False
        try:
            status = os.stat(candidate.path)
        except OSError:
            return True
        file = (candidate.s, candidate.number, status.st_dev, status.st_ino)
        is_new = file not in self._files
        self._files.add(file)
        return is_new

    def _add_folder(self, folder: Path) -> None:
        if folder in self._folders:
            return
        self._folders[folder] = None
        for candidate in self._look_into(folder, {}):
            of_session = self._by_session.setdefault(candidate.s, [])
            bisect.insort(of_session, candidate, key=lambda c: (c.number, c.path))
            self._unplanned[candidate.s] = None
            if candidate.s in self._sessions:  # it was given without this one
                self.is_misordered = True

    def _ours(self, s: str) -> list[Candidate]:
        """The segments of session `s` of this run."""
        of_session = self._by_session.get(s, ())
        of_session = [c for c in of_session if not c.is_of_another_run(self._run_id)]
        is_ours = s in self._sessions or any(c.belongs_to(self._run_id) for c in of_session)
        return of_session if is_ours else []

    def _first_of(self, s: str) -> Record | None:
        """The first record in the segments of session `s`."""
        return next((c.first for c in self._ours(s) if c.first and c.error is None), None)

    # ---- sessions that stand in segments alone

    def _plan(self, new: str | None = None) -> None:
        """Find out which sessions stand in segments alone, and the order of all sessions.

        Where there are none the order is that of the journal, and `_order` is empty. `new` is a
        session of the journal that is about to be given.
        """
        if self._start:
            return  # only what is said from there on was asked for
        if new in self._by_session:
            self._unplanned[new] = None
        unplanned, self._unplanned = self._unplanned, {}
        is_changed = self._plan_sessions([*unplanned], new)
        if self._alone and (is_changed or self._is_unordered(new)):
            self._order_size = os.stat(self.path).st_size
            starts = starts_in(self.path, self._run_id)
            self._order = in_order(starts, [*self._alone.values()])
            self._places = {s: place for place, s in enumerate(self._order)}
            self._n_passed = 0

    def _is_unordered(self, s: str | None) -> bool:
        """Whether a session of the journal came after the order was made."""
        if s is None or s in self._places:
            return False
        return os.stat(self.path).st_size != self._order_size

    def _plan_sessions(self, sessions: list[str], new: str | None) -> bool:
        """Find out which of these stand in segments alone; whether that is news."""
        firsts = {s: self._first_of(s) for s in sessions if s not in self._in_journal}
        asked = [s for s, first in firsts.items() if s not in self._alone and _is_own(first)]
        self._in_journal.update(s for s in asked if s in self._sessions)  # given from there
        unknown = [s for s in asked if s not in self._sessions and s != new]
        self._in_journal |= sessions_among(self.path, unknown)
        is_changed = False
        for s in sessions:
            was = self._alone.pop(s, None)
            self._notes.pop(s, None)
            if s in self._by_session and s not in self._in_journal and s != new:
                self._plan_one(s, firsts[s])
            is_changed = is_changed or was != self._alone.get(s)
        if new is not None and new in self._by_session:
            self._unplanned[new] = None  # when it is given, more of its segments may be its own
        return is_changed

    def _plan_one(self, s: str, first: Record | None) -> None:
        if first is None:
            self._notes[s] = _LATEST
        elif not _is_own(first):
            self._notes[s] = first.t
        else:  # an earlier segment of it may have been found since
            self._alone[s] = session_start(first)

    def _alone_before(self, s: str | None) -> list[str]:
        """The sessions in segments alone that are to be given before `s`; None: all."""
        if s is None:
            before = self._order
        elif s not in self._places:
            return []  # it came while the order was made
        else:
            before = self._order[self._n_passed : self._places[s]]
            self._n_passed = max(self._n_passed, self._places[s])
        return [x for x in before if x in self._alone and x not in self._sessions]


def _is_own(first: Record | None) -> bool:
    """Whether a session begins with this record, and no annotator does."""
    return first is not None and "annotates" not in first.fields


def _size_of(path: Path) -> int | None:
    """None: it is not there, or cannot be asked."""
    try:
        return os.stat(path).st_size
    except OSError:
        return None
