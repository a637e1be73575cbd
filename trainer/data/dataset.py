"""Batches as a pure function of (seed, iteration, global row): no loader to save or resume.

A prepared data folder (`prepare.py` makes it) holds
    train.000.bin, ...   token ids, one after the other, little-endian uint16 or uint32
    val.000.bin, ...     the same, to validate on
    meta.json            which of the two, how many, from what text, by which tokenizer; and in
                         `shards` the files of each split in order, with length and SHA-256
    tokenizer.json       the tokenizer itself

Shapes in this file:
    B  batch, rows in a micro-batch
    T  time, `block_size`
    G  global rows of one iteration: B x gradient_accumulation_steps, over all ranks together
"""

import json
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from itertools import accumulate
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


class Tokens:
    """Token ids in one row, whatever files they lie in: where one ends the next one begins.

    A window may lie across a border, so batches do not depend on how the files were cut.
    """

    def __init__(self, shards: Sequence[NDArray[np.unsignedinteger[Any]]]) -> None:
        self._shards = list(shards)
        # Of each shard, and of the end. Python's own integers: 2^31 is nothing to them.
        self._starts = list(accumulate(map(len, self._shards), initial=0))

    def __len__(self) -> int:
        return self._starts[-1]

    def window(self, start: int, length: int) -> NDArray[np.unsignedinteger[Any]]:
        """The `length` ids from `start` on; there must be so many."""
        shard = bisect_right(self._starts, start) - 1
        begin = start - self._starts[shard]
        window = self._shards[shard][begin : begin + length]
        while len(window) < length:
            shard += 1
            window = np.concatenate([window, self._shards[shard][: length - len(window)]])
        return window


@dataclass(frozen=True)
class Dataset:
    """A prepared folder, opened: the memory-mapped tokens of both splits and their description."""

    folder: Path
    train: Tokens
    val: Tokens
    meta: dict[str, Any]  # without the list of shards: it goes into every log and checkpoint
    tokenizer: dict[str, Any]

    @classmethod
    def open(cls, folder: Path, *, block_size: int) -> "Dataset":
        """The data in `folder`, checked to be whole and long enough for `block_size`.

        Lengths are checked here; the checksums are for `prepare.py --verify=True`.

        Raises:
            ValueError: a file is missing, has another length than it was written with, or a split
                is too short for one row; names it and the way out.
        """
        try:
            meta = json.loads((folder / "meta.json").read_text("utf-8"))
            tokenizer = json.loads((folder / "tokenizer.json").read_text("utf-8"))
        except FileNotFoundError:
            raise ValueError(f"{folder} holds no prepared data (no meta.json in it)") from None
        shards = meta.pop("shards", None)
        splits = {}
        for split in ("train", "val"):
            n_tokens = meta[f"n_{split}_tokens"]
            # Folders of before there were shards hold each split in one file.
            listed = shards[split] if shards else [{"file": f"{split}.bin", "n_tokens": n_tokens}]
            splits[split] = Tokens(
                [open_shard(folder / s["file"], meta["dtype"], s["n_tokens"]) for s in listed]
            )
            if n_tokens <= block_size:
                raise ValueError(
                    f"{folder}: {split} has {n_tokens:,} tokens, but block_size={block_size} needs "
                    f"{block_size + 1:,} for one row: give more text than {meta['name']}, "
                    "or a smaller block_size"
                )
        return cls(folder, splits["train"], splits["val"], meta, tokenizer)


def open_shard(path: Path, dtype: str, n_tokens: int) -> NDArray[np.unsignedinteger[Any]]:
    """The ids in the file at `path`, of which nothing is read yet."""
    little_endian = np.dtype(dtype).newbyteorder("<")
    expected_bytes = n_tokens * little_endian.itemsize
    size_bytes = path.stat().st_size if path.exists() else 0
    if size_bytes != expected_bytes:
        raise ValueError(
            f"{path} is {size_bytes:,} bytes, but was written with {expected_bytes:,}: "
            f"delete {path.parent} to have it prepared again"
        )
    if n_tokens == 0:
        return np.zeros(0, little_endian)  # nothing cannot be mapped
    # A plain view: a memmap's own slices cost ten times as much.
    return np.memmap(path, dtype=little_endian, mode="r").view(np.ndarray)


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
        tokens: Tokens,
        seed: int,
        stream: Stream,
        index: int,
        micro_batch: int,
    ) -> tuple[Tensor, Tensor]:
        first, end = micro_batch * self.batch_size, (micro_batch + 1) * self.batch_size
        n_starts = len(tokens) - self.block_size  # a row is T + 1 tokens long
        # The remainder favours low starts by less than n_starts / 2^64: nothing, at any size.
        starts = draw(seed, stream, index, end)[first:] % np.uint64(n_starts)  # (B,)
        rows = np.stack([tokens.window(s, self.block_size + 1) for s in starts.tolist()])
        block = torch.from_numpy(rows.astype(np.int64))  # (B, T + 1)
        if self.device.type == "cuda":
            # Pinned memory lets the copy run beside the GPU's work instead of waiting for it.
            block = block.pin_memory().to(self.device, non_blocking=True)
        return block[:, :-1], block[:, 1:]
