"""The command `eventlog`: check, recover and read the journals of runs.

stdout is data, stderr is messages. Exit codes: 0 complete, 1 a file could not be read or
written, 2 wrong arguments, 3 events are lost (each is named), 4 a person has to decide,
5 not one whole record.
"""

import argparse
import os
import sys
from collections.abc import Callable, Sequence

from eventlog.cli import commands
from eventlog.cli.journals import say
from eventlog.cli.report import IO_ERROR
from eventlog.command_line import command_parser
from eventlog.errors import EventlogError

Command = Callable[[argparse.Namespace], int]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; its exit code."""
    arguments = _parser().parse_args(argv)
    try:
        code: int = arguments.run(arguments)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # in `eventlog cat ... | head`, head has ended
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130
    except (EventlogError, OSError) as error:
        say(str(error))
        return IO_ERROR


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("eventlog", str(__doc__))
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, run: Command, text: str) -> argparse.ArgumentParser:
        command = subparsers.add_parser(name, help=text, description=text)
        command.set_defaults(run=run)
        return command

    text = "Write the run JSON of each journal; it recovers crashed runs."
    _add_compact(add("compact", commands.compact, text))
    text = "After a crash: cut an incomplete last line, save its bytes, then compact."
    _add_recover(add("recover", commands.compact, text))
    text = "Check whether a journal is complete, what is wrong with it and what is lost."
    _add_paths_and_json(add("verify", commands.verify, text))
    text = "Print the intact lines only, for jq, pandas or DuckDB."
    _add_cat(add("cat", commands.cat, text))
    text = "Print the last events as text; with -f also new ones, until Ctrl-C."
    _add_tail(add("tail", commands.tail, text))
    text = "Show who writes a journal, how far the run is and what is durable."
    _add_paths_and_json(add("status", commands.status, text))
    return parser


def _add_paths(command: argparse.ArgumentParser) -> None:
    text = "a journal (.jsonl), a folder (with its subfolders), or a quoted glob"
    command.add_argument("paths", nargs="+", metavar="PATH", help=text)


def _add_paths_and_json(command: argparse.ArgumentParser) -> None:
    _add_paths(command)
    command.add_argument("--json", action="store_true", help="one JSON object a line")


def _add_compact(command: argparse.ArgumentParser) -> None:
    _add_paths(command)
    text = "compact again and again while the journal is written, until standard input closes"
    command.add_argument("--follow", action="store_true", help=text)
    text = "with --follow: compact every N iterations (default 100)"
    command.add_argument("--every", type=_positive, default=100, metavar="N", help=text)
    text = "keep superseded rows in the run JSON too, under `journal`"
    command.add_argument("--with-superseded", action="store_true", help=text)
    command.set_defaults(recover=False)


def _add_recover(command: argparse.ArgumentParser) -> None:
    _add_paths(command)
    command.set_defaults(recover=True, follow=False, with_superseded=False)


def _add_cat(command: argparse.ArgumentParser) -> None:
    _add_paths(command)
    text = "only events of this kind; can be repeated"
    command.add_argument("--event", action="append", metavar="KIND", help=text)


def _add_tail(command: argparse.ArgumentParser) -> None:
    text = "a journal (.jsonl), or a folder: its newest journal"
    command.add_argument("path", metavar="JOURNAL", help=text)
    text = "print events as they are appended"
    command.add_argument("-f", "--follow", action="store_true", help=text)
    text = "how many of the last events (default 10)"
    command.add_argument("-n", "--lines", type=_positive, default=10, metavar="N", help=text)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number >= 1, got {text!r}")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
