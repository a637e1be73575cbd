"""Many iterations read at once: what a journal consists of nearly everywhere.

Lines of one session that follow each other, all `iter` events with the same fields, are verified
and taken apart as columns. Every byte is checked as for a single record; what is unusual in any
way is refused here and read line by line. It halves the cost of a recovery: of 1,000,000 events,
7.5 µs each by single records, 3.3 µs this way, where parsing them alone takes 1.2 (Python 3.11).
"""

import re
from binascii import crc32
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from operator import lt
from typing import ClassVar

import orjson

from eventlog.record import CRC_KEY, HEAD, TRAILER_BYTES, Record, decode
from eventlog.run import spaced

FIGURES = ("iter", "loss", "time_ms", "mfu")
"""What comes first in an iteration, in the guide's order."""
ITERATION = b'"event":"iter","iter":'
_ROW_AT = len(b'"event":"iter",')
_BEGIN = ("n", "s", "t", "event", *FIGURES)
_I64 = 1 << 63
_LETTERS = re.compile(r"[\w./-]+")
_NUMBERS = {int, float, bool, type(None)}


@dataclass(slots=True)
class Stretch:
    """Records n, n + 1, ... of session `s`, each a later iteration than the one before."""

    s: str
    n: int
    offset: int
    lines: list[bytes]
    rows_at: list[int]
    crcs: list[int]
    iters: Sequence[int]
    losses: Sequence[float]
    times_ms: Sequence[float]
    mfus: Sequence[float]
    last: Record
    is_plain: bool
    """Nothing in it but numbers, under names of letters."""

    event: ClassVar[str] = "iter"

    def __len__(self) -> int:
        return len(self.lines)

    def rows(self) -> list[bytes]:
        """The iterations as they stand in the run JSON: the lines' own bytes, with spaces."""
        return spaced(
            [
                b"{%b}" % line[at + _ROW_AT : -TRAILER_BYTES]
                for line, at in zip(self.lines, self.rows_at, strict=True)
            ],
            plain=self.is_plain,
        )

    def records(self) -> Iterator[Record]:
        """The same, one by one."""
        offset = self.offset
        for line in self.lines:
            record = decode(line, offset)
            assert record is not None
            yield record
            offset += len(line) + 1


def singly(items: "Iterator[Record | Stretch]") -> Iterator[Record]:
    """Records, those of stretches one by one."""
    for item in items:
        if isinstance(item, Stretch):
            yield from item.records()
        else:
            yield item


def stretch_after(record: Record, lines: list[bytes], rows_at: list[int]) -> Stretch | None:
    """`lines` as what follows the iteration `record`; None: they are not all that.

    `rows_at` says where in each `ITERATION` stands. Each has to have the fields of `record`, in
    its order.
    """
    n_lines = len(lines)
    names = tuple(orjson.loads(record.line))
    if names[: len(_BEGIN)] != _BEGIN or "annotates" in names:
        return None
    crcs = [crc32(line[:-TRAILER_BYTES]) for line in lines]
    trailers = [b'%b%08x"}' % (CRC_KEY, crc) for crc in crcs]
    if [line[-TRAILER_BYTES:] for line in lines] != trailers:
        return None
    text = b",".join(lines)
    if not text.startswith(HEAD) or text.count(b"," + HEAD) != n_lines - 1:
        return None
    try:
        values = orjson.loads(b"[%b]" % text)
    except orjson.JSONDecodeError:
        return None
    if [*map(tuple, values)] != [names] * n_lines:
        return None
    columns = list(zip(*map(dict.values, values), strict=True))
    ns, sessions, times, _, iters, losses, times_ms, mfus = columns[: len(_BEGIN)]
    if (
        ns != tuple(range(record.n + 1, record.n + 1 + n_lines))
        or {*map(type, ns), *map(type, iters)} != {int}  # true is 1, and 1.0 too
        or sessions.count(record.s) != n_lines
        or {*map(type, times)} != {str}
        or {*map(type, losses), *map(type, times_ms), *map(type, mfus)} != {float}
        or not all(map(lt, iters, islice(iters, 1, None)))
        or iters[-1] >= _I64
    ):
        return None
    offset = record.offset + record.size_bytes + 1
    last = decode(lines[-1], offset + sum(map(len, lines)) + n_lines - 1 - len(lines[-1]))
    assert last is not None
    return Stretch(
        s=record.s,
        n=record.n + 1,
        offset=offset,
        lines=lines,
        rows_at=rows_at,
        crcs=crcs,
        iters=iters,
        losses=losses,
        times_ms=times_ms,
        mfus=mfus,
        last=last,
        is_plain=all(map(_LETTERS.fullmatch, names))
        and {type(value) for column in columns[len(_BEGIN) : -1] for value in column} <= _NUMBERS,
    )
