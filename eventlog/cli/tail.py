"""A journal as text: one line per event, as it is appended."""

import os
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from eventlog.cli.pace import WINDOW, Pace
from eventlog.cli.terminal import fitted
from eventlog.format.events import one_line
from eventlog.format.record import Record
from eventlog.format.text import printable
from eventlog.format.times import duration
from eventlog.read.candidates import list_segments
from eventlog.read.ends import last_open, opening_event
from eventlog.read.reader import Reader

POLL_S = 0.2
_WIDE_COLUMNS = 100  # of a terminal that has room for the date in each line
_FIXED_FIELDS = 3  # time, kind and step
_LINE_BYTES = 1024  # more than most lines have; used to find the last n of them


class Lines:
    """Turns records into lines; remembers what is needed to estimate the remaining time.

    With `columns` each event is one line of a terminal: it has the first fields that fit and the
    number of the others, and in a narrow one the date has a line of its own when it changes.
    """

    def __init__(self, columns: int | None = None) -> None:
        self._pace = Pace()
        self._columns = columns
        self._date = ""

    def shown(self, line: str) -> Iterator[str]:
        """A line as the terminal shows it, behind a new date."""
        if self._columns is None:
            yield line
        elif self._columns >= _WIDE_COLUMNS:
            yield fitted(line, self._columns, _FIXED_FIELDS)
        else:
            date, line = line[:10], line[11:]
            if date != self._date:
                yield f"{date} UTC"
                self._date = date
            yield fitted(line, self._columns, _FIXED_FIELDS)

    def line(self, record: Record) -> str:
        """One line, without LF, for any record."""
        if record.event == "open":
            self.learn(record)
        remaining_s = self._pace.remaining_s(record)
        eta = "" if remaining_s is None else f"  eta {duration(round(remaining_s))}"
        text = one_line(record, self._pace.planned)
        return printable(f"{record.t[:10]} {record.t[11:19]}  {text}{eta}")

    def learn(self, opened: Record) -> None:
        """Remember what later lines need from an `open` event that is not printed."""
        self._pace.begin(opened)


def remaining_s(path: Path) -> float | None:
    """How long the run of a journal still takes, from its latest events; None if unknown.

    Raises:
        OSError: the journal cannot be read.
    """
    pace = Pace()
    opened = last_open(path)
    if opened is not None:
        pace.begin(opened)
    known = None
    reader = _reader(path, os.path.getsize(path) - 4 * WINDOW * _LINE_BYTES)
    for record in reader.read_on(to_the_end=False):
        if record.event == "open":
            pace.begin(record)
            known = None
        now_known = pace.remaining_s(record)
        known = known if now_known is None else now_known
    return known


def tail(
    path: Path, *, n_lines: int = 10, follow: bool = False, columns: int | None = None
) -> Iterator[str]:
    """The last `n_lines` events as lines, then with `follow` each new one as it is appended.

    Follows the journal through resumed sessions and the repair of a torn tail.

    Args:
        columns: the width of the terminal that the lines are for.
    """
    lines = Lines(columns)
    opened = last_open(path)
    if opened is not None:
        lines.learn(opened)
    reader = _reader(path, os.path.getsize(path) - (n_lines + WINDOW) * _LINE_BYTES)
    last = deque(map(lines.line, reader.read_on(to_the_end=False)), maxlen=n_lines)
    for line in last:
        yield from lines.shown(line)
    while follow:
        time.sleep(POLL_S)
        if reader.is_outdated:
            what = _what_changed(path, reader)
            reader.restart()
            yield printable(f"{path}: {what}; reading from its beginning")
        for record in reader.read_on(to_the_end=False):
            yield from lines.shown(lines.line(record))


def _reader(path: Path, before_last: int) -> Reader:
    """A reader of the last events: from the beginning if the run has other files, whose place among
    them is known only then."""
    opens = filter(None, (opening_event(path), last_open(path)))
    fallbacks = [opened.fields.get("fallback") for opened in opens]
    folders = [path.parent, *(Path(one) for one in fallbacks if isinstance(one, str))]
    reader = Reader(path, start=0 if _have_segments(path, folders) else max(0, before_last))
    for folder in folders:
        reader.add_folder(folder)
    return reader


def _have_segments(path: Path, folders: Iterable[Path]) -> bool:
    for folder in folders:
        with suppress(OSError, ValueError):
            if list_segments(path.stem, folder, is_beside=folder == path.parent):
                return True
    return False


def _what_changed(path: Path, reader: Reader) -> str:
    """Why what was read does not hold any more."""
    if os.stat(path).st_size < reader.end:
        return "became shorter"
    if reader.is_misordered:
        return "has a segment with records from before the latest ones"
    return "was replaced by another file"
