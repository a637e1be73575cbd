"""`zoo`: a folder with all kinds of runs, broken ones included."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

import eventlog

GOLDEN = Path(__file__).parents[1] / "golden"
LARGE_BYTES = 200_000_000

READABLE = {
    "finished", "worse", "live", "crashed", "torn", "journal_only",
    "guide", "guide_crashed", "guide_mfu_object", "guide_nan",
}  # fmt: skip
BROKEN = {
    "empty", "empty_journal", "binary", "binary_journal", "no_run", "half", "large",
    "large_journal",
}  # fmt: skip

_KILLED = """
import os, sys, eventlog
run = eventlog.open_run(sys.argv[1], run_name="killed", save_interval=0, config={"seed": 3})
for i in range(8):
    run.log_iter(i, 6.0 - i / 10, 50.0, 30.0)
    run.log_eval(i, 6.0, 6.5 - i / 10)
os.kill(os.getpid(), 9)
"""


def make_run(folder, name, val_losses=(5.0, 4.0), *, mfu=30.0, **config):
    """A completed run at `<name>.jsonl` and `<name>.json`, one iteration and eval a loss."""
    with eventlog.open_run(
        folder, run_name=name, config={"max_iters": len(val_losses)} | config, save_interval=0
    ) as run:
        for i, val_loss in enumerate(val_losses):
            run.log_eval(i, val_loss - 0.1, val_loss, lr=1e-3)
            run.log_iter(i, val_loss + 1, 50.0, mfu)
    journal = run.journal_path.rename(folder / f"{name}.jsonl")
    eventlog.compact(journal)
    return journal


def make_seeds(folder, losses):
    """Runs `lr<lr>s<seed>` of several settings: `losses` has those of each seed, by lr."""
    for lr, of_seeds in losses.items():
        for seed, of_run in enumerate(of_seeds.tolist()):
            with eventlog.open_run(
                folder, run_name=f"lr{lr}s{seed}", config={"lr": lr, "seed": seed}, save_interval=0
            ) as run:
                for i, loss in enumerate(of_run):
                    run.log_iter(i, loss, 50.0)


def make_incomplete(folder):
    """Runs of which something is not in their files: by name, the warning."""
    _without_lines(make_run(folder, "lost", (5.0, 4.0)), lambda lines: lines[:1] + lines[3:])
    _without_two_sessions(make_run(folder, "unknown"))
    cut = make_run(folder, "cut", (5.0, 4.0))
    _without_lines(cut, lambda lines: lines[:3])
    os.utime(cut)  # later than its run JSON, which has 6 records
    orphan = make_run(folder, "orphan")
    opened = orjson.loads(orphan.read_bytes().split(b"\n", 1)[0])
    run_id = eventlog.short_run_id(opened["run_id"])
    orphan.rename(folder / f"orphan.{run_id}.{opened['s']}.1{eventlog.SEGMENT_SUFFIX}")
    with eventlog.open_run(folder, run_name="forked", save_interval=0) as run:
        run.log_iter(0, 4.0, 50.0)
        if not (child := os.fork()):
            run.log_iter(1, 1.0)
            os._exit(0)
        os.waitpid(child, 0)
    run.journal_path.rename(folder / "forked.jsonl")
    return {
        "lost": ["2 events lost"], "cut": ["3 events lost"], "orphan": ["journal missing"],
        "unknown": ["3 events lost", "1 damaged place of unknown cost"],
        "forked": ["1 event of forks ignored"],
    }  # fmt: skip


def _without_lines(journal, chosen):
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(chosen(lines)))


def _without_two_sessions(journal):
    """Go on with a run, and remove the records of all sessions but the first and the last.

    The last one says how many records the one before it had, and that there was another.
    """
    for _ in range(3):
        with eventlog.open_run(journal=journal, save_interval=0) as run:
            run.log_iter(2, 4.0, 50.0)
    sessions = [orjson.loads(line)["s"] for line in journal.read_bytes().splitlines()]
    kept = (sessions[0], sessions[-1])
    pairs = zip(sessions, journal.read_bytes().splitlines(keepends=True), strict=True)
    journal.write_bytes(b"".join(line for s, line in pairs if s in kept))


def make_zoo(folder):
    """The zoo without its live run; each file is named for what is special about it."""
    folder.mkdir(parents=True, exist_ok=True)
    make_run(folder, "finished", (5.0, 4.0, 3.5), learning_rate=1e-3)
    make_run(folder, "worse", (5.0, 4.75), learning_rate=3e-4)
    make_run(folder, "journal_only", (5.0, 4.5)).with_suffix(".json").unlink()
    subprocess.run([sys.executable, "-c", _KILLED, folder], check=False)
    (killed,) = folder.glob("killed_*.jsonl")
    torn = shutil.copy(killed, folder / "torn.jsonl")
    os.truncate(torn, killed.stat().st_size - 40)
    killed.rename(folder / "crashed.jsonl")
    for old in GOLDEN.glob("guide*.json"):
        shutil.copy(old, folder / old.name)
    (folder / "empty.json").touch()
    (folder / "empty_journal.jsonl").touch()
    for name in ("binary.json", "binary_journal.jsonl"):
        (folder / name).write_bytes(bytes(range(256)) * 64)
    (folder / "no_run.json").write_text('{"training_loss": [1, 2]}')
    (folder / "half.json").write_bytes((GOLDEN / "guide.json").read_bytes()[:3000])
    for name in ("large.json", "large_journal.jsonl"):
        (folder / name).touch()
        os.truncate(folder / name, LARGE_BYTES)  # a hole: it is read as zeros and takes no space
    (folder / "notes.txt").write_text("not a run, and not called one")
    return folder


def unstamped(run_name):
    """A run's name without the time that `open_run` appends."""
    return run_name.rsplit("_", 2)[0]


@pytest.fixture(scope="session")
def incomplete(tmp_path_factory):
    """A folder of runs, and by name what is not in their files; one run is whole."""
    folder = tmp_path_factory.mktemp("incomplete")
    warnings = make_incomplete(folder)
    make_run(folder, "whole")
    return folder, warnings | {"whole": []}


@pytest.fixture(scope="session")
def zoo_of_the_dead(tmp_path_factory):
    return make_zoo(tmp_path_factory.mktemp("zoo") / "out")


@pytest.fixture
def zoo(zoo_of_the_dead, tmp_path):
    """A folder of READABLE and BROKEN runs, by file stem, one of them being written: live."""
    folder = tmp_path / "out"
    shutil.copytree(zoo_of_the_dead, folder, copy_function=_copy_with_holes)
    (folder / "live.jsonl").touch()  # one that is renamed while it is written would go on elsewhere
    run = eventlog.open_run(journal=folder / "live.jsonl", save_interval=0, config={"seed": 5})
    for i in range(5):
        run.log_iter(i, 7.0 - i / 10, 50.0, 30.0)
    yield folder
    run.close()


def _copy_with_holes(source, target):
    size_bytes = os.path.getsize(source)
    if size_bytes < LARGE_BYTES:
        return shutil.copy2(source, target)
    Path(target).touch()
    os.truncate(target, size_bytes)
    return target
