"""Numbers, sizes, durations and times: one format each, on the page too."""

import json
import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventlog import duration, seconds
from tools.core import formats
from tools.core.formats import iso, to_the_second
from tools.dashboard import server


@pytest.mark.parametrize(
    ("value", "text"),
    [(4.1234, "4.1234"), (15665, "15.66k"), (2e-5, "2e-5"), (1.234e-5, "1.2e-5"), (0, "0"),
     (-100, "-100"), (65.4, "65.4"), (1e7, "10M"), (3e9, "3B"), (999_999, "1M"), (1e20, "1e20"),
     (1234.5, "1,234"), (float("nan"), "?")],
)  # fmt: skip
def test_a_number_of_a_chart_is_short(value, text):
    assert formats.short(value) == text


@given(st.floats(allow_nan=False) | st.floats(-1e14, 1e14))
def test_a_short_number_fits_in_six_characters(value):
    exponent = len(formats.short(value).partition("e")[2].lstrip("-"))

    assert len(formats.short(value)) <= 6 + max(0, exponent - 1)


def test_an_age_has_its_largest_unit():
    assert [formats.age(s) for s in (-1, 12.7, 300, 11_000, 700_000)] == [
        "0s", "12s", "5m", "3h", "8d",
    ]  # fmt: skip


@given(st.floats(-6e10, 1e11))
def test_a_time_written_is_read_as_the_same(time_s):
    assert seconds(iso(time_s)) == pytest.approx(time_s, abs=1e-4)


def test_a_time_for_people_says_whether_it_is_utc():
    assert to_the_second("2026-11-23T03:25:01.123456+00:00") == "2026-11-23 03:25:01 UTC"
    assert to_the_second("2026-11-23T03:25:01.123456") == "2026-11-23 03:25:01"
    assert to_the_second(None) == ""


@pytest.mark.skipif(not shutil.which("node"), reason="no node: apt-get install nodejs")
def test_the_page_writes_counts_sizes_and_durations_the_same_way(tmp_path):
    numbers = [0, 1, 0.5, 12.345, 999, 2500, 9999.5, 12_345, 50_000, 999_999, 1.5e6, 3e9, 7.77e13]
    spans = [0.417, 1, 42, 59.4, 61, 185, 3599.7, 3600, 7384, 86_399, 86_400, 200_000]
    (tmp_path / "format.mjs").write_text((server.PAGE / "format.js").read_text())
    (tmp_path / "main.mjs").write_text(
        f"""import {{ count, bytes, duration }} from "./format.mjs";
        console.log(JSON.stringify([{numbers}.map(count), {numbers}.map(bytes),
          {spans}.map(duration)]));"""
    )

    printed = subprocess.run(
        ["node", tmp_path / "main.mjs"], capture_output=True, check=True, timeout=60
    ).stdout

    assert json.loads(printed) == [
        list(map(formats.count, numbers)),
        list(map(formats.size, numbers)),
        list(map(duration, spans)),
    ]
