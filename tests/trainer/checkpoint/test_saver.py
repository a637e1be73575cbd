"""Asynchronous checkpoints: an event is logged only when its file is durable."""

import os
import signal
import threading
import time
from types import SimpleNamespace

import pytest
import torch

import eventlog
from trainer.checkpoint import layout, read, saver, verify, write
from trainer.checkpoint.run_files import runs_in
from trainer.checkpoint.saver import Saver
from trainer.data.dataset import Batches
from trainer.distributed.ranks import Ranks
from trainer.storage.files import sha256_of
from trainer.train import main
from trainer.training_logger import TrainingLogger

ALONE = Ranks(rank=0, world_size=1, device=torch.device("cpu"))
PATIENCE_S = 30


def state_at(iter_num):
    """The smallest state that can be saved."""
    weights = {"w": torch.full((4,), float(iter_num))}
    return {
        "model": weights, "optimizer": {}, "tied": {}, "iter_num": iter_num, "journal": None,
    }  # fmt: skip


def story(out_dir):
    """(event, iteration) of the events in the folder's only journal."""
    (journal,) = out_dir.glob("*.jsonl")
    return [
        (r.event, r.fields["iter"])
        for r in eventlog.scan(journal)
        if r.event in ("iter", "checkpoint")
    ]


def run_in(out_dir):
    """The files of the only run in a folder."""
    (run,) = runs_in(out_dir)
    return run


@pytest.fixture
def slow_disk(monkeypatch):
    """`slow_disk(9)`: each save waits until the loop has reached iteration 9."""
    save_full, train_batch = write.save_full, Batches.train
    reached, waited = threading.Event(), []

    def until(iter_num):
        def train(self, iter, micro_step):
            if iter == iter_num:
                reached.set()
            return train_batch(self, iter, micro_step)

        def save(*args, **more):
            waited.append(reached.wait(PATIENCE_S))
            return save_full(*args, **more)

        monkeypatch.setattr(Batches, "train", train)
        monkeypatch.setattr(write, "save_full", save)
        return waited

    return until


def test_the_loop_continues_while_the_disk_is_slow_and_the_event_follows_the_file(
    flags, tmp_path, slow_disk
):
    waited = slow_disk(9)

    assert main(flags(tmp_path)) == 0

    events = story(tmp_path)
    assert waited == [True, True]
    assert events.index(("iter", 8)) < events.index(("checkpoint", 6))
    assert ("checkpoint", 12) in events


def test_at_each_checkpoint_event_the_file_is_complete(flags, tmp_path, monkeypatch):
    log_checkpoint, agreed = TrainingLogger.log_checkpoint, []

    def look_and_log(self, iter, path, *args, **more):
        there = read.load(path)["iter_num"], sha256_of(path)
        agreed.append(there == (iter, more["sha256"]))
        log_checkpoint(self, iter, path, *args, **more)

    monkeypatch.setattr(TrainingLogger, "log_checkpoint", look_and_log)
    assert main(flags(tmp_path, eval_interval=2)) == 0

    assert agreed == [True] * 6


def test_one_checkpoint_is_written_at_a_time(flags, tmp_path, monkeypatch):
    """Even if each takes longer than the iterations between them."""
    save_full, at_once, most = write.save_full, [0], []

    def save(*args, **more):
        at_once[0] += 1
        most.append(at_once[0])
        time.sleep(0.1)
        saved = save_full(*args, **more)
        at_once[0] -= 1
        return saved

    monkeypatch.setattr(write, "save_full", save)
    assert main(flags(tmp_path, eval_interval=1, max_iters=4, keep_checkpoints=4)) == 0

    assert most == [1] * 4
    assert [i for event, i in story(tmp_path) if event == "checkpoint"] == [1, 2, 3, 4]


def test_a_checkpoint_has_the_state_at_the_time_of_the_call(flags, tmp_path, slow_disk):
    """The file has the weights of iteration 6, although it is written three steps later."""
    main(flags(tmp_path / "plain", keep_checkpoints=2, async_checkpoint=False))
    slow_disk(9)

    main(flags(tmp_path / "slow", keep_checkpoints=2))

    plain, slow = (
        read.load(run_in(tmp_path / name).folder / "ckpt.00000006.pt") for name in ("plain", "slow")
    )
    for kind in ("model", "optimizer"):
        assert plain[kind].keys() == slow[kind].keys()
        assert all(torch.equal(plain[kind][name], slow[kind][name]) for name in plain[kind])


@pytest.mark.parametrize(("is_async", "stall_ms"), [(True, 500.0), (False, 2500.0)])
def test_time_ms_is_the_wait_of_the_loop_and_save_ms_the_whole_save(
    is_async, stall_ms, tmp_path, monkeypatch
):
    """With a fake clock: half a second for the copy, two seconds for the disk."""
    now, save_full = [10.5], write.save_full

    def save(*args, **more):
        now[0] += 2.0
        return save_full(*args, **more)

    monkeypatch.setattr(saver, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    monkeypatch.setattr(write, "save_full", save)
    one = Saver(tmp_path, ALONE, is_async=is_async)
    one.start(state_at(3), val_loss=None, is_best=False, started=10.0)
    outcome = one.outcome(wait=True)

    assert (outcome.stall_ms, outcome.save_ms) == (stall_ms, 2000.0)
    assert one.outcome() is None


@pytest.mark.parametrize("how", ["write", "begin"])
def test_a_full_disk_on_one_rank_costs_a_checkpoint_not_the_run(
    how, flags, tmp_path, only_run, train_in_ranks, capfd
):
    """Rank 1 while it writes its part, or rank 0 before the write."""

    def refuse_once(rank):
        left = [1]

        def refusing(function):
            def call(*args, **more):
                if left[0]:
                    left[0] -= 1
                    raise OSError(28, "No space left on device")
                return function(*args, **more)

            return call

        if rank == 1 and how == "write":
            writer = write.FileSystemWriter
            writer.write_data = refusing(writer.write_data)
        if rank == 0 and how == "begin":
            layout.remove_partial = refusing(layout.remove_partial)

    argv = flags(tmp_path, checkpoint_format="sharded")
    assert train_in_ranks(2, argv, refuse_once) == [0, 0]

    run = only_run(tmp_path)
    assert [row["iter"] for row in run.checkpoints] == [12]
    assert run.journal["events"]["error"] == 1
    assert "the checkpoint of iteration 6 was not saved" in capfd.readouterr().err
    assert read.load(verify.newest_intact(run_in(tmp_path)).path)["iter_num"] == 12


# Killed while the thread writes


TWICE = {"max_iters": 18, "keep_checkpoints": 2}


@pytest.fixture(scope="module")
def whole(flags, tmp_path_factory, train_in_ranks):
    """The folder of an uninterrupted run of two ranks."""
    out_dir = tmp_path_factory.mktemp("whole")
    assert train_in_ranks(2, flags(out_dir, **TWICE)) == [0, 0]
    return out_dir


@pytest.mark.parametrize(
    ("victim", "format"),
    [(0, "full"), pytest.param(0, "sharded", marks=pytest.mark.slow), (1, "sharded")],
)
def test_killed_while_saving_it_resumes_from_the_previous_checkpoint(
    victim, format, whole, flags, tmp_path, only_run, train_in_ranks, losses, capfd
):
    """In the middle of the second file, some iterations later; no rank hangs."""
    shared = {**TWICE, "checkpoint_format": format}

    def die_in_the_second(rank):
        if rank == victim:
            torch_save, begin = torch.save, Saver.start
            n_saves = [0]

            def count(self, *args, **more):
                n_saves[0] += 1
                begin(self, *args, **more)

            def half(state, file, *args, **more):
                if n_saves[0] < 2:
                    return torch_save(state, file, *args, **more)
                if hasattr(file, "write"):
                    file.write(b"half a file")
                    file.flush()
                os.kill(os.getpid(), signal.SIGKILL)

            Saver.start, torch.save = count, half

    out = tmp_path / "out"
    statuses = train_in_ranks(2, flags(out, **shared), die_in_the_second)
    assert statuses[victim] == -signal.SIGKILL
    assert statuses[1 - victim] not in (0, None)
    found = verify.newest_intact(run_in(out))
    assert (read.load(found.path)["iter_num"], found.warnings) == (6, [])

    assert train_in_ranks(2, flags(out, **shared, init_from="auto")) == [0, 0]

    assert losses(only_run(out)) == losses(only_run(whole))
    assert "skipped" not in capfd.readouterr().err
    assert not list(out.rglob(".ckpt.*.partial"))


# Journal and checkpoint


def test_a_checkpoint_agrees_with_an_event_logged_iterations_later(flags, tmp_path, slow_disk):
    slow_disk(9)
    main(flags(tmp_path, keep_checkpoints=3, max_iters=18))
    (journal,) = tmp_path.glob("*.jsonl")
    run = run_in(tmp_path)
    states = {path: read.load(path) for path in layout.numbered(run.folder, ".pt")}

    assert [state["iter_num"] for state in states.values()] == [6, 12, 18]
    for path, state in states.items():
        assert verify.verify(run, path, state) is None

    for path, state in states.items():
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.unlink()  # the latest is the same file under another name
        path.write_bytes(data)
        with pytest.raises(
            ValueError, match=rf"at iteration {state['iter_num']} in .*{journal.name}"
        ):
            verify.verify(run, path, state)


def test_killed_between_file_and_event_the_file_is_used(flags, tmp_path, capfd):
    def die_before_the_event():
        log_checkpoint = TrainingLogger.log_checkpoint

        def log_or_die(self, iter, *args, **more):
            if iter == 12:
                os.kill(os.getpid(), signal.SIGKILL)
            log_checkpoint(self, iter, *args, **more)

        TrainingLogger.log_checkpoint = log_or_die

    child = os.fork()
    if child == 0:
        try:
            die_before_the_event()
            main(flags(tmp_path, max_iters=18))
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL

    assert main(flags(tmp_path, max_iters=18, init_from="auto")) == 0

    output = capfd.readouterr()
    assert "at iteration 12" in output.out
    assert "skipped" not in output.err
