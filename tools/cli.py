"""runs: read the files that training runs leave behind.

A run is a run JSON, a journal (.jsonl), a folder of them, or a glob. stdout is data,
stderr is words. Exit codes: 0 fine, 1 a file could not be read, 2 misuse.
"""

import argparse
import sys
from collections.abc import Sequence

import eventlog
from tools import compare, ls

# Each room adds its own commands; what is heavy it imports when it is used.
ROOMS = (ls, compare)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; its exit code."""
    arguments = _parser().parse_args(argv)
    try:
        code: int = arguments.run(arguments)
    except (eventlog.EventlogError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="runs", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for room in ROOMS:
        room.add(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
