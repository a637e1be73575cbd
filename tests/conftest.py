"""For all tests: how hard Hypothesis tries, how many tests run at once, and with how many threads.

HYPOTHESIS_PROFILE: `dev` by default, `ci`, or `deep`.
"""

import os
import sys
from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.durability.filesystems import Unavailable

# Several tests run at once: threads of one would spin where another's work.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Not the user's own index; its tests have one of their own.
os.environ["RUNS_CACHE"] = "off"

# Else each of the programs that the tests start would compile all that it imports again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# The same examples each time, so that unchanged code has the same result. `deep` finds new ones.
settings.register_profile("dev", max_examples=50, deadline=None, print_blob=True, derandomize=True)
settings.register_profile("ci", max_examples=200, deadline=None, print_blob=True)
settings.register_profile("deep", max_examples=5_000, deadline=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Skip a test that needs a mounted file system on a machine that cannot mount any."""
    try:
        return (yield)
    except Unavailable as why:
        pytest.skip(str(why))


def pytest_xdist_auto_num_workers(config: object) -> int:
    """Two workers a core: half of the time a test waits for a disk, a process or a clock."""
    return 2 * len(os.sched_getaffinity(0))
