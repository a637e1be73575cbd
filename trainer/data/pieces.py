"""Cut documents of any length into pieces that fit into memory, for training or validation.

A pure function of the documents: it does not depend on which thread encodes a piece, or when.
"""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import NamedTuple

from trainer.data import corpus as corpora

VAL_EVERY = 10  # one document in ten is for validation
PIECE_CHARACTERS = 1 << 20  # long documents are encoded in pieces, cut at the end of a line
LONGEST_PIECE_CHARACTERS = 1 << 24  # or here, if there is no end of a line
GROUP_CHARACTERS = 1 << 20  # encoded by one thread at a time


class Piece(NamedTuple):
    split: str
    text: str
    ends_document: bool


def split_documents(
    corpus: corpora.Corpus, progress: corpora.Progress
) -> Iterator[tuple[str, Iterator[str]]]:
    """(split, chunks of text) of each document: every tenth document is for validation.

    With fewer than ten documents (one book, say) it is the last tenth of each.
    """
    if sum(1 for _ in islice(corpus.documents(), VAL_EVERY)) == VAL_EVERY:
        for index, document in enumerate(corpus.documents(progress), start=1):
            yield ("train" if index % VAL_EVERY else "val"), corpora.chunks(document)
        return
    for document in corpus.documents(progress):
        n_characters = sum(map(len, corpora.chunks(document)))
        cut = n_characters - n_characters // VAL_EVERY
        yield "train", between(corpora.chunks(document), 0, cut)
        yield "val", between(corpora.chunks(document), cut, n_characters)


def between(chunks: Iterable[str], start: int, end: int) -> Iterator[str]:
    """The characters from `start` to `end` of the concatenated chunks."""
    at = 0
    for chunk in chunks:
        yield chunk[max(start - at, 0) : max(end - at, 0)]
        at += len(chunk)


def pieces(documents: Iterable[tuple[str, Iterator[str]]]) -> Iterator[Piece]:
    """Every document in pieces that fit into memory; all but very long ones are one piece."""
    for split, chunks in documents:
        text = ""  # of the document, not yielded yet
        for chunk in chunks:
            text += chunk
            while 0 < (end := piece_end(text)) < len(text):
                yield Piece(split, text[:end], False)
                text = text[end:]
        if text:
            yield Piece(split, text, True)


def piece_end(text: str) -> int:
    """The end of the first piece of `text`; 0: more text is needed to decide."""
    line_end = text.find("\n", PIECE_CHARACTERS, LONGEST_PIECE_CHARACTERS) + 1
    if line_end or len(text) < LONGEST_PIECE_CHARACTERS:
        return line_end
    return LONGEST_PIECE_CHARACTERS


def grouped(pieces: Iterable[Piece]) -> Iterator[list[Piece]]:
    """Lists of pieces: small ones are grouped, so that the cost per thread task is small."""
    group: list[Piece] = []
    n_characters = 0
    for piece in pieces:
        group.append(piece)
        n_characters += len(piece.text)
        if n_characters >= GROUP_CHARACTERS:
            yield group
            group, n_characters = [], 0
    if group:
        yield group
