"""Documents of any length, cut into pieces that fit into memory, for training or for validation.

A pure function of the documents: how they are cut shows neither in who encodes them nor when.
"""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import NamedTuple

from trainer.data import corpus as corpora

VAL_EVERY = 10  # one document in ten is for validation
PIECE_CHARACTERS = 1 << 20  # long documents are encoded in pieces, cut at the end of a line
LONGEST_PIECE_CHARACTERS = 1 << 24  # or here, where no line ends
GROUP_CHARACTERS = 1 << 20  # encoded by one thread without asking for more


class Piece(NamedTuple):
    split: str
    text: str
    ends_document: bool


def split_documents(
    corpus: corpora.Corpus, progress: corpora.Progress
) -> Iterator[tuple[str, Iterator[str]]]:
    """(split, its text bit by bit): every tenth document is for validation.

    Fewer than ten documents (one book, say) give the last tenth of each instead.
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
    """The characters from `start` to `end` of what `chunks` are together."""
    at = 0
    for chunk in chunks:
        yield chunk[max(start - at, 0) : max(end - at, 0)]
        at += len(chunk)


def pieces(documents: Iterable[tuple[str, Iterator[str]]]) -> Iterator[Piece]:
    """Every document in pieces that fit into memory; all but giants are one piece."""
    for split, chunks in documents:
        text = ""  # of the document, what is not given away yet
        for chunk in chunks:
            text += chunk
            while 0 < (end := piece_end(text)) < len(text):
                yield Piece(split, text[:end], False)
                text = text[end:]
        if text:
            yield Piece(split, text, True)


def piece_end(text: str) -> int:
    """Where to cut a piece off the front of `text`, or 0: more of it must be seen first."""
    line_end = text.find("\n", PIECE_CHARACTERS, LONGEST_PIECE_CHARACTERS) + 1
    if line_end or len(text) < LONGEST_PIECE_CHARACTERS:
        return line_end
    return LONGEST_PIECE_CHARACTERS


def grouped(pieces: Iterable[Piece]) -> Iterator[list[Piece]]:
    """Lists of pieces, small ones together, so that handing them to a thread costs nothing."""
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
