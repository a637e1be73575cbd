"""What logging costs a training, and the training itself beside nanoGPT."""

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import eventlog
from tests.bench import child, nanogpt, prepare
from tests.bench.table import FULL, Plan, Row

_ON_THE_THREAD = """
import contextlib, io
from trainer import train
from trainer.training_logger import TrainingLogger
spent, inner = 0.0, TrainingLogger.log_iter
def timed(self, *given, **named):
    global spent
    begun = time.perf_counter()
    inner(self, *given, **named)
    spent += time.perf_counter() - begun
TrainingLogger.log_iter = timed
with contextlib.redirect_stdout(io.StringIO()):
    train.main(arguments)
tell(spent=spent)
"""
WARMUP_ITERS = 10


def logging_on_and_off(plan: Plan, room: Path) -> Row:
    """The preset `tiny` with the journal and the compactor, and without both, in turns."""
    flags = [
        f"--max_iters={plan.train_iters}", "--eval_interval=1000000", "--eval_iters=1",
        "--log_interval=1", f"--data_dir={child.ROOT / 'data'}",
    ]  # fmt: skip
    ratios = []
    for k in range(plan.rounds):
        seconds = {}
        for is_on in (True, False) if k % 2 else (False, True):
            out = room / f"{k}{is_on}"
            seconds[is_on] = _steps_s([*flags, f"--save_log_to_json={is_on}", f"--out_dir={out}"])
        ratios.append(seconds[False] / seconds[True])
        (path,) = (room / f"{k}True").glob("*.json")
        assert len(eventlog.load_run(path).training_iterations) == plan.train_iters + 1
    ratio = statistics.median(ratios)
    told = child.run(_ON_THE_THREAD, *flags, f"--out_dir={room / 'thread'}")
    (path,) = (room / "thread").glob("*.json")
    steps_s = sum(row["time_ms"] for row in eventlog.load_run(path).training_iterations) / 1000
    left = 1 - told["spent"] / steps_s
    return Row(
        "training with the journal and its compactor, preset `tiny`",
        "without",
        "0.99 of the throughput, 0.999 of step time on the training thread",
        f"{ratio:.3f} ({min(ratios):.3f} to {max(ratios):.3f} in {len(ratios)} turns), {left:.5f}",
        ratio >= 0.99 and left >= 0.999,
    )


def _steps_s(flags: list[str]) -> float:
    """Wall time from the end of the first iterations to that of the last, as its output comes."""
    with subprocess.Popen(
        [sys.executable, "-u", "trainer/train.py", *flags],
        cwd=child.ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        seen = [time.perf_counter() for line in process.stdout if line.startswith("iter ")]
    assert process.returncode == 0
    return seen[-1] - seen[min(WARMUP_ITERS, len(seen) // 2)]


def prepare_text(plan: Plan, room: Path) -> Row:
    """All of `prepare` but the learning of a tokenizer, on two cores; its own bench says more."""
    if plan is FULL:
        took = prepare.pace(room, None, plan.rounds).took
    else:
        (room / "text").mkdir()
        for k in range(12):
            (room / "text" / f"{k}.txt").write_text(f"def f(): return {k}\n" * 40)
        took = prepare.pace(room, room / "text", plan.rounds).took
    ours_s = took["prepare, 2 threads"].seconds
    ratio = took["tiktoken alone"].seconds / ours_s
    return Row(
        "preparing text on two cores",
        "tiktoken alone on one",
        "1.6x",
        f"{ratio:.2f}x ({ours_s:.2f} s)",
        ratio >= 1.6,
    )


def beside_nanogpt(checkout: Path) -> dict[str, Callable[[Plan, Path], Row]]:
    """The rows that need a checkout of nanoGPT."""
    return {
        "tokens": partial(nanogpt.tokens_beside_nanogpt, checkout),
        "time to loss": partial(nanogpt.time_to_its_loss, checkout),
    }
