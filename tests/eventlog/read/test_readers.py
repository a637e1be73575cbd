"""What `eventlog cat` prints, read by pandas, DuckDB, polars and jq: same values, same types.

The journal is the golden one: every kind of event, three sessions, a NaN, a torn tail.
"""

import io
import json
import math
import subprocess
import sys
from pathlib import Path

import duckdb
import pandas as pd
import polars as pl
import pytest

from eventlog import scan
from tests.strategies import SESSIONS, line

A, B, C, D = SESSIONS
GOLDEN = Path(__file__).parents[2] / "golden" / "format_1.jsonl"
RECORDS = list(scan(GOLDEN))
LOSSES = [r.fields.get("loss") for r in RECORDS if r.event == "iter"]


def cat(journal, *arguments):
    """What the command prints."""
    command = [sys.executable, "-m", "eventlog", "cat", str(journal), *arguments]
    return subprocess.run(command, check=True, capture_output=True).stdout


@pytest.fixture(scope="module")
def printed(tmp_path_factory):
    """A file of what `eventlog cat` prints of the golden journal."""
    path = tmp_path_factory.mktemp("cat") / "golden.jsonl"
    path.write_bytes(cat(GOLDEN))
    return path


def test_what_is_printed_is_the_verified_lines_byte_for_byte(printed):
    data = GOLDEN.read_bytes()

    assert printed.read_bytes() == data[: data.rfind(b"\n") + 1]


def test_pandas_reads_it(printed):
    frame = pd.read_json(printed, lines=True, precise_float=True)

    assert len(frame) == len(RECORDS)
    assert frame["n"].dtype == "int64"
    assert frame["n"].tolist() == [r.n for r in RECORDS]
    for name in ("s", "t", "event", "crc", "path", "run_name"):
        assert pd.api.types.is_string_dtype(frame[name]), name
    assert frame["s"].tolist() == [r.s for r in RECORDS]
    assert frame["t"].tolist() == [r.t for r in RECORDS]
    assert frame["crc"].str.fullmatch("[0-9a-f]{8}").all()
    iters = frame[frame["event"] == "iter"]
    assert iters["loss"].dtype == "float64"
    assert [None if math.isnan(x) else x for x in iters["loss"]] == LOSSES
    assert iters["mfu"].iloc[0] == -100.0
    assert frame["nonfinite"].dropna().tolist() == [
        {"loss": "nan"},
        {"value": "nan"},
        {"loss": "nan"},
    ]
    assert frame["config"].dropna().iloc[0]["learning_rate"] == 0.0006


def test_pandas_reads_the_iterations_alone():
    frame = pd.read_json(io.BytesIO(cat(GOLDEN, "--event", "iter")), lines=True)

    assert [None if math.isnan(x) else x for x in frame["loss"]] == LOSSES
    assert frame["iter"].dtype == "int64"
    assert frame["loss"].dtype == "float64"
    assert frame["time_ms"].tolist() == [r.fields["time_ms"] for r in RECORDS if r.event == "iter"]


def test_duckdb_reads_it(printed):
    relation = duckdb.sql(f"select * from read_json('{printed}')")
    types = dict(zip(relation.columns, map(str, relation.types), strict=True))

    assert {name: types[name] for name in ("n", "s", "t", "event", "iter", "loss", "crc")} == {
        "n": "BIGINT",
        "s": "VARCHAR",
        "t": "TIMESTAMP WITH TIME ZONE",
        "event": "VARCHAR",
        "iter": "BIGINT",
        "loss": "DOUBLE",
        "crc": "VARCHAR",
    }
    assert types["config"].startswith("STRUCT(learning_rate DOUBLE")
    rows = duckdb.sql(
        f"select n, s, crc, event, iter, epoch_us(t), nonfinite.loss from read_json('{printed}')"
    ).fetchall()
    crcs = [json.loads(row)["crc"] for row in printed.read_bytes().splitlines()]
    assert [row[:5] for row in rows] == [
        (r.n, r.s, crc, r.event, r.fields.get("iter")) for r, crc in zip(RECORDS, crcs, strict=True)
    ]
    microseconds = [int(pd.Timestamp(r.t).value // 1000) for r in RECORDS]
    assert [row[5] for row in rows] == microseconds
    assert [row[6] for row in rows if row[6]] == ["nan", "nan"]
    losses = duckdb.sql(f"select loss from read_json('{printed}') where event = 'iter'").fetchall()
    assert [loss for (loss,) in losses] == LOSSES


def test_polars_reads_it(printed):
    frame = pl.scan_ndjson(printed).collect()

    assert len(frame) == len(RECORDS)
    for name, kind in {
        "n": pl.Int64,
        "s": pl.String,
        "t": pl.String,
        "event": pl.String,
        "crc": pl.String,
        "iter": pl.Int64,
        "loss": pl.Float64,
        "time_ms": pl.Float64,
        "mfu": pl.Float64,
        "lr": pl.Float64,
        "val_loss": pl.Float64,
        "status": pl.String,
    }.items():
        assert frame.schema[name] == kind, name
    assert frame["s"].to_list() == [r.s for r in RECORDS]
    assert frame["t"].to_list() == [r.t for r in RECORDS]
    assert frame.filter(pl.col("event") == "iter")["loss"].to_list() == LOSSES
    named = frame["nonfinite"].struct.field("loss").drop_nulls()
    assert named.to_list() == ["nan", "nan"]
    times = frame["t"].str.to_datetime(time_zone="UTC")
    assert times.dt.timestamp("us").to_list() == [pd.Timestamp(r.t).value // 1000 for r in RECORDS]


def jq(program, path):
    done = subprocess.run(["jq", "-c", program, path], check=True, capture_output=True, text=True)
    return [json.loads(one) for one in done.stdout.splitlines()]


def test_jq_reads_it(printed):
    assert jq("[.s, .n, .event]", printed) == [[r.s, r.n, r.event] for r in RECORDS]
    assert jq('select(.event == "iter") | .loss', printed) == LOSSES
    assert jq("select(.nonfinite) | .nonfinite", printed) == [
        {"loss": "nan"},
        {"value": "nan"},
        {"loss": "nan"},
    ]


# ---- a long run: readers guess the types from its first lines


@pytest.fixture(scope="module")
def long_run(tmp_path_factory):
    """21,000 iterations; the first eval, the only NaN, another config and the close come last."""
    path = tmp_path_factory.mktemp("long") / "long.jsonl"
    with open(path, "wb") as file:
        file.write(line(0, A, "open", format=1, run_id="r", config={"lr": 0.5, "layers": [1]}))
        for i in range(21_000):
            file.write(line(i + 1, A, iter=i, loss=i / 8, time_ms=50.0, mfu=-100.0))
        file.write(line(21_001, A, "eval", iter=21_000, train_loss=1.0, val_loss=2.5, lr=0.5))
        file.write(line(21_002, A, iter=21_000, loss=math.nan, time_ms=50.0, mfu=31.5))
        file.write(line(0, B, "open", format=1, run_id="r", config={"lr": 0.5, "wd": {"a": 1}}))
        file.write(line(1, B, "close", status="completed", reason=None))
    return path


def test_pandas_reads_all_of_a_long_run(long_run):
    frame = pd.read_json(long_run, lines=True)

    assert frame["loss"].sum() == sum(i / 8 for i in range(21_000))
    assert frame["val_loss"].dropna().tolist() == [2.5]
    assert frame["nonfinite"].dropna().tolist() == [{"loss": "nan"}]
    assert frame["status"].dropna().tolist() == ["completed"]


def test_duckdb_reads_a_long_run_completely_with_full_type_sampling(long_run):
    """By default it samples 20,480 lines and refuses `select *` if a field appears later."""
    source = f"read_json('{long_run}', sample_size=-1)"
    duckdb.sql(f"create or replace table long as select * from {source}")

    sums = duckdb.sql("select sum(loss), sum(val_loss), max(mfu) from long").fetchall()
    assert sums == [(sum(i / 8 for i in range(21_000)), 2.5, 31.5)]
    named = duckdb.sql("select nonfinite.loss from long where event = 'iter' and loss is null")
    assert named.fetchall() == [("nan",)]
    assert duckdb.sql("select config.wd.a, status from long where s != 'a1a1a1a1'").fetchall() == [
        (1, None),
        (None, "completed"),
    ]


def test_duckdb_reads_the_numbers_of_a_long_run_without_full_sampling(long_run):
    """As long as one says which: fields that it did not see in time do not disturb those."""
    read = f"select iter, loss, s, crc from read_json('{long_run}') where event = 'iter'"

    rows = duckdb.sql(read).fetchall()
    assert [row[:3] for row in rows[:-1]] == [(i, i / 8, A) for i in range(21_000)]
    assert rows[-1][:2] == (21_000, None)
    assert {len(row[3]) for row in rows} == {8}


def test_polars_reads_a_long_run_completely_with_full_type_sampling(long_run):
    """By default it samples 100 lines and leaves out the fields that appear later."""
    frame = pl.scan_ndjson(long_run, infer_schema_length=None).collect()

    assert frame["loss"].sum() == sum(i / 8 for i in range(21_000))
    assert frame["val_loss"].drop_nulls().to_list() == [2.5]
    assert frame["nonfinite"].drop_nulls().to_list() == [{"loss": "nan"}]
    assert frame["status"].drop_nulls().to_list() == ["completed"]


@pytest.mark.parametrize("fields", [{}, {"infer_schema_length": None}])
def test_polars_reads_the_numbers_of_a_long_run_without_full_sampling(long_run, fields):
    frame = pl.scan_ndjson(long_run, **fields).filter(pl.col("event") == "iter").collect()

    assert frame.schema["loss"] == pl.Float64
    assert frame["iter"].to_list() == list(range(21_001))
    assert frame["loss"][-1] is None
    assert frame["loss"][:-1].to_list() == [i / 8 for i in range(21_000)]
