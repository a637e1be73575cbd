"""Times as they are logged: ISO 8601."""

from datetime import datetime
from typing import Any


def seconds(time: Any) -> float | None:
    """An ISO 8601 time in seconds since 1970; None: not a time. Without an offset it is local."""
    try:
        return datetime.fromisoformat(time).timestamp()
    except (ValueError, TypeError, OverflowError, OSError):
        return None
