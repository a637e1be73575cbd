"""What a fold calls for each row that it makes, and for rows that are superseded."""

from array import array
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol

from eventlog.format.record import Record


class RowSink(Protocol):
    """Gets the rows of a run as a fold makes them, and which of them are superseded.

    A row is identified by its kind of event and its number: the iteration, or the step of
    `metrics`. The numbers of one kind ascend, except for `metrics`, where an event adds its values
    to the row of its step. A checkpoint replaces one with the same iteration and path.
    """

    def add(self, record: Record, number: int) -> None:
        """An event that makes a row. Of `system`, `number` is the latest iteration so far."""

    def add_rows(
        self,
        event: str,
        numbers: "array[int]",
        times: Sequence[str],
        columns: Mapping[str, Sequence[Any]],
    ) -> None:
        """Events that each make a row, as with `add`: of one kind, with the same fields, numbers
        ascending from beyond all before. `columns` has their fields; of these, only numbers
        differ between them."""

    def supersede(
        self,
        event: str,
        from_number: int,
        before: int | None = None,
        names: Collection[str] | None = None,
    ) -> None:
        """All rows of a kind from a number on, which may be none, are superseded.

        Of `metrics`, with `names`: only the values of these, and only in rows with numbers less
        than `before`, if that is not None.
        """

    def clear(self) -> None:
        """The journal is read again from its beginning: forget all rows."""
