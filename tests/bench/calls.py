"""The cost of one log call for the training loop."""

import os
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson

import eventlog
from tests.bench.table import FULL, Plan, Row
from tests.bench.trackers import __main__ as trackers
from tests.bench.trackers import harness, missing_packages

PACE_S = 0.001
ITERATION = {"event": "iter", "iter": 0, "loss": 2.83, "time_ms": 52.1, "mfu": 31.2, "lr": 6e-4}


def hot(plan: Plan, workdir: Path) -> Row:
    """Call after call: `log_iter` with four numbers, and a bare write of the same event."""
    with (
        bare_writes(workdir / "bare", ITERATION) as bare,
        eventlog.open_run(workdir / "out", save_interval=0) as run,
    ):
        ratio, mean, p99 = _beside(logs_into(run), bare, plan)
    logged = [row["iter"] for row in eventlog.load_run(run.journal_path).training_iterations]
    assert logged == list(range(2 * plan.rounds * plan.calls))
    return Row(
        "one `log_iter`, hot loop, four numbers",
        "`os.write(fd, orjson.dumps(event))`",
        "2.5x, p99 10 µs",
        f"{ratio:.1f}x ({mean:.1f} µs), p99 {p99:.1f} µs",
        ratio <= 2.5 and p99 <= 10,
    )


def log(plan: Plan, workdir: Path) -> Row:
    """The same of `run.log`, with three names of the program's own."""
    row = {"train/loss": 2.83, "lr": 6e-4, "grad_norm": 0.52}
    event = {"event": "metrics", "step": 0} | row
    with (
        bare_writes(workdir / "bare", event) as bare,
        eventlog.init(dir=workdir / "out", save_interval=0) as run,
    ):
        ratio, mean, p99 = _beside(lambda i: run.log({**row}, step=i), bare, plan)
    assert run.journal_path is not None
    points = [*eventlog.load_run(run.journal_path).points("train/loss")]
    assert len(points) == 2 * plan.rounds * plan.calls
    return Row(
        "one `run.log`, hot loop, three names",
        "`os.write(fd, orjson.dumps(event))`",
        "4x, p99 15 µs",
        f"{ratio:.1f}x ({mean:.1f} µs), p99 {p99:.1f} µs",
        ratio <= 4 and p99 <= 15,
    )


def _beside(
    ours: Callable[[int], None], bare: Callable[[int], None], plan: Plan
) -> tuple[float, float, float]:
    """Median ratio of the two, mean and 99th percentile of ours in µs; the calls count from 0."""
    means, p99s = [], []
    for k in range(plan.rounds):
        first = 2 * k * plan.calls
        means.append((_mean_us(ours, first, plan.calls), _mean_us(bare, first, plan.calls)))
        p99s.append(_p99_us(ours, first + plan.calls, plan.calls))
    ratio = statistics.median(a / b for a, b in means)
    return ratio, statistics.median(a for a, _ in means), statistics.median(p99s)


def beside_peers(plan: Plan, workdir: Path) -> Row:
    """The same call and those of W&B offline and trackio, as tests/bench/trackers measures them."""
    names = ("eventlog", "wandb", "trackio", "tensorboard")
    all_trackers = trackers.trackers()
    for name in names:
        if missing := missing_packages(all_trackers[name]):
            raise ModuleNotFoundError(", ".join(missing))
    results = trackers.run(
        list(names), ["cost"], harness.FULL if plan is FULL else harness.TINY, workdir
    )
    ours, *theirs = (results[name]["cost"]["hot"]["p50_us"] for name in names)
    wandb, trackio, tensorboard = theirs
    versions = ", ".join(f"{name} {trackers.version(name)}" for name in names[1:])
    return Row(
        "one `log_iter`, median",
        f"that of W&B offline, trackio, TensorBoard ({versions})",
        "1/30, 1/5",
        f"{ours:.1f} µs: 1/{wandb / ours:.0f} of {wandb:.0f} µs, 1/{trackio / ours:.1f} of "
        f"{trackio:.1f} µs, 1/{tensorboard / ours:.1f} of {tensorboard:.1f} µs",
        wandb / ours >= 30 and trackio / ours >= 5,
    )


def beside_a_checkpoint(plan: Plan, workdir: Path) -> Row:
    """One call a millisecond, the sync thread on; checkpoints synced beside it, and none.

    And a bare write of the same event at the same pace, as the cost of waking up.
    """
    with bare_writes(workdir / "bare", ITERATION) as bare:
        bare_us = _paced_us(bare, plan.seconds)
    took_us: dict[bool, list[float]] = {False: [], True: []}
    n_checkpoints = 0
    for is_beside in (False, True):
        stop = threading.Event()

        def checkpoints(stop: threading.Event = stop) -> None:
            nonlocal n_checkpoints
            data = os.urandom(plan.checkpoint_bytes)
            while not stop.is_set():
                eventlog.atomic_write(workdir / "ckpt.pt", lambda file: file.write(data))
                n_checkpoints += 1

        beside = threading.Thread(target=checkpoints)
        with eventlog.open_run(workdir / str(is_beside), save_interval=0) as run:
            if is_beside:
                beside.start()
            took_us[is_beside] = _paced_us(logs_into(run), plan.seconds)
            stop.set()
        if is_beside:
            beside.join()
        n_logged = len(eventlog.load_run(run.journal_path).training_iterations)
        assert n_logged == len(took_us[is_beside])
    (p50, p99, p999, longest), (p50_alone, p99_alone, _, longest_alone) = (
        (_at(us, 0.5), _at(us, 0.99), _at(us, 0.999), us[-1] / 1000)
        for us in (took_us[True], took_us[False])
    )
    return Row(
        f"the same, paced 1 ms, {n_checkpoints} checkpoints of "
        f"{plan.checkpoint_bytes >> 20} MiB synced beside it",
        "without the checkpoints",
        "p99 100 µs, max 20 ms",
        f"p50 {p50:.0f} µs, p99 {p99:.0f} µs, p99.9 {p999:.0f} µs, max {longest:.1f} ms; without: "
        f"p50 {p50_alone:.0f} µs, p99 {p99_alone:.0f} µs, max {longest_alone:.1f} ms; a bare write "
        f"without: p50 {_at(bare_us, 0.5):.0f} µs, p99 {_at(bare_us, 0.99):.0f} µs",
        p99 <= 100 and longest <= 20,
    )


def logs_into(run: eventlog.Session) -> Callable[[int], None]:
    def log(i: int) -> None:
        run.log_iter(i, 2.83, 52.1, 31.2, lr=6e-4)

    return log


@contextmanager
def bare_writes(path: Path, event: dict[str, object]) -> Iterator[Callable[[int], None]]:
    """Writes an event as JSON and does nothing else."""
    at = "iter" if "iter" in event else "step"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def bare(i: int) -> None:
        os.write(fd, orjson.dumps({**event, at: i}))

    try:
        yield bare
    finally:
        os.close(fd)


def _paced_us(call: Callable[[int], None], seconds: float) -> list[float]:
    """What each call took, sorted."""
    took_us: list[float] = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(PACE_S)
        begun = time.perf_counter_ns()
        call(len(took_us))
        took_us.append((time.perf_counter_ns() - begun) / 1000)
    return sorted(took_us)


def _mean_us(call: Callable[[int], None], first: int, n: int) -> float:
    begun = time.perf_counter_ns()
    for i in range(first, first + n):
        call(i)
    return (time.perf_counter_ns() - begun) / n / 1000


def _p99_us(call: Callable[[int], None], first: int, n: int) -> float:
    took_us = []
    for i in range(first, first + n):
        begun = time.perf_counter_ns()
        call(i)
        took_us.append((time.perf_counter_ns() - begun) / 1000)
    return _at(sorted(took_us), 0.99)


def _at(ordered: list[float], share: float) -> float:
    return ordered[int(len(ordered) * share)]
