"""Text in, a data folder out: once for each text and tokenizer, kept for every later run.

    python trainer/prepare.py --input=books/ --tokenizer=bpe:16384

The folder's name ends in a digest of the text's content and of what was done to it, so that it is
either exactly what a run asks for or not used at all. It appears under that name only when every
byte in it is on disk: killed midway, nothing that looks prepared is left.
"""

import fcntl
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import tiktoken
from rich.console import Console
from rich.progress import Progress

from trainer import corpus as corpora
from trainer import tokenizer as tokenizers
from trainer.flags import flag, parse

FORMAT = 1  # in the digest: another layout of the folder is another folder
VAL_EVERY = 10  # one document in ten is for validation
PIECE_CHARACTERS = 1 << 20  # long documents are encoded in pieces, cut at the end of a line
BATCH_CHARACTERS = 1 << 24  # encoded at once, on every core


@dataclass(frozen=True)
class PrepareConfig:
    """What `prepare` needs to know; the same flags as the trainer's."""

    input: str | None = flag(
        None, "data", "text, JSONL or Parquet file, or a folder of them; None: Python's own library"
    )
    text_column: str = flag("text", "data", "field of JSONL or Parquet that holds the text")
    tokenizer: str = flag("bpe:4096", "data", "bpe:N (trained on the input), bytes or gpt2")
    data_dir: str = flag("data", "data", "folder where prepared data is kept for the next run")


def prepare(data_dir: Path, *, input: str | None, text_column: str, tokenizer: str) -> Path:
    """The folder with the tokens of `input`: found in `data_dir`, or made there.

    Any number of processes may ask at once; one works and the others wait for it.

    Raises:
        ValueError: the input or the tokenizer is not to be had; names the file and the way out.
    """
    tokenizers.check_name(tokenizer)
    if input is None:
        corpus = corpora.python_library()
    else:
        corpus = corpora.open_input(Path(input), text_column)
    with bar("reading", corpus.size_bytes) as progress:
        sha256 = corpus.sha256(progress)
    made_of = {"format": FORMAT, "sha256": sha256, "column": text_column, "tokenizer": tokenizer}
    key = hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:12]
    folder = data_dir / f"{corpus.name}-{tokenizer.replace(':', '')}-{key}"

    data_dir.mkdir(parents=True, exist_ok=True)
    with locked(data_dir / f".{folder.name}.lock"):
        if not folder.exists():
            # Nobody else holds the lock, so what lies here was left by one that was killed.
            partial = data_dir / f".{folder.name}.partial"
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            try:
                write_dataset(partial, corpus, sha256, tokenizer)
            except BaseException:
                shutil.rmtree(partial)
                raise
            for path in (*partial.iterdir(), partial):
                sync(path)
            partial.rename(folder)
            sync(data_dir)
    return folder


def write_dataset(folder: Path, corpus: corpora.Corpus, sha256: str, tokenizer_name: str) -> None:
    """The four files that `data.py` describes."""
    with bar(f"learning {tokenizer_name}", corpus.size_bytes) as progress:
        documents = counted(corpus.documents(), progress)
        tokenizer = tokenizers.build_tokenizer(tokenizer_name, documents)
    dtype = np.dtype(np.uint16 if tokenizer.n_vocab <= 1 << 16 else np.uint32)
    n_tokens = {"train": 0, "val": 0}
    with ExitStack() as stack:
        progress = stack.enter_context(bar("encoding", corpus.size_bytes))
        files = {s: stack.enter_context((folder / f"{s}.bin").open("wb")) for s in n_tokens}
        for split, tokens in encoded(split_documents(corpus.documents()), tokenizer, progress):
            files[split].write(np.asarray(tokens, dtype).tobytes())
            n_tokens[split] += len(tokens)
    if not sum(n_tokens.values()):
        raise ValueError(f"{corpus.source}: there is no text in it")
    meta = {
        "name": corpus.name,
        "sha256": sha256,
        "tokenizer": tokenizer_name,
        "vocab_size": tokenizer.n_vocab,
        "dtype": dtype.name,
        "n_train_tokens": n_tokens["train"],
        "n_val_tokens": n_tokens["val"],
    }
    write_json(folder / "tokenizer.json", tokenizers.to_json(tokenizer))
    write_json(folder / "meta.json", meta)


def split_documents(documents: Iterator[str]) -> Iterator[tuple[str, str]]:
    """(split, text): every tenth document is for validation.

    Fewer than ten documents (one book, say) give the last tenth of each instead.
    """
    first = list(islice(documents, VAL_EVERY))
    if len(first) == VAL_EVERY:
        for index, document in enumerate(chain(first, documents), start=1):
            yield ("train" if index % VAL_EVERY else "val"), document
        return
    for document in first:
        cut = len(document) - len(document) // VAL_EVERY
        yield "train", document[:cut]
        yield "val", document[cut:]


def encoded(
    documents: Iterable[tuple[str, str]], tokenizer: tiktoken.Encoding, progress: corpora.Progress
) -> Iterator[tuple[str, list[int]]]:
    """(split, tokens), piece by piece in order, with the end of text behind each document."""
    n_threads = os.cpu_count() or 1
    for batch in batches(documents):
        texts = [text for _, text, _ in batch]
        ids = tokenizer.encode_ordinary_batch(texts, num_threads=n_threads)
        for (split, text, is_last), tokens in zip(batch, ids, strict=True):
            yield split, [*tokens, tokenizer.eot_token] if is_last else tokens
            progress(len(text))


def batches(documents: Iterable[tuple[str, str]]) -> Iterator[list[tuple[str, str, bool]]]:
    """Lists of (split, piece, whether its document ends here), enough to keep all cores busy."""
    batch: list[tuple[str, str, bool]] = []
    n_characters = 0
    for split, document in documents:
        start = 0
        while start < len(document):
            end = document.find("\n", start + PIECE_CHARACTERS) + 1 or len(document)
            batch.append((split, document[start:end], end == len(document)))
            n_characters += end - start
            start = end
            if n_characters >= BATCH_CHARACTERS:
                yield batch
                batch, n_characters = [], 0
    yield batch


def counted(documents: Iterable[str], progress: corpora.Progress) -> Iterator[str]:
    for document in documents:
        yield document
        progress(len(document))


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


def write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1), "utf-8")


def sync(path: Path) -> None:
    """A file's bytes, or a folder's names, are on disk when this returns."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def main(argv: Sequence[str] | None = None) -> int:
    flags = parse(
        PrepareConfig, argv, prog="prepare.py", description="Turn text into tokens to train on."
    )
    try:
        folder = prepare(
            Path(flags.data_dir),
            input=flags.input,
            text_column=flags.text_column,
            tokenizer=flags.tokenizer,
        )
    except (ValueError, OSError) as mistake:
        print(f"prepare.py: {mistake}", file=sys.stderr)
        return 1
    meta = json.loads((folder / "meta.json").read_text("utf-8"))
    print(
        f"{folder}: {meta['n_train_tokens']:,} tokens to train on, {meta['n_val_tokens']:,} to "
        f"validate on, vocabulary {meta['vocab_size']:,}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
