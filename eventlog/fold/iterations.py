"""The iterations of a run that are not superseded, in ascending order."""

import math
from array import array
from bisect import bisect_left
from itertools import pairwise

from eventlog.fold.column import Column
from eventlog.fold.document import Row, Rows
from eventlog.fold.summary import number
from eventlog.format.events import KINDS, MFU_UNKNOWN
from eventlog.format.json_rows import encode_row, spaced
from eventlog.format.record import TRAILER_BYTES
from eventlog.read.batch import MARKS, Batch

_DEFAULTS = KINDS["iter"].row
_LEADING = tuple(_DEFAULTS)  # the guide's fields first, whatever order they were logged in
_FIELDS_AT = len(b'"event":"iter",')


class Iterations:
    """Their rows as in the run JSON, and the columns that the summary is computed from.

    `with_rows` False: their numbers alone, 8 bytes each.
    """

    def __init__(self, *, with_rows: bool = True) -> None:
        self.numbers = array("q")
        self.losses = array("d")
        self.times_ms = Column()
        self.mfus = Column(floor=0.0)
        self._rows = Rows()
        self._with_rows = with_rows
        self._names: tuple[str, ...] = ()  # of the latest row that has the usual fields

    def __len__(self) -> int:
        return len(self.numbers)

    def rows(self) -> Rows:
        """The rows as they are now; what is added later is not in them."""
        return self._rows.copy()

    def goes_on(self, i: int) -> bool:
        """Whether there are iterations, all of them before `i`."""
        return bool(self.numbers) and i > self.numbers[-1]

    def add(self, fields: Row, line: bytes) -> None:
        """Add an iteration behind all others; `line` is that of its record, if there is one."""
        self.numbers.append(fields["iter"])
        if not self._with_rows:
            return
        at = line.find(MARKS["iter"])
        if at >= 0 and self._is_usual(tuple(fields)) and type(fields["mfu"]) in (float, int):
            # The line's own bytes: encoding the fields again takes a third of the time of the fold.
            row = spaced(b"{%b}" % line[at + _FIELDS_AT : -TRAILER_BYTES])
        else:
            fields = {**_DEFAULTS, **fields}
            if type(fields["mfu"]) not in (float, int):
                fields["mfu"] = MFU_UNKNOWN
            row = encode_row(fields)
        self._rows.append(row)
        self.losses.append(number(fields["loss"]))
        self.times_ms.append(number(fields["time_ms"]))
        self.mfus.append(number(fields["mfu"]))

    def add_batch(self, batch: Batch) -> None:
        """Add many, behind all others."""
        self.numbers.extend(batch.steps)
        if not self._with_rows:
            return
        times_ms = batch.column("time_ms")
        self.losses.extend(batch.column("loss"))
        self.times_ms.extend([math.nan] * len(batch) if times_ms[0] is None else times_ms)
        self.mfus.extend(batch.column("mfu"))
        self._rows.extend(batch.rows(), len(batch))

    def _is_usual(self, names: tuple[str, ...]) -> bool:
        """Whether the fields are in the guide's order; nearly all lines of a run have the same."""
        if names != self._names:
            if names[: len(_LEADING)] != _LEADING:
                return False
            self._names = names
        return True

    def cut(self, from_iter: int) -> list[bytes]:
        """Remove iteration `from_iter` and later ones; their rows, empty where none are kept."""
        if not self.numbers or from_iter > self.numbers[-1]:
            return []
        at = bisect_left(self.numbers, from_iter)
        n_removed = len(self.numbers) - at
        del self.numbers[at:]
        if not self._with_rows:
            return [b""] * n_removed
        del self.losses[at:]
        self.times_ms.cut(at)
        self.mfus.cut(at)
        return self._rows.cut(at)

    def missing(self) -> list[list[int]]:
        """Ranges [first, last] that are absent from a run that logs every iteration.

        A run that logs every tenth by intention has none: fewer than half its steps are 1.
        """
        numbers = self.numbers
        if not numbers or numbers[-1] - numbers[0] == len(numbers) - 1:
            return []
        holes = [(a, b) for a, b in pairwise(numbers) if b - a > 1]
        if 2 * len(holes) > len(numbers) - 1:
            return []
        return [[a + 1, b - 1] for a, b in holes]
