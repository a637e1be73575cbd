"""LayerNorm, and the head with its loss, each as one operation (--use_triton).

    y = layer_norm(x, weight, bias)                    # as F.layer_norm
    loss = linear_cross_entropy(x, weight, targets)    # as F.cross_entropy(x @ weight.T, targets)

The second never stores the logits (N, V), the largest tensor of a training step: it computes the
losses and gradients of some rows at a time, as Liger Kernel does (arXiv:2410.10989). Liger itself
is not used because it waits for the GPU to count the rows, and its norm cannot be interpreted;
PyTorch's F.linear_cross_entropy because its loss of bfloat16 is bfloat16, and it ignores autocast.

On a GPU both run Triton kernels. If Triton cannot be used (see `why_not`) they use PyTorch's
operations, with the same results. Both are opaque to `torch.compile` and do not break its graph.
"""

import os
from importlib.util import find_spec
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional as F

IS_INSTALLED = find_spec("triton") is not None
IS_INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"  # triton, too, reads it on import only

# Rows whose logits are in memory at a time. Each chunk reads and writes the weight's gradient once:
# at 2,048 rows that is 6 * 2,048 FLOP for 8 bytes, five times what an H100 needs to be compute
# bound, and the logits take 206 MB for GPT-2 in bfloat16. On a CPU smaller chunks are faster.
CHUNK_ROWS = {"cuda": 2048, "cpu": 512}


def why_not(device: torch.device) -> str:
    """Why Triton cannot be used on `device`, in one line; empty if it can."""
    if not IS_INSTALLED:
        return "triton is not installed (pip install triton)"
    if device.type != "cuda" and not IS_INTERPRETED:
        return f"triton needs a GPU, and the device is {device.type}"
    return ""


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor | None, eps: float = 1e-5) -> Tensor:
    """LayerNorm of `x` (..., C) over its last dimension.

    The statistics are in float32 for any `x`. The result has the dtype of `x`; under autocast
    Triton writes autocast's dtype, to which the next matmul would cast it.
    """
    if why_not(x.device):
        return F.layer_norm(x, weight.shape, weight, bias, eps)
    y, _, _ = normalize(x.reshape(-1, x.size(-1)), weight, bias, eps, matmul_dtype(x))
    return cast(Tensor, y).view(x.shape)


def linear_cross_entropy(
    x: Tensor, weight: Tensor, targets: Tensor, ignore_index: int = -1
) -> Tensor:
    """The mean cross-entropy in nats of `x @ weight.T` against `targets`, 0-d, float32.

    If a backward will follow, the gradients are computed together with the loss; backward scales
    them. Under autocast the matmuls run in its dtype.

    Args:
        x: (N, C); float32, bfloat16 or float16.
        weight: (V, C), of the same dtype (under autocast of any).
        targets: int64 (N,), each below V or `ignore_index`: such rows do not count. If no row
            counts the loss is NaN, as in PyTorch.
    """
    with_gradient = torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad)
    loss, *_ = loss_and_gradients(x, weight, targets, ignore_index, matmul_dtype(x), with_gradient)
    return cast(Tensor, loss)


def matmul_dtype(x: Tensor) -> torch.dtype:
    """The dtype to which a matmul would cast `x`."""
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype


@torch.library.custom_op("runjournal::normalize", mutates_args=())
def normalize(
    x: Tensor, weight: Tensor, bias: Tensor | None, eps: float, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    """The LayerNorm of `x` (N, C) in `dtype`, and the mean and 1 / deviation of each row."""
    from trainer.model import kernels

    return kernels.layer_norm_forward(x.contiguous(), weight, bias, eps, dtype)


@torch.library.custom_op("runjournal::normalize_backward", mutates_args=())
def normalize_backward(
    dy: Tensor, x: Tensor, weight: Tensor, mean: Tensor, rstd: Tensor
) -> tuple[Tensor, Tensor]:
    """dx (N, C), and dweight stacked on dbias (2, C) in float32."""
    from trainer.model import kernels

    return kernels.layer_norm_backward(dy.contiguous(), x.contiguous(), weight, mean, rstd)


@torch.library.custom_op("runjournal::loss_and_gradients", mutates_args=())
def loss_and_gradients(
    x: Tensor,
    weight: Tensor,
    targets: Tensor,
    ignore_index: int,
    dtype: torch.dtype,
    with_gradient: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The mean loss in float32; dx (N, C), dweight (V, C), and N', which divides both.

    N' is the number of rows that count, at least 1. The gradients are those of the sum over the
    rows: gradients of logits are then between -1 and 1, for any N and loss scale, which float16 can
    represent. dx is in `dtype`, the dtype of the matmuls; dweight is summed in float32.
    """
    counts = targets != ignore_index
    known = ~counts | ((targets >= 0) & (targets < len(weight)))
    torch._assert_async(
        known.all(), "a target is neither below the vocabulary size nor ignore_index"
    )
    if why_not(x.device):
        cross_entropy = pytorch_cross_entropy
    else:
        from trainer.model.kernels import cross_entropy
    n_rows = CHUNK_ROWS.get(x.device.type, CHUNK_ROWS["cpu"])
    x, weight = x.to(dtype), weight.to(dtype)
    losses = torch.empty(len(x), dtype=torch.float32, device=x.device)
    dx = torch.empty_like(x) if with_gradient else x.new_empty(0)
    dweight = torch.zeros_like(weight, dtype=torch.float32) if with_gradient else x.new_empty(0)
    with torch.autocast(x.device.type, enabled=False):
        for start in range(0, len(x), n_rows):
            rows = slice(start, start + n_rows)
            logits = x[rows] @ weight.T
            losses[rows], dlogits = cross_entropy(
                logits, targets[rows], ignore_index, with_gradient
            )
            if with_gradient:
                torch.mm(dlogits, weight, out=dx[rows])
                add_product(dweight, dlogits.T, x[rows])
    n_counting = counts.sum()
    return losses.sum() / n_counting, dx, dweight, n_counting.clamp(min=1)


def pytorch_cross_entropy(
    logits: Tensor, targets: Tensor, ignore_index: int, with_gradient: bool
) -> tuple[Tensor, Tensor]:
    """Losses (N,) in float32 and their gradient (N, V); the logits may be overwritten."""
    log_p = F.log_softmax(logits, dim=-1, dtype=torch.float32)
    losses = F.nll_loss(log_p, targets, ignore_index=ignore_index, reduction="none")
    if not with_gradient:
        return losses, logits
    counts = targets != ignore_index
    rows = torch.arange(len(targets), device=targets.device)
    p = log_p.exp_()
    p[rows, targets.where(counts, 0)] -= 1
    return losses, p.mul_(counts[:, None]).to(logits.dtype)


def add_product(total: Tensor, a: Tensor, b: Tensor) -> None:
    """total += a @ b, without rounding the product to the dtype of a and b first."""
    if a.dtype == total.dtype:
        total.addmm_(a, b)
    elif a.is_cuda:
        torch.addmm(total, a, b, out_dtype=total.dtype, out=total)
    else:
        total.addmm_(a.float(), b.float())


def save_for_normalize(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, weight, bias, _, _ = inputs
    _, mean, rstd = output
    ctx.save_for_backward(x, weight, mean, rstd)
    ctx.bias_dtype = None if bias is None else bias.dtype


def backward_of_normalize(ctx: Any, dy: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
    x, weight, mean, rstd = ctx.saved_tensors
    dx, sums = normalize_backward(dy, x, weight, mean, rstd)
    dbias = None if ctx.bias_dtype is None else sums[1].to(ctx.bias_dtype)
    return dx, sums[0].to(weight.dtype), dbias, None, None


def save_for_loss(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, weight, *_ = inputs
    ctx.save_for_backward(*output[1:])
    ctx.dtypes = x.dtype, weight.dtype
    ctx.set_materialize_grads(False)  # no second derivatives


def backward_of_loss(ctx: Any, grad: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
    dx, dweight, n_counting = ctx.saved_tensors
    x_dtype, weight_dtype = ctx.dtypes
    # In float32: the scale itself may overflow float16.
    scale = grad / n_counting
    dx, dweight = (dx.float() * scale).to(x_dtype), (dweight * scale).to(weight_dtype)
    return dx, dweight, None, None, None, None


normalize.register_autograd(backward_of_normalize, setup_context=save_for_normalize)
loss_and_gradients.register_autograd(backward_of_loss, setup_context=save_for_loss)


# Shapes and dtypes of the results, for torch.compile.


@normalize.register_fake
def _(
    x: Tensor, weight: Tensor, bias: Tensor | None, eps: float, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    y = torch.empty_like(x, dtype=dtype, memory_format=torch.contiguous_format)
    mean = x.new_empty(len(x), dtype=torch.float32)
    return y, mean, torch.empty_like(mean)


@normalize_backward.register_fake
def _(dy: Tensor, x: Tensor, weight: Tensor, mean: Tensor, rstd: Tensor) -> tuple[Tensor, Tensor]:
    dx = torch.empty_like(x, memory_format=torch.contiguous_format)
    return dx, x.new_empty(2, x.size(-1), dtype=torch.float32)


@loss_and_gradients.register_fake
def _(
    x: Tensor,
    weight: Tensor,
    targets: Tensor,
    ignore_index: int,
    dtype: torch.dtype,
    with_gradient: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    loss, none = x.new_empty((), dtype=torch.float32), x.new_empty(0, dtype=dtype)
    n_counting = targets.new_empty(())
    if not with_gradient:
        return loss, none, torch.empty_like(none), n_counting
    dweight = torch.empty_like(weight, dtype=torch.float32)
    return loss, torch.empty_like(x, dtype=dtype), dweight, n_counting
