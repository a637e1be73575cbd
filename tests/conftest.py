"""How hard Hypothesis tries: `dev` by default, `ci`, or `deep`, by HYPOTHESIS_PROFILE."""

import os

from hypothesis import settings

# The same examples each time: who changes nothing sees the same. `deep` looks for new ones.
settings.register_profile("dev", max_examples=50, deadline=None, print_blob=True, derandomize=True)
settings.register_profile("ci", max_examples=200, deadline=None, print_blob=True)
settings.register_profile("deep", max_examples=5_000, deadline=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))


def pytest_xdist_auto_num_workers(config: object) -> int:
    """Two workers a core: half of the time a test waits for a disk, a process or a clock."""
    return 2 * len(os.sched_getaffinity(0))
