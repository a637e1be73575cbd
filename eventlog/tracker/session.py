"""One writer's session of a run: a journal to append to, and the compactor beside it.

    with eventlog.open_run("out", config={"lr": 3e-4}) as run:
        for i in range(1000):
            run.log_iter(i, loss=step(), time_ms=12.5)

What is logged is on disk when the call returns. Nothing here raises into the loop that
logs: errors are printed on stderr, once, and counted in `errors`. What signal handlers
and other threads raise passes through.
"""

import atexit
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from eventlog.disk import DISK, Disk
from eventlog.fold.compaction import compact
from eventlog.fold.compactor import Compactor
from eventlog.fold.load import PathLike
from eventlog.format.events import DURABLE_AT_ONCE, MFU_UNKNOWN, OF_THE_WRITER
from eventlog.format.files import run_path
from eventlog.format.foreign import are_of
from eventlog.format.record import (
    ANNOTATES,
    MAX_LINE_BYTES,
    SCALARS,
    Values,
    encode_fields,
    text_of,
    unique,
)
from eventlog.interruption import came_from_elsewhere, ignoring, is_interruption
from eventlog.tracker import exit_code
from eventlog.tracker.annotation import Annotator
from eventlog.tracker.click_exit import as_exit
from eventlog.tracker.exit_code import INTERRUPTED, exit_status
from eventlog.tracker.handling import (
    Handled,
    cause_of_cancel,
    exception_that_goes_on,
    handled_now,
    is_of_ctrl_c,
)
from eventlog.tracker.last_error import last_error
from eventlog.tracker.received import Key, SignalReceived, key_of, signal_behind
from eventlog.tracker.torch_spawn import received_ctrl_c, watch_ctrl_c
from eventlog.tracker.values import as_step, masked, shown
from eventlog.write.correction import close_again
from eventlog.write.fork import WHY
from eventlog.write.journal import Journal
from eventlog.write.messages import error_text, say, say_once

REASON_MAX = 1_000
"""Characters of a reason in the `close` event."""
_CREDENTIAL_MAX = 64 << 10  # characters; a private key has thousands


class Session:
    """A run being logged. Made by `open_run`; a context manager that closes it."""

    def __init__(
        self,
        journal: Journal,
        *,
        run_name: str,
        save_interval: int,
        disk: Disk = DISK,
        on_created: "Callable[[Session], None] | None" = None,
    ) -> None:
        self.run_name = run_name
        self._errors = 0
        self._has_warned = False
        self._journal = journal
        self._annotator: Annotator | None = None
        journal.note_ignored = self._note_ignored
        self._disk = disk
        self._handled_before = handled_now()
        self._compactor: Compactor | None = None
        if on_created is not None:
            on_created(self)
        self._compactor = Compactor(journal.path, save_interval) if save_interval > 0 else None
        atexit.register(self._close_at_exit)
        at_end_of_child(self._close_at_end_of_child)

    @property
    def journal_path(self) -> Path:
        """The journal's absolute path, also after its folder was moved."""
        return self._journal.path

    @property
    def path_of_end(self) -> Path:
        """The journal, or the segment in which the session went on."""
        return self._journal.path_of_end

    @property
    def run_path(self) -> Path:
        """The run JSON, beside the journal."""
        return run_path(self._journal.path)

    @property
    def errors(self) -> int:
        """Events that were not logged, or not as they were passed, `lost` included."""
        child = self._journal.child
        n_ignored = child.n_events if child is not None else 0
        return self._errors + self._journal.errors + self._journal.lost + n_ignored

    @property
    def lost(self) -> int:
        """Events that were logged and that no disk took before the end."""
        return self._journal.lost

    @property
    def is_in_child(self) -> bool:
        """Whether this process is a forked child, whose events are ignored."""
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
        values: Values = "any"
        if type(iter) is not int:
            step = self._step("iter", iter, fields)
            if step is None:
                return
            fields["iter"] = step
        if type(loss) is type(time_ms) is type(mfu) is float:
            values = "numbers"
            for value in more.values():
                if type(value) is not float:
                    values = "plain" if are_of(SCALARS, more.values()) else "any"
                    break
        else:
            fields |= {"loss": _real(loss), "time_ms": _real(time_ms), "mfu": _real(mfu)}
        try:  # as `_log`, without a call
            self._journal.append("iter", fields, values=values)
        except Exception as error:
            self._failed("iter", fields, error)

    def log_eval(
        self, iter: int, train_loss: Any, val_loss: Any, lr: Any = None, **more: Any
    ) -> None:
        """An evaluation before step `iter`; durable at once."""
        losses = {"train_loss": _real(train_loss), "val_loss": _real(val_loss)}
        fields = _renamed({"iter": iter, **losses, "lr": _real(lr), **more})
        step = self._step("eval", iter, fields)
        if step is not None:
            self._log("eval", fields | {"iter": step})

    def log_checkpoint(self, iter: int, path: PathLike, val_loss: Any = None, **more: Any) -> None:
        """A checkpoint at `path`; call it when the file is complete and durable, not before."""
        name: Any = None
        with ignoring(Exception):  # a training loop does not die of its log
            name = os.fspath(path)
        name = text_of(path) if name is None else name
        fields = _renamed(more) | {"iter": iter, "val_loss": val_loss, "path": name}
        step = self._step("checkpoint", iter, fields)
        if step is not None:
            self._log("checkpoint", fields | {"iter": step})

    def log(self, event: str, /, **fields: Any) -> None:
        """An event of any kind; FORMAT.md lists those that readers know.

        What the journal logs about itself, such as `open`, gets an underscore at its end.
        """
        self._log(event, _renamed(fields) if ANNOTATES in fields else fields)

    def log_fields(self, event: str, fields: dict[str, Any], values: Values) -> None:
        """As `log`, of names that are not reserved. `values`: as for `Journal.append`."""
        try:  # as `_log`, without a call
            self._journal.append(event, fields, values=values)
        except Exception as error:
            self._failed(event, fields, error)

    def _log(self, event: str, fields: dict[str, Any]) -> None:
        try:
            event = event if type(event) is str else text_of(event)
            if event in OF_THE_WRITER:
                say_once(f"log: {event!r} is an event of the journal itself; logged as {event}_")
                event = f"{event}_"
            self._journal.append(event, fields, urgent=event in DURABLE_AT_ONCE)
        except Exception as error:
            self._failed(event, fields, error)

    def _step(self, event: str, step: Any, fields: dict[str, Any]) -> int | None:
        """A step as a whole number; None: it is none, and its values are in a `log` event."""
        if type(step) is int:
            return step
        number = as_step(step)
        if number is None:
            self._errors += 1
            text = f"{event}: iter={shown(step)}: must be a whole number"
            say_once(f"{self.journal_path}: {text}; the values are in a `log` event")
            self._log("log", {"level": "ERROR", "logger": "eventlog", "text": text} | fields)
        return number

    def _failed(self, event: str, fields: dict[str, Any], error: Exception) -> None:
        """A training loop does not die of its log; an error that came from outside goes on."""
        if is_interruption(error) or came_from_elsewhere(error):
            raise error
        self._count_error(event, error)

    def sync(self, timeout_s: float = 30.0) -> bool:
        """Wait until everything logged so far survives power loss; False if it does not yet."""
        return self._journal.sync(timeout_s)

    def close(self, status: str | None = None, reason: str | None = None, **more: Any) -> None:
        """End the run (`completed`, `interrupted` or `failed`) and release the journal.

        Without a status it is completed, or ends as the exception says that goes on after the
        block in which this is called, such as a `finally`. The run JSON is written on return. A
        second call does nothing.
        """
        if status is None:
            status, its_reason = ending_after(error_now(self._handled_before), self)
            reason = its_reason if reason is None else reason
        ending = {"status": status, "reason": _brief(reason)}
        try:
            if more and len(encode_fields(more)) > MAX_LINE_BYTES // 2:
                self._count_error("close", ValueError(f"{', '.join(more)}: too large"))
                more = {}
            self._journal.close(ending | more)
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
            say(
                f"{self.run_path}: could not be written ({error}). The journal is closed; to write "
                f"the run JSON, run: eventlog compact {self._journal.path_to_read}"
            )

    def correct(self, status: str, reason: str | None) -> None:
        """End a run that is closed otherwise than its `close` has it, if nothing came since."""
        try:
            fields = {"status": status, "reason": _brief(reason)}
            if close_again(self.path_of_end, self.id, fields) and self.run_path.exists():
                compact(self.journal_path)
        except Exception as error:
            if is_interruption(error):
                raise
            say(f"{self.journal_path}: the run is {status} ({reason}), not noted: {error}")

    def __enter__(self) -> "Session":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close(*ending_after(error, self))

    def _note_ignored(self, number: int) -> None:
        """Annotate, in a forked child whose parent is gone, how many events it ignored."""
        try:
            if self._annotator is None:
                self._annotator = Annotator(self.journal_path)
                say(
                    f"{self.journal_path}: this process is a fork of the writer, which is gone; "
                    f"what it logs is ignored and counted (one writer per journal): log from the "
                    f"main process"
                )
            self._annotator.log("ignored", events=number, why=WHY)
        except Exception as error:
            if is_interruption(error):
                raise
            say(f"{self.journal_path}: {number} events of a forked child were ignored ({error})")

    def _close_at_exit(self) -> None:
        reason = "the process ended without closing the run"
        if isinstance(last_error(), KeyboardInterrupt):  # a second Ctrl-C, during `close`
            reason = "KeyboardInterrupt"
        self.close("interrupted", reason)

    def _close_at_end_of_child(self) -> None:
        self.__exit__(None, error_at_end_of_child(self._handled_before), None)

    def _count_error(self, event: str, error: Exception) -> None:
        self._errors += 1
        if not self._has_warned:  # once: a thread may log on after the end
            self._has_warned = True
            say(f"{self.journal_path}: a {event!r} event was not logged: {error_text(error)}")


def _brief(reason: Any) -> str | None:
    """The beginning of a long reason: `close` is one line, for which space may be reserved on a
    full disk. An exception's whole text is in an `error` event.

    Credentials are masked before it is cut: what is left of one would not be recognized."""
    text = None if reason is None else text_of(reason)
    if text is None or len(text) <= REASON_MAX:
        return text
    begin = masked(text[: REASON_MAX + _CREDENTIAL_MAX])
    return f"{begin[:REASON_MAX]}... ({len(text):,} characters)"


def ending_after(error: BaseException | None, session: Session | None) -> tuple[str, str | None]:
    """Status and reason of a run that `error` ends, which is logged unless it is an exit."""
    error = as_exit(cause_of_cancel(error))
    if isinstance(error, SystemExit):
        error = exit_code.interruption_behind(error, error.code) or error
    elif error is not None:
        error = signal_behind(error, error_text(error)) or error
    if isinstance(error, SignalReceived):
        if session is not None:
            session.log("signal", signal=error.name)
        return "interrupted", error.reason
    if is_of_ctrl_c(error):
        return "interrupted", "KeyboardInterrupt"
    if isinstance(error, SystemExit) and isinstance(error.code, int):
        status = "interrupted" if error.code in INTERRUPTED else "failed"
        if exit_status(error.code):
            return status, f"exit code {text_of(error.code)}"
        error = None
    if isinstance(error, GeneratorExit) or (isinstance(error, SystemExit) and error.code is None):
        error = None
    if error is None:
        return "completed", None
    reason = error_text(error)
    if session is not None and not isinstance(error, SystemExit):
        session.log("error", error=reason)
    return "failed", reason


def error_now(handled_before: Handled, earlier: Key | None = None) -> BaseException | None:
    """The exception with which a run ends now; as the program exits, that with which it does.

    `handled_before` and `earlier`: what was being handled, and the key of the one that was the
    last, when the run began.
    """
    main = threading.main_thread()  # it has ended when `atexit` calls this; threads may go on then
    is_exiting = threading.current_thread() is main and not main.is_alive()
    return error_at_exit(earlier) if is_exiting else exception_that_goes_on(handled_before)


def error_at_exit(earlier: Key | None = None) -> BaseException | None:
    """The exception that ends the program, or the last cell of a notebook. `earlier`: as above."""
    error = last_error()
    if error is not None and key_of(error) != earlier:
        return error
    return exit_code.error()


def error_at_end_of_child(handled_before: Handled) -> BaseException | None:
    """The exception that ends a child of `multiprocessing`. `handled_before`: as above."""
    error = exception_that_goes_on(handled_before)
    return KeyboardInterrupt() if error is None and received_ctrl_c() else error


def at_end_of_child(close: Callable[[], None]) -> None:
    """Have `close` called at the end of a child of `multiprocessing`, which skips `atexit`."""
    util, process = map(sys.modules.get, ("multiprocessing.util", "multiprocessing.process"))
    if util is not None and process is not None and process.parent_process() is not None:
        util.Finalize(None, close, exitpriority=0)
        watch_ctrl_c()


def _real(value: Any) -> Any:
    """A whole number as a float: polars takes a column's type from its first lines, and refuses
    the first 0.5 after a 0."""
    return float(value) if type(value) is int and abs(value) < 1 << 53 else value


def _renamed(fields: dict[str, Any]) -> dict[str, Any]:
    """Fields without the name that would make readers take the event for an annotation."""
    if ANNOTATES not in fields:
        return fields
    name = unique(ANNOTATES, {}, (ANNOTATES,), fields)
    return {name if k == ANNOTATES else k: v for k, v in fields.items()}
