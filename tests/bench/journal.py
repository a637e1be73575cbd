"""What a call costs while a checkpoint is written beside it, and what a recovery costs.

    python -m tests.bench.journal [--events 1000000] [--seconds 20]

Prints two rows for RESULTS.md. What is measured also checks its result.
"""

import argparse
import os
import platform
import resource
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import orjson

import eventlog
from eventlog.record import encode

CHECKPOINT_BYTES = 100 << 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=20.0)
    arguments = parser.parse_args()
    told = os.getloadavg()
    print(f"{platform.platform()}, Python {platform.python_version()}, orjson {orjson.__version__}")
    print(f"load {told[0]:.1f}, {told[1]:.1f}, {told[2]:.1f}")
    with tempfile.TemporaryDirectory(dir=".") as folder:
        print(calls_beside_a_checkpoint(Path(folder), arguments.seconds))
    with tempfile.TemporaryDirectory(dir=".") as folder:
        print(recovery(Path(folder), arguments.events))


def calls_beside_a_checkpoint(folder: Path, seconds: float) -> str:
    """One `log_iter` a millisecond, the sync thread on, checkpoints synced one after another."""
    n_checkpoints, stop = 0, threading.Event()

    def checkpoints() -> None:
        nonlocal n_checkpoints
        data = os.urandom(CHECKPOINT_BYTES)
        while not stop.is_set():
            eventlog.atomic_write(folder / "ckpt.pt", lambda file: file.write(data))
            n_checkpoints += 1

    took_us = []
    with eventlog.open_run(folder, save_interval=0) as run:
        beside = threading.Thread(target=checkpoints)
        beside.start()
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(0.001)
            begun = time.perf_counter_ns()
            run.log_iter(len(took_us), 2.83, 52.1, 31.2, lr=6e-4)
            took_us.append((time.perf_counter_ns() - begun) / 1000)
        stop.set()
        beside.join()
    assert len(eventlog.load_run(run.journal_path).training_iterations) == len(took_us)
    took_us.sort()
    p50, p99, p999 = (took_us[int(len(took_us) * p)] for p in (0.5, 0.99, 0.999))
    return (
        f"one call, paced 1 ms, {n_checkpoints} checkpoints of 100 MB synced beside it: "
        f"p50 {p50:.0f} µs, p99 {p99:.0f} µs, p99.9 {p999:.0f} µs, max {took_us[-1] / 1000:.1f} ms "
        f"({len(took_us):,} calls)"
    )


def recovery(folder: Path, n_events: int) -> str:
    """`eventlog compact` of a journal of `n_events` iterations, as a process of its own."""
    journal = folder / "run.jsonl"
    t = "2026-11-23T03:25:01.123456+00:00"
    opening = {"format": 1, "run_id": "r", "run_name": "run"}
    with journal.open("wb") as file:
        file.write(encode(0, "a1b2c3d4", t, "open", opening))
        for i in range(n_events):
            fields = {"iter": i, "loss": 2.83 + i * 1e-9, "time_ms": 52.1, "mfu": 31.2, "lr": 6e-4}
            file.write(encode(i + 1, "a1b2c3d4", t, "iter", fields))
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-m", "eventlog.cli", "compact", str(journal)], check=True,
                   stdout=subprocess.DEVNULL)  # fmt: skip
    took_s = time.perf_counter() - begun
    peak_mb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    run = orjson.loads((folder / "run.json").read_bytes())
    assert run["summary"]["total_iterations"] == n_events
    size_mb = journal.stat().st_size / 1e6
    return (
        f"recovery of {n_events:,} events ({size_mb:.0f} MB): {took_s:.1f} s, peak {peak_mb:.0f} MB"
    )


if __name__ == "__main__":
    main()
