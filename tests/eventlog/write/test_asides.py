"""Events too large for a line are stored in files named by their hash, before their line."""

import errno
import os
import shutil
import threading
import time

import orjson
import pytest

import eventlog
from eventlog.cli.main import main
from eventlog.disk import Disk, atomic_write
from eventlog.fold.load import Folding
from eventlog.write import aside, line_writer
from tests.disks import RefusingDisk


def asides_of(journal):
    """Each event that is set aside, with the content of its file."""
    for record in eventlog.scan(journal):
        reference = record.fields.get("set_aside")
        if reference is not None:
            paths = [
                path
                for folder in (journal.parent, journal.parent / "fallback")
                for path in folder.glob(reference["file"])
            ]
            yield record, orjson.loads(paths[0].read_bytes())


def large(letter):
    return letter * 1_200_000


def test_two_threads_do_not_overwrite_each_others_large_events(tmp_path):
    run = eventlog.open_run(tmp_path, save_interval=0)

    def log(k):
        for i in range(5):
            run.log("table", k=k, i=i, rows=large(chr(97 + k)) + str(i))

    threads = [threading.Thread(target=log, args=(k,)) for k in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    run.close()

    contents = {
        (r.fields["k"], r.fields["i"]): content["rows"]
        for r, content in asides_of(run.journal_path)
    }
    assert contents == {(k, i): large(chr(97 + k)) + str(i) for k in range(4) for i in range(5)}


def test_a_resumed_session_keeps_the_large_events_of_the_first(tmp_path):
    with eventlog.open_run(tmp_path, save_interval=0) as first:
        first.log("table", rows=large("a"))
    with eventlog.open_run(journal=first.journal_path, save_interval=0) as second:
        second.log("table", rows=large("b"))

    contents = [content["rows"][0] for _, content in asides_of(first.journal_path)]
    assert contents == ["a", "b"]


@pytest.mark.parametrize("kind", ["val/table", "../../up", "k" * 200, "a\nb", "", "."])
def test_a_large_event_of_any_kind_is_kept(tmp_path, kind):
    with eventlog.open_run(tmp_path / "out", save_interval=0) as run:
        run.log(kind, rows=large("x"))

    assert [(r.event, c["rows"]) for r, c in asides_of(run.journal_path)] == [(kind, large("x"))]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_one_large_value_in_a_config_update_leaves_the_others(tmp_path):
    with eventlog.init(dir=tmp_path, config={"lr": 1.0}, save_interval=0) as run:
        run.config.update({"table": large("x"), "depth": 12, "name": "n"})

    config = eventlog.load_run(run.journal_path).config
    assert config["lr"], config["depth"] == (1.0, 12)
    assert config["table"] == "<1,200,011 bytes, set aside>"


def test_a_large_event_waits_for_no_sync_of_the_disk(tmp_path):
    syncs = []

    class Counting(Disk):
        def sync_data(self, fd):
            syncs.append(threading.current_thread())
            super().sync_data(fd)

    run = eventlog.open_run(tmp_path, save_interval=0, disk=Counting())
    opened = len(syncs)
    run.log("table", rows=large("x"))
    run.close()

    assert threading.current_thread() not in syncs[opened:]


def test_a_large_event_is_durable_when_durable_n_counts_it(tmp_path):
    synced = []

    class Recording(Disk):
        def sync_data(self, fd):
            import os

            synced.append(os.path.basename(os.readlink(f"/proc/self/fd/{fd}")))
            super().sync_data(fd)

    run = eventlog.open_run(tmp_path, save_interval=0, durability="checkpoint", disk=Recording())
    run.log("table", rows=large("x"))
    synced.clear()
    assert run.sync()

    (aside,) = tmp_path.glob("*.aside")
    assert synced.index(aside.name) < synced.index(run.journal_path.name)
    run.close()


def test_a_large_event_refused_by_a_full_disk_is_written_when_there_is_space(tmp_path):
    full = False
    disk = RefusingDisk(lambda operation, n: errno.ENOSPC if full and operation != "sync" else None)
    run = eventlog.open_run(tmp_path, save_interval=0, disk=disk)
    full = True
    run.log("table", rows=large("x"))
    run.log("note", text="behind it")
    full = False
    run.close()

    assert [c["rows"] for _, c in asides_of(run.journal_path)] == [large("x")]
    assert [r.event for r in eventlog.scan(run.journal_path)] == ["open", "table", "note", "close"]
    assert run.errors == 0


def test_a_large_event_goes_to_the_fallback_with_its_segment(tmp_path):
    full = False

    class Full(Disk):
        def write(self, fd, data):
            import os

            if full and "fallback" not in os.readlink(f"/proc/self/fd/{fd}"):
                raise OSError(errno.ENOSPC, "full")
            return super().write(fd, data)

    run = eventlog.open_run(tmp_path, save_interval=0, disk=Full(), fallback=tmp_path / "fallback")
    full = True
    run.log("table", rows=large("x"))
    run.close()

    assert [c["rows"] for _, c in asides_of(run.journal_path)] == [large("x")]
    assert run.errors == 0


def test_an_event_of_very_many_small_values_keeps_those_that_fit(tmp_path):
    values = {f"name/{i}": float(i) for i in range(100_000)}
    with eventlog.open_run(tmp_path, save_interval=0) as run:
        run.log("table", **values)

    ((record, content),) = asides_of(run.journal_path)
    assert content == values
    assert record.fields["name/0"] == 0.0
    assert record.fields["set_aside"]["omitted"] > 0


class SyncedFiles(Disk):
    """Knows which files were synced."""

    def __init__(self):
        self.synced = []

    def sync_data(self, fd):
        self.synced.append(os.path.basename(os.readlink(f"/proc/self/fd/{fd}")))
        super().sync_data(fd)


@pytest.mark.parametrize("event", ["table", "open"])
def test_a_large_value_that_a_killed_session_left_is_synced_before_the_event_that_refers_to_it(
    tmp_path, event
):
    """Whether that session had synced it is unknown."""
    values, disk = {"rows": large("x")}, SyncedFiles()
    settings = {"config": values} if event == "open" else {}
    with eventlog.open_run(tmp_path, save_interval=0, **settings) as first:
        first.log("table", **values)

    with eventlog.open_run(
        tmp_path, journal=first.journal_path, save_interval=0, disk=disk, **settings
    ) as run:
        if event == "table":
            run.log("table", **values)
        assert run.sync()
        synced = [*disk.synced]
    (aside,) = {path.name for path in tmp_path.glob("*.aside")}

    assert synced.count(aside) == 1
    assert first.journal_path.name in synced[synced.index(aside) :]


@pytest.mark.parametrize("letter", ["n", "é"])
@pytest.mark.parametrize("n_bytes", [100, 104, 105, 143, 200, 249])
def test_a_large_event_and_the_run_json_of_a_journal_with_a_long_name_are_written(
    tmp_path, letter, n_bytes
):
    size = len(os.fsencode(letter))
    stem = letter * (n_bytes // size)
    eventlog.open_run(tmp_path, save_interval=0).close()
    [first] = tmp_path.glob("*.jsonl")
    path = first.rename(tmp_path / f"{stem}.jsonl")
    with eventlog.open_run(journal=path, save_interval=0) as run:
        run.log("table", rows=large("x"))
        run.log("after")

    assert [record.event for record in eventlog.scan(run.journal_path)][-2:] == ["after", "close"]
    assert [content["rows"] for _, content in asides_of(run.journal_path)] == [large("x")]
    eventlog.compact(run.journal_path)
    assert run.run_path.exists()
    (aside,) = tmp_path.glob("*.aside")
    assert aside.name.startswith(stem[: 90 // size])
    assert len(os.fsencode(aside.name)) <= 143


def test_a_stale_temporary_file_of_a_run_json_with_a_long_name_is_removed(tmp_path):
    path = tmp_path / ("n" * 240 + ".json")
    made = []

    class Killed(Disk):
        def replace(self, source, target):
            made.append(source)
            raise OSError(errno.EIO, "killed")

        def unlink(self, path):
            raise OSError(errno.EIO, "killed")

    with pytest.raises(OSError, match="killed"):
        atomic_write(path, lambda file: file.write(b"x"), disk=Killed())
    os.utime(made[0], (0, 0))

    atomic_write(path, lambda file: file.write(b"y"))
    assert [left.name for left in tmp_path.iterdir()] == [path.name]


BIG = "x" * 2_000_000


@pytest.mark.parametrize("when", ["at the beginning", "later"])
@pytest.mark.parametrize("goes_on", ["resumed", "forked into another folder"])
def test_a_resumed_run_has_the_large_values_of_its_config(tmp_path, when, goes_on):
    with begun(tmp_path / "a", config={"big": BIG, "k": 1} if when != "later" else {}) as run:
        run.config.update({"z": 2} if when != "later" else {"big": BIG, "k": 1, "z": 2})
        run.log({"words": BIG})
    settings = (
        {"dir": tmp_path / "a", "resume": "must"}
        if goes_on == "resumed"
        else {"dir": tmp_path / "b", "id": "f", "fork_from": run.journal_path}
    )

    with begun(**settings) as again:
        assert dict(again.config) == {"big": BIG, "k": 1, "z": 2}

    assert eventlog.load_run(again.journal_path).journal["defects"] == []


def test_a_large_value_whose_file_is_missing_is_left_out_of_the_config_and_reported(
    tmp_path, capsys
):
    with begun(tmp_path, config={"big": BIG, "k": 1}) as run:
        run.log({"loss": 1.0})
    (aside,) = tmp_path.glob("*.aside")
    aside.unlink()

    with begun(tmp_path, resume="must") as again:
        assert dict(again.config) == {"k": 1}
    assert capsys.readouterr().err.count(f"{aside.name}: is missing or damaged") == 1


def begun(dir, **settings):
    return eventlog.init(**{"dir": dir, "id": "a", "save_interval": 0} | settings)


def defects_of(journal):
    """What `eventlog verify` finds."""
    folding = Folding(journal, with_rows=False)
    folding.read_on(to_the_end=True)
    return folding.defects(with_content=True)


class FullFor(Disk):
    """A disk that refuses the files of large events in folders that a test names."""

    def __init__(self, *folders, refusal=errno.ENOSPC):
        self.folders, self.refusal = folders, refusal

    def open_new(self, path):
        if path.parent in self.folders and ".aside" in path.name:
            raise OSError(self.refusal, os.strerror(self.refusal))
        return super().open_new(path)


REFUSALS = [errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EMFILE, errno.EIO, errno.ESTALE]


@pytest.mark.parametrize("refusal", REFUSALS, ids=errno.errorcode.get)
def test_lines_behind_a_large_event_that_no_disk_takes_do_not_wait(tmp_path, capsys, refusal):
    disk = FullFor(tmp_path, tmp_path / "fallback", refusal=refusal)
    run = eventlog.open_run(tmp_path, save_interval=0, disk=disk, fallback=tmp_path / "fallback")
    run.log("table", rows=large("x"))
    run.log("note", text="behind it")

    assert [r.event for r in eventlog.scan(run.journal_path)] == ["open", "table", "note"]
    assert "1,200,016 bytes of a large event" in capsys.readouterr().err
    assert not run.sync(timeout_s=0.1)
    assert run.durable_records == 1
    run.log("table", rows=large("y"))
    run.log("note", text="behind both")
    assert [r.event for r in eventlog.scan(run.journal_path)][3:] == ["table", "note"]
    disk.folders = ()
    assert run.sync()
    assert [c["rows"] for _, c in asides_of(run.journal_path)] == [large("x"), large("y")]
    run.close()
    assert (run.lost, run.errors) == (0, 0)


@pytest.mark.parametrize("durability", ["interval", "every"])
def test_lines_behind_a_large_event_that_waits_are_synced(tmp_path, durability):
    class Synced(FullFor):
        n_bytes = 0

        def sync_data(self, fd):
            super().sync_data(fd)
            self.n_bytes = os.fstat(fd).st_size

    disk = Synced(tmp_path, tmp_path / "fallback")
    run = eventlog.open_run(
        tmp_path, save_interval=0, disk=disk, fallback=tmp_path / "fallback", durability=durability
    )
    run.log("table", rows=large("x"))
    run.log_eval(0, train_loss=1.0, val_loss=1.0)
    if durability == "interval":
        wait_until(lambda: disk.n_bytes == run.journal_path.stat().st_size)

    assert disk.n_bytes == run.journal_path.stat().st_size
    assert run.durable_records == 1, "the content of the second is in memory alone"
    run.close()


def wait_until(condition):
    give_up_at = time.monotonic() + 20
    while not condition() and time.monotonic() < give_up_at:
        time.sleep(0.02)


@pytest.mark.parametrize("refusal", REFUSALS, ids=errno.errorcode.get)
def test_a_large_event_that_its_disk_refuses_is_at_once_in_the_fallback(tmp_path, refusal):
    disk = FullFor(tmp_path, refusal=refusal)
    run = eventlog.open_run(tmp_path, save_interval=0, disk=disk, fallback=tmp_path / "fallback")
    run.log("table", rows=large("x"))

    assert [c["rows"] for _, c in asides_of(run.journal_path)] == [large("x")]
    assert run.sync()
    run.close()
    assert [path.name for path in tmp_path.glob("*.segment")] == []
    assert defects_of(run.journal_path) == []


def test_large_events_that_no_disk_has_space_for_until_the_end_are_each_counted_and_reported(
    tmp_path, capsys
):
    disk = FullFor(tmp_path, tmp_path / "fallback")
    run = eventlog.open_run(tmp_path, save_interval=0, disk=disk, fallback=tmp_path / "fallback")
    for _ in range(3):
        run.log("table", rows=large("x"))
    run.close()

    (defect,) = defects_of(run.journal_path)
    assert (defect.kind, defect.lost, defect.first_n, defect.last_n) == ("missing_aside", 3, 1, 3)
    assert run.lost == 3
    assert "only its line in the journal is kept" in capsys.readouterr().err


def test_of_more_content_than_memory_may_hold_the_lines_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(aside, "PENDING_MAX_BYTES", 1_500_000)
    disk = FullFor(tmp_path, tmp_path / "fallback")
    run = eventlog.open_run(tmp_path, save_interval=0, disk=disk, fallback=tmp_path / "fallback")
    for letter in "xyz":
        run.log("table", rows=large(letter))
    assert [r.event for r in eventlog.scan(run.journal_path)] == ["open", *["table"] * 3]
    disk.folders = ()
    run.close()

    (one,) = tmp_path.glob("*.aside")
    assert orjson.loads(one.read_bytes())["rows"][0] == "x"
    assert (run.lost, run.errors) == (2, 2)
    assert main(["verify", str(run.journal_path)]) == 3


def test_large_events_that_wait_for_their_lines_cost_no_iteration(tmp_path, monkeypatch):
    for module in (aside, line_writer):
        monkeypatch.setattr(module, "PENDING_MAX_BYTES", 1_500_000)
    monkeypatch.setattr(line_writer, "WAITING_MAX_BYTES", 20_000)
    is_full = False
    disk = RefusingDisk(lambda what, n: errno.ENOSPC if is_full and what != "sync" else None)
    run = eventlog.open_run(tmp_path, save_interval=0, disk=disk, fallback=tmp_path / "fallback")
    is_full = True
    for i, letter in enumerate("abc"):
        run.log("table", rows={letter: large(letter)})
        run.log_iter(i, 1.0)
    is_full = False
    run.close()

    assert [row["iter"] for row in eventlog.load_run(run.journal_path).training_iterations] == [
        *range(3)
    ]
    assert [[*content["rows"]] for _, content in found_asides(run.journal_path)] == [["a"]]
    assert (run.lost, run.errors) == (2, 2)


def found_asides(journal):
    for path in journal.parent.glob("*.aside"):
        yield path, orjson.loads(path.read_bytes())


@pytest.mark.parametrize("what", ["folder is moved", "folder is deleted", "file is deleted"])
def test_a_large_event_is_durable_though_its_file_is_moved_before_the_sync(tmp_path, capsys, what):
    out = tmp_path / "out"
    run = eventlog.open_run(
        out, save_interval=0, sync_interval_s=60, fallback=tmp_path / "fallback"
    )
    run.log("table", rows=large("x"))
    (path,) = out.glob("*.aside")
    if what == "folder is moved":
        out.rename(tmp_path / "moved")
    elif what == "folder is deleted":
        shutil.rmtree(out)
    else:
        path.unlink()

    assert run.sync()
    run.close()
    assert [c["rows"] for _, c in asides_of(run.journal_path)] == [large("x")]
    assert [*tmp_path.rglob("*.segment")] == []
    assert "could not make the journal durable" not in capsys.readouterr().err


def test_a_large_event_whose_sync_fails_is_written_again_elsewhere(tmp_path):
    class FailsInOut(Disk):
        n_failures = 0

        def sync_data(self, fd):
            if "/out/" in os.readlink(f"/proc/self/fd/{fd}") and is_failing:
                self.n_failures += 1
                raise OSError(errno.EIO, "Input/output error")
            super().sync_data(fd)

    is_failing, disk = False, FailsInOut()
    run = eventlog.open_run(
        tmp_path / "out", save_interval=0, disk=disk, fallback=tmp_path / "fallback"
    )
    is_failing = True
    run.log("table", rows=large("x"))

    assert run.sync()
    run.close()
    assert [*(tmp_path / "fallback").glob("*.aside")]
    assert len([*tmp_path.rglob("*.segment")]) <= 2
    assert disk.n_failures <= 4
    assert defects_of(run.journal_path) == []


def test_a_file_whose_sync_failed_is_written_anew_before_it_counts_as_durable(tmp_path):
    class FailsOnce(FullFor):
        failed_inode = 0

        def sync_data(self, fd):
            if not self.failed_inode and ".aside" in os.readlink(f"/proc/self/fd/{fd}"):
                self.failed_inode = os.fstat(fd).st_ino
                raise OSError(errno.EIO, "Input/output error")
            super().sync_data(fd)

    disk = FailsOnce(tmp_path / "fallback")
    run = eventlog.open_run(tmp_path, save_interval=0, disk=disk, fallback=tmp_path / "fallback")
    run.log("table", rows=large("x"))

    wait_until(run.sync)
    (path,) = tmp_path.glob("*.aside")
    assert run.durable_records == 2
    assert path.stat().st_ino != disk.failed_inode
    assert orjson.loads(path.read_bytes())["rows"] == large("x")
    assert [*tmp_path.glob("*.segment")] == []
    run.close()


def test_large_events_of_the_last_second_cost_no_line_if_its_sync_fails(tmp_path):
    failures = []
    disk = RefusingDisk(lambda what, n: failures.pop() if failures and what == "sync" else None)
    run = eventlog.open_run(tmp_path, save_interval=0, sync_interval_s=60, disk=disk)
    for i in range(20):
        run.log_iter(i, 1.0)
    for k in range(8):
        run.log("table", rows=f"{k}" * 1_200_000)
    for path in tmp_path.glob("*.aside"):
        run._journal._appender._asides.were_synced((path,))
    failures.append(errno.EIO)

    assert run.sync()
    assert len([*tmp_path.glob("*.segment")]) == 1
    assert run.durable_records >= 29
    run.close()


@pytest.mark.parametrize("with_asides", [True, False])
def test_a_run_that_was_renamed_has_its_large_events(tmp_path, with_asides):
    with begun(tmp_path, config={"big": BIG, "k": 1}) as run:
        run.log({"words": BIG})
    stem = run.journal_path.stem
    for path in list(tmp_path.iterdir()):
        if with_asides or path.suffix != ".aside":
            path.rename(path.with_name(path.name.replace(stem, "other", 1)))

    assert defects_of(tmp_path / "other.jsonl") == []
    with begun(tmp_path, resume="must") as again:
        assert dict(again.config) == {"big": BIG, "k": 1}


def test_the_file_of_another_run_with_the_same_large_value_is_not_this_runs(tmp_path):
    journals = []
    for name in ("a", "b"):
        with eventlog.open_run(tmp_path, run_name=name, save_interval=0) as run:
            run.log("table", rows=large("x"))
        journals.append(run.journal_path)
    (aside_of_a,) = tmp_path.glob("a_*.aside")
    aside_of_a.unlink()

    (defect,) = defects_of(journals[0])
    assert (defect.kind, defect.lost) == ("missing_aside", 1)
    assert defects_of(journals[1]) == []


def test_a_run_whose_large_config_has_no_space_is_not_begun_and_leaves_an_existing_one_as_it_was(
    tmp_path,
):
    with eventlog.open_run(tmp_path, save_interval=0) as run:
        run.log_iter(0, 1.0)
    before = run.journal_path.read_bytes()
    disk = FullFor(tmp_path, tmp_path / "fallback")
    settings = {"disk": disk, "fallback": tmp_path / "fallback", "save_interval": 0}

    with pytest.raises(OSError, match="first line"):
        eventlog.open_run(journal=run.journal_path, config={"big": large("x")}, **settings)
    with pytest.raises(OSError, match="first line"):
        eventlog.open_run(tmp_path, run_name="new", config={"big": large("x")}, **settings)

    assert run.journal_path.read_bytes() == before
    assert [path.name for path in tmp_path.glob("*.jsonl")] == [run.journal_path.name]


def test_content_that_waits_is_not_written_where_there_is_no_space_for_it(tmp_path, monkeypatch):
    disk = FullFor(tmp_path, tmp_path / "fallback")
    run = eventlog.open_run(tmp_path, save_interval=0, disk=disk, fallback=tmp_path / "fallback")
    run.log("table", rows=large("x"))
    n_tries = []
    monkeypatch.setattr(aside.Aside, "write", lambda *_: n_tries.append(1))
    monkeypatch.setattr(disk, "free_bytes", lambda folder: 1_000_000)

    assert not run.sync(timeout_s=1.5)
    assert n_tries == []
    monkeypatch.undo()
    disk.folders = ()
    assert run.sync()
    run.close()


def test_while_content_waits_for_space_a_call_that_is_to_be_durable_does_not_wait(
    tmp_path, monkeypatch
):
    disk = FullFor(tmp_path, tmp_path / "fallback")
    run = eventlog.open_run(
        tmp_path, save_interval=0, disk=disk, fallback=tmp_path / "fallback", durability="every"
    )
    waits = []
    sync = run._journal.sync
    monkeypatch.setattr(run._journal, "sync", lambda *args: waits.append(1) or sync(*args))
    run.log_iter(0, 1.0)
    run.log("table", rows=large("x"))
    run.log_iter(1, 1.0)

    assert len(waits) == 1
    disk.folders = ()
    assert sync()
    run.close()
    assert run.lost == 0
