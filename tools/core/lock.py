"""The lock of a file or folder. The kernel releases it when its descriptors are closed or die.

Not filelock: it locks files of its own by path; here a journal, a folder of an archive and a file
that a child process inherits are locked by descriptor.
"""

try:
    import fcntl
except ImportError:  # a platform without flock
    fcntl = None  # type: ignore[assignment]


def lock(fd: int) -> bool | None:
    """Lock what `fd` is open on; False if another process has it, None if it cannot be locked."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # NFS: folders have no locks there (EBADF), or nothing has (ENOLCK)
        return None
    return True
