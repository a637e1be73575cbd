"""`open_run`: a new run, or a new session of one, and its `open` event."""

import operator
import os
import secrets
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import orjson

from eventlog.disk import DISK, Disk
from eventlog.fold.load import PathLike
from eventlog.format.files import rank_path
from eventlog.format.record import FORMAT
from eventlog.interruption import ignoring
from eventlog.masking import load_masking
from eventlog.tracker.location import (
    file_name,
    identity_of,
    new_journal,
    remove_if_empty,
    state_folder,
)
from eventlog.tracker.session import Session
from eventlog.tracker.values import as_dict, shown
from eventlog.write.journal import Durability, Journal
from eventlog.write.messages import error_text, say
from eventlog.write.provenance import origin

METADATA_VARIABLE = "EVENTLOG_METADATA"
"""A JSON object that becomes part of every run's metadata; the program's own values win."""


def open_run(
    out_dir: PathLike = "out",
    *,
    run_name: str | None = None,
    run_id: str | None = None,
    journal: PathLike | None = None,
    rank: int | None = None,
    config: Mapping[str, Any] | None = None,
    metadata: Mapping[str, Any] | None = None,
    from_iter: int | None = None,
    checkpoint: PathLike | None = None,
    save_interval: int = 100,
    durability: Durability = "interval",
    sync_interval_s: float = 1.0,
    fallback: PathLike | None = None,
    started: str | None = None,
    disk: Disk = DISK,
) -> Session:
    """Begin a run in `out_dir`, or a new session of the run of `journal`.

    A new run's journal is `<run_name>_YYYYmmdd_HHMMSS.jsonl` (`run_...` without a name),
    its run JSON has the same stem. If that name exists, a suffix is added; nothing is overwritten.
    A name too long for a file is shortened in the stem, not in the run.

    Args:
        run_id: the new run's identity; by default 32 random hex digits.
        journal: an existing journal to continue in a new session.
        rank: log into the journal of this rank, beside the `journal` of the run, which another
            process may be writing. No run JSON is written for it.
        from_iter: the first iteration of this session. What earlier sessions logged at it and
            at later ones stays in the journal and is superseded in the run.
        checkpoint: the file from which the weights were loaded.
        save_interval: iterations between two compactions, made by a process beside this one;
            0: none, and `eventlog compact` writes the run JSON.
        durability: when an event survives power loss. `interval`: within sync_interval_s, and at
            once for evals, checkpoints and the end, without the loop waiting. `every`: before
            each call returns (milliseconds). `checkpoint`: only at those urgent events.
            `never`: when the kernel writes it.
        sync_interval_s: seconds between two syncs.
        started: when an imported run began, ISO 8601. Its end is then the `ended` that is passed
            to `close`.
        fallback: a folder on another disk, for when this one fails; by default eventlog/ in
            the user's state folder (XDG_STATE_HOME).

    Raises:
        JournalLocked: another process is writing that journal.
        OSError: the folder or the journal cannot be written.
        ValueError: an unknown policy, or an interval that is none; `rank` without `journal`.
    """
    _check(durability, sync_interval_s, save_interval, rank, journal)
    fallback = fallback or state_folder()
    fallback = None if fallback is None else Path(os.path.abspath(fallback))
    if journal is None:
        path, identity = _new_run(out_dir, run_name, run_id, disk)
    else:
        path = Path(os.path.abspath(journal))
        identity = identity_of(path, fallback)
        if rank is not None:
            path, save_interval = rank_path(path, rank), 0
    created: list[Any] = []
    try:
        opening = _opening(
            identity,
            durability,
            fallback,
            from_iter=from_iter,
            started=started,
            checkpoint=checkpoint,
            config=as_dict(config),
            metadata=_metadata_from_environment() | as_dict(metadata),
        )
        opened = Journal(
            path,
            opening,
            durability=durability,
            sync_interval_s=sync_interval_s,
            fallback=fallback,
            disk=disk,
            on_created=created.append,
        )
        return Session(
            opened,
            run_name=opening["run_name"],
            save_interval=save_interval,
            disk=disk,
            on_created=created.append,
        )
    except BaseException as error:  # the caller gets no session, so nobody else closes the files
        _close(created, error_text(error))
        if journal is None:
            remove_if_empty(path, disk)
        raise


def _new_run(
    out_dir: PathLike, run_name: str | None, run_id: str | None, disk: Disk
) -> tuple[Path, dict[str, Any]]:
    """A new journal, and the identity of its run."""
    folder = Path(os.path.abspath(out_dir))  # the program may change its working folder
    if folder.is_file():
        raise NotADirectoryError(f"{folder}: is a file; a run needs a folder for its files")
    disk.make_folder(folder)
    path, name = new_journal(folder, file_name(run_name), disk)
    return path, {"run_id": run_id or secrets.token_hex(16), "run_name": name}


def _opening(
    identity: dict[str, Any], durability: Durability, fallback: Path | None, **fields: Any
) -> dict[str, Any]:
    """The fields of the `open` event, without credentials."""
    opening = {"format": FORMAT} | identity | origin() | fields
    known = {k: v for k, v in opening.items() if v is not None}
    masked: dict[str, Any] = load_masking().mask_event("open", known)
    masked |= {"durability": durability}
    return masked if fallback is None else masked | {"fallback": str(fallback)}


def _close(created: list[Any], reason: str) -> None:
    """Close what `open_run` has created: a journal and a session, a journal, or nothing."""
    match created:
        case [_, session]:
            session.close("failed", reason)
        case [journal]:
            journal.close({"status": "failed", "reason": reason})


def _check(
    durability: Any, sync_interval_s: Any, save_interval: Any, rank: int | None, journal: Any
) -> None:
    """Raises ValueError, before any file is made."""
    try:
        operator.index(save_interval)
    except TypeError:
        raise ValueError(
            f"save_interval={shown(save_interval)}: must be a whole number of iterations; 0: none"
        ) from None
    if durability not in get_args(Durability):
        raise ValueError(f"durability={durability!r}: must be one of {get_args(Durability)}")
    if rank is not None and journal is None:
        raise ValueError(f"rank={rank}: needs the journal of the run: pass `journal`")
    with ignoring(Exception):  # not a number
        is_text = issubclass(type(sync_interval_s), str | bytes | bytearray)
        if not is_text and 0 < float(sync_interval_s) <= threading.TIMEOUT_MAX:
            return
    raise ValueError(
        f"sync_interval_s={shown(sync_interval_s)}: must be a number of seconds above 0 and up to "
        f"{threading.TIMEOUT_MAX:.0f}"
    )


def _metadata_from_environment() -> dict[str, Any]:
    """Metadata from the program that started this one, such as a sweep."""
    text = os.environ.get(METADATA_VARIABLE)
    if not text:
        return {}
    try:
        metadata = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        say(f"{METADATA_VARIABLE}: must be a JSON object ({error}); ignored")
        return {}
    return metadata if isinstance(metadata, dict) else {"value": metadata}
