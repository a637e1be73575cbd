"""Text in, a data folder out: once for each text and tokenizer, kept for every later run.

    python trainer/prepare.py --input=books/ --tokenizer=bpe:16384

The folder's name ends in a digest of the text's content and of what was done to it, so that it is
either exactly what a run asks for or not used at all. It appears under that name only when every
byte in it is on disk: killed midway, nothing that looks prepared is left. What a killed process
leaves is `.NAME.partial`, with the shards that it finished: the next one checks them and goes on
from there, to the same bytes.

    documents -> pieces -> groups of pieces -> [threads encode] -> shards

Each arrow is a pure function of what is before it, so neither the number of threads nor a kill
shows in the result, and none of them holds more than a few groups in memory.
"""

import fcntl
import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import tiktoken
from rich.console import Console
from rich.progress import Progress

sys.path.insert(0, str(Path(__file__).parents[1]))  # `trainer` is not installed: it runs from here

from trainer.console import steady_console
from trainer.data import corpus as corpora
from trainer.data import hub
from trainer.data import tokenizer as tokenizers
from trainer.data.pieces import grouped, pieces, split_documents
from trainer.data.shards import (
    SPLITS,
    Encoder,
    Ledger,
    in_order,
    mistakes,
    replace_json,
    shards_of,
    sync,
    write_part,
)
from trainer.flags import flag, parse

FORMAT = 1  # in the digest: raised when the same input would give other tokens
RACY_NS = 2_000_000_000  # a file written so recently may be written again within one tick

Report = Callable[[str], object]  # told in words what was done


@dataclass(frozen=True)
class PrepareConfig:
    """What `prepare` needs to know; the same flags as the trainer's."""

    input: str | None = flag(
        None,
        "data",
        "text, JSONL or Parquet file (also .gz, .zst), a folder of them, or by name: fineweb-edu, "
        "fineweb, openwebtext, fineweb-edu:100BT; None: Python's own library",
    )
    text_column: str = flag("text", "data", "field of JSONL or Parquet that holds the text")
    tokenizer: str = flag("bpe:4096", "data", "bpe:N (trained on the input), bytes or gpt2")
    data_dir: str = flag("data", "data", "folder where prepared data is kept for the next run")
    verify: bool = flag(False, "data", "read every shard again and check it against its SHA-256")


def prepare(
    data_dir: Path,
    *,
    input: str | None,
    text_column: str,
    tokenizer: str,
    report: Report = lambda words: None,
    n_threads: int | None = None,
) -> Path:
    """The folder with the tokens of `input`: found in `data_dir`, or made there.

    Any number of processes may ask at once; one works and the others wait for it.

    Raises:
        ValueError: the input or the tokenizer is not to be had; names the file and the way out.
    """
    tokenizers.check_name(tokenizer)
    source = find_source(input, text_column, data_dir)
    made_of = {
        "format": FORMAT, "sha256": source.sha256, "column": text_column, "tokenizer": tokenizer,
    }  # fmt: skip
    key = hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:12]
    folder = data_dir / f"{source.name}-{tokenizer.replace(':', '')}-{key}"
    partial = data_dir / f".{folder.name}.partial"
    data_dir.mkdir(parents=True, exist_ok=True)
    with locked(data_dir / f".{folder.name}.lock"):
        if not folder.exists():
            corpus = source.open()
            unfinished = partial / "data"
            unfinished.mkdir(parents=True, exist_ok=True)
            try:
                write_dataset(partial, corpus, source, tokenizer, report, n_threads or n_cores())
            except ValueError:
                shutil.rmtree(partial)  # of an input that will not do nothing is worth keeping
                raise
            unfinished.rename(folder)
            sync(data_dir)
        shutil.rmtree(partial, ignore_errors=True)
    return folder


@dataclass(frozen=True)
class Source:
    """Where text comes from, and its identity, which is known before any of it is opened."""

    name: str
    sha256: str
    open: Callable[[], corpora.Corpus]


def find_source(input: str | None, text_column: str, data_dir: Path) -> Source:
    """What `--input` says: a path, or the name of a data set where there is no such path.

    Of a data set on the hub the repository and the commit are the identity, so that what was
    prepared from it is found again without a network.
    """
    wanted = None if input is None or Path(input).exists() else hub.find(input)
    if wanted is not None:
        sha256 = hashlib.sha256(wanted.address.encode()).hexdigest()
        return Source(wanted.name, sha256, lambda: fetch(wanted, text_column))
    if input is None:
        corpus = corpora.python_library()
    else:
        corpus = corpora.open_input(Path(input), text_column)
    return Source(corpus.name, sha256_of_corpus(corpus, data_dir), lambda: corpus)


def fetch(wanted: hub.HubSet, text_column: str) -> corpora.Corpus:
    files = hub.list_files(wanted)
    with bar(f"fetching {wanted.name}", sum(size_bytes for _, size_bytes in files)) as progress:
        paths = hub.download(wanted, files, progress)
    return corpora.Corpus(
        wanted.name, Path(wanted.name), paths[0].parent, tuple(paths), text_column
    )


def sha256_of_corpus(corpus: corpora.Corpus, data_dir: Path) -> str:
    """The digest of its bytes; remembered, as long as no file was written to since.

    Every start and restart of training would else read all of the text first.
    """
    data_dir.mkdir(parents=True, exist_ok=True)
    memory = data_dir / f".{corpus.name}.sha256"
    traces = corpus.traces()
    now = hashlib.sha256(json.dumps(traces).encode()).hexdigest()
    try:
        before = json.loads(memory.read_text("utf-8"))
        if before["traces"] == now:
            return str(before["sha256"])
    except (OSError, ValueError):
        pass  # none was remembered
    newest_ns = max(max(trace[-2:]) for trace in traces)
    settled = time.time_ns() - newest_ns > RACY_NS
    with bar("reading", corpus.size_bytes) as progress:
        sha256 = corpus.sha256(progress)
    if settled and corpus.traces() == traces:
        replace_json(memory, {"traces": now, "sha256": sha256})
    return sha256


def write_dataset(
    partial: Path,
    corpus: corpora.Corpus,
    source: Source,
    tokenizer_name: str,
    report: Report,
    n_threads: int,
) -> None:
    """The files that `data/dataset.py` reads, in `partial/data`, durable; begun or gone on with."""
    folder = partial / "data"
    traces = corpus.traces()
    ledger = Ledger.open(partial)
    if ledger is None:
        tokenizer = learn(tokenizer_name, corpus)
        ledger = Ledger.begin(partial, tokenizers.to_json(tokenizer))
    else:
        tokenizer = tokenizers.from_json(json.loads((folder / "tokenizer.json").read_text("utf-8")))
        if ledger.parts:
            report(f"going on after {len(ledger.parts)} finished parts")
    dtype = np.dtype(np.uint16 if tokenizer.n_vocab <= 1 << 16 else np.uint32).newbyteorder("<")
    saved = tokenizers.to_json(tokenizer)
    encoder = Encoder(lambda: tokenizers.from_json(saved), dtype)
    begun, n_parts = time.monotonic(), len(ledger.parts)
    with bar("encoding", corpus.size_bytes) as progress:
        groups = grouped(pieces(split_documents(corpus, progress)))
        todo = islice(groups, sum(part["n_groups"] for part in ledger.parts), None)
        encoded = in_order(encoder, todo, n_threads)
        while part := write_part(folder, len(ledger.parts), encoded):
            ledger.add(part)
    if corpus.traces() != traces:
        raise ValueError(f"{corpus.source} was written to while it was read: prepare it again")
    report(pace(ledger.parts[n_parts:], time.monotonic() - begun, n_threads))

    shards = {split: [part[split] for part in ledger.parts if split in part] for split in SPLITS}
    n_tokens = {split: sum(shard["n_tokens"] for shard in shards[split]) for split in SPLITS}
    if not sum(n_tokens.values()):
        raise ValueError(f"{corpus.source}: there is no text in it")
    meta = {
        "name": source.name,
        "sha256": source.sha256,
        "tokenizer": tokenizer_name,
        "vocab_size": tokenizer.n_vocab,
        "dtype": dtype.name,
        "n_train_tokens": n_tokens["train"],
        "n_val_tokens": n_tokens["val"],
        "shards": shards,
    }
    replace_json(folder / "meta.json", meta)


def learn(tokenizer_name: str, corpus: corpora.Corpus) -> tiktoken.Encoding:
    """The tokenizer, trained where it is to be on a sample that fits into memory."""
    n_characters = tokenizers.SAMPLE_CHARACTERS
    with bar(f"learning {tokenizer_name}", min(corpus.size_bytes, n_characters)) as progress:
        sample = counted(corpus.sample(n_characters), progress)
        return tokenizers.build_tokenizer(tokenizer_name, sample)


def pace(parts: list[dict[str, Any]], seconds: float, n_threads: int) -> str:
    n_characters = sum(part["n_characters"] for part in parts)
    n_tokens = sum(shard["n_tokens"] for part in parts for shard in shards_of(part))
    return (
        f"encoded {n_characters / 1e6:,.1f} million characters in {seconds:,.1f} s: "
        f"{n_characters / 1e6 / seconds:,.1f} million characters and "
        f"{n_tokens / 1e6 / seconds:,.2f} million tokens a second, on {n_threads} threads"
    )


def n_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def counted(texts: Iterable[str], progress: corpora.Progress) -> Iterator[str]:
    for text in texts:
        yield text
        progress(len(text))


@contextmanager
def bar(task: str, total: int) -> Iterator[corpora.Progress]:
    """A progress bar on stderr, where a person may be watching; else nothing."""
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as display:
        task_id = display.add_task(task, total=total)
        yield lambda amount: display.advance(task_id, amount)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Alone with whoever else names this lock; the kernel lets go when the process dies."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def main(argv: Sequence[str] | None = None) -> int:
    with steady_console():
        flags = parse(
            PrepareConfig, argv, prog="prepare.py", description="Turn text into tokens to train on."
        )
        return prepare_once(flags)


def prepare_once(flags: PrepareConfig) -> int:
    """The folder made or found, and said; the exit status."""
    try:
        folder = prepare(
            Path(flags.data_dir),
            input=flags.input,
            text_column=flags.text_column,
            tokenizer=flags.tokenizer,
            report=lambda words: print(words, file=sys.stderr),
        )
        meta = json.loads((folder / "meta.json").read_text("utf-8"))
        if flags.verify:
            verify(folder, meta)
    except (ValueError, OSError) as mistake:
        print(f"prepare.py: {mistake}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("prepare.py: stopped; called again it goes on after the last shard", file=sys.stderr)
        return 130
    print(
        f"{folder}: {meta['n_train_tokens']:,} tokens to train on, {meta['n_val_tokens']:,} to "
        f"validate on, vocabulary {meta['vocab_size']:,}"
    )
    return 0


def verify(folder: Path, meta: dict[str, Any]) -> None:
    """Raises ValueError, naming the shards, unless each has the bytes that were written."""
    if "shards" not in meta:
        raise ValueError(
            f"{folder} is of before there were checksums: delete it to prepare it anew"
        )
    shards = [shard for split in SPLITS for shard in meta["shards"][split]]
    if wrong := mistakes(folder, shards):
        raise ValueError(
            f"{folder}: {', '.join(wrong)} is damaged; delete the folder to have it prepared again"
        )
    print(f"{len(shards)} shards are as they were written", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
