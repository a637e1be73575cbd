"""`runs diff A B`: what differs between two runs, in what was asked for and what came of it."""

import argparse
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import eventlog

from ..core import runs
from ..core.history import flat
from ..core.table import in_full, print_json, print_table
from ..core.text import print

PARTS = ("config", "environment", "results")
_OPENED = ("host", "user", "platform", "git_commit", "command", "cwd", "versions")
SAME, DIFFERENT, TROUBLE = 0, 1, 2


@dataclass(frozen=True)
class Difference:
    """One thing in which two runs differ; None where a run does not have it."""

    part: str
    name: str
    ours: Any
    theirs: Any


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    words = "Say what differs between two runs: config, environment, results."
    command = commands.add_parser(
        "diff",
        help=words,
        description=f"{words} Exit codes as diff has them: 0 nothing, 1 something, 2 trouble.",
    )
    command.add_argument("runs", nargs=2, metavar="RUN")
    command.add_argument(
        "--only", choices=PARTS, action="append", help="this part alone; may be given twice"
    )
    command.add_argument("--json", action="store_true", help="one JSON object a difference")
    command.set_defaults(run=_diff)


def differences(
    ours: eventlog.Run, theirs: eventlog.Run, parts: tuple[str, ...] = PARTS
) -> list[Difference]:
    """What differs in `parts`, in their order, by name.

    `environment` is the metadata and, where both journals are there, what their first sessions
    say of their origin: host, platform, versions, git commit.
    """
    found = []
    for part in parts:
        a, b = (flat(facts) for facts in _facts(part, ours, theirs))
        found += [
            Difference(part, name, a.get(name), b.get(name))
            for name in dict.fromkeys([*a, *b])
            if a.get(name) != b.get(name)
        ]
    return found


def _diff(arguments: argparse.Namespace) -> int:
    try:
        first, second = map(runs.one, arguments.runs)
    except (eventlog.EventlogError, OSError) as error:
        print(error, file=sys.stderr)
        return TROUBLE  # 1 would say that they could be read, and differ
    if first.path.resolve() == second.path.resolve():
        raise runs.Refusal(
            f"{' and '.join(arguments.runs)} both name the run {first.path}; "
            "give the names of two different runs"
        )
    ours, theirs = first.run, second.run
    assert ours is not None
    assert theirs is not None
    found = differences(ours, theirs, tuple(arguments.only or PARTS))
    if arguments.json:
        print_json(map(asdict, found))
    elif found:
        names = (ours.run_name, theirs.run_name)
        if names[0] == names[1]:
            names = (f"{names[0]} (first)", f"{names[1]} (second)")
        columns = {"part": "", "name": "", "ours": names[0], "theirs": names[1]}
        print_table([_shown(d, _part_again(found, at)) for at, d in enumerate(found)], columns)
    return DIFFERENT if found else SAME


def _part_again(found: list[Difference], at: int) -> bool:
    """Whether the difference before is of the same part: a table says it once."""
    return at > 0 and found[at - 1].part == found[at].part


def _shown(difference: Difference, part_is_known: bool) -> dict[str, str]:
    return {
        "part": "" if part_is_known else difference.part,
        "name": difference.name,
        "ours": in_full(difference.ours),
        "theirs": in_full(difference.theirs),
    }


def _facts(part: str, *both: eventlog.Run) -> Iterator[Mapping[str, Any]]:
    origins = [origin(run) for run in both]
    for run, where_from in zip(both, origins, strict=True):
        if part == "config":
            yield run.config
        elif part == "environment":
            # the command says again, and at length, what config says
            told = {k: v for k, v in where_from.items() if k != "command"}
            yield {**run.metadata, **(told if all(origins) else {})}
        else:
            known = {k: v for k, v in run.summary.items() if k != "nonfinite"}
            yield {"status": run.status, **known}


def origin(run: eventlog.Run) -> Mapping[str, Any]:
    """Where a run comes from, as its first session's `open` event says; {} without a journal."""
    journal = None if run.path is None else runs.journal_of(run.path)
    if journal is None or not journal.exists():
        return {}
    try:
        first = next(eventlog.scan(journal), None)
    except OSError:
        return {}
    opened = first.fields if first is not None and first.event == "open" else {}
    return {key: opened[key] for key in _OPENED if opened.get(key) is not None}
