"""Whether a file is a journal, checked before anything is done to it."""

import os
import re
from pathlib import Path

from eventlog.blocks import read_at, read_chunks, read_head
from eventlog.errors import NewerFormat, NotAJournal
from eventlog.format.files import SEGMENT_SUFFIX
from eventlog.format.record import CRC_KEY, FORMAT, HEAD, MAX_LINE_BYTES, decode
from eventlog.read.ends import first_open, last_open
from eventlog.read.scanner import Scanner

_FOREIGN_BYTES = 64 << 20  # a file that begins with so many other bytes is not a journal
_SAMPLES = 64
_HEAD_BYTES = 64 << 10
_BEGIN = b'{"n":0,"s":"'
_TRACE = re.compile(re.escape(HEAD) + rb'|"crc" ?: ?"[0-9a-f]{8}"')


def check_is_journal(path: Path) -> None:
    """Return if `path` may be opened for writing: it is a journal, empty, or does not exist.

    A file with half of a first line, as a crash leaves it, is a journal too. Nothing is changed.

    Raises:
        NotAJournal: it holds bytes and not one whole record.
        NewerFormat: a later version of this program wrote it.
        OSError: it cannot be read, or is not a regular file.
    """
    path = Path(path)
    if not os.path.lexists(path):
        return
    if path.suffix == SEGMENT_SUFFIX:
        raise NotAJournal(f"{path}: is a segment of a journal; name the journal instead")
    if not _holds_records(path):
        size = path.stat().st_size
        raise NotAJournal(
            f"{path}: not a journal: not one whole record in its {size:,} bytes. Nothing was "
            f"changed"
        )
    for opened in (first_open(path), last_open(path)):
        number = opened.fields.get("format", FORMAT) if opened is not None else FORMAT
        if type(number) is not int or number > FORMAT:
            raise NewerFormat(
                f"{path}: has a session of format {number!r}, this program reads up to {FORMAT}. "
                f"Nothing was changed. Use a newer eventlog"
            )


def _holds_records(path: Path) -> bool:
    """Whether the file has a record, or only the beginning of one, or is empty."""
    scanner = Scanner()
    begin = b""
    n_foreign = 0
    for chunk in read_chunks(path):
        if not begin:
            begin = chunk
            if decode(chunk[: max(0, chunk.find(b"\n"))]) is not None:
                return True
        if chunk.count(0) == len(chunk):  # left by a power loss, of any size
            continue
        if scanner.feed(chunk):
            return True
        n_foreign += len(chunk)
        if n_foreign > _FOREIGN_BYTES:
            return False
    return (
        bool(scanner.finish())
        or not begin
        or (path.stat().st_size <= MAX_LINE_BYTES and _is_cut_line(path.read_bytes()))
    )


def _is_cut_line(data: bytes) -> bool:
    """Whether `data` is what a crash may leave of a first line: its beginning, or some blocks of it
    with zeros between them."""
    text = data.replace(b"\0", b"")
    if b"\n" in text.rstrip(b"\n"):
        return False
    if data[: len(_BEGIN)] == _BEGIN[: len(data)]:
        return True
    letters = text.rstrip(b"\n").decode("utf-8", "ignore")  # letters at the edges may be cut
    return len(text) < len(data) and letters.isprintable() and len(letters.encode()) > len(text) - 9


def may_be_journal(path: Path) -> bool:
    """Whether a file should be read as a journal; it may be something else, a data set for example.

    A data set of ten gigabytes is not read to find that out, but a journal whose beginning is
    damaged must be recognized. So a file of at most 64 MiB, or one that begins with zeros, is
    searched for traces of records completely, and a larger one in 64 places.

    Raises:
        OSError: it cannot be read, or is not a regular file.
    """
    size = os.stat(path).st_size
    holes: list[int] = []
    begin = next(read_chunks(path, 0, lambda offset, n_bytes: holes.append(offset)), b"")
    if _TRACE.search(begin):
        return True
    if size <= _FOREIGN_BYTES or b"\0" * 8 in begin or holes:
        before = b""
        for chunk in read_chunks(path):
            if _TRACE.search(before + chunk):
                return True
            before = chunk[-len(CRC_KEY) - 16 :]
        return False
    with open(path, "rb", buffering=0) as file:
        return any(
            _TRACE.search(read_at(file.fileno(), size * k // _SAMPLES, len(begin)))
            for k in range(1, _SAMPLES)
        )


def begins_like_journal(path: str | os.PathLike[str]) -> bool:
    """Whether there is a trace of a record at the beginning of a file, of which no more is read.

    `may_be_journal` finds also a journal whose beginning is damaged.

    Raises:
        OSError: it cannot be read, or is not a regular file.
    """
    return _TRACE.search(read_head(Path(path), _HEAD_BYTES)) is not None
