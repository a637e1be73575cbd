"""`runs compare`: side by side, at the same point, and whether runs are the same."""

import csv
import io
import math

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

import eventlog
from tests.tools.conftest import make_run
from tools.cli import main
from tools.commands.agreement import agreement


def logged(folder, name, losses, *, first=0, evals=(), **metadata):
    with eventlog.open_run(folder, run_name=name, metadata=metadata, save_interval=0) as run:
        for i, loss in enumerate(losses, first):
            for at, val_loss in evals:
                if at == i:
                    run.log_eval(i, val_loss, val_loss)
            if loss is not None:
                run.log_iter(i, loss, 1000.0, 30.0)
    return run.journal_path.rename(folder / f"{name}.jsonl")


def rows(capsys, *arguments, code=0):
    assert main(["compare", "--json", *map(str, arguments)]) == code
    return [orjson.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_the_values_are_those_of_compare_runs_with_differences_to_the_first(tmp_path, capsys):
    paths = [make_run(tmp_path, "a", [5.0, 4.0]), make_run(tmp_path, "b", [5.0, 3.5], mfu=33.0)]

    compared = rows(capsys, *paths)

    for row, expected in zip(compared, eventlog.compare_runs(paths)["runs"], strict=True):
        assert expected.items() <= row.items()
    assert compared[0]["final_loss_diff"] is None
    assert (compared[1]["final_loss_diff"], compared[1]["best_val_loss_diff"]) == (-0.5, -0.5)
    assert compared[1]["avg_mfu_diff"] == 3.0


def test_markdown_is_a_table_with_the_guides_columns(tmp_path, capsys):
    paths = [str(make_run(tmp_path, "a|b", [4.0])), str(make_run(tmp_path, "c", [3.0]))]

    assert main(["compare", "--format", "markdown", *paths]) == 0

    heading, rule, first, second = capsys.readouterr().out.splitlines()
    for name in ("run", "final loss", "best val", "ms/iter", "MFU %", "iterations"):
        assert f" {name} " in heading
    assert set(rule) == set("|-")
    assert heading.count("|") == first.count("|") == second.count("|") - 1
    assert "| best |" in first
    assert "-1.0000" in first
    assert r"a\|b" in second


def test_a_table_begins_with_the_best_run_and_differs_from_the_run_named_first(tmp_path, capsys):
    losses = {"middle": [4.0], "worst": [5.0], "best": [3.0], "none": []}
    paths = [str(make_run(tmp_path, name, of_run)) for name, of_run in losses.items()]

    assert main(["compare", *paths]) == 0
    table = capsys.readouterr()
    assert main(["compare", "--json", *paths]) == 0
    rows = [orjson.loads(line) for line in capsys.readouterr().out.splitlines()]

    lines = table.out.splitlines()[2:]
    assert [line.split("_")[0] for line in lines] == ["best", "middle", "worst", "none"]
    assert [" best " in line for line in lines] == [True, False, False, False]
    assert table.err.startswith("Δ: to middle_")
    assert [row["run_name"].split("_")[0] for row in rows] == [*losses]  # as they were named
    assert [row["is_best"] for row in rows] == [False, False, True, False]


def test_the_table_of_a_series_begins_with_the_run_that_is_best_by_its_goal(tmp_path, capsys):
    for name, accuracy in (("low", 0.1), ("high", 0.9)):
        with eventlog.init(name=name, dir=tmp_path, save_interval=0) as run:
            run.log({"val/acc": accuracy}, step=0)
    capsys.readouterr()

    assert main(["compare", "--metric", "val/acc", str(tmp_path)]) == 0

    out, err = capsys.readouterr()
    first, second = out.splitlines()[2:]
    assert first.startswith("val/acc   high_")
    assert " best " in first
    assert second.split()[0].startswith("low_")
    assert err.startswith("Δ: to high_")  # of a folder the first by name


def test_csv_has_a_line_per_run_with_full_values(tmp_path, capsys):
    paths = [str(make_run(tmp_path, "a", [4.1])), str(make_run(tmp_path, "b", [3.7]))]

    assert main(["compare", "--format", "csv", *paths]) == 0

    read = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [float(row["best_val_loss"]) for row in read] == [4.1, 3.7]
    assert read[1]["best_val_loss_diff"] == repr(3.7 - 4.1)


def test_a_broken_file_is_a_row_and_exit_one(zoo, capsys):
    compared = rows(capsys, zoo / "guide.json", zoo / "binary.json", code=1)

    assert compared[1]["status"].startswith("unreadable: ")
    assert compared[1]["final_loss"] is None


@pytest.mark.parametrize(
    ("flag", "iteration", "loss", "val_loss", "best"),
    [
        (["--at-iter", "3"], 3, 6.0, 8.5, 7.0),
        (["--at-iter", "99"], 9, 0.0, 8.5, 7.0),
        (["--at-iter", "0"], 0, 9.0, None, None),
        (["--at-time", "4"], 3, 6.0, 8.5, 7.0),
        (["--at-time", "3.999"], 2, 7.0, 8.5, 7.0),
        (["--at-time", "0.5"], None, None, None, None),
        (["--at-tokens", "400"], 3, 6.0, 8.5, 7.0),
    ],
)
def test_at_a_limit_the_latest_values_at_or_before_it_count(
    tmp_path, capsys, flag, iteration, loss, val_loss, best
):
    evals = [(1, 7.0), (2, 8.5)]
    path = logged(tmp_path, "a", [9.0 - i for i in range(10)], evals=evals, tokens_per_iter=100)

    (row,) = rows(capsys, path, *flag)

    assert [row[k] for k in ("iter", "loss", "val_loss", "best_val_loss")] == [
        iteration, loss, val_loss, best,
    ]  # fmt: skip


def test_a_run_without_tokens_per_iter_is_refused_with_the_alternative(tmp_path, capsys):
    path = make_run(tmp_path, "a", [4.0])

    assert main(["compare", "--at-tokens", "5", str(path)]) == 2

    err = capsys.readouterr().err
    assert (err.count("\n"), "tokens_per_iter" in err, "--at-iter" in err) == (1, True, True)


def test_exact_says_how_many_iterations_are_equal(tmp_path, capsys):
    a, b = (logged(tmp_path, name, [3.0, math.nan, 2.0]) for name in "ab")

    assert main(["compare", "--exact", str(a), str(b)]) == 0

    assert capsys.readouterr().out == f"{a} and {b}: 3 iterations equal\n"


@pytest.mark.parametrize(
    ("ours", "theirs", "message"),
    [
        ([3.0, 2.0], [3.0, 2.0 + 1e-12], "at iteration 1: loss 2.0 and 2.000000000001, after 1"),
        ([3.0, 2.0], [3.0], "at iteration 1: loss 2.0 and missing, after 1 equal"),
        ([3.0, None, 1.0], [3.0, 2.0, 1.0], "at iteration 1: loss missing and 2.0"),
        ([3.0, math.nan], [3.0, 2.0], "at iteration 1: loss nan and 2.0"),
        ([math.inf], [-math.inf], "at iteration 0: loss inf and -inf, after 0"),
    ],
)
def test_exact_exits_with_one_and_the_first_iteration_that_differs(
    tmp_path, capsys, ours, theirs, message
):
    a, b = logged(tmp_path, "a", ours), logged(tmp_path, "b", theirs)

    assert main(["compare", "--exact", str(a), str(b)]) == 1

    assert message in capsys.readouterr().out


@pytest.mark.parametrize(
    ("ours", "theirs", "losses"),
    [([3.0, 2.0], [3.0], "2.0 and missing"), ([3.0], [3.0, 2.0], "missing and 2.0")],
)
def test_exact_names_the_runs_in_the_order_of_their_losses(tmp_path, capsys, ours, theirs, losses):
    a, b = logged(tmp_path, "a", ours), logged(tmp_path, "b", theirs)

    main(["compare", "--exact", str(a), str(b)])

    expected = f"{a} and {b}: differs at iteration 1: loss {losses}, after"
    assert capsys.readouterr().out.startswith(expected)


def test_exact_compares_the_losses_of_runs_of_metrics(tmp_path, capsys):
    a = metrics_run(tmp_path, "a", {"train/loss": [3.0, math.nan, 2.0]})
    b = metrics_run(tmp_path, "b", {"train/loss": [3.0, math.nan, 1.0]})

    assert main(["compare", "--exact", str(a), str(b)]) == 1

    assert "differs at iteration 2: loss 2.0 and 1.0" in capsys.readouterr().out


def test_runs_without_iterations_are_not_equal(tmp_path, capsys):
    a, b = logged(tmp_path, "a", []), logged(tmp_path, "b", [])

    assert main(["compare", "--exact", str(a), str(b)]) == 1

    assert "nothing to compare" in capsys.readouterr().out


def test_the_largest_difference_within_a_tolerance_is_printed(tmp_path, capsys):
    a = logged(tmp_path, "a", [3.0, 2.0, 1.0])
    b = logged(tmp_path, "b", [3.0, 2.25, 1.125])

    assert main(["compare", "--exact", "--tolerance", "0.25", str(a), str(b)]) == 0
    assert "3 iterations equal; the largest difference is 0.25, at 1" in capsys.readouterr().out
    assert main(["compare", "--exact", "--tolerance", "0.24", str(a), str(b)]) == 1


def test_a_run_json_and_its_journal_are_exactly_equal(tmp_path, capsys):
    a = logged(tmp_path, "a", [3.0, math.inf, 2.0])
    eventlog.compact(a)

    (compared,) = rows(capsys, "--exact", a, a.with_suffix(".json"))

    assert (compared["n_equal"], compared["differs_at"]) == (3, None)


def test_one_run_alone_is_misuse(tmp_path, capsys):
    assert main(["compare", "--exact", str(logged(tmp_path, "a", [1.0]))]) == 2


losses = st.lists(st.floats() | st.none(), min_size=1, max_size=20)


@given(losses, losses)
def test_two_runs_are_equal_exactly_if_their_losses_are(ours, theirs):
    found = agreement(run_of(ours), run_of(theirs))

    a, b = named(ours), named(theirs)
    assert found.is_exact == (bool(a) and a == b)
    same = 0
    for i in sorted(a.keys() | b.keys()):
        if a.get(i) != b.get(i):
            assert found.differs_at == i
            break
        same += 1
    assert found.n_equal == same


@given(losses, st.floats(0, 10))
def test_runs_equal_within_a_tolerance_are_equal_within_a_larger_one(values, tolerance):
    other = [v if v is None else v + 1.0 for v in values]
    found = [
        agreement(run_of(values), run_of(other), tolerance=t) for t in (tolerance, tolerance * 2)
    ]

    assert found[0].n_equal <= found[1].n_equal
    assert found[0].largest == found[1].largest


def run_of(values):
    rows = [
        {"iter": i, "loss": loss if math.isfinite(loss) else None}
        | ({} if math.isfinite(loss) else {"nonfinite": {"loss": str(loss)}})
        for i, loss in enumerate(values)
        if loss is not None
    ]
    return eventlog.Run(training_iterations=rows)


def named(values):
    """The losses by iteration, NaN as a word: it is not equal to itself."""
    return {
        i: "nan" if math.isnan(loss) else loss for i, loss in enumerate(values) if loss is not None
    }


# ---- any series


def metrics_run(folder, name, series):
    """The run JSON of a run that logged `series` (name -> values), a step a value."""
    with eventlog.init(dir=folder, name=name, save_interval=0) as run:
        for metric, values in series.items():
            for step, value in enumerate(values):
                run.log({metric: value}, step=step)
    eventlog.compact(run.journal_path)
    return run.run_path


def test_metric_compares_any_series_and_marks_the_best(tmp_path, capsys):
    a = metrics_run(tmp_path, "a", {"val/acc": [0.1, 0.5, 0.4], "val/loss": [2.0, 1.0]})
    b = metrics_run(tmp_path, "b", {"val/acc": [0.2, 0.6, 0.3], "val/loss": [2.0, 1.5]})

    acc_a, acc_b, loss_a, loss_b = rows(capsys, "--metric", "val/*", a, b)

    assert (acc_a["series"], acc_a["best"], acc_a["best_step"], acc_a["last"]) == (
        "val/acc", 0.5, 1, 0.4,
    )  # fmt: skip
    assert [row["is_best"] for row in (acc_a, acc_b, loss_a, loss_b)] == [False, True, True, False]
    assert acc_b["best_diff"] == pytest.approx(0.1)
    assert loss_b["last_diff"] == 0.5


def test_a_sign_says_whether_less_or_more_is_better(tmp_path, capsys):
    a = metrics_run(tmp_path, "a", {"thing": [3.0, 1.0]})
    b = metrics_run(tmp_path, "b", {"thing": [2.0, 2.0]})

    assert [row["best"] for row in rows(capsys, "--metric=-thing", a, b)] == [3.0, 2.0]
    assert [row["best"] for row in rows(capsys, "--metric=+thing", a, b)] == [1.0, 2.0]
    assert [row["is_best"] for row in rows(capsys, "--metric=thing", a, b)] == [False, False]
    assert main(["compare", "--metric=thing", str(a), str(b)]) == 0
    assert "unknown whether less or more is better of thing" in capsys.readouterr().err


def test_a_series_at_a_step_has_its_latest_value_and_the_best_until_then(tmp_path, capsys):
    a = metrics_run(tmp_path, "a", {"val/acc": [0.5, 0.1, 0.9]})
    b = metrics_run(tmp_path, "b", {"val/acc": [0.1, 0.4, 0.9]})

    first, second = rows(capsys, "--metric", "val/acc", "--at-iter", "1", a, b)

    assert (first["value"], first["step"], first["best"], first["best_step"]) == (0.1, 1, 0.5, 0)
    assert (second["value_diff"], second["is_best"]) == (pytest.approx(0.3), False)


def test_a_series_at_a_time_is_as_it_was_so_long_after_the_start(tmp_path, capsys):
    path = metrics_run(tmp_path, "a", {"val/acc": [0.5, 0.1, 0.9]})

    (late,) = rows(capsys, "--metric", "val/acc", "--at-time", "1e6", path)
    (early,) = rows(capsys, "--metric", "val/acc", "--at-time", "0", path)

    assert (late["step"], late["value"]) == (2, 0.9)
    assert (early["step"], early["value"]) == (None, None)


def test_a_series_that_ends_in_nan_says_so(tmp_path, capsys):
    path = metrics_run(tmp_path, "a", {"val/acc": [0.5, math.nan]})

    assert main(["compare", "--metric", "val/acc", str(path)]) == 0
    line = capsys.readouterr().out.splitlines()[2]

    assert line.split()[-3:] == ["nan", "1", "1"]


def test_a_series_that_no_run_has_is_an_error_with_names_like_it(tmp_path, capsys):
    path = metrics_run(tmp_path, "a", {"val/acc": [0.5]})
    capsys.readouterr()

    assert main(["compare", "--metric", "val/aac", str(path)]) == 2

    expected = "--metric: unknown series 'val/aac'. Did you mean val/acc?\n"
    assert capsys.readouterr().err == expected


def test_runs_without_any_loss_are_compared_by_all_their_series(tmp_path, capsys):
    path = metrics_run(tmp_path, "a", {"val/acc": [0.5], "f1": [0.25]})

    assert [row["series"] for row in rows(capsys, path)] == ["val/acc", "f1"]


def test_a_nan_is_named_beside_its_null_in_json(tmp_path, capsys):
    path = metrics_run(tmp_path, "a", {"val/acc": [0.5, math.nan]})

    (row,) = rows(capsys, "--metric", "val/acc", path)

    assert (row["last"], row["nonfinite"]) == (None, {"last": "nan"})


def test_a_series_without_numbers_is_refused(tmp_path, capsys):
    path = metrics_run(tmp_path, "a", {"phase": ["warmup", "decay"]})
    capsys.readouterr()

    assert main(["compare", "--metric", "phase", str(path)]) == 2

    assert capsys.readouterr().err == "--metric: 'phase' has no numbers. See: runs show RUN\n"
