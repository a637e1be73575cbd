"""Notes, tags and alerts of a run: its own, and those of annotations."""

from eventlog.fold.document import Row
from eventlog.format.record import ANNOTATES, Record


class Remarks:
    """Those of the run, by time: when each was read makes no difference."""

    def __init__(self) -> None:
        self.run_id: str | None = None
        """The run's; annotations of other runs are left out."""
        self._records: list[Record] = []

    def add(self, record: Record) -> None:
        self._records.append(record)

    def of_kind(self, event: str) -> list[Row]:
        """What events of one kind say: `t`, `text`, and what else they have."""
        hidden = (ANNOTATES, "durable")
        return [
            {"t": record.t} | {k: v for k, v in record.fields.items() if k not in hidden}
            for record in self._by_time(event)
        ]

    def tags(self) -> list[str]:
        """The tags that were added and not removed later."""
        tags: set[str] = set()
        for record in self._by_time("tag"):
            removed, added = record.fields.get("remove"), record.fields.get("add")
            tags -= set(map(str, removed if isinstance(removed, list) else ()))
            tags |= set(map(str, added if isinstance(added, list) else ()))
        return sorted(tags)

    def _by_time(self, event: str) -> list[Record]:
        ours = [
            r
            for r in self._records
            if r.event == event
            and (self.run_id is None or r.fields.get(ANNOTATES) in (None, self.run_id))
        ]
        return sorted(ours, key=lambda r: (r.t, r.s, r.n))
