"""How much arithmetic a token costs, how much a device could do, and so the MFU.

MFU, model FLOPs utilization (PaLM, arXiv:2204.02311, appendix B): the FLOP/s that the model's
definition asks for, as a share of the device's peak. What an implementation computes twice, or
does besides, does not count.
"""

import time
from typing import Literal

import torch

# Dense peaks in TFLOP/s from the vendors' data sheets: of bfloat16 and float16, and of float32
# matmuls, which run as TF32 where the hardware has it. The first name found in the device's wins.
PEAK_TFLOPS: tuple[tuple[str, float, float], ...] = (
    ("B200", 2250, 1100),
    ("H200", 989, 494),
    ("GH200", 989, 494),
    ("H100 NVL", 835, 417),
    ("H100 PCIe", 756, 378),
    ("H100", 989, 494),  # SXM
    ("H800", 989, 494),
    ("A100", 312, 156),
    ("A800", 312, 156),
    ("A10G", 70, 35),
    ("A10", 125, 62.5),
    ("A30", 165, 82),
    ("A40", 150, 75),
    ("A6000", 155, 77),
    ("V100", 125, 15.7),  # float16 alone has tensor cores here
    ("T4", 65, 8.1),
    ("L40S", 362, 183),
    ("L40", 181, 90.5),
    ("L4", 121, 60),
    ("RTX 5090", 209.5, 104.8),
    ("RTX 4090", 165, 82.6),
    ("RTX 3090", 71, 35.6),
    ("MI325X", 1307, 654),
    ("MI300X", 1307, 654),
    ("MI250X", 383, 95.7),
)

PeakSource = Literal["flag", "table", "measured"]


def flops_per_token(*, n_params: int, n_layer: int, n_embd: int, block_size: int) -> int:
    """FLOPs of forward and backward for one token: six a parameter, and attention's matmuls.

    `n_params` leaves out the position embeddings, which are looked up and not multiplied.
    """
    return 6 * n_params + 12 * n_layer * n_embd * block_size


def mfu_percent(flops: float, time_ms: float, peak_flops: float) -> float:
    """The MFU of one device that did `flops` in `time_ms`: this step's own, not smoothed.

    nanoGPT shows a running mean; a log is for the figure itself, which anyone can smooth later.
    """
    return 100 * flops / (time_ms / 1000) / peak_flops


def peak_flops(
    device: torch.device, dtype: torch.dtype, override: float | None = None
) -> tuple[float, PeakSource]:
    """FLOP/s that one device could do in `dtype`, and where the figure is from."""
    if override is not None:
        return override, "flag"
    if device.type == "cuda":
        known = known_peak_flops(torch.cuda.get_device_name(device), dtype)
        if known is not None:
            return known, "table"
    return measure_peak_flops(device, dtype), "measured"


def known_peak_flops(device_name: str, dtype: torch.dtype) -> float | None:
    """The table's figure, or None for a device that is not in it."""
    for name, half_tflops, single_tflops in PEAK_TFLOPS:
        if name in device_name:
            return 1e12 * (single_tflops if dtype == torch.float32 else half_tflops)
    return None


def measure_peak_flops(device: torch.device, dtype: torch.dtype, seconds: float = 0.2) -> float:
    """The best rate of a large square matmul, repeated for `seconds`: what this machine can do.

    For a CPU no table will do: the peak depends on cores, clock, vector width and neighbours.
    """
    size = 1024 if device.type == "cpu" else 8192  # 12 MB and 400 MB of operands in 32 bits
    a = torch.randn(size, size, device=device, dtype=dtype)
    best = float("inf")
    end = time.perf_counter() + seconds
    a @ a  # the first call pays for threads and libraries
    while time.perf_counter() < end or best == float("inf"):
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        started = time.perf_counter()
        a @ a
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - started)
    return 2 * size**3 / best
