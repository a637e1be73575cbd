"""Files beside a journal: those with the name of a segment, and the journals of ranks.

A fallback folder is shared by all runs of a user, and many of them begin in the same second: a
name alone does not show which run a segment belongs to. A folder or a FIFO may have such a name,
too.
"""

import contextlib
import errno
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eventlog.blocks import check_is_file, read_chunks
from eventlog.format.files import (
    ASIDE_SUFFIX,
    HASH_LENGTH,
    JOURNAL_SUFFIX,
    PRUNED_SUFFIX,
    RANK_SUFFIX,
    SEGMENT_SUFFIX,
    aside_name,
    parse_orphan,
    parse_rank_name,
    parse_segment_name,
    short_run_id,
)
from eventlog.format.record import MAX_LINE_BYTES, Record
from eventlog.read.scanner import Scanner

_HEAD_BYTES = 4 * MAX_LINE_BYTES


@dataclass(slots=True)
class Candidate:
    """A file named like a segment of the journal, and what is known of it."""

    path: Path
    number: int
    s: str
    run: str
    """Beginning of the run id, from its name; empty in old names."""
    is_beside: bool
    """Whether it is in the journal's own folder."""
    header: dict[str, Any] | None = None
    first: Record | None = None
    """Its first record, not counting the header."""
    error: OSError | None = None
    """Why it cannot be read."""

    @property
    def is_file(self) -> bool:
        """False for what is certainly not a segment: a directory, a FIFO, ..."""
        return self.error is None or self.error.errno != errno.EINVAL

    @property
    def run_id(self) -> str | None:
        """The id of its run, by its header or the `open` event that it begins with."""
        opened = self.first.fields if self.first and self.first.event == "open" else {}
        run_id = (opened if self.header is None else self.header).get("run_id")
        return run_id if isinstance(run_id, str) else None

    def is_of_another_run(self, run_id: str | None) -> bool:
        """Whether its name or its header has another run id."""
        if run_id is None:
            return False
        if self.run and self.run != short_run_id(run_id):
            return True
        return self.header is not None and self.header.get("run_id") != run_id

    def belongs_to(self, run_id: str | None) -> bool:
        """Whether it has the id of the run, or is beside the journal.

        If one segment of a session belongs to the run, so do all that are not `is_of_another_run`.
        """
        if self.is_of_another_run(run_id):
            return False
        if self.is_beside or (self.run and run_id is not None):
            return True
        fields = self.first.fields if self.first is not None else {}
        return run_id is not None and run_id in (fields.get("run_id"), fields.get("annotates"))

    def read_first_records(self) -> None:
        """Read its first records, if that was not done yet."""
        if self.first is not None:
            return
        scanner = Scanner()
        try:
            check_is_file(self.path)
            n_bytes = 0
            for chunk in read_chunks(self.path, 0, scanner.note_hole):
                n_bytes += len(chunk)
                records = scanner.feed(chunk)
                if records or n_bytes > _HEAD_BYTES:
                    break
            else:  # its only line may have no LF
                records = scanner.finish()
            self.first = records[0] if records else None
            self.header, self.error = scanner.header, None
        except OSError as error:
            self.error = error


def list_segments(stem: str, folder: Path, *, is_beside: bool) -> list[Candidate]:
    """The files in a folder that are named like segments of the journal `stem`.

    Raises:
        OSError: the folder cannot be read.
    """
    candidates = []
    for name in os.listdir(folder):  # faster than Path.glob in large folders
        if name.endswith(SEGMENT_SUFFIX) and name.startswith(stem):
            parsed = parse_segment_name(name, stem)
            if parsed is not None:
                candidate = Candidate(folder / name, *parsed, is_beside)
                candidates.append(candidate)
    return candidates


def by_session(candidates: Iterable[Candidate]) -> dict[str, list[Candidate]]:
    """Candidates of each session, in the order in which they were written."""
    sessions: dict[str, list[Candidate]] = {}
    for candidate in sorted(candidates, key=lambda c: (c.number, c.path)):
        sessions.setdefault(candidate.s, []).append(candidate)
    return sessions


def orphans(stem: str, folders: Iterable[Path], *, with_annotations: bool = True) -> list[Path]:
    """For each run whose journal `stem` is gone, the segment to begin reading with.

    That is its first one that is not an annotation, or an annotation if there is nothing else.
    """
    first: dict[str, tuple[bool, str, int, Path]] = {}
    for folder in folders:
        with contextlib.suppress(OSError, ValueError):
            for c in list_segments(stem, folder, is_beside=False):
                c.read_first_records()
                if c.first is not None and c.run:
                    key = ("annotates" in c.first.fields, c.first.t, c.number, c.path)
                    first[c.run] = min(key, first.get(c.run, key))
    return [path for is_note, *_, path in sorted(first.values()) if with_annotations or not is_note]


def find_orphans(folder: str | os.PathLike[str]) -> list[Path]:
    """Of each run in a folder whose journal is gone: the segment to begin reading with.

    A run of which only annotations are left is none of them, nor is the run of a rank.

    Raises:
        OSError: the folder cannot be read.
    """
    folder = Path(folder)
    names = set(os.listdir(folder))
    parsed = [parse_orphan(Path(name)) for name in names if name.endswith(SEGMENT_SUFFIX)]
    stems = {stem for stem, _ in filter(None, parsed)}
    gone = [
        stem
        for stem in sorted(stems)
        if names.isdisjoint((f"{stem}{JOURNAL_SUFFIX}", f"{stem}{PRUNED_SUFFIX}"))
        and parse_rank_name(f"{stem}{RANK_SUFFIX}") is None
    ]
    return [path for stem in gone for path in orphans(stem, [folder], with_annotations=False)]


def find_ranks(path: str | os.PathLike[str]) -> dict[int, Path]:
    """The journals of the ranks of the run in `path` (journal or run JSON), by rank.

        out/run_20261123_032501.jsonl           the run's journal
        out/run_20261123_032501.rank3.journal   that of rank 3, in the same format

    Each is for `load_run`: `metadata` has `rank`, `world_size` and the `session` of the run.

    Raises:
        OSError: the folder cannot be read.
    """
    path = Path(path)
    journals = {}
    for name in os.listdir(path.parent):
        parsed = parse_rank_name(name)
        if parsed is not None and parsed[0] == path.stem:
            journals[parsed[1]] = path.with_name(name)
    return dict(sorted(journals.items()))


def aside_path(folder: Path, name: str, sha256: Any, stem: str | None = None) -> Path:
    """The file in a folder that has the content of a large event, as its line names it.

    If the run was renamed with all of its files, it is called like a file of the run `stem`;
    without that it is any with the same hash in its name.
    """
    path = folder / name
    if os.path.lexists(path) or not isinstance(sha256, str) or len(sha256) < HASH_LENGTH:
        return path
    if stem is not None:
        own = folder / aside_name(stem, sha256)
        return own if os.path.lexists(own) else path
    end = f".{sha256[:HASH_LENGTH]}{ASIDE_SUFFIX}"
    with contextlib.suppress(OSError):
        return next((folder / other for other in os.listdir(folder) if other.endswith(end)), path)
    return path
