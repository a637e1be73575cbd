# mypy: disallow-untyped-decorators=False, disallow-untyped-defs=False
# mypy: disallow-incomplete-defs=False
"""The Triton kernels of `fused`, and their launches. Imports triton: import this module late.

A kernel is compiled for the GPU of its tensors, or interpreted on the CPU if TRITON_INTERPRET=1 was
set before triton was imported. It reads float32, bfloat16 or float16 and computes in float32. Sums
have a fixed order without atomics: the same input gives the same bits.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

# Elements of a tensor that a program holds at once. At 4,096 the backward of the norm takes 147
# registers per thread on sm_90, so one program fits on a multiprocessor; at 2,048 it takes 79.
NORM_TILE = 2048
LOSS_TILE = 4096
N_WARPS = 8  # of 32 threads
N_PROGRAMS_PER_SM = 3  # of a kernel whose programs loop over rows
N_PROGRAMS_INTERPRETED = 2  # they run one by one; two, to test the sum of partial results
FUSE_MULTIPLY_ADD = True  # explicit: Triton 3.9 warns that its default will change


@triton.jit
def layer_norm_forward_kernel(
    x_ptr, weight_ptr, bias_ptr, y_ptr, mean_ptr, rstd_ptr, N, C, eps,
    HAS_BIAS: tl.constexpr, ROWS: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """y = (x - mean) * rstd * weight + bias, rstd = 1 / sqrt(variance + eps), for ROWS rows.

    Ba, Kiros and Hinton, "Layer normalization", arXiv:1607.06450. The variance is the mean
    square of x - mean, not the difference of two large numbers.
    """
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    cols = tl.arange(0, BLOCK_C)
    inside = (rows < N)[:, None] & (cols < C)[None, :]
    at = rows[:, None] * C + cols[None, :]

    x = tl.load(x_ptr + at, mask=inside, other=0.0).to(tl.float32)
    mean = tl.sum(x, axis=1) / C
    centred = tl.where(inside, x - mean[:, None], 0.0)
    rstd = 1.0 / tl.sqrt(tl.sum(centred * centred, axis=1) / C + eps)

    weight = tl.load(weight_ptr + cols, mask=cols < C, other=0.0).to(tl.float32)
    y = centred * rstd[:, None] * weight[None, :]
    if HAS_BIAS:
        y += tl.load(bias_ptr + cols, mask=cols < C, other=0.0).to(tl.float32)[None, :]
    tl.store(y_ptr + at, y.to(y_ptr.dtype.element_ty), mask=inside)
    tl.store(mean_ptr + rows, mean, mask=rows < N)
    tl.store(rstd_ptr + rows, rstd, mask=rows < N)


@triton.jit
def layer_norm_backward_kernel(
    dy_ptr, x_ptr, weight_ptr, mean_ptr, rstd_ptr, dx_ptr, dweight_ptr, dbias_ptr, N, C,
    ROWS: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """With x̂ = (x - mean) * rstd and g = dy * weight, and means over a row's channels:

        dx = rstd * (g - mean(g) - x̂ * mean(g * x̂))
        dweight = sum over rows of dy * x̂, dbias = sum over rows of dy

    Each program handles every `num_programs`-th group of rows and writes one row of partial sums.
    """
    program = tl.program_id(0)
    cols = tl.arange(0, BLOCK_C)
    weight = tl.load(weight_ptr + cols, mask=cols < C, other=0.0).to(tl.float32)
    dweight = tl.zeros((ROWS, BLOCK_C), tl.float32)
    dbias = tl.zeros((ROWS, BLOCK_C), tl.float32)

    for start in range(program * ROWS, N, tl.num_programs(0) * ROWS):
        rows = start + tl.arange(0, ROWS).to(tl.int64)
        inside = (rows < N)[:, None] & (cols < C)[None, :]
        at = rows[:, None] * C + cols[None, :]
        dy = tl.load(dy_ptr + at, mask=inside, other=0.0).to(tl.float32)
        x = tl.load(x_ptr + at, mask=inside, other=0.0).to(tl.float32)
        mean = tl.load(mean_ptr + rows, mask=rows < N, other=0.0)
        rstd = tl.load(rstd_ptr + rows, mask=rows < N, other=0.0)

        x_hat = (x - mean[:, None]) * rstd[:, None]  # its padding meets the zeros of dy's
        g = dy * weight[None, :]
        mean_g = tl.sum(g, axis=1) / C
        mean_gx = tl.sum(g * x_hat, axis=1) / C
        dx = rstd[:, None] * (g - mean_g[:, None] - x_hat * mean_gx[:, None])
        tl.store(dx_ptr + at, dx.to(dx_ptr.dtype.element_ty), mask=inside)
        dweight += dy * x_hat
        dbias += dy

    tl.store(dweight_ptr + program * C + cols, tl.sum(dweight, axis=0), mask=cols < C)
    tl.store(dbias_ptr + program * C + cols, tl.sum(dbias, axis=0), mask=cols < C)


@triton.jit
def cross_entropy_kernel(
    logits_ptr, targets_ptr, losses_ptr, V, ignore_index,
    WITH_GRADIENT: tl.constexpr, TILE_V: tl.constexpr,
):  # fmt: skip
    """loss = log(sum(exp(z))) - z[target] of one row z; then z becomes softmax(z) - onehot(target).

    The sum is computed tile by tile, relative to the largest logit so far (Milakov and Gimelshein,
    "Online normalizer calculation for softmax", arXiv:1805.02867). Ignored rows have zero loss and
    gradient.
    """
    row = tl.program_id(0).to(tl.int64)
    logits_ptr += row * V
    target = tl.load(targets_ptr + row)
    counts = target != ignore_index
    cols = tl.arange(0, TILE_V)

    largest = float("-inf")
    total = 0.0
    at_target = 0.0  # summed, not loaded: another warp may have overwritten it
    for start in range(0, V, TILE_V):
        z = tl.load(logits_ptr + start + cols, mask=start + cols < V, other=float("-inf"))
        z = z.to(tl.float32)
        before = largest
        largest = tl.maximum(before, tl.max(z, axis=0))
        total = total * tl.exp(before - largest) + tl.sum(tl.exp(z - largest), axis=0)
        at_target += tl.sum(tl.where(start + cols == target, z, 0.0), axis=0)
    lse = largest + tl.log(total)
    tl.store(losses_ptr + row, tl.where(counts, lse - at_target, 0.0))

    if WITH_GRADIENT:
        for start in range(0, V, TILE_V):
            inside = start + cols < V
            z = tl.load(logits_ptr + start + cols, mask=inside, other=0.0).to(tl.float32)
            dz = tl.exp(z - lse) - tl.where(start + cols == target, 1.0, 0.0)
            dz = tl.where(counts, dz, 0.0)
            tl.store(logits_ptr + start + cols, dz.to(logits_ptr.dtype.element_ty), mask=inside)


def layer_norm_forward(
    x: Tensor, weight: Tensor, bias: Tensor | None, eps: float, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    """y (N, C) in `dtype`, and for backward the mean and 1 / deviation of each row (N,)."""
    N, C = x.shape
    y = torch.empty_like(x, dtype=dtype)
    mean = torch.empty(N, dtype=torch.float32, device=x.device)
    rstd = torch.empty_like(mean)
    block_c, n_rows, n_warps = layout(C)
    layer_norm_forward_kernel[(triton.cdiv(N, n_rows),)](
        x, weight, x if bias is None else bias, y, mean, rstd, N, C, eps,
        HAS_BIAS=bias is not None, ROWS=n_rows, BLOCK_C=block_c, num_warps=n_warps,
        enable_fp_fusion=FUSE_MULTIPLY_ADD,
    )  # fmt: skip
    return y, mean, rstd


def layer_norm_backward(
    dy: Tensor, x: Tensor, weight: Tensor, mean: Tensor, rstd: Tensor
) -> tuple[Tensor, Tensor]:
    """dx (N, C), and dweight stacked on dbias (2, C) in float32."""
    N, C = x.shape
    dx = torch.empty_like(x)
    block_c, n_rows, n_warps = layout(C)
    n_programs = min(triton.cdiv(N, n_rows), max_programs(x.device))
    partial = torch.empty(2, n_programs, C, dtype=torch.float32, device=x.device)
    layer_norm_backward_kernel[(n_programs,)](
        dy, x, weight, mean, rstd, dx, partial[0], partial[1], N, C,
        ROWS=n_rows, BLOCK_C=block_c, num_warps=n_warps,
        enable_fp_fusion=FUSE_MULTIPLY_ADD,
    )  # fmt: skip
    return dx, partial.sum(dim=1)


def cross_entropy(
    logits: Tensor, targets: Tensor, ignore_index: int, with_gradient: bool
) -> tuple[Tensor, Tensor]:
    """Losses (N,) in float32 and their gradient (N, V), which overwrites the logits."""
    N, V = logits.shape
    losses = torch.empty(N, dtype=torch.float32, device=logits.device)
    cross_entropy_kernel[(N,)](
        logits, targets.contiguous(), losses, V, ignore_index,
        WITH_GRADIENT=with_gradient, TILE_V=LOSS_TILE, num_warps=N_WARPS,
        enable_fp_fusion=FUSE_MULTIPLY_ADD,
    )  # fmt: skip
    return losses, logits


def layout(C: int) -> tuple[int, int, int]:
    """For rows of C channels: channels and rows of a tile (powers of two), and warps."""
    block_c = triton.next_power_of_2(C)
    return block_c, max(1, NORM_TILE // block_c), min(32, max(N_WARPS, block_c // 256))


def max_programs(device: torch.device) -> int:
    if device.type == "cuda":
        return N_PROGRAMS_PER_SM * torch.cuda.get_device_properties(device).multi_processor_count
    return N_PROGRAMS_INTERPRETED
