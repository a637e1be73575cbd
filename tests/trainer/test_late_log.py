"""A log that is some steps behind the loop, as on CUDA: the same run, without waiting.

How late it is does not depend on a GPU: here the CPU's log is made to be 1 or 3 steps late.
The default suite tries each end at one of both; at both:

    pytest -m slow -n 0 tests/trainer/test_late_log.py
"""

import functools
import itertools
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

import eventlog
import trainer.train
from trainer.data.dataset import Batches
from trainer.distributed.ranks import Arriving, Ranks
from trainer.model import gpt
from trainer.optim.optimizer import LossScale
from trainer.run import Run
from trainer.train import main

LATE = pytest.mark.parametrize("late", [pytest.param(1, marks=pytest.mark.slow), 3])
CLOCK = {"time_ms", "save_ms", "mfu", "tokens_per_s", "timestamp", "memory_bytes"}
PLACE = {"path", "sha256", "size_bytes", "checkpoint"}  # a folder's name is in its files too


def events_in(out_dir):
    """The events in the folder's only journal, without times and paths."""
    (journal,) = out_dir.glob("*.jsonl")
    return [
        (r.event, {k: v for k, v in r.fields.items() if k not in CLOCK | PLACE | {"durable"}})
        for r in eventlog.scan(journal)
        if r.event != "open"
    ]


def without_clock(run):
    """A run JSON without times and paths."""
    parts = (run.training_iterations, run.eval_steps, run.checkpoints)
    rows = [[{k: v for k, v in r.items() if k not in CLOCK | PLACE} for r in p] for p in parts]
    summary = {k: v for k, v in run.summary.items() if not k.startswith("avg_")}
    journal = {k: run.journal[k] for k in ("status", "reason", "events", "superseded")}
    return rows, summary, journal


def be_late(monkeypatch, n_steps):
    monkeypatch.setattr(Ranks, "steps_late", n_steps)


def at_iteration(monkeypatch, iter_num, action):
    """Call `action()`, once, when the batch of that iteration is read."""
    train_batch, left = Batches.train, [1]

    def batch_and_act(self, iter, micro_step):
        if iter == iter_num and left[0]:
            left[0] = 0
            action()
        return train_batch(self, iter, micro_step)

    monkeypatch.setattr(Batches, "train", batch_and_act)


def nan_at(monkeypatch, iter_num, times=1):
    """Make the loss of that iteration's first micro-batch NaN, the first `times` times."""
    cross_entropy = gpt.F.cross_entropy
    train_batch, eval_batch = Batches.train, Batches.eval
    harm, left = [False], [times]

    def train(self, iter, micro_step):
        harm[0] = iter == iter_num and micro_step == 0 and left[0] > 0
        left[0] -= harm[0]
        return train_batch(self, iter, micro_step)

    def eval(self, split, index):
        harm[0] = False
        return eval_batch(self, split, index)

    def loss(*args, **more):
        return cross_entropy(*args, **more) * (torch.nan if harm[0] else 1.0)

    monkeypatch.setattr(Batches, "train", train)
    monkeypatch.setattr(Batches, "eval", eval)
    monkeypatch.setattr(gpt.F, "cross_entropy", loss)


def slow_but(quick, cases):
    """All cases; those that are not in `quick` are marked slow."""
    return [pytest.param(*c, marks=() if c in quick else pytest.mark.slow) for c in cases]


@pytest.fixture(scope="module")
def whole(flags, tmp_path_factory):
    """The folder of an uninterrupted run whose log is not late."""
    out_dir = tmp_path_factory.mktemp("whole")
    assert main(flags(out_dir)) == 0
    return out_dir


# The same run


@LATE
def test_a_late_log_has_the_same_events_in_the_same_order(
    late, flags, tmp_path, only_run, monkeypatch
):
    shared = {"async_checkpoint": False, "eval_interval": 5}
    main(flags(tmp_path / "now", **shared))
    be_late(monkeypatch, late)

    assert main(flags(tmp_path / "late", **shared)) == 0

    now, late_run = only_run(tmp_path / "now"), only_run(tmp_path / "late")
    assert events_in(tmp_path / "late") == events_in(tmp_path / "now")
    assert without_clock(late_run) == without_clock(now)
    assert len(late_run.training_iterations) == 13


@pytest.mark.parametrize(
    ("times", "policy", "late"),
    slow_but(
        {(1, "skip", 3), (2, "rewind", 1)},
        product([1, 2], ["stop", "skip", "rewind"], [1, 3]),
    ),
)
def test_a_nan_found_late_has_the_same_end(
    times, policy, late, flags, tmp_path, only_run, monkeypatch
):
    """After a rewind the steps that were pending after the NaN are not in the log."""
    shared = {"async_checkpoint": False, "nonfinite": policy}
    statuses = {}
    for name, n_steps in (("now", 0), ("late", late)):
        with monkeypatch.context() as patch:
            nan_at(patch, 8, times=times)
            be_late(patch, n_steps)
            statuses[name] = main(flags(tmp_path / name, **shared))

    assert statuses["late"] == statuses["now"]
    assert events_in(tmp_path / "late") == events_in(tmp_path / "now")
    assert without_clock(only_run(tmp_path / "late")) == without_clock(only_run(tmp_path / "now"))


@LATE
def test_a_nan_just_before_an_eval_is_logged_before_it(
    late, flags, tmp_path, only_run, monkeypatch
):
    """Otherwise the run would evaluate and save weights that it is about to discard."""
    nan_at(monkeypatch, 11)
    be_late(monkeypatch, late)

    assert main(flags(tmp_path, nonfinite="rewind", async_checkpoint=False)) == 0

    kinds = [(event, fields.get("iter")) for event, fields in events_in(tmp_path)]
    assert kinds.index(("rewind", None)) == kinds.index(("nonfinite", 11)) + 1
    assert ("eval", 12) not in kinds[: kinds.index(("rewind", None))]
    assert only_run(tmp_path).journal["superseded"]["iterations"] == 6


@pytest.mark.parametrize(
    ("late", "at"),
    slow_but({(1, 12), (3, 4)}, product([1, 3], [0, 4, 5, 12])),
)
def test_a_stop_logs_all_steps_and_saves_after_them(
    at, late, whole, flags, tmp_path, only_run, monkeypatch, losses
):
    be_late(monkeypatch, late)
    with monkeypatch.context() as patch:
        at_iteration(patch, at, lambda: signal.raise_signal(signal.SIGTERM))
        assert main(flags(tmp_path / "out")) == 143

    run = only_run(tmp_path / "out")
    n_done = len(run.training_iterations)
    assert at < n_done <= at + 1 + late
    assert [row["iter"] for row in run.training_iterations] == list(range(n_done))
    assert run.checkpoints[-1]["iter"] == n_done
    assert main(flags(tmp_path / "out", init_from="resume")) == 0
    run = only_run(tmp_path / "out")
    assert losses(run) == losses(only_run(whole))
    assert run.journal["superseded"]["iterations"] == 0


@LATE
def test_a_save_signal_saves_once_after_all_steps(
    late, whole, flags, tmp_path, only_run, monkeypatch, losses
):
    be_late(monkeypatch, late)
    at_iteration(monkeypatch, 2, lambda: signal.raise_signal(signal.SIGUSR1))

    assert main(flags(tmp_path / "out", async_checkpoint=False, eval_interval=100)) == 0

    kinds = [(event, fields.get("iter")) for event, fields in events_in(tmp_path / "out")]
    at = kinds.index(("signal", 3 + late))
    assert kinds[at - 1 : at + 2] == [
        ("iter", 2 + late), ("signal", 3 + late), ("checkpoint", 3 + late),
    ]  # fmt: skip
    assert kinds.count(("signal", 3 + late)) == 1
    assert losses(only_run(tmp_path / "out")) == losses(only_run(whole))


def test_two_ranks_that_log_late_stop_at_the_same_iteration(
    flags, tmp_path, only_run, train_in_ranks
):
    def late_and_stopped(rank):
        Ranks.steps_late = 2
        if rank == 1:
            train_batch = Batches.train

            def batch_and_signal(self, iter, micro_step):
                if iter == 3:
                    os.kill(os.getpid(), signal.SIGTERM)
                return train_batch(self, iter, micro_step)

            Batches.train = batch_and_signal

    argv = flags(tmp_path, checkpoint_format="sharded")
    assert train_in_ranks(2, argv, late_and_stopped) == [143, 143]

    run = only_run(tmp_path)
    assert [row["iter"] for row in run.training_iterations] == list(range(6))
    assert [row["iter"] for row in run.checkpoints] == [6]


# Nobody waits


class Reads(TorchFunctionMode):
    """Records each read of a tensor's value, which would wait for the GPU."""

    ASKING = frozenset(
        (
            "item", "tolist", "numpy", "cpu", "__bool__", "__float__", "__int__", "__index__",
            "is_nonzero", "equal", "allclose", "nonzero",
        )
    )  # fmt: skip

    def __init__(self, seen):
        super().__init__()
        self.seen = seen

    def __torch_function__(self, function, types, args=(), kwargs=None):
        name = getattr(function, "__name__", "")
        if name in self.ASKING:
            self.seen.append(name)
        return function(*args, **(kwargs or {}))


class ReadsBelow(TorchDispatchMode):
    """The same for reads inside of torch."""

    def __init__(self, seen):
        super().__init__()
        self.seen = seen

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        if name in ("_local_scalar_dense", "is_nonzero", "equal", "nonzero"):
            self.seen.append(name)
        return function(*args, **(kwargs or {}))


@contextmanager
def counted(seen) -> Iterator[None]:
    with Reads(seen), ReadsBelow(seen):
        yield


@contextmanager
def forbidden_to_wait() -> Iterator[None]:
    """On CUDA: let operations that wait for the GPU raise."""
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)


def watch_the_loop(monkeypatch, watched):
    """Enter `watched()` in the loop, except while it logs, evaluates and saves."""
    within = []

    def outside(owner, name):
        function = getattr(owner, name)

        @functools.wraps(function)
        def call(*args, **more):
            for context in reversed(within):
                context.__exit__(None, None, None)
            paused = len(within)
            within.clear()
            try:
                return function(*args, **more)
            finally:
                for _ in range(paused):
                    enter()

        monkeypatch.setattr(owner, name, call)

    def enter():
        context = watched()
        context.__enter__()
        within.append(context)

    train = trainer.train.train

    def train_watched(run, interrupt):
        enter()
        try:
            train(run, interrupt)
        finally:
            within.pop().__exit__(None, None, None)

    monkeypatch.setattr(trainer.train, "train", train_watched)
    outside(Arriving, "values")
    outside(LossScale, "may_overflow")  # called for a step whose values have arrived
    outside(trainer.train, "evaluate")
    outside(Run, "save")


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_the_loop_reads_no_value_from_the_device(dtype, flags, tmp_path, monkeypatch, only_run):
    seen = []
    be_late(monkeypatch, 1)
    watch_the_loop(monkeypatch, lambda: counted(seen))

    assert main(flags(tmp_path, dtype=dtype)) == 0

    assert len(only_run(tmp_path).training_iterations) == 13
    assert seen == []


def test_muon_reads_one_value_per_step(flags, tmp_path, monkeypatch):
    seen = []
    be_late(monkeypatch, 1)
    watch_the_loop(monkeypatch, lambda: counted(seen))

    assert main(flags(tmp_path, optimizer="muon")) == 0

    assert seen.count("__bool__") == 13


def test_the_read_counter_counts_every_kind_of_read():
    value = torch.ones(())
    for ask in (bool, float, int, torch.Tensor.item, torch.Tensor.tolist, torch.Tensor.numpy):
        seen = []
        with counted(seen):
            ask(value)
        assert seen, ask


def test_a_step_is_logged_steps_late_later(flags, tmp_path, monkeypatch):
    values, train_batch = Arriving.values, Batches.train
    begun, behind = [0], []

    def train(self, iter, micro_step):
        begun[0] = iter
        return train_batch(self, iter, micro_step)

    delivered = itertools.count()

    def deliver(self):
        behind.append(begun[0] - next(delivered))
        return values(self)

    monkeypatch.setattr(Batches, "train", train)
    monkeypatch.setattr(Arriving, "values", deliver)
    be_late(monkeypatch, 2)
    main(flags(tmp_path, max_iters=8, eval_interval=100))

    # the evaluation at 8 and the end flush the pending steps
    assert behind == [2, 2, 2, 2, 2, 2, 1, 0, 0]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_on_cuda_the_loop_never_waits_for_the_gpu(dtype, flags, tmp_path, monkeypatch, only_run):
    watch_the_loop(monkeypatch, forbidden_to_wait)
    argv = flags(tmp_path, device="cuda", dtype=dtype, eval_interval=6)

    assert main(argv) == 0

    assert len(only_run(tmp_path).training_iterations) == 13


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_on_cuda_the_log_is_one_step_late_and_in_the_same_order(flags, tmp_path, monkeypatch):
    """Only the order of events: on CUDA an embedding's gradient is summed in any order."""
    shared = {"device": "cuda", "dtype": "float32", "async_checkpoint": False}
    assert Ranks(0, 1, torch.device("cuda", 0)).steps_late == 1
    main(flags(tmp_path / "late", **shared))
    be_late(monkeypatch, 0)
    main(flags(tmp_path / "now", **shared))

    late, now = (
        [(event, fields.get("iter")) for event, fields in events_in(tmp_path / name)]
        for name in ("late", "now")
    )
    assert late == now
