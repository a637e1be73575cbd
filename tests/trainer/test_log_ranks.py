"""`--log_ranks=True`: two real ranks, each with its own journal beside the run's."""

import json
import os
import signal
import threading
import time

import pytest

import eventlog
import trainer.training_logger
from tests.trainer.distributed.test_parallel import signal_at_iteration
from tools.cli import main as runs_main
from trainer.data.dataset import Batches
from trainer.train import main
from trainer.training_logger import TrainingLogger


def rank_logs(out_dir):
    (journal,) = out_dir.glob("*.jsonl")
    return {rank: eventlog.load_run(path) for rank, path in eventlog.find_ranks(journal).items()}


def before_each_batch(action):
    """Call `action(iter_num)` whenever training reads a batch."""
    train_batch = Batches.train

    def deed_and_batch(self, iter, micro_step):
        action(iter)
        return train_batch(self, iter, micro_step)

    Batches.train = deed_and_batch


def only_rank_1(harm):
    return lambda rank: before_each_batch(harm) if rank == 1 else None


def verdict(out_dir, capsys):
    capsys.readouterr()
    assert runs_main(["ranks", str(out_dir)]) == 0
    return capsys.readouterr().out


@pytest.fixture(scope="module")
def slow_run(flags, tmp_path_factory, train_in_ranks):
    """The folder of a run of two ranks; rank 1 sleeps in each step."""
    folder = tmp_path_factory.mktemp("slow")
    slow = only_rank_1(lambda iter: time.sleep(0.1))
    assert train_in_ranks(2, flags(folder, log_ranks=True, max_iters=6), slow) == [0, 0]
    return folder


def test_each_rank_logs_each_of_its_steps(slow_run, only_run):
    run, logs = only_run(slow_run), rank_logs(slow_run)

    for rank, log in logs.items():
        assert [row["iter"] for row in log.training_iterations] == list(range(7))
        assert all(0 < row["own_ms"] <= row["time_ms"] for row in log.training_iterations)
        assert log.status == "completed"
        session = run.journal["sessions"][-1]["s"]
        assert log.metadata == {"rank": rank, "world_size": 2, "session": session}
    assert sorted(logs) == [0, 1]


def test_runs_ranks_names_the_slow_rank(slow_run, capsys):
    report = verdict(slow_run, capsys)

    assert "straggler: rank 1:" in report
    assert "no rank died" in report


def test_runs_ranks_names_the_killed_rank(flags, tmp_path, capsys, train_in_ranks):
    def die(iter):
        if iter == 4:
            os.kill(os.getpid(), signal.SIGKILL)

    first, second = train_in_ranks(2, flags(tmp_path, log_ranks=True), only_rank_1(die))

    assert (first != 0, second) == (True, -signal.SIGKILL)
    report = verdict(tmp_path, capsys)
    assert "first to die: rank 1, after iteration 3, last seen" in report
    assert "without a close event" in report


def test_a_rank_that_waited_and_was_killed_later_is_not_named_as_the_first_to_die(
    flags, tmp_path, capsys, monkeypatch, train_in_ranks
):
    """As when a collective never returns, and the hanging rank is killed."""
    monkeypatch.setattr(trainer.training_logger, "ALIVE_EVERY_S", 0.05)
    monkeypatch.setattr("tools.commands.ranks.ALIVE_S", 0.2)

    def prepare(rank):
        def die(iter):
            if iter == 4 and rank == 1:
                os.kill(os.getpid(), signal.SIGKILL)
            if iter == 4:
                threading.Event().wait(1.0)
                os.kill(os.getpid(), signal.SIGKILL)

        before_each_batch(die)

    assert train_in_ranks(2, flags(tmp_path, log_ranks=True), prepare) == [-9, -9]

    assert "first to die: rank 1, after iteration 3" in verdict(tmp_path, capsys)


def test_after_a_signal_no_rank_is_reported_as_dead(flags, tmp_path, capsys, train_in_ranks):
    def prepare(rank):
        if rank == 1:
            signal_at_iteration(3)

    assert train_in_ranks(2, flags(tmp_path, log_ranks=True), prepare) == [143, 143]

    assert {log.status for log in rank_logs(tmp_path).values()} == {"interrupted"}
    assert "no rank died" in verdict(tmp_path, capsys)


def test_a_resumed_run_has_one_curve_per_rank(flags, tmp_path):
    shared = {"log_ranks": True, "lr_decay_iters": 12}
    assert main(flags(tmp_path, max_iters=6, **shared)) == 0

    assert main(flags(tmp_path, init_from="resume", **shared)) == 0

    (log,) = rank_logs(tmp_path).values()
    assert [row["iter"] for row in log.training_iterations] == list(range(13))
    assert len(log.journal["sessions"]) == 2


def test_rank_journals_change_no_loss(flags, tmp_path, only_run, losses):
    for name, expected in (("with", True), ("without", False)):
        assert main(flags(tmp_path / name, log_ranks=expected)) == 0

    assert losses(only_run(tmp_path / "with")) == losses(only_run(tmp_path / "without"))
    assert list(rank_logs(tmp_path / "with")) == [0]
    assert rank_logs(tmp_path / "without") == {}


def test_a_rank_journal_is_not_listed_as_a_run(flags, tmp_path, capsys):
    assert main(flags(tmp_path, log_ranks=True)) == 0
    (beside,) = tmp_path.glob("*.rank0.journal")
    capsys.readouterr()

    assert runs_main(["ls", "--json", str(tmp_path)]) == 0

    (row,) = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert row["run"] == beside.name.removesuffix(".rank0.journal")


def test_a_rank_journal_that_cannot_be_opened_does_not_stop_the_training(tmp_path, capsys):
    logger = TrainingLogger(tmp_path, rank=3)

    logger.open_rank(tmp_path / "gone.jsonl", "a1b2c3d4", world_size=4, from_iter=None)
    logger.log_rank(0, 1.0, 2.0)
    logger.close()

    assert "rank 3: journal not opened: " in capsys.readouterr().err
