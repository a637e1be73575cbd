"""The mean that is updated while a run grows equals the mean of its values."""

import math
from fractions import Fraction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from eventlog.fold import tables
from eventlog.fold.tables import Column

floats = st.floats(allow_nan=True, allow_infinity=True) | st.sampled_from(
    [1e308, -1e308, 1.7e308, 5e-324, 0.0, -100.0, 1e16, 1.0, -1e16]
)
moves = st.lists(
    st.tuples(st.just("extend"), st.lists(floats, max_size=9))
    | st.tuples(st.just("append"), floats)
    | st.tuples(st.just("cut"), st.integers(0, 30))
    | st.tuples(st.just("mean"), st.none()),
    max_size=20,
)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(tables, "SUM_BLOCK", 4)


def exact_mean(values, floor):
    counting = [Fraction(v) for v in values if math.isfinite(v) and v > floor]
    return float(sum(counting) / len(counting)) if counting else None


@given(moves, st.sampled_from([-math.inf, 0.0]))
@example([("extend", [1e308] * 8), ("mean", None), ("extend", [-1e308] * 7)], -math.inf)
@example([("extend", [1e16, 1.0, -1e16, 1.0] * 3), ("mean", None), ("cut", 6)], -math.inf)
def test_after_any_growth_and_cuts_the_mean_is_that_of_what_is_left(moves, floor):
    column, known = Column(floor=floor), []

    for move, argument in moves:
        if move == "extend":
            column.extend(argument)
            known += argument
        elif move == "append":
            column.append(argument)
            known.append(argument)
        elif move == "cut":
            column.cut(argument)
            del known[argument:]
        else:
            column.mean()

    mean, expected = column.mean(), exact_mean(known, floor)
    assert mean == Column(known, floor=floor).mean()
    assert (mean is None) == (expected is None)
    if mean is not None:
        assert mean == pytest.approx(expected, rel=1e-15, abs=5e-324)


def test_sums_of_complete_blocks_are_not_computed_again():
    column = Column([1.0] * 9)
    column.mean()
    column.values[0] = 100.0  # behind its back: the first block's sum is known

    assert column.mean() == 1.0
