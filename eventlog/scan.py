"""Bytes -> verified records in order, and every defect by class, offset and length.

A scanner takes a journal's bytes in pieces of any size and gives back its records. It
never raises, whatever the bytes are; it goes on after damage, because records do not
depend on each other and good ones stand on both sides of a hole. What it could not
read it names, and for each such place it says what is known of the cost: `lost` counts
events, 0 where the numbering proves that nothing is missing, None where nobody can know.

Time is linear and memory bounded: one line is at most MAX_LINE_BYTES, neighbouring
damage becomes one defect, and four bytes per record are kept to tell a repeated record
from a different one of the same name.
"""

import re
from array import array
from binascii import crc32
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson

from eventlog.record import CRC_KEY, FORMAT, HEAD, MAX_LINE_BYTES, TRAILER_BYTES, Record, decode

CHUNK_BYTES = 1 << 20

DEFECTS = {
    "torn": "the end of a line was cut, as a crash does; it was never acknowledged as whole",
    "unterminated": "the last line is whole but for its line feed; it was accepted",
    "glued": "a cut line with a whole one behind it; the whole one was accepted",
    "damaged": "bytes that are no record",
    "edited": "valid JSON whose checksum does not match: edited by hand, or damaged",
    "foreign": "a line of valid JSON that is no record of this format",
    "nul": "a run of zero bytes, the mark of a power loss",
    "oversize": "more than a line may hold, without a line feed",
    "gap": "records that the numbering says existed and that are not here",
    "duplicate": "a record that stands here twice with the same bytes",
    "bom": "a byte order mark before the first line; some editor put it there",
    "crlf": "lines that end in CR LF; some editor or transfer put them there",
    "conflict": "two different records of the same name",
    "two_writers": "two sessions wrote at the same time",
    "foreign_run": "a session of another run; its events were left out",
    "newer_format": "written by a newer, incompatible format",
}
CONFLICTS = frozenset(("conflict", "two_writers", "foreign_run", "newer_format"))

_RECORD_END = re.compile(re.escape(CRC_KEY) + rb'[0-9a-f]{8}"\}')
_HEX_END = re.compile(rb'[0-9a-f]{8}"\}$')
_IDENTITY = re.compile(rb'\{"n":(\d{1,18}),"s":"([0-9a-f]{8})"')
_BOM = b"\xef\xbb\xbf"
_NUL_RUN = b"\0" * 8  # fewer are a flipped byte; what a power loss leaves is whole sectors
MAX_DEFECTS = 10_000  # a file that is no journal at all must not fill the memory with its defects
_MAX_STARTS = 16  # a bad line is searched for this many starts of a record: linear time


@dataclass(slots=True)
class Defect:
    """One thing that is wrong with a journal, and what it cost."""

    kind: str
    offset: int
    size_bytes: int = 0
    session: str = ""
    first_n: int = -1
    last_n: int = -1
    lost: int | None = 0
    """Events lost here; None: cannot be known. What a gap counts is counted only there."""
    count: int = 1

    def __str__(self) -> str:
        where = f"at byte {self.offset:,}"
        if self.size_bytes:
            where += f", {self.size_bytes:,} bytes"
        if self.session:
            where += f", session {self.session}"
        if self.first_n >= 0:
            last = f" to {self.last_n:,}" if self.last_n > self.first_n else ""
            where += f", n {self.first_n:,}{last}"
        times = f" ({self.count:,} times)" if self.count > 1 else ""
        return f"{self.kind} {where}: {DEFECTS[self.kind]}{times}"

    def to_dict(self) -> dict[str, Any]:
        """The fields that say something, for JSON."""
        unsaid = {"size_bytes": 0, "session": "", "first_n": -1, "last_n": -1, "count": 1}
        return {k: v for k, v in asdict(self).items() if k not in unsaid or v != unsaid[k]}


class _Numbers:
    """Which numbers of one session were seen: stretches without a gap, a checksum for each."""

    __slots__ = ("crcs", "foreign", "offsets", "starts")

    def __init__(self) -> None:
        self.starts: list[int] = []
        self.crcs: list[array[int]] = []
        self.offsets: list[int] = []
        self.foreign: Defect | None = None

    def admit(self, n: int, crc: int, offset: int) -> str:
        """ "new", "duplicate" or "conflict"."""
        i = bisect_right(self.starts, n) - 1
        if i >= 0:
            at, crcs = n - self.starts[i], self.crcs[i]
            if at < len(crcs):
                return "duplicate" if crcs[at] == crc else "conflict"
            if at == len(crcs):
                crcs.append(crc)
                self._join(i)
                return "new"
        self.starts.insert(i + 1, n)
        self.crcs.insert(i + 1, array("I", (crc,)))
        self.offsets.insert(i + 1, offset)
        self._join(i + 1)
        return "new"

    def _join(self, i: int) -> None:
        """Make one stretch of two that have grown together."""
        if i + 1 < len(self.starts) and self.starts[i] + len(self.crcs[i]) == self.starts[i + 1]:
            self.crcs[i].extend(self.crcs.pop(i + 1))
            del self.starts[i + 1], self.offsets[i + 1]

    def gaps(self, session: str) -> Iterator[Defect]:
        end = 0
        for start, crcs, offset in zip(self.starts, self.crcs, self.offsets, strict=True):
            if start > end:
                yield Defect(
                    "gap", offset, session=session, first_n=end, last_n=start - 1, lost=start - end
                )
            end = start + len(crcs)


class Scanner:
    """Reads one journal, given in pieces. `feed` while it grows, `finish` at its end."""

    def __init__(self) -> None:
        self.size_bytes = 0
        """Bytes read as whole lines; after `finish`, all bytes."""
        self.crc = 0
        """CRC-32 of those bytes."""
        self.n_records = 0
        self.newer_format: Any = None
        """The format number of a session this reader cannot understand, if there is one."""
        self._rest = b""  # the beginning of a line whose end has not come yet
        self._found: list[Defect] = []
        self._unresolved: list[Defect] = []  # damage since the last record: the next tells its cost
        self._repeated: dict[tuple[str, str], Defect] = {}
        self._sessions: dict[str, _Numbers] = {}
        self._last: Record | None = None
        self._run_id: Any = None

    @property
    def sessions(self) -> list[str]:
        """Sessions in the order of their first record."""
        return list(self._sessions)

    @property
    def defects(self) -> list[Defect]:
        """Everything found wrong so far, by offset."""
        gaps = [gap for s, numbers in self._sessions.items() for gap in numbers.gaps(s)]
        return sorted([*self._found, *self._repeated.values(), *gaps], key=lambda d: d.offset)

    def feed(self, data: bytes) -> list[Record]:
        """The records that `data`, the journal's next bytes, completes."""
        data = self._rest + data
        end = data.rfind(b"\n") + 1
        records: list[Record] = []
        if end:
            offset = self._advance(data[:end])
            for line in data[: end - 1].split(b"\n"):
                record = decode(line, offset)
                if record is None:
                    self._salvage(line, offset, records)
                else:
                    self._admit(record, line, records)
                offset += len(line) + 1
        self._rest = data[end:]
        while len(self._rest) > 2 * MAX_LINE_BYTES:  # keep what one line can still be made of
            dropped, self._rest = self._rest[:MAX_LINE_BYTES], self._rest[MAX_LINE_BYTES:]
            self._salvage(dropped, self._advance(dropped), records, instead="oversize")
        return records

    def finish(self) -> list[Record]:
        """The journal ends here: the records in a last line without LF."""
        rest, self._rest = self._rest, b""
        records: list[Record] = []
        offset = self._advance(rest)
        record = decode(rest, offset)
        if record is not None:
            self._admit(record, rest, records)
            self._found.append(
                Defect("unterminated", offset, len(rest), record.s, record.n, record.n)
            )
        elif rest:
            self._salvage(rest, offset, records, instead="torn")
        return records

    def forget_pending(self) -> None:
        """Drop a line that has no end yet; the next bytes are to be those at `size_bytes`."""
        self._rest = b""

    def _advance(self, data: bytes) -> int:
        """Count bytes as read; the offset they began at."""
        offset = self.size_bytes
        self.crc = crc32(data, self.crc)
        self.size_bytes += len(data)
        return offset

    def _admit(self, record: Record, line: bytes, records: list[Record]) -> None:
        """Take a verified record, unless its name says that it is known or not ours."""
        numbers = self._sessions.get(record.s)
        if numbers is None:
            numbers = self._sessions[record.s] = _Numbers()
        elif self._last is not None and self._last.s != record.s:
            self._repeat("two_writers", record)
        answer = numbers.admit(record.n, int(line[-10:-2], 16), record.offset)
        if answer != "new":
            self._repeat(answer, record)
            return
        if record.event == "open":
            self._check_open(record, numbers)
        if self._unresolved:
            self._resolve(record)
        self._last = record
        if numbers.foreign is not None:
            numbers.foreign.count += 1
            return
        self.n_records += 1
        records.append(record)

    def _check_open(self, record: Record, numbers: _Numbers) -> None:
        number = record.fields.get("format", FORMAT)
        if type(number) is not int or number > FORMAT:
            self.newer_format = number
            self._found.append(Defect("newer_format", record.offset, record.size_bytes, record.s))
        run_id = record.fields.get("run_id")
        if self._run_id is None:
            self._run_id = run_id
        elif run_id is not None and run_id != self._run_id:
            numbers.foreign = Defect("foreign_run", record.offset, session=record.s, count=0)
            self._found.append(numbers.foreign)

    def _repeat(self, kind: str, record: Record) -> None:
        """Note a defect of a session once, however often it is seen."""
        known = self._repeated.get((kind, record.s))
        if known is None:
            self._repeated[kind, record.s] = Defect(
                kind, record.offset, record.size_bytes, record.s, record.n, record.n
            )
        else:
            known.count += 1
            known.last_n = record.n

    def _salvage(self, line: bytes, offset: int, records: list[Record], instead: str = "") -> None:
        """Take the records inside a line that is not one, and name the bytes between them.

        A record ends where its checksum does, so each end is looked for first, and before
        it the starts that may belong to it, the nearest first.
        """
        done = searched = 0
        for end in (found.end() for found in _RECORD_END.finditer(line)):
            record = _record_before(line, searched, end, offset)
            searched = end
            if record is not None:
                start = record.offset - offset
                self._broken(line[done:start], offset + done, "glued")
                self._admit(record, line[start:end], records)
                done = end
        self._broken(line[done:], offset + done, instead)

    def _broken(self, piece: bytes, offset: int, instead: str) -> None:
        """Name bytes that are no record, together with their neighbours of the same kind."""
        bare = piece.strip(b" \t\r")
        if bare == _BOM and offset == 0:
            self._found.append(Defect("bom", 0, len(_BOM)))
        elif bare:
            self._note_damage(_kind(bare, instead), piece, bare, offset)
        elif piece.endswith(b"\r"):
            self._repeat("crlf", Record(-1, "", "", "", {}, offset + len(piece) - 1, 1))

    def _note_damage(self, kind: str, piece: bytes, bare: bytes, offset: int) -> None:
        last = self._unresolved[-1] if self._unresolved else None
        if len(self._found) >= MAX_DEFECTS:
            last = next((d for d in self._found if d.kind == kind), self._found[-1])
        if last is not None and (last.kind == kind or len(self._found) >= MAX_DEFECTS):
            last.size_bytes = offset + len(piece) - last.offset
            last.count += 1
            return
        defect = Defect(kind, offset, len(piece), lost=None)
        identity = _IDENTITY.match(bare)
        if identity:
            defect.first_n = defect.last_n = int(identity[1])
            defect.session = identity[2].decode()
        if kind == "foreign" or (kind in ("torn", "glued") and _is_cut(bare)):
            defect.lost = 0  # not a whole record of ours; if one is missing, a gap says so
        self._found.append(defect)
        self._unresolved.append(defect)

    def _resolve(self, record: Record) -> None:
        """Damage between two records of one session costs what the gap between them counts."""
        last = self._last
        same = last is not None and last.s == record.s and last.n < record.n
        closed = last is not None and last.event == "close" and record.n == 0
        if same or closed:
            for defect in self._unresolved:
                defect.lost = 0
        self._unresolved.clear()


def _record_before(line: bytes, begin: int, end: int, offset: int) -> Record | None:
    """The record that ends at `end`, if one of the nearest starts before it is its own."""
    start = end
    for _ in range(_MAX_STARTS):
        start = line.rfind(HEAD, begin, start)
        if start < 0:
            return None
        record = decode(line[start:end], offset + start)
        if record is not None:
            return record
    return None


def _is_cut(piece: bytes) -> bool:
    """Whether this is the beginning of a record and no more.

    One damaged byte in a whole record's trailer leaves one of these two signs of it.
    """
    whole = piece[-TRAILER_BYTES:-10] == CRC_KEY or _HEX_END.search(piece, max(0, len(piece) - 10))
    return piece[:5] == HEAD[: len(piece)] and not whole


def _kind(piece: bytes, instead: str) -> str:
    if _NUL_RUN in piece:
        return "nul"
    if instead in ("glued", "oversize"):
        return instead
    if _is_cut(piece):
        return "torn"
    try:
        value = orjson.loads(piece)
    except orjson.JSONDecodeError:
        return "damaged"
    if not isinstance(value, dict):
        return "foreign"
    return "edited" if {"n", "s", "crc"} <= value.keys() else "foreign"


def read_chunks(path: Path, offset: int = 0) -> Iterator[bytes]:
    """The bytes of a file from `offset` to its present end, a MiB at a time."""
    with open(path, "rb", buffering=0) as file:
        file.seek(offset)
        while chunk := file.read(CHUNK_BYTES):
            yield chunk


def scan(path: Path, scanner: Scanner | None = None) -> Iterator[Record]:
    """The records of a whole journal, in order; `scanner` holds what was wrong with it."""
    scanner = scanner or Scanner()
    for chunk in read_chunks(path):
        yield from scanner.feed(chunk)
    yield from scanner.finish()
