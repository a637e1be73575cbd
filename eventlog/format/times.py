"""Times of events, and durations as text: in the console, in commands and on the page."""

import math
from datetime import datetime
from typing import Any

MINUTE_S, HOUR_S, DAY_S = 60, 3_600, 86_400


def seconds(time: Any) -> float | None:
    """An ISO 8601 time in seconds since 1970; None: not a time. Without an offset it is local."""
    try:
        return datetime.fromisoformat(time).timestamp()
    except (ValueError, TypeError, OverflowError, OSError):
        return None


def duration(seconds: float) -> str:
    """0.42s, 12.3s, 3m 5s, 2h 4m, 2d 8h; - if unknown."""
    if not math.isfinite(seconds):
        return "-"
    if seconds < 0:
        return f"-{duration(-seconds)}"
    if seconds < MINUTE_S:
        return f"{seconds:.2g}s" if seconds < 1 else f"{seconds:.3g}s"
    if seconds < HOUR_S:
        return _two_units(seconds, (MINUTE_S, "m"), (1, "s"))
    if seconds < DAY_S:
        return _two_units(seconds, (HOUR_S, "h"), (MINUTE_S, "m"))
    return _two_units(seconds, (DAY_S, "d"), (HOUR_S, "h"))


def _two_units(seconds: float, large: tuple[int, str], small: tuple[int, str]) -> str:
    per_large = large[0] // small[0]
    n_large, n_small = divmod(math.floor(seconds / small[0] + 0.5), per_large)
    return f"{n_large}{large[1]}" + (f" {n_small}{small[1]}" if n_small else "")
