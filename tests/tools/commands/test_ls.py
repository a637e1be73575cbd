"""`runs ls` and `runs best`: which runs, in which order, with which columns."""

import contextlib
import csv
import io
import math
import os
import re

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

import eventlog
from tests.tools.conftest import BROKEN, READABLE, make_run
from tools.cli import main
from tools.core.rows import FIELDS, sort
from tools.core.runs import Refusal
from tools.core.where import select


@pytest.fixture
def out(tmp_path):
    make_run(tmp_path, "low", [5.0, 3.0], learning_rate=1e-3, n_layer=6, optim={"name": "adamw"})
    make_run(tmp_path, "mid", [5.0, 4.0], learning_rate=3e-4, n_layer=12, compile=True)
    make_run(tmp_path, "high", [5.0], learning_rate=6e-4, n_layer=12, mfu=-100.0)
    return tmp_path


def listed(capsys, *arguments):
    assert main(["ls", "--json", *map(str, arguments)]) == 0
    return [orjson.loads(line) for line in capsys.readouterr().out.splitlines()]


def stems(rows):
    return [os.path.basename(row["path"]).split(".")[0] for row in rows]


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("best_val_loss < 5 and status = 'completed'", ["low", "mid"]),
        ('status == "completed" and not best_val_loss < 5', ["high"]),
        ("config.n_layer = 12 or config.learning_rate >= 1e-3", ["low", "mid", "high"]),
        ("cfg.n_layer = 12 or cfg.learning_rate >= 1e-3", ["low", "mid", "high"]),
        ("cfg.optim.name = 'adamw'", ["low"]),
        ("n_layer in (6, 7)", ["low"]),
        ("config.optim.name like 'ADAM%'", ["low"]),
        ("config.compile = true", ["mid"]),
        ("config.compile = null", ["low", "high"]),
        ("config.compile != null", ["mid"]),
        ("avg_mfu is null", ["high"]),
        ("(best_val_loss - 1) * 2 = 4", ["low"]),
        ("run like 'mid%' -- or true", None),
        ("iterations between 2 and 2", ["low", "mid"]),
        ("abs(best_val_loss - 4) < 0.5", ["mid"]),
        ("live", []),
    ],
)
def test_where_lists_the_runs_it_is_true_for(out, capsys, where, expected):
    if expected is None:
        assert main(["ls", "--where", where, str(out)]) == 2
        assert "--where: cannot parse" in capsys.readouterr().err
        return
    assert stems(listed(capsys, out, "--where", where)) == expected


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("best_val < 7", "--where: unknown field 'best_val'. Did you mean best_val_loss?\n"),
        ("lerning_rate < 7", "Did you mean config.learning_rate?\n"),
        ("config.n_layr = 6", "unknown field 'config.n_layr'. Did you mean config.n_layer"),
        ("best_val_loss <", "--where: cannot parse 'best_val_loss <': "),
        ("iterations = 3; drop table runs", "from '; drop table runs' on"),
        ("load_extension('x') = 1", "--where: unknown function 'load_extension'. There are abs,"),
        ("run in (select run from runs)", "unknown field 'select'"),
    ],
)
def test_a_malformed_expression_is_one_line_with_the_reason(out, capsys, where, message):
    assert main(["ls", "--where", where, str(out)]) == 2

    printed = capsys.readouterr()
    assert message in printed.err
    assert printed.err.count("\n") == 1
    assert printed.out == ""


@given(where=st.text() | st.text(alphabet="a<=>()'\" 0.,-+*andornotinlikeull\0"))
def test_no_text_makes_where_raise_anything_else(where):
    rows = [dict.fromkeys(FIELDS) | {"config": {}, "metadata": {}}]

    with contextlib.suppress(Refusal):
        assert select(rows, where) in ([], rows)


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (["--sort", "learning_rate"], ["mid", "high", "low"]),
        (["--sort", "-learning_rate"], ["low", "high", "mid"]),
        (["--sort=-best_val_loss"], ["high", "mid", "low"]),
        (["--sort", "-compile"], ["mid", "high", "low"]),  # what has none comes last
        (["--sort", "run", "--limit", "2"], ["high", "low"]),
    ],
)
def test_sort_orders_by_any_field_and_limit_cuts(out, capsys, key, expected):
    assert stems(listed(capsys, out, *key)) == expected


@given(st.lists(st.none() | st.floats() | st.integers() | st.text() | st.booleans()))
def test_any_values_can_be_sorted_without_loss(values):
    rows = [{"x": value, "config": {}, "metadata": {}} for value in values]

    ordered = sort(rows, "x") if any(v is not None for v in values) else rows

    assert sorted(map(id, ordered)) == sorted(map(id, rows))


def test_every_kind_of_file_is_a_row_of_the_table_without_messages_on_stderr(zoo, capsys):
    assert main(["ls", str(zoo)]) == 0

    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 2 + len(READABLE | BROKEN)
    assert out.count("unreadable: ") == len(BROKEN)
    assert [line.split()[0].split("_")[0] for line in out.splitlines() if "●" in line] == ["live"]
    assert err == ""


@pytest.mark.parametrize("command", ["ls", "compare"])
@pytest.mark.parametrize("columns", [60, 80, 100, 300])
def test_a_narrow_terminal_costs_columns_and_never_digits(
    out, capsys, monkeypatch, command, columns
):
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)

    assert main([command, str(out)]) == 0

    out, err = capsys.readouterr()
    lines = re.sub(r"\x1b\[\d+m", "", out).splitlines()
    assert max(map(len, lines)) <= columns
    assert len(lines) == 2 + 3
    assert {"3.0000", "4.0000", "5.0000"} <= set(" ".join(lines).split())
    headings = {"run", "status", "iterations", "best val", "final loss", "ms/iter", "MFU %"}
    gone = {name for name in headings if name not in lines[0]}
    assert gone <= {*re.split(r"[:,.]\s+", " ".join(err.split()))}
    assert bool(gone) == (f"not shown in {columns} columns: " in err)


def test_a_long_name_is_folded_before_columns_are_left_out(tmp_path, capsys, monkeypatch):
    make_run(tmp_path, "resnet50-imagenet-augmentation-randaugment-lr-sweep-0")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)

    assert main(["ls", str(tmp_path)]) == 0

    out, err = capsys.readouterr()
    assert "iterations" in out
    assert "final loss" in out
    name = "".join(line.split(" ")[0] for line in out.splitlines()[2:])
    assert name.startswith("resnet50-imagenet-augmentation-randaugment-lr-sweep-0_")
    assert err == "not shown in 80 columns: MFU %, ms/iter. --json has all\n"


def test_more_columns_than_a_terminal_has_room_for_are_lines_of_each_run(out, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    columns = "run,status,iterations,best_val_loss,final_loss,avg_time_ms"

    assert main(["ls", "--columns", columns, "--limit", "2", str(out)]) == 0

    first, second = capsys.readouterr().out.split("\n\n")
    assert [line.split()[0] for line in first.splitlines()] == columns.split(",")
    assert "best_val_loss  3.0000" in first
    assert "best_val_loss  4.0000" in second


def test_csv_has_full_numbers_and_an_empty_cell_for_unknown_ones(out, capsys):
    assert main(["ls", "--csv", str(out)]) == 0

    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["best_val_loss"] for row in rows] == ["3.0", "4.0", "5.0"]
    assert [row["avg_mfu"] for row in rows] == ["30.0", "30.0", ""]


def test_columns_chooses_fields_of_the_row_and_of_the_config(out, capsys):
    assert main(["ls", "--csv", "--columns", "iterations,config.learning_rate", str(out)]) == 0

    assert capsys.readouterr().out.splitlines() == [
        "iterations,config.learning_rate", "2,0.001", "2,0.0003", "1,0.0006",
    ]  # fmt: skip


def test_a_folder_without_runs_is_reported(tmp_path, capsys):
    assert main(["ls", str(tmp_path)]) == 0

    assert capsys.readouterr() == ("", f"no runs in {tmp_path}\n")


def test_best_is_the_run_with_the_lowest_best_val_loss(out, capsys):
    assert main(["best", "--path", str(out)]) == 0

    assert capsys.readouterr().out == f"{out / 'low.json'}\n"


@pytest.mark.parametrize(
    ("arguments", "stem"),
    [
        (["--metric", "final_loss"], "low"),
        (["--metric", "-final_loss"], "high"),
        (["--metric", "config.learning_rate"], "mid"),
        (["--where", "n_layer = 12"], "mid"),
    ],
)
def test_best_by_another_field_or_of_fewer_runs(out, capsys, arguments, stem):
    assert main(["best", "--json", *arguments, str(out)]) == 0

    assert stems([orjson.loads(capsys.readouterr().out)]) == [stem]


def test_without_the_field_there_is_no_best_run(zoo, capsys):
    assert main(["best", "--where", "status = 'unreadable'", str(zoo)]) == 1

    assert "none of 8 runs has a best_val_loss" in capsys.readouterr().err


def test_a_run_with_lost_events_is_marked(out, capsys):
    journal = out / "mid.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:1] + lines[3:]))

    assert main(["ls", str(journal)]) == 0

    assert "2 events lost" in capsys.readouterr().out
    assert [row["lost"] for row in listed(capsys, journal)] == [2]


def test_ignored_events_of_a_forked_child_are_shown(tmp_path, capsys):
    with eventlog.open_run(tmp_path, save_interval=0) as run:
        if not (child := os.fork()):
            run.log_iter(0, 1.0)
            run.log_iter(1, 1.0)
            os._exit(0)
        os.waitpid(child, 0)
    assert main(["ls", str(run.journal_path)]) == 0
    eventlog.compact(run.journal_path)
    run.journal_path.unlink()

    assert "2 events of forks ignored" in capsys.readouterr().out
    assert [row["ignored"] for row in listed(capsys, run.run_path)] == [2]
    assert main(["show", str(run.run_path)]) == 0
    assert "completed, 2 events of forks ignored" in capsys.readouterr().out


# ---- any series


@pytest.fixture
def metrics(tmp_path):
    """Three runs of metrics, the accuracy of which rises to 0.2, 0.9 (then falls) and NaN."""
    for name, accuracies in (("a", [0.1, 0.2]), ("b", [0.9, 0.8]), ("c", [0.5, math.nan])):
        with eventlog.init(
            dir=tmp_path, name=name, save_interval=0, config={"lr": 1e-3 if name == "a" else 1e-4}
        ) as run:
            for step, accuracy in enumerate(accuracies):
                run.log({"val/acc": accuracy, "a b": step, 'q"x': name, "lr": 7.0}, step=step)
        eventlog.compact(run.journal_path)
    return tmp_path


def of_runs(rows):
    return [row["run"][0] for row in rows]


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("val/acc > 0.1 and config.lr < 1e-3", "b"),
        ("val/acc:max >= 0.5", "bc"),
        ("val/acc@0 = 0.5", "c"),
        ("val/acc is null", "c"),
        ('"val/acc" > 0.5', "b"),
        ('"a b" = 1 and "q""x" = \'a\'', "a"),
        ("lr < 1", "abc"),  # a name of the config is the config's
        ("metrics/lr = 7 and lr:last = 7", "abc"),
        ("iterations/2 = 1 and iterations / 2 = 1", "abc"),
    ],
)
def test_where_filters_by_any_series(metrics, capsys, where, expected):
    assert "".join(sorted(of_runs(listed(capsys, metrics, "--where", where)))) == expected


def test_sort_and_columns_take_any_series(metrics, capsys):
    arguments = ["--sort", "-val/acc", "--columns", "val/acc,val/*:max,val/acc:mean,val/acc@0"]

    rows = listed(capsys, metrics, *arguments)

    assert of_runs(rows) == ["b", "a", "c"]  # NaN comes last
    assert rows[0]["series"] == {
        "val/acc": 0.8, "val/acc:max": 0.9, "val/acc:mean": pytest.approx(0.85), "val/acc@0": 0.9,
    }  # fmt: skip
    assert rows[2]["nonfinite"] == {"val/acc": "nan", "val/acc:mean": "nan"}
    assert main(["ls", "--csv", *arguments, str(metrics)]) == 0
    header, *_, last = csv.reader(io.StringIO(capsys.readouterr().out))
    assert header == ["val/acc", "val/acc:max", "val/acc:mean", "val/acc@0"]
    assert last == ["nan", "0.5", "nan", "0.5"]


def test_a_step_that_no_run_has_reached_has_no_value(metrics, capsys):
    assert len(listed(capsys, metrics, "--columns", "val/acc@99", "--sort", "val/acc@99")) == 3


def test_series_of_the_trainers_tables_are_columns_too(out, capsys):
    columns = "loss:min,eval/val_loss:count,iterations/loss"

    rows = listed(capsys, out, "--columns", columns)

    assert rows[0]["series"] == {"loss:min": 4, "eval/val_loss:count": 2, "iterations/loss": 4}


@pytest.mark.parametrize("flag", ["--where", "--columns", "--sort"])
def test_a_series_that_no_run_has_is_an_error_with_names_like_it(metrics, capsys, flag):
    assert main(["ls", flag, "val/aac", str(metrics)]) == 2

    expected = f"{flag}: unknown series 'val/aac'. Did you mean val/acc?\n"
    assert capsys.readouterr().err == expected


@pytest.mark.parametrize(
    ("metric", "expected"),
    [("val/acc", "b"), ("-val/acc", "b"), ("+val/acc", "a"), ("val/acc:last", "b")],
)
def test_best_by_a_series_takes_its_direction_from_the_name_or_a_sign(
    metrics, capsys, metric, expected
):
    assert main(["best", f"--metric={metric}", "--json", str(metrics)]) == 0

    assert orjson.loads(capsys.readouterr().out)["run"][0] == expected


def test_best_by_a_series_of_unknown_direction_asks_for_a_sign(metrics, capsys):
    assert main(["best", "--metric", "a b", str(metrics)]) == 2

    assert "--metric='-a b' (more) or --metric='+a b' (less)" in capsys.readouterr().err


def test_an_expression_that_divides_fields_is_not_a_series(out, capsys):
    assert stems(listed(capsys, out, "--where", "n_layer/iterations = 3")) == ["low"]
    assert stems(listed(capsys, out, "--where", "n_layer/max(1,2) = 3")) == ["low"]


def test_summaries_of_metrics_are_read_from_the_ends_of_the_run_json(metrics, monkeypatch, capsys):
    monkeypatch.setattr("tools.core.runs.load_at", None)

    assert len(listed(capsys, metrics, "--columns", "val/acc:max")) == 3


def logged(folder, name, *rows, is_compacted=True):
    with eventlog.init(dir=folder, name=name, save_interval=0) as run:
        for step, row in enumerate(rows):
            run.log(row, step=step)
    eventlog.compact(run.journal_path)
    if not is_compacted:
        run.run_path.unlink()


def test_a_wildcard_with_a_statistic_is_of_every_series_though_one_ends_like_it(tmp_path, capsys):
    logged(tmp_path, "a", {"x": 2.0, "x:min": 7.0}, {"x": 3.0})

    (row,) = listed(capsys, tmp_path, "--columns", "*:min")

    assert row["series"] == {"x:min": 2.0, "x:min:min": 7.0}


def test_a_series_with_nothing_but_none_has_no_value_of_any_kind(tmp_path, capsys):
    logged(tmp_path, "a", {"x": None, "y": 1.0})
    columns = ",".join(f"x:{stat}" for stat in ("first", "mean", "last", "min"))

    (row,) = listed(capsys, tmp_path, "--columns", columns)

    assert [*row["series"].values()] == [None] * 4
    assert "nonfinite" not in row


def test_the_mean_of_words_is_no_number(tmp_path, capsys):
    logged(tmp_path, "a", {"phase": "warmup"})

    (row,) = listed(capsys, tmp_path, "--columns", "phase:mean")

    assert row["series"] == {"phase:mean": None}


def test_best_is_by_the_series_itself_though_another_has_the_name_of_its_value(tmp_path, capsys):
    logged(tmp_path, "low", {"loss:min": 9.0, "loss": 1.0})
    logged(tmp_path, "high", {"loss:min": 0.0, "loss": 2.0})

    assert main(["best", "--metric", "loss", "--json", str(tmp_path)]) == 0

    row = orjson.loads(capsys.readouterr().out)
    assert (row["run"].partition("_")[0], row["series"]) == ("low", {"loss:min": 1.0})


def test_best_by_a_series_reads_each_journal_once(tmp_path, monkeypatch, capsys):
    for name in "ab":
        logged(tmp_path, name, {"val/acc": 0.5}, is_compacted=False)
    load_run, read = eventlog.load_run, []
    monkeypatch.setattr(eventlog, "load_run", lambda path: read.append(path) or load_run(path))

    assert main(["best", "--metric", "val/acc", str(tmp_path)]) == 0

    assert len(read) == len(set(read)) == 2


@pytest.mark.parametrize("command", ["ls", "best", "compare"])
def test_a_figure_has_the_name_that_it_has_in_the_run_json_and_its_earlier_one(
    out, capsys, command
):
    assert main([command, "--json", str(out)]) == 0
    row = orjson.loads(capsys.readouterr().out.splitlines()[0])

    summary = eventlog.load_run(row["path"]).summary
    earlier = "total_iters" if command == "compare" else "iterations"
    assert row["total_iterations"] == row[earlier] == summary["total_iterations"]
    assert row["final_train_loss"] == row["final_loss"] == summary["final_train_loss"]
    assert row["run_name"] == eventlog.load_run(row["path"]).run_name


@pytest.mark.parametrize("command", ["ls", "compare"])
def test_format_and_its_short_forms_are_the_same_and_csv_has_the_names_of_the_run_json(
    out, capsys, command
):
    printed = {}
    for flags in (["--format", "csv"], ["--csv"], ["--format", "json"], ["--json"]):
        assert main([command, *flags, str(out)]) == 0
        printed[flags[-1].removeprefix("--"), len(flags)] = capsys.readouterr().out

    assert printed["csv", 1].splitlines()[0] == printed["csv", 2].splitlines()[0]
    names = [set(orjson.loads(printed["json", n].splitlines()[0])) for n in (1, 2)]
    assert names[0] == names[1]
    heading = printed["csv", 1].splitlines()[0].split(",")
    assert {"run_name", "total_iterations", "best_val_loss", "final_train_loss"} <= {*heading}
    assert {"run", "iterations", "total_iters", "final_loss"}.isdisjoint(heading)
