"""A NaN or infinite loss or gradient on one of two ranks: what each policy does.

The default suite tries each phase and each policy once; all of them with both optimizers:

    pytest -m slow -n 0 tests/trainer/test_nonfinite.py
"""

import hashlib
import json
import signal
from itertools import product

import pytest
import torch

import eventlog
import trainer.train
from trainer.checkpoint import read
from trainer.data.dataset import Batches
from trainer.distributed.parallel import local
from trainer.model import gpt
from trainer.optim.optimizer import LossScale, Optimizer
from trainer.train import main

BAD = 8  # the iteration of the fault; the checkpoint before it is of iteration 6
SHARED = {"max_iters": 12, "eval_interval": 3, "eval_iters": 1, "gradient_accumulation_steps": 4}
PHASES = {"ddp": {}, "zero1": {"use_zero1": True}, "fsdp": {"use_fsdp": True}}
QUICK = {("stop", "zero1", "adamw"), ("skip", "fsdp", "adamw"), ("rewind", "ddp", "adamw")}
CASES = [
    pytest.param(*case, marks=() if case in QUICK else pytest.mark.slow, id="-".join(case))
    for case in product(("stop", "skip", "rewind"), PHASES, ("adamw", "muon"))
]


def nan_loss(iter_num=BAD, micro_step=1, times=1):
    """In this process: make the loss of that micro-batch NaN, the first `times` times."""
    train_batch, eval_batch, cross_entropy = Batches.train, Batches.eval, gpt.F.cross_entropy
    now, left = [None], [times]

    def train(self, iter, micro):
        now[0] = (iter, micro)
        return train_batch(self, iter, micro)

    def eval(self, split, index):
        now[0] = None
        return eval_batch(self, split, index)

    def loss(*args, **more):
        value = cross_entropy(*args, **more)
        if now[0] != (iter_num, micro_step) or left[0] == 0:
            return value
        left[0] -= 1
        return value * torch.nan

    Batches.train, Batches.eval, gpt.F.cross_entropy = train, eval, loss


def bad_gradient(iter_num=BAD, index=3, value=torch.nan, until=None):
    """In this process: put `value` into a gradient from that iteration on, up to `until`."""
    train_batch, unscale = Batches.train, LossScale.unscale_
    now = [0]

    def train(self, iter, micro):
        now[0] = iter
        return train_batch(self, iter, micro)

    def unscale_and_spoil(self, gradients):
        unscale(self, gradients)
        if iter_num <= now[0] < (until or iter_num + 1):
            gradients[index].view(-1)[0] = value

    Batches.train, LossScale.unscale_ = train, unscale_and_spoil


def watch_weights(rank, folder):
    """In this process: write digests of the weights before each iteration and at the end."""
    set_up, digests = trainer.train.set_up, {}

    def set_up_and_watch(config, ranks):
        run, train_batch = set_up(config, ranks), Batches.train

        def note(when):
            held = hashlib.sha256()
            for tensor in (*run.model.parameters(), *run.optimizer.state().values()):
                held.update(local(tensor.detach()).numpy().tobytes())
            digests[when] = held.hexdigest()

        def train(self, iter, micro_step):
            if micro_step == 0:
                note(iter)
            return train_batch(self, iter, micro_step)

        def close(*args, **more):
            note("end")
            (folder / f"rank{rank}").write_text(json.dumps(digests))
            ends(*args, **more)

        Batches.train = train
        ends, run.logger.close = run.logger.close, close
        return run

    trainer.train.set_up = set_up_and_watch


def events(out_dir, *kinds):
    """The fields of the events of those kinds, with the kind as `event`."""
    (journal,) = out_dir.glob("*.jsonl")
    return [{"event": r.event, **r.fields} for r in eventlog.scan(journal) if r.event in kinds]


@pytest.fixture(scope="module")
def straight(flags, tmp_path_factory, train_in_ranks):
    """`straight(**flags)`: the folder of a run of two ranks without harm."""
    folders = {}

    def folder(**more):
        key = json.dumps(more)
        if key not in folders:
            folders[key] = tmp_path_factory.mktemp("straight")
            assert train_in_ranks(2, flags(folders[key], **SHARED, **more)) == [0, 0]
        return folders[key]

    return folder


# The three policies


@pytest.mark.parametrize(("policy", "phase", "optimizer"), CASES)
def test_a_nan_in_one_micro_batch_of_one_rank(
    policy, phase, optimizer, straight, flags, tmp_path, only_run, train_in_ranks, losses
):
    def inject(rank):
        watch_weights(rank, tmp_path)
        if rank == 1:
            nan_loss()

    out, how = tmp_path / "out", {**PHASES[phase], "optimizer": optimizer}
    statuses = train_in_ranks(2, flags(out, **SHARED, **how, nonfinite=policy), inject)

    run, whole = only_run(out), losses(only_run(straight(**how)))
    (event,) = events(out, "nonfinite")
    assert (event["iter"], event["policy"], event["loss"]) == (BAD, policy, None)
    (guilty,) = [one for one in event["where"] if one["micro_steps"]]
    assert (guilty["rank"], guilty["micro_steps"]) == (1, [1])
    assert guilty["n_parameters"] > 0
    assert guilty["parameters"][0] == "transformer.wte.weight"

    held = [json.loads((tmp_path / f"rank{rank}").read_text()) for rank in (0, 1)]
    match policy:
        case "stop":
            assert statuses == [1, 1]
            assert all(digests[str(BAD)] == digests["end"] for digests in held)
            assert run.journal["status"] == "failed"
            assert f"at iteration {BAD}" in run.journal["reason"]
            assert losses(run)[:-1] == whole[:BAD]
            assert run.training_iterations[-1]["skipped"] is True
            assert [row["iter"] for row in run.checkpoints] == [3, 6]
        case "skip":
            assert statuses == [0, 0]
            assert all(digests[str(BAD)] == digests[str(BAD + 1)] for digests in held)
            assert all(digests[str(BAD + 1)] != digests[str(BAD + 2)] for digests in held)
            assert losses(run)[:BAD] == whole[:BAD]
            assert [r["iter"] for r in run.training_iterations if "skipped" in r] == [BAD]
            assert run.training_iterations[-1]["loss"] < whole[0][1]
        case "rewind":
            assert statuses == [0, 0]
            (back,) = events(out, "rewind")
            assert (back["to_iter"], run.journal["superseded"]["iterations"]) == (6, 3)
            assert losses(run) == whole
            assert [row["iter"] for row in run.checkpoints] == [3, 6, 9, 12]


@pytest.mark.parametrize(
    "phase",
    [
        pytest.param("ddp", marks=pytest.mark.slow),
        "zero1",
        pytest.param("fsdp", marks=pytest.mark.slow),
    ],
)
def test_a_nan_in_one_gradient_names_the_parameter_and_changes_no_weight(
    phase, straight, flags, tmp_path, only_run, train_in_ranks, losses
):
    def inject(rank):
        watch_weights(rank, tmp_path)
        if rank == 1:
            bad_gradient()

    out = tmp_path / "out"
    argv = flags(out, **SHARED, **PHASES[phase], nonfinite="skip")
    assert train_in_ranks(2, argv, inject) == [0, 0]

    (event,) = events(out, "nonfinite")
    assert event["where"] == [
        {
            "rank": 1,
            "micro_steps": [],
            "n_parameters": 1,
            "parameters": ["transformer.h.0.attn.c_attn.weight"],
        }
    ]
    assert event["loss"] == pytest.approx(losses(only_run(straight(**PHASES[phase])))[BAD][1])
    for rank in (0, 1):
        digests = json.loads((tmp_path / f"rank{rank}").read_text())
        assert digests[str(BAD)] == digests[str(BAD + 1)]


def test_it_rewinds_to_a_sharded_checkpoint(
    straight, flags, tmp_path, only_run, train_in_ranks, losses
):
    def inject(rank):
        if rank == 1:
            nan_loss()

    how = {**PHASES["fsdp"], "checkpoint_format": "sharded"}
    assert train_in_ranks(2, flags(tmp_path, **SHARED, **how, nonfinite="rewind"), inject) == [0, 0]

    assert losses(only_run(tmp_path)) == losses(only_run(straight(**PHASES["fsdp"])))
    assert [event["to_iter"] for event in events(tmp_path, "rewind")] == [6]


def test_a_second_nan_at_the_same_iteration_stops_and_says_so(
    flags, tmp_path, only_run, train_in_ranks
):
    def inject(rank):
        if rank == 1:
            nan_loss(times=2)

    assert train_in_ranks(2, flags(tmp_path, **SHARED, nonfinite="rewind"), inject) == [1, 1]

    run = only_run(tmp_path)
    assert [event["event"] for event in events(tmp_path, "nonfinite", "rewind")] == [
        "nonfinite", "rewind", "nonfinite",
    ]  # fmt: skip
    assert "again after a rewind; --nonfinite=skip" in run.journal["reason"]
    assert run.journal["superseded"]["iterations"] == 3
    assert run.training_iterations[-1]["iter"] == BAD


# What there is to go back to


@pytest.fixture
def undo_faults(monkeypatch):
    """Undo the faults injected into this process after the test."""
    for owner, name in ((Batches, "train"), (Batches, "eval"), (LossScale, "unscale_")):
        monkeypatch.setattr(owner, name, getattr(owner, name))
    monkeypatch.setattr(gpt.F, "cross_entropy", gpt.F.cross_entropy)


@pytest.mark.usefixtures("undo_faults")
@pytest.mark.parametrize("save_log_to_json", [True, False])
def test_without_a_checkpoint_of_this_run_it_stops_and_says_so(
    save_log_to_json, flags, tmp_path, capfd
):
    """The checkpoint in the folder belongs to another run."""
    main(flags(tmp_path, seed=7, max_iters=1, wandb_run_name="older"))
    nan_loss(iter_num=3)

    argv = flags(tmp_path, nonfinite="rewind", save_log_to_json=save_log_to_json)
    assert main(argv) == 1

    assert "there is no checkpoint to rewind to" in capfd.readouterr().out


@pytest.mark.usefixtures("undo_faults")
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_rewinding_to_iteration_0_supersedes_all_steps(
    optimizer, flags, tmp_path, only_run, losses, monkeypatch
):
    main(flags(tmp_path / "whole", optimizer=optimizer))
    with monkeypatch.context() as patch:
        eval_batch = Batches.eval

        def eval_and_signal(self, split, index):
            signal.raise_signal(signal.SIGTERM)
            return eval_batch(self, split, index)

        patch.setattr(Batches, "eval", eval_and_signal)
        assert main(flags(tmp_path / "out", optimizer=optimizer)) == 143
    nan_loss(iter_num=3)

    argv = flags(tmp_path / "out", optimizer=optimizer, init_from="resume", nonfinite="rewind")
    assert main(argv) == 0

    assert [event["to_iter"] for event in events(tmp_path / "out", "rewind")] == [0]
    assert losses(only_run(tmp_path / "out")) == losses(only_run(tmp_path / "whole"))


def test_weights_with_a_nan_val_loss_replace_no_checkpoint(flags, tmp_path, only_run, monkeypatch):
    vals = iter([3.0, 2.0, float("nan"), 1.9])
    monkeypatch.setattr("trainer.train.evaluate", lambda run, interrupt: (1.0, next(vals)))
    main(flags(tmp_path, max_iters=18))

    assert [row["iter"] for row in only_run(tmp_path).checkpoints] == [6, 18]


# float16


@pytest.mark.usefixtures("undo_faults")
def test_a_float16_overflow_is_skipped_and_halves_the_scale(flags, tmp_path, only_run):
    bad_gradient(iter_num=8, value=torch.inf)

    assert main(flags(tmp_path, dtype="float16", nonfinite="stop")) == 0

    run = only_run(tmp_path)
    skipped = [row["iter"] for row in run.training_iterations if "skipped" in row]
    assert 8 in skipped
    assert "nonfinite" not in run.journal["events"]
    scaler = read.load(tmp_path / "ckpt.pt")["scaler"]
    assert scaler["scale"] == 2.0 ** (16 - len([i for i in skipped if i < 12]))


@pytest.mark.usefixtures("undo_faults")
def test_a_nan_loss_is_not_a_float16_overflow(flags, tmp_path, only_run):
    nan_loss(iter_num=8)

    assert main(flags(tmp_path, dtype="float16")) == 1

    assert only_run(tmp_path).journal["events"]["nonfinite"] == 1


@pytest.mark.usefixtures("undo_faults")
def test_a_gradient_that_is_nan_at_any_scale_stops_the_run(flags, tmp_path, only_run):
    """Otherwise the run would continue without making any step."""
    bad_gradient(iter_num=2, value=torch.nan, until=1000)

    assert main(flags(tmp_path, dtype="float16", max_iters=100, eval_interval=100)) == 1

    run = only_run(tmp_path)
    assert run.journal["events"]["nonfinite"] == 1
    assert len(run.training_iterations) == 2 + 17  # from 2^16 below 1


def test_a_skipped_step_changes_neither_weights_nor_optimizer_state():
    shapes = {"h.0.w": (4, 4), "b": (4,)}
    parameters = {name: torch.nn.Parameter(torch.ones(shape)) for name, shape in shapes.items()}
    for name in ("adamw", "muon"):
        optimizer = Optimizer(
            parameters, name=name, learning_rate=0.1, weight_decay=0.1, betas=(0.9, 0.95)
        )
        for parameter in parameters.values():
            parameter.grad = torch.randn_like(parameter)
        optimizer.step(torch.tensor(True))
        before = [t.detach().clone() for t in (*parameters.values(), *optimizer.state().values())]
        for parameter in parameters.values():
            parameter.grad = torch.full_like(parameter, torch.nan)

        optimizer.step(torch.tensor(False))

        after = (*parameters.values(), *optimizer.state().values())
        assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
