"""Train a GPT. Read it top to bottom: `main`, `train`, `clip_and_step`, `evaluate`.

    python trainer/train.py                                  # a minute on two CPU cores
    python trainer/train.py --preset=gpt2 --input=texts/ --init_from=auto
    torchrun --nproc_per_node=8 trainer/train.py --preset=gpt2 --input=texts/ --compile=True

A run is a function of its flags and its data. When it is evaluated, logged or interrupted does not
change it: a run that is killed and resumed has the same losses as one that is not.
"""

import math
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1]))  # `trainer` is not installed: it runs from here

from trainer.config import PRESETS, TrainConfig
from trainer.console import steady_console
from trainer.distributed.parallel import local, square_norms
from trainer.distributed.ranks import Arriving, Stopwatch, join_ranks
from trainer.flags import parse
from trainer.interrupt import SAVE_SIGNAL, Interrupt, end_with_launcher, received_by_any
from trainer.run import Run
from trainer.setup import set_up
from trainer.start import NothingToDo
from trainer.step_log import NonFinite, Step, StepLog, Stopped
from trainer.summary import (
    completed_line,
    lost_events_note,
    next_after_stop,
    saved_state,
    unsaved_note,
)
from trainer.training_logger import close_as_completed

LOG_INCOMPLETE = 4  # exit status of a complete run whose log has lost events
NOT_SAVED = 5  # exit status of a complete run whose last checkpoint could not be saved

DESCRIPTION = """Train a GPT. Without flags: a small one, on the source of Python's library.

Exit status: 0 complete, 1 failed, 2 wrong flags, 4 complete but its log has lost events, 5 complete
but its last checkpoint could not be saved, 128 + N stopped by signal N."""


def main(argv: Sequence[str] | None = None) -> int:
    """Train as the flags say; the exit status.

    0 complete, 1 failed, 2 wrong flags, 4 complete but its log has lost events, 5 complete but its
    last checkpoint could not be saved, 128 + N stopped by signal N, as in shells. A stopped run
    does not exit with 0, so that torchrun, Slurm and Kubernetes know to start it again (with
    `--init_from=auto` it then resumes).
    """
    with steady_console(), ExitStack() as stack:
        config = parse(TrainConfig, argv, prog="train.py", presets=PRESETS, description=DESCRIPTION)
        try:
            end_with_launcher()
            ranks = join_ranks(config.device, config.backend)
            stack.callback(ranks.close)
            run = set_up(config, ranks)
        except NothingToDo as reason:
            if ranks.is_main:
                if reason.journal is not None and config.save_log_to_json:
                    close_as_completed(reason.journal)
                print(reason, flush=True)
            ranks.barrier()
            return 0
        except (ValueError, OSError) as error:
            print(f"train.py: {error}", file=sys.stderr)
            return 1
        return train_and_close(run, stack.enter_context(Interrupt()))


def train_and_close(run: Run, interrupt: Interrupt) -> int:
    """Train, then close the log with the status of the run; the exit status."""
    started = time.monotonic()
    try:
        with run.sampler:
            if run.must_save_first:
                run.save()  # the newest checkpoint must be one after which the journal continues
            train(run, interrupt)
        run.log_saved(wait=True)
        run.save_if_last_failed()
    except Stopped as stop:
        run.logger.log("signal", signal=stop.number.name, iter=run.iter_num)
        run.save()
        run.log_saved(wait=True)
        run.logger.close("interrupted", reason=stop.number.name)
        run.say(
            f"{stop.number.name}: {saved_state(run)}; {next_after_stop(run)}{lost_events_note(run)}"
        )
        run.ranks.barrier()
        return 128 + stop.number
    except NonFinite as error:
        run.log_saved(wait=True)
        run.logger.close("failed", reason=str(error))
        run.say(f"{error}: stopped before the step; {run.last_checkpoint}{lost_events_note(run)}")
        run.ranks.barrier()
        return 1
    except BaseException as error:
        run.log_saved()
        run.logger.close("failed", reason=f"{type(error).__name__}: {error}")
        raise
    run.logger.close(*run.final_status)
    line = completed_line(run, time.monotonic() - started)
    run.say(line + unsaved_note(run) + lost_events_note(run))
    if run.saver.error is not None:
        return NOT_SAVED
    return LOG_INCOMPLETE if run.logger.lost_events else 0


def train(run: Run, interrupt: Interrupt) -> None:
    """Iterations `run.iter_num` to `max_iters`, both included, in nanoGPT's order. Collective.

    Raises:
        Stopped: a signal to stop was received on some rank.
        NonFinite: the loss or a gradient is NaN or infinite on some rank, and the run has to stop.
    """
    config, log = run.config, StepLog(run)
    while run.iter_num <= config.max_iters:
        iter_num = run.iter_num
        lr = run.learning_rate(iter_num)
        run.optimizer.set_learning_rate(lr)

        # evaluate both splits and save a checkpoint
        if iter_num % config.eval_interval == 0 or iter_num == config.max_iters:
            if log.flush():  # rewound
                continue
            val_loss = evaluate_and_log(run, interrupt, lr)
            if config.eval_only:
                return
            save_if_worth_it(run, val_loss)

        # forward and backward, one micro-batch at a time
        watch = Stopwatch(run.ranks.device)
        losses = []
        for micro_step in range(run.n_micro_steps):
            x, y = run.batches.train(iter_num, micro_step)
            torch.manual_seed(run.batches.dropout_seed(iter_num, micro_step))
            is_last = micro_step == run.n_micro_steps - 1
            with run.phase.gradient_sync(run.network, enabled=is_last):
                with run.autocast:
                    _, loss = run.network(x, y)
                if is_last:
                    watch.lap()  # from here on the ranks wait for each other
                run.loss_scale.scaled(loss / run.n_micro_steps).backward()  # type: ignore[no-untyped-call]
            losses.append(loss.detach())

        total, squares = clip_and_step(run, losses, interrupt)
        watch.stop()

        run.iter_num += 1
        log.add(Step(iter_num, lr, Arriving(total), losses, squares, watch))
        if run.iter_num > config.max_iters:
            log.flush()


def clip_and_step(
    run: Run, losses: Sequence[Tensor], interrupt: Interrupt
) -> tuple[Tensor, Tensor]:
    """Clip the gradients and update the weights. Collective.

    If the loss or a gradient is NaN or infinite on some rank, no rank updates its weights.

    Returns:
        The sums over all ranks of the loss, the squared gradient norm and each signal; and the
        squared norms of this rank's gradients, (n_parameters,).
    """
    gradients = [local(p.grad) for p in run.model.parameters() if p.grad is not None]
    run.loss_scale.unscale_(gradients)
    squares = square_norms(gradients)
    total = run.ranks.total(sum(losses), run.phase.share_of(squares), *interrupt.received())
    norm = total[1].sqrt()
    is_finite = torch.isfinite(total[0]) & torch.isfinite(norm)

    if run.config.grad_clip:
        factor = (run.config.grad_clip / (norm + 1e-6)).clamp(max=1.0)
        torch._foreach_mul_(gradients, factor.float())
    run.optimizer.step(is_finite)
    run.phase.after_step()
    run.loss_scale.update(is_finite)
    run.network.zero_grad(set_to_none=True)
    return total, squares


def evaluate_and_log(run: Run, interrupt: Interrupt, lr: float) -> float:
    """Evaluate both splits, log and print their losses; the loss on val. Collective."""
    started = time.perf_counter()
    train_loss, val_loss = evaluate(run, interrupt)
    time_ms = 1000 * (time.perf_counter() - started)
    run.logger.log_eval(run.iter_num, train_loss, val_loss, lr, time_ms=time_ms)
    run.say(f"step {run.iter_num}: train loss {train_loss:.4f}, val loss {val_loss:.4f}")
    return val_loss


def save_if_worth_it(run: Run, val_loss: float) -> None:
    """Save a checkpoint if the loss is the best so far, or with --always_save_checkpoint."""
    # An equal loss counts as best, so that a resumed run repeats the decision it made here.
    is_best = val_loss <= run.best_val_loss
    run.best_val_loss = val_loss if is_best else run.best_val_loss
    # With a NaN loss the older checkpoint is kept: it is the one to rewind to.
    is_worth_saving = run.config.always_save_checkpoint and math.isfinite(val_loss)
    if run.iter_num > 0 and (is_best or is_worth_saving):
        run.save(val_loss, is_best=is_best)


@torch.no_grad()
def evaluate(run: Run, interrupt: Interrupt) -> tuple[float, float]:
    """Mean loss on train and val, in nats per token, the same on every rank. Collective.

    The `eval_iters` batches of each split are always the same ones and are divided among the ranks.
    Training draws its batches independently, so an evaluation does not change it.

    Raises:
        Stopped: a signal to stop was received on some rank.
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
            own_loss = loss if index < n_batches else 0.0  # the last round may need fewer ranks
            loss_total, *signals = ranks.sum(own_loss, *interrupt.received())
            means[split] += loss_total / n_batches
            number = received_by_any(signals)
            if number is SAVE_SIGNAL:
                interrupt.request_save()  # again: after the evaluation is soon enough
            elif number is not None:
                raise Stopped(number)
    run.network.train()
    return means["train"], means["val"]


if __name__ == "__main__":
    sys.exit(main())
