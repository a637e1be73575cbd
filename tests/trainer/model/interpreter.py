"""A process in which Triton's kernels are interpreted, and the functions that run in it.

Triton decides at its import whether it compiles or interprets, for good: the tests' own process and
what else runs in it stay clear of that.
"""

import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import torch
import torch.distributed as dist
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel
from torch.profiler import ProfilerActivity, profile

from trainer.model import fused
from trainer.model.gpt import GPT, GPTConfig

TINY = GPTConfig(block_size=4, vocab_size=48, n_layer=2, n_head=2, n_embd=8)


@contextmanager
def interpreter() -> Iterator[Callable]:
    """`call(function, *args, **more)`: the result of a module's function in that process."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context) as pool:
        with patch.dict(os.environ, TRITON_INTERPRET="1"):  # the process inherits it at its start
            pool.submit(torch.set_num_threads, 1).result()
        yield lambda function, *args, **more: pool.submit(function, *args, **more).result()


def differentiate(function, inputs, dy=None, *, device="cpu", autocast=None):
    """The value, and the gradient of each input, scaled by `dy`; None for inputs without gradient.

    Under `autocast`, a dtype, where there is one.
    """
    leaves = [leaf(x, device) for x in inputs]
    with torch.autocast(device, autocast, enabled=autocast is not None):
        value = function(*leaves)
    value.backward(dy if dy is None else dy.to(device, value.dtype))
    grads = [None if x is None or x.grad is None else x.grad.cpu() for x in leaves]
    return value.detach().cpu(), grads


def leaf(x, device):
    if x is None:
        return None
    x = x.detach().to(device, copy=True)
    return x.requires_grad_() if x.is_floating_point() else x


def why_not(device):
    return fused.why_not(torch.device(device))


def loss_in_chunks(n_rows, x, weight, targets):
    """`linear_cross_entropy` with `n_rows` rows per chunk."""
    before = dict(fused.CHUNK_ROWS)
    fused.CHUNK_ROWS.update(dict.fromkeys(before, int(n_rows)))
    try:
        return fused.linear_cross_entropy(x, weight, targets)
    finally:
        fused.CHUNK_ROWS.update(before)


def largest_allocation_bytes(function, inputs):
    """The size of the largest tensor that PyTorch allocates, in forward and backward."""
    leaves = [leaf(x, "cpu") for x in inputs]
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        function(*leaves).backward()
    return largest(profiler)


def largest(profiler):
    events = profiler.profiler.kineto_results.events()
    return max(event.nbytes() for event in events if event.name() == "[memory]")


def train_step(x, y, *, fused, wrap="", recompute=False, compiled=False):
    """Loss of the tiny GPT and its gradients by name.

    With `wrap`, `ddp` or `fsdp`, over two ranks forked off this process, half the batch each.
    """
    if not wrap:
        return train_step_here(x, y, GPT(TINY, fused=fused, recompute=recompute), compiled)
    context = multiprocessing.get_context("fork")
    with tempfile.TemporaryDirectory() as folder:
        ranks = [
            context.Process(target=train_step_of, args=(r, Path(folder), wrap, x, y, fused))
            for r in range(2)
        ]
        for process in ranks:
            process.start()
        for process in ranks:
            process.join(60)
            process.kill()
        assert [process.exitcode for process in ranks] == [0, 0], "a rank hangs or failed"
        return torch.load(Path(folder, "outcome.pt"))


def train_step_here(x, y, model, compiled=False):
    reset(model)
    network = torch.compile(model, backend="aot_eager", fullgraph=True) if compiled else model
    _, loss = network(x, y)
    loss.backward()
    return loss.detach(), {name: p.grad for name, p in model.named_parameters()}


def reset(model):
    """Set the same weights, none of them one or zero, in any kind of model."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(torch.randn(weight.shape, generator=generator) * 0.3)


def train_step_of(rank, folder, wrap, x, y, fused):
    dist.init_process_group(
        "gloo", init_method=f"file://{folder / 'store'}", rank=rank, world_size=2
    )
    model = GPT(TINY, fused=fused, recompute=wrap == "fsdp")
    reset(model)
    if wrap == "ddp":
        network = DistributedDataParallel(model)
    else:
        for block in model.transformer.h:
            fully_shard(block)
        network = fully_shard(model)
    n_rows = len(x) // 2
    rows = slice(rank * n_rows, (rank + 1) * n_rows)
    _, loss = network(x[rows], y[rows])
    loss.backward()
    loss = loss.detach() / 2
    dist.all_reduce(loss)
    grads = {name: whole(p.grad) for name, p in model.named_parameters()}
    if rank == 0:
        torch.save((loss, grads), folder / "outcome.pt")
    dist.barrier()
    time.sleep(0.05)  # gloo hangs now and then when its group is gone at once
    dist.destroy_process_group()


def whole(tensor):
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def check_operators():
    """PyTorch's check of a custom operator: its schema, its fake implementation, its traces."""
    x, weight = torch.randn(5, 6), torch.randn(6)
    _, mean, rstd = fused.normalize(x, weight, weight, 1e-5, torch.bfloat16)
    head, targets = torch.randn(7, 6), torch.tensor([0, -1, 6, 3, 2])
    opcheck = torch.library.opcheck
    opcheck(fused.normalize, (x, weight, None, 1e-5, torch.float32))
    opcheck(fused.normalize, (x, weight, weight, 1e-5, torch.bfloat16))
    opcheck(fused.normalize_backward, (torch.randn(5, 6), x, weight, mean, rstd))
    for with_gradient in (False, True):
        opcheck(fused.loss_and_gradients, (x, head, targets, -1, torch.bfloat16, with_gradient))


def compile_kernels(compute_capability):
    """The names of the kernels that Triton compiles for such a GPU, without one."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from trainer.model import kernels

    block_c, n_rows, n_warps = kernels.layout(384)
    norm = {"ROWS": n_rows, "BLOCK_C": block_c}
    constants = {
        "layer_norm_forward_kernel": norm | {"HAS_BIAS": True},
        "layer_norm_backward_kernel": norm,
        "cross_entropy_kernel": {"TILE_V": kernels.LOSS_TILE, "WITH_GRADIENT": True},
    }
    compiled = []
    for name, constant in constants.items():
        kernel = getattr(kernels, name)
        types = {
            argument: "constexpr" if argument in constant
            else "*i64" if argument == "targets_ptr"
            else "*bf16" if argument.endswith("_ptr")
            else "fp32" if argument == "eps"
            else "i32"
            for argument in kernel.arg_names
        }  # fmt: skip
        code = triton.compile(
            ASTSource(kernel, signature=types, constexprs=constant),
            target=GPUTarget("cuda", compute_capability, 32),
            options={"num_warps": n_warps, "enable_fp_fusion": True},
        )
        assert code.asm["cubin"]
        compiled.append(name)
    return compiled


def loss_without_gradient(x, weight, targets):
    """The loss under `no_grad`, and the size of the largest tensor that PyTorch allocates."""
    weight = weight.requires_grad_()
    with (
        torch.no_grad(),
        profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler,
    ):
        loss = fused.linear_cross_entropy(x, weight, targets)
    return loss, largest(profiler)
