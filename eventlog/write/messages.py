"""Messages on stderr, for a person. They never raise and never wait."""

import select
import sys

from eventlog.format.foreign import class_name
from eventlog.format.record import text_of
from eventlog.format.text import print_lines
from eventlog.interruption import ignoring
from eventlog.masking import load_masking

MESSAGE_MAX = 900  # characters: a pipe that is ready accepts this much at once

_printed: set[str] = set()


def say(message: str) -> None:
    """Print a message on stderr without credentials, unless that would block or fail.

    Writing to a full pipe that nobody reads would block the training.
    """
    with ignoring(Exception):  # a program may replace sys.stderr by anything
        with ignoring(OSError, ValueError, AttributeError):
            poll = select.poll()
            poll.register(sys.stderr.fileno(), select.POLLOUT)
            if not poll.poll(0):
                return
        message = load_masking().mask_text(message)
        if len(message) > MESSAGE_MAX:
            message = f"{message[:MESSAGE_MAX]}... ({len(message):,} characters)"
        print_lines(f"eventlog: {message}", file=sys.stderr, flush=True)


def say_once(message: str) -> None:
    """Print a message the first time only."""
    if message not in _printed:
        _printed.add(message)
        say(message)


def error_text(error: BaseException) -> str:
    """The class and the text of an error, if it has one, also if its `__str__` raises."""
    text = text_of(error)
    return f"{class_name(error)}: {text}" if text else class_name(error)
