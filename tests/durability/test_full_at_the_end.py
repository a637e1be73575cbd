"""A run ends on a disk that is still full: nothing is lost silently."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import eventlog
from eventlog.cli import report, run_status
from eventlog.fold.load import Folding
from eventlog.write.appender import Appender
from tests.durability.filesystems import fill, tmpfs

MIB = 1 << 20
NOTE = "x" * 1000

PROGRAM = """
import os, sys, eventlog
out, fallback, ballast, n = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
run = eventlog.open_run(out, fallback=fallback, save_interval=0)
for i in range(10): run.log_iter(i, 1.0)
run.sync()
with open(ballast, "wb", buffering=0) as file:
    try:
        while file.write(bytes(65536)): pass
    except OSError: pass
for i in range(10, n): run.log("note", i=i, text="x" * 1000)
run.log_eval(n, 1.0, 2.0)
run.close()
print(run.errors, run.lost, run.records, run.journal_path)
"""


def run_on_a_full_disk(folder, fallback, *, n=6_000):
    """A run that its disk stops taking; errors, lost events, records, the journal."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, folder / "out", fallback, folder / "ballast", str(n)],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=folder.parent,
    )
    assert done.returncode == 0, done.stderr
    errors, lost, records, journal = done.stdout.split()
    return int(errors), int(lost), int(records), journal, done.stderr


def verdict(journal):
    folding = Folding(Path(journal), with_rows=False)
    folding.read_on(to_the_end=True)
    return report.exit_code(folding), report.report(folding)


def test_lines_that_wait_at_the_end_go_to_the_fallback(tmp_path):
    with tmpfs(tmp_path, 8 * MIB) as disk:
        errors, lost, records, journal, _ = run_on_a_full_disk(disk.path, tmp_path / "fallback")

        code, result = verdict(journal)
        run = eventlog.load_run(journal)
    assert (errors, lost, code) == (0, 0, report.COMPLETE)
    assert result["events"]["note"] == 6_000 - 10
    assert result["records"] == records
    assert len(run.eval_steps) == 1
    assert run.status == "completed"


def test_a_run_that_went_on_in_the_fallback_is_incomplete_without_it(tmp_path):
    """As on another machine, where the journal alone was copied to."""
    with tmpfs(tmp_path, 8 * MIB) as disk:
        _, _, _, journal, _ = run_on_a_full_disk(disk.path, tmp_path / "fallback")
        shutil.rmtree(tmp_path / "fallback")

        code, result = verdict(journal)
        status = run_status.status_of(Path(journal))
    assert code == report.LOSS
    assert "missing_segment" in {defect["kind"] for defect in result["defects"]}
    assert str(tmp_path / "fallback") in status["reason"]
    assert "killed" not in status["reason"]


def test_events_that_no_disk_accepts_are_counted_and_reported(tmp_path):
    with tmpfs(tmp_path, 8 * MIB) as disk:
        errors, lost, records, journal, stderr = run_on_a_full_disk(
            disk.path, disk.path / "fallback"
        )

        code, result = verdict(journal)
        run = eventlog.load_run(journal)
    assert lost > 0
    assert errors == lost
    assert f"{lost:,} events" in stderr
    assert code == report.LOSS
    assert result["lost_events"] == lost
    assert result["records"] == records - lost
    assert run.status == "completed"


def test_in_a_fallback_with_too_little_space_is_what_fits(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    with tmpfs(tmp_path / "a", 8 * MIB) as disk, tmpfs(tmp_path / "b", 2 * MIB) as other:
        _, lost, records, journal, stderr = run_on_a_full_disk(disk.path, other.path)

        code, result = verdict(journal)
        segment = next(other.path.glob("*.segment")).stat().st_size
    assert 0 < lost == result["lost_events"]
    assert records - lost - 1 <= result["records"]
    assert segment > MIB
    assert code == report.LOSS
    assert f"no disk took the last {lost:,} events" in stderr


LIMITED = """
import resource, sys, eventlog
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)
run = eventlog.open_run("out", fallback="fallback", save_interval=0)
for i in range(20_000): run.log_iter(i, 1.0, 1.0)
run.close()
print(run.errors, run.lost, run.journal_path)
"""


def run_with_short_files(folder, most_bytes):
    """A run whose files may have `most_bytes`; errors, lost events, the journal."""
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(most_bytes)],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr
    errors, lost, journal = done.stdout.split()
    return int(errors), int(lost), journal


@pytest.mark.parametrize("most_kib", [200, 1000])
def test_where_files_may_not_be_longer_all_events_are_in_several(tmp_path, most_kib):
    errors, lost, journal = run_with_short_files(tmp_path, most_kib << 10)

    code, _ = verdict(journal)
    run = eventlog.load_run(journal)
    assert (errors, lost, code) == (0, 0, report.COMPLETE)
    assert len(run.training_iterations) == 20_000
    assert run.status == "completed"


PAUSED = """
import os, resource, signal, sys, time, eventlog
run = eventlog.open_run("out", fallback="fallback", save_interval=0)
resource.setrlimit(resource.RLIMIT_FSIZE, (100 << 10, 100 << 10))
for i in range(3_000): run.log_iter(i, loss=1.0)
while run.durable_records < run.records: time.sleep(0.05)
print(run.journal_path, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_where_files_may_not_be_longer_events_are_kept_although_nothing_more_is_logged(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", PAUSED], capture_output=True, text=True, timeout=60, cwd=tmp_path
    )

    code, result = verdict(done.stdout.strip())
    assert (code, result["events"]["iter"]) == (report.COMPLETE, 3_000)


LARGE = """
import resource, sys, eventlog
run = eventlog.open_run("out", fallback="fallback", save_interval=0)
limit, resource_limit = int(sys.argv[1]), resource.RLIMIT_FSIZE
resource.setrlimit(resource_limit, (limit, limit))
for i in range(100): run.log_iter(i, 1.0, 1.0)
run.log("table", rows="x" * 3_000_000)
for i in range(100, 2_000): run.log_iter(i, 1.0, 1.0)
run.close()
print(run.errors, run.lost, run.journal_path)
"""


def test_what_is_lost_of_a_run_of_init_is_in_run_lost(tmp_path):
    code = """
import resource, eventlog
run = eventlog.init(dir="out", save_interval=0)
resource.setrlimit(resource.RLIMIT_FSIZE, (8 << 10,) * 2)
for i in range(20_000): run.log({"loss": 1.0})
run.finish()
print(run.errors, run.lost)
"""
    environment = os.environ | {"XDG_STATE_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True, text=True, cwd=tmp_path, env=environment,
    )  # fmt: skip

    errors, lost = map(int, done.stdout.split())
    assert errors == lost > 0


def test_a_large_event_that_no_file_can_hold_costs_no_other(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", LARGE, str(2 * MIB)], capture_output=True, text=True, cwd=tmp_path
    )

    errors, lost, journal = done.stdout.split()
    code, result = verdict(journal)
    assert (errors, lost, code, result["lost_events"]) == ("1", "1", report.LOSS, 1)
    assert [defect["kind"] for defect in result["defects"]] == ["missing_aside"]
    assert len(eventlog.load_run(journal).training_iterations) == 2_000


def test_a_large_event_for_which_there_is_no_space_at_the_end_costs_no_other(tmp_path):
    code = f"""
import eventlog
run = eventlog.open_run("disk/out", fallback="disk/fallback", save_interval=0)
for i in range(100): run.log_iter(i, 1.0, 1.0)
with open("disk/ballast", "wb", buffering=0) as file:
    try:
        while file.write(bytes(65536)): pass
    except OSError: pass
run.log("table", rows="x" * {3 * MIB})
for i in range(100, 2_000): run.log_iter(i, 1.0, 1.0)
run.close()
print(run.errors, run.lost, run.journal_path)
"""
    with tmpfs(tmp_path, 8 * MIB) as disk:
        (tmp_path / "disk").symlink_to(disk.path)
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path
        )

        errors, lost, journal = done.stdout.split()
        code, result = verdict(journal)
        n_iterations = len(eventlog.load_run(journal).training_iterations)
    assert (errors, lost, code, result["lost_events"]) == ("1", "1", report.LOSS, 1)
    assert n_iterations == 2_000


def test_a_loss_is_noted_also_where_the_journal_may_not_be_longer(tmp_path):
    errors, lost, journal = run_with_short_files(tmp_path, 8 << 10)

    code, result = verdict(journal)
    assert 0 < lost == errors == result["lost_events"]
    assert code == report.LOSS
    assert eventlog.load_run(journal).status == "completed"


@pytest.mark.parametrize("free_kib", [12, 30, 90, 220, 300])
def test_a_loss_is_noted_also_if_the_disk_was_nearly_full_at_the_beginning(tmp_path, free_kib):
    """Where 4 MiB cannot be reserved, less is."""
    with tmpfs(tmp_path, 8 * MIB) as disk:
        (disk.path / "fallback").mkdir()
        (disk.path / "out").mkdir()
        with open(disk.path / "before", "wb") as file:
            file.write(bytes(disk.free_bytes - free_kib * 1024))
        _, lost, _, journal, _ = run_on_a_full_disk(disk.path, disk.path / "fallback", n=2_000)

        code, result = verdict(journal)
        run = eventlog.load_run(journal)
    assert lost > 0
    assert (code, result["lost_events"]) == (report.LOSS, lost)
    assert run.status == "completed"


def test_a_run_over_whose_folder_a_disk_is_mounted_says_where_it_goes_on(tmp_path):
    """As automounters do. Without the mount the journal is seen again, and is not complete."""
    out = tmp_path / "out"
    with tmpfs(tmp_path, MIB):  # skips where nothing can be mounted
        run = eventlog.open_run(
            out, save_interval=0, sync_interval_s=0.02, fallback=tmp_path / "fallback"
        )
        for i in range(10):
            run.log_iter(i, 1.0)
        assert run.sync()
        subprocess.run(["mount", "-t", "tmpfs", "none", out], check=True)
        try:
            while run._journal._appender.path == run.journal_path:
                run.sync()
            for i in range(10, 20):
                run.log_iter(i, 1.0)
            run.close()
        finally:
            subprocess.run(["umount", "-l", out], check=True)

    code, result = verdict(run.journal_path)
    assert code == report.LOSS
    assert "missing_segment" in {defect["kind"] for defect in result["defects"]}
    assert run.errors == 0


def test_a_journal_that_became_read_only_goes_on_in_a_segment(tmp_path):
    """`chattr +i`, where the file system has it."""
    out = tmp_path / "out"
    run = eventlog.open_run(out, fallback=tmp_path / "fallback", save_interval=0)
    run.log_iter(0, 1.0)
    done = subprocess.run(["chattr", "+i", run.journal_path], capture_output=True, text=True)
    if done.returncode:
        run.close()
        pytest.skip(f"no chattr +i here: {done.stderr.strip()}")
    try:
        for i in range(1, 500):
            run.log_iter(i, 1.0)
        run.log_eval(500, 1.0, 2.0)
        run.close()
    finally:
        subprocess.run(["chattr", "-i", run.journal_path], check=True)

    folding = Folding(run.journal_path, with_rows=False)
    folding.read_on(to_the_end=True)
    assert run.errors == 0
    assert report.exit_code(folding) == report.COMPLETE
    assert folding.fold.kinds["iter"] == 500


def test_three_runs_of_one_second_with_one_fallback_keep_their_own_segments(tmp_path):
    """Their journals bear the same name, in three folders of a disk that is full."""
    with tmpfs(tmp_path, 24 * MIB) as disk:
        runs = [
            eventlog.open_run(
                disk.path / f"{k}", fallback=tmp_path / "fallback", save_interval=0, run_name="m"
            )
            for k in range(3)
        ]
        names = {run.journal_path.name for run in runs}
        for run in runs:
            run.sync()
        fill(disk.path / "ballast")
        for i in range(6_000):
            for k, run in enumerate(runs):
                run.log("note", i=i, k=k, text=NOTE)
        for run in runs:
            run.close()

        iterations = [
            [r.fields["k"] for r in eventlog.scan(run.journal_path) if r.event == "note"]
            for run in runs
        ]
        codes = [verdict(run.journal_path)[0] for run in runs]
    assert len(names) == 1 or len(names) == 2  # they began in one second, or in two
    assert iterations == [[k] * 6_000 for k in range(3)]
    assert codes == [report.COMPLETE] * 3
    assert len(os.listdir(tmp_path / "fallback")) >= 3


KILLED = """
import os, signal, sys, eventlog
run = eventlog.open_run(sys.argv[1], fallback=sys.argv[2], save_interval=0)
with open(sys.argv[3], "wb", buffering=0) as file:
    try:
        while file.write(bytes(4096)): pass
    except OSError: pass
run.log("table", rows="x" * 1_500_000)
for i in range(2_000): run.log_iter(i, loss=1.0)
print(run.journal_path, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("fallback", ["on the full disk", "on another disk"])
def test_a_kill_on_a_full_disk_costs_a_large_event_and_none_behind_it(tmp_path, fallback):
    with tmpfs(tmp_path, 12 * MIB) as disk:
        other = (disk.path if fallback == "on the full disk" else tmp_path) / "fallback"
        arguments = [disk.path / "out", other, disk.path / "ballast"]
        done = subprocess.run([sys.executable, "-c", KILLED, *arguments], capture_output=True)

        code, result = verdict(done.stdout.decode().strip())
    assert result["events"]["iter"] == 2_000
    n_lost = 1 if fallback == "on the full disk" else 0
    assert (code, result["lost_events"]) == (report.LOSS if n_lost else report.COMPLETE, n_lost)


LARGE_LINES = """
import os, sys, eventlog
out, ballast, n_bytes = sys.argv[1], sys.argv[2], int(sys.argv[3])
run = eventlog.open_run(out, fallback=out + "/fallback", save_interval=0)
with open(ballast, "wb", buffering=0) as file:
    try:
        while file.write(bytes(4096)): pass
    except OSError: pass
for _ in range(60): run.log("note", text="x" * n_bytes)
for i in range(200): run.log_iter(i, 1.0)
run.close()
print(run.errors, run.lost, run.journal_path)
"""


@pytest.mark.parametrize("n_bytes", [70_000, 100_000, 150_000, 900_000])
def test_long_lines_on_a_full_disk_cost_no_later_line_and_not_the_note_of_what_is_lost(
    tmp_path, n_bytes
):
    with tmpfs(tmp_path, 12 * MIB) as disk:
        arguments = [disk.path / "out", disk.path / "ballast", str(n_bytes)]
        done = subprocess.run(
            [sys.executable, "-c", LARGE_LINES, *arguments], capture_output=True, text=True
        )
        errors, lost, journal = done.stdout.split()

        code, result = verdict(journal)
        status = eventlog.load_run(journal).status
    assert (result["events"]["iter"], status) == (200, "completed")
    assert 0 < result["events"].get("note", 0) < 60
    assert int(lost) == int(errors) == result["lost_events"] == 60 - result["events"]["note"]
    assert code == report.LOSS


def test_a_large_event_whose_line_is_lost_too_counts_once(tmp_path):
    program = LARGE_LINES.replace(
        'run.log("note", text="x" * n_bytes)',
        'run.log("note", first=_, **{f"k{k:06}": "v" * 90 for k in range(14_000)})',
    ).replace("range(60)", "range(5)")
    with tmpfs(tmp_path, 12 * MIB) as disk:
        arguments = [disk.path / "out", disk.path / "ballast", "0"]
        done = subprocess.run(
            [sys.executable, "-c", program, *arguments], capture_output=True, text=True
        )
        errors, lost, journal = done.stdout.split()

        code, result = verdict(journal)
    assert int(lost) == int(errors) == result["lost_events"] == 5
    assert code == report.LOSS


def test_an_event_that_takes_most_of_what_a_file_may_have_costs_its_content_alone(tmp_path):
    program = LARGE.replace("3_000_000", "700_000")
    done = subprocess.run(
        [sys.executable, "-c", program, str(500 << 10)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    errors, lost, journal = done.stdout.split()

    code, result = verdict(tmp_path / journal)
    assert (int(errors), int(lost), code) == (1, 1, report.LOSS)
    assert (result["events"]["iter"], result["events"]["table"]) == (2_000, 1)


PART = """
import os, sys, time, eventlog
out, fallback, ballast = sys.argv[1:]
def fill(path, n_bytes_left):
    with open(path, "wb", buffering=0) as file:
        try:
            while file.write(bytes(4096)): pass
        except OSError: pass
        os.truncate(path, max(0, os.path.getsize(path) - n_bytes_left))
run = eventlog.open_run(out, fallback=fallback, save_interval=0)
fill(ballast, 0)
for i in range(6_000): run.log_iter(i, 1.0)
run.sync(timeout_s=0.5)
fill(fallback + "/ballast", 200_000)
with run._journal._lock: run._journal._own_events.sync_failed(OSError(5, "EIO"))
os.unlink(fallback + "/ballast")
for i in range(6_000, 6_100): run.log_iter(i, 1.0)
run.close()
print(run.errors, run.lost, run.journal_path)
"""


def test_a_segment_that_holds_a_part_of_the_lines_goes_on_at_their_end(tmp_path):
    (tmp_path / "a").mkdir(), (tmp_path / "b").mkdir()
    with tmpfs(tmp_path / "a", 3 * MIB) as disk, tmpfs(tmp_path / "b", MIB) as other:
        arguments = [disk.path / "out", other.path, disk.path / "ballast"]
        done = subprocess.run(
            [sys.executable, "-c", PART, *arguments], capture_output=True, text=True
        )
        errors, lost, journal = done.stdout.split()

        code, result = verdict(journal)
    assert (int(errors), int(lost), code) == (0, 0, report.COMPLETE)
    assert "nul" not in {defect["kind"] for defect in result["defects"]}
    assert result["events"]["iter"] == 6_100


BOTH = """
import os, resource, signal, sys, eventlog
out, ballast = sys.argv[1:]
resource.setrlimit(resource.RLIMIT_FSIZE, (4000 << 10, 4000 << 10))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
run = eventlog.open_run(out, fallback=out + "/fallback", save_interval=0)
for k in range(100):
    with open(f"{ballast}{k}", "wb", buffering=0) as file:
        try:
            while file.write(bytes(4096)): pass
        except OSError: pass
for i in range(2_000): run.log_iter(i, 1.0)
print(run.journal_path, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_space_is_reserved_also_where_a_file_may_not_be_four_mebibytes_longer(tmp_path):
    with tmpfs(tmp_path, 12 * MIB) as disk:
        arguments = [disk.path / "out", disk.path / "ballast"]
        done = subprocess.run(
            [sys.executable, "-c", BOTH, *arguments], capture_output=True, text=True
        )

        code, result = verdict(done.stdout.strip())
    assert (code, result["events"]["iter"]) == (report.COMPLETE, 2_000)


def test_at_the_end_the_folders_are_not_tried_again_for_each_long_line(tmp_path, monkeypatch):
    n_tries = []
    leave = Appender._leave_file
    monkeypatch.setattr(Appender, "_leave_file", lambda self: n_tries.append(1) or leave(self))
    with tmpfs(tmp_path, 12 * MIB) as disk:
        run = eventlog.open_run(disk.path, fallback=disk.path / "fallback", save_interval=0)
        fill(disk.path / "ballast")
        for _ in range(100):
            run.log("note", text="x" * 70_000)
        run.close()
    assert run.lost > 30
    assert len(n_tries) < 5
