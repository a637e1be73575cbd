"""Being told from outside: SIGTERM from a scheduler, SIGINT from a keyboard, SIGHUP from a terminal
that closes, SIGUSR1 to save.

A launcher that dies tells its ranks too: nobody would wait for them any more.
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
SAME_WISH_S = 1.0  # Slurm signals every process, and torchrun then passes its own signal on
PR_SET_PDEATHSIG = 1  # prctl(2)


class Interrupt:
    """Remembers a signal for the loop to find between two steps.

    The handler only takes note, since it may run between any two bytecodes. A second stop signal,
    more than `SAME_WISH_S` after the first, ends the process at once by the signal's default
    action. A SIGHUP that is ignored when this begins (nohup) stays ignored.

        with Interrupt() as interrupt:
            ...
            votes = ranks.sum(*interrupt.votes())
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._received_at = 0.0
        self._is_to_save = False

    def __enter__(self) -> "Interrupt":
        self._before = {number: signal.getsignal(number) for number in SIGNALS}
        for number in STOP_SIGNALS:
            if number is not signal.SIGHUP or self._before[number] != signal.SIG_IGN:
                signal.signal(number, self._take_note)
        signal.signal(SAVE_SIGNAL, self._take_wish)
        return self

    def __exit__(self, *error: object) -> None:
        for number, action in self._before.items():
            signal.signal(number, action)

    def _take_note(self, number: int, frame: FrameType | None) -> None:
        if self.received is None:
            self.received = signal.Signals(number)
            self._received_at = time.monotonic()
            # A killed launcher's threads die one by one, and each death would tell us again.
            ask_at_launchers_death(0)
        elif time.monotonic() - self._received_at > SAME_WISH_S:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    def _take_wish(self, number: int, frame: FrameType | None) -> None:
        self.wish_to_save()

    def wish_to_save(self) -> None:
        """Ask for a checkpoint at the next vote, as `SAVE_SIGNAL` does."""
        self._is_to_save = True

    def votes(self) -> list[float]:
        """A number for each of `SIGNALS`, 1 for those received here: to be summed over the ranks.

        A wish to save is given out once.
        """
        wish, self._is_to_save = self._is_to_save, False
        return [*(float(self.received is number) for number in STOP_SIGNALS), float(wish)]


def elected(votes: list[float]) -> signal.Signals | None:
    """The signal that any rank received, given the sum of all ranks' votes."""
    return next((number for number, n in zip(SIGNALS, votes, strict=True) if n), None)


def end_with_launcher() -> None:
    """If torchrun is killed, be told by SIGTERM as if it had passed one on (Linux).

    Without it the ranks of a killed torchrun go on alone, and hold the journal's lock against
    whoever starts the run again.
    """
    if sys.platform != "linux" or "TORCHELASTIC_RUN_ID" not in os.environ:
        return
    ask_at_launchers_death(signal.SIGTERM)
    if os.getppid() == 1 and not is_launcher(1):
        os.kill(os.getpid(), signal.SIGTERM)  # it died before it could be asked


def ask_at_launchers_death(number: int) -> None:
    """Ask the kernel for that signal when the parent dies; 0: for none (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)


def is_launcher(pid: int) -> bool:
    """Whether that process may be torchrun: in a container it is often process 1 itself."""
    try:
        return os.path.samefile(f"/proc/{pid}/exe", "/proc/self/exe")
    except OSError:  # somebody else's: the init of the machine
        return False
