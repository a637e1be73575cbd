"""What the commands of `runs` print.

Names, notes, paths and errors come from others, and may hold what a terminal obeys. A module that
prints imports this `print`: it makes such characters visible. What is laid out by rich goes
through `tools.core.table`, JSON and CSV too.
"""

from eventlog import print_lines as print
from eventlog import printable, printable_json

__all__ = ["print", "printable", "printable_json"]


def age(seconds: float) -> str:
    """The two numbers that matter least in a long time are left out: 12s, 5m, 3h, 8d."""
    for unit, length in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= length:
            return f"{int(seconds // length)}{unit}"
    return f"{int(max(0, seconds))}s"
