"""Which checkpoints in a folder are which run's.

    out/run_20261129_163540.jsonl     a run's journal, and
    out/run_20261129_163540/          its checkpoints: ckpt.pt, best.pt, ckpt.00000500.pt, ...
    out/ckpt.pt, out/best.pt          links to those of the run that saved last
    out/ckpt, out/best                the same of sharded checkpoints

Each run writes and removes files in its own folder alone. Before there were such folders, runs
wrote `out/ckpt.pt` itself: those are read as they are, and moved into their run's folder before
a link takes their name.
"""

import contextlib
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from trainer.checkpoint import checkpoint
from trainer.checkpoint.checkpoint import BEST, LATEST, State

JOURNAL_SUFFIX = ".jsonl"
STEM = re.compile(r"(?P<name>.+)_\d{8}_\d{6}(_\d+)?", re.DOTALL)
"""What the name of a run's files looks like."""


@dataclass(frozen=True)
class RunFiles:
    """The checkpoints of one run in a folder, and where its journal is or would be."""

    out_dir: Path
    stem: str
    """What its files are called; empty: checkpoints that do not say whose they are."""
    checkpoints: tuple[Path, ...] = ()
    """The one written last first."""

    @property
    def folder(self) -> Path:
        """Where its checkpoints are written."""
        return self.out_dir / self.stem

    @property
    def journal(self) -> Path | None:
        """Its journal, if it is there."""
        path = self.out_dir / f"{self.stem}{JOURNAL_SUFFIX}"
        return path if self.stem and path.is_file() else None

    @property
    def written_ns(self) -> int | None:
        """When its newest checkpoint was written; None without one."""
        return max((path.stat().st_mtime_ns for path in self.checkpoints), default=None)


def runs_in(out_dir: Path) -> list[RunFiles]:
    """Every run that has a checkpoint in the folder, the one that saved last first."""
    found: dict[str, list[Path]] = {}
    for folder in sorted(out_dir.iterdir()) if out_dir.is_dir() else ():
        if folder.is_dir() and not folder.is_symlink() and is_of_run(folder):
            found[folder.name] = list(checkpoint.candidates(folder))
    for stem, paths in loose(out_dir, list(found)).items():
        found[stem] = [*found.get(stem, []), *paths]
    runs = [
        RunFiles(out_dir, stem, tuple(newest_first(paths)))
        for stem, paths in found.items()
        if paths
    ]
    return sorted(runs, key=lambda run: -(run.written_ns or 0))


def files_of(out_dir: Path, stem: str) -> RunFiles:
    """The files of the run with that stem, whether it has saved a checkpoint or not."""
    runs = [run for run in runs_in(out_dir) if run.stem == stem]
    return runs[0] if runs else RunFiles(out_dir, stem)


def is_of_run(folder: Path) -> bool:
    """Whether a folder holds the checkpoints of a run of the folder it lies in.

    Another `out_dir` that lies there (`out/muon`) has checkpoints too: of runs with other names.
    """
    paths = [
        path for path in checkpoint.candidates(folder) if path.resolve().parent == folder.resolve()
    ]
    if not paths or (folder.parent / f"{folder.name}{JOURNAL_SUFFIX}").is_file():
        return bool(paths)
    stems = []
    for path in paths:
        with contextlib.suppress(ValueError, OSError):
            stems.append(stem_of(checkpoint.load_rest(path)))
    return folder.name in stems if stems else STEM.fullmatch(folder.name) is not None


def loose(out_dir: Path, known: list[str]) -> dict[str, list[Path]]:
    """Stem -> the checkpoints that lie in `out_dir` itself, of before runs had folders."""
    found: dict[str, list[Path]] = {}
    unread: list[Path] = []
    for path in checkpoint.candidates(out_dir):
        if path.resolve().parent != out_dir.resolve():
            continue  # a link to that of a run
        try:
            stem = stem_of(checkpoint.load_rest(path)) or ""
        except (ValueError, OSError):
            unread.append(path)
        else:
            found.setdefault(stem, []).append(path)
    # What cannot be read does not say whose it is: whoever could own it names it as passed over.
    owners = list(found) or known
    if unread:
        found.setdefault(owners[0] if len(owners) == 1 else "", []).extend(unread)
    return found


def newest_first(paths: list[Path]) -> Iterator[Path]:
    """Each file once, the one written last first."""
    seen = set()
    for path in sorted(paths, key=lambda path: -path.stat().st_mtime_ns):
        status = path.stat()
        if (status.st_dev, status.st_ino) not in seen:
            seen.add((status.st_dev, status.st_ino))
            yield path


# Whose it is


def stem_of(state: State) -> str | None:
    """What the files of a checkpoint's run are called; None: it does not say."""
    stem = (state.get("run") or {}).get("stem")
    if stem is None and state.get("journal"):
        stem = str(state["journal"]["file"]).removesuffix(JOURNAL_SUFFIX)
    # A name, not a path: it must not lead out of the folder.
    return stem if isinstance(stem, str) and stem and Path(stem).name == stem else None


def run_id_of(state: State) -> str | None:
    """The identity of a checkpoint's run; None: it was written before there was one in it."""
    run_id = (state.get("run") or {}).get("run_id")
    return run_id if isinstance(run_id, str) else None


# The links beside them


def publish(files: RunFiles, path: Path, *, is_best: bool) -> None:
    """Let the names in `out_dir` itself point to the run's latest checkpoint, `path`.

    On rank 0 alone.

    Raises:
        OSError: the disk refused; what they pointed to before still stands.
    """
    is_folder = path.is_dir()
    names = [checkpoint.LATEST_FOLDER if is_folder else LATEST]
    if is_best:
        names.append(checkpoint.BEST_FOLDER if is_folder else BEST)
    for name in names:
        link = files.out_dir / name
        move_aside(link)
        if is_folder:
            checkpoint.point_to_folder(link, f"{files.stem}/{path.name}")
        else:
            link_to(link, files.folder / name)
    checkpoint.sync_folder(files.out_dir)


def link_to(link: Path, file: Path) -> None:
    """Let `link` be a relative symbolic link to `file`, or the file itself, or a copy of it."""
    try:
        target = file.relative_to(link.parent)
        checkpoint.point(link, lambda beside: beside.symlink_to(target))
    except OSError:
        checkpoint.second_name(link, file)


def move_aside(path: Path) -> None:
    """Keep what is about to lose its name and is nowhere else: a checkpoint of another program, or
    of a run from before there were folders."""
    if path.is_symlink() or not path.is_file() or checkpoint.pointed(path) != path:
        return
    try:
        stem = stem_of(checkpoint.load_rest(path))
    except (ValueError, OSError):
        stem = None
    if stem is None:
        kept = checkpoint.unused(path.with_name(f"{path.stem}.kept{path.suffix}"))
        path.rename(kept)
        print(f"{path}: it does not say which run it is of, and is kept as {kept}", file=sys.stderr)
        return
    own = path.parent / stem / path.name
    if own.exists():
        return  # a copy, where there are no links, or of before the run's latest
    own.parent.mkdir(exist_ok=True)
    path.rename(own)


def describe(files: RunFiles, status: str) -> str:
    """A run in a few words, for a list to choose from."""
    for path in files.checkpoints:
        with contextlib.suppress(ValueError, OSError):
            iteration = checkpoint.load_rest(path)["iter_num"]
            return f"{files.stem or path} ({status}, saved at iteration {iteration})"
    return f"{files.stem or files.checkpoints[0]} ({status}, no checkpoint that can be read)"


def only(files: RunFiles, path: Path) -> RunFiles:
    """The run with that checkpoint alone."""
    return replace(files, checkpoints=(path,))
