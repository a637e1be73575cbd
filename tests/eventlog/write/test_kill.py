"""Real SIGKILLs: acknowledged events are in the run JSON without any command."""

import mmap
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import time

import orjson
import pytest

from eventlog.format.files import run_path

WRITER = """
import mmap, sys
import eventlog
out, acknowledged = sys.argv[1:3]
journal = sys.argv[3] if len(sys.argv) > 3 else None
with open(acknowledged, "r+b") as file:
    shared = memoryview(mmap.mmap(file.fileno(), 16)).cast("q")
begin = shared[1]
run = eventlog.open_run(out, journal=journal, from_iter=begin if journal else None,
                        save_interval=100)
for i in range(begin, 10**9):
    run.log_iter(i, 1.0 / (i + 1), 50.0, 3.0, tokens_per_s=1000.0 * i)
    shared[0] = i + 1  # one store of eight bytes: struct.pack_into clears them first
"""


class Writer:
    """A process that logs as fast as it can and reports its progress in shared memory."""

    def __init__(self, folder, journal=None, begin=0):
        acknowledged = folder / "acknowledged"
        acknowledged.write_bytes(struct.pack("qq", begin, begin))
        with open(acknowledged, "r+b") as file:
            self._shared = memoryview(mmap.mmap(file.fileno(), 16)).cast("q")
        command = [sys.executable, "-c", WRITER, str(folder / "out"), str(acknowledged)]
        command += [str(journal)] if journal else []
        self.process = subprocess.Popen(command, start_new_session=True)
        self._begin = begin
        while self.acknowledged == begin:
            assert self.process.poll() is None, "the writer died by itself"
            time.sleep(0.001)
        (self.journal,) = (folder / "out").glob("*.jsonl")

    @property
    def acknowledged(self):
        return self._shared[0]

    def kill(self):
        self.process.kill()
        self.process.wait()
        return self.acknowledged


def folded_by_itself(journal, n_sessions=1):
    """The run JSON once the compactor has seen the end of its writer."""
    give_up = time.monotonic() + 30
    while time.monotonic() < give_up:
        if run_path(journal).exists():
            run = orjson.loads(run_path(journal).read_bytes())  # whole at every instant
            seen = run["journal"]["status"], len(run["journal"]["sessions"])
            if seen == ("interrupted", n_sessions):
                return run
        time.sleep(0.005)
    raise AssertionError("no compactor folded the run after its writer was killed")


def kill_once(folder, seed, longest_s=0.12):
    """One trial; the number of events acknowledged before the kill."""
    folder.mkdir()
    writer = Writer(folder)
    time.sleep(random.Random(seed).uniform(0, longest_s))
    acknowledged = writer.kill()
    run = folded_by_itself(writer.journal)

    iterations = [row["iter"] for row in run["training_iterations"]]
    assert iterations[:acknowledged] == list(range(acknowledged))
    # The last one may be written but not yet counted.
    assert len(iterations) - acknowledged in (0, 1)
    losses = [row["loss"] for row in run["training_iterations"]]
    assert losses == [1.0 / (i + 1) for i in iterations]
    assert {d["kind"] for d in run["journal"]["defects"]} <= {"torn", "unterminated"}
    assert "killed" in run["journal"]["reason"]
    return acknowledged


def test_ten_kills_lose_nothing_acknowledged_and_the_compactor_folds_by_itself(tmp_path):
    acknowledged = [kill_once(tmp_path / str(seed), seed) for seed in range(10)]

    assert sum(acknowledged) > 50 * 10  # a writer that had not begun would prove nothing


@pytest.mark.slow
def test_a_thousand_kills_lose_nothing_acknowledged(tmp_path, capsys):
    """`KILLS=10000 pytest -m slow -n 0 tests/eventlog/write/test_kill.py` for ten times as many."""
    n_kills = int(os.environ.get("KILLS", "1000"))
    n_events = 0
    for seed in range(10_000, 10_000 + n_kills):
        n_events += kill_once(tmp_path / "run", seed, longest_s=0.3)
        shutil.rmtree(tmp_path / "run")

    with capsys.disabled():
        print(f"\n{n_kills:,} kills, {n_events:,} events acknowledged, 0 lost")
    assert n_events > 1000 * n_kills


def test_a_run_killed_and_resumed_many_times_has_each_iteration_once(tmp_path):
    writer = Writer(tmp_path)
    chances = random.Random(7)
    for _ in range(6):
        time.sleep(chances.uniform(0, 0.05))
        done = writer.kill()
        begin = chances.randint(max(0, done - 500), done)
        writer = Writer(tmp_path, writer.journal, begin)
    done = writer.kill()

    run = folded_by_itself(writer.journal, n_sessions=7)
    iterations = [row["iter"] for row in run["training_iterations"]]
    assert iterations[:done] == list(range(done))
    events = run["journal"]["events"]["iter"]
    assert events == len(iterations) + run["journal"]["superseded"]["iterations"]
    assert [d for d in run["journal"]["defects"] if d.get("lost") != 0] == []


def test_when_the_whole_process_tree_is_killed_compact_recovers_it(tmp_path):
    writer = Writer(tmp_path)
    time.sleep(0.05)
    children = subprocess.run(
        ["pgrep", "-P", str(writer.process.pid)], capture_output=True, text=True
    ).stdout.split()
    for pid in [*map(int, children), writer.process.pid]:
        os.kill(pid, signal.SIGKILL)
    writer.process.wait()
    done = writer.acknowledged
    run_path(writer.journal).unlink(missing_ok=True)
    command = [sys.executable, "-m", "eventlog", "compact", str(tmp_path / "out")]

    first = subprocess.run(command, capture_output=True, text=True)
    recovered = run_path(writer.journal).read_bytes()
    second = subprocess.run(command, capture_output=True, text=True)

    run = orjson.loads(recovered)
    assert len(children) == 1
    assert (first.returncode, second.returncode) == (0, 0)
    assert first.stdout == f"{run_path(writer.journal)}\n"
    assert [row["iter"] for row in run["training_iterations"]][:done] == list(range(done))
    assert run_path(writer.journal).read_bytes() == recovered


FORKING_WRITER = """
import os, sys, time
import eventlog
run = eventlog.open_run(sys.argv[1])
run.log_iter(0, 1.0)
if os.fork() == 0:
    time.sleep(60)
    os._exit(0)
print(run.journal_path, flush=True)
time.sleep(60)
"""


def test_a_forked_worker_that_outlives_the_writer_does_not_keep_the_compactor_waiting(tmp_path):
    command = [sys.executable, "-c", FORKING_WRITER, str(tmp_path)]
    writer = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        journal = tmp_path / os.path.basename(writer.stdout.readline().strip())
        writer.kill()
        writer.wait()

        assert len(folded_by_itself(journal)["training_iterations"]) == 1
    finally:
        os.killpg(writer.pid, signal.SIGKILL)
        writer.stdout.close()
