"""The checkpoints in one folder: their names, the links to them, and how to find them.

ckpt.pt              the latest: a dict for torch.load(weights_only=True), with nanoGPT's keys
                     and a few more
best.pt              the one with the best val loss: a hard link, not a copy
ckpt.00000500.pt     earlier ones, if several are kept
ckpt.00000500/       a sharded checkpoint: a folder that all ranks write together (torch's
                     distributed checkpoint); `ckpt` and `best` then point to folders
"""

import contextlib
import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from trainer.storage.files import replace_by, sync

FORMAT = 2
LATEST, BEST = "ckpt.pt", "best.pt"
LATEST_FOLDER, BEST_FOLDER = "ckpt", "best"
META, MANIFEST = "meta.pt", "manifest.json"  # in the folder of a sharded checkpoint
TENSORS = ("model", "optimizer")  # the keys of a checkpoint that hold tensors
POINTER_MAX_BYTES = 4096
NUMBERED = re.compile(r"ckpt\.\d{8}(-\d+)?")  # the name of a numbered checkpoint without ".pt"

CheckpointFormat = Literal["full", "sharded"]
State = dict[str, Any]


def find(out_dir: Path, which: Literal["latest", "best"]) -> Path:
    """The latest or best checkpoint; of a file and a folder, the newer one."""
    names = {"latest": (LATEST, LATEST_FOLDER), "best": (BEST, BEST_FOLDER)}[which]
    targets = [link_target(out_dir / name) for name in names if (out_dir / name).exists()]
    existing = [path for path in targets if path.exists()]
    return max(existing, key=lambda path: path.stat().st_mtime_ns, default=out_dir / names[0])


def checkpoints_in(out_dir: Path) -> list[Path]:
    """Every complete checkpoint in the folder once, the newest first."""
    names = [LATEST, *(path.name for path in reversed(numbered(out_dir, ".pt")))]
    names += [LATEST_FOLDER, *(path.name for path in reversed(numbered(out_dir, "")))]
    names += [BEST, BEST_FOLDER]
    return newest_first(link_target(out_dir / name) for name in names)


def newest_first(paths: Iterable[Path]) -> list[Path]:
    """Each existing file or folder once (a file may have several names), the newest first."""
    times: dict[tuple[int, int], tuple[int, Path]] = {}
    for path in paths:
        with contextlib.suppress(OSError):
            status = path.stat()
            times.setdefault((status.st_dev, status.st_ino), (-status.st_mtime_ns, path))
    return [path for _, path in sorted(times.values(), key=lambda item: item[0])]


def numbered(out_dir: Path, suffix: Literal[".pt", ""]) -> list[Path]:
    """The numbered files (".pt") or folders (""), the oldest first.

    Ordered by time, not by iteration: after a rewind a run writes lower numbers later.
    """
    pattern = re.compile(NUMBERED.pattern + re.escape(suffix))
    paths = [path for path in out_dir.glob("ckpt.*") if pattern.fullmatch(path.name)]
    return sorted(paths, key=lambda path: path.stat().st_mtime_ns)


def link_to_folder(link: Path, target: str) -> None:
    """Point `link` to the folder `target`: by a symbolic link, or else a file with its name."""

    def make(temporary: Path) -> None:
        try:
            temporary.symlink_to(target)
        except OSError:
            temporary.unlink(missing_ok=True)
            temporary.write_text(target, "utf-8")
            sync(temporary)

    replace_by(link, make)


def link_target(path: Path) -> Path:
    """The path that a link of `link_to_folder` points to; any other path itself."""
    if path.is_symlink():
        return path.parent / path.readlink()
    if path.suffix or not path.is_file() or path.stat().st_size > POINTER_MAX_BYTES:
        return path
    target = Path(path.read_text("utf-8", "replace"))
    is_safe = len(target.parts) <= 2 and ".." not in target.parts and not target.is_absolute()
    return path.parent / target if is_safe and NUMBERED.fullmatch(target.name) else path


def partial_name(folder: Path) -> Path:
    """The name of a folder while it is being written or removed."""
    return folder.with_name(f".{folder.name}.partial")


def remove_partial(out_dir: Path) -> None:
    """Remove the folders that were not written completely or not removed completely."""
    for partial in out_dir.glob(".ckpt.*.partial"):
        shutil.rmtree(partial, ignore_errors=True)


def unused_name(path: Path) -> Path:
    """`path`, or `path` with "-1", "-2", ... added where that name exists already."""
    names = [path, *(path.with_name(f"{path.name}-{n}") for n in range(1, 10_000))]
    return next(name for name in names if not name.exists())
