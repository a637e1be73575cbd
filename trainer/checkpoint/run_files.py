"""Which checkpoints in a folder belong to which run.

    out/run_20261129_163540.jsonl     the journal of a run
    out/run_20261129_163540/          its checkpoints: ckpt.pt, best.pt, ckpt.00000500.pt, ...
    out/ckpt.pt, out/best.pt          links to those of the run that saved last
    out/ckpt, out/best                the same for sharded checkpoints

A run writes and removes files only in its own folder. In the old layout runs wrote `out/ckpt.pt`
itself: these files are read where they are, and moved into their run's folder before a link takes
their name.
"""

import contextlib
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from trainer.checkpoint import layout, read
from trainer.checkpoint.journal import JOURNAL_SUFFIX
from trainer.checkpoint.layout import State, checkpoints_in, newest_first
from trainer.storage.files import link_or_copy, replace_by, sync_folder

STEM = re.compile(r"(?P<name>.+)_\d{8}_\d{6}(_\d+)?", re.DOTALL)
"""The pattern of the names of a run's files."""


@dataclass(frozen=True)
class RunFiles:
    """The checkpoints of one run in a folder, and the place of its journal."""

    out_dir: Path
    stem: str
    """The name of its files; empty: the checkpoints do not say which run they belong to."""
    checkpoints: tuple[Path, ...] = ()
    """The newest first."""

    @property
    def folder(self) -> Path:
        """The folder of its checkpoints."""
        return self.out_dir / self.stem

    @property
    def journal(self) -> Path | None:
        """Its journal, if it exists."""
        path = self.out_dir / f"{self.stem}{JOURNAL_SUFFIX}"
        return path if self.stem and path.is_file() else None

    @property
    def written_ns(self) -> int | None:
        """When its newest checkpoint was written; None without one."""
        return max((path.stat().st_mtime_ns for path in self.checkpoints), default=None)


# Finding them


def runs_in(out_dir: Path) -> list[RunFiles]:
    """Every run that has a checkpoint in the folder, the one that saved last first."""
    paths_of: dict[str, list[Path]] = {}
    for folder in sorted(out_dir.iterdir()) if out_dir.is_dir() else ():
        if folder.is_dir() and not folder.is_symlink() and is_run_folder(folder):
            paths_of[folder.name] = checkpoints_in(folder)
    for stem, paths in old_layout(out_dir, list(paths_of)).items():
        paths_of[stem] = [*paths_of.get(stem, []), *paths]
    runs = [
        RunFiles(out_dir, stem, tuple(newest_first(paths)))
        for stem, paths in paths_of.items()
        if paths
    ]
    return sorted(runs, key=lambda run: -(run.written_ns or 0))


def files_of(out_dir: Path, stem: str) -> RunFiles:
    """The files of the run with that stem, which may not have a checkpoint yet."""
    runs = [run for run in runs_in(out_dir) if run.stem == stem]
    return runs[0] if runs else RunFiles(out_dir, stem)


def is_run_folder(folder: Path) -> bool:
    """Whether a folder holds the checkpoints of a run whose `out_dir` is its parent.

    Another `out_dir` in it (`out/muon`) has checkpoints too, of runs with other names.
    """
    paths = [path for path in checkpoints_in(folder) if path.resolve().parent == folder.resolve()]
    if not paths or (folder.parent / f"{folder.name}{JOURNAL_SUFFIX}").is_file():
        return bool(paths)
    stems = []
    for path in paths:
        with contextlib.suppress(ValueError, OSError):
            stems.append(stem_of(read.load_without_shards(path)))
    return folder.name in stems if stems else STEM.fullmatch(folder.name) is not None


def old_layout(out_dir: Path, known: list[str]) -> dict[str, list[Path]]:
    """Stem -> the checkpoints in `out_dir` itself, from before runs had folders."""
    paths_of: dict[str, list[Path]] = {}
    unreadable: list[Path] = []
    for path in checkpoints_in(out_dir):
        if path.resolve().parent != out_dir.resolve():
            continue  # a link to a run's checkpoint
        try:
            stem = stem_of(read.load_without_shards(path)) or ""
        except (ValueError, OSError):
            unreadable.append(path)
        else:
            paths_of.setdefault(stem, []).append(path)
    # An unreadable one is assigned to the only run that could own it, which reports it as skipped.
    owners = list(paths_of) or known
    if unreadable:
        paths_of.setdefault(owners[0] if len(owners) == 1 else "", []).extend(unreadable)
    return paths_of


def describe(files: RunFiles, status: str) -> str:
    """One entry of a list of runs: name, status and iteration."""
    for path in files.checkpoints:
        with contextlib.suppress(ValueError, OSError):
            iteration = read.load_without_shards(path)["iter_num"]
            return f"{files.stem or path} ({status}, saved at iteration {iteration})"
    return f"{files.stem or files.checkpoints[0]} ({status}, no readable checkpoint)"


# The run that a checkpoint belongs to


def stem_of(state: State) -> str | None:
    """The name of the files of a checkpoint's run; None: it does not say."""
    stem = (state.get("run") or {}).get("stem")
    if stem is None and state.get("journal"):
        stem = str(state["journal"]["file"]).removesuffix(JOURNAL_SUFFIX)
    # A path instead of a name could lead out of the folder.
    return stem if isinstance(stem, str) and stem and Path(stem).name == stem else None


def run_id_of(state: State) -> str | None:
    """The run id of a checkpoint; None in checkpoints of early versions."""
    run_id = (state.get("run") or {}).get("run_id")
    return run_id if isinstance(run_id, str) else None


# The links in `out_dir` itself


def update_links(files: RunFiles, path: Path, *, is_best: bool) -> None:
    """Point the names in `out_dir` to the run's latest checkpoint, `path`. On rank 0 only.

    Raises:
        OSError: a link cannot be replaced; the old one is intact.
    """
    is_folder = path.is_dir()
    names = [layout.LATEST_FOLDER if is_folder else layout.LATEST]
    if is_best:
        names.append(layout.BEST_FOLDER if is_folder else layout.BEST)
    for name in names:
        link = files.out_dir / name
        move_aside(link)
        if is_folder:
            layout.link_to_folder(link, f"{files.stem}/{path.name}")
        else:
            link_to_file(link, files.folder / name)
    sync_folder(files.out_dir)


def link_to_file(link: Path, file: Path) -> None:
    """Replace `link` by a relative symbolic link to `file`, or else a hard link or a copy."""
    try:
        target = file.relative_to(link.parent)
        replace_by(link, lambda temporary: temporary.symlink_to(target))
    except OSError:
        link_or_copy(file, link)


def move_aside(path: Path) -> None:
    """Keep a checkpoint whose name a link is about to take: of another program, or of a run in
    the old layout."""
    if path.is_symlink() or not path.is_file() or layout.link_target(path) != path:
        return
    try:
        stem = stem_of(read.load_without_shards(path))
    except (ValueError, OSError):
        stem = None
    if stem is None:
        new = layout.unused_name(path.with_name(f"{path.stem}.kept{path.suffix}"))
        path.rename(new)
        print(f"{path}: it does not say which run it belongs to; kept as {new}", file=sys.stderr)
        return
    destination = path.parent / stem / path.name
    if destination.exists():
        return  # a copy, where links do not work, or older than the run's latest
    destination.parent.mkdir(exist_ok=True)
    path.rename(destination)
