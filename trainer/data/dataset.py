"""Batches as a pure function of (seed, iteration, global row): no loader state to save or resume.

A folder of prepared data (from `prepare.py`) contains
    train.000.bin, ...   token ids, little-endian uint16 or uint32
    val.000.bin, ...     the same, for validation
    meta.json            dtype, number of tokens, text, tokenizer; and in `shards` the files of
                         each split in order, with length and SHA-256
    tokenizer.json       the tokenizer

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

EVAL_SEED = 0  # runs with different seeds are evaluated on the same batches


class Stream(IntEnum):
    """Independent streams of random numbers: drawing from one does not change another."""

    TRAIN_ROWS = 0
    DROPOUT = 1
    EVAL_TRAIN = 2
    EVAL_VAL = 3


def draw(seed: int, stream: Stream, index: int, n: int) -> NDArray[np.uint64]:
    """The first `n` random 64-bit numbers of (seed, stream, index), always the same.

    Philox is counter-based, so any index is reached at once, and numpy guarantees that its raw
    bits never change (which it does not for `Generator.integers`).
    """
    philox = np.random.Philox(key=[seed, int(stream)], counter=[0, index, 0, 0])
    return philox.random_raw(n)


class Tokens:
    """The token ids of several shards as one sequence.

    A window may span shards, so batches do not depend on how the tokens are cut into files.
    """

    def __init__(self, shards: Sequence[NDArray[np.unsignedinteger[Any]]]) -> None:
        self._shards = list(shards)
        # Start of each shard, and the end. Python integers do not overflow.
        self._starts = list(accumulate(map(len, self._shards), initial=0))

    def __len__(self) -> int:
        return self._starts[-1]

    def window(self, start: int, length: int) -> NDArray[np.unsignedinteger[Any]]:
        """The `length` ids from `start` on, which must exist."""
        shard = bisect_right(self._starts, start) - 1
        begin = start - self._starts[shard]
        window = self._shards[shard][begin : begin + length]
        while len(window) < length:
            shard += 1
            window = np.concatenate([window, self._shards[shard][: length - len(window)]])
        return window


@dataclass(frozen=True)
class Dataset:
    """The memory-mapped tokens of both splits of a prepared folder, and their metadata."""

    folder: Path
    train: Tokens
    val: Tokens
    meta: dict[str, Any]  # without `shards`: it is stored in every log and checkpoint
    tokenizer: dict[str, Any]

    @classmethod
    def open(cls, folder: Path, *, block_size: int) -> "Dataset":
        """Open the data in `folder`.

        File sizes are checked here, checksums by `prepare.py --verify=True`.

        Raises:
            ValueError: a file is missing or has the wrong size, or a split is shorter than
                `block_size` + 1 tokens.
        """
        try:
            meta = json.loads((folder / "meta.json").read_text("utf-8"))
            tokenizer = json.loads((folder / "tokenizer.json").read_text("utf-8"))
        except FileNotFoundError:
            raise ValueError(
                f"{folder}: no prepared data (meta.json or tokenizer.json is missing)"
            ) from None
        shards = meta.pop("shards", None)
        splits = {}
        for split in ("train", "val"):
            n_tokens = meta[f"n_{split}_tokens"]
            # Folders of early versions have one file for each split.
            files = shards[split] if shards else [{"file": f"{split}.bin", "n_tokens": n_tokens}]
            splits[split] = Tokens(
                [open_shard(folder / s["file"], meta["dtype"], s["n_tokens"]) for s in files]
            )
            if n_tokens <= block_size:
                raise ValueError(
                    f"{folder}: {split} has {n_tokens:,} tokens, but --block_size={block_size} "
                    f"needs at least {block_size + 1:,}: give more text than {meta['name']}, "
                    "or a smaller --block_size"
                )
        return cls(folder, splits["train"], splits["val"], meta, tokenizer)


def open_shard(path: Path, dtype: str, n_tokens: int) -> NDArray[np.unsignedinteger[Any]]:
    """The ids in the file at `path`, memory-mapped."""
    little_endian = np.dtype(dtype).newbyteorder("<")
    expected_bytes = n_tokens * little_endian.itemsize
    size_bytes = path.stat().st_size if path.exists() else 0
    if size_bytes != expected_bytes:
        raise ValueError(
            f"{path}: expected {expected_bytes:,} bytes, found {size_bytes:,}: "
            f"delete {path.parent} to prepare it again"
        )
    if n_tokens == 0:
        return np.zeros(0, little_endian)  # an empty file cannot be mapped
    # A plain view: slicing a memmap is ten times as slow.
    return np.memmap(path, dtype=little_endian, mode="r").view(np.ndarray)


@dataclass(frozen=True)
class Batches:
    """The batches of this rank. All ranks together read the same rows at any world size.

    The G rows of an iteration are drawn for all ranks at once and divided among them: micro-step m
    of rank r reads the micro-batch m x world_size + r. So two ranks with half the micro-steps each
    read what one rank reads, and a run can resume with another number of ranks.
    """

    dataset: Dataset
    seed: int
    batch_size: int
    block_size: int
    rank: int
    world_size: int
    device: torch.device

    def train(self, iter_num: int, micro_step: int) -> tuple[Tensor, Tensor]:
        """(x, y), each int64 (B, T); y is x shifted by one token."""
        micro_batch = micro_step * self.world_size + self.rank
        return self._rows(self.dataset.train, self.seed, Stream.TRAIN_ROWS, iter_num, micro_batch)

    def eval(self, split: str, index: int) -> tuple[Tensor, Tensor]:
        """(x, y) of batch `index` of the evaluation of `split`, each int64 (B, T).

        The same at every evaluation, on every rank, for every seed.
        """
        stream = {"train": Stream.EVAL_TRAIN, "val": Stream.EVAL_VAL}[split]
        tokens = {"train": self.dataset.train, "val": self.dataset.val}[split]
        return self._rows(tokens, EVAL_SEED, stream, index, 0)

    def dropout_seed(self, iter_num: int, micro_step: int) -> int:
        """The seed of this micro-step's dropout masks: dropout has no state to resume either."""
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
        # The bias of the remainder is below n_starts / 2^64, which is negligible.
        starts = draw(seed, stream, index, end)[first:] % np.uint64(n_starts)  # (B,)
        rows = np.stack([tokens.window(s, self.block_size + 1) for s in starts.tolist()])
        block = torch.from_numpy(rows.astype(np.int64))  # (B, T + 1)
        if self.device.type == "cuda":
            # From pinned memory the copy is asynchronous.
            block = block.pin_memory().to(self.device, non_blocking=True)
        return block[:, :-1], block[:, 1:]
