"""Writes a session's lines to its journal, and to segments when that fails.

Lines that are written but not yet durable are remembered, because a sync that failed must not be
repeated on the same file: the kernel has marked the pages clean and reports success for bytes it
dropped. They are written again, with the same numbers, into a new file beside the journal, a
*segment*; readers merge it. The same happens when memory for refused lines runs out, and at the
end.
"""

import math
import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

from eventlog.disk import UNSUPPORTED, Disk, sync_file
from eventlog.format.record import Clock
from eventlog.interruption import ignoring, is_of_a_call
from eventlog.write.aside import RETRY_AFTER_S, WARN_EVERY_S
from eventlog.write.line_writer import LineWriter
from eventlog.write.reserve import Reserve
from eventlog.write.segments import Move, Segments, SessionFiles, owns, read_range
from eventlog.write.sync import AsideNotSynced, Goal, sync
from eventlog.write.waiting import Entry, Unsynced


class Appender(LineWriter):
    """Appends numbered lines to files that may fail, move or vanish. Not locked."""

    def __init__(
        self,
        fd: int,
        path: Path,
        *,
        s: str,
        clock: Clock,
        folders: Sequence[Path],
        disk: Disk,
        warn: Callable[[str], None],
        torn: bool,
        run_id: str,
        may_reserve: bool,
    ) -> None:
        """`torn`: the file ends inside a line, so the next write begins with LF.

        `warn` is called with messages for a person; `folders` are those for segments.
        """
        super().__init__(
            fd, path, s=s, clock=clock, disk=disk, warn=warn, torn=torn, may_reserve=may_reserve
        )
        self.journal, self.run_id = path, run_id
        self._asides.folders = tuple(folders)
        self.files = SessionFiles(fd, disk, begin=self.end[1])
        self.identity = self.files.journal.identity
        self.opening = b""
        """The session's first line, to be written again if somebody cuts it off."""
        self.is_ending = False
        """Whether the session writes its last records."""
        self.moves: deque[Move] = deque()
        """Segments that the session went on in, until it is logged."""
        self.cut_to: tuple[int, int] | None = None
        """The sizes before and after somebody cut the file, until it is logged."""
        self.lost = 0
        """Records that are lost: no disk accepted them."""
        self.is_unreachable = False
        """Whether no reader will find what was written."""
        self.sync_failed = False
        """Whether no file is left that can be synced."""
        self.has_whole_session = False
        """Whether a segment has the session from its first record on."""
        self._segments = Segments(folders, s=s, run_id=run_id, clock=clock, disk=disk)
        self._segment_again_at = 0.0
        self._n_missed = 0  # syncs that failed since the last one that did not
        self._has_new_name = False
        self._has_hole = False  # no file that was synced has all records
        self._has_note = False  # the file has a line that no sync covers and no number counts
        self._is_rewritten = False  # what the file begins with was durable before, elsewhere
        self._is_shared = False  # other machines may write the journal

    # ---- durability

    @property
    def cannot_sync(self) -> bool:
        """Whether not all records can become durable any more."""
        return self.sync_failed or self._has_hole

    def goal(self) -> Goal | None:
        """What to sync next; None: nothing, or no file that can be synced."""
        if self.sync_failed and time.monotonic() >= self._segment_again_at:
            self.sync_failed = not self.to_segment()  # perhaps a disk has space by now
            self._segment_again_at = time.monotonic() + WARN_EVERY_S
        n, first_pending = self.accepted_n, self._asides.first_pending
        durable_n = n if first_pending is None else min(n, first_pending)
        is_new = n > self.synced_n or durable_n > self.durable_n or self._has_note
        if self.sync_failed or not is_new:
            return None
        has_new_names = self._has_new_name or self._asides.unsynced
        folder = self.path.parent if has_new_names else None
        return Goal(self.fd, n, durable_n, folder, tuple(self._asides.unsynced))

    def reached(self, goal: Goal) -> None:
        """`goal` was synced."""
        if goal.fd != self.fd:
            return  # the session left the file meanwhile: its lines are in the segment, unsynced
        self._has_note = self._is_rewritten = False
        self._n_missed = 0
        self._has_new_name = self._has_new_name and goal.folder is None
        self._asides.were_synced(goal.asides)
        if self._has_hole:
            return
        self.synced_n = max(self.synced_n, goal.n)
        self.durable_n = max(self.durable_n, goal.durable_n)
        self._unsynced.forget_before(self.synced_n)

    def missed_aside(self, error: AsideNotSynced) -> None:
        """The file of a large event could not be synced: write it again."""
        name = error.path.name
        entries = [e for e in self._unsynced.copy() if any(a.name == name for a in e[3])]
        asides = [(entry[0], aside) for entry in entries for aside in entry[3]]
        if not self._asides.missed(error, asides, self.path.parent):
            self._has_hole = True

    def missed(self, error: OSError) -> bool:
        """A sync failed: go on in a segment; False if none could be created.

        Once it failed in each folder, another segment is tried only once a minute.
        """
        self._n_missed += 1
        moved = self._n_missed <= 1 + len(self._asides.folders) and self.to_segment()
        self.sync_failed = not moved
        self._segment_again_at = time.monotonic() + WARN_EVERY_S
        self.warn(
            f"{self.journal}: the disk could not make the journal durable ({error}); "
            + (
                f"going on in {self.path}"
                if moved
                else f"events are still written, but a power loss may cost those since record "
                f"{self.durable_n:,}"
            )
        )
        return moved

    def never_sync(self) -> None:
        """Files cannot be synced here: do not try again."""
        self.sync_failed = True
        self._segment_again_at = math.inf

    # ---- segments

    def begin_segment(self) -> None:
        """Write this session to a file of its own from its first record on.

        Raises:
            OSError: no segment could be created.
        """
        if not self.to_segment():
            raise OSError(f"{self.path}: no segment of it could be created in any folder")
        self.moves.clear()  # other machines may write the journal: nothing is changed in it
        self.has_news = False
        self.files.has_notes = False
        self._is_shared = self.has_whole_session = True

    def to_segment(self, first: bytes | None = None) -> bool:
        """Go on in a new file that begins with all that is not durable.

        `first`: the lines of the whole session instead, where their file is not at its path.
        """
        now, segments = time.monotonic(), self._segments
        if segments.is_creating or (now < segments.retry_at and not self.is_ending):
            return False  # a signal handler interrupted it; or none could be created just now
        if first is None and self._is_rewritten and self.owns_descriptor():
            first = self.lines_of_session()  # the rewritten beginning is not durable yet
        segments.is_creating = True
        segments.retry_at = now + RETRY_AFTER_S
        try:
            return any(
                self._move_to(folder, first)
                for folder in segments.next_folders()
                if not segments.is_exhausted
            )
        finally:
            segments.is_creating = False

    def _move_to(self, folder: Path, first: bytes | None) -> bool:
        accepted_n, number = self.end[0], self._segments.number
        entries = [entry for entry in self._waiting if entry[0] >= accepted_n]
        lines, first_n = [], 0
        if first is None:
            entries = [*self._unsynced, *entries]
            first_n = entries[0][0] if entries else accepted_n
        else:
            lines = [first, b"" if first.endswith(b"\n") else b"\n"]
        lines += [entry[1] for entry in entries]
        # It must have all that only it has, and one line that the file before refused.
        n_unsynced = sum(entry[0] < accepted_n for entry in entries)
        created = self._segments.create(
            folder,
            self.journal,
            first_n,
            lines,
            lambda: self._write_asides(entries, folder),
            least=len(lines) if first is not None else min(n_unsynced + 1, len(lines)),
        )
        if created is None:
            return False
        fd, path, identity, size_bytes, n_lines = created
        entries = entries[: len(entries) - len(lines) + n_lines]
        self.is_unreachable = False
        is_holed = first_n > self.synced_n or self.end[0] != accepted_n  # a handler appended
        self._has_hole = self._has_hole or is_holed
        self._has_note, self._is_rewritten = False, first is not None
        self._is_at_limit, self._refuses_since = False, None
        self.has_whole_session = self.has_whole_session or first is not None or first_n == 0
        self.files.add(fd, identity, path, self.end[1])
        self.fd, self.path, self.identity = fd, path, identity
        self._torn, self._has_new_name = False, True
        self._reserve = Reserve(self.disk, is_allowed=self._may_reserve)
        self._unsynced = Unsynced(entries)
        self.end = (entries[-1][0] + 1 if entries else accepted_n, size_bytes)
        self._forget_accepted()
        self.moves.append(Move(path, number, first_n))
        self.has_news = True
        return True

    def remove_torn_opening(self) -> None:
        """Remove what was written of the session's first line: it has no space for the rest."""
        begin = self.files.begin
        is_only_ours = self.path == self.journal and (self._may_reserve or not begin)
        with ignoring(OSError):
            if is_only_ours and self.disk.size(self.fd) == self.end[1] > begin:
                self.disk.truncate(self.fd, begin)
                self.end = (self.end[0], begin)

    def begun(self) -> None:
        """The first line of the session is written."""
        self._asides.may_wait = True

    def _write_asides(self, entries: list[Entry], folder: Path) -> None:
        for entry in entries:
            if entry[3]:
                self._asides.write(entry[0], entry[3], folder)

    def _leave_file(self) -> bool:
        """Write what the file does not accept into a segment, and go on there."""
        refusing = self.path
        moved = self.to_segment()
        if moved:
            self.warn(f"{refusing}: still refuses writes; waiting events are now in {self.path}")
        return moved

    # ---- where the file is

    def owns_descriptor(self) -> bool:
        return owns(self.fd, self.identity, self.disk)

    def use(self, fd: int, size_bytes: int | None = None) -> None:
        """Write to `fd`, which has the same content, from now on; the old one stays open."""
        self.files.replace_latest(fd)
        if size_bytes is not None:
            self.end = (self.end[0], size_bytes)
            self._reserve = Reserve(self.disk, is_allowed=self._may_reserve)
        self.fd, self.identity = fd, self.disk.identity(fd)

    def lines_of_session(self) -> bytes:
        """What this session has written to its file so far."""
        return read_range(self.fd, self._begin, self.end[1])

    def lines_of_all_files(self) -> bytes:
        """What this session has written so far, in its journal and in segments."""
        return self.files.lines(self._s)

    @property
    def _begin(self) -> int:
        """Where this session begins in its file."""
        return self.files.begin if self.path == self.journal else 0

    def was_cut(self, size_bytes: int) -> None:
        """Somebody took bytes from the end of the file."""
        self.cut_to = (self.end[1], size_bytes)
        self.has_news = True
        self.end = (self.end[0], size_bytes)
        self._torn = True
        if size_bytes < self._begin + len(self.opening) or self._lacks_opening():
            self._write_opening()

    def _lacks_opening(self) -> bool:
        """Whether other lines are where the session's first one was: they came after the cut."""
        if self.path != self.journal:
            return False
        with ignoring(OSError):
            return os.pread(self.fd, len(self.opening), self._begin) != self.opening
        return False

    def _write_opening(self) -> None:
        """Write the session's first line again, with the run's identity and config."""
        with ignoring(OSError):
            line = b"\n" + self.opening
            self._torn = self._write(self.fd, line) < len(line)
            self._has_note = True
        with ignoring(OSError):
            while (size_bytes := self.disk.size(self.fd)) != self.end[1]:  # a handler may append
                self.end = (self.end[0], size_bytes)

    # ---- the end

    def write_end(self) -> bool:
        """Write what waits, if need be into segments; False: no file accepts it."""
        are_accepted = self._write_all()
        self._asides.end(self.path.parent)
        return are_accepted

    def _write_all(self) -> bool:
        self.write_waiting()
        while len(self._waiting):
            self._sync_full_file()
            if not self._leave_file():
                if self._asides.is_final and not self.drop_large():
                    return False
                self._asides.is_final = True  # a large event is lost, and not those after it
            self.write_waiting()
        return True

    def _sync_full_file(self) -> None:
        """So that what is in it need not be repeated where there is little space."""
        goal = self.goal()
        if goal is None:
            return
        try:
            sync(goal, self.disk)
        except OSError as error:
            if not is_of_a_call(error):
                raise
            if isinstance(error, AsideNotSynced):
                self.missed_aside(error)
            elif error.errno not in UNSUPPORTED:
                self.missed(error)
        else:
            self.reached(goal)

    def write_in_new_file(self, lines: Sequence[bytes], first_n: int) -> bool:
        """Write the last lines of all into a segment, which then has nothing else."""
        for folder in self._segments.next_folders():
            created = self._segments.create(
                folder, self.journal, first_n, lines, lambda: None, least=len(lines)
            )
            if created is not None:
                fd, path, identity, *_ = created
                self.files.add(fd, identity, path, self.end[1])
                with ignoring(OSError):
                    sync_file(fd, self.disk)
                    self.disk.sync_dir(path.parent)
                return True
        return False

    def note_in_journal(self, line: bytes) -> bool:
        """As `SessionFiles.write_note`."""
        self._has_note = self._has_note or self.files.takes_notes(self.fd)
        return self.files.write_note(line)

    def link_in_folder(self) -> bool:
        """Make a link to the segment beside the journal, which is possible on a full disk."""
        link = self.journal.with_name(self.path.name)
        try:
            if link != self.path and not os.path.lexists(link):
                self.disk.link(link, self.path)
        except OSError as error:
            if not is_of_a_call(error):
                raise
            return False
        return True

    def close(self) -> None:
        """Give back the reserved space, and close the files."""
        for fd in self.files.segments if self._is_shared else self.files.written:
            self._reserve.give_back(fd)
        self.files.close()
