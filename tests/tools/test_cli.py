"""`runs`: a table for people, JSON for programs, never a traceback for a broken file."""

import os
import re
import subprocess
import sys

import orjson
import pytest

import eventlog
from tools.cli import main


def make_run(folder, name, val_losses, mfu=30.0):
    with eventlog.open_run(folder, run_name=name, save_interval=10**6) as run:
        for i, val_loss in enumerate(val_losses):
            run.log_eval(i, val_loss, val_loss)
            run.log_iter(i, val_loss + 1, 50.0, mfu)
    return run


def test_ls_lists_the_best_run_first_and_each_run_once(tmp_path, capsys):
    make_run(tmp_path, "worse", [5.0, 4.5])
    make_run(tmp_path, "better", [5.0, 3.5])

    assert main(["ls", "--json", str(tmp_path)]) == 0

    rows = [orjson.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["run"].split("_")[0] for row in rows] == ["better", "worse"]
    assert [row["best_val_loss"] for row in rows] == [3.5, 4.5]
    assert rows[0]["status"] == "completed"


def test_an_unreadable_file_is_a_row_with_its_error(tmp_path, capsys):
    make_run(tmp_path, "good", [2.0])
    (tmp_path / "broken.json").write_text('{"run_name": "x", "training_it')

    assert main(["ls", str(tmp_path)]) == 0

    out, err = capsys.readouterr()
    assert "unreadable" in out
    assert "good_" in out
    assert err == ""


def test_a_crashed_run_is_shown_from_its_journal_not_from_its_old_snapshot(tmp_path, capsys):
    run = make_run(tmp_path, "run", [5.0])
    with eventlog.open_run(journal=run.journal_path, from_iter=1, save_interval=0) as again:
        again.log_iter(1, 1.25)

    assert main(["ls", "--json", str(tmp_path)]) == 0

    assert orjson.loads(capsys.readouterr().out)["iterations"] == 2


def test_compare_prints_the_columns_of_the_guide_and_a_dash_for_unknown_values(tmp_path, capsys):
    first = make_run(tmp_path, "baseline", [5.0, 4.0])
    second = make_run(tmp_path, "no_mfu", [5.0, 3.0], mfu=-100.0)

    assert main(["compare", str(first.run_path), str(second.journal_path)]) == 0

    lines = capsys.readouterr().out.splitlines()
    baseline = next(line for line in lines if "baseline" in line).split()
    no_mfu = next(line for line in lines if "no_mfu" in line).split()
    assert baseline[1:] == ["2", "5.0000", "4.0000", "50.0000", "30.0000", "completed"]
    assert no_mfu[1:] == [
        "best", "2", "4.0000", "-1.0000", "3.0000", "-1.0000", "50.0000", "+0.0000", "-",
        "completed",
    ]  # fmt: skip


@pytest.mark.parametrize("command", ["ls", "compare", "best", "show"])
def test_an_unknown_name_is_one_line_and_exit_one(command, capsys):
    assert main([command, "/nowhere/at/all.json"]) == 1

    assert capsys.readouterr() == ("", "/nowhere/at/all.json: no such run, folder or glob\n")


def test_a_closed_pipe_ends_the_command_quietly(zoo):
    command = f"{sys.executable} -m tools.cli ls --json {zoo} | head -n 1"

    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)

    assert (done.stdout.count("\n"), done.stderr) == (1, "")


def test_a_terminal_without_unicode_is_supported(zoo):
    for args in (["ls", zoo], ["show", zoo / "live.jsonl"]):
        done = subprocess.run(
            [sys.executable, "-m", "tools.cli", *args],
            env={**os.environ, "PYTHONIOENCODING": "ascii"},
            capture_output=True,
            check=False,
        )

        assert (done.returncode, done.stderr) == (0, b"")
        assert b"? running" in done.stdout


def test_an_unreadable_folder_is_one_line(tmp_path, capsys, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("os.scandir", refuse)

    assert main(["ls", str(tmp_path)]) == 1

    assert capsys.readouterr().err.count("\n") == 1


EVERY_COMMAND = [
    ["ls"], ["best"], ["show"], ["show", "--json"], ["diff", "{guide}"], ["compare", "{guide}"],
    ["compare", "--exact", "{guide}"], ["compare", "--at-iter", "2"], ["compare", "--at-time", "2"],
    ["compare", "--at-tokens", "2"], ["note", "{last}", "words"], ["tag", "{last}", "+word"],
    ["rename", "{last}", "other"],
]  # fmt: skip


@pytest.mark.parametrize("command", EVERY_COMMAND, ids=" ".join)
def test_every_command_handles_every_kind_of_file(zoo, capsys, command):
    for path in (p for p in sorted(zoo.iterdir()) if p.suffix in (".json", ".jsonl")):
        args = [w.format(guide=zoo / "guide.json", last=path) for w in command]

        code = main(args if "{last}" in command else [*args, str(path)])

        out, err = capsys.readouterr()
        assert code in (0, 1, 2)
        assert out or err or command[0] == "diff"
        assert err.count("\n") <= 1
        assert "Traceback" not in err


def run_without(libraries, *arguments):
    """`runs` where libraries are not installed."""
    code = (
        f"import sys; sys.modules |= dict.fromkeys({libraries.split()!r}); "
        f"sys.argv[1:] = {list(arguments)!r}; "
        "from tools.__main__ import main; sys.exit(main())"
    )
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("library", ["rich", "numpy"])
def test_a_library_that_is_not_installed_is_one_line_that_says_what_to_install(library, zoo):
    done = run_without(library, "compare", "--at-time", "1", str(zoo / "guide.jsonl"))

    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(
        rf"runs needs {library}, which is not installed\. Use: pip install \S+\[tools\]\S*\n",
        done.stderr,
    )


@pytest.mark.parametrize("arguments", [["ls"], ["compare", "--metric", "loss"], ["tag"]])
def test_a_command_needs_only_the_libraries_that_it_uses(arguments, zoo):
    libraries = "optuna duckdb matplotlib pyarrow scipy starlette textual zstandard"

    done = run_without(libraries, *arguments, str(zoo / "guide.jsonl"))

    assert (done.returncode, done.stderr) == (0, "")


def test_an_import_that_is_a_fault_of_ours_is_not_taken_for_a_missing_library(zoo):
    done = run_without("tools.core.rows", "ls", str(zoo))

    assert "Traceback" in done.stderr
