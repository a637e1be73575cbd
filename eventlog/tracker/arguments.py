"""The arguments of `init`, of any type: used, or replaced by a default with one message.

A setting that is of the wrong type, or that no file system takes, costs that setting and not the
training. Only what says which run to go on with is refused: another run would be worse than none.
"""

import operator
import os
from pathlib import Path
from typing import Any, get_args

from eventlog.format.record import text_of
from eventlog.interruption import is_interruption
from eventlog.write.journal import Durability
from eventlog.write.messages import say_once

_SHOWN_MAX = 100  # characters


def shown(value: Any) -> str:
    """A value in a message, whatever its class does when it is asked for its words."""
    try:
        words = repr(value)
    except Exception as error:
        if is_interruption(error):
            raise
        words = f"<{type(value).__name__}: {type(error).__name__}>"
    words = text_of(words)
    return words if len(words) <= _SHOWN_MAX else f"{words[:_SHOWN_MAX]}..."


def as_text(value: Any) -> str | None:
    """A setting as text; None where it was not given, or is empty."""
    return None if value is None else text_of(value) or None


def as_folder(what: str, value: Any, instead: str | None) -> Path | None:
    """A folder's path; `instead`, and a word on stderr, where it can be none."""
    if value is None:
        return _path(instead)
    try:
        path = Path(os.fsdecode(value))
        if b"\0" not in os.fsencode(path):
            return path
        why = "a NUL"
    except Exception as error:  # of the wrong type, a lone surrogate, an `__fspath__` that raises
        if is_interruption(error):
            raise
        why = type(error).__name__
    used = "the default" if instead is None else repr(instead)
    say_once(f"init: {what}={shown(value)}: is no path ({why}); {used} is used instead")
    return _path(instead)


def _path(name: str | None) -> Path | None:
    return None if name is None else Path(name)


def as_durability(value: Any) -> Durability:
    """One of the policies; the default, and a word on stderr, for what is none."""
    known = get_args(Durability)
    text = text_of(value)
    if text in known:
        return text  # type: ignore[return-value]
    say_once(f"init: durability={shown(value)}: it is one of {known}; 'interval' is used instead")
    return "interval"


def as_interval(value: Any, instead: int) -> int:
    """A number of steps; `instead`, and a word on stderr, for what is none."""
    try:
        number = int(value) if isinstance(value, float | str) else operator.index(value)
        if number == value or isinstance(value, str):
            return number
    except Exception as error:
        if is_interruption(error):
            raise
    say_once(f"init: save_interval={shown(value)}: is no whole number; {instead} is used instead")
    return instead
