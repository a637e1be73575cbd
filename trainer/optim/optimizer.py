"""The optimizer: AdamW for all, or Muon for the matrices of the blocks and AdamW for the rest.

Its state is saved and restored by parameter name, whatever the number of ranks and the sharding.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from trainer.optim.muon import Muon

OptimizerName = Literal["adamw", "muon"]
Place = Callable[[Tensor, Tensor], Tensor]


class Optimizer:
    """One or two torch optimizers that step together.

    Args:
        parameters: by name; with ZeRO-1 those that this rank owns.
        name: `muon` is for the matrices in the blocks (see `muon`), with AdamW for embeddings,
            biases and norms.
        embedding_learning_rate: of the token embedding, which is also the head; None: the same.
        muon_momentum: of Muon only.
    """

    def __init__(
        self,
        parameters: Mapping[str, nn.Parameter],
        *,
        name: OptimizerName = "adamw",
        learning_rate: float,
        weight_decay: float,
        betas: tuple[float, float],
        embedding_learning_rate: float | None = None,
        muon_momentum: float = 0.95,
    ) -> None:
        self.parameters = {n: p for n, p in parameters.items() if p.requires_grad}
        for_muon = {n: p for n, p in self.parameters.items() if name == "muon" and is_matrix(n, p)}
        for_adamw = {n: p for n, p in self.parameters.items() if n not in for_muon}
        self.parts: list[torch.optim.Optimizer] = []
        self._of_muon = set(for_muon)
        if for_adamw:
            # Weight decay is for matrices and embeddings, not for biases and norms.
            tokens = [p for n, p in for_adamw.items() if is_token_embedding(n)]
            others = [p for n, p in for_adamw.items() if not is_token_embedding(n)]
            faster = (embedding_learning_rate or learning_rate) / learning_rate
            groups = [
                {"params": [p for p in others if p.dim() >= 2], "weight_decay": weight_decay},
                {"params": [p for p in others if p.dim() < 2], "weight_decay": 0.0},
                {"params": tokens, "weight_decay": weight_decay, "faster": faster},
            ]
            # Fused: one kernel for all parameters, on CUDA and on the CPU.
            self.parts.append(torch.optim.AdamW(groups, lr=learning_rate, betas=betas, fused=True))
        if for_muon:
            self.parts.append(
                Muon(
                    for_muon.values(),
                    lr=learning_rate,
                    weight_decay=weight_decay,
                    momentum=muon_momentum,
                )
            )
        self.set_learning_rate(learning_rate)

    def set_learning_rate(self, learning_rate: float) -> None:
        """Set the learning rate; that of the token embedding keeps its ratio to it."""
        for part in self.parts:
            for group in part.param_groups:
                group["lr"] = learning_rate * group.get("faster", 1.0)

    def step(self, finite: Tensor) -> None:
        """Update the parameters if `finite` (0-d bool, on the device), else change nothing.

        AdamW's kernel reads `finite` on the device. With Muon the host reads it, and on CUDA waits.
        """
        for part in self.parts:
            if isinstance(part, torch.optim.AdamW):
                part.found_inf = (~finite).float()  # type: ignore[attr-defined]
            elif not finite:
                continue
            part.step()

    def state(self) -> dict[str, Tensor]:
        """`<parameter>.<kind>` -> tensor, of this rank's parameters; {} before the first step."""
        return {
            f"{name}.{kind}": value
            for name, parameter in self.parameters.items()
            for kind, value in self._part_of(name).state.get(parameter, {}).items()
        }

    def load_state(self, state: Mapping[str, Tensor], place: Place) -> None:
        """Restore the state of this rank's parameters from `state`, which may contain more.

        A parameter that is not in it has no state, as before its first step.

        Args:
            place: (value, parameter) -> the value on the device and sharded as the parameter is.
        """
        kinds: dict[str, dict[str, Tensor]] = {}
        for key, value in state.items():
            name, _, kind = key.rpartition(".")
            kinds.setdefault(name, {})[kind] = value
        for name, parameter in self.parameters.items():
            self._part_of(name).state.pop(parameter, None)
            if name in kinds:
                self._part_of(name).state[parameter] = {
                    kind: place(value, parameter) if value.dim() else value.to(parameter.device)
                    for kind, value in kinds[name].items()
                }

    def _part_of(self, name: str) -> torch.optim.Optimizer:
        return self.parts[-1 if name in self._of_muon else 0]


def is_matrix(name: str, parameter: nn.Parameter) -> bool:
    """Whether it is for Muon: a matrix in a block, not an embedding or the head."""
    return parameter.dim() == 2 and ".h." in f".{name}"


def is_token_embedding(name: str) -> bool:
    return name.endswith("wte.weight")


class LossScale:
    """Scales the loss so that float16 gradients do not underflow; halved on overflow.

    The rule and constants of torch.amp.GradScaler. GradScaler checks on each rank whether its own
    gradients are finite; here all ranks already agree on that, and the host does not wait.
    """

    GROWTH_STEPS = 2000

    def __init__(self, device: torch.device, *, enabled: bool) -> None:
        self.enabled = enabled
        self._scale = torch.tensor(2.0**16 if enabled else 1.0, device=device)
        self._good_steps = torch.zeros((), device=device)

    def scaled(self, loss: Tensor) -> Tensor:
        return loss * self._scale if self.enabled else loss

    def unscale_(self, gradients: list[Tensor]) -> None:
        if self.enabled and gradients:
            torch._foreach_mul_(gradients, 1 / self._scale)

    def may_overflow(self) -> bool:
        """Whether an infinite gradient may be due to the scale. Waits for the device.

        At a scale below 1 the gradient itself is infinite.
        """
        return self.enabled and self._scale.item() >= 1.0

    def update(self, finite: Tensor) -> None:
        """Call it after a step; `finite` (0-d bool) must be the same on all ranks."""
        if not self.enabled:
            return
        good = torch.where(finite, self._good_steps + 1, 0.0)
        grown = torch.where(good >= self.GROWTH_STEPS, self._scale * 2, self._scale)
        self._scale = torch.where(finite, grown, self._scale / 2)
        self._good_steps = torch.where(good >= self.GROWTH_STEPS, 0.0, good)

    def state(self) -> dict[str, Any]:
        return {"scale": self._scale.item(), "good_steps": self._good_steps.item()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        if self.enabled:
            self._scale.fill_(state["scale"])
            self._good_steps.fill_(state["good_steps"])
