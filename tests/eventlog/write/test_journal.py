"""The writer: its promises to the training loop and to the next writer."""

import contextlib
import ctypes
import errno
import gc
import itertools
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import eventlog
from eventlog import Scanner
from eventlog.disk import is_locked
from eventlog.format.files import segment_name
from eventlog.read.reader import Reader
from eventlog.write import line_writer
from eventlog.write.appender import Appender
from eventlog.write.journal import Journal
from eventlog.write.reserve import RESERVE_BYTES
from eventlog.write.sync import SyncThread
from tests.disks import RecordingDisk, RefusingDisk
from tests.steps import lines_run


def opened(path, **more):
    """A journal with the fewest fields that an `open` event needs."""
    return Journal(path, {"format": 1, "run_id": "r", "run_name": path.stem}, **more)


def records_of(path):
    reader = Reader(path)
    return list(reader.read_on(to_the_end=True)), reader.defects


def iterations(path):
    return [r.fields["iter"] for r in records_of(path)[0] if r.event == "iter"]


# ---- what the loop may rely on


def test_an_event_is_in_the_file_when_append_returns(tmp_path):
    journal = opened(tmp_path / "run.jsonl")

    for i in range(20):
        journal.append("iter", {"iter": i})
        assert iterations(journal.path)[-1] == i
    journal.close({})


def test_each_event_is_one_write(tmp_path):
    disk = RecordingDisk()
    journal = opened(tmp_path / "run.jsonl", disk=disk)
    before = disk.calls.count("write run.jsonl")

    for i in range(10):
        journal.append("iter", {"iter": i})

    assert disk.calls.count("write run.jsonl") - before == 10
    journal.close({})


def test_the_journal_and_its_name_are_durable_before_the_first_event(tmp_path):
    disk = RecordingDisk()

    journal = opened(tmp_path / "run.jsonl", disk=disk)

    assert disk.calls == ["open run.jsonl", "write run.jsonl", "sync run.jsonl", "sync folder"]
    assert journal.durable_n == 1
    journal.close({})


def test_sync_returns_when_everything_appended_before_it_is_durable(tmp_path):
    journal = opened(tmp_path / "run.jsonl", sync_interval_s=3600)
    for i in range(5):
        journal.append("iter", {"iter": i})
    assert journal.durable_n == 1

    assert journal.sync()

    assert journal.durable_n == 6
    journal.close({})


def test_an_urgent_event_becomes_durable_without_a_wait(tmp_path):
    journal = opened(tmp_path / "run.jsonl", sync_interval_s=3600)

    journal.append("eval", {"iter": 0}, urgent=True)

    give_up = time.monotonic() + 10
    while journal.durable_n < 2 and time.monotonic() < give_up:
        time.sleep(0.01)
    assert journal.durable_n == 2
    journal.close({})


def test_a_slow_sync_does_not_block_an_append(tmp_path):
    class SlowDisk(RecordingDisk):
        syncing = False
        slow = False

        def sync_data(self, fd):
            self.syncing = True
            while self.slow:
                time.sleep(0.001)
            self.syncing = False
            super().sync_data(fd)

    disk = SlowDisk()
    journal = opened(tmp_path / "run.jsonl", disk=disk)
    disk.slow = True
    journal.append("eval", {"iter": 0}, urgent=True)
    while not disk.syncing:
        time.sleep(0.001)

    journal.append("iter", {"iter": 0})  # returns, although the sync has not

    assert disk.syncing
    assert iterations(journal.path) == [0]
    disk.slow = False
    journal.close({})


def test_a_record_has_the_number_of_durable_records_before_it(tmp_path):
    journal = opened(tmp_path / "run.jsonl", sync_interval_s=3600)
    journal.append("iter", {"iter": 0})
    journal.sync()

    journal.append("iter", {"iter": 1})
    journal.append("iter", {"iter": 2})

    durable_counts = [r.fields.get("durable") for r in records_of(journal.path)[0]]
    assert durable_counts == [None, 1, 2, None]
    journal.close({})


def test_after_close_an_append_is_refused_and_the_lock_is_free(tmp_path):
    journal = opened(tmp_path / "run.jsonl")
    assert is_locked(journal.path)

    journal.close({"status": "completed"})

    assert not is_locked(journal.path)
    with pytest.raises(eventlog.JournalClosed, match="after that"):
        journal.append("iter", {"iter": 0})


def test_an_exception_from_a_signal_handler_at_any_moment_neither_loses_nor_renumbers(tmp_path):
    """Handlers raise between any two bytecodes, also within an append."""
    journal = opened(tmp_path / "run.jsonl")

    class Interrupt(Exception):
        pass

    def interrupt(number, frame):
        raise Interrupt

    gc.collect()
    gc.disable()  # an exception inside a finalizer would go nowhere
    before = signal.signal(signal.SIGALRM, interrupt)
    returned = set()
    attempts = itertools.count()  # a number is tried once: what was interrupted may be in or out
    try:
        for _ in range(500):
            with contextlib.suppress(Interrupt):
                signal.setitimer(signal.ITIMER_REAL, 0.0002)
                for i in itertools.islice(attempts, 2000):
                    journal.append("iter", {"iter": i})
                    returned.add(i)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        gc.enable()
    journal.append("note", {})
    journal.close({})

    records, defects = records_of(journal.path)
    assert returned <= {r.fields["iter"] for r in records if r.event == "iter"}
    assert defects == []
    assert [r.n for r in records] == list(range(len(records)))


# ---- a disk that refuses


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EFBIG])
def test_while_the_disk_refuses_writes_nothing_raises_and_afterwards_nothing_is_missing(
    tmp_path, monkeypatch, capsys, code
):
    monkeypatch.setattr(line_writer, "RETRY_AFTER_S", 0.0)
    full = False
    disk = RefusingDisk(lambda operation, n: code if operation == "write" and full else None)
    journal = opened(tmp_path / "run.jsonl", disk=disk)
    for i in range(300):
        full = 100 <= i < 200
        journal.append("iter", {"iter": i})
    journal.close({})

    records, defects = records_of(journal.path)
    assert [r.fields["iter"] for r in records if r.event == "iter"] == list(range(300))
    assert [d for d in defects if d.lost != 0] == []
    assert "training goes on" in capsys.readouterr().err


@given(parts=st.lists(st.one_of(st.none(), st.floats(0, 0.99)), max_size=40))
@settings(max_examples=40)
def test_short_writes_of_any_length_lose_nothing(tmp_path_factory, parts):
    answers = iter(parts)
    path = tmp_path_factory.mktemp("short") / "run.jsonl"
    started = False
    disk = RefusingDisk(
        lambda operation, n: next(answers, None) if operation == "write" and started else None
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(line_writer, "RETRY_AFTER_S", 0.0)
        journal = opened(path, disk=disk)
        started = True
        for i in range(len(parts)):
            journal.append("iter", {"iter": i})
        started = False
        journal.close({})

    records, defects = records_of(path)
    assert [r.fields["iter"] for r in records if r.event == "iter"] == list(range(len(parts)))
    assert [d for d in defects if d.lost != 0] == []


def test_when_waiting_lines_exceed_memory_only_iterations_are_dropped_and_counted(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(line_writer, "WAITING_MAX_BYTES", 5000)
    monkeypatch.setattr(line_writer, "RETRY_AFTER_S", 0.0)
    full = False
    disk = RefusingDisk(lambda op, n: errno.ENOSPC if op == "write" and full else None)
    journal = opened(tmp_path / "run.jsonl", disk=disk)
    full = True
    journal.append("eval", {"iter": 0})
    for i in range(200):
        journal.append("iter", {"iter": i})
    full = False
    journal.close({})

    records, defects = records_of(journal.path)
    iterations = [r.fields["iter"] for r in records if r.event == "iter"]
    (gap,) = [r for r in records if r.event == "gap"]
    assert iterations == list(range(200 - len(iterations), 200))
    assert gap.fields["dropped"] == 200 - len(iterations) == sum(d.lost for d in defects)
    assert "eval" in [r.event for r in records]


@pytest.mark.parametrize("event", ["eval", "iter"])
def test_the_time_of_an_append_does_not_depend_on_how_many_lines_wait(tmp_path, monkeypatch, event):
    monkeypatch.setattr(line_writer, "WAITING_MAX_BYTES", 5000)
    full = False
    disk = RefusingDisk(lambda op, n: errno.ENOSPC if op in ("write", "create") and full else None)
    journal = opened(tmp_path / "run.jsonl", disk=disk)
    full = True
    steps = []
    for _ in range(2):
        for i in range(500):
            journal.append("eval", {"iter": i})
        steps.append(min(lines_run(lambda: journal.append(event, {"iter": 1})) for _ in range(5)))
    full = False
    journal.close({})

    assert steps[0] == steps[1]


class FailingDisk(RecordingDisk):
    """Refuses one operation on the files that `fails` names; records the calls."""

    def __init__(self, operation, fails):
        super().__init__()
        self.operation, self.fails = operation, fails

    def sync_data(self, fd):
        name = self._names[fd]
        self.calls.append(f"sync {name}")
        if self.operation == "sync" and self.fails(name):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        os.fdatasync(fd)

    def write(self, fd, data):
        if self.operation == "write" and self.fails(self._names[fd]):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().write(fd, data)


def test_after_a_failed_sync_the_session_goes_on_in_a_segment_and_all_of_it_is_durable(
    tmp_path, capsys
):
    broken = False
    disk = FailingDisk("sync", lambda name: broken and name == "run.jsonl")
    journal = opened(tmp_path / "run.jsonl", disk=disk)
    journal.append("iter", {"iter": 0})
    journal.sync()
    journal.append("iter", {"iter": 1})
    broken = True
    journal.append("iter", {"iter": 2})

    assert journal.sync()
    n_syncs = disk.calls.count("sync run.jsonl")
    journal.append("iter", {"iter": 3})
    assert journal.sync()
    journal.close({})

    (segment,) = tmp_path.glob("*.segment")
    records, defects = records_of(journal.path)
    alone = Scanner().feed(segment.read_bytes())
    assert disk.calls.count("sync run.jsonl") == n_syncs  # never again on that file
    assert "sync folder" in disk.calls[disk.calls.index(f"create {segment.name}") :]
    assert {1, 2, 3} <= {r.fields.get("iter") for r in alone}  # what was not durable, and on
    assert iterations(journal.path) == [0, 1, 2, 3]
    assert [r.fields["durable_records"] for r in records if r.event == "io_error"] == [2]
    assert not defects
    assert f"going on in {segment}" in capsys.readouterr().err


def test_where_the_journals_own_disk_fails_the_segment_is_on_the_fallback(tmp_path):
    fallback = tmp_path / "another disk"
    broken = False
    disk = FailingDisk("sync", lambda name: broken and not name.endswith(".1.segment"))
    path = tmp_path / "run.jsonl"
    opening = {"format": 1, "run_id": "r", "run_name": "run", "fallback": str(fallback)}
    journal = Journal(path, opening, fallback=fallback, disk=disk)
    broken = True
    journal.append("iter", {"iter": 0})

    assert journal.sync()
    journal.close({})

    assert [p.name for p in fallback.iterdir()] == [segment_name("run", "r", journal.s, 1)]
    assert iterations(path) == [0]
    assert journal.durable_n == journal.n


def test_if_no_disk_can_be_synced_events_are_still_written_and_it_is_reported(tmp_path, capsys):
    broken = False
    disk = FailingDisk("sync", lambda name: broken)
    journal = opened(tmp_path / "run.jsonl", disk=disk)
    broken = True
    journal.append("iter", {"iter": 0})
    assert not journal.sync(timeout_s=5)
    broken = False
    syncs = [call for call in disk.calls if call.startswith("sync run")]
    journal.append("iter", {"iter": 1}, urgent=True)
    assert not journal.sync(timeout_s=0.2)
    journal.close({})

    assert [call for call in disk.calls if call.startswith("sync run")] == syncs
    assert journal.durable_n == 1
    assert iterations(journal.path) == [0, 1]
    assert "a power loss may cost those since record 1" in capsys.readouterr().err


def test_records_no_longer_in_memory_when_a_sync_fails_are_never_counted_as_durable(
    tmp_path, monkeypatch
):
    """And `sync` does not wait for them."""
    monkeypatch.setattr(line_writer, "UNSYNCED_MAX_BYTES", 500)
    broken = False
    disk = FailingDisk("sync", lambda name: broken and name == "run.jsonl")
    journal = opened(tmp_path / "run.jsonl", disk=disk, durability="checkpoint")
    for i in range(50):
        journal.append("iter", {"iter": i})
    broken = True
    journal.append("eval", {"iter": 50}, urgent=True)

    begun = time.monotonic()
    assert not journal.sync()

    assert time.monotonic() - begun < 10
    assert journal.durable_n == 1
    journal.close({})
    assert iterations(journal.path) == list(range(50))


def test_lines_that_a_full_disk_refuses_for_too_long_go_to_the_fallback(tmp_path, monkeypatch):
    monkeypatch.setattr(line_writer, "WAITING_MAX_BYTES", 5000)
    fallback = tmp_path / "another disk"
    full = False
    tried = itertools.count()  # the segment beside the journal is refused, the fallback's is not

    def refuses(name):
        return full and not (name.endswith(".segment") and next(tried))

    disk = FailingDisk("write", refuses)
    path = tmp_path / "run.jsonl"
    opening = {"format": 1, "run_id": "r", "run_name": "run", "fallback": str(fallback)}
    journal = Journal(path, opening, fallback=fallback, disk=disk)
    full = True
    for i in range(300):
        journal.append("iter", {"iter": i})
    journal.close({})

    records, defects = records_of(path)
    assert [r.fields["iter"] for r in records if r.event == "iter"] == list(range(300))
    assert not defects


@pytest.mark.parametrize(
    ("durability", "before_urgent", "after_urgent"),
    [("every", 3, 4), ("interval", 3, 4), ("checkpoint", 1, 4), ("never", 1, 1)],
)
def test_the_policy_determines_when_events_become_durable(
    tmp_path, durability, before_urgent, after_urgent
):
    journal = opened(tmp_path / "run.jsonl", durability=durability, sync_interval_s=0.05)
    journal.append("iter", {"iter": 0})
    journal.append("iter", {"iter": 1})
    if durability != "every":  # there, it is durable when the call has returned
        time.sleep(0.5)
    before = journal.durable_n
    journal.append("eval", {"iter": 2}, urgent=True)
    if durability != "every":
        time.sleep(0.5)

    assert (before, journal.durable_n) == (before_urgent, after_urgent)
    journal.close({})


def test_space_is_reserved_ahead_and_released(tmp_path):
    journal = opened(tmp_path / "run.jsonl")
    reserved = os.stat(journal.path)
    journal.append("iter", {"iter": 0})
    journal.close({})
    closed = os.stat(journal.path)

    if reserved.st_blocks * 512 < RESERVE_BYTES:
        pytest.skip("this file system reserves nothing ahead")
    assert reserved.st_size < 1000
    assert closed.st_blocks * 512 < 100_000
    assert iterations(journal.path) == [0]


def test_on_a_network_file_system_each_later_session_has_a_separate_file(tmp_path):
    """Nothing is appended to, or cut from, a file that another machine may be writing."""

    class NetworkDisk(RecordingDisk):
        def is_network(self, path):
            return True

    first = opened(tmp_path / "run.jsonl", disk=NetworkDisk())
    first.append("iter", {"iter": 0})
    first.close({})
    torn = first.path.read_bytes() + b'{"n":3,"s":"half'
    first.path.write_bytes(torn)
    for i in (1, 2, 3):
        disk = NetworkDisk()
        later = opened(first.path, disk=disk)
        later.append("iter", {"iter": i})
        later.close({})

    run = eventlog.load_run(first.path)
    assert first.path.read_bytes() == torn
    assert len(list(tmp_path.glob("run.*.0.segment"))) == 3
    assert [row["iter"] for row in run.training_iterations] == [0, 1, 2, 3]
    assert [session["last_iter"] for session in run.journal["sessions"]] == [0, 1, 2, 3]
    assert f"sync {segment_name('run', 'r', later.s, 0)}" in disk.calls


def test_events_of_a_resumed_session_come_after_the_segment_of_the_one_before(tmp_path):
    """Merged by session, not by file: otherwise the later events would be the superseded ones."""
    broken = False
    disk = FailingDisk("sync", lambda name: broken and name == "run.jsonl")
    first = opened(tmp_path / "run.jsonl", disk=disk)
    broken = True
    first.append("iter", {"iter": 0, "loss": 1.0})
    first.sync()
    first.append("iter", {"iter": 1, "loss": 1.0})
    first.append("iter", {"iter": 2, "loss": 1.0})
    first.close({})
    second = opened(first.path)
    second.append("iter", {"iter": 1, "loss": 2.0})
    second.close({})

    run = eventlog.load_run(first.path)
    iterations = [(row["iter"], row["loss"]) for row in run.training_iterations]
    assert iterations == [(0, 1.0), (1, 2.0)]
    assert run.journal["superseded"]["iterations"] == 2
    assert [row["file"] for row in run.journal["segments"]] == [
        segment_name("run", "r", first.s, 0)
    ]


# ---- opening again


@given(data=st.data())
@settings(max_examples=60)
def test_a_tail_cut_at_any_byte_is_saved_and_the_next_event_is_readable(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("torn")
    path = folder / "run.jsonl"
    journal = opened(path)
    for i in range(5):
        journal.append("iter", {"iter": i, "loss": 1.5})
    journal.close({})
    whole = path.read_bytes()
    cut = data.draw(st.integers(1, len(whole)))
    path.write_bytes(whole[:cut])

    again = opened(path)
    again.append("iter", {"iter": 99})
    again.close({})

    records, defects = records_of(path)
    torn = whole[:cut].rpartition(b"\n")[2]
    survivors = whole[:cut].count(b"\n") + (torn + b"\n" in whole.splitlines(keepends=True))
    assert len(records) == survivors + 3  # what was whole, and the new session's three
    assert [d for d in defects if d.kind != "gap"] == []
    saved = list(folder.glob("*.torn"))
    if survivors == whole[:cut].count(b"\n") and torn:
        torn_tail = next(r for r in records if r.s == again.s).fields["found"]["torn"]
        assert saved[0].read_bytes() == torn
        assert torn_tail == {
            "offset": cut - len(torn),
            "size_bytes": len(torn),
            "kept_in": saved[0].name,
        }
    else:
        assert saved == []


def test_a_whole_record_without_its_line_feed_is_reported_and_nothing_is_cut(tmp_path):
    journal = opened(tmp_path / "run.jsonl")
    journal.append("iter", {"iter": 0})
    whole = journal.path.read_bytes().rstrip(b"\n")
    journal.close({})
    journal.path.write_bytes(whole)

    again = opened(journal.path)
    again.close({})

    opening = next(r for r in records_of(journal.path)[0] if r.s == again.s)
    last = whole.rpartition(b"\n")[2]
    assert opening.fields["found"] == {
        "unterminated": {"offset": len(whole) - len(last), "size_bytes": len(last)}
    }
    assert list(tmp_path.glob("*.torn")) == []
    assert journal.path.read_bytes().startswith(whole + b"\n")


def test_a_tail_of_zeros_from_a_power_loss_is_saved(tmp_path):
    journal = opened(tmp_path / "run.jsonl")
    journal.append("iter", {"iter": 0})
    journal.close({})
    with open(journal.path, "ab") as file:
        file.write(b'{"n":3,"s' + bytes(5000))

    again = opened(journal.path)
    again.append("iter", {"iter": 1})
    again.close({})

    (saved,) = tmp_path.glob("*.torn")
    assert saved.read_bytes() == b'{"n":3,"s' + bytes(5000)
    assert iterations(journal.path) == [0, 1]
    assert records_of(journal.path)[1] == []


def test_a_whole_record_without_its_line_feed_before_a_tail_of_zeros_is_not_cut(tmp_path):
    journal = opened(tmp_path / "run.jsonl")
    journal.append("iter", {"iter": 0})
    journal.append("iter", {"iter": 1})
    whole = journal.path.read_bytes().rstrip(b"\n")
    journal.close({})
    journal.path.write_bytes(whole + bytes(3000))

    again = opened(journal.path)
    again.append("iter", {"iter": 2})
    again.close({})

    (saved,) = tmp_path.glob("*.torn")
    assert saved.read_bytes() == bytes(3000)
    assert iterations(journal.path) == [0, 1, 2]
    assert records_of(journal.path)[1] == []


def test_a_tail_that_cannot_be_saved_is_not_cut(tmp_path):
    path = tmp_path / "run.jsonl"
    opened(path).close({})
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"n":2,"s":"half')
    disk = RefusingDisk(lambda op, n: errno.ENOSPC if op == "create" else None)

    again = opened(path, disk=disk)
    again.append("iter", {"iter": 7})
    again.close({})

    assert path.read_bytes().startswith(whole + b'{"n":2,"s":"half\n')
    assert iterations(path) == [7]


def test_damage_before_the_tail_is_never_touched(tmp_path):
    path = tmp_path / "run.jsonl"
    journal = opened(path)
    journal.append("iter", {"iter": 0})
    journal.close({})
    damaged = path.read_bytes().replace(b'"iter":0', b'"iter":8')
    path.write_bytes(damaged)

    opened(path).close({})

    assert path.read_bytes().startswith(damaged)


# ---- one writer


def test_a_second_writer_is_refused_with_the_process_that_holds_the_lock(tmp_path):
    journal = opened(tmp_path / "run.jsonl")
    session = eventlog.open_run(tmp_path, run_name="mine", save_interval=0)

    with pytest.raises(eventlog.JournalLocked) as refusal:
        eventlog.open_run(journal=session.journal_path)

    text = str(refusal.value)
    assert str(session.journal_path) in text
    assert f"process {os.getpid()} on " in text
    assert f"session {session.id}" in text
    assert "or start a new run" in text
    journal.close({})
    session.close()


def test_a_refused_writer_changes_no_byte(tmp_path):
    journal = opened(tmp_path / "run.jsonl")
    journal.append("iter", {"iter": 0})
    before = journal.path.read_bytes()

    with pytest.raises(eventlog.JournalLocked):
        opened(journal.path)

    assert journal.path.read_bytes() == before
    journal.close({})


class NoLocks(RecordingDisk):
    """A file system without locks."""

    def lock(self, fd):
        return None


def test_writers_that_ignore_the_lock_both_keep_their_events_and_are_reported(tmp_path):
    """One write for each event, O_APPEND: lines do not mix; sessions have numbers of their own."""
    path, n_events = tmp_path / "run.jsonl", 2000
    opened(path).close({})
    gate_read, gate_write = os.pipe()
    children = []
    for k in range(4):
        child = os.fork()
        if child == 0:
            os.close(gate_write)
            journal = opened(path, disk=NoLocks(), durability="never")
            os.read(gate_read, 1)  # all begin together
            for i in range(n_events):
                journal.append("iter", {"iter": i, "writer": k, "pad": "x" * (i % 3000)})
            journal.close({})
            os._exit(0)
        children.append(child)
    time.sleep(0.3)
    os.close(gate_read)
    os.close(gate_write)
    for child in children:
        assert os.waitpid(child, 0)[1] == 0

    records, defects = records_of(path)
    written = {(r.fields["writer"], r.fields["iter"]) for r in records if r.event == "iter"}
    assert len(written) == 4 * n_events
    assert "two_writers" in {d.kind for d in defects}
    assert [d for d in defects if d.lost != 0] == []


WRITER_WITH_A_FORKED_WORKER = """
import os, sys, time
sys.path.insert(0, {root!r})
import eventlog
run = eventlog.open_run({out!r}, save_interval=0)
run.log_iter(0, 1.0)
if os.fork() == 0:
    run.log_iter(666, 1.0)
    run.log_iter(667, 1.0)
    time.sleep(60)
    os._exit(0)
print(run.journal_path, flush=True)
time.sleep(60)
"""


def test_a_forked_child_logs_nothing_warns_once_and_does_not_hold_the_lock(tmp_path):
    program = WRITER_WITH_A_FORKED_WORKER.format(root=os.getcwd(), out=str(tmp_path))
    writer = subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    path = tmp_path / os.path.basename(writer.stdout.readline().strip())
    warning = writer.stderr.readline()
    try:
        assert is_locked(path)
        writer.kill()
        writer.wait()

        assert not is_locked(path)  # although the worker lives
        assert iterations(path) == [0]
        assert "forked children of this process" in warning
        assert "log from the main process" in warning
    finally:
        os.killpg(writer.pid, signal.SIGKILL)
    assert writer.stderr.read() == ""
    writer.stdout.close()
    writer.stderr.close()


def test_threads_append_concurrently_without_mixing_lines(tmp_path):
    import threading

    journal = opened(tmp_path / "run.jsonl", sync_interval_s=0.001)

    def work(k):
        for i in range(500):
            journal.append("iter", {"iter": i, "worker": k})

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    journal.close({})

    records, defects = records_of(journal.path)
    assert defects == []
    assert [r.n for r in records] == list(range(2002))


def test_a_close_that_waits_for_the_disk_prints_a_message(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("eventlog.write.journal.SAY_AFTER_S", 0.05)
    is_printed = threading.Event()
    disk = HeldDisk(is_printed)
    journal = opened(tmp_path / "run.jsonl", disk=disk)
    disk.is_held = True
    monkeypatch.setattr("eventlog.write.journal.say", lambda text: (print(text), is_printed.set()))

    journal.append("iter", {"iter": 0})
    journal.close({})

    assert "waits for the disk to confirm all events, 30 s at most" in capsys.readouterr().out
    assert journal.durable_n == journal.n


class HeldDisk(eventlog.disk.Disk):
    """Its syncs return only after an event."""

    def __init__(self, until):
        self.until, self.is_held = until, False

    def sync_data(self, fd):
        if self.is_held:
            self.until.wait(60)
        super().sync_data(fd)


def test_no_exception_ends_the_thread_that_syncs(tmp_path, capfd):
    run = eventlog.open_run(tmp_path, save_interval=0, sync_interval_s=0.02)
    texts = []

    def is_reported():
        texts.append(capfd.readouterr().err)
        return "came into the thread that syncs" in "".join(texts)

    for kind in (TimeoutError, KeyboardInterrupt, SystemExit):
        errors = run.errors
        ident = ctypes.c_ulong(run._journal._thread._thread.ident)
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ident, ctypes.py_object(kind))
        wait_for(lambda errors=errors: run.errors > errors)
        wait_for(is_reported)
    run.log_iter(0, 1.0)

    assert run.sync()
    assert run.errors == 3
    run.close()
    assert eventlog.load_run(run.journal_path).status == "completed"
    is_reported()
    assert "came into the thread that syncs" in "".join(texts)


def test_an_exception_that_comes_while_another_is_counted_does_not_end_the_thread(
    tmp_path, monkeypatch
):
    def count(thread, error):
        monkeypatch.undo()
        raise error

    journal = opened(tmp_path / "run.jsonl", sync_interval_s=0.02)
    monkeypatch.setattr(SyncThread, "_count_error", count)
    ident = ctypes.c_ulong(journal._thread._thread.ident)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ident, ctypes.py_object(TimeoutError))
    wait_for(lambda: journal.errors == 1)
    journal.append("note", {"text": "kept"})

    assert journal.sync()
    assert journal._thread._thread.is_alive()
    journal.close({"status": "completed"})


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("at", ["sync", "close"])
def test_if_the_sync_thread_has_ended_sync_and_close_do_its_work(tmp_path, monkeypatch, capfd, at):
    def ends(thread):
        thread.has_ended = True
        thread._end.put(None)

    monkeypatch.setattr(SyncThread, "_run", ends)
    journal = opened(tmp_path / "run.jsonl")
    journal._thread._thread.join()
    journal.append("note", {"text": "kept"})
    if at == "sync":
        assert journal.sync()
    begin = time.monotonic()
    journal.close({"status": "completed"})

    assert journal.durable_n == journal.n
    assert time.monotonic() - begin < 5
    assert "waits for the disk" not in capfd.readouterr().err


def test_a_sync_that_fails_after_the_close_event_is_no_error_and_loses_nothing(
    tmp_path, monkeypatch, capfd
):
    class FailsAfterTheEnd(eventlog.disk.Disk):
        is_slow = False

        def sync_data(self, fd):
            if self.is_slow:
                wait_for(lambda: run._journal._closed)
                self.is_slow = False
                raise OSError(errno.EIO, "lost pages")
            super().sync_data(fd)

    monkeypatch.setattr("eventlog.write.journal.CLOSE_PATIENCE_S", 2.0)
    disk = FailsAfterTheEnd()
    run = eventlog.open_run(tmp_path, save_interval=0, disk=disk, fallback=tmp_path / "fallback")
    disk.is_slow = True
    run.log_iter(0, 1.0)
    run.close()

    assert run.errors == 0
    assert "came into the thread that syncs" not in capfd.readouterr().err
    loaded = eventlog.load_run(run.journal_path)
    assert (loaded.status, len(loaded.training_iterations)) == ("completed", 1)
    assert [s["file"] for s in loaded.journal["segments"]]


def test_a_lock_that_a_killed_writer_left_to_a_process_it_was_starting_is_waited_for(tmp_path):
    """The child has the lock until its `exec`, which a busy machine delays."""
    program = f"""
import os, signal, eventlog
run = eventlog.open_run({str(tmp_path)!r}, save_interval=0)
os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", program], check=False)
    (path,) = tmp_path.glob("*.jsonl")

    class HeldForAMoment(eventlog.disk.Disk):
        until = time.monotonic() + 0.5

        def lock(self, fd):
            return super().lock(fd) if time.monotonic() > self.until else False

    with eventlog.open_run(journal=path, save_interval=0, disk=HeldForAMoment()) as run:
        run.log_iter(0, 1.0)

    assert [record.event for record in eventlog.scan(path)] == ["open", "open", "iter", "close"]


def wait_for(is_so):
    give_up = time.monotonic() + 10
    while not is_so():
        assert time.monotonic() < give_up
        time.sleep(0.01)


def test_waiting_for_a_full_disk_keeps_no_core_busy(tmp_path, monkeypatch):
    is_full, n_syncs = [False], []
    disk = RefusingDisk(lambda call, n: errno.ENOSPC if is_full[0] and call != "sync" else None)
    run = eventlog.open_run(tmp_path, save_interval=0, disk=disk)
    retry = Appender.retry
    monkeypatch.setattr(Appender, "retry", lambda self: n_syncs.append(1) or retry(self))
    is_full[0] = True
    run.log("note", text="x")

    assert not run.sync(timeout_s=0.5)
    assert len(n_syncs) < 30
    is_full[0] = False
    run.close()
    assert run.errors == 0
