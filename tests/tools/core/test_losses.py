"""Runs that logged metrics alone: their losses are found by `ls`, `show` and `plot`."""

import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import eventlog
from tools import cli
from tools.core import runs
from tools.core.rows import row
from tools.plot.series import Series


@pytest.fixture
def free(tmp_path):
    """A run of metrics: a loss a step, a validation loss every second one, the last two again."""
    with eventlog.init(dir=tmp_path, name="free", save_interval=0) as run:
        for step in range(6):
            run.log({"train/loss": 6.0 - step, "val/loss": 7.0 - step} if step % 2 else {})
            run.log({"train/loss": math.nan if step == 2 else 6.0 - step}, step=step)
        run.rewind(4)
        run.log({"train/loss": 1.5, "words": "on the way"}, step=4)
    eventlog.compact(run.journal_path)
    return run.run_path


def test_a_row_has_its_last_loss_and_its_best_validation_loss(free):
    for found in (runs.glance_at(free), runs.load_at(free)):
        fields = row(found)

        assert (fields["iterations"], fields["final_loss"], fields["best_val_loss"]) == (
            5,
            1.5,
            4.0,
        )


def test_the_ends_of_its_run_json_are_enough_for_a_list(free):
    assert not runs.glance_at(free).is_whole


def test_a_run_with_iterations_keeps_its_own_figures(tmp_path):
    with eventlog.open_run(tmp_path, save_interval=0) as run:
        run.log_iter(0, 3.0)
        run.log("metrics", step=0, loss=9.0)

    fields = row(runs.load_at(run.journal_path))
    assert (fields["iterations"], fields["final_loss"]) == (1, 3.0)


def test_its_curves_are_drawn_with_what_was_superseded(free):
    series = Series(eventlog.load_run(free))

    assert series.iterations["iter"].tolist() == [0, 1, 2, 3, 4]
    assert series.iterations["loss"][[0, 1, 3, 4]].tolist() == [6.0, 5.0, 3.0, 1.5]
    assert series.iterations.nonfinite["loss"] == {2: "nan"}
    assert series.evals["val_loss"].tolist() == [6.0, 4.0]
    assert [rows["loss"].tolist() for rows in series.superseded] == [[2.0, 1.0]]


def test_show_prints_each_metric_and_the_curve(free, capsys):
    assert cli.main(["show", str(free)]) == 0
    printed = capsys.readouterr().out

    assert "5 values, last 1.5 at 4, min 1.5 at 4, max 6 at 0, 1 not finite" in printed
    assert "1 value, last on the way at 4" in printed
    assert "1 not finite, the first at 2" in printed
    assert "superseded    3 metric values" in printed


def test_ls_and_plot_accept_it_like_any_other_run(free, capsys, tmp_path):
    assert cli.main(["ls", "--json", str(free)]) == 0
    fields = json.loads(capsys.readouterr().out)
    assert fields["final_loss"] == 1.5

    assert cli.main(["plot", str(free), "--out", str(tmp_path / "p.svg")]) == 0
    assert (tmp_path / "p.svg").stat().st_size > 1000


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["loss", "eval_loss"], ("loss", "eval_loss")),
        (["train.loss", "val.loss", "epoch"], ("train.loss", "val.loss")),
        (["train_loss"], ("train_loss", None)),
        (["accuracy"], (None, None)),
    ],
)
def test_the_usual_names_of_a_loss_are_known(names, found):
    run = metrics_of(dict.fromkeys(names, 1.0), 0)

    assert tuple(one and one.name for one in run.losses()) == found


def test_text_under_the_name_of_a_loss_is_not_the_loss():
    run = metrics_of({"loss": "small", "train_loss": 1.0}, 0)

    assert run.losses()[0].name == "train_loss"


def test_compare_runs_finds_the_losses_of_a_run_of_metrics(free):
    (figures,) = eventlog.compare_runs([free])["runs"]

    assert (figures["final_loss"], figures["best_val_loss"], figures["total_iters"]) == (1.5, 4, 5)


def test_a_last_loss_that_is_nan_is_shown_as_nan(tmp_path, capsys):
    with eventlog.init(dir=tmp_path, name="bad", save_interval=0) as run:
        run.log({"loss": 1.0}, step=0)
        run.log({"loss": math.nan}, step=1)

    assert cli.main(["ls", "--json", str(run.journal_path)]) == 0
    fields = json.loads(capsys.readouterr().out)
    assert fields["final_train_loss"] is None
    assert fields["nonfinite"]["final_train_loss"] == "nan"
    for command in ("ls", "compare"):
        assert cli.main([command, str(run.journal_path)]) == 0
        assert " nan " in capsys.readouterr().out


def metrics_of(values, step):
    """A run that logged `values` at `step`."""
    fold = eventlog.Fold()
    fold.add(eventlog.Record(0, "a1a1a1a1", "2026-11-23T03:25:01.123456+00:00", "open", {}))
    fields = values | {"step": step}
    time = "2026-11-23T03:25:02.123456+00:00"
    fold.add(eventlog.Record(1, "a1a1a1a1", time, "metrics", fields))
    return fold.run()


@given(
    st.dictionaries(st.text(max_size=8) | st.sampled_from(["loss", "val_loss"]), st.floats()),
    st.integers(-(2**60), 2**60),
)
def test_any_logged_run_can_be_listed_and_plotted(values, step):
    plain = {k: v for k, v in values.items() if math.isfinite(v)}
    run = metrics_of(plain, step)

    fields = row(runs.Found(Path("x.json"), run))
    curves = Series(run)

    assert fields["final_loss"] == plain.get("loss")
    assert len(curves.iterations) == ("loss" in plain and abs(step) < 2**53)
