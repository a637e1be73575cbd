"""`runs guard`: monitors runs from outside and reports when something is wrong with one.

It reads journals as they grow, so it also sees what a trainer cannot report itself: that it hangs
or is dead. Each report is written beside the journal as an `alert` event, so that nothing is
reported twice, not even by several guards.
"""

import argparse
import os
import shutil
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson

import eventlog

from ..core import runs
from ..core.runs import Refusal
from ..core.table import one_line
from ..core.text import print, printable_json
from ..core.times import iso, seconds
from .hooks import Hooks, say
from .rules import RULES, STANDING, Finding, Limits, Rule, disk
from .watched import Watched, fields_of

LOOK_S = 15.0  # between two looks for new runs
DISK_S = 60.0  # between two looks at the file systems
DISK_SAMPLES = 60
LATE_S = 30.0  # after a longer pause the machine was asleep, and the runs too

Alert = dict[str, Any]


@dataclass
class FileSystem:
    """A file system that runs write to."""

    history: deque[tuple[float, int]]
    looked_at: float = 0.0
    text: str | None = None
    is_raised: bool = False


class Guard:
    """Monitors runs: each call of `look` returns the new alerts."""

    def __init__(
        self,
        names: Sequence[str],
        limits: Limits | None = None,
        *,
        rules: Sequence[Rule] = RULES,
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
        self.limits = limits or Limits()
        self.max_age_s = max_age_s
        self._is_kept, self._is_live_only = is_kept, is_live_only
        self.watched: dict[Path, Watched] = {}
        self._file_systems: dict[int, FileSystem] = {}
        self._looked_for_runs = 0.0
        self._looked_at = 0.0
        self._awake_since = 0.0
        self._reported: set[str] = set()

    def look(self, now: float, *, late_s: float = LATE_S) -> list[Alert]:
        """The new alerts as of `now`, in seconds since 1970.

        If the last call was more than `late_s` ago, the machine is assumed to have been asleep.
        """
        if self._looked_at and now - self._looked_at > late_s:
            self._awake_since = now
        self._looked_at = now
        if now - self._looked_for_runs >= LOOK_S or now < self._looked_for_runs:
            self._looked_for_runs = now
            self._find(now)
        alerts: list[Alert] = []
        for watched in list(self.watched.values()):
            try:
                alerts += self._look_at(watched, now)
            except FileNotFoundError:
                self.watched.pop(watched.path)
            except (eventlog.EventlogError, OSError) as error:
                self._report_once(str(error))
        if "disk" in self.rules:
            alerts += self._look_at_disks(now)
        return alerts

    @property
    def is_healthy(self) -> bool:
        """Whether nothing is wrong now."""
        return not any(
            watched.is_raised(rule) and (rule != "disk" or watched.is_alive)
            for watched in self.watched.values()
            for rule in self.rules.intersection(STANDING)
        )

    def warnings(self) -> dict[Path, list[Alert]]:
        """By run: what happened to it and what is wrong now, as of the latest look."""
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
            watched.let_go()

    def _find(self, now: float) -> None:
        for name in self.names:
            try:
                found = runs.find([name])
            except (Refusal, OSError) as error:
                self._report_once(str(error))
                continue
            for path in dict.fromkeys(map(runs.journal_of, found)):
                if path not in self.watched and self._is_recent(path, now):
                    self.watched[path] = Watched(path, self.limits, is_kept=self._is_kept)

    def _is_recent(self, path: Path, now: float) -> bool:
        try:
            runs.check_is_regular_file(path)  # else its lock is waited for, in a FIFO
            is_recent = now - os.stat(path).st_mtime < self.max_age_s
            if self._is_live_only:
                return is_recent and eventlog.is_locked(path)
            return is_recent or eventlog.is_locked(path)
        except FileNotFoundError:
            return False  # an older logger's run has no journal
        except (eventlog.EventlogError, OSError) as error:
            self._report_once(str(error))  # another program's file: go on with the others
            return False

    def _look_at(self, watched: Watched, now: float) -> list[Alert]:
        before, was_first = watched.vitals, watched.is_first_look
        session, status = before.session, before.status
        found = watched.read_on(now)
        standing = watched.standing(now, self._awake_since)
        if "stall" in standing or "crash" in standing:  # it may go on in a segment
            found += watched.read_on(now, anyway=True)
            standing = watched.standing(now, self._awake_since)
        watched.is_first_look = False
        vitals = watched.vitals
        if session and not status and vitals.session != session:  # nobody saw it dead
            words = "the process was gone without a close event"
            found.append(Finding("crash", words, {}, now, session, 0, vitals.iter))
        if vitals.status == "completed":  # its earlier problems do not matter any more
            found = [finding for finding in found if finding.rule == "crash"]
        watched.wrong = standing
        watched.happened.extend(f for f in found if f.rule in self.rules)
        alerts = []
        for finding in [*found, *standing.values()]:
            is_live = finding.rule in standing and watched.is_alive
            is_old = not is_live and now - finding.t > self.max_age_s
            if finding.rule in self.rules and not is_old and watched.is_new(finding):
                alerts.append(_tell(watched, finding, "raised"))
        if not (was_first and vitals.status):
            alerts += self._over(watched, standing)
        if not watched.is_alive:
            watched.let_go()
        return alerts

    def _over(self, watched: Watched, standing: dict[Rule, Finding]) -> list[Alert]:
        """Alerts for what is over."""
        vitals = watched.vitals
        alerts = []
        for (rule, session), (state, _) in list(watched.states.items()):
            is_over = rule not in standing or session != vitals.session
            if state != "raised" or rule not in STANDING or rule == "disk" or not is_over:
                continue
            words = _OVER[rule]
            if session != vitals.session:
                words = "the run was resumed"
            elif vitals.status:
                words = f"the run has ended: {vitals.status}"
            elif "crash" in standing:
                words = "the process is gone"
            finding = replace(vitals.finding(rule, words), session=session)
            alerts.append(_tell(watched, finding, "over"))
        return alerts

    # ---- disks

    def _look_at_disks(self, now: float) -> list[Alert]:
        by_device: dict[int, list[Watched]] = {}
        for watched in self.watched.values():
            if watched.is_alive and not watched.vitals.status:
                with suppress(OSError):
                    by_device.setdefault(os.stat(watched.path).st_dev, []).append(watched)
        alerts = []
        for device, there in by_device.items():
            known = self._file_systems.setdefault(device, FileSystem(deque(maxlen=DISK_SAMPLES)))
            if now - known.looked_at >= DISK_S or now < known.looked_at:
                known.looked_at = now
                self._measure(known, there, now)
            alerts += self._tell_of_disk(known, there)
        return alerts

    def _measure(self, known: FileSystem, there: list[Watched], now: float) -> None:
        try:
            usage = shutil.disk_usage(there[0].path.parent)
        except OSError:
            return
        known.history.append((now, usage.free))
        needed = sum(watched.vitals.checkpoint_bytes for watched in there)
        known.text = disk(usage.total, usage.free, needed, known.history, self.limits)

    def _tell_of_disk(self, known: FileSystem, there: list[Watched]) -> list[Alert]:
        """One alert for a file system, beside the first of its runs."""
        if known.text is not None:
            for watched in there:
                watched.wrong["disk"] = watched.vitals.finding("disk", known.text)
        known.is_raised |= any(watched.is_raised("disk") for watched in there)
        if known.text is not None and not known.is_raised:
            known.is_raised = True
            return [_tell(there[0], there[0].vitals.finding("disk", known.text), "raised")]
        if known.text is None and known.is_raised:
            known.is_raised = False
            said = [watched for watched in there if watched.is_raised("disk")] or there[:1]
            return [_tell(w, w.vitals.finding("disk", _OVER["disk"]), "over") for w in said]
        return []

    def _report_once(self, line: str) -> None:
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


def _tell(watched: Watched, finding: Finding, state: str) -> Alert:
    now = iso(time.time(), "seconds")
    name, path = (  # JSON needs UTF-8
        os.fsencode(text).decode("utf-8", "replace") for text in (watched.name, watched.path)
    )
    about = {"t": now, "run": name, "path": path}
    watched.keep(finding, state)
    return about | fields_of(finding, state)


def _about(finding: Finding, *, is_now: bool) -> dict[str, Any]:
    at = iso(finding.t, "seconds")
    return {
        "rule": finding.rule, "text": finding.text, "iter": finding.iter, "t": at, "now": is_now
    }  # fmt: skip


# ---- the command


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    words = "Monitor runs from outside: report hangs, crashes, loss spikes, slowness, full disks."
    command = commands.add_parser(
        "guard",
        help=words,
        description=words,
        epilog="Each alert is reported once: a line on stdout, an `alert` event beside the journal "
        "and the hooks. Without --once it runs until it is stopped. "
        "With --once it exits with 0 if all is well, 1 if something is wrong.",
    )
    command.add_argument("names", nargs="*", default=[runs.FOLDER], metavar="DIR|RUN")
    command.add_argument("--once", action="store_true", help="check once and exit, for cron")
    command.add_argument("--every", type=_positive, default=5.0, metavar="S", help="default: 5")
    command.add_argument("--json", action="store_true", help="one JSON object a line")
    command.add_argument(
        "--on-alert", metavar="CMD", help="a shell command; it gets the alert on stdin, as JSON"
    )
    command.add_argument("--webhook", metavar="URL", help="POST the alert to this address, as JSON")
    command.add_argument(
        "--hook-timeout", type=_positive, default=10.0, metavar="S", help="default: 10"
    )
    command.add_argument(
        "--ignore", action="append", default=[], choices=RULES, metavar="RULE", help=_one_of(RULES)
    )
    command.add_argument(
        "--max-age",
        type=_positive,
        default=24.0,
        metavar="HOURS",
        help="ignore runs without an event for longer; default: 24",
    )
    for flag, (_, scale, words) in _LIMITS.items():
        default = getattr(Limits(), _LIMITS[flag][0]) / scale
        command.add_argument(
            flag, type=_positive, metavar="X", help=f"{words}; default: {default:g}"
        )
    command.set_defaults(run=_guard)


# flag -> the limit, what it is a multiple of, in words
_LIMITS: dict[str, tuple[str, float, str]] = {
    "--stall": ("stall_s", 1.0, "the shortest silence that is a stall, s"),
    "--start": ("start_s", 1.0, "the silence allowed before the first iterations, s"),
    "--spike": ("spike_z", 1.0, "robust z-score of a loss that is a spike"),
    "--slow": ("slow_factor", 1.0, "times as long as before an iteration must take"),
    "--slow-for": ("slow_s", 1.0, "for how long, s"),
    "--overdue": ("overdue_factor", 1.0, "times the iterations between two checkpoints"),
    "--disk-free": ("disk_part", 0.01, "percent of a disk that are little"),
}


def _one_of(names: Sequence[str]) -> str:
    return f"one of {', '.join(names)}; may be given several times"


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise ValueError
    return value


def _limits(arguments: argparse.Namespace) -> Limits:
    limits = {}
    for flag, (name, scale, _) in _LIMITS.items():
        value = getattr(arguments, flag[2:].replace("-", "_"))
        if value is not None:
            limits[name] = value * scale
    return Limits(**limits)


def _guard(arguments: argparse.Namespace) -> int:
    for name in arguments.names:
        if not Path(name).is_dir():
            runs.find([name])  # an empty folder is fine, an unknown name is not
    guard = Guard(
        arguments.names,
        _limits(arguments),
        rules=[rule for rule in RULES if rule not in arguments.ignore],
        max_age_s=3600 * arguments.max_age,
    )
    hooks = Hooks(arguments.on_alert, arguments.webhook, arguments.hook_timeout)

    def look() -> int:
        alerts = guard.look(time.time(), late_s=max(LATE_S, 3 * arguments.every))
        for alert in alerts:
            print(line(alert, as_json=arguments.json), flush=True)
            if alert["state"] == "raised":
                hooks.send(alert)
        return sum(alert["state"] == "raised" for alert in alerts)

    try:
        if arguments.once:
            n_raised = look()
            return 1 if n_raised or not guard.is_healthy else 0
        _until_stopped(look, arguments.every)
        return 0
    finally:
        guard.close()
        hooks.close()


def _until_stopped(look: Callable[[], object], every_s: float) -> None:
    """Look every few seconds, until SIGINT or SIGTERM."""
    end = threading.Event()
    before = {n: signal.signal(n, lambda *_: end.set()) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        while not end.is_set():
            look()
            end.wait(every_s)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def line(alert: Alert, *, as_json: bool = False) -> str:
    """An alert as it is printed."""
    if as_json:
        return printable_json(orjson.dumps(alert).decode())
    at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds(alert["t"])))
    over = " over" if alert["state"] == "over" else ""
    told = f"{at}  {alert['run']}  {alert['rule']}{over}: {alert['text']}"
    return one_line(told)
