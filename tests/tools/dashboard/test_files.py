"""The files of the page are exactly those that `page.html` loads."""

import re

from tools.dashboard.server import FILES, PAGE


def test_every_module_is_preloaded_so_that_imports_cost_no_further_round_trips():
    html = (PAGE / "page.html").read_text()

    loaded = re.findall(r'(?:href|src)="(/[\w.-]+\.(?:js|css|svg))"', html)

    assert sorted(loaded) == sorted(path for path in FILES if path != "/")
