"""A million appends, interrupted in every way: none may hang, be lost, or be written twice.

python -m tests.durability.reentrancy --n 1000000      one line for each way

Each way is a program of its own, so that one that hangs can be killed and reported.
"""

import argparse
import ctypes
import gc
import itertools
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import SimpleQueue
from typing import NamedTuple

import eventlog
from eventlog.read.reader import Reader

EVERY_S = 0.0001


class Outcome(NamedTuple):
    """The events whose calls returned, and what became of them."""

    appended: int
    interruptions: int
    lost: int
    twice: int
    errors: int
    defects: int

    @property
    def is_clean(self) -> bool:
        return self.lost == self.twice == self.errors == self.defects == 0


class Log:
    """A run, and the ids of the events whose calls have returned."""

    def __init__(self, folder: Path) -> None:
        self.run = eventlog.open_run(folder, save_interval=0)
        self.returned: list[int] = []
        self._ids = itertools.count()

    def append(self) -> None:
        i = next(self._ids)  # an id is tried once: what an exception interrupted may be in or out
        if i % 8:
            self.run.log_iter(i, 1.0, some=[i])
        else:
            self.run.log_eval(i, 1.0, 1.0)  # urgent: the thread that syncs is woken
        self.returned.append(i)

    def append_other(self, *, urgent: bool = False) -> None:
        i = next(self._ids)
        self.run.log("signal" if urgent else "note", iter=i)
        self.returned.append(i)

    def outcome(self, interruptions: int) -> Outcome:
        self.run.close()
        assert self.run.journal_path is not None
        reader = Reader(self.run.journal_path)
        records = list(reader.read_on(to_the_end=True))
        logged = [r.fields["iter"] for r in records if "iter" in r.fields]
        return Outcome(
            appended=len(self.returned),
            interruptions=interruptions,
            lost=len(set(self.returned) - set(logged)),
            twice=len(logged) - len(set(logged)),
            errors=self.run.errors,
            defects=len(reader.defects),
        )


def handlers_that_log(log: Log, n: int) -> int:
    """A signal handler logs, sometimes syncs, and is due again as soon as it returns."""
    count, is_inside = 0, False

    def handle(*_: object) -> None:
        nonlocal count, is_inside
        if not is_inside:  # a slow machine would nest them without end
            is_inside = True
            count += 1
            log.append_other(urgent=count % 10 == 0)
            if count % 100 == 0:
                log.run.sync(5)
            is_inside = False
        signal.setitimer(signal.ITIMER_REAL, EVERY_S)

    signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, EVERY_S)
    for _ in range(n):
        log.append()
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    return count


def handlers_that_raise(log: Log, n: int) -> int:
    """A watchdog: its handler raises TimeoutError, which is an OSError, at any bytecode."""

    def handle(*_: object) -> None:
        raise TimeoutError("too slow")

    gc.disable()  # an exception inside a destructor goes nowhere
    signal.signal(signal.SIGALRM, handle)
    count, steps = 0, iter(range(n))
    while True:
        try:
            signal.setitimer(signal.ITIMER_REAL, EVERY_S)
            for _ in steps:
                log.append()
            signal.setitimer(signal.ITIMER_REAL, 0)
            break
        except TimeoutError:
            count += 1
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    return count


class Expired(Exception):
    """A watchdog's own exception, which comes without arguments."""


def exceptions_of_other_threads(log: Log, n: int) -> int:
    """Another thread sets an exception in this one, and the next one once that was counted."""
    kinds = itertools.cycle((TimeoutError, Expired))
    may_shoot: SimpleQueue[None] = SimpleQueue()
    is_over: list[bool] = []  # as the queue: no exception leaves it half changed
    me = ctypes.c_ulong(threading.get_ident())

    def shoot() -> None:
        while True:
            may_shoot.get()
            if is_over:
                return
            time.sleep(2 * EVERY_S)
            ctypes.pythonapi.PyThreadState_SetAsyncExc(me, ctypes.py_object(next(kinds)))

    shooter = threading.Thread(target=shoot, daemon=True)
    shooter.start()
    count, steps = 0, iter(range(n))
    while True:
        try:
            may_shoot.put(None)
            for _ in steps:
                log.append()
            is_over.append(True)
            may_shoot.put(None)
            shooter.join()
            time.sleep(10 * EVERY_S)  # the last one that was set comes now
            return count
        except (TimeoutError, Expired):
            count += 1


def garbage_collection(log: Log, n: int) -> int:
    """Objects in cycles log when they are collected, anywhere."""
    count = 0

    class LogsAtItsEnd:
        def __init__(self) -> None:
            self.me = self

        def __del__(self) -> None:
            nonlocal count
            count += 1
            log.append_other()

    before = gc.get_threshold()
    gc.set_threshold(7)
    for i in range(n):
        if i % 3 == 0:
            LogsAtItsEnd()
        log.append()
    gc.set_threshold(*before)
    gc.collect()
    return count


def forks_of_another_thread(log: Log, n: int) -> int:
    """Another thread forks; each child logs, which is ignored, and exits."""
    is_over, count = threading.Event(), 0

    def fork() -> None:
        nonlocal count
        while not is_over.wait(0.002):
            child = os.fork()
            if not child:
                log.run.log("note", iter=-1)
                os._exit(0)
            os.waitpid(child, 0)
            count += 1

    forker = threading.Thread(target=fork)
    forker.start()
    for _ in range(n):
        log.append()
    is_over.set()
    forker.join()
    return count


WAYS: dict[str, Callable[[Log, int], int]] = {
    way.__name__: way
    for way in (
        handlers_that_log,
        handlers_that_raise,
        exceptions_of_other_threads,
        garbage_collection,
        forks_of_another_thread,
    )
}


def outcome_of(way: str, n: int, *, timeout_s: float) -> Outcome:
    """`n` appends interrupted in one way.

    Raises:
        subprocess.TimeoutExpired: it hangs.
    """
    command = [sys.executable, "-m", "tests.durability.reentrancy", "--n", str(n), "--only", way]
    done = subprocess.run(
        command,
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # each forked child says that it is ignored
        text=True,
        timeout=timeout_s,
        check=True,
    )
    return Outcome(*map(int, done.stdout.split()))


def outcomes(n: int) -> Iterator[tuple[str, Outcome | None, float]]:
    """Each way with its outcome (None: it hangs) and the seconds it took."""
    for way in WAYS:
        begun = time.monotonic()
        try:
            outcome = outcome_of(way, n, timeout_s=60 + n / 500)
        except subprocess.TimeoutExpired:
            outcome = None
        yield way, outcome, time.monotonic() - begun


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--n", type=int, default=1_000_000, help="appends of each way")
    parser.add_argument("--only", choices=WAYS, help="one way, in this process")
    arguments = parser.parse_args()
    if arguments.only:
        with tempfile.TemporaryDirectory() as folder:
            log = Log(Path(folder))
            interruptions = WAYS[arguments.only](log, arguments.n)
            print(*log.outcome(interruptions))
        return 0
    all_clean = True
    for way, outcome, took_s in outcomes(arguments.n):
        all_clean = all_clean and outcome is not None and outcome.is_clean
        text = (
            "HANGS"
            if outcome is None
            else ", ".join(f"{name} {value:,}" for name, value in outcome._asdict().items())
        )
        print(f"{way:28} {text}, {took_s:.0f} s", flush=True)
    return 0 if all_clean else 1


if __name__ == "__main__":
    sys.exit(main())
