"""What preparing text costs, beside tiktoken alone on one core; and what it holds in memory.

    python -m tests.bench.prepare [--runs 5] [--megabytes 100,400]

Prints rows for RESULTS.md. The contestants take turns, the best of each counts, and their tokens
are compared: what is measured also checks its result.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tiktoken

from tests.bench import child
from trainer import prepare
from trainer.data import corpus, shards, tokenizer

PEAK = """
import re, sys
from pathlib import Path
from trainer.prepare import prepare
prepare(Path(sys.argv[1]), input=sys.argv[2], text_column="text", tokenizer=sys.argv[3])
# Of this program: ru_maxrss would be that of the process it was forked from, if that is more.
print(int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024)
"""
_TURN = """
from tests.bench import prepare
name, partial, input = arguments
took = prepare.turn(name, Path(partial), Path(input) if input else None)
report(seconds=took.seconds, cpu_s=took.cpu_s)
"""


class Took(NamedTuple):
    """The best of several turns: wall time, and processor time of all cores together."""

    seconds: float
    cpu_s: float


class Paces(NamedTuple):
    """What each contestant took for the same text."""

    n_megacharacters: float
    took: dict[str, Took]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--megabytes", default="100,400")
    arguments = parser.parse_args()
    print(f"{platform.platform()}, Python {platform.python_version()}, {os.cpu_count()} cores")
    print(f"tiktoken {tiktoken.__version__}, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory(dir=".") as folder:
        print(as_lines(pace(Path(folder), None, arguments.runs)))
        for megabytes in map(int, arguments.megabytes.split(",")):
            print(peak(Path(folder), megabytes))


CONTESTANTS = ("tiktoken alone", "tiktoken's own batch", "prepare, 1 thread", "prepare, 2 threads")


def pace(folder: Path, input: Path | None, n_runs: int) -> Paces:
    """tiktoken over documents in memory; all of `prepare` but the learning, on one thread and two.

    Each turn is a process of its own, as it is for users: in one that has encoded before, threads
    are a third slower, because tiktoken's regex belongs to the thread that used it first. Where
    other work keeps the cores busy the processor time tells what two threads cost.
    """
    text = text_of(input)
    encoding = tokenizer.build_tokenizer("bpe:4096", text.sample(tokenizer.SAMPLE_CHARACTERS))
    partial = folder / "partial"
    (partial / "data").mkdir(parents=True, exist_ok=True)
    shards.Manifest.create(partial, tokenizer.to_json(encoding))
    took = dict.fromkeys(CONTESTANTS, Took(float("inf"), float("inf")))
    for _ in range(n_runs):
        for name in CONTESTANTS:
            result = child.run(_TURN, name, partial, input or "")
            took[name] = Took(
                min(took[name].seconds, result["seconds"]), min(took[name].cpu_s, result["cpu_s"])
            )

    from trainer.data.dataset import Dataset  # torch, a second that the turns need not pay

    documents = documents_of(text)
    opened = Dataset.open(partial / "data", block_size=8)
    expected = [[*encoding.encode_ordinary(d), encoding.eot_token] for d in documents]
    train = np.concatenate([ids for i, ids in enumerate(expected, 1) if i % 10])
    assert np.array_equal(opened.train.window(0, len(opened.train)), train)
    return Paces(sum(map(len, documents)) / 1e6, took)


def text_of(input: Path | None) -> corpus.Corpus:
    return corpus.python_library() if input is None else corpus.open_input(input, "text")


def documents_of(text: corpus.Corpus) -> list[str]:
    return ["".join(corpus.chunks(document)) for document in text.documents()]


def turn(name: str, partial: Path, input: Path | None) -> Took:
    """The time that one way of encoding needs, in this process."""
    text = text_of(input)
    learned = json.loads((partial / "data" / "tokenizer.json").read_text())
    encoding = tokenizer.from_json(learned)
    documents = documents_of(text) if "tiktoken" in name else []
    shards.Manifest.create(partial, learned)

    def prepared(n_threads: int) -> None:
        source = prepare.Source(text.name, "", lambda: text)
        prepare.write_dataset(partial, text, source, "bpe:4096", lambda words: None, n_threads)

    all_trackers: dict[str, Callable[[], object]] = dict(
        zip(
            CONTESTANTS,
            [
                lambda: [encoding.encode_ordinary(document) for document in documents],
                lambda: encoding.encode_ordinary_batch(documents, num_threads=2),
                lambda: prepared(1),
                lambda: prepared(2),
            ],
            strict=True,
        )
    )
    begun, cpu_begun = time.perf_counter(), time.process_time()
    all_trackers[name]()
    return Took(time.perf_counter() - begun, time.process_time() - cpu_begun)


def as_lines(paces: Paces) -> str:
    alone_s = paces.took["tiktoken alone"].seconds
    return "\n".join(
        f"{name}: {took.seconds:.2f} s, {paces.n_megacharacters / took.seconds:.1f} million "
        f"characters a second, {alone_s / took.seconds:.2f}x, "
        f"{took.cpu_s:.2f} s of all cores together"
        for name, took in paces.took.items()
    )


def peak(folder: Path, megabytes: int) -> str:
    """The most memory that a process held which prepared that much JSONL, by a BPE it learned."""
    path = folder / f"{megabytes}.jsonl"
    words = [b"".join([b"w%d" % i, b" "]).decode() for i in range(50_000)]
    chance = np.random.default_rng(0)
    with path.open("w") as file:
        while file.tell() < megabytes * 1_000_000:
            page = "".join(words[i] for i in chance.zipf(1.3, 1000) % len(words))
            file.write(json.dumps({"text": page}) + "\n")
    command = [sys.executable, "-c", PEAK, str(folder / "data"), str(path), "bpe:1024"]
    begun = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    seconds = time.perf_counter() - begun
    path.unlink()
    return f"{megabytes} MB of JSONL: peak {int(done.stdout) / 1e6:,.0f} MB, {seconds:.1f} s in all"


if __name__ == "__main__":
    main()
