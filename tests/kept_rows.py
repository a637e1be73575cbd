"""A row sink for tests: the rows of a run, as a fold gives them."""


class KeptRows:
    """A sink that keeps the rows as a run has them."""

    def __init__(self):
        self.clear()

    def add(self, record, number):
        row = self.rows.setdefault(record.event, {}).setdefault(number, {})
        row |= {k: v for k, v in record.fields.items() if k != "durable"}

    def add_rows(self, event, numbers, times, columns):
        """Rows with the same fields, which are later than all that there are."""
        kept = self.rows.setdefault(event, {})
        assert not kept or max(kept) < numbers[0]
        for number, *values in zip(numbers, *columns.values(), strict=True):
            kept[number] = dict(zip(columns, values, strict=True))
            self.n_at_once += 1

    def supersede(self, event, from_number, before=None, names=None):
        left = {}
        for i, row in self.rows.get(event, {}).items():
            if i >= from_number and (before is None or i < before):
                row = {k: v for k, v in row.items() if names is not None and k not in names}
            if row.keys() - {"step"} or not names:
                left |= {i: row} if row else {}
        self.rows[event] = left

    def clear(self):
        self.rows = {}
        self.n_at_once = 0
