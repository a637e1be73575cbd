"""One writer per journal: taking its lock, and who holds it if that fails."""

import time
from pathlib import Path

from eventlog.disk import Disk
from eventlog.errors import JournalLocked
from eventlog.format.record import Record
from eventlog.format.text import printable
from eventlog.read.alive import process_lives
from eventlog.read.ends import last_open, unclosed_session

LOCK_PATIENCE_S = 0.05  # a reader's probe holds the lock for microseconds, a writer for good
INHERITED_PATIENCE_S = (
    2.0  # a writer killed while it starts a process: that one has the lock so far
)


def take_lock(fd: int, path: Path, disk: Disk) -> bool:
    """Take the journal's lock; False if the file system has no locks.

    Raises:
        JournalLocked: another process holds it; the message says which.
    """
    begun = time.monotonic()
    patience_s = LOCK_PATIENCE_S
    while (is_held := disk.lock(fd)) is False:
        if time.monotonic() > begun + patience_s:
            if patience_s == INHERITED_PATIENCE_S or not _writer_is_gone(path):
                raise JournalLocked(_refusal(path))
            patience_s = INHERITED_PATIENCE_S
        time.sleep(LOCK_PATIENCE_S / 10)
    return is_held is True


def _writer_is_gone(path: Path) -> bool:
    """Whether the process of the last session is known to have ended."""
    opened = last_open(path)
    return opened is not None and process_lives(opened.fields, opened.t) is False


def check_nobody_writes(path: Path) -> None:
    """For a file system without locks: check that the last writer's process is gone.

    Raises:
        JournalLocked: it is alive, or runs on a machine that cannot be asked.
    """
    opened = unclosed_session(path)
    if opened is not None and process_lives(opened.fields, opened.t) is not False:
        raise JournalLocked(
            f"{path}: may be written by {_process(opened)}, and the file system has no locks to "
            f"tell. Nothing was changed; run this on that machine when the process has ended"
        )


def _refusal(path: Path) -> str:
    opened = last_open(path)
    if opened is None:
        writer = "another process"
    else:
        command = " ".join(map(str, opened.fields.get("command") or []))
        writer = (
            f"{_process(opened)} since {opened.t[:19]}Z "
            f"(session {opened.s}{': ' + command if command else ''})"
        )
    return printable(
        f"{path}: is being written by {writer}. One journal has one writer: stop that process, "
        f"or start a new run"
    )


def _process(opened: Record) -> str:
    return f"process {opened.fields.get('pid')} on {opened.fields.get('host')}"
