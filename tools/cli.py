"""runs: read the files that training runs leave behind.

A run is named by its file (run JSON or journal), a folder, a quoted glob, or the beginning
of its name, which is looked up in `out`. Data goes to stdout, messages to stderr.
Exit codes: 0 success, 1 a file could not be read or a check failed, 2 wrong usage.
"""

import argparse
import io
import os
import sys
from collections.abc import Iterator, Sequence
from decimal import Decimal, InvalidOperation

import eventlog

from .archive import archive, prune, query
from .commands import compare, diff, ls, note, ranks, show
from .core.runs import Refusal
from .core.table import print
from .dashboard import serve
from .monitor import command as guard
from .plot import plot
from .terminal import watch
from .transfer import export, imports
from .tuning import tune

# Each module adds its own commands, and imports heavy libraries only when they run.
COMMANDS = (
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
    """Run one command and return its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without ● gets a question mark
    try:
        arguments = _parser().parse_args(
            list(_with_equals_signs(sys.argv[1:] if argv is None else argv))
        )
        code: int = arguments.run(arguments)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # `runs ls | head`
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


def _with_equals_signs(argv: Sequence[str]) -> Iterator[str]:
    """`--sort -age_s` as `--sort=-age_s`: to argparse a value with a dash is a flag.

    `--group-by` without keys is `--group-by=seeds`.
    """
    left = list(argv)
    while left:
        argument = left.pop(0)
        if argument == "--group-by" and not _are_keys(left):
            yield f"{argument}=seeds"
        elif argument in _TAKES_A_DASH and left:
            yield f"{argument}={left.pop(0)}"
        elif argument in ("--xlim", "--ylim"):
            yield argument
            yield from map(_without_exponent, left[:2])
            del left[:2]
        else:
            yield argument


def _without_exponent(text: str) -> str:
    """`-1e-3` as -0.001: argparse takes the former for a flag."""
    try:
        return f"{Decimal(text):f}" if text[:1] == "-" else text
    except InvalidOperation:
        return text


def _are_keys(arguments: Sequence[str]) -> bool:
    """Whether the first of these is the value of `--group-by`: no flag, file or folder."""
    value = arguments[0] if arguments else "-"
    return value == "seeds" or not (value.startswith("-") or os.path.exists(value))


def _parser() -> argparse.ArgumentParser:
    parser = eventlog.command_parser("runs", str(__doc__))
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for module in COMMANDS:
        module.add(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
