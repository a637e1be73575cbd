"""The tuner: runs trials in its slots until the study is done.

Optuna runs in this process; each trial is a separate process that does not know of it. The tuner
reads the journal of a trial as it grows, and ends a trial that is worse than others. A tuner that
was killed continues when it is started again: it adopts running trials, continues those that died,
and does not repeat those that are finished.
"""

import os
import signal
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

import eventlog
from eventlog import seconds

from ..core.formats import is_number
from ..core.table import cell, one_line, print
from . import slots, space
from .template import Template, program

if TYPE_CHECKING:
    from .study import Result, Study
    from .trial import Trial

POLL_S = 0.2  # between two checks of the trials; each is a few calls of stat
VARIABLE = "EVENTLOG_METADATA"


@dataclass(frozen=True)
class Limits:
    """Limits of time in seconds, and of failures in a row."""

    silence_s: float = 600.0
    grace_s: float = 30.0
    timeout_s: float | None = None
    n_failures: int = 3


class Tuner:
    """Runs trials until the study is done or is stopped."""

    def __init__(
        self, study: "Study", template: Template, slots_: list[slots.Slot], limits: Limits
    ) -> None:
        self.study = study
        self.running: list[Trial] = []
        self.stopped_by: str | None = None
        """Why the study ended before it was done."""
        self._template = template
        self._slots = slots_
        self._limits = limits
        self._began = time.monotonic()
        self._n_failed = 0  # in a row

    def run(self) -> None:
        """Run until no trial is running and none is left."""
        for result in self.study.unfinished:
            self._adopt(result)
        while True:
            for trial in list(self.running):
                self._check(trial)
            self._check_timeout()
            while self.stopped_by is None and len(self.running) < len(self._slots):
                following = self._next()
                if following is None:
                    break
                self._start(following)
            if not self.running:
                return
            if self.stopped_by is not None:
                self.stop(self.stopped_by)  # also trials that started just now
            time.sleep(POLL_S)

    @property
    def has_failed(self) -> bool:
        """Whether so many trials failed in a row that the command must be wrong."""
        return self._n_failed >= self._limits.n_failures

    def stop(self, why: str) -> None:
        """Ask all trials to end; they can be continued later."""
        self.stopped_by = self.stopped_by or why
        for trial in self.running:
            trial.stop("stopped", self._limits.grace_s)

    # ---- a trial's life

    def _next(self) -> "Result | None":
        """The next trial: one to continue, or a new one; None if there are no more."""
        running = {trial.number for trial in self.running}
        for result in self.study.unfinished:
            if result.number not in running:
                return result
        return self.study.ask() if len(self.study.results) < self.study.n_trials else None

    def _adopt(self, result: "Result") -> None:
        """Adopt a trial of an earlier tuner: it is running, has ended, or is to be continued."""
        trial = self._trial(result, result.slot)
        if trial.adopt():
            self.running.append(trial)
            self._say(trial, "still running; adopted")
            if result.pruned_at is not None:
                trial.stop("pruned", self._limits.grace_s)
            return
        run = trial.run()
        if result.pruned_at is not None:
            trial.ending = "pruned"
        if trial.ending == "pruned" or (run and run.status in ("completed", "failed")):
            self._report(trial, to_the_end=True)
            self._end(trial)

    def _start(self, result: "Result") -> None:
        free = set(range(len(self._slots))) - {trial.slot for trial in self.running}
        trial = self._trial(result, min(free, default=0))
        command = self.command_of(result.params, trial.folder, result.number)
        metadata = {
            "group": self.study.name,
            "trial": result.number,
            "params": result.params,
        }
        environment = os.environ | self._slots[trial.slot].environment()
        environment |= {VARIABLE: orjson.dumps(metadata).decode()}
        self._say(trial, "continues" if result.n_starts else _params_text(result.params))
        try:
            trial.start([program(command[0]), *command[1:]], environment)
        except OSError as error:
            self.study.note_start(trial.number, trial.slot, command)
            self._fail(trial, f"cannot be started: {error}")
            return
        self.study.note_start(trial.number, trial.slot, command)
        self.running.append(trial)

    def _check(self, trial: "Trial") -> None:
        """Read what a trial has logged, and end it if it is worse than others or silent."""
        is_alive = trial.is_alive  # before its journal is read, so that its last events are in it
        self._report(trial, to_the_end=not is_alive)
        if not is_alive:
            self.running.remove(trial)
            self._end(trial)
        elif time.monotonic() - trial.last_event_at > self._limits.silence_s:
            trial.stop("silent", self._limits.grace_s)
        trial.kill_if_overdue()

    def _report(self, trial: "Trial", *, to_the_end: bool) -> None:
        """Report new evaluations to Optuna; the first that is to be pruned ends the trial."""
        new = trial.read_on(self.study.plan.metric.field, to_the_end=to_the_end)
        for iter_num, value in sorted(new.items()):
            if self.study.report(trial.number, iter_num, value) and trial.ending is None:
                if to_the_end:
                    continue  # it has ended anyway
                self.study.note_prune(trial.number, iter_num)
                trial.stop("pruned", self._limits.grace_s)

    def _end(self, trial: "Trial") -> None:
        """Record the result of a trial whose process has ended."""
        run = trial.run()
        status = None if run is None else run.status
        metric = self.study.plan.metric
        value = metric.of([] if run is None else _values(run, metric.field))
        is_whole = status == "completed" or (
            trial.ending is None and trial.exit_code == 0 and status != "failed"
        )
        if is_whole and value is not None:
            self._tell(trial, "complete", value, run)
        elif trial.ending == "pruned":
            self._tell(trial, "pruned", value, run)
        elif trial.ending == "stopped":
            self._say(trial, "stopped; it continues with the study")
        elif trial.ending is None and trial.exit_code is None and status in (None, "interrupted"):
            self._say(trial, "ended while no tuner was running; it continues")
        else:
            self._fail(trial, self._why(trial, run, is_whole), run)

    def _why(self, trial: "Trial", run: eventlog.Run | None, is_whole: bool) -> str:
        """Why a trial failed, in one line."""
        code, field = trial.exit_code, self.study.plan.metric.field
        last = one_line(trial.last_output())
        if trial.ending == "silent":
            message = f"no new event for {self._limits.silence_s:g} s"
        elif is_whole and run is None:
            message = "exited with 0, but left no journal"
        elif is_whole:
            message = f"completed, but has no number as {field}"
        elif run is not None and run.status == "failed":
            return str(run.journal.get("reason") or "failed")
        elif code is not None and code < 0:
            message = f"killed by {signal.Signals(-code).name}"
        else:
            message = f"exit status {code}"
        return f"{message}: {last}" if last else message

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
            # Before the result is recorded: a tuner that is killed in between does it again.
            with suppress(eventlog.EventlogError, OSError):  # only for `runs ls`
                eventlog.annotate(journal, "tag", add=[state], by="runs tune")
        self.study.tell(
            trial.number, state, value, values=trial.values, reason=reason,
            run=None if journal is None else os.fspath(journal),
            time_s=_duration_s(trial, run),
        )  # fmt: skip
        self._n_failed = self._n_failed + 1 if state == "failed" else 0
        figure = f"{self.study.plan.metric.name} {cell(value)}"
        self._say(trial, f"{state}: {reason or figure}")

    def _check_timeout(self) -> None:
        timeout_s = self._limits.timeout_s
        if timeout_s is not None and time.monotonic() - self._began > timeout_s:
            self.stop(f"--timeout of {timeout_s:g} s reached")

    def _trial(self, result: "Result", slot: int) -> "Trial":
        from .trial import Trial

        folder = self.study.folder_of(result.number)
        return Trial(result.number, result.params, folder, min(slot, len(self._slots) - 1))

    def command_of(self, params: space.Point, folder: Path, trial: int | str) -> list[str]:
        return self._template.fill(
            params, out_dir=os.fspath(folder), study=self.study.name, trial=trial
        )

    def _say(self, trial: "Trial", message: str) -> None:
        print(f"trial {trial.number}: {message}", file=sys.stderr, flush=True)


def _duration_s(trial: "Trial", run: eventlog.Run | None) -> float:
    """How long a trial took, by its run, which may be older than this tuner."""
    if run is not None:
        begin_s, end_s = seconds(run.start_time), seconds(run.end_time)
        if begin_s is not None and end_s is not None:
            return round(end_s - begin_s, 3)
    return round(time.monotonic() - trial.began, 3)


def _values(run: eventlog.Run, field: str) -> list[float]:
    """The numbers of a field of evaluations, else of the series of that name, in order."""
    values = [row.get(field) for row in run.eval_steps]
    if not any(map(is_number, values)) and run.series(field):
        values = [value for _, value in run.points(field)]
    return [float(value) for value in values if is_number(value)]


def _params_text(params: space.Point) -> str:
    return ", ".join(f"{name} {cell(value)}" for name, value in params.items())
