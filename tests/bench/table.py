"""A row of the table of speed, and the table in RESULTS.md."""

import json
import os
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

FOLDER = Path(__file__).parent
RESULTS_MD = FOLDER / "RESULTS.md"
RESULTS_JSON = FOLDER / "speed.json"
BEGIN, END = "<!-- speed: begin -->\n", "<!-- speed: end -->\n"


@dataclass(frozen=True)
class Plan:
    """How much of each measurement."""

    events: int
    """Of a recovery and a verification; of the long run that is folded."""
    rounds: int
    calls: int
    """Of the hot loop, a round."""
    seconds: float
    """Of paced calls; of a compactor beside a run."""
    checkpoint_bytes: int
    load_events: int
    train_iters: int
    growth: tuple[int, ...]
    """Iterations of each run of the growth curve."""


FULL = Plan(
    1_000_000, 7, 20_000, 20.0, 100 << 20, 100_000, 200, (1_000, 10_000, 100_000, 1_000_000)
)
QUICK = Plan(2_000, 1, 200, 0.3, 1 << 16, 1_000, 4, (200, 400))


@dataclass(frozen=True)
class Row:
    """One result: the ratio of two measurements that alternated in one run on one machine."""

    work: str
    against: str
    target: str
    measured: str
    reached: bool


def machine() -> str:
    """Date, commit, processor, versions and load, as one line."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=FOLDER, capture_output=True, text=True
    ).stdout.strip()
    result = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    names = [line.partition(":")[2].strip() for line in result.splitlines() if "model name" in line]
    load = ", ".join(f"{load:.1f}" for load in os.getloadavg())
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, commit {commit}, {names[0] if names else '?'} × "
        f"{os.cpu_count()}, Linux {platform.release()}, Python {platform.python_version()}, "
        f"orjson {orjson.__version__}, load {load}"
    )


def save(rows: Mapping[str, Row], stamp: str) -> None:
    """Write the rows beside those of earlier runs, and update the table."""
    results: dict[str, Any] = json.loads(RESULTS_JSON.read_text()) if RESULTS_JSON.exists() else {}
    results |= {name: asdict(row) | {"run": stamp} for name, row in rows.items()}
    RESULTS_JSON.write_text(
        json.dumps(results, indent=1, ensure_ascii=False, sort_keys=True) + "\n"
    )
    text = RESULTS_MD.read_text()
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    RESULTS_MD.write_text(head + BEGIN + section(results) + END + tail)


def section(results: Mapping[str, Mapping[str, Any]]) -> str:
    """The table as Markdown, and when and where its rows were measured."""
    lines = [
        "## Speed",
        "",
        "`python -m tests.bench.run` makes this table; `--only NAME` measures some rows again.",
        "",
        "| row | work | compared with | target | measured | |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    runs: dict[str, list[str]] = {}
    for name, row in results.items():
        runs.setdefault(row["run"], []).append(name)
        cells = (name, row["work"], row["against"], row["target"], row["measured"])
        lines.append(f"| {' | '.join(cells)} | {'reached' if row['reached'] else 'missed'} |")
    lines += ["", *(f"- {run}: {', '.join(names)}" for run, names in runs.items()), ""]
    return "\n".join(lines) + "\n"
