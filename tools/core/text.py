"""What the commands of `runs` print.

Names, notes, paths and errors come from others, and may hold what a terminal obeys. A module that
prints imports this `print`: it makes such characters visible. What is laid out by rich goes
through `tools.core.table`, JSON and CSV too.
"""

from eventlog import print_lines as print
from eventlog import printable, printable_json

__all__ = ["print", "printable", "printable_json"]
