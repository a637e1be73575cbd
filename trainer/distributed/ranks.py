"""The ranks of a run, and their communication.

With one rank there is no process group, and every method works without communication. Methods
marked "collective" must be called by every rank in the same order: if one does not, the others
hang.
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
    """This process' rank, the number of ranks, and its device."""

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
        """How many steps the log is behind: on CUDA one, so that the loop never waits for it."""
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
        # Filled by the device: copying a number to it would make the host wait.
        return torch.full((), value, dtype=torch.float64, device=self.device)

    def sum(self, *values: Tensor | float) -> list[float]:
        """The same as Python numbers, which on CUDA waits for the GPU. Collective."""
        sums: list[float] = self.total(*values).tolist()
        return sums

    def gather(self, value: T) -> list[T]:
        """The values of all ranks, ordered by rank, on every rank; picklable. Collective."""
        if self.world_size == 1:
            return [value]
        values: list[Any] = [None] * self.world_size
        dist.all_gather_object(values, value)
        return values

    def on_main(self, work: Callable[[], T]) -> T:
        """Call `work()` on rank 0 and return its result, picklable, on every rank. Collective.

        If it raises on rank 0, the other ranks exit with status 1 and print nothing.
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
        """`memory_bytes`: the peak of GPU memory so far; {} on a CPU."""
        if self.device.type != "cuda":
            return {}
        return {"memory_bytes": torch.cuda.max_memory_allocated(self.device)}

    def barrier(self) -> None:
        """Wait for all ranks. Collective.

        torchrun kills all ranks as soon as one exits with a status other than 0, so the others
        have to wait for rank 0 to finish writing.
        """
        if self.world_size > 1:
            dist.barrier()

    def close(self) -> None:
        """Leave the process group. Not collective: it is also called after an error.

        A gloo thread that frees the last tensor of a collective needs the GIL, and the group's
        destructor waits for that thread while it holds the GIL: without the pause, this call
        sometimes hangs. Without `destroy_process_group`, gloo sometimes aborts at exit.
        """
        if self.world_size > 1:
            time.sleep(TEARDOWN_PAUSE_S)
            dist.destroy_process_group()


def join_ranks(device: str = "auto", backend: str = "auto") -> Ranks:
    """The rank from torchrun's environment variables; without them a single rank.

    Raises:
        ValueError: the device is not available.
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
        ValueError: the device is unknown or not available.
    """
    n_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device == "auto":
        device = "cuda" if n_gpus else "cpu"
    try:
        chosen = torch.device(device)
    except RuntimeError:
        raise ValueError(f"--device={device}: must be auto, cpu, cuda or cuda:N") from None
    if chosen.type == "cuda" and chosen.index is None:
        chosen = torch.device("cuda", local_rank)
    if chosen.type == "cuda" and chosen.index >= n_gpus:
        raise ValueError(f"--device={device}: torch finds {n_gpus} GPUs; try --device=cpu")
    return chosen


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """`auto`: bfloat16 if the GPU supports it, float16 on an older GPU, float32 on a CPU."""
    if name == "auto" and device.type == "cpu":
        name = "float32"
    elif name == "auto":
        name = "bfloat16" if torch.cuda.is_bf16_supported() else "float16"
    dtypes = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    return dtypes[name]


class Arriving:
    """A small tensor that is copied from the device to the host asynchronously."""

    def __init__(self, tensor: Tensor) -> None:
        self._host, self._event = tensor, None
        if tensor.device.type == "cuda":
            # Only copies into pinned memory are asynchronous.
            self._host = torch.empty_like(tensor, device="cpu", pin_memory=True)
            self._host.copy_(tensor, non_blocking=True)
            self._event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._event.record()

    def values(self) -> list[float]:
        """The numbers; waits until they have arrived."""
        if self._event is not None:
            self._event.synchronize()
        values: list[float] = self._host.tolist()
        return values


class Stopwatch:
    """The time between two points of the program, by the clock of the device."""

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
        """From the start to `stop`; on CUDA, waits until the device has reached it."""
        return self._until(self._stopped)

    def lap_ms(self) -> float:
        """From the start to `lap`."""
        return self._until(self._lap)

    def _until(self, end: Any) -> float:
        if not self._is_cuda:
            return float(1000 * (end - self._started))
        end.synchronize()
        return float(self._started.elapsed_time(end))

    def _now(self) -> Any:
        if not self._is_cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event


def micro_steps(gradient_accumulation_steps: int, world_size: int) -> int:
    """Micro-steps of each rank in an iteration.

    Raises:
        ValueError: the micro-batches of an iteration cannot be divided evenly among the ranks.
    """
    if gradient_accumulation_steps % world_size:
        nearest = -(-gradient_accumulation_steps // world_size) * world_size
        raise ValueError(
            f"--gradient_accumulation_steps={gradient_accumulation_steps} counts the micro-batches "
            f"of all ranks and must be a multiple of their number, {world_size}; try {nearest}"
        )
    return gradient_accumulation_steps // world_size
