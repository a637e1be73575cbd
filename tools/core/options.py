"""Types for flags that take numbers, and the flags that several commands have.

    command.add_argument("--limit", type=whole("--limit"), metavar="N")
    add_format(command)                 # --format, --json and --csv

A wrong value gives one line that says what was expected, without argparse's usage text.
"""

import argparse
import math
from collections.abc import Callable

from .runs import Refusal

_MOST = 10**18 - 1
FORMATS = ("table", "markdown", "csv", "json")


def add_format(command: argparse.ArgumentParser) -> None:
    """`arguments.format`: in which form a command prints its rows on stdout."""
    form = command.add_mutually_exclusive_group()
    form.add_argument(
        "--format",
        choices=FORMATS,
        default="table",
        help="default: table; csv has numbers in full; json is one object per line, all fields",
    )
    for name in ("json", "csv"):
        text = f"the same as --format {name}"
        form.add_argument(f"--{name}", dest="format", action="store_const", const=name, help=text)


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
