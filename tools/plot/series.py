"""A run as columns of numbers for plots, by iteration, tokens or time."""

import contextlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

import eventlog
from eventlog import seconds

from ..core import runs
from ..core.axis import AXES, Scale, clock, clock_of_steps, token_knots
from ..core.history import load
from ..core.series import axis_of, points, unit_of

Rows = Sequence[dict[str, Any]]
Column = NDArray[np.float64]

ITERATION_KEYS = ("iter", "loss", "time_ms", "mfu")
ITERS_MAX = 2.0**53  # up to this limit, a float represents every integer
DRAWN_MAX = 1e100  # beyond it, and below 1 / it, the margins of a log axis overflow
EVAL_KEYS = ("iter", "train_loss", "val_loss")


@dataclass(frozen=True)
class Columns:
    """Rows by ascending iteration. A value that is missing or not finite is NaN."""

    values: dict[str, Column]
    nonfinite: dict[str, dict[int, str]]
    """By column: the rows where a value was logged that is not finite, and its name."""

    def __getitem__(self, key: str) -> Column:
        return self.values[key]

    def __len__(self) -> int:
        return len(self.values["iter"])


@dataclass(frozen=True)
class Resume:
    """A session began at iteration `at`; `n_again` iterations from it on are logged again."""

    at: int
    n_again: int


class Series:
    """The curves of a run: `iterations`, `evals`, superseded rows of both, and `resumes`."""

    def __init__(self, run: eventlog.Run) -> None:
        self.run = run = _with_superseded(run)
        self.logs_metrics_alone = not len(run.training_iterations) and not len(run.eval_steps)
        if self.logs_metrics_alone:
            loss, val_loss = run.losses()
            rows, superseded = _of_metric(run, loss, "loss")
            evals, superseded_evals = _of_metric(run, val_loss, "val_loss")
        else:
            rows, superseded = run.training_iterations, run.journal.get("superseded_iterations", [])
            evals, superseded_evals = run.eval_steps, run.journal.get("superseded_evals", [])
        self.iterations = read_columns(rows, ITERATION_KEYS)
        mfu = self.iterations["mfu"]
        mfu[mfu <= 0] = math.nan  # unknown is -100.0 in a run JSON
        self.evals = read_columns(evals, EVAL_KEYS)
        self.superseded = _batches(superseded, ITERATION_KEYS)
        self.superseded_evals = _batches(superseded_evals, EVAL_KEYS)
        self.resumes = _resumes(run, self.superseded)
        self._axes: dict[str, tuple[Column, Column]] = {}

    @property
    def loss_unit(self) -> str:
        """The unit of its losses; empty: none is known, or they have several."""
        units = {unit_of(one, self.run.metadata) for one in self.run.losses() if one is not None}
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
        named = self.run.series()
        axes = {axis_of(one, named) for one in self.run.losses() if one is not None}
        return axes.pop() if len(axes) == 1 else "iter"

    def _axis_values(self, name: str) -> tuple[Column, Column]:
        """The steps and the finite values of a series that is an axis."""
        found = self.run.series(name)
        one = found.get(name) or next(iter(found.values()), None)
        if one is None or one.min is None:
            raise self._refusal(f"has no series {name[:200]!r} with numbers. Use: --x step")
        if one.name not in self._axes:
            steps, values = points(self.run, [one])[one.name]
            columns = columns_of({"iter": steps, "x": values})
            known = np.isfinite(columns["x"])
            self._axes[one.name] = columns["iter"][known], columns["x"][known]
        return self._axes[one.name]

    def check_axis(self, x: str) -> None:
        """Raises Refusal if the run lacks what an x axis needs."""
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


def read_columns(rows: Iterable[dict[str, Any]], keys: Sequence[str]) -> Columns:
    """`keys` of `rows`, the first of them the iteration; rows without one are left out."""
    cells: list[tuple[Any, ...]] = []
    named: dict[int, Any] = {}
    for row in rows:
        if "nonfinite" in row:
            named[len(cells)] = row["nonfinite"]
        cells.append(tuple(map(row.get, keys)))
    columns = zip(*cells, strict=True) if cells else [()] * len(keys)
    return columns_of(dict(zip(keys, columns, strict=True)), named)


def columns_of(
    values: Mapping[str, Sequence[Any]], named: Mapping[int, Any] | None = None
) -> Columns:
    """Columns of values by name, the first the iteration; values without one are left out.

    `named`: of rows whose values are null, which of them were not finite, and what they were.
    """
    columns = {key: _numbers(of_key) for key, of_key in values.items()}
    iters, *others = columns
    here = np.flatnonzero(np.abs(columns[iters]) < ITERS_MAX)
    if (np.diff(columns[iters][here]) < 0).any():  # an older logger, resumed
        here = here[np.argsort(columns[iters][here], kind="stable")]
    columns = {key: column[here] for key, column in columns.items()}
    nonfinite: dict[str, dict[int, str]] = {iters: {}}
    for key in others:
        unknown = np.flatnonzero(np.isnan(columns[key])).tolist()
        names = {i: _nonfinite(values[key][at := here[i]], key, (named or {}).get(at))
                 for i in unknown}  # fmt: skip
        nonfinite[key] = {i: name for i, name in names.items() if name}
    return Columns(columns, nonfinite)


def _numbers(values: Sequence[Any]) -> Column:
    """Finite numbers that can be drawn; NaN for each value that is not one."""
    numbers = None
    if {float, int}.issuperset(map(type, values)):
        with contextlib.suppress(OverflowError):  # an integer of three hundred digits
            numbers = np.array(values, float)
    if numbers is None:
        numbers = np.array([_number(value) for value in values], float)
    numbers[~np.isfinite(numbers)] = math.nan
    numbers[np.abs(numbers) < 1 / DRAWN_MAX] = 0.0
    drawn: Column = np.clip(numbers, -DRAWN_MAX, DRAWN_MAX)
    return drawn


def thin(x: Column, y: Column, n_columns: int) -> NDArray[np.intp]:
    """Which points are enough to draw the same line: in each of `n_columns` of x the first, last,
    lowest and highest, so that no spike is lost, and one that is not finite, for the gap.

    `x` must be ascending and finite.
    """
    if len(x) <= 4 * n_columns:
        return np.arange(len(x))
    width = (x[-1] - x[0]) / n_columns or 1.0
    column = np.minimum((x - x[0]) / width, n_columns - 1).astype(np.intp)
    finite = np.flatnonzero(np.isfinite(y))
    broken = np.flatnonzero(~np.isfinite(y))
    by_height = finite[np.lexsort((y[finite], column[finite]))]
    kept = [_ends(np.arange(len(x)), column), _ends(by_height, column), _ends(broken, column)]
    return np.unique(np.concatenate(kept))


def _ends(points: NDArray[np.intp], column: NDArray[np.intp]) -> NDArray[np.intp]:
    """The first and last of `points` in each column; `points` are ordered by column."""
    new = np.flatnonzero(np.diff(column[points])) + 1
    return np.concatenate([points[:1], points[new], points[new - 1], points[-1:]])


def _of_metric(run: eventlog.Run, one: eventlog.Series | None, own: str) -> tuple[Rows, Rows]:
    """A metric as rows that have it as `own`, and those of its values that were superseded."""
    if one is None:
        return [], []
    superseded = run.journal.get("superseded_metrics") or ()
    return (
        [{"iter": step, own: value} for step, value in run.points(one.name)],
        [
            {
                "iter": row["step"],
                own: row[one.column],
                "nonfinite": {own: _nonfinite(row[one.column], one.column, row.get("nonfinite"))},
            }
            for row in superseded
            if one.column in row and type(row.get("step")) is int
        ],
    )


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
        at = _number(row.get("iter"))
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


def _nonfinite(value: Any, key: str, named: Any) -> str:
    """What a value is that is not finite; `named`: its row's `nonfinite`."""
    if isinstance(value, float):
        return str(value)
    return str(named.get(key, "")) if isinstance(named, dict) else ""


def _number(value: Any) -> float:
    """A number as a float; NaN if the value is not one, or too large for a float."""
    with contextlib.suppress(OverflowError):
        if type(value) in (float, int):
            return float(value)
    return math.nan
