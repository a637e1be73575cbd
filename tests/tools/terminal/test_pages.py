"""`runs watch`: pages of charts, search for series, filter of runs, the mouse, what is read."""

import asyncio
import math
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

import eventlog
from tests.tools.conftest import make_run
from tests.tools.terminal.test_watch import foot, hold, names, seen, until, watching
from tools.live.folders import Folders
from tools.terminal.names import shortened
from tools.terminal.screen import Watch
from tools.terminal.view import View, layout

GRADS = [f"grad/layers.{n}.attn.q_proj.weight" for n in range(26)]


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """A folder with a run of 30 series: four usual ones and 26 gradients."""
    folder = tmp_path_factory.mktemp("many")
    with eventlog.init(name="many", dir=folder, quiet=True) as run:
        for k in range(5):
            own = {"train/loss": 5.0 - k, "val/loss": 6.0 - k, "lr": 0.1, "grad_norm": 1.0}
            run.log(own | {name: n + k / 10 for n, name in enumerate(GRADS)}, step=k)
    return folder


def titles(app):
    return [chart.metric for chart in app.charts.shown if chart.metric]


def cell_of(app, chart):
    """A place on the screen in the middle of a chart."""
    region = app.charts.all[chart].region
    return region.x + region.width // 2, region.y + region.height // 2


@pytest.mark.parametrize(
    ("size", "n", "grid"),
    [
        ((51, 20), 30, (2, 2)), ((86, 36), 30, (3, 3)), ((143, 56), 30, (4, 3)),
        ((143, 56), 1, (1, 1)), ((143, 56), 2, (2, 1)), ((143, 56), 5, (3, 2)),
        ((20, 5), 30, (1, 1)), ((0, 0), 0, (1, 1)), ((400, 100), 99, (4, 3)),
    ],
)  # fmt: skip
def test_a_page_has_as_many_charts_as_the_window_holds_and_no_more_than_there_are_series(
    size, n, grid
):
    assert layout(*size, n) == grid


def test_pages_follow_each_other_and_the_first_comes_after_the_last():
    view, series = View(), list("abcdefg")

    pages = []
    for _ in range(4):
        pages.append("".join(view.page(series, 3)))
        view.turn(series, 3, 1)
    view.turn(series, 3, -2)

    assert pages == ["abc", "def", "g", "abc"]
    assert view.page(series, 3) == ["g"]


def test_larger_windows_have_more_charts_and_keys_show_the_other_pages(many):
    async def story():
        async with watching(many) as (app, pilot):
            await until(pilot, lambda: len(titles(app)) == 4)
            await pilot.resize_terminal(200, 60)
            await until(pilot, lambda: len(titles(app)) == 12)
            pages = [(titles(app), seen(app)[0])]
            for key in "nnnp":
                await pilot.press(key)
                await pilot.pause()
                pages.append((titles(app), seen(app)[0]))
            return pages

    first, second, third, again, back = asyncio.run(story())

    assert "12 of 30 series · page 1 of 3" in first[1]
    assert "page 3 of 3" in third[1]
    assert sorted([*first[0], *second[0], *third[0]]) == sorted(
        ["train/loss", "val/loss", "lr", "grad_norm", *GRADS]
    )
    assert (again, back) == (first, third)


def test_series_are_found_while_a_name_is_typed_and_escape_shows_all_again(many):
    async def story():
        async with watching(many, (120, 40)) as (app, pilot):
            await until(pilot, lambda: titles(app))
            await pilot.press("f", *"*.1?.*")
            await until(pilot, lambda: titles(app)[0] == GRADS[10])
            typed = seen(app)
            await pilot.press("enter")
            await pilot.pause()
            found = seen(app)
            await pilot.press("escape")
            await pilot.pause()
            return typed, found, seen(app)

    typed, found, cleared = asyncio.run(story())

    assert typed[-1].startswith("series: *.1?.*")
    assert typed[-1].endswith("10 of 30 series")
    assert "10 of 30 series: *.1?.*" in found[0]
    assert "9 of 30 series" in cleared[0]
    assert "train/loss" in cleared[1]


def test_a_search_that_finds_nothing_says_so_and_not_that_there_are_no_series(many):
    async def story():
        async with watching(many) as (app, pilot):
            await until(pilot, lambda: titles(app))
            await pilot.press("f", *"nowhere", "enter")
            await pilot.pause()
            return "\n".join(seen(app))

    assert "no series matches 'nowhere'" in asyncio.run(story())


def test_long_names_keep_what_tells_them_apart(many):
    async def story():
        async with watching(many, (120, 40)) as (app, pilot):
            await until(pilot, lambda: titles(app))
            await pilot.press("f", *"grad/*", "enter")
            await pilot.pause()
            return seen(app)[1][34:]

    title = asyncio.run(story())

    assert [f"…{n}…" in title for n in (0, 1, 2)] == [True] * 3
    assert [value in title for value in ("0.4", "1.4", "2.4")] == [True] * 3


@pytest.mark.parametrize("width", range(45))
def test_a_shortened_name_has_its_width_at_most(width):
    others = [*GRADS, "层" * 20 + "1", "层" * 20 + "2", "a", ""]

    short = [shortened(name, width, others) for name in others]

    assert all(len(text) <= max(width, 0) for text in short)
    assert width < 12 or len(set(short[:26])) == 26


# ---- filters


def test_runs_are_filtered_by_settings_tags_and_with_a_count(tmp_path):
    async def story():
        for n in range(3):
            make_run(tmp_path, f"r{n}", learning_rate=10.0**-n)
        eventlog.annotate(tmp_path / "r1.jsonl", "tag", add=["base"])
        async with watching(tmp_path) as (app, pilot):
            await until(pilot, lambda: len(app.listing.rows) == 3)
            found = []
            for where in ("cfg.learning_rate>=0.1", "config.learning_rate >= 1", "base"):
                await pilot.press("slash")
                app.query_one("#ask").value = where
                await pilot.pause(0.5)
                counted = seen(app)[-1]
                await pilot.press("enter")
                await pilot.pause()
                found.append((sorted(name[:2] for name in names(app)), counted, seen(app)[0]))
            return found

    by_cfg, by_config, by_tag = asyncio.run(story())

    assert (by_cfg[0], by_config[0], by_tag[0]) == (["r0", "r1"], ["r0"], ["r1"])
    assert by_cfg[1].endswith("2 of 3 runs")
    assert "2 of 3 runs, 0 live" in by_cfg[2]


def test_runs_are_filtered_by_their_series_and_by_their_notes(tmp_path):
    async def story():
        for n in range(3):
            with eventlog.init(name=f"r{n}", dir=tmp_path, quiet=True) as run:
                for k in range(4):
                    run.log({"val/acc": n / 10 + k / 100}, step=k)
            eventlog.annotate(run.journal_path, "note", text=f"router number {n}")
        async with watching(tmp_path) as (app, pilot):
            await until(pilot, lambda: len(app.listing.rows) == 3)
            found = []
            for where, n in (
                ("val/acc > 0.1", 2),
                ("val/acc:max < 0.04", 1),
                ("note like '%r 1'", 1),
            ):
                await pilot.press("slash")
                app.query_one("#ask").value = where
                await pilot.press("enter")
                await until(pilot, lambda n=n: len(app.listing.rows) == n)
                found.append(sorted(name[:2] for name in names(app)))
            return found

    assert asyncio.run(story()) == [["r1", "r2"], ["r0"], ["r1"]]


def test_a_wrong_filter_says_why_beside_it_and_escape_brings_the_earlier_one_back(tmp_path):
    async def story():
        make_run(tmp_path, "wide", learning_rate=0.01)
        make_run(tmp_path, "deep", learning_rate=0.001)
        async with watching(tmp_path) as (app, pilot):
            await until(pilot, lambda: len(app.listing.rows) == 2)
            await pilot.press("slash", *"wid", "enter", "slash", *["backspace"] * 3)
            await pilot.press(*"cfg.learning_rat", "greater_than_sign", "1", "enter")
            await pilot.pause()
            wrong = foot(app)[0], seen(app)[-1]
            await pilot.press("escape")
            await pilot.pause()
            return wrong, names(app), app.prompt.is_open

    wrong, listed, is_open = asyncio.run(story())

    assert "unknown field 'cfg.learning_rat'. Did you mean config.learning_rate" in wrong[0]
    assert wrong[1].startswith("runs: cfg.learning_rat>1")
    assert [name[:4] for name in listed] == ["wide"]
    assert not is_open


# ---- reading


def test_what_is_still_being_read_is_not_called_empty(tmp_path):
    """A lock that another thread holds is what the reader holds."""

    async def story():
        make_run(tmp_path, "busy")
        app = Watch(Folders([str(tmp_path)]))  # not entered: nothing is read
        async with app.run_test(size=(80, 24)) as pilot:
            await pilot.pause()
            before = seen(app)
        async with watching(tmp_path) as (app, pilot):
            (row,) = app.listing.rows
            with ThreadPoolExecutor() as pool:
                held = pool.submit(hold, app.folders, row["id"], release := threading.Event())
                await until(pilot, held.running)
                app.show()
                await pilot.pause()
                during = "\n".join(seen(app))
                release.set()
            await until(pilot, lambda: "eval/val_loss" in "\n".join(seen(app)))
            return before, during

    before, during = asyncio.run(story())

    assert before[0].startswith("reading…")
    assert "reading…" in before[1]
    assert "no runs" not in "\n".join(before)
    assert "reading…" in during
    assert "no series" not in during


def test_an_empty_folder_has_no_runs_and_a_run_without_a_row_no_series(tmp_path):
    async def story():
        with Folders([str(tmp_path)]) as folders:
            app = Watch(folders)
            async with app.run_test(size=(80, 24)) as pilot:
                await until(pilot, lambda: folders.is_complete)
                await until(pilot, lambda: "no runs yet" in seen(app)[1])
                eventlog.open_run(tmp_path, run_name="bare", save_interval=0).close()
                await until(pilot, lambda: "no series" in "\n".join(seen(app)))
                return seen(app)

    assert "bare" in asyncio.run(story())[1]


# ---- mouse


def test_the_mouse_picks_runs_enlarges_a_chart_and_turns_pages(many, tmp_path):
    async def story():
        make_run(tmp_path, "other")
        with Folders([str(many), str(tmp_path)]) as folders:
            app = Watch(folders)
            async with app.run_test(size=(80, 24)) as pilot:
                await until(pilot, lambda: len(app.listing.rows) == 2)
                at = [name[:4] for name in names(app)].index("many")
                await pilot.click(app.listing, offset=(5, at))
                await until(pilot, lambda: "train/loss" in titles(app))
                picked = list(app.listing.picked), app.listing.current["id"]
                first = titles(app)
                await pilot.click(offset=cell_of(app, 1))
                await until(pilot, lambda: titles(app) == first[1:2])
                await pilot.click(offset=cell_of(app, 0))
                await until(pilot, lambda: titles(app) == first)
                app.charts.on_mouse_scroll_down()
                await until(pilot, lambda: titles(app) != first)
                second = titles(app)
                await pilot.click(app.listing, offset=(5, at))
                await until(pilot, lambda: not app.listing.picked)
                return picked, first, second

    picked, first, second = asyncio.run(story())

    assert picked[0] == [picked[1]]
    assert second == GRADS[:4]
    assert first == ["train/loss", "val/loss", "lr", "grad_norm"]


def test_an_enlarged_series_goes_on_to_the_next_one_and_back_to_its_page(many):
    async def story():
        async with watching(many) as (app, pilot):
            await until(pilot, lambda: len(titles(app)) == 4)
            shown = []
            for key in ("4", "n", "escape"):
                await pilot.press(key)
                await pilot.pause()
                shown.append(titles(app))
            return shown

    assert asyncio.run(story()) == [["grad_norm"], GRADS[:1], GRADS[:4]]


def test_values_that_do_not_fit_beside_a_name_end_in_dots(tmp_path):
    async def story():
        for n in range(6):
            make_run(tmp_path, f"r{n}", (5.12345 + n, 4.54321 + n))
        async with watching(tmp_path) as (app, pilot):
            await until(pilot, lambda: len(app.listing.rows) == 6)
            await pilot.press(*["space", "down"] * 6)
            await until(pilot, lambda: len(app.charts.all[0].drawing.ends) == 6)
            return seen(app)[1][28:]

    title = asyncio.run(story())

    assert "A 10.5 …" in title or "…" in title.split("eval")[0]
    assert math.isclose(title.count("…"), 2)
