"""The cost of logging for a training, and the training itself compared with nanoGPT."""

import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path

import eventlog
from tests.bench import child, nanogpt, prepare
from tests.bench.table import FULL, Plan, Row

_TRAIN = """
import contextlib, io
from trainer import train
from trainer.training_logger import TrainingLogger

class Seen(io.StringIO):
    def write(self, text):
        if text.startswith("iter "):
            seen.append(time.perf_counter())
        return len(text)

def timed(self, *given, **named):
    begun = time.perf_counter()
    log_iter(self, *given, **named)
    spent.append(time.perf_counter() - begun)

seen, spent, log_iter = [], [], TrainingLogger.log_iter
TrainingLogger.log_iter = timed
with contextlib.redirect_stdout(Seen()):
    assert train.main(arguments) == 0
skip = min(10, len(seen) // 2)  # the first ones
report(steps_s=seen[-1] - seen[skip], logging_s=sum(spent[skip + 1:]))
"""


def logging_on_and_off(plan: Plan, workdir: Path) -> Row:
    """The preset `tiny` with the journal and the compactor, and without both, in turns."""
    flags = [
        f"--max_iters={plan.train_iters}", "--eval_interval=1000000", "--eval_iters=1",
        "--log_interval=1", f"--data_dir={child.ROOT / 'data'}",
    ]  # fmt: skip
    ratios, shares = [], []
    for k in range(plan.rounds):
        result = {}
        for is_on in (True, False) if k % 2 else (False, True):
            out = workdir / f"{k}{is_on}"
            result[is_on] = child.run(
                _TRAIN, *flags, f"--save_log_to_json={is_on}", f"--out_dir={out}"
            )
        ratios.append(result[False]["steps_s"] / result[True]["steps_s"])
        shares.append(1 - result[True]["logging_s"] / result[True]["steps_s"])
        (path,) = (workdir / f"{k}True").glob("*.json")
        assert len(eventlog.load_run(path).training_iterations) == plan.train_iters + 1
    ratio, share = statistics.median(ratios), statistics.median(shares)
    return Row(
        "training with the journal and its compactor, preset `tiny`",
        "without",
        "0.99 of the throughput, 0.999 of step time on the training thread",
        f"{ratio:.3f} ({min(ratios):.3f} to {max(ratios):.3f} in {len(ratios)} turns), "
        f"{share:.5f} on the thread",
        ratio >= 0.99 and share >= 0.999,
    )


def prepare_text(plan: Plan, workdir: Path) -> Row:
    """All of `prepare` but the learning of a tokenizer, on two cores; its own bench says more."""
    if plan is FULL:
        took = prepare.pace(workdir, None, plan.rounds).took
    else:
        (workdir / "text").mkdir()
        for k in range(12):
            (workdir / "text" / f"{k}.txt").write_text(f"def f(): return {k}\n" * 40)
        took = prepare.pace(workdir, workdir / "text", plan.rounds).took
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
