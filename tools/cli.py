"""runs ls | compare: read the files that training runs leave behind.

A run is a run JSON, a journal (.jsonl), a folder of them, or a glob. stdout is data,
stderr is words. Exit codes: 0 fine, 1 a file could not be read, 2 misuse.
"""

import argparse
import sys
from collections.abc import Sequence
from typing import Any

import eventlog
from tools import runs
from tools.table import print_json, print_table

LS_COLUMNS = {
    "run": "run", "status": "status", "iterations": "iterations", "final_loss": "final loss",
    "best_val_loss": "best val", "avg_time_ms": "ms/iter", "avg_mfu": "MFU %", "started": "started",
}  # fmt: skip
COMPARE_COLUMNS = {
    "run_name": "run", "total_iters": "iterations", "final_loss": "final loss",
    "best_val_loss": "best val", "avg_time_ms": "ms/iter", "avg_mfu": "MFU %", "status": "status",
}  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; its exit code."""
    arguments = _parser().parse_args(argv)
    try:
        code: int = arguments.run(arguments)
    except (eventlog.EventlogError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="runs", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    words = "List runs, the best validation loss first."
    ls = commands.add_parser("ls", help=words, description=words)
    ls.add_argument("paths", nargs="*", default=["out"], metavar="RUN", help="default: out")
    ls.set_defaults(run=_ls)
    words = "Put the figures of several runs side by side."
    compare = commands.add_parser("compare", help=words, description=words)
    compare.add_argument("paths", nargs="+", metavar="RUN")
    compare.set_defaults(run=_compare)
    for command in (ls, compare):
        command.add_argument("--json", action="store_true", help="one JSON object a line")
    return parser


def _ls(arguments: argparse.Namespace) -> int:
    rows = [_row(found) for found in runs.load(arguments.paths)]
    rows.sort(key=lambda row: (row["best_val_loss"] is None, row["best_val_loss"]))
    if arguments.json:
        print_json(rows)
    elif rows:
        print_table(rows, LS_COLUMNS)
    else:
        print(f"no runs in {' '.join(arguments.paths)}", file=sys.stderr)
    return 0


def _row(found: runs.Found) -> dict[str, Any]:
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


def _compare(arguments: argparse.Namespace) -> int:
    rows = eventlog.compare_runs(runs.find(arguments.paths))["runs"]
    if arguments.json:
        print_json(rows)
    else:
        print_table(rows, COMPARE_COLUMNS)
    return 0


if __name__ == "__main__":
    sys.exit(main())
