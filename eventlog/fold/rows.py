"""Rows that stay encoded until they are read."""

from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol, overload, runtime_checkable

import orjson

Row = dict[str, Any]


@runtime_checkable
class HasPieces(Protocol):
    """Rows that are parsed many at once."""

    def pieces(self) -> Iterator[tuple[list[Row], bool]]:
        """Rows in lists of many, and whether a list has neither objects nor lists in its rows."""


class Rows(Sequence[Row]):
    """Rows encoded as in the run JSON (`encode_row`): one line per row, many lines in one text.

    A row is parsed when it is accessed. This needs less memory than dicts, and the run JSON is
    written without encoding rows again.
    """

    def __init__(self, encoded: Iterable[bytes] = ()) -> None:
        self._texts = [*encoded]
        self._ends = array("q", range(1, len(self._texts) + 1))  # rows up to the end of each text
        self._lines_of: tuple[int, list[bytes]] = (-1, [])

    def append(self, row: bytes) -> None:
        self.extend(row, 1)

    def extend(self, text: bytes, n_rows: int) -> None:
        """Add rows that are the lines of `text`."""
        self._texts.append(text)
        self._ends.append(len(self) + n_rows)

    def cut(self, at: int) -> list[bytes]:
        """Remove the rows from index `at` on, and return them."""
        k = bisect_right(self._ends, at)
        lines = [line for text in self._texts[k:] for line in text.split(b"\n")]
        n_left = at - (self._ends[k - 1] if k else 0)
        del self._texts[k:], self._ends[k:]
        self._lines_of = (-1, [])
        if n_left:
            self.extend(b"\n".join(lines[:n_left]), n_left)
        return lines[n_left:]

    def copy(self) -> "Rows":
        """A copy that later changes of either do not share."""
        same = Rows()
        same._texts, same._ends = self._texts.copy(), self._ends[:]
        return same

    def texts(self) -> Iterator[bytes]:
        """All rows in order, in texts of one or more lines."""
        return iter(self._texts)

    @property
    def encoded(self) -> list[bytes]:
        """Each row as `encode_row` writes it."""
        return [line for text in self._texts for line in text.split(b"\n")]

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    @overload
    def __getitem__(self, at: int) -> Row: ...
    @overload
    def __getitem__(self, at: slice) -> list[Row]: ...
    def __getitem__(self, at: int | slice) -> Row | list[Row]:
        if isinstance(at, slice):
            return [self[k] for k in range(len(self))[at]]
        at = range(len(self))[at]  # negative indexes and IndexError as of a list
        k = bisect_right(self._ends, at)
        if k != self._lines_of[0]:
            self._lines_of = (k, self._texts[k].split(b"\n"))
        row: Row = orjson.loads(self._lines_of[1][at - (self._ends[k - 1] if k else 0)])
        return row

    def __iter__(self) -> Iterator[Row]:
        for text in self._texts:
            yield from orjson.loads(b"[%b]" % text.replace(b"\n", b","))

    def pieces(self) -> Iterator[tuple[list[Row], bool]]:
        """As `HasPieces.pieces`."""
        for text in self._texts:
            rows = orjson.loads(b"[%b]" % text.replace(b"\n", b","))
            yield rows, text.count(b"{") == len(rows) and b"[" not in text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<{len(self)} rows>"
