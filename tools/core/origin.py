"""Where a run came from: the host, program, commit and versions that its `open` events have."""

from collections.abc import Mapping
from typing import Any

import eventlog

from . import runs

FIELDS = ("host", "user", "platform", "git_commit", "command", "cwd", "versions")


def origin(run: eventlog.Run) -> Mapping[str, Any]:
    """Host, versions and command of a run, from its first `open` event; {} without a journal."""
    journal = None if run.path is None else runs.journal_of(run.path)
    if journal is None or not journal.exists():
        return {}
    try:
        first = next(eventlog.scan(journal), None)
    except OSError:
        return {}
    return of_open(first.fields) if first is not None and first.event == "open" else {}


def of_open(opened: Mapping[str, Any]) -> dict[str, Any]:
    """What the fields of an `open` event say of the origin."""
    return {key: opened[key] for key in FIELDS if opened.get(key) is not None}
