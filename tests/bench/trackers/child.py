"""The programs that run in separate processes: a trainer that logs, a reader that reads.

    write NAME FOLDER SHARED FIRST COUNT RATE END    log, with the progress in shared memory
    read NAME                                        folders in, values out, until stdin ends
    cost NAME FOLDER BLOCKS CALLS PERIOD_MS          time calls, alternating with a bare write

A trainer imports only the tracker that it uses.
"""

import json
import mmap
import os
import struct
import sys
import time
from pathlib import Path

import orjson

from tests.bench.trackers import trackers

NAMES = ("loss", "time_ms", "mfu", "lr")


def values_of(step: int) -> dict[str, float]:
    """The four numbers of a step: all are different, and float32 represents each exactly."""
    return {name: _number(4 * step + k) for k, name in enumerate(NAMES)}


def _number(index: int) -> float:
    odd = 2 * (index * 0x9E3779B1 % (1 << 19)) + 1
    return ((1 << 20) + odd) / (1 << 18)


def write(
    name: str, folder: Path, shared: Path, first: int, count: int, rate: float, end: str
) -> None:
    """Log `count` steps from `first`; `end` is finish or raise. Rate 0: as fast as it goes."""
    with open(shared, "r+b") as file:
        acknowledged = mmap.mmap(file.fileno(), 8)
    with trackers()[name].write(folder, name, first) as log:
        due = time.monotonic()
        for step in range(first, first + count):
            log(step, values_of(step))
            struct.pack_into("<q", acknowledged, 0, step + 1)
            if rate:
                due = max(due + 1 / rate, time.monotonic() - 1)  # catches up to 1 s of delay
                time.sleep(max(0.0, due - time.monotonic()))
        if end == "raise":
            raise RuntimeError("the trainer has a bug")


def read(name: str) -> None:
    """For each folder on stdin, print a line: the values that its reader returns, and its error."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not get between the answers
    tracker = trackers()[name]
    for folder in sys.stdin:
        values, error = [], None
        try:
            for step, key, value in tracker.read(Path(folder.rstrip("\n"))):
                values.append((step, key, value))
        except Exception as raised:
            error = f"{type(raised).__name__}: {raised}"[:200]
        print(json.dumps({"values": values, "error": error}, default=str), file=answers, flush=True)


def cost(name: str, folder: Path, blocks: int, calls: int, period_ms: float) -> None:
    """Durations in ns of the tracker's calls and of a bare write, alternating."""
    fd = os.open(folder / "bare", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def bare(step: int, values: dict[str, float]) -> None:
        os.write(fd, orjson.dumps({"iter": step, **values}) + b"\n")

    took: dict[str, list[int]] = {"bare": [], "tracker": []}
    next_step = {"bare": 0, "tracker": 0}
    with trackers()[name].write(folder, name, 0) as log:
        for block in range(blocks + 1):
            for who, call in (("bare", bare), ("tracker", log)):
                for _ in range(calls):
                    step = next_step[who]
                    next_step[who] = step + 1
                    values = values_of(step)
                    if period_ms:
                        time.sleep(period_ms / 1000)
                    begin = time.perf_counter_ns()
                    call(step, values)
                    took[who].append(time.perf_counter_ns() - begin)
            if block == 0:  # warms up
                took = {"bare": [], "tracker": []}
    (folder / "cost.json").write_text(json.dumps(took))


def main(role: str, name: str, *more: str) -> None:
    if role == "write":
        folder, shared, first, count, rate, end = more
        write(name, Path(folder), Path(shared), int(first), int(count), float(rate), end)
    elif role == "read":
        read(name)
    else:
        folder, blocks, calls, period_ms = more
        cost(name, Path(folder), int(blocks), int(calls), float(period_ms))


if __name__ == "__main__":
    main(*sys.argv[1:])
