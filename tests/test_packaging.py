"""Installed in a project that has a tools/, a trainer.py and a tests/ of its own, it works.

The project is a folder with all three. Its environment has the package, once from a wheel and once
from `pip install -e .`, and finds the libraries in the environment of the tests. The default suite
tries the commands in one of both and a notebook in the other; `pytest -m slow` tries the rest.
"""

import json
import os
import shutil
import subprocess
import sys
import venv
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import nbclient
import nbformat
import pytest

import eventlog

ROOT = Path(__file__).parents[1]
WAYS = ("wheel", "editable")
INSTALLED = ("eventlog", "tools", "pyproject.toml", "README.md", "LICENSE")
OWN = "THIS_IS = 'my own'\n"
OWN_NAMES = """
import tools, trainer, tests
assert {tools.THIS_IS, trainer.THIS_IS, tests.THIS_IS} == {"my own"}
"""

SCRIPT = """
import eventlog, eventlog.integrations.logging_handler

with eventlog.init(name="mine", dir="out") as run:
    run.log({"loss": 2.0})
    run.log({"loss": 1.0})
with eventlog.open_run("out", run_name="loop") as run:
    run.log_iter(0, 2.0, 50.0)
    run.log_eval(1, 1.0, 1.5)
eventlog.load_run(run.journal_path).plot().savefig("loop.png")
"""


def only_in(quick):
    """In both environments; in the other one if slow tests are run."""
    ways = [pytest.param(w, marks=() if w == quick else pytest.mark.slow) for w in WAYS]
    return pytest.mark.parametrize("project", ways, indirect=True)


@pytest.fixture(scope="module", params=WAYS)
def project(request, tmp_path_factory):
    """The project's folder, and the environment that the package is installed in."""
    folder = tmp_path_factory.mktemp(request.param)
    source = copy_of_the_clone(folder / "source")
    python = new_environment(folder / "env")
    how = ["-e"] if request.param == "editable" else []
    install = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-index"]
    run(*install, "--no-deps", "--no-build-isolation", *how, source, cwd=folder)
    home = folder / "project"
    for name in ("tools/__init__.py", "trainer.py", "tests/__init__.py"):
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(OWN)
    (home / "train.py").write_text(OWN_NAMES + SCRIPT)
    run(python, "train.py", cwd=home)
    return SimpleNamespace(home=home, python=python, bin=python.parent)


def copy_of_the_clone(folder):
    """What a wheel is built from, so that building leaves nothing in the clone."""
    for name in INSTALLED:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        folder.mkdir(exist_ok=True)
        copy(ROOT / name, folder / name)
    return folder


def new_environment(folder):
    """An environment that has this one's libraries, but not what is on this one's path besides."""
    venv.create(folder, symlinks=True)
    python = folder / "bin" / "python"
    (packages,) = folder.glob("lib/*/site-packages")
    libraries = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    (packages / "libraries.pth").write_text("\n".join(libraries))
    return python


def run(*command, cwd):
    """What a command prints; it must succeed, and sees no PYTHONPATH."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    done = subprocess.run(
        [*map(str, command)], cwd=cwd, env=env, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_a_script_imports_its_own_modules_and_logs_beside_them(project):
    runs = [eventlog.load_run(path) for path in sorted((project.home / "out").glob("*.json"))]

    assert [run.status for run in runs] == ["completed", "completed"]
    assert [*runs[0].frame("evals")["val_loss"], *runs[1].frame("metrics")["loss"]] == [
        1.5,
        2.0,
        1.0,
    ]
    assert (project.home / "loop.png").read_bytes().startswith(b"\x89PNG")


@only_in("wheel")
def test_the_commands_are_not_those_of_the_projects_own_tools(project):
    listed = run(project.bin / "runs", "ls", "--json", "out", cwd=project.home)
    run(project.bin / "runs", "plot", "loop", "--out", "plot.png", cwd=project.home)
    run(project.bin / "runs", "export", "loop", "--to", "csv", "--out", "csv", cwd=project.home)
    run(project.python, "-m", "runjournal.tools", "show", "loop", cwd=project.home)
    verified = run(project.bin / "eventlog", "verify", "out", cwd=project.home)
    as_module = run(project.python, "-m", "eventlog", "verify", "out", cwd=project.home)

    assert listed.count("\n") == 2
    assert (project.home / "plot.png").exists()
    assert verified == as_module
    assert verified.count(": complete\n") == 2


@only_in("editable")
def test_a_notebook_has_frames_and_plots_beside_its_own_modules(project, monkeypatch):
    kernel(project, monkeypatch)
    cells = [
        OWN_NAMES + "import glob",
        "import eventlog\nrun = eventlog.load_run(*glob.glob('out/loop*.json'))",
        "print(run.frame('iterations')['loss'].tolist(), len(eventlog.frame('out')))",
        "run.plot()",
        "eventlog.plot(glob.glob('out/*.json'))",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells])

    nbclient.NotebookClient(
        notebook, kernel_name="project", resources={"metadata": {"path": str(project.home)}}
    ).execute()

    outputs = [cell.outputs for cell in notebook.cells]
    assert outputs[2][0].text == "[2.0] 2\n"
    assert "image/png" in outputs[3][0].data
    assert "image/png" in outputs[4][0].data


def kernel(project, monkeypatch):
    """A Jupyter kernel named `project`, in the environment of the project."""
    folder = project.home.parent / "jupyter"
    spec = folder / "kernels" / "project" / "kernel.json"
    spec.parent.mkdir(parents=True, exist_ok=True)
    argv = [str(project.python), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec.write_text(json.dumps({"argv": argv, "display_name": "project", "language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(folder))
    monkeypatch.delenv("PYTHONPATH", raising=False)


@pytest.mark.parametrize("project", ["wheel"], indirect=True)
def test_an_installation_has_two_names_and_every_file_of_the_two_folders(project):
    (packages,) = project.home.parent.glob("env/lib/*/site-packages")
    installed = {p.name for p in packages.iterdir()} - {"libraries.pth"}

    assert installed == {"eventlog", "runjournal", f"runjournal-{version('runjournal')}.dist-info"}
    assert files(packages / "eventlog") == files(ROOT / "eventlog")
    assert files(packages / "runjournal" / "tools") == files(ROOT / "tools")


def files(folder):
    return {
        path.relative_to(folder)
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_no_name_of_the_clone_but_two_can_be_imported(project):
    names = ("eventlog", "runjournal", "tools", "trainer", "tests", "data")
    code = f"import importlib.util as u; print(*[n for n in {names} if u.find_spec(n)])"

    assert run(project.python, "-P", "-c", code, cwd=project.home).split() == [*names[:2]]
