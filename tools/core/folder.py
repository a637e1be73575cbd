"""Which files of a folder are runs, one file for each run.

listing = eventlog.Listing("out", files, is_below=False)
runs_in(listing)                        # [Path("out/mine_20261123_032501.json"), ...]
"""

import contextlib
import os
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import eventlog
from eventlog import SEGMENT_SUFFIX, Listing, parse_segment_name

from . import beside, ends, index

SUFFIXES = (eventlog.RUN_JSON_SUFFIX, eventlog.JOURNAL_SUFFIX)
STUDY = f"study{eventlog.JOURNAL_SUFFIX}"

_HEAD_BYTES = 4096
_SIGNS = (b'"run_name"', b'"training_iterations"')
"""One of them is at the beginning of each run JSON."""
_REMEMBERED_MAX = 200_000  # files of subfolders whose beginning is known


def runs_in(listing: Listing) -> list[Path]:
    """The run files of a folder. Plain strings: with paths, ten thousand runs take a second.

    Of the folder that was named these are all files with the suffix of a run JSON or journal: one
    that cannot be read is reported. In its subfolders there may be data sets, settings and
    checkpoints: these are the files that begin like a run.
    """
    folder = Path(listing.path)
    files: dict[str, os.stat_result] = {}
    beside: dict[str, os.stat_result] = {}  # segments
    for entry in listing.files:
        name = entry.name
        if name.startswith("._"):  # what macOS adds to each file on other file systems
            continue
        # A dangling link, or a file that was deleted meanwhile.
        with contextlib.suppress(OSError):
            if name.endswith(SUFFIXES):
                files[name] = entry.stat()  # a FIFO too: it is reported later
            elif name.endswith(SEGMENT_SUFFIX):
                beside[name] = entry.stat()
    if listing.is_below:
        files = _without_foreign(listing.path, files)
    if not listing.is_below or files or beside:
        index.forget_all_but(folder, files)
    return _chosen(folder, files, beside)


def _chosen(
    folder: Path, files: dict[str, os.stat_result], beside: Mapping[str, os.stat_result]
) -> list[Path]:
    """The file of each run: its run JSON, or its journal if that has more."""
    segments: dict[str, dict[str, os.stat_result]] = {}  # by journal
    has_orphans = False
    for name, stat_ in beside.items():
        journal = _journal_of_segment(name, files)
        has_orphans |= not journal
        if journal:
            segments.setdefault(journal, {})[name] = stat_

    def changed_ns(name: str) -> int:
        return max(s.st_mtime_ns for s in (files[name], *segments.get(name, {}).values()))

    if STUDY in files:  # the study's own journal is not a run
        files = {n: status for n, status in files.items() if os.path.splitext(n)[0] != "study"}
    chosen = []
    for name in latest((name, changed_ns(name)) for name in sorted(files)):
        stem = name.rpartition(".")[0]
        snapshot, journal = stem + eventlog.RUN_JSON_SUFFIX, stem + eventlog.JOURNAL_SUFFIX
        if name == snapshot:
            if journal in files and _goes_on_elsewhere(folder / snapshot):
                name = journal
        elif snapshot in files:
            sizes = {segment: s.st_size for segment, s in segments.get(name, {}).items()}
            if has_all(folder / snapshot, files[name].st_size, sizes):
                name = snapshot
        chosen.append(folder / name)
    return _with_orphans(folder, chosen) if has_orphans else chosen


def _without_foreign(folder: str, files: Mapping[str, os.stat_result]) -> dict[str, os.stat_result]:
    """The files of runs that begin like a run, and what belongs to the same run."""
    begins = {
        os.path.splitext(name)[0]
        for name, status in files.items()
        if _begins_like_a_run(f"{folder}{os.sep}{name}", status)
    }
    return {name: status for name, status in files.items() if os.path.splitext(name)[0] in begins}


_are_runs: set[tuple[int, int]] = set()
_are_not: set[tuple[int, int, int, int]] = set()


def _begins_like_a_run(path: str, status: os.stat_result) -> bool:
    """Whether a file begins like a run JSON or a journal; it is read once and after a change."""
    if not stat.S_ISREG(status.st_mode):  # opening a FIFO would block
        return False
    inode = (status.st_dev, status.st_ino)
    known = (*inode, status.st_size, status.st_mtime_ns)
    if inode in _are_runs or known in _are_not:
        return inode in _are_runs
    if len(_are_runs) + len(_are_not) > _REMEMBERED_MAX:
        _are_runs.clear()
        _are_not.clear()
    is_run = False
    with contextlib.suppress(OSError):
        if path.endswith(eventlog.JOURNAL_SUFFIX):
            is_run = eventlog.begins_like_journal(path)
        else:
            with open(path, "rb", buffering=0) as file:
                head = file.read(_HEAD_BYTES)
            is_run = head.lstrip()[:1] == b"{" and any(sign in head for sign in _SIGNS)
    if is_run:
        _are_runs.add(inode)
    else:
        _are_not.add(known)
    return is_run


def _with_orphans(folder: Path, chosen: list[Path]) -> list[Path]:
    """The run files, with the segments of runs whose journal is gone.

    Such a segment takes the place of a run JSON that has fewer of its records, and of the one that
    `eventlog compact` made of it: nothing tells that one when the segment grows.
    """
    listed = set(chosen)
    for segment in eventlog.find_orphans(folder):
        snapshot = folder / f"{stem_of(segment)}{eventlog.RUN_JSON_SUFFIX}"
        listed.discard(segment.with_suffix(eventlog.RUN_JSON_SUFFIX))
        if snapshot in listed and _has_all_of(snapshot, segment):
            continue
        if snapshot in listed and _begins(segment, snapshot):
            listed.remove(snapshot)
        listed.add(segment)
    return sorted(listed)


def _has_all_of(snapshot: Path, segment: Path) -> bool:
    """Whether a run JSON has all bytes of a segment."""
    try:
        folded = ends.folded(snapshot)
        return folded is not None and folded.segments.get(segment.name) == segment.stat().st_size
    except OSError:
        return False


def _begins(segment: Path, snapshot: Path) -> bool:
    """Whether a segment has the session of a run JSON from its first record on."""
    try:
        run = ends.read(snapshot)
        records = (r for r in eventlog.scan(segment) if eventlog.header_fields(r) is None)
        first = next(records, None)
    except (eventlog.EventlogError, OSError):
        return False
    sessions = run.journal.get("sessions") if run is not None else None
    return (
        first is not None
        and first.n == 0
        and any(isinstance(row, dict) and row.get("s") == first.s for row in sessions or ())
    )


def _journal_of_segment(name: str, files: Mapping[str, Any]) -> str | None:
    """The journal in the folder that a segment belongs to by its name."""
    for n_dots in (4, 3):  # <stem>.<run id>.<session>.<k>.segment, and without the run id
        stem = name.rsplit(".", n_dots)[0]
        journal = stem + eventlog.JOURNAL_SUFFIX
        if journal in files and parse_segment_name(name, stem):
            return journal
    return None


def has_all(snapshot: Path, journal_bytes: int, segment_bytes: Mapping[str, int]) -> bool:
    """Whether the run JSON of an ended run has all of its journal, by size and not by time.

    The files of a copied folder have times in any order. Reading every journal would be slow.
    """
    try:
        folded = ends.folded(snapshot)
    except OSError:
        return False
    if folded is None or folded.journal != journal_bytes:
        return False
    return folded.segments == {**_elsewhere(snapshot, folded), **segment_bytes}


def _goes_on_elsewhere(snapshot: Path) -> bool:
    """Whether the fallback folder has segments that the run JSON of an ended run has not.

    The folder of the journal may have been read-only, so that no newer run JSON is there.
    """
    try:
        folded = ends.folded(snapshot)
    except OSError:
        return False
    return folded is not None and not (
        _elsewhere(snapshot, folded).items() <= folded.segments.items()
    )


def _elsewhere(snapshot: Path, folded: ends.Folded) -> Mapping[str, int]:
    """The segments in the fallback folders of a run."""
    sizes: dict[str, int] = {}
    for folder in folded.fallbacks:
        if folder != snapshot.parent:
            sizes |= beside.segment_sizes(stem_of(snapshot), folder)
    return sizes


def latest(files: Iterable[tuple[str, int]]) -> list[str]:
    """The file of each run: its run JSON, or its journal if that changed later."""
    chosen: dict[str, tuple[str, int]] = {}
    for name, changed_ns in files:
        stem, _, suffix = name.rpartition(".")
        known = chosen.get(stem)
        is_later = known is None or changed_ns > known[1]
        if is_later or (suffix == "jsonl" and known is not None and changed_ns == known[1]):
            chosen[stem] = (name, changed_ns)
    return [name for name, _ in chosen.values()]


def journal_of(path: Path) -> Path:
    """The journal that belongs to a run file, whether it exists or not; a segment that is listed
    as a run stands for its journal, which is gone."""
    return path if is_journal(path) else eventlog.journal_path(path)


def is_journal(path: Path) -> bool:
    """Whether a run file has records: a journal, or a segment that stands for it."""
    return path.suffix in (eventlog.JOURNAL_SUFFIX, SEGMENT_SUFFIX)


def stem_of(path: Path) -> str:
    """The beginning of the names of all files of a run."""
    orphan = eventlog.parse_orphan(path)
    return path.stem if orphan is None else orphan[0]
