"""Callbacks whose errors do not end the training of the framework that calls them."""

import functools
import os
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import eventlog
from eventlog import is_interruption, say

P = ParamSpec("P")
R = TypeVar("R")


def defaults() -> dict[str, Any]:
    """Arguments of `eventlog.init`. W&B beside the callback may be turned off by WANDB_MODE or
    WANDB_DISABLED: they do not turn off this run, EVENTLOG_MODE does."""
    return {"reinit": "create_new", "mode": os.environ.get("EVENTLOG_MODE") or "offline"}


_reported: set[tuple[str, type[Exception]]] = set()


def guarded(callback: Callable[P, R]) -> Callable[P, R]:
    """`callback`; its errors are reported once on stderr, and the training goes on.

    Exceptions from outside pass through: Ctrl-C, SystemExit, a watchdog's.
    """

    @functools.wraps(callback)
    def call(*args: P.args, **kwargs: P.kwargs) -> Any:
        try:
            return callback(*args, **kwargs)
        except Exception as error:
            if is_interruption(error):
                raise
            _report(f"{callback.__module__.rpartition('.')[2]}: {callback.__name__}", error)
            return None

    return call


def _report(name: str, error: Exception) -> None:
    """Once for each callback and class of error: a callback may be called a million times."""
    if (name, type(error)) in _reported:
        return
    _reported.add((name, type(error)))
    try:
        reason = str(error).partition("\n")[0][:200]
    except Exception:
        reason = "the error has no readable message"
    say(f"{name} failed, the training goes on: {type(error).__name__}: {reason}")


@guarded
def log_idle(run: eventlog.ActiveRun | None) -> None:
    """The framework's `fit` ended; the program may live on, in a notebook, and log nothing."""
    if run is not None:
        run.awaits = None
    if run is not None and run.session is not None:
        run.session.log("idle", why="fit ended")
