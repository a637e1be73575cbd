"""After a crash, without a writer: a journal's tail repaired, its reserved space given back."""

import os
from pathlib import Path
from typing import Any

from eventlog.blocks import read_at
from eventlog.disk import DISK, Disk, sync_file
from eventlog.errors import JournalLocked
from eventlog.read.alive import process_lives
from eventlog.read.ends import unclosed_session
from eventlog.read.identify import check_is_journal
from eventlog.write.journal import session_name, take_lock
from eventlog.write.repair import repair_tail
from eventlog.write.reserve import release


def recover(path: Path, *, disk: Disk = DISK) -> dict[str, Any] | None:
    """Repair the tail of a journal that nobody writes; what was found, None: nothing.

    Opening it for writing does the same; this is for a journal that only will be read. Space
    that a killed session reserved is given back. On a network file system nothing is cut:
    another machine may be writing; what is found is then `not_cut`, and why.

    Raises:
        NotAJournal, NewerFormat: as `check_is_journal`; nothing was changed.
        JournalLocked: somebody writes it, or may.
        OSError: it cannot be opened or written.
    """
    check_is_journal(path)
    if not path.stat().st_size:
        return None
    fd = disk.open_append(path)
    try:
        has_lock = take_lock(fd, path, disk)
        if disk.is_network(path):
            return _not_cut(fd, "it is on a network file system: another machine may be writing it")
        if not has_lock:
            _check_nobody_writes(path)
        found, torn = repair_tail(fd, path, name=session_name(), disk=disk)
        if torn:
            disk.write(fd, b"\n")
        if found:
            sync_file(fd, disk)
    finally:
        disk.close(fd)
    release(path, disk=disk)
    return found


def _not_cut(fd: int, why: str) -> dict[str, Any] | None:
    size = os.fstat(fd).st_size
    return None if read_at(fd, size - 1, 1) == b"\n" else {"not_cut": why}


def _check_nobody_writes(path: Path) -> None:
    """Where the file system has no locks: the process that wrote it last must be gone."""
    opened = unclosed_session(path)
    if opened is not None and process_lives(opened.fields, opened.t) is not False:
        who = f"process {opened.fields.get('pid')} on {opened.fields.get('host')}"
        raise JournalLocked(
            f"{path}: may be written by {who}: the file system has no locks that would tell. "
            f"Nothing was changed; run this on that machine when the process has ended"
        )
