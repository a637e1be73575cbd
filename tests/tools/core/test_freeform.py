"""Runs that logged metrics alone: their losses are found by `ls`, `show` and `plot`."""

import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import eventlog
from tools import cli
from tools.core import freeform, runs
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


def test_a_run_with_iterations_keeps_its_own_summary(tmp_path):
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
    output = capsys.readouterr().out

    assert "metrics" in output
    assert "1.5 at 4, min 1.5, max 6" in output
    assert "on the way" in output
    assert "1 not finite, the first at 2" in output
    assert "superseded    3 values of metrics" in output


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
    assert freeform.losses(names) == found


@given(
    st.dictionaries(st.text(max_size=8) | st.sampled_from(["loss", "val_loss"]), st.floats()),
    st.integers(-(2**60), 2**60),
)
def test_any_logged_run_can_be_listed_and_plotted(values, step):
    fold = eventlog.Fold()
    fold.add(eventlog.Record(0, "a1a1a1a1", "2026-11-23T03:25:01.123456+00:00", "open", {}))
    plain = {k: v for k, v in values.items() if math.isfinite(v)}
    fold.add(
        eventlog.Record(
            1, "a1a1a1a1", "2026-11-23T03:25:02.123456+00:00", "metrics", plain | {"step": step}
        )
    )
    run = fold.run()

    fields = row(runs.Found(Path("x.json"), run))
    curves = freeform.with_curves(run)

    assert fields["final_loss"] == plain.get("loss")
    assert [r["loss"] for r in curves.training_iterations] == [
        plain[name] for name in ("loss",) if name in plain
    ]
