"""A run as columns of numbers for plots, by iteration, tokens or time."""

import contextlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

import eventlog
from eventlog import seconds

from ..core import runs
from ..core.axis import AXES, Scale, clock, clock_of_steps, token_knots
from ..core.history import load
from ..core.series import axis_of, unit_of
from .columns import Column, Columns, nonfinite_name, number_of, of_series, read_columns

Rows = Sequence[dict[str, Any]]

ITERATION_KEYS = ("iter", "loss", "time_ms", "mfu")
EVAL_KEYS = ("iter", "train_loss", "val_loss")


@dataclass(frozen=True)
class Resume:
    """A session began at iteration `at`; `n_again` iterations from it on are logged again."""

    at: int
    n_again: int


class Series:
    """The curves of a run: `iterations`, `evals`, superseded rows of both, and `resumes`."""

    def __init__(self, run: eventlog.Run) -> None:
        self.run = run = _with_superseded(run)
        self.logs_metrics_alone = not run.training_iterations and not run.eval_steps
        if self.logs_metrics_alone:
            loss, val_loss = self.losses
            superseded = _superseded_of(run, loss, "loss")
            superseded_evals = _superseded_of(run, val_loss, "val_loss")
        else:
            superseded = run.journal.get("superseded_iterations", [])
            superseded_evals = run.journal.get("superseded_evals", [])
        self.superseded = _batches(superseded, ITERATION_KEYS)
        self.superseded_evals = _batches(superseded_evals, EVAL_KEYS)
        self.resumes = _resumes(run, self.superseded)
        self._axes: dict[str, tuple[Column, Column]] = {}

    @cached_property
    def losses(self) -> tuple[eventlog.Series | None, eventlog.Series | None]:
        """As `Run.losses`."""
        return self.run.losses()

    @cached_property
    def named(self) -> dict[str, eventlog.Series]:
        """As `Run.series`."""
        return self.run.series()

    def find(self, pattern: str) -> dict[str, eventlog.Series]:
        """As `Run.series` with a pattern."""
        one = self.named.get(pattern)
        return {pattern: one} if one is not None else self.run.series(pattern)

    @cached_property
    def iterations(self) -> Columns:
        if self.logs_metrics_alone:
            return self._of_metric(self.losses[0], "loss", ITERATION_KEYS)
        columns = read_columns(self.run.training_iterations, ITERATION_KEYS)
        mfu = columns["mfu"]
        mfu[mfu <= 0] = math.nan  # unknown is -100.0 in a run JSON
        return columns

    @cached_property
    def evals(self) -> Columns:
        if self.logs_metrics_alone:
            return self._of_metric(self.losses[1], "val_loss", EVAL_KEYS)
        return read_columns(self.run.eval_steps, EVAL_KEYS)

    def _of_metric(self, one: eventlog.Series | None, own: str, keys: Sequence[str]) -> Columns:
        """A metric as columns that have it as `own`."""
        if one is None:
            return read_columns([], keys)
        points = of_series(self.run, [one])[one.name]
        unknown = np.full(len(points), math.nan)
        values = dict.fromkeys(keys, unknown) | {"iter": points["iter"], own: points["y"]}
        nonfinite: dict[str, dict[int, str]] = {key: {} for key in keys}
        return Columns(values, nonfinite | {own: points.nonfinite["y"]})

    @property
    def loss_unit(self) -> str:
        """The unit of its losses; empty: none is known, or they have several."""
        if not self.logs_metrics_alone and not self.run.journal.get("definitions"):
            return unit_of(eventlog.Series("loss", "iterations", "loss"), self.run.metadata)
        units = {unit_of(one, self.run.metadata) for one in self.losses if one is not None}
        units.discard("")
        return units.pop() if len(units) == 1 else ""

    @property
    def stride(self) -> float:
        """The usual number of iterations between two rows."""
        iters = self.iterations["iter"]
        return float(np.median(np.diff(iters))) or 1.0 if len(iters) > 1 else 1.0

    def place(self, iters: Column, x: str) -> Column:
        """Where on the x axis iterations are: see `core.axis`.

        `x`: an `AxisName`, or the name of a series: its last value at or before each iteration,
        NaN before its first one.

        Raises:
            Refusal: the run has no tokens_per_iter, no times, or no such series.
        """
        if x == "iter" or not len(iters):
            return iters
        if x not in AXES:
            steps, values = self._axis_values(x)
            at = np.searchsorted(steps, iters, side="right") - 1
            placed: Column = np.where(at < 0, math.nan, values[np.maximum(at, 0)])
            return placed
        if x == "tokens":
            return self._tokens().place(iters)
        if self.logs_metrics_alone and self._logged_s:
            steps, (wall_s, _) = self._logged_s
            return _interpolated(iters, steps, wall_s)
        return _interpolated(iters, self.iterations["iter"], self._clock)

    @cached_property
    def defined_axis(self) -> str:
        """The axis of its losses where it logged metrics alone, else `iter`."""
        if not self.logs_metrics_alone:
            return "iter"
        named = self.named
        axes = {axis_of(one, named) for one in self.losses if one is not None}
        return axes.pop() if len(axes) == 1 else "iter"

    def _axis_values(self, name: str) -> tuple[Column, Column]:
        """The steps and the finite values of a series that is an axis."""
        found = self.find(name)
        one = found.get(name) or next(iter(found.values()), None)
        if one is None or one.min is None:
            raise self._refusal(f"has no series {name[:200]!r} with numbers. Use: --x step")
        if one.name not in self._axes:
            columns = of_series(self.run, [one])[one.name]
            known = np.isfinite(columns["y"])
            self._axes[one.name] = columns["iter"][known], columns["y"][known]
        return self._axes[one.name]

    def check_axis(self, x: str) -> None:
        """Raises Refusal if the run lacks what an x axis needs."""
        if x == "iter":
            return
        if len(self.iterations) or not len(self.evals):
            self.place(np.zeros(1), x)
        self.place_evals(x)

    def place_evals(self, x: str) -> Column:
        """Where on the x axis the evaluations are. Raises as `place`."""
        iters = self.evals["iter"]
        times = {row.get("iter"): row.get("timestamp") for row in self.run.eval_steps}
        started = seconds(self.run.start_time)
        is_timed = started is not None and times and None not in times.values()
        if x != "time" or started is None or not is_timed:
            return self.place(iters, x)
        return clock([times[i] for i in iters]) - started

    def training_seconds(self, iters: Column) -> Column:
        """The time of all steps before each of `iters`, without evaluations and breaks.

        Iterations without a row are interpolated.

        Raises:
            Refusal: no iteration has a time_ms.
        """
        if self.logs_metrics_alone and self._logged_s and len(iters):
            steps, (_, session_s) = self._logged_s
            return _interpolated(iters, steps, session_s)
        return self._seconds().place(iters) if len(iters) else iters

    @cached_property
    def _clock(self) -> Column:
        """When each of the iterations was logged, in seconds since the first event."""
        run, iters = self.run, self.iterations["iter"]
        started = seconds(run.start_time)
        times: dict[int, Any] = {}
        if run.path is not None:
            with contextlib.suppress(eventlog.EventlogError, OSError):
                times |= load(run.path).times.of_table("iterations")
        times |= {
            row["iter"]: row["timestamp"]
            for row in run.training_iterations
            if row.keys() >= {"iter", "timestamp"}
        }
        if started is not None and any(i in times for i in iters):
            return clock([times.get(i) for i in iters]) - started
        if np.isfinite(self.iterations["time_ms"]).any():
            return clock_of_steps(self.iterations["time_ms"].tolist())
        raise self._refusal("no iteration has a time. Use: --x iter")

    def _tokens(self) -> Scale:
        knots = token_knots(self.run)
        if not knots:
            raise self._refusal("its metadata has no tokens_per_iter. Use: --x iter")
        return Scale.of(knots)

    @cached_property
    def _logged_s(self) -> tuple[Column, tuple[Column, Column]] | None:
        """The steps of the metrics, and when they were logged (see `_logged`); None: unknown."""
        logged = _logged(self.run)
        if not logged:
            return None
        steps = sorted(logged)
        wall_s, session_s = np.maximum.accumulate([logged[step] for step in steps]).T
        return np.array(steps, float), (wall_s, session_s)

    def _seconds(self) -> Scale:
        times_s = self.iterations["time_ms"] / 1000
        known = np.isfinite(times_s)
        if not known.any():
            raise self._refusal("no iteration has a time_ms. Use: --x iter")
        times_s = np.maximum(0, np.where(known, times_s, times_s[known].mean()))
        after = self.iterations["iter"][-1] + self.stride  # superseded rows may lie beyond
        return Scale(
            np.append(self.iterations["iter"], after),
            np.append(times_s, times_s[-1000:].mean()),
        )

    def _refusal(self, why: str) -> runs.Refusal:
        return runs.Refusal(f"{self.run.path or self.run.run_name}: {why}")


def _interpolated(iters: Column, known: Column, at: Column) -> Column:
    """`at` at `iters`, in a line through `at` at `known`, which goes on beyond the last."""
    is_known = np.isfinite(at)
    known, at = known[is_known], at[is_known]
    span = known[-1] - known[0]
    per_iter = (at[-1] - at[0]) / span if span else 0.0
    beyond = np.maximum(0, iters - known[-1])
    placed: Column = np.interp(iters, known, at) + beyond * per_iter
    return placed


def _superseded_of(run: eventlog.Run, one: eventlog.Series | None, own: str) -> Rows:
    """The superseded values of a metric, as rows that have it as `own`."""
    superseded = run.journal.get("superseded_metrics") or ()
    return [
        {
            "iter": row["step"],
            own: row[one.column],
            "nonfinite": {own: nonfinite_name(row[one.column], one.column, row.get("nonfinite"))},
        }
        for row in superseded
        if one is not None and one.column in row and type(row.get("step")) is int
    ]


def _logged(run: eventlog.Run) -> dict[int, tuple[float, float]]:
    """When each step of `metrics` was logged: in seconds since the first event, and without the
    time between sessions. Empty if the journal is not there.
    """
    if run.path is None or not len(run.metrics):
        return {}
    logged: dict[int, tuple[float, float]] = {}
    first_s, session, before_s, began_s, last_s = None, "", 0.0, 0.0, 0.0
    try:
        for record in eventlog.scan(runs.journal_of(run.path)):
            step, now_s = record.fields.get("step"), seconds(record.t)
            if now_s is None:
                continue
            first_s = now_s if first_s is None else first_s
            if record.s != session:
                before_s += last_s - began_s
                session, began_s = record.s, now_s
            last_s = now_s
            if record.event == "metrics" and type(step) is int:
                logged[step] = now_s - first_s, before_s + now_s - began_s
    except (eventlog.EventlogError, OSError):
        return {}
    return logged


def _with_superseded(run: eventlog.Run) -> eventlog.Run:
    """The run from its journal if rows were superseded: a run JSON only counts them."""
    n_rows = run.journal.get("superseded")
    if not isinstance(n_rows, dict) or not any(n_rows.values()) or run.path is None:
        return run
    journal = runs.journal_of(run.path)
    if "superseded_iterations" in run.journal or not journal.exists():
        return run
    try:
        return eventlog.load_run(journal, with_superseded=True)
    except (eventlog.EventlogError, OSError):
        return run


def _batches(rows: Any, keys: Sequence[str]) -> list[Columns]:
    """Superseded rows in batches: in each the iterations ascend evenly."""
    superseded: list[list[dict[str, Any]]] = []
    last, step = math.inf, 0.0
    for row in rows or ():
        at = number_of(row.get("iter"))
        if not last < at or (step and at - last > step):
            superseded.append([])
            step = 0.0
        elif not step:
            step = 2 * (at - last)
        superseded[-1].append(row)
        last = at
    return [read_columns(batch, keys) for batch in superseded]


def _resumes(run: eventlog.Run, superseded: Sequence[Columns]) -> list[Resume]:
    """Where sessions after the first began, and where a session went back."""
    resumes: list[Resume] = []
    last: int | None = None
    for i, session in enumerate(run.journal.get("sessions") or []):
        at = session.get("from_iter")
        if i and type(at) is not int and last is not None:
            at = last + 1
        if i and type(at) is int:
            resumes.append(Resume(at, max(0, last - at + 1) if last is not None else 0))
            last = at - 1
        if type(session.get("last_iter")) is int:
            last = session["last_iter"]
    known = {resume.at for resume in resumes}
    ranges = [(int(t["iter"][0]), int(t["iter"][-1])) for t in superseded if len(t)]
    resumes += [Resume(at, end - at + 1) for at, end in ranges if at not in known]
    return sorted(resumes, key=lambda resume: resume.at)
