"""Journal -> run JSON: scan, fold, replace atomically. Once, or beside a live writer.

A compaction is a function of the journal's bytes and of whether somebody is writing it:
twice gives the same bytes. It never changes the journal. Several at once are harmless:
each replaces the whole file, then looks again whether the journal moved on meanwhile, so
the last one to write has seen all there is.
"""

import contextlib
import os
import select
import time
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import IO

from eventlog.disk import DISK, Disk, atomic_write, is_locked
from eventlog.errors import EventlogError
from eventlog.load import Folding, PathLike
from eventlog.ranks import RANK_SUFFIX
from eventlog.run import Run

SHARE_OF_A_CORE = 0.02  # what folding may use of one core over a long run
POLL_S = 0.2
LOCK_OUTLIVES_S = 5.0  # the kernel closes a dying writer's files one by one: pipe first, lock later


def run_path(journal: Path) -> Path:
    """The run JSON that belongs to a journal."""
    return journal.with_suffix(".json")


def compact(journal: PathLike, *, disk: Disk = DISK) -> Run:
    """Write the run JSON of `journal` as it is now; the run.

    Raises:
        UnreadableRun: not one whole record; no JSON is written.
        NewerFormat: the journal was written by a later format; the old JSON stands.
        OSError: it cannot be read, or the disk refused; the old JSON stands.
    """
    return write_run(Folding(Path(journal)), disk=disk)


def write_run(folding: Folding, *, with_superseded: bool = False, disk: Disk = DISK) -> Run:
    """Read on in a journal and write its run JSON; as `compact`."""
    if folding.path.suffix == RANK_SUFFIX:  # its run JSON would pass for a run
        raise EventlogError(
            f"{folding.path}: is a rank's journal and has no run JSON; see: runs ranks"
        )
    while True:
        alive = is_locked(folding.path)
        folding.read_on(to_the_end=not alive)
        run = folding.run(alive=alive, with_superseded=with_superseded)
        _sync_journal(folding.reader.files, disk)
        document = run.to_json()
        atomic_write(run_path(folding.path), partial(_write_all, document), disk=disk)
        if not _moved_on(folding, was_alive=alive):
            return run


def _sync_journal(files: Iterable[Path], disk: Disk) -> None:
    """The run JSON must not survive a power loss that its journal did not.

    Else the next compaction would replace what survived by less.
    """
    for path in files:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            disk.sync_data(fd)
        finally:
            os.close(fd)


def _write_all(pieces: Iterable[bytes], file: IO[bytes]) -> None:
    file.writelines(pieces)


def _moved_on(folding: Folding, *, was_alive: bool) -> bool:
    """Whether what was written is old already.

    A writer has taken up a journal that had been read to its end, or a note came; or the
    writer has left, and its follower's last word may have been overwritten by ours.
    """
    is_alive = is_locked(folding.path)
    return is_alive != was_alive or (not is_alive and folding.reader.is_behind)


def follow(journal: Path, *, every: int, until: IO[bytes], disk: Disk = DISK) -> Run:
    """Compact `journal` every `every` iterations until `until` ends; then once more.

    `until` is a pipe whose other end only the writer holds: however the writer dies, the
    kernel closes it. Folding the history costs more as it grows, so the rhythm slows down
    as far as it must to stay within SHARE_OF_A_CORE.
    """
    folding = Folding(journal)
    folded, not_before = -1, 0.0  # the first fold comes at once: a run is visible from its start
    while not _ended(until, POLL_S):
        folding.read_on(to_the_end=False)
        begun = time.monotonic()
        due = max(folding.fold.position, 0) // every
        if due != folded and begun >= not_before:
            with contextlib.suppress(OSError):  # a full disk may have room the next time
                write_run(folding, disk=disk)
                folded = due
            cost_s = time.monotonic() - begun
            not_before = begun + max(cost_s / SHARE_OF_A_CORE, POLL_S)
    give_up = time.monotonic() + LOCK_OUTLIVES_S
    while is_locked(journal) and time.monotonic() < give_up:
        time.sleep(0.01)
    return write_run(folding, disk=disk)


def _ended(pipe: IO[bytes], timeout_s: float) -> bool:
    ready, _, _ = select.select([pipe], [], [], timeout_s)
    return bool(ready) and not os.read(pipe.fileno(), 1024)
