"""Two real ranks over gloo: one run, one log, and the same numbers as one rank."""

import os
import signal

import pytest
import torch

from trainer.data.dataset import Batches
from trainer.distributed.ranks import Ranks, choose_device, choose_dtype, micro_steps
from trainer.model import gpt
from trainer.train import main
from trainer.training_logger import TrainingLogger

ALONE = Ranks(rank=0, world_size=1, device=torch.device("cpu"))


@pytest.mark.parametrize("world_size", [pytest.param(2, marks=pytest.mark.slow), 4])
def test_any_number_of_ranks_has_the_losses_of_one(
    world_size, flags, tmp_path, only_run, train_in_ranks
):
    shared = {"gradient_accumulation_steps": 4, "eval_iters": 5}
    main(flags(tmp_path / "one", **shared))

    assert train_in_ranks(world_size, flags(tmp_path / "many", **shared)) == [0] * world_size

    one, many = only_run(tmp_path / "one"), only_run(tmp_path / "many")
    assert many.metadata["world_size"] == world_size
    for row, other in zip(one.training_iterations, many.training_iterations, strict=True):
        assert row["loss"] == pytest.approx(other["loss"], abs=1e-5)
        assert row["grad_norm"] == pytest.approx(other["grad_norm"], abs=1e-5)
    for row, other in zip(one.eval_steps, many.eval_steps, strict=True):
        assert row["val_loss"] == pytest.approx(other["val_loss"], abs=1e-5)


def test_a_run_of_two_ranks_resumes_with_one(flags, tmp_path, only_run, train_in_ranks):
    main(flags(tmp_path / "one"))
    train_in_ranks(2, flags(tmp_path / "two", max_iters=6, lr_decay_iters=12))

    assert main(flags(tmp_path / "two", init_from="resume")) == 0

    one, two = only_run(tmp_path / "one"), only_run(tmp_path / "two")
    for row, other in zip(one.training_iterations, two.training_iterations, strict=True):
        assert row["loss"] == pytest.approx(other["loss"], abs=1e-5)


def test_only_rank_0_writes_files(flags, tmp_path, train_in_ranks):
    train_in_ranks(2, flags(tmp_path))

    folder, *files = sorted(path.suffix for path in tmp_path.iterdir())
    assert (folder, files) == ("", [".json", ".jsonl", ".pt", ".pt"])


def signal_at_iteration(iter_num):
    """Send SIGTERM to this process during that iteration."""
    train_batch = Batches.train

    def batch_and_signal(self, iter, micro_step):
        if iter == iter_num:
            os.kill(os.getpid(), signal.SIGTERM)
        return train_batch(self, iter, micro_step)

    Batches.train = batch_and_signal


def test_a_signal_to_one_rank_stops_all_at_the_same_iteration(
    flags, tmp_path, only_run, train_in_ranks
):
    def only_the_second(rank):
        if rank == 1:
            signal_at_iteration(4)

    assert train_in_ranks(2, flags(tmp_path), only_the_second) == [143, 143]

    run = only_run(tmp_path)
    assert (run.journal["status"], run.journal["reason"]) == ("interrupted", "SIGTERM")
    assert run.training_iterations[-1]["iter"] == 4
    assert [row["iter"] for row in run.checkpoints] == [5]


def test_no_rank_exits_before_the_log_is_closed(flags, tmp_path, train_in_ranks):
    """torchrun kills a rank that is still saving as soon as another one exits with 143."""

    def stop_and_look_back(rank):
        if rank == 1:
            signal_at_iteration(4)
            close = Ranks.close

            def close_and_look(self):
                close(self)
                (path,) = tmp_path.glob("*.json")
                if '"interrupted"' not in path.read_text():
                    os._exit(7)

            Ranks.close = close_and_look

    assert train_in_ranks(2, flags(tmp_path), stop_and_look_back) == [143, 143]


def test_a_nan_on_one_rank_stops_all_before_the_step(flags, tmp_path, only_run, train_in_ranks):
    def harm(rank):
        if rank == 1:
            cross_entropy = gpt.F.cross_entropy
            gpt.F.cross_entropy = lambda *a, **k: cross_entropy(*a, **k) * torch.nan

    assert train_in_ranks(2, flags(tmp_path, eval_interval=100), harm) == [1, 1]

    run = only_run(tmp_path)
    assert run.journal["status"] == "failed"
    assert run.training_iterations[-1]["nonfinite"]["loss"] == "nan"
    assert len(run.training_iterations) == 1


def test_a_rank_that_dies_leaves_a_log_that_says_it_failed(
    flags, tmp_path, only_run, train_in_ranks
):
    def die_at_four(rank):
        if rank == 1:
            log_iter = TrainingLogger.log_iter

            def log_or_die(self, iter, *args, **more):
                if iter == 4:
                    os.kill(os.getpid(), signal.SIGKILL)
                log_iter(self, iter, *args, **more)

            TrainingLogger.log_iter = log_or_die

    first, second = train_in_ranks(2, flags(tmp_path), die_at_four)

    assert second == -signal.SIGKILL
    assert first != 0
    assert only_run(tmp_path).journal["status"] == "failed"


def test_an_error_on_rank_0_ends_all_ranks(flags, tmp_path, train_in_ranks):
    assert train_in_ranks(2, flags(tmp_path, input="nowhere")) == [1, 1]
    assert train_in_ranks(2, flags(tmp_path, gradient_accumulation_steps=3)) == [1, 1]


def test_an_indivisible_batch_is_an_error_that_suggests_a_divisible_one():
    assert micro_steps(40, 8) == 5
    with pytest.raises(ValueError, match=r"must be a multiple of their number, 3; try 42"):
        micro_steps(40, 3)


def test_with_one_rank_collectives_are_local():
    assert ALONE.sum(torch.tensor(1.5), 2.0) == [1.5, 2.0]
    assert ALONE.on_main(lambda: "done") == "done"


def test_an_unavailable_device_is_an_error_that_names_it():
    with pytest.raises(ValueError, match="--device=gpu: must be auto, cpu, cuda or cuda:N"):
        choose_device("gpu", local_rank=0)
    with pytest.raises(ValueError, match="--device=cuda:99: torch finds"):
        choose_device("cuda:99", local_rank=0)


def test_a_cpu_computes_in_float32_by_default():
    assert choose_dtype("auto", torch.device("cpu")) == torch.float32
    assert choose_dtype("bfloat16", torch.device("cpu")) == torch.bfloat16
