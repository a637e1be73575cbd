"""`import eventlog` provides the public objects and not their modules, and is fast."""

import subprocess
import sys
import types

import pytest

import eventlog


def python(program):
    command = [sys.executable, "-c", program]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


def test_every_public_name_is_an_object_and_no_module():
    for name in eventlog.__all__:
        assert not isinstance(getattr(eventlog, name), types.ModuleType), name


def test_names_that_modules_once_had_too_are_the_functions_and_the_active_run(tmp_path):
    for name in ("scan", "compact", "annotate", "log", "init", "finish"):
        assert isinstance(getattr(eventlog, name), types.FunctionType), name
    assert eventlog.run is None

    with eventlog.init(dir=tmp_path, save_interval=0) as run:
        assert eventlog.run is run
    assert eventlog.run is None


def test_no_import_of_a_module_changes_a_public_name():
    """A module of a package becomes an attribute of it: none may have a public object's name."""
    program = """
import importlib, pkgutil, eventlog
before = {name: getattr(eventlog, name) for name in (*eventlog.__all__, "run")}
for module in pkgutil.walk_packages(eventlog.__path__, "eventlog."):
    if not module.name.startswith("eventlog.integrations.") and "__main__" not in module.name:
        importlib.import_module(module.name)
print(*[name for name in before if getattr(eventlog, name) is not before[name]])
"""
    assert python(program) == []


def test_import_loads_neither_masking_nor_integrations_nor_the_command_nor_anything_but_orjson():
    program = (
        "import sys; before = set(sys.modules); import eventlog; print(*set(sys.modules) - before)"
    )
    loaded = python(program)

    late = ("eventlog.masking.", "eventlog.integrations", "eventlog.cli", "ctypes", "argparse")
    assert [name for name in loaded if name.startswith(late)] == []
    roots = {name.split(".")[0].lstrip("_") for name in loaded}
    known = {name.lstrip("_") for name in sys.stdlib_module_names} | {"eventlog", "orjson"}
    assert {root for root in roots if "sysconfigdata" not in root} <= known


@pytest.mark.parametrize(("module", "command"), [("eventlog", "compact"), ("tools", "compare")])
def test_the_commands_run_as_modules_of_python_too(module, command):
    shown = subprocess.run(
        [sys.executable, "-m", module, "--help"], capture_output=True, text=True, check=True
    ).stdout

    assert shown.startswith(f"usage: {'runs' if module == 'tools' else module} ")
    assert command in shown
