"""Eventlog and other trackers under the same tests: are all acknowledged events read back?

    python -m tests.bench.trackers --quick        a few minutes, printed
    python -m tests.bench.trackers                an hour, and tests/bench/RESULTS.md is updated

Every tracker logs the same four numbers per step. Its process is killed, its files are cut and
damaged, the power is cut; then its own reader reads, and values (not counts) are compared.

Each tracker has an adapter here, a module with

    PACKAGES    what must be installed
    VARIANTS    name -> how it is set up; the first is the documented offline default
    LOG_FILES   globs of the files that hold the values
    PROMISE     what its documentation says about crashes
    write       a context manager that returns `log(step, values)`; `first` > 0: resume a run
    read        (step, name, value) of all that its own reader returns; may raise midway

`child` runs them in processes of their own, `harness` has the tests, `report` the tables.
The extra `peers` in pyproject.toml has the versions of the published results.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

Log = Callable[[int, dict[str, float]], None]
Value = tuple[int, str, float]


class Tracker(Protocol):
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


def trackers() -> dict[str, Tracker]:
    """Every tracker by name, installed or not; one with two settings is listed twice."""
    modules: list[Tracker] = [import_module(f"{__name__}.{name}") for name in MODULES]  # type: ignore[misc]
    return {variant: module for module in modules for variant in module.VARIANTS}


def missing_packages(tracker: Tracker) -> list[str]:
    """The packages that it needs and that are not installed."""
    return [name for name in tracker.PACKAGES if find_spec(name) is None]


def log_files(tracker: Tracker, folder: Path) -> list[Path]:
    """The files that hold a run's values, by path."""
    found = {path for glob in tracker.LOG_FILES for path in folder.glob(glob) if path.is_file()}
    return sorted(found)
