"""The only module that changes files.

Every write, sync, rename, truncation and lock of this package goes through one small
object, so that tests can replace it: by one that records, refuses, or loses power.
Readers do not need it; they open files read-only.
"""

import contextlib
import errno
import glob
import io
import math
import os
import re
import secrets
import struct
import sys
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import IO, Any, Protocol
from zlib import crc32

from eventlog.blocks import open_to_read

try:
    import fcntl
except ImportError:  # without flock the user must make sure that a journal has one writer
    fcntl = None  # type: ignore[assignment]


class Disk:
    """The real disk. Methods raise OSError as the system calls do."""

    def open_append(self, path: Path, *, exclusive: bool = False) -> int:
        """A descriptor whose writes all land at the end; created if missing."""
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK
        return moved_up(os.open(path, flags | (os.O_EXCL if exclusive else 0), 0o666))

    def open_new(self, path: Path) -> int:
        """A descriptor on a file that did not exist before."""
        return moved_up(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666))

    def only_append(self, fd: int) -> None:
        """Have all writes land at the end, also after the file was cut."""
        if fcntl is not None:
            fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | os.O_APPEND)

    def write(self, fd: int, data: bytes) -> int:
        """The number of bytes written; fewer than `data` has if the disk becomes full."""
        return os.write(fd, data)

    def write_all(self, fd: int, data: bytes) -> None:
        """Write all of `data`, in as many calls as it takes."""
        done = 0
        while done < len(data):
            n_bytes = self.write(fd, data[done:])
            if not n_bytes:
                raise OSError(errno.ENOSPC, "a write of no bytes")
            done += n_bytes

    @property
    def writer(self) -> Callable[[int, bytes], int]:
        """`write`; for the real disk the system call itself, without a Python frame around it in
        which a signal handler could run."""
        return os.write if type(self) is Disk else self.write

    def sync_data(self, fd: int) -> None:
        """Return when what was written to `fd` survives power loss."""
        if sys.platform == "darwin":
            fcntl.fcntl(fd, fcntl.F_FULLFSYNC)  # its fsync leaves data in the drive's cache
        else:
            os.fdatasync(fd)

    def sync_dir(self, directory: Path) -> None:
        """Make the names in `directory` survive power loss: fsync of a file does not.

        Does nothing if folders cannot be synced (CIFS, some FUSE mounts).
        """
        fd = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        except OSError as error:
            if error.errno not in UNSUPPORTED:
                raise
        finally:
            os.close(fd)

    def make_folder(self, folder: Path) -> None:
        """Make a folder, and those that it is in, with names that survive power loss."""
        if not folder.is_dir():
            self.make_folder(folder.parent)
            folder.mkdir(exist_ok=True)
            self.sync_dir(folder.parent)

    def size(self, fd: int) -> int:
        return os.fstat(fd).st_size

    def position(self, fd: int) -> int:
        """Where the last write to `fd` ended, or the last read."""
        return os.lseek(fd, 0, os.SEEK_CUR)

    def free_bytes(self, folder: Path) -> float:
        """The space on the disk of a folder, which may not be there yet; infinite if unknown."""
        for existing in (folder, *folder.parents):
            try:
                status = os.statvfs(existing)
            except FileNotFoundError:
                continue
            except (OSError, AttributeError):  # no permission; Windows
                break
            return status.f_bavail * status.f_frsize
        return math.inf

    def identity(self, file: int | Path) -> tuple[int, int]:
        """Device and inode of the file of a descriptor or a path: equal if it is the same file."""
        status = os.stat(file)
        return status.st_dev, status.st_ino

    def truncate(self, fd: int, size_bytes: int) -> None:
        os.ftruncate(fd, size_bytes)

    def reserve(self, fd: int, offset: int, size_bytes: int) -> None:
        """Reserve space behind the end of the file without making it longer.

        Writes into it then succeed on a disk that was filled meanwhile. Not `posix_fallocate`,
        which makes the file longer, with zeros.
        """
        fallocate, keep_size = _fallocate(), 1
        if fallocate is None:
            return
        import ctypes

        as_int64 = ctypes.c_int64
        if fallocate(fd, keep_size, as_int64(offset), as_int64(size_bytes)):
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))

    def replace(self, source: Path, target: Path) -> None:
        os.replace(source, target)

    def link(self, path: Path, target: Path) -> None:
        """Make a symbolic link at `path`; it needs no space on most file systems."""
        os.symlink(target, path)

    def unlink(self, path: Path) -> None:
        os.unlink(path)

    def close(self, fd: int) -> None:
        os.close(fd)

    def is_network(self, path: Path) -> bool:
        """Whether `path` is on a file system that several machines see.

        There O_APPEND is a seek and a write, two writers overwrite each other, and a
        truncation may cut what another machine has just written.
        """
        return file_system_of(path) in NETWORK_FILE_SYSTEMS

    def lock(self, fd: int) -> bool | None:
        """Take the file's writer lock; False if another process holds it.

        None if the file system has no locks (some NFS mounts); a reader still detects two
        writers. flock, not POSIX locks: those are lost when this process closes any other
        descriptor of the same file.
        """
        if fcntl is None:
            return None
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                return False
            if error.errno in (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS):
                return None
            raise
        return True

    def lock_shared(self, fd: int) -> bool:
        """Keep writers out for a moment; `is_locked` does not count it as a writer."""
        if fcntl is None:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return False
        return True

    def release_reserved(self, fd: int) -> None:
        """Give back the space that `reserve` took behind the end; the file's times stay.

        The caller must know that nothing appends meanwhile.
        """
        status = os.fstat(fd)
        self.truncate(fd, status.st_size)
        os.utime(fd, ns=(status.st_atime_ns, status.st_mtime_ns))


NO_SPACE = frozenset((errno.ENOSPC, errno.EFBIG, errno.EDQUOT))
"""Errors of a full disk, a file that may not be longer, and a user's quota."""

UNSUPPORTED = frozenset((errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS))
"""Errors of a file system that does not support a call."""

FIRST_DESCRIPTOR = 900
"""The journal's descriptors have numbers from here on, if the limit allows it: a program that
closes descriptors it did not open, and then opens files, gets the lowest numbers."""

NETWORK_FILE_SYSTEMS = frozenset(
    [
        "nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "lustre", "gpfs", "ceph", "beegfs",
        "glusterfs", "orangefs", "fuse.sshfs", "fuse.rclone", "fuse.s3fs", "fuse.glusterfs",
        "fuse.juicefs", "fuse.gcsfuse", "fuse.mount-s3", "fuse.ceph", "virtiofs",
    ]
)  # fmt: skip

DISK = Disk()
WRITE_BYTES = 1 << 20
NAME_BYTES = 143  # the longest name on eCryptfs; most file systems take 255
STALE_AFTER_S = 600  # a temporary file unchanged for ten minutes was left by a crash


def moved_up(fd: int) -> int:
    """The same file under a descriptor of a high number."""
    if fcntl is None:
        return fd
    for first in (FIRST_DESCRIPTOR, FIRST_DESCRIPTOR // 4):
        with contextlib.suppress(OSError):  # the limit of this process is lower, or all are taken
            high = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, first)
            os.close(fd)
            return high
    return fd


def file_system_of(path: Path) -> str:
    """The type of the file system that holds `path`; empty if unknown."""
    try:
        mounts = [row.split()[1:3] for row in Path("/proc/self/mounts").read_text().splitlines()]
    except OSError:
        return ""
    holders = [(point, kind) for point, kind in mounts if path.resolve().is_relative_to(point)]
    return max(reversed(holders), key=lambda holder: len(holder[0]), default=("", ""))[1]


@cache
def _libc() -> Any:
    """The C library; None: this Python was built without libffi, or runs on another system."""
    with contextlib.suppress(ImportError, OSError, TypeError):
        import ctypes  # takes 10 ms, which readers do not need

        return ctypes.CDLL(None, use_errno=True)
    return None


def _fallocate() -> Callable[..., int] | None:
    """Linux' fallocate of a descriptor, a mode, an offset and a size; Python has none."""
    return getattr(_libc(), "fallocate", None)


def made_ns(path: Path) -> int | None:
    """When a file or folder was made, in ns since 1970; None: it is not there, or not known."""
    try:
        birth_time_s: float | None = getattr(os.stat(path), "st_birthtime", None)  # macOS
        return _birth_time_ns(path) if birth_time_s is None else int(birth_time_s * 1e9)
    except (OSError, ValueError):
        return None


def _birth_time_ns(path: Path) -> int | None:
    """By Linux' statx, which Python's standard library lacks. None: the file system has none.

    That of a folder of an overlay changes when something is made in it first.
    """
    statx = getattr(_libc(), "statx", None)
    if statx is None or file_system_of(path) == "overlay":
        return None
    import ctypes

    here, birth_time = -100, 0x800  # AT_FDCWD, STATX_BTIME
    buffer = ctypes.create_string_buffer(256)
    if statx(here, os.fsencode(path), 0, birth_time, buffer):
        return None
    (known,) = struct.unpack_from("=I", buffer)  # stx_mask
    second, ns = struct.unpack_from("=qI", buffer, 80)  # stx_btime
    return second * 1_000_000_000 + ns if known & birth_time else None


_DELETED_ON_NFS = re.compile(r"\.nfs[0-9a-f]{16,}")


def has_name(fd: int) -> bool:
    """Whether an open file is still in a folder.

    On NFS one that is deleted gets another name, which its client removes when nobody has it open.
    """
    if os.fstat(fd).st_nlink == 0:
        return False
    with contextlib.suppress(OSError):  # this system does not show the name
        name = os.path.basename(os.readlink(f"/proc/self/fd/{fd}"))
        return _DELETED_ON_NFS.fullmatch(name) is None
    return True


def is_locked(path: Path) -> bool:
    """Whether some process holds the writer lock of `path` right now.

    Takes a shared lock and releases it at once: readers do not exclude each other, and a writer
    that opens at that moment tries again (`write/lock.py`).
    """
    if fcntl is None:
        return False
    try:
        fd = open_to_read(path)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno in (errno.EWOULDBLOCK, errno.EACCES)
    finally:
        os.close(fd)
    return False


def sync_file(fd: int, disk: Disk = DISK) -> None:
    """Return when what was written to `fd` survives power loss.

    Where files cannot be synced (some FUSE mounts) this does nothing. The writer of a journal calls
    `Disk.sync_data` instead: it has to know that its events are not durable.

    Raises:
        OSError: the sync failed.
    """
    try:
        disk.sync_data(fd)
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise


class Digest(Protocol):
    """A hash object of hashlib."""

    def update(self, data: bytes, /) -> None: ...


class _DiskFile(io.RawIOBase):
    """A file object that writes through a `Disk`."""

    def __init__(self, fd: int, disk: Disk, digest: Digest | None) -> None:
        self._fd, self._disk, self._digest = fd, disk, digest

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        n_bytes = self._disk.write(self._fd, data)
        if self._digest is not None:
            self._digest.update(data[:n_bytes])
        return n_bytes


def atomic_write(
    path: str | os.PathLike[str],
    write: Callable[[IO[bytes]], object],
    *,
    disk: Disk = DISK,
    digest: Digest | None = None,
    durable: bool = True,
) -> int:
    """Replace `path` by what `write(file)` writes; returns the size in bytes.

    At any time, also after power loss, `path` is the old file or the whole new one. The steps: a
    new file in the same folder, its bytes, fsync, rename, fsync of the folder. If one of them
    fails, the old file stays and the new one is removed. If the file system cannot sync files or
    folders, that step is left out.

    `digest` is updated with the bytes on their way to the disk. `durable=False` leaves out both
    syncs: the file is whole at any time, but perhaps not after power loss.

    Raises:
        OSError: the disk refused; `path` is as it was.
    """
    path = Path(path)
    if durable:
        _remove_stale(path, disk)  # milliseconds in a folder of many files
    temporary = path.with_name(fitting(f".{path.name}", f".{secrets.token_hex(4)}.tmp"))
    fd = disk.open_new(temporary)
    try:
        try:
            with io.BufferedWriter(_DiskFile(fd, disk, digest), WRITE_BYTES) as file:
                write(file)
            if durable:
                sync_file(fd, disk)
            size_bytes = os.fstat(fd).st_size
        finally:
            disk.close(fd)
        disk.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            disk.unlink(temporary)
        raise
    if durable:
        disk.sync_dir(path.parent)
    return size_bytes


def fitting(name: str, end: str) -> str:
    """The file name `name` + `end`; if it is too long, with the beginning of `name` and a hash."""
    whole, max_bytes = os.fsencode(name), NAME_BYTES - len(os.fsencode(end))
    if len(whole) <= max_bytes:
        return name + end
    return f"{whole[: max_bytes - 9].decode(errors='ignore')}~{crc32(whole):08x}{end}"


def _remove_stale(path: Path, disk: Disk) -> None:
    """Remove temporary files that a killed `atomic_write` of the same file left."""
    name = fitting(f".{path.name}", ".01234567.tmp").removesuffix(".01234567.tmp")
    for temporary in path.parent.glob(f"{glob.escape(name)}.*.tmp"):
        with contextlib.suppress(OSError):
            if time.time() - temporary.lstat().st_mtime > STALE_AFTER_S:
                disk.unlink(temporary)
