"""Lightning: a journal as a logger.

    Trainer(logger=JournalLogger("out", name="mine", resume="allow"))

With `resume`, `fit(ckpt_path=...)` resumes the run in its journal: the steps that it does again
replace the earlier ones.
"""

import sys
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.exceptions import SIGTERMException

import eventlog
from eventlog.integrations._guarded import defaults, guarded, log_idle

_EXIT_BY_SIGTERM = 143  # as a shell has it


class JournalLogger(Logger):
    """Logs on rank 0, by Lightning's step. `settings` are arguments of `eventlog.init`."""

    def __init__(self, dir: str | Path = "out", name: str = "lightning", **settings: Any) -> None:
        super().__init__()
        self._settings: dict[str, Any] = defaults() | {"dir": dir, "name": name} | settings
        self._run: eventlog.ActiveRun | None = None

    @property
    @rank_zero_experiment
    def experiment(self) -> eventlog.ActiveRun:
        """The run; the first access begins it."""
        if self._run is None:
            self._run = eventlog.init(**self._settings)
            again = {"id": self._run.id, "resume": "must"}  # for another `fit` after a failed one
            self._settings = {k: v for k, v in self._settings.items() if k != "rewind_to"} | again
        return self._run

    @property
    def name(self) -> str:
        return str(self._settings["name"])

    @property
    def version(self) -> str:
        """The id of the run; to read it after a failed fit does not resume the run."""
        run_id = self._settings.get("id") if self._run is None else None
        return str(self.experiment.id if run_id is None else run_id)

    @property
    def save_dir(self) -> str:
        return str(self._settings["dir"])

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        _log(self.experiment, metrics, step)  # only the beginning of the run may raise

    @rank_zero_only
    def log_hyperparams(
        self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any
    ) -> None:
        _update(self.experiment, params)

    @rank_zero_only
    def after_save_checkpoint(self, checkpoint_callback: ModelCheckpoint) -> None:
        path = getattr(checkpoint_callback, "_last_checkpoint_saved", "")
        step = getattr(checkpoint_callback, "_last_global_step_saved", 0)
        if path:
            _log_checkpoint(self.experiment, step, path)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """A failed fit ends the run, as its exception says; after a successful one a test may
        follow. `finished` is no end: under Slurm it comes before a checkpoint, and the fit goes on
        until it is killed."""
        if status == "success":
            log_idle(self._run)
        elif status != "finished" and self._run is not None:
            run, self._run = self._run, None
            _end(run, sys.exc_info()[1])


@guarded
def _log(run: eventlog.ActiveRun, metrics: Mapping[str, float], step: int | None) -> None:
    run.log(metrics, step=step)


@guarded
def _update(run: eventlog.ActiveRun, params: Any) -> None:
    run.config.update(params)


@guarded
def _log_checkpoint(run: eventlog.ActiveRun, step: int, path: str) -> None:
    run.log_checkpoint(step, path)


@guarded
def _end(run: eventlog.ActiveRun, error: BaseException | None) -> None:
    if error is None:
        run.finish(exit_code=1)
        return
    if isinstance(error, SIGTERMException):  # a SystemExit without a code, which is success
        error = SystemExit(_EXIT_BY_SIGTERM)
    run.__exit__(type(error), error, error.__traceback__)
