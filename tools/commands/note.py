"""`runs note`, `runs tag` and `runs rename`: what a person adds to a run."""

import argparse
import sys
from pathlib import Path

import eventlog

from ..core import remarks, runs
from ..core.table import print, printable


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    summary = "Add a note to a run, live or ended; `runs show` prints them."
    command = commands.add_parser("note", help=summary, description=summary)
    command.add_argument("run_name", metavar="RUN")
    command.add_argument("text", nargs="+", metavar="TEXT")
    command.set_defaults(run=_note)

    summary = "Add and remove tags of a run: +good -bad. Without any: print its tags."
    command = commands.add_parser("tag", help=summary, description=summary)
    command.add_argument("run_name", metavar="RUN")
    # A tag to remove looks like a flag: everything after the run is a tag.
    command.add_argument("tags", nargs=argparse.REMAINDER, metavar="+TAG|-TAG")
    command.set_defaults(run=_tag)

    summary = "Give a run another name in lists and legends; its files keep theirs."
    command = commands.add_parser("rename", help=summary, description=summary)
    command.add_argument("run_name", metavar="RUN")
    command.add_argument("name", metavar="NAME", help="'': its own again")
    command.set_defaults(run=_rename)


def _note(arguments: argparse.Namespace) -> int:
    path = runs.one(arguments.run_name).path
    remarks.add_note(path, " ".join(arguments.text))
    print(f"{path.stem}: noted", file=sys.stderr)
    return 0


def _tag(arguments: argparse.Namespace) -> int:
    found = runs.one(arguments.run_name)
    if arguments.tags:
        remarks.change_tags(found.path, arguments.tags)
        found.run = _read_again(found.path)
    tags = found.run.journal.get("tags", []) if found.run is not None else []
    print("\n".join(map(printable, tags)), end="\n" if tags else "")
    return 0


def _rename(arguments: argparse.Namespace) -> int:
    path = runs.one(arguments.run_name).path
    remarks.rename(path, arguments.name)
    print(f"{path.stem}: renamed", file=sys.stderr)
    return 0


def _read_again(path: Path) -> eventlog.Run:
    return eventlog.load_run(runs.journal_of(path))
