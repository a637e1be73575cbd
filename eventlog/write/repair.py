"""Repairs a journal after a crash: truncates an incomplete last line, frees reserved space.

The bytes are first saved in a file beside the journal. Nothing else is ever cut: damage with
good lines behind it stays in place, and readers skip it and report what it cost.
"""

import os
from pathlib import Path
from typing import Any

from eventlog.blocks import read_at, rfind
from eventlog.disk import DISK, Disk, sync_file
from eventlog.format.files import torn_path
from eventlog.format.record import decode
from eventlog.interruption import ignoring
from eventlog.read.identify import check_is_journal
from eventlog.read.scanner import Scanner
from eventlog.write.lock import check_nobody_writes, take_lock
from eventlog.write.reserve import release
from eventlog.write.sessions import new_session_name


def repair_tail(
    fd: int, path: Path, *, name: str, disk: Disk
) -> tuple[dict[str, Any] | None, bool]:
    """Make the journal end with a whole record. The caller must hold its lock.

    Returns the damage, as the `open` event has it (None: nothing to repair), and whether the
    file still ends inside a line, so that the next write must begin with LF. The cut bytes
    are in `<stem>.<name>.torn` beside the journal, durable before they are cut. A tail that
    the disk cannot read is not cut, since it could not be saved.
    """
    size = os.fstat(fd).st_size
    if size == 0:
        return None, False
    start = rfind(fd, b"\n", size) + 1
    holes: list[int] = []
    tail = read_at(fd, start, size - start, lambda offset, size_bytes: holes.append(size_bytes))
    if not tail:
        return None, False
    if holes:
        unreadable = f"{sum(holes):,} bytes of it are unreadable"
        return {
            "torn": {"offset": start, "size_bytes": len(tail), "kept_in": None, "error": unreadable}
        }, True
    if decode(tail) is not None:
        return {"unterminated": {"offset": start, "size_bytes": len(tail)}}, True
    # A power loss may leave whole records without their line feeds, zeros behind them.
    scanner = Scanner()
    whole = [*scanner.feed(tail), *scanner.finish()]
    if whole:
        keep = whole[-1].offset + len(whole[-1].line)
        start, tail = start + keep, tail[keep:]
    torn: dict[str, Any] = {"offset": start, "size_bytes": len(tail)}
    copy = torn_path(path, name)
    try:
        _save(copy, tail, disk)
        disk.truncate(fd, start)
    except OSError as error:  # nothing is cut that was not saved: an LF separates old from new
        return {"torn": torn | {"kept_in": None, "error": str(error)}}, True
    return {"torn": torn | {"kept_in": copy.name}}, bool(whole)


def _save(copy: Path, tail: bytes, disk: Disk) -> None:
    fd = disk.open_new(copy)
    try:
        disk.write_all(fd, tail)
        sync_file(fd, disk)
    finally:
        disk.close(fd)
    disk.sync_dir(copy.parent)


def recover(path: Path, *, disk: Disk = DISK) -> dict[str, Any] | None:
    """Repair the tail of a journal that has no writer; returns the damage, None if there is none.

    Opening it for writing does the same; this is for a journal that will only be read. Its time of
    change stays. Space that a killed session reserved is given back. On a network file system
    nothing is cut, since another machine may be writing: the result then says `not_cut`, and why.

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
        times = os.fstat(fd)
        if disk.is_network(path):
            return _not_cut(fd, "it is on a network file system: another machine may be writing it")
        if not has_lock:
            check_nobody_writes(path)
        damage, torn = repair_tail(fd, path, name=new_session_name(), disk=disk)
        if torn:
            disk.write(fd, b"\n")
        if damage:
            sync_file(fd, disk)
            with ignoring(OSError):
                os.utime(fd, ns=(times.st_atime_ns, times.st_mtime_ns))
    finally:
        disk.close(fd)
    release(path, disk=disk)
    return damage


def _not_cut(fd: int, why: str) -> dict[str, Any] | None:
    size = os.fstat(fd).st_size
    return None if read_at(fd, size - 1, 1) == b"\n" else {"not_cut": why}
