"""A disk that is really full: training goes on, and no event is missing once there is space."""

import errno
import os
import subprocess
import sys
import time

import orjson
import pytest

import eventlog
from eventlog.disk import Disk
from eventlog.format.files import run_path
from eventlog.read.scanner import scan_file
from tests.disks import RefusingDisk
from tests.durability.filesystems import fill, tmpfs
from tests.durability.writer import Writer, loss_of

MIB = 1 << 20
FULL_S = 1.3  # how long the disk stays full: the writer has tried again, and was refused again


def read(out):
    (journal,) = out.glob("*.jsonl")
    scanner = eventlog.Scanner()
    return list(scan_file(journal, scanner)), scanner.defects


def check_complete(out, report):
    """Nothing raised, nothing was given up, every iteration is in the journal, once."""
    records, defects = read(out)
    rows = [r.fields for r in records if r.event == "iter"]
    assert (report.raised, report.errors) == (0, 0)
    assert [row["iter"] for row in rows] == list(range(report.iterations))
    assert [row["loss"] for row in rows] == [loss_of(row["iter"]) for row in rows]
    assert {d.kind for d in defects} <= {"torn"}  # the line that the disk filled up in
    assert [d for d in defects if d.lost != 0] == []


def compact(out):
    command = [sys.executable, "-m", "eventlog", "compact", str(out)]
    return subprocess.run(command, capture_output=True, text=True)


def wait_until_folded(journal, status, patience_s=5.0):
    """The run JSON that the compactor leaves by itself."""
    give_up = time.monotonic() + patience_s
    while time.monotonic() < give_up:
        if run_path(journal).exists():
            run = orjson.loads(run_path(journal).read_bytes())
            if run["journal"]["status"] == status:
                return run
        time.sleep(0.01)
    raise AssertionError("the compactor did not fold the run")


def size_of_run_json(out):
    return sum(path.stat().st_size for path in out.glob("*.json"))


def go_on(writer, full_s=FULL_S):
    """The writer has met the full disk, and takes more iterations than before."""
    writer.wait_until(lambda report: "refuses writes" in writer.stderr)
    begun, n_before = time.monotonic(), writer.report.iterations
    writer.wait_until(lambda report: time.monotonic() - begun > full_s)
    assert writer.report.iterations > n_before


def test_a_disk_that_is_full_for_a_while_costs_nothing(tmp_path):
    with tmpfs(tmp_path, MIB) as disk:
        out = disk.path / "out"
        (disk.path / "ballast").write_bytes(bytes(900 << 10))
        with Writer(out, tmp_path / "report", rate=1000, save_interval=100) as writer:
            go_on(writer)
            assert disk.free_bytes == 0

            (disk.path / "ballast").unlink()
            assert writer.finish() == 0

        (journal,) = out.glob("*.jsonl")
        run = orjson.loads(run_path(journal).read_bytes())
        check_complete(out, writer.report)
        assert run["journal"]["status"] == "completed"
        assert len(run["training_iterations"]) == writer.report.iterations


def test_a_file_size_limit_costs_nothing(tmp_path):
    """RLIMIT_FSIZE, as a batch system sets it: a short write, then EFBIG; others are written."""
    out = tmp_path / "out"
    with Writer(
        out, tmp_path / "report", rate=1000, save_interval=100, file_limit_bytes=64 << 10
    ) as writer:
        go_on(writer)
        (journal,) = out.glob("*.jsonl")
        size_bytes = journal.stat().st_size

        assert writer.finish() == 0  # it lifts the limit and closes its run

    run = eventlog.load_run(journal)
    assert size_bytes == 64 << 10
    assert (writer.report.raised, writer.report.errors) == (0, 0)
    assert [row["iter"] for row in run.rows("iterations")] == [*range(writer.report.iterations)]
    assert [defect for defect in run.journal["defects"] if defect["lost"] != 0] == []


def test_a_run_killed_on_a_full_disk_keeps_what_was_written(tmp_path):
    with tmpfs(tmp_path, MIB) as disk:
        out = disk.path / "out"
        (disk.path / "ballast").write_bytes(bytes(900 << 10))
        with Writer(out, tmp_path / "report", rate=1000) as writer:
            go_on(writer, full_s=0.1)
            writer.kill()

        records, _ = read(out)
        assert [r.n for r in records] == list(range(len(records)))
        (disk.path / "ballast").unlink()
        assert compact(out).returncode == 0
        (journal,) = out.glob("*.jsonl")
        with eventlog.open_run(journal=journal, from_iter=len(records) - 1, save_interval=0) as run:
            run.log_iter(len(records) - 1, 1.0)
        again, defects = read(out)
        assert again[: len(records)] == records
        assert [d for d in defects if d.lost != 0] == []


def test_a_full_disk_at_compaction_leaves_the_old_run_json_and_no_temporary_file(tmp_path):
    with tmpfs(tmp_path, MIB) as disk:
        out = disk.path / "out"
        with eventlog.open_run(out, save_interval=0) as run:
            for i in range(500):
                run.log_iter(i, loss_of(i))
        assert compact(out).returncode == 0
        old = run.run_path.read_bytes()
        with eventlog.open_run(journal=run.journal_path, from_iter=500, save_interval=0) as again:
            for i in range(500, 600):
                again.log_iter(i, loss_of(i))
        fill(disk.path / "ballast")

        done = compact(out)

        assert done.returncode == 1
        assert "No space left on device" in done.stderr
        assert run.run_path.read_bytes() == old
        assert sorted(os.listdir(out)) == [run.run_path.name, run.journal_path.name]
        (disk.path / "ballast").unlink()
        assert compact(out).returncode == 0
        assert len(eventlog.load_run(run.run_path).training_iterations) == 600


def test_the_compactor_outlives_a_disk_too_full_for_it_and_folds_what_is_killed_later(tmp_path):
    """There is space for lines, but not for a second run JSON beside the first."""
    with tmpfs(tmp_path, 4 * MIB) as disk:
        out = disk.path / "out"
        with Writer(out, tmp_path / "report", rate=500, save_interval=20) as writer:
            writer.wait_until(lambda report: size_of_run_json(out) > 64 << 10)
            (journal,) = out.glob("*.jsonl")
            (disk.path / "reserve").write_bytes(bytes(48 << 10))
            fill(disk.path / "ballast")
            (disk.path / "reserve").unlink()
            go_on(writer, full_s=0.1)
            (disk.path / "ballast").unlink()
            n_before = writer.report.iterations
            writer.wait_until(lambda report: report.durable > n_before)

            writer.kill()

        run = wait_until_folded(journal, "interrupted")
        assert len(run["training_iterations"]) >= n_before


def test_a_run_is_not_opened_on_a_full_disk_and_opens_when_there_is_space(tmp_path):
    with tmpfs(tmp_path, MIB) as disk:
        out = disk.path / "out"
        out.mkdir()
        fill(disk.path / "ballast")
        with pytest.raises(OSError, match=r"refused the journal's first line|No space left"):
            eventlog.open_run(out, save_interval=0)

        (disk.path / "ballast").unlink()
        with eventlog.open_run(out, save_interval=0) as run:
            run.log_iter(0, 1.0)

        assert [r.event for r in eventlog.scan(run.journal_path)] == ["open", "iter", "close"]


class RefusesIn(Disk):
    """A disk on which nothing can be written in one folder, though it is not full."""

    def __init__(self, folder, refusal):
        self.folder, self.refusal, self.is_refusing = str(folder), refusal, False

    def write(self, fd, data):
        self._check(os.readlink(f"/proc/self/fd/{fd}"))
        return super().write(fd, data)

    def open_new(self, path):
        self._check(str(path))
        return super().open_new(path)

    def _check(self, path):
        if self.is_refusing and path.startswith(self.folder):
            raise OSError(self.refusal, os.strerror(self.refusal))


@pytest.mark.parametrize(
    "refusal", [errno.EIO, errno.ESTALE, errno.EROFS, errno.EPERM], ids=errno.errorcode.get
)
def test_what_a_disk_refuses_that_is_not_full_is_soon_in_the_fallback_folder(tmp_path, refusal):
    disk = RefusesIn(tmp_path / "out", refusal)
    run = eventlog.open_run(
        tmp_path / "out", save_interval=0, disk=disk, fallback=tmp_path / "fallback"
    )
    run.log_iter(0, 1.0)
    disk.is_refusing = True
    run.log_iter(1, 1.0)
    run.log_iter(2, 1.0)

    give_up_at = time.monotonic() + 30
    while len(iterations(run.journal_path)) < 3 and time.monotonic() < give_up_at:
        time.sleep(0.1)
    assert iterations(run.journal_path) == [0, 1, 2], "a kill would lose them"
    run.log_iter(3, 1.0)
    assert run.sync()
    run.close()
    assert iterations(run.journal_path) == [0, 1, 2, 3]
    assert (run.lost, run.errors) == (0, 0)


def iterations(journal):
    return [r.fields["iter"] for r in eventlog.scan(journal) if r.event == "iter"]


RESUMED = """
import os, sys, eventlog
out, fallback, ends = sys.argv[1:4]
known_by = {sys.argv[4]: "mine"}
run = eventlog.init(
    dir=out, fallback=fallback, resume="allow", config={"a": "x" * 6000}, quiet=True,
    save_interval=0, **known_by,
)
for step in range(run.step, run.step + 50): run.log({"loss": 1.0}, step=step)
if ends == "killed": os.kill(os.getpid(), 9)
run.finish()
print(run.errors)
"""


def resume(out, fallback, ends, known_by="id"):
    """A job that begins or resumes the run `mine`; its `errors` and what it prints on stderr."""
    command = [sys.executable, "-c", RESUMED, out, fallback, ends, known_by]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == (-9 if ends == "killed" else 0), done.stderr
    return done.stdout.strip(), done.stderr


@pytest.mark.parametrize("known_by", ["id", "name"])
def test_a_run_that_is_resumed_on_a_full_disk_goes_on_in_the_fallback(tmp_path, known_by):
    """And is one run of four sessions for the job after that."""
    with tmpfs(tmp_path, 8 * MIB) as disk:
        out, fallback = disk.path / "out", tmp_path / "fallback"
        resume(out, fallback, "completed", known_by)
        before = read(out)[0]
        fill(disk.path / "ballast")
        resume(out, fallback, "killed", known_by)
        errors, message = resume(out, fallback, "completed", known_by)
        assert read(out)[0][: len(before)] == before
        (disk.path / "ballast").unlink()
        resume(out, fallback, "completed", known_by)

        (journal,) = [*out.glob("*.jsonl"), *fallback.glob("*.jsonl")]
        run = eventlog.load_run(journal)
    assert (errors, "has no space; this session is in" in message) == ("0", True)
    assert [row["step"] for row in run.metrics] == list(range(200))
    assert (run.status, run.config) == ("completed", {"a": "x" * 6000})
    assert run.journal["defects"] == []


def test_a_run_that_no_folder_has_space_to_resume_is_not_begun_a_second_time(tmp_path):
    with tmpfs(tmp_path, 8 * MIB) as disk:
        out, fallback = disk.path / "out", disk.path / "fallback"
        resume(out, fallback, "completed")
        (journal,) = out.glob("*.jsonl")
        before = journal.read_bytes()
        fill(disk.path / "ballast")
        errors, message = resume(out, fallback, "completed")

        assert journal.read_bytes() == before
        assert [*fallback.glob("*")] == []
    assert int(errors) >= 50
    assert message.count("nothing of this session is logged") == 1


def test_a_run_whose_journal_may_not_be_written_any_more_is_resumed_in_the_fallback(tmp_path):
    """As another user's, or on a disk that is mounted read-only."""
    out, fallback = tmp_path / "out", tmp_path / "fallback"
    with eventlog.open_run(out, fallback=fallback, save_interval=0) as run:
        run.log_iter(0, 1.0)
    before = run.journal_path.read_bytes()
    disk = RefusingDisk(lambda operation, n: errno.EROFS if operation == "open" else None)
    resumed = eventlog.open_run(
        journal=run.journal_path, fallback=fallback, save_interval=0, disk=disk
    )
    resumed.log_iter(1, 1.0)
    assert eventlog.is_locked(run.journal_path)
    resumed.close()

    log = eventlog.load_run(run.journal_path)
    assert run.journal_path.read_bytes() == before
    assert [row["iter"] for row in log.training_iterations] == [0, 1]
    assert (log.status, log.journal["defects"]) == ("completed", [])


@pytest.mark.parametrize("existing", [False, True])
def test_a_first_line_for_which_there_is_space_in_part_is_removed(tmp_path, existing):
    """A disk with one free block."""
    with tmpfs(tmp_path, MIB) as disk:
        out = disk.path / "out"
        out.mkdir()
        journal = None
        if existing:
            with eventlog.open_run(out, save_interval=0) as run:
                run.log_iter(0, 1.0)
            journal = run.journal_path
        before = {path: path.read_bytes() for path in out.iterdir()}
        fill(disk.path / "ballast")
        os.truncate(disk.path / "ballast", (disk.path / "ballast").stat().st_size - 4096)
        with pytest.raises(OSError, match="first line"):
            eventlog.open_run(
                out, journal=journal, save_interval=0, config={"a": "x" * 9000},
                fallback=disk.path / "fallback",
            )  # fmt: skip

        assert {path: path.read_bytes() for path in out.iterdir()} == before
