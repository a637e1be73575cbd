"""Each mutant of eventlog must make a test fail."""

import pytest

from tests.durability.mutants import MUTANTS, ROOT, killer


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_line_and_the_tests_of_each_mutant_are_there(mutant):
    text = (ROOT / "eventlog" / mutant.file).read_text()

    assert text.count(mutant.old) == 1
    assert [test for test in mutant.tests if not (ROOT / "tests" / test).exists()] == []


@pytest.mark.slow
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_each_mutant_is_killed(mutant):
    by = killer(mutant)

    print(f"{mutant.name}: {by}")
    assert by, "no test noticed"
