"""The overview of one run in `runs watch`: what it is, settings, series, alerts, events, log."""

import asyncio
import math
import shlex
import sys

import pytest
from textual.widgets import DataTable

import eventlog
from eventlog.integrations.logging_handler import JournalHandler
from tests.tools.terminal.test_watch import foot, seen, until, watching
from tools.terminal.overview import Overview


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("overview")
    config = {"lr": 3e-4, "model": {"depth": 6, "evil": "a\x1b[2Jb"}}
    run = eventlog.init(
        name="it", dir=folder, config=config, tags=["base"], notes="for the paper", quiet=True
    )
    import logging

    logger = logging.Logger("trainer")
    logger.addHandler(JournalHandler(run))
    for k in range(300):
        run.log({"train/loss": math.nan if k == 7 else 5.0 - k / 100, "val/acc": k / 7}, step=k)
        if k == 20:
            logger.warning("gradient overflow, scale halved")
    run.finish()
    eventlog.annotate(run.journal_path, "alert", rule="spike", state="raised", iter=30, text="hot")
    return folder


def rows(app):
    """The rows of the table that is shown."""
    table = app.screen.query_one(DataTable)
    return [[str(cell) for cell in table.get_row_at(at)] for at in range(table.row_count)]


async def open_overview(app, pilot):
    await pilot.press("enter")
    await until(pilot, lambda: isinstance(app.screen, Overview) and rows(app))


def each_sheet(folder, *keys, size=(120, 40)):
    """Rows and lines of the screen after each key."""

    async def story():
        async with watching(folder, size) as (app, pilot):
            await open_overview(app, pilot)
            shown = []
            for key in keys:
                await pilot.press(*key.split())
                await pilot.pause(0.1)
                shown.append((rows(app), seen(app)))
            return shown

    return asyncio.run(story())


def test_it_has_where_the_run_comes_from_with_tags_and_notes(folder):
    ((table, screen),) = each_sheet(folder, "1")

    known = {row[0]: row[1] for row in table}
    assert known["status"] == "completed"
    assert shlex.split(known["command"])[0] == sys.executable
    assert known["tags"] == "base"
    assert [row[1] for row in table if row[0].startswith("note ")] == ["for the paper"]
    assert {"folder", "host", "versions", "started", "duration", "file"} <= known.keys()
    assert screen[0].startswith("it_")


def test_settings_are_listed_with_nested_names_and_searched(folder):
    (table, _), (found, screen) = each_sheet(folder, "2", "slash d e p")

    assert [row[:1] for row in table] == [["lr"], ["model.depth"], ["model.evil"]]
    assert table[2][1] == "a\\x1b[2Jb"
    assert found == [["model.depth", "6"]]
    assert "1 of 3" in screen[0]


def test_each_series_has_its_last_least_and_greatest_value_with_their_steps(folder):
    ((table, screen),) = each_sheet(folder, "3", size=(140, 40))

    by_name = {row[0]: row[1:] for row in table}
    assert by_name["train/loss"] == [
        "2.0100",
        "299",
        "2.0100",
        "299",
        "5.0000",
        "0",
        "300",
        "1",
        "",
    ]
    assert by_name["val/acc"][:2] == ["42.7143", "299"]
    assert "not finite" in "\n".join(screen)


def test_alerts_events_and_the_log_of_the_run_are_listed(folder):
    (alerts, _), (events, _), (log, _) = each_sheet(folder, "4", "5", "6")

    assert [row[1:] for row in alerts] == [["spike", "raised", "30", "hot"]]
    assert {"alert", "close", "note"} <= {row[1] for row in events}
    assert [row[1:] for row in log] == [["WARNING", "trainer", "gradient overflow, scale halved"]]


def test_a_sheet_without_rows_says_why_and_escape_leaves_search_and_screen(folder):
    async def story():
        async with watching(folder) as (app, pilot):
            await open_overview(app, pilot)
            await pilot.press("tab", "slash", *"zzz", "enter")
            await pilot.pause()
            nothing = seen(app)[0]
            await pilot.press("escape")
            await pilot.pause()
            all_again = len(rows(app))
            await pilot.press("escape")
            await until(pilot, lambda: not isinstance(app.screen, Overview))
            return nothing, all_again

    nothing, all_again = asyncio.run(story())

    assert "nothing has this text" in nothing
    assert all_again == 3


def test_a_run_that_changes_while_the_overview_opens_does_not_end_the_program(folder):
    async def story():
        async with watching(folder) as (app, pilot):
            app.action_overview()
            app._version = -1
            app.poll()  # the screen has no widgets yet
            await until(pilot, lambda: app.screen.table.row_count)
            return rows(app)[0]

    assert asyncio.run(story())[0] == "run"


def test_an_alert_that_is_not_over_is_below_the_charts_and_one_that_is_over_is_not(tmp_path):
    async def story():
        with eventlog.open_run(tmp_path, run_name="it", save_interval=0) as run:
            run.log_iter(0, 4.0, 50.0)
        for rule, state in (("stall", "raised"), ("spike", "raised"), ("stall", "over")):
            eventlog.annotate(run.journal_path, "alert", rule=rule, state=state, text=f"{rule}!")
        async with watching(tmp_path) as (app, pilot):
            await until(pilot, lambda: "alert" in foot(app)[1])
            return foot(app)[1]

    below = asyncio.run(story())

    assert below.startswith("alert spike: spike!")
    assert "stall" not in below


def test_it_follows_a_live_run_and_keeps_the_cursor(tmp_path):
    async def story():
        run = eventlog.open_run(tmp_path, run_name="live", save_interval=0)
        run.log_iter(0, 4.0, 50.0)
        async with watching(tmp_path, (140, 40)) as (app, pilot):
            await open_overview(app, pilot)
            await pilot.press("3", "down")
            await until(pilot, lambda: rows(app)[0][0] == "loss")
            run.log_iter(1, 3.0, 50.0)
            await until(pilot, lambda: rows(app)[0][1] == "3.0000")
            at = app.screen.query_one(DataTable).cursor_row
            run.close()
            return at

    assert asyncio.run(story()) == 1
