"""`runs export`: write runs as files and databases of other programs."""

import argparse
import importlib
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

import eventlog

from ..core import runs
from ..core.history import History, Progress, Row, load
from ..core.library import MissingLibrary
from ..core.locks import lock
from ..core.table import print, print_json, print_table
from .targets.outcome import Outcome

TARGETS = ("csv", "parquet", "tensorboard", "wandb", "mlflow", "trackio")
COLUMNS = {"run": "run", "state": "state", "n_added": "added", "place": "in"}


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    summary = "Export runs to other programs; repeat it at any time: nothing is added twice."
    command = commands.add_parser("export", help=summary, description=summary)
    command.add_argument("paths", nargs="+", metavar="RUN")
    command.add_argument("--to", required=True, choices=TARGETS)
    command.add_argument(
        "--out", type=Path, default=Path("export"), metavar="DIR", help="default: export"
    )
    command.add_argument("--json", action="store_true", help="one JSON object per line")
    command.set_defaults(run=_export)


def _export(arguments: argparse.Namespace) -> int:
    paths = runs.find(arguments.paths)
    if not paths:
        print(f"no runs in {' '.join(arguments.paths)}", file=sys.stderr)
    rows, n_failed = [], 0
    with _locked(arguments.out), _progress() as progress:
        for path in paths:
            try:
                outcome = export(path, arguments.to, arguments.out, progress)
            except MissingLibrary as error:  # every run needs it
                print(error, file=sys.stderr)
                n_failed += 1
                break
            except (eventlog.EventlogError, OSError, runs.Refusal) as error:
                print(error, file=sys.stderr)
                n_failed += 1
            else:
                rows.append({"run": path.stem, "to": arguments.to} | asdict(outcome))
                if outcome.note and not arguments.json:
                    print(outcome.note, file=sys.stderr)
    if arguments.json:
        print_json(rows)
    elif rows:
        print_table(rows, COLUMNS)
    return 1 if n_failed else 0


def export(
    run: "Path | str | eventlog.Run", to: str, out: Path, progress: Progress | None = None
) -> Outcome:
    """Export a run to the target `to` in `out`, which then has all of the run and nothing else.

    Raises:
        tools.core.runs.Refusal: a library is missing, or the target refuses.
        eventlog.EventlogError, OSError: the run cannot be read, or the target cannot be written.
    """
    history = History(run) if isinstance(run, eventlog.Run) else load(Path(run))
    if progress is not None:
        history.progress = progress
    target: Callable[[History, Path], Outcome] = importlib.import_module(
        f".targets.{to}", __package__
    ).export
    return target(history, out)


@contextmanager
def _locked(out: Path) -> Iterator[None]:
    """Allow one export into a folder at a time: two would add the same points twice.

    The kernel releases the lock when the process ends, in whatever way.
    """
    out.mkdir(parents=True, exist_ok=True)
    with open(out / ".export.lock", "ab") as file:
        if lock(file.fileno()) is False:
            raise runs.Refusal(f"{out}: another export is writing there; wait until it has ended")
        yield


@contextmanager
def _progress() -> Iterator[Progress]:
    """A progress bar on stderr, where that is a terminal."""
    columns = TextColumn("rows"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    console = Console(stderr=True)
    with Bar(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("rows", total=None)

        def progress(rows: Iterable[Row], n_rows: int) -> Iterator[Row]:
            if n_rows < 1000:
                yield from rows
                return
            bar.reset(task, total=n_rows)
            for n, row in enumerate(rows):
                if n % 1000 == 0:
                    bar.update(task, completed=n)
                yield row

        yield progress
