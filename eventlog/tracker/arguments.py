"""Arguments of any type: used, or replaced by a default with one message on stderr.

A wrong setting must not end a training. Only an argument that says which run to resume is refused,
elsewhere: logging into another run would be worse than not logging.
"""

import operator
import os
from pathlib import Path
from typing import Any, get_args

from eventlog.format.record import is_a, text_of
from eventlog.interruption import is_interruption
from eventlog.write.journal import Durability
from eventlog.write.messages import say_once

STEP_MAX = 1 << 63
_SHOWN_MAX = 100  # characters


def shown(value: Any) -> str:
    """A value's `repr` for a message, also if its class raises."""
    try:
        text = repr(value)
    except Exception as error:
        if is_interruption(error):
            raise
        text = f"<{type(value).__name__}: {type(error).__name__}>"
    text = text_of(text)
    return text if len(text) <= _SHOWN_MAX else f"{text[:_SHOWN_MAX]}..."


def as_text(value: Any) -> str | None:
    """A setting as text; None if it is None or empty."""
    return None if value is None else text_of(value) or None


def as_folder(name: str, value: Any, default: str | None) -> Path | None:
    """A folder's path; `default`, and a message, if the value cannot be one."""
    if value is None:
        return _path(default)
    try:
        path = Path(os.fsdecode(value))
        if b"\0" not in os.fsencode(path):
            return path
        why = "it contains NUL"
    except Exception as error:  # of the wrong type, a lone surrogate, an `__fspath__` that raises
        if is_interruption(error):
            raise
        why = type(error).__name__
    used = "the default" if default is None else repr(default)
    say_once(f"init: {name}={shown(value)}: must be a path ({why}); {used} is used instead")
    return _path(default)


def _path(name: str | None) -> Path | None:
    return None if name is None else Path(name)


def as_durability(value: Any) -> Durability:
    """One of the policies; the default, and a message, for anything else."""
    policies = get_args(Durability)
    text = text_of(value)
    if text in policies:
        return text  # type: ignore[return-value]
    say_once(
        f"init: durability={shown(value)}: must be one of {policies}; 'interval' is used instead"
    )
    return "interval"


def as_interval(value: Any, default: int) -> int:
    """A number of steps; `default`, and a message, for anything else."""
    try:
        number = int(value) if isinstance(value, float | str) else operator.index(value)
        if number == value or isinstance(value, str):
            return number
    except Exception as error:
        if is_interruption(error):
            raise
    say_once(
        f"init: save_interval={shown(value)}: must be a whole number; {default} is used instead"
    )
    return default


def as_step(step: Any) -> int | None:
    """A step as a whole number; None, and a message, for anything else."""
    try:
        step = step.item() if getattr(step, "ndim", None) == 0 else step
        if is_a(step, float) and step.is_integer():
            step = int(step)
        number = operator.index(step)
        if -STEP_MAX <= number < STEP_MAX - 1:
            return number
    except Exception as error:
        if is_interruption(error):
            raise
    say_once("log: step: must be a whole number of 64 bits; the run's own step is used")
    return None


def as_tags(tags: Any) -> list[str]:
    """Tags as texts: of a text with commas, or of anything that has elements."""
    if tags is None:
        return []
    parts = text_of(tags).split(",") if is_a(tags, str) else tags
    return [tag for tag in (text_of(part).strip() for part in parts) if tag]
