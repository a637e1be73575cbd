"""Trackio's local SQLite store, read back by its own storage class."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bench.trackers import Log, Value

PACKAGES = ("trackio",)
VARIANTS = {
    "trackio": "local project, one `trackio.log` a step; a thread writes each 0.5 s",
    "trackio-full": "the same, TRACKIO_SQLITE_SYNCHRONOUS=FULL",
}
LOG_FILES = ("trackio/*.db", "trackio/*.db-wal")
PROMISE = "nothing for a local project"
PROJECT, RUN = "trackers", "run"


@contextmanager
def write(folder: Path, variant: str, first: int) -> Iterator[Log]:
    os.environ["TRACKIO_DIR"] = str(folder / "trackio")
    if variant == "trackio-full":
        os.environ["TRACKIO_SQLITE_SYNCHRONOUS"] = "FULL"
    import trackio

    trackio.init(project=PROJECT, name=RUN, resume="allow" if first else "never", embed=False)
    yield lambda step, values: trackio.log(values, step=step)
    trackio.finish()


def read(folder: Path) -> Iterator[Value]:
    """Its folder is fixed when trackio is imported, so the reader is pointed to this one."""
    from trackio import sqlite_storage

    sqlite_storage.TRACKIO_DIR = folder / "trackio"
    for row in sqlite_storage.SQLiteStorage.get_logs(PROJECT, RUN):
        step = row.pop("step")
        yield from ((step, name, v) for name, v in row.items() if name != "timestamp")
