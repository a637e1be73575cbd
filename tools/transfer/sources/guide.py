"""The run JSON of the training logging guide's logger, in both schemas, complete or crashed."""

import json
from collections.abc import Iterator
from pathlib import Path

import eventlog

from ...core.history import EVENTS
from ...core.runs import Refusal
from .reading import read_all, whole
from .source_run import Event, LossNames, SourceRun

_KEYS = frozenset(
    ("run_name", "start_time", "end_time", "config", "training_iterations", "eval_steps",
     "checkpoints", "metadata", "summary", "journal")
)  # fmt: skip

_ORDER = {"evals": 0, "iterations": 2}  # of the rows of one iteration


def fits(path: Path) -> bool:
    if not path.is_file() or path.suffix != ".json":
        return False
    with open(path, "rb") as file:
        return b'"training_iterations"' in file.read(1 << 20)


def read(path: Path, loss_names: LossNames) -> Iterator[SourceRun]:
    run = eventlog.load_run(path)
    if run.journal:
        raise Refusal(f"{path}: is a run JSON of this program already; all commands can read it")
    imported = SourceRun(run.run_name, [path], started=run.start_time, ended=run.end_time)
    imported.config = eventlog.restore_nonfinite(run.config)
    imported.metadata = dict(eventlog.restore_nonfinite(run.metadata))
    imported.metadata |= {k: v for k, v in json.loads(read_all(path)).items() if k not in _KEYS}
    imported.events = list(_events(run, imported.left_out))
    if run.end_time:
        imported.reason = None
    else:
        imported.status, imported.reason = "interrupted", "the log has no end_time"
    return iter([imported])


def _events(run: eventlog.Run, left_out: list[str]) -> Iterator[Event]:
    """In order of time: an evaluation and a checkpoint come before their iteration."""
    kinds = sorted(EVENTS.values(), key=lambda kind: _ORDER.get(kind.rule, 1))
    events = []
    for order, kind in enumerate(kinds):
        for row in map(eventlog.restore_nonfinite, getattr(run, kind.key)):
            if whole(row.get("iter")) is not None and type(row["iter"]) is int:
                events.append((row["iter"], order, kind.name, row))
            else:
                left_out.append(f"a row without an iteration number: {str(row)[:80]}")
    events.sort(key=lambda item: item[:2])
    return ((kind, row) for _, _, kind, row in events)
