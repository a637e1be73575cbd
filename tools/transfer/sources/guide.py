"""The run JSON of the training logging guide's logger, in both schemas, complete or crashed."""

import json
from collections.abc import Iterator
from pathlib import Path

import eventlog

from ...core.history import EVENTS
from ...core.runs import Refusal
from .reading import read_all, whole
from .source import Event, LossNames, Source, SourceRun

_KEYS = frozenset(
    ("run_name", "start_time", "end_time", "config", "training_iterations", "eval_steps",
     "checkpoints", "metadata", "summary", "journal")
)  # fmt: skip

_ORDER = {"evals": 0, "iterations": 2}  # of the rows of one iteration


def find(path: Path) -> list[Source]:
    """The runs in a file or folder."""
    files = sorted(path.glob("*.json")) if path.is_dir() else [path]
    return [Source([file], file.stem, file) for file in filter(Path.is_file, files) if _fits(file)]


def _fits(file: Path) -> bool:
    with open(file, "rb") as opened:
        return file.suffix == ".json" and b'"training_iterations"' in opened.read(1 << 20)


def read(source: Source, loss_names: LossNames) -> SourceRun:
    (path,) = source.files
    run = eventlog.load_run(path)
    if run.journal:
        raise Refusal(f"{path}: is a run JSON of this program already; all commands can read it")
    imported = SourceRun(run.run_name, [path], started=run.start_time, ended=run.end_time)
    imported.config = eventlog.restore_nonfinite(run.config)
    imported.metadata = dict(eventlog.restore_nonfinite(run.metadata))
    imported.metadata |= {k: v for k, v in json.loads(read_all(path)).items() if k not in _KEYS}
    imported.events = list(_events(run, imported.unreadable))
    if run.end_time:
        imported.reason = None
    else:
        imported.status, imported.reason = "interrupted", "the log has no end_time"
    return imported


def _events(run: eventlog.Run, unreadable: list[str]) -> Iterator[Event]:
    """In order of time: an evaluation and a checkpoint come before their iteration."""
    kinds = sorted(EVENTS.values(), key=lambda kind: _ORDER.get(kind.rule, 1))
    events = []
    for order, kind in enumerate(kinds):
        n_without = 0
        for row in map(eventlog.restore_nonfinite, getattr(run, kind.key)):
            if whole(row.get("iter")) is not None and type(row["iter"]) is int:
                events.append((row["iter"], order, kind.name, row))
            else:
                n_without += 1
        if n_without:
            unreadable.append(f"{n_without:,} rows of {kind.name!r} without an iteration number")
    events.sort(key=lambda item: item[:2])
    return ((kind, row) for _, _, kind, row in events)
