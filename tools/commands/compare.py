"""`runs compare`: the metrics of several runs side by side, and whether their losses are equal."""

import argparse
import math
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import eventlog

from ..core import rows as rows_
from ..core import runs, seeds, series
from ..core.formats import is_finite
from ..core.options import add_format, number, whole
from ..core.table import (
    print,
    print_csv,
    print_json,
    print_note,
    print_table,
    with_progress,
)  # fmt: skip
from . import compare_groups, compare_series, group_runs
from .agreement import agreement, loss_of

Row = dict[str, Any]

NONFINITE = ("nonfinite", "ends_nonfinite")
FIGURES = ("final_loss", "best_val_loss", "avg_time_ms", "avg_mfu")
COLUMNS = {
    "run_name": "run", "mark": "", "total_iters": "iterations", "final_loss": "final loss",
    "final_loss_diff": "Δ", "best_val_loss": "best val", "best_val_loss_diff": "Δ",
    "avg_time_ms": "ms/iter", "avg_time_ms_diff": "Δ", "avg_mfu": "MFU %", "avg_mfu_diff": "Δ",
    "status": "status",
}  # fmt: skip
AT_FIGURES = ("loss", "val_loss", "best_val_loss")
AT_COLUMNS = {
    "run_name": "run", "mark": "", "iter": "iteration", "loss": "loss", "loss_diff": "Δ",
    "val_loss": "val loss", "val_loss_diff": "Δ", "best_val_loss": "best val",
    "best_val_loss_diff": "Δ", "status": "status",
}  # fmt: skip
EXPENDABLE = (
    "avg_mfu_diff", "avg_time_ms_diff", "final_loss_diff", "loss_diff", "avg_mfu", "avg_time_ms",
    "status", "val_loss_diff", "total_iters", "iter", "final_loss", "loss", "val_loss",
)  # fmt: skip


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    summary = "Compare the metrics of several runs side by side; Δ is the difference to the first."
    command = commands.add_parser("compare", help=summary, description=summary)
    command.add_argument("paths", nargs="+", metavar="RUN")
    command.add_argument(
        "--metric",
        action="append",
        metavar="NAME",
        help="any series, also 'val/*'; may be repeated; -NAME: more is better, +NAME: less is",
    )
    group_runs.add_flag(command)
    add_format(command)
    at = command.add_mutually_exclusive_group()
    at.add_argument("--at-iter", type=whole("--at-iter"), metavar="N", help="after iteration N")
    at.add_argument(
        "--at-time",
        type=number("--at-time"),
        metavar="SECONDS",
        help="after this training time (of steps alone; of metrics: the time in its sessions)",
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
    if arguments.exact and arguments.group_by:
        raise runs.Refusal("--exact compares runs, not groups. Use: --exact without --group-by")
    if arguments.exact:
        return _exact(arguments)
    paths = runs.find(arguments.paths)
    limits = {x: getattr(arguments, f"at_{x}") for x in ("iter", "time", "tokens")}
    x, limit = next(((x, n) for x, n in limits.items() if n is not None), ("", 0.0))
    read = runs.load_at if x else runs.glance_at
    found = [read(path) for path in with_progress(paths, "reading", at_least=20)]
    patterns = arguments.metric or _unnamed(found)
    if arguments.group_by:
        by = seeds.keys_of(arguments.group_by)
        patterns = patterns or compare_groups.usual(found)
        groups = compare_groups.compared(found, by, patterns, x, limit)
        _print_groups(groups, arguments.format, at=bool(x))
        return int(any(f.run is None for f in found))
    if patterns:
        rows = compare_series.compared(found, patterns, x, limit)
        _print_series(rows, arguments.format, at=bool(x))
    else:
        rows = [_at(f, x, limit) if x else _metrics_of(f) for f in found]
        _differ(rows, AT_FIGURES if x else FIGURES)
        _mark(rows, ("best_val_loss", "loss" if x else "final_loss"))
        _print(rows, arguments.format, AT_COLUMNS if x else COLUMNS)
    for broken in (f for f in found if f.run is None and patterns):
        print(broken.error, file=sys.stderr)
    return int(any(f.run is None for f in found))


def _unnamed(found: Sequence[runs.Found]) -> list[str]:
    """All series, where no run has a loss but one has metrics."""
    loaded = [f.run for f in found if f.run is not None]
    has_loss = any(run.summary.get("total_iterations") or any(run.losses()) for run in loaded)
    has_metrics = any(run.journal.get("metrics") for run in loaded)
    return ["*"] if has_metrics and not has_loss else []


def _print(rows: Sequence[Row], form: str, columns: dict[str, str]) -> None:
    if form == "json":
        print_json(map(rows_.with_guide_names, rows))
        return
    rows = [row | row.get("nonfinite", {}) for row in rows]
    if form == "csv":
        named = [{rows_.guide_name(key): value for key, value in row.items()} for row in rows]
        print_csv(named, [key for key in named[0] if key not in NONFINITE])
        return
    first = rows[0]
    of_each = rows_.folders([row["path"] for row in rows])
    if len({row["run_name"] for row in rows}) < len(rows):
        columns = {"run_name": columns["run_name"], "folder": "folder"} | columns
    rows = [row | {"folder": of} for row, of in zip(rows, of_each, strict=True)]
    rows = [row | {"status": rows_.status(row)} for row in _best_first(rows)]
    unknown = {key for key in rows_.IF_KNOWN if _has_none(rows, key)}
    unknown |= {key for key in columns if key.endswith("_diff") and _has_none(rows, key)}
    columns = {k: v for k, v in columns.items() if not {k, k.removesuffix("_diff")} & unknown}
    signed = [key for key in columns if key.endswith("_diff")]
    markdown = form == "markdown"
    print_table(rows, columns, signed=signed, expendable=EXPENDABLE, markdown=markdown)
    if len(rows) > 1:
        where = f" in {of_each[0]}" if "folder" in columns else ""
        print_note(f"Δ: to {first['run_name']}{where}, the run named first")


def _has_none(rows: Sequence[Row], key: str) -> bool:
    """Whether the column of a table would be empty."""
    return all(row.get(key) is None for row in rows)


def _print_series(rows: Sequence[Row], form: str, *, at: bool) -> None:
    if form in ("json", "csv"):
        rows = [{key: v for key, v in row.items() if key != "mark"} for row in rows]
    if form == "json":
        print_json(map(series.with_marks, rows))
    elif form == "csv":
        keys = rows[0] if rows else ()
        print_csv([{key: series.exact(v) for key, v in row.items()} for row in rows], keys)
    else:
        table, notes = compare_series.shown(rows)
        print_table(
            table,
            compare_series.AT_COLUMNS if at else compare_series.COLUMNS,
            signed=compare_series.SIGNED,
            expendable=compare_series.EXPENDABLE,
            markdown=form == "markdown",
        )
        for note in notes:
            print_note(note)


def _print_groups(rows: Sequence[Row], form: str, *, at: bool) -> None:
    if form == "json":
        print_json(compare_groups.as_json(rows))
        return
    if form == "csv":
        flat = compare_groups.flat(rows)
        print_csv(flat, dict.fromkeys(key for row in flat for key in row))
        return
    table, notes = compare_groups.shown(rows)
    columns = compare_groups.columns(at=at)
    print_table(
        table,
        columns,
        signed=compare_groups.SIGNED,
        expendable=[*columns][:-4:-1],
        markdown=form == "markdown",
    )
    for note in notes:
        print_note(note)


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
        **{key: row[key] for key in NONFINITE if key in row},
    }


def _status(row: Row) -> str:
    return f"{row['status']}: {row['error']}"[:60] if row["error"] else str(row["status"])


def _at(found: runs.Found, x: str, limit: float) -> Row:
    """A run as it was at `limit`: its latest values at or before it."""
    row = rows_.row(found)
    at: Row = {"run_name": row["run"], "iter": None, "loss": None, "val_loss": None}
    at |= {"best_val_loss": None, "status": _status(row), "path": row["path"]}
    at |= {key: row[key] for key in NONFINITE[1:] if key in row}
    if found.run is None:
        return at
    if not len(found.run.training_iterations) and not len(found.run.eval_steps):
        return at | _losses_at(found, x, limit)
    iterations = [r for r in found.run.training_iterations if is_finite(r.get("iter"))]
    evals = [r for r in found.run.eval_steps if is_finite(r.get("iter"))]
    done = _reached(found.run, iterations, x, limit, after=1)
    judged = _reached(found.run, evals, x, limit, after=0)
    if done:
        at |= {"iter": done[-1]["iter"], "loss": loss_of(done[-1])}
    if judged:
        known = [r["val_loss"] for r in judged if is_finite(r.get("val_loss"))]
        at |= {
            "val_loss": loss_of(judged[-1], "val_loss"),
            "best_val_loss": min(known, default=None),
        }
    return at


def _losses_at(found: runs.Found, x: str, limit: float) -> Row:
    """The losses at `limit` of a run that logged metrics alone."""
    assert found.run is not None
    loss, val_loss = found.run.losses()
    at: Row = {}
    if loss is not None:
        (row,) = compare_series.compared([found], [f"+{loss.name}"], x, limit)
        at |= {"iter": row["step"], "loss": row["value"]}
    if val_loss is not None:
        (row,) = compare_series.compared([found], [f"+{val_loss.name}"], x, limit)
        at |= {"val_loss": row["value"], "best_val_loss": row["best"]}
    return at


def _reached(run: eventlog.Run, rows: list[Row], x: str, limit: float, *, after: int) -> list[Row]:
    """The rows of the run as it was at `limit`."""
    within = compare_series.reached(run, [r["iter"] for r in rows], x, limit, after=after)
    return [row for row, is_in in zip(rows, within, strict=True) if is_in]


def _differ(rows: Sequence[Row], names: Iterable[str]) -> None:
    """Add to each row its differences to the first row."""
    for row in rows:
        for name in names:
            a, b = rows[0][name], row[name]
            known = row is not rows[0] and is_finite(a) and is_finite(b)
            row[f"{name}_diff"] = b - a if known else None


def _mark(rows: Sequence[Row], names: Iterable[str]) -> None:
    """Mark the best of several runs by the first of these losses that any of them has."""
    name = next((n for n in names if any(is_finite(row[n]) for row in rows)), "")
    losses = [row[name] for row in rows if name and is_finite(row[name])]
    for row in rows:
        row["is_best"] = len(rows) > 1 and bool(losses) and row[name] == min(losses)
        row["ranked_by"] = rows_.guide_name(name) or None


def _best_first(rows: Sequence[Row]) -> list[Row]:
    """The rows of a table: the best first, those without the loss last."""
    marked = [row | {"mark": compare_series.BEST if row["is_best"] else ""} for row in rows]
    name = rows_.own_name(rows[0]["ranked_by"] or "")

    def key(row: Row) -> float:
        loss = row.get(name)
        return loss if is_finite(loss) else math.inf

    return sorted(marked, key=key)


# ---- the same losses or not


def _exact(arguments: argparse.Namespace) -> int:
    paths = runs.find(arguments.paths)
    if len(paths) < 2 <= len(arguments.paths) and all(map(os.path.isfile, arguments.paths)):
        paths = [*map(Path, arguments.paths)]  # a run JSON and its journal
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
            print(f"{first.path} and {other.path}: {found}")
    return int(code)
