"""python -m tests.bench.phases: time, memory and loss of each phase, on this machine.

50 iterations of a small GPT in every phase over 1 and 2 ranks on the CPU: the largest difference
of a loss from one process', and the bytes that the fullest rank holds.
"""

import json
import multiprocessing
import socket
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

import eventlog
from tests.trainer.conftest import train_as_rank
from tests.trainer.distributed.test_phases import PHASES, bytes_held

ITERS = 50


def main() -> int:
    torch.set_num_threads(1)
    rows, straight = [], None
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for phase, flags in PHASES.items():
            for world_size in (1, 2):
                run, held = train(root / f"{phase}{world_size}", root, world_size, flags)
                straight = straight or run
                rows.append(row(phase, world_size, run, straight, held))
    print("| phase | ranks | largest loss difference | parameters | optimizer | ms/iter |")
    print("| --- | --- | --- | --- | --- | --- |")
    for cells in rows:
        print("| " + " | ".join(cells) + " |")
    return 0


def train(
    out: Path, root: Path, world_size: int, flags: dict[str, Any]
) -> tuple[eventlog.Run, dict[str, int]]:
    """A run of the preset `tiny` in real ranks, and what the fullest of them held."""
    out.mkdir()
    values = {
        "out_dir": out, "data_dir": root / "data", "max_iters": ITERS - 1, "eval_interval": 1000,
        "eval_iters": 1, "device": "cpu", "peak_flops": 1e11, "log_interval": 1000, **flags,
    }  # fmt: skip
    argv = [f"--{name}={value}" for name, value in values.items()]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("fork")
    ranks = [
        context.Process(
            target=train_as_rank,
            args=(rank, world_size, port, argv, lambda rank: bytes_held(rank, out)),
        )
        for rank in range(world_size)
    ]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join()
        assert process.exitcode == 0
    held = [json.loads((out / f"rank{rank}.bytes").read_text()) for rank in range(world_size)]
    (path,) = out.glob("*.jsonl")
    return eventlog.load_run(path), {kind: max(h[kind] for h in held) for kind in held[0]}


def row(
    phase: str, world_size: int, run: eventlog.Run, straight: eventlog.Run, held: dict[str, int]
) -> tuple[str, ...]:
    pairs = zip(run.training_iterations, straight.training_iterations, strict=True)
    difference = max(abs(a["loss"] - b["loss"]) for a, b in pairs)
    time_ms = statistics.median(r["time_ms"] for r in run.training_iterations[5:])
    return (
        phase,
        str(world_size),
        f"{difference:.1e}" if difference else "0",
        f"{held['parameters']:,}",
        f"{held['optimizer']:,}",
        f"{time_ms:.0f}",
    )


if __name__ == "__main__":
    sys.exit(main())
