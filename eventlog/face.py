"""The face that people know from other trackers, on a journal: init, log, finish.

    run = eventlog.init(project="gpt", name="mine", config={"lr": 3e-4}, resume="allow")
    for step in range(run.step, 1000):
        run.log({"train/loss": loss, "lr": lr}, step=step)
    run.finish()

A script written for W&B is moved over by `import eventlog as wandb`. Everything stays on
this disk; each call is a line in the journal when it returns, by the promises of
`open_run`. `init` may refuse, as `open_run` does; after it nothing raises.
"""

import atexit
import contextlib
import operator
import os
import re
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from eventlog.errors import EventlogError
from eventlog.journal import Durability, last_open
from eventlog.load import JOURNAL_SUFFIX, PathLike, load_run
from eventlog.record import HEAD, MAX_LINE_BYTES, RESERVED, decode
from eventlog.run import Run
from eventlog.session import Session, open_run
from eventlog.standin import attribute, say_once

Resume = Literal["allow", "must", "never", "auto"]

_OWN_NAMES = RESERVED | {"step", "nonfinite"}
_FLAT_DEPTH = 20  # dicts nested deeper stay as they are
_STEP_MAX = 1 << 63
_STAMP = r"_\d{8}_\d{6}(_\d+)?"
_INTERRUPTED = (130, 143)  # what a shell makes of SIGINT and SIGTERM, and programs imitate

_current: "ActiveRun | None" = None
_exit_code: Any = None


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
    fork_from: "PathLike | tuple[PathLike, int] | None" = None,
    mode: str | None = None,
    dir: PathLike | None = None,
    reinit: Any = None,
    durability: Durability = "interval",
    save_interval: int = 100,
    **unknown: Any,
) -> "ActiveRun":
    """Begin a run in `dir`, or go on with one; it is `eventlog.run` until it is finished.

    What is not given is taken from EVENTLOG_PROJECT, _NAME, _TAGS (with commas), _GROUP,
    _JOB_TYPE, _NOTES, _RUN_ID, _RESUME, _MODE and _DIR; all but the last three, where they are
    not set, from W&B's variables of that name. Arguments that W&B knows and a journal does
    not are taken and named once on stderr.

    Args:
        project, group, job_type: kept in the run's metadata.
        config: a mapping, a namespace or a dataclass.
        id: the run's identity, to resume by; random by default.
        resume: `allow`: go on with the run of this `id`, or else of this `name` (the latest), if
            it is there; `must`: or refuse; without `id` and `name` the latest in `dir`. `never`:
            refuse if the `id` is there. `auto` or True: the latest of this `name`, if it did not
            complete. A run that goes on keeps its config, and what is given replaces it by key.
        rewind_to: the first step that will be taken again: it and all later ones leave the run
            (they stay in the journal). Implies `must`.
        resume_from: `ID?_step=N`, as W&B says it: rewind_to N + 1.
        fork_from: `ID?_step=N`, `PATH?_step=N` or a pair: a new run that begins with a copy of
            that one's history up to step N, N included; without a step, of all of it.
        mode: `disabled` keeps nothing at all. Every other one is `offline`.
        dir: the folder, `out` by default.
        reinit: what becomes of a run that is not finished: it is, by default; `create_new` leaves
            it and `eventlog.run` alone; `return_previous` or False returns it.
        durability, save_interval: as in `open_run`.

    Raises:
        EventlogError: `must` finds no run, `never` finds one, or it is being written.
        OSError: the folder cannot be written.
        ValueError: a `resume`, `rewind_to` or step that there is not.
    """
    if unknown:
        say_once(f"init: {', '.join(sorted(unknown))}: without meaning here, ignored")
    if _current is not None and reinit in (False, "return_previous"):
        return _current
    if _current is not None and reinit != "create_new":
        _current.finish()
    project, group = project or _told("PROJECT"), group or _told("GROUP", "WANDB_RUN_GROUP")
    about = {"project": project, "group": group, "job_type": job_type or _told("JOB_TYPE")}
    settings = _settings(config)
    if _is_disabled(mode or _told("MODE", None)):
        run = ActiveRun(None, id=id or "disabled", name=name or "disabled", config=settings)
        return _made_current(run, reinit)
    folder = Path(dir or _told("DIR", None) or "out")
    id, name = id or _told("RUN_ID"), name or _told("NAME")
    if resume_from is not None:
        id, last = _at_step(resume_from)
        rewind_to = rewind_to if last is None else last + 1
    resume = _resume(_told("RESUME", None) if resume is None else resume, rewind_to)
    journal = _journal_to_resume(folder, id, name, resume)
    if journal is None and id is not None and resume is None and _find(folder, id=id):
        id, taken = None, id
        say_once(f"{folder}: has a run {taken} already; this is a new one. Or: resume='allow'")
    past, last = _past(journal, fork_from, folder)
    session = open_run(
        folder,
        run_name=name,
        run_id=id,
        journal=journal,
        config=past.config | settings,
        metadata=past.metadata | {k: v for k, v in about.items() if v is not None},
        from_iter=rewind_to,
        durability=durability,
        save_interval=save_interval,
    )
    if journal is None:
        _copy(past, last, session)
    run = ActiveRun(
        session,
        id=_identity(session.journal_path).get("run_id", ""),
        name=name,
        config=past.config | settings,
        past=past,
        step=_next_step(past) if rewind_to is None else rewind_to,
        resumed=journal is not None,
        about=about,
    )
    run._tell(_list(tags if tags is not None else _told("TAGS")), notes or _told("NOTES"))
    return _made_current(run, reinit)


def log(data: Mapping[str, Any], step: int | None = None, commit: bool | None = None) -> None:
    """`run.log` of the run that `init` began last."""
    if _current is None:
        say_once("log: there is no run, nothing is kept; call eventlog.init() first")
    else:
        _current.log(data, step, commit)


def finish(exit_code: int | None = None, quiet: bool | None = None) -> None:
    """`run.finish` of the run that `init` began last."""
    if _current is not None:
        _current.finish(exit_code)


def module_attribute(name: str) -> Any:
    """`eventlog.run`, `.config`, `.summary` of the run that `init` began last, and stand-ins."""
    if name == "run":
        return _current
    if name in ("config", "summary", "alert"):
        run = _current or ActiveRun(None, id="", name="")
        return getattr(run, name)
    return attribute(name)


class ActiveRun:
    """A run being logged, made by `init`. A context manager that finishes it.

    `step` is what the next `log` without a step is for: in a run that goes on, the one after
    its last. `errors` counts what could not be logged as it was given.
    """

    def __init__(
        self,
        session: Session | None,
        *,
        id: str,
        name: str | None,
        config: Mapping[str, Any] | None = None,
        past: Run | None = None,
        step: int = 0,
        resumed: bool = False,
        about: Mapping[str, Any] | None = None,
    ) -> None:
        past = past or Run()
        self.session = session
        """The session underneath, for `log_eval`, `sync` and the like; None: disabled."""
        self.id = id
        self.step = step
        self.resumed = resumed
        self.disabled = session is None
        self.project, self.group, self.job_type = map(
            (about or {}).get, ("project", "group", "job_type")
        )
        self.config = JournaledDict(dict(config or {}), self._log_config)
        self.summary = JournaledDict(_last_values(past), self._log_summary)
        self._errors = 0
        self._name = name or (session.run_name if session else "")
        self._tags: list[str] = past.journal.get("tags") or []
        self._notes: list[str] = [str(n.get("text")) for n in past.journal.get("notes") or []]
        self._lock = threading.RLock()
        self._is_finished = False
        if session is not None:
            _watch_exit()
            atexit.register(self._finish_at_exit)

    # ---- what it is

    @property
    def name(self) -> str:
        return self._name

    @name.setter
    def name(self, name: str) -> None:
        self._name = name
        say_once("run.name: the files of a run keep the name it began with; give it to init")

    @property
    def journal_path(self) -> Path | None:
        return self.session.journal_path if self.session else None

    @property
    def run_path(self) -> Path | None:
        return self.session.run_path if self.session else None

    @property
    def dir(self) -> str:
        return str(self.session.journal_path.parent) if self.session else ""

    @property
    def errors(self) -> int:
        return self._errors + (self.session.errors if self.session else 0)

    @property
    def notes(self) -> str:
        return "\n".join(self._notes)

    @notes.setter
    def notes(self, text: str) -> None:
        self._quietly("notes", lambda: self._tell([], text))

    @property
    def tags(self) -> tuple[str, ...]:
        return tuple(self._tags)

    @tags.setter
    def tags(self, tags: Iterable[str]) -> None:
        def tell() -> None:
            told = _list(tags)
            gone = [tag for tag in self._tags if tag not in told]
            self._tags = [tag for tag in self._tags if tag in told]
            if gone and self.session:
                self.session.log("tag", remove=gone)
            self._tell(told, None)

        self._quietly("tags", tell)

    # ---- what happens in it

    def log(
        self,
        data: Mapping[str, Any],
        step: int | None = None,
        commit: bool | None = None,
        **unknown: Any,
    ) -> None:
        """Numbers and words of a step, by any names; dicts within are dotted names.

        All that is logged of a step is one row. Without `step` it is the run's own, which then
        goes on by one, unless `commit` is False.
        """
        self._quietly("log", lambda: self._log(data, step, commit))

    def _log(self, data: Mapping[str, Any], step: int | None, commit: bool | None) -> None:
        values = flat(data)
        with self._lock:
            given = None if step is None else _as_step(step)
            at = self.step if given is None else given
            self.step = max(self.step, at)
            if commit if commit is not None else given is None:
                self.step = max(self.step, at + 1)
            self.summary._take({k: v for k, v in values.items() if _is_plain(v)})
        if self.session is not None:
            self.session.log("metrics", step=at, **values)

    def log_checkpoint(self, step: int, path: PathLike, val_loss: Any = None, **more: Any) -> None:
        """A checkpoint that is complete at `path`, of a model that has done `step`."""
        if self.session is not None:
            self.session.log_checkpoint(step, path, val_loss, **more)

    def rewind(self, step: int) -> None:
        """Take step `step` and all later ones again: what was logged of them leaves the run."""
        given = _as_step(step)
        if given is not None:
            self.step = given
            if self.session is not None:
                self.session.log("rewind", to_iter=given)

    def alert(self, title: Any = "", text: Any = "", **more: Any) -> None:
        """Kept as a note."""
        said = ": ".join(filter(None, (str(title), str(text))))
        self._quietly("alert", lambda: self._tell([], said))

    def finish(self, exit_code: int | None = None, quiet: bool | None = None) -> None:
        """End the run: completed, or failed by an exit code that is not 0. Its JSON is written."""
        failed = bool(exit_code)
        self._finish("failed" if failed else "completed", f"exit code {exit_code}" * failed)

    def _finish(self, status: str, reason: str = "") -> None:
        global _current
        if self._is_finished:
            return
        self._is_finished = True
        if self.session is not None:
            atexit.unregister(self._finish_at_exit)
            self.session.close(status, reason or None)
        if _current is self:
            _current = None

    def __enter__(self) -> "ActiveRun":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._finish_after(error)

    def _finish_at_exit(self) -> None:
        error = getattr(sys, "last_value", None)  # what ended the program, if anything did
        if error is None and _exit_code not in (None, 0):
            error = SystemExit(_exit_code)
        self._finish_after(error)

    def _finish_after(self, error: BaseException | None) -> None:
        code = error.code if isinstance(error, SystemExit) else None
        if error is None or (isinstance(error, SystemExit) and not code):
            self._finish("completed")
        elif isinstance(error, KeyboardInterrupt):
            self._finish("interrupted", "KeyboardInterrupt")
        elif isinstance(error, SystemExit):
            self._finish("interrupted" if code in _INTERRUPTED else "failed", f"exit code {code}")
        else:
            words = f"{type(error).__name__}: {error}"
            if self.session is not None:
                self.session.log("error", error=words)
            self._finish("failed", words)

    def _tell(self, tags: Sequence[str], notes: str | None) -> None:
        new = [tag for tag in dict.fromkeys(tags) if tag not in self._tags]
        self._tags += new
        if new and self.session:
            self.session.log("tag", add=new)
        if notes and str(notes) not in self._notes:
            self._notes.append(str(notes))
            if self.session:
                self.session.log("note", text=str(notes))

    def _log_config(self, values: dict[str, Any]) -> None:
        if self.session is not None:
            self.session.log("config", config=values)

    def _log_summary(self, values: dict[str, Any]) -> None:
        if self.session is not None:
            self.session.log("summary", summary=values)

    def _quietly(self, what: str, do: Callable[[], None]) -> None:
        try:
            do()
        except Exception as error:  # a training loop does not die of its log
            self._errors += 1
            say_once(f"{what}: not kept: {type(error).__name__}: {error}")

    def __getattr__(self, name: str) -> Any:
        return attribute(name, "the run")


class JournaledDict(MutableMapping[str, Any]):
    """A dict, its values also attributes; what is set is in the journal when the call returns."""

    def __init__(self, values: dict[str, Any], log: Callable[[dict[str, Any]], None]) -> None:
        object.__setattr__(self, "_values", values)
        object.__setattr__(self, "_log", log)

    def _take(self, values: Mapping[str, Any]) -> None:
        """Know values that were logged otherwise."""
        self._values.update(values)

    def update(self, *given: Any, allow_val_change: bool = True, **named: Any) -> None:
        """As a dict's, in one event; also takes a namespace or a dataclass."""
        values = {k: v for part in given for k, v in _settings(part).items()} | named
        if values:
            self._values.update(values)
            self._log(values)

    def setdefaults(self, given: Any) -> None:
        """Set what is not set yet."""
        self.update({k: v for k, v in _settings(given).items() if k not in self._values})

    def as_dict(self) -> dict[str, Any]:
        return dict(self._values)

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def __setitem__(self, name: str, value: Any) -> None:
        self.update({name: value})

    def __delitem__(self, name: str) -> None:
        del self._values[name]
        self._log({name: None})

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name not in self._values:
            raise AttributeError(f"there is no {name!r} in it")
        return self._values[name]

    def __setattr__(self, name: str, value: Any) -> None:
        self.update({name: value})

    def __repr__(self) -> str:
        return repr(self._values)


def flat(data: Mapping[Any, Any]) -> dict[str, Any]:
    """Values by dotted names, tensors of one number as numbers; no name is one of the journal's."""
    found: dict[str, Any] = {}

    def put(values: Mapping[Any, Any], prefix: str, depth: int) -> None:
        for key, value in values.items():
            name = f"{prefix}{key}"
            if isinstance(value, Mapping) and value and depth < _FLAT_DEPTH:
                put(value, f"{name}.", depth + 1)
                continue
            while name in _OWN_NAMES or name in found:
                name += "_"
            found[name] = _number(value)

    if not isinstance(data, Mapping):
        raise TypeError(f"a dict is wanted, this is a {type(data).__name__}")
    put(data, "", 0)
    return found


def _number(value: Any) -> Any:
    """A tensor's or array's only number, once: each look may wait for a GPU."""
    if type(value) not in (float, int, str) and getattr(value, "ndim", None) == 0:
        with contextlib.suppress(Exception):  # the record's own rules then apply
            return value.item()
    return value


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, int | float | str)


def _as_step(step: Any) -> int | None:
    """A step as a whole number; None, and a word, if it is none."""
    try:
        step = step.item() if getattr(step, "ndim", None) == 0 else step
        if isinstance(step, float) and step.is_integer():
            step = int(step)
        number = operator.index(step)
        if -_STEP_MAX <= number < _STEP_MAX - 1:
            return number
    except Exception:
        pass
    say_once("log: a step that is no whole number of 64 bits; the run's own is taken")
    return None


# ---- what is asked for


def _told(name: str, elsewhere: str | None = "") -> str | None:
    """What the environment says: EVENTLOG_NAME, else W&B's variable, if it may be asked."""
    own = os.environ.get(f"EVENTLOG_{name}")
    if own or elsewhere is None:
        return own or None
    return os.environ.get(elsewhere or f"WANDB_{name}") or None


def _is_disabled(mode: str | None) -> bool:
    if mode not in (None, "offline", "disabled"):
        say_once(f"mode {mode!r}: everything is kept on this disk and nothing is sent, as offline")
    return mode == "disabled"


def _settings(config: Any) -> dict[str, Any]:
    """A config as a dict by text."""
    if config is None:
        return {}
    if not isinstance(config, Mapping):
        try:
            config = vars(config)
        except TypeError:
            config = {"config": config}
    return {str(name): value for name, value in config.items()}


def _list(tags: Any) -> list[str]:
    if isinstance(tags, str):
        tags = tags.split(",")
    return [str(tag).strip() for tag in tags or () if str(tag).strip()]


def _resume(resume: Any, rewind_to: int | None) -> Resume | None:
    if rewind_to is not None:
        if type(rewind_to) is not int:
            raise ValueError(f"rewind_to={rewind_to!r}: the number of a step is wanted")
        return "must"
    if resume in (None, False, "", "false"):
        return None
    if resume in (True, "auto", "true"):
        return "auto"
    if resume not in ("allow", "must", "never"):
        raise ValueError(f"resume={resume!r}: it is one of 'allow', 'must', 'never', 'auto'")
    return resume  # type: ignore[no-any-return]


def _at_step(source: Any) -> tuple[str, int | None]:
    """`ID?_step=N` or a pair, as id or path and step."""
    if isinstance(source, tuple | list):
        which, step = source
        return os.fspath(which), int(step)
    which, _, step = os.fspath(source).partition("?_step=")
    if not step:
        return which, None
    try:
        return which, int(step)
    except ValueError:
        raise ValueError(f"{source}: no step; as in {which}?_step=200") from None


# ---- which run


def _journal_to_resume(
    folder: Path, id: str | None, name: str | None, resume: Resume | None
) -> Path | None:
    """The journal to go on with; None: a new run.

    Raises:
        EventlogError: `must` finds none, `never` finds one.
    """
    if resume is None:
        return None
    if id is not None:
        found = _find(folder, id=id)
    elif name is None and resume in ("allow", "never"):
        return None
    else:
        found = _find(folder, name=name) if resume != "never" else None
    which = f"run {id}" if id is not None else f"run named {name}" if name else "run"
    if resume == "must" and found is None:
        raise EventlogError(f"{folder}: has no {which} to go on with; resume='allow' begins one")
    if resume == "never" and found is not None:
        raise EventlogError(f"{found}: is {which} already; resume='allow' goes on with it")
    if resume == "auto" and found is not None and load_run(found).status == "completed":
        return None
    return found


def _find(folder: Path, *, id: str | None = None, name: str | None = None) -> Path | None:
    """The latest journal in `folder` of an id or a name, or of any."""
    kept = None if name is None else name.replace(os.sep, "_").replace("\0", "_")
    wanted = None if kept is None else re.compile(re.escape(kept) + _STAMP, re.DOTALL)
    latest: tuple[int, Path] | None = None
    for path in folder.glob(f"*{JOURNAL_SUFFIX}"):
        opened = _identity(path)
        if (
            opened
            and (id is None or opened.get("run_id") == id)
            and (wanted is None or wanted.fullmatch(str(opened.get("run_name"))))
        ):
            changed_ns = path.stat().st_mtime_ns
            if latest is None or (changed_ns, path) > latest:
                latest = changed_ns, path
    return latest[1] if latest else None


def _identity(path: Path) -> dict[str, Any]:
    """Run id and name of a journal, from its first line, or its latest `open` event; {}: none."""
    with contextlib.suppress(OSError, ValueError):
        with open(path, "rb") as file:
            line = file.readline(MAX_LINE_BYTES)
        record = decode(line.rstrip(b"\n"))
        if (record is None or record.event != "open") and line.startswith(HEAD):
            record = last_open(path)
        if record is not None and record.event == "open":
            return record.fields
    return {}


def _past(journal: Path | None, fork_from: Any, folder: Path) -> tuple[Run, int | None]:
    """The run that goes on, or the one to fork and its last step; an empty one: neither.

    Raises:
        EventlogError, OSError: it is not there, or not to be read.
    """
    if journal is not None:
        return load_run(journal), None
    if fork_from is None:
        return Run(), None
    which, last = _at_step(fork_from)
    path = Path(which) if os.path.exists(which) else _find(folder, id=which)
    if path is None:
        raise EventlogError(f"{folder}: has no run {which} to fork; give its id or its path")
    run = load_run(path)
    run.metadata = run.metadata | {
        "forked_from": {"run_name": run.run_name, "file": str(path), "step": last}
    }
    run.journal = {}  # tags and notes are the other run's
    run.training_iterations = _until(run.training_iterations, "iter", last)
    run.eval_steps = _until(run.eval_steps, "iter", last)
    run.checkpoints = _until(run.checkpoints, "iter", last)
    run.metrics = _until(run.metrics, "step", last)
    return run, last


def _until(rows: Iterable[dict[str, Any]], key: str, last: int | None) -> list[dict[str, Any]]:
    return [row for row in rows if last is None or int(row.get(key, 0)) <= last]


def _copy(past: Run, last: int | None, session: Session) -> None:
    """The history of a forked run as the new one's own."""
    for kind, rows in (
        ("iter", past.training_iterations),
        ("eval", past.eval_steps),
        ("checkpoint", past.checkpoints),
        ("metrics", past.metrics),
    ):
        for row in rows:
            session.log(kind, **row)


def _next_step(past: Run) -> int:
    last = [row["step"] for row in past.metrics[-1:]]
    last += [row["iter"] for row in past.training_iterations[-1:]]
    return max(last, default=-1) + 1


def _last_values(past: Run) -> dict[str, Any]:
    """The summary of a run that goes on: each name's last value, and what was set."""
    names = past.journal.get("metrics", {}).get("names", {})
    return {name: told["last"] for name, told in names.items()} | past.journal.get("summary", {})


# ---- how it ends


def _made_current(run: ActiveRun, reinit: Any) -> ActiveRun:
    global _current
    if _current is None or reinit != "create_new":
        _current = run
    return run


def _watch_exit() -> None:
    """Remember the code a program leaves with: `atexit` is not told, and 3 is no success."""
    leave = sys.exit
    if getattr(leave, "is_watched", False):
        return

    def remember(code: Any = None, /) -> Any:
        global _exit_code
        _exit_code = code
        leave(code)

    remember.is_watched = True  # type: ignore[attr-defined]
    sys.exit = remember
