"""Repairs the tail of a journal after a crash: truncates an incomplete last line.

The bytes are first saved in a file beside the journal. Nothing else is ever cut: damage with
good lines behind it stays in place, and readers skip it and report what it cost.
"""

import os
from pathlib import Path
from typing import Any

from eventlog.blocks import read_at, rfind
from eventlog.disk import Disk, sync_file
from eventlog.format.files import torn_path
from eventlog.format.record import decode
from eventlog.read.scanner import Scanner


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
