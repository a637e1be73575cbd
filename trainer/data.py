"""Batches as a pure function of (seed, iteration, global row): no loader to save or resume.

A prepared data folder (`prepare.py` makes it) holds
    train.bin, val.bin   token ids, one after the other, little-endian uint16 or uint32
    meta.json            which of the two, how many, from what text, by which tokenizer
    tokenizer.json       the tokenizer itself

Shapes in this file:
    B  batch, rows in a micro-batch
    T  time, `block_size`
    G  global rows of one iteration: B x gradient_accumulation_steps, over all ranks together
"""

import json
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

EVAL_SEED = 0  # runs with other seeds are still judged on the same batches


class Stream(IntEnum):
    """Independent sources of chance: drawing more from one never moves another."""

    TRAIN_ROWS = 0
    DROPOUT = 1
    EVAL_TRAIN = 2
    EVAL_VAL = 3


def draw(seed: int, stream: Stream, index: int, n: int) -> NDArray[np.uint64]:
    """The first `n` of the 64-bit numbers that belong to (seed, stream, index), always the same.

    Philox is counter-based: any index is reached at once, and numpy promises never to change
    the raw bits (it promises no such thing for `Generator.integers`).
    """
    philox = np.random.Philox(key=[seed, int(stream)], counter=[0, index, 0, 0])
    return philox.random_raw(n)


@dataclass(frozen=True)
class Dataset:
    """A prepared folder, opened: two memory-mapped token arrays and their description."""

    folder: Path
    train: NDArray[np.unsignedinteger[Any]]
    val: NDArray[np.unsignedinteger[Any]]
    meta: dict[str, Any]
    tokenizer: dict[str, Any]

    @classmethod
    def open(cls, folder: Path, *, block_size: int) -> "Dataset":
        """The data in `folder`, checked to be whole and long enough for `block_size`.

        Raises:
            ValueError: a file is missing, has another length than it was written with, or is too
                short for one row; names the file and the way out.
        """
        try:
            meta = json.loads((folder / "meta.json").read_text("utf-8"))
            tokenizer = json.loads((folder / "tokenizer.json").read_text("utf-8"))
        except FileNotFoundError:
            raise ValueError(f"{folder} holds no prepared data (no meta.json in it)") from None
        splits = {}
        for split in ("train", "val"):
            path = folder / f"{split}.bin"
            dtype = np.dtype(meta["dtype"])
            n_tokens = meta[f"n_{split}_tokens"]
            size_bytes = path.stat().st_size if path.exists() else 0
            if size_bytes != n_tokens * dtype.itemsize:
                raise ValueError(
                    f"{path} is {size_bytes:,} bytes, but was written with "
                    f"{n_tokens * dtype.itemsize:,}: delete {folder} to have it prepared again"
                )
            if n_tokens <= block_size:
                raise ValueError(
                    f"{path} has {n_tokens:,} tokens, but block_size={block_size} needs "
                    f"{block_size + 1:,} for one row: give more text than {meta['name']}, "
                    "or a smaller block_size"
                )
            splits[split] = np.memmap(path, dtype=dtype, mode="r")
        return cls(folder, splits["train"], splits["val"], meta, tokenizer)


@dataclass(frozen=True)
class Batches:
    """What this rank reads at each iteration, drawn so that the world size does not matter.

    The G rows of an iteration are drawn for all ranks at once and dealt out: micro-step m of
    rank r takes the micro-batch m x world_size + r. So two ranks at half the micro-steps each
    see together what one rank saw, and a run goes on exactly at another world size.
    """

    dataset: Dataset
    seed: int
    batch_size: int
    block_size: int
    rank: int
    world_size: int
    device: torch.device

    def train(self, iter_num: int, micro_step: int) -> tuple[Tensor, Tensor]:
        """(x, y), each int64 (B, T), y being x moved one token on."""
        micro_batch = micro_step * self.world_size + self.rank
        return self._rows(self.dataset.train, self.seed, Stream.TRAIN_ROWS, iter_num, micro_batch)

    def eval(self, split: str, index: int) -> tuple[Tensor, Tensor]:
        """Batch `index` of the fixed batches on which `split` is judged, each int64 (B, T).

        The same at every evaluation, on every rank, for every seed and batch order.
        """
        stream = {"train": Stream.EVAL_TRAIN, "val": Stream.EVAL_VAL}[split]
        tokens = {"train": self.dataset.train, "val": self.dataset.val}[split]
        return self._rows(tokens, EVAL_SEED, stream, index, 0)

    def dropout_seed(self, iter_num: int, micro_step: int) -> int:
        """The seed that this micro-step's dropout masks come from: chance, too, has no memory."""
        micro_batch = micro_step * self.world_size + self.rank
        return int(draw(self.seed, Stream.DROPOUT, iter_num, micro_batch + 1)[-1])

    def _rows(
        self,
        tokens: NDArray[np.unsignedinteger[Any]],
        seed: int,
        stream: Stream,
        index: int,
        micro_batch: int,
    ) -> tuple[Tensor, Tensor]:
        first, end = micro_batch * self.batch_size, (micro_batch + 1) * self.batch_size
        n_starts = len(tokens) - self.block_size  # a row is T + 1 tokens long
        # The remainder favours low starts by less than n_starts / 2^64: nothing, at any size.
        starts = draw(seed, stream, index, end)[first:] % np.uint64(n_starts)  # (B,)
        rows = np.stack([tokens[s : s + self.block_size + 1] for s in starts.tolist()])
        block = torch.from_numpy(rows.astype(np.int64))  # (B, T + 1)
        if self.device.type == "cuda":
            # Pinned memory lets the copy run beside the GPU's work instead of waiting for it.
            block = block.pin_memory().to(self.device, non_blocking=True)
        return block[:, :-1], block[:, 1:]
