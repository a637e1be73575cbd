"""Hugging Face's `Trainer`: logs its metrics and checkpoints into a journal beside them.

    Trainer(..., args=TrainingArguments("out", report_to="none"), callbacks=[JournalCallback()])

`trainer.train(resume_from_checkpoint=True)` resumes the run in its journal.
"""

from pathlib import Path
from typing import Any

from transformers import (
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

import eventlog
from eventlog.integrations._guarded import defaults, guarded, log_idle


class JournalCallback(TrainerCallback):
    """Logs on the main process, by global step. `settings` are arguments of `eventlog.init`.

    By default the folder is `output_dir`, and the name `run_name` or else the folder's name. A
    training that an exception ends, which the program handles, leaves the run interrupted.
    """

    def __init__(self, **settings: Any) -> None:
        self.run: eventlog.ActiveRun | None = None
        self._settings = settings

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if not state.is_world_process_zero:
            return
        if self.run is not None:
            self.run.finish()
        folder = _folder(args)
        settings = {"dir": folder, "name": args.run_name or folder.name, "config": _config(args)}
        settings |= defaults() | self._settings
        if state.global_step:  # resumed from a checkpoint: later steps are done again
            settings = {"resume": "allow"} | settings
        self.run = eventlog.init(**settings)
        self.run.awaits = "its training did"  # no callback learns of an exception
        if self.run.resumed:
            self.run.rewind(state.global_step + 1)

    @guarded
    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if self.run is not None:
            self.run.log(logs or {}, step=state.global_step)

    @guarded
    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        path = _folder(args) / f"checkpoint-{state.global_step}"
        if self.run is not None and path.exists():
            self.run.log_checkpoint(state.global_step, path)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        log_idle(self.run)


@guarded
def _config(args: Any) -> Any:  # its methods are untyped
    return args.to_dict()


def _folder(args: TrainingArguments) -> Path:
    return Path(args.output_dir or "trainer_output")  # as `Trainer` has it
