"""Millions of damaged journals: the reader never raises, and returns only what was written.

A loop of our own, not Hypothesis: each input is a stretch of true journals after a few
accidents, and the work that it makes is counted in bytes that go through the checksum.
"""

import importlib
import os
import random
import zlib
from pathlib import Path

import pytest

import eventlog
from eventlog.read.batch import Batch, singly
from eventlog.read.defects import DEFECTS
from tests import corrupt
from tests.strategies import SESSIONS, line

SEED = int(os.environ.get("FUZZ_SEED", "1"))
QUICK_INPUTS = 20_000
LONG_INPUTS = int(os.environ.get("FUZZ_INPUTS", "10000000"))
SHARDS = 8
WORK_MAX = 34  # times that a byte is hashed at the very worst: 16 starts for two ends, and twice

GOLDEN = Path(__file__).parents[1] / "golden" / "format_1.jsonl"
TOKENS = [
    *(
        b"\n",
        b"\r\n",
        b"\0",
        b"\0" * 600,
        b"\xef\xbb\xbf",
        b"\xff\xfe",
        b'"',
        b"}",
        b"{}",
        b"{",
        b"[" * 300,
    ),
    *(b'{"n":', b'{"n":0,"s":"a1a1a1a1"', b',"crc":"', b',"crc":"00000000"}', b'"crc":', b'"s":"'),
    *(
        b'{"n":' * 20,
        b',"crc":"00000000"}' * 20,
        b"1e999",
        b"-",
        b"NaN",
        b"\\u0000",
        b"\xed\xa0\x80",
    ),
]


def sources() -> list[bytes]:
    """True lines of several sessions: the golden journal's, and some of every shape."""
    whole = GOLDEN.read_bytes().splitlines(keepends=True)
    for s in SESSIONS:
        whole.append(line(0, s, "open", format=1, run_id="r", run_name="run"))
        whole += [line(n, s, iter=n, loss=5.0 / n, time_ms=52.1, mfu=31.2) for n in range(1, 6)]
        whole.append(line(6, s, "eval", iter=6, val_loss=float("nan")))
        whole.append(line(7, s, "note", text="ünï \x00 {}", inside={"crc": "01234567", "n": 1}))
        whole.append(line(8, s, "close", status="completed"))
    return whole


def broken(rng: random.Random, whole: list[bytes]) -> bytes:
    """A few lines in a row, or from anywhere, after one to four accidents."""
    n_lines = rng.randint(1, 8)
    begin = rng.randrange(len(whole))
    lines = whole[begin : begin + n_lines] if rng.random() < 0.7 else rng.choices(whole, k=n_lines)
    data = b"".join(lines)
    for _ in range(rng.randint(1, 4)):
        if data:
            data = accident(rng, data)
    return data


def accident(rng: random.Random, data: bytes) -> bytes:
    at, size = rng.randrange(len(data)), rng.choice((1, 2, 3, 8, 30, 200, 600))
    match rng.randrange(9):
        case 0:
            return corrupt.flip_bit(data, at, rng.randrange(8))
        case 1:
            return corrupt.set_byte(data, at, rng.randrange(256))
        case 2:
            return corrupt.zero_block(data, at, size)
        case 3:
            return corrupt.overwrite(data, at, rng.choice(TOKENS))
        case 4:
            return corrupt.insert(data, at, rng.choice(TOKENS))
        case 5:
            return corrupt.delete(data, at, size)
        case 6:
            return corrupt.repeat_block(data, at, size, rng.randrange(len(data) + 1))
        case 7:
            return corrupt.cut_tail(data, size)
        case _:
            return corrupt.overwrite(data, at, rng.randbytes(min(size, 30)))


class CountingChecksum:
    """CRC-32, and how many bytes it was asked for."""

    def __init__(self) -> None:
        self.n_bytes = 0

    def __call__(self, data: bytes, start: int = 0) -> int:
        self.n_bytes += len(data)
        return zlib.crc32(data, start)


def fuzz(n_inputs: int, seed: str, patch: pytest.MonkeyPatch) -> int:
    """Read so many inputs; the records found in all. An input that breaks the reader is shown."""
    rng, whole = random.Random(seed), sources()
    written = {one[:-1] for one in whole}
    checksum = CountingChecksum()
    for module in ("eventlog.format.record", "eventlog.read.scanner", "eventlog.read.batch"):
        patch.setattr(importlib.import_module(module), "crc32", checksum)
    patch.setattr(importlib.import_module("eventlog.read.scanner"), "_LEAST_LINES", 1)
    n_records = 0
    for number in range(n_inputs):
        data = broken(rng, whole)
        checksum.n_bytes = 0
        try:
            n_records += read(data, rng, written)
            assert checksum.n_bytes <= WORK_MAX * len(data), "too much work"
        except Exception as error:
            error.add_note(f"input {number} of seed {seed!r}: {data!r}")
            raise
    return n_records


def read(data: bytes, rng: random.Random, written: set[bytes]) -> int:
    """Scan `data` in two pieces, fold the records, and check every result."""
    scanner, fold = eventlog.Scanner(in_batches=rng.random() < 0.5), eventlog.Fold()
    cut = rng.randrange(len(data) + 1)
    items = scanner.feed_on(data[:cut]) + scanner.feed_on(data[cut:]) + scanner.finish()
    records = list(singly(iter(items)))
    for record in records:
        assert record.line in written, "a record that was never written"
        assert data[record.offset : record.offset + record.size_bytes] == record.line
    for item in items:
        if isinstance(item, Batch):
            fold.add_batch(item)
        else:
            fold.add(item)
    assert len({(r.s, r.n) for r in records}) == len(records)
    assert scanner.size_bytes == len(data)
    for defect in scanner.defects:
        assert defect.kind in DEFECTS
        assert 0 <= defect.offset <= len(data)
    fold.summary()
    return len(records)


def test_none_of_20_000_broken_journals_breaks_or_misleads_the_reader(monkeypatch):
    assert fuzz(QUICK_INPUTS, f"{SEED}", monkeypatch) > QUICK_INPUTS


@pytest.mark.slow
@pytest.mark.parametrize("shard", range(SHARDS))
def test_none_of_ten_million_broken_journals_breaks_or_misleads_the_reader(shard, monkeypatch):
    """FUZZ_INPUTS in all, each shard a part of them, by FUZZ_SEED."""
    n_inputs = LONG_INPUTS // SHARDS
    n_records = fuzz(n_inputs, f"{SEED}.{shard}", monkeypatch)

    print(f"shard {shard}: {n_inputs:,} inputs, {n_records:,} records found")
    assert n_records > n_inputs
