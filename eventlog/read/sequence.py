"""Which records of a run were read: what is missing, repeated, contradictory, or not ours.

Knows numbers and sessions, not bytes: a run's journal and its segments share one check.
"""

from array import array
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import replace
from enum import Enum
from typing import Any

from eventlog.format.record import FORMAT, Record
from eventlog.read.batch import Batch
from eventlog.read.defects import Defect


class Verdict(Enum):
    """Whether a verified record is one of the run."""

    OURS = "ours"
    REPEATED = "repeated"
    FOREIGN = "foreign"


class Numbers:
    """Which numbers of one session were read: ranges without a gap, a checksum for each."""

    __slots__ = ("crcs", "end", "files", "foreign", "late", "offsets", "starts")

    def __init__(self) -> None:
        self.starts: list[int] = []
        self.crcs: list[array[int]] = []
        self.offsets: list[int] = []
        self.files: list[str] = []
        self.late: dict[int, int] = {}  # records that came after one of a higher number
        self.end = 0
        """One more than the highest number seen."""
        self.foreign: Defect | None = None

    def admit(self, n: int, crc: int, offset: int, file: str) -> str:
        """Whether the record is `new`, a `duplicate` or a `conflict`."""
        if n == self.end and self.starts:
            self.crcs[-1].append(crc)
            self.end = n + 1
            return "new"
        if n >= self.end:
            self.starts.append(n)
            self.crcs.append(array("I", (crc,)))
            self.offsets.append(offset)
            self.files.append(file)
            self.end = n + 1
            return "new"
        i = bisect_right(self.starts, n) - 1
        at = n - self.starts[i]
        if i >= 0 and at < len(self.crcs[i]):
            known = self.crcs[i][at]
        elif n in self.late:
            known = self.late[n]
        else:
            self.late[n] = crc
            return "new"
        return "duplicate" if known == crc else "conflict"

    def n_below(self, end: int) -> int:
        """How many of the numbers below `end` were seen."""
        ranges = zip(self.starts, self.crcs, strict=True)
        in_ranges = sum(min(len(crcs), max(0, end - start)) for start, crcs in ranges)
        return in_ranges + sum(n < end for n in self.late)

    def crc_of(self, n: int) -> int | None:
        """The checksum of the record with this number; None: it was not seen."""
        i = bisect_right(self.starts, n) - 1
        at = n - self.starts[i] if i >= 0 else 0
        if i >= 0 and at < len(self.crcs[i]):
            return self.crcs[i][at]
        return self.late.get(n)

    def gaps(self, session: str) -> Iterator[Defect]:
        late = sorted(self.late)
        end = 0
        for start, crcs, offset, file in zip(
            self.starts, self.crcs, self.offsets, self.files, strict=True
        ):
            between = late[bisect_right(late, end - 1) : bisect_right(late, start)]
            for n in (*between, start):
                if n > end:
                    yield Defect(
                        "gap",
                        offset,
                        session=session,
                        first_n=end,
                        last_n=n - 1,
                        lost=n - end,
                        file=file,
                    )
                end = n + 1
            end = start + len(crcs)


class SequenceCheck:
    """Admits each record of a run once, whatever files it comes from."""

    def __init__(self) -> None:
        self.n_records = 0
        self.newer_format: Any = None
        """The format number of a session this reader cannot understand, if there is one."""
        self._sessions: dict[str, Numbers] = {}
        self._defects: list[Defect] = []
        self._repeated: dict[tuple[str, str], Defect] = {}
        self._met: dict[str, Defect] = {}
        self.run_id: Any = None
        """Of the run whose records are admitted: that of the first `open` event, or set before."""
        self._numbers: dict[str, int] = {}  # session_number of each session that says it
        self._latest_number = 0  # of the sessions in the journal's own file, so far
        self._not_yet: dict[str, Record] = {}  # sessions that were met, and not seen so far
        self._dropped: dict[str, Defect] = {}
        self._annotations: dict[tuple[str, str], Defect] = {}
        self._annotators: set[str] = set()

    @property
    def sessions(self) -> list[str]:
        """Sessions in the order of their first record."""
        return list(self._sessions)

    @property
    def defects(self) -> list[Defect]:
        """What is wrong with the numbers and names so far."""
        gaps = [gap for s, numbers in self._sessions.items() for gap in numbers.gaps(s)]
        gaps += self._lost_ends()
        of_others = [d for (_, of), d in self._annotations.items() if self.run_id not in (None, of)]
        repeated = self._repeated.values()
        more = [*self._dropped_more(gaps), *self._missing_sessions()]
        return [*self._defects, *repeated, *of_others, *gaps, *more]

    @property
    def has_foreign(self) -> bool:
        """Whether a session of another run was left out."""
        return any(numbers.foreign is not None for numbers in self._sessions.values())

    def n_admitted(self, s: str) -> int:
        """How many records of a session were admitted."""
        numbers = self._sessions.get(s)
        return 0 if numbers is None else sum(map(len, numbers.crcs)) + len(numbers.late)

    @property
    def annotators(self) -> dict[str, int]:
        """How many records each session that annotates the run has."""
        own = (s for s in self._annotators if self._sessions[s].foreign is None)
        return {s: self.n_admitted(s) for s in sorted(own)}

    def has(self, s: str, n: int, crc: int) -> bool:
        """Whether this very record was seen, in whatever file."""
        numbers = self._sessions.get(s)
        return numbers is not None and numbers.crc_of(n) == crc

    def n_below(self, s: str, end: int) -> int:
        """How many records of a session with a number below `end` were seen."""
        numbers = self._sessions.get(s)
        return 0 if numbers is None else numbers.n_below(end)

    def lost_of(self, s: str) -> int:
        """How many records of a session the numbering says are missing."""
        numbers = self._sessions.get(s)
        gaps = [] if numbers is None else [*numbers.gaps(s)]
        ends = [gap for gap in self._lost_ends() if gap.session == s]
        return sum(gap.lost or 0 for gap in [*gaps, *ends])

    def _lost_ends(self) -> Iterator[Defect]:
        """Records at a session's end which the session after it met (`prev`)."""
        for s, met in self._met.items():
            numbers = self._sessions.get(s)
            end = numbers.end if numbers else 0
            if end <= met.last_n:
                yield replace(met, first_n=end, lost=met.last_n + 1 - end)

    def _dropped_more(self, gaps: list[Defect]) -> Iterator[Defect]:
        """Events that were dropped by sessions, beyond the numbers that are missing.

        Not of sessions without a `session_number`: in these every dropped event has a number.
        """
        for s, dropped in self._dropped.items():
            if s not in self._numbers:
                continue
            shown = sum(gap.lost or 0 for gap in gaps if gap.session == s)
            if (dropped.lost or 0) > shown:
                yield replace(dropped, lost=(dropped.lost or 0) - shown)

    def _missing_sessions(self) -> Iterator[Defect]:
        """Sessions that are not here although a session with a later number is."""
        numbers = set(self._numbers.values())
        met = [s for s in self._met if s not in self._sessions]  # counted as gaps
        foreign = sum(numbers.foreign is not None for numbers in self._sessions.values())
        unnumbered = len(self._sessions) + len(met)
        unnumbered -= len(self._numbers) + len(self._annotations) + foreign
        missing = max(numbers, default=0) - len(numbers) - max(0, unnumbered)
        if missing > 0:
            yield Defect("missing_session", -1, lost=None, count=missing)

    def admit(self, record: Record, *, after: Record | None, file: str = "") -> Verdict:
        """Enter a record that comes `after` another one of the same file."""
        numbers = self._sessions.get(record.s)
        resumed = numbers is not None and after is not None and after.s != record.s
        if numbers is None:
            numbers = self._sessions[record.s] = Numbers()
            if not file and record.s in self._not_yet:
                self._repeat("reordered", self._not_yet.pop(record.s), file)
        standing = numbers.admit(record.n, record.crc, record.offset, file)
        if standing != "new":
            if standing == "conflict" or not _is_repeated_by_a_segment(record, file):
                self._repeat(standing, record, file)
            return Verdict.REPEATED
        if resumed:
            self._repeat("two_writers", record, file)
        elif after is not None and self._goes_back(record, after):
            self._repeat("reordered", record, file)
        if record.event == "open":
            self._check_open(record, numbers, file)
        elif record.event == "gap":
            self._note_dropped(record, file)
        elif record.event == "lost_tail":
            self._note_lost_tail(record, file)
        if "annotates" in record.fields:
            self._note_annotated(record, file)
        if numbers.foreign is not None:
            numbers.foreign.count += 1
            return Verdict.FOREIGN
        self.n_records += 1
        return Verdict.OURS

    def admit_batch(self, batch: Batch) -> bool:
        """Enter what follows the session's last record at once; False: it must go one by one."""
        numbers = self._sessions[batch.s]
        if batch.n != numbers.end or numbers.foreign is not None:
            return False
        numbers.crcs[-1].extend(batch.crcs)
        numbers.end += len(batch)
        self.n_records += len(batch)
        return True

    def _check_open(self, record: Record, numbers: Numbers, file: str) -> None:
        number = record.fields.get("format", FORMAT)
        if type(number) is not int or number > FORMAT:
            self.newer_format = number
            self._defects.append(
                Defect("newer_format", record.offset, record.size_bytes, record.s, file=file)
            )
        prev = record.fields.get("prev")
        if isinstance(prev, dict):
            self._note_met(prev.get("s"), prev.get("n"), record, file)
        run_id = record.fields.get("run_id")
        if self.run_id is None:
            self.run_id = run_id
        elif run_id is not None and run_id != self.run_id:
            numbers.foreign = Defect(
                "foreign_run", record.offset, session=record.s, count=0, file=file
            )
            self._defects.append(numbers.foreign)
            return
        self._check_order(record, file)

    def _goes_back(self, record: Record, after: Record) -> bool:
        """Whether a record comes after a later one of its session, which no writer does.

        Sessions without a `session_number` are older and may have that.
        """
        return after.s == record.s and record.n < after.n and record.s in self._numbers

    def _check_order(self, record: Record, file: str) -> None:
        """Note it if the session of this `open` event is not where it was written."""
        number = record.fields.get("session_number")
        if type(number) is int:
            self._numbers[record.s] = number
            if not file and number < self._latest_number:
                self._repeat("reordered", record, file)
            if not file:
                self._latest_number = max(number, self._latest_number)
        prev = record.fields.get("prev")
        met = prev.get("s") if isinstance(prev, dict) else None
        if not file and isinstance(met, str) and met not in self._sessions:
            self._not_yet[met] = record

    def _note_met(self, s: Any, n: Any, record: Record, file: str) -> None:
        """Remember that a session had a record n: a later one names it."""
        if type(n) is not int or n < 0 or not isinstance(s, str):
            return
        known = self._met.get(s)
        if known is None or known.last_n < n:
            self._met[s] = Defect("gap", record.offset, session=s, last_n=n, file=file)

    def _note_lost_tail(self, record: Record, file: str) -> None:
        """A resumed training knows from its checkpoint how many records there were."""
        records = record.fields.get("records")
        if type(records) is int:
            self._note_met(record.fields.get("session"), records - 1, record, file)

    def _note_dropped(self, record: Record, file: str) -> None:
        dropped = record.fields.get("dropped")
        if type(dropped) is int and dropped > 0:
            known = self._dropped.setdefault(
                record.s,
                Defect("dropped", record.offset, session=record.s, lost=0, count=0, file=file),
            )
            known.lost = (known.lost or 0) + dropped
            known.count += 1

    def _note_annotated(self, record: Record, file: str) -> None:
        """Remember which run was annotated: the id of this one may be read only later."""
        self._annotators.add(record.s)
        annotated = record.fields.get("annotates")
        if isinstance(annotated, str):
            of_other = Defect("foreign_run", record.offset, session=record.s, count=0, file=file)
            self._annotations.setdefault((record.s, annotated), of_other).count += 1

    def _repeat(self, kind: str, record: Record, file: str) -> None:
        """Note a defect of a session once, however often it is seen."""
        known = self._repeated.get((kind, record.s))
        if known is None:
            self._repeated[kind, record.s] = Defect(
                kind, record.offset, record.size_bytes, record.s, record.n, record.n, file=file
            )
        else:
            known.count += 1
            known.last_n = record.n


def _is_repeated_by_a_segment(record: Record, file: str) -> bool:
    """Whether a writer repeats it: a segment begins with the records that were not durable before
    it, and the `segment` event is in the journal and in the segment."""
    return bool(file) or record.event == "segment"
