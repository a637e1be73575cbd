"""Records in memory that the disk has not taken, in the order of their numbers.

Those that may be dropped stand in a queue of their own: when memory for all of them runs out, the
oldest is found in one step, however many there are that must be kept.
"""

from collections import deque
from collections.abc import Iterator

from eventlog.write.aside import Aside

Entry = tuple[int, bytes, bool, tuple[Aside, ...]]
"""A record on its way to the disk: its number, its line, whether it may be dropped if it must wait
too long, and what the line has no room for: files that are written before it. A plain tuple: a
named one takes 0.1 µs longer to make."""


class Waiting:
    """Not locked; a signal handler may run after each call, so checks and calls come in pairs."""

    def __init__(self) -> None:
        self.kept: deque[Entry] = deque()
        self.expendable: deque[Entry] = deque()
        self.n_bytes = 0

    def __len__(self) -> int:
        return len(self.kept) + len(self.expendable)

    def __iter__(self) -> Iterator[Entry]:
        return iter(sorted([*self.kept, *self.expendable], key=lambda entry: entry[0]))

    @property
    def first(self) -> Entry | None:
        """The one to be written next."""
        kept, expendable = self.kept, self.expendable
        if kept and (not expendable or kept[0][0] < expendable[0][0]):
            return kept[0]
        return expendable[0] if expendable else None

    @property
    def last(self) -> Entry | None:
        kept, expendable = self.kept, self.expendable
        if kept and (not expendable or kept[-1][0] > expendable[-1][0]):
            return kept[-1]
        return expendable[-1] if expendable else None

    def add(self, entry: Entry) -> None:
        """Add a record, unless it or a later one of its kind is there."""
        queue = self.expendable if entry[2] else self.kept
        if not (queue and queue[-1][0] >= entry[0]):
            queue.append(entry)
            self.n_bytes += size_of(entry)

    def forget_before(self, n: int) -> None:
        """What is written does not wait any more."""
        for queue in (self.kept, self.expendable):
            while queue and queue[0][0] < n:
                self.n_bytes -= size_of(queue.popleft())

    def drop_oldest(self) -> bool:
        """Drop the oldest record that may be; False: there is none."""
        queue = self.expendable
        if not queue:
            return False
        self.n_bytes -= size_of(queue.popleft())
        return True

    def clear(self) -> None:
        self.kept.clear()
        self.expendable.clear()
        self.n_bytes = 0


def size_of(entry: Entry) -> int:
    return len(entry[1]) + sum(len(aside.data) for aside in entry[3])
