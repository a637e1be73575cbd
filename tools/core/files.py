"""Files: their SHA-256 and their locks."""

from hashlib import file_digest
from pathlib import Path

try:
    import fcntl
except ImportError:  # a platform without flock
    fcntl = None  # type: ignore[assignment]


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file in hex.

    Raises:
        OSError: it cannot be read.
    """
    with open(path, "rb") as file:
        return file_digest(file, "sha256").hexdigest()


def lock(fd: int) -> bool | None:
    """Lock the file or folder of `fd`; False if another process holds it, None if impossible.

    The kernel releases the lock when the last descriptor is closed. (filelock locks by path and
    with separate files; here a journal, a folder and a file that a child inherits are locked.)
    """
    if fcntl is None:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # on NFS folders cannot be locked (EBADF), or nothing can (ENOLCK)
        return None
    return True
