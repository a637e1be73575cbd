"""A journal that is moved, deleted, replaced, cut or closed under its writer keeps its events."""

import errno
import os
import shutil
import subprocess
import sys
import time

import orjson
import pytest

import eventlog
from eventlog.cli.main import main
from eventlog.disk import Disk
from eventlog.write import relocation


@pytest.fixture
def run(tmp_path):
    """A run with ten iterations, whose thread checks its files every 20 ms."""
    run = eventlog.open_run(
        tmp_path / "out", save_interval=0, sync_interval_s=0.02, fallback=tmp_path / "fallback"
    )
    for i in range(10):
        run.log_iter(i, 1.0)
    assert run.sync()
    yield run
    run.close()


def assert_prints(output, code, tmp_path):
    """A program in this folder prints exactly this."""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.stdout == output, done.stderr


def go_on(run):
    """Ten more iterations after the thread has checked the files; then close."""
    appender = run._journal._appender
    before = appender.path, appender.identity, appender.end
    for _ in range(500):
        if (appender.path, appender.identity, appender.end) != before:
            break
        time.sleep(0.02)
    for i in range(10, 20):
        run.log_iter(i, 1.0)
    run.close()


def iterations(journal):
    return [row["iter"] for row in eventlog.load_run(journal).training_iterations]


def test_a_deleted_folder_is_restored_with_the_whole_journal(run, tmp_path, capsys):
    shutil.rmtree(tmp_path / "out")
    go_on(run)

    assert iterations(run.journal_path) == list(range(20))
    assert eventlog.load_run(run.journal_path).status == "completed"
    assert capsys.readouterr().err.count("was deleted") == 1
    assert run.errors == 0


def test_a_run_whose_folder_is_moved_goes_on_in_it(run, tmp_path, capsys):
    os.rename(tmp_path / "out", tmp_path / "old")
    go_on(run)

    assert run.journal_path.parent == tmp_path / "old"
    assert run.run_path.parent == tmp_path / "old"
    assert iterations(run.journal_path) == list(range(20))
    assert capsys.readouterr().err.count("was moved to") == 1


@pytest.mark.parametrize("replaced", [False, True])
def test_a_journal_that_is_deleted_on_nfs_is_not_followed_to_its_last_name(run, replaced, capsys):
    """The NFS client gives a deleted file this name, and removes it when the last one closes it."""
    hidden = run.journal_path.with_name(".nfs00000000012345670000001f")
    older = run.journal_path.read_bytes()[:-500]
    os.rename(run.journal_path, hidden)
    if replaced:
        run.journal_path.write_bytes(older)
    go_on(run)
    hidden.unlink()

    assert iterations(run.journal_path) == list(range(20))
    assert eventlog.load_run(run.journal_path).status == "completed"
    assert "was moved to" not in capsys.readouterr().err
    assert run.errors == 0


def replaced_by_rename(path):
    """As rsync, `git checkout` and `sed -i` do: a new file is renamed to the path."""
    copy = path.with_suffix(".copy")
    copy.write_bytes(path.read_bytes())
    os.replace(copy, path)


def edited_in_place(path):
    subprocess.run(["sed", "-i", "s/zzz/yyy/", path], check=True)


def replaced_by_an_older_one(path):
    copy = path.with_suffix(".copy")
    copy.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:4]))
    os.replace(copy, path)


@pytest.mark.parametrize("replace", [replaced_by_rename, edited_in_place, replaced_by_an_older_one])
def test_a_journal_that_another_file_replaces_loses_no_event(run, replace, capsys):
    replace(run.journal_path)
    go_on(run)

    assert iterations(run.journal_path) == list(range(20))
    assert eventlog.load_run(run.journal_path).journal["defects"] == []
    assert "was replaced by another file" in capsys.readouterr().err


def test_a_journal_that_was_replaced_is_still_locked(run):
    replaced_by_rename(run.journal_path)
    for _ in range(100):
        if run._journal._appender.path != run.journal_path:
            break
        run.sync(0.05)
        run.log("note", text="wait")

    assert eventlog.is_locked(run.journal_path)


def test_a_run_whose_journal_was_replaced_and_then_moved_goes_on_there(run, tmp_path):
    """The writer follows the file that replaced it from then on."""
    replaced_by_rename(run.journal_path)
    run._journal._appender.check_place()
    os.rename(tmp_path / "out", tmp_path / "old")
    go_on(run)

    assert run.journal_path.parent == tmp_path / "old"
    assert not (tmp_path / "out").exists()
    assert iterations(run.journal_path) == list(range(20))


class Fails(Disk):
    """A disk whose next syncs of files fail, and which then has lost the data."""

    n_failures = 0

    def sync_data(self, fd):
        if self.n_failures:
            self.n_failures -= 1
            raise OSError(5, "lost pages")
        super().sync_data(fd)


def test_a_fifo_in_place_of_the_journal_does_not_block(run):
    run.journal_path.unlink()
    os.mkfifo(run.journal_path)
    go_on(run)
    run.close()

    (segment,) = run.journal_path.parent.glob("*.segment")
    assert segment.read_bytes().count(b'"event":"iter"') == 20


def run_that_left_its_journal(tmp_path, n):
    """A run with `n` iterations in its journal and one, after a failed sync, in a segment."""
    disk = Fails()
    run = eventlog.open_run(
        tmp_path / "out", save_interval=0, disk=disk, sync_interval_s=60, config={"lr": 0.1}
    )
    for i in range(n):
        run.log_iter(i, 1.0)
    assert run.sync()
    disk.n_failures = 1
    run.log_iter(n, 1.0)
    assert run.sync()
    return run


def test_no_event_is_lost_if_an_older_copy_replaces_a_journal_that_its_session_has_left(tmp_path):
    run = run_that_left_its_journal(tmp_path, 10)
    assert run._journal._appender.path != run.journal_path
    replaced_by_an_older_one(run.journal_path)
    run._journal._appender.check_place()
    run.log_iter(11, 1.0)
    run.close()

    assert iterations(run.journal_path) == list(range(12))


@pytest.mark.parametrize("left_bytes", [0, 2000])
def test_a_journal_that_is_cut_after_its_session_has_left_it_is_noticed(
    tmp_path, left_bytes, capsys
):
    run = run_that_left_its_journal(tmp_path, 20)
    os.truncate(run.journal_path, left_bytes)
    run._journal._appender.check_place()
    run.log_iter(21, 1.0)
    run.close()

    log = eventlog.load_run(run.journal_path)
    assert (log.status, log.config) == ("completed", {"lr": 0.1})
    assert iterations(run.journal_path)[-2:] == [20, 21]
    assert log.journal["events"]["io_error"] == 2  # the sync that failed, and this
    assert capsys.readouterr().err.count("was cut from") == 1
    with eventlog.open_run(journal=run.journal_path, save_interval=0) as resumed:
        assert resumed.run_name == run.run_name


@pytest.fixture
def in_second_segment(tmp_path):
    """A run of 30 iterations that has left its journal and a segment beside it, and its disk."""

    class FailsOrIsFull(Fails):
        is_full = False

        def open_new(self, path):
            return super().open_new(self._checked(path))

        def open_append(self, path, *, exclusive=False):
            return super().open_append(self._checked(path), exclusive=exclusive)

        def _checked(self, path):
            if self.is_full:
                raise OSError(errno.ENOSPC, "full")
            return path

    disk = FailsOrIsFull()
    run = eventlog.open_run(
        tmp_path / "out", save_interval=0, disk=disk, sync_interval_s=60, fallback=tmp_path / "fb"
    )
    for i in range(30):
        disk.n_failures = i in (10, 20)
        run.log_iter(i, 1.0)
        assert run.sync()
    yield run, disk
    run.close()


def test_a_segment_that_its_session_has_left_is_written_again_if_it_is_deleted(
    in_second_segment, tmp_path, capsys
):
    run, _ = in_second_segment
    shutil.rmtree(tmp_path / "out")
    run._journal._appender.check_place()
    run.log_iter(30, 1.0)
    run.close()

    assert iterations(run.journal_path) == list(range(31))
    assert eventlog.load_run(run.journal_path).journal["defects"] == []
    assert capsys.readouterr().err.count("was deleted") == 2


def test_what_a_replaced_segment_held_goes_on_in_a_new_one(in_second_segment, tmp_path):
    run, _ = in_second_segment
    (segment,) = (tmp_path / "out").glob("*.0.segment")
    segment.unlink()
    segment.write_text("a list\n")
    for _ in range(2):
        run._journal._appender.check_place()
    run.log_iter(30, 1.0)
    run.close()

    assert iterations(run.journal_path) == list(range(31))
    assert segment.read_text() == "a list\n"
    assert run.errors == 0


def test_what_a_deleted_segment_held_is_counted_where_it_cannot_be_written_again(
    in_second_segment, tmp_path, capsys
):
    run, disk = in_second_segment
    (segment,) = (tmp_path / "out").glob("*.0.segment")
    n_records = segment.read_bytes().count(b'"event":') - 1  # without its header
    segment.unlink()
    disk.is_full = True
    for _ in range(2):
        run._journal._appender.check_place()
    run.close()

    defects = eventlog.load_run(run.journal_path).journal["defects"]
    n_missing = sum(defect["lost"] or 0 for defect in defects)
    assert 9 <= n_missing <= n_records
    assert run.lost == run.errors == n_missing
    assert capsys.readouterr().err.count("was deleted or replaced") == 1


def test_lines_repeated_in_a_segment_are_written_again_if_its_first_sync_fails(tmp_path):
    """The content of the replaced file was durable; that of the segment is not yet."""
    disk = Fails()
    run = eventlog.open_run(tmp_path / "out", save_interval=0, disk=disk, sync_interval_s=60)
    for i in range(10):
        run.log_iter(i, 1.0)
    assert run.sync()
    replaced_by_an_older_one(run.journal_path)
    run._journal._appender.check_place()
    disk.n_failures = 1
    run.log_iter(10, 1.0)
    assert run.sync()
    (failed,) = run.journal_path.parent.glob("*.0.segment")
    run.close()
    failed.unlink()

    assert iterations(run.journal_path) == list(range(11))


def test_the_descriptor_is_checked_also_after_the_clock_went_back(tmp_path):
    run = eventlog.open_run(tmp_path / "out", save_interval=0, sync_interval_s=60)
    appender = run._journal._appender
    appender._check_at_us += 3 * 3600 * 1_000_000  # as after a clock step of three hours
    with open(tmp_path / "mine", "wb") as file:
        os.dup2(file.fileno(), appender.fd)
    run.log_iter(0, 1.0)
    run.close()

    assert (tmp_path / "mine").read_bytes() == b""
    assert iterations(run.journal_path) == [0]


def test_another_file_at_the_journals_path_is_not_changed(run):
    run.journal_path.unlink()
    run.journal_path.write_text("a list\n")
    go_on(run)

    assert run.journal_path.read_text() == "a list\n"
    segments = list(run.journal_path.parent.glob("*.segment"))
    assert len(segments) == 1
    assert segments[0].read_bytes().count(b'"event":"iter"') == 20


def test_a_journal_that_was_cut_goes_on_in_a_new_line(run, capsys):
    os.truncate(run.journal_path, os.path.getsize(run.journal_path) - 100)
    go_on(run)

    assert iterations(run.journal_path)[-11:-9] == [8, 10]
    assert "was cut from" in capsys.readouterr().err


def test_descriptors_that_the_program_closes_are_opened_again(run, capsys):
    os.close(run._journal._appender.fd)
    for i in range(10, 20):
        run.log_iter(i, 1.0)
    run.close()

    printed = capsys.readouterr().err
    assert iterations(run.journal_path) == list(range(20))
    assert "closed its descriptor" in printed
    assert run.errors == 0, printed


def test_a_descriptor_that_became_another_file_is_not_written_to(tmp_path):
    code = """
import os, eventlog
run = eventlog.open_run("out", save_interval=0)
run.log_iter(0, 1.0)
os.closerange(3, 4096)
mine = [open(f"mine{k}", "w") for k in range(50)]
for i in range(1, 200): run.log_iter(i, 1.0)
run.close()
for file in mine: file.write("mine"); file.close()
print(len(eventlog.load_run(run.journal_path).training_iterations))
"""
    assert_prints("200\n", code, tmp_path)
    assert {path.read_text() for path in tmp_path.glob("mine*")} == {"mine"}


ALL_CLOSED = """
import errno, os, resource, subprocess, sys, time, eventlog
from eventlog.disk import Disk

class FailsOnce(Disk):
    fails = False
    def sync_data(self, fd):
        if self.fails:
            self.fails = False
            raise OSError(errno.EIO, "lost pages")
        super().sync_data(fd)

def go_on_in_a_segment():
    if HOW == "a sync fails":
        disk.fails = True
    else:
        path = str(run.journal_path)
        open(path + ".new", "wb").write(open(path, "rb").read())
        os.replace(path + ".new", path)
    run.log_iter(100, 1.0)
    run.sync()

disk = FailsOnce()
run = eventlog.open_run("out", save_interval=0, sync_interval_s=0.2, disk=disk)
run.log_iter(0, 1.0)
"""

LEAVES_THE_JOURNAL = pytest.mark.parametrize("how", ["a sync fails", "it is replaced"])


@LEAVES_THE_JOURNAL
def test_files_of_the_program_that_have_the_numbers_of_ours_are_neither_closed_nor_written(
    how, tmp_path
):
    code = f"""HOW = {how!r}
{ALL_CLOSED}
resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
go_on_in_a_segment()
HOW = "a sync fails"
go_on_in_a_segment()
os.closerange(3, 4096)
mine = [open(f"mine{{k}}", "w") for k in range(1500)]
time.sleep(0.1)
run.log_iter(1, 1.0)
go_on_in_a_segment()
run.close()
for file in mine: file.write("mine"); file.close()
print(run.errors, eventlog.load_run(run.journal_path).status)
"""
    assert_prints("0 completed\n", code, tmp_path)
    assert {path.read_text() for path in tmp_path.glob("mine*")} == {"mine"}


@LEAVES_THE_JOURNAL
def test_a_run_in_a_segment_whose_descriptors_are_closed_is_still_locked(how, tmp_path):
    code = f"""HOW = {how!r}
{ALL_CLOSED}
go_on_in_a_segment()
os.closerange(3, 4096)
run.log_iter(1, 1.0)
time.sleep(1)
another = "import sys, eventlog; eventlog.open_run(journal=sys.argv[1], save_interval=0)"
done = subprocess.run(
    [sys.executable, "-c", another, str(run.journal_path)], capture_output=True, text=True
)
print(eventlog.load_run(run.journal_path).status, "JournalLocked" in done.stderr)
run.close()
"""
    assert_prints("running True\n", code, tmp_path)


@pytest.mark.parametrize("call", ["fstat", "stat"])
def test_a_failing_disk_is_not_mistaken_for_a_closed_descriptor_or_a_deleted_file(
    run, monkeypatch, capsys, call
):
    appender = run._journal._appender
    before = appender.fd, appender.path
    works = getattr(os, call)

    def fails(file, **named):
        if file in before:
            raise OSError(errno.EIO, "Input/output error")
        return works(file, **named)

    with monkeypatch.context() as patch:
        patch.setattr(relocation.os, call, fails)
        appender.check_place()

    assert (appender.fd, appender.path) == before
    assert capsys.readouterr().err == ""


def test_a_descriptor_number_that_belongs_to_another_file_is_not_used_again(tmp_path):
    """Even if the same number is used again, by `dup2`."""
    run = eventlog.open_run(tmp_path / "out", save_interval=0)
    mine = tmp_path / "mine"
    with open(mine, "wb") as file:
        os.dup2(file.fileno(), run._journal._appender.fd)
    run._journal._appender._check_at_us = 0
    for i in range(5):
        run.log_iter(i, 1.0)
    run.close()

    assert mine.read_bytes() == b""
    assert iterations(run.journal_path) == list(range(5))


def test_a_program_that_changes_its_working_folder_still_writes_one_run(tmp_path):
    code = """
import os, eventlog
with eventlog.init(name="m", save_interval=1) as run:
    for i in range(5): run.log({"a": i}, step=i)
    os.mkdir("elsewhere"); os.chdir("elsewhere")
    for i in range(5, 10): run.log({"a": i}, step=i)
print(len(eventlog.load_run(run.run_path).metrics))
"""
    assert_prints("10\n", code, tmp_path)
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.parametrize("durability", ["interval", "every", "never"])
@pytest.mark.parametrize("vanish", ["deleted", "replaced"])
def test_a_run_whose_file_vanishes_right_before_the_end_keeps_its_events(
    tmp_path, durability, vanish
):
    """Everything is durable: no sync would check the file any more."""
    run = eventlog.open_run(tmp_path / "out", save_interval=0, durability=durability)
    older = run.journal_path.read_bytes()
    for i in range(100):
        run.log_iter(i, 1.0)
    run.sync()
    if vanish == "deleted":
        shutil.rmtree(tmp_path / "out")
    else:
        run.journal_path.unlink()
        run.journal_path.write_bytes(older)
    run.close()

    assert iterations(run.journal_path) == list(range(100))


def test_a_deleted_journal_that_its_session_has_left_is_restored(tmp_path):
    """It goes on in a segment; then the folder is deleted with all that is durable."""

    class Breaks(Disk):
        broken = False

        def sync_data(self, fd):
            if self.broken and "fallback" not in os.readlink(f"/proc/self/fd/{fd}"):
                raise OSError(5, "lost pages")
            super().sync_data(fd)

    disk = Breaks()
    run = eventlog.open_run(
        tmp_path / "out", save_interval=0, disk=disk, fallback=tmp_path / "fallback"
    )
    for i in range(100):
        run.log_iter(i, 1.0)
    run.sync()
    disk.broken = True
    run.log_iter(100, 1.0)
    run.sync()
    disk.broken = False
    shutil.rmtree(tmp_path / "out")
    run.log_iter(101, 1.0)
    run.close()

    assert iterations(run.journal_path) == list(range(102))


def test_events_without_a_place_are_counted_and_reported(tmp_path, capsys):
    from tests.disks import RefusingDisk

    full = False
    disk = RefusingDisk(lambda operation, n: 28 if full and operation == "create" else None)
    run = eventlog.open_run(
        tmp_path / "out", save_interval=0, disk=disk, fallback=tmp_path / "fallback"
    )
    full = True
    replaced_by_an_older_one(run.journal_path)
    for i in range(500):
        run.log_eval(i, 1.0, 1.0)
    run.close()

    assert run.lost > 490
    assert capsys.readouterr().err.count("no segment could be created") == 1


def test_a_journal_restored_when_there_is_space_again_is_not_counted_as_lost(tmp_path):
    from tests.disks import RefusingDisk

    full = False
    disk = RefusingDisk(
        lambda operation, n: 28 if full and operation in ("create", "open") else None
    )
    run = eventlog.open_run(
        tmp_path / "out", save_interval=0, disk=disk, fallback=tmp_path / "fallback"
    )
    run.log_iter(0, 1.0)
    full = True
    run.journal_path.unlink()
    run._journal._appender.check_place()
    full = False
    run.log_iter(1, 1.0)
    run.close()

    assert run.lost == 0
    assert iterations(run.journal_path) == [0, 1]


def test_a_compactor_that_lost_its_pipe_does_not_leave_the_run_json_behind(tmp_path):
    code = """
import os, time, eventlog
run = eventlog.open_run("out", save_interval=10)
for i in range(50): run.log_iter(i, 1.0)
os.closerange(3, 4096)
time.sleep(1)
for i in range(50, 100): run.log_iter(i, 1.0)
run.close()
logged_run = eventlog.load_run(run.run_path)
print(len(logged_run.training_iterations), logged_run.status)
"""
    assert_prints("100 completed\n", code, tmp_path)


def test_a_compactor_follows_a_folder_that_is_moved(tmp_path):
    code = """
import os, time, eventlog
run = eventlog.open_run("out", save_interval=10)
for i in range(50): run.log_iter(i, 1.0)
while not run.run_path.exists(): time.sleep(.1)
os.rename("out", "old")
for i in range(50, 100): run.log_iter(i, 1.0)
time.sleep(1.5)
os.kill(os.getpid(), 9)
"""
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, timeout=60)
    (journal,) = (tmp_path / "old").glob("*.jsonl")
    for _ in range(100):
        time.sleep(0.1)
        run_json = journal.with_suffix(".json")
        if run_json.exists() and b'"interrupted"' in run_json.read_bytes():
            break

    assert orjson.loads(run_json.read_bytes())["summary"]["total_iterations"] == 100


def test_lines_that_a_writer_repeats_in_a_segment_are_not_a_defect(run, capsys):
    replaced_by_rename(run.journal_path)
    go_on(run)
    capsys.readouterr()

    assert main(["verify", str(run.journal_path)]) == 0
    assert "duplicate" not in capsys.readouterr().out


def test_a_journal_cut_to_nothing_gets_its_open_event_again(tmp_path):
    run = eventlog.open_run(tmp_path, config={"lr": 0.5}, save_interval=0, run_name="mine")
    for i in range(10):
        run.log_iter(i, 1.0)
    os.truncate(run.journal_path, 0)
    run._journal._appender.check_place()
    run.log_iter(10, 1.0)
    run.close()

    logged_run = eventlog.load_run(run.journal_path)
    assert (logged_run.run_name, logged_run.config) == (run.run_name, {"lr": 0.5})
    assert logged_run.journal["sessions"][0]["pid"] == os.getpid()
    assert iterations(run.journal_path) == [10]
    assert [d["lost"] for d in logged_run.journal["defects"]] == [10]


def test_a_journal_cut_to_nothing_gets_its_open_event_again_also_after_further_lines(tmp_path):
    run = eventlog.open_run(tmp_path, config={"lr": 0.5}, save_interval=0, run_name="mine")
    appender = run._journal._appender
    for i in range(100):
        run.log_iter(i, 1.0)
    os.truncate(run.journal_path, 0)
    for i in range(100, 150):
        appender._check_at_us = time.time_ns() // 1000 + 9_000  # it is not looked at yet
        run.log_iter(i, 1.0)
    appender.check_place()
    run.close()

    logged_run = eventlog.load_run(run.journal_path)
    assert (logged_run.run_name, logged_run.config) == (run.run_name, {"lr": 0.5})
    assert [d["lost"] for d in logged_run.journal["defects"]] == [100]


def test_a_run_json_with_more_events_is_saved_when_its_journal_has_lost_some(tmp_path, capsys):
    run = eventlog.open_run(tmp_path, save_interval=0)
    for i in range(10):
        run.log_iter(i, 1.0)
    eventlog.compact(run.journal_path)
    os.truncate(run.journal_path, 0)
    run._journal._appender.check_place()
    for _ in range(3):
        run.log_iter(10, 1.0)
        eventlog.compact(run.journal_path)
    run.close()

    (saved,) = tmp_path.glob("*.before-loss*")
    assert len(orjson.loads(saved.read_bytes())["training_iterations"]) == 10
    assert capsys.readouterr().err.count("the old run JSON is kept as") == 1


def test_a_loss_that_leaves_no_gap_is_in_the_run_json_and_in_the_status(run, capsys):
    run.close()
    eventlog.compact(run.journal_path)
    lines = run.journal_path.read_bytes().splitlines(keepends=True)
    run.journal_path.write_bytes(b"".join(lines[:6]) + lines[6][:9])

    lost = [eventlog.compact(run.journal_path).journal["defects"] for _ in range(2)]

    assert lost[0] == lost[1]
    assert [d["lost"] for d in lost[0] if d["kind"] == "fewer_records"] == [12 - 6]
    assert eventlog.load_run(run.run_path).journal["defects"] == lost[0]
    assert eventlog.load_run(run.journal_path).journal["defects"] == lost[0]


def test_a_run_json_kept_before_a_loss_that_cannot_be_read_is_reported(run, capsys):
    run.close()
    kept = run.run_path.with_name(f"{run.run_path.name}.before-loss")
    kept.write_bytes(b"garbage")

    assert main(["verify", str(run.journal_path)]) == 3
    assert f"{kept.name} cannot be read" in capsys.readouterr().out


def test_a_second_loss_saves_a_second_run_json(run):
    for i in range(2):
        eventlog.compact(run.journal_path)
        os.truncate(run.journal_path, 0)
        run._journal._appender.check_place()
        run.log_iter(10 + i, 1.0)
        eventlog.compact(run.journal_path)

    stem = run.run_path.name
    saved = sorted(path.name for path in run.run_path.parent.glob("*.before-loss"))
    assert saved == [f"{stem}.2.before-loss", f"{stem}.before-loss"]


def test_a_run_json_is_saved_however_many_events_followed_the_loss(run):
    eventlog.compact(run.journal_path)
    os.truncate(run.journal_path, 0)
    run._journal._appender.check_place()
    for i in range(10, 100):
        run.log_iter(i, 1.0)
    eventlog.compact(run.journal_path)

    (saved,) = run.run_path.parent.glob("*.before-loss")
    assert len(orjson.loads(saved.read_bytes())["training_iterations"]) == 10
