"""Signals from outside: SIGTERM from a scheduler, SIGINT from a keyboard, SIGHUP from a terminal
that closes, SIGUSR1 to save a checkpoint.

The death of the launcher counts as SIGTERM: nobody would wait for the ranks any more.
"""

import ctypes
import os
import signal
import sys
import time
from types import FrameType

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
SAVE_SIGNAL = signal.SIGUSR1
SIGNALS = (*STOP_SIGNALS, SAVE_SIGNAL)
REPEAT_S = 1.0  # Slurm signals every process, and torchrun then forwards the signal it received
PR_SET_PDEATHSIG = 1  # prctl(2)


class Interrupt:
    """Remembers a received signal until the loop asks for it, between two steps.

    A second signal to stop, more than `REPEAT_S` after the first, ends the process at once by the
    signal's default action. If SIGHUP is ignored on entry (nohup), it stays ignored.

        with Interrupt() as interrupt:
            ...
            signals = ranks.sum(*interrupt.received())
    """

    def __init__(self) -> None:
        self.stop_signal: signal.Signals | None = None
        self._stopped_at = 0.0
        self._is_save_requested = False

    def __enter__(self) -> "Interrupt":
        self._previous = {number: signal.getsignal(number) for number in SIGNALS}
        for number in STOP_SIGNALS:
            if number is not signal.SIGHUP or self._previous[number] != signal.SIG_IGN:
                signal.signal(number, self._on_stop)
        signal.signal(SAVE_SIGNAL, self._on_save)
        return self

    def __exit__(self, *error: object) -> None:
        for number, action in self._previous.items():
            signal.signal(number, action)

    # The handlers only set fields: they may run between any two bytecodes.

    def _on_stop(self, number: int, frame: FrameType | None) -> None:
        if self.stop_signal is None:
            self.stop_signal = signal.Signals(number)
            self._stopped_at = time.monotonic()
            # The threads of a killed launcher die one by one, and each death would signal again.
            signal_on_parent_death(0)
        elif time.monotonic() - self._stopped_at > REPEAT_S:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    def _on_save(self, number: int, frame: FrameType | None) -> None:
        self.request_save()

    def request_save(self) -> None:
        """Request a checkpoint, as `SAVE_SIGNAL` does."""
        self._is_save_requested = True

    def received(self) -> list[float]:
        """1 for each of `SIGNALS` that was received here, else 0: to be summed over the ranks.

        A request to save is returned once, a signal to stop every time.
        """
        is_save, self._is_save_requested = self._is_save_requested, False
        return [*(float(self.stop_signal is number) for number in STOP_SIGNALS), float(is_save)]


def received_by_any(sums: list[float]) -> signal.Signals | None:
    """The signal that some rank received, from the sums of `Interrupt.received` over all ranks."""
    return next((number for number, n in zip(SIGNALS, sums, strict=True) if n), None)


def end_with_launcher() -> None:
    """Receive SIGTERM when torchrun is killed, as if it had forwarded one (Linux).

    Otherwise the ranks of a killed torchrun would go on and keep the journal locked against the
    next start of the run.
    """
    if sys.platform != "linux" or "TORCHELASTIC_RUN_ID" not in os.environ:
        return
    signal_on_parent_death(signal.SIGTERM)
    if os.getppid() == 1 and not is_launcher(1):
        os.kill(os.getpid(), signal.SIGTERM)  # it died before the line above


def signal_on_parent_death(number: int) -> None:
    """Have the kernel send that signal when the parent process dies; 0: none (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)


def is_launcher(pid: int) -> bool:
    """Whether that process may be torchrun: in a container it is often process 1 itself."""
    try:
        return os.path.samefile(f"/proc/{pid}/exe", "/proc/self/exe")
    except OSError:  # another user's process: the init process of the machine
        return False
