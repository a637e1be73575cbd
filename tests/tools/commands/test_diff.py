"""`runs diff`: what differs, and nothing else; exit codes as diff has them."""

import math

import orjson
import pytest

import eventlog
from tests.tools.conftest import make_run
from tools.cli import main


def differences(capsys, *arguments, code=1):
    assert main(["diff", "--json", *map(str, arguments)]) == code
    return [orjson.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_differences_in_config_and_results_are_shown_with_both_values(tmp_path, capsys):
    a = make_run(tmp_path, "a", [5.0], learning_rate=1e-3, optim={"beta": 0.9, "name": "x"})
    b = make_run(tmp_path, "b", [4.0], learning_rate=1e-4, optim={"beta": 0.8, "name": "x"}, seed=1)

    found = {(d["part"], d["name"]): (d["ours"], d["theirs"]) for d in differences(capsys, a, b)}

    assert found == {
        ("config", "learning_rate"): (1e-3, 1e-4),
        ("config", "optim.beta"): (0.9, 0.8),
        ("config", "seed"): (None, 1),
        ("results", "final_train_loss"): (6.0, 5.0),
        ("results", "best_val_loss"): (5.0, 4.0),
        ("results", "eval/train_loss:last"): (4.9, 3.9),
        ("results", "eval/train_loss:best"): (4.9, 3.9),
    }


def test_the_environment_is_metadata_and_the_origin_in_the_journal(tmp_path, capsys):
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder, device in zip(folders, ("cpu", "cuda"), strict=True):
        with eventlog.open_run(folder, metadata={"device": device}, save_interval=0):
            pass
    ours, theirs = (next(folder.glob("*.jsonl")) for folder in folders)
    theirs.write_bytes(theirs.read_bytes())
    from eventlog.format.record import decode, encode

    opened, *rest = theirs.read_bytes().splitlines(keepends=True)
    record = decode(opened[:-1])
    fields = record.fields | {"git_commit": "0" * 40}
    theirs.write_bytes(encode(0, record.s, record.t, "open", fields) + b"".join(rest))

    found = differences(capsys, ours, theirs, "--only", "environment")

    assert {d["name"] for d in found} == {"device", "git_commit"}


def test_a_missing_journal_makes_no_difference_of_origin(tmp_path, capsys):
    a, b = make_run(tmp_path, "a"), make_run(tmp_path, "b")
    b.unlink()

    assert differences(capsys, a, b.with_suffix(".json"), code=0) == []


def test_small_differences_are_not_rounded_away(tmp_path, capsys):
    a = make_run(tmp_path, "a", [5.0], learning_rate=0.0001)
    b = make_run(tmp_path, "b", [5.0], learning_rate=0.00010001)

    assert main(["diff", str(a), str(b)]) == 1

    assert {"0.0001", "0.00010001"} <= set(capsys.readouterr().out.split())


def test_equal_runs_print_nothing_and_exit_with_zero(tmp_path, capsys):
    a, b = (make_run(tmp_path / name, "run") for name in "ab")

    assert main(["diff", str(a), str(b)]) == 0

    assert capsys.readouterr() == ("", "")


def test_two_names_of_the_same_run_are_an_error_that_says_so(tmp_path, capsys):
    a = make_run(tmp_path, "run_1")

    assert main(["diff", str(tmp_path / "run_"), str(tmp_path / "run")]) == 2

    assert f"both name the run {a.with_suffix('')}" in capsys.readouterr().err


@pytest.mark.parametrize("other", ["empty.json", "nowhere", ""])
def test_an_unreadable_run_is_exit_two_because_one_means_different(zoo, capsys, other):
    assert main(["diff", str(zoo / "guide.json"), str(zoo / other)]) == 2

    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)


def test_the_last_and_best_values_of_common_series_are_results(tmp_path, capsys):
    paths = []
    for name, best, last in (("a", 0.5, math.nan), ("b", 0.75, 0.25)):
        with eventlog.init(dir=tmp_path, name=name, save_interval=0) as run:
            run.log({"val/acc": best, "same": 1.0, f"only/{name}": 1.0}, step=0)
            run.log({"val/acc": last}, step=1)
        paths.append(run.journal_path)

    found = differences(capsys, "--only", "results", *paths)

    assert [(d["name"], d["ours"], d["theirs"]) for d in found] == [
        ("val/acc:last", "nan", 0.25),
        ("val/acc:best", 0.5, 0.75),
    ]
