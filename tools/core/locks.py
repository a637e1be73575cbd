"""Locks of files and folders."""

from eventlog import DISK


def lock(fd: int) -> bool | None:
    """Lock the file or folder of `fd`; False if another process holds it, None if impossible.

    The kernel releases the lock when the last descriptor is closed. (filelock locks by path and
    with separate files; here a journal, a folder and a file that a child inherits are locked.)
    """
    try:
        return DISK.lock(fd)
    except OSError:  # on NFS folders cannot be locked (EBADF)
        return None
