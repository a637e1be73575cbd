"""Failing console output does not stop a run."""

import fcntl
import io
import multiprocessing
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

import eventlog
from trainer import console
from trainer.console import SteadyStream, steady_console
from trainer.train import main

TRAINER = Path(__file__).parents[2] / "trainer"
F_SETPIPE_SZ = 1031  # Linux
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}


def shell(template, argv, program="train.py"):
    """Run a shell command; `{}` in it stands for the program."""
    command = template.format(" ".join(map(str, (sys.executable, TRAINER / program, *argv))))
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], env=ENVIRONMENT, capture_output=True, text=True,
        timeout=120,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{} | true", "stdout cannot be written"),
        pytest.param("{} >/dev/full", "stdout cannot be written", marks=pytest.mark.slow),
        pytest.param("{} 2>/dev/full", "", marks=pytest.mark.slow),
        pytest.param("{} >/dev/full 2>&1", "", marks=pytest.mark.slow),
        pytest.param("{} >&-", "", marks=pytest.mark.slow),
        ("{} >&- 2>&- <&-", ""),
    ],
)
def test_training_completes_with_any_console(template, expected, flags, tmp_path, only_run):
    done = shell(template, flags(tmp_path, log_interval=1))

    run = only_run(tmp_path)
    assert (done.returncode, run.status) == (0, "completed"), done.stderr
    assert len(run.training_iterations) == 13
    assert expected in done.stderr
    assert done.stderr.count("cannot be written") <= 1
    assert "Exception ignored" not in done.stderr


def train_into(pipe, argv):
    """In a forked process: train, with a pipe's end as standard output."""
    os.dup2(pipe, 1)
    sys.stdout = os.fdopen(1, "w")
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # ignored where the suite runs under nohup
    sys.exit(main(argv))


@contextmanager
def forked_trainer(argv):
    """The process of a trainer, and the pipe from its standard output."""
    read_end, write_end = os.pipe()
    fcntl.fcntl(read_end, F_SETPIPE_SZ, 4096)
    process = multiprocessing.get_context("fork").Process(target=train_into, args=(write_end, argv))
    process.start()
    os.close(write_end)
    with open(read_end) as output:
        yield process, output
        process.join(100)
    process.kill()


def test_a_reader_that_does_not_read_does_not_stop_the_training(flags, tmp_path, only_run):
    """14 kB of output into a pipe of 4 kB."""
    argv = flags(tmp_path, log_interval=1, max_iters=200, eval_interval=200, dropout=0)

    with forked_trainer(argv) as (process, _):
        process.join(100)

    assert (process.exitcode, only_run(tmp_path).status) == (0, "completed")
    assert len(only_run(tmp_path).training_iterations) == 201


def test_dropped_lines_are_counted_when_the_reader_reads_again(monkeypatch):
    monkeypatch.setattr(console, "TIMEOUT_S", 0.01)
    read_end, write_end = os.pipe()
    stream = SteadyStream(os.fdopen(write_end, "w"), "stdout")
    line = "x" * 999 + "\n"
    for _ in range(200):
        stream.write(line)
        stream.flush()
    output = os.read(read_end, 1 << 20)

    stream.write("at the end\n")
    stream.flush()

    n_dropped = 200 - output.count(b"\n")
    lines = os.read(read_end, 1 << 20).decode().splitlines()
    assert n_dropped > 100
    assert lines[-2:] == [f"({n_dropped:,} lines dropped: nobody read stdout)", "at the end"]
    os.close(read_end)
    stream.close()


@pytest.mark.slow
def test_two_ranks_complete_without_a_reader(flags, tmp_path, only_run):
    torchrun = f"{sys.executable} -m torch.distributed.run --standalone --nproc_per_node=2"
    argv = " ".join(flags(tmp_path, log_interval=1))

    done = shell(f"{torchrun} {TRAINER / 'train.py'} {argv} 2>&1 | true # {{}}", [])

    assert (done.returncode, only_run(tmp_path).status) == (0, "completed")


@pytest.mark.parametrize("template", ["{} | true", "{} >/dev/full 2>&1"])
def test_prepare_completes_without_a_reader(template, books, tmp_path):
    argv = [f"--data_dir={tmp_path}", f"--input={books}", "--tokenizer=bytes"]

    done = shell(template, argv, "prepare.py")

    assert done.returncode == 0, done.stderr
    assert list(tmp_path.glob("*/meta.json"))


class Failing(io.StringIO):
    def __init__(self, error):
        super().__init__()
        self.error, self.calls = error, 0

    def write(self, text):
        self.calls += 1
        raise self.error


def test_a_failed_stream_is_not_used_again_and_reported_once_on_the_other(monkeypatch):
    failing, other = Failing(BrokenPipeError(32, "Broken pipe")), io.StringIO()
    monkeypatch.setattr(sys, "stdout", failing)
    monkeypatch.setattr(sys, "stderr", other)

    with steady_console():
        for line in range(9):
            print(line)

    assert failing.calls == 1
    assert other.getvalue().count("stdout cannot be written") == 1
    assert (sys.stdout, sys.stderr) == (failing, other)


def test_a_busy_stream_is_tried_again():
    failing = Failing(BlockingIOError(11, "Resource temporarily unavailable"))
    stream = SteadyStream(failing, "stdout")

    stream.write("a")
    stream.write("b")

    assert failing.calls == 2


def test_text_that_a_stream_cannot_encode_is_escaped():
    stream = SteadyStream(io.TextIOWrapper(raw := io.BytesIO(), encoding="ascii"), "stdout")

    stream.write("größer")
    stream.flush()

    assert raw.getvalue() == b"gr\\xf6\\xdfer"


# SIGHUP


ENDLESS = {"max_iters": 100_000, "eval_interval": 50_000, "log_interval": 10}


def line_that_begins(beginning, output):
    return next(line for line in output if line.startswith(beginning))


def test_sighup_saves_and_closes_like_sigterm(flags, tmp_path, only_run):
    with forked_trainer(flags(tmp_path, **ENDLESS)) as (process, output):
        line_that_begins("iter 20:", output)
        os.kill(process.pid, signal.SIGHUP)
        assert output.read()

    run = only_run(tmp_path)
    assert process.exitcode == 128 + signal.SIGHUP
    assert (run.status, run.journal["reason"]) == ("interrupted", "SIGHUP")
    assert run.checkpoints[-1]["iter"] == len(run.training_iterations)
    (journal,) = tmp_path.glob("*.jsonl")
    signals = [r.fields["signal"] for r in eventlog.scan(journal) if r.event == "signal"]
    assert signals == ["SIGHUP"]


def test_under_nohup_sighup_is_ignored(flags, tmp_path, only_run):
    process = subprocess.Popen(
        ["nohup", sys.executable, TRAINER / "train.py", *flags(tmp_path, **ENDLESS)],
        env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    line_that_begins("iter 20:", process.stdout)

    process.send_signal(signal.SIGHUP)

    assert line_that_begins("iter 100:", process.stdout)
    process.terminate()
    process.communicate(timeout=60)
    assert only_run(tmp_path).journal["reason"] == "SIGTERM"


def test_an_ignored_sighup_stays_ignored(flags, tmp_path):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert main(flags(tmp_path, max_iters=1)) == 0
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
