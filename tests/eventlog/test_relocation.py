"""A journal that is moved, deleted, replaced, cut or closed under its writer keeps its events."""

import os
import shutil
import subprocess
import sys

import pytest

import eventlog


@pytest.fixture
def run(tmp_path):
    """A run with ten iterations, whose thread looks at its files every 20 ms."""
    run = eventlog.open_run(
        tmp_path / "out", save_interval=0, sync_interval_s=0.02, fallback=tmp_path / "fallback"
    )
    for i in range(10):
        run.log_iter(i, 1.0)
    assert run.sync()
    yield run
    run.close()


def go_on(run):
    """Ten more iterations after the thread has looked; the end."""
    appender = run._journal._appender
    before = appender.path, appender.identity, appender.end
    for _ in range(500):
        if (appender.path, appender.identity, appender.end) != before:
            break
        run._journal._synced.acquire()
        run._journal._synced.wait(0.02)
        run._journal._synced.release()
    for i in range(10, 20):
        run.log_iter(i, 1.0)
    run.close()


def iterations(journal):
    return [row["iter"] for row in eventlog.load_run(journal).training_iterations]


def test_a_deleted_folder_is_made_again_with_all_that_was_in_the_journal(run, tmp_path, capsys):
    shutil.rmtree(tmp_path / "out")
    go_on(run)

    assert iterations(run.journal_path) == list(range(20))
    assert eventlog.load_run(run.journal_path).status == "completed"
    assert capsys.readouterr().err.count("was deleted") == 1
    assert run.errors == 0


def test_a_folder_that_is_moved_takes_the_run_with_it(run, tmp_path, capsys):
    os.rename(tmp_path / "out", tmp_path / "old")
    go_on(run)

    assert run.journal_path.parent == tmp_path / "old"
    assert run.run_path.parent == tmp_path / "old"
    assert iterations(run.journal_path) == list(range(20))
    assert capsys.readouterr().err.count("was moved to") == 1


def replaced_by_rename(path):
    """As rsync, `git checkout` and `sed -i` do: a new file takes the name."""
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
    assert [d["lost"] for d in eventlog.load_run(run.journal_path).journal["defects"]] in (
        [],
        [0],
    )
    assert "was replaced by another file" in capsys.readouterr().err


def test_a_journal_that_was_replaced_is_still_locked(run):
    replaced_by_rename(run.journal_path)
    for _ in range(100):
        if run._journal._appender.path != run.journal_path:
            break
        run.sync(0.05)
        run.log("note", text="wait")

    assert eventlog.is_locked(run.journal_path)


def test_somebody_elses_file_at_the_journals_path_is_left_alone(run):
    run.journal_path.unlink()
    run.journal_path.write_text("a list\n")
    go_on(run)

    assert run.journal_path.read_text() == "a list\n"
    segments = list(run.journal_path.parent.glob("*.segment"))
    assert len(segments) == 1
    assert segments[0].read_bytes().count(b'"event":"iter"') == 20


def test_a_journal_that_somebody_cut_goes_on_in_lines_of_its_own(run, capsys):
    os.truncate(run.journal_path, os.path.getsize(run.journal_path) - 100)
    go_on(run)

    assert iterations(run.journal_path)[-11:-9] == [8, 10]
    assert "somebody cut it" in capsys.readouterr().err


def test_descriptors_that_the_program_closes_are_opened_again(run, capsys):
    os.close(run._journal._appender.fd)
    go_on(run)

    assert iterations(run.journal_path) == list(range(20))
    assert "closed its descriptor" in capsys.readouterr().err
    assert run.errors == 0


def test_a_descriptor_that_became_somebody_elses_file_is_not_written_to(tmp_path):
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
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )

    assert done.stdout == "200\n", done.stderr
    assert {path.read_text() for path in tmp_path.glob("mine*")} == {"mine"}


def test_a_descriptor_number_that_is_taken_over_is_given_up(tmp_path):
    """Even where the very number is used again, by `dup2`."""
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


def test_a_program_that_changes_its_working_folder_keeps_one_run(tmp_path):
    code = """
import os, eventlog
with eventlog.init(name="m", save_interval=1) as run:
    for i in range(5): run.log({"a": i}, step=i)
    os.mkdir("elsewhere"); os.chdir("elsewhere")
    for i in range(5, 10): run.log({"a": i}, step=i)
print(len(eventlog.load_run(run.run_path).metrics))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )

    assert done.stdout == "10\n", done.stderr
    assert list((tmp_path / "elsewhere").iterdir()) == []
