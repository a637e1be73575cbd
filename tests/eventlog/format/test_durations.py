"""A duration has one form everywhere."""

import pytest

from eventlog import duration


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.417, "0.42s"), (42, "42s"), (185, "3m 5s"), (7384, "2h 3m"), (200_000, "2d 8h"),
     (3600, "1h"), (-5, "-5s"), (float("inf"), "-"), (0, "0s")],
)  # fmt: skip
def test_a_duration_has_its_two_largest_units(seconds, text):
    assert duration(seconds) == text
