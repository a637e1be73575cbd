"""Series on the page, in a real browser: found by name, without a number, by what a run defined."""

import math

import pytest

import eventlog
from tests.tools.dashboard.pages import serving_here, until

N_NAMES = 2_000


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    """A run with 2,000 metrics, and one of the trainer with 500 columns."""
    out = tmp_path_factory.mktemp("wide")
    with eventlog.open_run(out, run_name="wide", save_interval=0) as run:
        for i in range(3):
            values = {f"layer{k:04}/norm": float(i + k) for k in range(N_NAMES)}
            run.log("metrics", step=i, **values)
    with eventlog.open_run(out, run_name="deep", save_interval=0) as run:
        for i in range(3):
            run.log_iter(i, 3.0, 50.0, **{f"grad{k:03}": float(i * k) for k in range(500)})
    with serving_here(out) as server:
        until(lambda: len(server.rows()) == 2)
        yield server


def run_view(server, name, view=""):
    (id,) = [row["id"] for row in server.rows().values() if row["run"].startswith(name)]
    return f"picks={id}{view}"


def titles(page):
    return page.locator(".panel h3 > span").all_text_contents()


def test_of_thousands_of_series_the_page_says_how_many_it_does_not_draw(open_page, wide):
    page = open_page(wide, run_view(wide, "wide")).page

    page.wait_for_selector(f".grid > .hint >> text=200 of {N_NAMES:,} series: find them by name")

    assert page.locator(".panel").count() == 200


@pytest.mark.parametrize(
    ("run", "text", "expected"),
    [
        ("wide", "layer1999/norm", ["layer1999/norm"]),
        ("wide", "layer199[78]*", ["layer1997/norm", "layer1998/norm"]),
        ("deep", "GRAD499 loss", ["loss", "grad499"]),
    ],
)
def test_a_series_beyond_the_limit_is_found_by_name_and_drawn(open_page, wide, run, text, expected):
    opened = open_page(wide, run_view(wide, run))
    opened.page.keyboard.press("f")
    opened.page.keyboard.type(text)

    opened.wait(lambda: titles(opened.page) == expected)

    opened.wait(lambda: opened.page.locator(".panel[data-points='3']").count() == len(expected))
    again = open_page(wide, opened.page.url.partition("#")[2])
    again.wait(lambda: titles(again.page) == expected)


def test_a_name_that_matches_nothing_is_said_and_escape_shows_all_again(open_page, wide):
    opened = open_page(wide, run_view(wide, "deep", "&find=unknown"))
    opened.page.wait_for_selector(".grid > .hint >> text=No series matches unknown")

    opened.page.keyboard.press("f")
    opened.page.keyboard.press("Escape")

    opened.wait(
        lambda: opened.page.locator(".section-name small").all_text_contents() == ["2", "500"]
    )
    opened.page.click("button:has-text('grad*')")
    opened.wait(lambda: opened.page.locator(".panel").count() == 200)


@pytest.fixture(scope="module")
def defined(tmp_path_factory):
    """A run with definitions, resumed at step 3 of 5: it takes the last two steps again."""
    out = tmp_path_factory.mktemp("defined")
    for begin, end, factor in ((0, 5, 10), (3, 6, 100)):
        with eventlog.init(name="r", dir=out, id="r1", resume="allow", quiet=True) as run:
            run.define_metric("val/acc", step_metric="seen", unit="%", summary="max")
            run.define_metric("cost", goal="minimize")
            run.define_metric("debug/*", hidden=True)
            for i in range(begin, end):
                bad = {"bad": math.nan, "phase": "warmup"} if begin == 0 else {}
                values = {"seen": i * factor, "val/acc": 50.0 + i % 3, "cost": 9.0 - i}
                run.log(values | {"debug/a": i} | bad, step=i)
    with serving_here(out) as server:
        (row,) = until(server.rows).values()
        yield server, row["id"]


def test_a_chart_without_a_number_says_what_was_logged(open_page, defined):
    server, id = defined
    page = open_page(server, f"picks={id}&find=bad phase").page
    page.wait_for_selector(".panel[data-key=phase][data-points]")

    notes = page.locator(".panel .empty").all_text_contents()

    assert notes == [
        "no number: 5 x NaN at steps 0 to 4",
        "no number: 5 x text, the last 'warmup'",
    ]


def test_a_hidden_series_is_not_drawn_but_found_by_name(open_page, defined):
    server, id = defined
    opened = open_page(server, f"tab=run&run={id}")
    opened.page.wait_for_selector('.panel[data-key="val/acc"][data-points]')
    names = titles(opened.page), opened.page.locator(".series td.setting").all_text_contents()
    hint = opened.page.text_content(".grid > .hint")

    opened.page.fill("input.find", "debug/a")
    opened.wait(lambda: titles(opened.page) == ["debug/a"])
    opened.page.wait_for_selector(".series td.setting >> text=debug/a")

    assert not any("debug/a" in shown for shown in names)
    assert hint == "2 hidden or without a number: find them by name (f)."


def test_the_unit_is_on_the_axis_and_the_summary_and_the_goal_are_in_the_table(open_page, defined):
    server, id = defined
    page = open_page(server, f"tab=run&run={id}").page
    page.wait_for_selector('.panel[data-key="val/acc"][data-points]')
    page.wait_for_selector(".series tbody tr")

    label = page.get_attribute('.panel[data-key="val/acc"] .plot', "aria-label")
    rows = {
        row.locator("td").first.text_content(): row.locator("td").all_text_contents()
        for row in page.locator(".series tbody tr").all()
    }

    assert label.startswith("val/acc, %: 1 run.")
    assert rows["val/acc (max)"][1] == "52 %"
    assert rows["cost"][4] == "4best"


SHOWN = """async () => {
  const grid = (await import("/main.js")).shownGrid();
  const run = [...grid.curves.runs.values()][0];
  return {
    resumes: grid.resumes("seen"),
    superseded: run.superseded.filter(({ key }) => key === "val/acc")
      .map(({ series }) => [[...series.points.x], [...series.points.y]]),
  };
}"""


def test_resumes_and_superseded_rows_are_drawn_by_a_series_too(open_page, defined):
    server, id = defined
    page = open_page(server, f"tab=run&run={id}").page
    page.wait_for_selector('.panel[data-key="val/acc"][data-points]')

    shown = page.evaluate(SHOWN)

    assert shown["superseded"] == [[[30, 40], [50.0, 51.0]]]
    assert len(shown["resumes"]) == 1
