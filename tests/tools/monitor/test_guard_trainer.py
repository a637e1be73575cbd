"""`runs guard` on real trainers: each fault is reported once and in time.

pytest -m slow tests/tools/monitor/test_guard_trainer.py      # two to six minutes
"""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import orjson
import pytest

import eventlog

ROOT = Path(__file__).parents[3]
pytestmark = pytest.mark.slow

SMALL = {
    "tokenizer": "bytes", "n_layer": 1, "n_head": 2, "n_embd": 16, "block_size": 16,
    "batch_size": 4, "gradient_accumulation_steps": 1, "eval_interval": 200, "eval_iters": 3,
    "device": "cpu", "peak_flops": 1e12, "log_interval": 500, "max_iters": 1_000_000,
}  # fmt: skip


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("texts")
    words = ["the", "of", "and", "to", "in", "that", "was", "his", "with", "they"]
    chance = random.Random(0)
    for n in range(20):
        text = " ".join(chance.choices(words, weights=range(10, 0, -1), k=500))
        (folder / f"{n:02}.txt").write_text(text)
    return folder


@pytest.fixture
def train(texts, tmp_path, tmp_path_factory):
    """`train(name, max_iters=300, ...)`: a trainer in `out/`, begun."""
    begun = []

    def begin(name="run", **flags):
        data = tmp_path_factory.getbasetemp() / "data"
        config = SMALL | {"input": texts, "data_dir": data, "wandb_run_name": name}
        config |= {"out_dir": tmp_path / "out" / name} | flags
        args = [f"--{key}={value}" for key, value in config.items()]
        process = subprocess.Popen(
            [sys.executable, "trainer/train.py", *args], cwd=ROOT, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, env=os.environ | {"OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        begun.append(process)
        return process

    yield begin
    for process in begun:
        process.kill()
        process.wait()


class Guard:
    """`runs guard` as a process; what it said, and when."""

    def __init__(self, *args):
        command = [sys.executable, "-m", "tools.cli", "guard", "--json", "--every", "0.5"]
        self.process = subprocess.Popen(
            [*command, *map(str, args)], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        self.alerts = []
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()

    def _read(self):
        for line in self.process.stdout:
            self.alerts.append((time.monotonic(), orjson.loads(line)))

    def wait(self, within_s):
        """The first alert."""
        end = time.monotonic() + within_s
        while not self.alerts and time.monotonic() < end:
            time.sleep(0.05)
        assert self.alerts, f"nothing within {within_s} s"
        return self.alerts[0]

    def end(self):
        self.process.terminate()
        self._reading.join(20)
        self.process.wait()
        self.process.stdout.close()
        return [(alert["rule"], alert["state"]) for _, alert in self.alerts]


@pytest.fixture
def guard(tmp_path):
    guards = []

    def begin(*args, folders=("run",)):
        paths = [tmp_path / "out" / name for name in folders]
        for path in paths:
            path.mkdir(parents=True, exist_ok=True)
        guards.append(Guard(*args, *paths))
        return guards[-1]

    yield begin
    for one in guards:
        one.process.kill()


def iterations(folder):
    for journal in folder.glob("*.jsonl"):
        return sum(record.event == "iter" for record in eventlog.scan(journal))
    return 0


def wait_for_iterations(folder, n):
    end = time.monotonic() + 240
    while iterations(folder) < n and time.monotonic() < end:
        time.sleep(0.5)
    assert iterations(folder) >= n


def test_a_stopped_trainer_is_a_stall(train, guard, tmp_path):
    trainer = train()
    wait_for_iterations(tmp_path / "out/run", 100)
    process = guard("--stall", "5")
    time.sleep(4)

    trainer.send_signal(signal.SIGSTOP)
    stopped = time.monotonic()
    named, alert = process.wait(60)
    time.sleep(8)

    print(f"stall named after {named - stopped:.1f} s: {alert['text']}")
    assert process.end() == [("stall", "raised")]


def test_a_killed_trainer_is_a_crash(train, guard, tmp_path):
    trainer = train()
    wait_for_iterations(tmp_path / "out/run", 100)
    process = guard()
    time.sleep(4)

    trainer.kill()
    killed = time.monotonic()
    named, alert = process.wait(60)
    time.sleep(3)

    print(f"crash named after {named - killed:.1f} s: {alert['text']}")
    assert process.end() == [("crash", "raised")]


def test_a_trainer_fed_nan_is_named_once(train, guard):
    process = guard()

    train(learning_rate=1e25, warmup_iters=100, grad_clip=0, max_iters=300).wait()
    _, alert = process.wait(60)
    time.sleep(2)

    print(f"nonfinite: {alert['text']}")
    assert process.end() == [("nonfinite", "raised")]


def test_a_jump_of_the_loss_is_a_spike(train, guard):
    process = guard()
    train(learning_rate=20, warmup_iters=4000, lr_decay_iters=100_000, grad_clip=0)

    _, alert = process.wait(240)

    print(f"spike: {alert['text']}")
    assert alert["rule"] == "spike"
    assert process.end()[:1] == [("spike", "raised")]


def test_a_slowed_trainer_is_slow(train, guard, tmp_path):
    trainer = train(eval_interval=100_000)
    wait_for_iterations(tmp_path / "out/run", 50)
    process = guard("--slow-for", "6")
    time.sleep(25)

    began = time.monotonic()
    while not process.alerts and time.monotonic() < began + 90:
        trainer.send_signal(signal.SIGSTOP)
        time.sleep(0.4)
        trainer.send_signal(signal.SIGCONT)
        time.sleep(0.05)
    named, alert = process.wait(1)

    print(f"slow named after {named - began:.1f} s: {alert['text']}")
    assert process.end()[:1] == [("slow", "raised")]


def test_twenty_healthy_trainings_raise_no_alarm(train, guard, tmp_path):
    """Two at a time: evals, checkpoints, warm-up, and each third pair's first one resumed."""
    names = [f"healthy{n}" for n in range(20)]
    process = guard(folders=names)
    for n in range(0, 20, 2):
        flags = [
            {"max_iters": 400, "eval_interval": 25 + 25 * (k % 4), "seed": k} for k in (n, n + 1)
        ]
        pair = [train(name, **f) for name, f in zip(names[n:], flags, strict=False)]
        if n % 3 == 0:
            wait_for_iterations(tmp_path / "out" / names[n], 60)
            pair[0].terminate()
            pair[0].wait()
            pair[0] = train(names[n], init_from="auto", **flags[0])
        assert [process.wait(240) for process in pair] == [0, 0]
    time.sleep(3)

    assert len(list(tmp_path.glob("out/*/*.json"))) == 20
    assert process.end() == []
