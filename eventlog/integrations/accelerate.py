"""Accelerate: a journal as a tracker.

    accelerator = Accelerator(log_with=JournalTracker("mine", dir="out", resume="allow"))
    accelerator.init_trackers("project", config)

A step that is logged again after `load_state` replaces what was logged at it before. The run ends
with `accelerator.end_training()`; no callback tells of an earlier end of the training.
"""

from typing import Any

from accelerate.tracking import GeneralTracker, on_main_process

import eventlog
from eventlog.integrations._guarded import defaults, guarded


class JournalTracker(GeneralTracker):
    """Logs on the main process. `settings` are arguments of `eventlog.init`."""

    name = "runjournal"
    requires_logging_directory = False
    main_process_only = True

    def __init__(self, run_name: str = "accelerate", **settings: Any) -> None:
        super().__init__()
        self.run: eventlog.ActiveRun | None = None
        self._settings: dict[str, Any] = defaults() | {"name": run_name} | settings

    @on_main_process
    def start(self) -> None:
        self.run = eventlog.init(**self._settings)

    @property
    def tracker(self) -> eventlog.ActiveRun | None:
        return self.run

    @on_main_process
    @guarded
    def store_init_configuration(self, values: dict[str, Any]) -> None:
        if self.run is not None:
            self.run.config.update(values)

    @on_main_process
    @guarded
    def log(self, values: dict[str, Any], step: int | None = None, **kwargs: Any) -> None:
        if self.run is not None:
            self.run.log(values, step=step)

    @on_main_process
    @guarded
    def finish(self) -> None:
        if self.run is not None:
            self.run.finish()
