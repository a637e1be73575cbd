"""`runs guard`: monitors runs from outside and reports when something is wrong with one.

It reads journals as they grow, so it also sees what a trainer cannot report itself: that it hangs
or is dead. Each report is written beside the journal as an `alert` event, so that nothing is
reported twice, not even by several guards.
"""

import os
import shutil
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson

import eventlog
from eventlog import seconds

from ..core import runs
from ..core.formats import iso
from ..core.runs import Refusal
from ..core.table import one_line, printable_json
from .hooks import say
from .rules import RULES, STANDING, Finding, Limits, Rule, disk
from .series_rules import SeriesRule
from .watched import Watched, fields_of

FIND_S = 15.0  # between two searches for new runs
DISK_S = 60.0  # between two checks of the file systems
DISK_SAMPLES = 60
LATE_S = 30.0  # after a longer pause the machine was asleep, and the runs too

Alert = dict[str, Any]


@dataclass
class FileSystem:
    """A file system that runs write to."""

    history: deque[tuple[float, int]]
    measured_at: float = 0.0
    text: str | None = None
    is_raised: bool = False


class Guard:
    """Monitors runs: each call of `check` returns the new alerts."""

    def __init__(
        self,
        names: Sequence[str],
        limits: Limits | None = None,
        *,
        rules: Sequence[Rule] = RULES,
        series_rules: Sequence[SeriesRule] = (),
        max_age_s: float = 86_400.0,
        is_kept: bool = True,
        is_live_only: bool = False,
    ) -> None:
        """
        Args:
            is_kept: whether alerts are written beside the journals.
            is_live_only: ignore runs that were not being written when they were first seen.
        """
        self.names, self.rules = list(names), frozenset(rules)
        self.limits, self._series_rules = limits or Limits(), series_rules
        self.max_age_s = max_age_s
        self._is_kept, self._is_live_only = is_kept, is_live_only
        self.watched: dict[Path, Watched] = {}
        self._file_systems: dict[int, FileSystem] = {}
        self._runs_found_at = 0.0
        self._checked_at = 0.0
        self._awake_since = 0.0
        self._reported: set[str] = set()

    def check(
        self, now: float, *, late_s: float = LATE_S, with_standing: bool = False
    ) -> list[Alert]:
        """The new alerts as of `now`, in seconds since 1970.

        If the last call was more than `late_s` ago, the machine is assumed to have been asleep.
        `with_standing`: also those that were raised before and are not over, as `standing`.
        """
        if self._checked_at and now - self._checked_at > late_s:
            self._awake_since = now
        self._checked_at = now
        if now - self._runs_found_at >= FIND_S or now < self._runs_found_at:
            self._runs_found_at = now
            self._find(now)
        alerts: list[Alert] = []
        for watched in list(self.watched.values()):
            try:
                alerts += self._check_run(watched, now)
            except FileNotFoundError:
                self.watched.pop(watched.path)
            except (eventlog.EventlogError, OSError) as error:
                self.report_once(str(error))
        if "disk" in self.rules:
            alerts += self._check_disks(now)
        return alerts + (self._standing(alerts) if with_standing else [])

    def _standing(self, new: Sequence[Alert]) -> list[Alert]:
        """What was raised before and is not over."""
        raised = {(alert["path"], alert["rule"]) for alert in new}
        standing = [
            _alert(watched, finding, "standing")
            for watched in self.watched.values()
            for rule, finding in watched.wrong.items()
            if rule in self.rules and watched.is_raised(rule)
        ]
        return [alert for alert in standing if (alert["path"], alert["rule"]) not in raised]

    @property
    def is_healthy(self) -> bool:
        """Whether nothing is wrong now."""
        return not any(
            watched.is_raised(rule) and (rule != "disk" or watched.is_alive)
            for watched in self.watched.values()
            for rule in self.rules.intersection(STANDING)
        )

    def warnings(self) -> dict[Path, list[Alert]]:
        """By run: what happened to it and what is wrong now, as of the latest check."""
        return {
            watched.path: [
                *(_about(finding, is_now=False) for finding in watched.happened),
                *(
                    _about(finding, is_now=True)
                    for rule, finding in watched.wrong.items()
                    if rule in self.rules
                ),
            ]
            for watched in list(self.watched.values())
        }

    def close(self) -> None:
        """Update the run JSONs of runs that have no writer."""
        for watched in self.watched.values():
            watched.close()

    def _find(self, now: float) -> None:
        for name in self.names:
            try:
                found = runs.find([name], say=self.report_once)
            except (Refusal, OSError) as error:
                self.report_once(str(error))
                continue
            for path in dict.fromkeys(map(runs.journal_of, found)):
                if path not in self.watched and self._is_recent(path, now):
                    self.watched[path] = Watched(
                        path, self.limits, series_rules=self._series_rules, is_kept=self._is_kept
                    )

    def _is_recent(self, path: Path, now: float) -> bool:
        try:
            eventlog.check_is_file(path)  # opening a FIFO for its lock would block
            is_recent = now - os.stat(path).st_mtime < self.max_age_s
            if self._is_live_only:
                return is_recent and eventlog.is_locked(path)
            return is_recent or eventlog.is_locked(path)
        except FileNotFoundError:
            return False  # an older logger's run has no journal
        except (eventlog.EventlogError, OSError) as error:
            # Another program's file: go on with the others.
            self.report_once(runs.message(error, path))
            return False

    def _check_run(self, watched: Watched, now: float) -> list[Alert]:
        before, was_first = watched.vitals, watched.is_first_check
        session, status = before.session, before.status
        findings = watched.read_on(now)
        standing = watched.standing(now, self._awake_since)
        if "stall" in standing or "crash" in standing:  # it may go on in a segment
            findings += watched.read_on(now, anyway=True)
            standing = watched.standing(now, self._awake_since)
        watched.is_first_check = False
        vitals = watched.vitals
        if session and not status and vitals.session != session:  # nobody saw it dead
            text = "the process was gone without a close event"
            findings.append(Finding("crash", text, {}, now, session, 0, vitals.iter))
        if vitals.status == "completed":  # its earlier problems do not matter any more
            bad = [finding for finding in findings if finding.rule == "nonfinite"]
            findings = [finding for finding in findings if finding.rule == "crash"]
            findings += bad[-1:] if vitals.ends_nonfinite else []
        watched.wrong = standing
        watched.happened.extend(f for f in findings if f.rule in self.rules)
        alerts = []
        for finding in [*findings, *standing.values()]:
            is_live = finding.rule in standing and watched.is_alive
            is_old = not is_live and now - finding.t > self.max_age_s
            if finding.rule in self.rules and not is_old and watched.is_new(finding):
                alerts.append(_alert(watched, finding, "raised"))
        if not (was_first and vitals.status):
            alerts += self._over(watched, standing)
        if not watched.is_alive:
            watched.close()
        return alerts

    def _over(self, watched: Watched, standing: dict[Rule, Finding]) -> list[Alert]:
        """Alerts for what is over."""
        vitals = watched.vitals
        alerts = []
        for (rule, session), (state, _) in list(watched.states.items()):
            is_over = rule not in standing or session != vitals.session
            if state != "raised" or rule not in STANDING or rule == "disk" or not is_over:
                continue
            text = _OVER[rule]
            if session != vitals.session:
                text = "the run was resumed"
            elif vitals.status:
                text = f"the run has ended: {vitals.status}"
            elif "crash" in standing:
                text = "the process is gone"
            finding = replace(vitals.finding(rule, text), session=session)
            alerts.append(_alert(watched, finding, "over"))
        return alerts

    # ---- disks

    def _check_disks(self, now: float) -> list[Alert]:
        by_device: dict[int, list[Watched]] = {}
        for watched in self.watched.values():
            if watched.is_alive and not watched.vitals.status:
                with suppress(OSError):
                    by_device.setdefault(os.stat(watched.path).st_dev, []).append(watched)
        alerts = []
        for device, there in by_device.items():
            known = self._file_systems.setdefault(device, FileSystem(deque(maxlen=DISK_SAMPLES)))
            if now - known.measured_at >= DISK_S or now < known.measured_at:
                known.measured_at = now
                self._measure(known, there, now)
            alerts += self._disk_alerts(known, there)
        return alerts

    def _measure(self, known: FileSystem, there: list[Watched], now: float) -> None:
        try:
            usage = shutil.disk_usage(there[0].path.parent)
        except OSError:
            return
        known.history.append((now, usage.free))
        needed = sum(watched.vitals.checkpoint_bytes for watched in there)
        known.text = disk(usage.total, usage.free, needed, known.history, self.limits)

    def _disk_alerts(self, known: FileSystem, there: list[Watched]) -> list[Alert]:
        """One alert for a file system, beside the first of its runs."""
        if known.text is not None:
            for watched in there:
                watched.wrong["disk"] = watched.vitals.finding("disk", known.text)
        known.is_raised |= any(watched.is_raised("disk") for watched in there)
        if known.text is not None and not known.is_raised:
            known.is_raised = True
            return [_alert(there[0], there[0].vitals.finding("disk", known.text), "raised")]
        if known.text is None and known.is_raised:
            known.is_raised = False
            reported = [watched for watched in there if watched.is_raised("disk")] or there[:1]
            return [_alert(w, w.vitals.finding("disk", _OVER["disk"]), "over") for w in reported]
        return []

    def report_once(self, line: str) -> None:
        if line not in self._reported:
            self._reported.add(line)
            say(line)


_OVER: dict[Rule, str] = {
    "stall": "events come again",
    "crash": "the run was resumed",
    "slow": "iterations take as long as before",
    "checkpoint_overdue": "there is a new checkpoint",
    "disk": "there is space again",
}


def _alert(watched: Watched, finding: Finding, state: str) -> Alert:
    now = iso(time.time(), "seconds")
    name, path = (  # JSON needs UTF-8
        os.fsencode(text).decode("utf-8", "replace") for text in (watched.name, watched.path)
    )
    about = {"t": now, "run": name, "path": path}
    if state != "standing":
        watched.keep(finding, state)
    return about | fields_of(finding, state)


def _about(finding: Finding, *, is_now: bool) -> dict[str, Any]:
    at = iso(finding.t, "seconds")
    return {
        "rule": finding.rule, "text": finding.text, "iter": finding.iter, "t": at, "now": is_now
    }  # fmt: skip


def line(alert: Alert, *, as_json: bool = False) -> str:
    """An alert as it is printed."""
    if as_json:
        return printable_json(orjson.dumps(alert).decode())
    at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds(alert["t"])))
    state = {"over": " over", "standing": " still"}.get(alert["state"], "")
    text = f"{at}  {alert['run']}  {alert['rule']}{state}: {alert['text']}"
    return one_line(text)
