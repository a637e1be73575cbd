"""`runs ls`: what there is, the best run first."""

import argparse
import sys
from typing import Any

from tools import runs
from tools.table import print_json, print_table

COLUMNS = {
    "run": "run", "status": "status", "iterations": "iterations", "final_loss": "final loss",
    "best_val_loss": "best val", "avg_time_ms": "ms/iter", "avg_mfu": "MFU %", "started": "started",
}  # fmt: skip


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    words = "List runs, the best validation loss first."
    command = commands.add_parser("ls", help=words, description=words)
    command.add_argument("paths", nargs="*", default=["out"], metavar="RUN", help="default: out")
    command.add_argument("--json", action="store_true", help="one JSON object a line")
    command.set_defaults(run=_ls)


def _ls(arguments: argparse.Namespace) -> int:
    rows = [row(found) for found in runs.load(arguments.paths)]
    rows.sort(key=lambda row: (row["best_val_loss"] is None, row["best_val_loss"]))
    if arguments.json:
        print_json(rows)
    elif rows:
        print_table(rows, COLUMNS)
    else:
        print(f"no runs in {' '.join(arguments.paths)}", file=sys.stderr)
    return 0


def row(found: runs.Found) -> dict[str, Any]:
    """What `ls` says of a run; a broken file is a row that says so."""
    if found.run is None:
        return {"run": found.path.name, "status": f"unreadable: {found.error}"} | dict.fromkeys(
            ("iterations", "final_loss", "best_val_loss", "avg_time_ms", "avg_mfu", "started")
        )
    run, summary = found.run, found.run.summary
    return {
        "run": run.run_name,
        "status": run.status,
        "iterations": summary["total_iterations"],
        "final_loss": summary["final_train_loss"],
        "best_val_loss": summary["best_val_loss"],
        "avg_time_ms": summary["avg_time_ms"],
        "avg_mfu": summary["avg_mfu"],
        "started": (run.start_time or "")[:19].replace("T", " "),
    }
