"""ISO 8601 times: the only place of `tools` that reads or writes one."""

from datetime import UTC, datetime
from typing import Any


def seconds(time: Any) -> float | None:
    """An ISO 8601 time in seconds since 1970, None if it is none; without offset it is local."""
    try:
        return datetime.fromisoformat(time).timestamp()
    except (ValueError, TypeError, OverflowError, OSError):
        return None


def iso(seconds: Any, timespec: str = "microseconds") -> str | None:
    """Seconds since 1970 as ISO 8601 in UTC; None if that is no time."""
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat(timespec=timespec)
    except (ValueError, TypeError, OverflowError, OSError):
        return None


def to_the_second(time: Any) -> str:
    """An ISO 8601 time for people: `2026-11-23 03:25:01 UTC`; without UTC if it has no offset."""
    text = str(time or "")
    utc = " UTC" if text.endswith("+00:00") else ""
    return text[:19].replace("T", " ") + utc
