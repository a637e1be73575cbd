"""A run being logged by names of its own: what `init` gives.

What it is told is in the journal when the call returns, and nothing here raises into the
loop that tells it: what cannot be kept is counted in `errors` and said once.
"""

import atexit
import copy
import operator
import sys
import threading
import traceback
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from pathlib import Path
from types import GeneratorType, TracebackType
from typing import Any

from eventlog.fold.document import Run
from eventlog.fold.load import PathLike
from eventlog.format.record import ANNOTATES, RESERVED, is_a, text_of, unique
from eventlog.interruption import came_from_elsewhere, ignoring, is_interruption
from eventlog.tracker import exit_code
from eventlog.tracker.compatibility import attribute
from eventlog.tracker.exit_code import exit_status, told_status
from eventlog.tracker.session import Session, as_dict, at_end_of_child, described
from eventlog.write.fork import call_in_children, free_in_child
from eventlog.write.messages import say_once

_OWN_NAMES = RESERVED | {"step", "nonfinite", ANNOTATES}
_FLAT_DEPTH = 20  # dicts nested deeper stay as they are
_STEP_MAX = 1 << 63
_SIMPLE = frozenset((float, int, str, bool, type(None)))
_OF_PAIRS = frozenset((list, tuple, set, zip, map, GeneratorType, type({}.items())))
_INTERRUPTED = (130, 143)  # what a shell makes of SIGINT and SIGTERM, and programs imitate


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
        is_disabled: bool | None = None,
    ) -> None:
        past = past or Run()
        self.session = session
        """The session underneath, for `log_eval`, `sync` and the like; None: nothing is kept."""
        self.id = id
        self.step = step
        self.resumed = resumed
        self.disabled = session is None if is_disabled is None else is_disabled
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
        _WITH_LOCK.add(self)
        self.is_finished = False
        if session is not None:
            exit_code.watch()
            self._earlier_error = getattr(sys, "last_value", None)  # of a notebook's earlier cell
            atexit.register(self._finish_at_exit)
            at_end_of_child(lambda: self._finish_after(sys.exc_info()[1]))

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
        self._quietly("notes", lambda: self.tell([], None if text is None else text_of(text)))

    @property
    def tags(self) -> tuple[str, ...]:
        return tuple(self._tags)

    @tags.setter
    def tags(self, tags: Iterable[str]) -> None:
        def tell_all() -> None:
            told = as_tags(tags)
            gone = [tag for tag in self._tags if tag not in told]
            self._tags = [tag for tag in self._tags if tag in told]
            if gone and self.session:
                self.session.log("tag", remove=gone)
            self.tell(told, None)

        self._quietly("tags", tell_all)

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
        given = None if step is None else _as_step(step)
        if self.session is not None and self.session.is_forked:
            self.session.log("metrics")  # ignored and counted; a lock may be held for ever here
            return
        with self._lock:
            at = self.step if given is None else given
            self.step = max(self.step, at)
            if _is_true(commit) if commit is not None else given is None:
                self.step = max(self.step, at + 1)
            self.summary._take({k: v for k, v in values.items() if _is_plain(v)})
        if self.session is not None:
            self.session.log("metrics", step=at, **values)
        elif not self.disabled:
            self._errors += 1  # no disk took the run

    def log_checkpoint(self, step: int, path: PathLike, val_loss: Any = None, **more: Any) -> None:
        """A checkpoint that is complete at `path`, of a model that has done `step`."""
        session = self.session
        if session is not None:
            rest = {k: v for k, v in more.items() if k not in ("iter", "path", "val_loss")}
            self._quietly(
                "checkpoint", lambda: session.log_checkpoint(step, path, val_loss, **rest)
            )

    def rewind(self, step: int) -> None:
        """Take step `step` and all later ones again: what was logged of them leaves the run."""
        given = _as_step(step)
        if given is not None:
            self.step = given
            if self.session is not None:
                self.session.log("rewind", to_iter=given)

    def alert(self, title: Any = "", text: Any = "", **more: Any) -> None:
        """Kept as a note."""
        said = ": ".join(filter(None, (text_of(title), text_of(text))))
        self._quietly("alert", lambda: self.tell([], said))

    def finish(self, exit_code: int | None = None, quiet: bool | None = None) -> None:
        """End the run: completed, or failed by an exit code that is not 0. Its JSON is written."""
        code = told_status(exit_code)
        self._finish("failed" if code else "completed", f"exit code {code}" if code else "")

    def _finish(self, status: str, reason: str = "") -> None:
        if self.is_finished:
            return
        self.is_finished = True
        if self.session is not None:
            try:
                self.session.close(status, reason or None)
            except BaseException:  # of a signal handler: the next call goes on with it
                self.is_finished = False
                raise
            atexit.unregister(self._finish_at_exit)

    def __enter__(self) -> "ActiveRun":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._finish_after(error)

    def _finish_at_exit(self) -> None:
        error = getattr(sys, "last_value", None)  # what ended the program, if anything did
        if error is self._earlier_error:
            error = None
        if error is None and exit_status(exit_code.exit_code()):
            error = SystemExit(exit_code.exit_code())
        self._finish_after(error)

    def _finish_after(self, error: BaseException | None) -> None:
        code = error.code if isinstance(error, SystemExit) else None
        if error is None or (isinstance(error, SystemExit) and not exit_status(code)):
            self._finish("completed")
        elif isinstance(error, KeyboardInterrupt):
            self._finish("interrupted", "KeyboardInterrupt")
        elif isinstance(error, SystemExit):
            said = f"SystemExit: {code}" if isinstance(code, str) else f"exit code {code}"
            self._finish("interrupted" if code in _INTERRUPTED else "failed", said)
        else:
            words = described(error)
            if self.session is not None:
                self.session.log("error", error=words)
            self._finish("failed", words)

    def annotate(self, tags: Any, notes: Any) -> None:
        """Add tags and notes, whatever they are given as."""
        self._quietly("tags", lambda: self.tell(as_tags(tags), None))
        self._quietly("notes", lambda: self.tell([], None if notes is None else text_of(notes)))

    def tell(self, tags: Sequence[str], notes: str | None) -> None:
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
            if is_interruption(error) or self._has_passed(error):
                raise
            self._errors += 1
            say_once(f"{what}: not kept: {described(error)}")

    def _has_passed(self, error: Exception) -> bool:
        """Whether `session.log` let an error pass that came from outside."""
        frames = traceback.walk_tb(error.__traceback__)
        is_logging = any(frame.f_code is Session._log.__code__ for frame, _ in frames)
        return is_logging and came_from_elsewhere(error)

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
        """As a dict's, in one event; also takes a namespace or a dataclass.

        A second argument may be `allow_val_change`, as W&B has it.
        """
        parts = [given_as_dict(part) for part in given if type(part) is not bool]
        values = {k: v for part in parts for k, v in part.items()} | named
        if values:
            self._values.update(values)
            self._log(values)

    def setdefaults(self, given: Any) -> None:
        """Set what is not set yet."""
        self.update({k: v for k, v in given_as_dict(given).items() if k not in self._values})

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

    def __copy__(self) -> dict[str, Any]:
        """A copy is a plain dict: what is set in it is not logged."""
        return dict(self._values)

    def __deepcopy__(self, memo: dict[int, Any]) -> dict[str, Any]:
        return copy.deepcopy(self._values, memo)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled it is an OrderedDict: `torch.load` takes that for weights alone, too."""
        return OrderedDict, (), None, None, iter(self._values.items())


def given_as_dict(given: Any) -> dict[str, Any]:
    """As `as_dict`; pairs of a name and a value, too, as a dict takes them."""
    if type(given) in _OF_PAIRS:
        try:
            pairs = list(given)
        except Exception as error:  # of a generator
            if is_interruption(error):
                raise
            return {"config": f"<{type(given).__name__}: {described(error)}>"}
        if all(type(pair) in (list, tuple) and len(pair) == 2 for pair in pairs):
            return {text_of(name): value for name, value in pairs}
        given = pairs
    return as_dict(given)


def flat(data: Mapping[Any, Any]) -> dict[str, Any]:
    """Values by dotted names, tensors of one number as numbers; no name is one of the journal's."""
    found: dict[str, Any] = {}
    tried: dict[str, int] = {}

    def put(items: Iterable[tuple[Any, Any]], prefix: str, depth: int) -> None:
        for key, value in items:
            name = f"{prefix}{key if type(key) is str else text_of(key)}"
            if type(value) not in _SIMPLE and depth < _FLAT_DEPTH:
                within = _items(value)
                if within:
                    put(within, f"{name}.", depth + 1)
                    continue
            if name in _OWN_NAMES or name in found:
                name = unique(name, tried, _OWN_NAMES, found)
            found[name] = _number(value)

    if not is_a(data, Mapping):
        raise TypeError(f"a dict is wanted, this is a {type(data).__name__}")
    put(data.items(), "", 0)
    return found


def _number(value: Any) -> Any:
    """A tensor's or array's only number, once: each look may wait for a GPU."""
    if type(value) not in _SIMPLE:
        with ignoring(Exception):  # the record's own rules then apply
            if getattr(value, "ndim", None) == 0:
                return value.item()
    return value


def _items(value: Any) -> list[tuple[Any, Any]]:
    """What is in a dict of any kind; nothing of what is none, or refuses."""
    with ignoring(Exception):
        if is_a(value, Mapping):
            return list(value.items())
    return []


def _is_plain(value: Any) -> bool:
    return type(value) in _SIMPLE or is_a(value, int | float | str)


def _is_true(value: Any) -> bool:
    """The truth of a value that may have none."""
    with ignoring(Exception):
        return bool(value)
    return False


def _as_step(step: Any) -> int | None:
    """A step as a whole number; None, and a word, if it is none."""
    try:
        step = step.item() if getattr(step, "ndim", None) == 0 else step
        if is_a(step, float) and step.is_integer():
            step = int(step)
        number = operator.index(step)
        if -_STEP_MAX <= number < _STEP_MAX - 1:
            return number
    except Exception as error:
        if is_interruption(error):
            raise
    say_once("log: a step that is no whole number of 64 bits; the run's own is taken")
    return None


def as_tags(tags: Any) -> list[str]:
    if tags is None:
        return []
    given = text_of(tags).split(",") if is_a(tags, str) else tags
    return [tag for tag in (text_of(tag).strip() for tag in given) if tag]


def _last_values(past: Run) -> dict[str, Any]:
    """The summary of a run that goes on: each name's last value, and what was set."""
    names = past.journal.get("metrics", {}).get("names", {})
    said: dict[str, Any] = past.journal.get("summary", {})
    return {name: told["last"] for name, told in names.items()} | said


def _free_lock(run: ActiveRun) -> None:
    """A thread of the parent may hold the lock, and the child does not have that thread."""
    free_in_child(run._lock)


_WITH_LOCK = call_in_children(_free_lock)
