"""The command `runs guard`."""

import argparse
import signal
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from ..core import runs
from ..core.options import number
from ..core.table import print
from .guard import LATE_S, Guard, line
from .hooks import Hooks, add_flags
from .rules import RULES, Limits
from .series_rules import FORMS, SeriesRule


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    text = "Monitor runs from outside: report hangs, crashes, loss spikes, slowness, full disks."
    command = commands.add_parser(
        "guard",
        help=text,
        description=text,
        epilog="Each alert is reported once: a line on stdout, an `alert` event beside the journal "
        "and the hooks. Without --once it runs until it is stopped. "
        "With --once it exits with 0 if all is well, 1 if something is wrong, and reports what is "
        "still wrong each time.",
    )
    command.add_argument("names", nargs="*", default=[runs.FOLDER], metavar="DIR|RUN")
    command.add_argument("--once", action="store_true", help="check once and exit, for cron")
    command.add_argument(
        "--every", type=_above_0("--every"), default=5.0, metavar="S", help="default: 5"
    )
    command.add_argument("--json", action="store_true", help="one JSON object a line")
    add_flags(command)
    command.add_argument(
        "--hook-timeout",
        type=_above_0("--hook-timeout"),
        default=10.0,
        metavar="S",
        help="default: 10",
    )
    command.add_argument(
        "--ignore", action="append", default=[], choices=RULES, metavar="RULE", help=_one_of(RULES)
    )
    command.add_argument(
        "--rule", action="append", default=[], metavar="RULE",
        help=f"a rule for series, may be given several times: {FORMS}",
    )  # fmt: skip
    command.add_argument(
        "--max-age",
        type=_above_0("--max-age"),
        default=24.0,
        metavar="HOURS",
        help="ignore runs without an event for longer; default: 24",
    )
    for flag, (_, scale, text) in _LIMITS.items():
        default = getattr(Limits(), _LIMITS[flag][0]) / scale
        command.add_argument(
            flag, type=_above_0(flag), metavar="X", help=f"{text}; default: {default:g}"
        )
    command.set_defaults(run=_guard)


_above_0 = partial(number, is_more=True)
# flag -> the limit, its unit, the text of --help
_LIMITS: dict[str, tuple[str, float, str]] = {
    "--stall": ("stall_s", 1.0, "seconds without an event that are a stall, at least"),
    "--start": ("start_s", 1.0, "seconds without an event allowed before the first iterations"),
    "--spike": ("spike_z", 1.0, "robust z-score above which a loss is a spike"),
    "--slow": ("slow_factor", 1.0, "an iteration is slow at this many times its usual duration"),
    "--slow-for": ("slow_s", 1.0, "seconds for which iterations must be slow"),
    "--overdue": ("overdue_factor", 1.0, "multiple of the usual iterations between checkpoints"),
    "--disk-free": ("disk_part", 0.01, "percentage of a disk below which free space is reported"),
}


def _one_of(names: Sequence[str]) -> str:
    return f"one of {', '.join(names)}; can be repeated"


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
        series_rules=[SeriesRule.parse(text) for text in arguments.rule],
        max_age_s=3600 * arguments.max_age,
    )
    hooks = Hooks(arguments.on_alert, arguments.webhook, arguments.hook_timeout)

    def check() -> int:
        late_s = max(LATE_S, 3 * arguments.every)
        alerts = guard.check(time.time(), late_s=late_s, with_standing=arguments.once)
        for alert in alerts:
            print(line(alert, as_json=arguments.json), flush=True)
            if alert["state"] == "raised":
                hooks.send(alert)
        return sum(alert["state"] != "over" for alert in alerts)

    try:
        if arguments.once:
            n_raised = check()
            return 1 if n_raised or not guard.is_healthy else 0
        _until_stopped(check, arguments.every)
        return 0
    finally:
        guard.close()
        hooks.close()


def _until_stopped(check: Callable[[], object], every_s: float) -> None:
    """Call `check` every few seconds, until SIGINT or SIGTERM."""
    end = threading.Event()
    before = {n: signal.signal(n, lambda *_: end.set()) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        while not end.is_set():
            check()
            end.wait(every_s)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
