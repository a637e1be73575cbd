"""What a journal logs about itself: segments, dropped records, failed syncs, forked children."""

from collections import deque
from collections.abc import Callable
from typing import Any

from eventlog.format.record import Clock, encode_fields, seal
from eventlog.format.text import counted
from eventlog.write.appender import Appender
from eventlog.write.aside import fitted
from eventlog.write.fork import WHY, Counter


class OwnEvents:
    """Appends these events. To be called with the journal's lock held."""

    def __init__(
        self, appender: Appender, *, s: str, clock: Clock, warn: Callable[[str], None]
    ) -> None:
        self.lost = 0
        """Records that were dropped, and for which a `gap` event was appended."""
        self._appender, self._s, self._clock, self._warn = appender, s, clock, warn
        self._notes: deque[bytes] = deque()  # lines to be copied into the journal that was left
        self._has_warned_of_children = False

    def append(self, event: str, fields: dict[str, Any]) -> bytes:
        """Append an event; returns its line."""
        appender = self._appender
        return appender.append(event, *fitted(appender.journal.stem, event, encode_fields(fields)))

    def report(self) -> None:
        """Log what became of the files: where the session goes on, what was cut or dropped."""
        appender = self._appender
        appender.has_news = False
        if appender.is_closed:
            appender.moves.clear()  # nothing follows the `close` event; segments are found by name
        else:
            self._report_changes()
        while self._notes and appender.note_in_journal(self._notes[0]):
            self._notes.popleft()
        if self._notes:
            appender.link_in_folder()

    def _report_changes(self) -> None:
        appender = self._appender
        while appender.moves:
            move = appender.moves.popleft()
            fields = {
                "file": move.path.name,
                "folder": str(move.path.parent),
                "number": move.number,
                "first_n": move.first_n,
            }
            # The same line goes into the journal, so that its readers know that it is not complete.
            self._notes.append(appender.append("segment", encode_fields(fields)))
        if appender.cut_to is not None:
            (before, after), appender.cut_to = appender.cut_to, None
            error = f"somebody cut the file from {before:,} to {after:,} bytes"
            self.append("io_error", {"call": "ftruncate", "error": error})
        if appender.dropped and appender.n_waiting:
            appender.has_news = True  # when what waits is written
        elif appender.dropped:
            dropped, appender.dropped = appender.dropped, 0
            self.lost += dropped
            self.append("gap", {"dropped": dropped, "why": "the disk refused for too long"})

    def sync_failed(self, error: OSError) -> None:
        """A sync failed: what is not durable goes on in a segment, and that is logged."""
        appender = self._appender
        durable_n = appender.durable_n
        moved = appender.missed(error)
        fields = {"call": "fdatasync", "error": str(error), "durable_records": durable_n}
        if moved:
            fields["segment"] = str(appender.path)
        if not appender.is_closed:
            self.append("io_error", fields)
            self.report()

    def count_ignored(self, counter: Counter) -> None:
        """Log how many events forked children have logged into this run."""
        ignored = counter.take()
        if ignored:
            self.append("ignored", {"events": ignored, "why": WHY})
            if not self._has_warned_of_children:  # once, not once for each of many workers
                self._has_warned_of_children = True
                self._warn(
                    f"{self._appender.journal}: forked children of this process log into it; their "
                    f"events are ignored and counted (one writer per journal): log from the main "
                    f"process"
                )

    def end(self, encoded: bytes) -> None:
        """Append the `close` event, and give up what no disk accepts."""
        appender = self._appender
        appender.append("close", encoded)
        if not appender.write_end():
            self._give_up()
        self.report()
        if appender.is_unreachable:
            appender.lost = appender.accepted_n
        else:
            appender.lost += appender.files.n_gone(self._s)

    def _give_up(self) -> None:
        """No disk accepts what waits: write how much that is into the space reserved for it."""
        appender = self._appender
        close, first_n = appender.waiting_line(), appender.n - 1
        dropped = appender.give_up() - 1 + appender.dropped  # all but the `close` event
        appender.dropped = 0
        fields = {"dropped": dropped, "why": "no disk took them before the end"}
        gap = seal(appender.n, self._s, self._clock.now(), "gap", encode_fields(fields))
        appender.n += 1
        is_closed, is_noted = map(appender.note_in_journal, (close, gap))
        if not (is_closed and is_noted):
            is_closed = is_noted = appender.write_in_new_file([close, gap], first_n)
        appender.lost = dropped if is_closed and is_noted else dropped + 1
        no_note = "" if is_noted else ", and the journal has no space to record it"
        last = counted(dropped, "event")
        self._warn(f"{appender.journal}: closed, but no disk took the last {last}: lost{no_note}")
