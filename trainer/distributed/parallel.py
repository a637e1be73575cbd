"""How the ranks share the work: three phases behind one small interface.

    ddp     every rank has the whole model and the whole optimizer
    zero1   every rank has the whole model; each keeps the optimizer's state of its own part of it
    fsdp    every rank keeps its part of all: zero3 (parameters, gradients and state) or zero2
            (gradients and state; the parameters stay gathered from forward to backward)

Rajbhandari et al., ZeRO, arXiv:1910.02054. With one rank there is nothing to share, and all three
are the plain thing. Methods marked "collective" must be called by every rank in the same order.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

from trainer.distributed.ranks import Ranks

FsdpStage = Literal["zero3", "zero2"]
Tensors = dict[str, Tensor]


class Ddp:
    """The baseline, and the interface of the other two."""

    name = "ddp"

    def __init__(self, ranks: Ranks) -> None:
        self.ranks = ranks

    def wrap(self, model: nn.Module, *, compile: bool = False) -> nn.Module:
        """`model`, whose backward leaves the mean gradient over all ranks. Collective."""
        if compile:
            model.compile()  # in place: the weights keep their names
        if self.ranks.world_size == 1:
            return model
        device = self.ranks.device
        return DistributedDataParallel(
            model,
            device_ids=[device.index] if device.type == "cuda" else None,
            gradient_as_bucket_view=True,  # one copy of the gradients less
        )

    def owned(self, model: nn.Module) -> dict[str, nn.Parameter]:
        """The parameters that this rank's optimizer steps, by name; to be asked after `wrap`."""
        return dict(model.named_parameters())

    def gradient_sync(self, network: nn.Module, enabled: bool) -> AbstractContextManager[None]:
        """Within it, backward exchanges gradients only if `enabled`: at the last micro-step."""
        if enabled or not isinstance(network, DistributedDataParallel):
            return nullcontext()
        return network.no_sync()

    def share_of(self, squares: Tensor) -> Tensor:
        """This rank's share of the squared gradient norm: summed over all ranks it is the whole.

        Args:
            squares: `square_norms` of the gradients that this rank holds.
        """
        return squares.sum() / self.ranks.world_size

    def after_step(self) -> None:
        """Let all ranks have what each has stepped. Collective."""

    def gather(self, tensors: Mapping[str, Tensor]) -> Tensors:
        """Copies of all ranks' tensors, whole, on the CPU of rank 0; elsewhere none. Collective.

        Args:
            tensors: of this rank, by a name that is the same everywhere.
        """
        return self._kept(tensors, lambda tensor: tensor)

    def _kept(self, tensors: Mapping[str, Tensor], whole: Callable[[Tensor], Tensor]) -> Tensors:
        """One copy of a tensor that has two names, as the tied embedding does."""
        copies: dict[int, Tensor] = {}
        kept: Tensors = {}
        for name, tensor in tensors.items():
            key = id(tensor)
            if key not in copies:
                full = whole(tensor.detach())
                if self.ranks.is_main:
                    copies[key] = full.to("cpu", copy=True)
            if self.ranks.is_main:
                kept[name] = copies[key]
        return kept


class Zero1(Ddp):
    """The optimizer's state divided by parameter: each has one owner, who steps it for all.

    The parameters of one owner lie in one buffer, so that a step ends with one broadcast a rank.
    """

    name = "zero1"

    def wrap(self, model: nn.Module, *, compile: bool = False) -> nn.Module:
        parameters = dict(model.named_parameters())
        sizes = {name: parameter.numel() for name, parameter in parameters.items()}
        self._owner = divide(sizes, self.ranks.world_size)
        self._buffers = []
        for rank in range(self.ranks.world_size):
            mine = [parameters[name] for name, owner in self._owner.items() if owner == rank]
            self._buffers.append(into_one_buffer(mine, self.ranks.device))
        return super().wrap(model, compile=compile)

    def owned(self, model: nn.Module) -> dict[str, nn.Parameter]:
        named = model.named_parameters()
        return {name: p for name, p in named if self._owner[name] == self.ranks.rank}

    @torch.no_grad()
    def after_step(self) -> None:
        if self.ranks.world_size == 1:
            return
        begun = [
            dist.broadcast(buffer, src=rank, async_op=True)
            for rank, buffer in enumerate(self._buffers)
            if buffer.numel()
        ]
        for work in begun:
            work.wait()

    def gather(self, tensors: Mapping[str, Tensor]) -> Tensors:
        kept = super().gather(tensors)
        here = {name: (tensor.shape, tensor.dtype) for name, tensor in tensors.items()}
        everybodys = self.ranks.gather(here)
        for rank, theirs in enumerate(everybodys):
            for name, (shape, dtype) in theirs.items():
                if rank == 0 or name in everybodys[0]:
                    continue  # rank 0 has it
                if self.ranks.is_main:
                    arriving = torch.empty(shape, dtype=dtype, device=self.ranks.device)
                    dist.recv(arriving, src=rank)
                    kept[name] = arriving.cpu()
                elif self.ranks.rank == rank:
                    dist.send(tensors[name].to(self.ranks.device).contiguous(), dst=0)
        return kept


class Fsdp(Ddp):
    """Each block gathers its parameters when it needs them (torch's FSDP2, `fully_shard`).

    Args:
        stage: zero3 gives a block's parameters back after its forward, zero2 keeps them until
            its backward: less to send, more to hold.
        replicas: groups of ranks that each hold all parts: with one a node, parameters travel
            only within a node and gradients alone between nodes (hybrid sharding).
        dtype: of the gathered parameters; gradients are summed in float32.

    Raises:
        ValueError: the ranks do not divide into that many groups.
    """

    name = "fsdp"

    def __init__(
        self,
        ranks: Ranks,
        *,
        stage: FsdpStage = "zero3",
        replicas: int = 1,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(ranks)
        if ranks.world_size % replicas:
            raise ValueError(
                f"--fsdp_replicas={replicas}: {ranks.world_size} ranks do not divide into that "
                "many groups; give the number of nodes"
            )
        self.stage, self.replicas, self.dtype = stage, replicas, dtype

    def wrap(self, model: nn.Module, *, compile: bool = False) -> nn.Module:
        (layers,) = (module for module in model.modules() if isinstance(module, nn.ModuleList))
        if compile:
            for layer in layers:
                layer.compile()  # the gathering between two blocks stays outside of the graphs
        if self.ranks.world_size == 1:
            return model
        shape: tuple[int, ...] = (self.ranks.world_size,)
        names: tuple[str, ...] = ("shard",)
        if self.replicas > 1:
            shape = (self.replicas, self.ranks.world_size // self.replicas)
            names = ("replicate", "shard")
        mesh = init_device_mesh(self.ranks.device.type, shape, mesh_dim_names=names)
        policy = MixedPrecisionPolicy()
        if self.dtype != torch.float32:
            policy = MixedPrecisionPolicy(param_dtype=self.dtype, reduce_dtype=torch.float32)
        for module in (*layers, model):  # the model last: what is in no block, as the embedding
            fully_shard(
                module,
                mesh=mesh,
                mp_policy=policy,
                reshard_after_forward=self.stage == "zero3",
            )
        return model

    def gradient_sync(self, network: nn.Module, enabled: bool) -> AbstractContextManager[None]:
        if isinstance(network, FSDPModule):
            network.set_requires_gradient_sync(enabled)
        return nullcontext()

    def share_of(self, squares: Tensor) -> Tensor:
        if self.ranks.world_size == 1:
            return super().share_of(squares)
        return squares.sum() / self.replicas

    def gather(self, tensors: Mapping[str, Tensor]) -> Tensors:
        return self._kept(tensors, lambda t: t.full_tensor() if isinstance(t, DTensor) else t)


Phase = Ddp


def choose_phase(
    ranks: Ranks,
    *,
    use_zero1: bool,
    use_fsdp: bool,
    fsdp_stage: FsdpStage = "zero3",
    fsdp_replicas: int = 1,
    dtype: torch.dtype = torch.float32,
) -> Phase:
    """The phase that the flags ask for.

    Raises:
        ValueError: the ranks cannot be divided so.
    """
    if use_fsdp:
        return Fsdp(ranks, stage=fsdp_stage, replicas=fsdp_replicas, dtype=dtype)
    return Zero1(ranks) if use_zero1 else Ddp(ranks)


def local(tensor: Tensor) -> Tensor:
    """The part that this rank holds; all of it where nothing is sharded."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def square_norms(gradients: list[Tensor]) -> Tensor:
    """The squared norm of each, (n_gradients,) in float64.

    Row by row, as FSDP divides them, so that it is the same however they are divided: a norm of
    0.5 million float32 in one go is off by 4e-6 on a CPU, and that much made losses part by 1e-2
    within 50 iterations. This way it is 3e-9, and no slower.
    """
    rows = [torch.linalg.vector_norm(gradient, dim=-1) for gradient in gradients]
    return torch.stack([norms.double().square().sum() for norms in rows])


def placed_like(full: Tensor, target: Tensor) -> Tensor:
    """A whole tensor as `target` is: on its device, in its dtype, and this rank's part of it."""
    full = full.to(target.device, target.dtype)
    if not isinstance(target, DTensor):
        return full.clone()
    # Every rank has the whole tensor: each takes its part, and nothing is sent.
    return distribute_tensor(full, target.device_mesh, target.placements, src_data_rank=None)


def divide(sizes: Mapping[str, int], n_parts: int) -> dict[str, int]:
    """Name -> part, the parts about equally large: the largest first, to whoever has least."""
    loads = [0] * n_parts
    part_of: dict[str, int] = {}
    for name in sorted(sizes, key=lambda name: (-sizes[name], name)):
        part = loads.index(min(loads))
        part_of[name] = part
        loads[part] += sizes[name]
    return {name: part_of[name] for name in sizes}


@torch.no_grad()
def into_one_buffer(parameters: list[nn.Parameter], device: torch.device) -> Tensor:
    """A 1-d tensor that the parameters are views of from now on, their values unchanged."""
    dtype: Any = parameters[0].dtype if parameters else torch.float32
    buffer = torch.empty(sum(p.numel() for p in parameters), dtype=dtype, device=device)
    end = 0
    for parameter in parameters:
        begin, end = end, end + parameter.numel()
        view = buffer[begin:end].view_as(parameter)
        view.copy_(parameter)
        parameter.data = view
    return buffer
