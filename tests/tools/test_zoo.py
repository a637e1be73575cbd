"""Every command on a folder with all kinds of runs: its result, and a line for each broken file."""

import shlex

import pytest

import eventlog
from tests.tools.conftest import BROKEN
from tools.cli import main

ANSWERS = {
    "ls {zoo}": (0, "finished"),
    "best {zoo}": (0, "finished"),
    "show {zoo}/big.jsonl": (0, "completed"),
    "diff {zoo}/finished.json {zoo}/big.jsonl": (1, "total_iterations"),
    "compare {zoo}": (1, "finished"),
    "compare --exact {zoo}/crashed.jsonl {zoo}/torn.jsonl": (0, "8 iterations equal"),
    "plot {zoo} --dpi 50 --out {out}/runs.png": (1, "runs.png"),
    "plot --kind loss --superseded {zoo}/big.jsonl --out {out}/loss.svg": (0, "loss.svg"),
    "export {zoo} --to csv --out {out}/csv": (1, "csv"),
    "export {zoo} --to parquet --out {out}/parquet": (1, "parquet"),
    "archive {zoo} --to {out}/kept": (1, "10 new, 1 live, 8 failed"),
    "query --csv 'select run from runs' {zoo}": (1, "finished"),
    "query --csv 'select count(*) as n from iterations' {zoo}": (1, "n\n"),
    "prune {zoo} --older-than 30d --unarchived": (0, "cannot be read"),
    "guard --once {zoo}": (None, ""),  # what it says depends on how long ago they were killed
    "note {zoo}/big.jsonl 'a long one'": (0, ""),
    "tag {zoo}/live.jsonl +watched": (0, "watched"),
}
"""Command -> its exit code, and words of its answer."""

OF_ALL = [command for command in ANSWERS if "{zoo} " in f"{command} "]
SAYS_BROKEN = [c for c in OF_ALL if c.split()[0] in ("plot", "export", "archive", "query")]


def add_big(zoo, size_bytes):
    """A finished run with a journal of so many bytes, and its run JSON."""
    with eventlog.open_run(zoo, run_name="big", save_interval=0) as run:
        run.log_eval(0, 9.0, 9.0)
        for i in range(size_bytes // 173):
            run.log_iter(i, 9.0 - i * 1e-6, 50.0, 30.0, lr=1e-3, grad_norm=1.0)
    eventlog.compact(run.journal_path.rename(zoo / "big.jsonl"))


def ask(command, zoo, out, capsys):
    args = [arg.format(zoo=zoo, out=out) for arg in shlex.split(command)]
    code = main(args)
    return code, *capsys.readouterr()


def check(command, zoo, out, capsys):
    """What must hold of every answer: exit code, words, one line for each file on stderr."""
    code, output, err = ask(command, zoo, out, capsys)

    expected_code, expected = ANSWERS[command]
    assert code in ((0, 1) if expected_code is None else (expected_code,)), output + err
    assert expected in output, output + err
    assert "Traceback" not in output + err
    if command in SAYS_BROKEN:
        about = [line for line in err.splitlines() if "live" not in line]
        assert sorted(stem for stem in BROKEN if any(f"/{stem}.js" in x for x in about)) == sorted(
            BROKEN
        )
        assert len(about) == len(BROKEN)


@pytest.fixture
def zoo_with_big(zoo):
    add_big(zoo, 2_000_000)
    return zoo


@pytest.mark.parametrize("command", ANSWERS)
def test_every_command_answers_over_a_folder_of_everything(zoo_with_big, tmp_path, capsys, command):
    check(command, zoo_with_big, tmp_path / "to", capsys)


@pytest.mark.parametrize("command", [c for c in OF_ALL if not c.startswith("guard")])
def test_no_command_that_reads_changes_a_file(zoo, tmp_path, capsys, command):
    def seen():
        return {path.name: (path.stat().st_size, path.stat().st_mtime_ns) for path in zoo.iterdir()}

    before = seen()

    ask(command, zoo, tmp_path / "to", capsys)

    assert seen() == before


@pytest.mark.slow
def test_every_command_answers_over_a_folder_with_a_run_of_200_megabytes(zoo, tmp_path, capsys):
    """pytest -n 0 -m slow tests/tools/test_zoo.py: minutes"""
    add_big(zoo, 200_000_000)
    assert (zoo / "big.jsonl").stat().st_size > 190_000_000

    for command in ANSWERS:
        check(command, zoo, tmp_path / "to", capsys)
