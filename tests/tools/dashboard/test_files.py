"""The files of the page are exactly those that `index.html` loads."""

import re

from tools.dashboard.server import PAGE


def test_every_module_is_preloaded_so_that_imports_cost_no_further_round_trips():
    html = (PAGE / "index.html").read_text()

    loaded = re.findall(r'(?:href|src)="/([\w.-]+\.(?:js|css|svg))"', html)

    assert sorted([*loaded, "index.html"]) == sorted(path.name for path in PAGE.iterdir())
