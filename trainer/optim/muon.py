"""Muon: the update of each matrix is its orthogonalized momentum.

Jordan et al. 2024, kellerjordan.github.io/posts/muon. torch.optim.Muon (2.13) always orthogonalizes
in bfloat16, which is 5 times as slow as float32 on CPUs without bfloat16 units. The state has the
same names and meaning, so checkpoints work with both.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, overload

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

Coefficients = Sequence[tuple[float, float, float]]

# (a, b, c) of each step of the iteration, as Jordan's and PyTorch's Muon have them.
COEFFICIENTS: Coefficients = [(3.4445, -4.7750, 2.0315)] * 5


class Muon(torch.optim.Optimizer):
    """For matrices, all with weight decay.

    Args:
        lr: the elements of an update have a root mean square of 0.2 lr, about that of AdamW's
            (Liu et al. 2025, arXiv:2502.16982), so that one learning rate works for both.
        momentum: decay of the mean of the gradients (Nesterov).
        coefficients: of `orthogonalize`.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: float,
        *,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        coefficients: Coefficients = COEFFICIENTS,
    ) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})
        self.coefficients = coefficients

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Collective if parameters are sharded: an update needs the full matrix."""
        assert closure is None, "closures are not supported"
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._step(parameter, parameter.grad, group)
        return None

    def _step(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(gradient)
        mean = state["momentum_buffer"].lerp_(gradient, 1 - group["momentum"])
        update = gradient.lerp(mean, group["momentum"])
        if isinstance(update, DTensor):
            whole = orthogonalize(update.full_tensor(), self.coefficients)
            # Every rank has the full update and selects its part without communication.
            update = distribute_tensor(
                whole, update.device_mesh, update.placements, src_data_rank=None
            )
        else:
            update = orthogonalize(update, self.coefficients)
        # The elements of an orthogonal (m, n) have a root mean square of 1 / sqrt(max(m, n)).
        size = 0.2 * math.sqrt(max(parameter.shape))
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        parameter.add_(update, alpha=-group["lr"] * size)


def orthogonalize(matrix: Tensor, coefficients: Coefficients = COEFFICIENTS) -> Tensor:
    """`matrix` (m, n) with its singular values brought near 1, in its dtype.

    After a division by the norm each step applies x <- a x + b x^3 + c x^5 to the singular values.
    Five steps bring those of at least 0.002 times the norm to between 0.68 and 1.21.
    """
    # bfloat16 is precise enough for the iteration, and fast on GPUs.
    x = matrix.bfloat16() if matrix.is_cuda else matrix.float()
    is_tall = x.size(0) > x.size(1)
    x = x.mT if is_tall else x  # x x^T is then the smaller product
    x = x / x.norm().clamp(min=1e-20)
    for a, b, c in coefficients:
        square = x @ x.mT
        polynomial = torch.addmm(square, square, square, beta=b, alpha=c)
        x = torch.addmm(x, polynomial, x, beta=a)
    return (x.mT if is_tall else x).to(matrix.dtype)
