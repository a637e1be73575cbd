"""One smoothed curve for plot, terminal and page."""

import json
import math
import shutil
import subprocess
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import eventlog
from tools.core.smoothing import bucket_means, is_noisy, smooth
from tools.dashboard import server
from tools.live.curves import Axis
from tools.live.following import Following
from tools.plot.figure import draw
from tools.terminal import drawing as terminal
from tools.terminal.drawing import View

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


WIDTHS = 20, 200


@pytest.fixture(scope="module")
def noisy(tmp_path_factory):
    """The journal of a run of 3,000 iterations with a loss that is noisy, and `nan` at one."""
    loss = np.random.default_rng(2).normal(size=3_000).cumsum() + 100
    with eventlog.open_run(tmp_path_factory.mktemp("noisy"), save_interval=0) as run:
        for i, value in enumerate(loss):
            run.log_iter(i, math.nan if i == 700 else value, time_ms=10.0)
    return run.journal_path


def followed(journal):
    following = Following(journal)
    while following.read_on() or following.is_reading:
        pass
    return following


def of_picture(journal, width):
    (axes,) = draw([journal], "loss", smooth_iters=width, width_in=20, dpi=200).axes
    (line,) = [line for line in axes.get_lines() if str(line.get_label()).startswith("smoothed")]
    return dict(zip(line.get_xdata(), line.get_ydata(), strict=True))


def of_terminal(journal, width, left, right, n_buckets):
    class Folders:
        @contextmanager
        def at(self, id, wait_s):
            yield followed(journal)

    view = View(smoothing=width)
    drawing = terminal.drawing(Folders(), ["a"], "loss", view, (left, right), n_buckets)
    return dict(zip(drawing.lines[1].x, drawing.lines[1].y, strict=True))


def of_page(journal, width, left, right, n_buckets):
    following = followed(journal)
    curve = following.iterations.curve(
        "loss", Axis("iter"), begin=left, end=right, n_buckets=n_buckets, smoothing=width
    )  # that the page computes the same from these means is tested above
    return dict(zip(curve.mean_x, smooth(curve.means, width, curve.counts), strict=True))


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(("left", "right"), [(0, 2_999), (600, 900)], ids=["whole", "zoomed"])
def test_picture_terminal_and_page_draw_the_same_curve_at_every_zoom(noisy, width, left, right):
    picture = of_picture(noisy, width)
    for curve in (
        of_terminal(noisy, width, left, right, 1_600),
        of_page(noisy, width, left, right, 1_600),
    ):
        shown = [x for x in range(left, right + 1) if x in curve]
        assert len(shown) == right - left + 1
        assert [curve[x] for x in shown] == pytest.approx(
            [picture[x] for x in shown], rel=1e-9, nan_ok=True
        )


@pytest.mark.parametrize("width", WIDTHS)
def test_the_curve_of_a_thinned_line_is_near_that_of_all_rows(noisy, width):
    exact = {x: y for x, y in of_picture(noisy, width).items() if not math.isnan(y)}
    spread = np.std(list(exact.values()))

    curve = of_page(noisy, width, 0, 2_999, 100)

    assert len(curve) < 500
    expected = np.interp(list(curve), list(exact), list(exact.values()))
    assert np.abs(np.array(list(curve.values())) - expected).max() < 0.1 * spread


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("loss", True), ("train/loss", True), ("train.acc", True), ("scores", True),
        ("layer0/grad_norm", True), ("eval/val_loss", False), ("val/loss", False),
        ("val_acc", False), ("test/bleu", False), ("lr", False), ("train/learning_rate", False),
        ("lr-AdamW/pg1", False), ("epoch", False), ("train/global_step", False),
    ],
)  # fmt: skip
def test_evaluations_and_schedules_are_not_smoothed_by_default(name, expected):
    assert is_noisy(name) is expected
