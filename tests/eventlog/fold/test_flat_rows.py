"""A run's tables as flat rows and as pandas frames."""

import math
import sys

import pytest

import eventlog


@pytest.fixture
def run(tmp_path):
    """A run with a row or two in each table, read from its run JSON."""
    with eventlog.open_run(tmp_path, run_name="run", save_interval=0) as session:
        session.log("system", cpu_percent=1.5)
        session.log_iter(0, 2.0, 50.0, betas=[0.9, 0.95], optimizer={"name": "adam"})
        session.log_iter(1, math.nan, 50.0)
        session.log("system", cpu_percent=2.5)
        session.log_eval(2, 1.5, 1.75)
        session.log_checkpoint(2, "ckpt.pt")
        session.log("metrics", step=7, **{"val/acc": 0.5, "net": {"norm": math.inf}})
    eventlog.compact(session.journal_path)
    return eventlog.load_run(session.run_path)


@pytest.mark.parametrize(
    ("table", "axis", "column", "values"),
    [
        ("iterations", [0, 1], "loss", [2.0, math.nan]),
        ("evals", [2], "val_loss", [1.75]),
        ("metrics", [7], "val/acc", [0.5]),
        ("system", [0, 1], "cpu_percent", [1.5, 2.5]),
        ("checkpoints", [2], "path", ["ckpt.pt"]),
    ],
)
def test_a_frame_has_the_rows_of_its_table_with_their_times(run, table, axis, column, values):
    frame = run.frame(table)

    assert frame["step" if table == "metrics" else "iter"].tolist() == axis
    assert frame[column].tolist() == pytest.approx(values, nan_ok=True)
    assert frame["timestamp"].str.match(r"\d{4}-\d\d-\d\dT.*\+00:00$").all()


def test_objects_are_dotted_names_lists_are_json_and_infinity_is_a_number(run):
    first, second = run.rows("iterations")
    (metrics,) = run.rows("metrics")

    assert (first["optimizer.name"], first["betas"]) == ("adam", "[0.9, 0.95]")
    assert math.isnan(second["loss"])
    assert metrics["net.norm"] == math.inf


def test_without_its_journal_a_run_json_has_its_rows_but_no_times(run):
    run.path.with_suffix(".jsonl").unlink()

    assert "timestamp" not in run.frame("iterations")
    with pytest.raises(FileNotFoundError, match=r"\.jsonl"):
        run.frame("system")


def test_an_empty_table_is_an_empty_frame_with_its_axis(tmp_path):
    with eventlog.open_run(tmp_path, save_interval=0) as session:
        pass

    frame = eventlog.load_run(session.journal_path).frame("metrics")

    assert (len(frame), [*frame.columns]) == (0, ["step"])


def test_an_unknown_table_is_refused_with_the_nearest_name(run):
    with pytest.raises(ValueError, match=r"unknown table: 'eval'\. Did you mean evals"):
        run.frame("eval")


def test_of_rows_that_an_older_logger_wrote_twice_the_later_counts():
    old = eventlog.Run(training_iterations=[{"iter": 1, "loss": 3.0}, {"iter": 0, "loss": 4.0},
                                            {"iter": 1, "loss": 2.0}, {"loss": 9.0}])  # fmt: skip

    assert [*old.rows("iterations")] == [{"iter": 0, "loss": 4.0}, {"iter": 1, "loss": 2.0}]


def test_without_pandas_a_frame_says_what_to_install(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)

    with pytest.raises(ImportError, match="a data frame needs pandas: pip install pandas"):
        run.frame("iterations")


def test_without_the_tools_a_plot_says_what_to_install(run, monkeypatch):
    monkeypatch.setattr("importlib.metadata.entry_points", lambda **selected: ())

    with pytest.raises(ImportError, match=r"needs the tools of .* pip install .runjournal"):
        run.plot()


def test_integers_beyond_2_53_keep_their_digits_where_one_is_missing():
    run = eventlog.Run(metrics=[{"step": 0, "n": 2**53 + 1, "m": 1}, {"step": 1, "x": 0.5}])

    frame = run.frame("metrics")

    assert frame["n"].tolist()[0] == 2**53 + 1
    assert math.isnan(frame["n"].tolist()[1])
    assert frame["m"].dtype == "float64"
