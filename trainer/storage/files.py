"""Files that survive a crash: synced to disk, replaced in one step, identified by SHA-256."""

import contextlib
import errno
import json
import os
import shutil
import socket
from collections.abc import Callable
from io import BufferedReader
from pathlib import Path
from typing import Any

from eventlog import atomic_write as atomic_write
from eventlog import open_to_read
from eventlog import sha256_of as sha256_of

NO_FOLDER_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EACCES, errno.EBADF)


def sync(path: Path) -> None:
    """Write a file's bytes, or a folder's names, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(path: Path) -> None:
    """Write a folder's names to disk, where the file system supports it."""
    try:
        sync(path)
    except OSError as error:
        if error.errno not in NO_FOLDER_SYNC:
            raise


def open_file(path: Path) -> BufferedReader:
    """A regular file, opened for reading. Opening a FIFO would wait for its writer.

    Raises:
        OSError: it cannot be read, or it is no regular file (EINVAL).
    """
    return os.fdopen(open_to_read(path), "rb")


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Replace the file at `path`: after a crash it is the old one or the new one."""
    data = json.dumps(content, indent=1).encode()
    atomic_write(path, lambda file: file.write(data))


def replace_by(path: Path, make: Callable[[Path], object]) -> None:
    """Call `make` with a temporary path in the same folder, then rename that file to `path`."""
    temporary = path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    try:
        make(temporary)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def link_or_copy(source: Path, path: Path) -> None:
    """Replace `path` by a hard link to `source`, or by a copy where hard links do not work."""

    def make(temporary: Path) -> None:
        try:
            os.link(source, temporary)
        except OSError:  # EPERM or ENOTSUP: no hard links here; EMLINK: too many to this file
            temporary.unlink(missing_ok=True)
            shutil.copyfile(source, temporary)
            sync(temporary)
            with contextlib.suppress(OSError):  # the modification time orders checkpoints
                os.utime(temporary, ns=(source.stat().st_atime_ns, source.stat().st_mtime_ns))

    replace_by(path, make)
