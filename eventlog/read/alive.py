"""Whether a writer of a journal is alive: by its lock, or without locks by its process."""

import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from eventlog.disk import is_locked
from eventlog.format.times import seconds
from eventlog.interruption import ignoring
from eventlog.read.ends import unclosed_session

_ENDED = ("Z", "X")  # states of a process that has ended


def is_alive(path: Path) -> bool:
    """Whether some process writes the journal `path` right now, as far as can be seen from here.

    A writer that could not lock the file (`has_lock` in its `open` event is false) counts as alive
    while its process exists and the session is not closed. Without a lock a process on another
    machine cannot be seen: False.
    """
    path = Path(path)
    if is_locked(path):
        return True
    try:
        opened = unclosed_session(path)
    except OSError:
        return False
    return opened is not None and writes_without_lock(opened.fields, opened.t)


def writes_without_lock(opened: Mapping[str, Any], t: str) -> bool:
    """Whether the session of this `open` event of time `t` has no lock and its process is alive."""
    return opened.get("has_lock") is False and process_lives(opened, t) is True


def process_lives(opened: Mapping[str, Any], t: str = "") -> bool | None:
    """Whether the process of this `open` event is alive; None: cannot be seen from here.

    Without `pid_started` in it, any process with that pid that began before `t` counts.
    """
    pid = opened.get("pid")
    if opened.get("host") != socket.gethostname() or type(pid) is not int or pid <= 0:
        return None
    boot_id = this_boot()
    if boot_id is None or opened.get("boot_id") is None:
        return None
    if opened["boot_id"] != boot_id:
        return False
    if not os.path.exists("/proc/self/stat"):
        return None
    began = start_of(pid)
    if began is None:
        return False
    started = opened.get("pid_started")
    if started is None:
        return _began_before(began, t)
    return bool(started == began)


def _began_before(began: int, t: str) -> bool | None:
    """Whether a process that began `began` clock ticks after boot existed at time `t`."""
    try:
        uptime_s = float(Path("/proc/uptime").read_text().split()[0])
    except (OSError, ValueError):
        return None
    opened_s = seconds(t)
    if opened_s is None:
        return None  # the pid may belong to another process by now
    began_s = time.time() - uptime_s + began / os.sysconf("SC_CLK_TCK")
    return began_s <= opened_s + 0.1


def this_boot() -> str | None:
    """The id of this boot of the machine; None if there is none."""
    with ignoring(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return None


def start_of(pid: int) -> int | None:
    """When a living process began, in clock ticks since boot; None: there is no such process.

    A zombie is not a living process.
    """
    state, began = _stat_of(pid)
    return began if state not in _ENDED else None


def is_not_reaped(opened: Mapping[str, Any]) -> bool:
    """Whether the process of this `open` event is a zombie."""
    pid = opened.get("pid")
    state, began = _stat_of(pid) if type(pid) is int else ("", None)
    return state in _ENDED and opened.get("pid_started") in (None, began)


def _stat_of(pid: int) -> tuple[str, int | None]:
    """The state of a process, and when it began; None: there is no such process."""
    with ignoring(OSError):
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
        fields = stat.rpartition(")")[2].split()
        return (fields[0], int(fields[19])) if len(fields) > 19 else ("", None)
    return "", None
