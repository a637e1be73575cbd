"""`runs show`: everything about one run, and what is wrong with a broken one."""

import math
import re

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

import eventlog
from tests.tools.conftest import BROKEN, READABLE, make_run
from tools.cli import main
from tools.commands.show import SPARK_COLUMNS, sparkline
from tools.core import runs


def shown(capsys, name):
    assert main(["show", str(name)]) == 0
    return capsys.readouterr().out


def test_a_run_is_shown_with_everything_but_its_rows(tmp_path, capsys):
    journal = make_run(tmp_path, "it", [5.0, 4.5], learning_rate=3e-4)
    with eventlog.open_run(
        journal=journal,
        from_iter=1,
        save_interval=0,
        config={"max_iters": 2, "learning_rate": 1e-4},
    ) as again:
        again.log_iter(1, math.nan)
    eventlog.annotate(journal, "note", text="diverged\x1b[31m", by="ann")
    eventlog.annotate(journal, "tag", add=["bad"])

    out = shown(capsys, journal)

    for text in (
        "status        completed", "tags          bad", "superseded    1 iteration",
        "learning_rate  0.0001", "best_val_loss      4.5", "from iteration 1",
        "learning_rate 0.0003 -> 0.0001", r"diverged\x1b[31m  (ann)",
        "min 6.0000 at 0, max 6.0000 at 0, last nan, 1 not finite, the first at 1",
        "git_commit", "versions",
    ):  # fmt: skip
        assert text in out


def test_defects_are_shown_with_their_position_and_cost(tmp_path, capsys):
    journal = make_run(tmp_path, "it", [5.0, 4.5])
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([*lines[:2], b"#" * 30 + b"\n", *lines[3:]]))

    out = shown(capsys, journal)

    assert "damaged       at byte" in out
    assert "gap           at byte" in out
    assert "1 event lost" in out


@pytest.mark.parametrize("stem", sorted(READABLE))
def test_every_readable_run_of_the_zoo_can_be_shown(zoo, capsys, stem):
    (path,) = (p for p in runs.find([zoo]) if p.stem == stem)

    assert stem == "live" or "train" in shown(capsys, path)
    assert main(["show", "--json", str(path)]) == 0
    assert orjson.loads(capsys.readouterr().out.splitlines()[-1])["path"] == str(path)


@pytest.mark.parametrize("stem", sorted(BROKEN))
def test_every_broken_file_is_reported_in_one_line(zoo, capsys, stem):
    (path,) = (p for p in runs.find([zoo]) if p.stem == stem)

    assert main(["show", str(path)]) == 1

    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith(f"{path}: ")


def test_a_live_run_is_marked(zoo, capsys):
    out = shown(capsys, zoo / "live.jsonl")

    assert "status        ● running" in out
    assert out.rstrip().endswith(", running")


def test_the_sparkline_falls_where_the_loss_falls():
    assert sparkline([8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0]) == "█▇▆▅▄▃▂▁"


def test_a_batch_with_a_nan_is_marked_and_does_not_flatten_the_rest():
    assert sparkline([2.0, math.nan, 1.0, None, math.inf]) == "█!▁ !"


@given(st.lists(st.none() | st.floats(), max_size=500))
def test_the_sparkline_of_any_values_has_at_most_its_columns(values):
    assert len(sparkline(values)) == min(SPARK_COLUMNS, len(values))


def test_without_unicode_the_sparkline_is_ascii(monkeypatch):
    class Ascii:
        encoding = "ascii"

    monkeypatch.setattr("sys.stdout", Ascii())

    assert sparkline([2.0, 1.0]) == "@_"


# ---- its series


@pytest.fixture
def many(tmp_path):
    """A run of 1,202 metrics, the loss after the others."""
    with eventlog.init(dir=tmp_path, name="many", save_interval=0) as run:
        run.log({f"grad/{i}": float(i) for i in range(1200)}, step=0)
        run.log({"train/loss": 2.0, "note": "word"}, step=1)
        run.log({"train/loss": math.nan}, step=2)
    eventlog.compact(run.journal_path)
    return run.run_path


def test_every_series_is_shown_and_of_many_the_first_of_each_prefix(many, capsys):
    out = shown(capsys, many)

    assert "train/loss    2 values, last nan at 2, 1 not finite\n" in out
    assert "note          1 value, last word at 1\n" in out
    assert "grad/12       1 value" in out
    assert "... and 1,187 more: --series 'grad/*'\n" in out


def test_series_prints_all_that_a_pattern_names(many, capsys):
    assert main(["show", "--series", "grad/*", "--series", "note", str(many)]) == 0

    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1201
    assert main(["show", "--series", "grab/1", str(many)]) == 2
    assert "--series: unknown series 'grab/1'. Did you mean grad/1" in capsys.readouterr().err


def test_json_has_the_summary_of_each_series(many, capsys):
    assert main(["show", "--json", str(many)]) == 0

    series = orjson.loads(capsys.readouterr().out)["series"]
    assert len(series) == 1202
    loss = series["train/loss"]
    assert (loss["count"], loss["last"], loss["nonfinite"]) == (2, None, {"last": "nan"})
    assert (loss["min"], loss["min_step"], loss["n_nonfinite"]) == (2.0, 1, 1)


def test_what_a_run_does_not_log_is_not_shown_as_zero(many, capsys):
    out = shown(capsys, many)

    assert "total_iterations" not in out
    assert "final_train_loss" not in out


def test_a_series_with_nothing_but_none_has_no_value(tmp_path, capsys):
    with eventlog.init(dir=tmp_path, name="a") as run:
        run.log({"x": None, "y": 1.0})

    assert re.search(r"^x +no value$", shown(capsys, run.journal_path), re.MULTILINE)


def test_a_long_value_is_cut_and_its_length_named_and_json_has_all_of_it(tmp_path, capsys):
    with eventlog.open_run(tmp_path, save_interval=0) as run:
        run.log("metrics", step=0, rows=[[i, i / 2] for i in range(1000)])

    text = shown(capsys, run.journal_path)
    assert main(["show", "--json", str(run.journal_path)]) == 0
    whole = orjson.loads(capsys.readouterr().out)["series"]["rows"]["last"]

    assert f"... ({len(whole):,} characters) at 0" in " ".join(text.split())
    assert len(text) < 2000
    assert orjson.loads(whole)[-1] == [999, 499.5]
