"""A program that only writes and syncs: what the kernel itself reports while the power is cut.

ext4 and XFS are shut down in about a millisecond. A commit of the file system's log that is under
way then, here for the sync of another file, is aborted; an `fdatasync` that began before finds no
transaction left to wait for and returns success, although the new length of its file is lost.
"""

import ctypes
import mmap
import os
import sys
import threading
import time
from pathlib import Path

LINE = b"x" * 99 + b"\n"


class Syncs(ctypes.Structure):
    """What it knows, in shared memory."""

    _fields_ = (
        ("durable", ctypes.c_int64),  # bytes of the file, by the syncs that succeeded
        ("began", ctypes.c_double),  # when the last of those began
    )

    @classmethod
    def at(cls, path):
        with open(path, "r+b") as file:
            return cls.from_buffer(mmap.mmap(file.fileno(), ctypes.sizeof(cls)))


def main(out, report):
    syncs = Syncs.at(report)
    threading.Thread(target=replace_files, args=(out,), daemon=True).start()
    fd = os.open(out / "file", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    while True:
        os.write(fd, LINE)
        began = time.time()
        os.fdatasync(fd)  # the first that fails ends the program
        syncs.began, syncs.durable = began, syncs.durable + len(LINE)


def replace_files(out):
    """Files beside it, each synced and renamed, as checkpoints are."""
    while True:
        with open(out / "new", "wb") as file:
            file.write(bytes(1 << 16))
            file.flush()
            os.fsync(file.fileno())
        os.replace(out / "new", out / "old")
        folder = os.open(out, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
