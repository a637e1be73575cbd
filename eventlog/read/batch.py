"""The fast path: many events read at once. Most of a journal is iterations or metrics.

Those of one session that follow each other differ only in their digits. So the first is read as a
record, and every byte of the others is checked, but as columns: the checksums; the heads, which
are predictable; the rows, which without digits must equal the first one's; and the digits, which
are parsed as one list of numbers. Anything unusual is refused here and read line by line.
"""

import re
import struct
from array import array
from binascii import crc32
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, islice
from operator import itemgetter, lt
from typing import Any, NamedTuple, overload

import orjson

from eventlog.format.events import KINDS, MAY_BE_DROPPED
from eventlog.format.json_rows import spaced
from eventlog.format.record import CRC_KEY, TRAILER_BYTES, Record, decode

LEADS = {name: tuple(KINDS[name].row) for name in MAY_BE_DROPPED}
"""The kinds that are read in batches, the frequent ones, and the fields that come first."""
_ROWS = {event: b'"%b":' % lead[0].encode() for event, lead in LEADS.items()}
MARKS = {event: b'"event":"%b",%b' % (event.encode(), row) for event, row in _ROWS.items()}
_START = b'{"n":%d,"s":"%b","t":"'
_MIDDLE = b'%b","event":"%b",'
_BODY = itemgetter(slice(-TRAILER_BYTES))  # of a line; `map` with it is faster than a loop
_TRAILER = itemgetter(slice(-TRAILER_BYTES, None))

# The first two replace `e-` and `e+` in numbers, so that no number has a letter; the third begins
# the replacement of a name with digits in it. No UTF-8 text has these bytes, so no line of JSON.
_SMALL, _LARGE, _NAME = b"\xff", b"\xfe", b"\xfd"
_DIGITS_AS_LETTERS = bytes.maketrans(b"0123456789", b"abcdefghij")
_POWER = re.compile(rb"(?<=\d)e\+?(?=\d)")
_OF_NUMBERS = b"0123456789.-" + _SMALL + _LARGE
_ZEROS = bytes.maketrans(b"123456789", b"000000000")
_SPACES = bytes(b if b in _OF_NUMBERS + b"," else ord(" ") for b in range(256))

_REAL = {int, float}
_BARE = {bool, type(None)}  # without comma or colon
_LETTERS = re.compile(r"[^\W\d]+")
_KEY = re.compile(rb'("[^"\\]*"):')
_REPLACED_MAX = 8  # names with digits or signs; of more, all names are removed at once
_PLAIN = re.compile(r"[\w./-]+")


@dataclass(slots=True)
class Batch(Sequence[Record]):
    """Records n, n + 1, ... of session `s` with ascending iterations, or steps."""

    event: str
    s: str
    n: int
    offset: int
    lines: list[bytes]
    crcs: list[int]
    steps: "array[int]"
    numbers: list[Any]
    last: Record
    texts: list[bytes]
    """The fields of each line as JSON, without the braces."""
    shape: "Shape"

    def __len__(self) -> int:
        return len(self.lines)

    def __iter__(self) -> Iterator[Record]:
        return map(_decoded, self.lines, self._offsets())

    @overload
    def __getitem__(self, at: int) -> Record: ...
    @overload
    def __getitem__(self, at: slice) -> list[Record]: ...
    def __getitem__(self, at: int | slice) -> Record | list[Record]:
        offsets = [*self._offsets()]
        if isinstance(at, slice):
            return [*map(_decoded, self.lines[at], offsets[at])]
        return _decoded(self.lines[at], offsets[at])

    def _offsets(self) -> Iterator[int]:
        """Where each line begins."""
        return accumulate((len(line) + 1 for line in self.lines[:-1]), initial=self.offset)

    def rows(self) -> bytes:
        """The rows of the run JSON, a line each: the events' own bytes, spaced."""
        return spaced(b"{%b}" % b"}\n{".join(self.texts), plain=self.shape.is_plain)

    def column(self, name: str) -> list[Any]:
        """The values of one field."""
        if name in self.shape.constants:
            return [self.shape.constants[name]] * len(self)
        return self.numbers[self.shape.names.index(name) :: len(self.shape.names)]

    def columns(self) -> dict[str, list[Any]]:
        """The values of each field, in the order of the names."""
        return {name: self.column(name) for name in self.shape.names}

    def times(self) -> list[str]:
        """When each event was logged: they are equally long, and at the same place of a line."""
        begin = len(_START % (self.n, self.s.encode()))
        return [line[begin : begin + len(self.last.t)].decode() for line in self.lines]


def _decoded(line: bytes, offset: int) -> Record:
    record = decode(line, offset)
    assert record is not None
    return record


def singly(items: "Iterator[Record | Batch]") -> Iterator[Record]:
    """Records, and those of batches one by one."""
    for item in items:
        if isinstance(item, Batch):
            yield from item
        else:
            yield item


def batch_after(record: Record, lines: list[bytes], known: "Shape | None") -> Batch | None:
    """`lines`, or the first of them, which follow `record`; None if they must be read singly.

    `known` is the shape of an earlier batch, which this one probably has too.
    """
    s, n = record.s.encode(), record.n + 1
    start, middle = _START % (n, s), _MIDDLE % (record.t.encode(), record.event.encode())
    if not record.line.startswith(_START % (record.n, s) + middle) or not record.s.isalnum():
        return None  # not as our writer writes it
    shape = _shape_of(record, known)
    lines = lines[: 10 ** len(str(n)) - n]  # while n has as many digits
    crcs = _checked(lines) if shape else None
    if shape is None or crcs is None or not _are_heads(lines, n, start, middle):
        return None
    at = len(start) + len(middle)
    texts = [*map(itemgetter(slice(at, -TRAILER_BYTES)), lines)]
    numbers = _numbers(texts, shape)
    if numbers is None:
        return None
    steps = numbers[:: len(shape.names)]
    if not all(map(lt, steps, islice(steps, 1, None))):
        return None
    try:
        whole_steps = array("q", steps)
    except (TypeError, OverflowError):  # 1.0 is not an iteration, and 1 << 63 not an int64
        return None
    offset = record.offset + record.size_bytes + 1
    last = _decoded(lines[-1], offset + sum(map(len, lines)) + len(lines) - 1 - len(lines[-1]))
    return Batch(
        record.event, record.s, n, offset, lines, crcs, whole_steps, numbers, last, texts, shape
    )


def _checked(lines: list[bytes]) -> list[int] | None:
    """The lines' checksums; None: one does not match its line."""
    crcs = [*map(crc32, map(_BODY, lines))]
    digits = struct.pack(f">{len(crcs)}I", *crcs).hex(",", 4).encode()
    trailers = CRC_KEY + digits.replace(b",", b'"}' + CRC_KEY) + b'"}'
    return crcs if b"".join(map(_TRAILER, lines)) == trailers else None


def _are_heads(lines: list[bytes], n: int, start: bytes, middle: bytes) -> bool:
    """Whether the lines begin with `start` and `middle`, with the next numbers and other times."""
    template = b'{"n":%d' + start[start.index(b",") :]
    starts = template * len(lines) % (*range(n, n + len(lines)),)
    if b"".join(map(itemgetter(slice(len(start))), lines)) != starts:
        return False
    middles = b"".join(map(itemgetter(slice(len(start), len(start) + len(middle))), lines))
    return middles.translate(_ZEROS) == middle.translate(_ZEROS) * len(lines)


class Shape(NamedTuple):
    """What rows of events with the same fields have in common."""

    names: tuple[str, ...]
    constants: dict[str, Any]
    """The fields that are not numbers, and equal in all of them."""
    skeleton: bytes
    """A row without its digits, a comma before it."""
    replacements: list[tuple[bytes, bytes]]
    """Parts of each row that would be confused with numbers, and what replaces them."""
    has_powers: bool
    """Whether some numbers are 1e16 or more."""
    is_plain: bool
    """Whether there are only numbers, under names of letters."""
    keys: tuple[bytes, ...]
    """The quoted names of a row that are removed at once, as many replacements take long."""


def _shape_of(record: Record, known: Shape | None) -> Shape | None:
    """The shape of the row of `record`; None: events like this one are read one by one."""
    fields = record.fields
    if type(fields.get("durable")) is int:  # written now and then, before the row
        fields = {name: value for name, value in fields.items() if name != "durable"}
    row = record.line[record.line.find(_ROWS[record.event]) : -TRAILER_BYTES]
    names = tuple(fields)
    numbers = [value if type(value) in _REAL else 0 for value in fields.values()]
    if known is not None and _numbers([row], known) == numbers:
        return known if type(numbers[0]) is int else None
    constants = {name: value for name, value in fields.items() if type(value) not in _REAL}
    lead = LEADS[record.event]
    if (
        names[: len(lead)] != lead
        or type(fields[lead[0]]) is not int
        or not constants.keys().isdisjoint({*lead} - {"time_ms"})
        or constants.get("time_ms") is not None
        or not fields.keys().isdisjoint(("annotates", "durable"))
    ):
        return None
    n_replaced = sum(not _LETTERS.fullmatch(name) for name in names)
    keys = tuple(orjson.dumps(name) for name in names if name not in constants)
    keys = keys if n_replaced > _REPLACED_MAX else ()
    replacements: list[tuple[bytes, bytes]] = []
    for k, (name, value) in enumerate(fields.items()):
        key = b",%b:" % orjson.dumps(name)
        if name in constants:
            replacements.append((key + orjson.dumps(value), b",0x"))
        elif not _LETTERS.fullmatch(name) and not keys:
            number = b"%d" % k
            replacements.append((key, b',"%b%b":' % (_NAME, number.translate(_DIGITS_AS_LETTERS))))
    is_plain = all(map(_PLAIN.fullmatch, names)) and {*map(type, constants.values())} <= _BARE
    has_powers = any(type(value) is float and abs(value) >= 1e16 for value in numbers)
    shape = Shape(names, constants, b"", replacements, has_powers, is_plain, keys)
    shape = shape._replace(skeleton=_bare([row], shape).translate(None, _OF_NUMBERS))
    return shape if _numbers([row], shape) == numbers else None


def _bare(rows: list[bytes], shape: Shape) -> bytes:
    """The rows in one text, with nothing but names and numbers."""
    text = b"," + b",".join(rows)
    if _SMALL in text or _LARGE in text or _NAME in text:
        return b""
    for piece, instead in shape.replacements:
        text = text.replace(piece, instead)
    if shape.keys:
        parts = _KEY.split(text)
        if parts[1::2] != [*shape.keys] * len(rows):
            return b""
        text = b":".join(parts[::2])
    if shape.has_powers:
        text = _POWER.sub(_LARGE, text)
    return text.replace(b"e-", _SMALL)


def _numbers(rows: list[bytes], shape: Shape) -> list[Any] | None:
    """All numbers of all rows; None: the rows are not of this shape.

    Digits may come after a colon and nowhere else: within a name they would leave a colon without
    a number, or two numbers without a comma between them. A value that is not a number counts as
    0, and the x after it keeps digits away.
    """
    text = _bare(rows, shape)
    if (
        text.translate(None, _OF_NUMBERS) != shape.skeleton * len(rows)
        or b":," in text
        or text.endswith(b":")
    ):
        return None
    listed = text[1:].translate(_SPACES).replace(_SMALL, b"e-").replace(_LARGE, b"e")
    try:
        numbers: list[Any] = orjson.loads(b"[%b]" % listed)
    except orjson.JSONDecodeError:
        return None
    return numbers
