"""Recovery without a writer: repairs a journal's tail and gives back its reserved space."""

import os
from pathlib import Path
from typing import Any

from eventlog.blocks import read_at
from eventlog.disk import DISK, Disk, sync_file
from eventlog.read.identify import check_is_journal
from eventlog.write.lock import check_nobody_writes, take_lock
from eventlog.write.repair import repair_tail
from eventlog.write.reserve import release
from eventlog.write.sessions import new_session_name


def recover(path: Path, *, disk: Disk = DISK) -> dict[str, Any] | None:
    """Repair the tail of a journal that nobody writes; the damage found, None: none.

    Opening it for writing does the same; this is for a journal that will only be read. Space
    that a killed session reserved is given back. On a network file system nothing is cut, since
    another machine may be writing: the result then says `not_cut`, and why.

    Raises:
        NotAJournal, NewerFormat: as `check_is_journal`; nothing was changed.
        JournalLocked: a process writes it, or may.
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
            check_nobody_writes(path)
        damage, torn = repair_tail(fd, path, name=new_session_name(), disk=disk)
        if torn:
            disk.write(fd, b"\n")
        if damage:
            sync_file(fd, disk)
    finally:
        disk.close(fd)
    release(path, disk=disk)
    return damage


def _not_cut(fd: int, why: str) -> dict[str, Any] | None:
    size = os.fstat(fd).st_size
    return None if read_at(fd, size - 1, 1) == b"\n" else {"not_cut": why}
