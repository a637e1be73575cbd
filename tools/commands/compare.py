"""`runs compare`: the metrics of several runs side by side, and whether their losses are equal."""

import argparse
from collections.abc import Iterable, Sequence
from typing import Any

import eventlog

from ..core import rows as rows_
from ..core import runs
from ..core.formats import is_finite
from ..core.options import number, whole
from ..core.table import print, print_csv, print_json, print_table, with_progress
from .agreement import agreement, loss_of

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
    summary = "Compare the metrics of several runs side by side; Δ is the difference to the first."
    command = commands.add_parser("compare", help=summary, description=summary)
    command.add_argument("paths", nargs="+", metavar="RUN")
    command.add_argument("--format", choices=FORMATS, default="table")
    command.add_argument("--json", dest="format", action="store_const", const="json")
    at = command.add_mutually_exclusive_group()
    at.add_argument("--at-iter", type=whole("--at-iter"), metavar="N", help="after iteration N")
    at.add_argument(
        "--at-time",
        type=number("--at-time"),
        metavar="SECONDS",
        help="after this training time (of steps alone)",
    )
    at.add_argument("--at-tokens", type=whole("--at-tokens"), metavar="N", help="after N tokens")
    at.add_argument(
        "--exact",
        action="store_true",
        help="check that all losses equal those of the first run; exits 1 and says where not",
    )
    command.add_argument(
        "--tolerance",
        type=number("--tolerance"),
        default=0.0,
        metavar="X",
        help="with --exact: the largest difference that counts as equal",
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
    rows = [_at(f, x, limit) if x else _metrics_of(f) for f in found]
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


def _metrics_of(found: runs.Found) -> Row:
    """The fields of `eventlog.compare_runs`; None where unknown."""
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
    """A run as it was at `limit`: its latest values at or before it."""
    row = rows_.row(found)
    at: Row = {"run_name": row["run"], "iter": None, "loss": None, "val_loss": None}
    at |= {"best_val_loss": None, "status": _status(row), "path": row["path"]}
    if found.run is None:
        return at
    iterations = [r for r in found.run.training_iterations if is_finite(r.get("iter"))]
    evals = [r for r in found.run.eval_steps if is_finite(r.get("iter"))]
    done = _reached(found.run, iterations, x, limit, after=1)
    judged = _reached(found.run, evals, x, limit, after=0)
    if done:
        at |= {"iter": done[-1]["iter"], "loss": loss_of(done[-1])}
    if judged:
        known = [r["val_loss"] for r in judged if is_finite(r.get("val_loss"))]
        at |= {"val_loss": judged[-1].get("val_loss"), "best_val_loss": min(known, default=None)}
    return at


def _reached(run: eventlog.Run, rows: list[Row], x: str, limit: float, *, after: int) -> list[Row]:
    """The rows of the run as it was at `limit`.

    `after` is 1 for an iteration, which adds time and tokens, and 0 for an eval before it.
    """
    if x == "iter":
        return [row for row in rows if row["iter"] <= limit]
    if not rows:
        return []
    import numpy as np  # slow to import; the other comparisons do not need it

    from ..plot.series import Series

    try:
        iters = np.array([row["iter"] + after for row in rows], float)
        series = Series(run)
        at = series.training_seconds(iters) if x == "time" else series.place(iters, "tokens")
    except runs.Refusal:
        lacks = "a time_ms in its iterations" if x == "time" else "tokens_per_iter in its metadata"
        raise runs.Refusal(f"{run.path}: is missing {lacks}. Use: --at-iter") from None
    return [row for row, place in zip(rows, at, strict=True) if place <= limit * (1 + 1e-12)]


def _differ(rows: Sequence[Row], names: Iterable[str]) -> None:
    """Add to each row its differences to the first row."""
    for row in rows:
        for name in names:
            a, b = rows[0][name], row[name]
            known = row is not rows[0] and is_finite(a) and is_finite(b)
            row[f"{name}_diff"] = b - a if known else None


# ---- the same losses or not


def _exact(arguments: argparse.Namespace) -> int:
    paths = runs.find(arguments.paths)
    if len(paths) < 2:
        raise runs.Refusal(
            f"{' '.join(arguments.paths)}: --exact needs two or more runs, this is one"
        )
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
