"""A run that is logged under names of the program's own: what `init` returns.

What is logged is in the journal when the call returns, and nothing here raises into the
training loop: what cannot be logged is counted in `errors` and reported once on stderr.
"""

import atexit
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from eventlog.fold.document import Run
from eventlog.fold.load import PathLike
from eventlog.format.record import text_of
from eventlog.interruption import came_from_elsewhere, is_interruption
from eventlog.tracker import exit_code
from eventlog.tracker.beginning import Beginning
from eventlog.tracker.definition import Metric, metric
from eventlog.tracker.ending import Ending, at_end, note_begin
from eventlog.tracker.exit_code import status_of
from eventlog.tracker.handling import handled_now
from eventlog.tracker.journaled_dict import JournaledDict
from eventlog.tracker.last_error import last_error, reported_error, watch_cells
from eventlog.tracker.latest_row import LatestRow
from eventlog.tracker.received import key_of
from eventlog.tracker.session import (
    Session,
    at_end_of_child,
    ending_after,
    error_at_end_of_child,
    error_at_exit,
    error_now,
)
from eventlog.tracker.values import STEP_MAX, as_step, as_tags, flat, is_true, known_of, plain
from eventlog.tracker.wandb_run import WandbRun
from eventlog.write.fork import free_after_fork
from eventlog.write.messages import error_text, say, say_once

_WITHOUT_EFFECT = frozenset(("sync",))  # W&B's scripts pass it to `log`


class ActiveRun(WandbRun):
    """A run being logged, made by `init`. A context manager that finishes it.

    `step` is the one at which the next `log` without a step logs: in a resumed run, the one after
    its last. `errors` counts what was not logged, or not as it was passed.
    """

    def __init__(
        self,
        session: Session | None,
        *,
        id: str,
        name: str | None,
        config: Mapping[str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
        past: Run | None = None,
        summary: Mapping[str, Any] | None = None,
        step: int = 0,
        resumed: bool = False,
        start_time: float | None = None,
        is_disabled: bool | None = None,
    ) -> None:
        past = past or Run()
        self.session = session
        """The session below it, for `log_eval`, `sync` and others; None: nothing is logged."""
        self.id = id
        self.step = self.starting_step = step
        self.resumed = resumed
        self.disabled = session is None if is_disabled is None else is_disabled
        self.metadata = dict(metadata or {})
        self.start_time = time.time() if start_time is None else start_time
        self.config = JournaledDict(dict(config or {}), self._log_config)
        self._summary = dict(summary or {})
        self.summary = JournaledDict(self._summary, self._log_summary)
        self._definitions: dict[str, dict[str, Any]] = {}
        self._errors = 0
        self._latest = LatestRow()
        self._name = name or (session.run_name if session else "")
        self._tags: list[str] = past.journal.get("tags") or []
        self._notes: list[str] = [str(n.get("text")) for n in past.journal.get("notes") or []]
        self._lock = free_after_fork(threading.RLock())
        self.awaits: str | None = None
        """What is still to come, such as the end of a `fit`: a run that ends before is not
        completed, but interrupted."""
        self.is_finished = False
        self._status = ""
        self._earlier_error = key_of(last_error())  # of an earlier cell
        self._reported_error = key_of(reported_error())  # also of a %run in this one
        self._cell_ending: tuple[str, str | None] = ("completed", None)
        self._n_records = -1  # at the end of the cell before this one
        self._handled_before = handled_now()
        self._beginning = Beginning()
        if session is not None:
            note_begin()
            exit_code.watch()
            watch_cells(self)
            atexit.register(self._finish_unfinished)
            at_end_of_child(self._finish_at_end_of_child)

    # ---- properties

    @property
    def name(self) -> str:
        return self._name

    @name.setter
    def name(self, name: str) -> None:
        self._name = text_of(name)
        say_once("run.name: the files keep the name that was passed to init")

    @property
    def journal_path(self) -> Path | None:
        return self.session.journal_path if self.session else None

    @property
    def run_path(self) -> Path | None:
        return self.session.run_path if self.session else None

    @property
    def config_static(self) -> dict[str, Any]:
        """A copy of the config: what is set in it is not logged."""
        return self.config.as_dict()

    @property
    def records(self) -> int:
        """Records this session has appended: accepted, they survive this process."""
        return self.session.records if self.session else 0

    @property
    def durable_records(self) -> int:
        """Records of this session known to survive power loss."""
        return self.session.durable_records if self.session else 0

    @property
    def lost(self) -> int:
        """Events that were logged and that no disk took before the end."""
        return self.session.lost if self.session else 0

    @property
    def errors(self) -> int:
        return self._errors + (self.session.errors if self.session else 0)

    @property
    def notes(self) -> str:
        return "\n".join(self._notes)

    @notes.setter
    def notes(self, text: str) -> None:
        self._quietly("notes", lambda: self._add_note(text))

    @property
    def tags(self) -> tuple[str, ...]:
        return tuple(self._tags)

    @tags.setter
    def tags(self, tags: Iterable[str]) -> None:
        self._quietly("tags", lambda: self._set_tags(as_tags(tags)))

    # ---- logging

    def log(
        self,
        data: Mapping[str, Any],
        step: int | None = None,
        commit: bool | None = None,
        **unknown: Any,
    ) -> None:
        """Log numbers and texts of a step under any names; nested dicts become dotted names.

        All that is logged at a step is one row. Without `step` the run's own is used, which then
        increases by one, unless `commit` is False.
        """
        try:
            if unknown:
                self._say_unknown(unknown)
            known = known_of(data)
            values: Any = flat(data) if known == "any" else data
            if step is not None and not (type(step) is int and -STEP_MAX <= step < STEP_MAX - 1):
                step = self._step(step)
            is_committed = step is None if commit is None else is_true(commit)
            summary = plain(values) if known == "any" else values
            with self._lock:  # no code of the values runs while it is held
                at = self.step if step is None else step
                next_step = at + 1 if is_committed else at
                if next_step > self.step:
                    self.step = next_step
                self._summary |= summary
                replaces = self._latest.replaces(at, summary)
            if replaces and not (self.session and self.session.is_in_child):
                self._say_that_values_are_replaced(at)
            if self.session is not None:
                self.session.log_fields("metrics", {"step": at, **values}, known)
            elif not self.disabled:
                self._errors += 1  # no disk took the run
        except Exception as error:  # a training loop does not die of its log
            self._failed("log", error)

    def _say_that_values_are_replaced(self, step: int) -> None:
        say(
            f"{self.journal_path}: step {step} was logged again, or after a later one. A value "
            f"replaces the one that its name has at that step; what was replaced stays in the "
            f"journal and is counted as superseded"
        )

    def _say_unknown(self, names: Iterable[str]) -> None:
        """A misspelled `step` would be another step."""
        for name in sorted(set(names) - _WITHOUT_EFFECT):
            self._errors += 1
            say_once(f"log: {name}: unknown argument, ignored; there are data, step and commit")

    def _step(self, step: Any) -> int | None:
        """A step that was passed; None, counted as an error, if it is none."""
        number = as_step(step)
        if number is None:
            self._errors += 1
            say_once("log: step: must be a whole number of 64 bits; the run's own step is used")
        return number

    def define_metric(
        self,
        name: str,
        step_metric: Any = None,
        step_sync: bool | None = None,
        hidden: bool | None = None,
        summary: str | Sequence[str] | None = None,
        goal: str | None = None,
        overwrite: bool | None = None,
        unit: str | None = None,
        description: str | None = None,
        **unknown: Any,
    ) -> Metric:
        """State how a metric, or all whose name matches a glob (`val/*`), is to be read.

        Args:
            step_metric: the metric that is its axis, in place of the step.
            step_sync: whether a row without `step_metric` gets its last value.
            hidden: whether plots leave it out unless it is named.
            summary: some of `min`, `max`, `mean`, `best`, `last`, `first`, `copy`, `none`.
            goal: `minimize` or `maximize`: whether lower or higher is better.
            overwrite: whether what was defined before no longer counts.
        """
        defined = metric(
            name, step_metric, step_sync=step_sync, hidden=hidden, summary=summary, goal=goal,
            overwrite=overwrite, unit=unit, description=description,
        )  # fmt: skip
        self._quietly("define_metric", lambda: self._define(defined))
        return defined

    def _define(self, defined: Metric) -> None:
        fields = defined.fields()
        if self._definitions.get(defined.name) != fields:
            self._definitions[defined.name] = fields
            if self.session is not None:
                self.session.log("define", **fields)

    def write_logs(self, text: Any) -> None:
        """Log text as a line of the program's own log."""
        if self.session is not None:
            self.session.log("log", text=text_of(text))

    def log_checkpoint(self, step: int, path: PathLike, val_loss: Any = None, **more: Any) -> None:
        """Log a checkpoint that is complete at `path`, of the model after `step`."""
        session = self.session
        if session is not None:
            rest = {k: v for k, v in more.items() if k not in ("iter", "path", "val_loss")}
            self._quietly(
                "checkpoint", lambda: session.log_checkpoint(step, path, val_loss, **rest)
            )

    def rewind(self, step: int) -> None:
        """Go back to `step`: what was logged at it and at later ones is superseded."""
        first = self._step(step)
        if first is not None:
            self.step = first
            if self.session is not None:
                self.session.log("rewind", to_iter=first)

    def alert(self, title: Any = "", text: Any = "", **more: Any) -> None:
        """Log a note with both texts."""
        note = ": ".join(filter(None, (text_of(title), text_of(text))))
        self._quietly("alert", lambda: self._add_note(note))

    def sync(self, timeout_s: float = 30.0) -> bool:
        """Wait until everything logged so far survives power loss; False if it does not yet."""
        try:
            return self.session is not None and self.session.sync(timeout_s)
        except (TypeError, ValueError) as error:  # of a timeout that is no number
            self._failed("sync", error)
            return False

    def finish(self, exit_code: int | None = None, quiet: bool | None = None) -> None:
        """End the run and write its JSON: completed if `exit_code` is 0, interrupted if it is that
        of SIGINT or SIGTERM (130, 143), else failed.

        Without an exit code it ends as the exception says that goes on after the block in which
        this is called, such as a `finally`; or as the program does, if it is ending. A completed
        run is failed after all if the program then ends by the exception that was being handled,
        or with an exit code that can be of no other run (`tracker/ending.py`).
        """
        if self.is_finished:
            return
        if exit_code is None:
            ending = Ending(self._handled_before)
            self._finish_after(error_now(self._handled_before, self._earlier_error))
            session = self.session
            if self._status == "completed" and session is not None and not session.is_in_child:
                at_end(lambda: self._correct(ending))
            return
        code = status_of(exit_code)
        self._finish(*ending_after(SystemExit(code), None))

    def _finish(self, status: str, reason: str | None = None) -> None:
        if self.is_finished:
            return
        self.is_finished = True
        if self.session is not None:
            try:
                self.session.close(status, reason)
                self._status = status
            except BaseException:  # a signal handler's: the next call tries again
                self.is_finished = False
                raise
            atexit.unregister(self._finish_unfinished)

    def __enter__(self) -> "ActiveRun":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if isinstance(error, GeneratorExit):  # its consumer may have raised
            self.finish()
        else:
            self._finish_after(error)

    def _finish_unfinished(self) -> None:
        """End the run as the program ends, or as the last cell of a notebook has ended, or else as
        the last one that logged into the run."""
        error = error_at_exit(self._earlier_error)
        status, reason = self._cell_ending
        if error is not None or status == "completed":
            self._finish_left(error)
            return
        if status == "failed" and self.session is not None:
            self.session.log("error", error=reason)
        self._finish(status, reason)

    def note_cell(self, error: BaseException | None) -> None:
        """A cell of a notebook has ended. An error in one that does not log is none of the run's:
        it may be a misspelled name."""
        if self.session is not None and self.session.records > self._n_records:
            self._n_records = self.session.records
            is_earlier = error is not None and key_of(error) == self._reported_error
            self._cell_ending = ending_after(None if is_earlier else error, None)

    def _finish_at_end_of_child(self) -> None:
        self._finish_left(error_at_end_of_child(self._handled_before))

    def _finish_left(self, error: BaseException | None) -> None:
        """End a run that the program has left unfinished."""
        is_exit = isinstance(error, SystemExit) or exit_code.has_exited()
        if self.awaits is None and not is_exit and self._beginning.was_left():
            self.awaits = "finish(), by an exception"
        self._finish_after(error)

    def _finish_after(self, error: BaseException | None) -> None:
        status, reason = ending_after(error, self.session)
        if status == "completed" and self.awaits is not None:
            status, reason = "interrupted", f"ended before {text_of(self.awaits)}"
        self._finish(status, reason)

    def _correct(self, ending: Ending) -> None:
        """Have a completed run end as the program does, if that is how it ended."""
        error = ending.failure(self._earlier_error)
        if error is not None and self.session is not None:
            self.session.correct(*ending_after(error, None))

    def annotate(self, tags: Any, notes: Any) -> None:
        """Add tags and notes, of any type."""
        self._quietly("tags", lambda: self._add_tags(as_tags(tags)))
        self._quietly("notes", lambda: self._add_note(notes))

    def _set_tags(self, tags: Sequence[str]) -> None:
        removed = [tag for tag in self._tags if tag not in tags]
        self._tags = [tag for tag in self._tags if tag in tags]
        if removed and self.session:
            self.session.log("tag", remove=removed)
        self._add_tags(tags)

    def _add_tags(self, tags: Sequence[str]) -> None:
        new = [tag for tag in dict.fromkeys(tags) if tag not in self._tags]
        self._tags += new
        if new and self.session:
            self.session.log("tag", add=new)

    def _add_note(self, note: Any) -> None:
        text = "" if note is None else text_of(note)
        if text and text not in self._notes:
            self._notes.append(text)
            if self.session:
                self.session.log("note", text=text)

    def _log_config(self, values: dict[str, Any]) -> None:
        if self.session is not None:
            self.session.log("config", config=values)

    def _log_summary(self, values: dict[str, Any]) -> None:
        if self.session is not None:
            self.session.log("summary", summary=values)

    def _quietly(self, what: str, log: Callable[[], None]) -> None:
        try:
            log()
        except Exception as error:  # a training loop does not die of its log
            self._failed(what, error)

    def _failed(self, what: str, error: Exception) -> None:
        """Count an error of a log call; one that came from outside goes on."""
        if is_interruption(error) or self._has_passed(error):
            raise error
        self._errors += 1
        say_once(f"{what}: not logged: {error_text(error)}")

    def _has_passed(self, error: Exception) -> bool:
        """Whether `session.log` let an error pass that came from outside."""
        from traceback import walk_tb  # takes milliseconds

        frames = walk_tb(error.__traceback__)
        ours = (Session._log.__code__, Session.log_fields.__code__)
        is_logging = any(frame.f_code in ours for frame, _ in frames)
        return is_logging and came_from_elsewhere(error)

    def __repr__(self) -> str:
        where = "disabled" if self.session is None else str(self.session.journal_path)
        state = "finished" if self.is_finished else f"at step {self.step}"
        return f"<eventlog run {self.name!r}, id {self.id!r}, {state}: {where}>"
