"""How long a run still takes, from the pace of its latest iterations."""

from collections import deque
from typing import Any

from eventlog.format.events import KINDS
from eventlog.format.record import Record
from eventlog.format.times import seconds

WINDOW = 50
"""Iterations whose wall time is used, with the evaluations and checkpoints between them."""

_PLANNED = ("max_iters", "max_steps", "total_steps", "max_train_steps", "num_training_steps")


def planned_iterations(config: Any) -> int | None:
    """How many iterations a run is to have, by its config; None if that is not known."""
    values = [config.get(name) for name in _PLANNED] if isinstance(config, dict) else []
    return next((value for value in values if type(value) is int and value > 0), None)


class Pace:
    """The pace of the latest iterations; of a run that logs none, of its steps."""

    def __init__(self) -> None:
        self.planned: int | None = None
        self._event = ""
        self._recent: deque[tuple[int, float]] = deque(maxlen=WINDOW)

    def begin(self, opened: Record) -> None:
        """Begin a session with its `open` event."""
        self.planned = planned_iterations(opened.fields.get("config"))
        self._event = ""
        self._recent.clear()

    def remaining_s(self, record: Record) -> float | None:
        """The remaining time as of this record, which is remembered; None if it is unknown."""
        is_iteration = record.event == "iter"
        if not is_iteration and (record.event != "metrics" or self._event == "iter"):
            return None
        if record.event != self._event:
            self._event = record.event
            self._recent.clear()
        i, now = record.fields.get(KINDS[record.event].axis or ""), seconds(record.t)
        if type(i) is not int or self.planned is None or now is None:
            return None
        if self._recent and i == self._recent[-1][0]:  # another row of the step
            return None
        if self._recent and i < self._recent[-1][0]:
            self._recent.clear()
        self._recent.append((i, now))
        (first, begun), left = self._recent[0], self.planned - i
        if i == first or left <= 0 or now < begun:
            return None
        return (now - begun) / (i - first) * left
