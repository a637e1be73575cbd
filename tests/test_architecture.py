"""Who may import whom: `trainer -> eventlog <- tools`, and nothing else."""

import ast
import sys
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = {name: sorted((ROOT / name).rglob("*.py")) for name in ("eventlog", "trainer", "tools")}
OURS = set(ROOMS)


def imports(path):
    """Every module a file imports, in functions and under `if` too, as dotted names."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def files(*names):
    return [pytest.param(p, id=str(p.relative_to(ROOT))) for n in names for p in ROOMS[n]]


@pytest.mark.parametrize("path", files("eventlog"))
def test_eventlog_needs_orjson_and_the_standard_library_alone(path):
    roots = {name.split(".")[0] for name in imports(path)}

    assert roots - set(sys.stdlib_module_names) <= {"orjson", "eventlog"}


@pytest.mark.parametrize("path", files("trainer", "tools"))
def test_trainer_and_tools_do_not_know_each_other(path):
    roots = {name.split(".")[0] for name in imports(path)}

    assert (roots & OURS) <= {"eventlog", path.relative_to(ROOT).parts[0]}


@pytest.mark.parametrize("path", files("trainer", "tools"))
def test_only_the_face_of_eventlog_is_used_outside_of_it(path):
    import eventlog

    face = {f"eventlog.{name}" for name in eventlog.__all__} | {"eventlog"}

    assert {name for name in imports(path) if name.split(".")[0] == "eventlog"} <= face


@pytest.mark.parametrize("path", files("trainer"))
def test_no_room_of_the_trainer_bears_a_name_that_python_or_a_package_has(path):
    """`python trainer/train.py` puts trainer/ first on the path: its names would win."""
    assert path.stem not in taken_names()


@cache
def taken_names():
    """Of the standard library and of all installed packages: 0.6 s to read, of some dozens."""
    return set(sys.stdlib_module_names) | set(packages_distributions()) - OURS


@pytest.mark.parametrize("path", files("trainer"))
def test_nothing_imports_train(path):
    """Run as a script it is `__main__`: an import would be a second copy of it."""
    assert not [name for name in imports(path) if f"{name}.".startswith("trainer.train.")]


def test_the_rooms_of_eventlog_form_no_ring():
    arrows = {}
    for path in ROOMS["eventlog"]:
        if path.stem != "__init__":
            named = {n.split(".")[1] for n in imports(path) if n.startswith("eventlog.")}
            arrows[path.stem] = named & {p.stem for p in ROOMS["eventlog"]}

    left = dict(arrows)
    while ground := [room for room, below in left.items() if not below & left.keys()]:
        for room in ground:
            del left[room]
    assert left == {}


def test_only_disk_changes_files():
    """Everything that must survive goes through one object that a test can replace."""
    writes = {"write", "fsync", "fdatasync", "replace", "rename", "ftruncate", "truncate", "unlink"}
    for path in ROOMS["eventlog"]:
        if path.stem == "disk":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                assert not (node.value.id == "os" and node.attr in writes), f"{path}:{node.lineno}"
            if isinstance(node, ast.Attribute):
                assert node.attr not in {"write_bytes", "write_text"}, f"{path}:{node.lineno}"


def test_nothing_stands_at_the_root_but_what_the_readme_lists():
    allowed = {"eventlog", "trainer", "tools", "tests", "pyproject.toml", "README.md", "LICENSE"}
    import subprocess

    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.split()
    roots = {name.split("/")[0] for name in listed}

    assert {r for r in roots if not r.startswith(".")} <= allowed | {"CHANGELOG.md"}
