"""Places for trials side by side, each with its share of the machine's cores and GPUs."""

import os
import shutil
import subprocess
from dataclasses import dataclass

from ..core.runs import Refusal

SECONDS = 20  # for a driver to answer that is just waking up


@dataclass(frozen=True)
class Slot:
    """What one of the trials at a time may use."""

    n_cores: int
    gpus: tuple[str, ...]

    def environment(self) -> dict[str, str]:
        """The variables that say so to OpenMP, torch and CUDA; what a user has set stays."""
        told = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS") or str(self.n_cores)}
        if self.gpus:
            told["CUDA_VISIBLE_DEVICES"] = ",".join(self.gpus)
        return told


def divide(n_jobs: int, gpus: tuple[str, ...] | None = None) -> list[Slot]:
    """`n_jobs` slots of equal size; with more of them than GPUs, several share one.

    `gpus`: names as CUDA_VISIBLE_DEVICES has them; None: those that there are.

    Raises:
        Refusal: that many jobs make no sense.
    """
    if n_jobs < 1:
        raise Refusal(f"--jobs {n_jobs}: at least one trial must run")
    gpus = visible_gpus() if gpus is None else gpus
    n_cores = max(1, n_usable_cores() // n_jobs)
    return [Slot(n_cores, _share(gpus, i, n_jobs)) for i in range(n_jobs)]


def n_usable_cores() -> int:
    """Cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def visible_gpus() -> tuple[str, ...]:
    """The GPUs of this machine, or those of them that CUDA_VISIBLE_DEVICES leaves."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return tuple(word.strip() for word in named.split(",") if word.strip())
    if shutil.which("nvidia-smi") is None:
        return ()
    command = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):
        return ()
    return tuple(done.stdout.split())


def _share(gpus: tuple[str, ...], slot: int, n_slots: int) -> tuple[str, ...]:
    if len(gpus) < n_slots:
        return gpus[slot % len(gpus) :][:1] if gpus else ()
    return gpus[slot * len(gpus) // n_slots : (slot + 1) * len(gpus) // n_slots]
