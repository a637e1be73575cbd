"""python -m tests.bench.nanogpt --nanogpt=PATH: this trainer and nanoGPT on the same tokens.

PATH is a checkout of github.com/karpathy/nanoGPT; nothing in it is changed but for a data set that
is put into its data folder. Both train the same model with the same hyper-parameters on the
embedded corpus, on the CPU. nanoGPT has one seed, so how far two runs are apart by chance alone
is seen on ours: same within that is what "the same trainer" means.
"""

import argparse
import json
import os
import pickle
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

import eventlog
from tests.bench.table import FULL, Plan, Row
from trainer.prepare import prepare

ROOT = Path(__file__).parents[2]
DATASET = "embedded_corpus"
SEEDS = (1337, 1, 2)
WARMUP_ITERS = 10  # left out of the timing, as are the iterations that evaluate

SIZES = {
    "1.3M": {"n_layer": 4, "n_head": 4, "n_embd": 128, "block_size": 64, "batch_size": 12},
    "12.2M": {"n_layer": 6, "n_head": 6, "n_embd": 384, "block_size": 256, "batch_size": 8},
}
RECIPE = {
    "learning_rate": 1e-3, "min_lr": 1e-4, "warmup_iters": 100, "beta1": 0.9, "beta2": 0.99,
    "weight_decay": 0.1, "grad_clip": 1.0, "dropout": 0.0, "gradient_accumulation_steps": 1,
    "device": "cpu",
}  # fmt: skip
# What got there soonest of what was tried (RESULTS.md): Muon, whose loss hangs on the tokens it has
# seen more than on its steps, so the batches are large and many tokens share its cost; a token
# embedding ten times as fast; a straight line down to nothing. `batch_size` is not in it: the rows
# of an evaluation hang on it, and stay as they are.
LOOKED_AT = {
    "optimizer": "muon", "muon_momentum": 0.8, "learning_rate": 1.2e-3, "embedding_lr": 1.2e-2,
    "beta1": 0.8, "beta2": 0.95, "grad_clip": 0.0, "gradient_accumulation_steps": 3,
    "max_iters": 38, "eval_interval": 38, "lr_decay_iters": 38, "min_lr": 0.0,
    "warmup_iters": 0, "lr_schedule": "wsd", "cooldown_iters": 38,
}  # fmt: skip


class Curve(NamedTuple):
    """What one run had: losses by iteration, evals (train, val) by iteration, ms of each step."""

    losses: dict[int, float]
    evals: dict[int, tuple[float, float]]
    times_ms: list[float]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.nanogpt", description=__doc__)
    parser.add_argument("--nanogpt", type=Path, required=True, metavar="PATH")
    parser.add_argument("--size", choices=SIZES, default="1.3M")
    parser.add_argument("--iters", type=int, default=300)
    parser.add_argument(
        "--eval-iters",
        type=int,
        default=200,
        metavar="N",
        help="batches of an eval: nanoGPT draws others each time, ours are fixed",
    )
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    flags = SIZES[options.size] | RECIPE
    flags |= {
        "eval_iters": options.eval_iters,
        "max_iters": options.iters,
        "lr_decay_iters": options.iters,
        "eval_interval": options.iters,
    }
    env = os.environ | {"OMP_NUM_THREADS": str(options.threads)}
    with tempfile.TemporaryDirectory() as folder:
        theirs = run_nanogpt(options.nanogpt, flags, Path(folder), env)
        ours = [run_ours(flags, seed, Path(folder), env) for seed in SEEDS]
    print(report(theirs, ours, options.iters, flags["batch_size"] * flags["block_size"]))
    return 0


def run_nanogpt(
    checkout: Path, flags: dict[str, object], folder: Path, env: dict[str, str]
) -> Curve:
    """nanoGPT, unchanged, on the tokens of our prepared data."""
    give_data(checkout / "data" / DATASET, ROOT / "data")
    arguments = [f"--{name}={value}" for name, value in ({"compile": False} | flags).items()]
    output = subprocess.run(
        [sys.executable, "train.py", "config/train_shakespeare_char.py", f"--dataset={DATASET}",
         "--log_interval=1", f"--out_dir={folder / 'nanogpt'}", *arguments],
        cwd=checkout, env=env, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    steps = re.findall(r"^iter (\d+): loss ([\d.]+), time ([\d.]+)ms", output, re.M)
    evals = re.findall(r"^step (\d+): train loss ([\d.]+), val loss ([\d.]+)", output, re.M)
    return Curve(
        {int(i): float(loss) for i, loss, _ in steps},
        {int(i): (float(train), float(val)) for i, train, val in evals},
        timed([(int(i), float(ms)) for i, _, ms in steps], {int(i) for i, _, _ in evals}),
    )


def run_ours(flags: dict[str, object], seed: int, folder: Path, env: dict[str, str]) -> Curve:
    out = folder / f"ours{seed}"
    arguments = [f"--{name}={value}" for name, value in flags.items()]
    subprocess.run(
        [sys.executable, "trainer/train.py", f"--out_dir={out}", f"--seed={seed}", *arguments],
        cwd=ROOT, env=env, stdout=subprocess.DEVNULL, check=True,
    )  # fmt: skip
    (path,) = out.glob("*.json")
    run = eventlog.load_run(path)
    rows = run.training_iterations
    evals = {row["iter"]: (row["train_loss"], row["val_loss"]) for row in run.eval_steps}
    return Curve(
        {row["iter"]: row["loss"] for row in rows},
        evals,
        timed([(row["iter"], row["time_ms"]) for row in rows], set(evals)),
    )


def give_data(folder: Path, data_dir: Path) -> None:
    """Our tokens as nanoGPT reads them: two files of uint16, and the size of the vocabulary."""
    prepared = prepare(data_dir, input=None, text_column="text", tokenizer="bpe:4096")
    meta = json.loads((prepared / "meta.json").read_text())
    folder.mkdir(parents=True, exist_ok=True)
    for split in ("train", "val"):
        files = sorted(prepared.glob(f"{split}.*bin"))
        ids = np.concatenate([np.fromfile(file, dtype=meta["dtype"]) for file in files])
        ids.astype(np.uint16).tofile(folder / f"{split}.bin")
    (folder / "meta.pkl").write_bytes(pickle.dumps({"vocab_size": meta["vocab_size"]}))


def tokens_beside_nanogpt(checkout: Path, plan: Plan, workdir: Path) -> Row:
    """Tokens a second at 12.2 M parameters, each as it comes and compiled; losses compared."""
    size = SIZES["12.2M"] if plan is FULL else SIZES["1.3M"]
    iters = min(plan.train_iters, WARMUP_ITERS + 30)
    flags = size | RECIPE | {"eval_iters": 1, "max_iters": iters, "eval_interval": 10 * iters}
    env = os.environ | {"OMP_NUM_THREADS": str(os.cpu_count() or 1)}
    rows: dict[str, Curve] = {}
    for is_compiled in (False, True):
        name = "compiled" if is_compiled else "eager"
        compiled = {"compile": is_compiled}
        rows[f"nanoGPT {name}"] = run_nanogpt(checkout, flags | compiled, workdir / f"n{name}", env)
        rows[f"ours {name}"] = run_ours(flags | compiled, SEEDS[0], workdir / f"o{name}", env)
    n_tokens = size["batch_size"] * size["block_size"]
    pace = {n: 1000 * n_tokens / statistics.median(c.times_ms) for n, c in rows.items()}
    ends = {n: statistics.fmean(list(c.losses.values())[-5:]) for n, c in rows.items()}
    assert max(ends.values()) - min(ends.values()) < 0.5, ends
    ours = max(pace["ours eager"], pace["ours compiled"])
    theirs = max(pace["nanoGPT eager"], pace["nanoGPT compiled"])
    return Row(
        f"tokens/s at {'12.2' if plan is FULL else '1.3'} M parameters, fp32",
        "nanoGPT eager and compiled",
        "3.5x of eager",
        f"{ours / pace['nanoGPT eager']:.2f}x of eager, {ours / theirs:.2f}x of its best; "
        + ", ".join(f"{name} {value:,.0f}" for name, value in pace.items()),
        ours / pace["nanoGPT eager"] >= 3.5,
    )


def time_to_its_loss(checkout: Path, plan: Plan, workdir: Path) -> Row:
    """Time of the steps until the validation loss is there that nanoGPT has after its last."""
    size = SIZES["12.2M"] if plan is FULL else SIZES["1.3M"]
    iters = 300 if plan is FULL else 12
    shared = size | RECIPE | {"eval_iters": 20}
    env = os.environ | {"OMP_NUM_THREADS": str(os.cpu_count() or 1)}
    theirs = run_nanogpt(
        checkout,
        shared | {"max_iters": iters, "lr_decay_iters": iters, "eval_interval": iters},
        workdir / "nanogpt",
        env,
    )
    goal = theirs.evals[iters][1]
    ours = run_ours(shared | LOOKED_AT, SEEDS[0], workdir / "ours", env)
    reached = [i for i, (_, val_loss) in sorted(ours.evals.items()) if val_loss <= goal]
    work = f"time to the validation loss that nanoGPT has after {iters} iterations ({goal:.3f})"
    if not reached:
        best = min(val_loss for _, val_loss in ours.evals.values())
        return Row(work, "nanoGPT", "1/4", f"not there: {best:.3f} at best", False)
    step_ms = statistics.median(ours.times_ms), statistics.median(theirs.times_ms)
    ours_s, theirs_s = reached[0] * step_ms[0] / 1000, iters * step_ms[1] / 1000
    return Row(
        work,
        "nanoGPT",
        "1/4",
        f"1/{theirs_s / ours_s:.1f} ({ours_s:.0f} s, {reached[0]} iterations; {theirs_s:.0f} s)",
        theirs_s / ours_s >= 4,
    )


def timed(steps: list[tuple[int, float]], evals: set[int]) -> list[float]:
    return [ms for i, ms in steps if i >= WARMUP_ITERS and i not in evals]


def report(theirs: Curve, ours: list[Curve], iters: int, tokens_per_iter: int) -> str:
    """A table: losses where they can be compared, and tokens a second."""

    def mean_loss(curve: Curve) -> float:
        """Of the last 50 steps: one batch alone says little."""
        return statistics.fmean(curve.losses[i] for i in range(iters - 49, iters + 1))

    rows = [
        ("loss, iteration 0", lambda c: c.losses[0]),
        ("loss, mean of the last 50", mean_loss),
        (f"train loss, {iters}", lambda c: c.evals[iters][0]),
        (f"val loss, {iters}", lambda c: c.evals[iters][1]),
        ("tokens/s, median step", lambda c: 1000 * tokens_per_iter / statistics.median(c.times_ms)),
    ]
    lines = [
        "| | nanoGPT | " + " | ".join(f"ours, seed {seed}" for seed in SEEDS) + " |",
        "| --- |" + " --- |" * (1 + len(SEEDS)),
    ]
    for name, figure in rows:
        cells = [figure(theirs), *(figure(curve) for curve in ours)]
        lines.append(f"| {name} | " + " | ".join(f"{cell:,.4f}" for cell in cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
