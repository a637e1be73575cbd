"""Bytes -> verified records in order, and every defect by kind, offset and length.

A scanner is fed a journal's bytes in pieces of any size and returns its records. It never raises,
whatever the bytes are; it goes on after damage, because records do not depend on each other. Each
place that it cannot read is a defect, whose `lost` counts the events lost there: 0 where the
numbers prove that nothing is missing, None where that cannot be known.

Overwritten bytes never make `lost` too small. Removed bytes can: a session whose last lines are
gone looks like one that ended earlier.

Time is linear and memory bounded: a line has at most MAX_LINE_BYTES, neighbouring damage becomes
one defect, and four bytes per record are kept to distinguish a repeated record from a different
one with the same session and number.
"""

import re
from binascii import crc32
from bisect import bisect_left
from codecs import getincrementaldecoder
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson

from eventlog.blocks import read_chunks
from eventlog.format.record import (
    CRC_KEY,
    HEAD,
    MAX_LINE_BYTES,
    TRAILER_BYTES,
    Record,
    decode,
    encode,
    header_fields,
)
from eventlog.read.batch import MARKS, Batch, Shape, batch_after, singly
from eventlog.read.defects import Defect
from eventlog.read.sequence import SequenceCheck, Verdict

_RECORD_END = re.compile(re.escape(CRC_KEY) + rb'[0-9a-f]{8}"\}')
_CUT_CRC = re.compile(rb'[0-9a-f]{0,8}"?|[0-9a-f]{8}"[]},].*')  # the second: a field named crc
_END_CRC = re.compile(re.escape(CRC_KEY) + rb'([0-9a-f]{8})"\}\s*\Z')
_IDENTITY = re.compile(rb'\{"n":(\d{1,18}),"s":"([0-9a-f]{8})"')
_BOM = b"\xef\xbb\xbf"
_NUL_RUN = b"\0" * 8  # fewer are damage; a power loss leaves whole sectors of zeros
MAX_DEFECTS = 10_000  # so that a file that is not a journal does not fill the memory
_LEAST_LINES = 8  # fewer are faster one by one
_MAX_STARTS = 16  # starts tried for each end of a record in a damaged line, to keep time linear
_LEAST_BYTES = len(encode(0, "", "", "", {}))  # no record is shorter, LF included


Items = list[Record | Batch]
Name = tuple[str, int, int]
"""Session, number and checksum of a record, read from the two ends of a damaged line."""


class Scanner:
    """Reads one journal, given in pieces. `feed` while it grows, `finish` at its end."""

    def __init__(
        self, sequence: SequenceCheck | None = None, file: str = "", *, in_batches: bool = False
    ) -> None:
        """A scanner of one file.

        Args:
            sequence: shared by the scanners of a run's files.
            file: name for the defects; empty for the journal itself.
            in_batches: `feed_on` returns many events at once where it can.
        """
        self.sequence = sequence or SequenceCheck()
        self.file = file
        """Name for the defects; empty for the journal itself."""
        self.size_bytes = 0
        """Bytes read as whole lines; after `finish`, all bytes."""
        self.crc = 0
        """CRC-32 of those bytes."""
        self._in_batches = in_batches
        self._shape: Shape | None = None  # of the latest batch
        self._rest = b""  # the beginning of a line whose end has not come yet
        self._defects: list[Defect] = []
        self._unsettled: list[Defect] = []  # damage since the last record; the next shows its cost
        self._cut_write = False  # whether that is one cut line at the end of the file
        self._overflow: dict[str, Defect] = {}
        self._named: dict[int, list[Name]] = {}  # records in damaged lines, by offset of the defect
        self._last: Record | None = None
        self._crlf: Defect | None = None
        self._holes: list[tuple[int, int]] = []  # begin and end of what the disk could not read
        self.header: dict[str, Any] | None = None
        """The fields of the header, where the file is a segment that has one."""

    @property
    def n_records(self) -> int:
        """Records returned so far, of all files that share the sequence check."""
        return self.sequence.n_records

    @property
    def defects(self) -> list[Defect]:
        """All defects so far, by offset: of the bytes here, and of the numbers."""
        return sorted([*self.damage, *self.sequence.defects], key=lambda defect: defect.offset)

    @property
    def damage(self) -> list[Defect]:
        """The defects of this file's bytes."""
        defects = [self._costs_nothing(d) or d for d in self._defects]
        return [*defects, *([self._crlf] if self._crlf else [])]

    def _costs_nothing(self, defect: Defect) -> Defect | None:
        """The same damage without a cost, if each of its lines is whole in another file."""
        names = self._named.get(defect.offset, ())
        if defect.lost is not None or len(names) != defect.count:
            return None
        return replace(defect, lost=0) if all(self.sequence.has(*name) for name in names) else None

    def feed(self, data: bytes) -> list[Record]:
        """The records that `data`, the journal's next bytes, completes."""
        return list(singly(iter(self.feed_on(data))))

    def feed_on(self, data: bytes) -> Items:
        """As `feed`, with batches if the scanner was made with `in_batches`."""
        data = self._rest + data
        end = data.rfind(b"\n") + 1
        records: Items = []
        if end:
            whole = data[:end]
            offset = self._advance(whole)
            lines = whole.split(b"\n")
            lines.pop()  # empty: behind the last LF
            others: dict[str, list[int]] = {}
            at = singly_to = 0
            while at < len(lines):
                line = lines[at]
                record = decode(line, offset)
                if record is None:
                    over = self._over(line, offset, records)
                    self._salvage(line[over:], offset + over, records)
                else:
                    self._admit(record, records)
                offset += len(line) + 1
                at += 1
                if record is not None and self._may_begin(record) and at >= singly_to:
                    if record.event not in others:
                        others[record.event] = _others(MARKS[record.event], whole, lines)
                    ends = others[record.event]
                    singly_to = ends[bisect_left(ends, at)]
                    batch = self._batch(record, lines[at:singly_to], records)
                    if batch is not None:
                        offset = batch.last.offset + batch.last.size_bytes + 1
                        singly_to = at = at + len(batch)
        self._rest = data[end:]
        over = self._over(self._rest, self.size_bytes, records)
        self._advance(self._rest[:over])
        self._rest = self._rest[over:]
        return records

    def _may_begin(self, record: Record) -> bool:
        """Whether a batch may follow `record`: it is of such a kind, and was admitted just now."""
        return self._in_batches and record.event in MARKS and record is self._last

    def _batch(self, record: Record, lines: list[bytes], records: Items) -> Batch | None:
        """Read the first of `lines`, or all, at once; None if they must be read one by one."""
        if len(lines) < _LEAST_LINES:
            return None
        batch = batch_after(record, lines, self._shape)
        if batch is None or not self.sequence.admit_batch(batch):
            return None
        records.append(batch)
        self._last, self._shape = batch.last, batch.shape
        return batch

    def _over(self, line: bytes, offset: int, records: Items) -> int:
        """Give up the beginning of a line that is too long; how many bytes of it.

        More than MAX_LINE_BYTES are kept: a whole record may still end there.
        """
        over = 0
        while len(line) - over > 2 * MAX_LINE_BYTES:
            self._salvage(line[over : over + MAX_LINE_BYTES], offset + over, records)
            over += MAX_LINE_BYTES
        return over

    def finish(self) -> list[Record]:
        """The journal ends here: the records in a last line without LF."""
        rest, self._rest = self._rest, b""
        records: Items = []
        offset = self._advance(rest)
        record = decode(rest, offset)
        if record is not None:
            self._admit(record, records)
            self._defects.append(
                Defect(
                    "unterminated", offset, len(rest), record.s, record.n, record.n, file=self.file
                )
            )
        elif rest:
            self._salvage(rest, offset, records, last_line=True)
        self._settle(None)
        return list(singly(iter(records)))

    def note_hole(self, offset: int, size_bytes: int) -> None:
        """Note that bytes which are fed later, as zeros, could not be read from the disk."""
        if self._holes and self._holes[-1][1] == offset:
            self._holes[-1] = (self._holes[-1][0], offset + size_bytes)
        elif (offset, offset + size_bytes) not in self._holes:
            self._holes.append((offset, offset + size_bytes))

    def _is_unreadable(self, begin: int, size_bytes: int) -> bool:
        return any(a < begin + size_bytes and begin < b for a, b in self._holes)

    def forget_pending(self) -> None:
        """Drop a line that has no end yet; the next bytes fed are those at `size_bytes`."""
        self._rest = b""

    def _advance(self, data: bytes) -> int:
        """Count bytes as read; the offset at which they begin."""
        offset = self.size_bytes
        self.crc = crc32(data, self.crc)
        self.size_bytes += len(data)
        return offset

    def _admit(self, record: Record, records: Items) -> None:
        """Add a verified record to `records`, unless it is repeated or of another run."""
        header = header_fields(record)
        if header is not None:  # belongs to no session
            self.header = self.header or header
            return
        verdict = self.sequence.admit(record, after=self._last, file=self.file)
        if verdict is Verdict.REPEATED:
            return
        if self._unsettled:
            self._settle(record)
        self._last = record
        if verdict is Verdict.OURS:
            records.append(record)

    def _salvage(self, line: bytes, offset: int, records: Items, last_line: bool = False) -> None:
        """Read the records inside a damaged line; the bytes between them become defects.

        A record ends with its checksum, so each end is searched first, and before it the starts
        that may belong to it, the nearest first. An end without a start may be inside a record (a
        field named crc): the starts for the next end are then searched from before it.
        """
        done = before = searched = 0
        for end in (match.end() for match in _RECORD_END.finditer(line)):
            record = _record_before(line, before, end, offset)
            if record is None:
                before, searched = searched, end
                continue
            start = record.offset - offset
            self._broken(line[done:start], offset + done, glued=True)
            self._admit(record, records)
            done = before = searched = end
        self._broken(line[done:], offset + done, last_line=last_line)

    def _broken(
        self, piece: bytes, offset: int, *, glued: bool = False, last_line: bool = False
    ) -> None:
        """Note bytes that are no record as a defect, or add them to the one before."""
        bare = piece.strip(b" \t\r")
        if bare == _BOM and offset == 0:
            self._defects.append(Defect("bom", 0, len(_BOM), file=self.file))
        elif bare:
            kind = _kind(piece, bare)
            if self._holes and self._is_unreadable(offset, len(piece)):
                kind = "unreadable"
            self._cut_write = kind == "torn" and last_line and not self._unsettled
            self._note_damage(kind, offset, piece, glued)
        elif piece.endswith(b"\r"):
            self._note_crlf(offset + len(piece) - 1)

    def _note_crlf(self, offset: int) -> None:
        if self._crlf is None:
            self._crlf = Defect("crlf", offset, 1, file=self.file)
        else:
            self._crlf.count += 1

    def _note_damage(self, kind: str, offset: int, piece: bytes, glued: bool) -> None:
        lost = 0 if kind == "foreign" else None
        if glued and kind not in ("nul", "oversize", "unreadable"):
            kind = "glued"
        last = self._unsettled[-1] if self._unsettled else None
        if last is not None and (last.kind, last.lost) == (kind, lost):
            last.size_bytes = offset + len(piece) - last.offset
            last.count += 1
            self._note_name(last, piece)
            return
        rest = self._overflow.get(kind)
        if rest is not None:
            rest.size_bytes += len(piece)
            rest.count += 1
            rest.lost = None
            return
        defect = Defect(kind, offset, len(piece), lost=lost, file=self.file)
        identity = _IDENTITY.match(piece.lstrip())
        if identity:
            defect.first_n = defect.last_n = int(identity[1])
            defect.session = identity[2].decode()
        self._defects.append(defect)
        if len(self._defects) > MAX_DEFECTS:
            self._overflow[kind] = defect
        else:
            self._unsettled.append(defect)
            self._note_name(defect, piece)

    def _note_name(self, defect: Defect, piece: bytes) -> None:
        """Remember which record `piece` was, if both ends say it: another file may have it."""
        bare = piece.strip()
        begin, end = _IDENTITY.match(bare), _END_CRC.search(bare, max(0, len(bare) - TRAILER_BYTES))
        if begin and end and len(self._named) < MAX_DEFECTS:
            names = self._named.setdefault(defect.offset, [])
            if len(names) < MAX_DEFECTS:
                names.append((begin[2].decode(), int(begin[1]), int(end[1], 16)))

    def _settle(self, record: Record | None) -> None:
        """Set the cost of the damage since the last record; `record`, or the end, follows it.

        Between two records of one session it is counted by the gap between their numbers, and also
        where the next session names the last record of the one before. Otherwise it cost nothing
        if no record fits into it, or if it is one write that a crash cut: at the end of the file,
        or where the next session noted a torn tail. Else the cost is unknown.
        """
        begin = self._last.offset + self._last.size_bytes + 1 if self._last else 0
        end = record.offset if record else self.size_bytes
        damage = [defect for defect in self._unsettled if defect.lost is None]
        self._unsettled.clear()
        last = self._last
        if (
            self._cut_write
            or end - begin < _LEAST_BYTES
            or (record and last and last.s == record.s and last.n < record.n)
            or (record and not last and self._is_numbered_by_header(record))
            or (record and last and _follows(record, last))
            or (record and len(damage) == 1 and _noted_torn_tail(record, damage[0]))
        ):
            for defect in damage:
                defect.lost = 0
                self._named.pop(defect.offset, None)

    def _is_numbered_by_header(self, record: Record) -> bool:
        """Whether the segment's header names the session of `record`: a gap counts the loss."""
        return self.header is not None and self.header.get("session") == record.s


def _others(mark: bytes, whole: bytes, lines: list[bytes]) -> list[int]:
    """The indexes of lines that do not have `mark` in them, and the number of lines."""
    if whole.count(mark) >= len(lines):  # four times as fast, and nearly always so
        return [len(lines)]
    return [k for k, line in enumerate(lines) if mark not in line] + [len(lines)]


def _record_before(line: bytes, begin: int, end: int, offset: int) -> Record | None:
    """The record that ends at `end`, if it begins at one of the nearest starts before that."""
    start = end
    for _ in range(_MAX_STARTS):
        start = line.rfind(HEAD, begin, start)
        if start < 0:
            return None
        record = decode(line[start:end], offset + start)
        if record is not None:
            return record
    return None


def _follows(record: Record, last: Record) -> bool:
    """Whether this `open` event names the last record of the session of `last`."""
    prev = record.fields.get("prev") if record.event == "open" else None
    return isinstance(prev, dict) and prev.get("s") == last.s and type(prev.get("n")) is int


def _noted_torn_tail(record: Record, damage: Defect) -> bool:
    """Whether the session of this `open` event noted a torn tail at this very place."""
    tail = record.fields.get("found") if record.event == "open" else None
    torn = tail.get("torn") if isinstance(tail, dict) else None
    if not isinstance(torn, dict) or damage.kind != "torn":
        return False
    return (torn.get("offset"), torn.get("size_bytes")) == (damage.offset, damage.size_bytes)


def _kind(piece: bytes, bare: bytes) -> str:
    """The kind of defect that broken bytes are."""
    if _NUL_RUN in piece:
        return "nul"
    if len(piece) >= MAX_LINE_BYTES:
        return "oversize"
    try:
        text = getincrementaldecoder("utf-8")().decode(bare)  # its last character may be cut
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        is_begin = error.pos >= len(text) and bare[:5] == HEAD[: len(bare)]
        at = piece.rfind(CRC_KEY, max(0, len(piece) - TRAILER_BYTES - 1))
        is_cut = is_begin and (at < 0 or _CUT_CRC.fullmatch(piece, at + len(CRC_KEY)))
        return "torn" if is_cut else "damaged"
    except UnicodeDecodeError:
        return "damaged"
    ours = isinstance(value, dict) and len(value.keys() & {"n", "s", "crc"}) >= 2
    return "edited" if ours else "foreign"


def scan_file(path: Path, scanner: Scanner | None = None) -> Iterator[Record]:
    """The records of one whole file, in order; `scanner` has its defects."""
    scanner = scanner or Scanner()
    for chunk in read_chunks(path, 0, scanner.note_hole):
        yield from scanner.feed(chunk)
    yield from scanner.finish()
