"""Train a GPT. Read it top to bottom: `main`, `train`, `evaluate`, `save`.

    python trainer/train.py                                  # a minute on two CPU cores
    python trainer/train.py --preset=gpt2 --input=texts/ --init_from=auto
    torchrun --nproc_per_node=8 trainer/train.py --preset=gpt2 --input=texts/ --compile=True

A run is a function of its flags and its data. Nothing in it depends on when it was evaluated,
logged or interrupted, so a run that is killed and resumed has the losses of one that was not.
"""

import math
import signal
import sys
import time
from collections import deque
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1]))  # `trainer` is not installed: it runs from here

from trainer.checkpoint import checkpoint, resume
from trainer.checkpoint.beginning import NothingLeft
from trainer.checkpoint.run_files import files_of
from trainer.config import PRESETS, TrainConfig
from trainer.console import steady_console
from trainer.distributed.parallel import local, square_norms
from trainer.distributed.ranks import Arriving, Stopwatch, join_ranks
from trainer.farewell import but_incomplete, farewell, minutes, where_saved
from trainer.flags import parse
from trainer.interrupt import SAVE_SIGNAL, Interrupt, elected, end_with_launcher
from trainer.model import flops
from trainer.setup import Run, set_up
from trainer.training_logger import MFU_UNKNOWN, close_as_completed

MFU_WARMUP_ITERS = 5  # a session's first steps pay for threads, caches and compilation
GO_ON = "to go on, give the same command with --init_from=resume"
LOG_INCOMPLETE = 4  # exit status of a complete run whose log is not
NAMES_TOLD = 8  # of the parameters that are not finite: enough to see where it began


DESCRIPTION = """Train a GPT. Without flags: a small one, on the source of Python's library.

Exit status: 0 complete, 1 failed, 2 wrong flags, 4 complete but its log has lost events, 128 + N
stopped by signal N."""


class Stopped(Exception):
    """All ranks agree that a signal was received; the weights stand between two steps."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(number.name)
        self.number = number


class NonFinite(ArithmeticError):
    """The loss or the gradient is no number; the weights are as they were before that step."""

    def __init__(self, message: str, iter_num: int) -> None:
        super().__init__(message)
        self.iter_num = iter_num


@dataclass
class Step:
    """A step that the device was given, and what the log will say of it."""

    iter_num: int
    lr: float
    total: Arriving  # over all ranks: losses, squared gradient norm, votes
    losses: list[Tensor]  # of this rank's micro-batches, 0-d each
    squares: Tensor  # norms of this rank's gradients, (n_parameters,)
    watch: Stopwatch


def main(argv: Sequence[str] | None = None) -> int:
    """Do the run that the flags ask for; its exit status.

    0 complete, 1 failed, 2 wrong flags, 4 complete but its log has lost events, 128 + N stopped by
    signal N, as shells report it. A stopped run is not complete and must not end with 0: that is
    how torchrun, Slurm and Kubernetes know to start it again (with `--init_from=auto` it then
    goes on).
    """
    with steady_console():
        config = parse(
            TrainConfig,
            argv,
            prog="train.py",
            presets=PRESETS,
            description=DESCRIPTION,
        )
        return run_once(config)


def run_once(config: TrainConfig) -> int:
    """The run, from its flags to its last line; its exit status."""
    with ExitStack() as stack:
        try:
            end_with_launcher()
            ranks = join_ranks(config.device, config.backend)
            stack.callback(ranks.close)
            run = set_up(config, ranks)
        except NothingLeft as left:
            if ranks.is_main:
                if left.journal is not None and config.save_log_to_json:
                    close_as_completed(left.journal)
                print(left, flush=True)
            ranks.barrier()
            return 0
        except (ValueError, OSError) as mistake:
            print(f"train.py: {mistake}", file=sys.stderr)
            return 1
        interrupt = stack.enter_context(Interrupt())
        started = time.monotonic()
        try:
            with run.sampler:
                train(run, interrupt)
            log_saved(run, wait=True)
        except Stopped as stop:
            run.logger.log("signal", signal=stop.number.name, iter=run.iter_num)
            save(run)
            log_saved(run, wait=True)
            run.logger.close("interrupted", reason=stop.number.name)
            run.say(f"{stop.number.name}: {where_saved(run)}; {GO_ON}{but_incomplete(run)}")
            ranks.barrier()
            return 128 + stop.number
        except NonFinite as trouble:
            log_saved(run, wait=True)
            run.logger.close("failed", reason=str(trouble))
            run.say(
                f"{trouble}: stopped before the step, the last checkpoint is good"
                f"{but_incomplete(run)}"
            )
            ranks.barrier()
            return 1
        except BaseException as error:
            log_saved(run)
            run.logger.close("failed", reason=f"{type(error).__name__}: {error}")
            raise
        run.logger.close(*run.ending)
        run.say(farewell(run, time.monotonic() - started) + but_incomplete(run))
        return LOG_INCOMPLETE if run.logger.lost_events else 0


def train(run: Run, interrupt: Interrupt) -> None:
    """Iterations `run.iter_num` to `max_iters`, both included, in nanoGPT's order.

    Collective, as is everything below. Returns when the run is complete.

    Raises:
        Stopped: a signal was received, on any rank.
        NonFinite: the loss or the gradient is not finite, on any rank, and the policy is to stop.
    """
    config, ranks, phase = run.config, run.ranks, run.phase
    log = StepLog(run)
    if run.is_overtaken:
        # The newest checkpoint must be one whose iterations the journal counts from here on.
        save(run)
    while run.iter_num <= config.max_iters:
        iter_num = run.iter_num
        lr = run.learning_rate(iter_num)
        run.optimizer.set_learning_rate(lr)

        # evaluate both splits and write a checkpoint
        if iter_num % config.eval_interval == 0 or iter_num == config.max_iters:
            if log.finish():  # went back
                continue
            eval_started = time.perf_counter()
            train_loss, val_loss = evaluate(run, interrupt)
            run.logger.log_eval(iter_num, train_loss, val_loss, lr, time_ms=ms_since(eval_started))
            run.say(f"step {iter_num}: train loss {train_loss:.4f}, val loss {val_loss:.4f}")
            if config.eval_only:
                return
            # A tie is good enough: a resumed run does here what the run before it did.
            is_best = val_loss <= run.best_val_loss
            run.best_val_loss = val_loss if is_best else run.best_val_loss
            # Weights whose loss is no number would push out the checkpoint to go back to.
            is_worth = is_best or (config.always_save_checkpoint and math.isfinite(val_loss))
            if iter_num > 0 and is_worth:
                save(run, val_loss, is_best=is_best)

        # forward and backward, micro-batch by micro-batch
        watch = Stopwatch(ranks.device)
        losses = []
        for micro_step in range(run.n_micro_steps):
            x, y = run.batches.train(iter_num, micro_step)
            torch.manual_seed(run.batches.dropout_seed(iter_num, micro_step))
            is_last = micro_step == run.n_micro_steps - 1
            with phase.gradient_sync(run.network, enabled=is_last):
                with run.autocast:
                    _, loss = run.network(x, y)
                if is_last:
                    watch.lap()  # from here on the ranks wait for each other
                run.loss_scale.scaled(loss / run.n_micro_steps).backward()  # type: ignore[no-untyped-call]
            losses.append(loss.detach())

        # agree with all ranks on the loss, on the gradient's norm, and on whether to go on
        gradients = [local(p.grad) for p in run.model.parameters() if p.grad is not None]
        run.loss_scale.unscale_(gradients)
        squares = square_norms(gradients)
        total = ranks.total(sum(losses), phase.share_of(squares), *interrupt.votes())
        norm = total[1].sqrt()
        finite = torch.isfinite(total[0]) & torch.isfinite(norm)

        # clip and step; what is not finite changes nothing, on any rank
        if config.grad_clip:
            shrink = (config.grad_clip / (norm + 1e-6)).clamp(max=1.0)
            torch._foreach_mul_(gradients, shrink.float())
        run.optimizer.step(finite)
        phase.after_step()
        run.loss_scale.update(finite)
        run.network.zero_grad(set_to_none=True)
        watch.stop()

        run.iter_num += 1
        log.add(Step(iter_num, lr, Arriving(total), losses, squares, watch))
        if run.iter_num > config.max_iters:
            log.finish()


class StepLog:
    """Steps on their way from the device to the log, in order.

    On CUDA the log is one step behind the loop (`Ranks.steps_late`), so that the GPU always has
    work; what the figures ask for, to stop, to save or to go back, is done then. All ranks see
    the same sums, and so do the same.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._under_way: deque[Step] = deque()
        self._first_iter = run.iter_num
        self._second_at = 0.0
        self._went_back_at: set[int] = set()

    def add(self, step: Step) -> None:
        """Take a step, and log those that have arrived."""
        self._under_way.append(step)
        while len(self._under_way) > self._run.ranks.steps_late:
            if self._log(self._under_way.popleft()):
                break

    def finish(self) -> bool:
        """Log all that is under way; whether the run went back because of it."""
        went_back = False
        while self._under_way:
            went_back = self._log(self._under_way.popleft()) or went_back
        return went_back

    def _log(self, step: Step) -> bool:
        run, iter_num = self._run, step.iter_num
        loss_total, square, *votes = step.total.values()
        loss = loss_total / run.config.gradient_accumulation_steps
        grad_norm = math.sqrt(square) if square >= 0 else math.nan
        time_ms = step.watch.time_ms()
        is_warm = iter_num - self._first_iter >= MFU_WARMUP_ITERS
        mfu = flops.mfu_percent(run.flops_per_iter, time_ms, run.peak_flops)
        log_saved(run)
        # float16 overflows now and then: such a step is skipped and the scale halved
        finite = math.isfinite(loss) and math.isfinite(grad_norm)
        overflow = not finite and math.isfinite(loss) and run.loss_scale.may_overflow()
        more: dict[str, Any] = {} if finite else {"skipped": True}
        run.logger.log_iter(
            iter_num,
            loss,
            time_ms,
            mfu if is_warm else MFU_UNKNOWN,
            lr=step.lr,
            grad_norm=grad_norm,
            tokens_per_s=1000 * run.tokens_per_iter / time_ms,
            **run.ranks.peak_memory(),
            **more,
        )
        run.logger.log_rank(iter_num, step.watch.lap_ms(), time_ms)
        if iter_num == self._first_iter:
            self._second_at = time.monotonic()  # the first one says little about the others
        if iter_num % run.config.log_interval == 0:
            n_timed = max(1, iter_num - self._first_iter)
            per_iter_s = (time.monotonic() - self._second_at) / n_timed
            eta = minutes(per_iter_s * (run.config.max_iters - iter_num)) if is_warm else "?"
            shown = mfu if is_warm else MFU_UNKNOWN
            figures = f"loss {loss:.4f}, time {time_ms:.2f}ms, mfu {shown:.2f}%, eta {eta}"
            run.say(f"iter {iter_num}: {figures}")
        if not finite and not overflow and self._trouble(step, loss, grad_norm):
            return True
        self._obey(elected(votes))
        return False

    def _obey(self, number: signal.Signals | None) -> None:
        """Save, or stop, as a signal to any rank asks for."""
        if number is None:
            return
        if self.finish():
            return
        if number is not SAVE_SIGNAL:
            raise Stopped(number)
        self._run.logger.log("signal", signal=number.name, iter=self._run.iter_num)
        save(self._run)

    def _trouble(self, step: Step, loss: float, grad_norm: float) -> bool:
        """Say where a number is none, and do what the policy says; whether the run went back.

        Raises:
            NonFinite: the run is to stop.
        """
        run, iter_num = self._run, step.iter_num
        policy = run.config.nonfinite
        where = [found for found in run.ranks.gather(not_finite(run, step)) if found]
        run.logger.log(
            "nonfinite", iter=iter_num, loss=loss, grad_norm=grad_norm, policy=policy, where=where
        )
        words = f"loss {loss}, gradient norm {grad_norm} at iteration {iter_num}"
        if policy == "skip":
            run.say(f"{words}: the step is left out")
            return False
        if policy == "rewind" and iter_num not in self._went_back_at:
            self._went_back_at.add(iter_num)
            self._under_way.clear()
            if went_back(run):
                run.say(f"{words}: back to iteration {run.iter_num}")
                self._first_iter = min(self._first_iter, run.iter_num)
                return True
            words += ", and there is no checkpoint to go back to"
        elif policy == "rewind":
            words += ", again, and --nonfinite=skip would leave the step out"
        raise NonFinite(words, iter_num)


def not_finite(run: Run, step: Step) -> dict[str, Any]:
    """This rank's micro-batches and parameters whose loss and gradient are no numbers."""
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
        "parameters": bad[:NAMES_TOLD],
    }


def went_back(run: Run) -> bool:
    """Go back to the newest checkpoint of this run; whether there is one. Collective."""
    log_saved(run, wait=True)
    run.ranks.barrier()

    def look() -> Path | None:
        if run.saved_iter is None:
            return None  # what may lie in the folder is another run's
        try:
            return resume.newest(files_of(run.saver.files.out_dir, run.saver.files.stem)).path
        except ValueError:
            return None

    path = run.ranks.on_main(look)
    if path is None:
        return False
    run.load(path, checkpoint.load_rest(path))
    run.logger.log("rewind", to_iter=run.iter_num, checkpoint=path)
    return True


@torch.no_grad()
def evaluate(run: Run, interrupt: Interrupt) -> tuple[float, float]:
    """Mean loss on train and val, in nats per token, equal on every rank.

    Always over the same `eval_iters` batches of each, dealt out to the ranks; training draws from
    elsewhere and does not notice. Collective: each rank makes the same number of forwards.

    Raises:
        Stopped: a signal to stop was received, on any rank.
    """
    ranks, n_batches = run.ranks, run.config.eval_iters
    means = {"train": 0.0, "val": 0.0}
    run.network.eval()
    for split in means:
        for first in range(0, n_batches, ranks.world_size):
            index = first + ranks.rank
            x, y = run.batches.eval(split, min(index, n_batches - 1))
            with run.autocast:
                _, loss = run.network(x, y)
            mine = loss if index < n_batches else 0.0  # the last round may need fewer ranks
            loss_total, *votes = ranks.sum(mine, *interrupt.votes())
            means[split] += loss_total / n_batches
            number = elected(votes)
            if number is SAVE_SIGNAL:
                interrupt.wish_to_save()  # after the eval is early enough
            elif number is not None:
                raise Stopped(number)
    run.network.train()
    return means["train"], means["val"]


def save(run: Run, val_loss: float | None = None, *, is_best: bool = False) -> None:
    """Begin to save all that a run needs to go on before the step `run.iter_num`. Collective.

    Its event follows when it is durable: see `log_saved`.
    """
    started = time.perf_counter()
    log_saved(run, wait=True)  # one at a time
    run.follow_log()
    run.saver.begin(run.state(), val_loss=val_loss, is_best=is_best, started=started)
    if not run.config.async_checkpoint:
        log_saved(run, wait=True)


def log_saved(run: Run, *, wait: bool = False) -> None:
    """Tell the journal of the checkpoint that has become durable since, if one has."""
    outcome = run.saver.outcome(wait=wait)
    if outcome is None or not run.ranks.is_main:
        return
    if outcome.saved is None:
        run.logger.log("error", error=f"checkpoint: {outcome.error}", iter=outcome.iter_num)
        print(
            f"iteration {outcome.iter_num} was not saved: {outcome.error}; the run goes on, and "
            "the checkpoint before stands",
            file=sys.stderr,
            flush=True,
        )
        return
    if outcome.problem:
        run.logger.log("error", error=f"checkpoint: {outcome.problem}", iter=outcome.iter_num)
        print(outcome.problem, file=sys.stderr, flush=True)
    run.saved_iter = outcome.iter_num
    run.logger.log_checkpoint(
        outcome.iter_num,
        outcome.saved.path,
        outcome.val_loss,
        time_ms=outcome.stall_ms,
        save_ms=outcome.save_ms,
        size_bytes=outcome.saved.size_bytes,
        sha256=outcome.saved.sha256,
        best=outcome.is_best,
    )


def ms_since(started: float) -> float:
    return 1000 * (time.perf_counter() - started)


if __name__ == "__main__":
    sys.exit(main())
