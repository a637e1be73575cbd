"""FAULTS.md names a test for each fault, and some mutants; each of them is there."""

import re
from pathlib import Path

from tests.durability.mutants import MUTANTS

TESTS = Path(__file__).parents[1]
NAMED = re.findall(
    r"((?:\w+/)+test_\w+\.py)::(test_\w+)", (TESTS / "durability" / "FAULTS.md").read_text()
)


def test_every_test_that_is_named_is_there():
    missing = [
        f"{file}::{name}"
        for file, name in dict.fromkeys(NAMED)
        if not re.search(rf"^(?:    )?def {name}\b", _text(file), re.MULTILINE)
    ]

    assert len(NAMED) > 200
    assert missing == []


def test_every_mutant_that_is_named_is_there():
    text = (TESTS / "durability" / "FAULTS.md").read_text()
    lists = re.findall(r'mutants? ((?:"[^"]+"(?:, | and )?)+)', text)
    named = [name for names in lists for name in re.findall(r'"([^"]+)"', names)]

    assert len(named) > 10
    assert set(named) - {mutant.name for mutant in MUTANTS} == set()


def _text(file):
    path = TESTS / file
    return path.read_text() if path.exists() else ""
