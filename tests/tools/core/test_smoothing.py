"""One smoothed curve for plot, terminal and page."""

import json
import math
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tools.core.smoothing import bucket_means, smooth
from tools.dashboard import server

values = st.integers(1, 400).flatmap(
    lambda n: arrays(float, n, elements=st.floats(-1e6, 1e6) | st.just(math.nan))
)


@given(values, st.integers(0, 100))
def test_a_mean_lies_among_the_values_in_its_window_and_is_missing_where_the_value_is(y, width):
    means = smooth(y, width)

    assert np.isnan(means).tolist() == np.isnan(y).tolist()
    known, means = y[np.isfinite(y)], means[np.isfinite(y)]
    for i, mean in enumerate(means):
        reach = min(width // 2, 3 * i)
        near = known[max(0, i - reach) : i + reach + 1]
        assert near.min() - 1e-6 <= mean <= near.max() + 1e-6


def test_a_constant_stays_and_a_steep_start_is_not_late():
    assert smooth(np.full(50, 3.0), 20).tolist() == [3.0] * 50
    assert smooth(np.array([9.0, 5, 4, 3, 3, 3]), 100)[0] == 9.0


def test_a_huge_spike_changes_only_the_means_near_it():
    y = np.ones(100)
    y[50] = 1e300

    assert smooth(y, 20)[70:].tolist() == [1.0] * 30


def test_means_of_several_values_count_as_many_times():
    y, counts = np.array([1.0, 1, 5, 1, 1]), np.array([4, 4, 1, 4, 4])

    assert 1.0 < smooth(y, 12, counts)[2] < smooth(y, 12)[2]


def test_a_long_curve_is_reduced_to_means_that_miss_no_value():
    y = np.arange(100_000.0)
    y[:1000] = math.nan

    at, means, counts = bucket_means(y, 500)

    assert len(at) <= 1000
    assert counts.sum() == 99_000
    assert (means * counts)[counts > 0].sum() == pytest.approx(np.nansum(y))


@pytest.mark.skipif(not shutil.which("node"), reason="no node: apt-get install nodejs")
def test_the_page_computes_the_same_numbers(tmp_path):
    rng = np.random.default_rng(1)
    y = rng.normal(size=500).cumsum()
    y[[7, 8, 300]] = math.nan
    counts = rng.integers(1, 9, 500)
    cases = [(width, with_counts) for width in (0, 3, 10, 47, 5000) for with_counts in (0, 1)]
    data = {"y": [None if math.isnan(v) else v for v in y], "counts": counts.tolist()}
    (tmp_path / "smooth.mjs").write_text((Path(server.PAGE) / "smooth.js").read_text())
    (tmp_path / "main.mjs").write_text(
        f"""import {{ smooth }} from "./smooth.mjs";
        const {{ y, counts }} = {json.dumps(data)};
        const values = Float64Array.from(y, (v) => v ?? NaN);
        console.log(JSON.stringify({json.dumps(cases)}.map(
          ([width, has]) => [...smooth(values, width, has ? counts : null)])));"""
    )

    printed = subprocess.run(
        ["node", tmp_path / "main.mjs"], capture_output=True, check=True, timeout=60
    ).stdout

    for (width, has_counts), numbers in zip(cases, json.loads(printed), strict=True):
        ours = smooth(y, width, counts if has_counts else None)
        assert numbers == [None if math.isnan(v) else v for v in ours]
