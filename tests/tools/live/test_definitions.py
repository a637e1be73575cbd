"""What a run defined of its series (`define_metric`), live; and series without a number."""

import math

import pytest

import eventlog
from tools.live import definitions
from tools.live.following import Following
from tools.live.search import search


def followed(folder):
    (path,) = folder.glob("*.jsonl")
    following = Following(path)
    while following.read_on():
        pass
    return following


def run_of(folder, rows, **defined):
    with eventlog.init(name="r", dir=folder, quiet=True) as run:
        for name, fields in defined.items():
            run.define_metric(name, **fields)
        for step, row in enumerate(rows):
            run.log(row, step=step)
    return definitions.of(followed(folder))


def test_a_hidden_series_is_not_listed_but_found_by_name(tmp_path):
    with eventlog.init(name="r", dir=tmp_path, quiet=True) as run:
        run.define_metric("debug/*", hidden=True)
        run.log({"loss": 1.0, "debug/a": 2.0, "debug/b": 3.0, "phase": "warmup"})
    of = definitions.of(followed(tmp_path))

    assert of.listed() == ["loss"]
    assert of.listed("debug/a") == ["debug/a"]
    assert of.listed("debug/* phase") == ["debug/a", "debug/b", "phase"]
    assert of.count() == 4


VALUES = [3.0, 1.0, 5.0]


@pytest.mark.parametrize(
    ("summary", "value"),
    [("last", 5.0), ("first", 3.0), ("min", 1.0), ("max", 5.0), ("mean", 3.0), ("best", 1.0),
     (None, 5.0)],
)  # fmt: skip
def test_the_value_for_a_table_is_what_the_run_defined(tmp_path, summary, value):
    defined = {"summary": summary, "goal": "minimize", "unit": "ms"}
    of = run_of(tmp_path, [{"cost": v} for v in VALUES], cost=defined)

    assert of.value("cost") == (value, summary or "last")
    assert of.unit("cost") == "ms"
    assert of.unit("unknown") == ""


def test_goal_decides_which_value_is_the_best(tmp_path):
    fields = {"summary": "best", "goal": "maximize"}

    assert run_of(tmp_path, [{"cost": v} for v in VALUES], cost=fields).value("cost")[0] == 5.0


def test_a_first_value_and_a_mean_with_nan_are_nan(tmp_path):
    rows = [{"a": math.nan, "b": 1.0}, {"a": 1.0, "b": math.inf}]
    of = run_of(tmp_path, rows, a={"summary": "first"}, b={"summary": "mean"})

    assert math.isnan(of.value("a")[0])
    assert math.isnan(of.value("b")[0])


def test_definitions_are_for_the_series_of_the_trainer_too(tmp_path):
    with eventlog.open_run(tmp_path, run_name="it", save_interval=0) as run:
        run.log("define", name="eval/*", unit="bits", hidden=True)
        run.log("define", name="loss", unit="nats", summary="min")
        for i, loss in enumerate((3.0, 2.0, 2.5)):
            run.log_iter(i, loss, 50.0)
            run.log_eval(i, loss, loss)
    of = definitions.of(followed(tmp_path))

    assert (of.unit("loss"), of.unit("eval/val_loss")) == ("nats", "bits")
    assert of.value("loss") == (2.0, "min")
    assert not any(name.startswith("eval/") for name in of.listed())


def test_a_series_without_a_number_says_what_it_has(tmp_path):
    rows = [{"a": math.nan, "b": -math.inf, "c": "warmup", "d": math.nan, "e": 1.0}]
    rows += [{"a": math.nan, "c": "stable", "d": math.inf}] * 3
    of = run_of(tmp_path, rows)

    assert [of.no_number(name) for name in "abcde"] == [
        "no number: 4 x NaN at steps 0 to 3",
        "no number: 1 x -infinity at step 0",
        "no number: 4 x text, the last 'stable'",
        "no number: 1 x NaN, 3 x infinity at steps 0 to 3",
        "",
    ]


NAMES = ["loss", "train/loss", "val/acc", "val/f1", "lr", "eval/val_loss", "a b"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("loss", ["loss"]),
        ("val/*", ["val/acc", "val/f1", "eval/val_loss"][:2]),
        ("ACC lr", ["val/acc", "lr"]),
        ("val_loss", ["eval/val_loss"]),
        ("val_*", ["eval/val_loss"]),
        ("*loss", ["loss", "train/loss", "eval/val_loss"]),
        ("a b", ["a b"]),
        ("nothing", []),
        ("", []),
        (r"/^val.(acc|f\d)$/", ["val/acc", "val/f1"]),
        ("/[/", []),
        ("/" + "(o+)+$" * 20 + "/", []),
    ],
)
def test_series_are_found_by_a_name_a_part_of_it_wildcards_or_a_regular_expression(text, expected):
    assert search(NAMES, text) == expected
