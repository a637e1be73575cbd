"""Large runs, and many: what tools need for them the first time and again.

    python -m tests.bench.scale --folder DIR [--part 1] [--only steps,wide,many]
        [--beside tensorboard_events,trackio_sqlite]

`steps` is one run of 10,000,000 steps with 4 series, `wide` one of 1,000,000 steps with 100 series,
`many` 10,000 runs of 100 steps with 50 series; `--part 100` makes each a hundredth of it. They are
lines of the package's own record encoder: journals of runs that were killed, without run JSON, and
then, compacted, runs with one: without what was kept of an earlier start, for the first time, and
again. `--beside`: the same values through other trackers (modules of `tests.bench.trackers`, with
the `peers` extra), and one of the series read by their own readers. Each row for RESULTS.md is a
process of its own.
"""

import argparse
import os
import platform
import re
import select
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from eventlog.format.record import encode
from tests.bench import child
from tools.core import index

T = "2026-11-23T03:25:01.123456+00:00"


class Data(NamedTuple):
    """One of the data sets: how many runs, steps of each, and series of each."""

    runs: int
    steps: int
    series: int


DATA = {
    "steps": Data(1, 10_000_000, 4),
    "wide": Data(1, 1_000_000, 100),
    "many": Data(10_000, 100, 50),
}


def part_of(name: str, part: int) -> Data:
    """A data set with a `part`-th of its steps, or of its runs if it has many."""
    data = DATA[name]
    if data.runs > 1:
        return data._replace(runs=max(1, data.runs // part))
    return data._replace(steps=max(1, data.steps // part))


def generate(folder: Path, data: Data, *, closed: bool = False) -> int:
    """Write the journals of a data set; returns their bytes. Without `closed` they were killed."""
    folder.mkdir(parents=True, exist_ok=True)
    names = names_of(data.series)
    n_bytes = 0
    for k in range(data.runs):
        path = folder / f"run{k:05d}.jsonl"
        with path.open("wb") as file:
            for line in _lines(k, data.steps, names, closed=closed):
                n_bytes += file.write(line)
    return n_bytes


def names_of(n_series: int) -> list[str]:
    return [f"group{k // 10}/series_{chr(97 + k // 26)}{chr(97 + k % 26)}"
            for k in range(n_series)]  # fmt: skip


def value_of(run: int, step: int, series: int) -> float:
    """The value that is logged; no two steps of a series have the same."""
    return series + 1 / (1 + run + step)


def _lines(run: int, n_steps: int, names: list[str], *, closed: bool) -> Iterator[bytes]:
    opening = {"format": 1, "run_id": f"{run:032x}", "run_name": f"run{run:05d}"}
    s = f"{run:08x}"
    yield encode(0, s, T, "open", opening | {"config": {"seed": run}})
    for step in range(n_steps):
        values = {name: value_of(run, step, k) for k, name in enumerate(names)}
        yield encode(step + 1, s, T, "metrics", {"step": step} | values)
    if closed:
        yield encode(n_steps + 1, s, T, "close", {"status": "completed"})


class Took(NamedTuple):
    """Seconds of the wall and of a core, and the most memory."""

    wall_s: float
    core_s: float
    peak_mb: float

    def __str__(self) -> str:
        return f"{self.wall_s:.2f} s | {self.core_s:.2f} s | {self.peak_mb:.0f} MB"


def command(*arguments: object, module: str = "tools") -> Took:
    """What a command needs until it ends; it must succeed."""
    begun = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", module, *map(str, arguments)],
        cwd=child.ROOT,
        stdout=subprocess.DEVNULL,
    )
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, (arguments, process.returncode)
    wall_s = time.perf_counter() - begun
    return Took(wall_s, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)


def points(path: Path, name: str, n: int) -> Took:
    """What reading one series in Python needs."""
    program = """
import eventlog
begun, cpu = time.perf_counter(), time.process_time()
n = sum(1 for _ in eventlog.load_run(arguments[0]).points(arguments[1]))
report(n=n, wall_s=time.perf_counter() - begun, core_s=time.process_time() - cpu)
"""
    result = child.run(program, path, name)
    assert result["n"] == n, result
    return _took(result)


_WRITE = """
from importlib import import_module
from tests.bench import scale
name, folder, n_runs, n_steps, n_series = arguments[0], Path(arguments[1]), *map(int, arguments[2:])
tracker = import_module(f"tests.bench.trackers.{name}")
names = scale.names_of(n_series)
begun, cpu = time.perf_counter(), time.process_time()
for k in range(n_runs):
    (folder / f"run{k}").mkdir(parents=True)
    with tracker.write(folder / f"run{k}", next(iter(tracker.VARIANTS)), 0) as log:
        for step in range(n_steps):
            log(step, {name: scale.value_of(k, step, at) for at, name in enumerate(names)})
report(wall_s=time.perf_counter() - begun, core_s=time.process_time() - cpu)
"""
_READ = """
from importlib import import_module
tracker = import_module(f"tests.bench.trackers.{arguments[0]}")
begun, cpu = time.perf_counter(), time.process_time()
values = [v for _, name, v in tracker.read(Path(arguments[1])) if name == arguments[2]]
report(n=len(values), wall_s=time.perf_counter() - begun, core_s=time.process_time() - cpu)
"""


def beside(folder: Path, data: Data, tracker: str) -> Iterator[tuple[str, Took]]:
    """Writing a data set of one run with another tracker, and reading one series of it."""
    written = child.run(_WRITE, tracker, folder, *data)
    yield f"{tracker}, write", _took(written)
    read = child.run(_READ, tracker, folder / "run0", names_of(1)[0])
    assert read["n"] == data.steps, read
    yield f"{tracker}, read one series", _took(read)


def _took(result: dict[str, float]) -> Took:
    return Took(result["wall_s"], result["core_s"], result["peak_mb"])


def serve(folder: Path, n_runs: int) -> Took:
    """What the page's server needs until it has answered with all runs."""
    begun = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "tools", "serve", str(folder), "--port", "0"],
        cwd=child.ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        ready, _, _ = select.select([process.stdout], [], [], 60)
        line = process.stdout.readline() if ready else ""
        assert line.startswith("http"), "the server did not start"
        url = line.strip().rstrip("/")
        while _n_runs(url) < n_runs:
            time.sleep(0.05)
        wall_s = time.perf_counter() - begun
        status = Path(f"/proc/{process.pid}/status").read_text()
        times = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
        core_s = sum(map(int, times)) / os.sysconf("SC_CLK_TCK")
        peak = re.search(r"VmHWM:\s+(\d+)", status)
        assert peak is not None
        return Took(wall_s, core_s, int(peak[1]) / 1024)
    finally:
        process.kill()
        process.communicate()


def _n_runs(url: str) -> int:
    import orjson

    with urllib.request.urlopen(f"{url}/api/runs", timeout=600) as answer:
        document = orjson.loads(answer.read())
    return len(document["runs"]) if document.get("complete", True) else 0


def measure(folder: Path, data: Data) -> Iterator[tuple[str, Took]]:
    """Each row: of the journals alone first and again, compacted, then of the run JSONs."""
    one, name = folder / "run00000.jsonl", "group0/series_aa"
    sql = f"SELECT max(value) FROM series WHERE name = '{name}'"
    reads: dict[str, Callable[[], Took]] = {
        "`runs ls`": lambda: command("ls", folder),
        "`runs best`": lambda: command("best", folder, "--metric", f"-{name}"),
        "`runs show` of one": lambda: command("show", folder / "run00000"),
        "`runs plot` of one": lambda: command(
            "plot", one, "--metric", name, "--out", folder / "a.png"
        ),
        "`runs query` of its series": lambda: command("query", sql, folder),
        "`runs query` of the runs": lambda: command("query", "SELECT count(*) FROM runs", folder),
        "`runs serve`, all runs": lambda: serve(folder, data.runs),
    }
    os.environ["RUNS_CACHE"] = "off"
    for state in ("killed", "killed, again"):
        for row, read in reads.items():
            yield f"{row}, {state}", read()
    yield "`points()`, journal", points(one, name, data.steps)
    files = sorted(folder.glob("*.jsonl"))
    yield "`eventlog compact`", command("compact", *files, module="eventlog")
    time.sleep(1.5 * index.SETTLED_S)  # of files that changed just now nothing is kept
    for start, cache in (("without a cache", "off"), ("first", folder / "cache"), ("second", "")):
        os.environ["RUNS_CACHE"] = str(cache or folder / "cache")
        for row, read in reads.items():
            yield f"{row}, with run JSON, {start}", read()
    yield "`points()`, run JSON", points(one.with_suffix(".json"), name, data.steps)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--part", type=int, default=1)
    parser.add_argument("--only", default=",".join(DATA))
    parser.add_argument("--beside", default="", help="modules of tests.bench.trackers")
    options = parser.parse_args()
    print(f"{platform.platform()}, Python {platform.python_version()}")
    for name in options.only.split(","):
        data, folder = part_of(name, options.part), options.folder / name
        n_bytes = generate(folder, data)
        print(f"{name}: {data}, {n_bytes / 1e6:,.0f} MB; load {os.getloadavg()[0]:.1f}", flush=True)
        for row, took in measure(folder, data):
            print(f"| {row} | {took} |", flush=True)
        for tracker in filter(None, options.beside.split(",")):
            for row, took in beside(options.folder / f"{name}-{tracker}", data, tracker):
                print(f"| {row} | {took} |", flush=True)


if __name__ == "__main__":
    main()
