"""The cost of loading a run, importing the package and starting the command."""

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import eventlog
from tests.bench import child
from tests.bench.recovery import journal_of
from tests.bench.table import Plan, Row

_LOADS = """
import orjson
data = Path(arguments[0])
begun = time.perf_counter()
run = orjson.loads(data.read_bytes())
report(seconds=time.perf_counter() - begun, rows=len(run["training_iterations"]))
"""
_LOAD_RUN = """
import eventlog
begun = time.perf_counter()
run = eventlog.load_run(arguments[0])
seconds = time.perf_counter() - begun
report(seconds=seconds, rows=len(run.training_iterations))
"""


def load(plan: Plan, workdir: Path) -> Row:
    """`load_run` of a run JSON, beside parsing its bytes."""
    n = plan.load_events
    path = eventlog.compact(journal_of(workdir, n)).path
    assert path is not None
    path = path.with_suffix(".json")
    best_s = {_LOADS: float("inf"), _LOAD_RUN: float("inf")}
    for _ in range(plan.rounds):
        for program in best_s:
            result = child.run(program, path)
            assert result["rows"] == n
            best_s[program] = min(best_s[program], result["seconds"])
    ratio = best_s[_LOAD_RUN] / best_s[_LOADS]
    return Row(
        f"`load_run` of a run JSON of {n:,} iterations",
        "`orjson.loads` of it",
        "1.5x",
        f"{ratio:.2f}x ({best_s[_LOAD_RUN] * 1000:.0f} ms)",
        ratio <= 1.5,
    )


def start_of_import(plan: Plan, workdir: Path) -> Row:
    """`import eventlog`, beside an interpreter that imports nothing."""
    over_ms = _over_ms(["-c", "import eventlog"], 3 * plan.rounds, workdir)
    return Row(
        "`import eventlog`", "python itself", "60 ms over", f"{over_ms:.0f} ms over", over_ms <= 60
    )


def start_of_command(plan: Plan, workdir: Path) -> Row:
    """`eventlog --help`, beside an interpreter that does nothing."""
    over_ms = _over_ms(["-m", "eventlog", "--help"], 3 * plan.rounds, workdir)
    return Row(
        "`eventlog --help`",
        "python itself",
        "100 ms over",
        f"{over_ms:.0f} ms over",
        over_ms <= 100,
    )


def _over_ms(command: list[str], n: int, workdir: Path) -> float:
    """Median of the difference to `python -c pass`, in turns; compiled before, as installed."""
    env = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    env["PYTHONPYCACHEPREFIX"] = str(workdir / "pyc")
    _seconds(command, env)
    over = [_seconds(command, env) - _seconds(["-c", "pass"], env) for _ in range(n)]
    return 1000 * statistics.median(over)


def _seconds(command: list[str], env: dict[str, str]) -> float:
    begun = time.perf_counter()
    subprocess.run(
        [sys.executable, *command], check=True, capture_output=True, cwd=child.ROOT, env=env
    )
    return time.perf_counter() - begun
