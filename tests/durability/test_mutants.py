"""A suite that is always green proves nothing: each fault that is put in must turn it red."""

import pytest

from tests.durability.mutants import MUTANTS, killer


@pytest.mark.slow
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_each_mutant_is_killed(mutant):
    by = killer(mutant)

    print(f"{mutant.name}: {by}")
    assert by, "no test noticed"
