"""Being told to stop: SIGTERM from a scheduler, SIGINT from a keyboard."""

import os
import signal
import time
from types import FrameType, TracebackType

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
SAME_WISH_S = 1.0  # Slurm signals every process, and torchrun then passes its own signal on


class Interrupt:
    """Remembers a stop signal for the loop to find between two steps.

    The handler only takes note, since it may run between any two bytecodes. A second signal, more
    than `SAME_WISH_S` after the first, ends the process at once by the signal's default action.

        with Interrupt() as interrupt:
            ...
            if interrupt.received: ...
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._received_at = 0.0

    def __enter__(self) -> "Interrupt":
        self._before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
        for number in STOP_SIGNALS:
            signal.signal(number, self._take_note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, action in self._before.items():
            signal.signal(number, action)

    def _take_note(self, number: int, frame: FrameType | None) -> None:
        if self.received is None:
            self.received = signal.Signals(number)
            self._received_at = time.monotonic()
        elif time.monotonic() - self._received_at > SAME_WISH_S:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    def votes(self) -> list[float]:
        """A number for each of `STOP_SIGNALS`, 1 for the one received here: to be summed."""
        return [float(self.received is number) for number in STOP_SIGNALS]


def elected(votes: list[float]) -> signal.Signals | None:
    """The signal that any rank received, given the sum of all ranks' votes."""
    return next((number for number, n in zip(STOP_SIGNALS, votes, strict=True) if n), None)
