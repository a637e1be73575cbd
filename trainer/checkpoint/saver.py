"""Checkpoints written beside the training: the loop waits for a copy, a thread for the disk.

One checkpoint at a time. The outcome is collected by the training thread, which also logs it: the
journal is written by one thread, in the order of the loop.
"""

import threading
import time
from dataclasses import dataclass
from pathlib import Path

import torch.distributed as dist

from trainer.checkpoint import run_files, write
from trainer.checkpoint.layout import CheckpointFormat, State
from trainer.checkpoint.run_files import RunFiles
from trainer.checkpoint.write import LinkFailed, Saved
from trainer.distributed.ranks import Ranks


@dataclass
class Outcome:
    """How a save ended; the fields of its event."""

    iter_num: int
    val_loss: float | None
    is_best: bool
    stall_ms: float
    """How long the loop waited."""
    save_ms: float
    """From the copy until the checkpoint was durable."""
    saved: Saved | None
    error: Exception | None = None
    """Why the checkpoint was not saved."""
    problem: str = ""
    """What else failed although the checkpoint is saved."""


class Saver:
    """Saves the checkpoints of one run.

    They are written to the folder in `files`; until that is set, to `out_dir` itself.

    Args:
        keep: how many of the latest checkpoints are kept.
        is_async: False writes in the training thread.
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
        self.saved_iter: int | None = None
        """The iteration of the newest durable checkpoint, on rank 0."""
        self.error: Exception | None = None
        """Why the last save that has ended saved nothing, on rank 0."""
        self._ranks = ranks
        self._format, self._keep, self._is_async = format, keep, is_async
        self._thread: threading.Thread | None = None
        self._outcome: Outcome | None = None
        # A CPU group of its own: collectives of the thread must not mix with those of the loop.
        self._group: dist.ProcessGroup | None = None
        if format == "sharded" and ranks.world_size > 1:
            self._group = dist.new_group(backend="gloo")

    def start(self, state: State, *, val_loss: float | None, is_best: bool, started: float) -> None:
        """Start to save `state`, which nobody may change any more. The last save must have ended.

        Collective if sharded; otherwise only rank 0 saves.

        Args:
            started: when the loop stopped for this save, by time.perf_counter.
        """
        assert self._thread is None, "the previous save has not ended"
        if self._format == "full" and not self._ranks.is_main:
            return
        copied = time.perf_counter()
        stall_ms = 1000 * (copied - started)
        outcome = Outcome(state["iter_num"], val_loss, is_best, stall_ms, 0.0, None)
        self._outcome = outcome
        self._thread = threading.Thread(
            target=self._save, args=(state, outcome, copied), name="checkpoint"
        )
        self._thread.start()
        if not self._is_async:
            self._thread.join()
            outcome.stall_ms += outcome.save_ms

    def outcome(self, *, wait: bool = False) -> Outcome | None:
        """The outcome of the last save, once; None if it has not ended or there is none.

        Each rank has the outcome of its own part; `saved` is set on rank 0 only.
        """
        if self._thread is None:
            return None
        self._thread.join(None if wait else 0)
        if self._thread.is_alive():
            return None
        outcome, self._thread, self._outcome = self._outcome, None, None
        if outcome is not None:
            self.error = outcome.error
        if outcome is not None and outcome.saved is not None:
            self.saved_iter = outcome.iter_num
        return outcome

    def _save(self, state: State, outcome: Outcome, copied: float) -> None:
        """Write `state` and record in `outcome` how it ended. In the thread."""
        try:
            outcome.saved = self._write(state, outcome.is_best)
        except LinkFailed as error:
            outcome.saved, outcome.is_best = error.saved, False
            outcome.problem = str(error)
        except Exception as error:  # a failed save costs a checkpoint, not the run
            outcome.error = error
        self._update_links(outcome)
        outcome.save_ms = 1000 * (time.perf_counter() - copied)

    def _write(self, state: State, is_best: bool) -> Saved | None:
        folder = self.files.folder
        if self._format == "full":
            folder.mkdir(parents=True, exist_ok=True)
            return write.save_full(folder, state, is_best=is_best, keep=self._keep)
        return write.save_sharded(
            folder, state, is_best=is_best, keep=self._keep, group=self._group
        )

    def _update_links(self, outcome: Outcome) -> None:
        """Point the names in `out_dir` to the new checkpoint. On rank 0."""
        if outcome.saved is None or not self.files.stem:
            return
        try:
            run_files.update_links(self.files, outcome.saved.path, is_best=outcome.is_best)
        except OSError as error:
            outcome.problem = (
                f"{outcome.saved.path} is saved, but the links in {self.files.out_dir} could not "
                f"be updated: {error}"
            )
