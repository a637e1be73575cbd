"""GPT with nanoGPT's architecture, initialization and weight names.

Shapes in this file:
    B  batch, sequences in a micro-batch
    T  time, tokens in a sequence, at most `block_size`
    C  channels, `n_embd`
    H  heads, `n_head`, each D = C / H channels wide
    V  vocabulary, `vocab_size`
"""

import math
from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint as recomputed

from trainer.model import fused as kernels

IGNORED_TARGET = -1  # targets with this value do not count in the loss


@dataclass(frozen=True)
class GPTConfig:
    """The shape of a GPT; saved in every checkpoint as `model_args`."""

    block_size: int = 1024
    vocab_size: int = 50304  # GPT-2's 50257, rounded up to a multiple of 64 for the tensor cores
    n_layer: int = 12
    n_head: int = 12
    n_embd: int = 768
    dropout: float = 0.0
    bias: bool = True  # in Linear and LayerNorm, as in GPT-2


class GPT(nn.Module):
    """A decoder-only transformer and its head, which is tied to the token embedding.

    Args:
        recompute: recompute the activations of a block in backward instead of storing them.
        fused: use one kernel for each LayerNorm, and compute the loss from chunks of the logits.
    """

    tied: ClassVar = {"lm_head.weight": "transformer.wte.weight"}
    """Tied weights: name in `state_dict` -> name of the same tensor."""

    def __init__(self, config: GPTConfig, *, recompute: bool = False, fused: bool = False) -> None:
        super().__init__()
        self.config = config
        self.transformer = Transformer(config)
        self.lm_head = Head(config.n_embd, config.vocab_size, bias=False)
        self.transformer.wte.weight = self.lm_head.weight
        self.fused = fused
        for module in self.modules():
            if isinstance(module, Block):
                module.recompute = recompute
            elif isinstance(module, LayerNorm):
                module.fused = fused
        self.apply(init_weights)
        for name, weight in self.named_parameters():
            if name.endswith("c_proj.weight"):
                # Each block adds twice to the residual stream; this keeps its variance constant.
                nn.init.normal_(weight, std=0.02 / math.sqrt(2 * config.n_layer))

    def forward(
        self, idx: Tensor, targets: Tensor | None = None
    ) -> tuple[Tensor | None, Tensor | None]:
        """Logits and, given targets, the mean cross-entropy in nats per token.

        Args:
            idx: token ids, int64 (B, T), T at most `block_size`.
            targets: the next token ids, int64 (B, T); `IGNORED_TARGET` does not count.

        Returns:
            Logits (B, T, V), or None if `fused`, and the loss (0-d). Without targets: the logits
            (B, 1, V) of the last position only, as needed for sampling, and None.
        """
        x = self.transformer(idx)  # (B, T, C)
        if targets is None:
            return self.lm_head(x[:, [-1], :]), None
        if self.fused:
            return None, self.lm_head(x, targets)
        logits = cast(Tensor, self.lm_head(x))
        loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED_TARGET)
        return logits, loss

    def n_params(self, non_embedding: bool = False) -> int:
        """Number of parameters; `non_embedding` excludes the position embedding only."""
        n_all = sum(parameter.numel() for parameter in self.parameters())
        return n_all - self.transformer.wpe.weight.numel() * non_embedding

    @torch.no_grad()
    def generate(
        self,
        idx: Tensor,
        max_new_tokens: int,
        *,
        temperature: float = 1.0,
        top_k: int | None = None,
        n_tokens: int | None = None,
    ) -> Tensor:
        """`idx` (B, T) followed by `max_new_tokens` sampled ids, (B, T + max_new_tokens).

        Uses torch's global random generator; the model should be in eval mode.

        Args:
            temperature: below 1: less random, above 1: more random; must be positive.
            top_k: sample among the k most likely ids only.
            n_tokens: ids from this one on pad the vocabulary and are never sampled.
        """
        for _ in range(max_new_tokens):
            context = idx[:, -self.config.block_size :]
            logits = self(context)[0][:, -1, :n_tokens] / temperature  # (B, V)
            if top_k is not None:
                least = logits.topk(min(top_k, logits.size(-1))).values[:, [-1]]  # (B, 1)
                logits = logits.masked_fill(logits < least, -math.inf)
            next_id = torch.multinomial(logits.softmax(dim=-1), num_samples=1)  # (B, 1)
            idx = torch.cat((idx, next_id), dim=1)
        return idx


class Transformer(nn.Module):
    """Embeddings, blocks and a final norm: token ids (B, T) to features (B, T, C)."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.wte = nn.Embedding(config.vocab_size, config.n_embd)
        self.wpe = nn.Embedding(config.block_size, config.n_embd)
        self.drop = nn.Dropout(config.dropout)
        self.h = nn.ModuleList(Block(config) for _ in range(config.n_layer))
        self.ln_f = LayerNorm(config.n_embd, bias=config.bias)

    def forward(self, idx: Tensor) -> Tensor:
        T = idx.size(1)
        assert self.wpe.num_embeddings >= T, f"{T} tokens, block_size {self.wpe.num_embeddings}"
        x = self.wte(idx) + self.wpe(torch.arange(T, device=idx.device))  # (B, T, C) + (T, C)
        x = self.drop(x)
        for block in self.h:
            x = block(x)
        return cast(Tensor, self.ln_f(x))


class Block(nn.Module):
    """Attention, then an MLP, each after a norm and with a residual connection."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.ln_1 = LayerNorm(config.n_embd, bias=config.bias)
        self.attn = CausalSelfAttention(config)
        self.ln_2 = LayerNorm(config.n_embd, bias=config.bias)
        self.mlp = MLP(config)
        self.recompute = False

    def forward(self, x: Tensor) -> Tensor:
        if self.recompute and self.training:
            return cast(Tensor, recomputed(self._both, x, use_reentrant=False))
        return self._both(x)

    def _both(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.ln_1(x))
        return x + cast(Tensor, self.mlp(self.ln_2(x)))


class CausalSelfAttention(nn.Module):
    """Each position attends to itself and to the positions before it."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.n_head = config.n_head
        self.dropout = config.dropout
        self.c_attn = nn.Linear(config.n_embd, 3 * config.n_embd, bias=config.bias)
        self.c_proj = nn.Linear(config.n_embd, config.n_embd, bias=config.bias)
        self.resid_dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        B, T, C = x.shape
        q, k, v = (
            part.view(B, T, self.n_head, C // self.n_head).transpose(1, 2)  # (B, H, T, D)
            for part in self.c_attn(x).split(C, dim=2)
        )
        y = F.scaled_dot_product_attention(
            q, k, v, dropout_p=self.dropout if self.training else 0.0, is_causal=True
        )
        y = y.transpose(1, 2).reshape(B, T, C)
        return cast(Tensor, self.resid_dropout(self.c_proj(y)))


class MLP(nn.Module):
    """Linear to four times the width, exact GELU, linear back; for each position."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.c_fc = nn.Linear(config.n_embd, 4 * config.n_embd, bias=config.bias)
        self.c_proj = nn.Linear(4 * config.n_embd, config.n_embd, bias=config.bias)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = F.gelu(self.c_fc(x))  # (B, T, 4C)
        return cast(Tensor, self.dropout(self.c_proj(x)))


class LayerNorm(nn.LayerNorm):
    """torch's LayerNorm; in one kernel if `fused` is set."""

    fused = False

    def forward(self, input: Tensor) -> Tensor:
        if self.fused:
            return kernels.layer_norm(input, self.weight, self.bias, self.eps)
        return super().forward(input)


class Head(nn.Linear):
    """Logits; with targets the loss instead, without storing all logits at once.

    The loss is computed in this module because FSDP gathers a weight while its module runs.
    """

    def forward(self, input: Tensor, targets: Tensor | None = None) -> Tensor:
        if targets is None:
            return super().forward(input)
        return kernels.linear_cross_entropy(
            input.flatten(0, -2), self.weight, targets.flatten(), IGNORED_TARGET
        )


def init_weights(module: nn.Module) -> None:
    """GPT-2's initialization: normal with deviation 0.02, biases zero; norms as in torch."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
