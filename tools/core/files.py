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
    """Lock what `fd` is open on; False if another process has it, None if it cannot be locked.

    The kernel releases the lock when its descriptors are closed or die. (filelock locks files of
    its own by path; here a journal, a folder and a file that a child inherits are locked.)
    """
    if fcntl is None:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # NFS: folders have no locks there (EBADF), or nothing has (ENOLCK)
        return None
    return True
