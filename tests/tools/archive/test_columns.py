"""Runs as columns: values stay equal, also if other runs have other types in the same column."""

import math

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import eventlog
from tests import strategies
from tools.archive import columns
from tools.core.history import History

PLAIN = st.none() | st.booleans() | strategies.numbers | strategies.any_floats | strategies.text


def history_of(rows, name="run"):
    return History(eventlog.Run(name, training_iterations=rows))


def values(table, name):
    return table[name].to_pylist()


def is_same(stored, value):
    if value is None or isinstance(value, bool | str):
        return stored == value
    if isinstance(value, float) and math.isnan(value):
        return math.isnan(stored)
    return stored == value  # int, float and Decimal compare by value in Python


@given(st.lists(st.none() | strategies.numbers | strategies.any_floats, max_size=8))
def test_any_numbers_of_a_field_keep_their_values_or_are_text_of_them(given_values):
    rows = [{"iter": i, "x": value} for i, value in enumerate(given_values)]

    table = columns.tables_of(history_of(rows))["iterations"]

    stored = values(table, "x") if "x" in table.column_names else [None] * len(rows)
    numbers = [v if not isinstance(v, str) else float(v) if "." in v or "n" in v or "e" in v
               else int(v) for v in stored]  # fmt: skip
    assert all(map(is_same, numbers, given_values))


@given(st.lists(st.lists(PLAIN, min_size=1, max_size=3), min_size=1, max_size=4))
def test_runs_with_any_types_can_be_combined_in_any_order(runs_of_values):
    tables = [
        columns.tables_of(history)["iterations"]
        for history in (
            history_of([{"iter": i, "x": v} for i, v in enumerate(values)])
            for values in runs_of_values
        )
    ]

    one = columns.unite("iterations", tables)
    other = columns.unite("iterations", reversed(tables))

    assert one.num_rows == sum(map(len, runs_of_values))
    kinds = [{f.name: f.type for f in table.schema} for table in (one, other)]
    assert kinds[0] == kinds[1]


def test_an_integer_beyond_2_to_the_53_is_exact_beside_floats_of_another_run():
    big, small = 2**60 + 1, 0.5
    tables = [
        columns.tables_of(history_of([{"iter": 0, "x": x}]))["iterations"] for x in (big, small)
    ]

    table = columns.unite("iterations", tables)

    assert values(table, "x") == [str(big), "0.5"]


def test_an_integer_beyond_int64_is_a_number_still():
    table = columns.tables_of(history_of([{"iter": 0, "x": 2**64 - 1}]))["iterations"]

    assert values(table, "x") == [2**64 - 1]
    assert table.schema.field("x").type == pa.decimal128(20, 0)


def test_what_a_journal_names_nonfinite_is_a_number_again():
    row = {"iter": 0, "loss": None, "x": None, "nonfinite": {"loss": "nan", "x": "-inf"}}

    table = columns.tables_of(history_of([row]))["iterations"]

    assert math.isnan(values(table, "loss")[0])
    assert values(table, "x") == [-math.inf]
    assert "nonfinite" not in table.column_names


@pytest.mark.parametrize(
    ("row", "extra"),
    [
        ({"loss": "high"}, '{"loss":"high"}'),
        ({"iter": 1.5}, '{"iter":1.5}'),
        ({"run": 7}, '{"run":7}'),
        ({"extra": 7}, '{"extra":7}'),
        ({"": 7}, '{"":7}'),
        ({"lr": 1.0, "LR": 2.0}, '{"LR":2.0}'),
        ({"loss": math.nan, "Loss": math.nan}, '{"Loss":"nan"}'),
        ({"x" * 200: 1}, '{"' + "x" * 200 + '":1}'),
    ],
)
def test_values_that_fit_into_no_column_are_in_extra(row, extra):
    table = columns.tables_of(history_of([row]))["iterations"]

    assert values(table, "extra") == [extra]


def test_objects_are_columns_and_lists_are_json():
    table = columns.tables_of(history_of([{"iter": 0, "gpu": {"temp": 61.5, "ids": [0, 1]}}]))

    assert values(table["iterations"], "gpu_temp") == [61.5]
    assert values(table["iterations"], "gpu_ids") == ["[0, 1]"]


def test_data_used_as_names_does_not_become_ten_thousand_columns():
    rows = [{"iter": i, f"layer_{i}": 1.0} for i in range(1_000)]

    table = columns.tables_of(history_of(rows))["iterations"]

    assert table.num_columns < 2 * columns.MAX_COLUMNS
    assert values(table, "extra")[-1] == '{"layer_999":1.0}'


@pytest.mark.parametrize(
    ("start_time", "month"),
    [("2026-11-23T03:25:01+00:00", "2026-11"), (None, "unknown"), ("../../../x", "unknown")],
)
def test_the_month_of_a_run_is_a_month_or_unknown(start_time, month):
    assert columns.month_of(eventlog.Run(start_time=start_time)) == month
