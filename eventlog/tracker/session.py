"""One writer's life: a journal to append to, and the compactor that keeps its run JSON.

    with eventlog.open_run("out", config={"lr": 3e-4}) as run:
        for i in range(1000):
            run.log_iter(i, loss=step(), time_ms=12.5)

What is logged is on disk when the call returns. Nothing here raises into the loop that
logs: what goes wrong is said on stderr, once, and counted in `errors`. What signal handlers
and other threads raise passes through.
"""

import atexit
import contextlib
import os
import secrets
import sys
import threading
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, get_args

import orjson

from eventlog.disk import DISK, Disk
from eventlog.errors import EventlogError
from eventlog.fold.compactor import Compactor
from eventlog.fold.load import PathLike
from eventlog.format.events import DURABLE_AT_ONCE, MFU_UNKNOWN
from eventlog.format.files import JOURNAL_SUFFIX, rank_path, run_path
from eventlog.format.record import ANNOTATES, FORMAT, is_a, text_of, unique
from eventlog.interruption import came_from_elsewhere, is_interruption
from eventlog.read.ends import last_open
from eventlog.read.reader import scan
from eventlog.tracker.annotation import Annotator
from eventlog.tracker.arguments import shown
from eventlog.write.forked import WHY
from eventlog.write.journal import Durability, Journal, say
from eventlog.write.provenance import origin

NAME_MAX_BYTES = 160  # of 255, for what is added to it: time, session, number, kind, suffix
METADATA_VARIABLE = "EVENTLOG_METADATA"
"""A JSON object in it becomes part of every run's metadata; what the program gives goes first."""


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
) -> "Session":
    """A new run in `out_dir`, or with `journal` one that goes on.

    A new run's journal is `<run_name>_YYYYmmdd_HHMMSS.jsonl` (`run_...` without a name),
    its run JSON has the same stem. A taken name gets a suffix; nothing is overwritten. Of a name
    too long for a file the stem has the beginning, the run the whole.

    Args:
        run_id: the new run's identity; by default 32 random hex digits.
        journal: an existing journal to continue in a new session.
        rank: log into the journal of this rank, beside the `journal` of the run, which another
            process may be writing. There is no run JSON of it.
        from_iter: the first iteration this session takes. What earlier sessions logged of
            it and of later ones stays in the journal but leaves the run: one curve.
        checkpoint: the file the weights were taken from.
        save_interval: iterations between two compactions, which a process beside this one
            makes; 0: none, the run JSON is then written by `eventlog compact`.
        durability: when an event survives power loss. `interval`: within sync_interval_s, and at
            once for evals, checkpoints and the end, without the loop waiting. `every`: before
            each call returns (milliseconds). `checkpoint`: only at the urgent events. `never`:
            when the kernel likes.
        started: when the run began, ISO 8601, if not now: of a run that is being imported. Its
            end then is the `ended` that `close` is given.
        fallback: a folder on another disk, for when this one fails; by default eventlog/ in
            the user's state folder (XDG_STATE_HOME).

    Raises:
        JournalLocked: another process is writing that journal.
        OSError: the folder or the journal cannot be written.
        ValueError: there is no such policy or interval; `rank` without `journal`.
    """
    if durability not in get_args(Durability):
        raise ValueError(f"durability={durability!r}: it is one of {get_args(Durability)}")
    _check_interval(sync_interval_s)
    if rank is not None and journal is None:
        raise ValueError(f"rank={rank}: needs the journal of the run whose rank it is")
    out_dir = Path(os.path.abspath(out_dir))  # the program may change its working folder
    opening: dict[str, Any] = {"format": FORMAT}
    if journal is not None:
        path = Path(os.path.abspath(journal))
        opening |= _identity_of(path)
        if rank is not None:
            path, save_interval = rank_path(path, rank), 0
    else:
        if not out_dir.is_dir():
            out_dir.mkdir(parents=True, exist_ok=True)
            disk.sync_dir(out_dir.parent)
        name = (
            (text_of("run" if run_name is None else run_name) or "run")
            .replace(os.sep, "_")
            .replace("\0", "_")
        )
        name_in_file = _shortened(name)
        path = _new_journal(out_dir, name_in_file, disk)
        opening |= {
            "run_id": run_id or secrets.token_hex(16),
            "run_name": name + path.stem[len(name_in_file) :],
        }
    begun = _Begun()
    try:
        opening |= origin()
        opening |= {
            "from_iter": from_iter,
            "started": started,
            "checkpoint": checkpoint,
            "config": as_dict(config),
            "metadata": _told_from_outside() | as_dict(metadata),
        }
        from eventlog.masking.masking import mask_event  # 10 ms that readers need not pay

        opening = mask_event("open", {k: v for k, v in opening.items() if v is not None})
        opening |= {"durability": durability}
        fallback = fallback or state_folder()
        if fallback is not None:
            opening |= {"fallback": os.path.abspath(fallback)}
        begun.journal = Journal(
            path,
            opening,
            durability=durability,
            sync_interval_s=sync_interval_s,
            fallback=None if fallback is None else Path(os.path.abspath(fallback)),
            disk=disk,
            begun=begun.know_journal,
        )
        return Session(
            begun.journal,
            run_name=opening["run_name"],
            save_interval=save_interval,
            disk=disk,
            begun=begun.know_session,
        )
    except BaseException as error:  # nobody has the session: nobody else would let go of the files
        begun.close(error)
        if journal is None:
            _remove_if_empty(path, disk)
        raise


class _Begun:
    """What `open_run` has opened so far, to be closed if an exception comes."""

    journal: Journal | None = None
    session: "Session | None" = None

    def know_journal(self, journal: Journal) -> None:
        self.journal = journal

    def know_session(self, session: "Session") -> None:
        self.session = session

    def close(self, error: BaseException) -> None:
        reason = described(error)
        if self.session is not None:
            self.session.close("failed", reason)
        elif self.journal is not None:
            self.journal.close({"status": "failed", "reason": reason})


def _remove_if_empty(journal: Path, disk: Disk) -> None:
    """A name that was claimed, and that no event was written under, is free again."""
    with contextlib.suppress(OSError):
        if journal.stat().st_size == 0:
            disk.unlink(journal)


def _check_interval(sync_interval_s: Any) -> None:
    """Raises ValueError for what no thread can wait for."""
    try:
        is_text = issubclass(type(sync_interval_s), str | bytes | bytearray)
        if not is_text and 0 < float(sync_interval_s) <= threading.TIMEOUT_MAX:
            return
    except Exception as error:  # somebody else's class, or no number
        if is_interruption(error):
            raise
    raise ValueError(
        f"sync_interval_s={shown(sync_interval_s)}: a number of seconds is wanted, above 0 and "
        f"up to {threading.TIMEOUT_MAX:.0f}"
    )


class Session:
    """A run being logged. Made by `open_run`; a context manager that closes it."""

    def __init__(
        self,
        journal: Journal,
        *,
        run_name: str,
        save_interval: int,
        disk: Disk = DISK,
        begun: "Callable[[Session], None] | None" = None,
    ) -> None:
        self.run_name = run_name
        self._errors = 0
        self._has_said = False
        self._journal = journal
        self._annotator: Annotator | None = None
        journal.note_ignored = self._note_ignored
        self._disk = disk
        self._compactor: Compactor | None = None
        if begun is not None:
            begun(self)
        self._compactor = Compactor(journal.path, save_interval) if save_interval > 0 else None
        atexit.register(self._close_at_exit)
        at_end_of_child(self._close_at_end_of_child)

    @property
    def journal_path(self) -> Path:
        """The journal, absolute: where it is now, if its folder was moved."""
        return self._journal.path

    @property
    def run_path(self) -> Path:
        """The run JSON, beside the journal."""
        return run_path(self._journal.path)

    @property
    def errors(self) -> int:
        """Events that were not logged as they were given, `lost` among them."""
        child = self._journal.child
        ours = self._errors + self._journal.errors
        return ours + self._journal.lost + (child.events if child is not None else 0)

    @property
    def lost(self) -> int:
        """Events that were logged, and that no disk has taken by the end."""
        return self._journal.lost

    @property
    def is_forked(self) -> bool:
        """Whether this is a forked child of the process that writes: what it logs is ignored."""
        return self._journal.child is not None

    @property
    def id(self) -> str:
        """The session's name in the journal (`s`)."""
        return self._journal.s

    @property
    def records(self) -> int:
        """Records this session has appended: accepted, they survive this process."""
        return self._journal.n

    @property
    def durable_records(self) -> int:
        """Records of this session known to survive power loss."""
        return self._journal.durable_n

    def log_iter(
        self, iter: int, loss: Any, time_ms: Any = None, mfu: Any = MFU_UNKNOWN, **more: Any
    ) -> None:
        """One optimizer step: mean loss, duration in ms without eval and save, MFU in percent."""
        if ANNOTATES in more:
            more = _renamed(more)
        fields = {"iter": iter, "loss": loss, "time_ms": time_ms, "mfu": mfu, **more}
        if not (type(loss) is type(time_ms) is type(mfu) is float):
            fields |= {"loss": _real(loss), "time_ms": _real(time_ms), "mfu": _real(mfu)}
        self._log("iter", fields)

    def log_eval(
        self, iter: int, train_loss: Any, val_loss: Any, lr: Any = None, **more: Any
    ) -> None:
        """An evaluation before step `iter`; durable at once."""
        losses = {"train_loss": _real(train_loss), "val_loss": _real(val_loss)}
        self.log("eval", iter=iter, **losses, lr=_real(lr), **more)

    def log_checkpoint(self, iter: int, path: PathLike, val_loss: Any = None, **more: Any) -> None:
        """A checkpoint that is complete and durable at `path`; call it after that, not before."""
        try:
            name = os.fspath(path)
        except Exception as error:  # a training loop does not die of its log
            if is_interruption(error):
                raise
            name = text_of(path)
        self._log("checkpoint", _renamed(more) | {"iter": iter, "val_loss": val_loss, "path": name})

    def log(self, event: str, /, **fields: Any) -> None:
        """Any event, by its kind; see FORMAT.md for those that readers know."""
        self._log(event, _renamed(fields) if ANNOTATES in fields else fields)

    def _log(self, event: str, fields: dict[str, Any]) -> None:
        try:
            self._journal.append(event, fields, urgent=event in DURABLE_AT_ONCE)
        except Exception as error:  # a training loop does not die of its log
            if is_interruption(error):
                raise
            if type(event) is not str:  # whatever its class does, its text is a kind
                self._log(text_of(event), fields)
                return
            if came_from_elsewhere(error):
                raise
            self._count_error(event, error)

    def sync(self, timeout_s: float = 30.0) -> bool:
        """Wait until everything logged so far survives power loss; False if it does not yet."""
        return self._journal.sync(timeout_s)

    def close(self, status: str = "completed", reason: str | None = None, **more: Any) -> None:
        """End the run (`completed`, `interrupted` or `failed`), fold it, release the journal.

        On return the run JSON is written. A second call does nothing.
        """
        try:
            self._journal.close({"status": status, "reason": reason} | more)
        except Exception as error:
            if is_interruption(error):
                raise
            self._count_error("close", error)
        atexit.unregister(self._close_at_exit)
        compactor, self._compactor = self._compactor, None
        if compactor is None:
            return
        try:
            compactor.finish(self.journal_path)
        except Exception as error:
            if is_interruption(error):
                raise
            self._errors += 1
            say(
                f"{self.run_path}: could not be written ({error}); the journal is closed, "
                f"and this makes the run JSON of it: eventlog compact {self._journal.path_to_read}"
            )

    def __enter__(self) -> "Session":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None or (isinstance(error, SystemExit) and not error.code):
            self.close()
        elif isinstance(error, KeyboardInterrupt):
            self.close("interrupted", "KeyboardInterrupt")
        else:
            words = described(error)
            self.log("error", error=words)
            self.close("failed", words)

    def _note_ignored(self, number: int) -> None:
        """In a forked child whose parent is gone: beside the journal, what it ignores."""
        try:
            if self._annotator is None:
                self._annotator = Annotator(self.journal_path)
                say(
                    f"{self.journal_path}: this process is a fork of the writer, which is gone; "
                    f"what it logs is ignored and counted (one writer per journal)"
                )
            self._annotator.log("ignored", events=number, why=WHY)
        except Exception as error:
            if is_interruption(error):
                raise
            say(f"{self.journal_path}: {number} events of a forked child were ignored ({error})")

    def _close_at_exit(self) -> None:
        self.close("interrupted", "the process ended without closing the run")

    def _close_at_end_of_child(self) -> None:
        self.__exit__(None, sys.exc_info()[1], None)

    def _count_error(self, event: str, error: Exception) -> None:
        self._errors += 1
        if not self._has_said:  # once: a thread that logs on after the end would fill the disk
            self._has_said = True
            say(f"{self.journal_path}: a {event!r} event was not logged: {described(error)}")


def described(error: BaseException) -> str:
    """The kind and the words of an error, whatever its class does when it is asked for them."""
    return f"{type(error).__name__}: {text_of(error)}"


def at_end_of_child(close: Callable[[], None]) -> None:
    """Have `close` called at the end of a child of `multiprocessing`, which skips `atexit`."""
    util, process = map(sys.modules.get, ("multiprocessing.util", "multiprocessing.process"))
    if util is not None and process is not None and process.parent_process() is not None:
        util.Finalize(None, close, exitpriority=0)


def as_dict(config: Any) -> dict[str, Any]:
    """A mapping, a namespace or a dataclass as a dict by text.

    A value that cannot be read (`???` in an OmegaConf config) is a note of the error.
    """
    if config is None:
        return {}
    found: dict[str, Any] = {}
    try:
        if not is_a(config, Mapping):
            config = vars(config) if hasattr(config, "__dict__") else {"config": config}
        names = list(config)
    except Exception as error:  # somebody else's class
        if is_interruption(error):
            raise
        return {"config": f"<{type(config).__name__}: {described(error)}>"}
    tried: dict[str, int] = {}
    for key in names:
        name = unique(text_of(key), tried, found)
        try:
            found[name] = config[key]
        except Exception as error:
            if is_interruption(error):
                raise
            found[name] = f"<{described(error)}>"
    return found


def _real(value: Any) -> Any:
    """A whole number as a float: readers that guess a column's type from its first lines
    (polars) refuse the first 0.5 after a 0."""
    return float(value) if type(value) is int and abs(value) < 1 << 53 else value


def _renamed(fields: dict[str, Any]) -> dict[str, Any]:
    """Without a name by which readers would take the event for one about the run, not of it."""
    if ANNOTATES not in fields:
        return fields
    name = unique(ANNOTATES, {}, (ANNOTATES,), fields)
    return {name if k == ANNOTATES else k: v for k, v in fields.items()}


def _shortened(name: str) -> str:
    """The beginning of a name, as far as a file may bear it."""
    return name.encode("utf-8", "backslashreplace")[:NAME_MAX_BYTES].decode("utf-8", "ignore")


def _new_journal(out_dir: Path, name: str, disk: Disk) -> Path:
    """Claim a journal name that neither a journal nor a run JSON bears."""
    stem = f"{name}_{datetime.now():%Y%m%d_%H%M%S}"
    for attempt in range(1, 10_000):
        path = out_dir / f"{stem}{f'_{attempt}' if attempt > 1 else ''}{JOURNAL_SUFFIX}"
        if run_path(path).exists():
            continue
        with contextlib.suppress(FileExistsError):
            fd = disk.open_append(path, exclusive=True)
            try:
                disk.close(fd)
            except BaseException:
                _remove_if_empty(path, disk)
                raise
            return path
    raise EventlogError(f"{out_dir}: {stem} and 9,999 names like it are taken")


def _identity_of(path: Path) -> dict[str, Any]:
    """Run id and name, from any `open` event of an existing journal."""
    if not path.exists():
        raise FileNotFoundError(
            f"{path}: no such journal to continue; leave `journal` out to start a new one"
        )
    opened = last_open(path) or next((r for r in scan(path) if r.event == "open"), None)
    told = opened.fields if opened else {}
    return {
        "run_id": told.get("run_id") or secrets.token_hex(16),
        "run_name": told.get("run_name") or path.stem,
    }


def _told_from_outside() -> dict[str, Any]:
    """Metadata of whoever started this program, such as the sweep that the run is part of."""
    words = os.environ.get(METADATA_VARIABLE)
    if not words:
        return {}
    try:
        told = orjson.loads(words)
    except orjson.JSONDecodeError as error:
        say(f"{METADATA_VARIABLE}: no JSON ({error}): left out")
        return {}
    return told if isinstance(told, dict) else {"told": told}


def state_folder() -> Path | None:
    """Where a program keeps what must outlive it and is nobody's business (XDG)."""
    with contextlib.suppress(RuntimeError):  # a user id without a home, as containers have
        state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
        return Path(state) / "eventlog"
    return None
