"""The API of other trackers, on a journal: init, log, finish.

    run = eventlog.init(project="gpt", name="mine", config={"lr": 3e-4}, resume="allow")
    for step in range(run.step, 1000):
        run.log({"train/loss": loss, "lr": lr}, step=step)
    run.finish()

A script written for W&B is moved by `import eventlog as wandb`. Everything stays on this
disk; each call is a line in the journal when it returns, with the guarantees of `open_run`.
`init` may refuse to resume a run; after it nothing raises.
"""

import os
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from eventlog.errors import EventlogError, JournalLocked
from eventlog.fold.document import Run
from eventlog.fold.load import PathLike
from eventlog.format.record import text_of
from eventlog.format.times import seconds
from eventlog.interruption import is_interruption
from eventlog.read.ends import opening_event
from eventlog.tracker.arguments import Arguments, report_unsupported
from eventlog.tracker.compatibility import OF_THE_RUN, attribute
from eventlog.tracker.journaled_dict import JournaledDict
from eventlog.tracker.location import alone_in, state_folder
from eventlog.tracker.notices import notice
from eventlog.tracker.opening import open_run
from eventlog.tracker.resume import (
    Fork,
    Resume,
    at_step,
    copy_rows,
    find_journal,
    journal_to_resume,
    journals_of,
    last_summary,
    next_step,
    read_past,
)
from eventlog.tracker.run import ActiveRun
from eventlog.tracker.session import Session
from eventlog.tracker.values import as_durability, as_folder, as_interval
from eventlog.write.journal import Durability
from eventlog.write.messages import say, say_once

ONE_PROCESS = "of the processes of a training (its ranks) only one is to call init"

_current: ActiveRun | None = None
_current_of = 0
"""The process that made it the current one: a forked child has the run of its parent."""


def init(
    project: str | None = None,
    *,
    entity: str | None = None,
    name: str | None = None,
    config: Any = None,
    config_exclude_keys: Sequence[str] | None = None,
    config_include_keys: Sequence[str] | None = None,
    tags: Sequence[str] | None = None,
    group: str | None = None,
    job_type: str | None = None,
    notes: str | None = None,
    id: str | None = None,
    resume: Resume | bool | None = None,
    rewind_to: int | None = None,
    resume_from: str | None = None,
    fork_from: Fork | None = None,
    mode: str | None = None,
    dir: PathLike | None = None,
    fallback: PathLike | None = None,
    reinit: Any = None,
    durability: Durability = "interval",
    save_interval: int = 100,
    settings: Any = None,
    quiet: bool | None = None,
    **unsupported: Any,
) -> ActiveRun:
    """Begin or resume a run in `dir`; it is `eventlog.run` until it is finished.

    What is not passed is taken from `settings`, then from EVENTLOG_PROJECT, _ENTITY, _NAME, _TAGS
    (separated by commas), _GROUP, _JOB_TYPE, _NOTES, _RUN_ID, _RESUME, _MODE and _DIR, then from
    W&B's variables of these names (WANDB_RUN_GROUP; WANDB_DISABLED=true is mode `disabled`).

    Args:
        project, entity, group, job_type: part of the run's metadata.
        config: a mapping, a namespace, a dataclass or another object with fields, such as a
            config of OmegaConf or pydantic; or the path of a JSON or YAML file. What was set in
            `eventlog.config` before `init` is part of it.
        config_exclude_keys, config_include_keys: names in `config` to leave out or to keep alone.
        id: the run's identity, by which it is resumed; random by default.
        resume: `allow`: resume the run of this `id`, or else the latest of this `name`, if there
            is one; `must`: resume it or refuse; without `id` and `name` the latest in `dir`.
            `never`: refuse if there is a run of this `id`. `auto` or True: as `allow`, but without
            an `id` a run that completed is not resumed, and without a name the latest in `dir` is.
            A resumed run keeps its config, updated by `config`. While another process writes it,
            all but `must` begin a new run with another id, and say so.
        rewind_to: the step at which to resume: what was logged at it and at later ones is
            superseded (it stays in the journal). Implies `must`.
        resume_from: `ID?_step=N`, as in W&B: rewind_to N + 1.
        fork_from: `ID?_step=N`, `PATH?_step=N` or a pair: a new run that begins with a copy of
            that run's history up to and including step N; without a step, of all of it.
        mode: `disabled` logs nothing. Every other mode is `offline`.
        dir: the folder, `out` by default.
        fallback: a folder on another disk, for when that one fails, now or later; a run is also
            found there by its `id`. A resumed run goes on there, as the same run. If neither can
            be written the program goes on without a log, and `errors` counts what is not logged.
        reinit: what happens to a run that is not finished: by default it is finished;
            `create_new` leaves it and `eventlog.run` as they are, unless it is that of the
            process that forked this one; `return_previous` or False returns it.
        durability, save_interval: as in `open_run`.
        settings: a `Settings` or a dict with W&B's names (`run_id`, `run_name`, `mode`, ...).
        quiet: do not print on stderr where the run logs; EVENTLOG_SILENT=true does the same.

    Another argument of the wrong type is replaced by its text or its default, and one that only W&B
    knows does nothing; both are reported once on stderr.

    Raises:
        UsageError: `must` finds no run, or `never` finds one.
        EventlogError: the run that `must` be resumed is being written, or the one to fork does not
            exist.
        ValueError: an impossible `resume`, `rewind_to`, `resume_from` or `fork_from`.
    """
    arguments = Arguments(locals().copy(), settings)
    report_unsupported("", unsupported)
    previous, reinit = _active(), arguments.text("reinit")
    if previous is not None and reinit in ("False", "return_previous"):
        return previous
    if previous is not None and reinit != "create_new":
        previous._finish_unfinished()
    if arguments.is_disabled():
        return _disabled(arguments)
    return _begin(arguments)


@dataclass(frozen=True)
class _Wanted:
    """Which run `init` is to begin or to resume, and where."""

    folder: Path
    fallback: Path | None
    id: str | None
    name: str | None
    resume: Resume | None
    rewind_to: int | None

    @classmethod
    def by(cls, arguments: Arguments) -> "_Wanted":
        folder = as_folder("dir", arguments.value("dir"), "out")
        assert folder is not None
        id, name = arguments.text("id"), arguments.text("name")
        rewind_to, resume_from = arguments.passed["rewind_to"], arguments.passed["resume_from"]
        if resume_from is not None:
            id, last = at_step(resume_from)
            rewind_to = rewind_to if last is None else last + 1
        resume = arguments.resume(rewind_to)
        resume = resume if resume_from is None else "must"
        value = arguments.value("fallback")
        fallback = state_folder() if value is None else as_folder("fallback", value, None)
        return cls(folder, fallback, id, name, resume, rewind_to)


def _begin(arguments: Arguments) -> ActiveRun:
    """Begin or resume a run; a new one if another process writes the one to resume."""
    wanted = _Wanted.by(arguments)
    try:
        return _begin_wanted(arguments, wanted)
    except JournalLocked as error:  # all ranks of a training may call `init`, or two jobs overlap
        if wanted.resume == "must":
            raise
        say(f"{error}. A new run with another id begins; {ONE_PROCESS}")
        return _begin_wanted(arguments, replace(wanted, id=None, resume=None))


def _begin_wanted(arguments: Arguments, wanted: _Wanted) -> ActiveRun:
    """Find the run to resume or to fork, open a session, and make its run the current one."""
    folder, fallback, rewind_to = wanted.folder, wanted.fallback, wanted.rewind_to
    with ExitStack() as claim:
        journal, id = _journal_and_id(wanted)
        is_alone = journal is not None or id is None
        if not is_alone:  # of several processes one begins it
            is_alone = claim.enter_context(alone_in(folder))
            journal, id = _journal_and_id(wanted)
        past = read_past(journal, arguments.passed["fork_from"], folder, fallback)
        about = {
            "config": past.config | _before.get("config", {}) | arguments.config(),
            "metadata": past.metadata | arguments.metadata(),
        }
        settings: dict[str, Any] = {
            "durability": as_durability(arguments.passed["durability"]),
            "save_interval": as_interval(arguments.passed["save_interval"], 100),
        }
        settings |= about | {"run_name": wanted.name, "run_id": id}
        session = _open(folder, journal, rewind_to, fallback, **settings)
        try:
            claim.close()
            if not is_alone and len(journals_of(folder, id=id, fallback=fallback)) > 1:
                say(f"{folder}: several processes have begun run {id} at once; {ONE_PROCESS}")
            step = next_step(past) if rewind_to is None else rewind_to
            run = _run(session, journal, past, id=id, name=wanted.name, step=step, **about)
            run.annotate(arguments.value("tags"), arguments.text("notes"))
            run.summary.update(_before.get("summary", {}))
            if not arguments.is_quiet():
                _say_where(run, min(step, next_step(past)) - 1)
            return _made_current(run)
        except BaseException as error:  # the caller gets no run, so nobody else would end it
            _end(session, error)
            raise


def _run(
    session: Session | None, journal: Path | None, past: Run, *, id: str | None, **about: Any
) -> ActiveRun:
    """The run of a session; `journal`: the one that it resumes, `past`: what it begins with."""
    if journal is None and session is not None:
        copy_rows(past, session)
    opened = opening_event(session.journal_path) if session is not None else None
    return ActiveRun(
        session,
        id=str(opened.fields.get("run_id")) if opened else id or "",
        past=past,
        summary=last_summary(journal, past),
        resumed=journal is not None,
        start_time=seconds(opened.t) if opened else None,
        is_disabled=False,
        **about,
    )


def _disabled(arguments: Arguments) -> ActiveRun:
    """The run of mode `disabled`, which logs nothing."""
    return _made_current(
        ActiveRun(
            None,
            id=arguments.text("id") or "disabled",
            name=arguments.text("name") or "disabled",
            config=_before.get("config", {}) | arguments.config(),
            summary=_before.get("summary"),
            metadata=arguments.metadata(),
        )
    )


def _say_where(run: ActiveRun, last_step: int) -> None:
    if run.session is not None:
        path = run.session.path_of_end  # a segment, where the journal cannot be written
        last = f"; its last logged step is {last_step}" if run.resumed and last_step >= 0 else ""
        notice(f"logging to {path}{last}; follow with: tail -f {shlex.quote(str(path))}")


def _journal_and_id(wanted: _Wanted) -> tuple[Path | None, str | None]:
    """The journal to resume and the id of its run; or None and the id for a new run."""
    folder, fallback, id = wanted.folder, wanted.fallback, wanted.id
    journal = None
    try:
        journal = journal_to_resume(folder, id, wanted.name, wanted.resume, fallback)
    except OSError as error:
        if is_interruption(error):
            raise
        say(f"{folder}: cannot be read ({error}); a new run begins")
    if journal is None and id is not None and wanted.resume is None:
        known = find_journal(folder, id=id, fallback=fallback)
        if known is not None:
            of = known.parent
            say_once(f"{of}: has a run {id} already; a new one begins. resume='allow' resumes it")
            id = None
    return journal, id


def _open(
    folder: Path,
    journal: Path | None,
    from_iter: int | None,
    fallback: Path | None,
    **settings: Any,
) -> Session | None:
    """A session in `folder`, or else in `fallback`; None: neither can be written.

    One of an existing `journal` is never begun elsewhere: that would be a second run of its id.
    """
    try:
        return open_run(folder, journal=journal, from_iter=from_iter, fallback=fallback, **settings)
    except Exception as error:  # of any kind: the training goes on
        if is_interruption(error) or isinstance(error, EventlogError):
            raise
        refusal = text_of(error)
    if journal is not None:
        say(f"{journal}: cannot be written ({refusal}); nothing of this session is logged")
        return None
    if fallback is not None:
        try:
            session = open_run(fallback, **settings)
        except Exception as error:
            if is_interruption(error) or isinstance(error, EventlogError):
                raise
            refusal = f"{refusal}; {text_of(error)}"
        else:
            say(f"{folder}: cannot be written ({refusal}); the run is {session.journal_path}")
            return session
    say(f"{folder}: cannot be written ({refusal}); nothing of this run is logged")
    return None


def _end(session: Session | None, error: BaseException) -> None:
    """End a run that `init` has begun and does not return."""
    if session is None:
        return
    if _current is not None and _current.session is session:
        _current._finish_after(error)
    else:
        session.__exit__(type(error), error, error.__traceback__)


def log(data: Mapping[str, Any], step: int | None = None, commit: bool | None = None) -> None:
    """`run.log` of the run that `init` began last."""
    run = _active()
    if run is None:
        say_once("log: there is no run, nothing is logged; call eventlog.init() first")
    else:
        run.log(data, step, commit)


def finish(exit_code: int | None = None, quiet: bool | None = None) -> None:
    """`run.finish` of the run that `init` began last."""
    run = _active()
    if run is not None:
        run.finish(exit_code)


def module_attribute(name: str) -> Any:
    """`eventlog.run`, its `config`, `summary` and methods; other names of W&B.

    Raises:
        AttributeError: an unknown name.
    """
    run = _active()
    if name == "run":
        return run
    if name in ("config", "summary"):
        return getattr(run, name) if run is not None else _set_before(name)
    if name in OF_THE_RUN:
        return getattr(run, name) if run is not None else _without_run(name)
    own = {"join": finish, "teardown": finish, "wandb": sys.modules["eventlog"]}
    return own[name] if name in own else attribute(name)


def _without_run(name: str) -> Callable[..., Any]:
    """The method of a run, for when there is none: it returns what that of a disabled run does."""

    def method(*args: Any, **kwargs: Any) -> Any:
        say_once(f"{name}: there is no run, does nothing; call eventlog.init() first")
        return getattr(ActiveRun(None, id="", name=""), name)(*args, **kwargs)

    return method


_before: dict[str, dict[str, Any]] = {}
"""What was set in `eventlog.config` and `eventlog.summary` while there was no run."""


def _set_before(name: str) -> JournaledDict:
    """The `config` or `summary` of the next run.

    A program may hold it and set values later: an active run gets them.
    """
    values = _before.setdefault(name, {})

    def keep(new: dict[str, Any]) -> None:
        run = _active()
        if run is not None:
            getattr(run, name).update(new)
            values.clear()
        else:
            say_once(f"{name}: set before init(), is part of the next run")

    return JournaledDict(values, keep)


def _active() -> ActiveRun | None:
    return None if _current is None or _current.is_finished else _current


def _made_current(run: ActiveRun) -> ActiveRun:
    """Make a run `eventlog.run`, unless that one goes on in this process."""
    global _current, _current_of
    for values in _before.values():
        values.clear()  # not `_before` itself: a program may hold what `_set_before` returns
    if _active() is None or _current_of != os.getpid():
        _current, _current_of = run, os.getpid()
    return run
