"""`runs ranks`: what each rank of a run did, the straggler, and the rank that died first.

With `--log_ranks=True` each rank has a journal of its own beside the run's: `own_ms` is the time of
a step before the rank first waits for another. Times of ranks on several machines differ by as much
as their clocks do.
"""

import argparse
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import eventlog
from eventlog import seconds

from ..core import runs
from ..core.runs import Refusal
from ..core.table import cell, one_line, print, print_json, print_table

# A straggler is this much slower than the others, and the slowest most of the time.
SLOWER = 1.2
MOSTLY = 2 / 3
ALIVE_S = 3.0
"""A rank logs every 2 s that it is alive: it may have run for this much longer."""

COLUMNS = {
    "rank": "rank", "status": "status", "last_iter": "last iter", "last_seen": "last seen (UTC)",
    "own_ms": "own ms", "time_ms": "ms/iter", "slowest": "slowest in", "host": "host",
}  # fmt: skip
EXPENDABLE = ("host", "time_ms")


@dataclass
class Rank:
    """What one rank did in the latest session of its run."""

    rank: int
    status: str
    """`completed`, `interrupted`, `failed`, `running`; `died`: without a close event."""
    reason: str | None
    last_iter: int | None
    last_seen: str
    host: str | None
    steps: dict[int, dict[str, Any]] = field(repr=False)
    """By iteration, without the first one of a session, which is slower than the others."""
    slowest: float | None = None
    """The share of iterations in which this rank took longest."""

    @property
    def own_ms(self) -> float | None:
        return _median(self.steps, "own_ms")

    @property
    def time_ms(self) -> float | None:
        return _median(self.steps, "time_ms")


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    summary = "Show what each rank did, the straggler, and the rank that died first."
    command = commands.add_parser("ranks", help=summary, description=summary)
    command.add_argument("run_name", nargs="?", default=runs.FOLDER, metavar="RUN")
    command.add_argument("--json", action="store_true", help="one JSON object per line and rank")
    command.set_defaults(run=_ranks)


def _ranks(arguments: argparse.Namespace) -> int:
    found = runs.one(arguments.run_name)
    ranks = read(found)
    slow, first = straggler(ranks), first_to_die(ranks)
    rows = [_row(rank) for rank in ranks]
    if arguments.json:
        marks = ({"straggler": r is slow, "first_to_die": r in first} for r in ranks)
        print_json([row | mark for row, mark in zip(rows, marks, strict=True)])
        return 0
    shown = [row | {"slowest": _share(row["slowest"])} for row in rows]
    print_table(shown, COLUMNS, expendable=EXPENDABLE)
    print()
    print(_straggler_line(ranks, slow))
    print(_first_to_die_line(ranks, first))
    return 0


def read(found: runs.Found) -> list[Rank]:
    """The ranks of the latest session of a run.

    Raises:
        Refusal: there are no journals of ranks.
        OSError: one cannot be read.
    """
    logs = {}
    for number, path in eventlog.find_ranks(found.path).items():
        logs[number] = eventlog.load_run(path)
    if not logs:
        raise Refusal(
            f"{found.path}: there are no journals of its ranks; to have them train with "
            "--log_ranks=True"
        )
    # With fewer ranks than before, the journals of the others belong to an earlier session.
    latest = max((log.journal["sessions"][-1]["started"], number) for number, log in logs.items())
    session = logs[latest[1]].metadata.get("session")
    ranks = [
        _rank(number, log) for number, log in logs.items() if log.metadata.get("session") == session
    ]
    _count_slowest(ranks)
    return ranks


def straggler(ranks: Sequence[Rank]) -> Rank | None:
    """The rank that the others wait for; None if there is none."""
    measured = [rank for rank in ranks if rank.own_ms is not None]
    if len(measured) < 2:
        return None
    slow = max(measured, key=lambda rank: rank.own_ms or 0.0)
    others = median(rank.own_ms or 0.0 for rank in measured if rank is not slow)
    is_slow = (slow.own_ms or 0.0) >= SLOWER * others and (slow.slowest or 0.0) > MOSTLY
    return slow if is_slow else None


def first_to_die(ranks: Sequence[Rank]) -> list[Rank]:
    """The rank that failed or died first; several if that cannot be determined.

    The others fail because of it: they log an error, or hang and are killed later.
    """
    bad = [rank for rank in ranks if rank.status in ("died", "failed")]
    silent = [rank for rank in bad if rank.status == "died"]
    if not bad:
        return []
    began = min(bad, key=lambda rank: rank.last_seen)
    began_s = seconds(began.last_seen) or 0.0
    near = [r for r in silent if (seconds(r.last_seen) or 0.0) - began_s < ALIVE_S]
    if not near:
        return [began]
    # Of the ranks whose events ended then, the one with the fewest iterations: others got further.
    least = min(-1 if rank.last_iter is None else rank.last_iter for rank in near)
    return [r for r in near if (-1 if r.last_iter is None else r.last_iter) == least]


def _rank(number: int, log: eventlog.Run) -> Rank:
    session = log.journal["sessions"][-1]
    rows = {row["iter"]: row for row in log.training_iterations}
    since = session.get("from_iter")
    steps = {i: row for i, row in rows.items() if since is None or i >= since}
    first = min(steps, default=None)
    status = session["status"] or ("running" if log.status == "running" else "died")
    return Rank(
        rank=number,
        status=status,
        reason=session["reason"],
        last_iter=session["last_iter"],
        last_seen=session["last"],
        host=session.get("host"),
        steps={i: row for i, row in steps.items() if i != first},
    )


def _count_slowest(ranks: Sequence[Rank]) -> None:
    """The share of each rank, over the iterations that all of them logged."""
    shared = set.intersection(*(set(rank.steps) for rank in ranks))
    slowest: Counter[int] = Counter()
    for i in shared:
        most = max(ranks, key=lambda rank: rank.steps[i].get("own_ms") or 0.0)
        slowest[most.rank] += 1
    for rank in ranks:
        rank.slowest = slowest[rank.rank] / len(shared) if shared else None


def _straggler_line(ranks: Sequence[Rank], slow: Rank | None) -> str:
    if len(ranks) < 2:
        return "only one rank"
    if slow is None:
        return "no straggler"
    others = median(rank.own_ms or 0.0 for rank in ranks if rank is not slow)
    return (
        f"straggler: rank {slow.rank}: {cell(slow.own_ms)} ms per step, the others "
        f"{cell(others)} ms; it is the slowest in {_share(slow.slowest)} of the steps"
    )


def _first_to_die_line(ranks: Sequence[Rank], first: Sequence[Rank]) -> str:
    if not first:
        return "no rank died"
    names = " or ".join(str(rank.rank) for rank in first)
    one = first[0]
    after = "before its first iteration"
    if one.last_iter is not None:
        after = f"after iteration {one.last_iter}"
    how = "without a close event" if one.status == "died" else one_line(one.reason or "failed")
    return f"first to die: rank {names}, {after}, last seen {_clock(one.last_seen)}: {how}"


def _row(rank: Rank) -> dict[str, Any]:
    return {
        "rank": rank.rank, "status": rank.status, "last_iter": rank.last_iter,
        "last_seen": _clock(rank.last_seen), "own_ms": rank.own_ms, "time_ms": rank.time_ms,
        "slowest": rank.slowest, "host": rank.host, "reason": rank.reason,
    }  # fmt: skip


def _median(steps: dict[int, dict[str, Any]], name: str) -> float | None:
    values = [row[name] for row in steps.values() if isinstance(row.get(name), int | float)]
    return median(values) if values else None


def _share(share: float | None) -> str | None:
    return None if share is None else f"{share:.0%}"


def _clock(time: str) -> str:
    return time[:23].replace("T", " ")
