"""A later process evaluates old checkpoints of a finished run: its curves stay as they are."""

import random
import subprocess
import sys

import orjson
import pytest

import eventlog

STEPS, EVERY = 400, 10

EVALUATE = """
import sys, eventlog
folder, *steps = sys.argv[1:]
with eventlog.init(dir=folder, id="mine", resume="must", save_interval=0) as run:
    for step in map(int, steps):
        run.log({"test/acc": step / 7, "test/word": f"at {step}"}, step=step)
"""


def by_the_trainer(folder):
    with eventlog.open_run(folder, run_name="run", run_id="mine", save_interval=0) as run:
        for i in range(STEPS):
            run.log_iter(i, float("nan") if i == 300 else 1 / (i + 3), 10.0 + i / 7)
            if i % EVERY == 0:
                run.log_eval(i, train_loss=1 / (i + 3), val_loss=1 / (i + 2))
                run.log_checkpoint(i, f"{i}.pt")
    return run.journal_path


def by_metrics(folder):
    with eventlog.init(dir=folder, name="run", id="mine", save_interval=0) as run:
        for step in range(STEPS):
            loss = float("nan") if step == 300 else 1 / (step + 3)
            run.log({"train/loss": loss, "lr": step / 7, "phase": "a word"}, step=step)
    return run.journal_path


def arrays(journal):
    """The lines of each array of the run JSON, as they are in the file."""
    eventlog.compact(journal)
    document = journal.with_suffix(".json").read_bytes()
    found = {}
    for key in (b"training_iterations", b"eval_steps", b"checkpoints", b"metrics"):
        _, found_it, rest = document.partition(b'\n  "%b": [\n' % key)
        found[key.decode()] = rest.partition(b"\n  ]")[0] if found_it else b""
    return found


def without_the_evaluation(rows):
    """Lines of `metrics` without what the later process logged."""
    kept = []
    for line in rows.strip().split(b",\n    "):
        head, found_it, _ = line.partition(b', "test/acc": ')
        kept.append(head + b"}" if found_it else line)
    return b",\n    ".join(kept)


@pytest.mark.parametrize("log", [by_the_trainer, by_metrics])
def test_old_checkpoints_are_evaluated_in_any_order_and_nothing_else_changes(log, tmp_path):
    journal = log(tmp_path)
    before = arrays(journal)
    steps = [*range(0, STEPS, EVERY)]
    random.Random(4).shuffle(steps)

    command = [sys.executable, "-c", EVALUATE, str(tmp_path), *map(str, steps)]
    subprocess.run(command, check=True, capture_output=True)

    after = arrays(journal)
    for key in ("training_iterations", "eval_steps", "checkpoints"):
        assert after[key] == before[key]
    if log is by_metrics:
        assert without_the_evaluation(after["metrics"]) == before["metrics"].strip()
    run = eventlog.load_run(journal)
    assert [*run.points("test/acc")] == [(step, step / 7) for step in sorted(steps)]
    assert [*run.points("test/word")] == [(step, f"at {step}") for step in sorted(steps)]
    assert not any(run.journal["superseded"].values())
    assert orjson.loads(journal.with_suffix(".json").read_bytes())["summary"] == run.summary
