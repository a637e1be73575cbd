"""A run whose journal is gone is listed by its segment, everywhere in the same way."""

import errno
import os
import subprocess
import sys

import orjson
import pytest

import eventlog
from eventlog.cli.main import main as eventlog_main
from tests.tools.conftest import make_run
from tools.archive import prune
from tools.cli import main
from tools.core import runs
from tools.live.folders import Folders


@pytest.fixture
def segment(tmp_path):
    """The segment of a run of 20 iterations, beside a run JSON of its first 5."""
    with eventlog.open_run(tmp_path, run_name="moved", save_interval=0) as run:
        for i in range(20):
            run.log_iter(i, 2.0 - i / 10, 50.0)
            if i == 4:
                run.sync()
                eventlog.compact(run.journal_path)
    opened = orjson.loads(run.journal_path.read_bytes().split(b"\n", 1)[0])
    run_id = eventlog.short_run_id(opened["run_id"])
    name = f"{run.journal_path.stem}.{run_id}.{opened['s']}.1{eventlog.SEGMENT_SUFFIX}"
    return run.journal_path.rename(tmp_path / name)


class OnlyTheFallback(eventlog.DISK.__class__):
    """A disk that takes nothing but what is in the fallback folder, once it `is_failing`."""

    is_failing = False

    def open_new(self, path):
        self._check(path)
        return super().open_new(path)

    def sync_data(self, fd):
        self._check(os.readlink(f"/proc/self/fd/{fd}"))
        super().sync_data(fd)

    def _check(self, path):
        if self.is_failing and "fallback" not in str(path):
            raise OSError(errno.EIO, "refused")


@pytest.fixture
def live(tmp_path):
    """The fallback folder of a run that is being written, and the run, which goes on in it."""
    disk, fallback = OnlyTheFallback(), tmp_path / "fallback"
    with eventlog.open_run(tmp_path / "out", save_interval=0, disk=disk, fallback=fallback) as run:
        run.log_iter(0, 2.0)
        run.log_iter(1, 1.9)
        assert run.sync()
        disk.is_failing = True
        run.log_iter(2, 1.8)
        assert run.sync()
        yield fallback, run


LEAVES_A_SEGMENT = """
import os, pathlib, shutil, eventlog
folder = pathlib.Path({!r})
run = eventlog.open_run(folder / "out", save_interval=0, fallback=folder / "fallback")
run.log_iter(0, 1.0)
shutil.rmtree(folder / "out")
(folder / "out").write_text("a file")
run._journal._appender.check_place()
os._exit(9)
"""


def rows(capsys, folder):
    assert main(["ls", "--json", str(folder)]) == 0
    return [orjson.loads(line) for line in capsys.readouterr().out.splitlines()]


@pytest.mark.parametrize("with_run_json", [True, False])
def test_ls_show_status_and_the_page_have_the_run_of_the_segment(segment, capsys, with_run_json):
    folder, stem = segment.parent, runs.stem_of(segment)
    if not with_run_json:
        (folder / f"{stem}.json").unlink()

    (row,) = rows(capsys, folder)
    assert (row["run"], row["status"], row["iterations"]) == (stem, "completed", 20)
    assert main(["ls", str(folder)]) == 0
    assert "completed, journal missing" in capsys.readouterr().out
    assert main(["show", str(folder / stem)]) == 0
    shown = capsys.readouterr().out
    assert f"completed, journal missing: its journal {stem}.jsonl is not here" in shown
    assert eventlog_main(["status", str(folder)]) != 0
    assert "iteration  19" in capsys.readouterr().out
    folders = Folders([str(folder)])
    folders.refresh()
    while folders.read_on():
        pass
    (row,) = folders.rows()
    assert (row["status"], row["iterations"]) == ("completed", 20)
    assert row["warnings"] == ["journal missing"]


def test_a_segment_whose_process_may_be_alive_is_not_called_interrupted_nor_pruned(live, capsys):
    fallback, run = live

    (row,) = rows(capsys, fallback)
    assert (row["status"], row["ended"]) == ("unknown", None)
    assert main(["ls", str(fallback)]) == 0
    listed = capsys.readouterr().out
    assert "unknown, 3 events missing, journal missing" in listed
    assert eventlog_main(["status", str(fallback)]) == 1
    shown = capsys.readouterr().out
    assert f"{run.journal_path.name} is not here, which would tell whether it is running" in shown
    assert "3 events missing, as is the journal" in shown
    folders = Folders([str(fallback)])
    folders.refresh()
    while folders.read_on():
        pass
    assert [row["status"] for row in folders.rows()] == ["unknown"]
    assert main(["show", str(fallback)]) == 0
    assert "None" not in capsys.readouterr().out
    (candidate,) = prune.select_candidates(fallback)
    assert (candidate.goes, candidate.why) == (False, "may be live: its journal is not here")


def test_a_segment_with_the_beginning_of_a_session_whose_process_is_gone_is_interrupted(tmp_path):
    program = LEAVES_A_SEGMENT.format(str(tmp_path))
    subprocess.run([sys.executable, "-c", program], check=False)
    (segment,) = (tmp_path / "fallback").iterdir()

    run = eventlog.load_run(segment)

    assert run.status == "interrupted"
    assert "the process was killed" in run.journal["reason"]


def test_a_run_json_of_the_segment_of_a_live_run_gives_way_to_the_segment(live, capsys):
    fallback, run = live
    (segment,) = fallback.iterdir()
    assert eventlog_main(["compact", str(segment)]) == 3
    run_json = segment.with_suffix(eventlog.RUN_JSON_SUFFIX)
    old = eventlog.load_run(run_json)
    assert (old.status, len(old.training_iterations)) == ("unknown", 1)
    run.log_iter(3, 1.7)
    run.close()
    capsys.readouterr()

    (row,) = rows(capsys, fallback)

    assert (row["status"], row["iterations"]) == ("completed", 2)
    assert main(["ls", str(fallback)]) == 0
    assert "completed, 3 events missing, journal missing" in capsys.readouterr().out
    assert eventlog_main(["verify", str(run_json)]) == 3
    assert f"{segment}: 3 events missing, as is the journal" in capsys.readouterr().out
    assert main(["show", str(run_json)]) == 0
    assert "3 events missing, journal missing" in capsys.readouterr().out


def test_a_segment_that_the_journal_elsewhere_needs_is_archived_and_not_pruned(live, capsys):
    fallback, run = live
    (segment,) = fallback.iterdir()
    eventlog_main(["compact", str(segment)])
    run.close()
    archive = fallback.with_name("archive")
    assert main(["archive", str(fallback), "--to", str(archive)]) == 0
    back = fallback.with_name("back")
    assert main(["archive", "--to", str(archive), "--restore", "run", "--out", str(back)]) == 0
    capsys.readouterr()

    arguments = ["--older-than", "0s", "--archive", str(archive), "--yes"]
    assert main(["prune", str(fallback), *arguments]) == 0

    assert "a part of a run whose journal is not here" in capsys.readouterr().out
    assert (back / segment.name).read_bytes() == segment.read_bytes()
    assert eventlog_main(["verify", str(run.journal_path)]) == 0


def test_a_run_json_that_has_all_of_the_segment_is_listed_alone(segment, capsys):
    folder, stem = segment.parent, runs.stem_of(segment)
    journal = segment.rename(folder / f"{stem}.jsonl")
    eventlog.compact(journal)
    eventlog.annotate(journal, "note", text="kept")
    journal.unlink()

    assert [row["path"] for row in rows(capsys, folder)] == [str(folder / f"{stem}.json")]


def test_a_segment_of_another_run_is_listed_beside_a_run_json(segment, capsys):
    folder, stem = segment.parent, runs.stem_of(segment)
    make_run(folder, "other")
    (folder / "other.jsonl").unlink()
    (folder / "other.json").rename(folder / f"{stem}.json")

    assert {os.path.basename(row["path"]) for row in rows(capsys, folder)} == {
        f"{stem}.json", segment.name,
    }  # fmt: skip


def test_a_note_about_such_a_run_is_refused_and_the_journal_is_named(segment, capsys):
    name, before = runs.stem_of(segment), list(segment.parent.iterdir())

    assert main(["note", str(segment.parent / name), "the disk was unmounted"]) == 1

    assert f"has no journal {name}.jsonl beside it" in capsys.readouterr().err
    assert list(segment.parent.iterdir()) == before


def test_the_files_of_such_a_run_are_pruned_together(segment):
    (candidate,) = prune.select_candidates(segment.parent)

    prune.delete(candidate)

    assert not list(segment.parent.iterdir())
