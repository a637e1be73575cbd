"""`runs import`: write the files of other loggers as journals and run JSONs."""

import argparse
import importlib
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import eventlog

from ..core.runs import Refusal
from ..core.table import print, print_json, print_table, with_progress
from .journals import Journals, Progress
from .sources.source import USUAL, LossNames, Source, SourceRun

FORMATS = ("tensorboard", "wandb", "hf", "lightning", "nanogpt", "guide")
_LONG = 10_000  # events, of which logging takes long enough for a progress bar
COLUMNS = {"run": "run", "state": "state", "events": "events", "source": "from", "why": "why"}
SUMMARY = "Import the files of other loggers; repeat it at any time: nothing is added twice."
DESCRIPTION = f"""{SUMMARY}
Every run of a folder is tried. Each is `new`, `grown` (what is new was added), `continued` (after
an import that was killed), `known` (nothing was added), without data, or refused. Values that are
left out are named on stderr, with their number.
Exit code: 0 if every run that has data was imported, 1 otherwise."""


@dataclass
class Imported:
    """What became of one run of a source."""

    source: Path
    state: str
    """As in DESCRIPTION: `new`, `grown`, `continued`, `known`, `no data`, `refused`."""
    run: Path | None = None
    events: int = 0
    why: str = ""
    """Why it was refused, or has no data."""
    left_out: list[str] = field(default_factory=list)

    def to_row(self) -> dict[str, Any]:
        return {
            "run": self.run and self.run.stem,
            "path": self.run and str(self.run),
            "state": self.state,
            "events": self.events,
            "source": str(self.source),
            "why": self.why.removeprefix(f"{self.source}: ") or None,
            "left_out": self.left_out,
        }


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    command = commands.add_parser("import", help=SUMMARY, description=DESCRIPTION)
    command.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="a file or a folder")
    command.add_argument("--from", choices=FORMATS, dest="format", help="default: detected")
    command.add_argument(
        "--out", type=Path, default=Path("out"), metavar="DIR", help="default: out"
    )
    command.add_argument("--loss", metavar="NAME", help="name of the training loss in the source")
    command.add_argument("--val-loss", metavar="NAME", help="its validation loss")
    command.add_argument("--json", action="store_true", help="one JSON object per run")
    command.set_defaults(run=_import)


def _import(arguments: argparse.Namespace) -> int:
    done: list[Imported] = []
    loss_names = LossNames(arguments.loss, arguments.val_loss)
    for one in import_runs(arguments.paths, arguments.format, arguments.out, loss_names):
        done.append(one)
        for reason in one.left_out:
            print(f"{one.source}: left out: {reason}", file=sys.stderr)
        if one.why:
            print(one.why, file=sys.stderr)
    rows = [one.to_row() for one in done]
    if arguments.json:
        print_json(rows)
    else:
        columns = {k: v for k, v in COLUMNS.items() if k != "why" or any(r["why"] for r in rows)}
        print_table(rows, columns)
    print(_counts(done), file=sys.stderr if arguments.json else sys.stdout)
    return 1 if any(one.state == "refused" for one in done) else 0


def _counts(done: Sequence[Imported]) -> str:
    states = Counter(one.state for one in done)
    n_others = states["no data"] + states["refused"]
    return (
        f"{len(done) - n_others:,} imported, {states['no data']:,} without data, "
        f"{states['refused']:,} refused"
    )


def import_runs(
    paths: Sequence[Path],
    format: str | None = None,
    out: Path = Path("out"),
    loss_names: LossNames = USUAL,
) -> Iterator[Imported]:
    """Import each run in `paths` as a journal and a run JSON in `out`; none ends the others.

    Records have the time of the import; the times of the source are in the field `timestamp`.
    """
    sources: dict[tuple[str, Path], Source] = {}
    for path in paths:
        try:
            name, found = _find(path, format)
            for source in found:
                known = sources.setdefault((name, source.place), source)
                known.files = [*dict.fromkeys(known.files + source.files)]
        except (Refusal, OSError) as error:
            yield Imported(path, "refused", why=str(error))
    journals = Journals(out)
    bar = partial(with_progress, label="import", at_least=_LONG)  # there is only one at a time
    items = [(name, source) for (name, _), source in sources.items()]
    for name, source in with_progress(items, "import"):
        yield _import_one(name, source, journals, loss_names, bar if len(items) == 1 else iter)


def _import_one(
    format: str, source: Source, journals: Journals, loss_names: LossNames, progress: Progress
) -> Imported:
    """Import a run; what it is refused for is in the result."""
    place = source.files[0] if len(source.files) == 1 else source.files[0].parent
    try:
        run = _read(format, source, loss_names)
        left_out = [*run.unreadable, *run.left_out]
        if not (run.events or run.summary):
            reason = f" ({left_out[0]})" if left_out else ""
            why = f"{place}: has nothing to import as {format}{reason}"
            is_readable = source.is_detected and not run.unreadable
            return Imported(place, "no data" if is_readable else "refused", why=why)
        written = journals.write(run, format, loss_names, progress)
    except (Refusal, eventlog.EventlogError, OSError) as error:
        return Imported(place, "refused", why=str(error))
    return Imported(place, written.state, written.journal, written.events, "", left_out)


def _read(format: str, source: Source, loss_names: LossNames) -> SourceRun:
    """The run of a source; any error of its reader becomes a line about the file.

    Raises:
        Refusal, eventlog.EventlogError, OSError: it cannot be read.
    """
    try:
        run: SourceRun = _source(format).read(source, loss_names)
        return run
    except (Refusal, eventlog.EventlogError, OSError):
        raise
    except Exception as error:  # files may contain anything
        message = str(error).partition("\n")[0][:200]
        raise Refusal(
            f"{source.files[0]}: cannot be read as {format}: {type(error).__name__}: {message}"
        ) from None


def _find(path: Path, format: str | None) -> tuple[str, list[Source]]:
    """The format of `path`, detected if it is None, and the runs in it.

    Raises:
        Refusal, OSError: there is none, or several formats fit.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file or folder")
    if not path.is_file() and not path.is_dir():
        raise Refusal(f"{path}: must be a file or a folder, is a FIFO, a socket or a device")
    if format is not None:
        found: list[Source] = _source(format).find(path)
        if path.is_dir() and not found:
            raise Refusal(f"{path}: has no files of the format {format}")
        return format, found or [Source([path], path.stem, path, is_detected=False)]
    fitting = {name: found for name in FORMATS if (found := _detected(name, path))}
    if len(fitting) == 1:
        return next(iter(fitting.items()))
    problem = "several formats fit: " + ", ".join(fitting) if fitting else "unknown format"
    raise Refusal(f"{path}: {problem}; name it with --from {'|'.join(FORMATS)}")


def _detected(format: str, path: Path) -> list[Source]:
    try:
        found: list[Source] = _source(format).find(path)
        return found
    except (OSError, ValueError, RecursionError):
        return []


def _source(format: str) -> ModuleType:
    return importlib.import_module(f".sources.{format}", __package__)
