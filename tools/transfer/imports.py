"""`runs import`: write the files of other loggers as journals and run JSONs."""

import argparse
import hashlib
import importlib
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType
from typing import Any

from rich.console import Console
from rich.progress import track

import eventlog

from ..core import runs
from ..core.files import sha256_of
from ..core.table import print, print_json, print_table
from .sources.source_run import USUAL, LossNames, SourceRun

FORMATS = ("tensorboard", "wandb", "hf", "lightning", "nanogpt", "guide")
COLUMNS = {"run": "run", "state": "state", "events": "events", "source": "from"}
_BEGIN_BYTES = 1 << 20  # an `open` event is one line, and a line is no longer


@dataclass
class Imported:
    """What an import did."""

    run: Path
    state: str
    """`new`, `continued` (after an import that was killed) or `known` (nothing was done)."""
    events: int
    source: str
    left_out: list[str]


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    summary = "Import the files of other loggers; repeat it at any time: nothing is added twice."
    command = commands.add_parser("import", help=summary, description=summary)
    command.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="a file or a folder")
    command.add_argument("--from", choices=FORMATS, dest="format", help="default: detected")
    command.add_argument(
        "--out", type=Path, default=Path("out"), metavar="DIR", help="default: out"
    )
    command.add_argument("--loss", metavar="NAME", help="name of the training loss in the source")
    command.add_argument("--val-loss", metavar="NAME", help="its validation loss")
    command.add_argument("--json", action="store_true", help="one JSON object per line")
    command.set_defaults(run=_import)


def _import(arguments: argparse.Namespace) -> int:
    rows: list[dict[str, Any]] = []
    n_failed = 0
    loss_names = LossNames(arguments.loss, arguments.val_loss)
    for path in arguments.paths:
        try:
            for done in import_runs(path, arguments.format, arguments.out, loss_names):
                for reason in done.left_out:
                    print(f"{done.source}: left out: {reason}", file=sys.stderr)
                rows.append(
                    {"run": done.run.stem, "path": str(done.run), "state": done.state}
                    | {"events": done.events, "source": done.source, "left_out": done.left_out}
                )
        except (eventlog.EventlogError, OSError, runs.Refusal) as error:
            print(error, file=sys.stderr)
            n_failed += 1
    if arguments.json:
        print_json(rows)
    elif rows:
        print_table(rows, COLUMNS)
    return 1 if n_failed else 0


def import_runs(
    path: Path, format: str | None = None, out: Path = Path("out"), loss_names: LossNames = USUAL
) -> Iterator[Imported]:
    """Import each run in `path` as a journal and a run JSON in `out`.

    Records have the time of the import; the times of the source are in the field `timestamp`.
    `metadata.imported` names the source: files, sizes, SHA-256, format.

    Raises:
        tools.core.runs.Refusal: no format fits, a library is missing, or there is no event.
        eventlog.EventlogError, OSError: it cannot be read, or `out` cannot be written.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file or folder")
    if not path.is_file() and not path.is_dir():
        raise runs.Refusal(f"{path}: must be a file or a folder, is a FIFO, a socket or a device")
    format = format or detect(path)
    for run in _read(path, format, loss_names):
        if not run.events:
            reason = f" ({run.left_out[0]})" if run.left_out else ""
            raise runs.Refusal(f"{run.files[0]}: has nothing to import as {format}{reason}")
        yield _write(run, format, loss_names, out)


def _read(path: Path, format: str, loss_names: LossNames) -> Iterator[SourceRun]:
    """The runs in the source; any error of its reader becomes a line about the file.

    Raises:
        Refusal, eventlog.EventlogError, OSError: it cannot be read.
    """
    try:
        yield from _source(format).read(path, loss_names)
    except (runs.Refusal, eventlog.EventlogError, OSError, GeneratorExit):
        raise
    except Exception as error:  # files may contain anything
        message = str(error).partition("\n")[0][:200]
        raise runs.Refusal(
            f"{path}: cannot be read as {format}: {type(error).__name__}: {message}"
        ) from None


def _fits(format: str, path: Path) -> bool:
    try:
        return bool(_source(format).fits(path))
    except (OSError, ValueError, RecursionError):
        return False


def detect(path: Path) -> str:
    """The format that `path` looks like.

    Raises:
        tools.core.runs.Refusal: none, or several.
    """
    fitting = [format for format in FORMATS if _fits(format, path)]
    if len(fitting) == 1:
        return fitting[0]
    problem = "several formats fit: " + ", ".join(fitting) if fitting else "unknown format"
    raise runs.Refusal(f"{path}: {problem}; name it with --from {'|'.join(FORMATS)}")


def _source(format: str) -> ModuleType:
    return importlib.import_module(f".sources.{format}", __package__)


def _write(run: SourceRun, format: str, loss_names: LossNames, out: Path) -> Imported:
    """Log the events of the run, from where a killed import stopped; then compact."""
    imported = _provenance(run, format, loss_names)
    journal = _journal_of(out, imported["fingerprint"])
    source = str(run.files[0] if len(run.files) == 1 else run.files[0].parent)
    n_known, is_whole = _logged(journal, imported["fingerprint"]) if journal else (0, False)
    if journal is not None and is_whole:
        if not journal.with_suffix(".json").exists():
            eventlog.compact(journal)
        return Imported(journal, "known", n_known, source, run.left_out)
    session = eventlog.open_run(
        out,
        run_name=run.name,
        journal=journal,
        config=run.config,
        metadata=run.metadata | {"imported": imported},
        save_interval=0,  # compacted once, at the end
        durability="checkpoint",
        started=run.started,
    )
    remaining = run.events[n_known:]
    console = Console(stderr=True)
    quiet = not console.is_terminal or len(remaining) < 10_000
    for kind, fields in track(remaining, run.name, console=console, transient=True, disable=quiet):
        _log(session, kind, fields)
    more = {} if run.ended is None else {"ended": run.ended}
    session.close(run.status, run.reason, **more, imported_events=len(run.events))
    if session.errors:
        raise runs.Refusal(f"{session.journal_path}: {session.errors} events could not be logged")
    eventlog.compact(session.journal_path)
    state = "new" if journal is None else "continued"
    return Imported(session.journal_path, state, len(run.events), source, run.left_out)


def _log(session: eventlog.Session, kind: str, fields: dict[str, Any]) -> None:
    """Log an event through the methods that a trainer uses, so that types are the same."""
    fields = {f"{k}_" if k == "self" else k: v for k, v in fields.items()}
    if kind == "iter":
        session.log_iter(fields.pop("iter"), fields.pop("loss"), **fields)
    elif kind == "eval":
        losses = fields.pop("train_loss", None), fields.pop("val_loss", None)
        session.log_eval(fields.pop("iter"), *losses, **fields)
    elif kind == "checkpoint":
        session.log_checkpoint(fields.pop("iter"), fields.pop("path", ""), **fields)
    else:
        session.log(kind, **fields)


def _provenance(run: SourceRun, format: str, loss_names: LossNames) -> dict[str, Any]:
    files = [_file(path) for path in run.files]
    names = (
        f"Meaning(loss={loss_names.loss!r}, val_loss={loss_names.val_loss!r})"  # must not change
    )
    hashes = "\n".join([*sorted(file["sha256"] for file in files), format, names])
    return {
        "format": format,
        "files": files,
        "fingerprint": hashlib.sha256(hashes.encode()).hexdigest(),
        "importer": f"runjournal {_version()}",
        "started": run.started,
        "ended": run.ended,
        "left_out": run.left_out[:100],
    }


def _file(path: Path) -> dict[str, Any]:
    size_bytes = path.stat().st_size
    return {"file": str(path.resolve()), "size_bytes": size_bytes, "sha256": sha256_of(path)}


def _version() -> str:
    with suppress(PackageNotFoundError):
        return version("runjournal")
    return "unknown"


def _journal_of(out: Path, fingerprint: str) -> Path | None:
    """The journal in `out` into which the same source was imported."""
    for path in sorted(filter(Path.is_file, out.glob("*.jsonl"))):
        with open(path, "rb") as file:
            if f'"fingerprint":"{fingerprint}"'.encode() in file.read(_BEGIN_BYTES):
                return path
    return None


def _logged(journal: Path, fingerprint: str) -> tuple[int, bool]:
    """How many events of the source are in the journal, and whether that is all of them.

    After a killed import it has the first ones: the same source yields the same events in the
    same order.
    """
    sessions: set[str] = set()
    n_events, is_whole = 0, False
    for record in eventlog.scan(journal):
        if record.event == "open":
            imported = record.fields.get("metadata", {}).get("imported", {})
            if imported.get("fingerprint") == fingerprint:
                sessions.add(record.s)
        elif record.s in sessions and record.event == "close":
            is_whole = is_whole or "imported_events" in record.fields
        elif record.s in sessions:
            n_events += 1
    return n_events, is_whole
