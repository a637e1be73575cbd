"""Each column of each table has one name, a summary that is true, and its values."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

import eventlog
from eventlog.fold import series

NAN = math.nan


@pytest.fixture
def run(tmp_path):
    """Iterations, evaluations, samples of the machine, metrics, and a resumed session."""
    with eventlog.open_run(tmp_path, save_interval=0) as log:
        for i in range(4):
            log.log_iter(i, [4.0, 3.0, NAN, 3.5][i], time_ms=10.0, lr=0.1)
        log.log_eval(4, train_loss=3.0, val_loss=3.25)
        log.log("system", cpu_percent=50.0)
        log.log("metrics", step=0, **{"val/acc": 0.5, "train/loss": 2.0, "phase": "warm"})
        log.log("metrics", step=1, **{"val/acc": 0.75, "train/loss": math.inf})
    with eventlog.open_run(journal=log.journal_path, save_interval=0) as log:
        log.log("metrics", step=1, **{"train/loss": 1.0, "a.b": {"c": 7}, "loss": 9.0})
    return eventlog.load_run(log.journal_path)


def test_every_column_has_its_name_and_a_metric_keeps_the_one_it_was_logged_by(run):
    assert [*run.series()] == [
        "val/acc", "train/loss", "phase", "a.b.c", "loss",
        "iterations/loss", "time_ms", "lr", "eval/train_loss", "eval/val_loss",
    ]  # fmt: skip


def test_a_summary_has_count_last_least_greatest_and_where(run):
    one = run.series()["train/loss"]

    assert (one.count, one.last, one.last_step) == (2, 1.0, 1)
    assert (one.min, one.min_step, one.max, one.max_step) == (1.0, 1, 2.0, 0)
    assert (one.n_nonfinite, one.n_superseded) == (0, 1)
    loss = run.series()["iterations/loss"]
    assert (loss.count, loss.n_nonfinite, loss.min, loss.min_step) == (4, 1, 3.0, 1)


def test_what_stands_for_large_values_in_another_file_is_no_series(tmp_path):
    large = "x" * 2_000_000
    with eventlog.open_run(tmp_path, save_interval=0) as log:
        for i in range(2):
            log.log_iter(i, 1.0, text=large)
            log.log_eval(i, 1.0, 1.0, text=large)
            log.log("metrics", step=i, acc=0.5, words=large)
    run = eventlog.load_run(log.journal_path)

    names = [*run.series()]
    columns = {name for table in ("iterations", "evals", "metrics") for name in run.frame(table)}

    assert [name for name in names if "aside" in name] == []
    assert {"text", "eval/text", "words", "acc"} <= {*names}
    assert [name for name in columns if "aside" in name] == []
    assert run.metrics[0]["set_aside"]["size_bytes"] > 2_000_000  # the row itself has it
    assert "set_aside.file" in run.journal["metrics"]["names"]  # FORMAT.md, "The rest"


def test_names_wildcards_and_table_with_column_select(run):
    assert [*run.series("val/acc", "train/*")] == ["val/acc", "train/loss"]
    assert [*run.series("*loss")] == [
        "train/loss", "loss", "iterations/loss", "eval/train_loss", "eval/val_loss"
    ]  # fmt: skip
    assert [*run.series("metrics/loss", "iterations/lr", "unknown")] == ["loss", "lr"]
    assert [*run.series("system/*")] == ["system/cpu_percent"]


def test_a_name_with_wildcard_characters_selects_itself(tmp_path):
    with eventlog.init(dir=tmp_path, save_interval=0) as run:
        run.log({"lr=[0.1]": 1.0, "lr=0": 2.0, "x*": 3.0, "xy": 4.0}, step=0)
    loaded = eventlog.load_run(run.journal_path)

    assert [*loaded.series("lr=[0.1]", "x*")] == ["lr=[0.1]", "x*"]


def test_points_are_the_values_by_step_nan_and_text_included(run):
    assert [*run.points("phase")] == [(0, "warm")]
    values = [*run.points("iterations/loss")]
    assert [i for i, _ in values] == [0, 1, 2, 3]
    assert math.isnan(values[2][1])
    assert [*run.points("system/cpu_percent")] == [(3, 50.0)]


def test_an_unknown_series_is_an_error_that_names_the_nearest(run):
    with pytest.raises(ValueError, match=r"unknown series: 'val/ac'\. Did you mean val/acc"):
        next(run.points("val/ac"))


@pytest.mark.parametrize(
    ("name", "goal"),
    [("val/loss", "minimize"), ("val_acc", "maximize"), ("eval/f1", "maximize"), ("x", None)],
)
def test_the_goal_of_a_usual_name_is_known(name, goal):
    assert series.Series(name, "metrics", name, min=1.0, max=2.0).goal == goal


def test_what_was_defined_counts_more_and_a_name_more_than_a_pattern():
    one = series.Series("val/loss", "metrics", "val/loss", min=1.0, max=2.0)
    definitions = {"val/*": {"goal": "minimize", "unit": "%"}, "val/loss": {"goal": "maximize"}}
    (defined,) = series.by_name([one], definitions, 1).values()

    assert (defined.goal, defined.best, defined.definition.get("unit")) == ("maximize", 2.0, None)


def test_a_counter_that_a_program_logs_in_every_row_is_the_axis(tmp_path):
    """As nanoGPT logs its evaluations: at steps 0, 1, 2, with its own number of the iteration."""
    with eventlog.init(dir=tmp_path, save_interval=0) as run:
        for i in (0, 250, 500):
            run.log({"iter": i, "train/loss": 4.0 - i / 250, "val/loss": 4.5 - i / 250})
    loaded = eventlog.load_run(run.journal_path)

    one = loaded.series()["val/loss"]
    assert one.step_metric == "iter"
    assert [*loaded.points("val/loss", one.step_metric)] == [(0, 4.5), (250, 3.5), (500, 2.5)]
    assert [*loaded.points("val/loss")] == [(0, 4.5), (1, 3.5), (2, 2.5)]


@pytest.mark.parametrize(
    "rows",
    [
        [{"iter": 0, "loss": 1.0}, {"iter": 1, "loss": 2.0}],  # it is the step
        [{"iter": 0, "loss": 1.0}, {"loss": 2.0}],  # it is not in every row
        [{"iter": 9, "loss": 1.0}, {"iter": 2, "loss": 2.0}],  # it goes back
        [{"iter": "a", "loss": 1.0}, {"iter": "b", "loss": 2.0}],
    ],
)
def test_another_column_of_that_name_is_not_the_axis(tmp_path, rows):
    with eventlog.init(dir=tmp_path, save_interval=0) as run:
        for row in rows:
            run.log(row)

    assert eventlog.load_run(run.journal_path).series()["loss"].step_metric is None


def test_an_axis_that_is_logged_in_other_rows_counts_from_its_latest_value(tmp_path):
    with eventlog.init(dir=tmp_path, save_interval=0) as run:
        run.log({"loss": 9.0}, step=0)
        run.log({"epoch": 1}, step=1)
        run.log({"loss": 1.0}, step=2)
        run.log({"epoch": 2, "loss": 0.5}, step=3)

    assert [*eventlog.load_run(run.journal_path).points("loss", "epoch")] == [(1, 1.0), (2, 0.5)]


values = st.one_of(st.integers(-5, 5), st.floats(), st.sampled_from(["a", "b"]), st.none())


@given(
    st.lists(
        st.tuples(st.integers(0, 5), st.dictionaries(st.sampled_from("abc"), values)), max_size=12
    )
)
def test_summaries_of_a_run_json_are_those_of_its_rows(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("rows")
    with eventlog.open_run(folder, save_interval=0) as log:
        for step, fields in rows:
            log.log("metrics", step=step, **fields)
    run = eventlog.load_run(log.journal_path)
    of_rows = series.of_rows("metrics", run.rows("metrics"))

    for one in of_rows:
        stored = run.series()[one.name]
        same = [(getattr(stored, k), getattr(one, k)) for k in vars(one) if k != "n_superseded"]
        for a, b in same:
            assert a == b or (a != a and b != b)
    counted = sum(one.count for one in run.series().values())
    assert counted == sum(one.count for one in of_rows)


def test_what_a_run_defines_of_its_metrics_is_in_its_series(tmp_path):
    with eventlog.init(dir=tmp_path, save_interval=0) as run:
        run.define_metric("epoch")
        run.define_metric("val/*", step_metric="epoch", goal="maximize", unit="%")
        run.define_metric("val/loss", goal="minimize")
        run.log({"epoch": 0, "val/top": 1.0, "val/loss": 2.0})
        run.log({"epoch": 1, "val/top": 3.0, "val/loss": 1.0})
    named = eventlog.load_run(run.journal_path).series()

    assert (named["val/top"].goal, named["val/top"].best) == ("maximize", 3.0)
    assert (named["val/top"].definition["unit"], named["val/top"].step_metric) == ("%", "epoch")
    assert (named["val/loss"].goal, named["val/loss"].best_step) == ("minimize", 1)
    assert named["epoch"].step_metric is None


def test_a_definition_adds_to_an_earlier_one_or_replaces_it(tmp_path):
    with eventlog.open_run(tmp_path, save_interval=0) as run:
        run.log("define", name="a", unit="s", goal="minimize")
        run.log("define", name="a", unit="ms")
        run.log("define", name="b", unit="s", goal="minimize")
        run.log("define", name="b", unit="ms", overwrite=True)

    assert eventlog.load_run(run.journal_path).journal["definitions"] == {
        "a": {"unit": "ms", "goal": "minimize"},
        "b": {"unit": "ms"},
    }
