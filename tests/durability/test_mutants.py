"""Each mutant of eventlog must make a test fail."""

import pytest

from tests.durability.mutants import MUTANTS, killer


@pytest.mark.slow
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_each_mutant_is_killed(mutant):
    by = killer(mutant)

    print(f"{mutant.name}: {by}")
    assert by, "no test noticed"
