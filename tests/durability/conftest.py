"""Skips tests that need mounted file systems on a machine that cannot mount any."""

import pytest

from tests.durability.filesystems import Unavailable


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    try:
        return (yield)
    except Unavailable as why:
        pytest.skip(str(why))
