"""A run, put together from its flags: data, model, optimizer, phase, log, and where it goes on."""

import contextlib
import dataclasses
import math
import os
import sys
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from trainer.checkpoint import checkpoint, resume
from trainer.checkpoint.beginning import (
    Beginning,
    find_beginning,
    is_for_wandb,
    settled,
    this_launch,
)
from trainer.checkpoint.checkpoint import State
from trainer.checkpoint.run_files import JOURNAL_SUFFIX, RunFiles, files_of
from trainer.checkpoint.saver import Saver, copy_of
from trainer.config import TrainConfig
from trainer.data.dataset import Batches, Dataset
from trainer.distributed.parallel import Phase, choose_phase, placed_like
from trainer.distributed.ranks import Ranks, choose_dtype, micro_steps
from trainer.model import flops, fused
from trainer.model.gpt import GPT, GPTConfig
from trainer.optim.optimizer import LossScale, Optimizer
from trainer.optim.schedule import learning_rate_at
from trainer.prepare import prepare
from trainer.system import Sampler
from trainer.training_logger import TrainingLogger, shown

VOCAB_MULTIPLE = 64  # the tensor cores want it: GPT-2's 50257 becomes nanoGPT's 50304


@dataclass
class Run:
    """All that a run is made of. Only the last fields change, from `iter_num` on."""

    config: TrainConfig
    ranks: Ranks
    phase: Phase
    logger: TrainingLogger
    batches: Batches
    model: GPT  # the weights by their own names
    network: nn.Module  # the same, wrapped for the ranks: what is trained
    optimizer: Optimizer
    loss_scale: LossScale
    saver: Saver
    sampler: AbstractContextManager[object]  # of the machine, while it is entered
    autocast: AbstractContextManager[Any]
    n_micro_steps: int  # of each rank
    tokens_per_iter: int  # of all ranks
    flops_per_iter: float  # of each rank
    peak_flops: float  # of each rank
    origin: dict[str, Any]  # what a checkpoint says of data and tokenizer
    iter_num: int = 0
    best_val_loss: float = math.inf
    saved_iter: int | None = None  # of its newest durable checkpoint, as rank 0 knows
    ending: tuple[str, str | None] = ("completed", None)  # how its log is closed at its good end
    is_overtaken: bool = False  # an orphan saved while this process looked and waited for the lock

    def learning_rate(self, iter_num: int) -> float:
        """The learning rate of an iteration, by the schedule or without one."""
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
        """A line for whoever watches; once, not once a rank."""
        if self.ranks.is_main:
            print(line, flush=True)

    # What a checkpoint holds, out and in

    def state(self) -> State:
        """All that the run needs to go on before the step `iter_num`, copied. Collective.

        Of a full checkpoint it is on rank 0 alone. No state of chance is in it: batches and
        dropout are functions of the seed and the iteration.
        """
        weights = dict(self.model.named_parameters())
        is_sharded = self.config.checkpoint_format == "sharded"
        gather = copy_of if is_sharded else self.phase.gather
        return {
            "model": gather(weights),
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
            **self.origin,
        }

    def follow_log(self) -> None:
        """Save where the log is: somebody may have moved the folder. On rank 0; else nothing."""
        journal, files = self.logger.journal_path, self.saver.files
        if journal is None or journal.parent == files.out_dir.resolve():
            return
        out_dir = Path(shown(journal.parent))
        self.say(f"{files.out_dir} was moved: checkpoints are written into {out_dir} from here on")
        self.saver.files = dataclasses.replace(files, out_dir=out_dir)

    @torch.no_grad()
    def load(self, path: Path, state: State) -> None:
        """Go on from the checkpoint at `path`, of which `state` is all but a folder's tensors."""
        parameters = dict(self.model.named_parameters())
        owned = self.optimizer.parameters
        if path.is_dir():
            state |= checkpoint.load_tensors(path, self._parts_of(path))
        for name, parameter in parameters.items():
            parameter.copy_(placed(state["model"][name], parameter))
        mine = {k: v for k, v in state["optimizer"].items() if k.rpartition(".")[0] in owned}
        self.optimizer.load_state(mine, placed)
        self.loss_scale.load_state(state["scaler"])
        self.iter_num, self.best_val_loss = state["iter_num"], state["best_val_loss"]
        self.saved_iter = self.iter_num

    def _parts_of(self, path: Path) -> dict[str, dict[str, Tensor]]:
        """Room for this rank's parts of a sharded checkpoint."""
        room: dict[str, dict[str, Tensor]] = {"model": {}, "optimizer": {}}
        owned = self.optimizer.parameters
        for kind, named in checkpoint.read_sizes(path).items():
            for name, (shape, dtype) in named.items():
                of = name if kind == "model" else name.rpartition(".")[0]
                if kind == "optimizer" and of not in owned:
                    continue
                parameter = dict(self.model.named_parameters())[of]
                whole = shape == parameter.shape
                room[kind][name] = (
                    torch.empty_like(parameter) if whole else torch.empty(shape, dtype=dtype)
                )
        return room


def set_up(config: TrainConfig, ranks: Ranks) -> Run:
    """A run about to begin, or to go on from its checkpoint. Collective.

    Where a run goes on, its checkpoint decides the flags that were not given.

    Raises:
        ValueError, OSError: the flags, the data, the checkpoint or the folder will not do.
        NothingLeft: the run has all its iterations.
    """
    n_micro_steps = ranks.on_main(
        lambda: micro_steps(config.gradient_accumulation_steps, ranks.world_size)
    )
    device, dtype = ranks.device, choose_dtype(config.dtype, ranks.device)

    def divided() -> Phase:
        return choose_phase(
            ranks,
            use_zero1=config.use_zero1,
            use_fsdp=config.use_fsdp,
            fsdp_stage=config.fsdp_stage,
            fsdp_replicas=config.fsdp_replicas,
            dtype=dtype,
        )

    ranks.on_main(lambda: divided().name)  # what is wrong is wrong everywhere: said once
    phase = divided()
    begin = find_beginning(config, ranks)
    config = settled(config, begin, ranks)
    wandb_log = ranks.on_main(lambda: is_for_wandb(config))
    config = dataclasses.replace(config, wandb_log=wandb_log)
    logger = new_logger(config, ranks)
    sampler = new_sampler(config, ranks, logger)
    dataset = open_data(config, ranks)
    if begin.state is not None:
        resume.check_same_tokenizer(begin.state, dataset.tokenizer, dataset.meta)

    ranks.on_main(lambda: Path(config.out_dir).mkdir(parents=True, exist_ok=True))
    no_triton = fused.why_not(device) if config.use_triton else ""
    torch.manual_seed(config.seed)
    torch.set_float32_matmul_precision("high")  # TF32 where the GPU has it, as nanoGPT
    shape = model_config(config, dataset.meta["vocab_size"])
    if begin.state is not None:
        resume.check_same_vocabulary(begin.state, shape.vocab_size)
    model = GPT(
        shape,
        recompute=config.activation_checkpointing,
        fused=config.use_triton and not no_triton,
    ).to(device)
    n_params, n_multiplied = model.n_params(), model.n_params(non_embedding=True)
    network = phase.wrap(model, compile=config.compile)
    optimizer = Optimizer(
        phase.owned(model),
        name=config.optimizer,
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        betas=(config.beta1, config.beta2),
        embedding_learning_rate=config.resolved_embedding_lr,
        muon_momentum=config.muon_momentum,
    )

    tokens_per_iter = config.gradient_accumulation_steps * config.batch_size * config.block_size
    flops_per_token = flops.flops_per_token(
        n_params=n_multiplied,
        n_layer=config.n_layer,
        n_embd=config.n_embd,
        block_size=config.block_size,
    )
    peak_flops, peak_source = flops.peak_flops(device, dtype, config.peak_flops)
    run = Run(
        config=config,
        ranks=ranks,
        phase=phase,
        logger=logger,
        batches=Batches(
            dataset,
            seed=config.seed,
            batch_size=config.batch_size,
            block_size=config.block_size,
            rank=ranks.rank,
            world_size=ranks.world_size,
            device=device,
        ),
        model=model,
        network=network,
        optimizer=optimizer,
        loss_scale=LossScale(device, enabled=dtype == torch.float16),
        saver=Saver(
            Path(config.out_dir),
            ranks,
            format=config.checkpoint_format,
            keep=config.keep_checkpoints,
            is_async=config.async_checkpoint,
        ),
        sampler=sampler,
        autocast=torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32),
        n_micro_steps=n_micro_steps,
        tokens_per_iter=tokens_per_iter,
        flops_per_iter=flops_per_token * tokens_per_iter / ranks.world_size,
        peak_flops=peak_flops,
        origin={"dataset": dataset.meta, "tokenizer": dataset.tokenizer},
    )
    if begin.state is not None and begin.path is not None:
        run.load(begin.path, begin.state)
        if config.eval_only and begin.last_iter < config.max_iters:
            run.ending = ("interrupted", "--eval_only=True")  # it has iterations left, as before
    metadata = {
        "world_size": ranks.world_size,
        "device": device.type,
        "dtype": str(dtype).removeprefix("torch."),
        "compile": config.compile,
        "use_zero1": config.use_zero1,
        "use_fsdp": config.use_fsdp,
        "use_triton": config.use_triton and not no_triton,
        "phase": phase.name,
        "device_name": ranks.device_name,
        "n_threads": torch.get_num_threads(),
        "n_params": n_params,
        "tokens_per_iter": tokens_per_iter,
        "flops_per_token": flops_per_token,
        "peak_flops": peak_flops,
        "peak_source": peak_source,
        "launch": this_launch(),
        "dataset": dataset.meta,
    }
    run.say(f"{dataset.folder}: {len(dataset.train):,} + {len(dataset.val):,} tokens")
    run.say(f"{n_params:,} parameters, {tokens_per_iter:,} tokens per iteration")
    run.say(f"{ranks.world_size} x {device.type}, {metadata['dtype']}, {phase.name}")
    if no_triton:
        run.say(f"--use_triton=True: {no_triton}; going on without")
    run.saver.files, beside = ranks.on_main(lambda: open_log(run, metadata, begin))
    if config.log_ranks and beside is not None:
        logger.open_rank(*beside, world_size=ranks.world_size, from_iter=from_iter(run, begin))
    run.is_overtaken = begin.goes_on and ranks.on_main(
        lambda: files_of(Path(config.out_dir), begin.stem).written_ns != begin.newest_ns
    )
    return run


def new_logger(config: TrainConfig, ranks: Ranks) -> TrainingLogger:
    """The log of the run, not yet begun: what is missing for it is found before any work."""
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
    """What watches the machine while the run trains, on rank 0 if it is asked for."""
    if not (config.log_system and ranks.is_main):
        return nullcontext()
    return Sampler(logger.log, Path(config.out_dir))


def open_data(config: TrainConfig, ranks: Ranks) -> Dataset:
    """The prepared data; rank 0 prepares it if need be, and the others wait. Collective."""
    folder = ranks.on_main(
        lambda: prepare(
            Path(config.data_dir),
            input=config.input,
            text_column=config.text_column,
            tokenizer=config.tokenizer,
            report=lambda words: print(words, file=sys.stderr, flush=True),
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


def open_log(
    run: Run, metadata: dict[str, Any], begin: Beginning
) -> tuple[RunFiles, tuple[Path, str] | None]:
    """Begin the log, or go on with the one that the checkpoint remembers.

    The run's files, and of its log the journal and the session.
    """
    config = run.config.as_dict()
    out_dir = Path(config["out_dir"])
    if begin.journal is not None and not run.config.save_log_to_json:
        resume.refuse_live(out_dir / begin.journal)
    if begin.state is not None and begin.path is not None:
        run.say(f"going on from {shown(begin.path)} at iteration {run.iter_num}")
        if changes := resume.changes(begin.state, config, run.origin["dataset"]):
            run.say(f"not the run it was: {changes}")
    run.logger.open(
        config=config,
        metadata=metadata,
        from_iter=from_iter(run, begin),
        checkpoint=begin.path,
        journal=begin.journal,
    )
    if begin.lost is not None:
        run.logger.log("lost_tail", **begin.lost._asdict())
    journal, position = run.logger.journal_path, run.logger.position
    if journal is None or position is None:
        return RunFiles(out_dir, begin.stem or new_stem(out_dir, run.config.wandb_run_name)), None
    run.say(f"logging to {shown(journal)}")
    return RunFiles(out_dir, journal.name.removesuffix(JOURNAL_SUFFIX)), (
        journal,
        position["session"],
    )


def from_iter(run: Run, begin: Beginning) -> int | None:
    """The first iteration that this session takes; None: it takes none that there is already."""
    return run.iter_num if begin.goes_on and not run.config.eval_only else None


def new_stem(out_dir: Path, name: str | None) -> str:
    """A name for the files of a run that keeps no journal, as `open_run` gives one; claimed."""
    begin = (name or "run").replace(os.sep, "_").replace("\0", "_")
    stem = f"{begin}_{datetime.now():%Y%m%d_%H%M%S}"
    for attempt in range(1, 10_000):
        taken = f"{stem}_{attempt}" if attempt > 1 else stem
        with contextlib.suppress(FileExistsError):
            (out_dir / taken).mkdir()
            return taken
    raise OSError(f"{out_dir}: {stem} and 9,999 names like it are taken")


def placed(value: Tensor, parameter: Tensor) -> Tensor:
    """A tensor of a checkpoint as `parameter` is; one that was read as a part is one already."""
    return value if isinstance(value, DTensor) else placed_like(value, parameter)
