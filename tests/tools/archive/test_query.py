"""`runs query`: the same answers from a folder, an archive, and the engines of others."""

import io
import json
import math
import os
import shutil
from decimal import Decimal

import duckdb
import orjson
import pandas
import pytest

import eventlog
from tests.tools.conftest import make_run
from tools.archive.archive import archive
from tools.archive.query import answer
from tools.cli import main
from tools.core.runs import Refusal

BIG = 2**60 + 1


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """Two plain runs, and one with what is hard to keep: NaN, infinity, big integers, text."""
    folder = tmp_path_factory.mktemp("query") / "out"
    folder.mkdir()
    make_run(folder, "alpha", (5.0, 4.0, 3.5), learning_rate=1e-3)
    make_run(folder, "beta", (5.0, 4.0, 3.25), learning_rate=3e-4)
    with eventlog.open_run(folder, run_name="odd", save_interval=0) as run:
        run.log_iter(0, float("nan"), 50.0, 30.0, big=BIG, huge=2**64 - 1, word="ünï", x=1)
        run.log_iter(1, float("inf"), 50.0, 30.0, big=3, huge=0, word=None, x=0.5)
        run.log_eval(1, 9.0, float("nan"))
        run.log_checkpoint(1, "out/ckpt.pt", val_loss=9.0)
    run.journal_path.rename(folder / "odd.jsonl")
    return folder


@pytest.fixture(scope="module")
def kept(out):
    archive([out], str(out.parent / "kept"))
    return out.parent / "kept"


def ask(sql, *places):
    with answer(sql, map(str, places)) as result:
        return list(result.rows)


def same(one, other):
    """Equal, and NaN is NaN."""
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other or (one != one and other != other)


QUESTIONS = {
    "best": "select run, best_val_loss, config, month from runs order by best_val_loss, run",
    "rows": "select run, iter, loss, time_ms, mfu, big, huge, word, x from iterations "
            "order by run, iter",
    "evals": "select run, iter, train_loss, val_loss, lr, timestamp from evals order by run, iter",
    "checkpoints": "select run, iter, val_loss, path from checkpoints order by run, iter",
    "join": "select r.run, count(*), min(loss) from runs r join iterations i using (run_id) "
            "where isfinite(loss) group by r.run order by 1",
}  # fmt: skip


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_folder_and_its_archive_and_both_give_the_same_result(out, kept, question):
    answers = [ask(QUESTIONS[question], *places) for places in ((out,), (kept,), (out, kept))]

    assert answers[0] != []
    assert same(answers[0], answers[1])
    assert same(answers[0], answers[2])


def test_every_value_is_the_one_that_was_logged(kept):
    rows = ask("select loss, big, huge, word, x from iterations where run like 'odd%'", kept)

    assert math.isnan(rows[0][0])
    assert rows[0][1:] == (Decimal(BIG), Decimal(2**64 - 1), "ünï", 1.0)
    assert rows[1] == (math.inf, Decimal(3), Decimal(0), None, 0.5)


def test_a_run_in_two_archives_counts_once(out, kept, tmp_path):
    archive([out / "alpha.jsonl"], str(tmp_path / "other"))

    assert ask("select count(*) from iterations", kept, tmp_path / "other") == [(8,)]


def test_a_run_that_has_grown_is_queried_as_it_is_in_the_folder(out, kept, tmp_path):
    shutil.copy(out / "alpha.jsonl", tmp_path)
    with eventlog.open_run(journal=tmp_path / "alpha.jsonl", from_iter=2, save_interval=0) as run:
        run.log_iter(2, 0.25, 50.0)

    result = ask(
        "select loss from iterations where run like 'alpha%' order by iter", tmp_path, kept
    )

    assert result == [(6.0,), (5.0,), (0.25,)]


def test_a_live_run_is_queried_as_it_is_now(tmp_path):
    with eventlog.open_run(tmp_path, run_name="live", save_interval=0) as run:
        run.log_iter(0, 1.5, 50.0)

        assert ask("select r.status, i.loss from runs r join iterations i using (run_id)",
                   tmp_path) == [("running", 1.5)]  # fmt: skip


def test_a_folder_above_the_archive_named_like_a_partition_is_not_a_column(out, tmp_path):
    places = [tmp_path / name / "kept" for name in ("run=other", "month=1999-01", "a'b", "x[1]*")]
    for place in places:
        archive([out / "alpha.jsonl"], str(place))

        result = ask("select distinct run, month from iterations", place)

        assert result == ask("select run, month from runs", place)
        assert result == ask("select run, month from runs", out / "alpha.jsonl")


def test_an_archive_that_changed_during_a_query_is_reported(out, tmp_path):
    kept = str(tmp_path / "kept")
    archive([out / "alpha.jsonl"], kept)

    def fail_meanwhile():
        with answer("select loss from iterations", [kept]):
            archive([out / "beta.jsonl"], kept)
            raise duckdb.IOException("what DuckDB says when a file is gone")

    with pytest.raises(Refusal, match="archived there meanwhile; run the query again"):
        fail_meanwhile()


# ---- forms


def test_json_is_strict_and_exact(kept, capsys):
    sql = "select iter, loss, big, huge from iterations where run like 'odd%' order by iter"

    assert main(["query", "--json", sql, str(kept)]) == 0

    first, second = capsys.readouterr().out.splitlines()
    assert f'"big": {BIG}, "huge": {2**64 - 1}' in first
    assert orjson.loads(first)["loss"] is None
    assert orjson.loads(first)["nonfinite"] == {"loss": "nan"}
    assert orjson.loads(second)["nonfinite"] == {"loss": "inf"}


def test_csv_is_read_by_pandas_as_it_was_logged(kept, capsys):
    sql = "select iter, loss, big, word from iterations where run like 'odd%' order by iter"

    assert main(["query", "--csv", sql, str(kept)]) == 0

    frame = pandas.read_csv(io.StringIO(capsys.readouterr().out))
    assert frame.big.tolist() == [BIG, 3]
    assert frame.loss.isna().tolist() == [True, False]
    assert math.isinf(frame.loss[1])
    assert frame.word[0] == "ünï"


def test_a_table_shows_nan_and_a_dash_for_missing_values(kept, capsys):
    sql = "select iter, loss, word from iterations where run like 'odd%' order by iter"

    assert main(["query", sql, str(kept)]) == 0

    assert [line.split() for line in capsys.readouterr().out.splitlines()[2:]] == [
        ["0", "nan", "ünï"], ["1", "inf", "-"],
    ]  # fmt: skip


def test_a_table_of_too_many_rows_is_cut_with_a_note(kept, capsys):
    assert main(["query", "select * from range(10_001)", str(kept)]) == 0

    result, err = capsys.readouterr()
    assert result.splitlines()[-1].strip() == "9999"
    assert err == "the first 10,000 rows; --csv and --json print all\n"


@pytest.mark.parametrize(
    ("sql", "line"),
    [
        ("select 1 as a, 2 as a", '{"a": 1, "a_2": 2}'),
        ("select sum(iter::hugeint) * 10::hugeint ** 20 as s from iterations where iter = 1",
         None),
        ("select timestamptz '2026-11-23 03:25:01+01' as t;", '{"t": "2026-11-23 02:25:01+00"}'),
        ("select [1.5, 'nan'::double] as l", '{"l": [1.5, "nan"]}'),
        ("describe checkpoints", None),
        ("with a as (select 1 as b) from a", '{"b": 1}'),
    ],
)  # fmt: skip
def test_every_row_of_a_select_is_a_line_of_json(kept, capsys, sql, line):
    assert main(["query", "--json", sql, str(kept)]) == 0

    lines = capsys.readouterr().out.splitlines()
    assert lines == (lines if line is None else [line])
    assert all(isinstance(json.loads(result), dict) for result in lines)


def test_an_unreadable_run_in_a_folder_is_reported_and_the_others_are_queried(zoo, capsys):
    assert main(["query", "--csv", "select count(*) as n from runs", str(zoo)]) == 1

    result, err = capsys.readouterr()
    assert result == "n\n10\n"
    assert "empty_journal.jsonl" in err
    assert err.count("\n") == 8


def test_an_empty_archive_and_an_empty_folder_have_the_columns(tmp_path, capsys):
    (tmp_path / "out").mkdir()
    archive([tmp_path / "out"], str(tmp_path / "kept"))
    sql = "select r.best_val_loss, i.loss, e.val_loss, i.month from runs r " \
          "join iterations i using (run_id) join evals e using (run_id)"  # fmt: skip

    assert ask(sql, tmp_path / "kept") == []
    assert ask(sql, tmp_path / "out") == []


def test_an_archive_behind_a_url_is_queried_without_a_copy(out):
    archive([out], "memory://asked")

    assert ask("select count(*) from iterations", "memory://asked") == [(8,)]


# ---- what it does not do


@pytest.mark.parametrize(
    "sql",
    [
        "copy runs to 'stolen.csv'",
        "create table t as select 1",
        "attach 'stolen.db'",
        "select 1; copy runs to 'stolen.csv'",
        "set enable_external_access = true",
        "install httpfs",
        "drop view runs",
        "pragma database_list",
        "explain analyze copy runs to 'stolen.csv'",
        "",
        "selec",
        "select * from nothing",
        "select nothing from runs",
        "select * from read_text('/etc/hostname')",
        "select * from read_csv('/dev/stdin')",
        "select * from glob('/*')",
        "select * from '/etc/passwd'",
        "select * from read_parquet('http://127.0.0.1:1/x.parquet')",
        "select * from sqlite_scan('x.db', 'y')",
        "from query('copy runs to ''stolen.csv''')",
        "select * from read_text((select bundle from runs limit 1))",
        "select cast('x' as integer)",
        "select error('in the middle') from iterations",
        "select '\udcff'",
        "select * from duckdb_secrets()",
        "select * from parquet_metadata('/etc/passwd')",
        "pivot runs on status using count(*)",
        "call checkpoint()",
    ],
)
def test_what_is_not_a_select_of_these_tables_is_refused_in_one_line(
    kept, capsys, sql, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    before = {path: path.read_bytes() for path in kept.rglob("*") if path.is_file()}

    assert main(["query", sql, str(kept)]) == 2

    result, err = capsys.readouterr()
    assert result == ""
    assert err.startswith("runs query: ")
    assert err.count("\n") == 1
    assert os.listdir(tmp_path) == []
    assert before == {path: path.read_bytes() for path in kept.rglob("*") if path.is_file()}


def test_not_even_another_file_of_the_archive_can_be_read(kept):
    (bundle,) = kept.glob("journals/*/odd-*")
    for name in (bundle, kept / "manifest.json"):
        assert main(["query", f"select * from read_blob('{name}')", str(kept)]) == 2


# ---- when one machine is outgrown


NUMBERS = {
    "best": ("select run, best_val_loss from {runs} where best_val_loss is not null "
             "order by best_val_loss, run"),
    "late": ("select run, count(*) as n, avg(loss) as late, max(mfu) as mfu from {iterations} "
             "where iter >= 1 and run not like 'odd%' group by run order by run"),
    "evals": ("select run, iter, train_loss, val_loss from {evals} where run not like 'odd%' "
              "order by run, iter"),
    "big": "select iter, big, x from {iterations} where run like 'odd%' order by iter",
    "nan": "select count(*) as n from {iterations} where {isnan}(loss)",
    "month": "select month, count(*) as n from {iterations} group by month order by month",
}  # fmt: skip


def ours(name, kept):
    tables = {table: table for table in ("runs", "iterations", "evals")}
    rows = ask(NUMBERS[name].format(**tables, isnan="isnan"), kept)
    return [[float(v) if isinstance(v, Decimal | int) else v for v in row] for row in rows]


def theirs(rows):
    return [[v if isinstance(v, str) or v is None else float(v) for v in row] for row in rows]


@pytest.mark.slow
@pytest.mark.parametrize("name", NUMBERS)
def test_clickhouse_gives_the_same_answer_from_the_same_files(kept, name):
    """pip install chdb; pytest -m slow tests/tools/archive/test_query.py"""
    chdb = pytest.importorskip("chdb", reason="pip install chdb")
    tables = {
        table: f"file('{kept}/{table}/**/*.parquet', Parquet)" for table in
        ("runs", "iterations", "evals")
    }  # fmt: skip
    sql = NUMBERS[name].format(**tables, isnan="isNaN")

    result = chdb.query(f"{sql} settings use_hive_partitioning = 1, "
                      "schema_inference_mode = 'union'", "JSONCompactEachRow").bytes()  # fmt: skip

    assert theirs(map(orjson.loads, result.splitlines())) == ours(name, kept)


@pytest.fixture(scope="module")
def spark():
    pyspark = pytest.importorskip("pyspark.sql", reason="pip install pyspark")
    if shutil.which("java") is None:
        pytest.skip("Spark needs Java: apt-get install openjdk-17-jre-headless")
    builder = pyspark.SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false")
    session = builder.getOrCreate()
    yield session
    session.stop()


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("name", NUMBERS)
def test_spark_gives_the_same_answer_from_the_same_files(kept, spark, name):
    """pip install pyspark (and Java 17); pytest -m slow tests/tools/archive/test_query.py"""
    for table in ("runs", "iterations", "evals"):
        frame = spark.read.option("mergeSchema", "true").parquet(f"{kept}/{table}")
        frame.createOrReplaceTempView(table)

    rows = spark.sql(NUMBERS[name].format(runs="runs", iterations="iterations", evals="evals",
                                          isnan="isnan")).collect()  # fmt: skip

    assert theirs(rows) == ours(name, kept)


def test_no_progress_bar_is_printed_into_the_answer(tmp_path, capsys):
    with eventlog.open_run(tmp_path, save_interval=0) as run:
        run.log_iter(0, 1.0)

    main(["query", "select current_setting('enable_progress_bar') as bar", str(tmp_path), "--json"])

    assert json.loads(capsys.readouterr().out) == {"bar": False}
