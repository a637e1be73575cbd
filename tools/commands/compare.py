"""`runs compare`: the figures of several runs side by side, and whether runs are the same.

from .compare import agreement
assert agreement(resumed, never_killed).is_exact
"""

import argparse
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import eventlog

from ..core import rows as rows_
from ..core import runs
from ..core.options import number, whole
from ..core.table import print_csv, print_json, print_table, with_progress
from ..core.text import print

Row = dict[str, Any]

FIGURES = ("final_loss", "best_val_loss", "avg_time_ms", "avg_mfu")
COLUMNS = {
    "run_name": "run", "total_iters": "iterations", "final_loss": "final loss",
    "final_loss_diff": "Δ", "best_val_loss": "best val", "best_val_loss_diff": "Δ",
    "avg_time_ms": "ms/iter", "avg_time_ms_diff": "Δ", "avg_mfu": "MFU %", "avg_mfu_diff": "Δ",
    "status": "status",
}  # fmt: skip
AT_FIGURES = ("loss", "val_loss", "best_val_loss")
AT_COLUMNS = {
    "run_name": "run", "iter": "iteration", "loss": "loss", "loss_diff": "Δ",
    "val_loss": "val loss", "val_loss_diff": "Δ", "best_val_loss": "best val",
    "best_val_loss_diff": "Δ", "status": "status",
}  # fmt: skip
EXPENDABLE = (
    "avg_mfu_diff", "avg_time_ms_diff", "final_loss_diff", "loss_diff", "avg_mfu", "avg_time_ms",
    "status", "val_loss_diff", "total_iters", "iter",
)  # fmt: skip
FORMATS = ("table", "markdown", "csv", "json")


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    words = "Put the figures of several runs side by side, Δ to the first."
    command = commands.add_parser("compare", help=words, description=words)
    command.add_argument("paths", nargs="+", metavar="RUN")
    command.add_argument("--format", choices=FORMATS, default="table")
    command.add_argument("--json", dest="format", action="store_const", const="json")
    at = command.add_mutually_exclusive_group()
    at.add_argument("--at-iter", type=whole("--at-iter"), metavar="N", help="after iteration N")
    at.add_argument("--at-time", type=number("--at-time"), metavar="SECONDS", help="of steps alone")
    at.add_argument(
        "--at-tokens", type=whole("--at-tokens"), metavar="N", help="after so many tokens"
    )
    at.add_argument(
        "--exact",
        action="store_true",
        help="are all losses those of the first run? Exits 1, and says where they are not",
    )
    command.add_argument(
        "--tolerance",
        type=number("--tolerance"),
        default=0.0,
        metavar="X",
        help="with --exact: losses may be so far apart (another order of adding)",
    )
    command.set_defaults(run=_compare)


def _compare(arguments: argparse.Namespace) -> int:
    if arguments.exact:
        return _exact(arguments)
    paths = runs.find(arguments.paths)
    limits = {x: getattr(arguments, f"at_{x}") for x in ("iter", "time", "tokens")}
    x, limit = next(((x, n) for x, n in limits.items() if n is not None), ("", 0.0))
    read = runs.load_at if x else runs.glance_at
    found = [read(path) for path in with_progress(paths, "reading", at_least=20)]
    rows = [_at(f, x, limit) if x else _figures(f) for f in found]
    columns = AT_COLUMNS if x else COLUMNS
    _differ(rows, AT_FIGURES if x else FIGURES)
    if arguments.format == "json":
        print_json(rows)
    elif arguments.format == "csv":
        print_csv(rows, rows[0])
    else:
        signed = [key for key in columns if key.endswith("_diff")]
        print_table(
            rows,
            columns,
            signed=signed,
            expendable=EXPENDABLE,
            markdown=arguments.format == "markdown",
        )
    return int(any(f.run is None for f in found))


# ---- side by side


def _figures(found: runs.Found) -> Row:
    """The figures of `eventlog.compare_runs`; what is not known is None."""
    row = rows_.row(found)
    return {
        "run_name": row["run"],
        "total_iters": row["iterations"],
        "final_loss": row["final_loss"],
        "best_val_loss": row["best_val_loss"],
        "avg_time_ms": row["avg_time_ms"],
        "avg_mfu": row["avg_mfu"],
        "status": _status(row),
        "path": row["path"],
    }


def _status(row: Row) -> str:
    return f"{row['status']}: {row['error']}"[:60] if row["error"] else str(row["status"])


def _at(found: runs.Found, x: str, limit: float) -> Row:
    """A run as it was when it had come so far: the latest figures at or before that."""
    row = rows_.row(found)
    at: Row = {"run_name": row["run"], "iter": None, "loss": None, "val_loss": None}
    at |= {"best_val_loss": None, "status": _status(row), "path": row["path"]}
    if found.run is None:
        return at
    iterations = [r for r in found.run.training_iterations if _is_figure(r.get("iter"))]
    evals = [r for r in found.run.eval_steps if _is_figure(r.get("iter"))]
    done = _reached(found.run, iterations, x, limit, after=1)
    judged = _reached(found.run, evals, x, limit, after=0)
    if done:
        at |= {"iter": done[-1]["iter"], "loss": loss_of(done[-1])}
    if judged:
        known = [r["val_loss"] for r in judged if _is_figure(r.get("val_loss"))]
        at |= {"val_loss": judged[-1].get("val_loss"), "best_val_loss": min(known, default=None)}
    return at


def _reached(run: eventlog.Run, rows: list[Row], x: str, limit: float, *, after: int) -> list[Row]:
    """The rows that belong to the run as it was at `limit`.

    `after` is 1 for a step, which takes time and tokens, and 0 for an eval before it.
    """
    if x == "iter":
        return [row for row in rows if row["iter"] <= limit]
    if not rows:
        return []
    import numpy as np  # half a second that the other comparisons need not pay

    from ..plot.series import Series

    try:
        at = Series(run).place(np.array([row["iter"] + after for row in rows], float), x)  # type: ignore[arg-type]
    except runs.Refusal:
        lacks = "a time_ms in its iterations" if x == "time" else "tokens_per_iter in its metadata"
        raise runs.Refusal(f"{run.path}: has not {lacks}. Use: --at-iter") from None
    return [row for row, place in zip(rows, at, strict=True) if place <= limit * (1 + 1e-12)]


def _differ(rows: Sequence[Row], figures: Iterable[str]) -> None:
    """Add to each row how far its figures are from the first one's."""
    for row in rows:
        for name in figures:
            a, b = rows[0][name], row[name]
            known = row is not rows[0] and _is_figure(a) and _is_figure(b)
            row[f"{name}_diff"] = b - a if known else None


def _is_figure(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


# ---- the same or not


@dataclass(frozen=True)
class Agreement:
    """How far the losses of two runs agree, iteration by iteration."""

    n_equal: int
    """Iterations that agree before the first that does not."""
    differs_at: int | None = None
    """The first iteration that does not agree; None: all do."""
    ours: float | None = None
    theirs: float | None = None
    """The losses there; None where a run has none."""
    largest: float = 0.0
    """The largest difference seen in all iterations that both have."""
    largest_at: int | None = None

    @property
    def is_exact(self) -> bool:
        """Whether there was something to compare, and all of it agrees."""
        return self.n_equal > 0 and self.differs_at is None

    def __str__(self) -> str:
        if self.differs_at is None:
            said = f"{self.n_equal:,} iterations equal" if self.n_equal else "nothing to compare"
        else:
            said = (
                f"differs at iteration {self.differs_at:,}: loss {_said(self.ours)} and "
                f"{_said(self.theirs)}, after {self.n_equal:,} equal iterations"
            )
        if self.largest_at is not None:
            said += f"; the largest difference is {self.largest:.3g}, at {self.largest_at:,}"
        return said


def agreement(ours: eventlog.Run, theirs: eventlog.Run, *, tolerance: float = 0.0) -> Agreement:
    """Compare the losses of two runs. NaN equals NaN; an iteration that one lacks differs.

    Args:
        tolerance: losses may be so far apart and still count as equal.
    """
    a, b = _losses(ours), _losses(theirs)
    n_equal, differs_at, largest, largest_at = 0, None, 0.0, None
    for i in sorted(a.keys() | b.keys()):
        gap = _gap(a.get(i), b.get(i))
        if largest < gap < math.inf:
            largest, largest_at = gap, i
        if gap > tolerance and differs_at is None:
            differs_at = i
        n_equal += differs_at is None
    if differs_at is None:
        return Agreement(n_equal, largest=largest, largest_at=largest_at)
    return Agreement(n_equal, differs_at, a.get(differs_at), b.get(differs_at), largest, largest_at)


def _losses(run: eventlog.Run) -> dict[int, float | None]:
    return {row["iter"]: loss_of(row) for row in run.training_iterations if "iter" in row}


def loss_of(row: Mapping[str, Any], key: str = "loss") -> float | None:
    """The loss as it was logged: a run JSON keeps a NaN by name, beside a null."""
    loss = row.get(key)
    if isinstance(loss, int | float):
        return float(loss)
    name = (row.get("nonfinite") or {}).get(key)
    return float(name) if name else None


def _gap(a: float | None, b: float | None) -> float:
    """How far apart two losses are; infinite where only one is there, or finite."""
    if a is None or b is None:
        return math.inf
    if a == b or (math.isnan(a) and math.isnan(b)):
        return 0.0
    gap = abs(a - b)
    return math.inf if math.isnan(gap) else gap


def _said(loss: float | None) -> str:
    return "missing" if loss is None else repr(loss)


def _exact(arguments: argparse.Namespace) -> int:
    paths = runs.find(arguments.paths)
    if len(paths) < 2:
        raise runs.Refusal(f"{' '.join(arguments.paths)}: is one run, --exact compares two or more")
    first, *others = (runs.whole(path) for path in with_progress(paths, "reading"))
    code = 0
    for other in others:
        found = agreement(first, other, tolerance=arguments.tolerance)
        code |= not found.is_exact
        if arguments.format == "json":
            print_json([{"run_name": other.run_name, "path": str(other.path), **vars(found)}])
        else:
            print(f"{other.path} against {first.path}: {found}")
    return int(code)
