"""One sync: which files it makes durable, and in which order."""

import os
from dataclasses import dataclass
from pathlib import Path

from eventlog.blocks import open_to_read
from eventlog.disk import Disk


@dataclass(frozen=True)
class Goal:
    """What one sync makes durable."""

    fd: int
    n: int
    """Records of the session that are durable after it, from the first on."""
    folder: Path | None
    """A folder whose names must be synced as well: a file in it is new."""
    asides: tuple[Path, ...] = ()


def sync(goal: Goal, disk: Disk) -> None:
    """Sync the files that the lines name, then the lines, then the names of the files.

    Raises:
        OSError: the disk refused.
    """
    for path in goal.asides:
        fd = open_to_read(path)  # raises for a FIFO that was put there
        try:
            disk.sync_data(fd)
        finally:
            os.close(fd)
    disk.sync_data(goal.fd)
    if goal.folder is not None:
        disk.sync_dir(goal.folder)
