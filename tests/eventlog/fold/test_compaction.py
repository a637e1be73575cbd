"""The compactor: the run JSON is always complete, and no command is needed."""

import errno
import fcntl
import os
import random
import resource
import signal
import subprocess
import sys
import threading
import time
from importlib import import_module

import orjson
import pytest

import eventlog
from eventlog import compact as compact_function
from eventlog.disk import Disk
from eventlog.fold import compactor
from eventlog.fold.compaction import follow
from eventlog.fold.compactor import start_follower
from eventlog.format.files import run_path
from tests.disks import RefusingDisk
from tests.strategies import line


def write_run(folder, n=30, **more):
    """A closed run of `n` iterations without a compactor; its journal."""
    with eventlog.open_run(folder, save_interval=0, **more) as run:
        for i in range(n):
            run.log_iter(i, 5.0 - i / 100, 50.0, 3.0)
    return run.journal_path


def status_in(path):
    return orjson.loads(path.read_bytes())["journal"]["status"]


def wait_for(condition, seconds=20):
    give_up = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up, "it did not happen"
        time.sleep(0.01)


def test_compacting_twice_writes_the_same_bytes_and_leaves_the_journal_alone(tmp_path):
    journal = write_run(tmp_path)
    before = journal.read_bytes()

    compact_function(journal)
    first = run_path(journal).read_bytes()
    compact_function(journal)

    assert run_path(journal).read_bytes() == first
    assert journal.read_bytes() == before
    assert sorted(p.suffix for p in tmp_path.iterdir()) == [".json", ".jsonl"]


def test_following_a_run_ends_in_the_same_bytes_as_compacting_it_once(tmp_path):
    with eventlog.open_run(tmp_path, save_interval=3) as run:
        for i in range(40):
            run.log_iter(i, 1.0 * i, 50.0)
            time.sleep(0.01)
    followed = run.run_path.read_bytes()

    compact_function(run.journal_path)

    assert run.run_path.read_bytes() == followed


def test_a_live_run_is_folded_at_its_start_and_every_n_iterations(tmp_path):
    run = eventlog.open_run(tmp_path, save_interval=10)
    wait_for(run.run_path.exists)
    at_start = orjson.loads(run.run_path.read_bytes())
    for i in range(25):
        run.log_iter(i, 1.0)
    wait_for(lambda: len(orjson.loads(run.run_path.read_bytes())["training_iterations"]) >= 20)
    under_way = orjson.loads(run.run_path.read_bytes())
    run.close()

    assert at_start["training_iterations"] == []
    assert at_start["journal"]["status"] == under_way["journal"]["status"] == "running"
    assert at_start["end_time"] is under_way["end_time"] is None
    assert status_in(run.run_path) == "completed"


def test_a_follower_sees_through_the_repair_of_a_torn_tail(tmp_path):
    """A resumed writer cuts half a line and appends; who read that half must not glue it."""
    journal = write_run(tmp_path, n=3)
    whole = journal.read_bytes()
    journal.write_bytes(whole + b'{"n":99,"s":"half a li')
    read_end, write_end = os.pipe()
    with os.fdopen(read_end, "rb", buffering=0) as until:
        follower = threading.Thread(
            target=follow, args=(journal,), kwargs={"every": 1, "until": until}
        )
        follower.start()
        wait_for(run_path(journal).exists)
        with eventlog.open_run(journal=journal, save_interval=0) as again:
            for i in range(3, 9):
                again.log_iter(i, 1.0)
                time.sleep(0.05)
        os.close(write_end)
        follower.join()

    run = orjson.loads(run_path(journal).read_bytes())
    assert [row["iter"] for row in run["training_iterations"]] == list(range(9))
    assert run["journal"]["defects"] == []


# ---- whatever happens to it, the old or the new file stands


class DyingDisk(Disk):
    """Ends the process, as SIGKILL does, before its n-th call."""

    def __init__(self, n):
        self.left = n

    def _count(self):
        self.left -= 1
        if self.left < 0:
            os._exit(9)

    def open_new(self, path):
        self._count()
        return super().open_new(path)

    def write(self, fd, data):
        self._count()
        half = bytes(data)[: len(data) // 2]  # dies in the middle of a write as well
        if self.left == 0 and half:
            super().write(fd, half)
            os._exit(9)
        return super().write(fd, data)

    def sync_data(self, fd):
        self._count()
        super().sync_data(fd)

    def sync_dir(self, directory):
        self._count()
        super().sync_dir(directory)

    def replace(self, source, target):
        self._count()
        super().replace(source, target)


def test_killed_at_any_of_its_calls_it_leaves_the_old_or_the_new_file(tmp_path):
    journal = write_run(tmp_path)
    compact_function(journal)
    new = run_path(journal).read_bytes()
    old = b'{"the": "old one"}\n'
    outcomes = []
    for n in range(12):
        run_path(journal).write_bytes(old)
        child = os.fork()
        if child == 0:
            compact_function(journal, disk=DyingDisk(n))
            os._exit(0)
        _, how = os.waitpid(child, 0)
        outcomes.append((os.waitstatus_to_exitcode(how), run_path(journal).read_bytes()))

    assert {found for _, found in outcomes} == {old, new}
    assert outcomes[0] == (9, old)
    assert outcomes[-1] == (0, new)
    compact_function(journal)
    assert run_path(journal).read_bytes() == new


@pytest.mark.parametrize("operation", ["create", "write", "sync", "replace"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EROFS])
def test_a_disk_that_refuses_leaves_the_old_file_and_nothing_else(tmp_path, operation, code):
    journal = write_run(tmp_path)
    run_path(journal).write_bytes(b"{}")

    with pytest.raises(OSError, match=os.strerror(code)):
        compact_function(
            journal, disk=RefusingDisk(lambda op, n: code if op == operation else None)
        )

    assert run_path(journal).read_bytes() == b"{}"
    assert sorted(p.suffix for p in tmp_path.iterdir()) == [".json", ".jsonl"]


def test_a_really_full_disk_leaves_the_old_file_and_is_reported(tmp_path):
    journal = write_run(tmp_path, n=300)
    run_path(journal).write_bytes(b"{}")

    done = subprocess.run(
        [sys.executable, "-m", "eventlog", "compact", str(tmp_path)],
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192)),
    )

    assert done.returncode == 1
    assert done.stderr == f"{journal}: File too large; its run JSON was not changed\n"
    assert run_path(journal).read_bytes() == b"{}"
    assert sorted(p.suffix for p in tmp_path.iterdir()) == [".json", ".jsonl"]


def test_what_a_killed_compactor_left_is_removed_by_a_later_one(tmp_path):
    journal = write_run(tmp_path)
    left = tmp_path / f".{run_path(journal).name}.0123abcd.tmp"
    left.write_bytes(b"half")
    compact_function(journal)
    assert left.exists()  # it may belong to somebody who writes right now

    os.utime(left, (time.time() - 3600,) * 2)
    compact_function(journal)

    assert not left.exists()


def test_many_compactors_at_once_leave_the_file_that_one_would(tmp_path):
    journal = write_run(tmp_path, n=200)
    compact_function(journal)
    alone = run_path(journal).read_bytes()
    command = [sys.executable, "-m", "eventlog", "compact", str(journal)]

    together = [subprocess.Popen(command, stdout=subprocess.DEVNULL) for _ in range(4)]

    assert [process.wait() for process in together] == [0] * 4
    assert run_path(journal).read_bytes() == alone


# ---- the process beside the writer


def test_the_follower_ends_with_its_pipe_and_nothing_else_ends_it(tmp_path):
    journal = write_run(tmp_path)
    follower = start_follower(journal, every=100)
    wait_for(run_path(journal).exists)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        follower.send_signal(number)
    time.sleep(0.3)
    assert follower.poll() is None
    run_path(journal).unlink()

    follower.stdin.close()

    assert follower.wait(20) == 0
    assert status_in(run_path(journal)) == "completed"


def test_the_follower_of_a_journal_that_is_deleted_meanwhile_waits_for_it(tmp_path):
    journal = write_run(tmp_path)
    content = journal.read_bytes()
    journal.unlink()
    follower = start_follower(journal, every=100)
    time.sleep(1)
    assert follower.poll() is None

    journal.write_bytes(content)
    follower.stdin.close()

    assert follower.wait(20) == 0
    assert status_in(run_path(journal)) == "completed"


def test_the_follower_starts_in_a_folder_with_files_named_like_modules(tmp_path, monkeypatch):
    (tmp_path / "json.py").write_text("raise SystemExit('the wrong json')")
    (tmp_path / "eventlog.py").write_text("raise SystemExit('the wrong eventlog')")
    monkeypatch.chdir(tmp_path)

    with eventlog.open_run("out") as run:
        run.log_iter(0, 1.0)

    assert status_in(run.run_path) == "completed"


def test_a_compactor_that_was_killed_is_made_up_for_at_close(tmp_path):
    run = eventlog.open_run(tmp_path)
    run.log_iter(0, 1.0)
    wait_for(run.run_path.exists)
    run._compactor._process.kill()
    run.run_path.unlink()

    run.close()

    assert status_in(run.run_path) == "completed"


def test_a_stopped_compactor_is_named_while_it_is_waited_for_and_then_done_without(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(compactor, "SAY_AFTER_S", 0.1)
    monkeypatch.setattr(compactor, "PATIENCE_S", 1.0)
    run = eventlog.open_run(tmp_path)
    process = run._compactor._process
    run.log_iter(0, 1.0)
    process.send_signal(signal.SIGSTOP)

    run.close()
    process.kill()
    process.wait()

    waits, goes_on = capsys.readouterr().err.splitlines()
    assert f"waits for the compactor (process {process.pid}), 1 s at most" in waits
    assert "written without it" in goes_on
    assert status_in(run.run_path) == "completed"


def test_without_a_process_the_run_is_folded_in_this_one_with_a_message(
    tmp_path, monkeypatch, capsys
):
    def cannot(*args, **kwargs):
        raise OSError(errno.EAGAIN, "no more processes")

    monkeypatch.setattr(compactor, "start_follower", cannot)
    run = eventlog.open_run(tmp_path, save_interval=5)
    for i in range(20):
        run.log_iter(i, 1.0)
    wait_for(lambda: run.run_path.exists() and b'"iter": 15' in run.run_path.read_bytes())
    under_way = status_in(run.run_path)
    run.close()

    assert under_way == "running"
    assert status_in(run.run_path) == "completed"
    assert "folding in this process" in capsys.readouterr().err


NO_INTERPRETER = {
    "PyInstaller": lambda patch: patch.setattr(sys, "frozen", True, raising=False),
    "Nuitka": lambda patch: patch.setitem(vars(sys.modules["__main__"]), "__compiled__", 1),
    "embedded": lambda patch: patch.setattr(sys, "executable", None),
    "unknown": lambda patch: patch.setattr(sys, "executable", ""),
}


@pytest.mark.parametrize("program", NO_INTERPRETER)
def test_a_program_that_is_its_own_interpreter_is_not_started_again(
    tmp_path, monkeypatch, capsys, program
):
    commands = []
    start = subprocess.Popen
    monkeypatch.setattr(
        subprocess, "Popen", lambda argv, **more: commands.append(argv) or start(argv, **more)
    )
    NO_INTERPRETER[program](monkeypatch)
    run = eventlog.open_run(tmp_path, save_interval=5)
    run.log_iter(0, 1.0)
    run.close()

    assert not any("compact" in command for command in commands)
    assert status_in(run.run_path) == "completed"
    assert "folding in this process" in capsys.readouterr().err


def test_an_old_follower_cannot_leave_an_old_file_behind(tmp_path):
    """The first session's compactor may still fold when the second session has already closed."""
    journal = write_run(tmp_path, n=5)
    for round_ in range(5):
        follower = start_follower(journal, every=1)
        time.sleep(random.uniform(0, 0.2))
        follower.stdin.close()  # its last fold now runs beside a new session
        with eventlog.open_run(journal=journal, save_interval=1) as again:
            again.log_iter(5 + round_, 1.0)
        follower.wait()

        run = orjson.loads(run_path(journal).read_bytes())
        assert [row["iter"] for row in run["training_iterations"]] == list(range(6 + round_))
        assert run["journal"]["status"] == "completed"


def test_a_fold_while_the_run_ends_does_not_leave_it_running(tmp_path):
    """`eventlog compact` by hand begins beside a live run and writes after its last fold."""
    run = eventlog.open_run(tmp_path, save_interval=0)
    run.log_iter(0, 1.0)

    class DiskThatWaits(Disk):
        def replace(self, source, target):
            if run.records == 2:
                run.close()
            super().replace(source, target)

    written = eventlog.compact(run.journal_path, disk=DiskThatWaits())

    assert written.status == "completed"
    assert status_in(run.run_path) == "completed"


def test_the_compactor_keeps_to_its_share_of_a_core_however_fast_events_come(tmp_path, monkeypatch):
    """Reading included: 15,000 events a second for eight seconds."""
    lines = [line(n, iter=n, loss=1.5, time_ms=50.25, mfu=3.5) for n in range(1, 15_000 * 8)]
    compaction = import_module("eventlog.fold.compaction")
    used = []

    def ended(pipe, timeout_s, ended=compaction._ended):
        is_over = ended(pipe, timeout_s)
        used[:] = [time.thread_time()]
        return is_over

    monkeypatch.setattr(compaction, "_ended", ended)
    path = tmp_path / "run.jsonl"
    with open(path, "ab", buffering=0) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(line(0, event="open", format=1, run_id="r"))
        read_end, write_end = os.pipe()
        begun = time.monotonic()
        with os.fdopen(read_end, "rb", buffering=0) as until:
            thread = threading.Thread(target=lambda: follow(path, every=100, until=until))
            thread.start()
            for k in range(0, len(lines), 1500):
                file.write(b"".join(lines[k : k + 1500]))
                time.sleep(max(0.0, begun + k / 15_000 - time.monotonic()))
            lasted_s = time.monotonic() - begun
            os.close(write_end)
            file.close()
            thread.join()

    assert used[0] < 0.035 * lasted_s
    assert len(orjson.loads(run_path(path).read_bytes())["training_iterations"]) == len(lines)
