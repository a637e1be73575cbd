"""Slots for parallel trials, each with its share of the machine's cores and GPUs."""

import os
import shutil
import subprocess
from dataclasses import dataclass

from ..core.runs import Refusal

LIMIT_S = 20  # time limit of nvidia-smi: a driver may start slowly


@dataclass(frozen=True)
class Slot:
    """The cores and GPUs of one trial at a time."""

    n_cores: int
    gpus: tuple[str, ...]

    def environment(self) -> dict[str, str]:
        """The variables for OpenMP, torch and CUDA; OMP_NUM_THREADS of the user stays."""
        variables = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS") or str(self.n_cores)}
        if self.gpus:
            variables["CUDA_VISIBLE_DEVICES"] = ",".join(self.gpus)
        return variables


def divide(n_jobs: int, gpus: tuple[str, ...] | None = None) -> list[Slot]:
    """`n_jobs` slots of equal size; if there are fewer GPUs, several slots share one.

    `gpus`: names as in CUDA_VISIBLE_DEVICES; None: all of this machine.

    Raises:
        Refusal: `n_jobs` is below 1.
    """
    if n_jobs < 1:
        raise Refusal(f"--jobs: must be a whole number >= 1, got {n_jobs}")
    gpus = visible_gpus() if gpus is None else gpus
    n_cores = max(1, n_usable_cores() // n_jobs)
    return [Slot(n_cores, _share(gpus, i, n_jobs)) for i in range(n_jobs)]


def n_usable_cores() -> int:
    """Cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def visible_gpus() -> tuple[str, ...]:
    """The GPUs of this machine, or those in CUDA_VISIBLE_DEVICES."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return tuple(word.strip() for word in named.split(",") if word.strip())
    if shutil.which("nvidia-smi") is None:
        return ()
    command = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
    try:
        result = subprocess.run(
            command, capture_output=True, text=True, timeout=LIMIT_S, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ()
    return tuple(result.stdout.split())


def _share(gpus: tuple[str, ...], slot: int, n_slots: int) -> tuple[str, ...]:
    if len(gpus) < n_slots:
        return gpus[slot % len(gpus) :][:1] if gpus else ()
    return gpus[slot * len(gpus) // n_slots : (slot + 1) * len(gpus) // n_slots]
