"""Five seeds of three settings are three rows, with scipy's mean, deviation and p-value."""

import math
import random

import numpy as np
import orjson
import pytest

import eventlog
from tools.cli import main

LRS = (0.1, 0.01, 0.001)
STEPS = 6


@pytest.fixture(scope="module")
def logged(tmp_path_factory):
    """The folder, and what each run logged: by lr and seed."""
    out = tmp_path_factory.mktemp("seeds") / "out"
    values = {}
    for lr in LRS:
        for seed in range(5):
            rng = random.Random(f"{lr} {seed}")
            curve = [lr + step / 10 + rng.random() / 20 for step in range(STEPS)]
            values[lr, seed] = curve
            config = {"optim": {"lr": lr}, "seed": seed, "out_dir": f"out/{seed}"}
            run = eventlog.init(dir=out, name=f"lr{lr}_s{seed}", config=config)
            for step, value in enumerate(curve):
                run.log({"val/acc": value}, step=step)
            run.finish()
    return out, values


def rows_of(capsys, *arguments):
    assert main([*map(str, arguments)]) == 0
    return [orjson.loads(line) for line in capsys.readouterr().out.splitlines()]


def of(values, lr, pick):
    return np.array([pick(values[lr, seed]) for seed in range(5)])


def last(curve):
    return curve[-1]


@pytest.mark.parametrize("by", ["seeds", "config.optim.lr", "optim.lr"])
def test_ls_has_a_row_for_each_setting(logged, capsys, by):
    out, values = logged
    columns = ["--columns", "val/acc,val/acc:max,status"]

    rows = rows_of(capsys, "ls", out, "--group-by", by, "--json", "--sort=-val/acc", *columns)

    means = [row["columns"]["val/acc"]["mean"] for row in rows]
    assert means == sorted(means, reverse=True)
    assert len(rows) == len(LRS)
    for row in rows:
        expected = of(values, next(iter(row["settings"].values())), last)
        found = row["columns"]["val/acc"]
        assert (row["n"], len(row["runs"]), found["n"]) == (5, 5, 5)
        assert found["mean"] == pytest.approx(expected.mean(), rel=1e-12)
        assert found["std"] == pytest.approx(expected.std(ddof=1), rel=1e-12)
        assert (found["min"], found["max"]) == (expected.min(), expected.max())
        assert row["columns"]["status"] == {"completed": 5}


def test_ls_filters_runs_before_it_groups_them(logged, capsys):
    out, _ = logged

    rows = rows_of(
        capsys, "ls", out, "--group-by", "seeds", "--json", "--where", "config.seed < 2",
        "--columns", "val/acc", "--limit", 2,
    )  # fmt: skip

    assert [row["n"] for row in rows] == [2, 2]


def test_compare_has_the_p_value_of_scipy(logged, capsys):
    stats = pytest.importorskip("scipy.stats")
    out, values = logged

    rows = rows_of(capsys, "compare", out, "--group-by", "seeds", "--metric", "val/acc", "--json")

    first, *others = rows
    of_first = of(values, first["settings"]["config.optim.lr"], last)
    assert first["last_p"] is None
    assert len(others) == 2
    for row in others:
        expected = of(values, row["settings"]["config.optim.lr"], last)
        p = stats.ttest_ind(expected, of_first, equal_var=False).pvalue
        assert row["last_p"] == pytest.approx(p, rel=1e-12)
        assert row["last_diff"] == pytest.approx(expected.mean() - of_first.mean(), abs=1e-12)
        assert "Welch" in row["test"]
    assert [r["settings"]["config.optim.lr"] for r in rows if r["is_best"]] == [0.1]


def test_compare_at_a_step_and_in_a_table(logged, capsys):
    out, values = logged
    flags = ["--group-by", "seeds", "--metric", "val/acc", "--at-iter", "2"]

    rows = rows_of(capsys, "compare", out, *flags, "--json")
    assert main(["compare", str(out), *flags]) == 0

    captured = capsys.readouterr()
    for row in rows:
        expected = of(values, row["settings"]["config.optim.lr"], lambda curve: curve[2])
        assert row["value"]["mean"] == pytest.approx(expected.mean(), rel=1e-12)
        assert row["group"] in captured.out
    assert "Welch's t-test" in captured.err
    assert "±" in captured.out


def test_one_run_has_no_p_value_and_says_why(logged, capsys):
    out, _ = logged
    one_each = [str(next(out.glob(f"lr{lr}_s0_*.json"))) for lr in LRS]

    assert main(["compare", *one_each, "--group-by", "seeds", "--metric", "val/acc"]) == 0

    assert "lr=0.01: no p-value, n = 1" in capsys.readouterr().err


def test_a_run_that_ends_in_nan_is_not_in_the_mean_but_is_said(tmp_path, capsys):
    for seed, end in enumerate([1.0, 2.0, math.nan]):
        run = eventlog.init(dir=tmp_path, name=f"s{seed}", config={"seed": seed})
        run.log({"val/loss": 3.0})
        run.log({"val/loss": end})
        run.finish()

    assert main(["ls", str(tmp_path), "--group-by", "seeds", "--columns", "val/loss"]) == 0

    assert "1.5000 ± 0.7071 (2 of 3, 1 not finite)" in capsys.readouterr().out


def test_an_unknown_key_is_refused(logged, capsys):
    out, _ = logged

    assert main(["ls", str(out), "--group-by", "config.lrr"]) != 0

    assert "--group-by: unknown field 'config.lrr'" in capsys.readouterr().err


@pytest.mark.parametrize("is_archived", [False, True])
def test_sql_has_the_groups_of_folders_and_archives(logged, tmp_path, capsys, is_archived):
    pytest.importorskip("duckdb")
    out, values = logged
    source = out
    if is_archived:
        source = tmp_path / "archive"
        assert main(["archive", str(out), "--to", str(source)]) == 0
        capsys.readouterr()
    sql = (
        "select settings, step, avg(value) as mean, stddev_samp(value) as std, count(*) as n "
        "from series join groups using (run_id) where name = 'val/acc' group by all"
    )

    rows = rows_of(capsys, "query", sql, source, "--json")

    assert len(rows) == len(LRS) * STEPS
    for row in rows:
        lr = float(row["settings"].removeprefix("lr="))
        expected = of(values, lr, lambda curve, step=row["step"]: curve[step])
        assert row["n"] == 5
        assert row["mean"] == pytest.approx(expected.mean(), rel=1e-12)
        assert row["std"] == pytest.approx(expected.std(ddof=1), rel=1e-10)


@pytest.mark.parametrize("order", [("{}", "--group-by"), ("--group-by", "{}")])
def test_group_by_without_keys_means_seeds(logged, capsys, order):
    folder = str(logged[0])

    rows = rows_of(capsys, "ls", *(word.format(folder) for word in order), "--json")

    assert rows == rows_of(capsys, "ls", folder, "--group-by=seeds", "--json")
    assert len(rows) == 3
