"""Disks for tests: one that records its calls, one that refuses them."""

import os
from collections.abc import Callable
from pathlib import Path

from eventlog.disk import Disk


class RecordingDisk(Disk):
    """The real disk, with a list of the calls that change it, in order."""

    def __init__(self):
        self.calls: list[str] = []
        self._names: dict[int, str] = {}

    def open_append(self, path, *, exclusive=False):
        fd = super().open_append(path, exclusive=exclusive)
        self._names[fd] = Path(path).name
        self.calls.append(f"open {Path(path).name}")
        return fd

    def open_new(self, path):
        fd = super().open_new(path)
        self._names[fd] = "temporary" if str(path).endswith(".tmp") else Path(path).name
        self.calls.append(f"create {self._names[fd]}")
        return fd

    def write(self, fd, data):
        self.calls.append(f"write {self._names[fd]}")
        return super().write(fd, data)

    def sync_data(self, fd):
        self.calls.append(f"sync {self._names[fd]}")
        super().sync_data(fd)

    def sync_dir(self, directory):
        self.calls.append("sync folder")
        super().sync_dir(directory)

    def truncate(self, fd, size_bytes):
        self.calls.append(f"truncate {self._names[fd]}")
        super().truncate(fd, size_bytes)

    def replace(self, source, target):
        self.calls.append(f"rename to {Path(target).name}")
        super().replace(source, target)


class RefusingDisk(Disk):
    """The real disk, except where `refuse(operation, call number)` says otherwise.

    It answers None (do it), an errno (raise it), or for a write a fraction of the bytes
    to take, as a disk does that fills in the middle of a line.
    """

    def __init__(self, refuse: Callable[[str, int], int | float | None]):
        self.refuse = refuse
        self.n_calls: dict[str, int] = {}

    def _ask(self, operation):
        n = self.n_calls[operation] = self.n_calls.get(operation, 0) + 1
        answer = self.refuse(operation, n)
        if isinstance(answer, int):
            raise OSError(answer, os.strerror(answer))
        return answer

    def open_append(self, path, *, exclusive=False):
        self._ask("open")
        return super().open_append(path, exclusive=exclusive)

    def open_new(self, path):
        self._ask("create")
        return super().open_new(path)

    def write(self, fd, data):
        part = self._ask("write")
        return super().write(fd, data if part is None else bytes(data)[: int(len(data) * part)])

    def sync_data(self, fd):
        self._ask("sync")
        super().sync_data(fd)

    def sync_dir(self, directory):
        self._ask("sync_dir")
        super().sync_dir(directory)

    def truncate(self, fd, size_bytes):
        self._ask("truncate")
        super().truncate(fd, size_bytes)

    def replace(self, source, target):
        self._ask("replace")
        super().replace(source, target)
