"""Every value that a program logs is in every tool, as it was logged or in a stated form.

pytest -n 0 -m slow tests/tools/everything      # each framework that is installed: minutes
"""

import pytest

from tests.tools.everything.__main__ import place_of
from tests.tools.everything.programs import OWN, PROGRAMS
from tests.tools.everything.tools import TOOLS


@pytest.fixture(scope="module")
def own_loop(tmp_path_factory):
    return place_of(OWN, tmp_path_factory.mktemp("own"))


def check(tool, place):
    pytest.importorskip(tool.package, reason=f"pip install {tool.package}")

    seen = tool.read(place)

    assert {key: (seen.values.get(key), seen.expected.get(key)) for key in seen.wrong(place)} == {}
    assert seen.expected


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.name)
def test_each_tool_has_every_value_of_an_own_loop(tool, own_loop):
    check(tool, own_loop)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in PROGRAMS if name != OWN.name])
def test_each_tool_has_every_value_of_a_framework(name, tmp_path):
    if not PROGRAMS[name].is_installed:
        pytest.skip(f"pip install {PROGRAMS[name].package}")
    place = place_of(PROGRAMS[name], tmp_path)

    for tool in TOOLS:
        check(tool, place)
