"""Keras: what `fit` computes, in a journal.

    model.fit(..., callbacks=[keras.callbacks.BackupAndRestore("backup"), JournalCallback()])

A `fit` that starts with a model that was restored goes on in the journal of that name.
"""

from typing import Any

import keras

import eventlog
from eventlog.integrations._guarded import guarded


class JournalCallback(keras.callbacks.Callback):
    """Logs by the optimizer's step: each batch as `batch/...`, each epoch by Keras' own names.

    `every` batches one is logged; 0: epochs alone. `settings` are `eventlog.init`'s.
    """

    def __init__(self, name: str = "keras", every: int = 1, **settings: Any) -> None:
        super().__init__()
        self.run: eventlog.ActiveRun | None = None
        self._every = every
        self._asked: dict[str, Any] = {"name": name, "reinit": "create_new"} | settings

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Begin the run here: only now whoever restores a model has done it."""
        if self.run is not None:
            return
        step = self._begun_at() or 0
        self.run = eventlog.init(**({"resume": "allow"} if step else {}) | self._asked)
        self._describe(self.run, step)

    @guarded
    def _begun_at(self) -> int:
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

    def _step(self) -> int:
        return int(self.model.optimizer.iterations)
