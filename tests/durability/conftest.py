"""Where a machine cannot mount file systems, the tests that need them are skipped, by reason."""

import pytest

from tests.durability.filesystems import Unavailable


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    try:
        return (yield)
    except Unavailable as why:
        pytest.skip(str(why))
