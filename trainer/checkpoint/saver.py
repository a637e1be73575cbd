"""Checkpoints written beside the training: the loop waits for a copy, a thread for the disk.

One at a time: a second one waits for the first. What was saved is told to whoever asks next, so
that the journal is written from the loop's own thread and in its order.
"""

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist

from trainer.checkpoint import checkpoint, run_files
from trainer.checkpoint.checkpoint import CheckpointFormat, NotBest, Saved, State
from trainer.checkpoint.run_files import RunFiles
from trainer.distributed.ranks import Ranks


@dataclass
class Outcome:
    """How a save ended, for its event."""

    iter_num: int
    val_loss: float | None
    is_best: bool
    stall_ms: float
    """What it cost the loop."""
    save_ms: float
    """From the copy until the disk had it."""
    saved: Saved | None
    error: Exception | None = None
    problem: str = ""
    """What else went wrong, of a checkpoint that is saved."""


class Saver:
    """The checkpoints of one run.

    `files` says which run's: until it is set they are written into `out_dir` itself.

    Args:
        keep: how many of the latest stay.
        is_async: False writes in the loop's own thread.
    """

    def __init__(
        self,
        out_dir: Path,
        ranks: Ranks,
        *,
        format: CheckpointFormat = "full",
        keep: int = 1,
        is_async: bool = True,
    ) -> None:
        self.files = RunFiles(out_dir, "")
        self._ranks = ranks
        self._format, self._keep, self._is_async = format, keep, is_async
        self._thread: threading.Thread | None = None
        self._outcome: Outcome | None = None
        # A group of its own, over the CPU: the thread's words must not mix with the loop's.
        self._group: dist.ProcessGroup | None = None
        if format == "sharded" and ranks.world_size > 1:
            self._group = dist.new_group(backend="gloo")

    def begin(self, state: State, *, val_loss: float | None, is_best: bool, started: float) -> None:
        """Save `state`: copies that nobody changes any more. The save before must be over.

        Collective if sharded; else only rank 0 does anything.

        Args:
            started: when the loop stopped for it, by time.perf_counter.
        """
        assert self._thread is None, "the save before is not over"
        if self._format == "full" and not self._ranks.is_main:
            return
        copied = time.perf_counter()
        outcome = Outcome(
            state["iter_num"], val_loss, is_best, 1000 * (copied - started), 0.0, None
        )

        def write() -> None:
            try:
                outcome.saved = self._write(state, is_best)
            except NotBest as trouble:
                outcome.saved, outcome.is_best = trouble.saved, False
                outcome.problem = str(trouble)
            except Exception as error:  # a disk that refuses costs a checkpoint, not the run
                outcome.error = error
            self._publish(outcome)
            outcome.save_ms = 1000 * (time.perf_counter() - copied)

        self._outcome = outcome
        self._thread = threading.Thread(target=write, name="checkpoint")
        self._thread.start()
        if not self._is_async:
            self._thread.join()
            outcome.stall_ms += outcome.save_ms

    def outcome(self, *, wait: bool = False) -> Outcome | None:
        """How the save ended that was begun last, once; None if it goes on or there is none.

        Each rank's own part of it: only on rank 0 is there a `saved`.
        """
        if self._thread is None:
            return None
        self._thread.join(None if wait else 0)
        if self._thread.is_alive():
            return None
        outcome, self._thread, self._outcome = self._outcome, None, None
        return outcome

    def _write(self, state: State, is_best: bool) -> Saved | None:
        folder = self.files.folder
        if self._format == "full":
            folder.mkdir(parents=True, exist_ok=True)
            return checkpoint.save_full(folder, state, is_best=is_best, keep=self._keep)
        return checkpoint.save_sharded(
            folder, state, is_best=is_best, keep=self._keep, group=self._group
        )

    def _publish(self, outcome: Outcome) -> None:
        """Let the names in the out_dir itself point to what was saved; on rank 0."""
        if outcome.saved is None or not self.files.stem:
            return
        try:
            run_files.publish(self.files, outcome.saved.path, is_best=outcome.is_best)
        except OSError as error:
            outcome.problem = (
                f"{outcome.saved.path} is saved, but nothing in {self.files.out_dir} itself points "
                f"to it: {error}"
            )


def copy_of(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """This rank's own parts, copied to the CPU; what has two names is copied once."""
    copies: dict[int, torch.Tensor] = {}
    for tensor in tensors.values():
        if id(tensor) not in copies:
            copies[id(tensor)] = tensor.detach().to("cpu", copy=True)
    return {name: copies[id(tensor)] for name, tensor in tensors.items()}
