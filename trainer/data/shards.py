"""Encode groups of pieces into shards of tokens, on all cores; continue after a kill.

A shard of each split has the tokens of `SHARD_CHARACTERS` of text. It is durable before the
manifest lists it with its SHA-256. What the manifest lists is not written again.
"""

import hashlib
import json
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
from trainer.storage.files import sha256_of, sync, write_json

SPLITS = ("train", "val")
SHARD_CHARACTERS = 1 << 28  # about 140 MB of tokens: the most work that a kill can lose

T = TypeVar("T")
R = TypeVar("R")


class Encoded(NamedTuple):
    n_characters: int
    tokens: dict[str, NDArray[Any]]  # split -> ids


def encode(group: list[Piece], tokenizer: tiktoken.Encoding, dtype: np.dtype[Any]) -> Encoded:
    """The tokens of a group for each split, with an end-of-text token after each document."""
    end_of_text = np.array([tokenizer.eot_token], dtype)
    ids: dict[str, list[NDArray[Any]]] = {split: [] for split in SPLITS}
    for split, text, ends_document in group:
        # encode_to_numpy creates no Python integers, for which threads would wait for the GIL.
        ids[split].append(tokenizer.encode_to_numpy(text, disallowed_special=()).astype(dtype))
        if ends_document:
            ids[split].append(end_of_text)
    tokens = {split: np.concatenate(arrays) for split, arrays in ids.items() if arrays}
    return Encoded(sum(len(piece.text) for piece in group), tokens)


class Encoder(threading.local):
    """`encode` for many threads, each with its own tokenizer, created by `make`.

    Threads that share a tokenizer wait for each other in its regular expression.
    """

    def __init__(self, make: Callable[[], tiktoken.Encoding], dtype: np.dtype[Any]) -> None:
        self._tokenizer, self._dtype = make(), dtype  # runs once in each thread

    def __call__(self, group: list[Piece]) -> Encoded:
        return encode(group, self._tokenizer, self._dtype)


def in_order(function: Callable[[T], R], items: Iterable[T], n_threads: int) -> Iterator[R]:
    """`function` of each item, in order, on `n_threads`, working only a few items ahead."""
    with ThreadPoolExecutor(n_threads) as pool:
        waiting: deque[Future[R]] = deque()
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > 2 * n_threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def write_part(folder: Path, number: int, encoded: Iterator[Encoded]) -> dict[str, Any] | None:
    """Write the next `SHARD_CHARACTERS`, one shard for each split; None: there is no more text.

    The result is the part's entry in the manifest:

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


class Manifest:
    """Which files of a partial folder are finished; each is listed after it is durable."""

    def __init__(self, partial: Path, parts: list[dict[str, Any]]) -> None:
        self._path = partial / "manifest.json"
        self._folder = partial / "data"
        self.parts = parts

    @classmethod
    def create(cls, partial: Path, tokenizer: dict[str, Any]) -> "Manifest":
        """A manifest without shards. Removes all files and writes the tokenizer."""
        manifest = cls(partial, [])
        manifest._keep_only(set())
        write_json(manifest._folder / "tokenizer.json", tokenizer)
        manifest._save()
        return manifest

    @classmethod
    def open(cls, partial: Path) -> "Manifest | None":
        """The manifest of a killed process, up to the first damaged part. Removes other files.

        None: there is no intact manifest or no intact tokenizer.
        """
        manifest = cls(partial, [])
        try:
            saved = json.loads(manifest._path.read_text("utf-8"))
            if saved["tokenizer"] != sha256_of(manifest._folder / "tokenizer.json"):
                return None
            for part in saved["parts"]:
                if damaged_shards(manifest._folder, shards_of(part)):
                    break  # it and the parts after it are written again
                manifest.parts.append(part)
        except (OSError, ValueError, LookupError, TypeError):  # missing or invalid
            return None
        files = {shard["file"] for part in manifest.parts for shard in shards_of(part)}
        manifest._keep_only({"tokenizer.json", *files})
        return manifest

    def add(self, part: dict[str, Any]) -> None:
        self.parts.append(part)
        self._save()

    def _keep_only(self, names: set[str]) -> None:
        for path in self._folder.iterdir():
            if path.name not in names:
                path.unlink()

    def _save(self) -> None:
        tokenizer = sha256_of(self._folder / "tokenizer.json")
        write_json(self._path, {"tokenizer": tokenizer, "parts": self.parts})


def shards_of(part: dict[str, Any]) -> list[dict[str, Any]]:
    return [part[split] for split in SPLITS if split in part]


def damaged_shards(folder: Path, shards: Iterable[dict[str, Any]]) -> list[str]:
    """The names of the shards that are missing or whose SHA-256 differs."""
    damaged = []
    for shard in shards:
        path = folder / shard["file"]
        if not path.exists() or sha256_of(path) != shard["sha256"]:
            damaged.append(shard["file"])
    return damaged
