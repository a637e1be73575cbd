"""The summaries of series are the same whether rows are read one by one or many at once."""

import math

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

import eventlog
from eventlog.fold.rows import Rows
from eventlog.fold.series import of_pieces, of_rows

rows_of = st.lists(
    st.fixed_dictionaries(
        {"loss": st.integers(-3, 3) | st.floats(-3, 3, allow_nan=False)},
        optional={
            "mfu": st.just(eventlog.MFU_UNKNOWN) | st.integers(0, 9),
            "lr": st.none() | st.booleans() | st.text(max_size=3) | st.lists(st.integers(-9, 9)),
        },
    ),
    max_size=12,
)


@given(rows_of, st.integers(1, 5))
def test_summaries_of_pieces_are_those_of_the_rows(rows, n):
    numbered = [{"iter": i, **row} for i, row in enumerate(rows)]
    encoded = Rows()
    for at in range(0, len(numbered), n):
        piece = numbered[at : at + n]
        encoded.extend(b"\n".join(map(orjson.dumps, piece)), len(piece))

    found = of_pieces("iterations", encoded.pieces())

    assert found == of_rows("iterations", map(eventlog.flat_cells, numbered))


def test_a_value_that_is_not_finite_is_counted_among_pieces():
    nan = {"loss": None, "nonfinite": {"loss": "nan"}}
    encoded = Rows(map(orjson.dumps, [{"iter": 0, "loss": 2.0}, {"iter": 1, **nan}]))

    (loss,) = of_pieces("iterations", encoded.pieces())

    assert (loss.count, loss.n_nonfinite, loss.min) == (2, 1, 2.0)
    assert math.isnan(loss.last)


@pytest.mark.parametrize("key", ["loss", "eval/val_loss"])
def test_the_series_of_a_run_are_the_same_from_its_journal_and_its_run_json(tmp_path, key):
    with eventlog.open_run(tmp_path, save_interval=0) as run:
        for i in range(5):
            run.log_iter(i, 3.0 - i, 5.0)
            run.log_eval(i, 2.0, 2.5 - i)
    eventlog.compact(run.journal_path)

    read = [eventlog.load_run(run.journal_path.with_suffix(s)) for s in (".jsonl", ".json")]

    assert read[0].series(key) == read[1].series(key)
