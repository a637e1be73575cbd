"""`runs note` and `runs tag`: notes and tags of a run.

Both are events in a separate segment beside the journal: nothing is edited, the run may be
written at the same time, and the event is durable when the command returns.
"""

import argparse
import getpass
import sys
from pathlib import Path

import eventlog

from ..core import runs
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


def _note(arguments: argparse.Namespace) -> int:
    path = runs.one(arguments.run_name).path
    eventlog.annotate(path, "note", text=" ".join(arguments.text), by=_who())
    print(f"{path.stem}: noted", file=sys.stderr)
    return 0


def _tag(arguments: argparse.Namespace) -> int:
    found = runs.one(arguments.run_name)
    add, remove = _split(arguments.tags)
    if add or remove:
        eventlog.annotate(found.path, "tag", add=add, remove=remove, by=_who())
        found.run = _read_again(found.path)
    tags = found.run.journal.get("tags", []) if found.run is not None else []
    print("\n".join(map(printable, tags)), end="\n" if tags else "")
    return 0


def _split(tags: list[str]) -> tuple[list[str], list[str]]:
    """The tags to add and to remove; one without a sign is added.

    Raises:
        Refusal: one of them is not a tag, or is to be added and removed.
    """
    for tag in tags:
        bare = tag[1:] if tag[:1] in ("+", "-") else tag
        if not bare or bare[0] in "+-" or not bare.isprintable() or " " in bare or "," in bare:
            raise runs.Refusal(
                f"{tag!r}: a tag must be one word without spaces and commas, after + (or no sign) "
                f"to add it or - to remove it"
            )
    remove = [tag[1:] for tag in tags if tag.startswith("-")]
    add = [tag.removeprefix("+") for tag in tags if not tag.startswith("-")]
    if both := sorted(set(add) & set(remove)):
        raise runs.Refusal(f"{', '.join(both)}: cannot be both added and removed")
    return add, remove


def _read_again(path: Path) -> eventlog.Run:
    return eventlog.load_run(runs.journal_of(path))


def _who() -> str | None:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a user id without a name, as in containers
        return None
