"""In which order the sessions of a run are read, where some stand in segments alone.

Clocks do not decide: a machine may be minutes ahead of another. Each session says in its `open`
event which session it met (`prev`), and how many there were before it (`session_number`).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from eventlog.blocks import read_chunks
from eventlog.ledger import Ledger
from eventlog.record import Record
from eventlog.scan import Items, Scanner


class SessionStart(NamedTuple):
    """What the first record of a session says of its place among the others."""

    s: str
    t: str
    """Time of that record."""
    number: int | None
    """`session_number`; None: not said, or the `open` event is lost."""
    prev: str | None
    """The session it met; None as for `number`."""


def session_start(record: Record) -> SessionStart:
    """What `record`, the first of its session, says."""
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
    ledger = Ledger()
    ledger.run_id = run_id
    scanner = Scanner(ledger, in_stretches=True)
    starts: dict[str, SessionStart] = {}
    for chunk in read_chunks(path, 0, scanner.note_hole):
        _note_starts(starts, scanner.feed_on(chunk))
    _note_starts(starts, [*scanner.finish()])
    return [*starts.values()]


def _note_starts(starts: dict[str, SessionStart], items: Items) -> None:
    for item in items:
        if item.s not in starts and isinstance(item, Record):
            starts[item.s] = session_start(item)


def in_order(journal: Sequence[SessionStart], others: Sequence[SessionStart]) -> list[str]:
    """The names of all sessions, in order.

    `journal` has those with records in the journal, in the order of their first records there,
    and that order stays. `others` stand in segments alone. They are put in as follows.

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
    order = list(journal)
    left = sorted(others, key=_key)
    while left:
        placed = {start.s for start in order}
        ready = [start for start in left if start.prev in placed]
        for start in reversed(ready):
            _put_behind_prev(order, start)
        if not ready:
            names = {start.s for start in left}
            alone = next((start for start in left if start.prev not in names), left[0])
            order.insert(_place_without_prev(order, alone), alone)
            ready = [alone]
        left = [start for start in left if start not in ready]
    return [start.s for start in order]


def _key(start: SessionStart) -> tuple[int, str, str]:
    return (start.number or 0, start.t, start.s)


def _put_behind_prev(order: list[SessionStart], start: SessionStart) -> None:
    at = next(i for i, other in enumerate(order) if other.s == start.prev) + 1
    while at < len(order) and _is_smaller(order[at], start):
        at += 1
    order.insert(at, start)


def _is_smaller(one: SessionStart, other: SessionStart) -> bool:
    return one.number is not None and other.number is not None and one.number < other.number


def _place_without_prev(order: list[SessionStart], start: SessionStart) -> int:
    for at, other in enumerate(order):
        is_later = other.t > start.t if start.number is None else _is_smaller(start, other)
        if is_later:
            return at
    return len(order)
