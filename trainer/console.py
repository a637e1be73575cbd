"""Console output that never fails or blocks: the reader has exited or does not read, the disk is
full, the stream is closed.

    with steady_console():
        print("step 1")  # also after `head` in `program | head` has exited

The first failed write is reported once, on the other stream; from then on the stream goes to the
null device, also for libraries in this process. Lines that nobody reads are dropped, and their
number is printed when somebody reads again.
"""

import contextlib
import errno
import io
import os
import select
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO, cast

TEMPORARY = (errno.EAGAIN, errno.EINTR)
TIMEOUT_S = 1.0  # how long to wait for a reader before lines are dropped


class SteadyStream:
    """A text stream whose writes cannot fail; other attributes are those of the stream."""

    def __init__(self, stream: TextIO, name: str) -> None:
        self._stream, self._name = stream, name
        self._other: SteadyStream | None = None
        self._is_broken = False
        self._is_stalled = False
        self._n_dropped = 0

    def write(self, text: str) -> int:
        if self._is_broken:
            return len(text)
        try:
            if not self._is_ready():
                self._n_dropped += text.count("\n")
                return len(text)
            if self._n_dropped:
                n, self._n_dropped = self._n_dropped, 0
                self._write(f"({n:,} lines dropped: nobody read {self._name})\n")
            self._write(text)
        except (OSError, ValueError) as error:  # ValueError: the stream is closed
            self._give_up(error)
        return len(text)

    def _is_ready(self) -> bool:
        """Whether a line can be written without blocking.

        A pipe is ready when it has space for 4,096 bytes. If it is not ready within `TIMEOUT_S`,
        the next calls do not wait for it until it is ready again.
        """
        try:
            poll = select.poll()
            poll.register(self._stream.fileno(), select.POLLOUT)
        except (OSError, ValueError, AttributeError):
            return True  # not a file descriptor: it does not block
        self._is_stalled = not poll.poll(0 if self._is_stalled else 1000 * TIMEOUT_S)
        return not self._is_stalled

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
        except UnicodeEncodeError:
            self._stream.write(text.encode("ascii", "backslashreplace").decode("ascii"))

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        if not self._is_broken:
            try:
                if self._is_ready():
                    self._stream.flush()
            except (OSError, ValueError) as error:
                self._give_up(error)

    def finish(self) -> None:
        """Flush; unread output is dropped, or the exit of the process would wait for its reader."""
        self.flush()
        if self._is_stalled and not self._is_broken:
            self._drop()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _give_up(self, error: Exception) -> None:
        """Report the error on the other stream, and write to the null device from here on."""
        if isinstance(error, OSError) and error.errno in TEMPORARY:
            return  # a terminal that another program has set to non-blocking
        self._drop()
        if self._other is not None:
            self._other.write(
                f"{self._name} cannot be written ({error}): the program continues without it\n"
            )
            self._other.flush()

    def _drop(self) -> None:
        """Redirect the stream and its buffer to the null device.

        Otherwise flushing the buffer would fail again when the process exits, and Python would
        exit with status 120.
        """
        self._is_broken = True
        with contextlib.suppress(OSError, ValueError, io.UnsupportedOperation):
            to_null_device(self._stream.fileno())
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()


@contextlib.contextmanager
def steady_console() -> Iterator[None]:
    """Within it, writing to `sys.stdout` and `sys.stderr` never raises and never blocks."""
    reserve_descriptors()
    original = sys.stdout, sys.stderr
    with open(os.devnull, "w") as null:
        out = SteadyStream(original[0] or null, "stdout")
        err = SteadyStream(original[1] or null, "stderr")
        out._other, err._other = err, out
        steady = cast(TextIO, out), cast(TextIO, err)
        sys.stdout, sys.stderr = steady
        try:
            yield
        finally:
            out.finish()
            err.finish()
            if sys.stdout is steady[0]:
                sys.stdout = original[0]
            if sys.stderr is steady[1]:
                sys.stderr = original[1]


def reserve_descriptors() -> None:
    """Open the null device in place of closed standard descriptors.

    Otherwise the next opened file would get that number, and console output would be written into
    it.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            to_null_device(number)


def to_null_device(number: int) -> None:
    """Redirect the descriptor `number` to the null device."""
    null = os.open(os.devnull, os.O_RDWR)
    if null != number:
        os.dup2(null, number)
        os.close(null)


def display_path(path: Path) -> str:
    """A path as a person would type it: relative if it is in the working directory."""
    try:
        return os.fspath(path.relative_to(Path.cwd())) if path.is_absolute() else os.fspath(path)
    except (ValueError, OSError):  # elsewhere, or the working directory was removed
        return os.fspath(path)
