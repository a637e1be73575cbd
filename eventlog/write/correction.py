"""Another status for a session that has ended, in the file that has its end."""

import os
from pathlib import Path
from typing import Any

from eventlog.disk import DISK, Disk, sync_file
from eventlog.format.record import Clock, Record, encode
from eventlog.masking import load_masking
from eventlog.read.ends import last_record


def close_again(path: Path, s: str, fields: dict[str, Any], disk: Disk = DISK) -> bool:
    """Append another `close` event to the file in which session `s` ended; it is durable on return.

    The status of a session is that of its last one. False, and nothing is changed: the file is gone
    or does not end with the session's `close` any more, or another process has its lock.

    Raises:
        OSError: the disk refused; nothing was added.
    """
    if not path.exists() or _end(path, s) is None:
        return False
    fd = disk.open_append(path)
    try:
        closed = None if disk.lock(fd) is False else _end(path, s)
        if closed is None:
            return False
        durable = closed.fields.get("durable")
        masked = load_masking().mask_event("close", fields)
        line = encode(closed.n + 1, s, Clock().now(), "close", masked, durable)
        end = disk.size(fd)
        try:
            disk.write_all(fd, line)
            sync_file(fd, disk)
        except OSError:
            disk.truncate(fd, end)
            raise
    finally:
        disk.close(fd)
    return True


def _end(path: Path, s: str) -> Record | None:
    """The `close` event with which the file ends, if it is of session `s`."""
    last = last_record(path)
    is_end = (
        last is not None
        and (last.s, last.event) == (s, "close")
        and last.offset + last.size_bytes + 1 == os.stat(path).st_size
    )
    return last if is_end else None
