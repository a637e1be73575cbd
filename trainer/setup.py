"""Put a run together from its flags: data, model, optimizer, log, and the checkpoint to resume."""

import contextlib
import dataclasses
import os
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime
from pathlib import Path
from typing import Any

import torch

from trainer.checkpoint import resumed_flags
from trainer.checkpoint.journal import JOURNAL_SUFFIX, check_not_running
from trainer.checkpoint.run_files import RunFiles, files_of
from trainer.checkpoint.saver import Saver
from trainer.config import TrainConfig
from trainer.console import display_path
from trainer.data.dataset import Batches, Dataset
from trainer.distributed.parallel import Phase, choose_phase
from trainer.distributed.ranks import Ranks, choose_dtype, micro_steps
from trainer.model import flops, fused
from trainer.model.gpt import GPT, GPTConfig
from trainer.optim.optimizer import LossScale, Optimizer
from trainer.prepare import prepare
from trainer.run import Run
from trainer.start import Start, find_start, launch_id, resolve_flags, use_wandb
from trainer.system import Sampler
from trainer.training_logger import MFU_UNKNOWN, TrainingLogger

VOCAB_MULTIPLE = 64  # for the tensor cores: GPT-2's 50257 becomes nanoGPT's 50304


def set_up(config: TrainConfig, ranks: Ranks) -> Run:
    """A run that is ready to train, from scratch or from its checkpoint. Collective.

    Raises:
        ValueError, OSError: the flags, the data, the checkpoint or the folder cannot be used.
        NothingToDo: the run already has all the iterations that were asked for.
    """
    dtype = choose_dtype(config.dtype, ranks.device)
    phase = new_phase(config, ranks, dtype)
    start = find_start(config, ranks)
    config = resolve_flags(config, start, ranks)
    config = dataclasses.replace(config, wandb_log=ranks.on_main(lambda: use_wandb(config)))
    # These two refuse before any work is done: packages or permissions may be missing.
    logger = new_logger(config, ranks)
    sampler = new_sampler(config, ranks, logger)
    dataset = open_data(config, ranks, start)

    ranks.on_main(lambda: Path(config.out_dir).mkdir(parents=True, exist_ok=True))
    model = new_model(config, ranks, dataset, start)
    metadata = describe(config, ranks, phase, dtype, model, dataset)
    network = phase.wrap(model, compile=config.compile)

    run = Run(
        config=config,
        ranks=ranks,
        phase=phase,
        logger=logger,
        saver=new_saver(config, ranks),
        sampler=sampler,
        batches=new_batches(config, ranks, dataset),
        model=model,
        network=network,
        optimizer=new_optimizer(config, phase, model),
        loss_scale=LossScale(ranks.device, enabled=dtype == torch.float16),
        autocast=torch.autocast(ranks.device.type, dtype=dtype, enabled=dtype != torch.float32),
        mfu_percent=new_mfu(config, ranks, metadata),
    )
    if start.state is not None and start.path is not None:
        run.restore(start.path, start.state)
        if config.eval_only and start.last_iter < config.max_iters:
            run.final_status = ("interrupted", "--eval_only=True")  # it stays incomplete
    print_summary(run, metadata)
    start_log(run, metadata, start)
    return run


# The parts of a run


def new_phase(config: TrainConfig, ranks: Ranks, dtype: torch.dtype) -> Phase:
    """DDP, ZeRO-1 or FSDP. Collective."""

    def checked() -> Phase:
        micro_steps(config.gradient_accumulation_steps, ranks.world_size)
        return choose_phase(
            ranks,
            use_zero1=config.use_zero1,
            use_fsdp=config.use_fsdp,
            fsdp_stage=config.fsdp_stage,
            fsdp_replicas=config.fsdp_replicas,
            dtype=dtype,
        )

    ranks.on_main(lambda: checked().name)  # first on rank 0: an error is printed once
    return checked()


def new_logger(config: TrainConfig, ranks: Ranks) -> TrainingLogger:
    """The log of the run, not opened yet."""
    return TrainingLogger(
        Path(config.out_dir),
        is_main=ranks.is_main,
        rank=ranks.rank if config.log_ranks else None,
        save_log_to_json=config.save_log_to_json,
        log_iterations=config.log_iterations,
        log_save_interval=config.log_save_interval,
        wandb_log=config.wandb_log,
        wandb_required=config.wandb_required,
        wandb_project=config.wandb_project,
        wandb_run_name=config.wandb_run_name,
    )


def new_sampler(
    config: TrainConfig, ranks: Ranks, logger: TrainingLogger
) -> AbstractContextManager[object]:
    """Logs CPU, memory, disk and GPUs while it is entered; on rank 0, with --log_system."""
    if not (config.log_system and ranks.is_main):
        return nullcontext()
    return Sampler(logger.log, Path(config.out_dir))


def open_data(config: TrainConfig, ranks: Ranks, start: Start) -> Dataset:
    """The prepared data; if needed rank 0 prepares it, and the others wait. Collective."""
    folder = ranks.on_main(
        lambda: prepare(
            Path(config.data_dir),
            input=config.input,
            text_column=config.text_column,
            tokenizer=config.tokenizer,
            report=lambda line: print(line, file=sys.stderr, flush=True),
        )
    )
    dataset = Dataset.open(folder, block_size=config.block_size)
    if start.state is not None:
        resumed_flags.check_same_tokenizer(start.state, dataset.tokenizer, dataset.meta)
    return dataset


def new_model(config: TrainConfig, ranks: Ranks, dataset: Dataset, start: Start) -> GPT:
    """The model on this rank's device, with its first weights; not wrapped by a phase yet."""
    config_of_model = model_config(config, dataset, start)
    torch.manual_seed(config.seed)
    torch.set_float32_matmul_precision("high")  # TF32 where the GPU has it, as nanoGPT
    return GPT(
        config_of_model,
        recompute=config.activation_checkpointing,
        fused=config.use_triton and not fused.why_not(ranks.device),
    ).to(ranks.device)


def model_config(config: TrainConfig, dataset: Dataset, start: Start) -> GPTConfig:
    """The shape of the model, with a vocabulary for the tokenizer of the data."""
    vocab_size = -(-dataset.meta["vocab_size"] // VOCAB_MULTIPLE) * VOCAB_MULTIPLE  # rounded up
    if start.state is not None:
        resumed_flags.check_same_vocabulary(start.state, vocab_size)
    names = [field.name for field in dataclasses.fields(GPTConfig) if field.name != "vocab_size"]
    return GPTConfig(vocab_size=vocab_size, **{name: getattr(config, name) for name in names})


def new_optimizer(config: TrainConfig, phase: Phase, model: GPT) -> Optimizer:
    return Optimizer(
        phase.owned(model),
        name=config.optimizer,
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        betas=(config.beta1, config.beta2),
        embedding_learning_rate=config.resolved_embedding_lr,
        muon_momentum=config.muon_momentum,
    )


def new_batches(config: TrainConfig, ranks: Ranks, dataset: Dataset) -> Batches:
    return Batches(
        dataset,
        seed=config.seed,
        batch_size=config.batch_size,
        block_size=config.block_size,
        rank=ranks.rank,
        world_size=ranks.world_size,
        device=ranks.device,
    )


def new_saver(config: TrainConfig, ranks: Ranks) -> Saver:
    return Saver(
        Path(config.out_dir),
        ranks,
        format=config.checkpoint_format,
        keep=config.keep_checkpoints,
        is_async=config.async_checkpoint,
    )


def new_mfu(
    config: TrainConfig, ranks: Ranks, metadata: dict[str, Any]
) -> Callable[[float], float]:
    """The MFU of one device in percent, as a function of the time of a step in ms.

    Unknown (`MFU_UNKNOWN`) where it is above 100: other programs were running when the peak was
    measured.
    """
    flops_per_iter = metadata["flops_per_token"] * config.tokens_per_iter / ranks.world_size
    is_measured = metadata["peak_source"] == "measured"

    def mfu(time_ms: float) -> float:
        percent = flops.mfu_percent(flops_per_iter, time_ms, metadata["peak_flops"])
        return MFU_UNKNOWN if is_measured and percent > 100.0 else percent

    return mfu


# What is printed and logged of it


def describe(
    config: TrainConfig,
    ranks: Ranks,
    phase: Phase,
    dtype: torch.dtype,
    model: GPT,
    dataset: Dataset,
) -> dict[str, Any]:
    """The metadata of the run JSON. `model` must not be wrapped by a phase yet."""
    flops_per_token = flops.flops_per_token(
        n_params=model.n_params(non_embedding=True),
        n_layer=config.n_layer,
        n_embd=config.n_embd,
        block_size=config.block_size,
    )
    peak_flops, peak_source = flops.peak_flops(ranks.device, dtype, config.peak_flops)
    return {
        "world_size": ranks.world_size,
        "device": ranks.device.type,
        "dtype": str(dtype).removeprefix("torch."),
        "compile": config.compile,
        "use_zero1": config.use_zero1,
        "use_fsdp": config.use_fsdp,
        "use_triton": model.fused,
        "phase": phase.name,
        "device_name": ranks.device_name,
        "n_threads": torch.get_num_threads(),
        "n_params": model.n_params(),
        "tokens_per_iter": config.tokens_per_iter,
        "flops_per_token": flops_per_token,
        "peak_flops": peak_flops,
        "peak_source": peak_source,
        "launch": launch_id(),
        "dataset": dataset.meta,
    }


def print_summary(run: Run, metadata: dict[str, Any]) -> None:
    dataset = run.batches.dataset
    run.say(f"{dataset.folder}: {len(dataset.train):,} + {len(dataset.val):,} tokens")
    run.say(
        f"{metadata['n_params']:,} parameters, {run.config.tokens_per_iter:,} tokens per iteration"
    )
    run.say(
        f"{metadata['world_size']} x {metadata['device']}, {metadata['dtype']}, {metadata['phase']}"
    )
    if run.config.use_triton and not run.model.fused:
        why = fused.why_not(run.ranks.device)
        run.say(f"--use_triton=True: {why}; training without it")


def start_log(run: Run, metadata: dict[str, Any], start: Start) -> None:
    """Open the log, or resume the one of the checkpoint. Collective."""
    config, ranks = run.config, run.ranks
    # Iterations logged before from this one on are superseded; with --eval_only none are.
    from_iter = run.iter_num if start.is_resumed and not config.eval_only else None
    run.saver.files, session = ranks.on_main(lambda: open_log(run, metadata, start, from_iter))
    if config.log_ranks and session is not None:
        journal, session_id = session
        run.logger.open_rank(journal, session_id, world_size=ranks.world_size, from_iter=from_iter)
    # Another process may have saved while this one waited for the journal's lock.
    run.must_save_first = start.is_resumed and ranks.on_main(
        lambda: files_of(Path(config.out_dir), start.stem).written_ns != start.written_ns
    )


def open_log(
    run: Run, metadata: dict[str, Any], start: Start, from_iter: int | None
) -> tuple[RunFiles, tuple[Path, str] | None]:
    """The run's files, and the journal with the id of this session, on rank 0."""
    config = run.config.as_dict()
    out_dir = Path(config["out_dir"])
    if start.journal is not None and not run.config.save_log_to_json:
        check_not_running(out_dir / start.journal)
    if start.state is not None and start.path is not None:
        run.say(f"resuming from {display_path(start.path)} at iteration {run.iter_num}")
        if changes := resumed_flags.changes(start.state, config, run.batches.dataset.meta):
            run.say(f"changed since the checkpoint: {changes}")
    run.logger.open(
        config=config,
        metadata=metadata,
        from_iter=from_iter,
        checkpoint=start.path,
        journal=start.journal,
    )
    if start.lost is not None:
        run.logger.log("lost_tail", **start.lost._asdict())
    journal, position = run.logger.journal_path, run.logger.position
    if journal is None or position is None:
        stem = start.stem or new_stem(out_dir, run.config.wandb_run_name)
        return RunFiles(out_dir, stem), None
    run.say(f"logging to {display_path(journal)}")
    stem = journal.name.removesuffix(JOURNAL_SUFFIX)
    return RunFiles(out_dir, stem), (journal, position["session"])


def new_stem(out_dir: Path, name: str | None) -> str:
    """A new name for the files of a run without a journal, as `open_run` would choose it."""
    prefix = (name or "run").replace(os.sep, "_").replace("\0", "_")
    stem = f"{prefix}_{datetime.now():%Y%m%d_%H%M%S}"
    for attempt in range(1, 10_000):
        unique = f"{stem}_{attempt}" if attempt > 1 else stem
        with contextlib.suppress(FileExistsError):
            (out_dir / unique).mkdir()
            return unique
    raise OSError(f"{out_dir}: {stem} and 9,999 names like it exist already")
