"""A run in memory: its parts, and how they are saved and restored."""

import dataclasses
import math
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from trainer.checkpoint import read, verify
from trainer.checkpoint.layout import State
from trainer.checkpoint.run_files import files_of
from trainer.checkpoint.saver import Outcome, Saver
from trainer.config import TrainConfig
from trainer.console import display_path
from trainer.data.dataset import Batches
from trainer.distributed.parallel import Phase, cpu_copies, placed_like
from trainer.distributed.ranks import Ranks, micro_steps
from trainer.model.gpt import GPT
from trainer.optim.optimizer import LossScale, Optimizer
from trainer.optim.schedule import learning_rate_at
from trainer.training_logger import TrainingLogger


@dataclass
class Run:
    """The parts of a run. During training only `iter_num` and `best_val_loss` are replaced."""

    config: TrainConfig
    ranks: Ranks
    phase: Phase
    logger: TrainingLogger
    saver: Saver
    sampler: AbstractContextManager[object]  # logs CPU, memory, disk and GPUs while entered
    batches: Batches
    model: GPT  # the weights under their own names
    network: nn.Module  # the model as the phase wraps it: the one to call
    optimizer: Optimizer
    loss_scale: LossScale
    autocast: AbstractContextManager[Any]
    mfu_percent: Callable[[float], float]  # of one device, from the time of a step in ms
    iter_num: int = 0  # the next iteration
    best_val_loss: float = math.inf
    final_status: tuple[str, str | None] = ("completed", None)  # of the log, if all goes well
    must_save_first: bool = False  # a newer checkpoint appeared while this process started

    @property
    def n_micro_steps(self) -> int:
        """Micro-steps of each rank in an iteration."""
        return micro_steps(self.config.gradient_accumulation_steps, self.ranks.world_size)

    def learning_rate(self, iter_num: int) -> float:
        """The learning rate of an iteration."""
        config = self.config
        if not config.decay_lr:
            return config.learning_rate
        return learning_rate_at(
            iter_num,
            peak=config.learning_rate,
            floor=config.resolved_min_lr,
            warmup_iters=config.warmup_iters,
            decay_iters=config.resolved_lr_decay_iters,
            schedule=config.lr_schedule,
            cooldown_iters=config.resolved_cooldown_iters,
        )

    def say(self, line: str) -> None:
        """Print a line on rank 0."""
        if self.ranks.is_main:
            print(line, flush=True)

    # Saving

    def save(self, val_loss: float | None = None, *, is_best: bool = False) -> None:
        """Start to save a checkpoint of the state before iteration `iter_num`. Collective.

        `log_saved` logs its event when it is durable.
        """
        started = time.perf_counter()
        self.log_saved(wait=True)  # one at a time
        self._follow_moved_folder()
        self.saver.start(self.state(), val_loss=val_loss, is_best=is_best, started=started)
        if not self.config.async_checkpoint:
            self.log_saved(wait=True)

    def log_saved(self, *, wait: bool = False) -> None:
        """Log the checkpoint that has become durable since the last call, if any."""
        outcome = self.saver.outcome(wait=wait)
        if outcome is None or not self.ranks.is_main:
            return
        if outcome.saved is None:
            self.logger.log("error", error=f"checkpoint: {outcome.error}", iter=outcome.iter_num)
            print(
                f"the checkpoint of iteration {outcome.iter_num} was not saved: {outcome.error}; "
                f"{self.last_checkpoint}",
                file=sys.stderr,
                flush=True,
            )
            return
        if outcome.problem:
            self.logger.log("error", error=f"checkpoint: {outcome.problem}", iter=outcome.iter_num)
            print(outcome.problem, file=sys.stderr, flush=True)
        self._log_checkpoint(outcome)

    @property
    def last_checkpoint(self) -> str:
        """Which checkpoint of the run there is, in words. On rank 0."""
        if self.saver.saved_iter is None:
            return "this run has no checkpoint"
        return f"the last checkpoint, of iteration {self.saver.saved_iter}, is intact"

    def save_if_last_failed(self) -> None:
        """At the end: save the state if the last checkpoint was not saved. Collective.

        If that fails too, an event says so: nothing later will save it.
        """
        if not self.ranks.on_main(lambda: self.saver.error is not None):
            return
        self.save()
        self.log_saved(wait=True)
        if self.saver.error is not None:
            text = f"the state at the end was not saved: {self.saver.error}; {self.last_checkpoint}"
            self.logger.log(
                "alert", rule="checkpoint", state="raised", iter=self.iter_num, text=text
            )
            self.final_status = (self.final_status[0], text)

    def _log_checkpoint(self, outcome: Outcome) -> None:
        assert outcome.saved is not None
        self.logger.log_checkpoint(
            outcome.iter_num,
            outcome.saved.path,
            outcome.val_loss,
            time_ms=outcome.stall_ms,
            save_ms=outcome.save_ms,
            size_bytes=outcome.saved.size_bytes,
            sha256=outcome.saved.sha256,
            best=outcome.is_best,
        )

    def state(self) -> State:
        """A copy of all that is needed to resume before iteration `iter_num`. Collective.

        For a full checkpoint the tensors are on rank 0 only. It has no state of random generators:
        batches and dropout are functions of the seed and the iteration.
        """
        dataset = self.batches.dataset
        is_sharded = self.config.checkpoint_format == "sharded"
        gather = cpu_copies if is_sharded else self.phase.gather
        return {
            "model": gather(dict(self.model.named_parameters())),
            "optimizer": gather(self.optimizer.state()),
            "tied": self.model.tied,
            "scaler": self.loss_scale.state(),
            "model_args": dataclasses.asdict(self.model.config),
            "iter_num": self.iter_num,
            "best_val_loss": self.best_val_loss,
            "config": self.config.as_dict(),
            "journal": self.logger.position,
            "run": {
                "stem": self.saver.files.stem,
                "run_id": self.logger.run_id,
                "name": self.config.wandb_run_name,
            },
            "dataset": dataset.meta,
            "tokenizer": dataset.tokenizer,
        }

    def _follow_moved_folder(self) -> None:
        """Save beside the journal if the folder was moved during the run. On rank 0."""
        journal, files = self.logger.journal_path, self.saver.files
        if journal is None or journal.parent == files.out_dir.resolve():
            return
        out_dir = Path(display_path(journal.parent))
        self.say(f"{files.out_dir} was moved: checkpoints are now written to {out_dir}")
        self.saver.files = dataclasses.replace(files, out_dir=out_dir)

    # Restoring

    def rewind(self) -> bool:
        """Restore the newest checkpoint of this run; False if there is none. Collective."""
        self.log_saved(wait=True)
        self.ranks.barrier()
        path = self.ranks.on_main(self._newest_checkpoint)
        if path is None:
            return False
        self.restore(path, read.load_without_shards(path))
        self.logger.log("rewind", to_iter=self.iter_num, checkpoint=path)
        return True

    def _newest_checkpoint(self) -> Path | None:
        if self.saver.saved_iter is None:
            return None  # checkpoints in the folder would be those of another run
        files = self.saver.files
        try:
            return verify.newest_intact(files_of(files.out_dir, files.stem)).path
        except ValueError:
            return None

    @torch.no_grad()
    def restore(self, path: Path, state: State) -> None:
        """Restore the checkpoint at `path`; `state` is its content, of a folder without tensors."""
        owned = self.optimizer.parameters
        if path.is_dir():
            state |= read.load_shards(path, self._empty_shards(path))
        for name, parameter in self.model.named_parameters():
            parameter.copy_(placed(state["model"][name], parameter))
        own_state = {k: v for k, v in state["optimizer"].items() if k.rpartition(".")[0] in owned}
        self.optimizer.load_state(own_state, placed)
        self.loss_scale.load_state(state["scaler"])
        self.iter_num, self.best_val_loss = state["iter_num"], state["best_val_loss"]
        self.saver.saved_iter = self.iter_num

    def _empty_shards(self, path: Path) -> dict[str, dict[str, Tensor]]:
        """Empty tensors for this rank's parts of a sharded checkpoint."""
        shards: dict[str, dict[str, Tensor]] = {"model": {}, "optimizer": {}}
        parameters = dict(self.model.named_parameters())
        for kind, named in read.read_shapes(path).items():
            for name, (shape, dtype) in named.items():
                of = name if kind == "model" else name.rpartition(".")[0]
                if kind == "optimizer" and of not in self.optimizer.parameters:
                    continue
                is_like_parameter = shape == parameters[of].shape
                shards[kind][name] = (
                    torch.empty_like(parameters[of])
                    if is_like_parameter
                    else torch.empty(shape, dtype=dtype)
                )
        return shards


def placed(value: Tensor, parameter: Tensor) -> Tensor:
    """A tensor of a checkpoint, on the device and sharded as `parameter` is."""
    return value if isinstance(value, DTensor) else placed_like(value, parameter)
