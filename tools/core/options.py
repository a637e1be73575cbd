"""Types for flags that take numbers.

    command.add_argument("--limit", type=whole("--limit"), metavar="N")

A wrong value gives one line that says what was expected, without argparse's usage text.
"""

import math
from collections.abc import Callable

from .runs import Refusal

_MOST = 10**18 - 1


def whole(flag: str, at_least: int = 0, at_most: int = _MOST) -> Callable[[str], int]:
    """The type of a flag whose value is a whole number."""

    def read(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = at_least - 1
        if not at_least <= value <= at_most:
            to = f" and <= {at_most:,}" if at_most < _MOST else ""
            raise Refusal(f"{flag}: must be a whole number >= {at_least}{to}, got {text[:80]!r}")
        return value

    return read


def number(
    flag: str, at_least: float = 0.0, at_most: float = math.inf, *, is_more: bool = False
) -> Callable[[str], float]:
    """The type of a flag whose value is a number; `is_more`: `at_least` itself is too small."""

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        is_enough = value > at_least if is_more else value >= at_least
        if not (math.isfinite(value) and is_enough and value <= at_most):
            sign = ">" if is_more else ">="
            to = f" and <= {at_most:g}" if at_most < math.inf else ""
            raise Refusal(f"{flag}: must be a number {sign} {at_least:g}{to}, got {text[:80]!r}")
        return value

    return read
