"""What a writer does when its file is moved, deleted, replaced, cut or closed by somebody else.

People move and delete folders; `rsync`, `git checkout` and `sed -i` replace files; programs close
all descriptors. No events are lost: what the file held is still readable by its descriptor, and
is written again where readers find it.
"""

import errno
import os
from enum import Enum
from pathlib import Path

from eventlog.blocks import open_to_read
from eventlog.disk import Disk, has_name, sync_file
from eventlog.format.record import MAX_LINE_BYTES, decode
from eventlog.interruption import ignoring, is_of_a_call
from eventlog.write.appender import Appender
from eventlog.write.segments import COPY_BYTES

_MISSING = frozenset((errno.ENOENT, errno.ENOTDIR, errno.ELOOP))
"""Errors for a path at which nothing is; any other one is a failure of the disk."""

_RESTORED = "{}: was deleted; all that it held is written there again"
_CUT = (
    "{}: was cut from {:,} to {:,} bytes by another program; those events are lost, new ones are "
    "appended to {}"
)


class Place(Enum):
    """What happened to a file."""

    HERE = "at its path"
    MOVED = "at another path"
    DELETED = "at no path of its own, and nothing is where it was"
    REPLACED = "at no path of its own; another file is where it was"
    CLOSED = "its descriptor was closed, or is now another file's"
    UNKNOWN = "the disk fails"


class RelocatingAppender(Appender):
    """An appender that follows its files when they are moved, and restores them."""

    def check_place(self) -> None:
        if self.is_closed:
            return
        path = self.path
        if path != self.journal:
            _check_journal(self)
            _check_left_segments(self)
        match find(self.fd, path, self.identity, self.disk):
            case Place.HERE:
                size_bytes = self.disk.size(self.fd)
                if size_bytes < self.end[1] and self.writing is None:
                    self.warn(_CUT.format(path, self.end[1], size_bytes, path))
                    self.was_cut(size_bytes)
            case Place.CLOSED:
                _reopen(self)
            case Place.MOVED:
                _follow(self)
            case Place.DELETED:
                _restore(self)
            case Place.REPLACED:
                _go_on_beside(self, "was replaced by another file")


def _check_journal(appender: Appender) -> None:
    """The same for a journal that its session has left for a segment."""
    files, path = appender.files, appender.journal
    fd, identity = files.journal.fd, files.journal.identity
    match find(fd, path, identity, appender.disk):
        case Place.HERE:
            _check_size(appender)
        case Place.MOVED:
            moved = _path_of(fd, identity, appender.disk)
            if moved is not None:
                appender.warn(f"{path}: was moved to {moved}")
                appender.journal = moved
        case Place.CLOSED:
            _lock_again(appender)
        case Place.DELETED:
            with ignoring(OSError):
                files.replace_journal(_copy(fd, path, appender.disk))
                appender.warn(_RESTORED.format(path))
        case Place.REPLACED if not appender.has_whole_session:
            with ignoring(OSError):
                if appender.to_segment(appender.lines_of_all_files()):
                    _hold_lock(appender, path)
                    appender.warn(
                        f"{path}: was replaced by another file; this session goes on in "
                        f"{appender.path}"
                    )


def _check_left_segments(appender: Appender) -> None:
    """The same for segments that the session has left for another one."""
    disk = appender.disk
    for segment in appender.files.left_segments:
        fd, path, identity = segment.fd, segment.path, segment.identity
        assert path is not None
        place = find(fd, path, identity, disk)
        if place is Place.MOVED:
            segment.path = _path_of(fd, identity, disk) or path
        if place is Place.DELETED:
            with ignoring(OSError):
                segment.use(_copy(fd, path, disk), disk)
                disk.close(fd)
                appender.warn(_RESTORED.format(path))
                continue
        if place in (Place.DELETED, Place.REPLACED):
            is_repeated = appender.to_segment(appender.lines_of_all_files())
            where = f"its session goes on in {appender.path}"
            if is_repeated or not segment.is_gone:
                what = where if is_repeated else "and no segment could be created"
                appender.warn(f"{path}: was deleted or replaced; {what}")
            segment.is_gone = True
            if is_repeated:
                appender.files.forget_left_segments()
                return


def _check_size(appender: Appender) -> None:
    """Log that somebody cut the journal, and write the session's first line again if need be."""
    journal = appender.files.journal
    before, size_bytes = journal.size_bytes, appender.disk.size(journal.fd)
    journal.size_bytes = size_bytes
    if size_bytes < before:
        appender.warn(_CUT.format(appender.journal, before, size_bytes, appender.path))
        appender.cut_to = (before, size_bytes)
        appender.has_news = True
        if size_bytes < appender.files.begin + len(appender.opening):
            appender.note_in_journal(appender.opening)


def _lock_again(appender: Appender) -> None:
    """The program closed the journal's descriptor, and its lock with it."""
    files, path, disk = appender.files, appender.journal, appender.disk
    if _identity_at(path, disk) != files.journal.identity:
        return
    with ignoring(OSError):
        fd = disk.open_append(path)
        if disk.lock(fd) is not False and disk.identity(fd) == files.journal.identity:
            files.replace_journal(fd)
            appender.warn(f"{path}: this program closed its descriptor; it was opened again")
        else:
            disk.close(fd)


def find(fd: int, path: Path, identity: tuple[int, int], disk: Disk) -> Place:
    """Where the file `identity` is now that was opened at `path` as `fd`."""
    try:
        status = os.fstat(fd)
    except OSError as error:
        if not is_of_a_call(error):
            raise
        return Place.CLOSED if error.errno == errno.EBADF else Place.UNKNOWN
    if (status.st_dev, status.st_ino) != identity:
        return Place.CLOSED
    try:
        at_path = disk.identity(path)
    except OSError as error:
        if not is_of_a_call(error):
            raise
        if error.errno not in _MISSING:
            return Place.UNKNOWN
        at_path = None
    if at_path == identity:
        return Place.HERE
    if has_name(fd):
        return Place.MOVED
    return Place.DELETED if at_path is None else Place.REPLACED


def _identity_at(path: Path, disk: Disk) -> tuple[int, int] | None:
    """Device and inode of what is at `path`; None: nothing."""
    with ignoring(OSError):
        return disk.identity(path)
    return None


def _reopen(appender: Appender) -> None:
    """The program closed the descriptor; its number may be another file's, so it is not closed."""
    path = appender.path
    if _identity_at(path, appender.disk) == appender.identity:
        with ignoring(OSError):
            fd = appender.disk.open_append(path)
            is_free = path != appender.journal or appender.disk.lock(fd) is not False
            if is_free and appender.disk.identity(fd) == appender.identity:
                appender.use(fd)
                appender.warn(f"{path}: this program closed its descriptor; it was opened again")
                return
            appender.disk.close(fd)
    appender.files.forget_latest()
    moved = appender.to_segment()
    where = f"going on in {appender.path}" if moved else "no segment could be created"
    appender.warn(f"{path}: this program closed its descriptor; {where}")


def _follow(appender: Appender) -> None:
    """The file was moved within its file system: its descriptor still leads to it."""
    path = _path_of(appender.fd, appender.identity, appender.disk)
    if path is None:
        _go_on_beside(appender, "was moved to an unknown place")
        return
    appender.warn(f"{appender.path}: was moved to {path}; the run goes on there")
    if appender.path == appender.journal:
        appender.journal = path
    appender.path = path


def _path_of(fd: int, identity: tuple[int, int], disk: Disk) -> Path | None:
    """The path of an open file; None: this system does not show it."""
    with ignoring(OSError):
        path = Path(os.readlink(f"/proc/self/fd/{fd}"))
        return path if disk.identity(path) == identity else None
    return None


def _copy(old: int, path: Path, disk: Disk) -> int:
    """A new file at `path` with what `old` holds, durable and locked; its descriptor.

    Raises:
        OSError: the disk refused; nothing is left.
    """
    disk.make_folder(path.parent)
    fd = disk.open_append(path, exclusive=True)
    try:
        for at in range(0, disk.size(old), COPY_BYTES):
            disk.write_all(fd, os.pread(old, COPY_BYTES, at))
        sync_file(fd, disk)
        disk.sync_dir(path.parent)
        disk.lock(fd)
    except BaseException:
        disk.close(fd)
        with ignoring(OSError):
            disk.unlink(path)
        raise
    return fd


def _restore(appender: Appender) -> None:
    """The file was deleted: write what it held, still readable by its descriptor, again."""
    path, old = appender.path, appender.fd
    try:
        fd = _copy(old, path, appender.disk)
    except OSError as error:
        if not is_of_a_call(error):
            raise
        _go_on_beside(appender, f"was deleted and cannot be written again ({error})")
        return
    appender.use(fd, appender.disk.size(fd))
    appender.is_unreachable = False
    appender.disk.close(old)
    appender.warn(_RESTORED.format(path))


def _go_on_beside(appender: Appender, event: str) -> None:
    """Go on in a segment with the whole session: readers no longer find its lines."""
    path = appender.path
    with ignoring(OSError):
        if appender.to_segment(appender.lines_of_session()):
            if path == appender.journal:
                _hold_lock(appender, path)
            appender.warn(f"{path}: {event}; this session goes on in {appender.path}")
            return
    if not appender.is_unreachable:
        appender.is_unreachable = True
        appender.warn(f"{path}: {event}, and no segment could be created")


def _hold_lock(appender: Appender, path: Path) -> None:
    """Lock the file now at the journal's path: that lock tells readers that the run is written."""
    with ignoring(OSError):
        with open(open_to_read(path), "rb") as file:
            first = decode(file.readline(MAX_LINE_BYTES).rstrip(b"\n"))
        is_same_run = first is not None and first.fields.get("run_id") == appender.run_id
        if is_same_run:
            fd = appender.disk.open_append(path)
            appender.disk.lock(fd)
            appender.files.hold(fd)
            return
    appender.files.forget_unnamed()
