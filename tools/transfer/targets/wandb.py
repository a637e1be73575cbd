"""Weights & Biases: an offline run, written by W&B itself and read back before it counts.

OUT/wandb/offline-run-<start>-<id> is whole or not there: W&B writes it into a folder aside,
its reader (`wandb leet inspect`) must find every point in it, and then it is renamed. W&B
cannot go on with an offline run, so that one that has grown is written anew and replaces the
earlier one, under the same id. The names are those the trainer uses (nanoGPT's: train/loss,
val/loss). Numbers are float64; times, NaN and infinities are kept; metadata stands in the
config, under `metadata`.

With WANDB_MODE=online what was written is then given to `wandb sync`, by W&B's own settings.
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from ...core.history import History
from ...core.library import need
from ...core.runs import Refusal
from ...core.times import seconds
from ..sources.wandb import records
from .outcome import Outcome, State

PROJECT = "runjournal"
ASIDE = ".writing"
NOT_VALUES = frozenset(("_step", "_timestamp", "_runtime", "_wandb"))


class Step(NamedTuple):
    """One row of W&B's."""

    iter: int
    time_s: float
    values: dict[str, float]

    @property
    def key(self) -> str:
        """What two equal rows have in common; a NaN equals no other, its text does.

        W&B keeps a -0.0 as 0.0, so here they are equal.
        """
        figures = sorted((name, value + 0.0) for name, value in self.values.items())
        return repr((self.iter, float(self.time_s), figures))


def export(history: History, out: Path) -> Outcome:
    wandb = need("wandb")
    config = history.run.config | {"metadata": history.run.metadata}
    wanted = [_plain(config), *(s.key for s in _steps(history)), _exit_code(history)]
    place = out / "wandb" / f"offline-run-{_started(history)}-{history.id}"
    state: State = "replaced" if place.is_dir() else "new"
    if state == "replaced" and list(_held(place)) == wanted:
        return Outcome(str(place), "unchanged", 0, _sync(place))
    aside = out / ASIDE / history.id
    shutil.rmtree(aside, ignore_errors=True)  # what a killed export left
    written = _write(wandb, history, config, aside)
    if list(_held(written)) != wanted:
        raise Refusal(f"{written}: W&B did not keep every point; {place} is as it was")
    place.parent.mkdir(parents=True, exist_ok=True)
    if place.is_dir():
        place.rename(aside / "before")
    written.rename(place)
    shutil.rmtree(aside)
    with contextlib.suppress(OSError):
        aside.parent.rmdir()
    return Outcome(str(place), state, len(wanted) - 2, _sync(place))


def _started(history: History) -> str:
    started_s = seconds(history.run.start_time) or 0.0
    return datetime.fromtimestamp(started_s, UTC).strftime("%Y%m%d_%H%M%S")


def _steps(history: History) -> Iterator[Step]:
    """W&B knows one row a step: an evaluation and the iteration after it share it."""
    for i, points in groupby(history.points(), key=lambda point: point.iter):
        values: dict[str, float] = {}
        for point in points:
            values |= point.values
            time_s = point.time_s
        yield Step(i, time_s, values)


def _exit_code(history: History) -> int:
    return 1 if history.run.status in ("failed", "interrupted") else 0


def _write(wandb: Any, history: History, config: dict[str, Any], aside: Path) -> Path:
    """Let W&B write the run into the folder `aside`; where it is there."""
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
    for step in _steps(history):
        run.log(step.values | {"_timestamp": step.time_s}, step=step.iter)
    run.finish(exit_code=_exit_code(history))
    (written,) = (aside / "wandb").glob("offline-run-*")
    return Path(written)


def _held(place: Path) -> Iterator[Any]:
    """What W&B reads in its file: the configuration, the steps, the exit code if it is whole."""
    for kind, told in records(next(place.glob("*.wandb"))):
        if kind == "run":
            config = told.get("config", {}).get("update", {})
            yield _plain({k: v for k, v in config.items() if k not in NOT_VALUES})
        elif kind == "history":
            item = told["item"]
            values = {k: float(v) for k, v in item.items() if k not in NOT_VALUES}
            yield Step(item["_step"], item["_timestamp"], values).key
        elif kind == "exit":
            yield told.get("exit_code", 0)


def _plain(config: dict[str, Any]) -> str:
    """JSON in one order, whole numbers alike whether they are floats or not."""
    text = json.dumps(config, default=str)
    return json.dumps(json.loads(text, parse_int=float), sort_keys=True)


def _sync(place: Path) -> str:
    """Give it to W&B's servers where W&B's own settings say so; what to say of it."""
    if os.environ.get("WANDB_MODE") != "online":
        return f"to send it: wandb sync {place}"
    if any(place.glob("*.wandb.synced")):
        return "synced before"
    command = [sys.executable, "-m", "wandb", "sync", str(place)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        words = (done.stderr or done.stdout).strip().splitlines() or ["no word"]
        raise Refusal(f"{place}: is written; `wandb sync` failed: {words[-1]}")
    return "synced"
