"""Who may import whom: `trainer -> eventlog <- tools`, and each package what is below it."""

import ast
import subprocess
import sys
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECTS = ("eventlog", "trainer", "tools")
FILES = {name: sorted((ROOT / name).rglob("*.py")) for name in PROJECTS}

# Which packages the modules of a package import, besides their own. `eventlog` alone means the
# modules at its root: errors, blocks, interruption, disk. Every arrow goes to a line further up.
BELOW = {
    "eventlog": set(),
    "eventlog.format": {"eventlog"},
    "eventlog.masking": {"eventlog", "eventlog.format"},
    "eventlog.read": {"eventlog", "eventlog.format"},
    "eventlog.write": {"eventlog", "eventlog.format", "eventlog.masking", "eventlog.read"},
    "eventlog.fold": {"eventlog", "eventlog.format", "eventlog.read", "eventlog.write"},
    "eventlog.tracker": {
        "eventlog",
        "eventlog.format",
        "eventlog.masking",
        "eventlog.read",
        "eventlog.write",
        "eventlog.fold",
    },
    "eventlog.cli": {
        "eventlog",
        "eventlog.format",
        "eventlog.read",
        "eventlog.write",
        "eventlog.fold",
        "eventlog.tracker",
    },
    "eventlog.integrations": {"eventlog"},
    "tools.core": set(),
    "tools.plot": {"tools.core"},
    "tools.transfer.sources": {"tools.core"},
    "tools.transfer.targets": {"tools.core", "tools.transfer.sources"},
    "tools.transfer": {"tools.core", "tools.transfer.sources", "tools.transfer.targets"},
    "tools.archive": {"tools.core"},
    "tools.live": {"tools.core"},
    "tools.tuning": {"tools.core", "tools.plot"},
    "tools.commands": {"tools.core", "tools.plot"},
    "tools.terminal": {"tools.core", "tools.live"},
    "tools.monitor": {"tools.core", "tools.live"},
    "tools.dashboard": {"tools.core", "tools.live", "tools.monitor", "tools.tuning"},
    "tools": {
        "tools.core",
        "tools.plot",
        "tools.transfer",
        "tools.archive",
        "tools.tuning",
        "tools.commands",
        "tools.terminal",
        "tools.monitor",
        "tools.dashboard",
    },
    "trainer.model": set(),
    "trainer.optim": set(),
    "trainer.storage": set(),
    "trainer.data": {"trainer.storage"},
    "trainer.distributed": set(),
    "trainer.checkpoint": {"trainer.storage", "trainer.distributed"},
    "trainer": {
        "trainer.model",
        "trainer.optim",
        "trainer.data",
        "trainer.distributed",
        "trainer.checkpoint",
    },
}
# These are at the root and import from all packages; what else is there imports none of them.
ON_TOP = {
    "eventlog.__init__",
    "eventlog.__main__",
    "trainer.train",
    "trainer.setup",
    "trainer.sample",
    "trainer.prepare",
}
KNOW_EVENTLOG = {
    "trainer.storage.files",
    "trainer.checkpoint.journal",
    "trainer.step_log",
    "trainer.summary",
    "trainer.training_logger",
}


@cache
def imports(path, *, for_types=True):
    """Every module a file imports, in functions and under `if` too, as dotted names.

    `for_types`: those under `if TYPE_CHECKING`, too, which no program imports.
    """
    names = []
    tree = ast.parse(path.read_text())
    if not for_types:
        tree.body = [node for node in tree.body if not is_for_types(node)]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = [node.module] if node.module else []
            if node.level:
                base = [*path.relative_to(ROOT).parts[: -node.level], *base]
            names += [".".join([*base, alias.name]) for alias in node.names]
    return names


def is_for_types(node):
    return isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"


def module(path):
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def package(name):
    return name.rpartition(".")[0]


MODULES = {module(path): path for name in PROJECTS for path in FILES[name]}


def module_imported(name):
    """The module that has what is imported: `eventlog.disk` of `eventlog.disk.Disk`."""
    while name and name not in MODULES and f"{name}.__init__" not in MODULES:
        name = package(name)
    return name if name in MODULES else f"{name}.__init__"


def arrows(path):
    """The modules of the same project that a file imports."""
    project = module(path).split(".")[0]
    found = {module_imported(n) for n in imports(path) if n.split(".")[0] == project}
    return found - {module(path)}


def files(*names):
    return [pytest.param(p, id=str(p.relative_to(ROOT))) for n in names for p in FILES[n]]


@pytest.mark.parametrize("path", files("eventlog"))
def test_eventlog_needs_orjson_and_the_standard_library_alone(path):
    roots = {name.split(".")[0] for name in imports(path, for_types=False)}

    optional = {path.stem} if package(module(path)) == "eventlog.integrations" else set()
    if path.stem == "huggingface":
        optional = {"transformers"}
    if path.stem == "command_line":
        optional = {"shtab"}  # for completion alone
    assert roots - set(sys.stdlib_module_names) <= {"orjson", "eventlog"} | optional


@pytest.mark.parametrize("path", files("trainer", "tools"))
def test_trainer_and_tools_do_not_know_each_other(path):
    roots = {name.split(".")[0] for name in imports(path)}

    assert (roots & set(PROJECTS)) <= {"eventlog", path.relative_to(ROOT).parts[0]}


@pytest.mark.parametrize("path", files("trainer", "tools"))
def test_only_the_public_names_of_eventlog_are_used_outside_of_it(path):
    assert_public_names_alone(path)


@pytest.mark.parametrize("path", [p for p in files("eventlog") if "integrations" in p.id])
def test_integrations_use_the_public_names_of_eventlog(path):
    assert_public_names_alone(path, "eventlog.integrations.")


def assert_public_names_alone(path, but="-"):
    import eventlog

    public = {f"eventlog.{name}" for name in eventlog.__all__} | {"eventlog"}
    used = {name for name in imports(path) if name.split(".")[0] == "eventlog"}

    assert {name for name in used if not name.startswith(but)} <= public


@pytest.mark.parametrize("path", files("trainer"))
def test_only_the_listed_modules_of_the_trainer_know_eventlog(path):
    roots = {name.split(".")[0] for name in imports(path)}

    assert "eventlog" not in roots or module(path) in KNOW_EVENTLOG


@pytest.mark.parametrize("path", files(*PROJECTS))
def test_every_arrow_between_packages_goes_down(path):
    name = module(path)
    if name in ON_TOP:
        return
    below = {package(found) for found in arrows(path)} - {package(name)}

    assert below <= BELOW[package(name)]


@pytest.mark.parametrize("path", [p for p in files("tools") if p.id.startswith("tools/core/")])
def test_the_core_of_tools_imports_no_other_package_of_tools(path):
    assert {package(name) for name in arrows(path)} <= {"tools.core"}


def test_the_table_of_packages_has_all_of_them_and_no_ring():
    packages = {package(name) for name in MODULES}
    assert BELOW.keys() == packages
    order = list(BELOW)

    upward = {
        (name, below)
        for name in order
        for below in BELOW[name]
        if order.index(below) >= order.index(name)
    }
    assert upward == set()


def test_modules_form_no_ring():
    left = {name: arrows(path) & MODULES.keys() - ON_TOP for name, path in MODULES.items()}
    while ground := [name for name, below in left.items() if not below & left.keys()]:
        for name in ground:
            del left[name]
    assert left == {}


def test_the_top_modules_are_imported_by_top_modules_only():
    importers = {
        (name, found)
        for name, path in MODULES.items()
        for found in arrows(path) & ON_TOP
        if name not in ON_TOP and package(name) != "eventlog.integrations"
    }

    assert importers == set()


@pytest.mark.parametrize("path", files("trainer"))
def test_no_module_at_the_trainers_root_has_the_name_of_a_python_module_or_package(path):
    """`python trainer/train.py` puts trainer/ first on the path: its names would win."""
    inside = path.relative_to(ROOT / "trainer").parts

    assert inside[0].removesuffix(".py") not in foreign_names()


@cache
def foreign_names():
    """Of the standard library and of all installed packages: 0.6 s to read, of some dozens."""
    return set(sys.stdlib_module_names) | set(packages_distributions()) - set(PROJECTS)


@pytest.mark.parametrize("path", files("trainer"))
def test_nothing_imports_train(path):
    """Run as a script it is `__main__`: an import would be a second copy of it."""
    assert not [name for name in imports(path) if f"{name}.".startswith("trainer.train.")]


def test_only_read_and_fold_know_that_many_records_are_read_at_once():
    knowing = {
        package(name) for name, path in MODULES.items() if "eventlog.read.batch" in arrows(path)
    }

    assert knowing == {"eventlog.read", "eventlog.fold"}


def test_only_disk_changes_files():
    """Everything that must survive goes through one object that a test can replace."""
    writes = {"write", "fsync", "fdatasync", "replace", "rename", "ftruncate", "truncate", "unlink"}
    for path in FILES["eventlog"]:
        if path.stem == "disk":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                assert not (node.value.id == "os" and node.attr in writes), f"{path}:{node.lineno}"
            if isinstance(node, ast.Attribute):
                assert node.attr not in {"write_bytes", "write_text"}, f"{path}:{node.lineno}"


def test_the_root_has_only_the_files_listed_here():
    folders = {"eventlog", "trainer", "tools", "tests", "docs"}
    texts = {"README.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE"}
    settings = {"pyproject.toml", "justfile"}
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.split()

    roots = {name.split("/")[0] for name in listed}

    assert {root for root in roots if not root.startswith(".")} <= folders | texts | settings
