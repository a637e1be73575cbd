"""A run that ends in NaN or infinity looks so in every tool, and one that does not, does not."""

import math

import orjson
import pytest

import eventlog
from tests.tools.dashboard.pages import serving_here, until
from tools.archive.archive import archive
from tools.cli import main

STEPS = 30

NAMES = ("final_train_loss", "final_loss")  # the latter for scripts of earlier versions


def train(folder, *, bad=None, value=math.nan):
    """A run of the trainer whose `bad` series ends in `value`."""
    with eventlog.open_run(folder, run_name="run", save_interval=0) as run:
        for i in range(STEPS):
            loss = value if bad == "loss" and i >= 25 else 3 - i / STEPS
            run.log_iter(i, loss, 10.0)
        run.log_eval(i, train_loss=2.0, val_loss=value if bad == "eval/val_loss" else 2.5)
    return run.journal_path


def log_metrics(folder, *, bad=None, value=math.nan):
    with eventlog.open_run(folder, run_name="run", save_interval=0) as run:
        for i in range(STEPS):
            loss = value if bad == "train/loss" and i >= 25 else 3 - i / STEPS
            run.log("metrics", step=i, **{"train/loss": loss, "val/acc": i / STEPS})
    return run.journal_path


KINDS = [
    (train, "loss", math.nan),
    (train, "loss", -math.inf),
    (train, "eval/val_loss", math.nan),
    (log_metrics, "train/loss", math.nan),
    (log_metrics, "train/loss", math.inf),
]


@pytest.fixture(params=KINDS, ids=lambda kind: f"{kind[1]} {kind[2]}")
def bad(request, tmp_path):
    """A folder with a compacted run, the series that ends badly, and in what."""
    log, name, value = request.param
    eventlog.compact(log(tmp_path / "out", bad=name, value=value))
    return tmp_path / "out", name, str(value)


def printed(capsys, *arguments):
    main([str(argument) for argument in arguments])
    return capsys.readouterr().out


def test_the_tables_have_it_in_the_status(bad, capsys):
    folder, name, value = bad
    mark = f"completed, {name} {value}"

    for command in (["ls"], ["compare"], ["best", "--metric=iterations"]):
        assert mark in printed(capsys, *command, folder), command
    shown = printed(capsys, "show", folder)
    assert mark in shown
    assert f"last {value}" in shown


def test_a_training_loss_that_ends_so_has_no_last_finite_value(bad, capsys):
    folder, name, value = bad
    is_loss = name != "eval/val_loss"

    row = orjson.loads(printed(capsys, "ls", "--json", folder))
    compared = orjson.loads(printed(capsys, "compare", "--format=json", folder))
    of_frame = eventlog.frame(folder).iloc[0]

    for fields in (row, compared):
        assert fields["ends_nonfinite"] == {name: value}
        assert (fields["final_loss"] is None) == is_loss
        assert fields.get("nonfinite", {}) == (dict.fromkeys(NAMES, value) if is_loss else {})
    assert of_frame["ends_nonfinite"] == name
    if is_loss:
        assert repr(float(of_frame["final_loss"])) == value


def test_sql_has_it_of_folders_and_archives(bad, capsys, tmp_path):
    folder, name, value = bad
    archive([str(folder)], str(tmp_path / "archive"))

    for place in (folder, tmp_path / "archive"):
        sql = "select ends_nonfinite from runs"
        row = orjson.loads(printed(capsys, "query", sql, place, "--json"))
        assert orjson.loads(row["ends_nonfinite"]) == {name: value}


def test_the_page_has_it_in_its_list(bad):
    folder, name, value = bad
    with serving_here(folder) as server:
        (row,) = until(server.rows).values()

    assert row["ends_nonfinite"] == [name]
    if name != "eval/val_loss":
        assert (row["final_loss"], row["nonfinite"]) == (None, {"final_loss": value})


def test_the_guard_reports_it_though_the_run_completed(bad, capsys):
    folder, name, value = bad

    assert f"nonfinite: {name.removeprefix('eval/')} {value} at" in printed(
        capsys, "guard", "--once", folder
    )


@pytest.mark.parametrize("log", [train, log_metrics])
def test_a_run_with_a_nan_that_is_over_is_not_marked(log, tmp_path, capsys):
    path = log(tmp_path / "out", bad="loss" if log is train else "train/loss")
    with eventlog.open_run(journal=path, from_iter=25, save_interval=0) as run:
        for i in range(25, STEPS):
            if log is train:
                run.log_iter(i, 1.0, 10.0)
            else:
                run.log("metrics", step=i, **{"train/loss": 1.0})
    eventlog.compact(path)

    assert "nan" not in printed(capsys, "ls", tmp_path / "out")
    assert "ends_nonfinite" not in eventlog.load_run(path).journal
    assert not printed(capsys, "guard", "--once", tmp_path / "out")
