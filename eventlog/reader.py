"""The records of a run in the order of events, from its journal and its segments.

A segment, `<stem>.<session>.<k>.segment`, is where a session went on after its file
failed; it stands beside the journal or in the session's `fallback` folder. What it has of
a session comes before the next session of the journal.
"""

import contextlib
import heapq
import os
from collections.abc import Iterable, Iterator
from itertools import chain, groupby
from operator import attrgetter
from pathlib import Path
from typing import Any

from eventlog.appender import SEGMENT_SUFFIX
from eventlog.ledger import Defect, Ledger
from eventlog.record import Record
from eventlog.scan import Scanner, read_chunks
from eventlog.stretch import Stretch, singly


def scan(path: str | os.PathLike[str]) -> Iterator[Record]:
    """The verified records of a run, in order, from its journal and its segments."""
    return Reader(Path(path)).read_on(to_the_end=True)


_LATEST = "~"  # behind every time, as text


class Reader:
    """Reads a journal as far as it is, and on when it has grown."""

    def __init__(self, path: Path, *, start: int = 0) -> None:
        """A reader of the journal `path`, from byte `start` on: 0 to judge it, later to look."""
        self.path = path
        self.restart(start)

    def restart(self, start: int = 0) -> None:
        """Forget all that was read."""
        self._start = start
        self.ledger = Ledger()
        self.journal = Scanner(self.ledger, in_stretches=True)
        self._segments: dict[Path, Scanner] = {}
        self._folders = [self.path.parent]
        self._found: list[tuple[int, Path, str]] = []  # segments, as of the latest look
        self._sessions: dict[str, None] = {}  # those whose records were given, in order
        self._ended = False

    @property
    def is_outdated(self) -> bool:
        """Whether what was read may not stand in the journal any more: `restart` then.

        A torn tail is cut when somebody writes again, and what was read as the end is none.
        """
        return self._ended or os.stat(self.path).st_size < self._start + self.journal.size_bytes

    @property
    def is_behind(self) -> bool:
        """Whether the files have other bytes than those that were read, or there are more files."""
        read = {self.path: self._start + self.journal.size_bytes}
        read |= {path: scanner.size_bytes for path, scanner in self._segments.items()}
        there = [self.path, *(path for _, path, _ in self._find_segments(self._folders))]
        return any(os.stat(path).st_size != read.get(path) for path in there)

    @property
    def files(self) -> list[Path]:
        """The files that were read: the journal and its segments."""
        return [self.path, *self._segments]

    @property
    def segments(self) -> list[dict[str, Any]]:
        """What was read of each segment."""
        return [
            {"file": path.name, "bytes": scanner.size_bytes, "crc": f"{scanner.crc:08x}"}
            for path, scanner in sorted(self._segments.items())
        ]

    @property
    def defects(self) -> list[Defect]:
        """Everything found wrong so far, the journal's own first, by offset."""
        damage = [d for scanner in self._segments.values() for d in scanner.damage]
        found = [*self.journal.defects, *damage]
        return sorted(found, key=lambda defect: (defect.file, defect.offset))

    def read_on(self, *, to_the_end: bool) -> Iterator[Record]:
        """The records that were not given before.

        `to_the_end`: nobody writes any more, so a last line without LF is the end of it.
        """
        return singly(self.read_stretches_on(to_the_end=to_the_end))

    def read_stretches_on(self, *, to_the_end: bool) -> Iterator[Record | Stretch]:
        """As `read_on`, and many iterations at once where nothing is unusual about them."""
        # Looked for once: a folder may have ten thousand runs.
        self._found = self._find_segments(self._folders)
        journal = self._read(self.path, self.journal, to_the_end, self._start)
        done = set()
        for s, group in groupby(journal, key=attrgetter("s")):
            first = next(group)
            self._sessions.setdefault(s)
            if isinstance(first, Record) and first.event == "open":
                self._note_fallback(first)
                yield from self._read_strangers(to_the_end, before=first.t)
            # The file that failed may have holes that only the segment fills: by number, then.
            segments = self._read_segments(s, to_the_end)
            whole = chain([first], group)  # noqa: B031 (the first is put back, not read twice)
            yield from _by_number([whole, *segments]) if segments else whole
            done.add(s)
        for s in [s for s in self._sessions if s not in done]:
            yield from _by_number(self._read_segments(s, to_the_end))
        yield from self._read_strangers(to_the_end)
        self._ended = to_the_end

    def _read(
        self, path: Path, scanner: Scanner, to_the_end: bool, start: int = 0
    ) -> Iterator[Record | Stretch]:
        scanner.forget_pending()  # it may be a torn line that was cut since
        for chunk in read_chunks(path, start + scanner.size_bytes):
            yield from scanner.feed_on(chunk)
        if to_the_end:
            yield from scanner.finish()

    def _read_segments(self, s: str, to_the_end: bool) -> list[Iterator[Record | Stretch]]:
        """What the segments of session `s` have that was not given, a stream for each."""
        return [
            self._read(path, self._scanner(path), to_the_end)
            for _, path, session in self._found
            if session == s
        ]

    def _scanner(self, path: Path) -> Scanner:
        return self._segments.setdefault(path, Scanner(self.ledger, path.name))

    def _read_strangers(self, to_the_end: bool, before: str = _LATEST) -> Iterator[Record]:
        """Sessions that are in segments alone (a network file system), in order of time."""
        if self._start:
            return  # only what is said from there on was asked for
        found = dict.fromkeys(s for _, _, s in self._found if s not in self._sessions)
        for t, s in sorted((self._first_time(s), s) for s in found):
            if t < before or before == _LATEST:
                self._sessions.setdefault(s)
                yield from _by_number(self._read_segments(s, to_the_end))

    def _first_time(self, s: str) -> str:
        """When the first record was written that the segments of `s` begin with."""
        for _, path, session in self._found:
            if session == s:
                scanner = Scanner()
                for record in [*scanner.feed(next(read_chunks(path), b"")), *scanner.finish()]:
                    return record.t
        return _LATEST

    def _find_segments(self, folders: Iterable[Path]) -> list[tuple[int, Path, str]]:
        """The segments in `folders`, each with its number and its session, as they were written."""
        begin = f"{self.path.stem}."
        found = []
        for folder in folders:
            with contextlib.suppress(OSError):  # a fallback folder need not be there
                for name in os.listdir(folder):  # of 20,000 files: 8 ms; Path.glob takes 22
                    if name.endswith(SEGMENT_SUFFIX) and name.startswith(begin):
                        s, _, k = name[len(begin) : -len(SEGMENT_SUFFIX)].partition(".")
                        if k.isdecimal():  # else it is of a rank: <stem>.rank3.<session>.<k>
                            found.append((int(k), folder / name, s))
        return sorted(found)

    def _note_fallback(self, record: Record) -> None:
        folder = record.fields.get("fallback")
        if isinstance(folder, str) and Path(folder) not in self._folders:
            self._folders.append(Path(folder))
            self._found = sorted([*self._found, *self._find_segments([Path(folder)])])


def _by_number(streams: list[Iterator[Record | Stretch]]) -> Iterator[Record]:
    """The records of one session from all its files, in its order."""
    return heapq.merge(*map(singly, streams), key=attrgetter("n"))
