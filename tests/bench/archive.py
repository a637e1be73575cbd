"""Ten thousand runs of a thousand iterations: archived, queried, verified, restored.

    python -m tests.bench.archive [--runs 10000] [--iterations 1000] [--folder /tmp]

Prints the rows for RESULTS.md; each step is the command `runs`, as a process of its own, and
its answer is checked. Takes 3 GB in the folder, and gives them back.
"""

import argparse
import math
import multiprocessing
import os
import platform
import random
import subprocess
import sys
import time
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import orjson

import eventlog
from eventlog.format.record import encode

BEST = "select run, best_val_loss from runs order by best_val_loss limit 1"
GOOD = "best_val_loss < 2.1 and config.learning_rate > 0.001 and status = 'completed'"
LATE = "select run, avg(loss) as late from iterations where iter >= {} group by run order by 2"
LIBRARIES = ("duckdb", "pyarrow", "zstandard", "orjson")


class Took(NamedTuple):
    """What a command printed, its seconds by the wall and of a core, the most memory it had."""

    out: str
    wall_s: float
    core_s: float
    peak_mb: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--iterations", type=int, default=1_000)
    parser.add_argument("--folder", type=Path, default=Path("/tmp"))
    arguments = parser.parse_args()
    libraries = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    print(f"{platform.platform()}, Python {platform.python_version()}, {libraries}")
    print("load {:.1f}, {:.1f}, {:.1f}".format(*os.getloadavg()), flush=True)
    with TemporaryDirectory(dir=arguments.folder) as folder:
        for row in measure(Path(folder), arguments.runs, arguments.iterations):
            print(row, flush=True)


def measure(folder: Path, n_runs: int, n_iterations: int) -> Iterable[str]:
    """Each step's row; an answer that is wrong is an AssertionError."""
    out, archive, back = folder / "out", folder / "archive", folder / "back"
    out.mkdir()
    begun = time.perf_counter()
    best = generate(out, n_runs, n_iterations)
    yield f"generated {n_runs:,} runs of {n_iterations:,} in {time.perf_counter() - begun:.0f} s"

    for place in ("first", "again"):
        listed = runs("ls", out, "--where", GOOD, "--json")
        assert all(orjson.loads(line)["best_val_loss"] < 2.1 for line in listed.out.splitlines())
        yield _row(f"ls with a filter, {place}", listed)

    took = runs("archive", out, "--to", archive)
    assert took.out.endswith(f": {n_runs:,} new\n"), took.out
    yield _row("archive", took)
    again = runs("archive", out, "--to", archive)
    assert again.out.endswith(f": {n_runs:,} unchanged\n"), again.out
    yield _row("archive again, nothing changed", again)

    for place in (archive, archive, out):
        options = runs("query", "--json", BEST, place)
        assert orjson.loads(options.out) == {"run": best[1], "best_val_loss": best[0]}
        yield _row(f"query for the best run, {place.name}", options)
    late = runs("query", "--csv", LATE.format(n_iterations * 9 // 10), archive)
    assert late.out.count("\n") == n_runs + 1
    yield _row("query for the late mean loss of every run", late)

    yield _row("verify", runs("archive", "--to", archive, "--verify"))
    restored = runs("archive", "--to", archive, "--restore", best[1], "--out", back)
    assert all(p.read_bytes() == (out / p.name).read_bytes() for p in back.iterdir())
    yield _row("restore one run", restored)
    yield from _sizes(out, archive)


def _row(step: str, took: Took) -> str:
    return f"{step}: {took.wall_s:.2f} s ({took.core_s:.2f} s of a core), {took.peak_mb:.0f} MB"


def _sizes(out: Path, archive: Path) -> Iterable[str]:
    def size_mb(folder: Path, pattern: str) -> float:
        return sum(p.stat().st_size for p in folder.rglob(pattern) if p.is_file()) / 1e6

    journals, documents = size_mb(out, "*.jsonl"), size_mb(out, "*.json")
    bundles, rows = size_mb(archive, "*.tar.zst"), size_mb(archive, "*.parquet")
    yield (
        f"JSONL {journals:,.1f} MB, JSON {documents:,.1f} MB; archived: bundles of both "
        f"{bundles:,.1f} MB, Parquet {rows:,.1f} MB (of it the index of runs "
        f"{size_mb(archive / 'runs', '*'):,.1f} MB), {len(list(archive.rglob('*.*'))):,} files"
    )


def runs(*arguments: object) -> Took:
    """`runs` as a process of its own."""
    command = [sys.executable, "-m", "tools.cli", *map(str, arguments)]
    with TemporaryDirectory() as folder, open(Path(folder, "out"), "w+b") as stdout:
        begun = time.perf_counter()
        process = subprocess.Popen(command, stdout=stdout)
        _, status, usage = os.wait4(process.pid, 0)
        wall_s = time.perf_counter() - begun
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0, command
        stdout.seek(0)
        core_s = usage.ru_utime + usage.ru_stime
        return Took(stdout.read().decode(), wall_s, core_s, usage.ru_maxrss / 1024)


def generate(out: Path, n_runs: int, n_iterations: int) -> tuple[float, str]:
    """Runs as a trainer leaves them, journal and run JSON; the best validation loss, and whose."""
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        jobs = ((out, number, n_iterations) for number in range(n_runs))
        return min(pool.imap_unordered(_generate, jobs, chunksize=50))


def _generate(job: tuple[Path, int, int]) -> tuple[float, str]:
    out, number, n_iterations = job
    chance, s = random.Random(number), f"a{number:07x}"
    month, second = 1 + number % 12, number // 12
    clock = f"{second // 3600 % 24:02}:{second // 60 % 60:02}:{second % 60:02}"
    t = f"2026-{month:02}-{1 + number % 28:02}T{clock}.{number:06}+00:00"
    name, rate = f"run_{number:05}", 10 ** chance.uniform(-5, -2)
    floor, best, n = chance.uniform(2, 4), math.inf, 0
    config = {"learning_rate": rate, "n_layer": chance.choice((6, 12)), "seed": number,
              "batch_size": 12, "block_size": 1024, "max_iters": n_iterations}  # fmt: skip
    metadata = {"world_size": 1, "device": "cuda", "dtype": "bfloat16", "use_zero1": False}
    opening = {"format": 1, "run_id": f"{number:032x}", "run_name": name, "config": config,
               "metadata": metadata, "host": "node7", "pid": 4711, "boot_id": "b00t"}  # fmt: skip
    with open(out / f"{name}.jsonl", "wb") as file:

        def log(event: str, **fields: object) -> None:
            nonlocal n
            file.write(encode(n, s, t, event, fields))
            n += 1

        log("open", **opening)
        for i in range(n_iterations):
            loss = floor + 8 * math.exp(-i / 200) + chance.gauss(0, 0.05)
            if i % 100 == 0:
                val = round(loss + abs(chance.gauss(0, 0.02)), 6)
                best = min(best, val)
                log("eval", iter=i, train_loss=round(loss, 6), val_loss=val, lr=rate)
                if i % 500 == 0:
                    log("checkpoint", iter=i, val_loss=val, path="out/ckpt.pt", size_bytes=10**8)
            mfu = round(chance.gauss(31, 0.5), 3) if i > 4 else -100.0
            more = {"lr": rate * (1 - i / n_iterations), "grad_norm": chance.lognormvariate(0, 0.3)}
            log("iter", iter=i, loss=loss, time_ms=round(chance.gauss(52, 1), 3), mfu=mfu, **more)
        log("close", status="completed", reason=None)
    eventlog.compact(out / f"{name}.jsonl")
    return best, name


if __name__ == "__main__":
    main()
