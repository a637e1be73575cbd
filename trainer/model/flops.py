"""FLOPs of a token, peak FLOP/s of a device, and the MFU.

MFU, model FLOPs utilization (PaLM, arXiv:2204.02311, appendix B): the FLOP/s that the definition of
the model needs, as a share of the device's peak. Recomputation and other work do not count.
"""

import time
from typing import Literal

import torch

# Dense peaks in TFLOP/s from the vendors' data sheets: for bfloat16 and float16, and for float32
# matmuls, which run in TF32 if the hardware supports it. The first name that matches is used.
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
    ("V100", 125, 15.7),  # tensor cores for float16 only
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
    """FLOPs of forward and backward for one token: six per parameter, and attention's matmuls.

    `n_params` excludes the position embeddings, which are looked up, not multiplied.
    """
    return 6 * n_params + 12 * n_layer * n_embd * block_size


def mfu_percent(flops: float, time_ms: float, peak_flops: float) -> float:
    """The MFU, in percent, of one device that computed `flops` in `time_ms`; not smoothed."""
    return 100 * flops / (time_ms / 1000) / peak_flops


def peak_flops(
    device: torch.device, dtype: torch.dtype, override: float | None = None
) -> tuple[float, PeakSource]:
    """Peak FLOP/s of one device in `dtype`, and the source of the value."""
    if override is not None:
        return override, "flag"
    if device.type == "cuda":
        known = known_peak_flops(torch.cuda.get_device_name(device), dtype)
        if known is not None:
            return known, "table"
    return measure_peak_flops(device, dtype), "measured"


def known_peak_flops(device_name: str, dtype: torch.dtype) -> float | None:
    """The value in the table; None if the device is not in it."""
    for name, half_tflops, single_tflops in PEAK_TFLOPS:
        if name in device_name:
            return 1e12 * (single_tflops if dtype == torch.float32 else half_tflops)
    return None


def measure_peak_flops(device: torch.device, dtype: torch.dtype, seconds: float = 0.2) -> float:
    """The best rate of a large square matmul, repeated for `seconds`.

    For CPUs there is no table: the peak depends on cores, clock, vector width and other processes.
    """
    size = 1024 if device.type == "cpu" else 8192  # 12 MB and 400 MB of operands in 32 bits
    a = torch.randn(size, size, device=device, dtype=dtype)
    best = float("inf")
    end = time.perf_counter() + seconds
    a @ a  # the first call starts threads and loads libraries
    while time.perf_counter() < end or best == float("inf"):
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        started = time.perf_counter()
        a @ a
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - started)
    return 2 * size**3 / best
