"""One run that is monitored: its health by its journal, and the alerts about it so far."""

import contextlib
import os
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import eventlog
from eventlog import header_fields, parse_segment_name

from .hooks import say
from .rules import RULES, STANDING, Finding, Limits, Rule
from .series_rules import SeriesRule
from .vitals import Vitals

HAPPENED_MAX = 20  # findings of a run that are shown
TAIL_BYTES = 8 << 20  # how much of a journal is read at first: 50,000 iterations


class Watched:
    """One run that is monitored: its health by its journal, and the alerts about it so far."""

    def __init__(
        self,
        path: Path,
        limits: Limits,
        *,
        series_rules: Sequence[SeriesRule] = (),
        is_kept: bool = True,
    ) -> None:
        self.path = path
        self.is_kept = is_kept
        self.wrong: dict[Rule, Finding] = {}
        """What is wrong as of the latest check."""
        self.happened: deque[Finding] = deque(maxlen=HAPPENED_MAX)
        self.vitals = Vitals(limits, series_rules)
        self.is_alive = False
        self.was_alive = False
        self.is_first_check = True
        self.grew_at: float | None = None
        self._limits, self._series_rules = limits, series_rules
        self._reader: eventlog.Reader | None = None
        self._seen: tuple[int, ...] = ()
        self._states: dict[tuple[Rule, str], tuple[str, int]] | None = None
        self._annotator: eventlog.Annotator | None = None

    @property
    def name(self) -> str:
        return self.path.stem

    def read_on(self, now: float, *, anyway: bool = False) -> list[Finding]:
        """Read what is new in the journal; returns what is wrong with these records.

        `anyway`: also if the journal did not grow, as its session may be in a segment.
        """
        # The lock is checked first: then all that its process wrote is read.
        self.is_alive = eventlog.is_locked(self.path)
        stat = os.stat(self.path)
        seen = (stat.st_ino, stat.st_size)
        if seen == self._seen and not anyway:
            self.was_alive |= self.is_alive
            return []
        if self._reader is None or seen[0] != self._seen[0] or self._reader.is_outdated:
            self.vitals = Vitals(self._limits, self._series_rules)
            start = max(0, stat.st_size - TAIL_BYTES)
            self._reader = eventlog.Reader(self.path, start=start)
            if start:  # its config is at the beginning
                for record in eventlog.scan(self.path):
                    self.vitals.add(record)
                    break
        self._seen = seen
        self.was_alive |= self.is_alive
        before = (self.vitals.session, self.vitals.record)
        findings = []
        for record in self._reader.read_on(to_the_end=False):
            findings += self.vitals.add(record)
        if (self.vitals.session, self.vitals.record) != before and not self.is_first_check:
            self.grew_at = now
        return findings

    def standing(self, now: float, awake_since: float) -> dict[Rule, Finding]:
        """What is wrong with the run as of now, apart from the disk."""
        since = max(min(self.vitals.t, now), self.grew_at or 0.0, awake_since)
        opened = self.vitals.opened
        is_gone = (
            not self.is_alive
            and opened is not None
            and eventlog.process_lives(opened.fields, opened.t) is False
        )
        return self.vitals.standing(
            now,
            is_alive=self.is_alive,
            quiet_since=since,
            was_alive=self.was_alive,
            is_gone=is_gone,
        )

    # ---- alerts so far

    @property
    def states(self) -> dict[tuple[Rule, str], tuple[str, int]]:
        """By rule and session: the state of the latest alert, and the record it was about."""
        if self._states is None:
            self._states = {}
            for fields in self._alerts():
                rule, session = fields.get("rule"), fields.get("session")
                state, record = fields.get("state"), fields.get("record")
                if rule in RULES and isinstance(session, str) and type(record) is int:
                    _, known = self._states.get((rule, session), ("", -1))
                    self._states[rule, session] = (str(state), max(known, record))
        return self._states

    def _alerts(self) -> Iterator[dict[str, Any]]:
        """The fields of the alerts beside the journal, by time."""
        alerts = []
        for name in os.listdir(self.path.parent):
            path = self.path.with_name(name)
            if parse_segment_name(name, self.path.stem) is None or not path.is_file():
                continue  # opening a FIFO would block
            with contextlib.suppress(OSError, eventlog.EventlogError):  # another program's file
                for record in eventlog.scan(path):
                    if header_fields(record) is not None:
                        continue
                    if "annotates" not in record.fields:
                        break  # a segment of the run itself
                    if record.event == "alert":
                        alerts.append((record.t, record.fields))
        yield from (fields for _, fields in sorted(alerts, key=lambda pair: pair[0]))

    def is_raised(self, rule: Rule) -> bool:
        """Whether there is an alert for the latest session that is not over."""
        return self.states.get((rule, self.vitals.session), ("", 0))[0] == "raised"

    def is_new(self, finding: Finding) -> bool:
        """Whether there is no alert for this yet."""
        state, record = self.states.get((finding.rule, finding.session), ("", -1))
        if finding.rule in STANDING:
            return state != "raised"
        return finding.record > record

    def keep(self, finding: Finding, state: str) -> None:
        """Write the alert beside the journal; if that fails, say so on stderr and go on."""
        self.states[finding.rule, finding.session] = (state, finding.record)
        if not self.is_kept:
            return
        fields = fields_of(finding, state)
        try:
            if self._annotator is None:
                self._annotator = eventlog.Annotator(self.path)
            self._annotator.log("alert", **fields)
            if not self.is_alive:  # no compactor folds it
                self.close()
        except (eventlog.EventlogError, OSError) as error:
            say(f"{self.path}: the alert was not written: {error}")

    def close(self) -> None:
        annotator, self._annotator = self._annotator, None
        if annotator is not None:
            annotator.close()


def fields_of(finding: Finding, state: str) -> dict[str, Any]:
    about = {"session": finding.session, "record": finding.record, "iter": finding.iter}
    return {"rule": finding.rule, "state": state, "text": finding.text} | about | finding.values
