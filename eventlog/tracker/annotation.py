"""Annotations: events about a run from a process that does not write it: notes, tags, alerts.

    eventlog.annotate("out/run_20261123_032501.jsonl", "note", text="lr too high?", by="ann")

Nothing is edited and no lock is taken: annotations go into a segment of their own beside the
journal, one record and one sync at a time, while the run is written or after it.
"""

import contextlib
import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from eventlog.disk import DISK, Disk, is_locked, sync_file
from eventlog.errors import EventlogError, UnreadableRun
from eventlog.fold.compaction import compact
from eventlog.fold.load import PathLike
from eventlog.format.files import JOURNAL_SUFFIX, SEGMENT_SUFFIX, parse_orphan, segment_name
from eventlog.format.record import ANNOTATES, Clock, encode, encode_header
from eventlog.masking import load_masking
from eventlog.read.reader import scan
from eventlog.tracker.location import any_open, run_id_by_segments
from eventlog.write.messages import say
from eventlog.write.sessions import new_session_name


def annotate(path: PathLike, event: str, /, *, disk: Disk = DISK, **fields: Any) -> None:
    """Add one event about the run of a journal or run JSON; on return it survives power loss.

    The run JSON is written again, unless the run has a writer, whose compactor does that.

    Raises:
        FileNotFoundError: the run has no journal (older loggers wrote none).
        UnreadableRun: the file is not a journal.
        RecordTooLarge: the event does not fit in a line.
        OSError: the disk refused; nothing was added.
    """
    with Annotator(path, disk=disk) as annotator:
        annotator.log(event, **fields)


class Annotator:
    """Adds events about a run one by one. A context manager."""

    def __init__(self, path: PathLike, *, disk: Disk = DISK) -> None:
        """For the run of the journal or run JSON at `path`; raises as `annotate`."""
        orphan = parse_orphan(Path(path))  # a segment that stands for its journal
        stem = Path(path).stem if orphan is None else orphan[0]
        self.journal = Path(path).with_name(f"{stem}{JOURNAL_SUFFIX}")
        self.s = new_session_name()
        self._run_id = _run_id(self.journal, Path(path))
        self._disk = disk
        self._clock = Clock()
        self._n = 0
        self._n_segments = 0
        self._fd: int | None = None
        self._segment = self.journal

    def log(self, event: str, /, **fields: Any) -> None:
        """Add one event; on return it survives power loss.

        Raises:
            RecordTooLarge: it does not fit in a line; nothing was added.
            OSError: the disk refused; nothing was added, the next one may be tried.
        """
        fields = load_masking().mask_event(event, fields) | {ANNOTATES: self._run_id}
        line = encode(self._n, self.s, self._clock.now(), event, fields)
        is_new = self._fd is None
        fd = self._open() if self._fd is None else self._fd
        begin = os.fstat(fd).st_size
        if not begin and self._run_id is not None:
            line = self._header(self._run_id) + line
        try:
            if self._disk.write(fd, line) < len(line):
                raise OSError(errno.ENOSPC, f"{self._segment}: the disk took only a part")
            sync_file(fd, self._disk)
            if is_new:
                self._disk.sync_dir(self._segment.parent)
        except OSError:
            self._undo(fd, begin)
            raise
        self._n += 1

    def close(self) -> None:
        """Close the file; write the run JSON again if the run has no writer."""
        if self._fd is not None:
            self._disk.close(self._fd)
            self._fd = None
        if not self._n or is_locked(self.journal):
            return
        try:
            compact(self.journal, disk=self._disk)
        except (EventlogError, OSError) as error:
            say(
                f"{self.journal}: the event is saved, but the run JSON could not be written "
                f"({error}). To write it, run: eventlog compact {self.journal}"
            )

    def _open(self) -> int:
        if self._run_id is None:  # a run whose `open` events are all damaged
            name = f"{self.journal.stem}.{self.s}.{self._n_segments}{SEGMENT_SUFFIX}"
        else:
            name = segment_name(self.journal.stem, self._run_id, self.s, self._n_segments)
        self._n_segments += 1
        self._segment = self.journal.with_name(name)
        self._fd = self._disk.open_append(self._segment, exclusive=True)
        return self._fd

    def _header(self, run_id: str) -> bytes:
        return encode_header(
            run_id=run_id,
            journal=self.journal.name,
            session=self.s,
            number=self._n_segments - 1,
            first_n=self._n,
            s=new_session_name(),
            t=self._clock.now(),
        )

    def _undo(self, fd: int, size_bytes: int) -> None:
        """Remove what is half written; a file whose sync failed is not used again."""
        steps: list[Callable[[], None]] = [
            lambda: self._disk.truncate(fd, size_bytes),
            lambda: self._disk.close(fd),
        ]
        if not size_bytes:
            steps.append(lambda: self._disk.unlink(self._segment))
        for step in steps:
            with contextlib.suppress(OSError):
                step()
        self._fd = None

    def __enter__(self) -> "Annotator":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _run_id(journal: Path, path: Path) -> str | None:
    """The id of the run that is annotated; None if it has no readable `open` event."""
    if not journal.exists():
        raise FileNotFoundError(
            f"{path}: has no journal {journal.name} beside it; annotations are written beside a "
            f"run's journal"
        )
    opened = any_open(journal)
    if opened is None and next(scan(journal), None) is None:
        raise UnreadableRun(f"{journal}: not a journal: not one whole record in it")
    run_id = opened.fields.get("run_id") if opened is not None else None
    return run_id or run_id_by_segments(journal)
