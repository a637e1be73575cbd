"""The value cursor of `runs watch`: what it reads is what was logged."""

import asyncio
import math

import numpy as np
import pytest

import eventlog
from tests.tools.terminal.test_pages import cell_of, titles
from tests.tools.terminal.test_watch import foot, seen, until, watching
from tools.live.following import Following
from tools.terminal.values import beyond, nearest, value_at


def followed(journal):
    following = Following(journal)
    while following.read_on() or following.is_reading:
        pass
    return following


@pytest.fixture(scope="module")
def sparse(tmp_path_factory):
    """A run whose `acc` is logged at every third step, NaN at step 6; `early` ends at step 4."""
    folder = tmp_path_factory.mktemp("sparse")
    with eventlog.init(name="sparse", dir=folder, quiet=True) as run:
        for k in range(12):
            run.log({"all": k / 7}, step=k)
            if k % 3 == 0:
                run.log({"acc": math.nan if k == 6 else k / 11}, step=k)
            if k <= 4:
                run.log({"early": k / 13}, step=k)
    return folder, followed(run.journal_path)


def test_a_value_is_the_latest_at_or_before_a_step_exactly_as_logged(sparse):
    _, run = sparse

    read = [value_at(run, "acc", "iter", x) for x in (-1, 0, 3, 5, 6, 8, 9, 10)]

    assert read[0] is None
    assert [v.step for v in read[1:7]] == [0, 3, 3, 6, 6, 9]
    assert [v.exact for v in read[1:4]] == ["0.0", repr(3 / 11), repr(3 / 11)]
    assert [v.exact for v in read[4:7]] == ["nan", "nan", repr(9 / 11)]
    assert read[7] is None  # the series has ended


def test_the_next_value_and_the_nearest_one_are_those_that_were_logged(sparse):
    _, run = sparse

    forward = [beyond(run, "acc", "iter", x, by) for x, by in ((0, 0), (0, 4), (9, 0), (-5, 0))]
    back = [beyond(run, "acc", "iter", x, by) for x, by in ((9, -1e-12), (9, -4), (0, -1e-12))]
    near = [nearest(run, "acc", "iter", x) for x in (-3, 1, 2, 6.1, 99)]

    assert forward == [3, 6, None, 0]
    assert back == [6, 3, None]
    assert near == [0, 0, 3, 6, 9]
    assert nearest(run, "unknown", "iter", 1) is None


def test_by_time_each_logged_row_can_be_read_though_times_are_rounded(tmp_path):
    with eventlog.open_run(tmp_path, run_name="it", save_interval=0) as run:
        for i in range(300):
            run.log_iter(i, i / 7)
    followed_run = followed(run.journal_path)
    axis = followed_run.axis("time")
    places = axis.place(followed_run.iterations, np.arange(300))

    values = [value_at(followed_run, "loss", "time", x) for x in np.unique(places)]

    assert all(v.exact == repr(v.step / 7) for v in values)
    assert [v.x for v in values] == np.unique(places).tolist()


def test_a_long_run_is_read_at_any_step_though_its_line_is_thinned(tmp_path):
    with eventlog.open_run(tmp_path, run_name="it", save_interval=0, durability="never") as run:
        for i in range(20_000):
            run.log_iter(i, i / 7, **({"rare": i / 3} if i < 2 else {}))

    following = followed(run.journal_path)

    assert value_at(following, "loss", "iter", 12_345).exact == repr(12_345 / 7)
    assert value_at(following, "rare", "iter", 19_999) is None
    assert value_at(following, "rare", "iter", 1).exact == repr(1 / 3)


def test_the_keys_move_one_cursor_in_all_charts_and_the_foot_has_the_value_in_full(sparse):
    folder, _ = sparse

    async def story():
        async with watching(folder) as (app, pilot):
            await until(pilot, lambda: len(titles(app)) == 3)
            shown = []
            for key in ("left", "comma", "comma", "full_stop", "escape"):
                await pilot.press(key)
                await pilot.pause()
                shown.append((foot(app)[1], [chart.cursor for chart in app.charts.shown]))
            return shown

    last, one, two, back, none = asyncio.run(story())

    assert last == (f"at step 11: all  {11 / 7!r}", [11.0] * 3)
    assert two[0] == f"at step 9: all  {9 / 7!r}"
    assert back == one
    assert none[1] == [None] * 3


def test_the_mouse_reads_the_value_next_to_it_and_leaves_no_cursor_behind(sparse):
    folder, _ = sparse

    async def story():
        async with watching(folder, (120, 40)) as (app, pilot):
            await until(pilot, lambda: len(titles(app)) == 3)
            number = titles(app).index("acc")
            await pilot.hover(offset=cell_of(app, number))
            await until(pilot, lambda: "at step 6: acc  nan" in foot(app)[1])
            title = "\n".join(seen(app))
            await pilot.hover(app.listing, offset=(3, 5))
            await until(pilot, lambda: app.view.cursor is None)
            return title, foot(app)[1]

    screen, below = asyncio.run(story())

    assert "early  -" in screen  # it ended at step 4
    assert "acc  nan" in screen
    assert "│" in screen
    assert "at step" not in below


def test_runs_that_logged_at_other_steps_have_the_step_beside_the_value(tmp_path):
    async def story():
        for name, every in (("often", 1), ("rarely", 4)):
            with eventlog.init(name=name, dir=tmp_path, quiet=True) as run:
                for k in range(0, 9, every):
                    run.log({"m": k / 7}, step=k)
        async with watching(tmp_path, (120, 40)) as (app, pilot):
            await until(pilot, lambda: len(app.listing.rows) == 2)
            often = [row["run"][:5] for row in app.listing.rows].index("often")
            order = ("home", "down") if often else ("down", "home")
            await pilot.press(order[1], "space", order[0], "space")
            await until(pilot, lambda: len(app.charts.all[0].drawing.ends) == 2)
            await pilot.press("left", "comma")
            await pilot.pause()
            return foot(app)[1]

    assert asyncio.run(story()) == f"at step 7: m  A {7 / 7!r}  B {4 / 7!r} (step 4)"
