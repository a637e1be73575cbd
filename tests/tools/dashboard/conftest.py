"""`open_page`: the page in a real browser, Debian's Chromium, driven by playwright.

apt-get install chromium && pip install playwright
"""

import os
import shutil
import time
from urllib.parse import urlsplit

import pytest

CHROMIUM = (
    os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
)

POINTS = """async (key) => {
  const { shownGrid } = await import("/main.js");
  const grid = shownGrid();
  return Object.fromEntries([...grid.curves.runs].map(([id, run]) => {
    const points = run.series.get(key)?.points;
    return [id, points ? [...points.x.subarray(0, points.n)].map((x, i) => [x, points.y[i]]) : []];
  }));
}"""


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api")
    if not CHROMIUM:
        pytest.skip("no chromium: apt-get install chromium")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"],
        )
        yield browser
        browser.close()


class OpenPage:
    """A page in the browser, its requests and its errors."""

    def __init__(self, page, server):
        self.page, self.server = page, server
        self.requests, self.errors = [], []
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("dialog", lambda dialog: self.errors.append(f"a dialog: {dialog.message}"))
        page.on("console", self._on_console)

    def _on_console(self, message):
        if message.type == "error" and "Failed to load resource" not in message.text:
            self.errors.append(message.text)

    def open(self, view=""):
        self.page.goto(f"{self.server.address}#{view}")
        self.page.wait_for_selector("#content > *:not(#loading)")
        return self

    def points(self, key="loss"):
        """By run: the points that are drawn, [x, y]."""
        return self.page.evaluate(POINTS, key)

    def wait(self, condition, timeout_s=20):
        give_up = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < give_up, (condition(), self.points(), self.errors)
            self.page.wait_for_timeout(50)

    def wait_for_iters(self, *iters):
        """Until each run that is drawn has just these iterations, in this order."""
        expected = sorted(map(list, iters))
        self.wait(lambda: sorted([x for x, _ in p] for p in self.points().values()) == expected)


@pytest.fixture
def open_page(browser):
    """Opens the page of a server. It must make no requests to other hosts, and have no errors."""
    opened = []

    def open_view(server, view="", **context):
        page = browser.new_context(
            viewport={"width": 1200, "height": 800} | context.pop("size", {}), **context
        ).new_page()
        opened.append(OpenPage(page, server))
        return opened[-1].open(view)

    yield open_view
    for one in opened:
        foreign = [
            u
            for u in one.requests
            if urlsplit(u).hostname != "127.0.0.1" and not u.startswith("blob:")
        ]
        one.page.context.close()
        assert foreign == []
        assert one.errors == []
