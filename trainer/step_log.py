"""Steps on their way from the device to the log, and what follows from their values.

On CUDA the log is one step behind the loop, so that the GPU always has work. Whether the run must
save, stop or rewind is known only when the values of a step have arrived.
"""

import math
import signal
import time
from collections import deque
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from eventlog import duration
from trainer.distributed.ranks import Arriving, Stopwatch
from trainer.interrupt import SAVE_SIGNAL, received_by_any
from trainer.run import Run
from trainer.training_logger import MFU_UNKNOWN

MFU_WARMUP_ITERS = 5  # the first steps of a session include threads, caches and compilation
MAX_PARAMETERS_NAMED = 8  # of those that are not finite


class Stopped(Exception):
    """A signal to stop was received on some rank; raised on all, between two steps."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(number.name)
        self.number = number


class NonFinite(ArithmeticError):
    """The loss or a gradient is NaN or infinite; the weights are those before that step."""


@dataclass
class Step:
    """A step that was submitted to the device; its values may not have arrived yet."""

    iter_num: int
    lr: float
    total: Arriving  # summed over all ranks: loss, squared gradient norm, signals
    losses: list[Tensor]  # of this rank's micro-batches, 0-d each
    squares: Tensor  # squared norms of this rank's gradients, (n_parameters,)
    watch: Stopwatch


class StepLog:
    """Logs steps in order, and acts on their values.

    All ranks have the same sums, so all ranks act in the same way.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._pending: deque[Step] = deque()
        self._first_iter = run.iter_num
        self._second_at = 0.0
        self._rewound_at: set[int] = set()

    def add(self, step: Step) -> None:
        """Add a step, and log those that have arrived.

        Raises:
            Stopped, NonFinite: the values of a step require it.
        """
        self._pending.append(step)
        while len(self._pending) > self._run.ranks.steps_late:
            if self._process(self._pending.popleft()):
                break

    def flush(self) -> bool:
        """Wait for all pending steps and log them; returns whether one made the run rewind."""
        is_rewound = False
        while self._pending:
            is_rewound = self._process(self._pending.popleft()) or is_rewound
        return is_rewound

    def _process(self, step: Step) -> bool:
        """Log a step and act on its values; returns whether the run was rewound."""
        run = self._run
        loss_total, square, *signals = step.total.values()
        loss = loss_total / run.config.gradient_accumulation_steps
        grad_norm = math.sqrt(square) if square >= 0 else math.nan
        is_finite = math.isfinite(loss) and math.isfinite(grad_norm)
        # float16 sometimes overflows: then the step is skipped and the loss scale halved
        is_overflow = not is_finite and math.isfinite(loss) and run.loss_scale.may_overflow()
        run.log_saved()
        self._log(step, loss, grad_norm, is_skipped=not is_finite)
        if not is_finite and not is_overflow and self._handle_nonfinite(step, loss, grad_norm):
            return True
        self._handle_signal(received_by_any(signals))
        return False

    def _log(self, step: Step, loss: float, grad_norm: float, *, is_skipped: bool) -> None:
        """Log a step, and print a line every `log_interval` iterations."""
        run, iter_num = self._run, step.iter_num
        time_ms = step.watch.time_ms()
        is_warm = iter_num - self._first_iter >= MFU_WARMUP_ITERS
        mfu = run.mfu_percent(time_ms) if is_warm else MFU_UNKNOWN
        more: dict[str, Any] = {"skipped": True} if is_skipped else {}
        run.logger.log_iter(
            iter_num,
            loss,
            time_ms,
            mfu,
            lr=step.lr,
            grad_norm=grad_norm,
            tokens_per_s=1000 * run.config.tokens_per_iter / time_ms,
            **run.ranks.peak_memory(),
            **more,
        )
        run.logger.log_rank(iter_num, step.watch.lap_ms(), time_ms)
        if iter_num == self._first_iter:
            self._second_at = time.monotonic()  # the first step is too slow to extrapolate from
        if iter_num % run.config.log_interval == 0:
            n_timed = max(1, iter_num - self._first_iter)
            per_iter_s = (time.monotonic() - self._second_at) / n_timed
            left_s = round(per_iter_s * (run.config.max_iters - iter_num))
            eta = duration(left_s) if is_warm else "?"
            share = "?" if mfu == MFU_UNKNOWN else f"{mfu:.2f}%"
            run.say(
                f"iter {iter_num}: loss {loss:.4f}, time {time_ms:.2f}ms, mfu {share}, eta {eta}"
            )

    def _handle_signal(self, number: signal.Signals | None) -> None:
        """Save or stop, if a signal was received on some rank.

        Raises:
            Stopped: the signal asks to stop.
        """
        if number is None or self.flush():
            return
        if number is not SAVE_SIGNAL:
            raise Stopped(number)
        self._run.logger.log("signal", signal=number.name, iter=self._run.iter_num)
        self._run.save()

    def _handle_nonfinite(self, step: Step, loss: float, grad_norm: float) -> bool:
        """Log where the NaN or infinity is, act by the policy; returns whether the run was rewound.

        Raises:
            NonFinite: the run has to stop.
        """
        run, iter_num, policy = self._run, step.iter_num, self._run.config.nonfinite
        where = [entry for entry in run.ranks.gather(non_finite_parts(run, step)) if entry]
        run.logger.log(
            "nonfinite", iter=iter_num, loss=loss, grad_norm=grad_norm, policy=policy, where=where
        )
        message = f"loss {loss}, gradient norm {grad_norm} at iteration {iter_num}"
        if policy == "skip":
            run.say(f"{message}: step skipped")
            return False
        if policy == "rewind" and iter_num not in self._rewound_at:
            self._rewound_at.add(iter_num)
            self._pending.clear()
            if run.rewind():
                run.say(f"{message}: rewound to iteration {run.iter_num}")
                self._first_iter = min(self._first_iter, run.iter_num)
                return True
            message += ", and there is no checkpoint to rewind to"
        elif policy == "rewind":
            message += ", again after a rewind; --nonfinite=skip would skip the step"
        raise NonFinite(message)


def non_finite_parts(run: Run, step: Step) -> dict[str, Any]:
    """This rank's micro-batches and parameters with a NaN or infinite loss or gradient."""
    micro_steps = [i for i, loss in enumerate(step.losses) if not math.isfinite(loss.item())]
    squares = step.squares.tolist()
    names = [name for name, p in run.model.named_parameters() if p.requires_grad]
    bad = [name for name, square in zip(names, squares, strict=True) if not math.isfinite(square)]
    if not micro_steps and not bad:
        return {}
    return {
        "rank": run.ranks.rank,
        "micro_steps": micro_steps,
        "n_parameters": len(bad),
        "parameters": bad[:MAX_PARAMETERS_NAMED],
    }
