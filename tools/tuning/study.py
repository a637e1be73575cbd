"""A study: its trials and their results, on disk in a journal and in memory for Optuna.

    out/lr/study.jsonl      `trial`: a number and its parameters; `start`; `prune`; `result`
    out/lr/trial_0003/      the trial's own folder

A study is stored in a journal like that of a run: a trial with all its parameters is one line,
whole or absent; after a kill the next tuner can read it, and the lock excludes a second tuner.
Optuna gets all trials again at each start. (Optuna's own stores: SQLite writes the parameters of a
trial row by row, so a kill leaves half a trial; its journal file appends the next line to a torn
one, and can then not be loaded.)
"""

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import TrialState

import eventlog

from ..core.importance import Importance, importances
from ..core.runs import STUDY, Refusal
from .metric import Metric
from .space import Parameter, Point, Space

State = Literal["running", "complete", "pruned", "failed"]
N_STARTUP_TRIALS = 4
"""Complete trials before the median pruner prunes."""

_STATES: dict[str, TrialState] = {
    "complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL,
}  # fmt: skip
_RUNG = "completed_rung_"  # Hyperband's memory, in the attributes of a trial


@dataclass(frozen=True)
class Plan:
    """The settings of a study, except how many jobs it runs."""

    space: Space
    metric: Metric
    command: str
    arguments: tuple[str, ...] = ()
    sampler: str = "tpe"
    pruner: str = "median"
    n_trials: int = 20
    seed: int = 0

    def as_config(self) -> dict[str, Any]:
        return {
            "space": self.space.as_text(), "metric": self.metric.name,
            "maximize": self.metric.maximize, "command": self.command,
            "arguments": list(self.arguments), "sampler": self.sampler, "pruner": self.pruner,
            "n_trials": self.n_trials, "seed": self.seed,
        }  # fmt: skip


@dataclass
class Result:
    """A trial and its result."""

    number: int
    params: Point
    state: State = "running"
    value: float | None = None
    values: dict[int, float] = field(default_factory=dict)
    """The metric's field by iteration."""
    reason: str | None = None
    run: str | None = None
    time_s: float = 0.0
    slot: int = 0
    n_starts: int = 0
    pruned_at: int | None = None
    """The iteration at which it was worse than the others."""
    rungs: dict[str, float] = field(default_factory=dict)

    @property
    def iter(self) -> int | None:
        return max(self.values, default=None)

    def as_row(self) -> dict[str, Any]:
        """A row for tables and JSON, once no trial is running."""
        state = "unfinished" if self.state == "running" else self.state
        return {
            "trial": self.number, "state": state, "value": self.value, "iter": self.iter,
            "time_s": self.time_s, "params": self.params, "reason": self.reason, "run": self.run,
        }  # fmt: skip


def config_of(folder: Path) -> dict[str, Any] | None:
    """The latest settings of the study in a folder; None if there is none."""
    config = None
    if (folder / STUDY).exists():
        for record in eventlog.scan(folder / STUDY):
            if record.event == "open":
                config = record.fields.get("config")
    return config


class Study:
    """An open study. A context manager, which holds the journal's lock."""

    def __init__(self, folder: Path, plan: Plan, n_jobs: int = 1) -> None:
        """The study in `folder`, new or as it was left.

        Raises:
            JournalLocked: another tuner is running it.
            OSError: the folder cannot be written.
        """
        self.folder, self.plan, self.name = folder, plan, folder.resolve().name
        self.results: dict[int, Result] = {}
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / STUDY
        path.touch()
        self._log = eventlog.open_run(
            folder, journal=path, config=plan.as_config(), save_interval=0, durability="every"
        )
        results = [  # in order of time
            record.fields["trial"]
            for record in eventlog.scan(path)
            if self._remember(record.event, record.fields)
        ]
        self._distributions = {n: distribution(p) for n, p in plan.space.items()}
        self._trials: dict[int, optuna.Trial] = {}
        self._first_complete = next(
            (n for n in results if self.results[n].state == "complete"), None
        )
        with _quiet():
            self._optuna = optuna.create_study(
                study_name=self.name,
                direction="maximize" if plan.metric.maximize else "minimize",
                sampler=self._sampler(n_jobs),
                pruner=self._pruner(),
            )
            for result in self.results.values():
                self._restore(result)

    def __enter__(self) -> "Study":
        return self

    def __exit__(self, *error: object) -> None:
        self._log.close("completed" if self.is_done else "interrupted")

    @property
    def is_done(self) -> bool:
        return len(self.results) >= self.n_trials and not any(self.unfinished)

    @property
    def n_trials(self) -> int:
        """How many trials the study has when it is done: at most the points of a grid."""
        if self.plan.sampler != "grid":
            return self.plan.n_trials
        return sum(1 for _ in islice(self.plan.space.grid(), self.plan.n_trials))

    @property
    def unfinished(self) -> list[Result]:
        return [result for result in self.results.values() if result.state == "running"]

    @property
    def best(self) -> Result | None:
        complete = [r for r in self.results.values() if r.state == "complete"]
        sign = -1.0 if self.plan.metric.maximize else 1.0
        return min(complete, key=lambda r: (sign * (r.value or 0.0), r.number), default=None)

    def folder_of(self, number: int) -> Path:
        return self.folder / f"trial_{number:04}"

    # ---- asking and telling

    def ask(self) -> Result:
        """The next trial, on disk before it is returned."""
        number = len(self.results)
        with _quiet():
            if self.plan.sampler == "grid":
                self._optuna.enqueue_trial(next(islice(self.plan.space.grid(), number, None)))
            trial = self._optuna.ask(self._distributions)
        self._trials[number] = trial
        params = {name: trial.params[name] for name in self.plan.space}
        self._note("trial", trial=number, params=params)
        return self.results[number]

    def note_start(self, number: int, slot: int, command: list[str]) -> None:
        self._note("start", trial=number, slot=slot, command=command)

    def report(self, number: int, iter_num: int, value: float) -> bool:
        """Add an evaluation; returns whether the trial is to be pruned because of it."""
        trial, result = self._trials[number], self.results[number]
        result.values[iter_num] = value
        with _quiet():
            trial.report(value, iter_num)
            return trial.should_prune()

    def note_prune(self, number: int, iter_num: int) -> None:
        """Record that a trial is to be pruned, before it is ended."""
        self._note("prune", trial=number, iter=iter_num)

    def tell(
        self, number: int, state: State, value: float | None, *,
        values: dict[int, float], reason: str | None, run: str | None, time_s: float,
    ) -> None:  # fmt: skip
        """Record the result of a trial, on disk and for Optuna."""
        trial = self._trials.pop(number)
        attributes = self._optuna.trials[number].system_attrs
        rungs = {k: v for k, v in attributes.items() if k.startswith(_RUNG)}
        self._note(
            "result", trial=number, state=state, value=value, values=list(values.items()),
            reason=reason, run=run, time_s=time_s, rungs=rungs,
        )  # fmt: skip
        with _quiet():
            self._optuna.tell(trial, value if state == "complete" else None, state=_STATES[state])
            if state == "complete" and self._first_complete is None:
                self._first_complete = number
                self._optuna.pruner = self._pruner()

    def importances(self) -> dict[str, Importance]:
        """The importance of each parameter, the greatest first; empty if unknown."""
        complete = [r for r in self.results.values() if r.state == "complete"]
        results = [(r, value) for r in complete if (value := r.value) is not None]
        settings = {name: [r.params.get(name) for r, _ in results] for name in self.plan.space}
        return importances(settings, [value for _, value in results])

    # ---- the store

    def _note(self, event: str, **fields: Any) -> None:
        self._log.log(event, **fields)
        self._remember(event, fields)

    def _remember(self, event: str, fields: dict[str, Any]) -> bool:
        """Add an event of the journal; returns whether it is a result."""
        number = fields.get("trial")
        if event == "trial" and number == len(self.results):
            self.results[number] = Result(number, fields["params"])
        result = self.results.get(number) if isinstance(number, int) else None
        if result is None:
            return False
        if event == "start":
            result.n_starts += 1
            result.slot = fields["slot"]
        elif event == "prune":
            result.pruned_at = fields["iter"]
        elif event == "result":
            result.state, result.value = fields["state"], fields["value"]
            result.reason, result.run = fields["reason"], fields["run"]
            result.time_s, result.rungs = fields["time_s"], fields["rungs"]
            result.values = {i: math.nan if v is None else v for i, v in fields["values"]}
            return True
        return False

    # ---- Optuna

    def _restore(self, result: Result) -> None:
        """Add a trial of the journal to Optuna, with the same number."""
        if result.state == "running":
            self._optuna.enqueue_trial(result.params)
            self._trials[result.number] = self._optuna.ask(self._distributions)
            return
        value = result.value
        if result.state == "pruned" and value is None:
            value = next((v for v in result.values.values() if v == v), None)
        self._optuna.add_trial(
            optuna.trial.create_trial(
                state=_STATES[result.state],
                value=value if result.state != "failed" else None,
                params=result.params,
                distributions=self._distributions,
                intermediate_values=result.values,
                system_attrs=dict(result.rungs),
            )
        )

    def _sampler(self, n_jobs: int) -> optuna.samplers.BaseSampler:
        # After a restart the sampler continues with other random numbers.
        seed = self.plan.seed + len(self.results)
        if self.plan.sampler == "tpe":
            return optuna.samplers.TPESampler(seed=seed, constant_liar=n_jobs > 1)
        return optuna.samplers.RandomSampler(seed=seed)

    def _pruner(self) -> optuna.pruners.BasePruner:
        # Iteration 0 is before the first step: its value does not depend on the parameters.
        if self.plan.pruner == "median":
            return optuna.pruners.MedianPruner(N_STARTUP_TRIALS, n_warmup_steps=1)
        if self.plan.pruner == "hyperband" and self._first_complete is not None:
            steps = sorted(i for i in self.results[self._first_complete].values if i > 0)
            if len(steps) > 1:
                return optuna.pruners.HyperbandPruner(steps[0], steps[-1])
        return optuna.pruners.NopPruner()


def distribution(parameter: Parameter) -> BaseDistribution:
    if parameter.choices:
        return CategoricalDistribution(parameter.choices)
    low, high, step = parameter.low, parameter.high, parameter.step
    if parameter.is_whole:
        return IntDistribution(int(low), int(high), log=parameter.is_log, step=int(step or 1))
    return FloatDistribution(low, high, log=parameter.is_log, step=step)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without messages and warnings of Optuna."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def check_same(folder: Path, before: dict[str, Any], plan: Plan) -> None:
    """Check that a study is continued with the same space, metric and kind of sampler.

    Raises:
        Refusal: one of them differs.
    """
    now = plan.as_config()
    spaces = before.get("space") or {}, now["space"]
    for name in {**spaces[0], **spaces[1]}:
        old, new = (space.get(name, "nothing") for space in spaces)
        if old != new:
            raise Refusal(
                f"{name}: the study in {folder} has {old}, got {new}; "
                "choose another folder for another space"
            )
    for name in ("metric", "maximize"):
        if before.get(name) != now[name]:
            raise Refusal(
                f"--{name}: the study in {folder} has {before.get(name)}, got {now[name]}; "
                "choose another folder"
            )
    if (
        "grid" in (before.get("sampler"), now["sampler"])
        and before.get("sampler") != now["sampler"]
    ):
        raise Refusal(
            f"--sampler: the study in {folder} has {before.get('sampler')}, got {now['sampler']}; "
            "choose another folder"
        )
