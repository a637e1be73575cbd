"""The training loops of the guides: killed, started again, nothing lost, each step once.

    pip install -e '.[test,peers]'
    pytest -n 0 -m slow tests/eventlog/integrations/test_integrations.py

`KILLS=10` before it kills each of them ten times.
"""

import json
import logging
import os
import random
import re
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import eventlog
from eventlog.integrations.logging_handler import JournalHandler

DOCS = Path(__file__).parents[3] / "docs"
EXAMPLES = {
    title: code
    for page in ("own-loop.md", "frameworks.md")
    for title, code in re.findall(
        r"^## ([^\n]*)\n\n(?:[^#`\n][^\n]*\n)*\n?```python\n(.*?)^```$",
        (DOCS / page).read_text(),
        re.MULTILINE | re.DOTALL,
    )
    if re.search(r"^import (torch|keras)$", code, re.MULTILINE)
}

# What each example logs at every step under which name, and its package.
CURVES = {
    "A complete program": ("train/loss", range(200), "torch"),
    "Hugging Face": ("loss", range(1, 201), "transformers"),
    "Lightning": ("train_loss", range(200), "lightning"),
    "Keras": ("batch/loss", range(1, 201), "keras"),
    "Accelerate": ("train/loss", range(200), "accelerate"),
}

TELLS_CHECKPOINTS = {"Hugging Face", "Lightning"}

# Tells in a file what was logged once the call has returned; after so many calls the process
# is killed, a moment later, wherever it then is.
WATCHED = """
import json, os, signal, sys, threading, time
import eventlog
program, log_path = sys.argv[1:3]
kill_after, delay_s = int(sys.argv[3]), float(sys.argv[4])
fd, n, log = os.open(log_path, os.O_CREAT | os.O_APPEND | os.O_WRONLY), 0, eventlog.ActiveRun.log

def kill():
    time.sleep(delay_s)
    os.kill(os.getpid(), signal.SIGKILL)

def logged(run, data, step=None, commit=None, **more):
    global n
    at, values = run.step if step is None else step, {k: float(v) for k, v in data.items()}
    log(run, data, step, commit, **more)
    os.write(fd, json.dumps([at, values]).encode() + b"\\n")
    n += 1
    if n == kill_after:
        threading.Thread(target=kill, daemon=True).start()
    time.sleep(0.001 if n >= kill_after > 0 else 0)

eventlog.ActiveRun.log = logged
exec(compile(open(program).read(), program, "exec"), {"__name__": "__main__"})
"""


def run_example(name, folder, log_path, kill_after=0, delay_s=0.0):
    """Run an example in `folder`: how it ended, and the calls of `log` that returned."""
    program = folder / "example.py"
    program.write_text(EXAMPLES[name])
    command = [sys.executable, "-W", "ignore", "-c", WATCHED, str(program), str(log_path)]
    done = subprocess.run(
        [*command, str(kill_after), str(delay_s)],
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode, [json.loads(line) for line in log_path.read_text().splitlines()]


def metrics_of(journal):
    """Every metrics event of a journal: step and values."""
    for record in eventlog.scan(journal):
        if record.event == "metrics":
            fields = {k: v for k, v in record.fields.items() if k != "durable"}
            yield fields.pop("step"), fields


def kill_and_go_on(name, folder, seed):
    """One trial, in a new folder."""
    folder.mkdir()
    curve, steps, package = CURVES[name]
    if find_spec(package) is None:  # imported it would warn, and this process needs it not
        pytest.skip(f"pip install {package}")
    chances = random.Random(seed)
    kill_after = chances.randint(60, 90)  # its first checkpoint is of step 50, the next of 100

    code, first = run_example(name, folder, folder / "first", kill_after, chances.uniform(0, 0.005))
    (journal,) = folder.rglob("*.jsonl")
    logged = list(metrics_of(journal))
    assert code == -signal.SIGKILL
    assert len(first) >= kill_after
    assert logged[: len(first)] == [(step, values) for step, values in first]
    assert len(logged) - len(first) in (0, 1)  # the last one may be on disk and not yet printed

    code, second = run_example(name, folder, folder / "second")
    run = eventlog.load_run(journal.with_suffix(".json"))
    again = second[0][0]
    expected = {step: values[curve] for step, values in first if curve in values and step < again}
    expected |= {step: values[curve] for step, values in second if curve in values}
    assert code == 0
    assert list(folder.rglob("*.jsonl")) == [journal]
    assert {row["step"]: row[curve] for row in run.metrics if curve in row} == expected
    assert sorted(expected) == list(steps)
    assert (run.status, len(run.journal["sessions"])) == ("completed", 2)
    assert run.journal["superseded"]["metrics"] >= 1
    assert bool(run.checkpoints) == (name in TELLS_CHECKPOINTS)


def test_an_own_loop_that_was_killed_resumes_with_each_step_once(tmp_path):
    kill_and_go_on("A complete program", tmp_path / "run", seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("name", CURVES)
def test_killed_and_started_again_nothing_is_lost_and_each_step_is_there_once(name, tmp_path):
    for seed in range(int(os.environ.get("KILLS", "1"))):
        kill_and_go_on(name, tmp_path / str(seed), seed)


def test_every_loop_in_the_guides_runs():
    assert EXAMPLES.keys() == CURVES.keys()


@pytest.mark.parametrize("name", CURVES)
def test_each_example_is_a_complete_program_of_less_than_twenty_lines(name):
    lines = [line for line in EXAMPLES[name].splitlines() if line]

    assert len(lines) < 20, lines


def test_lines_of_pythons_logging_are_in_the_journal_in_order(tmp_path):
    logger = logging.getLogger("test_integrations")
    logger.propagate = False
    with eventlog.init(dir=tmp_path, save_interval=0) as run:
        handler = JournalHandler(run, logging.WARNING)
        logger.addHandler(handler)
        run.log({"loss": 1.0})
        logger.warning("the loss is %.1f", 12.5)
        logger.info("not asked for")
        logger.removeHandler(handler)

    records = [r for r in eventlog.scan(run.journal_path) if r.event in ("metrics", "log")]
    assert [r.event for r in records] == ["metrics", "log"]
    assert records[1].fields == {
        "level": "WARNING",
        "logger": "test_integrations",
        "text": "the loss is 12.5",
    }


def test_an_exception_that_is_logged_keeps_its_traceback(tmp_path):
    logger = logging.getLogger("test_integrations.errors")
    logger.propagate = False
    with eventlog.open_run(tmp_path, save_interval=0) as run:
        handler = JournalHandler(run)
        logger.addHandler(handler)
        try:
            1 / 0  # noqa: B018
        except ZeroDivisionError:
            logger.exception("it went wrong")
        logger.removeHandler(handler)

    (line,) = [r for r in eventlog.scan(run.journal_path) if r.event == "log"]
    assert line.fields["level"] == "ERROR"
    assert line.fields["text"].startswith("it went wrong\nTraceback")
    assert "ZeroDivisionError" in line.fields["text"]
