"""Messages that a program can turn off: where a run logs, and what of W&B does nothing.

EVENTLOG_SILENT or WANDB_SILENT turns them off. Errors are reported nevertheless.
"""

import os

from eventlog.write.messages import say, say_once

_YES = ("1", "true", "yes", "on")


def is_set(*variables: str) -> bool:
    """Whether one of these environment variables is `true`."""
    return any(os.environ.get(name, "").strip().lower() in _YES for name in variables)


def is_silent() -> bool:
    return is_set("EVENTLOG_SILENT", "WANDB_SILENT")


def notice(message: str) -> None:
    if not is_silent():
        say(message)


def notice_once(message: str) -> None:
    if not is_silent():
        say_once(message)
