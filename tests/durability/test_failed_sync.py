"""Real syncs that fail: durable events stay durable, and no sync is repeated on the same file.

The file system lies in a sparse image on a tmpfs. When that runs full, the disk has no
room for blocks that the file system believes it has: fdatasync fails. XFS then marks the
lost pages clean, so that the next fdatasync *succeeds* and reads show them until the next
boot; ext4 gives up its journal and refuses every write from then on.
"""

import os

import pytest

import eventlog
from tests.durability.filesystems import MAKE, fill, thin
from tests.durability.writer import Writer, loss_of, records_in


def break_it(writer, store):
    """Let a sync of the journal fail, then let training go on for a while."""
    writer.wait_until(lambda report: report.durable > 50)
    fill(store.path / "ballast")
    writer.wait_until(lambda report: report.failed_syncs > 0)
    n_before = writer.report.iterations
    writer.wait_until(lambda report: report.iterations > n_before + 300)


def check_nothing_lost(records, n_durable):
    assert set(range(n_durable)) <= records.keys()
    rows = [record.fields for record in records.values() if record.event == "iter"]
    assert [row["loss"] for row in rows] == [loss_of(row["iter"]) for row in rows]


SETTINGS = {"rate": 1000, "sync_interval_s": 0.05, "save_interval": 100}


@pytest.mark.parametrize("kind", MAKE)
def test_a_failed_sync_costs_nothing_that_was_reported_durable(tmp_path, kind):
    with thin(tmp_path, kind) as (disk, store):
        with Writer(disk.path / "out", tmp_path / "report", **SETTINGS) as writer:
            break_it(writer, store)
            durable = writer.lose_power(disk)
            writer.kill()
        (store.path / "ballast").unlink()
        disk.restart()

        report = writer.report
        check_nothing_lost(records_in(disk.path), durable)
        assert (report.raised, report.errors, report.repeated_syncs) == (0, 0, 0)
        assert "could not make the journal durable" in writer.stderr


@pytest.mark.parametrize("kind", MAKE)
def test_after_a_failed_sync_a_run_still_ends_and_its_reports_stay_true(tmp_path, kind):
    """No power is cut here: an unmount, too, drops what the page cache pretends to hold."""
    with thin(tmp_path, kind) as (disk, store):
        with Writer(disk.path / "out", tmp_path / "report", **SETTINGS) as writer:
            break_it(writer, store)
            (store.path / "ballast").unlink()

            assert writer.finish() == 0
        disk.restart()

        report = writer.report
        check_nothing_lost(records_in(disk.path), report.durable)
        assert (report.closed, report.raised, report.repeated_syncs) == (1, 0, 0)


def test_a_sync_repeated_after_a_failed_one_reports_success_for_lost_bytes(tmp_path):
    """Why none is repeated: what XFS does, with nothing of ours in between."""
    with thin(tmp_path, "xfs") as (disk, store):
        path = disk.path / "file"
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND)
        fill(store.path / "ballast")
        os.write(fd, b"x" * (1 << 20))
        with pytest.raises(OSError, match=r"No space left|Input/output"):
            os.fdatasync(fd)

        os.fdatasync(fd)

        assert path.read_bytes() == b"x" * (1 << 20)  # says the page cache
        os.close(fd)
        (store.path / "ballast").unlink()
        disk.restart()
        assert path.read_bytes().count(b"x") < 1 << 20


# ---- the new file that takes over


@pytest.mark.parametrize("kind", MAKE)
def test_with_a_fallback_on_another_disk_a_failed_sync_costs_nothing_at_all(tmp_path, kind):
    state = tmp_path / "state"
    with thin(tmp_path, kind) as (disk, store):
        out = disk.path / "out"
        with Writer(out, tmp_path / "report", state=state, **SETTINGS) as writer:
            break_it(writer, store)
            n_before = writer.report.accepted
            writer.wait_until(lambda report: report.durable > n_before, patience_s=10)
            disk.power_cut()
            writer.kill()
        (store.path / "ballast").unlink()
        disk.restart()

        report = writer.report
        check_nothing_lost(records_in(disk.path, state), report.durable)
        assert (report.raised, report.errors, report.repeated_syncs) == (0, 0, 0)


@pytest.mark.parametrize("kind", MAKE)
def test_readers_find_the_segment_in_the_fallback_folder(tmp_path, kind):
    state = tmp_path / "state"
    with thin(tmp_path, kind) as (disk, store):
        out = disk.path / "out"
        with Writer(out, tmp_path / "report", state=state, **SETTINGS) as writer:
            break_it(writer, store)
            writer.finish()
        (store.path / "ballast").unlink()
        disk.restart()

        (journal,) = out.glob("*.jsonl")
        run = eventlog.load_run(journal)
        iterations = [row["iter"] for row in run.training_iterations]
        assert iterations == list(range(writer.report.iterations))
        assert run.status == "completed"
