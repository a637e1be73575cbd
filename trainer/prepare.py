"""Turn text into a folder of tokens, once for each text and tokenizer; later runs reuse it.

    python trainer/prepare.py --input=books/ --tokenizer=bpe:16384

The folder's name ends in a digest of the text and of how it was prepared, so a folder is reused
only if it is exactly what a run needs. It gets that name when all of it is durable. A killed
process leaves `.NAME.partial` with its finished shards: the next one checks them and continues; the
resulting bytes are the same.

    documents -> pieces -> groups of pieces -> [threads encode] -> shards

Each arrow is a pure function of its input: the number of threads and kills do not change the
result. No step holds more than a few groups in memory.
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

from trainer.config import TrainConfig
from trainer.console import steady_console
from trainer.data import corpus as corpora
from trainer.data import hub
from trainer.data import tokenizer as tokenizers
from trainer.data.pieces import grouped, pieces, split_documents
from trainer.data.shards import (
    SPLITS,
    Encoder,
    Manifest,
    damaged_shards,
    in_order,
    shards_of,
    write_part,
)
from trainer.flags import flag, parse, same_flag
from trainer.storage.files import sync, write_json

FORMAT = 1  # part of the digest: raised when the same input would give other tokens
RACY_NS = 2_000_000_000  # a file modified this recently may change again with the same mtime

Report = Callable[[str], object]  # called with a line about what was done


@dataclass(frozen=True)
class PrepareConfig:
    """The flags of `prepare.py`; those of `train.py` mean the same."""

    input: str | None = same_flag(TrainConfig, "input")
    text_column: str = same_flag(TrainConfig, "text_column")
    tokenizer: str = same_flag(TrainConfig, "tokenizer")
    data_dir: str = same_flag(TrainConfig, "data_dir")
    verify: bool = flag(False, "data", "read every shard again and check its SHA-256")


def prepare(
    data_dir: Path,
    *,
    input: str | None,
    text_column: str,
    tokenizer: str,
    report: Report = lambda line: None,
    n_threads: int | None = None,
) -> Path:
    """The folder with the tokens of `input`: found in `data_dir`, or created there.

    Several processes may call it at once: one prepares and the others wait for it.

    Raises:
        ValueError: the input or the tokenizer cannot be read.
    """
    tokenizers.check_name(tokenizer)
    source = find_source(input, text_column, data_dir)
    identity = {
        "format": FORMAT, "sha256": source.sha256, "column": text_column, "tokenizer": tokenizer,
    }  # fmt: skip
    key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:12]
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
                shutil.rmtree(partial)  # of an invalid input nothing is worth keeping
                raise
            unfinished.rename(folder)
            sync(data_dir)
        shutil.rmtree(partial, ignore_errors=True)
    return folder


@dataclass(frozen=True)
class Source:
    """A text and its digest, which is known before the text is opened."""

    name: str
    sha256: str
    open: Callable[[], corpora.Corpus]


def find_source(input: str | None, text_column: str, data_dir: Path) -> Source:
    """The text that `--input` names: a path, or a data set on the hub if there is no such path.

    The digest of a data set is that of its repository and commit, so that prepared data is found
    without a network.
    """
    data_set = None if input is None or Path(input).exists() else hub.find(input)
    if data_set is not None:
        sha256 = hashlib.sha256(data_set.address.encode()).hexdigest()
        return Source(data_set.name, sha256, lambda: fetch(data_set, text_column))
    if input is None:
        corpus = corpora.python_library()
    else:
        corpus = corpora.open_input(Path(input), text_column)
    return Source(corpus.name, sha256_of_corpus(corpus, data_dir), lambda: corpus)


def fetch(data_set: hub.HubSet, text_column: str) -> corpora.Corpus:
    files = hub.list_files(data_set)
    n_bytes = sum(size_bytes for _, size_bytes in files)
    with progress_bar(f"downloading {data_set.name}", n_bytes) as progress:
        paths = hub.download(data_set, files, progress)
    return corpora.Corpus(
        data_set.name, Path(data_set.name), paths[0].parent, tuple(paths), text_column
    )


def sha256_of_corpus(corpus: corpora.Corpus, data_dir: Path) -> str:
    """The digest of the corpus; cached as long as none of its files is modified.

    Without the cache every start of training would read the whole text first.
    """
    data_dir.mkdir(parents=True, exist_ok=True)
    cache = data_dir / f".{corpus.name}.sha256"
    stats = corpus.file_stats()
    stats_sha256 = hashlib.sha256(json.dumps(stats).encode()).hexdigest()
    try:
        cached = json.loads(cache.read_text("utf-8"))
        if cached["traces"] == stats_sha256:
            return str(cached["sha256"])
    except (OSError, ValueError):
        pass  # there is none
    newest_ns = max(max(stat[-2:]) for stat in stats)
    is_settled = time.time_ns() - newest_ns > RACY_NS
    with progress_bar("reading", corpus.size_bytes) as progress:
        sha256 = corpus.sha256(progress)
    if is_settled and corpus.file_stats() == stats:
        write_json(cache, {"traces": stats_sha256, "sha256": sha256})
    return sha256


def write_dataset(
    partial: Path,
    corpus: corpora.Corpus,
    source: Source,
    tokenizer_name: str,
    report: Report,
    n_threads: int,
) -> None:
    """Write, or finish, the files in `partial/data` that `data/dataset.py` reads; durable."""
    folder = partial / "data"
    stats = corpus.file_stats()
    manifest = Manifest.open(partial)
    if manifest is None:
        tokenizer = train_tokenizer(tokenizer_name, corpus)
        manifest = Manifest.create(partial, tokenizers.to_json(tokenizer))
    else:
        tokenizer = tokenizers.from_json(json.loads((folder / "tokenizer.json").read_text("utf-8")))
        if manifest.parts:
            report(f"continuing after {len(manifest.parts)} finished parts")
    dtype = np.dtype(np.uint16 if tokenizer.n_vocab <= 1 << 16 else np.uint32).newbyteorder("<")
    started, n_finished = time.monotonic(), len(manifest.parts)
    write_shards(folder, manifest, corpus, tokenizer, dtype, n_threads)
    if corpus.file_stats() != stats:
        raise ValueError(f"{corpus.source} was modified while it was read: prepare it again")
    report(speed(manifest.parts[n_finished:], time.monotonic() - started, n_threads))

    shards = {split: [part[split] for part in manifest.parts if split in part] for split in SPLITS}
    n_tokens = {split: sum(shard["n_tokens"] for shard in shards[split]) for split in SPLITS}
    if not sum(n_tokens.values()):
        raise ValueError(f"{corpus.source}: contains no text")
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
    write_json(folder / "meta.json", meta)


def train_tokenizer(tokenizer_name: str, corpus: corpora.Corpus) -> tiktoken.Encoding:
    """The tokenizer; `bpe:N` is trained on a sample of the corpus that fits into memory."""
    n_characters = tokenizers.SAMPLE_CHARACTERS
    n_bytes = min(corpus.size_bytes, n_characters)
    with progress_bar(f"training {tokenizer_name}", n_bytes) as progress:
        sample = counted(corpus.sample(n_characters), progress)
        return tokenizers.build_tokenizer(tokenizer_name, sample)


def write_shards(
    folder: Path,
    manifest: Manifest,
    corpus: corpora.Corpus,
    tokenizer: tiktoken.Encoding,
    dtype: np.dtype[Any],
    n_threads: int,
) -> None:
    """Encode the text that follows the finished parts, and add each new part to the manifest."""
    saved = tokenizers.to_json(tokenizer)
    encoder = Encoder(lambda: tokenizers.from_json(saved), dtype)
    n_groups = sum(part["n_groups"] for part in manifest.parts)
    with progress_bar("encoding", corpus.size_bytes) as progress:
        groups = grouped(pieces(split_documents(corpus, progress)))
        encoded = in_order(encoder, islice(groups, n_groups, None), n_threads)
        while part := write_part(folder, len(manifest.parts), encoded):
            manifest.add(part)


def speed(parts: list[dict[str, Any]], seconds: float, n_threads: int) -> str:
    n_characters = sum(part["n_characters"] for part in parts)
    n_tokens = sum(shard["n_tokens"] for part in parts for shard in shards_of(part))
    return (
        f"encoded {n_characters / 1e6:,.1f} million characters in {seconds:,.1f} s: "
        f"{n_characters / 1e6 / seconds:,.1f} million characters and "
        f"{n_tokens / 1e6 / seconds:,.2f} million tokens per second, on {n_threads} threads"
    )


def n_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def counted(texts: Iterable[str], progress: corpora.Progress) -> Iterator[str]:
    for text in texts:
        yield text
        progress(len(text))


@contextmanager
def progress_bar(task: str, total: int) -> Iterator[corpora.Progress]:
    """A progress bar on stderr if that is a terminal; else nothing."""
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as display:
        task_id = display.add_task(task, total=total)
        yield lambda amount: display.advance(task_id, amount)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on the file; the kernel releases it when the process dies."""
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
    """Prepare, and print which folder has the tokens; the exit status."""
    try:
        folder = prepare(
            Path(flags.data_dir),
            input=flags.input,
            text_column=flags.text_column,
            tokenizer=flags.tokenizer,
            report=lambda line: print(line, file=sys.stderr),
        )
        meta = json.loads((folder / "meta.json").read_text("utf-8"))
        if flags.verify:
            verify(folder, meta)
    except (ValueError, OSError) as error:
        print(f"prepare.py: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(
            "prepare.py: stopped; the same command continues after the last shard", file=sys.stderr
        )
        return 130
    print(
        f"{folder}: {meta['n_train_tokens']:,} tokens to train on, {meta['n_val_tokens']:,} to "
        f"validate on, vocabulary {meta['vocab_size']:,}"
    )
    return 0


def verify(folder: Path, meta: dict[str, Any]) -> None:
    """Check every shard against its SHA-256.

    Raises:
        ValueError: shards are missing or damaged; names them.
    """
    if "shards" not in meta:
        raise ValueError(
            f"{folder} was written before checksums were added: delete it to prepare it again"
        )
    shards = [shard for split in SPLITS for shard in meta["shards"][split]]
    if damaged := damaged_shards(folder, shards):
        raise ValueError(
            f"{folder}: damaged: {', '.join(damaged)}: delete the folder to prepare it again"
        )
    print(f"all {len(shards)} shards match their SHA-256", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
