"""A run, put together from its flags: data, model, optimizer, phase, log, and where it goes on."""

import dataclasses
import math
import os
import socket
import sys
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from trainer import checkpoint, flops, fused
from trainer.checkpoint import State
from trainer.config import TrainConfig
from trainer.data import Batches, Dataset
from trainer.model import GPT, GPTConfig
from trainer.optim import LossScale, Optimizer
from trainer.parallel import Phase, choose_phase, placed_like
from trainer.prepare import prepare
from trainer.ranks import Ranks, choose_dtype, micro_steps
from trainer.saver import Saver, copy_of
from trainer.schedule import learning_rate_at
from trainer.system import Sampler
from trainer.training_logger import TrainingLogger, journal_of_launch

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
            **self.origin,
        }

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

    Raises:
        ValueError, OSError: the flags, the data, the checkpoint or the folder will not do.
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
    logger = new_logger(config, ranks)
    sampler = new_sampler(config, ranks, logger)
    begin = find_beginning(config, ranks)
    if begin.state is not None:
        checkpoint.check_same_flags(begin.state, config.as_dict())
        config = dataclasses.replace(config, **checkpoint.shape_of(begin.state))
    dataset = open_data(config, ranks)
    if begin.state is not None:
        checkpoint.check_same_tokenizer(begin.state, dataset.tokenizer, dataset.meta)

    ranks.on_main(lambda: Path(config.out_dir).mkdir(parents=True, exist_ok=True))
    no_triton = fused.why_not(device) if config.use_triton else ""
    torch.manual_seed(config.seed)
    torch.set_float32_matmul_precision("high")  # TF32 where the GPU has it, as nanoGPT
    model = GPT(
        model_config(config, dataset.meta["vocab_size"]),
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
    beside = ranks.on_main(lambda: open_log(run, metadata, begin))
    if config.log_ranks and beside is not None:
        from_iter = run.iter_num if begin.goes_on else None
        logger.open_rank(*beside, world_size=ranks.world_size, from_iter=from_iter)
    run.is_overtaken = begin.goes_on and ranks.on_main(
        lambda: checkpoint.written_ns(Path(config.out_dir)) != begin.newest_ns
    )
    return run


@dataclass
class Beginning:
    """Where a run begins: a checkpoint, an interrupted journal without one, or from nothing."""

    path: Path | None = None
    state: State | None = None
    journal: str | None = None
    newest_ns: int | None = None
    """When the newest checkpoint in the folder was written."""

    @property
    def goes_on(self) -> bool:
        return self.state is not None or self.journal is not None


def find_beginning(config: TrainConfig, ranks: Ranks) -> Beginning:
    """What to go on from. Collective.

    A process that torchrun started again goes on with what its launch has done so far, whatever
    `init_from` says: that was meant for the first one.

    Raises:
        ValueError: there is nothing to go on from, or nothing that is whole.
    """
    out_dir = Path(config.out_dir)
    newest_ns = ranks.on_main(lambda: checkpoint.written_ns(out_dir))
    journal = ranks.on_main(lambda: journal_of_launch(out_dir, this_launch()))
    if config.init_from == "scratch" and journal is None:
        return Beginning()
    own = journal if config.init_from == "scratch" else None
    is_optional = config.init_from != "resume"
    found = ranks.on_main(lambda: look_for_checkpoint(out_dir, own, is_optional=is_optional))
    if found is None:
        return Beginning(journal=journal, newest_ns=newest_ns)
    path, remarks = found
    if ranks.is_main:
        for remark in remarks:
            print(remark, file=sys.stderr, flush=True)
    state = checkpoint.load_rest(path)
    return Beginning(path, state, state["journal"] and state["journal"]["file"], newest_ns)


def look_for_checkpoint(
    out_dir: Path, journal: str | None, *, is_optional: bool
) -> tuple[Path, list[str]] | None:
    """The newest whole checkpoint, of that journal's run if one is named."""
    if is_optional and not checkpoint.exists(out_dir, journal):
        return None
    return checkpoint.newest(out_dir, journal)


def this_launch() -> str | None:
    """What the processes of one torchrun have in common, restarted or not, and no others.

    Its count of restarts does not tell: on the nodes where nothing died it stays 0.
    """
    launch = os.environ.get("TORCHELASTIC_RUN_ID")
    if launch is None:
        return None
    launcher = os.getppid()
    return f"{launch}@{socket.gethostname()}:{launcher}:{started_at(launcher)}"


def started_at(pid: int) -> str:
    """When that process began, in the kernel's ticks: ids are given again. Empty off Linux."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    return status.rpartition(")")[2].split()[19]  # proc(5): field 22, and two are before the ")"


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


def open_log(run: Run, metadata: dict[str, Any], begin: Beginning) -> tuple[Path, str] | None:
    """Begin the log, or go on with the one that the checkpoint remembers: journal and session."""
    config = run.config.as_dict()
    if begin.state is not None:
        run.say(f"going on from {begin.path} at iteration {run.iter_num}")
        if changes := checkpoint.changes(begin.state, config, run.origin["dataset"]):
            run.say(f"not the run it was: {changes}")
    run.logger.open(
        config=config,
        metadata=metadata,
        from_iter=run.iter_num if begin.goes_on else None,
        checkpoint=begin.path,
        journal=begin.journal,
    )
    if run.logger.journal_path is not None:
        run.say(f"logging to {run.logger.journal_path}")
    journal, position = run.logger.journal_path, run.logger.position
    return (journal, position["session"]) if journal is not None and position else None


def placed(value: Tensor, parameter: Tensor) -> Tensor:
    """A tensor of a checkpoint as `parameter` is; one that was read as a part is one already."""
    return value if isinstance(value, DTensor) else placed_like(value, parameter)
