"""Groups of pieces in, shards of tokens out: on all cores, and going on where a kill cut it off.

A shard of each split holds what `SHARD_CHARACTERS` of text gave. It is on disk before the ledger
names it, with its SHA-256; what the ledger names is never made again.
"""

import hashlib
import json
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import tiktoken
from numpy.typing import NDArray

from trainer.data.pieces import Piece

SPLITS = ("train", "val")
SHARD_CHARACTERS = 1 << 28  # about 140 MB of tokens; the most that a kill costs

T = TypeVar("T")
R = TypeVar("R")


class Encoded(NamedTuple):
    n_characters: int
    tokens: dict[str, NDArray[Any]]  # split -> ids


def encode(group: list[Piece], tokenizer: tiktoken.Encoding, dtype: np.dtype[Any]) -> Encoded:
    """The tokens of a group, split by split, with the end of text behind each document."""
    end_of_text = np.array([tokenizer.eot_token], dtype)
    ids: dict[str, list[NDArray[Any]]] = {split: [] for split in SPLITS}
    for split, text, ends_document in group:
        # Into an array, not into a list of Python integers, for which threads would queue.
        ids[split].append(tokenizer.encode_to_numpy(text, disallowed_special=()).astype(dtype))
        if ends_document:
            ids[split].append(end_of_text)
    tokens = {split: np.concatenate(arrays) for split, arrays in ids.items() if arrays}
    return Encoded(sum(len(piece.text) for piece in group), tokens)


class Encoder(threading.local):
    """`encode` for many threads: each has a tokenizer of its own, which `make` gives it.

    The threads of one tokenizer wait for each other in its regular expression. On two cores two
    took 1.07 s for what one did in 0.98; with a tokenizer each, 0.49 (12 million characters).
    """

    def __init__(self, make: Callable[[], tiktoken.Encoding], dtype: np.dtype[Any]) -> None:
        self._tokenizer, self._dtype = make(), dtype  # run once in each thread that encodes

    def __call__(self, group: list[Piece]) -> Encoded:
        return encode(group, self._tokenizer, self._dtype)


def in_order(function: Callable[[T], R], items: Iterable[T], n_threads: int) -> Iterator[R]:
    """`function` of each item, in order, on so many threads; a few items ahead and no more."""
    with ThreadPoolExecutor(n_threads) as pool:
        waiting: deque[Future[R]] = deque()
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > 2 * n_threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def write_part(folder: Path, number: int, encoded: Iterator[Encoded]) -> dict[str, Any] | None:
    """The next `SHARD_CHARACTERS`, one shard of each split, on disk; None: there are no more.

    {"n_groups": 256, "n_characters": 268435456, "train": {"file": "train.000.bin",
    "n_tokens": 73000000, "sha256": "..."}, "val": {...}}; a split without tokens has no shard.
    """
    part: dict[str, Any] = {"n_groups": 0, "n_characters": 0}
    digests = {split: hashlib.sha256() for split in SPLITS}
    with ExitStack() as stack:
        files: dict[str, Any] = {}
        for n_characters, tokens in encoded:
            for split, ids in tokens.items():
                if split not in part:
                    name = f"{split}.{number:03}.bin"
                    files[split] = stack.enter_context((folder / name).open("wb"))
                    part[split] = {"file": name, "n_tokens": 0}
                files[split].write(ids.data)
                digests[split].update(ids.data)
                part[split]["n_tokens"] += len(ids)
            part["n_groups"] += 1
            part["n_characters"] += n_characters
            if part["n_characters"] >= SHARD_CHARACTERS:
                break
    for split in files:
        part[split]["sha256"] = digests[split].hexdigest()
        sync(folder / part[split]["file"])
    sync(folder)
    return part if part["n_groups"] else None


class Ledger:
    """What is finished in a partial folder: written down after it is on disk, never before."""

    def __init__(self, partial: Path, parts: list[dict[str, Any]]) -> None:
        self._path = partial / "ledger.json"
        self._folder = partial / "data"
        self.parts = parts

    @classmethod
    def begin(cls, partial: Path, tokenizer: dict[str, Any]) -> "Ledger":
        """Nothing is finished but the tokenizer."""
        ledger = cls(partial, [])
        ledger._keep_only(set())
        replace_json(ledger._folder / "tokenizer.json", tokenizer)
        ledger._save()
        return ledger

    @classmethod
    def open(cls, partial: Path) -> "Ledger | None":
        """What another process finished, as far as it is still so; None: not even a tokenizer."""
        ledger = cls(partial, [])
        try:
            saved = json.loads(ledger._path.read_text("utf-8"))
            if saved["tokenizer"] != sha256_of(ledger._folder / "tokenizer.json"):
                return None
            for part in saved["parts"]:
                if mistakes(ledger._folder, shards_of(part)):
                    break  # this one and all behind it are made again
                ledger.parts.append(part)
        except (OSError, ValueError, LookupError, TypeError):  # there is none, or it is no ledger
            return None
        files = {shard["file"] for part in ledger.parts for shard in shards_of(part)}
        ledger._keep_only({"tokenizer.json", *files})
        return ledger

    def add(self, part: dict[str, Any]) -> None:
        self.parts.append(part)
        self._save()

    def _keep_only(self, names: set[str]) -> None:
        for path in self._folder.iterdir():
            if path.name not in names:
                path.unlink()

    def _save(self) -> None:
        tokenizer = sha256_of(self._folder / "tokenizer.json")
        replace_json(self._path, {"tokenizer": tokenizer, "parts": self.parts})


def shards_of(part: dict[str, Any]) -> list[dict[str, Any]]:
    return [part[split] for split in SPLITS if split in part]


def mistakes(folder: Path, shards: Iterable[dict[str, Any]]) -> list[str]:
    """The names of the shards whose bytes are not those that were written."""
    wrong = []
    for shard in shards:
        path = folder / shard["file"]
        if not path.exists() or sha256_of(path) != shard["sha256"]:
            wrong.append(shard["file"])
    return wrong


def replace_json(path: Path, content: dict[str, Any]) -> None:
    """`content` in the place of whatever was at `path`: the one or the other, also after a kill."""
    beside = path.with_name(f".{path.name}.new")
    beside.write_text(json.dumps(content, indent=1), "utf-8")
    sync(beside)
    beside.replace(path)
    sync(path.parent)


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync(path: Path) -> None:
    """A file's bytes, or a folder's names, are on disk when this returns."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
