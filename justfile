# Everyday commands; `just` lists them. They use .venv, which `just setup` makes.

bin := justfile_directory() / ".venv/bin"

_default:
    @just --list --unsorted

# make .venv with all that tests and linters need
setup:
    python3 -m venv .venv
    {{bin}}/pip install -q -e '.[test,lint]'

# run ruff at each commit
hooks:
    {{bin}}/pip install -q pre-commit
    {{bin}}/pre-commit install

# train a small GPT, a minute on two CPU cores: just train --max_iters=100
train *FLAGS:
    {{bin}}/python trainer/train.py {{FLAGS}}

# run tests: just test tests/eventlog -k torn
test *ARGS:
    {{bin}}/pytest {{ARGS}}

# run the long proofs: just slow tests/durability
slow *ARGS:
    {{bin}}/pytest -m slow -n 0 {{ARGS}}

# format, and fix what ruff can fix
fix:
    {{bin}}/ruff check --fix
    {{bin}}/ruff format
    .ci/lint-page --write

# check style and types
lint:
    {{bin}}/ruff check
    {{bin}}/ruff format --check
    {{bin}}/mypy
    .ci/lint-page

# measure the speed of everything: just bench --only fold
bench *ARGS:
    {{bin}}/python -m tests.bench.run {{ARGS}}

# what must pass before a change lands, in a fresh clone
ci:
    .ci/run

# build the wheel into dist/
wheel:
    rm -rf build dist
    {{bin}}/pip wheel -q --no-deps -w dist .
    rm -rf build
