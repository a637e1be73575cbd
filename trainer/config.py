"""The flags of a run, under nanoGPT's names, and the presets."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from trainer.flags import flag


@dataclass(frozen=True)
class TrainConfig:
    """The flags of a run. The defaults are the preset `tiny`: about a minute on two CPU cores.

    Raises:
        ValueError: a value is out of range, or two values contradict each other.
    """

    explicit: ClassVar[frozenset[str]] = frozenset()
    """The flags that were given on the command line; `parse` sets it on its result."""

    # The run
    preset: Literal["tiny", "small", "gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl"] = flag(
        "tiny", "run", "set of defaults; any other flag overrides it"
    )
    init_from: Literal["scratch", "resume", "auto"] = flag(
        "scratch",
        "run",
        "resume: continue the run in out_dir that --wandb_run_name names, or the only one; auto: "
        "resume if there is one, else start a new run",
    )
    resume_from: str | None = flag(
        None, "run", "run to resume: the name of its files, or the path of a checkpoint"
    )
    max_iters: int = flag(500, "run", "last iteration; the run makes max_iters + 1 steps")
    eval_interval: int = flag(100, "run", "iterations between evaluations")
    eval_iters: int = flag(20, "run", "batches of each split to evaluate on")
    eval_only: bool = flag(False, "run", "evaluate once and stop")
    always_save_checkpoint: bool = flag(
        True, "run", "at every evaluation; False: only if the val loss improved"
    )
    seed: int = flag(1337, "run", "of initial weights, batches and dropout")

    nonfinite: Literal["stop", "skip", "rewind"] = flag(
        "stop",
        "run",
        "on a NaN or infinite loss or gradient: stop, skip the step, or rewind "
        "(once) to the last checkpoint",
    )

    # Its log and checkpoints
    out_dir: str = flag("out", "logging", "folder of the log and the checkpoints")
    log_interval: int = flag(10, "logging", "iterations between console lines")
    save_log_to_json: bool = flag(True, "logging", "keep the journal and the run JSON")
    log_save_interval: int = flag(100, "logging", "iterations between updates of the run JSON")
    log_iterations: bool = flag(True, "logging", "False: log only evaluations and checkpoints")
    log_ranks: bool = flag(False, "logging", "also keep a journal for each rank: see `runs ranks`")
    log_system: bool = flag(False, "logging", "also log CPU, memory, disk and GPU usage")
    wandb_log: bool = flag(False, "logging", "also log to Weights & Biases")
    wandb_required: bool = flag(True, "logging", "False: without a login to W&B, train without it")
    wandb_project: str = flag("owt", "logging", "W&B project")
    wandb_run_name: str | None = flag(None, "logging", "name of the run and of its files")

    checkpoint_format: Literal["full", "sharded"] = flag(
        "full", "checkpoints", "full: one file; sharded: a folder that all ranks write together"
    )
    keep_checkpoints: int = flag(
        1, "checkpoints", "how many of the latest to keep, besides the best"
    )
    async_checkpoint: bool = flag(
        True, "checkpoints", "write in a thread; False: training waits for the disk"
    )

    # Data
    input: str | None = flag(
        None,
        "data",
        "text, JSONL or Parquet file (also .gz, .zst), a folder of them, or a data set: "
        "fineweb-edu, fineweb, openwebtext, fineweb-edu:100BT; None: Python's own library",
    )
    text_column: str = flag("text", "data", "field of JSONL or Parquet with the text")
    tokenizer: str = flag("bpe:4096", "data", "bpe:N (trained on the input), bytes or gpt2")
    data_dir: str = flag("data", "data", "folder of the prepared data, reused by later runs")
    gradient_accumulation_steps: int = flag(
        2, "data", "micro-batches in an iteration, of all ranks together"
    )
    batch_size: int = flag(8, "data", "sequences in a micro-batch")
    block_size: int = flag(64, "data", "tokens in a sequence")

    # Model
    n_layer: int = flag(4, "model", "transformer blocks")
    n_head: int = flag(4, "model", "attention heads")
    n_embd: int = flag(128, "model", "channels; a multiple of n_head")
    dropout: float = flag(0.0, "model", "probability; 0 for pretraining, try 0.1 for finetuning")
    bias: bool = flag(False, "model", "biases in Linear and LayerNorm, as GPT-2 had")

    # Optimizer and schedule
    optimizer: Literal["adamw", "muon"] = flag(
        "adamw", "optimizer", "muon: for the matrices in the blocks, with AdamW for the rest"
    )
    learning_rate: float = flag(3e-3, "optimizer", "peak")
    embedding_lr: float | None = flag(
        None, "optimizer", "peak, of the token embedding (also the head); None: learning_rate"
    )
    weight_decay: float = flag(0.1, "optimizer", "on matrices and embeddings")
    beta1: float = flag(0.9, "optimizer", "AdamW: decay of the mean of gradients")
    beta2: float = flag(0.95, "optimizer", "AdamW: decay of the mean of squared gradients")
    muon_momentum: float = flag(0.95, "optimizer", "Muon: decay of the mean of gradients")
    grad_clip: float = flag(1.0, "optimizer", "largest gradient norm; 0: no clipping")
    decay_lr: bool = flag(True, "schedule", "warm up, then decay; False: constant learning_rate")
    lr_schedule: Literal["cosine", "wsd"] = flag(
        "cosine", "schedule", "wsd: constant after the warm-up, then linear decay"
    )
    cooldown_iters: int | None = flag(
        None, "schedule", "iterations of the decay of wsd; None: lr_decay_iters / 5"
    )
    warmup_iters: int = flag(20, "schedule", "iterations of the linear warm-up")
    lr_decay_iters: int | None = flag(
        None, "schedule", "iteration at which min_lr is reached; None: max_iters"
    )
    min_lr: float | None = flag(
        None, "schedule", "learning rate after the decay; None: learning_rate / 10"
    )

    # Parallelism
    use_zero1: bool = flag(False, "phase", "ZeRO-1: shard the optimizer state over the ranks")
    use_fsdp: bool = flag(False, "phase", "FSDP2: shard parameters, gradients and optimizer state")
    fsdp_stage: Literal["zero3", "zero2"] = flag(
        "zero3", "phase", "zero2: keep parameters gathered from forward to backward"
    )
    fsdp_replicas: int = flag(
        1, "phase", "groups of ranks that each hold a full copy; one per node: hybrid sharding"
    )
    activation_checkpointing: bool = flag(
        False, "phase", "recompute the activations of a block in backward instead of storing them"
    )
    use_triton: bool = flag(False, "phase", "fused LayerNorm and loss, if Triton is available")

    # Hardware
    device: str = flag("auto", "system", "auto, cpu, cuda or cuda:N")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = flag(
        "auto", "system", "of the matmuls; auto: bfloat16 if the GPU supports it"
    )
    compile: bool = flag(False, "system", "torch.compile the model")
    backend: Literal["auto", "nccl", "gloo"] = flag("auto", "system", "of torch.distributed")
    peak_flops: float | None = flag(
        None, "system", "peak FLOP/s of one device, for the MFU; None: from a table, or measured"
    )

    def __post_init__(self) -> None:
        for name, is_valid, expected in RANGES:
            value = getattr(self, name)
            if value is not None and not is_valid(value):
                raise ValueError(f"--{name}={value}: must be {expected}")
        if self.n_embd % self.n_head:
            raise ValueError(f"--n_embd={self.n_embd} must be a multiple of --n_head={self.n_head}")
        if self.use_zero1 and self.use_fsdp:
            raise ValueError(
                "--use_zero1=True and --use_fsdp=True: choose one; FSDP also shards the optimizer "
                "state"
            )
        if self.fsdp_replicas > 1 and not self.use_fsdp:
            raise ValueError(f"--fsdp_replicas={self.fsdp_replicas} requires --use_fsdp=True")
        if self.lr_decay_iters is not None and self.lr_decay_iters < self.warmup_iters:
            raise ValueError(
                f"--lr_decay_iters={self.lr_decay_iters} must not be below "
                f"--warmup_iters={self.warmup_iters}"
            )

    @property
    def tokens_per_iter(self) -> int:
        """Tokens of an iteration, over all ranks."""
        return self.gradient_accumulation_steps * self.batch_size * self.block_size

    @property
    def resolved_lr_decay_iters(self) -> int:
        return self.max_iters if self.lr_decay_iters is None else self.lr_decay_iters

    @property
    def resolved_cooldown_iters(self) -> int:
        fifth = max(1, self.resolved_lr_decay_iters // 5)
        return fifth if self.cooldown_iters is None else self.cooldown_iters

    @property
    def resolved_min_lr(self) -> float:
        return self.learning_rate / 10 if self.min_lr is None else self.min_lr

    @property
    def resolved_embedding_lr(self) -> float:
        return self.learning_rate if self.embedding_lr is None else self.embedding_lr

    def as_dict(self) -> dict[str, Any]:
        """Flag names and values, with the values that None stands for filled in."""
        values = dataclasses.asdict(self)
        values["lr_decay_iters"] = self.resolved_lr_decay_iters
        if self.lr_schedule == "wsd":
            values["cooldown_iters"] = self.resolved_cooldown_iters
        values["min_lr"] = self.resolved_min_lr
        values["embedding_lr"] = self.resolved_embedding_lr
        return values


POSITIVE = (
    "eval_interval", "eval_iters", "log_interval", "log_save_interval", "batch_size", "block_size",
    "gradient_accumulation_steps", "n_layer", "n_head", "n_embd", "learning_rate", "embedding_lr",
    "keep_checkpoints", "fsdp_replicas", "peak_flops",
)  # fmt: skip
NOT_NEGATIVE = ("seed", "max_iters", "warmup_iters", "weight_decay", "grad_clip")
BELOW_ONE = ("dropout", "muon_momentum")
RANGES: tuple[tuple[str, Callable[[float], bool], str], ...] = (
    *((name, lambda value: value > 0, "positive") for name in POSITIVE),
    *((name, lambda value: value >= 0, ">= 0") for name in NOT_NEGATIVE),
    *((name, lambda value: 0 <= value < 1, ">= 0 and < 1") for name in BELOW_ONE),
)

# nanoGPT's recipe for GPT-2 on OpenWebText: half a million tokens a step.
GPT2 = {
    "tokenizer": "gpt2", "block_size": 1024, "batch_size": 12, "gradient_accumulation_steps": 40,
    "max_iters": 600_000, "eval_interval": 1000, "eval_iters": 200,
    "learning_rate": 6e-4, "warmup_iters": 2000,
}  # fmt: skip

PRESETS: dict[str, dict[str, Any]] = {
    "tiny": {},
    # nanoGPT's Shakespeare model: minutes on a GPU, hours on a CPU.
    "small": {
        "n_layer": 6, "n_head": 6, "n_embd": 384, "block_size": 256, "batch_size": 32,
        "dropout": 0.2, "max_iters": 5000, "eval_interval": 250, "eval_iters": 200,
        "learning_rate": 1e-3, "warmup_iters": 100,
    },
    "gpt2": GPT2 | {"n_layer": 12, "n_head": 12, "n_embd": 768},
    "gpt2-medium": GPT2 | {"n_layer": 24, "n_head": 16, "n_embd": 1024, "learning_rate": 3e-4},
    "gpt2-large": GPT2 | {"n_layer": 36, "n_head": 20, "n_embd": 1280, "learning_rate": 2.5e-4},
    "gpt2-xl": GPT2 | {"n_layer": 48, "n_head": 25, "n_embd": 1600, "learning_rate": 2e-4},
}  # fmt: skip
