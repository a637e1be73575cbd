"""The comb: leaves do not know each other, and no file takes the name of another module."""

import ast
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

TRAINER = Path(__file__).parents[2] / "trainer"
ROOMS = {path.stem: path for path in TRAINER.glob("*.py") if path.stem != "__init__"}

# Who may know whom; a room that is not named here knows nobody.
KNOWS = {
    "train": set(ROOMS) - {"train", "sample"},
    "sample": {"checkpoint", "flags", "model", "parallel", "tokenizer"},
    "prepare": {"corpus", "flags", "tokenizer"},
    "config": {"flags"},
}
BRIDGES = {"checkpoint", "training_logger"}


def imports(path):
    """Dotted names of what a file imports, `from a import b` being both `a` and `a.b`."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import breaks `python trainer/train.py`"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_knows_only_whom_it_may(room):
    known = {name.split(".")[1] for name in imports(ROOMS[room]) if name.startswith("trainer.")}

    assert known <= KNOWS.get(room, set())


@pytest.mark.parametrize("room", ROOMS)
def test_only_the_bridges_know_eventlog_and_only_its_face(room):
    import eventlog

    known = {name.split(".")[1] for name in imports(ROOMS[room]) if name.startswith("eventlog.")}

    assert known <= (set(eventlog.__all__) if room in BRIDGES else set())


def test_no_room_has_the_name_of_another_module():
    """`python trainer/train.py` puts trainer/ first on sys.path."""
    others = set(sys.stdlib_module_names) | set(packages_distributions())

    assert not set(ROOMS) & others
