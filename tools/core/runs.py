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
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import eventlog
from eventlog import SEGMENT_SUFFIX

from . import ends, stored
from .folder import STUDY, SUFFIXES, has_all, is_journal, journal_of, latest, runs_in, stem_of
from .formats import first_of

__all__ = [
    "FOLDER", "LARGE_BYTES", "SENTINEL", "STAMP", "STUDY", "SUFFIXES", "Found", "Refusal", "Say",
    "Search", "check_looks_like_a_run", "find", "glance", "glance_at", "has_all",
    "in_folder_or_study", "is_called", "is_journal", "journal_of", "load", "load_at", "message",
    "one", "stem_of", "whole",
]  # fmt: skip

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


Say = Callable[[str], None]


def find(names: Iterable[str | os.PathLike[str]], say: Say | None = None) -> list[Path]:
    """The run files that `names` match, in their order, each run once.

    Of a folder these are the runs in it and in its subfolders, at any depth. Of a run it is the run
    JSON; or the journal, if there is no run JSON or the journal has more in it, so that a live or
    crashed run is seen as it is now.

    Args:
        say: is called with what was not searched; by default it is printed on stderr.

    Raises:
        FileNotFoundError: a name matches no run.
        Refusal: a name is ambiguous; lists the runs.
    """
    search = Search()
    for name in names:
        search.add(name)
    for message in search.left_out():
        (say or _to_stderr)(message)
    return search.paths()


def _to_stderr(message: str) -> None:
    eventlog.print_lines(message, file=sys.stderr)


class Search:
    """A search for the runs that several names match; each run is found once."""

    def __init__(self) -> None:
        self._walk = eventlog.Walk()
        self._found: dict[tuple[str, str], list[Path]] = {}  # by real folder and stem
        self._reals: dict[Path, str] = {}  # folder -> its real path
        self._files: set[Path] = set()  # that were named
        self._others: dict[Path, None] = {}  # of them those that are no runs by their name

    def add(self, name: str | os.PathLike[str]) -> list[Path]:
        """The run files that a name matches, also those that earlier names matched, except
        for those of a folder that was searched before.

        Raises:
            FileNotFoundError, Refusal: as `find`.
        """
        paths = self._matches(os.fspath(name))
        for path in paths:
            if path.name.endswith((*SUFFIXES, SEGMENT_SUFFIX)):
                self._found.setdefault(self._identity(path), []).append(path)
            else:
                self._others[path] = None
        return paths

    def paths(self) -> list[Path]:
        """The file of each run. Files of other kinds are among them only where nothing else is:
        `out/*` names checkpoints and pictures, too."""
        if not self._found:
            return list(self._others)
        return [
            self._best(paths)
            for identity, paths in self._found.items()
            if not self._is_part(identity, paths[0])
        ]

    def left_out(self) -> list[str]:
        """What was not searched, and files that are no runs, one message each."""
        others = list(map(str, self._others)) if self._found else []
        skipped = [f"skipped, no run: {first_of(others, _NAMED_MAX)}"] if others else []
        return [*self._walk.left_out, *skipped]

    def _identity(self, path: Path) -> tuple[str, str]:
        if path.is_symlink():
            path = Path(os.path.realpath(path))
        if path.parent not in self._reals:
            self._reals[path.parent] = os.path.realpath(path.parent)
        is_segment = path.suffix == SEGMENT_SUFFIX  # the run JSON beside it may be another run's
        return self._reals[path.parent], path.name if is_segment else stem_of(path)

    def _is_part(self, identity: tuple[str, str], path: Path) -> bool:
        """Whether a file was named that is a segment of a run found by its journal: by `out/*`."""
        folder, _ = identity
        is_named = path in self._files and path.suffix == SEGMENT_SUFFIX
        return is_named and (folder, stem_of(path)) in self._found

    def _best(self, paths: Sequence[Path]) -> Path:
        """Of the files of one run the one that its folder has it by, and rather than a link."""
        paths = list(dict.fromkeys(paths))
        own = [path for path in paths if not path.is_symlink()] if len(paths) > 1 else []
        paths = own or paths
        if len(paths) == 1:
            return paths[0]
        stem = stem_of(paths[0])
        in_folder = _in_folder(paths[0].parent)
        return next((path for path in in_folder if stem_of(path) == stem), paths[0])

    def _matches(self, name: str) -> list[Path]:
        if os.path.isdir(name):  # unlike Path.is_dir, False for a name that is too long
            return self._below(name)
        if os.path.exists(name):
            self._files.add(Path(name))
            return [Path(name)]
        if not _is_glob(name):
            return [_by_name(Path(name))]
        exact = _called_in_folder(Path(name))
        return exact or self._matching(name) or _named_like_a_glob(Path(name))

    def _below(self, folder: str) -> list[Path]:
        return [path for listing in self._walk.below(folder) for path in runs_in(listing)]

    def _matching(self, pattern: str) -> list[Path]:
        """The run files that a glob matches, and those in the folders that it matches."""
        matches = sorted(glob.glob(_literal_where_possible(pattern), recursive=True))
        files = [p for p in matches if p.endswith(SUFFIXES) and os.path.isfile(p)]
        paths = [Path(p) for p in latest((p, os.stat(p).st_mtime_ns) for p in files)]
        for folder in filter(os.path.isdir, matches):
            paths += self._below(folder)
        return paths


def in_folder_or_study(folder: Path) -> list[Path]:
    """The runs in a folder itself, and those of its trials if it is a study's."""
    has_trials = (folder / STUDY).exists()
    trials = sorted(folder.glob("trial_[0-9]*")) if has_trials else []
    folders = [folder, *(trial for trial in trials if trial.is_dir())]
    return [path for one in folders for path in _in_folder(one)]


def _in_folder(folder: Path) -> list[Path]:
    """The runs in a folder, without those of its subfolders."""
    files, _, _ = eventlog.list_folder(folder)
    return runs_in(eventlog.Listing(os.fspath(folder), files, is_below=False))


def _literal_where_possible(pattern: str) -> str:
    """A glob whose first parts are names, where these exist: a sweep's `lr=[0.1,0.2]/*.json`."""
    done, parts = "", re.split(f"({re.escape(os.sep)}+)", pattern)
    for at, part in enumerate(parts):
        if not os.path.lexists(done + part):
            return glob.escape(done) + "".join(parts[at:])
        done += part
    return glob.escape(done)


def _called_in_folder(name: Path) -> list[Path]:
    """The runs with exactly this name, before it counts as a glob."""
    folder = name.parent if name.parent != Path() else Path(FOLDER)
    if not folder.is_dir():
        return []
    return _called(_stem(name), [(stem_of(path), path) for path in _in_folder(folder)])[:1]


def _named_like_a_glob(name: Path) -> list[Path]:
    """The run whose name has brackets or stars in it, as sweeps make them: `lr=[0.1,0.2]`."""
    try:
        return [_by_name(name)]
    except FileNotFoundError:
        raise FileNotFoundError(f"{name}: no run matches") from None


def _is_glob(name: str) -> bool:
    return any(c in name for c in "*?[")


def _stem(name: Path) -> str:
    return name.name.removesuffix(SUFFIXES[1]).removesuffix(SUFFIXES[0])


def _by_name(name: Path) -> Path:
    """The one run that has this name, or begins with it, in the folder of `name` (default `out`);
    if there is none in the folder itself, in its subfolders."""
    folder = name.parent if name.parent != Path() else Path(FOLDER)
    if not folder.is_dir():
        raise FileNotFoundError(f"{name}: no such run, folder or glob")
    matches = _with_name(_stem(name), _in_folder(folder))
    if not matches:
        below = (listing for listing in eventlog.Walk().below(folder) if listing.is_below)
        matches = _with_name(_stem(name), [path for one in below for path in runs_in(one)])
    if len(matches) > 1:
        stems = [path.stem for path in matches]
        known = stems if len({*stems}) == len(stems) else [*map(str, matches)]
        raise Refusal(
            f"{name}: ambiguous: matches {len(matches):,} runs ({first_of(known, _NAMED_MAX)})"
        )
    if not matches:
        raise FileNotFoundError(
            f"{name}: no such run, folder or glob, and no run in {folder} or below has that name"
        )
    return matches[0]


def _with_name(stem: str, paths: Sequence[Path]) -> list[Path]:
    named = [(stem_of(path), path) for path in paths]
    displayed = [path for name, path in _renamed(paths) if name == stem]
    if displayed:
        return [*dict.fromkeys([*_called(stem, named), *displayed])]
    matches = _called(stem, named) or _beginning(stem, named)
    if len(matches) != 1:  # a renamed file still has the name of its run
        glanced = (glance_at(path) for path in paths)
        known = [(f.run, f.path) for f in glanced if f.run is not None]
        renamed = [(name, path) for run, path in known for name in {run.run_name, run.name}]
        matches = _called(stem, renamed) or matches or _beginning(stem, renamed)
    return matches


def _renamed(paths: Sequence[Path]) -> Iterator[tuple[str, Path]]:
    """The names that `runs rename` gave to runs; such a run has a segment beside its journal."""
    stems: dict[str, dict[str, Path]] = {}
    for path in paths:
        stems.setdefault(os.path.dirname(path), {})[stem_of(path)] = path
    for folder, of_folder in stems.items():
        beside = [name for name in os.listdir(folder or ".") if name.endswith(SEGMENT_SUFFIX)]
        beginnings = {
            name[:at] for name in beside for at, letter in enumerate(name) if letter == "."
        }
        for path in (of_folder[stem] for stem in of_folder.keys() & beginnings):
            run = glance_at(path).run
            if run is not None and run.name != run.run_name:
                yield run.name, path


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
