"""Ctrl-C in a process of `torch.multiprocessing.spawn`.

It handles KeyboardInterrupt and ends the process as if its function had returned; SIGINT is also
what such a process gets when its parent dies. So it is noted before the exception is raised.
"""

import signal
import sys
from types import FrameType
from typing import Any

from eventlog.interruption import ignoring

_received = False


def watch_ctrl_c() -> None:
    """Note Ctrl-C from now on, if this is such a process and nothing else handles the signal."""
    spawn: Any = sys.modules.get("torch.multiprocessing.spawn")
    if spawn is None or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        return
    with ignoring(Exception):  # another version of torch; another thread than the main one
        code = spawn._wrap.__code__
        frame: FrameType | None = sys._getframe()
        while frame is not None and frame.f_code is not code:
            frame = frame.f_back
        if frame is not None:
            signal.signal(signal.SIGINT, _note)


def _note(number: int, frame: FrameType | None) -> None:
    global _received
    _received = True
    signal.default_int_handler(number, frame)


def received_ctrl_c() -> bool:
    """Whether it came since it is noted."""
    return _received
