"""The run that one goes on with, or is forked from: which it is, and what it holds."""

import contextlib
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from eventlog.blocks import open_to_read
from eventlog.errors import EventlogError
from eventlog.fold.document import Run
from eventlog.fold.load import PathLike, load_run
from eventlog.format.files import JOURNAL_SUFFIX, journal_path
from eventlog.format.record import HEAD, MAX_LINE_BYTES, Record, decode, is_a, text_of
from eventlog.interruption import is_interruption
from eventlog.read.ends import last_open
from eventlog.tracker.arguments import shown
from eventlog.tracker.large_values import folders_of, restored, restored_config
from eventlog.tracker.session import Session

Resume = Literal["allow", "must", "never", "auto"]
Fork = PathLike | tuple[PathLike, int]

_STAMP = r"_\d{8}_\d{6}(_\d+)?"


def journal_to_resume(
    folder: Path, id: str | None, name: str | None, resume: Resume | None
) -> Path | None:
    """The journal to go on with; None: a new run.

    Raises:
        EventlogError: `must` finds none, `never` finds one.
    """
    if resume is None:
        return None
    if id is not None:
        found = find_journal(folder, id=id)
    elif name is None and resume in ("allow", "never"):
        return None
    else:
        found = find_journal(folder, name=name) if resume != "never" else None
    which = f"run {id}" if id is not None else f"run named {name}" if name else "run"
    if resume == "must" and found is None:
        raise EventlogError(f"{folder}: has no {which} to go on with; resume='allow' begins one")
    if resume == "never" and found is not None:
        raise EventlogError(f"{found}: is {which} already; resume='allow' goes on with it")
    if resume == "auto" and found is not None and load_run(found).status == "completed":
        return None
    return found


def find_journal(folder: Path, *, id: str | None = None, name: str | None = None) -> Path | None:
    """The journal in `folder` that was begun last, of those of an id or a name."""
    id = None if id is None else text_of(id)  # as the journal has it
    kept = None if name is None else text_of(name).replace(os.sep, "_").replace("\0", "_")
    wanted = None if kept is None else re.compile(re.escape(kept) + _STAMP, re.DOTALL)
    found: list[tuple[str, Path]] = []
    for path in folder.glob(f"*{JOURNAL_SUFFIX}"):
        opened = opening(path)
        if (
            opened is not None
            and (id is None or opened.fields.get("run_id") == id)
            and (wanted is None or wanted.fullmatch(str(opened.fields.get("run_name"))))
        ):
            found.append((opened.t, path))
    return max(found)[1] if found else None


def opening(path: Path) -> Record | None:
    """The `open` event that says whose a journal is: its first line, or where that is damaged the
    latest one; None: it is no journal."""
    with contextlib.suppress(OSError, ValueError):
        with open(open_to_read(path), "rb") as file:  # of a FIFO it waits for nobody
            line = file.readline(MAX_LINE_BYTES)
        record = decode(line.rstrip(b"\n"))
        if (record is None or record.event != "open") and line.startswith(HEAD):
            record = last_open(path)
        if record is not None and record.event == "open":
            return record
    return None


def read_past(journal: Path | None, fork_from: Fork | None, folder: Path) -> Run:
    """The run that goes on, or the one to fork up to its last step; an empty one: neither.

    Raises:
        EventlogError, OSError: it is not there, or not to be read.
    """
    if journal is not None:
        run = load_run(journal)
        folders = _folders(journal)
        run.config = restored_config(journal, run.config, folders)
        run.metadata = restored(run.metadata, folders)
        return run
    if fork_from is None:
        return Run()
    which, last = at_step(fork_from)
    path = Path(which) if os.path.isfile(which) else find_journal(folder, id=which)
    if path is None:
        raise EventlogError(f"{folder}: has no run {which} to fork; give its id or its path")
    run = load_run(path)
    folders = _folders(path)
    run.config = restored_config(journal_path(path), run.config, folders)
    run.metadata = restored(run.metadata, folders) | {
        "forked_from": {"run_name": run.run_name, "file": str(path), "step": last}
    }
    run.journal = {}  # tags and notes are the other run's
    run.training_iterations = _until(run.training_iterations, "iter", last, folders)
    run.eval_steps = _until(run.eval_steps, "iter", last, folders)
    run.checkpoints = _until(run.checkpoints, "iter", last, folders)
    run.metrics = _until(run.metrics, "step", last, folders)
    return run


def _folders(journal: Path) -> list[Path]:
    opened = opening(journal_path(journal))
    return folders_of(journal, opened.fields.get("fallback") if opened is not None else None)


def _until(
    rows: Iterable[dict[str, Any]], key: str, last: int | None, folders: list[Path]
) -> list[dict[str, Any]]:
    """Rows up to a step, whole: another folder has not what was set aside of them."""
    return [restored(r, folders) for r in rows if last is None or int(r.get(key, 0)) <= last]


def copy_rows(past: Run, session: Session) -> None:
    """The history of a forked run as the new one's own."""
    for kind, rows in (
        ("iter", past.training_iterations),
        ("eval", past.eval_steps),
        ("checkpoint", past.checkpoints),
        ("metrics", past.metrics),
    ):
        for row in rows:
            session.log(kind, **row)


def next_step(past: Run) -> int:
    """The step after the last one that was taken."""
    last = [row["step"] for row in past.metrics[-1:]]
    last += [row["iter"] for row in past.training_iterations[-1:]]
    return max(last, default=-1) + 1


def at_step(source: Fork) -> tuple[str, int | None]:
    """`ID?_step=N` or a pair, as id or path and step.

    Raises:
        ValueError: it is neither.
    """
    try:
        given: Any = source
        if is_a(given, tuple | list):
            which, step = given
            return str.__str__(os.fsdecode(which)), int(step)
        which, _, at = str.__str__(os.fsdecode(given)).partition("?_step=")
    except Exception as error:
        if is_interruption(error):
            raise
        words = f"{shown(source)}: no run; an id, a path, either with ?_step=200, or a pair"
        raise ValueError(words) from None
    if not at:
        return which, None
    try:
        return which, int(at)
    except ValueError:
        raise ValueError(f"{shown(source)}: no step; as in {which}?_step=200") from None
