"""Find and load runs by name; all commands and notebooks do it here.

A run is named by a path, a folder, a glob, its name, with or without its time, or the beginning of
its name: `out/a*.json`, `out`, `mine_20261123_032501`, `mine`, `mine_2026112`. A name without a
folder is looked up in `out`.

    from . import runs
    for found in runs.load(["out"]):      # whole runs, one at a time
        print(found.path, found.run or found.error)
    run = runs.whole("my_experiment")     # exactly one, or an error that says why not
"""

import contextlib
import glob
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import eventlog
from eventlog import SEGMENT_SUFFIX, parse_segment_name

from . import beside, ends, index, stored
from .formats import first_of

SUFFIXES = (eventlog.RUN_JSON_SUFFIX, eventlog.JOURNAL_SUFFIX)
STUDY = f"study{eventlog.JOURNAL_SUFFIX}"
FOLDER = "out"
"""The folder in which a name without a folder is looked up."""
STAMP = re.compile(r"(?<=.)_\d{8}_\d{6}(_\d+)?$")
"""The time that follows the name of a run in the names of its files."""

LARGE_BYTES = 64 << 20  # a larger file is read as a whole only if it begins like a run
SENTINEL = 1e9  # nanoGPT's best loss before the first evaluation
_NAMED_MAX = 5  # candidates of an ambiguous name that are listed


class Refusal(Exception):
    """A command is refused; `str()` is one line: the reason, and what to do."""


@dataclass
class Found:
    """A run file, and the run in it or the reason why it cannot be read."""

    path: Path
    run: eventlog.Run | None
    error: str = ""
    is_whole: bool = field(default=True, compare=False)
    """False: `run` has no iterations, evals and checkpoints (`glance`)."""

    @property
    def is_live(self) -> bool:
        """Whether the run is being written now."""
        return self.run is not None and self.run.status == "running" and is_journal(self.path)


# ---- which files


def find(names: Iterable[str | os.PathLike[str]]) -> list[Path]:
    """The run files that `names` match, in their order, each run once.

    Of a run in a folder it is the run JSON; or the journal, if there is no run JSON or the journal
    has more in it, so that a live or crashed run is seen as it is now.

    Raises:
        FileNotFoundError: a name matches no run.
        Refusal: a name is ambiguous; lists the runs.
    """
    found: dict[Path, None] = {}
    for name in names:
        path = Path(name)
        if os.path.isdir(name):  # unlike Path.is_dir, False for a name that is too long
            paths = [*_in_folder(path), *_in_study(path)]
        elif os.path.exists(name):
            paths = [path]
        elif _is_glob(os.fspath(name)):
            paths = _matching(os.fspath(name)) or _named_like_a_glob(path)
        else:
            paths = [_by_name(path)]
        found |= dict.fromkeys(paths)
    return list(found)


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


def _in_folder(folder: Path) -> list[Path]:
    """The run files of a folder. Plain strings: with paths, ten thousand runs take a second."""
    files: dict[str, os.stat_result] = {}
    beside: dict[str, os.stat_result] = {}  # segments
    segments: dict[str, dict[str, os.stat_result]] = {}  # by journal
    with os.scandir(folder) as entries:
        for entry in entries:
            name = entry.name
            if name.startswith("._"):  # what macOS adds to each file on other file systems
                continue
            # A dangling link, or a file that was deleted meanwhile.
            with contextlib.suppress(OSError):
                if name.endswith(SUFFIXES) and (entry.is_file() or not entry.is_dir()):
                    files[name] = entry.stat()  # a FIFO too: it is reported later
                elif name.endswith(SEGMENT_SUFFIX):
                    beside[name] = entry.stat()

    index.forget_all_but(folder, files)
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
    for name in _latest((name, changed_ns(name)) for name in sorted(files)):
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


def _in_study(folder: Path) -> list[Path]:
    """The runs of the trials, if the folder is a study's; the study's own journal is not a run."""
    if not (folder / STUDY).exists():
        return []
    trials = sorted(folder.glob("trial_[0-9]*"))
    return [path for trial in trials if trial.is_dir() for path in _in_folder(trial)]


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


def _latest(files: Iterable[tuple[str, int]]) -> list[str]:
    """The file of each run: its run JSON, or its journal if that changed later."""
    chosen: dict[str, tuple[str, int]] = {}
    for name, changed_ns in files:
        stem, _, suffix = name.rpartition(".")
        known = chosen.get(stem)
        is_later = known is None or changed_ns > known[1]
        if is_later or (suffix == "jsonl" and known is not None and changed_ns == known[1]):
            chosen[stem] = (name, changed_ns)
    return [name for name, _ in chosen.values()]


def _matching(pattern: str) -> list[Path]:
    """The run files that a glob matches."""
    matches = sorted(glob.glob(pattern, recursive=True))
    files = [p for p in matches if p.endswith(SUFFIXES) and os.path.isfile(p)]
    return [Path(p) for p in _latest((p, os.stat(p).st_mtime_ns) for p in files)]


def _named_like_a_glob(name: Path) -> list[Path]:
    """The run whose name has brackets or stars in it, as sweeps make them: `lr=[0.1,0.2]`."""
    try:
        return [_by_name(name)]
    except FileNotFoundError:
        raise FileNotFoundError(f"{name}: no run matches") from None


def _is_glob(name: str) -> bool:
    return any(c in name for c in "*?[")


def _by_name(name: Path) -> Path:
    """The one run in the folder of `name` (default `out`) that has this name, or begins with it."""
    folder = name.parent if name.parent != Path() else Path(FOLDER)
    if not folder.is_dir():
        raise FileNotFoundError(f"{name}: no such run, folder or glob")
    stem = name.name.removesuffix(SUFFIXES[1]).removesuffix(SUFFIXES[0])
    paths = _in_folder(folder)
    named = [(stem_of(path), path) for path in paths]
    matches = _called(stem, named) or _beginning(stem, named)
    if len(matches) != 1:  # a renamed file still has the name of its run
        glanced = (glance_at(path) for path in paths)
        known = [(f.run, f.path) for f in glanced if f.run is not None]
        renamed = [(name, path) for run, path in known for name in {run.run_name, run.name}]
        matches = _called(stem, renamed) or matches or _beginning(stem, renamed)
    if len(matches) > 1:
        candidates = first_of([path.stem for path in matches], _NAMED_MAX)
        raise Refusal(f"{name}: ambiguous: matches {len(matches):,} runs ({candidates})")
    if not matches:
        raise FileNotFoundError(
            f"{name}: no such run, folder or glob, and no run in {folder} has that name"
        )
    return matches[0]


def is_called(name: str, known: str) -> bool:
    """Whether `name` is what a run was called when it began, to which its time was added."""
    return STAMP.sub("", known) == name


def _called(name: str, named: list[tuple[str, Path]]) -> list[Path]:
    """The runs with exactly this name, else those that have it before their time."""
    return [path for known, path in named if known == name] or [
        path for known, path in named if is_called(name, known)
    ]


def _beginning(name: str, named: list[tuple[str, Path]]) -> list[Path]:
    return [path for known, path in named if known.startswith(name)]


# ---- what is in them


def load(names: Iterable[str | os.PathLike[str]]) -> Iterator[Found]:
    """Load each run that `names` match; an unreadable file gives a `Found` with an error.

    Raises:
        FileNotFoundError, Refusal: as `find`, before the first run.
    """
    return map(load_at, find(names))


def glance(names: Iterable[str | os.PathLike[str]]) -> Iterator[Found]:
    """As `load`, but of a run JSON only what comes before and after its arrays: name, times,
    config, metadata, summary and journal.

    Raises:
        FileNotFoundError, Refusal: as `find`, before the first run.
    """
    return map(glance_at, find(names))


def one(name: str | os.PathLike[str], load: Callable[[Path], Found] | None = None) -> Found:
    """Load the one run that a name matches; `load`: with this function, not `load_at`.

    Raises:
        FileNotFoundError, eventlog.UnreadableRun, OSError: there is none, or it is unreadable.
        Refusal: there are several.
    """
    paths = find([name])
    if len(paths) != 1:
        raise Refusal(f"{name}: must be one run, has {len(paths):,}. See: runs ls {name}")
    found = (load or load_at)(paths[0])
    if found.run is None:
        raise eventlog.UnreadableRun(found.error)
    return found


def whole(name: str | os.PathLike[str]) -> eventlog.Run:
    """The run of `one(name)`."""
    run = one(name).run
    assert run is not None
    return run


def read_at(path: Path) -> Found:
    """As `load_at`; the tables of a large run JSON stay in the file, and are read when iterated."""
    with contextlib.suppress(OSError):
        run = stored.read(path)
        if run is not None:
            return Found(path, run)
    return load_at(path)


def load_at(path: Path) -> Found:
    """The run in one file."""
    try:
        check_looks_like_a_run(path)
        return _as_it_is_now(Found(path, _without_sentinel(eventlog.load_run(path))))
    except (eventlog.EventlogError, OSError) as error:
        return _from_journal(path, error)
    except RecursionError:
        return _from_journal(path, eventlog.UnreadableRun(f"{path}: not a run: nested too deep"))


def _from_journal(path: Path, error: Exception) -> Found:
    """The run of an unreadable run JSON, from its journal if there is one."""
    journal = journal_of(path)
    if path != journal and path.exists() and journal.exists():
        return load_at(journal)
    return Found(path, None, message(error, path))


def glance_at(path: Path) -> Found:
    """The run in one file, as `glance` loads it."""
    if not is_journal(path):
        try:
            run = ends.read(path)
        except (eventlog.EventlogError, OSError) as error:
            return _from_journal(path, error)
        if run is not None:
            return _as_it_is_now(Found(path, run, is_whole=False))
    return load_at(path)


def _is_sentinel(best: Any) -> bool:
    """Whether a best loss is nanoGPT's initial value: there has been no evaluation."""
    return isinstance(best, int | float) and not best < SENTINEL


def _without_sentinel(run: eventlog.Run) -> eventlog.Run:
    """A run of another logger, with its best loss from its evaluations, if it has any."""
    if _is_sentinel(run.summary.get("best_val_loss")) and "format" not in run.journal:
        losses = [row.get("val_loss") for row in run.eval_steps]
        known = [n for n in losses if isinstance(n, int | float) and n < SENTINEL]
        run.summary["best_val_loss"] = min(known, default=None)
    return run


def _as_it_is_now(found: Found) -> Found:
    """The run, reloaded from its journal if the run JSON says `running`: it may be outdated."""
    journal = journal_of(found.path)
    if found.run is None or found.run.status != "running" or is_journal(found.path):
        return found
    if journal.exists():
        return load_at(journal)
    eventlog.without_journal(found.run)
    return found


def check_looks_like_a_run(path: Path) -> None:
    """Check that a large file begins like a run, before all of it is read.

    Raises:
        eventlog.UnreadableRun, OSError: it is not a run, or cannot be read.
    """
    size_bytes = eventlog.check_is_file(path)
    if size_bytes < LARGE_BYTES:
        return
    with open(path, "rb") as file:
        begin = file.read(1 << 20)
    sign = b'{"n":' if is_journal(path) else b'"training_iterations"'
    if sign not in begin:
        raise eventlog.UnreadableRun(
            f"{path}: not a run: nothing in the first {len(begin):,} of its {size_bytes:,} bytes "
            f"looks like one"
        )


def message(error: Exception, path: Path) -> str:
    """The error in one line that names the file."""
    if isinstance(error, OSError):
        return f"{path}: {error.strerror or error}"
    return str(error)
