"""`--group-by`: runs that differ in the seed alone, or that have equal keys, as one row."""

import argparse
import sys
from collections import Counter
from collections.abc import Mapping, Sequence

from ..core import rows as rows_
from ..core import seeds
from ..core.rows import Row
from ..core.seeds import Group, Stat
from ..core.table import print, print_csv, print_json, print_table

NOT_GROUPED = ("run", "age_s", "path", "live")
"""Columns of single runs."""


def add_flag(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--group-by",
        metavar="KEYS",
        help="runs that differ in the seed alone (or in folders, names, hosts) as one, with mean ± "
        "standard deviation; or those with equal keys: config.lr,config.depth",
    )


def groups_of(rows: Sequence[Row], by: Sequence[str] | None) -> list[Group]:
    """The groups of readable runs; says on stderr what is left out, and what a group mixes.

    Raises:
        Refusal: no run has a key.
    """
    readable = [row for row in rows if not row["error"]]
    for row in rows:
        if row["error"]:
            print(f"{row['path']}: {row['error']} (left out)", file=sys.stderr)
    for name in by or ():
        rows_.check_field(readable, name, "--group-by")
    found = seeds.groups(readable, by)
    for note in seeds.notes_on(found, by):
        print(note, file=sys.stderr)
    return found


def print_groups(
    rows: Sequence[Row],
    columns: Mapping[str, str],
    by: Sequence[str] | None,
    arguments: argparse.Namespace,
) -> int:
    """`runs ls --group-by`: a row for each group."""
    columns = {k: heading for k, heading in columns.items() if k not in NOT_GROUPED}
    key = rows_.check_field(rows, arguments.sort.removeprefix("-"), "--sort")
    found = _sorted(groups_of(rows, by), key, is_down=arguments.sort.startswith("-"))
    found = found[: arguments.limit]
    if arguments.format == "json":
        print_json(_as_json(group, columns) for group in found)
    elif arguments.format == "csv":
        flat = [_flat(group, columns) for group in found]
        print_csv(flat, dict.fromkeys(key for row in flat for key in row))
    else:
        headings = {"group": "group", "n": "runs"} | {f"of {k}": h for k, h in columns.items()}
        markdown = arguments.format == "markdown"
        print_table([_shown(group, columns) for group in found], headings, markdown=markdown)
    return 0


def _sorted(found: list[Group], key: str, *, is_down: bool) -> list[Group]:
    """By the mean of a field, or by its first value if it is no number; unknown ones are last."""
    as_rows = [_sortable(group, key) | {"at": at} for at, group in enumerate(found)]
    ordered = rows_.sort(as_rows, f"-{key}" if is_down else key)
    return [found[row["at"]] for row in ordered]


def _sortable(group: Group, key: str) -> Row:
    stat = group.stat(key)
    known = stat.mean if stat.n else rows_.value(group.rows[0], key)
    known = None if group.stat(key).n_nonfinite and not stat.n else known
    empty: Row = {"config": {}, "metadata": {}, "series": {key: known}}
    return empty | {rows_.own_name(key): known}


def _is_numeric(group: Group, name: str) -> bool:
    stat = group.stat(name)
    return bool(stat.n or stat.n_nonfinite)


def _as_json(group: Group, columns: Mapping[str, str]) -> Row:
    return {
        "group": group.name,
        "settings": group.settings,
        "n": len(group.rows),
        "columns": rows_.with_guide_names(
            {
                k: group.stat(k).as_json() if _is_numeric(group, k) else _counts(group, k)
                for k in columns
            }
        ),
        "runs": [row["run"] for row in group.rows],
        "paths": [row["path"] for row in group.rows],
    }


def _flat(group: Group, columns: Mapping[str, str]) -> Row:
    row: Row = {"group": group.name, "runs": len(group.rows)} | group.settings
    for name in columns:
        if not _is_numeric(group, name):
            row[name] = _text(_counts(group, name))
            continue
        row |= {f"{name}.{k}": v for k, v in group.stat(name).as_json().items()}
    return row


def _shown(group: Group, columns: Mapping[str, str]) -> Row:
    row: Row = {"group": group.name, "n": len(group.rows)}
    for name in columns:
        is_numeric = _is_numeric(group, name)
        row[f"of {name}"] = (
            stat_text(group.stat(name)) if is_numeric else _text(_counts(group, name))
        )
    return row


def stat_text(stat: Stat) -> str | float | None:
    """A cell: a number alone stays a number, so that its column is aligned."""
    is_alone = stat.n == stat.n_runs == 1
    return stat.mean if is_alone else stat.text() if stat.n or stat.n_nonfinite else None


def _counts(group: Group, name: str) -> dict[str, int]:
    """How many runs have each value of a field that is no number."""
    values = (rows_.value(row, name) for row in group.rows)
    texts = (" ".join(map(str, v)) if isinstance(v, list) else v for v in values)
    return dict(Counter(str(v) for v in texts if v not in (None, "")))


def _text(counts: Mapping[str, int]) -> str | None:
    if len(counts) < 2:
        return next(iter(counts), None)
    return ", ".join(f"{n} {text}" for text, n in counts.items())
