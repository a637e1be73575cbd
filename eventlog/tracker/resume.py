"""The run that is resumed or forked: finding it, and reading what it and its asides hold."""

import os
import re
from collections.abc import Iterable, Sequence
from functools import reduce
from hashlib import sha256
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import orjson

from eventlog.blocks import read_all
from eventlog.errors import EventlogError, UsageError
from eventlog.fold.document import Run
from eventlog.fold.flat_rows import ASIDE_NAMES, restore_nonfinite, without_aside
from eventlog.fold.load import PathLike, load_run
from eventlog.format.events import KINDS
from eventlog.format.files import JOURNAL_SUFFIX, journal_path
from eventlog.format.foreign import is_a
from eventlog.format.record import Record, text_of, with_nonfinite
from eventlog.format.text import counted
from eventlog.format.times import seconds
from eventlog.interruption import ignoring, is_interruption
from eventlog.read.candidates import aside_path
from eventlog.read.ends import last_record, opening_event
from eventlog.read.reader import scan
from eventlog.tracker.location import file_name
from eventlog.tracker.session import Session
from eventlog.tracker.values import RESERVED_IN_ROWS, masked, plain, shown
from eventlog.write.messages import say, say_once

_NOTE = re.compile(r"<[\d,]+ bytes, set aside>")


def restored(fields: dict[str, Any], folders: Sequence[Path]) -> dict[str, Any]:
    """Fields with the values that were logged, in place of the notes that stand for them.

    If the file is missing or damaged, the notes are left out, and that is reported on stderr.
    """
    reference = fields.get("set_aside")
    if not isinstance(reference, dict) or "sha256" not in reference:
        return fields
    content = _content(reference, folders)
    if content is not None:
        return fields | content if "set_aside" in content else _without(fields | content)
    say_once(f"{reference.get('file')}: is missing or damaged; the large values in it are left out")
    return _without_notes(_without(fields))


def restored_config(
    journal: Path, config: dict[str, Any], folders: Sequence[Path]
) -> dict[str, Any]:
    """The config of a run as it was logged; `config` is what is left of it in its events."""
    if "set_aside" not in config and _without_notes(config) == config:
        return config
    if not os.path.isfile(journal):  # only the run JSON is left
        return _without_notes(restored(config, folders))
    values: dict[str, Any] = {}
    for record in scan(journal):
        if record.event == "open":
            config = restored(_dict(record.fields.get("config")), folders)
            values = _dict(with_nonfinite(record.fields | {"config": config}, "config")) or values
        elif record.event == "config":
            values = values | _dict(with_nonfinite(restored(record.fields, folders), "config"))
    return values


def folders_of(journal: Path, fallback: Any) -> list[Path]:
    """The folders in which files of a run may be."""
    return [journal.parent] + ([Path(fallback)] if isinstance(fallback, str) else [])


def _content(reference: dict[str, Any], folders: Sequence[Path]) -> dict[str, Any] | None:
    name = reference.get("file")
    if not isinstance(name, str) or os.path.basename(name) != name:
        return None
    for folder in folders:
        with ignoring(OSError, ValueError):
            data = read_all(aside_path(folder, name, reference["sha256"]))
            if sha256(data).hexdigest() == reference["sha256"]:
                return _dict(orjson.loads(data))
    return None


def _without(fields: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in fields.items() if k != "set_aside"}


def _without_notes(fields: dict[str, Any]) -> dict[str, Any]:
    """Without the notes that stand for values, also in nested dicts."""
    return _top_level({k: _top_level(v) if isinstance(v, dict) else v for k, v in fields.items()})


def _top_level(values: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in values.items() if not (type(v) is str and _NOTE.fullmatch(v))}


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


Resume = Literal["allow", "must", "never", "auto"]
Fork = PathLike | tuple[PathLike, int]

COPIED_AFTER_S = 60.0
_STAMP = r"_\d{8}_\d{6}(_\d+)?"


def journal_to_resume(
    folder: Path,
    id: str | None,
    name: str | None,
    resume: Resume | None,
    fallback: Path | None = None,
) -> Path | None:
    """The journal of the run to resume; None: begin a new run.

    `fallback`: where a run is looked for by its id as well. Not by its name: the runs of other
    projects may be there.

    Raises:
        UsageError: `must` finds no run, or `never` finds one.
    """
    if resume is None:
        return None
    if id is not None:
        journal = find_journal(folder, id=id, fallback=fallback)
    elif name is None and resume in ("allow", "never"):
        return None
    else:
        journal = find_journal(folder, name=name) if resume != "never" else None
    run = masked(f"run {id}" if id is not None else f"run named {name}" if name else "run")
    if resume == "must" and journal is None:
        where = f"{folder} and {fallback}: have" if id and fallback else f"{folder}: has"
        raise UsageError(f"{where} no {run} to resume; resume='allow' begins one")
    if resume == "never" and journal is not None:
        raise UsageError(f"{journal}: is {run} already; resume='allow' resumes it")
    if resume == "auto" and id is None and journal is not None:  # an id is one run
        return None if load_run(journal).status == "completed" else journal
    return journal


def find_journal(
    folder: Path, *, id: str | None = None, name: str | None = None, fallback: Path | None = None
) -> Path | None:
    """The journal in `folder` or `fallback` that was begun last, of those with an id or a name.

    Not by the clock alone, which may be wrong: see `_later`.
    """
    journals = journals_of(folder, id=id, name=name, fallback=fallback)
    return reduce(_later, journals)[1] if journals else None


def journals_of(
    folder: Path, *, id: str | None = None, name: str | None = None, fallback: Path | None = None
) -> list[tuple[Record, Path]]:
    """The journals in `folder` or `fallback` with an id or a name, and their `open` events."""
    id = None if id is None else text_of(id)  # as the journal has it
    names = None
    if name is not None:
        names = re.compile(re.escape(file_name(name)) + _STAMP, re.DOTALL)
    journals: list[tuple[Record, Path]] = []
    folders = [folder] if fallback is None else [folder, fallback]
    for path in chain.from_iterable(one.glob(f"*{JOURNAL_SUFFIX}") for one in folders):
        opened = opening_event(path)
        if (
            opened is not None
            and (id is None or opened.fields.get("run_id") == id)
            and (names is None or names.fullmatch(str(opened.fields.get("run_name"))))
        ):
            journals.append((opened, path))
    return journals


def _later(one: tuple[Record, Path], other: tuple[Record, Path]) -> tuple[Record, Path]:
    """That of two journals which was begun later, also where a clock is wrong.

    Of one boot of a machine by when the processes began. Of two machines the clocks may differ: if
    what was begun later by these was written to earlier, by that of the file system, then a run
    that has not completed comes before one that has. Files that were copied have other times.
    """
    first, last = sorted((one, other), key=lambda journal: (journal[0].t, journal[1]))
    boots: list[Any] = [opened.fields.get("boot_id") for opened, _ in (first, last)]
    began: list[Any] = [opened.fields.get("pid_started") for opened, _ in (first, last)]
    if boots[0] is not None and boots[0] == boots[1]:
        is_known = type(began[0]) is type(began[1]) is int
        return first if is_known and began[0] > began[1] else last
    with ignoring(OSError):
        is_written_later = os.stat(first[1]).st_mtime_ns > os.stat(last[1]).st_mtime_ns
        is_chosen = is_written_later and _completed(last[1]) and not _completed(first[1])
        if is_chosen and not _was_copied(last[1]):
            say_once(
                f"{first[1]}: is the latest run of its name: {last[1].name} began later by its "
                f"clock, and was written to before"
            )
            return first
    return last


def _was_copied(journal: Path) -> bool:
    """Whether a journal was changed long after its last record."""
    last = last_record(journal)
    written_s = None if last is None else seconds(last.t)
    return written_s is not None and os.stat(journal).st_mtime > written_s + COPIED_AFTER_S


def _completed(journal: Path) -> bool:
    """Whether the last line of a journal says so."""
    last = last_record(journal)
    return last is not None and (last.event, last.fields.get("status")) == ("close", "completed")


def read_past(
    journal: Path | None, fork_from: Fork | None, folder: Path, fallback: Path | None
) -> Run:
    """The run that is resumed, or the one that is forked up to its last step, or an empty one.

    Raises:
        EventlogError, OSError: it does not exist or cannot be read.
    """
    if journal is not None:
        run = load_run(journal)
        _say_what_is_missing(journal, run)
        folders = _folders(journal)
        run.config = restored_config(journal, run.config, folders)
        run.metadata = restored(run.metadata, folders)
        return run
    if fork_from is None:
        return Run()
    id_or_path, last = at_step(fork_from)
    path: Path | None = Path(id_or_path)
    if not os.path.isfile(id_or_path):
        path = find_journal(folder, id=id_or_path, fallback=fallback)
    if path is None:
        raise EventlogError(
            f"{folder}: has no run {masked(str(id_or_path))} to fork; pass its id or its path"
        )
    run = load_run(path)
    folders = _folders(path)
    run.config = restored_config(journal_path(path), run.config, folders)
    run.metadata = restored(run.metadata, folders) | {
        "forked_from": {"run_name": run.run_name, "file": str(path), "step": last}
    }
    run.journal = {}  # tags and notes are the other run's
    for kind in KINDS.values():
        if kind.key and kind.axis:
            setattr(run, kind.key, _until(getattr(run, kind.key), kind.axis, last, folders))
    return run


def _say_what_is_missing(journal: Path, run: Run) -> None:
    """A file of the run may be on another disk, or was not copied: it is better found now."""
    found = [d for d in run.journal.get("defects", ()) if d.get("lost") != 0]
    folders = [str(d.get("detail")) for d in found if d.get("kind") == "missing_folder"]
    for folder in folders:
        say(f"{journal}: the session before may have gone on in a folder that is gone: {folder}")
    lost = [d.get("lost") for d in found if d.get("kind") != "missing_folder"]
    n_lost = sum(n for n in lost if n)
    if n_lost or None in lost:
        count = counted(n_lost, "event") if n_lost else "events"
        say(f"{journal}: {count} of earlier sessions are missing; see: eventlog verify {journal}")


def _folders(journal: Path) -> list[Path]:
    opened = opening_event(journal_path(journal))
    return folders_of(journal, opened.fields.get("fallback") if opened is not None else None)


def _until(
    rows: Iterable[dict[str, Any]], key: str, last: int | None, folders: list[Path]
) -> list[dict[str, Any]]:
    """Rows up to a step, with their large values: a fork in another folder has not the asides."""
    return [restored(r, folders) for r in rows if last is None or int(r.get(key, 0)) <= last]


def copy_rows(past: Run, session: Session) -> None:
    """Log the history of a forked run into the new one."""
    for kind in KINDS.values():
        for row in getattr(past, kind.key) if kind.key else ():
            session.log(kind.name, **row)


def last_summary(journal: Path | None, past: Run) -> dict[str, Any]:
    """The summary of a run as its last session left it: what was logged or set last, by name.

    The journal is read again only where the run JSON does not tell it.
    """
    names = past.journal.get("metrics", {}).get("names", {})
    set_or_removed = past.journal.get("events", {}).keys() & {"summary", "rewind"}
    superseded = past.journal.get("superseded", {}).get("metrics")
    if journal is None or not (set_or_removed or superseded):
        lasts = {name: restore_nonfinite(one).get("last") for name, one in names.items()}
        return plain({name: last for name, last in lasts.items() if name not in ASIDE_NAMES})
    summary: dict[str, Any] = {}
    for record in scan(journal):
        if record.event == "metrics":
            values = plain(without_aside(restore_nonfinite(record.fields)))
            summary |= {name: values[name] for name in values if name not in RESERVED_IN_ROWS}
        elif record.event == "summary":
            values = _dict(restore_nonfinite(record.fields).get("summary"))
            summary = {
                k: v for k, v in (summary | values).items() if v is not None or k not in values
            }
    return summary


def next_step(past: Run) -> int:
    """The step after the last one."""
    last = [row["step"] for row in past.metrics[-1:]]
    last += [row["iter"] for row in past.training_iterations[-1:]]
    return max(last, default=-1) + 1


def at_step(source: Fork) -> tuple[str, int | None]:
    """`ID?_step=N` or a pair, as id or path and step.

    Raises:
        ValueError: it is neither.
    """
    try:
        value: Any = source
        if is_a(value, tuple | list):
            run, step = value
            return str.__str__(os.fsdecode(run)), int(step)
        run, _, last = str.__str__(os.fsdecode(value)).partition("?_step=")
    except Exception as error:
        if is_interruption(error):
            raise
        message = (
            f"{shown(source)}: must be a run's id or path, with or without ?_step=200, or a pair"
        )
        raise ValueError(message) from None
    if not last:
        return run, None
    try:
        return run, int(last)
    except ValueError:
        raise ValueError(
            f"{shown(source)}: must end in a step, as in {masked(run)}?_step=200"
        ) from None
