"""The names of a run's files, and which files of a folder belong to which run.

A name in an archive may come from an untrusted source. `check_file_name` decides which names are
allowed: those of a run's files, in one folder, not hidden.
"""

import contextlib
import os
import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import eventlog
from eventlog import (
    ASIDE_SUFFIX,
    PRUNED_SUFFIX,
    RANK_SUFFIX,
    RUN_JSON_SUFFIX,
    SEGMENT_SUFFIX,
    TORN_SUFFIX,
    aside_name,
    is_shortened_aside,
    parse_orphan,
    parse_segment_name,
    short_run_id,
)
from eventlog import BEFORE_LOSS_SUFFIX as LOSS_SUFFIX

from ..core import runs
from ..core.history import STORED

SUFFIXES = (
    *runs.SUFFIXES, SEGMENT_SUFFIX, TORN_SUFFIX, ASIDE_SUFFIX, RANK_SUFFIX, LOSS_SUFFIX,
)  # fmt: skip
NAME_BYTES = 255  # what file systems allow

_DIRECTIONS = frozenset({"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"})
_RANK = re.compile(r"(?P<stem>.+)\.rank\d+", re.DOTALL)
_BEFORE_LOSS = re.compile(rf"(?P<stem>.+){re.escape(RUN_JSON_SUFFIX)}(\.\d+)?", re.DOTALL)
_RANK_END = re.compile(r"rank\d+\.")
_TORN_END = re.compile(r"[^.]+")
_ASIDE_END = re.compile(
    r"[0-9a-f]{32}"  # named after its content
    r"|[^.]+\.\d+\..+",  # <session>.<n>.<kind>; a kind may have dots
    re.DOTALL,
)


# ---- one name


def check_file_name(name: object, stem: str | None = None) -> str:
    """`name`, if a file of a run (of the run `stem`, if given) can have it.

    Raises:
        ValueError: it cannot.
    """
    if not isinstance(name, str) or not name:
        raise ValueError(f"{name!r}: must be the name of a file")
    if "/" in name or "\\" in name or name in (".", ".."):
        raise ValueError(f"{name!r}: must be a file name without a folder")
    if name.startswith("."):
        raise ValueError(f"{name!r}: must not begin with a dot")
    if any(_is_control(c) for c in name) or len(os.fsencode(name)) > NAME_BYTES:
        raise ValueError(f"{name!r}: has control characters, or more than {NAME_BYTES} bytes")
    if not name.endswith(SUFFIXES):
        raise ValueError(f"{name!r}: is not a file of a run ({', '.join(SUFFIXES)})")
    if stem is not None and not (name.startswith(f"{stem}.") or is_shortened_aside(name, stem)):
        raise ValueError(f"{name!r}: is not a file of the run {stem!r}")
    return name


def check_file_names(names: Iterable[object]) -> list[str]:
    """The names of all files of one run, if each is allowed and none occurs twice.

    Raises:
        ValueError: they are not.
    """
    checked = [check_file_name(name) for name in names]
    stems = {
        os.path.splitext(name)[0]
        for name in checked
        if name.endswith(runs.SUFFIXES) and not _made_of_segment(name, checked)
    }
    if len(stems) > 1:
        raise ValueError(f"files of several runs: {', '.join(sorted(stems))}")
    for stem in stems:
        for name in checked:
            check_file_name(name, stem)
    if len(set(checked)) < len(checked):
        raise ValueError("two files of the same name")
    return checked


def _is_control(c: str) -> bool:
    kind = unicodedata.category(c)
    return kind in ("Cc", "Zl", "Zp") or unicodedata.bidirectional(c) in _DIRECTIONS


# ---- names in an archive

MONTH = r"(?:\d{4}-\d{2}|unknown)"
_STORED = re.compile(
    rf"README\.txt|runs/[^/.][^/]*\.parquet"
    rf"|(?:{'|'.join(STORED)})/month={MONTH}/[^/.][^/]*\.parquet"
    rf"|journals/month={MONTH}/[^/.][^/]*\.tar\.zst",
    re.ASCII,
)


def check_stored_name(name: object) -> str:
    """`name`, if the manifest or index of an archive can contain it.

    Raises:
        ValueError: it cannot.
    """
    if not isinstance(name, str) or _STORED.fullmatch(name) is None:
        raise ValueError(f"{name!r}: is not the name of a file of an archive")
    return check_path(name)


def check_path(name: str) -> str:
    """`name`, if it is a relative path that does not leave its folder.

    Raises:
        ValueError: it is not.
    """
    parts = name.split("/")
    if "\\" in name or any(part in ("", ".", "..") for part in parts):
        raise ValueError(f"{name!r}: leads out of the archive")
    if any(map(_is_control, name)):
        raise ValueError(f"{name!r}: has control characters")
    return name


# ---- the files of a folder


def group(folder: Path) -> dict[str, list[Path]]:
    """The files in `folder` that belong to runs, by the stem of the run; without links.

    The journal of a run that `runs prune` began to delete is alone, under its own name, if the
    folder has a run of that stem again, restored or new: the other files belong to that one.
    """
    with os.scandir(folder) as entries:
        names = sorted(e.name for e in entries if e.is_file(follow_symlinks=False))
    present = {
        os.path.splitext(name)[0]
        for name in names
        if name.endswith(runs.SUFFIXES) and not _made_of_segment(name, names)
    }
    stems = present | {
        name.removesuffix(PRUNED_SUFFIX) for name in names if name.endswith(PRUNED_SUFFIX)
    }
    found: dict[str, list[Path]] = {}
    for name in names:
        stem = _stem(_made_of_segment(name, names) or name, stems)
        if name.endswith(PRUNED_SUFFIX) and stem in present:
            stem = name
        if stem is not None:
            found.setdefault(stem, []).append(folder / name)
    return found


def _stem(name: str, stems: set[str]) -> str | None:
    """The stem of the run that a file belongs to: of those in the folder, else by its name."""
    begin, suffix = os.path.splitext(name)
    if suffix in runs.SUFFIXES:
        return begin
    if name.endswith(PRUNED_SUFFIX):
        return name.removesuffix(PRUNED_SUFFIX)
    if suffix in (RANK_SUFFIX, LOSS_SUFFIX):
        match = (_RANK if suffix == RANK_SUFFIX else _BEFORE_LOSS).fullmatch(begin)
        return match["stem"] if match else None
    if suffix not in (SEGMENT_SUFFIX, TORN_SUFFIX, ASIDE_SUFFIX):
        return None
    dots = [at for at, c in enumerate(begin) if c == "."]
    fitting = [begin[:at] for at in dots if _belongs(name, begin[:at])]
    known = [stem for stem in fitting if stem in stems]  # the longest: `a.b` before `a`
    known = known or [stem for stem in stems if is_shortened_aside(name, stem)]
    orphan = parse_orphan(Path(name))  # nothing else of its run is here
    chosen = known or ([orphan[0]] if orphan else fitting)
    return chosen[-1] if chosen else None


def _made_of_segment(name: str, names: Collection[str]) -> str:
    """The segment of which a run JSON was made, if that is among the names; else empty."""
    segment = f"{name.removesuffix(RUN_JSON_SUFFIX)}{SEGMENT_SUFFIX}"
    is_one = name.endswith(RUN_JSON_SUFFIX) and parse_orphan(Path(name).with_suffix(SEGMENT_SUFFIX))
    return segment if is_one and segment in names else ""


def _belongs(name: str, stem: str) -> bool:
    """Whether a segment, an aside or a torn tail belongs to the run `stem` or one of its ranks."""
    if match := _RANK_END.match(name, len(stem) + 1):
        stem = name[: match.end() - 1]
    begin, suffix = os.path.splitext(name)
    if suffix == SEGMENT_SUFFIX:
        return parse_segment_name(name, stem) is not None
    end = _TORN_END if suffix == TORN_SUFFIX else _ASIDE_END
    return end.fullmatch(begin, len(stem) + 1) is not None


# ---- the files of a run


def only_its_own(files: Iterable[Path]) -> list[Path]:
    """The files of a run among those with its stem: a segment may belong to an earlier run."""
    files = list(files)
    ids = {short_run_id(id) for path in files if _has_records(path) for id in _first_run_id(path)}
    return [path for path in files if not ids or _run_of_segment(path.name) in ("", *ids)]


def _run_of_segment(name: str) -> str:
    """The run id in the name of a segment; empty if it has none."""
    if not name.endswith(SEGMENT_SUFFIX):
        return ""
    parts = name.split(".")
    for at in range(1, len(parts)):
        found = parse_segment_name(name, ".".join(parts[:at]))
        if found is not None:
            return found.run
    return ""


def _has_records(path: Path) -> bool:
    return path.name.endswith((eventlog.JOURNAL_SUFFIX, RANK_SUFFIX, PRUNED_SUFFIX))


def _first_run_id(path: Path) -> Iterator[str]:
    with contextlib.suppress(OSError, eventlog.EventlogError):
        eventlog.check_is_file(path)
        for record in islice(eventlog.scan(path), 1):
            if isinstance(id := record.fields.get("run_id"), str):
                yield id


class _Opened(NamedTuple):
    """Where the records of a journal say that its other files are."""

    run_ids: set[str]
    sessions: set[str]
    folders: dict[Path, None]
    asides: set[str]


def elsewhere(files: Iterable[Path]) -> list[Path]:
    """The segments and asides of a run in its `fallback` folders.

    `files` are those beside the journal; one of them with the same name and the same bytes is not
    returned again.

    Raises:
        Refusal: the run was renamed without a file of a large event: that is not one of its files.
    """
    files = list(files)
    beside = {path.name: path for path in files}
    found: dict[str, Path] = {}
    for journal in filter(_has_records, files):
        opened = _read_opened(journal)
        _check_asides(journal, opened.asides - beside.keys(), beside.keys())
        for folder in opened.folders:
            for path in _in_fallback(folder, journal, opened):
                known = found.get(path.name) or beside.get(path.name)
                if known is None or not _is_same(known, path):
                    found[path.name] = path
    return [found[name] for name in sorted(found)]


def _check_asides(journal: Path, names: Iterable[str], beside: Collection[str]) -> None:
    """Raise Refusal for a file of this name in the journal's folder: it has another run's."""
    for name in names:
        own = aside_name(journal.stem, name.removesuffix(ASIDE_SUFFIX).rpartition(".")[2])
        is_here = own == name or own in beside
        if not is_here and os.path.isfile(journal.parent / os.path.basename(name)):
            raise runs.Refusal(
                f"{journal}: its large event is in {name}, which is called like a file of another "
                f"run. Copy it to {own}"
            )


def _read_opened(journal: Path) -> _Opened:
    opened = _Opened(set(), set(), {}, set())
    for record in eventlog.scan(journal):
        opened.sessions.add(record.s)
        if record.event == "open":
            if isinstance(id := record.fields.get("run_id"), str):
                opened.run_ids.add(id)
            folder = record.fields.get("fallback")
            if isinstance(folder, str) and "\0" not in folder:
                opened.folders.setdefault(Path(folder))
        if b'"set_aside"' in record.line:
            opened.asides.update(_asides(record.fields))
    home = journal.parent.resolve()
    for folder in [f for f in opened.folders if f.resolve() == home]:
        del opened.folders[folder]
    return opened


def _asides(fields: object) -> Iterator[str]:
    """The files into which the values of an event were set aside, nested fields included."""
    if isinstance(fields, dict):
        for name, value in fields.items():
            if name == "set_aside" and isinstance(value, dict):
                if isinstance(file := value.get("file"), str):
                    yield file
            else:
                yield from _asides(value)


def _in_fallback(folder: Path, journal: Path, opened: _Opened) -> Iterator[Path]:
    short_ids = {"", *map(short_run_id, opened.run_ids)}
    try:
        names = sorted(
            e.name for e in os.scandir(folder) if e.is_file(follow_symlinks=False)
        )  # not a FIFO, a folder or a link
    except OSError:  # a fallback folder need not exist
        return
    for name in names:
        segment = parse_segment_name(name, journal.stem)
        is_ours = segment is not None and segment.run in short_ids
        if is_ours and segment is not None and not segment.run:  # an old name: by its session
            is_ours = segment.s in opened.sessions
        if is_ours or name in opened.asides:
            with contextlib.suppress(ValueError):
                yield folder / check_file_name(name, journal.stem)


def _is_same(one: Path, other: Path) -> bool:
    if one.stat().st_size != other.stat().st_size:
        return False
    with one.open("rb") as a, other.open("rb") as b:
        while chunk := a.read(1 << 20):
            if chunk != b.read(len(chunk)):
                return False
    return True
