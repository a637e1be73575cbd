"""Real file systems that lose power, run full and fail under a test: ext4, XFS, tmpfs.

    with ext4(tmp_path) as disk:
        ...                  # processes that write below disk.path
        disk.power_cut()     # what is not on the disk by now is lost
        disk.restart()       # they have died; the file system recovers as after a reboot

Needs root, loop devices and mkfs; if one is missing, `Unavailable` says which, and the test
is skipped with that reason. All mounts are in a mount namespace of this process: however it
ends, the kernel removes them with the last process that uses them.

What a power cut models: all that the file system has not sent to the device is lost, and what it
has sent is there. A drive that lies about its own cache is not modelled. The cut takes about a
millisecond, and a sync that is under way meanwhile may report success for bytes that are lost:
reports are to be read before it (`Writer.lose_power`).
"""

import contextlib
import ctypes
import errno
import fcntl
import os
import shutil
import struct
import subprocess
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path

CUT = 0x8004587D  # _IOR('X', 125, u32), which ext4 and XFS share; 2: not even the log is flushed
WRITE_AND_WAIT = 7  # sync_file_range: wait before, write, wait after
CAP_SYS_ADMIN = 21
CLONE_NEWNS, MS_PRIVATE_RECURSIVE, MNT_DETACH = 0x20000, 1 << 18 | 1 << 14, 2
PATIENCE_S = 20.0

# Lazy initialisation would go on writing to the device behind the back of a test.
MKFS = {
    "ext4": ("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0"),
    "xfs": ("mkfs.xfs", "-q", "-f"),
}
LEAST_BYTES = {"ext4": 64 << 20, "xfs": 300 << 20}  # mkfs.xfs makes none smaller

_libc = ctypes.CDLL(None, use_errno=True)


class Unavailable(Exception):
    """This machine cannot mount such a file system; the text says why."""


class FileSystem:
    """A mounted file system. Made by `ext4`, `xfs`, `tmpfs`."""

    def __init__(self, kind: str, path: Path, image: Path | None, options: str) -> None:
        self.kind = kind
        self.path = path
        """Where it is mounted."""
        self.image = image
        """The file that is its disk; it is sparse. A tmpfs has none."""
        self._options = options

    @property
    def free_bytes(self) -> int:
        status = os.statvfs(self.path)
        return status.f_bavail * status.f_frsize

    @property
    def device(self) -> str:
        """What is mounted, as /dev/loop0."""
        (device,) = [
            row.split()[0]
            for row in Path("/proc/self/mounts").read_text().splitlines()
            if row.split()[1] == str(self.path)
        ]
        return device

    def power_cut(self) -> None:
        """Cut the power now: what is not on the device yet is lost."""
        fd = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.ioctl(fd, CUT, struct.pack("I", 2))
        finally:
            os.close(fd)

    def restart(self) -> None:
        """Mount again what was cut: the file system's own recovery runs.

        Processes that hold files here must end first; this waits for those that are ending.
        """
        self.unmount()
        self.mount()

    def mount(self) -> None:
        options = ",".join(filter(None, ("loop" if self.image else "", self._options)))
        source = str(self.image or "none")
        try:
            _run("mount", "-t", self.kind, "-o", options or "defaults", source, str(self.path))
        except subprocess.CalledProcessError as error:
            if "unknown filesystem type" in error.stderr:
                raise Unavailable(f"this kernel knows no {self.kind}") from error
            raise

    def unmount(self, patience_s: float = PATIENCE_S) -> None:
        """Unmount, as soon as no process uses it any more.

        Raises:
            TimeoutError: processes still use it; says which.
        """
        give_up = time.monotonic() + patience_s
        while _libc.umount2(os.fsencode(self.path), 0) != 0:
            number = ctypes.get_errno()
            if number != errno.EBUSY:
                raise OSError(number, os.strerror(number), str(self.path))
            if time.monotonic() > give_up:
                raise TimeoutError(f"{self.path}: still held by {self.holders() or 'nobody seen'}")
            time.sleep(0.01)

    def holders(self) -> dict[int, str]:
        """Processes with an open file or their working folder here: pid and command line."""
        commands = {}
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                for link in (process / "cwd", *(process / "fd").iterdir()):
                    with contextlib.suppress(OSError):
                        if Path(os.readlink(link)).is_relative_to(self.path):
                            command = (process / "cmdline").read_bytes().replace(b"\0", b" ")
                            commands[int(process.name)] = command.decode(errors="replace").strip()
        return commands

    def _take_down(self) -> None:
        """Unmount even if processes use it: it then disappears with the last of them."""
        if os.path.ismount(self.path):
            try:
                self.unmount(patience_s=2.0)
            except (TimeoutError, OSError):
                _libc.umount2(os.fsencode(self.path), MNT_DETACH)
        with contextlib.suppress(OSError):  # after a detach it is still a mount point
            self.path.rmdir()
        if self.image is not None:
            self.image.unlink(missing_ok=True)


@contextlib.contextmanager
def ext4(folder: Path, size_bytes: int = 256 << 20, options: str = "") -> Iterator[FileSystem]:
    """A new ext4 in an image file, mounted at `folder`/ext4."""
    with _loop_mounted("ext4", folder, size_bytes, options) as made:
        yield made


@contextlib.contextmanager
def xfs(folder: Path, size_bytes: int = 300 << 20, options: str = "") -> Iterator[FileSystem]:
    """A new XFS in an image file, mounted at `folder`/xfs."""
    with _loop_mounted("xfs", folder, size_bytes, options) as made:
        yield made


@contextlib.contextmanager
def tmpfs(folder: Path, size_bytes: int) -> Iterator[FileSystem]:
    """A new tmpfs of that size at `folder`/tmpfs. It can run full; it cannot lose power."""
    _require_mount()
    made = FileSystem("tmpfs", folder / "tmpfs", None, f"size={size_bytes}")
    made.path.mkdir()
    with _mounted(made):
        yield made


MAKE = {"ext4": ext4, "xfs": xfs}
"""The file systems that can lose power, by name."""


@contextlib.contextmanager
def thin(
    folder: Path, kind: str, size_bytes: int = 400 << 20
) -> Iterator[tuple[FileSystem, FileSystem]]:
    """A file system whose disk has less space than it promises, and the tmpfs that has it.

    `fill` the tmpfs, and blocks not written before can no longer be: writes are accepted,
    and the sync that should take them to the disk fails.
    """
    with tmpfs(folder, size_bytes) as store, MAKE[kind](store.path) as disk:
        # A loop device reports success for a request that its file took only in part. Of
        # requests of one page there is no part.
        device = disk.device.removeprefix("/dev/")
        most_kb = Path(f"/sys/block/{device}/queue/max_sectors_kb")
        before = most_kb.read_text()
        most_kb.write_text("4")
        try:
            yield disk, store
        finally:  # it would stay so for whoever gets the device next
            most_kb.write_text(before)


@contextlib.contextmanager
def _loop_mounted(kind: str, folder: Path, size_bytes: int, options: str) -> Iterator[FileSystem]:
    _require_mount()
    _require_loop()
    command = MKFS[kind]
    if shutil.which(command[0]) is None:
        raise Unavailable(f"no {command[0]} here; on Debian: apt-get install {_package(kind)}")
    made = FileSystem(kind, folder / kind, folder / f"{kind}.image", options)
    made.path.mkdir()
    assert made.image is not None
    with open(made.image, "xb") as file:
        file.truncate(max(size_bytes, LEAST_BYTES[kind]))
    try:
        _run(*command, str(made.image))
    except BaseException:
        made.image.unlink()
        raise
    with _mounted(made):
        yield made


@contextlib.contextmanager
def _mounted(made: FileSystem) -> Iterator[None]:
    try:
        made.mount()
        yield
    finally:
        made._take_down()


def sync_range(path: Path, begin: int, end: int) -> None:
    """Send one range of a file to the device, without what precedes it.

    After a sync of another file (which writes the file system's own log, and with it the new
    length) and a power cut, the file has a hole before that range.
    """
    fd = os.open(path, os.O_RDWR)
    try:
        result = _libc.sync_file_range(
            fd, ctypes.c_int64(begin), ctypes.c_int64(end - begin), WRITE_AND_WAIT
        )
        if result != 0:
            raise OSError(ctypes.get_errno(), "sync_file_range", str(path))
    finally:
        os.close(fd)


def sync_beside(path: Path) -> None:
    """Sync a new small file at `path`, as a checkpoint writer does: the log goes to the device."""
    with open(path, "wb") as file:
        file.write(b"beside")
        file.flush()
        os.fsync(file.fileno())


def fill(path: Path) -> None:
    """A file at `path` that takes all the space there is; unlink it to free the space."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        for size_bytes in (1 << 20, 1 << 12, 1):
            with contextlib.suppress(OSError):
                while os.write(fd, bytes(size_bytes)):
                    pass
    finally:
        os.close(fd)


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)


def _package(kind: str) -> str:
    return {"ext4": "e2fsprogs", "xfs": "xfsprogs"}[kind]


@cache
def _require_mount() -> None:
    """This process may mount, and does so in a namespace of its own from here on."""
    status = Path("/proc/self/status")
    if not status.exists():
        raise Unavailable("mounting needs Linux")
    (capable,) = [row for row in status.read_text().splitlines() if row.startswith("CapEff:")]
    if not int(capable.split()[1], 16) >> CAP_SYS_ADMIN & 1:
        raise Unavailable("mounting needs root (CAP_SYS_ADMIN)")
    if _libc.unshare(CLONE_NEWNS) != 0 or _libc.mount(
        b"none", b"/", None, ctypes.c_ulong(MS_PRIVATE_RECURSIVE), None
    ):
        raise Unavailable(f"no mount namespace: {os.strerror(ctypes.get_errno())}")


@cache
def _require_loop() -> None:
    if not Path("/dev/loop-control").exists():
        raise Unavailable("no loop devices here (/dev/loop-control)")
    done = subprocess.run(["losetup", "--find"], capture_output=True, text=True)
    if done.returncode:
        raise Unavailable(f"no free loop device: {done.stderr.strip()}")
