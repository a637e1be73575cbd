"""The first and last events of a journal, found without reading all of it."""

import contextlib
import os
from pathlib import Path

from eventlog.blocks import find, line_around, open_to_read, read_at, read_chunks, rfind
from eventlog.format.record import HEAD, MAX_LINE_BYTES, Record, decode
from eventlog.read.scanner import Scanner

_OPEN_MARK = b'"event":"open"'
_CLOSE_MARK = b'"event":"close"'
_FIRST_BYTES = 8 * MAX_LINE_BYTES  # the first `open` is in the first line, unless that is damaged


def last_record(path: Path) -> Record | None:
    """The record in the last complete line, if that line is a record."""
    fd = open_to_read(path)
    try:
        end = max(0, rfind(fd, b"\n", os.fstat(fd).st_size))
        start = rfind(fd, b"\n", end) + 1
        if end - start > MAX_LINE_BYTES:
            return None
        return decode(read_at(fd, start, end - start), start)
    finally:
        os.close(fd)


def last_open(path: Path) -> Record | None:
    """The `open` event of the latest session, found from the end of the file."""
    fd = open_to_read(path)
    try:
        return _last(fd, _OPEN_MARK, "open", os.fstat(fd).st_size)
    finally:
        os.close(fd)


def unclosed_session(path: Path) -> Record | None:
    """The `open` event of the latest session in the file, if that has no `close` there."""
    fd = open_to_read(path)
    try:
        size = os.fstat(fd).st_size
        opened = _last(fd, _OPEN_MARK, "open", size)
        closed = None if opened is None else _last(fd, _CLOSE_MARK, "close", size, opened.offset)
        is_closed = opened is not None and closed is not None and closed.s == opened.s
        return None if is_closed else opened
    finally:
        os.close(fd)


def _last(fd: int, mark: bytes, event: str, at: int, begin: int = 0) -> Record | None:
    """The last record of a kind between the offsets `begin` and `at`."""
    while (at := rfind(fd, mark, at)) > begin:
        record = _record_around(fd, at)
        if record is not None and record.event == event:
            return record
    return None


def has_session(path: Path, s: str) -> bool:
    """Whether the file has a record of session `s`."""
    mark = b'"s":"%b"' % s.encode()
    fd = open_to_read(path)
    try:
        at = find(fd, mark, 0)
        while at >= 0:
            record = _record_around(fd, at)
            if record is not None and record.s == s:
                return True
            at = find(fd, mark, at + len(mark))
        return False
    finally:
        os.close(fd)


def _record_around(fd: int, at: int) -> Record | None:
    """The record around byte `at`."""
    start, line = line_around(fd, at, MAX_LINE_BYTES)
    record = decode(line, start)
    if record is None:  # there may be a torn line before it, or an editor's CR after it
        whole = [r for r in _records_in(line, start) if r.offset <= at < r.offset + len(r.line)]
        record = whole[0] if whole else None
    return record


def _records_in(line: bytes, offset: int) -> list[Record]:
    """The records in a line, as a scanner finds them."""
    scanner = Scanner()
    records = [*scanner.feed(line), *scanner.finish()]
    return [record._replace(offset=offset + record.offset) for record in records]


def opening_event(path: Path) -> Record | None:
    """A journal's first `open` event, or if that is damaged the latest one; None: no journal."""
    with contextlib.suppress(OSError, ValueError):
        with open(open_to_read(path), "rb") as file:  # does not wait at a FIFO
            line = file.readline(MAX_LINE_BYTES)
        record = decode(line.rstrip(b"\n"))
        if (record is None or record.event != "open") and line.startswith(HEAD):
            record = last_open(path)
        if record is not None and record.event == "open":
            return record
    return None


def first_open(path: Path) -> Record | None:
    """The first `open` event, if it is in the first few MiB of the file."""
    with contextlib.closing(read_chunks(path)) as chunks:
        rest, offset = b"", 0
        for chunk in chunks:
            lines = (rest + chunk).split(b"\n")
            rest = lines.pop()
            for line in lines:
                opened = _open_in(line, offset)
                if opened is not None:
                    return opened
                offset += len(line) + 1
            if offset > _FIRST_BYTES or len(rest) > _FIRST_BYTES:
                return None
        return _open_in(rest, offset)


def _open_in(line: bytes, offset: int) -> Record | None:
    if _OPEN_MARK not in line:
        return None
    record = decode(line, offset)
    records = [record] if record is not None else _records_in(line, offset)
    return next((r for r in records if r.event == "open" and r.fields.get("run_id")), None)
