"""The tuner: keeps the slots busy with trials until the study is done.

Optuna asks in this process; each trial is a process of its own that knows nothing of it. What a
trial achieves is read from its journal as it grows, and one that is worse than others is asked to
end. Killed and started again, the tuner goes on: trials that live are taken up as they are, those
that died are continued, what is finished is not repeated.
"""

import os
import signal
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

import eventlog

from ..core.table import cell, one_line
from ..core.text import print
from . import slots, space
from .template import Template, program

if TYPE_CHECKING:
    from .study import Result, Study
    from .trial import Trial

LOOK_S = 0.2  # between two looks at the trials; each is a few calls of stat
VARIABLE = "EVENTLOG_METADATA"


@dataclass(frozen=True)
class Limits:
    """How patient a tuner is, in seconds and failures in a row."""

    silence_s: float = 600.0
    grace_s: float = 30.0
    timeout_s: float | None = None
    n_failures: int = 3


class Tuner:
    """Keeps the slots busy until the study is done, or something ends it."""

    def __init__(
        self, study: "Study", template: Template, places: list[slots.Slot], limits: Limits
    ) -> None:
        self.study = study
        self.running: list[Trial] = []
        self.stopped_by: str | None = None
        """Why the study ends before it is done."""
        self._template = template
        self._slots = places
        self._limits = limits
        self._began = time.monotonic()
        self._n_failed = 0  # in a row

    def run(self) -> None:
        """Until no trial runs and none is to come."""
        for result in self.study.unfinished:
            self._take_up(result)
        while True:
            for trial in list(self.running):
                self._look(trial)
            self._mind_the_time()
            while self.stopped_by is None and len(self.running) < len(self._slots):
                following = self._next()
                if following is None:
                    break
                self._begin(following)
            if not self.running:
                return
            if self.stopped_by is not None:
                self.stop(self.stopped_by)  # also what began in that very moment
            time.sleep(LOOK_S)

    @property
    def has_failed(self) -> bool:
        """Whether so many trials failed in a row that it must be the command."""
        return self._n_failed >= self._limits.n_failures

    def stop(self, why: str) -> None:
        """Ask all trials to end; they can be continued."""
        self.stopped_by = self.stopped_by or why
        for trial in self.running:
            trial.stop("stopped", self._limits.grace_s)

    # ---- a trial's life

    def _next(self) -> "Result | None":
        """The trial that comes next: one that has to go on, or a new one; None: no more."""
        at_it = {trial.number for trial in self.running}
        for result in self.study.unfinished:
            if result.number not in at_it:
                return result
        return self.study.ask() if len(self.study.results) < self.study.n_trials else None

    def _take_up(self, result: "Result") -> None:
        """A trial of an earlier tuner: it lives, or it came to its end unseen, or it goes on."""
        trial = self._trial(result, result.slot)
        if trial.adopt():
            self.running.append(trial)
            self._say(trial, "still runs, and is watched again")
            if result.pruned_at is not None:
                trial.stop("pruned", self._limits.grace_s)
            return
        run = trial.run()
        if result.pruned_at is not None:
            trial.ending = "pruned"
        if trial.ending == "pruned" or (run and run.status in ("completed", "failed")):
            self._report(trial, to_the_end=True)
            self._end(trial)

    def _begin(self, result: "Result") -> None:
        free = set(range(len(self._slots))) - {trial.slot for trial in self.running}
        trial = self._trial(result, min(free, default=0))
        command = self.command_of(result.params, trial.folder, result.number)
        told = {
            "group": self.study.name,
            "trial": result.number,
            "params": result.params,
        }
        environment = os.environ | self._slots[trial.slot].environment()
        environment |= {VARIABLE: orjson.dumps(told).decode()}
        self._say(trial, "goes on" if result.n_starts else _told_params(result.params))
        try:
            trial.start([program(command[0]), *command[1:]], environment)
        except OSError as error:
            self.study.note_start(trial.number, trial.slot, command)
            self._fail(trial, f"cannot be started: {error}")
            return
        self.study.note_start(trial.number, trial.slot, command)
        self.running.append(trial)

    def _look(self, trial: "Trial") -> None:
        """Take what a trial has written, and end it if that is bad, or if there is nothing."""
        is_alive = trial.is_alive  # before its journal is read: what it wrote last is then seen
        self._report(trial, to_the_end=not is_alive)
        if not is_alive:
            self.running.remove(trial)
            self._end(trial)
        elif time.monotonic() - trial.heard > self._limits.silence_s:
            trial.stop("silent", self._limits.grace_s)
        trial.press()

    def _report(self, trial: "Trial", *, to_the_end: bool) -> None:
        """Tell Optuna each new evaluation; the first that is found wanting ends the trial."""
        new = trial.read_on(self.study.plan.metric.field, to_the_end=to_the_end)
        for iter_num, value in sorted(new.items()):
            if self.study.report(trial.number, iter_num, value) and trial.ending is None:
                if to_the_end:
                    continue  # it has come to its end anyway
                self.study.note_prune(trial.number, iter_num)
                trial.stop("pruned", self._limits.grace_s)

    def _end(self, trial: "Trial") -> None:
        """A trial whose process is gone: what came of it."""
        run = trial.run()
        status = None if run is None else run.status
        metric = self.study.plan.metric
        evals = [] if run is None else run.eval_steps
        value = metric.of([float(e[metric.field]) for e in evals if _is_figure(e, metric.field)])
        is_whole = status == "completed" or (
            trial.ending is None and trial.exit_code == 0 and status != "failed"
        )
        if is_whole and value is not None:
            self._tell(trial, "complete", value, run)
        elif trial.ending == "pruned":
            self._tell(trial, "pruned", value, run)
        elif trial.ending == "stopped":
            self._say(trial, "stopped; it goes on with the study")
        elif trial.ending is None and trial.exit_code is None and status in (None, "interrupted"):
            self._say(trial, "ended while nobody looked; it goes on")
        else:
            self._fail(trial, self._why(trial, run, is_whole), run)

    def _why(self, trial: "Trial", run: eventlog.Run | None, is_whole: bool) -> str:
        """What a trial failed of, in a line."""
        code, field = trial.exit_code, self.study.plan.metric.field
        last = one_line(trial.last_words())
        if trial.ending == "silent":
            words = f"no new event for {self._limits.silence_s:g} s"
        elif is_whole and run is None:
            words = "ended well, but left no journal"
        elif is_whole:
            words = f"ended well, but none of its evaluations has a number as {field}"
        elif run is not None and run.status == "failed":
            return str(run.journal.get("reason") or "failed")
        elif code is not None and code < 0:
            words = f"killed by {signal.Signals(-code).name}"
        else:
            words = f"exit status {code}"
        return f"{words}: {last}" if last else words

    def _fail(self, trial: "Trial", why: str, run: eventlog.Run | None = None) -> None:
        self._tell(trial, "failed", None, run, why)
        if self.has_failed:
            self.stop(f"{self._n_failed} trials in a row failed")

    def _tell(
        self, trial: "Trial", state: Any, value: float | None, run: eventlog.Run | None,
        reason: str | None = None,
    ) -> None:  # fmt: skip
        journal = trial.journal
        if state != "complete" and journal is not None and run is not None:
            # Before it is told: a tuner that is killed in between does it again.
            with suppress(eventlog.EventlogError, OSError):  # it is a courtesy to `runs ls`
                eventlog.annotate(journal, "tag", add=[state], by="runs tune")
        self.study.tell(
            trial.number, state, value, values=trial.values, reason=reason,
            run=None if journal is None else os.fspath(journal),
            time_s=_duration_s(trial, run),
        )  # fmt: skip
        self._n_failed = self._n_failed + 1 if state == "failed" else 0
        figure = f"{self.study.plan.metric.name} {cell(value)}"
        self._say(trial, f"{state}: {reason or figure}")

    def _mind_the_time(self) -> None:
        timeout_s = self._limits.timeout_s
        if timeout_s is not None and time.monotonic() - self._began > timeout_s:
            self.stop(f"the {timeout_s:g} s of --timeout are over")

    def _trial(self, result: "Result", slot: int) -> "Trial":
        from .trial import Trial

        folder = self.study.folder_of(result.number)
        return Trial(result.number, result.params, folder, min(slot, len(self._slots) - 1))

    def command_of(self, params: space.Point, folder: Path, trial: int | str) -> list[str]:
        return self._template.fill(
            params, out_dir=os.fspath(folder), study=self.study.name, trial=trial
        )

    def _say(self, trial: "Trial", words: str) -> None:
        print(f"trial {trial.number}: {words}", file=sys.stderr, flush=True)


def _duration_s(trial: "Trial", run: eventlog.Run | None) -> float:
    """How long a trial has taken: by its run, which may be older than this tuner."""
    if run is not None and run.start_time and run.end_time:
        begin, end = map(datetime.fromisoformat, (run.start_time, run.end_time))
        return round((end - begin).total_seconds(), 3)
    return round(time.monotonic() - trial.began, 3)


def _is_figure(fields: dict[str, Any], name: str) -> bool:
    value = fields.get(name)
    return isinstance(value, int | float) and not isinstance(value, bool)


def _told_params(params: space.Point) -> str:
    return ", ".join(f"{name} {cell(value)}" for name, value in params.items())
