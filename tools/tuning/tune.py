"""`runs tune`: look for the parameters with which training goes best.

Optuna asks in this process; each trial is a process of its own that knows nothing of it. What a
trial achieves is read from its journal as it grows, and one that is worse than others is asked to
end. Killed and started again, the tuner goes on: trials that live are taken up as they are, those
that died are continued, what is finished is not repeated.
"""

import argparse
import os
import shlex
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import orjson

import eventlog
from tools.library import need
from tools.ls import age
from tools.runs import Refusal
from tools.table import cell, one_line, print_json, print_table
from tools.tuning import slots, space
from tools.tuning import template as templates
from tools.tuning.metric import Metric
from tools.tuning.template import Template, program, trainer

if TYPE_CHECKING:
    from tools.tuning.study import Result, Study
    from tools.tuning.trial import Trial

LOOK_S = 0.2  # between two looks at the trials; each is a few calls of stat
ROWS_LIVE = 20
VARIABLE = "EVENTLOG_METADATA"
PICTURE = "study.png"
COLUMNS = {"trial": "trial", "state": "state", "value": "value", "iter": "iter", "time_s": "time"}


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    words = "Look for the best parameters; the same command goes on with a study that was left."
    command = commands.add_parser(
        "tune",
        help=words,
        description=words,
        epilog=f"{space.__doc__}\n{templates.__doc__}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("folder", type=Path, metavar="FOLDER", help="of the study; names it")
    command.add_argument(
        "--param", action="append", default=[], metavar="NAME=RANGE", help="see below"
    )
    command.add_argument("--space", type=Path, metavar="FILE", help="TOML with a line for each")
    command.add_argument(
        "--command", metavar="TEMPLATE", help="see below; default: this project's trainer"
    )
    command.add_argument("--args", metavar="WORDS", help='for every trial: --args="--preset=small"')
    command.add_argument("--trials", type=int, metavar="N", help="in all (20; a whole grid)")
    command.add_argument("--jobs", type=int, default=1, metavar="N", help="trials side by side")
    command.add_argument("--gpus", metavar="0,1,..", help="to divide among them; default: all")
    command.add_argument(
        "--metric", metavar="FIELD", help="best_val_loss: an eval's field, best_: its best"
    )
    command.add_argument(
        "--maximize", action="store_true", default=None, help="the metric is to be large, not small"
    )
    command.add_argument(
        "--sampler", choices=("tpe", "random", "grid"),
        help="tpe learns from the trials before (default); random; grid: every combination",
    )  # fmt: skip
    command.add_argument(
        "--pruner", choices=("median", "hyperband", "none"),
        help="who ends bad trials early: median, if worse than half of the others (default)",
    )  # fmt: skip
    command.add_argument("--seed", type=int, metavar="N", help="of the sampler")
    command.add_argument("--timeout", type=float, metavar="S", help="stop then; to be continued")
    command.add_argument(
        "--silence", type=float, default=600.0, metavar="S",
        help="a trial without a new event for so long has failed (600)",
    )  # fmt: skip
    command.add_argument(
        "--grace", type=float, default=30.0, metavar="S",
        help="from SIGTERM to SIGKILL for a trial that is to end (30)",
    )  # fmt: skip
    command.add_argument(
        "--failures", type=int, default=3, metavar="N", help="in a row that stop the study (3)"
    )
    command.add_argument("--json", action="store_true", help="one JSON object a line, a trial each")
    command.set_defaults(run=_tune)


def _tune(arguments: argparse.Namespace) -> int:
    need("psutil")
    need("optuna")
    from tools.tuning import study as studies

    before = studies.config_of(arguments.folder)
    plan = _plan(arguments, before)
    if before is not None:
        studies.check_same(arguments.folder, before, plan)
    template = Template(plan.command, plan.space, plan.arguments)
    program(shlex.split(plan.command)[0])
    gpus = None if arguments.gpus is None else tuple(arguments.gpus.split(","))
    places = slots.divide(arguments.jobs, gpus)
    limits = Limits(arguments.silence, arguments.grace, arguments.timeout, arguments.failures)
    with studies.Study(arguments.folder, plan, arguments.jobs) as study:
        tuner = Tuner(study, template, places, limits)
        with _told_to_stop(tuner), _watched(tuner):
            tuner.run()
        return _conclude(tuner, as_json=arguments.json)


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
        from tools.tuning.trial import Trial

        folder = self.study.folder_of(result.number)
        return Trial(result.number, result.params, folder, min(slot, len(self._slots) - 1))

    def command_of(self, params: space.Point, folder: Path, trial: int | str) -> list[str]:
        return self._template.fill(
            params, out_dir=os.fspath(folder), study=self.study.name, trial=trial
        )

    def _say(self, trial: "Trial", words: str) -> None:
        print(f"trial {trial.number}: {words}", file=sys.stderr, flush=True)


# ---- what it was told


def _plan(arguments: argparse.Namespace, before: dict[str, Any] | None) -> Any:
    """What the flags say, and where they say nothing what the study was told before.

    Raises:
        Refusal: it is not right.
    """
    from tools.tuning.study import Plan

    known = before or {}
    if arguments.param or arguments.space is not None:
        wanted = space.read(arguments.space, arguments.param)
    else:
        wanted = space.Space(
            (name, space.parameter(name, words, f"{arguments.folder}: {name}"))
            for name, words in (known.get("space") or {}).items()
        )
    if not wanted:
        raise Refusal('nothing to choose from: --param "learning_rate=log 1e-4..1e-2" does it')

    def told(flag: Any, name: str, default: Any) -> Any:
        return known.get(name, default) if flag is None else flag

    sampler = told(arguments.sampler, "sampler", "tpe")
    n_points = sum(1 for _ in wanted.grid()) if sampler == "grid" else 20
    plan = Plan(
        space=wanted,
        metric=Metric(
            told(arguments.metric, "metric", "best_val_loss"),
            told(arguments.maximize, "maximize", False),
        ),
        command=arguments.command or known.get("command") or trainer(),
        arguments=_words(arguments.args, known.get("arguments")),
        sampler=sampler,
        pruner=told(arguments.pruner, "pruner", "median"),
        n_trials=told(arguments.trials, "n_trials", n_points),
        seed=told(arguments.seed, "seed", 0),
    )
    if plan.n_trials < 1:
        raise Refusal(f"--trials {plan.n_trials}: at least one")
    return plan


@contextmanager
def _told_to_stop(tuner: Tuner) -> Iterator[None]:
    """Ctrl-C and SIGTERM end the study in order; the second of them at once."""

    def stop(number: int, _: FrameType | None) -> None:
        for known, handler in before.items():
            signal.signal(known, handler)
        print("stopping: trials save where they are", file=sys.stderr, flush=True)
        tuner.stop(signal.Signals(number).name)

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


# ---- what it shows


@contextmanager
def _watched(tuner: Tuner) -> Iterator[None]:
    """A table of the study on stderr that moves, if a terminal looks."""
    from rich.console import Console
    from rich.live import Live

    console = Console(stderr=True)
    with ExitStack() as stack:
        if console.is_terminal:
            live = Live(
                console=console, get_renderable=lambda: _table(tuner), refresh_per_second=2,
                transient=True, redirect_stdout=False,
            )  # fmt: skip
            stack.enter_context(live)
        yield


def _table(tuner: Tuner) -> Any:
    """The trials that run, and the best of the others."""
    from rich import box
    from rich.table import Table

    study = tuner.study
    results = list(study.results.values())
    n_done = sum(result.state != "running" for result in results)
    best = study.best
    told = "" if best is None else f", best {cell(best.value)} of trial {best.number}"
    table = Table(
        box=box.SIMPLE_HEAD, title_justify="left",
        title=f"{study.name}: {n_done} of {study.n_trials} trials{told}",
    )  # fmt: skip
    for name in ("trial", "state", study.plan.metric.name, "iter", "s", *study.plan.space):
        table.add_column(name, justify="left" if name == "state" else "right")
    live = {trial.number: trial for trial in tuner.running}
    shown = [result for result in results if result.number in live]
    shown += _ranked(study, [result for result in results if result.number not in live])
    for result in shown[: max(ROWS_LIVE, len(live))]:
        trial = live.get(result.number)
        value = result.value
        if trial is not None:
            value = study.plan.metric.of(list(trial.values.values()))
        table.add_row(
            str(result.number),
            f"● {trial.ending or 'running'}" if trial else result.state,
            cell(value),
            cell(trial.iter if trial else result.iter),
            f"{time.monotonic() - trial.began if trial else result.time_s:.0f}",
            *(cell(result.params[name]) for name in study.plan.space),
            style="bold" if result is best else "dim" if trial is None else "",
        )
    return table


def _ranked(study: "Study", results: list["Result"]) -> list["Result"]:
    """Complete trials from the best on, then pruned ones, then the others."""
    order = ("complete", "pruned", "running", "failed")
    sign = -1.0 if study.plan.metric.maximize else 1.0
    return sorted(
        results,
        key=lambda r: (order.index(r.state), sign * (r.value or 0.0), r.number),
    )


def _conclude(tuner: Tuner, *, as_json: bool) -> int:
    """Print what came of it; the exit code."""
    study = tuner.study
    ranked = _ranked(study, list(study.results.values()))
    best = study.best
    rows = [result.as_row() for result in ranked]
    if as_json:
        print_json(row | {"best": best is not None and row["trial"] == best.number} for row in rows)
    elif rows:
        names = {f"param {name}": name for name in study.plan.space}
        shown = [
            row
            | {"time_s": age(row["time_s"])}
            | {f"param {name}": value for name, value in row["params"].items()}
            for row in rows
        ]
        columns = COLUMNS | {"value": study.plan.metric.name} | names
        columns |= {"reason": "why"} if any(row["reason"] for row in rows) else {}
        print_table(shown, columns)
    _say_end(tuner, best)
    if best is not None:
        line = shlex.join(tuner.command_of(best.params, study.folder / "best", "best"))
        print(line, file=sys.stderr if as_json else sys.stdout)
        if _draw(study, study.folder / PICTURE):
            print(study.folder / PICTURE, file=sys.stderr)
    if tuner.stopped_by in ("SIGINT", "SIGTERM"):
        return 128 + signal.Signals[tuner.stopped_by]
    return 1 if best is None or tuner.has_failed else 0


def _say_end(tuner: Tuner, best: "Result | None") -> None:
    study = tuner.study
    results = study.results.values()
    counts = [
        f"{n} {state}"
        for state in ("complete", "pruned", "failed", "unfinished")
        if (n := sum(result.as_row()["state"] == state for result in results))
    ]
    end = f", ended early: {tuner.stopped_by}" if tuner.stopped_by else ""
    print(f"{study.folder}: {', '.join(counts) or 'no trials'}{end}", file=sys.stderr)
    failed = [result for result in results if result.state == "failed"]
    if failed and (best is None or tuner.stopped_by):
        last = failed[-1]
        output = study.folder_of(last.number) / "output.log"
        print(f"trial {last.number} failed: {last.reason}; see {output}", file=sys.stderr)
    if tuner.stopped_by:
        print(f"to go on: runs tune {shlex.quote(str(study.folder))}", file=sys.stderr)
    if best is not None:
        print(
            f"best: trial {best.number}, {study.plan.metric.name} {cell(best.value)}, {best.run}",
            file=sys.stderr,
        )


def _draw(study: "Study", path: Path) -> bool:
    """A picture of the study; whether it could be made."""
    try:
        from tools.pictures import figure
        from tools.tuning import sweep
    except ImportError as error:
        print(f"no picture: that needs {error.name}: pip install matplotlib", file=sys.stderr)
        return False
    encoded = figure.encode(sweep.draw(study), "png")
    eventlog.atomic_write(path, lambda file: file.write(encoded))
    return True


def _told_params(params: space.Point) -> str:
    return ", ".join(f"{name} {cell(value)}" for name, value in params.items())


def _words(said: str | None, before: list[str] | None) -> tuple[str, ...]:
    try:
        return tuple((before or ()) if said is None else shlex.split(said))
    except ValueError as error:
        raise Refusal(f"--args {said!r}: {error}") from None


def _duration_s(trial: "Trial", run: eventlog.Run | None) -> float:
    """How long a trial has taken: by its run, which may be older than this tuner."""
    if run is not None and run.start_time and run.end_time:
        begin, end = map(datetime.fromisoformat, (run.start_time, run.end_time))
        return round((end - begin).total_seconds(), 3)
    return round(time.monotonic() - trial.began, 3)


def _is_figure(fields: dict[str, Any], name: str) -> bool:
    value = fields.get(name)
    return isinstance(value, int | float) and not isinstance(value, bool)
