"""Train a GPT. Read it top to bottom: `main`, `train`, `evaluate`, `save`, then `set_up`.

    python trainer/train.py                                  # a minute on two CPU cores
    python trainer/train.py --preset=gpt2 --input=texts/ --init_from=auto
    torchrun --nproc_per_node=8 trainer/train.py --preset=gpt2 --input=texts/ --compile=True

A run is a function of its flags and its data. Nothing in it depends on when it was evaluated,
logged or interrupted, so a run that is killed and resumed has the losses of one that was not.
"""

import dataclasses
import math
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from trainer import checkpoint, flops
from trainer.config import PRESETS, TrainConfig
from trainer.data import Batches, Dataset
from trainer.flags import parse
from trainer.interrupt import Interrupt, elected
from trainer.model import GPT, GPTConfig
from trainer.optim import build_optimizer
from trainer.parallel import Parallel, choose_dtype, join_ranks, micro_steps
from trainer.prepare import prepare
from trainer.schedule import learning_rate_at
from trainer.training_logger import MFU_UNKNOWN, TrainingLogger

MFU_WARMUP_ITERS = 5  # a session's first steps pay for threads, caches and compilation
GO_ON = "to go on, give the same command with --init_from=resume"
VOCAB_MULTIPLE = 64  # the tensor cores want it: GPT-2's 50257 becomes nanoGPT's 50304


class Stopped(Exception):
    """All ranks agree that a signal was received; the weights stand between two steps."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(number.name)
        self.number = number


class NonFinite(ArithmeticError):
    """The loss or the gradient is no number; the weights are as they were before this step."""


@dataclass
class Run:
    """All that a run is made of. Two fields change: `iter_num` and `best_val_loss`."""

    config: TrainConfig
    parallel: Parallel
    logger: TrainingLogger
    batches: Batches
    model: GPT  # the bare weights: what is saved
    network: nn.Module  # the same, wrapped for the ranks: what is trained
    optimizer: torch.optim.AdamW
    scaler: torch.amp.GradScaler
    autocast: AbstractContextManager[Any]
    n_micro_steps: int  # of each rank
    tokens_per_iter: int  # of all ranks
    flops_per_iter: float  # of each rank
    peak_flops: float  # of each rank
    origin: dict[str, Any]  # what a checkpoint says of data and tokenizer
    iter_num: int = 0
    best_val_loss: float = math.inf


def main(argv: Sequence[str] | None = None) -> int:
    """Do the run that the flags ask for; its exit status.

    0 complete, 1 failed, 2 wrong flags, 128 + N stopped by signal N, as shells report it.
    A stopped run is not complete and must not end with 0: that is how torchrun, Slurm and
    Kubernetes know to start it again (with `--init_from=auto` it then goes on).
    """
    config = parse(
        TrainConfig,
        argv,
        prog="train.py",
        presets=PRESETS,
        description="Train a GPT. Without flags: a small one, on the source of Python's library.",
    )
    with ExitStack() as stack:
        try:
            parallel = join_ranks(config.device, config.backend)
            stack.callback(parallel.close)
            run = set_up(config, parallel)
        except (ValueError, OSError) as mistake:
            print(f"train.py: {mistake}", file=sys.stderr)
            return 1
        interrupt = stack.enter_context(Interrupt())
        started = time.monotonic()
        try:
            train(run, interrupt)
        except Stopped as stop:
            run.logger.log("signal", signal=stop.number.name, iter=run.iter_num)
            save(run)
            run.logger.close("interrupted", reason=stop.number.name)
            say(run, f"{stop.number.name}: saved before iteration {run.iter_num}; {GO_ON}")
            parallel.barrier()
            return 128 + stop.number
        except NonFinite as trouble:
            run.logger.close("failed", reason=str(trouble))
            say(run, f"{trouble}: stopped before the step, the last checkpoint is good")
            parallel.barrier()
            return 1
        except BaseException as error:
            run.logger.close("failed", reason=f"{type(error).__name__}: {error}")
            raise
        run.logger.close("completed")
        say(run, farewell(run, time.monotonic() - started))
        return 0


def train(run: Run, interrupt: Interrupt) -> None:
    """Iterations `run.iter_num` to `max_iters`, both included, in nanoGPT's order.

    Collective, as is everything below. Returns when the run is complete.

    Raises:
        Stopped: a signal was received, on any rank.
        NonFinite: the loss or the gradient is not finite, on any rank.
    """
    config, parallel, logger = run.config, run.parallel, run.logger
    first_iter = run.iter_num
    while run.iter_num <= config.max_iters:
        iter_num = run.iter_num

        # set the learning rate of this iteration
        lr = learning_rate(config, iter_num)
        for group in run.optimizer.param_groups:
            group["lr"] = lr

        # evaluate both splits and write a checkpoint
        if iter_num % config.eval_interval == 0 or iter_num == config.max_iters:
            eval_started = time.perf_counter()
            train_loss, val_loss = evaluate(run, interrupt)
            logger.log_eval(iter_num, train_loss, val_loss, lr, time_ms=ms_since(eval_started))
            say(run, f"step {iter_num}: train loss {train_loss:.4f}, val loss {val_loss:.4f}")
            if config.eval_only:
                return
            # A tie is good enough: a resumed run does here what the run before it did.
            is_best = val_loss <= run.best_val_loss
            run.best_val_loss = val_loss if is_best else run.best_val_loss
            if iter_num > 0 and (is_best or config.always_save_checkpoint):
                save(run, val_loss, is_best=is_best)

        # forward and backward, micro-batch by micro-batch
        step_started = time.perf_counter()
        loss_sum = torch.zeros((), device=parallel.device)
        for micro_step in range(run.n_micro_steps):
            x, y = run.batches.train(iter_num, micro_step)
            torch.manual_seed(run.batches.dropout_seed(iter_num, micro_step))
            is_last = micro_step == run.n_micro_steps - 1
            with parallel.gradient_sync(run.network, enabled=is_last):
                with run.autocast:
                    _, loss = run.network(x, y)
                run.scaler.scale(loss / run.n_micro_steps).backward()
            loss_sum += loss.detach()

        # clip the gradient, and agree with all ranks on the loss and on whether to go on
        run.scaler.unscale_(run.optimizer)
        norm = nn.utils.clip_grad_norm_(run.model.parameters(), config.grad_clip or math.inf)
        loss_total, norm_total, *votes = parallel.sum(loss_sum, norm, *interrupt.votes())
        mean_loss = loss_total / config.gradient_accumulation_steps
        grad_norm = norm_total / parallel.world_size
        # float16 overflows now and then: the scaler then skips the step and scales down
        finite = math.isfinite(mean_loss) and (math.isfinite(grad_norm) or run.scaler.is_enabled())

        # step
        if finite:
            run.scaler.step(run.optimizer)
            run.scaler.update()
        run.optimizer.zero_grad(set_to_none=True)
        parallel.synchronize()

        # time and log
        time_ms = ms_since(step_started)
        mfu, measured = MFU_UNKNOWN, iter_num - first_iter >= MFU_WARMUP_ITERS
        if measured:
            mfu = flops.mfu_percent(run.flops_per_iter, time_ms, run.peak_flops)
        logger.log_iter(
            iter_num,
            mean_loss,
            time_ms,
            mfu,
            lr=lr,
            grad_norm=grad_norm,
            tokens_per_s=1000 * run.tokens_per_iter / time_ms,
        )
        if iter_num == first_iter:
            second_iter_at = time.monotonic()  # the first one says little about the others
        if iter_num % config.log_interval == 0:
            per_iter_s = (time.monotonic() - second_iter_at) / max(1, iter_num - first_iter)
            eta = minutes(per_iter_s * (config.max_iters - iter_num)) if measured else "?"
            figures = f"loss {mean_loss:.4f}, time {time_ms:.2f}ms, mfu {mfu:.2f}%, eta {eta}"
            say(run, f"iter {iter_num}: {figures}")
        if not finite:
            logger.log("nonfinite", iter=iter_num, loss=mean_loss, grad_norm=grad_norm)
            raise NonFinite(f"loss {mean_loss}, gradient norm {grad_norm} at iteration {iter_num}")

        run.iter_num += 1
        if (number := elected(votes)) is not None:
            raise Stopped(number)


@torch.no_grad()
def evaluate(run: Run, interrupt: Interrupt) -> tuple[float, float]:
    """Mean loss on train and val, in nats per token, equal on every rank.

    Always over the same `eval_iters` batches of each, dealt out to the ranks; training draws from
    elsewhere and does not notice. Collective: each rank makes the same number of forwards.

    Raises:
        Stopped: a signal was received, on any rank.
    """
    parallel, n_batches = run.parallel, run.config.eval_iters
    means = {"train": 0.0, "val": 0.0}
    run.network.eval()
    for split in means:
        for first in range(0, n_batches, parallel.world_size):
            index = first + parallel.rank
            x, y = run.batches.eval(split, min(index, n_batches - 1))
            with run.autocast:
                _, loss = run.network(x, y)
            mine = loss if index < n_batches else 0.0  # the last round may need fewer ranks
            loss_total, *votes = parallel.sum(mine, *interrupt.votes())
            means[split] += loss_total / n_batches
            if (number := elected(votes)) is not None:
                raise Stopped(number)
    run.network.train()
    return means["train"], means["val"]


def save(run: Run, val_loss: float | None = None, *, is_best: bool = False) -> None:
    """All that a run needs to go on before the step `run.iter_num`, durable, and then its event.

    No state of chance is in it: batches and dropout are functions of the seed and the iteration.
    """
    if not run.parallel.is_main:
        return
    started = time.perf_counter()
    state = {
        "model": run.model.state_dict(),
        "optimizer": run.optimizer.state_dict(),
        "scaler": run.scaler.state_dict(),
        "model_args": dataclasses.asdict(run.model.config),
        "iter_num": run.iter_num,
        "best_val_loss": run.best_val_loss,
        "config": run.config.as_dict(),
        "journal": run.logger.position,
        **run.origin,
    }
    saved = checkpoint.save(Path(run.config.out_dir), state, is_best=is_best)
    run.logger.log_checkpoint(
        run.iter_num,
        saved.path,
        val_loss,
        time_ms=ms_since(started),
        size_bytes=saved.size_bytes,
        sha256=saved.sha256,
        best=is_best,
    )


def set_up(config: TrainConfig, parallel: Parallel) -> Run:
    """A run about to begin, or to go on from its checkpoint. Collective.

    Raises:
        ValueError, OSError: the flags, the data, the checkpoint or the folder will not do.
    """
    n_micro_steps = parallel.on_main(
        lambda: micro_steps(config.gradient_accumulation_steps, parallel.world_size)
    )
    logger = new_logger(config, parallel)
    saved_in, saved = find_checkpoint(config, parallel)
    if saved is not None:
        config = dataclasses.replace(config, **checkpoint.shape_of(saved))
    dataset = open_data(config, parallel)

    device, dtype = parallel.device, choose_dtype(config.dtype, parallel.device)
    parallel.on_main(lambda: Path(config.out_dir).mkdir(parents=True, exist_ok=True))
    torch.manual_seed(config.seed)
    torch.set_float32_matmul_precision("high")  # TF32 where the GPU has it, as nanoGPT
    model = GPT(model_config(config, dataset.meta["vocab_size"])).to(device)
    optimizer = build_optimizer(
        model,
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        betas=(config.beta1, config.beta2),
    )
    scaler = torch.amp.GradScaler(device.type, enabled=dtype == torch.float16)
    if saved is not None:
        checkpoint.check_same_tokenizer(saved, dataset.tokenizer, dataset.meta)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        scaler.load_state_dict(saved["scaler"])
    if config.compile:
        model.compile()  # in place: the weights keep their names

    tokens_per_iter = config.gradient_accumulation_steps * config.batch_size * config.block_size
    flops_per_token = flops.flops_per_token(
        n_params=model.n_params(non_embedding=True),
        n_layer=config.n_layer,
        n_embd=config.n_embd,
        block_size=config.block_size,
    )
    peak_flops, peak_source = flops.peak_flops(device, dtype, config.peak_flops)
    run = Run(
        config=config,
        parallel=parallel,
        logger=logger,
        batches=Batches(
            dataset,
            seed=config.seed,
            batch_size=config.batch_size,
            block_size=config.block_size,
            rank=parallel.rank,
            world_size=parallel.world_size,
            device=device,
        ),
        model=model,
        network=parallel.wrap(model),
        optimizer=optimizer,
        scaler=scaler,
        autocast=torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32),
        n_micro_steps=n_micro_steps,
        tokens_per_iter=tokens_per_iter,
        flops_per_iter=flops_per_token * tokens_per_iter / parallel.world_size,
        peak_flops=peak_flops,
        origin={"dataset": dataset.meta, "tokenizer": dataset.tokenizer},
        iter_num=saved["iter_num"] if saved else 0,
        best_val_loss=saved["best_val_loss"] if saved else math.inf,
    )
    metadata = {
        "world_size": parallel.world_size,
        "device": device.type,
        "dtype": str(dtype).removeprefix("torch."),
        "compile": config.compile,
        **parallel.metadata,
        "device_name": parallel.device_name,
        "n_threads": torch.get_num_threads(),
        "n_params": model.n_params(),
        "tokens_per_iter": tokens_per_iter,
        "flops_per_token": flops_per_token,
        "peak_flops": peak_flops,
        "peak_source": peak_source,
        "dataset": dataset.meta,
    }
    say(run, f"{dataset.folder}: {len(dataset.train):,} + {len(dataset.val):,} tokens")
    say(run, f"{model.n_params():,} parameters, {tokens_per_iter:,} tokens per iteration")
    say(run, f"{parallel.world_size} x {device.type}, {metadata['dtype']}")
    parallel.on_main(lambda: open_log(run, metadata, saved_in, saved))
    return run


def new_logger(config: TrainConfig, parallel: Parallel) -> TrainingLogger:
    """The log of the run, not yet begun: what is missing for it is found before any work."""
    return TrainingLogger(
        Path(config.out_dir),
        is_main=parallel.is_main,
        save_log_to_json=config.save_log_to_json,
        log_iterations=config.log_iterations,
        log_save_interval=config.log_save_interval,
        wandb_log=config.wandb_log,
        wandb_project=config.wandb_project,
        wandb_run_name=config.wandb_run_name,
    )


def open_data(config: TrainConfig, parallel: Parallel) -> Dataset:
    """The prepared data; rank 0 prepares it if need be, and the others wait. Collective."""
    folder = parallel.on_main(
        lambda: prepare(
            Path(config.data_dir),
            input=config.input,
            text_column=config.text_column,
            tokenizer=config.tokenizer,
        )
    )
    return Dataset.open(folder, block_size=config.block_size)


def model_config(config: TrainConfig, n_tokens: int) -> GPTConfig:
    """The shape of the model for a tokenizer of `n_tokens`."""
    return GPTConfig(
        block_size=config.block_size,
        vocab_size=-(-n_tokens // VOCAB_MULTIPLE) * VOCAB_MULTIPLE,  # rounded up
        n_layer=config.n_layer,
        n_head=config.n_head,
        n_embd=config.n_embd,
        dropout=config.dropout,
        bias=config.bias,
    )


def find_checkpoint(
    config: TrainConfig, parallel: Parallel
) -> tuple[Path | None, dict[str, Any] | None]:
    """The checkpoint to go on from and what is in it; Nones to start from scratch. Collective."""
    out_dir = Path(config.out_dir)
    if config.init_from == "scratch":
        return None, None
    exists = parallel.on_main((out_dir / checkpoint.LATEST).exists)  # once: the ranks must agree
    if config.init_from == "auto" and not exists:
        return None, None
    path, remarks = parallel.on_main(lambda: checkpoint.newest(out_dir))
    if parallel.is_main:
        for remark in remarks:
            print(remark, file=sys.stderr, flush=True)
    return path, checkpoint.load(path)


def open_log(
    run: Run, metadata: dict[str, Any], path: Path | None, saved: dict[str, Any] | None
) -> None:
    """Begin the log, or go on with the one that the checkpoint remembers."""
    config = run.config.as_dict()
    if saved is None:
        run.logger.open(config=config, metadata=metadata)
    else:
        say(run, f"going on from {path} at iteration {run.iter_num}")
        if changes := checkpoint.changes(saved, config, run.origin["dataset"]):
            say(run, f"not the run it was: {changes}")
        run.logger.open(
            config=config,
            metadata=metadata,
            from_iter=run.iter_num,
            checkpoint=path,
            journal=saved["journal"] and saved["journal"]["file"],
        )
    if run.logger.journal_path is not None:
        say(run, f"logging to {run.logger.journal_path}")


def learning_rate(config: TrainConfig, iter_num: int) -> float:
    """The learning rate of an iteration, by the schedule or without one."""
    if not config.decay_lr:
        return config.learning_rate
    return learning_rate_at(
        iter_num,
        peak=config.learning_rate,
        floor=config.resolved_min_lr,
        warmup_iters=config.warmup_iters,
        decay_iters=config.resolved_lr_decay_iters,
    )


def farewell(run: Run, seconds: float) -> str:
    """The last line: how it went, where it is, what to type next."""
    went = f"done in {minutes(seconds)}, best val loss {run.best_val_loss:.4f}"
    sample = f"python trainer/sample.py --out_dir={run.config.out_dir}"
    if run.logger.run_path is None:
        return f"{went}; next: {sample}"
    compare = f"runs compare {run.config.out_dir}/*.json"
    return f"{went}, log in {run.logger.run_path}; next: {compare}, or {sample}"


def say(run: Run, line: str) -> None:
    """A line for whoever watches; once, not once a rank."""
    if run.parallel.is_main:
        print(line, flush=True)


def ms_since(started: float) -> float:
    return 1000 * (time.perf_counter() - started)


def minutes(seconds: float) -> str:
    """As h:mm:ss, or m:ss below an hour."""
    h, m, s = round(seconds) // 3600, round(seconds) // 60 % 60, round(seconds) % 60
    return f"{h}:{m:02}:{s:02}" if h else f"{m}:{s:02}"


if __name__ == "__main__":
    sys.exit(main())
