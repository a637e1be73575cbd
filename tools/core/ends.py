"""A run JSON without its arrays: what is before and after them, with the index of what was read.

run = read(Path("out/run_20261123_032501.json"))    # None: it must be read as a whole
"""

import contextlib
import os
import stat
from pathlib import Path
from typing import Any, NamedTuple

import orjson

import eventlog

from . import index

AT_ONCE_BYTES = 8 << 10, 1 << 20, 32 << 20
"""Read at each end: at first, and for more settings or names of metrics."""
_ARRAYS, _METADATA = b'\n  "training_iterations": [', b'\n  "metadata": {'
_ENDS, _FOLDED = "ends", "folded"  # in the index


def read(path: Path) -> eventlog.Run | None:
    """A run JSON of this package without its arrays; None if it must be read as a whole.

    A JSON string contains no raw line feed, so a key after a line feed and two spaces is a key of
    the document itself, in our run JSONs and in those of the guide's logger.

    Raises:
        OSError: it cannot be read.
    """
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):  # opening a FIFO would block
        return None
    kept = index.get(path, _ENDS, status)
    if kept is not None:
        front, _, behind = kept.partition(b"\0")
        return _parsed(front, behind, path)
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        before = os.fstat(fd)
        front, behind = _ends_of(fd, before.st_size)
        run = _parsed(front, behind, path) if behind else None
        if run is not None and run.status != "running" and index.is_same(before, os.fstat(fd)):
            index.put(path, _ENDS, before, front + b"\0" + behind)
        return run
    finally:
        os.close(fd)


class Folded(NamedTuple):
    """How many bytes of its files the run JSON of an ended run has."""

    journal: Any
    segments: dict[Any, Any]
    fallbacks: list[Path]
    """The folders in which there may be later segments."""


def folded(path: Path) -> Folded | None:
    """What the run JSON of an ended run has; None: it has not ended, or that is not known.

    Raises:
        OSError: it cannot be read.
    """
    status = os.stat(path)
    kept = index.get(path, _FOLDED, status)
    if kept is None:
        run = read(path)
        if run is None or run.status == "running":
            return None
        parts = run.journal.get("segments") or []
        pairs = [(part.get("file"), part.get("bytes")) for part in parts]
        has_resumed = len(run.journal.get("sessions") or ()) > 1
        folders = _fallbacks_of(path, has_resumed=has_resumed)
        kept = orjson.dumps((run.journal.get("bytes"), pairs, folders))
        if index.is_same(status, os.stat(path)):
            index.put(path, _FOLDED, status, kept)
    n_bytes, pairs, folders = orjson.loads(kept)
    return Folded(n_bytes, dict(pairs), [*map(Path, folders)])


def _fallbacks_of(path: Path, *, has_resumed: bool) -> list[str]:
    """The folders in which the first and last sessions of a journal go on if its disk fails."""
    with contextlib.suppress(OSError):
        journal = path.with_suffix(eventlog.JOURNAL_SUFFIX)
        opens = [eventlog.opening_event(journal)]
        if has_resumed:  # else looking for it may read the whole journal
            opens.append(eventlog.last_open(journal))
        folders = [opened.fields.get("fallback") for opened in opens if opened is not None]
        return [*dict.fromkeys(one for one in folders if isinstance(one, str))]
    return []


def _ends_of(fd: int, size_bytes: int) -> tuple[bytes, bytes]:
    """What is before and after the arrays; nothing if these are not found."""
    for n_bytes in AT_ONCE_BYTES:
        front, arrays, _ = os.pread(fd, n_bytes, 0).partition(_ARRAYS)
        if arrays:
            end = os.pread(fd, n_bytes, max(0, size_bytes - n_bytes))
            at = end.rfind(_METADATA)
            if at >= 0:
                return front.rstrip().removesuffix(b",") + b"}", b"{" + end[at:]
        if n_bytes >= size_bytes:
            break
    return b"", b""


def _parsed(front: bytes, behind: bytes, path: Path) -> eventlog.Run | None:
    try:
        document = orjson.loads(front) | orjson.loads(behind)
    except orjson.JSONDecodeError:
        return None
    objects = {key: document.get(key, {}) for key in ("config", "metadata", "summary", "journal")}
    times = {key: document.get(key) for key in ("start_time", "end_time")}
    name = document.get("run_name") or path.stem
    if not (
        isinstance(name, str)
        and all(isinstance(value, dict) for value in objects.values())
        and all(isinstance(value, str | None) for value in times.values())
    ):
        return None
    if "format" not in objects["journal"]:  # of another logger: its summary is that of the rows
        return None
    return eventlog.Run(name, **times, **objects, path=path)
