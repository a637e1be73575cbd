"""The page reports what of a run is not in its files in the words of `runs ls`."""

import pytest

from tests.tools.conftest import unstamped
from tests.tools.dashboard.pages import serving_here, until


@pytest.fixture(scope="module")
def server(incomplete):
    with serving_here(incomplete[0]) as server:
        until(lambda: len(server.rows()) == len(incomplete[1]))
        yield server


def test_the_row_of_the_page_has_it(server, incomplete):
    rows = {unstamped(row["run"]): row["warnings"] for row in server.rows().values()}

    assert rows == incomplete[1]


def test_the_row_of_a_run_that_was_opened_has_it(server, incomplete):
    for row in server.rows().values():
        until(lambda row=row: server.json(f"/api/run?id={row['id']}")["reading"] is None)

    rows = {unstamped(row["run"]): row["warnings"] for row in server.rows().values()}

    assert rows == incomplete[1]


def test_the_list_and_the_page_of_a_run_say_it_in_a_browser(open_page, server, incomplete):
    page = open_page(server, "tab=runs").page
    for name, warnings in incomplete[1].items():
        row = page.locator(f".runs.wide tr[data-id]:has(a.name:has-text('{name}_2'))")
        assert row.locator(".tags").text_content() == " ".join(f"⚠ {text}" for text in warnings)

    page.click("a.name:has-text('forked')")
    page.wait_for_selector(".run-head .warning")

    assert page.locator(".run-head .warning").all_text_contents() == ["⚠ 1 event of forks ignored"]
    page.wait_for_selector(".card >> text=1 event of forks ignored:")
