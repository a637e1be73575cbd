"""The tail of a journal after a crash: cut what is half a line, after keeping it aside.

Nothing else is ever cut. Damage with good lines behind it stays where it is; readers go
around it and say what it cost.
"""

import os
from pathlib import Path
from typing import Any

from eventlog.blocks import read_at, rfind
from eventlog.disk import Disk, sync_file
from eventlog.format.files import torn_path
from eventlog.format.record import decode
from eventlog.read.ends import last_record
from eventlog.read.scanner import Scanner

__all__ = ["last_record", "repair_tail"]


def repair_tail(
    fd: int, path: Path, *, name: str, disk: Disk
) -> tuple[dict[str, Any] | None, bool]:
    """Make the journal end with a whole record. Only for who holds its lock.

    What was found, as the `open` event tells it (None: nothing to repair), and whether the
    file still ends inside a line, so that the next write must begin with LF. The cut bytes
    are in `<stem>.<name>.torn` beside the journal, durable before they are cut. A tail that
    the disk cannot read is not cut: nobody could keep it.
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
    found: dict[str, Any] = {"offset": start, "size_bytes": len(tail)}
    kept = torn_path(path, name)
    try:
        _keep_aside(kept, tail, disk)
        disk.truncate(fd, start)
    except OSError as error:  # nothing is cut that is not kept: the LF alone parts old from new
        return {"torn": found | {"kept_in": None, "error": str(error)}}, True
    return {"torn": found | {"kept_in": kept.name}}, bool(whole)


def _keep_aside(kept: Path, tail: bytes, disk: Disk) -> None:
    fd = disk.open_new(kept)
    try:
        done = 0
        while done < len(tail):
            done += disk.write(fd, tail[done:])
        sync_file(fd, disk)
    finally:
        disk.close(fd)
    disk.sync_dir(kept.parent)
