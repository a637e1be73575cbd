"""What a run defines of its metrics (`define_metric`, also by wildcards) holds in every tool."""

import orjson
import pytest

import eventlog
from tests.tools.monitor.test_series_rules import record
from tests.tools.plot.test_any_series import drawn
from tools.cli import main
from tools.monitor.rules import Limits
from tools.monitor.series_rules import SeriesRule, SeriesWatch
from tools.plot.figure import draw


@pytest.fixture
def run(tmp_path):
    """Two runs, the journal of the first: `val/x` is better high and best at step 1."""
    for name, shift in (("a", 0.0), ("b", 1.0)):
        with eventlog.init(dir=tmp_path, name=name, save_interval=0, quiet=True) as run:
            run.define_metric("val/*", summary="max", goal="maximize", unit="points")
            run.define_metric("val/first", summary="first")
            run.define_metric("debug/*", hidden=True)
            run.define_metric("by epoch", step_metric="epoch")
            for step, x in enumerate((1.0, 3.0, 2.0)):
                row = {"val/x": x + shift, "val/first": x, "debug/x": x, "text": "a"}
                run.log(row | {"epoch": step / 10, "by epoch": x}, step=step)
        eventlog.compact(run.journal_path)
    (journal,) = tmp_path.glob("a_*.jsonl")
    return journal


def rows(capsys, *arguments):
    capsys.readouterr()
    assert main([*map(str, arguments), "--json"]) == 0
    return [orjson.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_a_name_in_ls_is_the_statistic_that_was_defined(run, capsys):
    (row,) = rows(capsys, "ls", run, "--columns", "val/*,val/x:last,text")

    assert row["series"] == {"val/x": 3.0, "val/first": 1.0, "val/x:last": 2.0, "text": "a"}


def test_ls_sorts_and_filters_by_it(run, capsys):
    found = rows(capsys, "ls", run.parent, "--sort", "-val/x", "--where", "val/x >= 3")

    assert [row["run"][0] for row in found] == ["b", "a"]


def test_a_frame_of_runs_has_it_as_ls(run):
    pytest.importorskip("pandas")

    (row,) = eventlog.frame([run]).to_dict("records")

    assert (row["val/x"], row["val/first"], row["val/x:best"]) == (3.0, 1.0, 3.0)


def test_best_and_compare_go_by_the_direction_that_was_defined(run, capsys):
    (best,) = rows(capsys, "best", "--metric", "val/x", run.parent)
    compared = rows(capsys, "compare", "--metric", "val/x", *sorted(run.parent.glob("*.json")))

    assert best["run"][0] == "b"
    assert [(row["best"], row["best_step"]) for row in compared] == [(3.0, 1), (4.0, 1)]
    assert [row["is_best"] for row in compared] == [False, True]


def test_show_has_the_unit_and_the_definition(run, capsys):
    assert main(["show", str(run)]) == 0
    shown = capsys.readouterr().out
    (row,) = rows(capsys, "show", run, "--series", "val/x")

    assert "last 2 points at 2" in shown
    assert row["definition"]["unit"] == "points"


def test_a_plot_of_a_wildcard_leaves_out_what_is_hidden_and_draws_it_by_name(run):
    loaded = eventlog.load_run(run)

    (axes,) = draw([loaded], metrics=["*"]).axes
    labels = {text.get_text() for text in axes.get_legend().get_texts()}

    assert {"val/x", "epoch"} <= labels
    assert "debug/x" not in labels
    assert len(drawn(draw([loaded], metrics=["debug/x"]).axes[0])) == 1
    assert len(drawn(draw([loaded], metrics=["debug/*"]).axes[0])) == 1


def test_a_plot_has_the_unit_and_the_axis(run):
    loaded = eventlog.load_run(run)

    unit = draw([loaded], metrics=["val/x"]).axes[0].get_ylabel()
    axis = draw([loaded], metrics=["by epoch"]).axes[0].get_xlabel()

    assert (unit, axis) == ("val/x (points)", "epoch")


def test_no_improvement_goes_by_the_direction_that_was_defined():
    rule = SeriesRule.parse("* no improvement 5")
    watch = SeriesWatch([rule], Limits())
    watch.add(record(1, "define", name="quality/*", goal="maximize"), 0.0)
    watch.clear()  # another session

    rising = {"quality/x": 1.0, "other": 1.0}
    found = [
        text
        for step in range(9)
        for _, text in watch.add(
            record(step, "metrics", step=step, **{k: v * step for k, v in rising.items()}), 0.0
        )
    ]

    assert [text.partition(":")[0] for text in found] == ["other"]


def test_an_export_to_files_has_the_definitions(run, tmp_path):
    assert main(["export", str(run), "--to", "csv", "--out", str(tmp_path / "to")]) == 0
    (path,) = (tmp_path / "to").glob("*/run.json")

    assert orjson.loads(path.read_bytes())["definitions"]["debug/*"] == {"hidden": True}
