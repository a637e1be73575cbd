"""Keras: logs the metrics of `fit` into a journal.

    model.fit(..., callbacks=[keras.callbacks.BackupAndRestore("backup"), JournalCallback()])

A `fit` that starts with a restored model resumes the run of that name.
"""

from typing import Any

import keras

import eventlog
from eventlog.integrations._guarded import defaults, guarded, log_idle


class JournalCallback(keras.callbacks.Callback):
    """Logs by the optimizer's step: batches as `batch/...`, epochs under Keras' own names.

    `every`: log each batch whose step is a multiple of it; 0: epochs only. `settings` are
    arguments of `eventlog.init`.
    """

    def __init__(self, name: str = "keras", every: int = 1, **settings: Any) -> None:
        super().__init__()
        self.run: eventlog.ActiveRun | None = None
        self._every = every
        self._settings: dict[str, Any] = defaults() | {"name": name} | settings

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Begin the run here: other callbacks have restored the model by now."""
        if self.run is None:
            step = self._first_step() or 0
            self.run = eventlog.init(**({"resume": "allow"} if step else {}) | self._settings)
            self._describe(self.run, step)
        self.run.awaits = "its fit did"  # no callback learns of an exception

    @guarded
    def _first_step(self) -> int:
        return self._step()

    @guarded
    def _describe(self, run: eventlog.ActiveRun, step: int) -> None:
        if run.resumed:
            run.rewind(step + 1)
        run.config.update({"fit": self.params, "optimizer": self.model.optimizer.get_config()})

    @guarded
    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        step = self._step()
        if self.run is not None and self._every and step % self._every == 0:
            self.run.log({f"batch/{name}": value for name, value in (logs or {}).items()}, step)

    @guarded
    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if self.run is not None:
            self.run.log({"epoch": epoch} | (logs or {}), step=self._step())

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        log_idle(self.run)

    def _step(self) -> int:
        return int(self.model.optimizer.iterations)
