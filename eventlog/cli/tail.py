"""A journal as text: one line per event, as it is appended."""

import os
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from eventlog.format.events import one_line
from eventlog.format.record import Record
from eventlog.format.text import printable
from eventlog.format.times import duration, seconds
from eventlog.read.candidates import list_segments
from eventlog.read.ends import last_open, opening_event
from eventlog.read.reader import Reader

POLL_S = 0.2
_ETA_WINDOW = 50  # iterations; the estimate uses their wall time, with evals and saves
_LINE_BYTES = 1024  # more than most lines have; used to find the last n of them


class Lines:
    """Turns records into lines; remembers what is needed to estimate the remaining time."""

    def __init__(self) -> None:
        self._max_iters: int | None = None
        self._recent: deque[tuple[int, float]] = deque(maxlen=_ETA_WINDOW)

    def line(self, record: Record) -> str:
        """One line, without LF, for any record."""
        if record.event == "open":
            self.learn(record)
        text = one_line(record, self._max_iters)
        eta = self._eta(record) if record.event == "iter" else ""
        return printable(f"{record.t[:10]} {record.t[11:19]}  {text}" + f"  eta {eta}" * bool(eta))

    def learn(self, record: Record) -> None:
        """Remember what later lines need from an `open` event that is not printed."""
        config = record.fields.get("config")
        max_iters = config.get("max_iters") if isinstance(config, dict) else None
        self._max_iters = max_iters if type(max_iters) is int else None
        self._recent.clear()

    def _eta(self, record: Record) -> str:
        """The remaining time, estimated from the latest iterations; empty if unknown."""
        i, now = record.fields.get("iter"), seconds(record.t)
        if type(i) is not int or self._max_iters is None or now is None:
            return ""
        if self._recent and i <= self._recent[-1][0]:
            self._recent.clear()
        self._recent.append((i, now))
        (first, begun), left = self._recent[0], self._max_iters - i
        if i == first or left <= 0 or now < begun:
            return ""
        return duration(round((now - begun) / (i - first) * left))


def tail(path: Path, *, n_lines: int = 10, follow: bool = False) -> Iterator[str]:
    """The last `n_lines` events as lines, then with `follow` each new one as it is appended.

    Follows the journal through resumed sessions and the repair of a torn tail.
    """
    lines = Lines()
    opened = last_open(path)
    if opened is not None:
        lines.learn(opened)
    reader = _reader(path, os.path.getsize(path) - (n_lines + _ETA_WINDOW) * _LINE_BYTES)
    yield from deque(map(lines.line, reader.read_on(to_the_end=False)), maxlen=n_lines)
    while follow:
        time.sleep(POLL_S)
        if reader.is_outdated:
            what = _what_changed(path, reader)
            reader.restart()
            yield printable(f"{path}: {what}; reading from its beginning")
        yield from map(lines.line, reader.read_on(to_the_end=False))


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
