"""`runs diff A B`: what differs between two runs: config, environment, results."""

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import eventlog

from ..core import runs, series
from ..core.origin import origin
from ..core.table import in_full, print, print_json, print_table

PARTS = ("config", "environment", "results")
_IN_SUMMARY = {
    ("iterations", "loss"), ("iterations", "time_ms"), ("iterations", "mfu"), ("evals", "val_loss"),
}  # fmt: skip
SAME, DIFFERENT, TROUBLE = 0, 1, 2


@dataclass(frozen=True)
class Difference:
    """A value in which two runs differ; None where a run does not have it."""

    part: str
    name: str
    ours: Any
    theirs: Any


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    summary = "Show what differs between two runs: config, environment, results."
    command = commands.add_parser(
        "diff",
        help=summary,
        description=f"{summary} Exit codes as of diff: 0 no difference, 1 some, 2 trouble.",
    )
    command.add_argument("runs", nargs=2, metavar="RUN")
    command.add_argument(
        "--only", choices=PARTS, action="append", help="only this part; can be repeated"
    )
    command.add_argument("--json", action="store_true", help="one JSON object per difference")
    command.set_defaults(run=_diff)


def differences(
    ours: eventlog.Run, theirs: eventlog.Run, parts: tuple[str, ...] = PARTS
) -> list[Difference]:
    """What differs in `parts`, in their order, by name.

    `environment` is the metadata and, if both journals exist, the host, platform, versions and git
    commit of their first sessions.
    """
    results = []
    for part in parts:
        a, b = (eventlog.flatten(facts) for facts in _facts(part, ours, theirs))
        results += [
            Difference(part, name, a.get(name), b.get(name))
            for name in dict.fromkeys([*a, *b])
            if a.get(name) != b.get(name)
        ]
    return results


def _diff(arguments: argparse.Namespace) -> int:
    try:
        first, second = map(runs.one, arguments.runs)
    except (eventlog.EventlogError, OSError) as error:
        print(error, file=sys.stderr)
        return TROUBLE  # 1 means that both could be read and differ
    if first.path.resolve() == second.path.resolve():
        raise runs.Refusal(
            f"{' and '.join(arguments.runs)} both name the run {first.path}; "
            "give the names of two different runs"
        )
    ours, theirs = first.run, second.run
    assert ours is not None
    assert theirs is not None
    results = differences(ours, theirs, tuple(arguments.only or PARTS))
    if arguments.json:
        print_json(map(asdict, results))
    elif results:
        names = (ours.name, theirs.name)
        if names[0] == names[1]:
            names = (f"{names[0]} (first)", f"{names[1]} (second)")
        columns = {"part": "", "name": "", "ours": names[0], "theirs": names[1]}
        print_table([_shown(d, _part_again(results, at)) for at, d in enumerate(results)], columns)
    return DIFFERENT if results else SAME


def _part_again(results: list[Difference], at: int) -> bool:
    """Whether the difference before belongs to the same part: a table names it once."""
    return at > 0 and results[at - 1].part == results[at].part


def _shown(difference: Difference, part_is_known: bool) -> dict[str, str]:
    return {
        "part": "" if part_is_known else difference.part,
        "name": difference.name,
        "ours": in_full(difference.ours),
        "theirs": in_full(difference.theirs),
    }


def _facts(part: str, *both: eventlog.Run) -> Iterator[Mapping[str, Any]]:
    origins = [origin(run) for run in both]
    named = [run.series() for run in both] if part == "results" else []
    for at, (run, where_from) in enumerate(zip(both, origins, strict=True)):
        if part == "config":
            yield run.config
        elif part == "environment":
            # the command line repeats the config
            facts_of_origin = {k: v for k, v in where_from.items() if k != "command"}
            yield {**run.metadata, **(facts_of_origin if all(origins) else {})}
        else:
            known = {k: v for k, v in run.summary.items() if k != "nonfinite"}
            yield {"status": run.status, **known, **_of_series(named, at)}


def _of_series(named: Sequence[Mapping[str, eventlog.Series]], at: int) -> Mapping[str, Any]:
    """The last and the best value of each series of run `at` that both runs have."""
    values = {}
    for name, one in named[at].items():
        in_summary = (one.table, one.column) in _IN_SUMMARY
        if not in_summary and all(name in of_run for of_run in named):
            values[f"{name}:last"] = series.exact(one.last)
            values |= {} if one.goal is None else {f"{name}:best": one.best}
    return values
