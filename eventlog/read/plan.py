"""When each session of a run is read: those in segments alone between those of the journal.

`order.py` computes the order; this module determines which sessions are in segments alone, again
whenever files are found.
"""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from eventlog.format.record import ANNOTATES, Record
from eventlog.read.order import SessionStart, in_order, session_start, sessions_among, starts_in
from eventlog.read.segments import Segments

_LATEST = "~"  # behind every time, as text


class Plan:
    """The order in which the sessions of a run are read, as far as its files are known."""

    def __init__(self, path: Path, segments: Segments, sessions: Mapping[str, None]) -> None:
        self.alone: dict[str, SessionStart] = {}
        """The sessions that stand in segments alone."""
        self.in_journal: set[str] = set()
        """Sessions with segments that have records in the journal too."""
        self._path = path
        self._segments = segments
        self._sessions = sessions  # those that were read, which the reader adds to
        self._annotators: dict[str, str] = {}  # with their time; and sessions without a record
        self._unplanned: dict[str, None] = {}  # of which is not known yet which of these they are
        self._order: list[str] = []  # of all sessions, where some stand in segments alone
        self._places: dict[str, int] = {}  # of the sessions in the order
        self._order_size = -1  # of the journal, when the order was made
        self._n_passed = 0  # so many of the order were read, or stand in the journal

    def renew(self) -> None:
        """The segments were looked for again: look at all sessions that have some."""
        self._n_passed = 0
        known = (*self._segments.by_session, *self.alone, *self._annotators)
        self._unplanned = dict.fromkeys(known)

    def look_again_at(self, sessions: Iterable[str]) -> None:
        """More segments of these sessions were found."""
        self._unplanned |= dict.fromkeys(sessions)

    def update(self, new: str | None = None) -> None:
        """Find out which sessions stand in segments alone, and the order of all sessions.

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
        """Find out which of these stand in segments alone; whether that is news."""
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
