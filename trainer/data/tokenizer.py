"""Text to token ids and back: a `tiktoken.Encoding`, saved as JSON and restored offline.

Every tokenizer has one special token, `END_OF_TEXT`, which follows each document.
"""

import base64
from collections.abc import Iterable
from typing import Any

import rustbpe
import tiktoken

END_OF_TEXT = "<|endoftext|>"
SAMPLE_CHARACTERS = 256_000_000  # enough text for 64k merges; more would only be slower
TEXTS_AT_ONCE = 256  # encoded together on all cores, and in memory meanwhile


def build_tokenizer(name: str, texts: Iterable[str]) -> tiktoken.Encoding:
    """The tokenizer called `name`: `bpe:N`, trained on `texts`, or `bytes`, or `gpt2`.

    `bpe:N` has N ids, the end of text included; fewer if the text has not that many merges.

    Raises:
        ValueError: there is no such tokenizer, or `gpt2` cannot be downloaded.
    """
    check_name(name)
    if name == "gpt2":
        return load_gpt2()
    if name == "bytes":
        ranks = {bytes([byte]): byte for byte in range(256)}
        return encoding(name, r"[\s\S]{1,400}", ranks)  # longer pieces encode no faster
    bpe = rustbpe.Tokenizer()
    bpe.train_from_iterator(iter(texts), bpe_size(name) - 1, buffer_size=TEXTS_AT_ONCE)
    ranks = {bytes(token): rank for token, rank in bpe.get_mergeable_ranks()}
    return encoding(name, bpe.get_pattern(), ranks)


def check_name(name: str) -> None:
    """Check the name of a tokenizer.

    Raises:
        ValueError: there is no tokenizer of that name.
    """
    if name in ("bytes", "gpt2"):
        return
    # At least 256 bytes and the end of text; 2^20 is more than any vocabulary in use.
    if not 257 <= bpe_size(name) <= 2**20:
        raise ValueError(
            f"--tokenizer={name}: must be bytes, gpt2 or bpe:N with N >= 257, such as bpe:4096"
        )


def to_json(tokenizer: tiktoken.Encoding) -> dict[str, Any]:
    """The tokenizer for `from_json`, in types for JSON and `torch.load(weights_only=True)`."""
    return {
        "name": tokenizer.name,
        "pattern": tokenizer._pat_str,
        # The bytes of token 0, 1, 2, ...: ranks are consecutive in every BPE.
        "tokens": [
            base64.b64encode(token).decode()
            for token in sorted(tokenizer._mergeable_ranks, key=tokenizer._mergeable_ranks.get)  # type: ignore[arg-type]
        ],
    }


def from_json(saved: dict[str, Any]) -> tiktoken.Encoding:
    """The tokenizer that `to_json` saved; needs no network."""
    ranks = {base64.b64decode(token): rank for rank, token in enumerate(saved["tokens"])}
    return encoding(saved["name"], saved["pattern"], ranks)


def encoding(name: str, pattern: str, ranks: dict[bytes, int]) -> tiktoken.Encoding:
    return tiktoken.Encoding(
        name, pat_str=pattern, mergeable_ranks=ranks, special_tokens={END_OF_TEXT: len(ranks)}
    )


def load_gpt2() -> tiktoken.Encoding:
    try:
        return tiktoken.get_encoding("gpt2")
    except OSError as offline:  # requests' errors are OSErrors
        raise ValueError(
            "--tokenizer=gpt2 is not on this machine and could not be downloaded "
            f"({type(offline).__name__}): go online once, or set TIKTOKEN_CACHE_DIR to a copy of "
            "tiktoken's cache, or train one with --tokenizer=bpe:4096"
        ) from None


def bpe_size(name: str) -> int:
    """N of `bpe:N`; 0 if the name does not have that form."""
    kind, _, size = name.partition(":")
    return int(size) if kind == "bpe" and size.isascii() and size.isdigit() else 0
