"""The page without a mouse, and for weak eyes: checked in a real browser, by axe-core too.

pip install axe-playwright-python
"""

import re
from pathlib import Path

import pytest

import eventlog
from tests.tools.dashboard.pages import serving, until
from tests.tools.dashboard.test_edit import token_of
from tools.plot.theme import THEMES

axe = pytest.importorskip("axe_playwright_python.sync_playwright")

PAGE = Path(__file__).parents[3] / "tools" / "dashboard" / "page"
VIEWS = {
    "charts": "", "by time, means": "x=time&mean=seeds", "no series found": "find=nothing",
    "list": "tab=runs", "compare": "tab=compare", "study": "tab=study&of=g",
    "run": "tab=run&run=ID",
}  # fmt: skip


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """Runs of a study, one with NaN and a tag, one interrupted, on a page that may edit."""
    out = tmp_path_factory.mktemp("accessible")
    for k in range(12):
        config = {"lr": 10.0 ** -(k % 4), "act": "ab"[k % 2], "seed": k}
        metadata = {"group": "g", "trial": k}
        with eventlog.open_run(out, config=config, metadata=metadata, save_interval=0) as run:
            for i in range(20):
                run.log_iter(i, float("nan") if k == 3 and i > 15 else 3.0 - i / 20 - k / 50, 50.0)
            run.log_eval(19, 2.0, 2.0 - k / 50)
            run.log("metrics", step=19, **{f"layer{n}/norm": 1.0 for n in range(14)})
    eventlog.annotate(run.journal_path, "tag", add=["good"], remove=[])
    with serving(out, "--edit") as server:
        header = {"authorization": f"Bearer {token_of(server)}"}
        until(lambda: len(server.json("/api/runs", **header)["runs"]) == 12)
        yield server


@pytest.fixture
def page(browser, served, request):
    """The page at a size, in the colours of a theme."""
    width, theme = request.param
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=theme)
    page.goto(served.address)
    page.wait_for_selector(".panel[data-points]")
    yield page
    page.close()


def violations(page):
    page.wait_for_timeout(700)
    found = axe.Axe().run(page).response["violations"]
    return [(one["id"], one["nodes"][0]["target"]) for one in found]


def show(page, view):
    id = page.evaluate("async () => (await (await fetch('/api/runs')).json()).runs[0].id")
    page.goto(page.url.partition("#")[0] + "#" + view.replace("ID", id))


EACH = pytest.mark.parametrize(
    "page", [(1400, "light"), (1400, "dark"), (390, "light")], indirect=True, ids=str
)


@EACH
def test_no_view_has_a_finding_of_axe(page):
    found = {}
    for name, view in VIEWS.items():
        show(page, view)
        found[name] = violations(page)

    assert {name: of_view for name, of_view in found.items() if of_view} == {}


@EACH
def test_neither_settings_nor_keys_have_a_finding_of_axe(page):
    page.hover(".panel")
    page.click(".panel button[aria-label^=Settings]")
    settings = violations(page)
    page.keyboard.press("Escape")
    page.keyboard.press("?")

    assert (settings, violations(page)) == ([], [])


CONTROLS = """() => [...document.querySelectorAll("a[href], button, input, select, summary")]
  .filter((one) => one.checkVisibility() && !one.disabled && one.tabIndex >= 0)
  .map((one, i) => (one.dataset.control ??= String(i)))"""


@pytest.mark.parametrize(
    "view", ["", "tab=runs", "tab=compare", "tab=study&of=g", "tab=run&run=ID"]
)
@pytest.mark.parametrize("page", [(1400, "light")], indirect=True, ids=str)
def test_every_control_is_reached_by_the_tab_key_and_shows_that_it_has_the_focus(page, view):
    show(page, view)
    page.wait_for_timeout(700)
    expected = set(page.evaluate(CONTROLS))
    reached, unmarked = set(), []

    for _ in range(2 * len(expected) + 20):
        page.keyboard.press("Tab")
        number, style = page.evaluate(
            """() => [document.activeElement.dataset.control,
              getComputedStyle(document.activeElement).outlineStyle]"""
        )
        reached.add(number)
        if number and style == "none":
            unmarked.append(number)

    assert expected - reached == set()
    assert unmarked == []


def contrast(a, b):
    """WCAG 2.2: relative luminance."""

    def luminance(colour):
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        r, g, b = [p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * r + 0.7152 * g + 0.0722 * b

    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_lines_and_marks_stand_out_from_the_ground_of_page_and_plot(theme):
    css = re.findall(r"--([\w-]+): (#\w{6});", (PAGE / "theme.css").read_text())
    half = len(css) // 2
    colours = dict(css[:half] if theme == "light" else css[half:])
    lines = re.search(rf"{theme}: \[(.*?)\]", (PAGE / "theme.js").read_text())[1]
    marks = [colours[name] for name in ("mark", "cursor", "superseded", "bad", "accent")]

    on_page = {c: contrast(c, colours["panel"]) for c in re.findall(r"#\w{6}", lines) + marks}
    on_plot = {c: contrast(c, THEMES[theme].ground) for c in THEMES[theme].runs}

    assert min(on_page.values()) >= 3
    assert min(on_plot.values()) >= 3
    assert len(on_page) >= 10
