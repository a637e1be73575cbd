"""Runs in subfolders, at any depth: each is found once, and nothing else is."""

import os

import pytest

import eventlog
from eventlog.read import subfolders
from tests.tools.conftest import make_run
from tools.cli import main
from tools.core import runs
from tools.core.runs import find
from tools.live.folders import Folders


@pytest.fixture
def hydra(tmp_path, monkeypatch):
    """multirun/DATE/TIME/N/out, each with one run, and what Hydra writes beside it."""
    monkeypatch.chdir(tmp_path)
    for n in (0, 1, 2, 10):
        out = tmp_path / "multirun/2026-11-29/12-00-00" / str(n) / "out"
        out.mkdir(parents=True)
        make_run(out, f"job{n}")
        (out.parent / ".hydra").mkdir()
        (out.parent / ".hydra" / "overrides.json").write_text('["lr=0.1"]')
    return tmp_path / "multirun"


def stems(paths):
    return [path.stem for path in paths]


@pytest.mark.parametrize("name", ["multirun", "multirun/*/*/*/out", "multirun/*", "**/out"])
def test_a_folder_has_the_runs_of_its_subfolders_in_the_order_of_their_numbers(hydra, name):
    found = find([name])

    in_order = ["job0", "job1", "job2", "job10"]
    assert stems(found) == in_order if name == "multirun" else set(stems(found)) == {*in_order}


@pytest.mark.parametrize("name", ["job10", "multirun/job10"])
def test_a_run_in_a_subfolder_is_named_by_its_name_alone(hydra, name, monkeypatch):
    monkeypatch.setattr(runs, "FOLDER", "multirun")

    assert stems(find([name])) == ["job10"]


def test_a_name_that_two_subfolders_have_is_refused_with_their_paths(hydra):
    make_run(hydra / "2026-11-29", "job1")
    make_run(hydra / "2026-11-29/12-00-00", "job2")

    with pytest.raises(runs.Refusal) as refusal:
        find(["multirun/job1"])

    assert "multirun/2026-11-29/job1.json, multirun/2026-11-29/12-00-00/1/out/job1.json" in str(
        refusal.value
    )


def test_a_run_that_several_links_and_names_lead_to_is_found_once(hydra):
    out = hydra / "2026-11-29/12-00-00/0/out"
    (out / "latest.jsonl").symlink_to("job0.jsonl")
    (out / "loop").symlink_to(hydra)
    (hydra / "a_link").symlink_to(out)
    names = ["multirun", "multirun/a_link", f"{out}/job0.jsonl", f"{out}/job0.json", str(hydra)]

    found = find(names)

    assert stems(found) == ["job0", "job1", "job2", "job10"]
    assert found[0] == runs.Path("multirun/2026-11-29/12-00-00/0/out/job0.json")


def test_a_link_to_a_folder_elsewhere_is_followed(hydra, tmp_path):
    (tmp_path / "scratch").mkdir()
    make_run(tmp_path / "scratch", "far")
    (hydra / "elsewhere").symlink_to(tmp_path / "scratch")

    assert stems(find(["multirun"]))[-1] == "far"


def test_all_files_of_a_folder_on_the_command_line_are_its_runs(hydra, capsys):
    out = hydra / "2026-11-29/12-00-00/0/out"
    (out / "ckpt.pt").write_bytes(b"weights")
    eventlog.annotate(out / "job0.jsonl", "note", text="has a segment")

    found = find(sorted(map(str, out.iterdir())))

    assert stems(found) == ["job0"]
    assert capsys.readouterr().err == f"skipped, no run: {out}/ckpt.pt\n"


def test_data_sets_settings_and_checkpoints_in_subfolders_are_no_runs(hydra):
    checkpoint = hydra / "2026-11-29/checkpoint-500"
    checkpoint.mkdir()
    (checkpoint / "trainer_state.json").write_text('{"best_metric": 1.0, "log_history": []}')
    (checkpoint / "config.json").write_text("[]")
    (checkpoint / "train.jsonl").write_text('{"text": "once upon a time"}\n')
    (checkpoint / "empty.jsonl").touch()
    os.mkfifo(checkpoint / "pipe.jsonl")

    assert len(find(["multirun"])) == 4


def test_in_a_subfolder_a_run_json_without_journal_and_a_journal_without_run_json_are_runs(hydra):
    out = hydra / "2026-11-29/12-00-00"
    (out / "0/out/job0.json").unlink()
    (out / "1/out/job1.jsonl").unlink()

    found = find(["multirun"])

    assert [path.name for path in found[:2]] == ["job0.jsonl", "job1.json"]


def test_virtual_environments_and_repositories_are_not_searched(hydra):
    for folder in ("env/lib", ".git/x", "node_modules/x"):
        (hydra / folder).mkdir(parents=True)
        make_run(hydra / folder, "sample")
    (hydra / "env/pyvenv.cfg").touch()

    assert "sample" not in stems(find(["multirun"]))


def test_a_search_that_ends_early_says_where(hydra, monkeypatch, capsys):
    monkeypatch.setattr(subfolders, "FOLDERS_MAX", 8)

    found = find(["multirun"])

    assert len(found) < 4
    message = capsys.readouterr().err
    assert message.startswith("multirun: the search for runs ended after 8 folders with ")
    assert ", before multirun/2026-11-29/12-00-00/" in message


@pytest.mark.parametrize("folder", ["lr=[0.1,0.2]", ".hidden", "a\x1b[31mb", "\u202etxt"])
def test_a_folder_with_any_name_is_searched_and_a_glob_is_a_name_first(hydra, folder):
    (hydra / folder).mkdir()
    make_run(hydra / folder, "odd[1]")
    (hydra / "lr=0").mkdir()
    make_run(hydra / "lr=0", "odd1")

    assert "odd[1]" in stems(find(["multirun"]))
    assert stems(find([f"multirun/{folder}"])) == ["odd[1]"]
    assert stems(find([f"multirun/{folder}/*.json"])) == ["odd[1]"]
    assert stems(find([f"multirun/{folder}/odd[1]"])) == ["odd[1]"]


def test_the_page_and_the_terminal_follow_the_runs_that_ls_finds_and_later_ones(hydra):
    followed = Folders(["multirun", "multirun/2026-11-29"])
    followed.refresh()
    first = {row["path"] for row in followed.rows()}

    (hydra / "2026-11-30/out").mkdir(parents=True)
    make_run(hydra / "2026-11-30/out", "later")
    followed.refresh()

    assert first == set(map(str, find(["multirun"]))) - {"multirun/2026-11-30/out/later.json"}
    assert {row["path"] for row in followed.rows()} == set(map(str, find(["multirun"])))
    assert followed.problems == []


def test_a_name_with_brackets_is_that_of_a_run_before_it_is_a_glob(hydra):
    make_run(hydra, "lr[1]")
    (hydra / "lr1").mkdir()
    make_run(hydra / "lr1", "other")

    assert stems(find(["multirun/lr[1]"])) == ["lr[1]"]


@pytest.mark.parametrize("command", ["ls", "compare"])
def test_runs_of_one_name_are_shown_with_their_folders(hydra, capsys, command):
    for n in (1, 2):
        source = hydra / f"2026-11-29/12-00-00/{n}/out/job{n}.json"
        source.with_suffix(".jsonl").unlink()
        source.write_text(source.read_text().replace(f"job{n}", "job", 1).replace("5", "6"))
        name = eventlog.load_run(source).run_name
        source.write_text(source.read_text().replace(name, "job", 1))

    assert main([command, "multirun"]) == 0

    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:2] == ["run", "folder"]
    of_each = {tuple(line.split()[:2]) for line in lines if line.startswith("job ")}
    assert of_each == {("job", "1/out"), ("job", "2/out")}
