"""Figures -> the tables of tests/bench/RESULTS.md, between two marks; the rest of it is left."""

import json
from pathlib import Path
from typing import Any

from tests.bench.rivals import rivals
from tests.bench.rivals.harness import POWER_RATE, POWER_SECONDS, RESUMED_EVENTS

HERE = Path(__file__).parent
RESULTS_JSON = HERE / "results.json"
RESULTS_MD = HERE.parent / "RESULTS.md"
BEGIN, END = "<!-- rivals: begin -->", "<!-- rivals: end -->"

Figures = dict[str, Any]
Results = dict[str, dict[str, Figures]]
"""By contestant and test; each has what was found and `run`: when, where, with which seed."""


def load(path: Path = RESULTS_JSON) -> Results:
    return json.loads(path.read_bytes()) if path.exists() else {}


def save(results: Results, json_path: Path = RESULTS_JSON, md_path: Path = RESULTS_MD) -> None:
    """Write the figures, and the section made of them; other sections stay as they are."""
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
    order = [name for name in rivals() if name in results]
    parts = [HEAD.format(runs=_runs(results))]
    for title, note, columns, test in TABLES:
        tested = [(name, results[name][test]) for name in order if test in results[name]]
        rows = [_row(name, figures, columns) for name, figures in tested]
        if rows:
            head = ["", *columns]
            lines = [head, ["---"] * len(head), *rows]
            table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
            parts.append(f"### {title}\n\n{note}\n\n{table}\n")
    return "\n".join(parts)


HEAD = """## The rivals under the same tests

`python -m tests.bench.rivals` makes this section; `tests/bench/rivals/` has an adapter for each,
`pip install -e '.[peers]'` installs them.

An event is one log call with four numbers. A number that the logger's own reader does not give
back is a quarter of an event lost; one that it gives back without a complaint though it was never
logged is wrong. A call is acknowledged when it has returned. Nobody but eventlog, Optuna and, with
its defaults, SQLite promises anything about crashes: where a rival loses, it mostly breaks no word
of its own.

{runs}
"""


def _runs(results: Results) -> str:
    """When and where each figure was taken, once for all that share it."""
    runs: dict[str, tuple[set[str], set[str]]] = {}
    for name, tests in results.items():
        for test, figures in tests.items():
            if "run" in figures and test != "who":
                names, done = runs.setdefault(figures["run"], (set(), set()))
                names.add(name)
                done.add(test)
    return "\n".join(
        f"- {run}: {', '.join(sorted(done))}"
        f"{'' if names == set(results) else ' of ' + ', '.join(sorted(names))}"
        for run, (names, done) in sorted(runs.items())
    )


def _row(name: str, figures: Figures, columns: dict[str, Any]) -> list[str]:
    if "failed" in figures:
        return [name, f"could not be run: {_cell(figures['failed'])}", *[""] * (len(columns) - 1)]
    return [name, *[_try(column, figures) for column in columns.values()]]


def _try(column: Any, figures: Figures) -> str:
    try:
        return _cell(column(figures))
    except (KeyError, StopIteration):
        return "-"


def _cell(value: Any) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")


def number(value: float) -> str:
    """Three digits are enough, and a zero is a plain 0."""
    if value == 0:
        return "0"
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def lost(figures: Figures) -> str:
    """Mean, worst and of how many."""
    mean, worst = number(figures["lost_mean"]), number(figures["lost_worst"])
    what = "0" if worst == "0" else f"**{mean}**, worst {worst}"
    return f"{what} ({figures['trials']} × {figures['events'] // max(1, figures['trials'])})"


def of(count: int, figures: Figures) -> str:
    return f"{count} of {figures['trials']}" if count else "0"


def at_rate(rate: int) -> Any:
    return lambda f: lost(next(row for row in f["by_rate"] if row["rate"] == rate))


def refusals(figures: Figures) -> str:
    return of(figures["refused"], figures)


def call(pace: str) -> dict[str, Any]:
    return {
        f"{pace}: p50 µs": lambda f: number(f[pace]["p50_us"]),
        "p99 µs" if pace == "hot" else "p99 µs ": lambda f: number(f[pace]["p99_us"]),
        "mean µs" if pace == "hot" else "mean µs ": lambda f: number(f[pace]["mean_us"]),
        f"× bare, {pace}": lambda f: number(f[pace]["ratio"]),
    }


TABLES: list[tuple[str, str, dict[str, Any], str]] = [
    (
        "Who",
        "The first of each is its documented offline default, a second its safest setting.",
        {
            "version": lambda f: f["version"],
            "set up as": lambda f: f["setup"],
            "of crashes it promises": lambda f: f["promise"],
        },
        "who",
    ),
    (
        "1. kill -9 of the whole process tree, after a random number of acknowledged calls",
        "Events lost: mean, worst (trials × mean events). Rates are what the trainer asked for; a "
        "logger that takes longer runs at its own. Unreadable: there is a file and its reader "
        "gives back nothing of it.",
        {
            "50/s": at_rate(50),
            "500/s": at_rate(500),
            "as fast as it goes": at_rate(0),
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
        f"{RESUMED_EVENTS} events, read again. Lost: of what could be read before the cut and what "
        "was acknowledged after it; the event that was cut is one of them. (No crash cuts an "
        "SQLite file; it is done to all alike.)",
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
        "Any byte of the files that hold the values, changed by a bit flip, to 0x00, to 0xFF, to "
        "LF, as often each. Refused: the reader raised, for all or a part of the run. Wrong: a "
        "trial in which it gave back a number that was never logged, and did not complain.",
        {
            "events lost": lost,
            "refused": refusals,
            "wrong values": lambda f: of(f["wrong_trials"], f),
        },
        "damage",
    ),
    (
        "4. A file cut at any length",
        "Lost: of the events that still stand whole in what is left (a later one has begun behind "
        "them).",
        {
            "whole events lost": lost,
            "refused": refusals,
            "wrong values": lambda f: of(f["wrong_trials"], f),
        },
        "cut",
    ),
    (
        "5. SIGTERM and an exception",
        "SIGTERM to the trainer alone, whose children may go on; an exception inside its `with`; "
        "at 500/s.",
        {
            "SIGTERM: events lost": lambda f: lost(f["sigterm"]),
            "exception: events lost": lambda f: lost(f["exception"]),
        },
        "end",
    ),
    (
        "6. What a call costs",
        'In turns with a bare `os.write(fd, orjson.dumps(event) + b"\\n")` in the same process; × '
        "bare is the median over rounds of the ratio of the medians. Hot: call after call. Paced: "
        "each after a sleep of 1 ms. The ratio holds; the µs are this machine's.",
        {
            **call("hot"),
            **call("paced"),
            "bare p50 µs, hot": lambda f: number(f["hot"]["bare_p50_us"]),
            "calls": lambda f: f"{f['hot']['calls']:,} + {f['paced']['calls']:,}",
        },
        "cost",
    ),
    (
        "Bytes an event adds",
        "To the files that hold the values, from 100 to 1,100 events.",
        {"bytes": lambda f: number(f["bytes_per_event"])},
        "size",
    ),
    *(
        (
            f"7. Power loss on {kind}",
            f"A loop-mounted {kind} for each alone, {POWER_RATE} events a second, the power cut "
            f"about {POWER_SECONDS} s after the last of them has begun; nothing else is synced "
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
