"""`runs prune`: make room; what goes is in the archive, byte for byte.

    runs prune out --older-than 30d --keep-best 10 --archive /backup/runs         says what would go
    runs prune out --older-than 30d --keep-best 10 --archive /backup/runs --yes   does it

A run goes if it is older than that (its files were not written to since) and not among the
best by validation loss. A live run never goes, nor one whose files are not in the archive
as they are here: each bundle is read back and compared first. `--unarchived` does without.
Checkpoints (`*.pt`) and links stay.
"""

import argparse
import os
import re
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..core import runs
from ..core.digest import sha256_of
from ..core.library import need
from ..core.lock import lock
from ..core.options import whole
from ..core.runs import Found, Refusal
from ..core.table import print_json, print_table, with_progress
from ..core.text import print
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
        help="Delete old runs that are archived; says what, until told --yes.",
        description=(__doc__ or "").partition(": ")[2],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("folder", metavar="DIR")
    command.add_argument(
        "--keep-best", type=whole("--keep-best"), default=0, metavar="N", help="these stay"
    )
    command.add_argument("--older-than", metavar="AGE", help="90m, 12h, 30d, 8w: younger ones stay")
    command.add_argument("--archive", metavar="URL", help="where the runs must be")
    command.add_argument("--unarchived", action="store_true", help="delete what is nowhere else")
    command.add_argument("--yes", action="store_true", help="do it")
    command.add_argument("--json", action="store_true", help="one JSON object a line")
    command.set_defaults(run=_prune)


@dataclass
class Candidate:
    """A run, and whether it goes. `why` says what keeps it, or what allows that it goes."""

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

    def keep(self, why: str) -> None:
        self.goes, self.why = False, why


def _prune(arguments: argparse.Namespace) -> int:
    age_s = _seconds(arguments.older_than) if arguments.older_than else 0.0
    if not arguments.older_than and arguments.keep_best < 1:
        raise Refusal("runs prune: say what may go: --older-than AGE, --keep-best N, or both")
    if bool(arguments.archive) == arguments.unarchived:
        raise Refusal("runs prune: give --archive URL, where the runs are; or else --unarchived")
    candidates = judge(
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
    _tell(candidates, arguments)
    return 1 if n_failed else 0


def judge(
    folder: Path,
    *,
    older_than_s: float = 0.0,
    keep_best: int = 0,
    archive: str | None = None,
    now_s: float | None = None,
) -> list[Candidate]:
    """Every run in `folder`, the oldest first, and whether it may go; nothing is deleted.

    `archive`: where the files must be as they are here; None: that is not asked.

    Raises:
        FileNotFoundError: no such folder, or no archive there.
        Refusal: `folder` is none, or the archive cannot be read.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder")
    there = _open_archive(archive) if archive else None
    now_s = time.time() if now_s is None else now_s
    there_are = list(runs.glance([folder]))  # of a study in the folders of its trials
    groups = {parent: group(parent) for parent in {found.path.parent for found in there_are}}
    candidates = []
    for found in there_are:
        files = only_its_own(groups[found.path.parent].get(found.path.stem, []))
        candidates.append(Candidate(found, files, now_s - _changed_s(found.path, files)))
    candidates.sort(key=lambda candidate: -candidate.age_s)
    best = _best(candidates, keep_best)
    links = {
        parent: [entry.name for entry in os.scandir(parent) if entry.is_symlink()]
        for parent in groups
    }
    for candidate in candidates:
        if why := _why_it_stays(candidate, links[candidate.found.path.parent]):
            candidate.keep(why)
        elif id(candidate) in best:
            candidate.keep(f"one of the {keep_best:,} best")
        elif candidate.age_s <= older_than_s:
            candidate.keep("not old enough")
    for candidate in with_progress([c for c in candidates if c.goes], "comparing with the archive"):
        if names := [path.name for path in elsewhere(candidate.files)]:
            candidate.keep(f"has files in another folder: {names[0]}")
        elif there is not None and (why := _why_not_archived(candidate, there)):
            candidate.keep(why)
        else:
            candidate.why = "archived, compared" if there else "nobody asked for an archive"
    return candidates


def delete(candidate: Candidate) -> None:
    """Delete the files of a run; the journal last, so that half of it is still a run.

    Raises:
        Refusal: somebody writes it, or a file is no longer as it was compared.
        OSError: a file cannot be deleted.
    """
    journal = runs.journal_of(candidate.found.path)
    with _held(journal):
        folder = os.open(journal.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for path in candidate.files:
                if _identity(os.lstat(path)) != candidate.seen[path.name]:
                    raise Refusal(f"{path}: was written to meanwhile; nothing of it was deleted")
            for path in sorted(candidate.files, key=lambda path: path == journal):
                os.unlink(path.name, dir_fd=folder)
        finally:
            os.close(folder)


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
        and type(loss := candidate.found.run.summary.get("best_val_loss")) in (int, float)
    ]
    return {which for _, which in sorted(known)[:n_best]}


def _why_it_stays(candidate: Candidate, links: Iterable[str]) -> str:
    """What keeps a run whatever its age; empty: nothing."""
    found, journal = candidate.found, runs.journal_of(candidate.found.path)
    if found.run is None:
        return "cannot be read"
    if any(name.startswith(f"{journal.stem}.") for name in links):
        return "has files that are links"
    try:
        with _held(journal):
            pass
    except Refusal:
        return "live"
    there = {path.name for path in candidate.files}
    absent = [s["file"] for s in found.run.journal.get("segments") or () if s["file"] not in there]
    return f"has a segment in another folder: {absent[0]}" if absent else ""


def _why_not_archived(candidate: Candidate, archive: "Catalog") -> str:
    """Why the archive could not give these files back; empty: it can, it was tried."""
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
            digest = sha256_of(path)
        except OSError as error:
            return f"{path.name} cannot be read: {error.strerror}"
        if packed.get(path.name) != digest:
            return f"{path.name} is not as it was archived"
    try:
        check_bundle(archive.store, entry)
    except Damaged as damage:
        return f"the archive is damaged: {damage}"
    return ""


@contextmanager
def _held(journal: Path) -> Iterator[None]:
    """Nobody writes the run meanwhile: whoever wants to must have the journal's lock.

    Raises:
        Refusal: somebody has it.
    """
    try:
        fd = os.open(journal, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:  # a run JSON alone: nobody writes that
        yield
        return
    try:
        if not lock(fd):
            raise Refusal(f"{journal}: is being written, or cannot be locked; it stays")
        yield
    finally:
        os.close(fd)


def _changed_s(path: Path, files: list[Path]) -> float:
    """When a run was last written to, in seconds since 1970."""
    return max(p.lstat().st_mtime for p in {path, *files})


def _seconds(age: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw])", age)
    if match is None:
        raise Refusal(f"--older-than {age}: no age; it is a number and s, m, h, d or w: 30d")
    return float(match[1]) * UNITS_S[match[2]]


def _tell(candidates: list[Candidate], arguments: argparse.Namespace) -> None:
    going = [candidate for candidate in candidates if candidate.goes]
    verb = "gone" if arguments.yes else "would go"
    rows = [
        {
            "verdict": verb if candidate.goes else "stays",
            "run": candidate.found.path.stem,
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
    size_mb = sum(candidate.size_bytes for candidate in going) / 1e6
    words = f"{len(going):,} of {len(candidates):,} runs {verb}, {size_mb:,.1f} MB"
    print(words + ("" if arguments.yes else "; --yes deletes them"), file=sys.stderr)
