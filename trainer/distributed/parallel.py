"""How the ranks share the work: three phases behind one interface.

    ddp     every rank has the whole model and the whole optimizer state
    zero1   every rank has the whole model, and its own part of the optimizer state
    fsdp    everything is sharded: zero3 (parameters, gradients and state) or zero2 (gradients and
            state; the parameters stay gathered from forward to backward)

Rajbhandari et al., ZeRO, arXiv:1910.02054. With one rank all three do the same. Methods marked
"collective" must be called by every rank in the same order.
"""

from collections.abc import Mapping
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
    """All parameters, gradients and optimizer state on every rank; the base class of the others."""

    name = "ddp"

    def __init__(self, ranks: Ranks) -> None:
        self.ranks = ranks

    def wrap(self, model: nn.Module, *, compile: bool = False) -> nn.Module:
        """`model`, with the mean gradient over all ranks after backward. Collective."""
        if compile:
            model.compile()  # in place: the weights keep their names
        if self.ranks.world_size == 1:
            return model
        device = self.ranks.device
        return DistributedDataParallel(
            model,
            device_ids=[device.index] if device.type == "cuda" else None,
            gradient_as_bucket_view=True,  # saves one copy of the gradients
        )

    def owned(self, model: nn.Module) -> dict[str, nn.Parameter]:
        """The parameters that this rank's optimizer updates, by name. Call it after `wrap`."""
        return dict(model.named_parameters())

    def gradient_sync(self, network: nn.Module, enabled: bool) -> AbstractContextManager[None]:
        """Within it, backward reduces gradients only if `enabled`: in the last micro-step."""
        if enabled or not isinstance(network, DistributedDataParallel):
            return nullcontext()
        return network.no_sync()

    def share_of(self, squares: Tensor) -> Tensor:
        """This rank's share of the squared gradient norm, which is the sum over all ranks.

        Args:
            squares: `square_norms` of this rank's gradients.
        """
        return squares.sum() / self.ranks.world_size

    def after_step(self) -> None:
        """Send the updated parameters to all ranks. Collective."""

    def gather(self, tensors: Mapping[str, Tensor]) -> Tensors:
        """Full CPU copies of all ranks' tensors on rank 0; {} on the other ranks. Collective.

        Args:
            tensors: this rank's, by a name that is the same on all ranks.
        """
        return cpu_copies(tensors) if self.ranks.is_main else {}


class Zero1(Ddp):
    """Every parameter has one owner: the rank that has its optimizer state and updates it.

    The parameters of one owner are in one buffer, so each step ends with one broadcast per rank.
    """

    name = "zero1"

    def wrap(self, model: nn.Module, *, compile: bool = False) -> nn.Module:
        parameters = dict(model.named_parameters())
        sizes = {name: parameter.numel() for name, parameter in parameters.items()}
        self._owner = divide(sizes, self.ranks.world_size)
        self._buffers = []
        for rank in range(self.ranks.world_size):
            owned = [parameters[name] for name, owner in self._owner.items() if owner == rank]
            self._buffers.append(into_one_buffer(owned, self.ranks.device))
        return super().wrap(model, compile=compile)

    def owned(self, model: nn.Module) -> dict[str, nn.Parameter]:
        named = model.named_parameters()
        return {name: p for name, p in named if self._owner[name] == self.ranks.rank}

    @torch.no_grad()
    def after_step(self) -> None:
        if self.ranks.world_size == 1:
            return
        broadcasts = [
            dist.broadcast(buffer, src=rank, async_op=True)
            for rank, buffer in enumerate(self._buffers)
            if buffer.numel()
        ]
        for broadcast in broadcasts:
            broadcast.wait()

    def gather(self, tensors: Mapping[str, Tensor]) -> Tensors:
        result = super().gather(tensors)
        own_shapes = {name: (tensor.shape, tensor.dtype) for name, tensor in tensors.items()}
        all_shapes = self.ranks.gather(own_shapes)
        for rank, shapes in enumerate(all_shapes):
            for name, (shape, dtype) in shapes.items():
                if rank == 0 or name in all_shapes[0]:
                    continue  # rank 0 has it
                if self.ranks.is_main:
                    received = torch.empty(shape, dtype=dtype, device=self.ranks.device)
                    dist.recv(received, src=rank)
                    result[name] = received.cpu()
                elif self.ranks.rank == rank:
                    dist.send(tensors[name].to(self.ranks.device).contiguous(), dst=0)
        return result


class Fsdp(Ddp):
    """Everything is sharded; each block gathers its parameters when needed (torch's FSDP2).

    Args:
        stage: zero3 frees the gathered parameters of a block after its forward; zero2 keeps them
            until its backward, with less communication and more memory.
        replicas: groups of ranks that each have a full copy (hybrid sharding). With one group per
            node only gradients are sent between nodes.
        dtype: of the gathered parameters; gradients are reduced in float32.

    Raises:
        ValueError: the ranks cannot be divided into that many groups.
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
                f"--fsdp_replicas={replicas}: {ranks.world_size} ranks cannot be divided into "
                "that many groups; give the number of nodes"
            )
        self.stage, self.replicas, self.dtype = stage, replicas, dtype

    def wrap(self, model: nn.Module, *, compile: bool = False) -> nn.Module:
        (layers,) = (module for module in model.modules() if isinstance(module, nn.ModuleList))
        if compile:
            for layer in layers:
                layer.compile()  # the all-gathers between blocks stay outside of the graphs
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
        for module in (*layers, model):  # the model last: for parameters outside of the blocks
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
        result: Tensors = {}
        for name, tensor in tensors.items():  # one full tensor at a time on the GPU
            tensor = tensor.detach()
            full = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
            result |= super().gather({name: full})
        return result


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
    """The phase of these flags.

    Raises:
        ValueError: the ranks cannot be divided into `fsdp_replicas` groups.
    """
    if use_fsdp:
        return Fsdp(ranks, stage=fsdp_stage, replicas=fsdp_replicas, dtype=dtype)
    return Zero1(ranks) if use_zero1 else Ddp(ranks)


def cpu_copies(tensors: Mapping[str, Tensor]) -> Tensors:
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in tensors.items()}


def local(tensor: Tensor) -> Tensor:
    """This rank's part of a sharded tensor; any other tensor itself."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def square_norms(gradients: list[Tensor]) -> Tensor:
    """The squared norm of each, (n_gradients,) in float64.

    Computed per row, because FSDP shards by rows: the result is then the same in every phase. The
    rounding error of a norm over the whole tensor would let the losses of phases diverge.
    """
    rows = [torch.linalg.vector_norm(gradient, dim=-1) for gradient in gradients]
    return torch.stack([norms.double().square().sum() for norms in rows])


def placed_like(full: Tensor, target: Tensor) -> Tensor:
    """A full tensor on the device, in the dtype and with the sharding of `target`."""
    full = full.to(target.device, target.dtype)
    if not isinstance(target, DTensor):
        return full.clone()
    # Every rank has the full tensor and selects its part without communication.
    return distribute_tensor(full, target.device_mesh, target.placements, src_data_rank=None)


def divide(sizes: Mapping[str, int], n_parts: int) -> dict[str, int]:
    """Name -> part, with parts of about equal size: the largest first, to the smallest part."""
    loads = [0] * n_parts
    part_of: dict[str, int] = {}
    for name in sorted(sizes, key=lambda name: (-sizes[name], name)):
        part = loads.index(min(loads))
        part_of[name] = part
        loads[part] += sizes[name]
    return {name: part_of[name] for name in sizes}


@torch.no_grad()
def into_one_buffer(parameters: list[nn.Parameter], device: torch.device) -> Tensor:
    """Move the parameters into one 1-d tensor, of which they become views."""
    dtype: Any = parameters[0].dtype if parameters else torch.float32
    buffer = torch.empty(sum(p.numel() for p in parameters), dtype=dtype, device=device)
    end = 0
    for parameter in parameters:
        begin, end = end, end + parameter.numel()
        view = buffer[begin:end].view_as(parameter)
        view.copy_(parameter)
        parameter.data = view
    return buffer
