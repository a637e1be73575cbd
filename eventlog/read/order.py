"""The order of a run's sessions, where some are in segments alone.

Clocks do not decide it: machines may differ by minutes. Each session has in its `open` event which
session it met (`prev`), and how many there were before it (`session_number`). `Plan` says which
sessions are in segments alone, again whenever files are found, and when each is read.
"""

import math
import os
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from eventlog.blocks import read_chunks
from eventlog.format.record import ANNOTATES, Record
from eventlog.read.ends import has_session
from eventlog.read.scanner import Items, Scanner
from eventlog.read.segments import Segments
from eventlog.read.sequence import SequenceCheck

_FEW = 3  # up to this many sessions are searched for one by one, which may stop early
_BLOCK = 64  # sessions that a search skips in one step


class SessionStart(NamedTuple):
    """What the first record of a session says about its place among the others."""

    s: str
    t: str
    """Time of that record."""
    number: int | None
    """`session_number`; None: it has none, or the `open` event is lost."""
    prev: str | None
    """The session it met; None as for `number`."""


def session_start(record: Record) -> SessionStart:
    """That of `record`, the first of its session."""
    fields: dict[str, Any] = record.fields if record.event == "open" else {}
    number = fields.get("session_number")
    prev = fields.get("prev")
    met = prev.get("s") if isinstance(prev, dict) else None
    return SessionStart(
        record.s,
        record.t,
        number if type(number) is int else None,
        met if isinstance(met, str) else None,
    )


def starts_in(path: Path, run_id: str | None) -> list[SessionStart]:
    """The sessions of a run that have records in its journal, in the order of the first of them.

    Those of another run are left out.
    """
    sequence = SequenceCheck()
    sequence.run_id = run_id
    scanner = Scanner(sequence, in_batches=True)
    starts: dict[str, SessionStart] = {}
    for chunk in read_chunks(path, 0, scanner.note_hole):
        _note_starts(starts, scanner.feed_on(chunk))
    _note_starts(starts, [*scanner.finish()])
    return [*starts.values()]


def sessions_among(path: Path, sessions: Sequence[str]) -> set[str]:
    """Which of the sessions have records in a journal."""
    if len(sessions) <= _FEW:
        return {s for s in sessions if has_session(path, s)}
    scanner = Scanner(in_batches=True)
    present: set[str] = set()
    for chunk in read_chunks(path, 0, scanner.note_hole):
        present.update(item.s for item in scanner.feed_on(chunk))
    present.update(item.s for item in scanner.finish())
    return present.intersection(sessions)


def _note_starts(starts: dict[str, SessionStart], items: Items) -> None:
    for item in items:
        if item.s not in starts and isinstance(item, Record):
            starts[item.s] = session_start(item)


def in_order(journal: Sequence[SessionStart], others: Sequence[SessionStart]) -> list[str]:
    """The names of all sessions, in order.

    `journal` has those with records in the journal, in the order of their first records there,
    and that order stays. `others` are in segments alone. They are inserted as follows.

    1. Rounds: of those not yet put in, all whose `prev` is in the list when the round begins, the
       greatest first by (`session_number`, or 0 where there is none; t; s). Each is put directly
       behind its `prev`, then behind the session that follows, as long as there is one and it
       has a smaller `session_number` (both must have one).
    2. When a round finds none, the least of those left by the same key whose `prev` is not among
       those left either (the least of all, if there is no such one) is put before the first
       session with a greater `session_number`, at the end if there is none; without a number of
       its own: before the first session whose first record has a later t, at the end if there
       is none. Then rounds again.
    """
    order = _Order(journal)
    left = sorted(others, key=_key)
    names = {start.s for start in left}
    waiting: dict[str | None, list[SessionStart]] = {}  # by the session that they met
    for start in left:
        waiting.setdefault(start.prev, []).append(start)
    alone = deque(start for start in left if start.prev not in names)
    least = deque(left)
    ready = [start for start in left if start.prev in order]
    while True:
        for start in sorted(ready, key=_key, reverse=True):
            order.put_behind_prev(start)
        if not ready:
            first = _next(alone, order) or _next(least, order)
            if first is None:
                return order.names()
            order.put_without_prev(first)
            ready = [first]
        ready = [
            later for start in ready for later in waiting.get(start.s, ()) if later.s not in order
        ]


def _key(start: SessionStart) -> tuple[int, str, str]:
    return (start.number or 0, start.t, start.s)


def _next(starts: deque[SessionStart], order: "_Order") -> SessionStart | None:
    """The first of them that is not in the order yet."""
    while starts:
        start = starts.popleft()
        if start.s not in order:
            return start
    return None


def _is_smaller(one: SessionStart, other: SessionStart) -> bool:
    return one.number is not None and other.number is not None and one.number < other.number


class _Block:
    """Consecutive sessions, and what a search needs to know to skip them."""

    def __init__(self, starts: list[SessionStart]) -> None:
        self.starts: list[SessionStart] = []
        self.greatest = -math.inf
        self.all_numbered = True
        self.latest = ""
        for start in starts:
            self.insert(len(self.starts), start)

    def insert(self, at: int, start: SessionStart) -> None:
        self.starts.insert(at, start)
        self.greatest = max(self.greatest, -math.inf if start.number is None else start.number)
        self.all_numbered = self.all_numbered and start.number is not None
        self.latest = max(self.latest, start.t)


class _Order:
    """Sessions in order, in blocks, which a search can skip in one step."""

    def __init__(self, starts: Sequence[SessionStart]) -> None:
        self._blocks = [
            _Block(list(starts[at : at + _BLOCK])) for at in range(0, len(starts) or 1, _BLOCK)
        ]
        self._block_of = {start.s: block for block in self._blocks for start in block.starts}

    def __contains__(self, s: str | None) -> bool:
        return s in self._block_of

    def names(self) -> list[str]:
        return [start.s for block in self._blocks for start in block.starts]

    def put_behind_prev(self, start: SessionStart) -> None:
        assert start.prev is not None
        block = self._block_of[start.prev]
        at = next(i for i, other in enumerate(block.starts) if other.s == start.prev) + 1
        self._put_before_first(
            start,
            lambda other: not _is_smaller(other, start),
            lambda block: (
                not (
                    start.number is not None
                    and block.all_numbered
                    and block.greatest < start.number
                )
            ),
            (self._blocks.index(block), at),
        )

    def put_without_prev(self, start: SessionStart) -> None:
        if start.number is None:
            self._put_before_first(
                start, lambda other: other.t > start.t, lambda block: block.latest > start.t
            )
        else:
            number = start.number
            self._put_before_first(
                start,
                lambda other: _is_smaller(start, other),
                lambda block: block.greatest > number,
            )

    def _put_before_first(
        self,
        start: SessionStart,
        is_it: Callable[[SessionStart], bool],
        may_have_it: Callable[[_Block], bool],
        begin: tuple[int, int] = (0, 0),
    ) -> None:
        """Put `start` before the first session from `begin` on that `is_it`, or at the end."""
        number, at = begin
        while number < len(self._blocks):
            block = self._blocks[number]
            if at or may_have_it(block):
                for i in range(at, len(block.starts)):
                    if is_it(block.starts[i]):
                        self._put(number, i, start)
                        return
            number, at = number + 1, 0
        self._put(number - 1, len(block.starts), start)

    def _put(self, number: int, at: int, start: SessionStart) -> None:
        block = self._blocks[number]
        block.insert(at, start)
        self._block_of[start.s] = block
        if len(block.starts) > 2 * _BLOCK:
            parts = [_Block(block.starts[:_BLOCK]), _Block(block.starts[_BLOCK:])]
            self._blocks[number : number + 1] = parts
            self._block_of |= {other.s: part for part in parts for other in part.starts}


_LATEST = "~"  # behind every time, as text


class Plan:
    """The order in which the sessions of a run are read, as far as its files are known."""

    def __init__(self, path: Path, segments: Segments, sessions: Mapping[str, None]) -> None:
        self.alone: dict[str, SessionStart] = {}
        """The sessions that are in segments alone."""
        self.in_journal: set[str] = set()
        """Sessions with segments that have records in the journal too."""
        self._path = path
        self._segments = segments
        self._sessions = sessions  # those that were read, which the reader adds to
        self._annotators: dict[str, str] = {}  # with their time; and sessions without a record
        self._unplanned: dict[str, None] = {}  # which of these they are is not known yet
        self._order: list[str] = []  # of all sessions, if some are in segments alone
        self._places: dict[str, int] = {}  # of the sessions in the order
        self._order_size = -1  # of the journal, when the order was made
        self._n_passed = 0  # how many of the order were read, or are in the journal

    def renew(self) -> None:
        """Consider all sessions with segments again: the segments were searched for again."""
        self._n_passed = 0
        known = (*self._segments.by_session, *self.alone, *self._annotators)
        self._unplanned = dict.fromkeys(known)

    def reconsider(self, sessions: Iterable[str]) -> None:
        """More segments of these sessions were found."""
        self._unplanned |= dict.fromkeys(sessions)

    def update(self, new: str | None = None) -> None:
        """Find out which sessions are in segments alone, and the order of all sessions.

        Where there are none the order is that of the journal, and `_order` is empty. `new` is a
        session of the journal that is about to be read.
        """
        if new in self._segments.by_session:
            self._unplanned[new] = None
        unplanned, self._unplanned = self._unplanned, {}
        is_changed = self._sort([*unplanned], new)
        if self.alone and (is_changed or self._is_unordered(new)):
            self._order_size = os.stat(self._path).st_size
            starts = starts_in(self._path, self._segments.run_id)
            self._order = in_order(starts, [*self.alone.values()])
            self._places = {s: place for place, s in enumerate(self._order)}
            self._n_passed = 0

    def _is_unordered(self, s: str | None) -> bool:
        """Whether a session of the journal came after the order was made."""
        if s is None or s in self._places:
            return False
        return os.stat(self._path).st_size != self._order_size

    def _sort(self, sessions: list[str], new: str | None) -> bool:
        """Find out which of these are in segments alone; returns whether that has changed."""
        firsts = {s: self._segments.first_record(s) for s in sessions if s not in self.in_journal}
        doubtful = [s for s, first in firsts.items() if s not in self.alone and _is_own(first)]
        self.in_journal.update(s for s in doubtful if s in self._sessions)  # read from there
        unknown = [s for s in doubtful if s not in self._sessions and s != new]
        self.in_journal |= sessions_among(self._path, unknown)
        is_changed = False
        for s in sessions:
            was = self.alone.pop(s, None)
            self._annotators.pop(s, None)
            if s in self._segments.by_session and s not in self.in_journal and s != new:
                self._sort_one(s, firsts[s])
            is_changed = is_changed or was != self.alone.get(s)
        if new is not None and new in self._segments.by_session:
            self._unplanned[new] = None  # when it is read, more of its segments may be its own
        return is_changed

    def _sort_one(self, s: str, first: Record | None) -> None:
        if first is None:
            self._annotators[s] = _LATEST
        elif not _is_own(first):
            self._annotators[s] = first.t
        else:  # an earlier segment of it may have been found since
            self.alone[s] = session_start(first)

    def alone_before(self, s: str | None) -> list[str]:
        """The sessions in segments alone that are to be read before `s`; None: all."""
        if s is None:
            before = self._order
        elif s not in self._places:
            return []  # it came while the order was made
        else:
            before = self._order[self._n_passed : self._places[s]]
            self._n_passed = max(self._n_passed, self._places[s])
        return [x for x in before if x in self.alone and x not in self._sessions]

    @property
    def annotators(self) -> list[str]:
        """The sessions that annotate the run, which are read last; by time."""
        return sorted(self._annotators, key=lambda s: (self._annotators[s], s))

    @property
    def was_kept(self) -> bool:
        """Whether the sessions were read in this order."""
        read = [s for s in self._sessions if s in self._places]
        return read == [s for s in self._order if s in self._sessions]


def _is_own(first: Record | None) -> bool:
    """Whether a session begins with this record, and no annotator does."""
    return first is not None and ANNOTATES not in first.fields
