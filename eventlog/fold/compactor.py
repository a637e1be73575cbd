"""The process that keeps the run JSON beside a writer, and outlives it by one fold."""

import contextlib
import errno
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO

from eventlog.disk import DISK
from eventlog.fold.compaction import compact, follow
from eventlog.interruption import is_interruption
from eventlog.write.fork import call_in_children
from eventlog.write.messages import say

PATIENCE_S = 60.0
SAY_AFTER_S = 3.0  # a longer wait is reported
_NEVER_CLOSED: list[IO[bytes]] = []


class Compactor:
    """The process that folds a journal beside its writer; a thread where none can start."""

    def __init__(self, journal: Path, every: int) -> None:
        self._journal, self._every = journal, every
        self._pid = os.getpid()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread: threading.Thread | None = None
        self._until: IO[bytes] | None = None
        self._identity = (0, 0)
        try:
            self._process = start_follower(journal, every=every)
            assert self._process.stdin is not None
            self._until = self._process.stdin
            self._identity = DISK.identity(self._until.fileno())
        except OSError as error:
            self._start_thread(error)
        _LIVE.add(self)

    def _start_thread(self, refusal: OSError) -> None:
        """Fold in a thread of this process; if none can start, at the end only."""
        try:
            self._thread, self._until = _start_thread(self._journal, self._every)
            self._identity = DISK.identity(self._until.fileno())
            say(f"the compactor process could not start ({refusal}); folding in this process")
        except (OSError, RuntimeError) as error:
            if is_interruption(error):
                raise
            self._until = None
            say(f"the compactor could not start ({error}); the run JSON is written at the end")

    def finish(self, journal: Path) -> None:
        """Wait for its last fold; if that failed, fold here.

        `journal`: its present path; it may have been moved.

        Raises:
            OSError: the run JSON could not be written.
        """
        if os.getpid() != self._pid:
            return
        _LIVE.discard(self)
        was_open = self._close_pipe()  # if not, the compactor may have ended before the last events
        has_ended = self._has_ended(SAY_AFTER_S)
        who = f"the compactor (process {self._process.pid})" if self._process else "the compactor"
        if not has_ended:
            say(f"{journal}: closed; waits for {who}, {PATIENCE_S:.0f} s at most")
            has_ended = self._has_ended(PATIENCE_S - SAY_AFTER_S)
        if not has_ended:
            say(f"{journal}: {who} has not ended; the run JSON is written without it")
        if not (has_ended and was_open and self._process and self._process.returncode == 0):
            compact(journal)

    def _has_ended(self, timeout_s: float) -> bool:
        """Whether it ends within the time."""
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout_s)
            return self._process.returncode is not None
        if self._thread is not None:
            self._thread.join(timeout_s)
            return not self._thread.is_alive()
        return True

    def close_in_child(self) -> None:
        """A forked data loader must not keep the pipe open after the writer died."""
        self._close_pipe()

    def _close_pipe(self) -> bool:
        """Close the pipe; False: the program closed it, and its descriptor may be another file."""
        until = self._until
        if until is None:
            return False
        with contextlib.suppress(OSError):
            if DISK.identity(until.fileno()) == self._identity:
                until.close()
                return True
        _NEVER_CLOSED.append(until)
        return False


def _start_thread(journal: Path, every: int) -> tuple[threading.Thread, IO[bytes]]:
    """A thread that runs `follow` until the returned pipe closes."""
    read_end, write_end = os.pipe()

    def run() -> None:
        with os.fdopen(read_end, "rb", buffering=0) as until, contextlib.suppress(OSError):
            follow(journal, every=every, until=until)

    thread = threading.Thread(target=run, name="journal-compactor", daemon=True)
    try:
        thread.start()
    except BaseException:
        os.close(read_end)
        os.close(write_end)
        raise
    return thread, os.fdopen(write_end, "wb", buffering=0)


def start_follower(journal: Path, *, every: int) -> "subprocess.Popen[bytes]":
    """A process of its own that runs `follow`, and ends when the returned pipe closes.

    It runs in its own session: neither Ctrl-C nor a signal to the process group ends it, and it
    outlives its parent by one fold.

    Raises:
        OSError: no such process could be started.
    """
    if not sys.executable or _is_compiled_program():
        raise FileNotFoundError(errno.ENOENT, "this program has no Python interpreter to start")
    # -P: a `json.py` in the working folder must not be imported. PYTHONPATH: the trainer may have
    # found eventlog through sys.path alone.
    command = [
        sys.executable,
        "-P",
        "-m",
        "eventlog",
        "compact",
        "--follow",
        "--every",
        str(every),
        str(journal),
    ]
    here = str(Path(__file__).parents[2])
    path = os.pathsep.join(filter(None, (here, os.environ.get("PYTHONPATH"))))
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
        env=os.environ | {"PYTHONPATH": path},
    )


_LIVE = call_in_children(Compactor.close_in_child)


def _is_compiled_program() -> bool:
    """Whether `sys.executable` is this program, which would begin again (PyInstaller, Nuitka)."""
    return hasattr(sys, "frozen") or hasattr(sys.modules.get("__main__"), "__compiled__")
