"""The `print` of all commands: it makes control characters visible.

Names, notes, paths and errors come from files that anybody may have written, and may contain
escape sequences. Tables, JSON and CSV are printed through `tools.core.table`, which does the same.
"""

from eventlog import print_lines as print
from eventlog import printable, printable_json

__all__ = ["print", "printable", "printable_json"]
