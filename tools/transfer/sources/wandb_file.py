"""The records of a `.wandb` file, as W&B wrote them.

`wandb leet inspect` has no sign of a zero, writes NaN as the text "NaN", and has one name for `a.b`
and for `b` in `a`; so the file is read here. It is a log of LevelDB's form: blocks of 32 KiB with
chunks in them; a record is one chunk, or several of a sequence. A chunk begins with its checksum
(CRC-32 of its type and data), its length and its type.
"""

import json
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from zlib import crc32

from ...core.library import need
from ...core.runs import Refusal
from .metrics import Name, flat

HEADER = b":W&B"
HEADER_BYTES, BLOCK_BYTES, CHUNK_HEADER_BYTES = 7, 1 << 15, 7
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4

Values = dict[Name, Any]


def records(file: Path, warnings: list[str] | None = None) -> Iterator[tuple[str, Any]]:
    """The records of a file by kind, in order. What is damaged is skipped and added to `warnings`.

    Raises:
        Refusal: it is not such a file, or has no record.
    """
    need("wandb")
    proto = need("wandb.proto.wandb_internal_pb2", "wandb")
    from google.protobuf.message import DecodeError

    n_records, warnings = 0, [] if warnings is None else warnings
    for at, data in _records(file, warnings):
        try:
            record = proto.Record.FromString(data)
        except DecodeError:
            warnings.append(f"{file}: a damaged record at byte {at:,}")
            continue
        kind = record.WhichOneof("record_type")
        if kind is not None:
            n_records += 1
            yield kind, getattr(record, kind)
    if not n_records:
        raise Refusal(f"{file}: W&B cannot read it: it has no record")


def _records(file: Path, warnings: list[str]) -> Iterator[tuple[int, bytes]]:
    """Place and bytes of each record."""
    parts: list[bytes] = []
    begin = 0
    for at, kind, data in _chunks(file, warnings):
        if kind in (FULL, FIRST):
            parts, begin = [], at
        elif not parts:
            continue  # the record begins in what was skipped
        parts.append(data)
        if kind in (FULL, LAST):
            yield begin, b"".join(parts)
            parts = []
    if parts:
        warnings.append(f"{file}: the last record is incomplete")


def _chunks(file: Path, warnings: list[str]) -> Iterator[tuple[int, int, bytes]]:
    """Place, type and data of each chunk. The rest of a block with damage is skipped."""
    with open(file, "rb") as opened:
        block = opened.read(BLOCK_BYTES)
        if block[: len(HEADER)] != HEADER:
            raise Refusal(f"{file}: W&B cannot read it: it does not begin with {HEADER.decode()!r}")
        begin, at = 0, HEADER_BYTES
        while block:
            while len(block) - at >= CHUNK_HEADER_BYTES:
                check, n_bytes, kind = struct.unpack_from("<IHB", block, at)
                data = block[at + CHUNK_HEADER_BYTES : at + CHUNK_HEADER_BYTES + n_bytes]
                if len(data) < n_bytes and len(block) < BLOCK_BYTES:
                    warnings.append(f"{file}: incomplete: it ends within a record")
                    return
                if crc32(data, crc32(bytes((kind,)))) != check:
                    warnings.append(f"{file}: damaged from byte {begin + at:,} to the next block")
                    yield begin + at, FIRST, b""  # nothing can be joined across the damage
                    break
                yield begin + at, kind, data
                at += CHUNK_HEADER_BYTES + n_bytes
            begin, at, block = begin + BLOCK_BYTES, 0, opened.read(BLOCK_BYTES)


def values(items: Iterable[Any]) -> Values:
    """The values of a record by name."""
    named: Values = {}
    for item in items:
        path = tuple(item.nested_key) or (item.key,)
        value = parsed(item.value_json)
        if isinstance(value, dict) and value:
            named |= flat(value, path)
        else:
            named[path if len(path) > 1 else path[0]] = value
    return named


def parsed(text: str) -> Any:
    """A value as W&B has it, in JSON with NaN and infinities."""
    try:
        return json.loads(text, parse_int=_whole)
    except (ValueError, RecursionError):
        return text


def _whole(digits: str) -> int | float | str:
    if digits == "-0":  # what W&B writes for -0.0
        return -0.0
    try:
        return int(digits)
    except ValueError:  # of thousands of digits
        return digits
