"""The panels of the page, arranged by a person, in a real browser."""

import json
from urllib.parse import quote

import pytest

import eventlog
from tests.tools.dashboard.pages import SCRIPT, serving_here, until

NAMES = [
    "train/loss", "train/acc", "val/loss", "val/acc", "lr", "__proto__", f"odd/{SCRIPT}", "odd/b",
    *(f"layer{k}/norm" for k in range(70)),
]  # fmt: skip


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """Two runs with 78 series of 50 values."""
    out = tmp_path_factory.mktemp("layout")
    for k in range(2):
        with eventlog.open_run(out, run_name=f"run{k}", save_interval=0) as run:
            for i in range(50):
                noise = (i % 2 + k) / 10
                values = dict.fromkeys(NAMES, 1.0) | {"train/loss": 3.0 - i / 50 + noise}
                run.log("metrics", step=i, **values | {"lr": 1e-3 * (i % 5), "val/loss": 20.0 + i})
    with serving_here(out) as server:
        until(lambda: len(server.rows()) == 2)
        yield server


def open_panel(open_page, server, name="train/loss", view=""):
    opened = open_page(server, view)
    opened.page.wait_for_selector(f"{panel(name)}[data-points]")
    return opened


def panel(name):
    return f".panel[data-key={json.dumps(name)}]"


def settings_of(page, name):
    page.hover(panel(name))
    page.click(f"{panel(name)} button[aria-label^=Settings]")
    page.wait_for_selector(".panel-menu[open]")


def names(page):
    return page.locator(".panel h3 > span").all_text_contents()


def sections(page):
    return page.locator(".section-name span").all_text_contents()


def chart(page, name, get):
    """What `get`, an expression in JavaScript, is of the chart of a series."""
    return page.evaluate(
        """async (name) => {
          const chart = (await import("/main.js")).shownGrid().charts.get(name);
          return GET;
        }""".replace("GET", get),
        name,
    )


def test_series_are_in_sections_and_those_of_a_closed_one_are_not_fetched(open_page, served):
    opened = open_panel(open_page, served)
    page = opened.page
    assert sections(page) == ["Key metrics", "train/", "val/", "layer*/", "odd/", "Other"]
    fetched = opened.points("layer7/norm")
    assert len(fetched) == 2
    assert not any(fetched.values())

    page.click("button:has-text('layer*/')")

    page.wait_for_selector(f"{panel('layer7/norm')}[data-points='100']")
    again = open_panel(open_page, served, view=page.url.partition("#")[2])
    again.page.wait_for_selector(f"{panel('layer7/norm')}[data-points='100']")


def test_a_series_joins_the_panel_of_another_one_on_either_axis(open_page, served):
    page = open_panel(open_page, served).page
    settings_of(page, "train/loss")
    page.click("text=+ val/loss")
    page.fill(".panel-menu input[type=text]", "lr")
    page.click(".panel-menu button:has-text('Right axis')")

    page.keyboard.press("Escape")

    page.wait_for_selector(f"{panel('train/loss')}[data-points='300']")
    low, high, right = chart(page, "train/loss", "[chart.y.low, chart.y.high, chart.yRight.high]")
    assert low < 2.1 < 69 < high
    assert 4e-3 <= right < 5e-3
    assert not {"val/loss", "lr"} & {*names(page)}
    legend = page.locator(f"{panel('train/loss')} .legend li").all_text_contents()
    assert legend == ["train/loss", "val/loss", "lrright"]


def test_series_of_one_panel_differ_in_colour_for_one_run_and_in_dashes_for_several(
    open_page, served
):
    layout = quote('{"panels":{"train/loss":{"with":["val/loss"]}}}')
    page = open_panel(open_page, served, view=f"layout={layout}").page
    looks = "chart.lines.map((line) => [line.colour, line.dash.join()])"
    several = chart(page, "train/loss", looks)

    page.click("tr[data-id] input[type=checkbox]")

    page.wait_for_selector(f"{panel('train/loss')}[data-points='100']")
    one = chart(page, "train/loss", looks)
    assert len({*map(tuple, several)}) == 4
    (colour, dash), (other_colour, other_dash) = several[0], several[2]
    assert colour == other_colour
    assert dash != other_dash
    (colour, dash), (other_colour, other_dash) = one
    assert colour != other_colour
    assert dash == other_dash


def test_a_pinned_panel_is_first_and_a_hidden_one_comes_back_by_its_name(open_page, served):
    page = open_panel(open_page, served).page
    settings_of(page, "val/acc")
    page.click(".panel-menu button:has-text('Pin')")
    settings_of(page, "train/acc")
    page.click(".panel-menu button:has-text('Hide')")

    again = open_panel(open_page, served, view=page.url.partition("#")[2]).page

    for shown in (page, again):
        shown.wait_for_selector("text=1 panel hidden")
        assert names(shown)[0] == "val/acc"
        assert sections(shown)[0] == "Pinned"
        assert "train/acc" not in names(shown)
    page.click("text=1 panel hidden")
    page.click("button:has-text('Show train/acc')")
    page.wait_for_selector(f"{panel('train/acc')}[data-points]")


def test_what_was_joined_to_a_hidden_panel_has_its_own_and_no_panel_at_all_is_named(
    open_page, served
):
    panels = '"panels":{"train/loss":{"with":["val/loss","val/loss"]}}'
    view = quote(f'{{{panels},"hide":["train/loss"]}}')
    shown = open_panel(open_page, served, "val/loss", f"layout={view}").page
    assert "1 panel hidden" in shown.inner_text(".layout-bar")

    every = quote(json.dumps({"hide": NAMES}))
    page = open_page(served, f"layout={every}").page

    page.wait_for_selector("text=All panels are hidden.")
    assert f"{len(NAMES)} panels hidden" in page.inner_text(".layout-bar")


def test_panels_are_moved_with_the_pointer_and_by_the_keyboard(open_page, served):
    page = open_panel(open_page, served).page
    first = names(page)[:3]
    assert first == ["train/loss", "val/loss", "lr"]

    page.drag_and_drop(f"{panel('lr')} h3", f"{panel('train/loss')} h3")
    page.wait_for_function("location.hash.includes('move')")
    after_drag = names(page)[:3]
    settings_of(page, "lr")
    page.focus(".panel-menu button:has-text('Move later')")
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")

    assert after_drag == ["lr", "train/loss", "val/loss"]
    page.wait_for_function(
        "document.querySelector('.panel h3 > span').textContent === 'train/loss'"
    )
    assert names(page)[:3] == ["train/loss", "val/loss", "lr"]


def test_a_panel_is_resized_by_its_corner(open_page, served):
    page = open_panel(open_page, served).page
    width = page.locator(panel("train/loss")).bounding_box()["width"]
    box = page.locator(f"{panel('train/loss')} .corner").bounding_box()

    page.mouse.move(box["x"] + 8, box["y"] + 8)
    page.mouse.down()
    page.mouse.move(box["x"] + 8 + width, box["y"] + 8 + 240, steps=5)
    page.mouse.up()

    page.wait_for_timeout(300)
    larger = page.locator(panel("train/loss")).bounding_box()
    assert larger["width"] > 1.9 * width
    assert larger["height"] > 480


def test_scale_smoothing_and_range_of_a_panel_are_its_own(open_page, served):
    page = open_panel(open_page, served, view="smooth=10").page
    settings_of(page, "train/loss")
    page.select_option(".panel-menu [aria-label=Scale]", "log")
    page.select_option(".panel-menu [aria-label=Smoothing]", "0")
    page.fill(".panel-menu [aria-label=To]", "8")
    page.keyboard.press("Tab")

    page.keyboard.press("Escape")

    page.wait_for_timeout(300)
    state = "[chart.y.isLog, chart.y.high, chart.lines[0].smoothed !== null]"
    assert chart(page, "train/loss", state) == [True, 8, False]
    assert chart(page, "val/loss", "[chart.y.isLog, chart.y.high > 69]") == [False, True]


def test_a_schedule_and_evaluations_are_not_smoothed_unless_their_panel_is(open_page, served):
    page = open_panel(open_page, served, view="smooth=10").page
    is_smoothed = "chart.lines[0].smoothed !== null"
    page.wait_for_selector(f"{panel('lr')}[data-points='100']")
    page.wait_for_timeout(300)
    by_default = [chart(page, name, is_smoothed) for name in ("train/loss", "val/loss", "lr")]

    settings_of(page, "lr")
    page.select_option(".panel-menu [aria-label=Smoothing]", "20")

    assert by_default == [True, False, False]
    page.wait_for_timeout(300)
    assert chart(page, "lr", is_smoothed)


@pytest.mark.parametrize(
    "layout",
    [
        "{", "[]", "1", "null", '{"pin":"train/loss"}', '{"panels":[1]}',
        '{"move":[["a"],3,[4,5]]}',
        '{"panels":{"__proto__":{"with":["train/loss"]},"constructor":3},"open":{"__proto__":true}}',
        '{"panels":{"train/loss":{"with":["train/loss","train/loss","gone"],"w":1e9,"low":"a"}}}',
        '{"panels":{"train/loss":{"low":5,"high":-5,"y":"log","smooth":-1,"right":[[]]}}}',
        '{"panels":{"train/loss":{"with":["val/loss"]},"val/loss":{"with":["train/loss"]}}}',
        '{"move":[["train/loss","train/loss"],["lr","gone"]],"hide":["gone"],"pin":["gone","lr","lr"]}',
    ],
)  # fmt: skip
def test_any_layout_in_the_address_shows_the_panels(open_page, served, layout):
    opened = open_page(served, f"layout={quote(layout)}")

    opened.page.wait_for_selector(f"{panel('train/acc')}[data-points]")

    shown = names(opened.page)
    assert {"train/loss", "val/loss"} & {*shown}
    assert len(shown) == len({*shown})


def test_any_series_is_chosen_as_the_axis_of_the_others(open_page, served):
    opened = open_panel(open_page, served)

    opened.page.select_option(".axis-series", "val/loss")

    expected = [20.0 + i for i in range(50)]
    opened.wait(
        lambda: all([x for x, _ in p] == expected for p in opened.points("train/loss").values())
    )
    assert chart(opened.page, "train/loss", "[chart.axis, chart.x.low]") == ["val/loss", 20]
