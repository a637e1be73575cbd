"""`runs watch`, key `e`: runs that differ in the seed alone are one line, their mean."""

import asyncio

import numpy as np
import pytest

from tests.tools.conftest import make_seeds
from tests.tools.terminal.test_watch import foot, seen, until, watching
from tools.core import seeds

N_SEEDS = 4


@pytest.fixture(scope="module")
def losses(tmp_path_factory):
    """A folder with two settings of four seeds, and the losses of each setting."""
    folder = tmp_path_factory.mktemp("seeds")
    rng = np.random.default_rng(3)
    losses = {lr: lr * 100 + rng.normal(size=(N_SEEDS, 20)) for lr in (0.1, 0.01)}
    make_seeds(folder, losses)
    return folder, {f"lr={lr}": of_seeds for lr, of_seeds in losses.items()}


def loss_chart(app):
    return app.charts.all[0].drawing


async def show_both(app, pilot):
    """Pick a run of each setting, and show means."""
    names = [row["run"].rsplit("_", 2)[0] for row in app.listing.rows]
    await pilot.press("home", *["down"] * names.index("lr0.1s0"), "space")
    await pilot.press("home", *["down"] * names.index("lr0.01s2"), "space", "e")
    await until(pilot, lambda: len(loss_chart(app).ends) == 2)


def n_curves(app):
    return sum(len(line.x) for line in loss_chart(app).lines)


def test_each_setting_is_a_line_with_its_mean_between_lines_at_one_standard_deviation(losses):
    folder, known = losses

    async def story():
        async with watching(folder, (120, 40)) as (app, pilot):
            await until(pilot, lambda: len(app.listing.rows) == 2 * N_SEEDS)
            await show_both(app, pilot)
            await until(pilot, lambda: n_curves(app) == 6 * 20)
            app.show()
            await pilot.pause()
            return loss_chart(app), seen(app), dict(app.listing.numbers)

    drawing, screen, numbers = asyncio.run(story())

    low_a, high_a, low_b, high_b, mean_a, mean_b = drawing.lines
    for of, low, mean, high in (
        (known["lr=0.1"], low_a, mean_a, high_a), (known["lr=0.01"], low_b, mean_b, high_b)
    ):  # fmt: skip
        band = seeds.band([(np.arange(20), values) for values in of])
        np.testing.assert_allclose(mean.y, band.mean, rtol=1e-12)
        np.testing.assert_allclose(low.y, band.mean - band.std, rtol=1e-12)
        np.testing.assert_allclose(high.y, band.mean + band.std, rtol=1e-12)
    assert "mean of seeds" in screen[0]
    assert screen[-2] == "A lr=0.1: mean of 4 runs  B lr=0.01: mean of 4 runs"
    assert sorted(numbers.values()) == [0] * N_SEEDS + [1] * N_SEEDS
    assert sum(line.startswith("A✓ lr0.1s") for line in screen) == N_SEEDS


def test_a_group_is_picked_and_left_out_as_one_and_the_key_draws_single_runs_again(losses):
    async def story():
        async with watching(losses[0], (120, 40)) as (app, pilot):
            await until(pilot, lambda: len(app.listing.rows) == 2 * N_SEEDS)
            await show_both(app, pilot)
            names = [row["run"].rsplit("_", 2)[0] for row in app.listing.rows]
            await pilot.press("home", *["down"] * names.index("lr0.01s3"), "space")
            await until(pilot, lambda: len(loss_chart(app).ends) == 1)
            alone = foot(app)[1]
            await pilot.press("space")
            await until(pilot, lambda: len(loss_chart(app).ends) == 2)
            await pilot.press("e")
            return alone, app.listing.picked, len(loss_chart(app).lines)

    alone, picked, n_lines = asyncio.run(story())

    assert alone == "A lr=0.1: mean of 4 runs"
    assert (len(picked), n_lines) == (2, 2)


def test_the_help_fits_into_the_smallest_terminal(losses):
    async def story():
        async with watching(losses[0]) as (app, pilot):
            await pilot.press("question_mark")
            await pilot.pause()
            return seen(app)

    lines = asyncio.run(story())

    assert any("runs that differ in the seed alone" in line for line in lines)
    assert any("any key: back" in line for line in lines)
