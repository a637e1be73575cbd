"""What a framework calls must not end the training that it calls it from."""

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from eventlog import is_interruption, say

P = ParamSpec("P")
R = TypeVar("R")

_said: set[tuple[str, type[Exception]]] = set()


def guarded(callback: Callable[P, R]) -> Callable[P, R]:
    """`callback`; if it fails, that is said once on stderr and the training goes on.

    What is not its failure passes: Ctrl-C, the end of the process, a time limit of the program's.
    """

    @functools.wraps(callback)
    def call(*args: P.args, **kwargs: P.kwargs) -> Any:
        try:
            return callback(*args, **kwargs)
        except Exception as error:
            if is_interruption(error):
                raise
            _say(f"{callback.__module__.rpartition('.')[2]}: {callback.__name__}", error)
            return None

    return call


def _say(name: str, error: Exception) -> None:
    """Once for each callback and kind of error: it may be called a million times."""
    if (name, type(error)) in _said:
        return
    _said.add((name, type(error)))
    try:
        words = str(error).partition("\n")[0][:200]
    except Exception:
        words = "it cannot say why"
    say(f"{name} failed, the training goes on: {type(error).__name__}: {words}")
