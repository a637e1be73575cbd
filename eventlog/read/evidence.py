"""Losses that leave no gap in the journal itself.

Files with the content of large events, and records that the run JSON was made from.
"""

import errno
import glob
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import chain, count
from pathlib import Path
from typing import Any

import orjson

from eventlog.blocks import check_is_file, open_to_read, read_at, read_chunks
from eventlog.format.files import BEFORE_LOSS_SUFFIX
from eventlog.interruption import ignoring
from eventlog.read.candidates import aside_path
from eventlog.read.defects import Defect
from eventlog.read.reader import Aside, Reader
from eventlog.read.sequence import SequenceCheck

_JOURNAL_MARK = b'\n  "journal": {'
_MOST_BYTES = 64 << 20  # of the end of a run JSON: sessions, defects, notes


@dataclass
class Known:
    """How many records there were when a run JSON was made."""

    file: str = ""
    journal: str = ""
    """The name of the journal that it was made from."""
    sessions: dict[str, int] = field(default_factory=dict)
    """Of each session, annotators included."""
    annotators: set[str] = field(default_factory=set)
    gaps: dict[str, int] = field(default_factory=dict)
    """How many records of each session were missing by then."""
    n_annotations: int = 0
    """Records of annotators that it does not name, as earlier versions did not."""
    searched: dict[str, int] = field(default_factory=dict)
    """Records of sessions that had ended, and whose folders could all be read."""
    unreadable: list[str] = field(default_factory=list)
    """Run JSONs that were kept before a loss and cannot be read."""


def known_from(run_json: Path) -> Known:
    """The numbers of records in the run JSON, and in those kept before a loss."""
    known = stated_by(run_json)
    for path in kept_before_loss(run_json):
        if journal_part(path) is None:
            known.unreadable.append(path.name)
            continue
        kept = stated_by(path)
        known.annotators |= kept.annotators
        for s, n in kept.sessions.items():
            if n >= known.sessions.get(s, 1):
                known.sessions[s], known.file = n, path.name
        if kept.n_annotations >= max(1, known.n_annotations):
            known.n_annotations, known.file = kept.n_annotations, path.name
    return known


def kept_before_loss(run_json: Path) -> list[Path]:
    """The run JSONs that were made from more records than their journal had later."""
    name = glob.escape(run_json.name)
    patterns = (f"{name}{BEFORE_LOSS_SUFFIX}", f"{name}.*{BEFORE_LOSS_SUFFIX}")
    with ignoring(OSError):  # the name would be too long
        return sorted(path for pattern in patterns for path in run_json.parent.glob(pattern))
    return []


def name_before_loss(run_json: Path) -> Path:
    """A free name for one more of them."""
    used = {path.name for path in kept_before_loss(run_json)}
    numbers = chain([""], (f".{k}" for k in count(2)))
    names = (f"{run_json.name}{number}{BEFORE_LOSS_SUFFIX}" for number in numbers)
    return run_json.with_name(next(name for name in names if name not in used))


def n_not_here(
    known: Known, sequence: SequenceCheck, sessions: Iterable[str], others: set[str]
) -> int:
    """How many of the records that a run JSON was made from are in no file any more.

    `sessions`, `others`: as for `fewer_records`.
    """
    of_sessions = sum(
        max(0, n - sequence.n_below(s, n + known.gaps.get(s, 0)))
        for s, n in known.sessions.items()
        if s not in others
    )
    return of_sessions + _n_annotations_lost(known, sequence, sessions)


def _n_annotations_lost(known: Known, sequence: SequenceCheck, sessions: Iterable[str]) -> int:
    if sequence.has_foreign:
        return 0
    n_here = sequence.n_records - sum(map(sequence.n_admitted, sessions))
    return max(0, known.n_annotations - n_here)


def stated_by(run_json: Path) -> Known:
    """The numbers of records in one run JSON; zeros if it has none or does not exist."""
    journal = journal_part(run_json)
    if journal is None and _is_damaged(run_json):
        return Known(unreadable=[run_json.name])
    if not isinstance(journal, dict) or not isinstance(journal.get("sessions"), list):
        return Known()
    known = Known(run_json.name, str(journal.get("file") or ""))
    for row in journal["sessions"]:
        s, n = (row.get("s"), row.get("records")) if isinstance(row, dict) else (None, None)
        if isinstance(s, str) and type(n) is int:
            known.sessions[s] = n
    annotators = journal.get("annotators")
    for s, n in annotators.items() if isinstance(annotators, dict) else ():
        if type(n) is int:
            known.sessions[s] = n
            known.annotators.add(s)
    if journal.get("status") not in (None, "running", "unknown"):
        known.searched = dict(known.sessions)
    defects = journal.get("defects")
    for defect in defects if isinstance(defects, list) else ():
        if isinstance(defect, dict) and defect.get("kind") == "missing_folder":
            known.searched.clear()
        if isinstance(defect, dict) and defect.get("kind") == "gap":
            s, n = defect.get("session"), defect.get("lost")
            if isinstance(s, str) and type(n) is int:
                known.gaps[s] = known.gaps.get(s, 0) + n
    records = journal.get("records")
    if type(records) is int:
        known.n_annotations = records - sum(known.sessions.values())
    return known


def _is_damaged(run_json: Path) -> bool:
    """Whether it is a file, and no JSON: a run JSON is written whole or not at all."""
    try:
        check_is_file(run_json)
        data = run_json.read_bytes()
        orjson.loads(data or b"{}")  # an empty one has nothing to be lost
    except OSError as error:
        return error.errno == errno.EIO
    except ValueError:
        return True
    return False


def journal_part(run_json: Path) -> Any:
    """`journal` of a run JSON, from its end; None: it has none, is damaged or does not exist."""
    try:
        fd = open_to_read(run_json)
    except (OSError, ValueError):
        return None
    try:
        size = os.fstat(fd).st_size
        n_bytes = 1 << 16
        while True:
            tail = read_at(fd, max(0, size - n_bytes), n_bytes)
            at = tail.rfind(_JOURNAL_MARK)
            if at >= 0:
                return orjson.loads(b"{" + tail[at:])["journal"]
            if n_bytes >= min(size, _MOST_BYTES):
                break
            n_bytes *= 8
        if size > _MOST_BYTES:
            return None
        return orjson.loads(read_at(fd, 0, size))["journal"]  # formatted by another program
    except (OSError, ValueError, KeyError, TypeError):
        return None
    finally:
        os.close(fd)


def fewer_records(
    known: Known, sequence: SequenceCheck, sessions: Iterable[str], others: set[str]
) -> Iterator[Defect]:
    """The records of a run JSON that are in no file any more, and that no gap counts.

    `sessions`: those of the run now; what else it has are annotations. `others`: sessions of
    other runs, which earlier versions took for the run's where they had one fallback folder.
    """
    for s, n in known.sessions.items():
        lost = n - sequence.n_admitted(s) - sequence.lost_of(s)
        if lost > 0 and s not in others:
            yield _fewer(known, lost, n, s)
    lost = _n_annotations_lost(known, sequence, sessions)
    if lost:
        yield _fewer(known, lost, known.n_annotations, "")
    for name in known.unreadable:
        yield Defect("fewer_records", -1, lost=None, detail=f"{name} cannot be read")


def _fewer(known: Known, lost: int, n: int, s: str) -> Defect:
    what = "" if s and s not in known.annotators else " of notes, tags and alerts"
    return Defect(
        "fewer_records", -1, session=s, lost=lost, detail=f"{known.file} was made from {n:,}{what}"
    )


def aside_defects(reader: Reader, *, with_content: bool) -> list[Defect]:
    """The files of large events that are missing, or are not what was written.

    `with_content`: read them and compare the checksums, and not only their sizes.
    """
    events: dict[tuple[str, ...], dict[int, Aside]] = {}
    for aside in reader.asides:
        key = (aside.s, *map(repr, (aside.name, aside.size_bytes, aside.sha256)))
        events.setdefault(key, {}).setdefault(aside.n, aside)
    defects = []
    for named in events.values():
        wrong = _what_is_wrong(next(iter(named.values())), reader, with_content)
        if wrong is not None:
            defects.append(_defect(named, *wrong))
    return defects


def _what_is_wrong(aside: Aside, reader: Reader, with_content: bool) -> tuple[str, str] | None:
    """The kind of defect and the detail; None: a folder of the run has the file as it was."""
    name = aside.name
    if not isinstance(name, str) or name in ("", ".", "..") or Path(name).name != name:
        return "damaged_aside", f"{name!r} is not a file name"
    missing = damaged = ""
    for folder in dict.fromkeys([aside.folder, *reader.folders]):
        path = aside_path(folder, name, aside.sha256, reader.path.stem)
        try:
            fd = open_to_read(path)
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else str(error)
            missing = missing or f"{path}: {why}"
            continue
        try:
            wrong = _compare(fd, path, aside, with_content)
        except OSError as error:
            wrong = error.strerror or str(error)
        finally:
            os.close(fd)
        if not wrong:
            return None
        damaged = damaged or f"{path}: {wrong}"
    return ("damaged_aside", damaged) if damaged else ("missing_aside", missing)


def _compare(fd: int, path: Path, aside: Aside, with_content: bool) -> str:
    """How a file differs from what was written; empty: it does not."""
    size = os.fstat(fd).st_size
    if type(aside.size_bytes) is int and size != aside.size_bytes:
        return f"has {size:,} bytes, was written with {aside.size_bytes:,}"
    if with_content:
        digest = sha256()
        holes: list[int] = []
        for chunk in read_chunks(path, 0, lambda offset, size_bytes: holes.append(size_bytes)):
            digest.update(chunk)
        if holes:
            return f"{sum(holes):,} bytes are unreadable"
        if digest.hexdigest() != aside.sha256:
            return "its SHA-256 is not that of what was written"
    return ""


def _defect(named: dict[int, Aside], kind: str, detail: str) -> Defect:
    """The events of a session, by number, whose content is lost with one file."""
    first = named[min(named)]
    return Defect(
        kind,
        first.offset,
        session=first.s,
        first_n=first.n,
        last_n=max(named),
        lost=len(named),
        file=first.file,
        detail=detail,
    )
