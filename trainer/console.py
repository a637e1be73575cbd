"""Console output that never ends or stops the program: a reader that left, or that does not read
any more, a full disk, a closed stream.

    with steady_console():
        print("step 1")  # also where `program | head` has left

The first write that fails is reported once, on the other stream; from then on the stream goes to
the null device, for this process' libraries too. Lines that a reader does not take are left out,
and counted when it reads again.
"""

import contextlib
import errno
import io
import os
import select
import sys
from collections.abc import Iterator
from typing import Any, TextIO, cast

TRY_LATER = (errno.EAGAIN, errno.EINTR)
PATIENCE_S = 1.0  # for a reader that takes nothing, before lines are left out


class SteadyStream:
    """A text stream whose writes cannot fail; everything else is the stream's own."""

    def __init__(self, stream: TextIO, name: str) -> None:
        self._stream, self._name = stream, name
        self._other: SteadyStream | None = None
        self._is_broken = False
        self._is_stalled = False
        self._n_left_out = 0

    def write(self, text: str) -> int:
        if self._is_broken:
            return len(text)
        try:
            if not self._is_ready():
                self._n_left_out += text.count("\n")
                return len(text)
            if self._n_left_out:
                n, self._n_left_out = self._n_left_out, 0
                self._write(f"({n:,} lines are left out: nobody read {self._name})\n")
            self._write(text)
        except (OSError, ValueError) as error:  # ValueError: of a closed stream
            self._break_off(error)
        return len(text)

    def _is_ready(self) -> bool:
        """Whether a line can be written without waiting for a reader.

        A pipe is ready when it has room for 4,096 bytes. Where nothing was taken for
        `PATIENCE_S`, the next lines do not wait until something is.
        """
        try:
            poll = select.poll()
            poll.register(self._stream.fileno(), select.POLLOUT)
        except (OSError, ValueError, AttributeError):
            return True  # not a file of the system: nobody to wait for
        self._is_stalled = not poll.poll(0 if self._is_stalled else 1000 * PATIENCE_S)
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
                self._break_off(error)

    def finish(self) -> None:
        """Flush; what nobody takes is dropped, or the end of the process would wait for it."""
        self.flush()
        if self._is_stalled and not self._is_broken:
            self._drop()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _break_off(self, error: Exception) -> None:
        """Say it once on the other stream, and write to the null device from here on."""
        if isinstance(error, OSError) and error.errno in TRY_LATER:
            return  # of a terminal that another program set to non-blocking
        self._drop()
        if self._other is not None:
            self._other.write(
                f"{self._name} cannot be written ({error}): the program goes on without it\n"
            )
            self._other.flush()

    def _drop(self) -> None:
        """Let the stream be the null device, with what it still holds.

        That would fail again, at the latest when the process ends: Python would then exit with
        status 120.
        """
        self._is_broken = True
        with contextlib.suppress(OSError, ValueError, io.UnsupportedOperation):
            to_null_device(self._stream.fileno())
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()


@contextlib.contextmanager
def steady_console() -> Iterator[None]:
    """Meanwhile `sys.stdout` and `sys.stderr` take whatever is written, and never raise."""
    reserve_descriptors()
    before = sys.stdout, sys.stderr
    with open(os.devnull, "w") as null:
        out = SteadyStream(before[0] or null, "stdout")
        err = SteadyStream(before[1] or null, "stderr")
        out._other, err._other = err, out
        mine = cast(TextIO, out), cast(TextIO, err)
        sys.stdout, sys.stderr = mine
        try:
            yield
        finally:
            out.finish()
            err.finish()
            if sys.stdout is mine[0]:
                sys.stdout = before[0]
            if sys.stderr is mine[1]:
                sys.stderr = before[1]


def reserve_descriptors() -> None:
    """Open the null device in place of a standard descriptor that is closed.

    The next file to be opened would get its number, and what a library prints to it would land in
    that file.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            to_null_device(number)


def to_null_device(number: int) -> None:
    """Let descriptor `number` be the null device."""
    null = os.open(os.devnull, os.O_RDWR)
    if null != number:
        os.dup2(null, number)
        os.close(null)
