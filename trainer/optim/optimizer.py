"""The optimizer: AdamW for all, or Muon for the matrices of the blocks and AdamW for the rest.

Its state is told and taken by parameter name, so that it fits another number of ranks and another
way of sharing it out.
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
        parameters: by name; under some phases those that this rank owns.
        name: `muon` orthogonalizes the momentum of each matrix in the blocks (see `muon`);
            embeddings, biases and norms stay with AdamW.
        embedding_learning_rate: of the token embedding, which is the head too; None: that of all.
        muon_momentum: of Muon alone.
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
            # Matrices and embeddings decay, biases and norms do not.
            tokens = [p for n, p in for_adamw.items() if is_token_embedding(n)]
            others = [p for n, p in for_adamw.items() if not is_token_embedding(n)]
            faster = (embedding_learning_rate or learning_rate) / learning_rate
            groups = [
                {"params": [p for p in others if p.dim() >= 2], "weight_decay": weight_decay},
                {"params": [p for p in others if p.dim() < 2], "weight_decay": 0.0},
                {"params": tokens, "weight_decay": weight_decay, "faster": faster},
            ]
            # Fused: one kernel for all parameters, on CUDA and on CPU alike.
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
        """The token embedding's goes along: it keeps its ratio to that of all."""
        for part in self.parts:
            for group in part.param_groups:
                group["lr"] = learning_rate * group.get("faster", 1.0)

    def step(self, finite: Tensor) -> None:
        """One step, or none at all if `finite` (0-d bool, on the device) says no.

        AdamW's kernel reads that on the device. Muon has no such kernel: on CUDA it waits for
        the answer.
        """
        for part in self.parts:
            if isinstance(part, torch.optim.AdamW):
                part.found_inf = (~finite).float()  # type: ignore[attr-defined]
            elif not finite:
                continue
            part.step()

    def state(self) -> dict[str, Tensor]:
        """`<parameter>.<kind>` -> tensor, of the parameters here; empty before the first step."""
        return {
            f"{name}.{kind}": value
            for name, parameter in self.parameters.items()
            for kind, value in self._part_of(name).state.get(parameter, {}).items()
        }

    def load_state(self, state: Mapping[str, Tensor], place: Place) -> None:
        """Take the state of the parameters here out of one that may hold more.

        A parameter that it does not hold is one that was never stepped, and is so again.

        Args:
            place: (value, parameter) -> the value as the parameter is placed.
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
    """Whether Muon is meant for it: a matrix inside a block, not an embedding or the head."""
    return parameter.dim() == 2 and ".h." in f".{name}"


def is_token_embedding(name: str) -> bool:
    return name.endswith("wte.weight")


class LossScale:
    """Keeps the gradients of float16 from vanishing: doubled now and then, halved on overflow.

    The rule and the figures of torch.amp.GradScaler, which asks each rank alone whether its
    gradients are finite; here the ranks have agreed on that before, and nothing is waited for.
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
        """Whether a gradient may be infinite for the scale's sake. Waits for the device.

        At a scale below 1, which takes halving it at 1, it is the gradient itself.
        """
        return self.enabled and self._scale.item() >= 1.0

    def update(self, finite: Tensor) -> None:
        """After a step; `finite` is 0-d bool, the same on all ranks."""
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
