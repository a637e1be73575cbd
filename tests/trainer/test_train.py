"""Complete runs: their numbers, how they end, and that they resume exactly."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import weakref
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from eventlog import load_run
from tests.durability.filesystems import tmpfs
from trainer.checkpoint import read, write
from trainer.config import TrainConfig
from trainer.data.dataset import Batches
from trainer.model import gpt
from trainer.optim.optimizer import Optimizer
from trainer.setup import new_mfu
from trainer.train import main
from trainer.training_logger import TrainingLogger

TRAINER = Path(__file__).parents[2] / "trainer"


def losses(run):
    return [
        (row["iter"], row["loss"], row["grad_norm"], row["lr"]) for row in run.training_iterations
    ]


def evals(run):
    return [(row["iter"], row["train_loss"], row["val_loss"]) for row in run.eval_steps]


@pytest.fixture(scope="module")
def straight(flags, tmp_path_factory):
    """The run that was never interrupted; (folder, exit status)."""
    out_dir = tmp_path_factory.mktemp("straight")
    return out_dir, main(flags(out_dir))


def do_at_iteration(monkeypatch, iter_num, action):
    """Call `action()` right after the event of that iteration was logged."""
    log_iter = TrainingLogger.log_iter

    def log_and_do(self, iter, *args, **more):
        log_iter(self, iter, *args, **more)
        if iter == iter_num:
            action()

    monkeypatch.setattr(TrainingLogger, "log_iter", log_and_do)


# What a run leaves


def test_a_run_makes_one_step_more_than_max_iters_and_ends_with_an_eval(straight, only_run):
    out_dir, status = straight

    run = only_run(out_dir)
    assert status == 0
    assert [row["iter"] for row in run.training_iterations] == list(range(13))
    assert [row["iter"] for row in run.eval_steps] == [0, 6, 12]
    assert [row["iter"] for row in run.checkpoints] == [6, 12]


def test_the_run_json_has_the_guides_keys_and_fields(straight):
    (path,) = straight[0].glob("*.json")
    run = json.loads(path.read_text())

    assert list(run)[:9] == [
        "run_name", "start_time", "end_time", "config", "training_iterations", "eval_steps",
        "checkpoints", "metadata", "summary",
    ]  # fmt: skip
    assert {"learning_rate", "batch_size", "max_iters", "n_layer", "n_head", "n_embd"} <= set(
        run["config"]
    )
    assert list(run["training_iterations"][0])[:4] == ["iter", "loss", "time_ms", "mfu"]
    assert {"lr", "grad_norm", "tokens_per_s"} <= set(run["training_iterations"][0])
    assert {"iter", "train_loss", "val_loss", "lr", "timestamp"} <= set(run["eval_steps"][0])
    assert {"iter", "val_loss", "path", "timestamp"} <= set(run["checkpoints"][0])
    assert list(run["metadata"])[:5] == ["world_size", "device", "dtype", "compile", "use_zero1"]
    assert run["metadata"]["use_fsdp"] is run["metadata"]["use_triton"] is False
    assert run["summary"]["total_iterations"] == 13


def test_the_mfu_is_unknown_for_the_first_five_iterations(straight, only_run):
    mfus = [row["mfu"] for row in only_run(straight[0]).training_iterations]

    assert mfus[:5] == [-100.0] * 5
    assert all(mfu > 0 for mfu in mfus[5:])


def test_the_checkpoint_holds_what_the_run_was(straight):
    saved = torch.load(straight[0] / "ckpt.pt", weights_only=True)

    assert saved["iter_num"] == 12
    assert saved["config"]["n_embd"] == 16
    assert saved["journal"]["file"].endswith(".jsonl")
    assert saved["tokenizer"]["name"] == saved["dataset"]["tokenizer"] == "bytes"


def test_the_loss_is_the_mean_over_micro_batches(flags, tmp_path, only_run):
    """Eight rows in one micro-batch or in four: the same loss except for rounding."""
    main(flags(tmp_path / "one", dropout=0, batch_size=8, gradient_accumulation_steps=1))
    main(flags(tmp_path / "four", dropout=0, batch_size=2, gradient_accumulation_steps=4))

    one, four = only_run(tmp_path / "one"), only_run(tmp_path / "four")
    for row, other in zip(losses(one), losses(four), strict=True):
        assert row == pytest.approx(other, rel=1e-5)


def test_training_lowers_the_loss(flags, tmp_path, only_run):
    main(flags(tmp_path, max_iters=40, learning_rate=1e-2))

    first, *_, last = evals(only_run(tmp_path))
    assert last[2] < first[2] - 1


def test_other_eval_and_log_intervals_change_no_training_loss(flags, tmp_path, straight, only_run):
    main(flags(tmp_path, eval_interval=5, log_interval=1, eval_iters=1))

    assert losses(only_run(tmp_path)) == losses(only_run(straight[0]))


def only_checkpoints(out_dir):
    """Whether a folder holds one run's checkpoints, their links and nothing else."""
    best, latest, folder = sorted(out_dir.iterdir())
    names = [path.name for path in (best, latest, *sorted(folder.iterdir()))]
    return names == ["best.pt", "ckpt.pt"] * 2 and latest.samefile(folder / "ckpt.pt")


def test_without_a_log_only_checkpoints_are_written(flags, tmp_path, capsys):
    assert main(flags(tmp_path, save_log_to_json=False)) == 0

    assert only_checkpoints(tmp_path)
    assert "sample.py" in capsys.readouterr().out.splitlines()[-1]


def test_eval_only_evaluates_once_and_makes_no_step(flags, tmp_path, only_run):
    assert main(flags(tmp_path, eval_only=True)) == 0

    run = only_run(tmp_path)
    assert len(run.eval_steps) == 1
    assert len(run.training_iterations) == 0


def test_the_gradients_of_a_step_are_freed_before_the_next_forward_pass(
    flags, tmp_path, monkeypatch
):
    step, train, gradients, alive = Optimizer.step, Batches.train, [], []

    def step_and_remember(self, *args):
        gradients[:] = [weakref.ref(p.grad) for p in self.parameters.values()]
        return step(self, *args)

    def count_and_train(self, *args):
        alive.append(sum(gradient() is not None for gradient in gradients))
        return train(self, *args)

    monkeypatch.setattr(Optimizer, "step", step_and_remember)
    monkeypatch.setattr(Batches, "train", count_and_train)
    assert main(flags(tmp_path)) == 0

    assert gradients
    assert set(alive) == {0}


def test_only_improvements_are_saved_without_always_save_checkpoint(
    flags, tmp_path, only_run, monkeypatch
):
    vals = iter([3.0, 2.0, 2.5])
    monkeypatch.setattr("trainer.train.evaluate", lambda run, interrupt: (1.0, next(vals)))
    main(flags(tmp_path, always_save_checkpoint=False))

    assert [row["iter"] for row in only_run(tmp_path).checkpoints] == [6]


def test_the_console_prints_nanogpts_lines_every_log_interval(flags, tmp_path, capsys):
    main(flags(tmp_path, log_interval=4))

    out = capsys.readouterr().out
    number = r"-?\d+\.\d+"
    lines = re.findall(
        rf"^iter (\d+): loss {number}, time {number}ms, mfu (\?|{number}%), eta \S.*$", out, re.M
    )
    assert [(iter, mfu == "?") for iter, mfu in lines] == [
        ("0", True), ("4", True), ("8", False), ("12", False),
    ]  # fmt: skip
    assert len(re.findall(rf"^step \d+: train loss {number}, val loss {number}$", out, re.M)) == 3
    assert "runs compare" in out.splitlines()[-1]


# Going on


def resumed(flags, out_dir, **more):
    return main(flags(out_dir, init_from="resume", **more))


def test_a_killed_and_resumed_run_has_the_losses_of_an_uninterrupted_one(
    flags, tmp_path, straight, only_run, monkeypatch
):
    """Bit for bit, with dropout: killed by SIGKILL at 9, it resumes from its checkpoint at 6."""
    child = os.fork()
    if child == 0:
        do_at_iteration(monkeypatch, 9, lambda: os.kill(os.getpid(), signal.SIGKILL))
        main(flags(tmp_path))
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL

    assert resumed(flags, tmp_path) == 0

    run, whole = only_run(tmp_path), only_run(straight[0])
    assert losses(run) == losses(whole)
    assert evals(run) == evals(whole)
    assert len(run.checkpoints) == len(whole.checkpoints)
    assert run.journal["superseded"]["iterations"] == 4


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_between_two_steps_and_it_resumes_from_there(
    flags, tmp_path, straight, only_run, monkeypatch, number
):
    with monkeypatch.context() as patch:
        do_at_iteration(patch, 3, lambda: signal.raise_signal(number))
        status = main(flags(tmp_path))

    run = only_run(tmp_path)
    assert status == 128 + number
    assert run.journal["status"] == "interrupted"
    assert run.journal["reason"] == number.name
    saved = read.load(tmp_path / "ckpt.pt")["iter_num"]
    assert saved == len(run.training_iterations)

    assert resumed(flags, tmp_path) == 0

    run = only_run(tmp_path)
    assert losses(run) == losses(only_run(straight[0]))
    assert run.journal["superseded"]["iterations"] == 0


def test_a_signal_during_an_eval_does_not_wait_for_its_end(flags, tmp_path, only_run, monkeypatch):
    eval_batch = Batches.eval

    def eval_and_signal(self, split, index):
        if index == 5:
            signal.raise_signal(signal.SIGTERM)
        return eval_batch(self, split, index)

    monkeypatch.setattr(Batches, "eval", eval_and_signal)
    assert main(flags(tmp_path, eval_iters=1000)) == 143

    run = only_run(tmp_path)
    assert len(run.eval_steps) == 0
    assert [row["iter"] for row in run.checkpoints] == [0]


def test_a_resumed_run_remembers_its_best_val_loss(flags, tmp_path, monkeypatch):
    vals = iter([3.0, 2.0, 2.5, 2.4])
    monkeypatch.setattr("trainer.train.evaluate", lambda run, interrupt: (1.0, next(vals)))
    main(flags(tmp_path, max_iters=6))

    assert resumed(flags, tmp_path) == 0

    assert read.load(tmp_path / "best.pt")["iter_num"] == 6
    assert read.load(tmp_path / "ckpt.pt")["best_val_loss"] == 2.0


def test_auto_starts_from_scratch_and_then_resumes(flags, tmp_path, capsys):
    assert main(flags(tmp_path, init_from="auto", max_iters=6)) == 0
    assert "resuming" not in capsys.readouterr().out

    assert main(flags(tmp_path, init_from="auto", max_iters=12)) == 0

    out = capsys.readouterr().out
    assert "resuming from" in out
    assert "changed since the checkpoint: max_iters 6 -> 12, lr_decay_iters 6 -> 12" in out


def test_resume_without_a_checkpoint_is_a_one_line_error(flags, tmp_path, refusal):
    assert "no checkpoint found" in refusal(flags(tmp_path, init_from="resume"))
    assert not list(tmp_path.glob("*.json*"))


def test_another_tokenizer_than_the_checkpoints_is_a_one_line_error(flags, tmp_path, refusal):
    main(flags(tmp_path, max_iters=1))

    answer = refusal(flags(tmp_path, init_from="resume", tokenizer="bpe:300"))

    assert "the checkpoint has --tokenizer=bytes" in answer


def test_another_optimizer_than_the_checkpoints_is_a_one_line_error(flags, tmp_path, refusal):
    main(flags(tmp_path, max_iters=1, optimizer="muon"))

    assert "the checkpoint has --optimizer=muon" in refusal(flags(tmp_path, init_from="auto"))


def test_a_missing_input_is_a_one_line_error(flags, tmp_path, refusal):
    assert "no such file" in refusal(flags(tmp_path, input="nowhere"))


# Trouble


def test_a_nan_loss_stops_it_before_the_step(flags, tmp_path, only_run, monkeypatch):
    """The NaN is in the log, the checkpoint before it is the last, and it failed."""
    cross_entropy = gpt.F.cross_entropy

    def nan_from_iteration_eight(*args, **more):
        loss = cross_entropy(*args, **more)
        calls[0] += 1
        return loss * torch.nan if calls[0] == 2 * 6 + 2 * 8 + 1 else loss

    calls = [0]  # two evals of 2 x 3 batches, then the 9th step of two micro-batches
    monkeypatch.setattr(gpt.F, "cross_entropy", nan_from_iteration_eight)
    steps = []
    adamw_step = torch.optim.AdamW.step

    def step_and_look(self):
        before = [p.detach().clone() for group in self.param_groups for p in group["params"]]
        adamw_step(self)
        after = [p for group in self.param_groups for p in group["params"]]
        steps.append(any(not torch.equal(a, b) for a, b in zip(before, after, strict=True)))

    monkeypatch.setattr(torch.optim.AdamW, "step", step_and_look)
    assert main(flags(tmp_path)) == 1
    assert steps == [True] * 8 + [False]

    run = only_run(tmp_path)
    last = run.training_iterations[-1]
    assert last["loss"] is None
    assert last["nonfinite"]["loss"] == "nan"
    assert run.journal["status"] == "failed"
    assert "nan" in run.journal["reason"]
    assert run.journal["events"]["nonfinite"] == 1
    assert [row["iter"] for row in run.checkpoints] == [6]


def test_an_exception_is_logged_and_raised(flags, tmp_path, only_run, monkeypatch):
    def break_down():
        raise RuntimeError("the cooling failed")

    do_at_iteration(monkeypatch, 4, break_down)
    with pytest.raises(RuntimeError, match="cooling"):
        main(flags(tmp_path))

    run = only_run(tmp_path)
    assert run.journal["status"] == "failed"
    assert run.journal["reason"] == "RuntimeError: the cooling failed"
    assert len(run.training_iterations) == 5


def saves_of_which_one_fails(monkeypatch, number):
    """The iterations that are saved; the disk has no space for this save."""
    save_full, calls = write.save_full, []

    def save(out_dir, state, **more):
        calls.append(state["iter_num"])
        if len(calls) == number:
            raise OSError(28, "No space left on device")
        return save_full(out_dir, state, **more)

    monkeypatch.setattr(write, "save_full", save)
    return calls


def test_a_checkpoint_that_cannot_be_written_does_not_stop_the_run_and_has_no_event(
    flags, tmp_path, only_run, monkeypatch, capfd
):
    calls = saves_of_which_one_fails(monkeypatch, 1)
    assert main(flags(tmp_path)) == 0

    run = only_run(tmp_path)
    assert calls == [6, 12]
    assert [row["iter"] for row in run.checkpoints] == [12]
    assert run.journal["events"]["error"] == 1
    assert "iteration 6 was not saved: [Errno 28] No space left" in capfd.readouterr().err


def test_without_space_for_any_checkpoint_the_end_says_that_nothing_is_saved(flags, tmp_path):
    """A process on a tmpfs that has space for the log, and not for a checkpoint."""
    with tmpfs(tmp_path, 1 << 20) as disk:
        argv = flags(disk.path / "out", n_embd=128)
        run = subprocess.run([sys.executable, "train.py", *argv], cwd=TRAINER,
                             capture_output=True, text=True, check=False)  # fmt: skip
        (journal,) = (disk.path / "out").glob("*.jsonl")
        log = load_run(journal)

    assert run.returncode == 5
    assert run.stderr.count("No space left on device; this run has no checkpoint") == 3
    last = run.stdout.splitlines()[-1]
    assert last.endswith("; but the state at the end was not saved: this run has no checkpoint")
    assert "sample.py" not in last
    assert (log.status, len(log.training_iterations), log.checkpoints) == ("completed", 13, [])
    assert "this run has no checkpoint" in log.journal["reason"]
    assert [alert["rule"] for alert in log.journal["alerts"]] == ["checkpoint"]


def test_if_the_last_checkpoint_was_not_saved_the_state_at_the_end_is(
    flags, tmp_path, only_run, monkeypatch, capfd
):
    calls = saves_of_which_one_fails(monkeypatch, 2)
    assert main(flags(tmp_path)) == 0

    assert calls == [6, 12, 13]
    assert [row["iter"] for row in only_run(tmp_path).checkpoints] == [6, 13]
    assert "the last checkpoint, of iteration 6, is intact" in capfd.readouterr().err


def test_it_restores_the_signal_handlers(flags, tmp_path):
    before = signal.getsignal(signal.SIGTERM)

    main(flags(tmp_path, max_iters=0))

    assert signal.getsignal(signal.SIGTERM) is before


# As processes


def test_a_second_signal_ends_the_process_at_once(flags, tmp_path):
    """While the first signal waits for a step that never ends."""
    program = (
        "import sys, time, signal, os\n"
        "from trainer.interrupt import Interrupt\n"
        "with Interrupt() as interrupt:\n"
        "    print('ready', flush=True)\n"
        "    while True:\n"
        "        time.sleep(0.05)\n"
        "        if interrupt.stop_signal: print('noted', flush=True)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGTERM)  # the same signal, forwarded by a launcher
    assert process.stdout.readline() == "noted\n"
    time.sleep(1.1)
    process.send_signal(signal.SIGTERM)

    process.communicate(timeout=10)

    assert process.returncode == -signal.SIGTERM


def test_without_a_log_it_creates_the_folder(flags, tmp_path):
    out = tmp_path / "not" / "yet"

    assert main(flags(out, save_log_to_json=False)) == 0

    assert only_checkpoints(out)


@pytest.mark.parametrize(("source", "expected"), [("measured", -100.0), ("flag", 200.0)])
def test_an_mfu_above_100_percent_of_a_measured_peak_is_unknown(source, expected):
    config = TrainConfig(batch_size=1, block_size=64, gradient_accumulation_steps=1)
    metadata = {"flops_per_token": 1e9, "peak_flops": 32e9, "peak_source": source}

    mfu = new_mfu(config, SimpleNamespace(world_size=1), metadata)

    assert mfu(1000.0) == expected
    assert mfu(4000.0) == 50.0
