"""The records of a run in the order of events, from its journal and its segments.

A segment is where a session went on after its file failed; it stands beside the journal or in
the session's `fallback` folder. What it has of a session comes before the next session of the
journal. `segments` decides which segments are the run's, `order` when sessions are read that are
in segments alone.
"""

import heapq
import os
from collections.abc import Container, Iterable, Iterator
from itertools import chain, groupby
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

from eventlog.blocks import read_chunks, read_head
from eventlog.format.record import ANNOTATES, Record
from eventlog.read.batch import Batch, singly
from eventlog.read.candidates import Candidate
from eventlog.read.defects import Defect
from eventlog.read.order import Plan
from eventlog.read.scanner import Scanner
from eventlog.read.segments import Place, Segments
from eventlog.read.sequence import SequenceCheck


def scan(path: str | os.PathLike[str]) -> Iterator[Record]:
    """The verified records of a run, in order, from its journal and its segments."""
    return Reader(Path(path)).read_on(to_the_end=True)


class Aside(NamedTuple):
    """A file with the content of an event too large for a line, as that line names it."""

    folder: Path
    name: Any
    size_bytes: Any
    sha256: Any
    offset: int
    s: str
    n: int
    file: str


Items = Iterator[Record | Batch]
"""Records in the order of events, and batches of them where nothing is unusual about them."""

HEAD_BYTES = 256  # has the session and the time of the first record, which no other file shares


class Reader:
    """Reads a journal with its segments, and goes on when it has grown.

    Instead of a journal that is gone it reads a segment, with the other segments of that run.
    """

    def __init__(self, path: Path, *, start: int = 0) -> None:
        """`start`: the byte of the journal to begin at, for its latest events alone."""
        self.path = path
        self._folders: dict[Path, None] = {path.parent: None}
        self.restart(start)

    @property
    def n_ignored(self) -> int:
        """Events that forked processes logged and that are in no journal."""
        counts = [r.fields.get("events") for r in self.remarks if r.event == "ignored"]
        return sum(n for n in counts if type(n) is int)

    def restart(self, start: int = 0) -> None:
        """Forget all that was read."""
        self._start = start
        self.sequence = SequenceCheck()
        self.journal = Scanner(self.sequence, in_batches=True)
        self.asides: list[Aside] = []
        """The files with the content of large events."""
        self.remarks: list[Record] = []
        """The `segment`, `ignored` and `lost_tail` events."""
        self._sessions: dict[str, None] = {}  # those whose records were read, in order
        self._segments = Segments(self.path, self._folders, self._sessions)
        self._plan = Plan(self.path, self._segments, self._sessions)
        self._scanners: dict[Path, Scanner] = {}  # of the segments that were read
        self._read_now: set[Path] = set()
        self._last_n: dict[str, int] = {}  # the highest n of those read from segments
        self._latest = ""  # the session whose record was read last
        self.closed: dict[str, int] = {}
        """The number of the first `close` event of each session that has one."""
        self._identity: tuple[int, int] | None = None  # of the file that is read
        self._head = b""  # the first bytes of the journal, as they were read
        self._ended = False
        self.is_misordered = False
        """Whether records came too late for the order of events: then `restart` and read again."""

    @property
    def end(self) -> int:
        """The byte of the journal up to which it was read."""
        return self._start + self.journal.size_bytes

    @property
    def is_outdated(self) -> bool:
        """Whether what was read may not be in the journal any more: then `restart`.

        A torn tail is cut when the run is resumed, and a last line without LF may go on. Somebody
        may have written another journal into the same file.
        """
        now = os.stat(self.path)
        return (
            self._ended
            or self.is_misordered
            or now.st_size < self.end
            or self._identity not in (None, (now.st_dev, now.st_ino))
            or read_head(self.path, len(self._head)) != self._head
        )

    @property
    def is_behind(self) -> bool:
        """Whether the files have more or fewer bytes than were read, or there are more files."""
        read = {self.path: self.end}
        read |= {path: scanner.size_bytes for path, scanner in self._scanners.items()}
        self._find_segments()
        there = [self.path, *(c.path for c in self._segments.readable())]
        return any(_size_of(path) not in (None, read.get(path)) for path in there)

    @property
    def files(self) -> list[Path]:
        """The files that were read: the journal and its segments."""
        return [self.path, *self._scanners]

    def segments_of(self, sessions: Container[str]) -> list[Path]:
        """The segments of these sessions that were read."""
        ours = self._segments
        return [c.path for s in ours.by_session if s in sessions for c in ours.ours(s)]

    @property
    def others(self) -> set[str]:
        """Sessions of other runs, whose segments have the name of this one's journal."""
        return self._segments.others

    @property
    def folders(self) -> list[Path]:
        """The folders in which the run's files may stand: the journal's first."""
        return [*self._folders]

    @property
    def segments(self) -> list[dict[str, Any]]:
        """What was read of each segment."""
        return [
            {"file": path.name, "bytes": scanner.size_bytes, "crc": f"{scanner.crc:08x}"}
            for path, scanner in sorted(self._scanners.items())
        ]

    @property
    def defects(self) -> list[Defect]:
        """All defects so far, the journal's own first, by offset."""
        damage = [d for scanner in self._scanners.values() for d in scanner.damage]
        files = [*self._segments.other_files(), *self.missing_segments]
        defects = [*self.journal.defects, *damage, *files]
        return sorted(defects, key=lambda defect: (defect.file, defect.offset))

    @property
    def missing_segments(self) -> list[Defect]:
        """The segments in which sessions went on and that are not here."""
        missing = self._segments.missing(self._scanners, self.closed)
        annotators = {*self._plan.annotators}
        own = [s for s in self._sessions if s not in annotators]
        if self._ended and own and own[-1] not in self.closed:
            missing += self._segments.missing_folders(own[-1])
        return missing

    # ---- reading

    def read_on(self, *, to_the_end: bool) -> Iterator[Record]:
        """The records that are new since the last call.

        `to_the_end`: no writer is alive, so a last line without LF is complete.
        """
        return singly(self.read_batches_on(to_the_end=to_the_end))

    def read_batches_on(self, *, to_the_end: bool, most_bytes: int | None = None) -> Items:
        """As `read_on`, with batches of events where nothing is unusual about them.

        `most_bytes`: stop after about so many, as long as the run has no segments.
        """
        now = os.stat(self.path)
        self._identity = (now.st_dev, now.st_ino)
        self._read_now.clear()
        self._find_segments()
        self._update_plan()
        most_bytes = None if self._segments.by_session else most_bytes
        journal = self._read(self.path, self.journal, to_the_end, self._start, most_bytes)
        done = set()
        for s, group in groupby(journal, key=attrgetter("s")):
            first = next(group)
            if s not in self._sessions:
                self._update_plan(new=s)
                for before in self._plan.alone_before(s):
                    yield from self._give_segments(before, to_the_end)
                    done.add(before)
                self._sessions.setdefault(s)
            elif self._latest in self._plan.alone:
                self.is_misordered = True  # `s` goes on in the journal, and comes before that one
            self._latest = s
            # The file that failed may have holes that only the segment fills: merge by number.
            segments = self._read_segments(s, to_the_end)
            whole = chain([first], group)  # noqa: B031 (the first is put back, not read twice)
            yield from self._by_number(s, [whole, *segments]) if segments else whole
            done.add(s)
        while left := self._left(to_the_end):  # a record may name a folder with more segments
            for s in left:
                for record in self._give_segments(s, to_the_end):
                    # The session itself named the folder, after its records were read.
                    self.is_misordered = self.is_misordered or s in done
                    yield record
        self.is_misordered = self.is_misordered or not self._plan.was_kept
        self._ended = to_the_end

    def _left(self, to_the_end: bool) -> list[str]:
        """The sessions with segments that were not read yet, in order."""
        self._update_plan()
        known = [*self._sessions, *self._plan.alone_before(None), *self._plan.annotators]
        if to_the_end and not self._start:  # also sessions without a record
            known += [s for s in self._segments.by_session if s in self._plan.in_journal]
        return [s for s in dict.fromkeys(known) if self._unread(s)]

    def _unread(self, s: str) -> list[Candidate]:
        ours = self._segments.ours(s)
        return [c for c in ours if c.error is None and c.path not in self._read_now]

    def _find_segments(self) -> None:
        self._segments.find()
        self.sequence.run_id = self.sequence.run_id or self._segments.run_id
        self._plan.renew()

    def _update_plan(self, new: str | None = None) -> None:
        if not self._start:  # else only the latest events are read, in the order of the journal
            self._plan.update(new)

    def _read(
        self,
        path: Path,
        scanner: Scanner,
        to_the_end: bool,
        start: int = 0,
        most_bytes: int | None = None,
    ) -> Iterator[Record | Batch]:
        last = None if most_bytes is None else scanner.size_bytes + most_bytes
        scanner.forget_pending()  # a torn line may have been cut since
        file = scanner.file

        def note_hole(offset: int, size_bytes: int) -> None:
            scanner.note_hole(offset - start, size_bytes)

        is_first = scanner is self.journal and not scanner.size_bytes
        items: list[Record | Batch] = []  # of the latest chunk
        try:
            for chunk in read_chunks(path, start + scanner.size_bytes, note_hole):
                yield from self._noted(items, path.parent, file)
                if is_first:
                    self._head = read_head(path, HEAD_BYTES) if start else bytes(chunk[:HEAD_BYTES])
                    is_first = False
                items = scanner.feed_on(chunk)
                if last is not None and scanner.size_bytes >= last:
                    to_the_end = False
                    break
        except OSError:
            yield from self._noted(items, path.parent, file)
            raise
        if to_the_end:  # before others read later segments: of equal records the first one counts
            items = [*items, *scanner.finish()]
        yield from self._noted(items, path.parent, file)

    def _noted(self, items: Iterable[Record | Batch], folder: Path, file: str) -> Items:
        for item in items:
            self._note(item, folder, file)
            yield item

    def _give_segments(self, s: str, to_the_end: bool) -> Iterator[Record]:
        streams = self._read_segments(s, to_the_end)
        if streams:
            is_late = s in self._sessions and s != self._latest  # behind later sessions
            self._sessions.setdefault(s)
            for record in self._by_number(s, streams):
                if ANNOTATES not in record.fields:  # annotations have no place in the order
                    self.is_misordered = self.is_misordered or is_late
                    self._latest = s
                yield record

    def _read_segments(self, s: str, to_the_end: bool) -> list[Iterator[Record | Batch]]:
        """The new records of each segment of session `s`."""
        return [self._read_segment(candidate, to_the_end) for candidate in self._unread(s)]

    def _read_segment(self, candidate: Candidate, to_the_end: bool) -> Iterator[Record | Batch]:
        path = candidate.path
        self._read_now.add(path)
        scanner = self._scanners.setdefault(path, Scanner(self.sequence, path.name))
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

    # ---- files and folders that records name

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
                self.closed.setdefault(item.s, item.n)
            case "ignored" | "lost_tail":
                self.remarks.append(item)
            case "segment" if isinstance(fields.get("file"), str):
                at = fields.get("folder")
                at = at if isinstance(at, str) and os.path.isabs(at) else str(folder)
                self._segments.expect(item, at, file)
                self.remarks.append(item)
                self.add_folder(Path(at))

    def _note_open(self, record: Record, folder: Path, file: str) -> None:
        fields = record.fields
        for part in ("config", "metadata"):
            held = fields.get(part)
            if isinstance(held, dict) and "set_aside" in held:
                self._note_aside(held["set_aside"], record, folder, file)
        fallback = fields.get("fallback")
        if isinstance(fallback, str):
            self.add_folder(Path(fallback))
            if "fallback_device" in fields:
                made = fields.get("fallback_made_ns")
                place = Place(fields.get("host"), fields["fallback_device"], made, record.t)
                self._segments.note_fallback(record.s, Path(fallback), place)

    def _note_aside(self, reference: Any, record: Record, folder: Path, file: str) -> None:
        if isinstance(reference, dict) and "sha256" in reference:
            name, size = reference.get("file"), reference.get("size_bytes")
            place = (record.offset, record.s, record.n, file)
            self.asides.append(Aside(folder, name, size, reference["sha256"], *place))

    def add_folder(self, folder: Path) -> None:
        """Search one more folder for segments of the run."""
        new = self._segments.add_folder(folder)
        self._plan.reconsider(new)
        if not new.isdisjoint(self._sessions):  # they were read without these
            self.is_misordered = True


def _size_of(path: Path) -> int | None:
    """None: it is missing or inaccessible."""
    try:
        return os.stat(path).st_size
    except OSError:
        return None
