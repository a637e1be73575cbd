"""A time is read, and a duration is written, in one way everywhere."""

import pytest

from eventlog import duration, seconds


@pytest.mark.parametrize(
    ("length_s", "text"),
    [(0.417, "0.42s"), (42, "42s"), (185, "3m 5s"), (7384, "2h 3m"), (200_000, "2d 8h"),
     (3600, "1h"), (-5, "-5s"), (float("inf"), "-"), (0, "0s")],
)  # fmt: skip
def test_a_duration_has_its_two_largest_units(length_s, text):
    assert duration(length_s) == text


@pytest.mark.parametrize("time", [None, "", "yesterday", 12, "9999-99-99T00:00:00", ["x"]])
def test_an_invalid_time_is_none(time):
    assert seconds(time) is None
