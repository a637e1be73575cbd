"""The programs that log it: an own loop, and each framework's own loop with its integration.

`python -m tests.tools.everything.programs PROGRAM FOLDER SESSION`; session 0 kills itself.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tests.tools.everything.logged import (
    KILLED_AT,
    METRICS,
    RESUMED_AT,
    STEPS,
    Key,
    row,
    sessions,
    stored,
)

SETTINGS: dict[str, Any] = {"name": "everything", "resume": "allow", "quiet": True}
CONFIG = {"lr": 6e-4, "seed": 1}


@dataclass(frozen=True)
class Program:
    """How a program logs, and what its framework makes of names and steps."""

    name: str
    package: str
    session: Callable[[Path, int], None]
    prefix: str = ""
    first_step: int = 0
    replaced: frozenset[str] = frozenset()
    """Names that the framework logs itself."""

    def stored(self, session: int | None = None) -> dict[Key, Any]:
        """Each value that the run must have, or that a session logs, by name and step."""
        values = stored([m for m in METRICS if m.name not in self.replaced], session)
        return {
            (self.prefix + self._bare(name), step + self.first_step): value
            for (name, step), value in values.items()
        }

    def _bare(self, name: str) -> str:
        """`batch/step` is not reserved, so it has no `_` more."""
        reserved = {m.stored_name: m.name for m in METRICS if m.stored_name}
        return reserved.get(name, name) if self.prefix else name

    @property
    def is_installed(self) -> bool:
        return find_spec(self.package) is not None

    def run(self, folder: Path) -> Path:
        """Log both sessions, each in a process of its own; the path of the journal."""
        for session, code in enumerate((-signal.SIGKILL, 0)):
            command = [sys.executable, "-W", "ignore", "-m", __name__]
            done = subprocess.run(
                [*command, self.name, str(folder), str(session)],
                env=os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
                capture_output=True,
                text=True,
            )
            if done.returncode != code:
                raise RuntimeError(done.stderr)
        (journal,) = folder.rglob("*.jsonl")
        return journal


def own_loop(folder: Path, session: int) -> None:
    import eventlog

    run = eventlog.init(dir=folder, config=CONFIG, **SETTINGS)
    for step in sessions()[session]:
        run.log(row(step, session), step=step)
    kill_first(session)
    run.finish()


def kill_first(session: int, step: int = KILLED_AT) -> None:
    """End the first session before this step."""
    if session == 0 and step == KILLED_AT:
        os.kill(os.getpid(), signal.SIGKILL)


def hugging_face(folder: Path, session: int) -> None:
    import torch
    from transformers import Trainer, TrainingArguments

    from eventlog.integrations.huggingface import JournalCallback

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(2, 1)

        def forward(self, x: Any, labels: Any) -> Any:
            return {"loss": ((self.layer(x) - labels) ** 2).mean()}

    class Logging(Trainer):
        def training_step(self, *args: Any, **kwargs: Any) -> Any:
            kill_first(session, self.state.global_step)
            self.log(row(self.state.global_step, session))
            self.state.log_history.clear()  # which it writes as JSON
            return super().training_step(*args, **kwargs)

    arguments = TrainingArguments(
        str(folder), max_steps=STEPS, save_steps=RESUMED_AT, logging_strategy="no",
        report_to="none", disable_tqdm=True, use_cpu=True, per_device_train_batch_size=2,
    )  # fmt: skip
    data = [{"x": torch.ones(2), "labels": torch.zeros(1)}] * 64
    callbacks = [JournalCallback(**SETTINGS)]
    trainer = Logging(Model(), arguments, train_dataset=data, callbacks=callbacks)
    trainer.train(resume_from_checkpoint=bool(session))


def lightning(folder: Path, session: int) -> None:
    import torch
    from lightning.pytorch import LightningModule, Trainer
    from lightning.pytorch.callbacks import ModelCheckpoint

    from eventlog.integrations.lightning import JournalLogger

    class Model(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(2, 1)

        def training_step(self, batch: Any, at: int) -> Any:
            kill_first(session, self.global_step)
            assert self.logger is not None
            self.logger.log_metrics(row(self.global_step, session), self.global_step)
            return self.layer(batch).mean()

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), 1e-3)

    checkpoint = ModelCheckpoint(folder, every_n_train_steps=RESUMED_AT, save_top_k=-1)
    trainer = Trainer(
        max_steps=STEPS, logger=JournalLogger(folder, **SETTINGS), callbacks=[checkpoint],
        accelerator="cpu", enable_progress_bar=False, enable_model_summary=False,
        log_every_n_steps=1,
    )  # fmt: skip
    data = torch.utils.data.DataLoader(torch.ones(1_000, 2), batch_size=2)
    at = next(folder.glob("*.ckpt")) if session else None
    trainer.fit(Model(), data, ckpt_path=at)


def keras(folder: Path, session: int) -> None:
    os.environ.setdefault("KERAS_BACKEND", "torch")
    import keras
    import numpy as np

    from eventlog.integrations.keras import JournalCallback

    class Logging(keras.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
            assert logs is not None
            step = int(self.model.optimizer.iterations) - 1
            kill_first(session, step)
            if step + 1 == RESUMED_AT and session == 0:
                self.model.save(folder / "model.keras")
            logs.clear()
            logs.update(row(step, session))

    if session:
        model = keras.models.load_model(folder / "model.keras")
    else:
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        model.compile("sgd", "mse")
    n = STEPS - RESUMED_AT if session else STEPS
    x, y = np.ones((n, 2)), np.zeros((n, 1))
    callbacks = [Logging(), JournalCallback(dir=folder, **SETTINGS)]
    model.fit(x, y, batch_size=1, verbose=0, callbacks=callbacks)


def accelerate(folder: Path, session: int) -> None:
    from accelerate import Accelerator

    from eventlog.integrations.accelerate import JournalTracker

    settings = {k: v for k, v in SETTINGS.items() if k != "name"}
    accelerator = Accelerator(
        cpu=True, log_with=JournalTracker(SETTINGS["name"], dir=folder, **settings)
    )
    accelerator.init_trackers("project", CONFIG)
    for step in sessions()[session]:
        accelerator.log(row(step, session), step=step)
    kill_first(session)
    accelerator.end_training()


OWN = Program("own loop", "eventlog", own_loop)
PROGRAMS = {
    program.name: program
    for program in (
        OWN,
        Program("Hugging Face", "transformers", hugging_face, replaced=frozenset({"epoch"})),
        Program("Lightning", "lightning", lightning),
        Program("Keras", "keras", keras, prefix="batch/", first_step=1),
        Program("Accelerate", "accelerate", accelerate),
    )
}


if __name__ == "__main__":
    PROGRAMS[sys.argv[1]].session(Path(sys.argv[2]), int(sys.argv[3]))
