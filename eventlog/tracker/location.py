"""Where the files of a run are: names of journals, the folder for what must outlive a program."""

import contextlib
import os
import secrets
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from eventlog.disk import DISK, Disk
from eventlog.errors import EventlogError
from eventlog.format.files import JOURNAL_SUFFIX, run_path
from eventlog.format.record import Record, text_of
from eventlog.interruption import ignoring
from eventlog.masking import load_masking
from eventlog.read.candidates import list_segments
from eventlog.read.ends import last_open
from eventlog.read.evidence import stated_by
from eventlog.read.reader import scan

NAME_MAX_BYTES = 160  # of 255, for what is added to it: time, session, number, kind, suffix

ALONE_PATIENCE_S = 5.0


def file_name(run_name: str | None) -> str:
    """A run's name without credentials and what no file name can have; `run` by default."""
    name: str = load_masking().mask_file_name(
        text_of("run" if run_name is None else run_name) or "run"
    )
    return name.replace(os.sep, "_").replace("\0", "_")


def new_journal(out_dir: Path, name: str, disk: Disk) -> tuple[Path, str]:
    """Create a journal whose stem no journal and no run JSON has; its path and the run's name.

    Of a name with a dot at its beginning, the stem has an underscore there.
    """
    short = name.encode("utf-8", "backslashreplace")[:NAME_MAX_BYTES].decode("utf-8", "ignore")
    visible = f"_{short[1:]}" if short.startswith(".") else short  # a dot would hide the file
    stem = f"{visible}_{datetime.now():%Y%m%d_%H%M%S}"
    for attempt in range(1, 10_000):
        path = out_dir / f"{stem}{f'_{attempt}' if attempt > 1 else ''}{JOURNAL_SUFFIX}"
        if run_path(path).exists():
            continue
        with contextlib.suppress(FileExistsError):
            fd = disk.open_append(path, exclusive=True)
            try:
                disk.close(fd)
            except BaseException:
                remove_if_empty(path, disk)
                raise
            return path, name + path.stem[len(short) :]
    raise EventlogError(f"{out_dir}: {stem} and 9,999 names like it exist already")


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[bool]:
    """Let one process at a time find out whether a run exists, and begin it if it does not.

    Others wait, but not for long, and not where a folder cannot be locked (NFS): it is then False.
    """
    fd, is_alone = -1, False
    with ignoring(OSError):
        DISK.make_folder(folder)
        fd = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        give_up_at = time.monotonic() + ALONE_PATIENCE_S
        while (held := DISK.lock(fd)) is False and time.monotonic() < give_up_at:
            time.sleep(0.01)
        is_alone = held is True
    try:
        yield is_alone
    finally:
        if fd >= 0:
            os.close(fd)


def remove_if_empty(journal: Path, disk: Disk) -> None:
    """Remove a journal that `new_journal` created, if no event was written to it."""
    with contextlib.suppress(OSError):
        if journal.stat().st_size == 0:
            disk.unlink(journal)


def identity_of(journal: Path, fallback: Path | None) -> dict[str, Any]:
    """Run id and name of an existing journal: from any `open` event, else from its segments."""
    if not journal.exists():
        raise FileNotFoundError(
            f"{journal}: no such journal to continue; leave `journal` out to start a new one"
        )
    opened = any_open(journal)
    fields = opened.fields if opened else {}
    return {
        "run_id": fields.get("run_id")
        or run_id_by_segments(journal, fallback)
        or secrets.token_hex(16),
        "run_name": fields.get("run_name") or journal.stem,
    }


def run_id_by_segments(journal: Path, fallback: Path | None = None) -> str | None:
    """The id of a run whose `open` events are lost, by the headers of its segments.

    Segments of sessions that the run JSON was made from are preferred; in `fallback`, where other
    runs may have such names, no other one counts. None: there is none, or they disagree.
    """
    known = stated_by(run_path(journal)).sessions
    likely: set[str | None] = set()
    possible: set[str | None] = set()
    for folder in dict.fromkeys((journal.parent, fallback or journal.parent)):
        is_beside = folder == journal.parent
        with ignoring(OSError):
            for segment in list_segments(journal.stem, folder, is_beside=is_beside):
                if segment.s in known or is_beside:
                    segment.read_first_records()
                    (likely if segment.s in known else possible).add(segment.run_id)
    ids = (likely or possible) - {None}
    return ids.pop() if len(ids) == 1 else None


def any_open(journal: Path) -> Record | None:
    """The latest `open` event of a journal; if all in it are damaged, one in its segments."""
    return last_open(journal) or next((r for r in scan(journal) if r.event == "open"), None)


def state_folder() -> Path | None:
    """The user's folder for what must outlive a program (XDG_STATE_HOME); None: no home."""
    with contextlib.suppress(RuntimeError):  # a user id without a home, as in containers
        state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
        return Path(state) / "eventlog"
    return None
