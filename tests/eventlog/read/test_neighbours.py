"""Other programs' files beside a journal are skipped and named, the rest is read, nothing hangs."""

import os
import signal
import socket
import threading

import pytest

import eventlog
from eventlog.cli.main import main
from eventlog.cli.report import COMPLETE, IO_ERROR, exit_code
from eventlog.disk import is_locked
from eventlog.fold.compaction import compact
from eventlog.fold.load import Folding
from eventlog.format.files import run_path
from tests.eventlog.read.test_missing import opening
from tests.strategies import SESSIONS, line

A, B, *_ = SESSIONS


@pytest.fixture(autouse=True)
def no_hang():
    """A test that waits for a FIFO's other end fails instead of hanging."""

    def stop(number, frame):
        raise TimeoutError("it hangs")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(20)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def bind(path):
    here = os.getcwd()
    os.chdir(path.parent)  # a socket's name may have 107 bytes
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path.name)
    finally:
        os.chdir(here)


KINDS = {
    "fifo": os.mkfifo,
    "folder": os.mkdir,
    "dangling": lambda path: os.symlink("nowhere", path),
    "loop": lambda path: os.symlink(path.name, path),
    "socket": bind,
}
kinds = pytest.mark.parametrize("kind", KINDS)
COMMANDS = ["compact", "recover", "verify", "cat", "tail", "status"]


@pytest.fixture
def journal(tmp_path):
    path = tmp_path / "run.jsonl"
    path.write_bytes(opening() + line(1, iter=0) + line(2, A, "close", status="completed"))
    return path


@kinds
def test_a_segments_name_on_something_else_costs_nothing_and_is_named(journal, kind):
    KINDS[kind](journal.with_name(f"run.{B}.0.segment"))

    folding = Folding(journal)
    folding.read()
    run = compact(journal)

    assert folding.reader.sequence.n_records == 3
    assert [d.session for d in folding.defects()] == [B]
    assert run.status == "completed"


@pytest.mark.parametrize("kind", ["fifo", "folder", "socket"])
def test_a_file_that_is_certainly_not_a_segment_does_not_count_as_loss(journal, kind):
    KINDS[kind](journal.with_name(f"run.{B}.0.segment"))

    folding = Folding(journal)
    folding.read()

    assert [d.kind for d in folding.defects()] == ["other_file"]
    assert exit_code(folding) == COMPLETE


@kinds
def test_a_writer_closes_and_compacts_beside_such_a_file(tmp_path, kind):
    with eventlog.open_run(tmp_path, save_interval=1) as run:
        KINDS[kind](run.journal_path.with_name(f"{run.journal_path.stem}.{B}.0.segment"))
        for i in range(20):
            run.log_iter(i, 1.0)

    assert eventlog.load_run(run.run_path).status == "completed"


@kinds
@pytest.mark.parametrize("command", COMMANDS)
def test_a_journals_name_on_something_else_is_refused_in_one_line(tmp_path, kind, command, capsys):
    path = tmp_path / "run.jsonl"
    KINDS[kind](path)
    before = sorted(tmp_path.rglob("*"))

    assert main([command, str(path)]) == IO_ERROR

    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert str(path) in err
    assert sorted(tmp_path.rglob("*")) == before


@kinds
@pytest.mark.parametrize("command", COMMANDS)
def test_a_folder_with_such_a_file_is_read_for_the_rest(journal, kind, command, capsys):
    KINDS[kind](journal.with_name("a.jsonl"))

    code = main([command, str(journal.parent)])

    out, err = capsys.readouterr()
    assert code == (IO_ERROR if kind in ("dangling", "loop") and command != "tail" else COMPLETE)
    assert out != ""
    assert ("a.jsonl: " in err) == (kind != "folder")  # a subfolder without journals is no fault


@kinds
@pytest.mark.parametrize("suffix", [".jsonl", ".json"])
def test_load_run_refuses_such_a_file(tmp_path, kind, suffix):
    path = tmp_path / f"run{suffix}"
    KINDS[kind](path)

    with pytest.raises(OSError, match=r"not a regular file|No such file|Too many levels"):
        eventlog.load_run(path)
    assert not is_locked(path)


@kinds
def test_a_run_jsons_name_on_something_else_leaves_the_run_readable(journal, kind, capsys):
    KINDS[kind](run_path(journal))

    assert main(["verify", str(journal)]) == COMPLETE
    assert main(["status", str(journal)]) == COMPLETE
    assert eventlog.load_run(journal).status == "completed"


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
def test_a_note_that_a_colleague_keeps_private_does_not_make_the_run_unreadable(journal):
    note = journal.with_name(f"run.{B}.0.segment")
    note.write_text("lr too high?")
    note.chmod(0o600)
    for folder in journal.parents:
        if not folder.stat().st_mode & 0o001:
            folder.chmod(folder.stat().st_mode | 0o055)
    os.seteuid(65534)
    try:
        folding = Folding(journal)
        folding.read()
    finally:
        os.seteuid(0)

    assert folding.reader.sequence.n_records == 3
    assert [d.kind for d in folding.defects()] == ["missing_segment"]


def test_the_writer_at_a_fifos_other_end_is_not_disturbed(tmp_path):
    path = tmp_path / "run.jsonl"
    os.mkfifo(path)
    opened = threading.Event()

    def write():
        with open(path, "wb"):
            opened.set()

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    main(["verify", str(path)])

    assert not opened.wait(0.2)
    os.close(os.open(path, os.O_RDONLY))
    thread.join()
