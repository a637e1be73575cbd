"""Eventlog and its rivals under the same tests: who gives back what was acknowledged?

    python -m tests.bench.rivals --quick        a few minutes, printed
    python -m tests.bench.rivals                an hour, and tests/bench/RESULTS.md is updated

The same four numbers a step go to every logger, its process is killed, its files are cut and
damaged, the power goes; then its own reader reads, and values (not counts) are compared.

A rival is one file here, an adapter with

    PACKAGES    what must be installed
    VARIANTS    name -> how it is set up; the first is the documented offline default
    LOG_FILES   globs of the files that hold the values
    PROMISE     what its documentation says about crashes
    write       a context manager that gives `log(step, values)`; `first` > 0: resume a run
    read        (step, name, value) of all that its own reader gives back; may raise midway

`child` runs them in processes of their own, `harness` has the tests, `report` the tables.
The extra `peers` in pyproject.toml has the versions of the published figures.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

Log = Callable[[int, dict[str, float]], None]
Value = tuple[int, str, float]


class Rival(Protocol):
    """What an adapter module has."""

    PACKAGES: Sequence[str]
    VARIANTS: dict[str, str]
    LOG_FILES: Sequence[str]
    PROMISE: str

    @staticmethod
    def write(folder: Path, variant: str, first: int) -> AbstractContextManager[Log]: ...

    @staticmethod
    def read(folder: Path) -> Iterator[Value]: ...


MODULES = (
    "eventlog_journal",
    "wandb_offline",
    "tensorboard_events",
    "mlflow_stores",
    "trackio_sqlite",
    "dvclive_tsv",
    "optuna_journal",
    "json_rewrite",
)


def rivals() -> dict[str, Rival]:
    """Every contestant by name, installed or not; a rival with two settings is there twice."""
    modules: list[Rival] = [import_module(f"{__name__}.{name}") for name in MODULES]  # type: ignore[misc]
    return {variant: module for module in modules for variant in module.VARIANTS}


def missing_packages(rival: Rival) -> list[str]:
    """What is not installed here of what it needs."""
    return [name for name in rival.PACKAGES if find_spec(name) is None]


def log_files(rival: Rival, folder: Path) -> list[Path]:
    """The files that hold a run's values, by path."""
    found = {path for glob in rival.LOG_FILES for path in folder.glob(glob) if path.is_file()}
    return sorted(found)
