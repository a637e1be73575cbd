"""`runs prune`: delete old runs whose archived copy has the same bytes.

    runs prune out --older-than 30d --keep-best 10 --archive /backup/runs
    runs prune out --older-than 30d --keep-best 10 --archive /backup/runs --yes

Without --yes it only prints what would be deleted.

A run is deleted if its files have not been written to for that long and it is not among the best by
validation loss. A live run is never deleted, nor a run whose files differ from the archive: each
bundle is read and compared first; `--unarchived` skips that. Checkpoints (`*.pt`) and links stay.
"""

import argparse
import itertools
import os
import re
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import eventlog

from ..core import runs
from ..core.formats import is_number, size
from ..core.library import need
from ..core.locks import lock
from ..core.options import whole
from ..core.runs import Found, Refusal
from ..core.table import print, print_json, print_table, with_progress
from .files import elsewhere, group, only_its_own

if TYPE_CHECKING:
    from .catalog import Catalog

UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
COLUMNS = {
    "verdict": "", "run": "run", "age_days": "days", "best_val_loss": "best val",
    "size_mb": "MB", "why": "why",
}  # fmt: skip


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    command = commands.add_parser(
        "prune",
        help="Delete old runs that are archived; without --yes only print them.",
        description=(__doc__ or "").partition(": ")[2],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("folder", metavar="DIR")
    command.add_argument(
        "--keep-best",
        type=whole("--keep-best"),
        default=0,
        metavar="N",
        help="keep the N best runs",
    )
    command.add_argument("--older-than", metavar="AGE", help="90m, 12h, 30d, 8w: keep younger runs")
    command.add_argument("--archive", metavar="URL", help="the archive that must have the runs")
    command.add_argument("--unarchived", action="store_true", help="do not check the archive")
    command.add_argument("--yes", action="store_true", help="delete")
    command.add_argument("--json", action="store_true", help="one JSON object per line")
    command.set_defaults(run=_prune)


@dataclass
class Candidate:
    """A run, whether it is to be deleted, and `why` or why not."""

    found: Found
    files: list[Path]
    age_s: float
    goes: bool = True
    why: str = ""

    def __post_init__(self) -> None:
        self.seen = {path.name: _identity(path.lstat()) for path in self.files}

    @property
    def size_bytes(self) -> int:
        return sum(size_bytes for _, size_bytes, _ in self.seen.values())

    @property
    def is_begun(self) -> bool:
        """Whether an earlier prune was stopped while it deleted this run."""
        return _is_pruned(self.found.path)

    def keep(self, why: str) -> None:
        self.goes, self.why = False, why


def _prune(arguments: argparse.Namespace) -> int:
    age_s = _seconds(arguments.older_than) if arguments.older_than else 0.0
    if not arguments.older_than and arguments.keep_best < 1:
        raise Refusal("runs prune: give --older-than AGE, --keep-best N, or both")
    if bool(arguments.archive) == arguments.unarchived:
        raise Refusal("runs prune: give --archive URL, which must have the runs, or --unarchived")
    candidates = select_candidates(
        Path(arguments.folder),
        older_than_s=age_s,
        keep_best=arguments.keep_best,
        archive=arguments.archive,
    )
    n_failed = 0
    if arguments.yes:
        for candidate in with_progress([c for c in candidates if c.goes], "deleting"):
            try:
                delete(candidate)
            except (OSError, Refusal) as error:
                n_failed += 1
                candidate.keep(str(error))
    _print_candidates(candidates, arguments)
    return 1 if n_failed else 0


def select_candidates(
    folder: Path,
    *,
    older_than_s: float = 0.0,
    keep_best: int = 0,
    archive: str | None = None,
) -> list[Candidate]:
    """Every run in `folder`, the oldest first, and whether to delete it; nothing is deleted.

    `archive`: must have the same files; None: not checked.

    Raises:
        FileNotFoundError: no such folder, or no archive there.
        Refusal: the archive cannot be read.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder")
    opened = _open_archive(archive) if archive else None
    candidates = _candidates(folder, time.time())
    best = _best(candidates, keep_best)
    folders = {candidate.found.path.parent for candidate in candidates}
    links = {
        parent: [entry.name for entry in os.scandir(parent) if entry.is_symlink()]
        for parent in folders
    }
    for candidate in candidates:
        if candidate.is_begun:
            candidate.why = "an earlier prune began to delete it"
        elif why := _why_it_stays(candidate, links[candidate.found.path.parent]):
            candidate.keep(why)
        elif id(candidate) in best:
            candidate.keep(f"one of the {keep_best:,} best")
        elif candidate.age_s <= older_than_s:
            candidate.keep("not old enough")
    new = [c for c in candidates if c.goes and not c.is_begun]
    for candidate in with_progress(new, "comparing with the archive"):
        if (why := _why_not_all_here(candidate)) or (
            opened is not None and (why := _why_not_archived(candidate, opened))
        ):
            candidate.keep(why)
        else:
            candidate.why = "archived, compared" if opened else "not compared with an archive"
    return candidates


def _why_not_all_here(candidate: Candidate) -> str:
    """Why the files of a run in its folder are not all of it; empty: they are."""
    try:
        names = [path.name for path in elsewhere(candidate.files)]
    except Refusal as error:
        return str(error)
    return f"has files in another folder: {names[0]}" if names else ""


def _candidates(folder: Path, now_s: float) -> list[Candidate]:
    """Every run in `folder` with its files, the oldest first."""
    listed = [*map(runs.glance_at, runs.in_folder_or_study(folder))]
    groups = {parent: group(parent) for parent in {folder, *(f.path.parent for f in listed)}}
    listed += [
        Found(path, None)
        for files in itertools.chain.from_iterable(map(dict.values, groups.values()))
        for path in files
        if _is_pruned(path)
    ]
    candidates = []
    for found in listed:
        of_folder = groups[found.path.parent]
        alone = of_folder.get(found.path.name) if _is_pruned(found.path) else None
        files = only_its_own(alone or of_folder.get(_stem(found.path), []))
        candidates.append(Candidate(found, files, now_s - _changed_s(found.path, files)))
    return sorted(candidates, key=lambda candidate: -candidate.age_s)


def delete(candidate: Candidate) -> None:
    """Delete the files of a run. What a kill leaves is whole, or is no run for any reader.

    The run JSON goes first: the journal has all of it. Then the journal is renamed to what no
    reader takes for a journal, and is deleted last: by its name the next prune finds the rest.

    Raises:
        Refusal: it is being written, or a file has changed since it was compared.
        OSError: a file cannot be deleted.
    """
    journal = runs.journal_of(candidate.found.path)
    with _locked(journal):
        folder = os.open(journal.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for path in candidate.files:
                if _identity(os.lstat(path)) != candidate.seen[path.name]:
                    raise Refusal(f"{path}: was written to meanwhile; nothing of it was deleted")
            last = candidate.found.path
            if journal in candidate.files:
                last = _pruned_path(journal)
                snapshot = journal.with_name(f"{runs.stem_of(journal)}{eventlog.RUN_JSON_SUFFIX}")
                if snapshot in candidate.files:
                    os.unlink(snapshot.name, dir_fd=folder)
                os.rename(journal.name, last.name, src_dir_fd=folder, dst_dir_fd=folder)
            for path in candidate.files:
                if path not in (journal, last):
                    with suppress(FileNotFoundError):
                        os.unlink(path.name, dir_fd=folder)
            os.unlink(last.name, dir_fd=folder)
        finally:
            os.close(folder)


def _stem(path: Path) -> str:
    return (
        path.name.removesuffix(eventlog.PRUNED_SUFFIX) if _is_pruned(path) else runs.stem_of(path)
    )


def _is_pruned(path: Path) -> bool:
    """Whether it is the journal of a run that an earlier prune began to delete."""
    return path.name.endswith(eventlog.PRUNED_SUFFIX)


def _pruned_path(journal: Path) -> Path:
    return journal.with_name(f"{runs.stem_of(journal)}{eventlog.PRUNED_SUFFIX}")


def _identity(stat: os.stat_result) -> tuple[int, int, int]:
    return stat.st_ino, stat.st_size, stat.st_mtime_ns


def _open_archive(url: str) -> "Catalog":
    for library in ("pyarrow", "zstandard"):
        need(library)
    from .catalog import Catalog

    return Catalog.open(url)


def _best(candidates: Iterable[Candidate], n_best: int) -> set[int]:
    known = [
        (loss, id(candidate))
        for candidate in candidates
        if candidate.found.run is not None
        and is_number(loss := candidate.found.run.summary.get("best_val_loss"))
    ]
    return {which for _, which in sorted(known)[:n_best]}


def _why_it_stays(candidate: Candidate, links: Iterable[str]) -> str:
    """Why a run must stay, whatever its age; empty if it need not."""
    found, journal = candidate.found, runs.journal_of(candidate.found.path)
    if found.run is None:
        return "cannot be read"
    if any(name.startswith(f"{runs.stem_of(journal)}.") for name in links):
        return "has files that are links"
    try:
        with _locked(journal):
            pass
    except Refusal:
        return "live"
    if eventlog.lacks_journal(found.path):
        if found.run.status == "unknown":
            return "may be live: its journal is not here"
        if any(defect.get("lost") != 0 for defect in found.run.journal.get("defects") or ()):
            return "a part of a run whose journal is not here"
    there = {path.name for path in candidate.files}
    absent = [s["file"] for s in found.run.journal.get("segments") or () if s["file"] not in there]
    return f"has a segment in another folder: {absent[0]}" if absent else ""


def _why_not_archived(candidate: Candidate, archive: "Catalog") -> str:
    """Why the archive could not restore these files; empty if it can."""
    from . import columns
    from .catalog import check_bundle
    from .store import Damaged

    assert candidate.found.run is not None
    entry = archive.entries.get(columns.id_of(candidate.found.run))
    if entry is None:
        return "not archived"
    packed = {file.name: file.sha256 for file in entry.files}
    for path in candidate.files:
        try:
            digest = eventlog.sha256_of(path)
        except OSError as error:
            return f"{path.name} cannot be read: {error.strerror}"
        if packed.get(path.name) != digest:
            return f"{path.name} differs from what is archived"
    try:
        check_bundle(archive.store, entry)
    except Damaged as damage:
        return f"the archive is damaged: {damage}"
    return ""


@contextmanager
def _locked(journal: Path) -> Iterator[None]:
    """Hold the journal's lock, so that nobody writes the run.

    Raises:
        Refusal: another process has the lock.
    """
    try:
        fd = os.open(journal, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:  # only a run JSON: nobody writes it
        yield
        return
    try:
        if not lock(fd):
            raise Refusal(f"{journal}: is being written, or cannot be locked; it stays")
        yield
    finally:
        os.close(fd)


def _changed_s(path: Path, files: list[Path]) -> float:
    """When the files of a run last changed, in seconds since 1970."""
    return max(p.lstat().st_mtime for p in {path, *files})


def _seconds(age: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw])", age)
    if match is None:
        raise Refusal(f"--older-than: must be a number and s, m, h, d or w, like 30d; got {age!r}")
    return float(match[1]) * UNITS_S[match[2]]


def _print_candidates(candidates: list[Candidate], arguments: argparse.Namespace) -> None:
    deleted = [candidate for candidate in candidates if candidate.goes]
    verb = "deleted" if arguments.yes else "would be deleted"
    rows = [
        {
            "verdict": verb if candidate.goes else "stays",
            "run": _stem(candidate.found.path),
            "age_days": round(candidate.age_s / 86_400, 1),
            "best_val_loss": (run.summary.get("best_val_loss") if run else None),
            "size_mb": round(candidate.size_bytes / 1e6, 3),
            "why": candidate.why,
            "files": [path.name for path in candidate.files],
        }
        for candidate in candidates
        for run in [candidate.found.run]
    ]
    if arguments.json:
        print_json(rows)
    elif rows:
        print_table(rows, COLUMNS)
    n_bytes = sum(candidate.size_bytes for candidate in deleted)
    total = f"{len(deleted):,} of {len(candidates):,} runs {verb}, {size(n_bytes)}"
    print(total + ("" if arguments.yes else "; --yes deletes them"), file=sys.stderr)
