"""The ranks of a run and what they say to each other. The loop does not know how many there are.

Without torchrun, or with one rank, there is no process group and every method is the plain thing.
Methods marked "collective" must be called by every rank, in the same order; a rank that leaves
one out hangs the others.
"""

import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from trainer.distributed.rendezvous import meet

T = TypeVar("T")

TEARDOWN_PAUSE_S = 0.05


@dataclass(frozen=True)
class Ranks:
    """This process' place among the ranks, and its device."""

    rank: int
    world_size: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    @property
    def device_name(self) -> str:
        """The GPU's name, or the CPU's architecture."""
        if self.device.type == "cuda":
            return torch.cuda.get_device_name(self.device)
        return platform.machine()

    @property
    def steps_late(self) -> int:
        """How many steps the log stays behind: on CUDA one, so that the loop never waits for it."""
        return 1 if self.device.type == "cuda" else 0

    def total(self, *values: Tensor | float) -> Tensor:
        """Each 0-d value summed over all ranks: float64, on the device. Collective."""
        total = torch.stack([self._on_device(value) for value in values])
        if self.world_size > 1:
            dist.all_reduce(total)
        return total

    def _on_device(self, value: Tensor | float) -> Tensor:
        if isinstance(value, Tensor):
            return value.to(self.device, torch.float64)
        # Filled in by the device itself: to copy a number there, the host would wait for it.
        return torch.full((), value, dtype=torch.float64, device=self.device)

    def sum(self, *values: Tensor | float) -> list[float]:
        """The same as numbers: on CUDA that waits for the GPU. Collective."""
        sums: list[float] = self.total(*values).tolist()
        return sums

    def gather(self, mine: T) -> list[T]:
        """What each rank gives, on every rank, by rank; it must be picklable. Collective."""
        if self.world_size == 1:
            return [mine]
        everybodys: list[Any] = [None] * self.world_size
        dist.all_gather_object(everybodys, mine)
        return everybodys

    def on_main(self, work: Callable[[], T]) -> T:
        """What `work()` returns on rank 0, on every rank; it must be picklable. Collective.

        If it raises on rank 0, it raises there, and the other ranks leave without a word.
        """
        if self.world_size == 1:
            return work()
        outcome: list[Any] = [False, None]
        if not self.is_main:
            dist.broadcast_object_list(outcome, device=self.device)
            done, result = outcome
            if not done:
                raise SystemExit(1)
            return result  # type: ignore[no-any-return]
        try:
            outcome = [True, work()]
        finally:
            dist.broadcast_object_list(outcome, device=self.device)
        return outcome[1]  # type: ignore[no-any-return]

    def peak_memory(self) -> dict[str, int]:
        """`memory_bytes`: the most that the GPU has held so far; nothing on a CPU."""
        if self.device.type != "cuda":
            return {}
        return {"memory_bytes": torch.cuda.max_memory_allocated(self.device)}

    def barrier(self) -> None:
        """Wait here for all ranks. Collective.

        torchrun ends the ranks that are left as soon as one leaves with another status than 0:
        whoever has nothing more to do waits for the one that still writes.
        """
        if self.world_size > 1:
            dist.barrier()

    def close(self) -> None:
        """Leave the process group. Not collective: it also follows an error.

        A gloo thread that drops the last tensor of a collective needs the interpreter's lock, and
        the group's destructor waits for that thread while it holds the lock: without a pause,
        1 in 4 runs of a dozen iterations hung here for good. Without any of this, gloo aborts
        now and then at exit.
        """
        if self.world_size > 1:
            time.sleep(TEARDOWN_PAUSE_S)
            dist.destroy_process_group()


def join_ranks(device: str = "auto", backend: str = "auto") -> Ranks:
    """This process' place, from the variables that torchrun sets; alone without them.

    Raises:
        ValueError: the device is not to be had here.
    """
    rank = int(os.environ.get("RANK", "0"))
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    chosen = choose_device(device, local_rank=int(os.environ.get("LOCAL_RANK", "0")))
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    if world_size > 1:
        if backend == "auto":
            backend = "nccl" if chosen.type == "cuda" else "gloo"
        dist.init_process_group(
            backend,
            store=meet(rank, world_size),
            rank=rank,
            world_size=world_size,
            device_id=chosen if chosen.type == "cuda" else None,
        )
    return Ranks(rank, world_size, chosen)


def choose_device(device: str, *, local_rank: int) -> torch.device:
    """`auto`: this rank's own GPU if there is one, else the CPU.

    Raises:
        ValueError: there is no such device here.
    """
    n_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device == "auto":
        device = "cuda" if n_gpus else "cpu"
    try:
        chosen = torch.device(device)
    except RuntimeError:
        raise ValueError(f"--device={device}: it takes auto, cpu, cuda or cuda:N") from None
    if chosen.type == "cuda" and chosen.index is None:
        chosen = torch.device("cuda", local_rank)
    if chosen.type == "cuda" and chosen.index >= n_gpus:
        raise ValueError(f"--device={device}: torch sees {n_gpus} GPUs here; try --device=cpu")
    return chosen


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """`auto`: bfloat16 where the GPU has it, float16 on an older GPU, float32 on a CPU."""
    if name == "auto" and device.type == "cpu":
        name = "float32"
    elif name == "auto":
        name = "bfloat16" if torch.cuda.is_bf16_supported() else "float16"
    dtypes = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    return dtypes[name]


class Arriving:
    """A small tensor on its way from the device to this process, while both go on working."""

    def __init__(self, tensor: Tensor) -> None:
        self._host, self._event = tensor, None
        if tensor.device.type == "cuda":
            # Only into pinned memory can a GPU write without anybody waiting for it.
            self._host = torch.empty_like(tensor, device="cpu", pin_memory=True)
            self._host.copy_(tensor, non_blocking=True)
            self._event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._event.record()

    def values(self) -> list[float]:
        """The numbers; waits for them if they have not arrived."""
        if self._event is not None:
            self._event.synchronize()
        values: list[float] = self._host.tolist()
        return values


class Stopwatch:
    """How long the device worked between two places of the program, by its own clock."""

    def __init__(self, device: torch.device) -> None:
        self._is_cuda = device.type == "cuda"
        self._started = self._now()
        self._lap: Any = None
        self._stopped: Any = None

    def lap(self) -> None:
        self._lap = self._now()

    def stop(self) -> None:
        self._stopped = self._now()

    def time_ms(self) -> float:
        """On CUDA it waits until the device has come to `stop`."""
        return self._until(self._stopped)

    def lap_ms(self) -> float:
        """From the beginning to `lap`."""
        return self._until(self._lap)

    def _until(self, then: Any) -> float:
        if not self._is_cuda:
            return float(1000 * (then - self._started))
        then.synchronize()
        return float(self._started.elapsed_time(then))

    def _now(self) -> Any:
        if not self._is_cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event


def micro_steps(gradient_accumulation_steps: int, world_size: int) -> int:
    """Micro-steps of each rank, so that all ranks together make the number asked for.

    Raises:
        ValueError: it does not divide.
    """
    if gradient_accumulation_steps % world_size:
        nearest = -(-gradient_accumulation_steps // world_size) * world_size
        raise ValueError(
            f"--gradient_accumulation_steps={gradient_accumulation_steps} cannot be shared by "
            f"{world_size} ranks: it counts the micro-batches of all ranks; try {nearest}"
        )
    return gradient_accumulation_steps // world_size
