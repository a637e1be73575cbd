"""Notes, tags and names of a run.

They are events in a separate segment beside the journal: nothing is edited, the run may be written
at the same time, and the event is durable when a function here returns.
"""

import getpass
from collections.abc import Sequence
from pathlib import Path

import eventlog

from .runs import Refusal

NOTE_MAX = 20_000
NAME_MAX = 200


def add_note(path: Path, text: str) -> None:
    """Add a note to the run of a journal or run JSON.

    Raises:
        Refusal: it is empty or too long.
        OSError, eventlog.EventlogError: as `eventlog.annotate`.
    """
    if not text.strip() or len(text) > NOTE_MAX:
        raise Refusal(f"a note must have 1 to {NOTE_MAX:,} characters, got {len(text):,}")
    eventlog.annotate(path, "note", text=text, by=_who())


def change_tags(path: Path, tags: Sequence[str]) -> None:
    """Add and remove tags of a run: `+good`, or `good`, and `-bad`. Raises as `add_note`."""
    add, remove = _split(tags)
    if add or remove:
        eventlog.annotate(path, "tag", add=add, remove=remove, by=_who())


def rename(path: Path, name: str) -> None:
    """Give a run another name in lists and legends; empty: its own again. Raises as `add_note`."""
    if name.strip() != name or len(name) > NAME_MAX or not name.isprintable():
        raise Refusal(
            f"{name[:200]!r}: a name must be at most {NAME_MAX} printable characters, without "
            "spaces around it"
        )
    eventlog.annotate(path, "rename", name=name, by=_who())


def _split(tags: Sequence[str]) -> tuple[list[str], list[str]]:
    """The tags to add and to remove; one without a sign is added.

    Raises:
        Refusal: one of them is not a tag, or is to be added and removed.
    """
    for tag in tags:
        bare = tag[1:] if tag[:1] in ("+", "-") else tag
        if not bare or bare[0] in "+-" or not bare.isprintable() or " " in bare or "," in bare:
            raise Refusal(
                f"{tag!r}: a tag must be one word without spaces and commas, after + (or no sign) "
                f"to add it or - to remove it"
            )
    remove = [tag[1:] for tag in tags if tag.startswith("-")]
    add = [tag.removeprefix("+") for tag in tags if not tag.startswith("-")]
    if both := sorted(set(add) & set(remove)):
        raise Refusal(f"{', '.join(both)}: cannot be both added and removed")
    return add, remove


def _who() -> str | None:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a user id without a name, as in containers
        return None
