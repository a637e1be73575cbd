"""Journal -> run JSON: scan, fold, replace atomically. Once, or beside a live writer.

A compaction is a function of the journal's bytes and of whether a writer is alive: doing it twice
gives the same bytes. It never changes the records; if no writer is alive it frees the space that a
killed session reserved behind the end of the journal. Several at once are harmless: each replaces
the whole file, then checks whether the journal has grown meanwhile, so the last one to write has
read everything.
"""

import contextlib
import os
import select
import time
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import IO

from eventlog.blocks import open_to_read, read_chunks
from eventlog.disk import DISK, Disk, atomic_write, has_name, is_locked, sync_file
from eventlog.errors import EventlogError
from eventlog.fold.document import Run
from eventlog.fold.load import Folding, PathLike
from eventlog.format.files import JOURNAL_SUFFIX, RANK_SUFFIX, run_path
from eventlog.read.evidence import n_not_here, name_before_loss, stated_by
from eventlog.write.messages import say
from eventlog.write.reserve import release

SHARE_OF_A_CORE = 0.02  # what folding may use of one core over a long run
SHARE_FOR_READING = 0.012  # of that; what it leaves, and the rest, is for writing
POLL_S = 0.2
READ_BYTES = 2 << 20  # 12,000 iterations, 27 ms
GROWTH = 1.1  # by which writing the run JSON is expected to cost more the next time
LOCK_OUTLIVES_S = 5.0  # the kernel closes a dying writer's files one by one: pipe first, lock later


def compact(journal: PathLike, *, disk: Disk = DISK) -> Run:
    """Write the run JSON of `journal` as it is now; returns the run.

    Raises:
        UnreadableRun: not one whole record; no JSON is written.
        NewerFormat: the journal was written by a later format; the old JSON is kept.
        OSError: it cannot be read, or the disk refused; the old JSON is kept.
    """
    return write_run(Folding(Path(journal)), disk=disk)


def write_run(folding: Folding, *, with_superseded: bool = False, disk: Disk = DISK) -> Run:
    """Read what is new in a journal and write its run JSON; returns and raises as `compact`."""
    if folding.path.suffix == RANK_SUFFIX:  # its run JSON would be listed as one more run
        raise EventlogError(
            f"{folding.path}: is a rank's journal and has no run JSON; see: runs ranks"
        )
    if run_path(folding.path) == folding.path:
        raise EventlogError(
            f"{folding.path}: its run JSON would replace it; a journal's name ends in "
            f"{JOURNAL_SUFFIX}"
        )
    while True:
        alive = folding.read()
        run = _write(folding, alive=alive, with_superseded=with_superseded, disk=disk)
        if not _moved_on(folding, was_alive=alive):
            break
    if not alive:
        own = folding.fold.sessions  # without annotations, which are written without a lock
        release(folding.path, folding.reader.segments_of(own), disk=disk)
    return run


def _write(folding: Folding, *, alive: bool, with_superseded: bool, disk: Disk) -> Run:
    """Write the run JSON of what was read so far."""
    _sync_journal(folding.reader.files, disk)
    folding.check()
    _keep_before_loss(folding, disk)
    run = folding.run(alive=alive, with_superseded=with_superseded)
    document = run.to_json()
    atomic_write(run_path(folding.path), partial(_write_all, document), disk=disk)
    return run


def _keep_before_loss(folding: Folding, disk: Disk) -> None:
    """Keep a copy of the run JSON that is to be replaced, if its journal has lost records of it.

    Checked the first time, and when the journal has fewer records than before.
    """
    reader, path = folding.reader, run_path(folding.path)
    n_before, folding.n_written = folding.n_written, reader.sequence.n_records
    if 0 <= n_before <= folding.n_written:
        return
    sessions = folding.fold.sessions
    known = stated_by(path)
    n_lost = n_not_here(known, reader.sequence, sessions, reader.others)
    if n_lost or known.unreadable:
        copy = name_before_loss(path)
        atomic_write(copy, partial(_write_all, read_chunks(path)), disk=disk)
        folding.note_known()
        lost = f"its journal has lost {n_lost:,} record{'s' * (n_lost != 1)} that it was made from"
        what = lost if n_lost else "it was damaged, so that it does not show what was lost"
        say(f"{path}: {what}; the old run JSON is kept as {copy}")


def _sync_journal(files: Iterable[Path], disk: Disk) -> None:
    """Sync the journal first: a run JSON must not survive a power loss that its records did not.

    Otherwise the next compaction would replace it by one with fewer records.
    """
    for k, path in enumerate(files):
        try:
            fd = open_to_read(path)
        except OSError:
            if k == 0:  # the journal itself; a segment may have been moved since it was read
                raise
            continue
        try:
            sync_file(fd, disk)
        finally:
            os.close(fd)


def _write_all(pieces: Iterable[bytes], file: IO[bytes]) -> None:
    file.writelines(pieces)


def _moved_on(folding: Folding, *, was_alive: bool) -> bool:
    """Whether the run JSON just written is out of date already.

    So it is if the journal was resumed or annotated after it was read to its end; or if the writer
    has ended, because our file may have replaced the final one of its follower.
    """
    is_alive = folding.is_alive()
    return is_alive != was_alive or (not is_alive and folding.reader.is_behind)


def follow(journal: Path, *, every: int, until: IO[bytes], disk: Disk = DISK) -> Run:
    """Compact `journal` every `every` iterations until `until` ends; then once more.

    `until` is a pipe whose other end only the writer holds: however the writer dies, the
    kernel closes it. The cost of reading grows with the new records, the cost of writing with the
    whole history. Each is done once enough CPU time has been saved up for it, so that both
    together stay within SHARE_OF_A_CORE; only the last fold does not wait.
    """
    file = _Followed(journal)
    try:
        return _follow(file, journal, every, until, disk)
    finally:
        file.close()


def _follow(file: "_Followed", journal: Path, every: int, until: IO[bytes], disk: Disk) -> Run:
    folding = Folding(journal)
    all_of_it, reading = _Budget(SHARE_OF_A_CORE), _Budget(SHARE_FOR_READING)
    folded, cost_s, wait_s = -1, 0.0, POLL_S
    while not _ended(until, wait_s):
        if (path := file.path()) != folding.path:
            folding, folded = Folding(path), -1
        with contextlib.suppress(OSError):  # a full disk may have space the next time
            with reading.spending(), all_of_it.spending():
                folding.read_on(to_the_end=False, most_bytes=READ_BYTES)
            due = max(folding.fold.position, 0) // every
            # The first fold comes at once: a run is visible from its start.
            if due != folded and (folded < 0 or all_of_it.left_s >= cost_s * GROWTH):
                before_s = all_of_it.spent_s
                with all_of_it.spending():
                    _write_beside_writer(folding, disk)
                folded, cost_s = due, all_of_it.spent_s - before_s
        wait_s = max(POLL_S, -reading.left_s / SHARE_FOR_READING)
    if (path := file.path()) != folding.path:
        folding = Folding(path)
    give_up = time.monotonic() + LOCK_OUTLIVES_S
    while is_locked(path) and time.monotonic() < give_up:
        time.sleep(0.01)
    return write_run(folding, disk=disk)


class _Followed:
    """A journal that may be moved, or deleted and created again, while it is followed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = -1
        self._open()

    def path(self) -> Path:
        """Where it is now, or the last known place."""
        with contextlib.suppress(OSError):
            if self._fd >= 0 and has_name(self._fd):
                if not _is_same(self._fd, self._path):
                    moved = Path(os.readlink(f"/proc/self/fd/{self._fd}"))
                    self._path = moved if _is_same(self._fd, moved) else self._path
                return self._path
        self._open()
        return self._path

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _open(self) -> None:
        self.close()
        with contextlib.suppress(OSError, ValueError):
            self._fd = open_to_read(self._path)


def _is_same(fd: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path))
    except OSError:
        return False


class _Budget:
    """The CPU time that a share of a core allows, and how much of it was used."""

    def __init__(self, share: float) -> None:
        self._share = share
        self._begun = time.monotonic()
        self.spent_s = 0.0

    @property
    def left_s(self) -> float:
        """Negative where more was used."""
        return (time.monotonic() - self._begun) * self._share - self.spent_s

    @contextlib.contextmanager
    def spending(self) -> Iterator[None]:
        """Count the CPU time that this thread uses in the block."""
        begun_s = time.thread_time()
        try:
            yield
        finally:
            self.spent_s += time.thread_time() - begun_s


def _write_beside_writer(folding: Folding, disk: Disk) -> None:
    """Write the run JSON of what was read so far; of everything, if the writer has ended."""
    if folding.is_alive():
        _write(folding, alive=True, with_superseded=False, disk=disk)
    if not folding.is_alive():
        write_run(folding, disk=disk)


def _ended(pipe: IO[bytes], timeout_s: float) -> bool:
    ready, _, _ = select.select([pipe], [], [], timeout_s)
    return bool(ready) and not os.read(pipe.fileno(), 1024)
