"""`runs serve` with hostile clients and files: others are still answered in time."""

import contextlib
import logging
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil
import pytest

import eventlog
from tests.tools.conftest import make_run
from tests.tools.dashboard.pages import serving_here
from tools.cli import main
from tools.core import rows, runs, where
from tools.core.runs import Refusal
from tools.dashboard import connections
from tools.live import folders
from tools.live.content import Content
from tools.live.folders import Folders

BOMB = "replace(" * 14 + "'aaaaaaaa'" + ",'a','aaaaaaaa')" * 14


@pytest.fixture
def out(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    make_run(folder, "low", (5.0, 3.0))
    return folder


@pytest.fixture
def served(out, tmp_path):
    """A server that may open 1,024 files, its port and its log."""
    log = tmp_path / "log"
    command = f"ulimit -n 1024; exec {sys.executable} -m tools.cli serve {out} --port 0"
    with log.open("wb") as file:
        server = subprocess.Popen(["bash", "-c", command], stdout=subprocess.PIPE, stderr=file)
    try:
        address = server.stdout.readline().decode()
        yield server, int(address.rstrip("/\n").rpartition(":")[2]), log
    finally:
        server.kill()
        server.communicate()


def fetch(port, path="/api/runs", timeout_s=10):
    with socket.create_connection(("127.0.0.1", port), timeout=timeout_s) as client:
        request = f"GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n"
        client.sendall(request.encode())
        answer = b""
        while part := client.recv(1 << 16):
            answer += part
    return answer


def test_1200_half_open_connections_do_not_block_others_and_the_log_stays_small(served):
    server, port, log = served
    with contextlib.ExitStack() as held:
        for at in range(1_200):
            client = held.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10))
            if at % 2:
                client.send(b"GET / HTTP/1.1\r\nhost: 127.0.0.1\r\nx")  # and no end
        begun = time.monotonic()
        answers = [fetch(port) for _ in range(5)]
        took_s = time.monotonic() - begun
        time.sleep(1.5)  # a loop that cannot accept says so once a second

    assert all(answer.startswith(b"HTTP/1.1 200") for answer in answers)
    assert took_s < 5
    assert log.stat().st_size < 10_000
    assert psutil.Process(server.pid).memory_info().rss < 400 << 20


def test_headers_that_trickle_in_have_a_time_limit(out, monkeypatch):
    monkeypatch.setattr(connections.LimitedProtocol, "header_s", 0.5)
    with serving_here(out) as server:
        for begin in (b"", b"GET / HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n"):  # the first, the second
            client = socket.create_connection(("127.0.0.1", server.port), timeout=10)
            with client:
                client.sendall(begin)
                until = time.monotonic() + 10
                with contextlib.suppress(OSError):  # reset: it was ended
                    while time.monotonic() < until:
                        client.sendall(b"G")
                        time.sleep(0.1)
                assert time.monotonic() < until


def test_headers_and_bodies_of_megabytes_are_refused(served):
    server, port, _ = served
    for sent in (
        b"GET /" + b"a" * (4 << 20),
        b"GET / HTTP/1.1\r\nx: " + b"a" * (4 << 20),
        b"GET / HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 99999999\r\n\r\n" + bytes(4 << 20),
    ):
        with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
            with contextlib.suppress(OSError):
                client.sendall(sent)
            with contextlib.suppress(OSError):
                while client.recv(1 << 16):
                    pass

    assert fetch(port).startswith(b"HTTP/1.1 200")
    assert psutil.Process(server.pid).memory_info().rss < 400 << 20


def test_log_lines_that_clients_cause_are_limited():
    records = []
    logger = logging.getLogger("tests.log_limit")
    logger.propagate = False
    handler = logging.Handler()
    handler.emit = records.append
    logger.addHandler(handler)
    connections.limit_log(logger.name)

    for _ in range(1_000):
        logger.warning("Invalid HTTP request received.")

    assert len(records) == connections.LOG_LINES


# ---- filters


def test_a_nested_replace_costs_neither_memory_nor_time(served):
    server, port, _ = served
    process = psutil.Process(server.pid)
    fetch(port)
    before = process.memory_info().rss
    peak = [before]
    done = threading.Event()

    def watch():
        while not done.wait(0.01):
            peak[0] = max(peak[0], process.memory_info().rss)

    watching = threading.Thread(target=watch)
    watching.start()
    bomb = BOMB  # 8 to the power of 15 characters
    begun = time.monotonic()
    answers = [fetch(port, f"/api/where?q=length({bomb})%3E1", 30) for _ in range(3)]
    done.set()
    watching.join()

    assert all(b"error" in answer for answer in answers)
    assert time.monotonic() - begun < 10
    assert peak[0] - before < 100 << 20


def test_an_expression_that_needs_too_much_time_or_memory_is_refused(out):
    found = rows.row(runs.load_at(out / "low.json")) | {"config": {"text": "ab" * 50_000}}
    slow = " and ".join(["instr(text, replace(text, 'b', 'a')) = 0"] * 60)

    with pytest.raises(Refusal, match=r"too big|takes longer"):
        where.select([found], f"length({BOMB}) > 1")
    with pytest.raises(Refusal, match="takes longer than"):
        where.select([found] * 2_000, slow, limit_s=0.2)
    with pytest.raises(Refusal, match="must have at most 10,000 characters"):
        where.select([found], "1 or " * 10_000 + "1")


def test_a_filter_that_is_too_long_for_the_page_is_refused_not_cut(out):
    with serving_here(out) as server:
        answer = server.json("/api/where?q=" + "1%20or%20" * 200 + "1")

    assert answer["error"] == "at most 500 characters are allowed, got 1,001"


# ---- what is served


def test_a_trial_folder_that_is_a_symlink_out_of_the_study_is_not_served(tmp_path):
    study, secret = tmp_path / "study", tmp_path / "secret"
    for folder in (study, secret, study / "trial_0001"):
        folder.mkdir()
    (study / "study.jsonl").touch()
    make_run(study / "trial_0001", "own", (5.0, 4.0))
    make_run(secret, "hidden", (5.0, 1.25), password="hunter2")
    (study / "trial_0002").symlink_to(secret)

    with serving_here(study) as server:
        deadline = time.monotonic() + 20
        while not server.json("/api/runs")["complete"] and time.monotonic() < deadline:
            time.sleep(0.05)
        status, _, body = server.get("/api/runs")

    assert status == 200
    assert b"own" in body
    assert b"hunter2" not in body
    assert b"a link out of the folders" in body


def test_a_folder_named_by_a_symlink_is_served(out, tmp_path):
    (tmp_path / "link").symlink_to(out)
    for name in (tmp_path / "link", tmp_path / "link" / "low.json", tmp_path / "link" / "lo*"):
        found = Folders([str(name)])
        found.refresh()

        assert [row["status"] for row in found.rows()] == ["completed"]


def test_one_run_that_is_slow_to_fold_does_not_block_the_page_for_others(out, monkeypatch):
    make_run(out, "slow", (5.0, 4.0))
    read = Content.read

    def slow(content, items):
        for n_records in read(content, items):
            time.sleep(6 if threading.current_thread().name == "follow" else 0)
            yield n_records

    monkeypatch.setattr(folders, "HELD_S", 0.2)
    with serving_here(out) as server:
        deadline = time.monotonic() + 20
        while not server.json("/api/runs")["complete"] and time.monotonic() < deadline:
            time.sleep(0.05)
        ids = {row["run"].partition("_")[0]: row["id"] for row in server.json("/api/runs")["runs"]}
        monkeypatch.setattr(Content, "read", slow)
        begun = time.monotonic()
        server.get(f"/api/run?id={ids['slow']}")  # from now on it is read
        time.sleep(0.5)
        answers = [server.get("/api/runs")[0], server.get(f"/api/run?id={ids['low']}")[0]]
        took_s = time.monotonic() - begun
        monkeypatch.setattr(Content, "read", read)

    assert answers == [200, 200]
    assert took_s < 5


# ---- files that are no runs


@pytest.fixture
def hostile(out):
    """Beside the good run: everything that another program or an attacker may leave there."""
    os.mkfifo(out / "fifo.jsonl")
    os.mkfifo(out / "fifo2.json")
    (out / "folder.jsonl").mkdir()
    (out / "nowhere.jsonl").symlink_to(out / "does not exist")
    (out / "loop.json").symlink_to(out / "loop.json")
    (out / "device.jsonl").symlink_to("/dev/zero")
    (out / "zero.jsonl").touch()
    (out / "huge.jsonl").write_bytes(b'{"n":' + b"1" * (5 << 20))
    (out / "deep.json").write_bytes(b'{"training_iterations":' + b"[" * 1_000_000)
    (out / "low.a1b2c3d4.0.segment.lnk").symlink_to(out / "gone")
    (out / "other.deadbeef.0.segment").symlink_to(out / "gone")
    with socket.socket(socket.AF_UNIX) as unix, contextlib.chdir(out):
        unix.bind("s.json")
    return out


@pytest.mark.parametrize(
    "args",
    [
        ["ls", "--json"], ["best", "--json"], ["guard", "--once"],
        ["query", "select run from runs"], ["compare", "--json"],
    ],
    ids=lambda args: args[0],
)  # fmt: skip
def test_files_that_are_not_runs_break_no_command(hostile, args):
    command = [sys.executable, "-m", "tools.cli", args[0]]
    names = [*args[1:], str(hostile)]

    done = subprocess.run([*command, *names], capture_output=True, text=True, timeout=60)

    assert "Traceback" not in done.stderr
    assert done.returncode in (0, 1)
    assert "low" in done.stdout or args[0] == "guard"


def test_files_that_are_not_runs_are_named_by_ls_and_left_out_of_an_archive(
    hostile, tmp_path, capsys
):
    assert main(["ls", str(hostile), "--csv"]) == 0
    assert "fifo" in capsys.readouterr().out
    assert main(["archive", str(hostile), "--to", str(tmp_path / "kept")]) == 1

    output, err = capsys.readouterr()
    assert "1 new" in output
    assert "fifo.jsonl: is a FIFO, not a regular file" in err


def test_the_page_shows_the_good_run_beside_files_that_are_not_runs(hostile):
    with serving_here(hostile) as server:
        deadline = time.monotonic() + 20
        while not server.json("/api/runs")["complete"] and time.monotonic() < deadline:
            time.sleep(0.05)
        rows_ = {row["file"]: row["status"] for row in server.json("/api/runs")["runs"]}

    assert rows_["low.jsonl"] == "completed"
    assert rows_["fifo.jsonl"] == "unreadable"


def test_a_pipe_named_like_a_segment_does_not_hang_the_guard(out):
    run = eventlog.open_run(out, run_name="live", save_interval=0)
    run.log_iter(0, 1.0, 50.0)
    os.mkfifo(out / f"{run.journal_path.stem}.a1b2c3d4.0.segment.lnk")
    try:
        done = subprocess.run(
            [sys.executable, "-m", "tools.cli", "guard", "--once", str(out)], timeout=60
        )
    finally:
        run.close()

    assert done.returncode in (0, 1)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_file_without_read_permission_leaves_the_other_runs_readable():
    with tempfile.TemporaryDirectory() as name:  # not tmp_path: nobody else may enter that
        done = _as_somebody_else(Path(name))

    assert "Traceback" not in done.stderr
    output = done.stdout.splitlines()
    assert {"ls 0", "best 0", "archive 1", "kept: 1 new, 2 failed"} <= set(output)
    assert any(line.startswith("guard ") for line in output)
    assert "low.a1b2c3d4.9.segment: cannot be read" in done.stderr


def _as_somebody_else(place):
    """Each command on a folder in which some files are root's alone, by another user."""
    out = place / "out"
    out.mkdir()
    make_run(out, "low", (5.0, 3.0))
    make_run(out, "secret", (5.0, 4.0))
    beside = out / "low.a1b2c3d4.9.segment"
    beside.touch()
    for path in (beside, *out.glob("secret.*")):
        path.chmod(0o600)
    place.chmod(0o755)
    (place / "kept").mkdir()
    (place / "kept").chmod(0o777)
    script = f"""
import os, sys
from tools.cli import main
import duckdb, pyarrow, zstandard, tools.monitor.guard, tools.archive.archiver, tools.archive.query
import concurrent.futures, dis, numpy.ma  # what is imported when it is needed
import eventlog.command_line, eventlog.masking.masking
os.setegid(65534); os.seteuid(65534)
os.chdir({str(place)!r})
for args in (["ls", "--csv"], ["best", "--path"], ["guard", "--once"], ["compare", "--json"],
              ["archive", "--to", "kept"]):
    print(args[0], main([*args, "out"]), flush=True)
"""

    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
