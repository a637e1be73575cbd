"""`runs compare`: the figures of several runs side by side."""

import argparse

import eventlog
from tools import runs
from tools.table import print_json, print_table

COLUMNS = {
    "run_name": "run", "total_iters": "iterations", "final_loss": "final loss",
    "best_val_loss": "best val", "avg_time_ms": "ms/iter", "avg_mfu": "MFU %", "status": "status",
}  # fmt: skip


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    words = "Put the figures of several runs side by side."
    command = commands.add_parser("compare", help=words, description=words)
    command.add_argument("paths", nargs="+", metavar="RUN")
    command.add_argument("--json", action="store_true", help="one JSON object a line")
    command.set_defaults(run=_compare)


def _compare(arguments: argparse.Namespace) -> int:
    rows = eventlog.compare_runs(runs.find(arguments.paths))["runs"]
    if arguments.json:
        print_json(rows)
    else:
        print_table(rows, COLUMNS)
    return 0
