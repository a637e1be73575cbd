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
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from eventlog.errors import EventlogError
from eventlog.fold.load import PathLike
from eventlog.format.foreign import is_a
from eventlog.format.record import text_of
from eventlog.interruption import is_interruption
from eventlog.tracker.compatibility import attribute
from eventlog.tracker.location import state_folder
from eventlog.tracker.opening import open_run
from eventlog.tracker.resume import (
    Fork,
    Resume,
    at_step,
    copy_rows,
    find_journal,
    journal_to_resume,
    next_step,
    opening_event,
    read_past,
)
from eventlog.tracker.run import ActiveRun
from eventlog.tracker.session import Session
from eventlog.tracker.values import as_dict, as_durability, as_folder, as_interval, as_text, shown
from eventlog.write.journal import Durability
from eventlog.write.messages import say, say_once

_current: ActiveRun | None = None


def init(
    project: str | None = None,
    *,
    name: str | None = None,
    config: Any = None,
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
    **unknown: Any,
) -> ActiveRun:
    """Begin or resume a run in `dir`; it is `eventlog.run` until it is finished.

    Defaults come from EVENTLOG_PROJECT, _NAME, _TAGS (separated by commas), _GROUP, _JOB_TYPE,
    _NOTES, _RUN_ID, _RESUME, _MODE and _DIR; all but the last three also from W&B's variables of
    that name. Arguments that only W&B knows are ignored and reported once on stderr.

    Args:
        project, group, job_type: part of the run's metadata.
        config: a mapping, a namespace, a dataclass or another object with fields, such as a
            config of OmegaConf or pydantic; or the path of a JSON or YAML file.
        id: the run's identity, by which it is resumed; random by default.
        resume: `allow`: resume the run of this `id`, or else the latest of this `name`, if there
            is one; `must`: resume it or refuse; without `id` and `name` the latest in `dir`.
            `never`: refuse if there is a run of this `id`. `auto` or True: resume the latest of
            this `name`, unless it completed. A resumed run keeps its config, updated by `config`.
        rewind_to: the step at which to resume: what was logged at it and at later ones is
            superseded (it stays in the journal). Implies `must`.
        resume_from: `ID?_step=N`, as in W&B: rewind_to N + 1.
        fork_from: `ID?_step=N`, `PATH?_step=N` or a pair: a new run that begins with a copy of
            that run's history up to and including step N; without a step, of all of it.
        mode: `disabled` logs nothing. Every other mode is `offline`.
        dir: the folder, `out` by default.
        fallback: a folder on another disk, for when that one fails, now or later. If neither can
            be written the program goes on without a log, and `errors` counts what is not logged.
        reinit: what happens to a run that is not finished: by default it is finished;
            `create_new` leaves it and `eventlog.run` as they are; `return_previous` or False
            returns it.
        durability, save_interval: as in `open_run`.

    Any other argument of the wrong type is replaced by its text or its default, which is reported
    once on stderr.

    Raises:
        EventlogError: `must` finds no run, `never` finds one, or the run is being written.
        ValueError: an impossible `resume`, `rewind_to`, `resume_from` or `fork_from`.
    """
    if unknown:
        say_once(f"init: {', '.join(sorted(unknown))}: not supported, ignored")
    previous = _active()
    if previous is not None and as_text(reinit) in ("False", "return_previous"):
        return previous
    if previous is not None and as_text(reinit) != "create_new":
        previous.finish()
    settings = as_dict(config)
    id, name = as_text(id), as_text(name)
    if _is_disabled(as_text(mode) or _variable("MODE", None)):
        off = ActiveRun(None, id=id or "disabled", name=name or "disabled", config=settings)
        return _made_current(off)
    folder = as_folder("dir", _variable("DIR", None) if _is_empty(dir) else dir, "out")
    assert folder is not None
    fallback = None if _is_empty(fallback) else as_folder("fallback", fallback, None)
    id, name = (as_text(value) for value in (id or _variable("RUN_ID"), name or _variable("NAME")))
    if resume_from is not None:
        id, last = at_step(resume_from)
        resume, rewind_to = "must", rewind_to if last is None else last + 1
    resume = _resume(_variable("RESUME", None) if resume is None else resume, rewind_to)
    journal, id = _journal_and_id(folder, id, name, resume)
    past = read_past(journal, fork_from, folder)
    about = {
        "project": as_text(project) or _variable("PROJECT"),
        "group": as_text(group) or _variable("GROUP", "WANDB_RUN_GROUP"),
        "job_type": as_text(job_type) or _variable("JOB_TYPE"),
    }
    session = _open(
        folder,
        journal,
        rewind_to,
        fallback,
        run_name=name,
        run_id=id,
        config=past.config | settings,
        metadata=past.metadata | {k: v for k, v in about.items() if v is not None},
        durability=as_durability(durability),
        save_interval=as_interval(save_interval, 100),
    )
    try:
        if journal is None and session is not None:
            copy_rows(past, session)
        opened = opening_event(session.journal_path) if session is not None else None
        run = ActiveRun(
            session,
            id=str(opened.fields.get("run_id")) if opened else id or "",
            name=name,
            config=past.config | settings,
            past=past,
            step=next_step(past) if rewind_to is None else rewind_to,
            resumed=journal is not None,
            about=about,
            is_disabled=False,
        )
        tags = _variable("TAGS") if tags is None else tags
        run.annotate(tags, as_text(notes) or _variable("NOTES"))
        return _made_current(run)
    except BaseException as error:  # the caller gets no run, so nobody else would end it
        _end(session, error)
        raise


def _journal_and_id(
    folder: Path, id: str | None, name: str | None, resume: Resume | None
) -> tuple[Path | None, str | None]:
    """The journal to resume and the id of its run; or None and the id for a new run."""
    journal = None
    try:
        journal = journal_to_resume(folder, id, name, resume)
    except OSError as error:
        if is_interruption(error):
            raise
        say(f"{folder}: cannot be read ({error}); a new run begins")
    if journal is None and id is not None and resume is None and find_journal(folder, id=id):
        say_once(f"{folder}: has a run {id} already; a new one begins. resume='allow' resumes it")
        id = None
    return journal, id


def _open(
    folder: Path,
    journal: Path | None,
    from_iter: int | None,
    fallback: PathLike | None,
    **settings: Any,
) -> Session | None:
    """A session in `folder`, or else in `fallback`; None: neither can be written."""
    try:
        return open_run(folder, journal=journal, from_iter=from_iter, fallback=fallback, **settings)
    except Exception as error:  # of any kind: the training goes on
        if is_interruption(error) or isinstance(error, EventlogError):
            raise
        refusal = text_of(error)
    elsewhere = state_folder() if fallback is None else Path(fallback)
    if elsewhere is not None:
        try:
            session = open_run(elsewhere, **settings)
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
    """`eventlog.run`, and `.config`, `.summary` and `.alert` of that run; names of W&B.

    Raises:
        AttributeError: an unknown name.
    """
    if name == "run":
        return _active()
    if name in ("config", "summary", "alert"):
        return getattr(_active() or ActiveRun(None, id="", name=""), name)
    return attribute(name)


def _active() -> ActiveRun | None:
    return None if _current is None or _current.is_finished else _current


def _made_current(run: ActiveRun) -> ActiveRun:
    """Make a run `eventlog.run`, unless that one goes on."""
    global _current
    if _active() is None:
        _current = run
    return run


def _variable(name: str, wandb_name: str | None = "") -> str | None:
    """The environment variable EVENTLOG_`name`, or else W&B's (None: W&B's does not count)."""
    value = os.environ.get(f"EVENTLOG_{name}")
    if value or wandb_name is None:
        return value or None
    return os.environ.get(wandb_name or f"WANDB_{name}") or None


def _is_disabled(mode: str | None) -> bool:
    if mode not in (None, "offline", "disabled"):
        say_once(f"mode={mode!r}: works as 'offline': nothing is sent")
    return mode == "disabled"


def _is_empty(path: Any) -> bool:
    return path is None or (is_a(path, str) and not text_of(path))


def _resume(resume: Any, rewind_to: int | None) -> Resume | None:
    if rewind_to is not None:
        if type(rewind_to) is not int or not -(1 << 63) <= rewind_to < 1 << 63:
            raise ValueError(f"rewind_to={shown(rewind_to)}: must be the number of a step")
        return "must"
    text = "" if resume is None else text_of(resume)
    if text in ("", "False", "false"):
        return None
    if text in ("True", "auto", "true"):
        return "auto"
    if text not in ("allow", "must", "never"):
        raise ValueError(f"resume={shown(resume)}: must be 'allow', 'must', 'never' or 'auto'")
    return text  # type: ignore[return-value]
