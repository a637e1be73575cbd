"""Only a journal of eventlog without a writer is repaired, and no other file is changed."""

import os
import socket

import pytest

import eventlog
from eventlog.cli.main import main
from eventlog.disk import Disk, is_locked
from eventlog.errors import JournalLocked, NewerFormat, NotAJournal
from eventlog.format.record import encode
from eventlog.read.alive import is_alive, process_lives, start_of, this_boot
from eventlog.read.identify import check_is_journal
from eventlog.write.repair import recover
from tests.eventlog.read.test_missing import iters, opening
from tests.strategies import SESSIONS, T, line

A, B, *_ = SESSIONS
NOTES = b"lr too high?\nask ann"
DATASET = b'{"text": "once upon a time"}\n' * 500 + b'{"text": "ha'


def state(folder):
    """All that can be observed about the files of a folder."""
    return {
        p.name: (p.read_bytes(), p.stat().st_mtime_ns, p.stat().st_ino) for p in folder.iterdir()
    }


NO_JOURNALS = [
    ("notes.txt", NOTES),
    ("notes.jsonl", NOTES),
    ("dataset.jsonl", DATASET),
    ("zeros.jsonl", bytes(2 << 20)),
    ("half.jsonl", b'{"name": "x", "n":0'),
    ("noise.jsonl", bytes(range(256)) * 700),
]


@pytest.mark.parametrize("command", ["recover", "compact"])
@pytest.mark.parametrize(("name", "data"), NO_JOURNALS)
def test_a_file_that_is_not_a_journal_is_refused_and_unchanged(
    tmp_path, command, name, data, capsys
):
    path = tmp_path / name
    path.write_bytes(data)
    before = state(tmp_path)

    assert main([command, str(path)]) != 0

    out, err = capsys.readouterr()
    assert out == ""
    assert f"{path}: not a journal: not one whole record in its {len(data):,} bytes" in err
    assert state(tmp_path) == before


@pytest.mark.parametrize(("name", "data"), NO_JOURNALS)
def test_no_run_resumes_in_a_file_that_is_not_a_journal(tmp_path, name, data):
    path = tmp_path / "data" / name
    path.parent.mkdir()
    path.write_bytes(data)
    before = state(path.parent)

    with pytest.raises(NotAJournal, match="Nothing was changed"):
        eventlog.open_run(journal=path, save_interval=0, fallback=tmp_path / "fallback")

    assert state(path.parent) == before
    assert [*tmp_path.iterdir()] == [path.parent]


def test_recovering_a_folder_leaves_other_files_unchanged(tmp_path):
    (tmp_path / "notes.txt").write_bytes(NOTES)
    (tmp_path / "dataset.jsonl").write_bytes(DATASET)
    before = state(tmp_path)
    (tmp_path / "run.jsonl").write_bytes(opening() + iters(A, 1, 3) + b'{"n":4,"s":"a1')

    assert main(["recover", str(tmp_path)]) == 0

    after = state(tmp_path)
    assert {name: after[name] for name in before} == before
    assert (tmp_path / "run.jsonl").read_bytes() == opening() + iters(A, 1, 3)


def test_a_newer_format_is_refused_before_anything_is_cut(tmp_path, capsys):
    path = tmp_path / "run.jsonl"
    path.write_bytes(opening(format=2) + iters(A, 1, 3) + b'{"n":4,"s":"a1')
    before = state(tmp_path)

    assert main(["recover", str(path)]) == 4

    assert "format 2" in capsys.readouterr().err
    assert state(tmp_path) == before


def test_a_newer_session_after_an_old_one_is_refused(tmp_path):
    path = tmp_path / "run.jsonl"
    path.write_bytes(opening() + iters(A, 1, 3) + opening(B, 2, (A, 3), format=2) + b'{"n":1')

    with pytest.raises(NewerFormat):
        recover(path)
    with pytest.raises(NewerFormat):
        check_is_journal(path)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        opening(),
        b"\0" * 200_000 + iters(A, 1000, 1001),
        b"x" * 200_000 + b"\n" + opening(),
        opening()[:2],
        opening()[:60],
        opening()[:60] + bytes(4000),
    ],
)
def test_a_damaged_or_torn_journal_is_still_a_journal(tmp_path, data):
    path = tmp_path / "run.jsonl"
    path.write_bytes(data)

    check_is_journal(path)


def test_a_missing_file_may_become_a_journal(tmp_path):
    check_is_journal(tmp_path / "run.jsonl")

    assert list(tmp_path.iterdir()) == []


def test_a_segment_is_not_recovered_without_its_journal(tmp_path):
    path = tmp_path / f"run.{A}.0.segment"
    path.write_bytes(opening() + b'{"n":1')

    with pytest.raises(NotAJournal, match="name the journal instead"):
        recover(path)


class NetworkDisk(Disk):
    def is_network(self, path):
        return True


def test_nothing_is_cut_on_a_network_file_system(tmp_path, monkeypatch, capsys):
    path = tmp_path / "run.jsonl"
    torn = opening() + iters(A, 1, 3) + b'{"n":4,"s":"a1'
    path.write_bytes(torn)

    result = recover(path, disk=NetworkDisk())
    monkeypatch.setattr(Disk, "is_network", NetworkDisk.is_network)
    code = main(["recover", str(path)])

    assert "network file system" in result["not_cut"]
    assert code == 0
    assert "network file system" in capsys.readouterr().err
    assert path.read_bytes() == torn


def test_compaction_does_not_replace_a_journal_that_has_the_name_of_a_run_json(tmp_path, capsys):
    path = tmp_path / "run.json"
    path.write_bytes(opening() + iters(A, 1, 3))
    before = state(tmp_path)

    assert main(["compact", str(path)]) == 1

    assert "would replace it" in capsys.readouterr().err
    assert state(tmp_path) == before


# ---- reserved space


def blocks_of(path):
    return path.stat().st_blocks * 512


@pytest.fixture
def reserved(tmp_path):
    """A journal as a killed session leaves it: 4 MiB of space behind its end."""
    path = tmp_path / "run.jsonl"
    path.write_bytes(opening() + iters(A, 1, 3))
    fd = os.open(path, os.O_RDWR)
    try:
        Disk().reserve(fd, path.stat().st_size, 4 << 20)
    except OSError:
        pytest.skip("the file system reserves no space")
    finally:
        os.close(fd)
    if blocks_of(path) < 4 << 20:
        pytest.skip("the file system reserves no space")
    os.utime(path, ns=(1_000_000_007, 1_000_000_007))
    return path


@pytest.mark.parametrize("command", ["compact", "recover"])
def test_the_reserved_space_of_a_killed_session_is_released(reserved, command):
    data = reserved.read_bytes()

    assert main([command, str(reserved)]) == 0

    assert blocks_of(reserved) < 100_000
    assert reserved.read_bytes() == data
    assert reserved.stat().st_mtime_ns == 1_000_000_007


def test_the_reserved_space_of_a_live_session_is_not_released(tmp_path):
    run = eventlog.open_run(tmp_path, save_interval=0)
    run.log_iter(0, 1.0)
    before = blocks_of(run.journal_path)

    eventlog.compact(run.journal_path)

    assert blocks_of(run.journal_path) == before
    run.close()


def test_reserved_space_is_not_released_on_a_network_file_system(reserved):
    eventlog.compact(reserved, disk=NetworkDisk())

    assert blocks_of(reserved) >= 4 << 20


def test_releasing_space_does_not_count_as_a_writer(reserved, monkeypatch):
    seen = []
    monkeypatch.setattr(Disk, "release_reserved", lambda self, fd: seen.append(is_locked(reserved)))

    eventlog.compact(reserved)

    assert seen == [False]


# ---- who lives, where nothing can be locked


def here(**fields):
    """The `open` event of a session of this process, on a file system without locks."""
    me = {"host": socket.gethostname(), "pid": os.getpid(), "boot_id": this_boot()}
    return me | {"pid_started": start_of(os.getpid()), "has_lock": False} | fields


def test_a_session_without_a_lock_is_running_as_long_as_its_process(tmp_path):
    path = tmp_path / "run.jsonl"
    path.write_bytes(opening(**here()) + iters(A, 1, 3))

    assert is_alive(path)
    assert eventlog.load_run(path).status == "running"
    assert eventlog.compact(path).status == "running"
    assert eventlog.load_run(path.with_suffix(".json")).status == "running"


def test_a_live_run_on_a_file_system_without_locks_is_running_for_every_reader(tmp_path, capsys):
    class NoLocks(Disk):
        def lock(self, fd):
            return None

    with eventlog.open_run(tmp_path, save_interval=0, disk=NoLocks()) as run:
        run.log_iter(0, 1.0)
        main(["status", str(run.journal_path)])
        eventlog.compact(run.journal_path)
        statuses = {eventlog.load_run(path).status for path in (run.journal_path, run.run_path)}

    assert statuses == {"running"}
    printed = capsys.readouterr().out
    assert "running" in printed
    assert "killed" not in printed
    assert eventlog.load_run(run.journal_path).status == "completed"


def test_a_session_without_a_lock_that_closed_is_not_running(tmp_path):
    path = tmp_path / "run.jsonl"
    path.write_bytes(opening(**here()) + line(1, A, "close", status="completed"))

    assert not is_alive(path)
    assert eventlog.load_run(path).status == "completed"


def test_without_pid_started_a_process_older_than_the_session_is_its_writer(tmp_path):
    """Without `pid_started`: a pid is used again only after its process has ended."""
    before, after = "2000-01-01T00:00:00+00:00", "2999-01-01T00:00:00+00:00"

    assert process_lives(here(pid_started=None), after) is True
    assert process_lives(here(pid_started=None), before) is False
    assert process_lives(here(pid_started=None)) is None


@pytest.mark.parametrize(
    "other",
    [
        {"pid_started": 1},
        {"pid": 2**22 + 1},
        {"boot_id": "another"},
        {"has_lock": True},
    ],
)
def test_another_process_with_the_pid_is_not_the_writer(tmp_path, other):
    path = tmp_path / "run.jsonl"
    path.write_bytes(opening(**here(**other)) + iters(A, 1, 3))

    assert not is_alive(path)
    assert eventlog.load_run(path).status == "interrupted"


def test_whether_a_process_on_another_machine_is_alive_is_unknown(tmp_path, capsys):
    path = tmp_path / "run.jsonl"
    path.write_bytes(opening(**here(host="elsewhere")) + iters(A, 1, 3))

    assert process_lives(here(host="elsewhere")) is None
    main(["status", str(path)])
    out = capsys.readouterr().out
    assert "or it runs on elsewhere: this machine cannot tell" in out


def test_a_torn_line_of_a_live_session_without_a_lock_is_not_cut(tmp_path, monkeypatch):
    path = tmp_path / "run.jsonl"
    data = opening(**here()) + iters(A, 1, 3) + b'{"n":4'
    path.write_bytes(data)
    monkeypatch.setattr(Disk, "lock", lambda self, fd: None)

    with pytest.raises(JournalLocked, match="no locks to tell"):
        recover(path)
    assert path.read_bytes() == data


# ---- a run JSON without a compactor


def test_a_run_json_with_status_running_is_read_from_the_journal_if_there_is_no_writer(tmp_path):
    run = eventlog.open_run(tmp_path, save_interval=0)
    run.log_iter(0, 1.0)
    eventlog.compact(run.journal_path)
    assert eventlog.load_run(run.run_path).status == "running"

    run._journal.close({"status": "completed"})  # and no compactor to see it
    loaded = eventlog.load_run(run.run_path)

    assert loaded.status == "completed"
    assert loaded.path == run.run_path
    run.close()


def test_a_run_json_without_its_journal_is_not_running(tmp_path):
    run = eventlog.open_run(tmp_path, save_interval=0)
    eventlog.compact(run.journal_path)
    run.close()
    run.journal_path.unlink()

    assert eventlog.load_run(run.run_path).status == "unknown"


def test_status_of_a_closed_run_reports_that_all_of_it_is_durable(tmp_path, capsys):
    path = tmp_path / "run.jsonl"
    closed = encode(4, A, T, "close", {"status": "completed"}, durable=4)
    path.write_bytes(opening() + iters(A, 1, 3) + closed)

    main(["status", str(path)])

    assert ", all 5 durable" in capsys.readouterr().out
