"""Names -> runs. The one door to run files, for commands and notebooks alike.

A run is named by a path, a folder, a glob, its name, or the beginning of its name: `out/a*.json`,
`out`, `run_20261123_032501`, `run_2026112`. A name without a folder is looked for in `out`.

    from . import runs
    for found in runs.load(["out"]):      # whole runs, one at a time
        print(found.path, found.run or found.error)
    run = runs.whole("my_experiment")     # exactly one, or an error that says why not
"""

import contextlib
import glob
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

import eventlog
from eventlog import SEGMENT_SUFFIX, parse_segment_name

SUFFIXES = (eventlog.RUN_JSON_SUFFIX, eventlog.JOURNAL_SUFFIX)
STUDY = "study.jsonl"
FOLDER = "out"
"""Where names are looked for that do not say where."""

ENDS_BYTES = 8 << 10, 1 << 20  # what stands before and behind the arrays, mostly and at most
LARGE_BYTES = 64 << 20  # a file so large is only read whole if it begins like a run
SENTINEL = 1e9  # nanoGPT's best loss before the first evaluation
_NAMED_MAX = 5  # candidates of an ambiguous name that are told


class Refusal(Exception):
    """A command cannot do what was asked; `str()` is the line that says why, and the way out."""


@dataclass
class Found:
    """One run file, and the run in it or why there is none."""

    path: Path
    run: eventlog.Run | None
    error: str = ""
    is_whole: bool = field(default=True, compare=False)
    """False: `run` has no iterations, evals and checkpoints (`glance`)."""

    @property
    def is_live(self) -> bool:
        """Whether somebody is writing the run now."""
        return self.run is not None and self.run.status == "running" and is_journal(self.path)


# ---- which files


def find(names: Iterable[str | os.PathLike[str]]) -> list[Path]:
    """The run files that names mean, in their order, each run once.

    Of a run in a folder its run JSON is taken, or its journal where there is no run JSON or
    the journal has more than it: a live or crashed run is then seen as it is now.

    Raises:
        FileNotFoundError: a name means nothing; says which.
        Refusal: a name means several runs; names them.
    """
    found: dict[Path, None] = {}
    for name in names:
        path = Path(name)
        if path.is_dir():
            paths = [*_in_folder(path), *_of_study(path)]
        elif path.exists():
            paths = [path]
        elif _is_glob(os.fspath(name)):
            matches = sorted(glob.glob(os.fspath(name), recursive=True))
            files = [p for p in matches if p.endswith(SUFFIXES) and os.path.isfile(p)]
            paths = [Path(p) for p in _latest((p, os.stat(p).st_mtime_ns) for p in files)]
            if not paths:
                raise FileNotFoundError(f"{name}: no run matches")
        else:
            paths = [_by_name(path)]
        found |= dict.fromkeys(paths)
    return list(found)


def journal_of(path: Path) -> Path:
    """The journal that belongs to a run file, whether it exists or not."""
    return eventlog.journal_path(path)


def is_journal(path: Path) -> bool:
    return path.suffix == eventlog.JOURNAL_SUFFIX


def _in_folder(folder: Path) -> list[Path]:
    """Ten thousand runs are twenty thousand files: plain strings, or this takes a second."""
    files: dict[str, os.stat_result] = {}
    beside: dict[str, os.stat_result] = {}  # segments
    segments: dict[str, dict[str, os.stat_result]] = {}  # by journal
    with os.scandir(folder) as entries:
        for entry in entries:
            name = entry.name
            if name.startswith("."):
                continue
            # A link that leads nowhere, a file that is gone by now: no run.
            with contextlib.suppress(OSError):
                if name.endswith(SUFFIXES) and (entry.is_file() or not entry.is_dir()):
                    files[name] = entry.stat()  # a FIFO too: that it is none is said
                elif name.endswith(SEGMENT_SUFFIX):
                    beside[name] = entry.stat()

    for name, stat_ in beside.items():
        journal = _journal_of_segment(name, files)
        if journal:
            segments.setdefault(journal, {})[name] = stat_

    def changed_ns(name: str) -> int:
        return max(s.st_mtime_ns for s in (files[name], *segments.get(name, {}).values()))

    if STUDY in files:  # a study's own journal is no run
        files = {name: told for name, told in files.items() if os.path.splitext(name)[0] != "study"}
    taken = []
    for name in _latest((name, changed_ns(name)) for name in sorted(files)):
        snapshot = name.rpartition(".")[0] + eventlog.RUN_JSON_SUFFIX
        if name != snapshot and snapshot in files:
            sizes = {segment: s.st_size for segment, s in segments.get(name, {}).items()}
            if _has_all(folder / snapshot, files[name].st_size, sizes):
                name = snapshot
        taken.append(folder / name)
    return taken


def _journal_of_segment(name: str, files: Mapping[str, Any]) -> str | None:
    """The journal, of those in the folder, whose segment a file is by its name."""
    for n_dots in (4, 3):  # <stem>.<run id>.<session>.<k>.segment, and without the run id
        stem = name.rsplit(".", n_dots)[0]
        journal = stem + eventlog.JOURNAL_SUFFIX
        if journal in files and parse_segment_name(name, stem):
            return journal
    return None


def _of_study(folder: Path) -> list[Path]:
    """The runs of a study's trials; its own journal is none. Nothing if it is no study."""
    if not (folder / STUDY).exists():
        return []
    trials = sorted(folder.glob("trial_[0-9]*"))
    return [path for trial in trials if trial.is_dir() for path in _in_folder(trial)]


def _has_all(snapshot: Path, journal_bytes: int, segment_bytes: Mapping[str, int]) -> bool:
    """Whether an ended run's run JSON was folded from all there is, whatever the times say.

    A folder that was copied has its files' times in any order, and ten thousand journals take
    three minutes to read, the ends of their run JSONs a second.
    """
    try:
        run = _read_ends(snapshot)
    except OSError:
        return False
    if run is None or run.status == "running":
        return False
    folded = {part.get("file"): part.get("bytes") for part in run.journal.get("segments") or []}
    return run.journal.get("bytes") == journal_bytes and folded == segment_bytes


def _latest(files: Iterable[tuple[str, int]]) -> list[str]:
    """Of each run the file that says the most: run JSON, or the journal if it changed later."""
    taken: dict[str, tuple[str, int]] = {}
    for name, changed_ns in files:
        stem, _, suffix = name.rpartition(".")
        known = taken.get(stem)
        is_later = known is None or changed_ns > known[1]
        if is_later or (suffix == "jsonl" and known is not None and changed_ns == known[1]):
            taken[stem] = (name, changed_ns)
    return [name for name, _ in taken.values()]


def _is_glob(name: str) -> bool:
    return any(c in name for c in "*?[")


def _by_name(name: Path) -> Path:
    """The one run in `name`'s folder (`out` if it has none) whose name begins so."""
    folder = name.parent if name.parent != Path() else Path(FOLDER)
    if not folder.is_dir():
        raise FileNotFoundError(f"{name}: no such run, folder or glob")
    stem = name.name.removesuffix(SUFFIXES[1]).removesuffix(SUFFIXES[0])
    paths = _in_folder(folder)
    named = [(path.stem, path) for path in paths]
    matches = _matches(stem, named)
    if not matches:  # a renamed file still has its run's name inside
        glanced = (glance_at(path) for path in paths)
        matches = _matches(stem, [(f.run.run_name, f.path) for f in glanced if f.run is not None])
    if len(matches) > 1:
        told = ", ".join(path.stem for path in matches[:_NAMED_MAX])
        more = f" and {len(matches) - _NAMED_MAX:,} more" if len(matches) > _NAMED_MAX else ""
        raise Refusal(f"{name}: begins the names of {len(matches):,} runs: {told}{more}")
    if not matches:
        raise FileNotFoundError(
            f"{name}: no such run, folder or glob; none in {folder} is so named"
        )
    return matches[0]


def _matches(name: str, named: list[tuple[str, Path]]) -> list[Path]:
    """Those that bear the name, else those that begin with it."""
    return [path for known, path in named if known == name] or [
        path for known, path in named if known.startswith(name)
    ]


# ---- what is in them


def load(names: Iterable[str | os.PathLike[str]]) -> Iterator[Found]:
    """Each run that `names` mean, whole; a file that cannot be read is told, not raised.

    Raises:
        FileNotFoundError, Refusal: as `find`, before the first run.
    """
    return map(load_at, find(names))


def glance(names: Iterable[str | os.PathLike[str]]) -> Iterator[Found]:
    """As `load`, but of a run JSON only what stands before and behind its arrays.

    That is name, times, config, metadata, summary and journal, at 10,000 runs a second.

    Raises:
        FileNotFoundError, Refusal: as `find`, before the first run.
    """
    return map(glance_at, find(names))


def one(name: str | os.PathLike[str]) -> Found:
    """The one run that a name means, whole.

    Raises:
        FileNotFoundError, eventlog.UnreadableRun, OSError: there is none, or none to be read.
        Refusal: there are several.
    """
    paths = find([name])
    if len(paths) != 1:
        raise Refusal(f"{name}: has {len(paths):,} runs, one is wanted; see: runs ls {name}")
    found = load_at(paths[0])
    if found.run is None:
        raise eventlog.UnreadableRun(found.error)
    return found


def whole(name: str | os.PathLike[str]) -> eventlog.Run:
    """The run of `one(name)`."""
    run = one(name).run
    assert run is not None
    return run


def load_at(path: Path) -> Found:
    """The run in one file, whole."""
    try:
        refuse_what_is_no_run(path)
        return _as_it_is_now(Found(path, _without_sentinel(eventlog.load_run(path))))
    except (eventlog.EventlogError, OSError) as error:
        return _from_journal(path, error)
    except RecursionError:
        return _from_journal(path, eventlog.UnreadableRun(f"{path}: no run: nested too deep"))


def _from_journal(path: Path, error: Exception) -> Found:
    """What a run JSON that cannot be read should say: the journal can be made it of again."""
    journal = journal_of(path)
    if path != journal and path.exists() and journal.exists():
        return load_at(journal)
    return Found(path, None, _told(error, path))


def glance_at(path: Path) -> Found:
    """The run in one file, as `glance`."""
    if not is_journal(path):
        try:
            refuse_what_is_no_run(path)
            run = _read_ends(path)
        except (eventlog.EventlogError, OSError) as error:
            return _from_journal(path, error)
        if run is not None:
            return _as_it_is_now(Found(path, run, is_whole=False))
    return load_at(path)


def _is_sentinel(best: Any) -> bool:
    """Whether a best loss is the one that nanoGPT begins with: no evaluation has been better."""
    return isinstance(best, int | float) and not best < SENTINEL


def _without_sentinel(run: eventlog.Run) -> eventlog.Run:
    """A run of another logger, its best loss taken from its evaluations, if it has any."""
    if _is_sentinel(run.summary.get("best_val_loss")) and "format" not in run.journal:
        losses = [row.get("val_loss") for row in run.eval_steps]
        known = [n for n in losses if isinstance(n, int | float) and n < SENTINEL]
        run.summary["best_val_loss"] = min(known, default=None)
    return run


def _as_it_is_now(found: Found) -> Found:
    """A snapshot that says `running` may be old: its journal knows better."""
    journal = journal_of(found.path)
    if found.run is None or found.run.status != "running" or found.path == journal:
        return found
    if journal.exists():
        return load_at(journal)
    eventlog.without_journal(found.run)
    return found


def _read_ends(path: Path) -> eventlog.Run | None:
    """A run JSON without its arrays, from its two ends; None: it must be read whole.

    No string of JSON holds a raw line feed, so a key after a line feed and two spaces is one
    of the document's own, in our run JSONs as in those of the guide's logger.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size_bytes = os.fstat(fd).st_size
        for n_bytes in ENDS_BYTES:
            front, arrays, _ = os.pread(fd, n_bytes, 0).partition(_ARRAYS)
            if not arrays:
                continue
            end = os.pread(fd, n_bytes, max(0, size_bytes - n_bytes))
            at = end.rfind(_METADATA)
            if at >= 0:
                return _without_arrays(front, end[at:], path)
    finally:
        os.close(fd)
    return None


def _without_arrays(front: bytes, behind: bytes, path: Path) -> eventlog.Run | None:
    try:
        document = orjson.loads(front.rstrip().removesuffix(b",") + b"}")
        document |= orjson.loads(b"{" + behind)
    except orjson.JSONDecodeError:
        return None
    objects = {key: document.get(key, {}) for key in ("config", "metadata", "summary", "journal")}
    times = {key: document.get(key) for key in ("start_time", "end_time")}
    name = document.get("run_name") or path.stem
    if not (
        isinstance(name, str)
        and all(isinstance(value, dict) for value in objects.values())
        and all(isinstance(value, str | None) for value in times.values())
    ):
        return None
    if "format" not in objects["journal"]:  # another logger's: its figures are computed anew
        return None
    return eventlog.Run(name, **times, **objects, path=path)


_ARRAYS, _METADATA = b'\n  "training_iterations": [', b'\n  "metadata": {'


def refuse_what_is_no_run(path: Path) -> None:
    """Do not read gigabytes of something else to the end only to say that it is no run.

    Raises:
        Refusal, OSError: it is none, or not to be read.
    """
    size_bytes = refuse_what_is_no_file(path)
    if size_bytes < LARGE_BYTES:
        return
    with open(path, "rb") as file:
        begin = file.read(1 << 20)
    sign = b'{"n":' if is_journal(path) else b'"training_iterations"'
    if sign not in begin:
        raise eventlog.UnreadableRun(
            f"{path}: no run: nothing in the first {len(begin):,} of its {size_bytes:,} bytes "
            f"begins one"
        )


def refuse_what_is_no_file(path: Path) -> int:
    """The size of a plain file; to open a FIFO would wait for ever.

    Raises:
        eventlog.UnreadableRun, OSError: it is none.
    """
    found = os.stat(path)
    if stat.S_ISDIR(found.st_mode):
        raise eventlog.UnreadableRun(f"{path}: no run: it is a folder")
    if not stat.S_ISREG(found.st_mode):
        raise eventlog.UnreadableRun(f"{path}: no run: it is no plain file but a FIFO or a device")
    return found.st_size


def _told(error: Exception, path: Path) -> str:
    """One line, the file named."""
    if isinstance(error, OSError):
        return f"{path}: {error.strerror or error}"
    return str(error)
