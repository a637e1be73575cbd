"""Results -> the tables of tests/bench/RESULTS.md, between two marks; the rest is unchanged."""

import json
from pathlib import Path
from typing import Any

from tests.bench.trackers import trackers
from tests.bench.trackers.harness import POWER_RATE, POWER_SECONDS, RESUMED_EVENTS

HERE = Path(__file__).parent
RESULTS_JSON = HERE / "results.json"
RESULTS_MD = HERE.parent / "RESULTS.md"
BEGIN, END = "<!-- trackers: begin -->", "<!-- trackers: end -->"

Summary = dict[str, Any]
Results = dict[str, dict[str, Summary]]
"""By tracker and test; each has the results and `run`: when, where, with which seed."""


def load(path: Path = RESULTS_JSON) -> Results:
    return json.loads(path.read_bytes()) if path.exists() else {}


def save(results: Results, json_path: Path = RESULTS_JSON, md_path: Path = RESULTS_MD) -> None:
    """Write the results, and the section made of them; other sections are unchanged."""
    json_path.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")
    text = md_path.read_text() if md_path.exists() else "# Results\n"
    section = f"{BEGIN}\n{render(results)}{END}\n"
    before, begin, rest = text.partition(BEGIN)
    if begin:
        text = before + section + rest.partition(END)[2].removeprefix("\n")
    else:
        text = f"{text.rstrip()}\n\n{section}"
    md_path.write_text(text)


def render(results: Results) -> str:
    """All tables, as Markdown."""
    order = [name for name in trackers() if name in results]
    parts = [HEAD.format(runs=_runs(results))]
    for title, note, columns, test in TABLES:
        tested = [(name, results[name][test]) for name in order if test in results[name]]
        rows = [_row(name, summary, columns) for name, summary in tested]
        if rows:
            head = ["", *columns]
            lines = [head, ["---"] * len(head), *rows]
            table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
            parts.append(f"### {title}\n\n{note}\n\n{table}\n")
    return "\n".join(parts)


HEAD = """## Other trackers under the same tests

`python -m tests.bench.trackers` makes this section. `tests/bench/trackers/` has an adapter for each
tracker; `pip install -e '.[peers]'` installs them.

An event is one log call with four numbers. A number that the tracker's own reader does not return
counts as a quarter of an event lost. A number that it returns without an error although it was
never logged counts as wrong. A call is acknowledged when it has returned. Only eventlog, Optuna
and, with its defaults, SQLite document which events survive a crash; most losses of the others
contradict nothing in their documentation.

{runs}
"""


def _runs(results: Results) -> str:
    """When and where the results were measured, a line for all that share it."""
    runs: dict[str, tuple[set[str], set[str]]] = {}
    for name, tests in results.items():
        for test, summary in tests.items():
            if "run" in summary and test != "who":
                names, done = runs.setdefault(summary["run"], (set(), set()))
                names.add(name)
                done.add(test)
    return "\n".join(
        f"- {run}: {', '.join(sorted(done))}"
        f"{'' if names == set(results) else ' of ' + ', '.join(sorted(names))}"
        for run, (names, done) in sorted(runs.items())
    )


def _row(name: str, summary: Summary, columns: dict[str, Any]) -> list[str]:
    if "failed" in summary:
        return [name, f"could not be run: {_cell(summary['failed'])}", *[""] * (len(columns) - 1)]
    return [name, *[_try(column, summary) for column in columns.values()]]


def _try(column: Any, summary: Summary) -> str:
    try:
        return _cell(column(summary))
    except (KeyError, StopIteration):
        return "-"


def _cell(value: Any) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")


def number(value: float) -> str:
    """A number with three digits; zero is `0`."""
    if value == 0:
        return "0"
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def lost(summary: Summary) -> str:
    """Mean and worst loss, and the number of trials and events."""
    mean, worst = number(summary["lost_mean"]), number(summary["lost_worst"])
    what = "0" if worst == "0" else f"**{mean}**, worst {worst}"
    return f"{what} ({summary['trials']} × {summary['events'] // max(1, summary['trials'])})"


def of(count: int, summary: Summary) -> str:
    return f"{count} of {summary['trials']}" if count else "0"


def at_rate(rate: int) -> Any:
    return lambda f: lost(next(row for row in f["by_rate"] if row["rate"] == rate))


def refusals(summary: Summary) -> str:
    return of(summary["refused"], summary)


def call(pace: str) -> dict[str, Any]:
    return {
        f"{pace}: p50 µs": lambda f: number(f[pace]["p50_us"]),
        "p99 µs" if pace == "hot" else "p99 µs ": lambda f: number(f[pace]["p99_us"]),
        "mean µs" if pace == "hot" else "mean µs ": lambda f: number(f[pace]["mean_us"]),
        f"× bare, {pace}": lambda f: number(f[pace]["ratio"]),
    }


TABLES: list[tuple[str, str, dict[str, Any], str]] = [
    (
        "The trackers",
        "The first row of each is its documented offline default, the second its safest setting.",
        {
            "version": lambda f: f["version"],
            "set up as": lambda f: f["setup"],
            "documented for crashes": lambda f: f["promise"],
        },
        "who",
    ),
    (
        "1. kill -9 of the whole process tree, after a random number of acknowledged calls",
        "Events lost: mean, worst (trials × mean events). Rates are those of the trainer; a slower "
        "tracker runs at its own rate. Unreadable: there is a file, and its reader returns nothing "
        "of it.",
        {
            "50/s": at_rate(50),
            "500/s": at_rate(500),
            "as fast as possible": at_rate(0),
            "unreadable": lambda f: of(
                sum(r["unreadable"] for r in f["by_rate"]),
                {"trials": sum(r["trials"] for r in f["by_rate"])},
            ),
            "wrong values": lambda f: of(
                sum(r["wrong_trials"] for r in f["by_rate"]),
                {"trials": sum(r["trials"] for r in f["by_rate"])},
            ),
        },
        "kill",
    ),
    (
        "2. A torn tail, then resumed",
        f"Killed at 500/s, the newest file cut by 1 to 12 bytes, resumed in the documented way for "
        f"{RESUMED_EVENTS} events, read again. Lost: of the events that were readable before the "
        "cut, with the one that was cut, and of those acknowledged after it. (A crash does not cut "
        "an SQLite file; all are treated in the same way.)",
        {
            "events lost": lost,
            "resume refused": lambda f: of(f["resume_refused"], f),
            "reader refused": refusals,
            "wrong values": lambda f: of(f["wrong_trials"], f),
            "resume took, worst": lambda f: f"{f['resume_worst_s']:.1f} s",
        },
        "torn",
    ),
    (
        "3. One byte damaged",
        "A random byte of the files that hold the values, changed by a bit flip, to 0x00, to 0xFF "
        "or to LF, equally often. Refused: the reader raised, for all or a part of the run. Wrong: "
        "a trial in which it returned a number that was never logged, without an error.",
        {
            "events lost": lost,
            "refused": refusals,
            "wrong values": lambda f: of(f["wrong_trials"], f),
        },
        "damage",
    ),
    (
        "4. A file cut at any length",
        "Lost: of the events that are complete in the rest of the file (a later event has begun "
        "after them).",
        {
            "whole events lost": lost,
            "refused": refusals,
            "wrong values": lambda f: of(f["wrong_trials"], f),
        },
        "cut",
    ),
    (
        "5. SIGTERM and an exception",
        "SIGTERM to the trainer alone, whose children may continue; an exception inside its `with` "
        "block; at 500/s.",
        {
            "SIGTERM: events lost": lambda f: lost(f["sigterm"]),
            "exception: events lost": lambda f: lost(f["exception"]),
        },
        "end",
    ),
    (
        "6. Cost of a call",
        'Alternating with a bare `os.write(fd, orjson.dumps(event) + b"\\n")` in the same process; '
        "× bare is the median over rounds of the ratio of the medians. Hot: call after call. "
        "Paced: each after a sleep of 1 ms. Compare the ratios: the µs depend on the machine.",
        {
            **call("hot"),
            **call("paced"),
            "bare p50 µs, hot": lambda f: number(f["hot"]["bare_p50_us"]),
            "calls": lambda f: f"{f['hot']['calls']:,} + {f['paced']['calls']:,}",
        },
        "cost",
    ),
    (
        "Bytes per event",
        "Growth of the files that hold the values, from 100 to 1,100 events.",
        {"bytes": lambda f: number(f["bytes_per_event"])},
        "size",
    ),
    *(
        (
            f"7. Power loss on {kind}",
            f"Each on a loop-mounted {kind} of its own, {POWER_RATE} events a second. The power is "
            f"cut about {POWER_SECONDS} s after the last tracker has begun; nothing else is synced "
            "there. Lost: of the events acknowledged before the cut, durable or not.",
            {
                "events lost": lost,
                "seconds lost": lambda f: number(f["lost_s"]),
                "unreadable": lambda f: of(f["unreadable"], f),
                "wrong values": lambda f: of(f["wrong_trials"], f),
            },
            f"power {kind}",
        )
        for kind in ("ext4", "XFS")
    ),
]
