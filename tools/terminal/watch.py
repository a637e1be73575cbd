"""`runs watch`: runs as they go, full screen in a terminal."""

import argparse
import os
import sys

from ..core import runs
from ..core.runs import Refusal


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    words = "Watch runs in the terminal: charts that follow as lines are appended; ? has the keys."
    command = commands.add_parser("watch", help=words, description=words)
    command.add_argument("names", nargs="*", default=[runs.FOLDER], metavar="DIR|RUN")
    command.add_argument("--where", metavar="EXPR", help="list those alone: \"status = 'running'\"")
    command.set_defaults(run=_watch)


def _watch(arguments: argparse.Namespace) -> int:
    for name in arguments.names:
        if not os.path.isdir(name):
            runs.find([name])  # a name that means nothing now is a mistake, an empty folder is not
    # textual draws on stderr: a `2> file` would leave the screen black
    if not all(stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr)):
        raise Refusal(
            "runs watch: needs a terminal. Into a pipe or a file: "
            f"eventlog tail -f {arguments.names[0]}"
        )
    try:
        from ..live.folders import Folders
        from .screen import Watch
    except ModuleNotFoundError as error:
        raise Refusal(f"runs watch: needs {error.name}: pip install 'runjournal[tools]'") from None
    with Folders(arguments.names) as folders:
        Watch(folders, where=arguments.where or "").run()
    return 0
