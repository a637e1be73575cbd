"""One event <-> one line: the grammar of FORMAT.md, without any files.

    {"n":17,"s":"a1b2c3d4","t":"2026-11-23T03:25:01.123456+00:00","event":"iter","iter":16,...,"crc":"9f3a1c02"}

`n` counts within the writer's session `s`, so (s, n) names the record. `crc` is last and
of fixed width: a line is verified by slicing, before any JSON is parsed.
"""

import math
import time
from binascii import crc32
from collections.abc import Container
from datetime import date, datetime
from datetime import time as time_of_day
from enum import Enum
from functools import lru_cache
from typing import Any, Literal, NamedTuple
from uuid import UUID

import orjson

from eventlog.errors import RecordTooLarge
from eventlog.format.foreign import are_of, class_name, number, simplified, without_addresses
from eventlog.format.text import printable_json
from eventlog.interruption import is_interruption, of_value

FORMAT = 1
MAX_LINE_BYTES = 1 << 20
HEAD = b'{"n":'
CRC_KEY = b',"crc":"'
TRAILER_BYTES = len(CRC_KEY) + 8 + len(b'"}')
IDENTITY_MAX_BYTES = 160  # of a line, for all but the name and the fields of its event
ANNOTATES = "annotates"  # a field of events that were logged about a run, not by it
RESERVED = frozenset(("n", "s", "t", "event", "durable", "crc"))

_EXACT: frozenset[type] = frozenset((int, str, bool, type(None)))
SCALARS = _EXACT | {float}
"""The types of values that JSON has, lists and dicts apart."""
_new_tuple = tuple.__new__
Values = Literal["any", "plain", "numbers"]
"""What is known of an event's values: nothing; each has one of the types `SCALARS`; they are
numbers, so that no credential has to be looked for."""

_LONG_TEXT = 1 << 16  # characters
_MAX_DEPTH = 100  # a value nested deeper becomes its repr
_MAX_OBJECTS = 100_000  # in one event, of types that are not JSON's
_INT_MIN, _INT_MAX = -(1 << 63), (1 << 64) - 1
_DECIMAL_BITS = (
    2000  # a longer integer becomes hexadecimal: Python refuses, or takes quadratic time
)


class Record(NamedTuple):
    """An event as stored, verified, and its place in the file."""

    n: int
    s: str
    t: str
    event: str
    fields: dict[str, Any]
    offset: int = 0
    line: bytes = b""
    """As it is in the file, without LF."""
    crc: int = 0
    """The checksum of the line, which was verified."""

    @property
    def size_bytes(self) -> int:
        return len(self.line)


def encode(
    n: int, s: str, t: str, event: str, fields: dict[str, Any], durable: int | None = None
) -> bytes:
    """The line of one event, LF included: `seal` of `encode_fields`.

    Raises:
        RecordTooLarge: the line would exceed MAX_LINE_BYTES.
    """
    line = seal(n, s, t, event, encode_fields(fields), durable)
    if len(line) > MAX_LINE_BYTES:
        raise RecordTooLarge(
            f"a {event!r} event of {len(line):,} bytes does not fit in a line "
            f"of {MAX_LINE_BYTES:,} bytes"
        )
    return line


def encode_fields(fields: dict[str, Any], values: Values = "any") -> bytes:
    """The fields of an event as one JSON object. Runs code of the values (`__repr__`, `item`).

    Every value is accepted: tensors and numpy scalars become numbers, a non-finite float becomes
    null and its name goes to `nonfinite`, what JSON has no type for becomes text. A field with a
    reserved name gets a trailing underscore.

    Raises:
        MemoryError: a text is too long for the memory that is left.
    """
    if not RESERVED.isdisjoint(fields):
        fields = _named(fields, RESERVED)
    if values != "numbers":
        for value in fields.values():
            if type(value) is str and len(value) > _LONG_TEXT:
                bytearray(8 * len(value))  # orjson asks for as much, and crashes if it gets none
    try:
        if values == "any" and not are_of(SCALARS, fields.values()):
            fields = {name: _copy(value) for name, value in fields.items()}
        encoded = orjson.dumps(fields)
        if b"null" in encoded and not _is_exact(fields):  # orjson writes a NaN as null, too
            encoded = orjson.dumps(_plain_fields(fields))
    except Exception as error:
        if is_interruption(error):
            raise
        encoded = orjson.dumps(_plain_fields(fields))  # a rare value: convert all of them, slowly
    return encoded


def _copy(value: Any) -> Any:
    """A value of JSON's types only, of which no other thread changes a list or a dict.

    orjson gets no other value: it crashes if an Enum's `value` raises, and if code that runs
    meanwhile changes a list that it reads.

    Raises:
        Exception: the value has another type, or whatever reading it raises.
    """
    kind = type(value)
    if kind is list or kind is tuple:
        items = list(value)
        return items if are_of(SCALARS, items) else [_copy(item) for item in items]
    if kind is dict:
        named = dict(value)
        is_plain = are_of(SCALARS, named.values())
        return named if is_plain else {key: _copy(item) for key, item in named.items()}
    if kind is float or kind is int or are_of(SCALARS, (value,)):
        return value
    simple = number(value)
    kind = type(simple)
    if kind is float or kind is int or are_of(SCALARS, (simple,)):
        return simple
    raise TypeError


def _is_exact(fields: dict[str, Any]) -> bool:
    """Whether all values are numbers that JSON has, texts and None."""
    for value in fields.values():
        kind = type(value)
        if value - value != 0 if kind is float else kind not in _EXACT:
            return False
    return True


def seal(n: int, s: str, t: str, event: str, encoded: bytes, durable: int | None = None) -> bytes:
    """The line of an event whose fields are encoded. Runs no code of the values.

    `durable`, written now and then: how many records of this session, from its first, are known to
    survive power loss.
    """
    # Joining texts is faster than encoding one dict of both.
    head = f'{{"n":{n},"s":"{s}","t":"{t}","event":{_name(event)},'
    if durable is not None:
        head += f'"durable":{durable},'
    body = head.encode() + encoded[1:-1] if len(encoded) > 2 else head[:-1].encode()
    return b'%b,"crc":"%08x"}\n' % (body, crc32(body))


def fits_in_a_line(event: str, encoded: bytes) -> bool:
    """Whether an event whose fields are `encoded` fits in one line, whatever its number."""
    return len(encoded) + len(_name(event)) + IDENTITY_MAX_BYTES <= MAX_LINE_BYTES


@lru_cache(maxsize=256)
def _name(event: str) -> str:
    """A kind of event as JSON."""
    return orjson.dumps(text_of(event)).decode()


def decode(line: bytes, offset: int = 0) -> Record | None:
    """The record of a line (without LF); None: it is not a record."""
    body = line[:-TRAILER_BYTES]
    crc = crc32(body)
    if line[-TRAILER_BYTES:] != b'%b%08x"}' % (CRC_KEY, crc) or body[:5] != HEAD:
        return None
    try:
        fields = orjson.loads(line)
        pop = fields.pop
        pop("crc")
        n, s, t, event = pop("n"), pop("s"), pop("t"), pop("event")
    except (orjson.JSONDecodeError, KeyError):
        return None
    if type(n) is not int or n < 0 or not (type(s) is type(t) is type(event) is str):
        return None
    # As Record(...), without the call of the Python function that a NamedTuple has for it.
    return _new_tuple(Record, (n, s, t, event, fields, offset, line, crc))


def printable_line(line: bytes) -> bytes:
    """A verified line, safe for a terminal: the same event, with control characters escaped."""
    if line.isascii() and b"\x7f" not in line:
        return line  # JSON itself escapes the other controls
    body = line[:-TRAILER_BYTES].decode()
    shown = printable_json(body)
    if shown == body:
        return line
    return b'%b%b%08x"}' % (shown.encode(), CRC_KEY, crc32(shown.encode()))


def plain_json(fields: dict[str, Any]) -> bytes:
    """Any fields as JSON of any length, by the same rules as in a line."""
    return orjson.dumps(_plain_fields(fields), option=orjson.OPT_INDENT_2)


_LAST_US = 253_402_300_799_999_999  # the end of the year 9999


class Clock:
    """UTC time as text of fixed width, always with microseconds.

    So readers that guess types from text (DuckDB, pandas) see one type. A time before 1970 or after
    the year 9999 becomes that limit. Only the microseconds are formatted each time, for speed.
    """

    def __init__(self) -> None:
        self._second_us, self._prefix = -1_000_000, ""
        self.us = 0
        """The time that was returned last, in microseconds since 1970."""

    def now(self) -> str:
        self.us = us = time.time_ns() // 1000
        left = us - self._second_us
        if not 0 <= left < 1_000_000:
            self.us = us = min(max(us, 0), _LAST_US)
            second, left = divmod(us, 1_000_000)
            self._second_us = us - left
            self._prefix = time.strftime("%Y-%m-%dT%H:%M:%S.", time.gmtime(second))
        return f"{self._prefix}{left:06}+00:00"


def _plain_fields(fields: dict[str, Any]) -> dict[str, Any]:
    """`fields` with JSON's types only, non-finite floats named under `nonfinite`."""
    walk = _Walk()
    plain = {k: walk.plain(v, k, ()) for k, v in _named(fields, RESERVED).items()}
    if walk.nonfinite:
        known = plain.get("nonfinite")
        plain["nonfinite"] = (known if isinstance(known, dict) else {}) | walk.nonfinite
    return plain


def _named(fields: dict[Any, Any], reserved: frozenset[str] = frozenset()) -> dict[str, Any]:
    """Each value under its key as text, lengthened if another one has that name."""
    named: dict[str, Any] = {}
    texts = {key for key in fields if type(key) is str}
    tried: dict[str, int] = {}
    for key, value in fields.items():
        name = text_of(key)
        is_its_own = type(key) is str and name == key and name not in reserved
        named[name if is_its_own else unique(name, tried, reserved, texts, named)] = value
    return named


def unique(name: str, tried: dict[str, int], *used: Container[str]) -> str:
    """`name`, or the first of `name_`, `name_2`, `name_3`, ... that is not in `used`.

    `tried` is passed from call to call, so that nothing is tried twice.
    """
    free = name
    while any(free in names for names in used):
        number = tried[name] = tried.get(name, 0) + 1
        free = f"{name}_{number}" if number > 1 else f"{name}_"
    return free


def with_nonfinite(fields: dict[str, Any], key: str) -> Any:
    """A nested field, with the text `nan`, `inf` or `-inf` for each number that is not finite."""
    marks = fields.get("nonfinite")
    if not isinstance(marks, dict) or not any(path.startswith(f"{key}.") for path in marks):
        return fields.get(key)
    names: dict[str, Any] = marks

    def named(value: Any, path: str) -> Any:
        if value is None:
            return names.get(path)
        if isinstance(value, dict):
            return {k: named(v, f"{path}.{k}") for k, v in value.items()}
        if isinstance(value, list):
            return [named(v, f"{path}.{i}") for i, v in enumerate(value)]
        return value

    return named(fields.get(key), key)


class _Walk:
    """Makes the values of one event plain. `around`: the ids of the containers around a value."""

    def __init__(self) -> None:
        self.nonfinite: dict[str, str] = {}
        """The non-finite floats so far, by path."""
        self._n_objects = 0

    def plain(self, value: Any, path: str, around: tuple[int, ...]) -> Any:
        try:
            if value is None or value is True or value is False:
                return value
            if isinstance(value, Enum):
                value = value.value
            if isinstance(value, str):
                return text_of(value)
            if isinstance(value, int):
                return _plain_int(of_value(int, value))
            if isinstance(value, float):
                if math.isfinite(value):
                    return of_value(float, value)
                self.nonfinite[path] = "nan" if value != value else "inf" if value > 0 else "-inf"
                return None
            return self._object(value, path, around)
        except Exception as error:  # __repr__ or .item() may raise anything
            if is_interruption(error):
                raise
            return f"<{class_name(value)}: {class_name(error)}>"

    def _object(self, value: Any, path: str, around: tuple[int, ...]) -> Any:
        if isinstance(value, datetime | date | time_of_day):
            return text_of(of_value(value.isoformat))
        if isinstance(value, UUID):
            return text_of(value)
        if id(value) in around:
            return f"<{class_name(value)} inside itself>"
        within = (*around, id(value))
        if len(within) <= _MAX_DEPTH:
            kind = type(value)
            if kind is dict:
                items = _named(dict(value)).items()
                return {k: self.plain(v, f"{path}.{k}", within) for k, v in items}
            if isinstance(value, list | tuple) and not hasattr(kind, "_fields"):  # a named one
                return [self.plain(v, f"{path}.{i}", within) for i, v in enumerate(list(value))]
            self._n_objects += 1
            if self._n_objects > _MAX_OBJECTS:  # each may make new ones without end
                return f"<{class_name(value)}>"
            simple = simplified(value)
            if simple is not value:
                return self.plain(simple, path, within)
        if hasattr(type(value), "__fspath__"):
            return self.plain(of_value(value.__fspath__), path, within)
        return text_of(without_addresses(of_value(repr, value), value))


def _plain_int(value: int) -> int | str:
    if _INT_MIN <= value <= _INT_MAX:
        return value
    return str(value) if value.bit_length() <= _DECIMAL_BITS else hex(value)


def text_of(value: Any) -> str:
    """Text that UTF-8 can hold: lone surrogates, as in undecodable file names, are escaped.

    Of objects other than texts and errors it has no memory addresses.
    """
    if issubclass(type(value), str):
        text = str.__str__(value)
    else:
        try:
            text = without_addresses(of_value(str, value), value)
        except Exception as error:
            if is_interruption(error):
                raise
            text = f"<{class_name(value)}: {class_name(error)}>"
    return text.encode("utf-8", "backslashreplace").decode()


def encode_header(
    *, run_id: str, journal: str, session: str, number: int, first_n: int, s: str, t: str
) -> bytes:
    """The first line of a segment, LF included. `s`: a session name of the header's own."""
    return encode(
        0,
        s,
        t,
        "segment",
        {
            "run_id": run_id,
            "journal": journal,
            "session": session,
            "number": number,
            "first_n": first_n,
        },
    )


def header_fields(record: Record) -> dict[str, Any] | None:
    """The fields of a segment's header; None: `record` is another record."""
    is_header = record.event == "segment" and record.n == 0 and "session" in record.fields
    return record.fields if is_header else None
