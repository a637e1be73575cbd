"""`runs ls` lists runs, `runs best` finds the best one."""

import argparse
import shlex
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import eventlog

from ..core import rows as rows_
from ..core import runs, seeds, series, where
from ..core.formats import age, is_finite
from ..core.options import add_format, whole
from ..core.rows import Row
from ..core.table import print, print_csv, print_json, print_table, with_progress
from . import group_runs

COLUMNS = {
    "run": "run", "status": "status", "iterations": "iterations", "best_val_loss": "best val",
    "final_loss": "final loss", "avg_time_ms": "ms/iter", "avg_mfu": "MFU %", "age_s": "age",
}  # fmt: skip
_FORM = argparse.RawDescriptionHelpFormatter
EXPENDABLE = ("avg_mfu", "avg_time_ms", "age_s", "final_loss", "iterations")
_STATUS_CHARACTERS = 60  # of the error of an unreadable file; --json prints all of it
_SERIES_HELP = """
Columns, --where and --sort take fields of the run (--json prints them), config.NAME, metadata.NAME,
and any series by its name as logged: val/acc is its last value; val/acc:min, :max, :best, :mean,
:first, :count, and val/acc@1000 (at step 1000) are others. A series whose name has only letters,
digits, dots, slashes and underscores stands in --where as it is ("val/acc > 0.9 and config.lr <
1e-3"); any other in double quotes, a quote in it doubled ('"val acc" > 0.9'). A slash with spaces
around it divides. Where a field or a config has the name too: TABLE/NAME (metrics/loss).
"""


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    summary = "List runs, the best validation loss first; ● marks those being written now."
    command = commands.add_parser(
        "ls", help=summary, description=summary, epilog=_SERIES_HELP, formatter_class=_FORM
    )
    _add_selection(command)
    command.add_argument(
        "--sort", default="best_val_loss", metavar="NAME", help="-NAME: in descending order"
    )
    command.add_argument("--limit", type=whole("--limit"), metavar="N", help="print the first N")
    command.add_argument(
        "--columns", metavar="A,B", help="what to show: 'run,val/acc,train/loss:min,config.lr'"
    )
    group_runs.add_flag(command)
    add_format(command)
    command.set_defaults(run=_ls)

    summary = "Find the best run: the lowest best validation loss, or another field or series."
    command = commands.add_parser(
        "best", help=summary, description=summary, epilog=_SERIES_HELP, formatter_class=_FORM
    )
    _add_selection(command)
    command.add_argument(
        "--metric",
        default="best_val_loss",
        metavar="NAME",
        help="a field: the least is best; a series: its best value, where the run defines or its "
        "usual name says whether less or more is better; -NAME: the greatest, +NAME: the least",
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


def listed(
    names: list[str],
    condition: str | None = None,
    columns: Iterable[str] = (),
    read: dict[str, runs.Found] | None = None,
) -> list[Row]:
    """The rows of the runs that `names` match and for which `condition` is true.

    Args:
        columns: what is asked of the rows besides fields and config: names of series.
        read: where to keep, by path, the runs that were read from their journals.

    Raises:
        FileNotFoundError, Refusal: a name matches no run or several; `condition` is malformed.
    """
    now = time.time()
    paths = runs.find(names)
    asked = [*columns, *(where.names(condition) if condition else ())]
    asked = [name for name in dict.fromkeys(asked) if not rows_.is_field(name)]
    read = {} if read is None and asked else read
    with_bar = with_progress(paths, "reading", at_least=100)
    rows = [_row(path, now, read) for path in with_bar]
    # A name in the config or metadata of a run is not a series: these take long to read.
    asked = [name for name in asked if all(rows_.value(row, name) is None for row in rows)]
    asked = [name for name in asked if not name.startswith(("config.", "metadata."))]
    if asked:
        rows = [rows_.with_series(row, _found(row, read or {}), asked) for row in rows]
    return where.select(rows, condition) if condition else rows


def _row(path: Path, now: float, read: dict[str, runs.Found] | None) -> Row:
    """The row of one run. A run in a journal is kept in `read`: to read it takes long."""
    if read is None or not runs.is_journal(path):
        return rows_.glance(path, now)
    found = read[str(path)] = runs.glance_at(path)
    return rows_.row(found, now)


def _found(row: Row, read: Mapping[str, runs.Found]) -> runs.Found:
    return read.get(row["path"]) or runs.glance_at(Path(row["path"]))


def _ls(arguments: argparse.Namespace) -> int:
    asked = _names(arguments.columns)
    key = arguments.sort.removeprefix("-")
    by = seeds.keys_of(arguments.group_by or "")
    rows = listed(arguments.paths, arguments.where, [*asked, key, *(by or ())])
    if arguments.group_by and rows:
        columns = _columns(rows, asked) if asked else _usual_columns(rows)
        return group_runs.print_groups(rows, columns, by, arguments)
    rows = rows_.sort(rows, arguments.sort)[: arguments.limit]
    columns = _columns(rows, asked) if asked else _usual_columns(rows)
    if arguments.format == "json":
        print_json(map(rows_.with_guide_names, rows))
    elif arguments.format == "csv":
        names = list(columns if arguments.columns else map(rows_.guide_name, rows_.FIELDS))
        print_csv([{name: _exact(row, name) for name in names} for row in rows], names)
    elif rows:
        expendable = () if arguments.columns else EXPENDABLE
        shown = [{k: _shown(row, k) for k in columns} for row in rows]
        if "run" in columns and len({row["run"] for row in rows}) < len(rows):
            of_each = rows_.folders([row["path"] for row in rows])
            shown = [row | {"folder": of} for row, of in zip(shown, of_each, strict=True)]
            columns = {"run": columns["run"], "folder": "folder"} | columns
        markdown = arguments.format == "markdown"
        print_table(shown, columns, expendable=expendable, markdown=markdown)
    else:
        filtered = " match --where" if arguments.where else ""
        print(f"no runs in {' '.join(arguments.paths)}{filtered}", file=sys.stderr)
    return 0


def _names(columns: str | None) -> list[str]:
    return [name.strip() for name in (columns or "").split(",") if name.strip()]


def _usual_columns(rows: list[Row]) -> dict[str, str]:
    """The columns of a table without `--columns`: those that say something about these runs."""
    unknown = {k for k in rows_.IF_KNOWN if all(row[k] is None for row in rows)}
    columns = {k: heading for k, heading in COLUMNS.items() if k not in unknown}
    columns |= {"group": "group"} if any(row["metadata"].get("group") for row in rows) else {}
    return columns | ({"tags": "tags"} if any(row["tags"] for row in rows) else {})


def _columns(rows: list[Row], asked: list[str]) -> dict[str, str]:
    """The columns of `--columns`, each pattern as the series that it matches."""
    columns: dict[str, str] = {}
    for name in asked:
        labels = dict.fromkeys(
            label for row in rows for label in row.get("series", {}) if series.matches(label, name)
        )
        names = [*labels] or [rows_.check_field(rows, name, "--columns")]
        columns |= dict(zip(names, names, strict=True))
    return columns


def _exact(row: Row, name: str) -> Any:
    """A value in full; a number that is not finite is its name."""
    value = series.exact(rows_.value(row, name))
    return row.get("nonfinite", {}).get(rows_.own_name(name)) if value is None else value


def _shown(row: Row, key: str) -> object:
    """A field as shown in the table."""
    value: Any = rows_.status(row) if key == "status" else _exact(row, key)
    if key == "status" and row["live"]:
        return f"● {value}"
    if key == "status" and row["error"]:
        return f"{value}: {row['error']}"[:_STATUS_CHARACTERS]
    if key == "age_s" and value is not None:
        return age(value)
    return value


def _best(arguments: argparse.Namespace) -> int:
    name, goal = series.direction(arguments.metric)
    paths = arguments.paths
    read: dict[str, runs.Found] | None = None if rows_.is_field(name) else {}
    rows = listed(paths, arguments.where, read=read)
    if read is not None and all(rows_.value(row, name) is None for row in rows):
        rows, name, goal = _of_series(rows, read, name, goal)
    measured = [row for row in rows if is_finite(rows_.value(row, name))]
    best = rows_.sort(measured or rows, f"-{name}" if goal == "maximize" else name)[:1]
    if not measured:
        print(
            f"{' '.join(paths)}: none of {len(rows):,} runs has a {arguments.metric}",
            file=sys.stderr,
        )
        return 1
    if arguments.path:
        print(best[0]["path"])
    elif arguments.json:
        print_json(map(rows_.with_guide_names, best))
    else:
        columns = COLUMNS | {name: arguments.metric} | COLUMNS
        columns = {k: columns[k] for k in columns if k == name or k in _usual_columns(best)}
        print_table([{k: _shown(row, k) for k in columns} for row in best], columns)
    return 0


def _of_series(
    rows: Sequence[Row], read: Mapping[str, runs.Found], name: str, goal: series.Goal | None
) -> tuple[list[Row], str, series.Goal]:
    """Rows with the best value of a series, the name of that value, and which way is better.

    Raises:
        Refusal: no run has the series, or it is not known which way is better.
    """
    logged: list[eventlog.Series] = []
    values: list[dict[str, Any]] = []  # of each run; a whole run is not kept
    for row in rows:
        source = series.Source(_found(row, read))
        asked, named = source.find(name)
        logged += named.values()
        one = next(iter(named.values())) if len(named) == 1 else None
        if one is None:
            values.append({})
        elif asked.suffix:
            values.append({name: source.value(one, asked)})
        else:
            values.append({f"{name}:min": one.min, f"{name}:max": one.max})
    if rows and not logged:
        raise series.unknown("--metric", name, series.names_in(row["path"] for row in rows))
    goal = goal or next((one.goal for one in logged if one.goal is not None), None)
    if goal is None:
        more, less = shlex.quote(f"-{name}"), shlex.quote(f"+{name}")
        raise runs.Refusal(
            f"--metric: unknown whether less or more of {name!r} is better. Use: "
            f"--metric={more} (more) or --metric={less} (less)"
        )
    label = f"{name}:{'max' if goal == 'maximize' else 'min'}"
    label = name if any(name in of for of in values) else label
    measured = [
        rows_.with_values(row, {label: of.get(label)} if of else {})
        for row, of in zip(rows, values, strict=True)
    ]
    return measured, label, goal
