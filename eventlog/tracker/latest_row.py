"""The step that a run logged last: whether a later event replaces what was logged there."""

from typing import Any

from eventlog.tracker.values import STEP_MAX


class LatestRow:
    """The latest step that was logged, and its values, to notice the first that are replaced."""

    def __init__(self) -> None:
        self._step = -STEP_MAX - 1
        self._values: dict[str, Any] = {}
        self._is_noticed = False

    def replaces(self, step: int, values: dict[str, Any]) -> bool:
        """Whether this is the first event that goes back, or logs a name of its step again."""
        if step > self._step and not self._is_noticed:
            self._step, self._values = step, values.copy()
            return False
        if self._is_noticed:
            return False
        known = self._values
        if step == self._step and not any(_differ(known.get(k, v), v) for k, v in values.items()):
            self._values |= values
            return False
        self._is_noticed, self._values = True, {}
        return True


def _differ(a: Any, b: Any) -> bool:
    return bool(a != b) and not (a != a and b != b)  # NaN is logged again
