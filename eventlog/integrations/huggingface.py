"""Hugging Face's `Trainer`: what it logs and saves, in a journal beside its checkpoints.

    Trainer(..., args=TrainingArguments("out", report_to="none"), callbacks=[JournalCallback()])

`trainer.train(resume_from_checkpoint=True)` goes on in the journal of the run that was killed.
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
from eventlog.integrations._guarded import guarded


class JournalCallback(TrainerCallback):
    """Logs on the main process, by global step. `settings` are `eventlog.init`'s.

    The folder is `output_dir`, the name `run_name` or that folder's, if nothing else is said.
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
        asked = {"dir": folder, "name": args.run_name or folder.name, "config": _config(args)}
        asked |= {"reinit": "create_new"} | self._settings
        if state.global_step:  # from a checkpoint: what came after it is taken again
            asked = {"resume": "allow"} | asked
        self.run = eventlog.init(**asked)
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


@guarded
def _config(args: Any) -> Any:  # its methods have no types
    return args.to_dict()


def _folder(args: TrainingArguments) -> Path:
    return Path(args.output_dir or "trainer_output")  # as `Trainer` has it
