"""Where run files are: names, folders and globs -> runs. The one door to them."""

import glob
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import eventlog

SUFFIXES = (".json", ".jsonl")


@dataclass
class Found:
    """One run file, and the run in it or why there is none."""

    path: Path
    run: eventlog.Run | None
    error: str = ""


def find(names: Iterable[str]) -> list[Path]:
    """The run files that folders, globs and paths mean, a run JSON before its journal.

    A journal is taken where no run JSON stands beside it, or where it was written to
    after that: a live or crashed run is then seen as it is now.

    Raises:
        FileNotFoundError: a name means nothing; says which.
    """
    found: dict[Path, Path] = {}
    for name in names:
        path = Path(name)
        if path.is_dir():
            files = [p for p in sorted(path.iterdir()) if p.suffix in SUFFIXES]
        elif path.exists():
            found[path] = path
            continue
        else:
            files = [Path(p) for p in sorted(glob.glob(name)) if p.endswith(SUFFIXES)]
            if not files:
                raise FileNotFoundError(f"{name}: no such run, folder or glob")
        for file in files:
            known = found.get(file.with_suffix(""))
            if known is None or _is_newer(file, known):
                found[file.with_suffix("")] = file
    return list(found.values())


def load(names: Iterable[str]) -> Iterator[Found]:
    """Each run that `names` mean; a file that cannot be read is told, not raised."""
    for path in find(names):
        try:
            yield Found(path, eventlog.load_run(path))
        except (eventlog.EventlogError, OSError) as error:
            yield Found(path, None, str(error))


def _is_newer(journal: Path, snapshot: Path) -> bool:
    return journal.suffix == ".jsonl" and os.path.getmtime(journal) > os.path.getmtime(snapshot)
