"""Records in memory: those that the disk has not accepted, and those that are not durable.

They are in the order of their numbers. None of this is locked; a signal handler may run after each
call, so a check and the call that depends on it come in pairs.
"""

from collections import deque
from collections.abc import Iterable, Iterator

from eventlog.write.aside import Aside

Entry = tuple[int, bytes, bool, tuple[Aside, ...]]
"""A record on its way to the disk: its number, its line, whether it may be dropped, and the asides
that are written before it. A plain tuple is faster to make than a named one."""


class Waiting:
    """Records that the disk has not accepted.

    Those that may be dropped have a queue of their own, so that the oldest is found in one step.
    """

    def __init__(self) -> None:
        self.required: deque[Entry] = deque()
        self.droppable: deque[Entry] = deque()
        self.n_bytes = 0
        """Of their lines."""
        self.content_bytes = 0
        """Of what does not fit in their lines."""

    def __len__(self) -> int:
        return len(self.required) + len(self.droppable)

    def __iter__(self) -> Iterator[Entry]:
        return iter(sorted([*self.required, *self.droppable], key=lambda entry: entry[0]))

    @property
    def first(self) -> Entry | None:
        """The one to be written next."""
        required, droppable = self.required, self.droppable
        if required and (not droppable or required[0][0] < droppable[0][0]):
            return required[0]
        return droppable[0] if droppable else None

    @property
    def last(self) -> Entry | None:
        required, droppable = self.required, self.droppable
        if required and (not droppable or required[-1][0] > droppable[-1][0]):
            return required[-1]
        return droppable[-1] if droppable else None

    def add(self, entry: Entry) -> None:
        """Add a record, unless it or a later one of its kind is there."""
        queue = self.droppable if entry[2] else self.required
        if not (queue and queue[-1][0] >= entry[0]):
            queue.append(entry)
            self.n_bytes += len(entry[1])
            self.content_bytes += content_bytes(entry)

    def leave_out_content(self, entry: Entry) -> bool:
        """Keep only the line of `entry`, if it is the last one of its kind that waits."""
        queue = self.droppable if entry[2] else self.required
        is_last = bool(queue) and queue[-1] is entry
        if is_last:
            queue[-1] = (*entry[:3], ())
            self.content_bytes -= content_bytes(entry)
        return is_last

    def _remove_first(self, queue: deque[Entry]) -> None:
        entry = queue.popleft()
        self.n_bytes -= len(entry[1])
        self.content_bytes -= content_bytes(entry)

    def forget_before(self, n: int) -> None:
        """Remove the records before number `n`: they are written."""
        for queue in (self.required, self.droppable):
            while queue and queue[0][0] < n:
                self._remove_first(queue)

    def drop_oldest(self) -> bool:
        """Drop the oldest record that may be dropped; False: there is none."""
        queue = self.droppable
        if not queue:
            return False
        self._remove_first(queue)
        return True

    def drop_first(self) -> None:
        """Drop the one that would be written next."""
        first = self.first
        for queue in (self.required, self.droppable):
            if first is not None and queue and queue[0] is first:
                self._remove_first(queue)

    def clear(self) -> None:
        self.required.clear()
        self.droppable.clear()
        self.n_bytes = self.content_bytes = 0


class Unsynced(deque[Entry]):
    """Records that are written and not durable: after a failed sync they are written again."""

    __slots__ = ("content_bytes", "n_bytes")  # with a dict, looking up `append` takes longer

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        super().__init__(entries)
        self.n_bytes = sum(len(entry[1]) for entry in self)
        self.content_bytes = sum(map(content_bytes, self))

    def forget_before(self, n: int) -> None:
        """Remove the records before number `n`: they are durable."""
        while self and self[0][0] < n:
            self._remove_first()
        if not self:
            self.n_bytes = self.content_bytes = 0

    def shrink(self, most_bytes: int, most_content_bytes: int) -> None:
        """Forget the oldest, but not the last one, until the rest is small enough."""
        while len(self) > 1 and (
            self.n_bytes > most_bytes or self.content_bytes > most_content_bytes
        ):
            self._remove_first()

    def _remove_first(self) -> None:
        entry = self.popleft()
        self.n_bytes -= len(entry[1])
        self.content_bytes -= content_bytes(entry)


def content_bytes(entry: Entry) -> int:
    """The size of what does not fit in the line."""
    return sum(len(aside.data) for aside in entry[3])
