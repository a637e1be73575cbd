"""`runs ls` lists runs, `runs best` finds the best one."""

import argparse
import sys
import time

from ..core import rows as rows_
from ..core import runs
from ..core.formats import age, is_finite
from ..core.options import whole
from ..core.rows import Row
from ..core.table import print, print_csv, print_json, print_table, with_progress
from ..core.where import select

COLUMNS = {
    "run": "run", "status": "status", "iterations": "iterations", "best_val_loss": "best val",
    "final_loss": "final loss", "avg_time_ms": "ms/iter", "avg_mfu": "MFU %", "age_s": "age",
}  # fmt: skip
EXPENDABLE = ("avg_mfu", "avg_time_ms", "final_loss", "age_s", "iterations")
_STATUS_CHARACTERS = 60  # of the error of an unreadable file; --json prints all of it


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    summary = "List runs, the best validation loss first; ● marks those being written now."
    command = commands.add_parser("ls", help=summary, description=summary)
    _add_selection(command)
    command.add_argument(
        "--sort", default="best_val_loss", metavar="FIELD", help="-FIELD: in descending order"
    )
    command.add_argument("--limit", type=whole("--limit"), metavar="N", help="print the first N")
    command.add_argument(
        "--columns", metavar="A,B", help="fields to show, also config.NAME and metadata.NAME"
    )
    command.add_argument("--json", action="store_true", help="one JSON object per line, all fields")
    command.add_argument("--csv", action="store_true", help="CSV, numbers in full")
    command.set_defaults(run=_ls)

    summary = "Find the best run: the lowest best validation loss, or another field."
    command = commands.add_parser("best", help=summary, description=summary)
    _add_selection(command)
    command.add_argument(
        "--metric", default="best_val_loss", metavar="FIELD", help="-FIELD: the greatest is best"
    )
    command.add_argument("--path", action="store_true", help="print only its path")
    command.add_argument("--json", action="store_true", help="one JSON object, all fields")
    command.set_defaults(run=_best)


def _add_selection(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "paths", nargs="*", default=[runs.FOLDER], metavar="RUN", help="default: out"
    )
    command.add_argument(
        "--where", metavar="EXPR", help='"best_val_loss < 7 and config.n_layer in (6, 12)"'
    )


def listed(names: list[str], where: str | None = None) -> list[Row]:
    """The rows of the runs that `names` match and for which `where` is true.

    Raises:
        FileNotFoundError, Refusal: a name matches no run or several; `where` is malformed.
    """
    now = time.time()
    paths = runs.find(names)
    rows = [
        rows_.row(runs.glance_at(path), now)
        for path in with_progress(paths, "reading", at_least=100)
    ]
    return select(rows, where) if where else rows


def _ls(arguments: argparse.Namespace) -> int:
    rows = rows_.sort(listed(arguments.paths, arguments.where), arguments.sort)[: arguments.limit]
    has_groups = any(row["metadata"].get("group") for row in rows)
    columns = {"group": "group"} if has_groups else {}
    columns = COLUMNS | columns | ({"tags": "tags"} if any(row["tags"] for row in rows) else {})
    if arguments.columns:
        names = [name.strip() for name in arguments.columns.split(",") if name.strip()]
        columns = {rows_.check_field(rows, name, "--columns"): name for name in names}
    if arguments.json:
        print_json(rows)
    elif arguments.csv:
        names = list(columns if arguments.columns else rows_.FIELDS)
        print_csv([{name: rows_.value(row, name) for name in names} for row in rows], names)
    elif rows:
        expendable = () if arguments.columns else EXPENDABLE
        shown = [{k: _shown(row, k) for k in columns} for row in rows]
        print_table(shown, columns, expendable=expendable)
    else:
        filtered = " match --where" if arguments.where else ""
        print(f"no runs in {' '.join(arguments.paths)}{filtered}", file=sys.stderr)
    return 0


def _shown(row: Row, key: str) -> object:
    """A field as shown in the table."""
    value = rows_.value(row, key)
    if key == "status" and row["lost"]:
        value = f"{value}, {row['lost']:,} events lost"
    if key == "status" and row["live"]:
        return f"● {value}"
    if key == "status" and row["error"]:
        return f"{value}: {row['error']}"[:_STATUS_CHARACTERS]
    if key == "age_s" and value is not None:
        return age(value)
    return value


def _best(arguments: argparse.Namespace) -> int:
    rows = listed(arguments.paths, arguments.where)
    name = arguments.metric.removeprefix("-")
    measured = [row for row in rows if is_finite(rows_.value(row, name))]
    best = rows_.sort(measured or rows, arguments.metric)[:1]
    if not measured:
        print(
            f"{' '.join(arguments.paths)}: none of {len(rows):,} runs has a {arguments.metric}",
            file=sys.stderr,
        )
        return 1
    if arguments.path:
        print(best[0]["path"])
    elif arguments.json:
        print_json(best)
    else:
        columns = COLUMNS | {name: arguments.metric} | COLUMNS
        print_table([{k: _shown(row, k) for k in columns} for row in best], columns)
    return 0
