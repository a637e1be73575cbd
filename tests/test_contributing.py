"""Everything that CONTRIBUTING.md, the change log, the workflow and the justfile name exists."""

import re
from pathlib import Path

import pytest

import eventlog

ROOT = Path(__file__).parents[1]
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()
FILES_WITH_PATHS = ["CONTRIBUTING.md", "justfile", ".pre-commit-config.yaml"]
WORKFLOW = (ROOT / ".github" / "workflows" / "ci.yml").read_text()


@pytest.mark.parametrize("name", FILES_WITH_PATHS)
def test_every_path_named_is_in_the_repository(name):
    text = (ROOT / name).read_text()
    paths = re.findall(r"\b(?:eventlog|trainer|tools|tests|docs)/[\w./]*\w", text)
    modules = [m.replace(".", "/") for m in re.findall(r"-m (tests\.[\w.]+)", text)]

    assert paths or modules or name.startswith(".")
    assert [path for path in paths if not (ROOT / path).exists()] == []
    assert [m for m in modules if not (ROOT / f"{m}.py").exists()] == []


def test_the_workflow_calls_ci_run_on_each_python_that_the_package_is_for():
    pythons = re.findall(r'"(3\.\d+)"', WORKFLOW)
    (lowest,) = re.findall(r'requires-python = ">=(3\.\d+)"', (ROOT / "pyproject.toml").read_text())

    assert "run: .ci/run" in WORKFLOW
    assert pythons == ["3.11", "3.12", "3.13", "3.14"]
    assert pythons[0] == lowest


def test_the_change_log_begins_with_the_coming_version():
    versions = re.findall(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)

    assert versions == [f"{eventlog.__version__.removesuffix('.dev0')} (unreleased)", "0.1.0"]


def test_a_recipe_of_the_justfile_that_is_named_exists():
    recipes = re.findall(r"^(\w+)(?: \*\w+)?:$", (ROOT / "justfile").read_text(), re.MULTILINE)

    assert recipes
    assert {*re.findall(r"`just (\w+)`", CONTRIBUTING)} <= {*recipes}
