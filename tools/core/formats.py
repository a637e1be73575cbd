"""Numbers, sizes, durations and times as text: the only place of `tools` that formats them.

The page has the same formats in its JavaScript; a test compares the two.
"""

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, TypeGuard

from eventlog import duration

Units = tuple[tuple[float, str], ...]
COUNTS: Units = ((1e15, "P"), (1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k"))
SIZES: Units = ((1e12, " TB"), (1e9, " GB"), (1e6, " MB"), (1e3, " kB"), (1, " B"))


def count(value: float, _position: object = None) -> str:
    """A number on an axis: 250, 2,500, 50k, 1.5M, 3B.

    `_position` is what matplotlib passes to the formatter of an axis.
    """
    return f"{value:,.6g}" if abs(value) < 10_000 else _with_unit(value, 4)


def short(value: float, width: int = 6) -> str:
    """A number of a chart in at most `width` characters, 6 or more: 4.123, 15.7k, 2e-5."""
    if not math.isfinite(value):
        return "?"
    for digits in (5, 4, 3, 2, 1):
        if len(text := _short(value, digits)) <= width:
            break
    return text


def _short(value: float, digits: int) -> str:
    if abs(value) < 1e-99:
        return "0"
    if abs(value) < 0.001:
        return f"{value:.{min(digits, 3) - 1}e}".replace("e-0", "e-").replace(".00e", "e")
    if abs(float(f"{value:.{digits}g}")) >= 10_000:
        return _with_unit(value, min(digits, 4))
    return f"{float(f'{value:.{digits}g}'):,.5g}"


def _with_unit(value: float, digits: int, units: Units = COUNTS) -> str:
    rounded = abs(float(f"{value:.{digits}g}"))  # 999,999 is 1M, not 1,000k
    if rounded >= 1e18:
        return f"{value:.{digits - 1}g}".replace("e+", "e")
    scale, unit = next(((scale, unit) for scale, unit in units if rounded >= scale), units[-1])
    return f"{value / scale:.{digits}g}{unit}"


def number(value: float, sign: str = "") -> str:
    """A number in a table: about six digits, as many decimals as its magnitude needs."""
    if 0 < abs(value) < 0.001:
        return f"{value:{sign}.4g}"
    decimals = 4 if abs(value) < 100 else 2 if abs(value) < 10_000 else 1
    return f"{value:{sign},.{decimals}f}"


def size(n_bytes: float) -> str:
    """512 B, 1.5 kB, 12.3 GB."""
    return _with_unit(n_bytes, 4, SIZES)


def age(seconds: float) -> str:
    """A duration in its largest unit: 12s, 5m, 3h, 8d."""
    seconds = max(0.0, seconds)
    return f"{int(seconds)}s" if seconds < 60 else duration(seconds).split()[0]


def first_of(names: Sequence[str], most: int) -> str:
    """The first names in one text: `a, b and 3 more`."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def is_number(value: Any) -> TypeGuard[float]:
    """Whether a value of a JSON document is a number, perhaps NaN; true and false are none."""
    return type(value) in (int, float)


def is_finite(value: Any) -> TypeGuard[float]:
    return is_number(value) and abs(value) < math.inf


def iso(seconds: Any, timespec: str = "microseconds") -> str | None:
    """Seconds since 1970 as ISO 8601 in UTC; None if that is not a time."""
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat(timespec=timespec)
    except (ValueError, TypeError, OverflowError, OSError):
        return None


def to_the_second(time: Any) -> str:
    """An ISO 8601 time for people: `2026-11-23 03:25:01 UTC`; without UTC if it has no offset."""
    text = str(time or "")
    utc = " UTC" if text.endswith("+00:00") else ""
    return text[:19].replace("T", " ") + utc
