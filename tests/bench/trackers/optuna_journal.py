"""Optuna's JournalFileBackend: JSON lines under a lock, one fsync each."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.bench.trackers import Log, Value

PACKAGES = ("optuna",)
VARIANTS = {
    "optuna-journal": "JournalFileBackend, one `trial.set_user_attr` a step "
    "(`report` holds one number), fsync each"
}
LOG_FILES = ("optuna.log",)
PROMISE = "safe for many processes on NFS; each append is synced"
STUDY = "trackers"


def _storage(folder: Path) -> Any:
    import optuna
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna.storages.JournalStorage(JournalFileBackend(str(folder / LOG_FILES[0])))


@contextmanager
def write(folder: Path, variant: str, first: int) -> Iterator[Log]:
    """A resumed study goes on with a new trial: one that was killed cannot be continued."""
    import optuna

    study = optuna.create_study(
        storage=_storage(folder), study_name=STUDY, load_if_exists=first > 0
    )
    trial = study.ask()
    yield lambda step, values: trial.set_user_attr(str(step), values)
    study.tell(trial, 0.0)


def read(folder: Path) -> Iterator[Value]:
    """All or nothing: `load_study` is the way to read a study."""
    import optuna

    if not (folder / LOG_FILES[0]).exists():  # opening it would make one
        return
    study = optuna.load_study(storage=_storage(folder), study_name=STUDY)
    for trial in study.get_trials(deepcopy=False):
        for step, values in trial.user_attrs.items():
            yield from ((int(step), name, value) for name, value in values.items())
