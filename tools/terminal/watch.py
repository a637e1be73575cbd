"""`runs watch`: live charts in the terminal."""

import argparse
import os
import sys

from ..core import runs
from ..core.runs import Refusal


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    text = "Watch runs in the terminal: live charts; press ? for the keys."
    command = commands.add_parser("watch", help=text, description=text)
    command.add_argument("names", nargs="*", default=[runs.FOLDER], metavar="DIR|RUN")
    command.add_argument(
        "--where",
        metavar="EXPR",
        help="only list runs for which this is true: \"status = 'running'\"",
    )
    command.set_defaults(run=_watch)


def _watch(arguments: argparse.Namespace) -> int:
    for name in arguments.names:
        if not os.path.isdir(name):
            runs.find([name])  # raises where no run has this name; a folder may be empty
    # textual draws on stderr: with `2> file` the screen would stay black
    if not all(stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr)):
        raise Refusal(
            "runs watch: stdin, stdout and stderr must be a terminal. For plain text run: "
            f"eventlog tail -f {arguments.names[0]}"
        )
    try:
        from ..live.folders import Folders
        from .screen import Watch
    except ModuleNotFoundError as error:
        raise Refusal(
            f"runs watch: {error.name} is not installed. Run: pip install 'runjournal[tools]'"
        ) from None
    with Folders(arguments.names) as folders:
        Watch(folders, where=arguments.where or "").run()
    return 0
