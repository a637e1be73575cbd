"""Curves by another series of the run: `step_metric`, live."""

import math

import pytest

import eventlog
from tools.live import by_series, marks
from tools.live.following import Following


def followed(folder, rows, **definitions):
    with eventlog.init(name="r", dir=folder, quiet=True) as run:
        for name, axis in definitions.items():
            run.define_metric(name.replace("_", "/*"), step_metric=axis)
        for step, row in enumerate(rows):
            run.log(row, step=step)
    (path,) = folder.glob("*.jsonl")
    following = Following(path)
    while following.read_on():
        pass
    return following


def points(following, name, x=""):
    _, rows, column, axis_name, axis = by_series.of(following).place(name, x)
    curve = rows.curve(column, axis)
    return axis_name, list(zip(curve.x.tolist(), curve.y.tolist(), strict=True)), curve.nonfinite


def test_evaluations_stand_at_the_counter_that_the_program_logs_in_every_row(tmp_path):
    following = followed(tmp_path, [{"iter": 250 * k, "val/loss": 5.0 - k} for k in range(3)])

    assert points(following, "val/loss") == (
        "metrics/iter", [(0, 5.0), (250, 4.0), (500, 3.0)], []
    )  # fmt: skip
    assert points(following, "val/loss", "iter")[1] == [(0, 5.0), (1, 4.0), (2, 3.0)]
    assert by_series.of(following).offered() == ["metrics/iter"]


def test_a_value_stands_at_the_last_value_of_its_axis_and_the_points_ascend(tmp_path):
    rows = [{"val/a": 9.0}, {"epoch": 2.0}, {"val/a": 7.0}, {"epoch": 1.0, "val/a": math.inf},
            {"val/a": 5.0, "other": 1.0}]  # fmt: skip
    following = followed(tmp_path, rows, val_="epoch")

    name, at, nonfinite = points(following, "val/a")

    assert name == "epoch"
    assert [x for x, _ in at] == [1.0, 1.0, 2.0]  # the first value had no epoch yet
    assert [y for _, y in at if y == y] == [5.0, 7.0]
    assert nonfinite == [(1.0, "inf")]
    assert points(following, "other")[:2] == ("iter", [(4, 1.0)])


def test_a_part_of_the_axis_has_the_extremes_of_all_values_in_it(tmp_path):
    rows = [{"x": i / 10, "val/a": float(i % 7)} for i in range(3_000)]
    following = followed(tmp_path, rows, val_="x")
    _, of, column, _, axis = by_series.of(following).place("val/a", "")

    curve = of.curve(column, axis, begin=100.0, end=200.0, n_buckets=20)

    assert curve.is_thinned
    assert (curve.x.min(), curve.x.max()) == (pytest.approx(100, abs=1), pytest.approx(200, abs=1))
    assert (curve.y.min(), curve.y.max()) == (0, 6)


def test_an_axis_that_is_not_logged_is_no_axis(tmp_path):
    following = followed(tmp_path, [{"val/a": 1.0}], val_="epoch")

    assert points(following, "val/a")[0] == "iter"
    assert by_series.of(following).place("val/a", "epoch")[4] is None
    assert by_series.of(following).offered() == []


def trainer_run(folder):
    """A run of the trainer, resumed at iteration 3 with tokens twice as fast."""
    with eventlog.open_run(folder, run_name="it", save_interval=0) as run:
        run.log("define", name="loss", step_metric="seen")
        run.log("define", name="eval/*", step_metric="seen")
        for i in range(5):
            run.log_iter(i, 5.0 - i, 50.0, seen=10.0 * i)
        run.log_eval(4, 4.0, 4.0)
        run.log("define", name="system/*", step_metric="seen")
        run.log("system", iter=4, cpu=50.0)
    with eventlog.open_run(journal=run.journal_path, from_iter=3, save_interval=0) as run:
        for i in range(3, 6):
            run.log_iter(i, 5.0 - i, 50.0, seen=100.0 * i)
    following = Following(run.journal_path)
    while following.read_on():
        pass
    return following


def test_the_series_of_the_trainer_have_the_axis_that_was_defined_for_them(tmp_path):
    following = trainer_run(tmp_path)

    assert points(following, "loss") == (
        "seen", [(0, 5.0), (10, 4.0), (20, 3.0), (300, 2.0), (400, 1.0), (500, 0.0)], []
    )  # fmt: skip
    assert points(following, "time_ms")[0] == "iter"
    assert points(following, "system/cpu")[0] == "seen"
    assert by_series.of(following).offered() == ["seen"]


def test_superseded_rows_stand_at_the_axis_as_it_was_then(tmp_path):
    following = trainer_run(tmp_path)
    taken = next(one for one in following.content.superseded if one.table == "iter")

    rows = by_series.of(following).superseded(taken, "loss", "seen")

    assert rows.times.values.tolist() == [30.0, 40.0]
    assert rows.columns["loss"].read(0, 2).tolist() == [2.0, 1.0]


def test_superseded_metrics_stand_at_the_axis_as_it_was_then(tmp_path):
    for rows in ([{"x": 10.0 * i, "a": float(i)} for i in range(5)], [{"x": 99.0, "a": 7.0}]):
        with eventlog.init(name="r", dir=tmp_path, id="r1", resume="allow", quiet=True) as run:
            run.define_metric("a", step_metric="x")
            for i, row in enumerate(rows, 3 if len(rows) == 1 else 0):
                run.log(row, step=i)
    (path,) = tmp_path.glob("*.jsonl")
    following = Following(path)
    while following.read_on():
        pass
    taken = next(one for one in following.content.superseded if "a" in one.rows.columns)

    placed = by_series.of(following).superseded(taken, "a", "x")

    assert placed.times.values.tolist() == [30.0, 40.0]
    assert points(following, "a")[1] == [(0, 0.0), (10, 1.0), (20, 2.0), (99, 7.0)]


@pytest.mark.parametrize(("x", "expected"), [("iter", 3.0), ("seen", 300.0)])
def test_a_resume_is_marked_at_its_place_on_any_axis(tmp_path, x, expected):
    following = trainer_run(tmp_path)

    assert [at for at, kind in marks.places(following, x) if kind == "resume"] == [expected]


def test_no_event_has_a_place_on_an_axis_that_is_not_logged(tmp_path):
    assert [*marks.places(trainer_run(tmp_path), "unknown")] == []
