"""The tables of a large run JSON, read from the file in pieces: never all rows are in memory.

run = read(Path("out/run_20261123_032501.json"))    # None: it must be loaded as a whole
for row in run.rows("metrics"): ...
for rows in pieces(run, "metrics"): ...             # lists of rows: much faster
"""

import os
import weakref
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, overload

import orjson

import eventlog

from . import ends, index

Row = dict[str, Any]
LARGE_BYTES = 8 << 20
"""A smaller run JSON is loaded as a whole."""
PIECE_BYTES = 256 << 10
ROWS_AT_ONCE = 4096
_KEYS = {str(kind.rule): kind.key for kind in eventlog.KINDS.values() if kind.key}
_TABLES = ("training_iterations", "eval_steps", "checkpoints", "metrics")
_ROW, _END = b"\n    {", b"\n  ]"
"""A JSON string contains no raw line feed, so these begin a row and end a table."""


def read(path: Path) -> eventlog.Run | None:
    """The run of a large run JSON of an ended run, its tables still in the file.

    None: it is small, or must be loaded as a whole.

    Raises:
        OSError: it cannot be read.
    """
    if path.suffix != eventlog.RUN_JSON_SUFFIX or os.stat(path).st_size < LARGE_BYTES:
        return None
    file = _File(path)
    run = ends.read(path)
    if run is None or run.status == "running" or not file.is_that_of(path):
        return None
    before: StoredRows | None = None
    for key in _TABLES:
        before = StoredRows(file, key, before)
        setattr(run, key, before)
    return run


def pieces(run: eventlog.Run, table: str) -> Iterator[list[Row]]:
    """The flat rows of a table as `Run.rows` has them, many at once."""
    rows = getattr(run, _KEYS[table]) if table in _KEYS else ()
    if hasattr(rows, "pieces"):
        for piece, is_flat in rows.pieces():
            yield piece if is_flat else [*map(eventlog.flat_cells, piece)]
    else:
        left = iter(run.rows(table))
        while piece := [*islice(left, ROWS_AT_ONCE)]:
            yield piece


class _File:
    """An open file: one that replaces it is not read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        weakref.finalize(self, os.close, self.fd)

    def is_that_of(self, path: Path) -> bool:
        return index.is_same(os.fstat(self.fd), os.stat(path))

    def read(self, offset: int, size_bytes: int) -> bytes:
        """Raises UnreadableRun at the end of the file: whoever reads expects more."""
        data = os.pread(self.fd, size_bytes, offset)
        if not data:
            raise self.damaged(offset)
        return data

    def damaged(self, offset: int) -> eventlog.UnreadableRun:
        return eventlog.UnreadableRun(
            f"{self.path}: not a run JSON: cannot be read from byte {offset:,} on. If its journal "
            f"is beside it: eventlog compact {eventlog.journal_path(self.path)}"
        )


class StoredRows(Sequence[Row]):
    """A table of a run JSON. Each time it is iterated, it is read again.

    Args:
        before: the table before it in the file.
    """

    def __init__(self, file: _File, key: str, before: "StoredRows | None") -> None:
        self._file, self._before = file, before
        self._name = b'\n  "%b": [' % key.encode()
        self._begin: int | None = None
        self._is_missing = False
        self._n: int | None = None

    def pieces(self) -> Iterator[tuple[list[Row], bool]]:
        """Rows in lists of many, and whether all of a list have neither objects nor lists in them.

        Raises:
            eventlog.UnreadableRun: the file is damaged.
        """
        for text, offset in self._texts():
            try:
                rows = orjson.loads(b"[%b]" % text)
            except orjson.JSONDecodeError:
                raise self._file.damaged(offset) from None
            if not {dict}.issuperset(map(type, rows)):
                raise self._file.damaged(offset)
            yield rows, text.count(b"{") == len(rows) and b"[" not in text

    def _texts(self) -> Iterator[tuple[bytes, int]]:
        """The rows as JSON, many in one text, and where in the file each text is."""
        offset, rest = self._first_byte(), b""
        if self._is_missing or self._file.read(offset, 1) == b"]":  # an empty one
            return
        while True:
            text = rest + self._file.read(offset + len(rest), PIECE_BYTES)
            end = text.find(_END) if b"]" in text else -1  # a search for one byte is fast
            cut = text.rfind(b"," + _ROW) if end < 0 else end
            if cut > 0:
                yield text[:cut], offset
            if end >= 0:
                return
            rest = text if cut < 0 else text[cut + 1 :]
            offset += len(text) - len(rest)

    def _first_byte(self) -> int:
        """Where its rows begin."""
        if self._begin is None:
            at = 0 if self._before is None else self._before._first_byte()
            found = self._search(at)
            self._is_missing = found is None
            self._begin = at if found is None else found
        return self._begin

    def _search(self, offset: int) -> int | None:
        """Where in the file the table begins, from `offset` on; None: the run has none."""
        rest = b""
        while data := os.pread(self._file.fd, PIECE_BYTES, offset):
            text = rest + data
            at = text.find(self._name)
            if at >= 0:
                return offset - len(rest) + at + len(self._name)
            rest = text[-len(self._name) :]
            offset += len(data)
        return None

    def __bool__(self) -> bool:
        return next(self.pieces(), None) is not None

    def __len__(self) -> int:
        if self._n is None:
            self._n = sum(text.count(_ROW) for text, _ in self._texts())
        return self._n

    def __iter__(self) -> Iterator[Row]:
        for rows, _ in self.pieces():
            yield from rows

    @overload
    def __getitem__(self, at: int) -> Row: ...
    @overload
    def __getitem__(self, at: slice) -> list[Row]: ...
    def __getitem__(self, at: int | slice) -> Row | list[Row]:
        places = range(len(self))[at]
        if isinstance(places, int):
            return self[places : places + 1][0]
        wanted = {*places}
        rows = {k: row for k, row in enumerate(self) if k in wanted}
        return [rows[k] for k in places]
