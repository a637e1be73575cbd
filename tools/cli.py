"""runs: read the files that training runs leave behind.

A run is named by its file (run JSON or journal), a folder, a quoted glob, or the beginning
of its name; `out` is where names are looked for. stdout is data, stderr is words.
Exit codes: 0 fine, 1 something could not be read or is not so, 2 misuse.
"""

import argparse
import io
import os
import sys
from collections.abc import Iterator, Sequence

import eventlog

from .archive import archive, prune, query
from .commands import compare, diff, ls, note, ranks, show
from .core.runs import Refusal
from .core.text import print
from .dashboard import serve
from .monitor import command as guard
from .plot import plot
from .terminal import watch
from .transfer import export, imports
from .tuning import tune

# Each room adds its own commands; what is heavy it imports when it is used.
ROOMS = (
    ls,
    show,
    note,
    diff,
    compare,
    ranks,
    plot,
    export,
    imports,
    archive,
    query,
    prune,
    serve,
    watch,
    guard,
    tune,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without ● gets a question mark
    try:
        arguments = _parser().parse_args(list(_joined(sys.argv[1:] if argv is None else argv)))
        code: int = arguments.run(arguments)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # `runs ls | head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130
    except Refusal as refusal:
        print(refusal, file=sys.stderr)
        return 2
    except (eventlog.EventlogError, OSError) as error:
        print(error, file=sys.stderr)
        return 1


_TAKES_A_DASH = frozenset((
    "--sort", "--metric", "--limit", "--keep-best", "--at-iter", "--at-time", "--at-tokens",
    "--tolerance", "--trials", "--jobs", "--seed", "--timeout", "--silence", "--grace",
    "--failures", "--port",
))  # fmt: skip


def _joined(argv: Sequence[str]) -> Iterator[str]:
    """`--sort -age_s` as `--sort=-age_s`: argparse takes a value with a dash for a flag."""
    words = iter(argv)
    for word in words:
        value = next(words, None) if word in _TAKES_A_DASH else None
        yield word if value is None else f"{word}={value}"


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
