"""Compares a run's files with its archived copy, which keeps whatever the run no longer has.

A run replaces its archived copy only if nothing that is archived gets lost: each archived file is
still there and begins with what is archived of it. A missing file is carried over from the archived
copy. A run with a file that is shorter or different is refused.
"""

import os
import shutil
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

import orjson

import eventlog

from ..core.runs import Refusal
from . import bundle
from .bundle import Original, Packed
from .catalog import Entry
from .store import READ_BYTES, Damaged, Store

Growth = Literal["same", "longer", "shorter", "other"]

_GROWING = (eventlog.JOURNAL_SUFFIX, eventlog.RANK_SUFFIX, eventlog.SEGMENT_SUFFIX)


@dataclass(frozen=True)
class Comparison:
    """What a run has, compared with what is archived of it."""

    grown: frozenset[str]
    """Its files that the archive does not have, or that have more than is archived."""
    missing: frozenset[str]
    """The archived files that it does not have."""
    is_equal: bool
    """Its files are those that are archived."""


def compare(store: Store, old: Entry, files: Iterable[Path]) -> Comparison:
    """Compare all files of a run, in whatever folder, with its archived copy.

    Raises:
        Refusal: a file has other content than is archived of it, or less while others have grown.
        Damaged: the archived copy is damaged.
        OSError: a file cannot be read.
    """
    paths = {path.name: path for path in files}
    archived = {file.name: file for file in old.files}
    changed = [n for n, f in archived.items() if n in paths and not _is_same(paths[n], f)]
    growths = _growths(store, old, paths, changed) if changed else {}
    new = paths.keys() - archived.keys()
    grown = new | {name for name, growth in growths.items() if growth == "longer"}
    for name, growth in growths.items():
        if growth == "other" or (growth == "shorter" and grown):
            raise Refusal(_refusal(store, old, paths[name], archived[name], growth))
    missing = archived.keys() - paths.keys()
    is_equal = not (changed or new or missing)
    return Comparison(frozenset(grown), frozenset(missing), is_equal)


def carry_over(store: Store, old: Entry, names: Collection[str], folder: Path) -> dict[Path, str]:
    """Write these archived files of a run to `folder`, with their times.

    Returns their paths, each with the folder that it was archived from if that was another one
    than the journal's.

    Raises:
        Damaged: the archived copy is damaged.
    """
    store.check(old.bundle)
    folders = {file.name: file.folder for file in old.files if file.name in names}
    kept = {}
    with store.read(old.bundle.name) as stream:
        for packed in bundle.unpack(stream):
            if packed.name in folders:
                kept[write(packed, folder)] = folders.pop(packed.name)
    if folders:
        raise Damaged(f"{old.bundle.name}: damaged: it has no {min(folders)}")
    return kept


def write(packed: Packed, folder: Path) -> Path:
    """Write a file of a bundle to `folder`, with its time."""
    path = folder / packed.name
    bundle.check_space(packed, folder)
    with path.open("xb") as file:
        shutil.copyfileobj(packed.content, file)
    os.utime(path, ns=(packed.mtime_ns, packed.mtime_ns))
    return path


def _is_same(path: Path, archived: Original) -> bool:
    return (
        path.stat().st_size == archived.size_bytes and eventlog.sha256_of(path) == archived.sha256
    )


def _growths(
    store: Store, old: Entry, paths: Mapping[str, Path], changed: Iterable[str]
) -> dict[str, Growth]:
    store.check(old.bundle)
    left = set(changed)
    found: dict[str, Growth] = {}
    with store.read(old.bundle.name) as stream:
        for packed in bundle.unpack(stream):
            if packed.name in left:
                left.remove(packed.name)
                found[packed.name] = _growth_of(packed, paths)
    if left:
        raise Damaged(f"{old.bundle.name}: damaged: it has no {min(left)}")
    return found


def _growth_of(packed: Packed, paths: Mapping[str, Path]) -> Growth:
    path = paths[packed.name]
    if packed.name.endswith(eventlog.RUN_JSON_SUFFIX):
        kept = [p for name, p in paths.items() if name.endswith(eventlog.BEFORE_LOSS_SUFFIX)]
        return _growth_of_run_json(packed.content.read(), path, kept)
    with path.open("rb") as new:
        if packed.name.endswith(_GROWING):
            return growth(packed.content, new)
        return _growth_of_fixed(packed.content, new)


def _refusal(store: Store, old: Entry, path: Path, archived: Original, growth: Growth) -> str:
    """Why a run does not replace its archived copy, and what to do."""
    if archived.name.endswith(eventlog.RUN_JSON_SUFFIX):
        what = "was made from fewer records than the archived one, which is kept"
    elif growth == "shorter":
        what = (
            f"has less than what was archived of it, which is kept: expected the "
            f"{archived.size_bytes:,} bytes that are archived, found {path.stat().st_size:,}"
        )
    elif path.name.endswith(_GROWING):
        what = "no longer begins with what was archived of it, which is kept"
    else:
        what = "is not what was archived of it, which is kept"
    return (
        f"{path}: {what}. To get the archived files: runs archive --to {store.url} --restore "
        f"{old.run_id} --out DIR; --replace archives the run as it is now"
    )


# ---- files with records


def growth(old: IO[bytes], new: IO[bytes]) -> Growth:
    """How a file of records changed: it only grows, except for an incomplete last line.

    `longer`: `new` begins with all records and complete lines of `old`; `shorter`: the reverse;
    `other`: neither.
    """
    line = b""  # what both have of their current line
    while True:
        one, other = _read_full(old), _read_full(new)
        if one == other:
            if not one:
                return "same"
            line = (line + one).rpartition(b"\n")[2]
            continue
        pairs = enumerate(zip(one, other, strict=False))
        at = next((at for at, (a, b) in pairs if a != b), min(len(one), len(other)))
        line = (line + one[:at]).rpartition(b"\n")[2]
        if not _has_more(line, one[at:], old):
            return "longer"
        return "other" if _has_more(line, other[at:], new) else "shorter"


def _read_full(stream: IO[bytes]) -> bytes:
    pieces, left = [], READ_BYTES
    while left and (piece := stream.read(left)):
        pieces.append(piece)
        left -= len(piece)
    return b"".join(pieces)


def _has_more(line: bytes, rest: bytes, stream: IO[bytes]) -> bool:
    """Whether `rest` and the remaining `stream` end a line, or have a record, after `line`."""
    scanner = eventlog.Scanner()
    records = scanner.feed(line)
    piece = rest
    while piece:
        if b"\n" in piece:
            return True
        records += scanner.feed(piece)
        piece = stream.read(READ_BYTES)
    records += scanner.finish()  # a record whose line end was not written
    return any(record.offset + len(record.line) > len(line) for record in records)


# ---- files that do not grow


def _growth_of_fixed(old: IO[bytes], new: IO[bytes]) -> Growth:
    while True:
        one, other = _read_full(old), _read_full(new)
        if one != other:
            return "shorter" if one.startswith(other) else "other"
        if not one:
            return "same"


def _growth_of_run_json(old: bytes, path: Path, kept: Iterable[Path]) -> Growth:
    """`kept`: run JSONs that were kept before a loss."""
    before, now = _records_of(old), _records_of(path.read_bytes())
    with_kept = now.copy()
    for run_json in kept:
        with_kept |= _records_of(run_json.read_bytes())  # of each session the larger number
    if before <= with_kept:
        return "longer"
    return "shorter" if now <= before else "other"


def _records_of(run_json: bytes) -> Counter[str]:
    """How many records of each session a run JSON was made from, and under "" of all."""
    try:
        journal = orjson.loads(run_json)["journal"]
        numbers = {"": journal["records"]} | (journal.get("annotators") or {})
        numbers |= {session["s"]: session["records"] for session in journal["sessions"]}
        return Counter({s: n for s, n in numbers.items() if type(n) is int})
    except (ValueError, TypeError, LookupError, AttributeError):
        return Counter()
