"""Weights & Biases: an offline run, written by W&B itself and checked before it is renamed.

OUT/wandb/offline-run-<start>-<id> is complete or does not exist: W&B writes it into a temporary
folder, every point must be found in it, and then it is renamed. W&B
cannot continue an offline run, so a run that has grown is written again and replaces the earlier
one, under the same id. The names are those that the trainer uses (nanoGPT's: train/loss,
val/loss), all other series have their own; those that W&B has for itself (`_step`, ...) get a `_`
at their end. Numbers are float64; times, NaN and infinities are preserved. Words are values; W&B
has NaN as the text `NaN`, and reads that text as the number. Of several samples of the machine at
one step the last one counts. Metadata is in the config, under `metadata`. Of what the run defined
of its metrics, W&B has the axis, the summary (`best` as min or max) and `hidden`.

With WANDB_MODE=online it is then uploaded by `wandb sync`, with W&B's own settings.
"""

import contextlib
import fnmatch
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from eventlog import seconds

from ...core.history import NAMES, History
from ...core.library import need
from ...core.runs import Refusal
from ..sources.wandb_file import parsed, records, values
from .names import unreserved
from .outcome import Outcome, State

PROJECT = "runjournal"
ASIDE = ".writing"
WRITING_S = 30.0  # how long W&B may take to write what it has accepted
NOT_VALUES = frozenset(("_step", "_timestamp", "_runtime", "_wandb"))
RESERVED = NOT_VALUES | {""}
SUMMARIES = frozenset(("min", "max", "mean", "last", "first", "none"))
_WILD = re.compile(r"[*?[]")


class Step(NamedTuple):
    """One row of W&B's."""

    step: int
    time_s: float
    values: dict[str, float | str]

    @property
    def key(self) -> str:
        """The same for equal rows; made from text, because a NaN does not equal itself.

        W&B stores -0.0 as 0.0, so here they are equal.
        """
        pairs = sorted((name, _plain_value(value)) for name, value in self.values.items())
        return repr((self.step, float(self.time_s), pairs))


class Definition(NamedTuple):
    """What W&B knows of a metric."""

    name: str
    step_metric: str
    hidden: bool
    summary: tuple[str, ...]

    @property
    def arguments(self) -> dict[str, Any]:
        """For W&B's `define_metric`."""
        summary = ",".join(self.summary)
        known = {"step_metric": self.step_metric, "hidden": self.hidden, "summary": summary}
        return {"name": self.name} | {key: value for key, value in known.items() if value}


def export(history: History, out: Path) -> Outcome:
    wandb = need("wandb")
    config = history.run.config | {"metadata": history.run.metadata}
    steps = [step.key for step in _steps(history)]
    definitions = map(str, _definitions(history))
    expected = [_plain(config), *definitions, *steps, _exit_code(history)]
    place = out / "wandb" / f"offline-run-{_started(history)}-{history.id}"
    state: State = "replaced" if place.is_dir() else "new"
    if state == "replaced" and list(_read_back(place)) == expected:
        return Outcome(str(place), "unchanged", 0, _sync(place))
    aside = out / ASIDE / history.id
    shutil.rmtree(aside, ignore_errors=True)  # left by a killed export
    written = _write(wandb, history, config, aside)
    if not _becomes(written, expected):
        raise Refusal(f"{written}: W&B did not write every point; {place} was not changed")
    place.parent.mkdir(parents=True, exist_ok=True)
    if place.is_dir():
        place.rename(aside / "before")
    written.rename(place)
    shutil.rmtree(aside)
    with contextlib.suppress(OSError):
        aside.parent.rmdir()
    return Outcome(str(place), state, len(steps), _sync(place))


def _started(history: History) -> str:
    started_s = seconds(history.run.start_time) or 0.0
    return datetime.fromtimestamp(started_s, UTC).strftime("%Y%m%d_%H%M%S")


def _steps(history: History) -> Iterator[Step]:
    """W&B has one row per step: an evaluation and the iteration after it share it."""
    for step, points in groupby(history.points(), key=lambda point: point.step):
        if step < 0:
            raise Refusal(f"{history.run.run_name}: has step {step}; W&B takes none below 0")
        of_step: dict[str, float | str] = {}
        for point in points:
            named = (point.values | point.words).items()
            of_step |= {unreserved(name, RESERVED): value for name, value in named}
            time_s = point.time_s
        yield Step(step, time_s, of_step)


def _definitions(history: History) -> Iterator[Definition]:
    """What the run defined of its metrics, as far as W&B has it."""
    in_use = {*history.names.values()}
    exported = {
        name: other if (other := NAMES.get(key, name)) not in in_use else name
        for key, name in history.names.items()
    }
    for pattern, fields in (history.run.journal.get("definitions") or {}).items():
        axis = fields.get("step_metric")
        definition = Definition(
            pattern,
            "" if axis is None else unreserved(exported.get(axis, axis), RESERVED),
            fields.get("hidden") is True,
            tuple(sorted(_summaries(fields))),
        )
        is_glob = _WILD.search(pattern.removesuffix("*")) is not None  # W&B has them at the end
        names = fnmatch.filter(exported, pattern) if is_glob else [pattern]
        for name in names if any(definition[1:]) else ():
            yield definition._replace(name=unreserved(exported.get(name, name), RESERVED))


def _summaries(fields: dict[str, Any]) -> frozenset[str]:
    best = {"minimize": "min", "maximize": "max"}.get(str(fields.get("goal")), "last")
    summary = fields.get("summary")
    names = summary if isinstance(summary, list) else [summary]
    return SUMMARIES.intersection(best if name == "best" else name for name in names)


def _plain_value(value: float | str) -> float | str:
    return value if isinstance(value, str) else float(value) + 0.0


def _exit_code(history: History) -> int:
    return 1 if history.run.status in ("failed", "interrupted") else 0


def _write(wandb: Any, history: History, config: dict[str, Any], aside: Path) -> Path:
    """Let W&B write the run into the folder `aside`; returns the path of the run there."""
    aside.mkdir(parents=True)
    settings = wandb.Settings(
        console="off", disable_code=True, disable_git=True, silent=True,
        x_disable_machine_info=True, x_disable_meta=True, x_disable_stats=True,
        x_save_requirements=False,
    )  # fmt: skip
    run = wandb.init(
        project=os.environ.get("WANDB_PROJECT", PROJECT), id=history.id, config=config,
        name=history.run.run_name, mode="offline", dir=str(aside), settings=settings,
    )  # fmt: skip
    for definition in _definitions(history):
        run.define_metric(**definition.arguments)
    for step in _steps(history):
        run.log(step.values | {"_timestamp": step.time_s}, step=step.step)
    run.finish(exit_code=_exit_code(history))
    (written,) = (aside / "wandb").glob("offline-run-*")
    return Path(written)


def _read_back(place: Path) -> Iterator[Any]:
    """What W&B reads from its file: configuration, steps, exit code if it is complete."""
    for kind, record in records(next(place.glob("*.wandb"))):
        if kind == "run":
            config = {item.key: parsed(item.value_json) for item in record.config.update}
            yield _plain({k: v for k, v in config.items() if k not in NOT_VALUES})
        elif kind == "metric":
            summary = (field.name for field, _ in record.summary.ListFields())
            name, hidden = record.name or record.glob_name, record.options.hidden
            yield str(Definition(name, record.step_metric, hidden, tuple(sorted(summary))))
        elif kind == "history":
            item = values(record.item)
            points = {str(k): v for k, v in item.items() if k not in NOT_VALUES}
            yield Step(item["_step"], item["_timestamp"], points).key
        elif kind == "exit":
            yield record.exit_code


def _becomes(place: Path, expected: list[Any]) -> bool:
    """Whether the file has all that is expected; W&B's own process may still be writing it."""
    end_s = time.monotonic() + WRITING_S
    while True:
        with contextlib.suppress(Refusal):  # it has no record yet
            if list(_read_back(place)) == expected:
                return True
        if time.monotonic() > end_s:
            return False
        time.sleep(0.2)


def _plain(config: dict[str, Any]) -> str:
    """Sorted JSON, in which 1 and 1.0 are the same."""
    text = json.dumps(config, default=str)
    return json.dumps(json.loads(text, parse_int=float), sort_keys=True)


def _sync(place: Path) -> str:
    """Upload the run if WANDB_MODE says so; returns a note for the user."""
    if os.environ.get("WANDB_MODE") != "online":
        return f"to upload it: wandb sync {place}"
    if any(place.glob("*.wandb.synced")):
        return "uploaded before"
    command = [sys.executable, "-m", "wandb", "sync", str(place)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        output = (done.stderr or done.stdout).strip().splitlines() or ["no output"]
        raise Refusal(f"{place}: was written, but `wandb sync` failed: {output[-1]}")
    return "uploaded"
