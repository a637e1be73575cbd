"""A guard beside the page, whose alerts are shown in the table of runs.

    with Folders(["out"]) as folders, BackgroundGuard(folders, Guard(["out"], is_live_only=True)):
        folders.rows()[0]["alerts"]     # [{"rule": "stall", "text": "no event for 5 min, ...

It works in a thread of its own; an error is reported once, and the page goes on.
"""

import threading
import time
from collections.abc import Callable

from ..live.folders import Folders
from .guard import Alert, Guard

EVERY_S = 5.0


class BackgroundGuard:
    """Checks the runs while it is entered; `on_alert` is called with each alert once."""

    def __init__(
        self,
        folders: Folders,
        guard: Guard,
        on_alert: Callable[[Alert], None] | None = None,
        every_s: float = EVERY_S,
    ) -> None:
        self._folders, self._guard, self._on_alert = folders, guard, on_alert
        self._every_s = every_s
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="guard", daemon=True)

    def __enter__(self) -> "BackgroundGuard":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._end.set()
        self._thread.join(timeout=10)
        self._guard.close()

    def _watch(self) -> None:
        while not self._end.is_set():
            try:
                self.check(time.time())
            except Exception as error:  # the page works without it
                self._guard.report_once(
                    f"runs serve: the guard failed: {type(error).__name__}: {error}"
                )
            self._end.wait(self._every_s)

    def check(self, now: float) -> None:
        """Check once, as of `now` (seconds since 1970)."""
        for alert in self._guard.check(now):
            if self._on_alert is not None:
                self._on_alert(alert)
        self._folders.warn(self._guard.warnings())
