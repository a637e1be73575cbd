"""A run told step by step, each step at its own time, and what it has been promised so far.

The writer is the real one; only its thread, its clock and its random names are replaced,
so that a story told twice makes the same calls: `stepwise`.
"""

import contextlib
import errno
import itertools
import queue
import random
import secrets
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest

import eventlog
from eventlog import appender, journal, repair, session
from eventlog.record import decode
from tests.durability.crash_states import State, TracingDisk

FAST = Path("/dev/shm") if Path("/dev/shm").is_dir() else None
"""A folder in memory, if there is one: here no power is lost but in thought."""


class Steps:
    """Threads, clocks and names for a writer that is to do one thing after the other."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.names = itertools.count()
        self.threading = SimpleNamespace(
            RLock=_Lock,
            current_thread=lambda: None,
            Condition=lambda: _Condition(self),
            Thread=_Thread,
        )
        self.time = SimpleNamespace(monotonic=lambda: self.now, sleep=self.sleep)

    def name(self, n_bytes: int) -> str:
        return f"{next(self.names):0{2 * n_bytes}x}"

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class _Lock(contextlib.nullcontext[None]):
    def _is_owned(self) -> bool:
        return False


class _Queue:
    """Nobody waits for anything: the thread's work is done where others wait for it."""

    def put(self, item: None) -> None:
        pass

    def get(self, timeout: float) -> None:
        raise queue.Empty


class _Condition:
    """Who waits for the sync thread does its work in the meantime."""

    def __init__(self, steps: Steps) -> None:
        self._steps = steps
        self.work: Callable[[], object] = lambda: None

    def __enter__(self) -> None:
        pass

    def __exit__(self, *error: object) -> None:
        pass

    def wait(self, timeout_s: float) -> None:
        self.work()
        self._steps.sleep(timeout_s)

    def notify_all(self) -> None:
        pass


class _Thread:
    """Does nothing by itself; its last round is done by who joins it."""

    def __init__(self, target: Callable[[], object], **named: object) -> None:
        self._last_round: Callable[[], object] | None = target
        target.__self__._synced.work = target.__self__._sync_once

    def start(self) -> None:
        pass

    def is_alive(self) -> bool:
        return self._last_round is not None

    def join(self, timeout_s: float) -> None:
        work, self._last_round = self._last_round, None
        work()


class _Clock:
    """Half a second an event, from a fixed time on."""

    def __init__(self, steps: Steps) -> None:
        self._steps = steps
        self.us = 0

    def now(self) -> str:
        self._steps.now += 0.5
        self.us = int(self._steps.now * 1e6)
        minutes, seconds = divmod(self._steps.now - 1000, 60)
        return f"2026-11-23T{int(minutes) // 60:02}:{int(minutes) % 60:02}:{seconds:09.6f}+00:00"


class _FixedDay(datetime):
    @classmethod
    def now(cls, tz: object = None) -> datetime:
        return datetime(2026, 11, 23)


@contextlib.contextmanager
def stepwise() -> Iterator[Steps]:
    """In here a writer has no thread of its own, and every run of it makes the same calls."""
    steps = Steps()
    with pytest.MonkeyPatch.context() as patch:
        for room in (journal, appender, repair):
            for name in ("threading", "time"):
                if hasattr(room, name):
                    patch.setattr(room, name, getattr(steps, name))
            if hasattr(room, "say"):
                patch.setattr(room, "say", _nothing)
        patch.setattr(journal, "SimpleQueue", _Queue)
        patch.setattr(journal, "Clock", lambda: _Clock(steps))
        patch.setattr(secrets, "token_hex", steps.name)
        patch.setattr(secrets, "choice", lambda letters: letters[0])
        patch.setattr(session, "datetime", _FixedDay)
        patch.setattr(session, "origin", lambda: {"host": "h", "pid": 1})
        patch.setattr(session, "say", _nothing)
        patch.setattr(session, "atexit", SimpleNamespace(register=_nothing, unregister=_nothing))
        yield steps


def _nothing(*args: object) -> None:
    pass


class Promised(NamedTuple):
    """What holds at one moment: whatever happens next, this must not be lost."""

    opened: bool
    """`open_run` has returned: the journal is there."""
    durable: tuple[tuple[str, int], ...]
    """Records of each session that survive power loss, from the first on."""
    accepted: tuple[tuple[str, int], ...]
    """Records of each session that survive the death of the process."""
    kept: frozenset[tuple[str, int]]
    """Records that were there after a power loss: they stay."""
    n_documents: int
    """Compactions that have returned."""
    n_weights: int
    """Checkpoints whose saving has returned."""
    torn: tuple[tuple[int, bytes], ...]
    """Ends of lines that a session met, and where: they are not thrown away."""


class Story:
    """A run in `root`, told by its methods; `moments` has what was promised before each call."""

    def __init__(self, root: Path, steps: Steps, *, has_fallback: bool = True) -> None:
        self.steps = steps
        self.disk = TracingDisk(root)
        self.disk.before = self._note_moment
        self.moments: list[Promised] = []
        self.logged: dict[tuple[str, int], tuple[str, dict[str, Any]]] = {}
        self.documents: list[bytes] = []
        """Every run JSON that was written."""
        self.documented: list[frozenset[tuple[str, int]]] = []
        """The records that each was made of."""
        self.weights: list[bytes] = []
        """Every checkpoint that was saved, all under one name."""
        self.journal = root / "run.jsonl"
        self.run: eventlog.Session | None = None
        self.torn: list[tuple[int, bytes]] = []
        self.i = 0
        self._kept: frozenset[tuple[str, int]] = frozenset()
        self._durable: dict[str, int] = {}
        self._accepted: dict[str, int] = {}
        self._n_documents = self._n_weights = 0
        self._opened = self._sync_failed = False
        if has_fallback:
            self.disk.has_folder(root / "fallback")

    # ---- the steps of a story

    def open(self, from_iter: int | None = None, **more: Any) -> None:
        """A session: the first makes the run, a later one continues it."""
        root = self.disk.root
        how = {"fallback": root / "fallback", "save_interval": 0, "disk": self.disk} | more
        if self._opened:
            self.run = eventlog.open_run(journal=self.journal, from_iter=from_iter, **how)
        else:
            self.run = eventlog.open_run(root, config={"lr": 1}, **how)
            self.journal = self.run.journal_path
        self._opened = True
        if from_iter is not None:
            self.i = from_iter

    def iter(self, n: int = 1) -> None:
        for _ in range(n):
            self._log("iter", iter=self.i, loss=5.0 - self.i / 8)
            self.i += 1

    def eval(self) -> None:
        self._log("eval", iter=self.i, train_loss=5.0, val_loss=5.5 - self.i / 8, lr=0.5)

    def note(self, n_bytes: int = 8) -> None:
        self._log("note", text="n" * n_bytes)

    def rewind(self, to_iter: int) -> None:
        self._log("rewind", to_iter=to_iter)
        self.i = to_iter

    def checkpoint(self) -> None:
        """Save, then say so, as a trainer does."""
        version = self.save()
        self._log("checkpoint", iter=self.i, path="ckpt.pt", version=version)

    def save(self) -> int:
        data = b"weights %d " % len(self.weights) * 30
        self.weights.append(data)
        eventlog.atomic_write(
            self.disk.root / "ckpt.pt", lambda file: file.write(data), disk=self.disk
        )
        self._n_weights = len(self.weights)
        return len(self.weights) - 1

    def compact(self) -> None:
        eventlog.compact(self.journal, disk=self.disk)
        self.documents.append(self.journal.with_suffix(".json").read_bytes())
        of = frozenset((r.s, r.n) for r in eventlog.scan(self.journal))
        # A sync that failed for a compactor makes the next one of this file succeed for nothing,
        # until the writer hears of it and goes on in a segment: DURABILITY.md says so.
        self.documented.append(frozenset() if self.disk.owes_an_error else of)
        self._n_documents = len(self.documents)

    def sync(self, meanwhile: Callable[[], object] | None = None) -> bool:
        """All that was logged becomes durable; `meanwhile` happens while the disk works on it."""
        self.disk.meanwhile = meanwhile
        done = self._session.sync(timeout_s=1.0)
        self.disk.meanwhile = None
        return done

    def turn(self) -> None:
        """The sync thread has its turn."""
        self._session._journal._sync_once()

    def close(self, status: str = "completed") -> None:
        self._session.close(status)
        assert self._session.errors == 0
        n = self._session._journal.close_n
        self.logged[self._session.id, n] = ("close", {"status": status, "reason": None})
        session_id, records = self._session.id, self._session.records
        self._end()
        if not self._sync_failed:  # close returns when everything is durable
            self._durable[session_id] = records

    def kill(self) -> None:
        """The process dies; the kernel closes its files, nothing else happens to them."""
        self._session._journal._appender.let_go()
        self._session._journal._counter.close()
        journal._LIVE.discard(self._session._journal)
        self._end()

    def power_loss(self, rng: random.Random, *, torn: bool = False) -> State:
        """The machine dies too; one of the states that this may leave is there afterwards.

        `torn`: one whose journal ends inside a line.
        """
        if self.run is not None:
            self.kill()
        promised = self.promised()
        states = list(self.disk.world().states(200, rng))
        if torn:
            states = [state for state in states if state[self.journal.name][-1:] not in b"\n\0"]
        state = rng.choice(states)
        self.disk.lose_power(state)
        self.found_after_loss(promised, state)
        return state

    def found_after_loss(self, promised: Promised, state: State) -> None:
        """From now on all that is there stays; the rest of what was accepted may be gone."""
        self._accepted.clear()
        data = state.get(self.journal.name)
        if data is None:
            assert not promised.opened
            self._opened = False
            return
        self._kept |= {(r.s, r.n) for r in eventlog.scan(self.journal)}
        start = data.rfind(b"\n") + 1
        if data[start:] and decode(data[start:]) is None:
            self.torn.append((start, data[start:]))

    def forget(self) -> None:
        """Somebody damaged the files: of what there was nothing is promised any more."""
        self._kept = frozenset()
        self._durable.clear()
        self._accepted.clear()
        self.torn.clear()

    # ---- what it was promised

    def promised(self) -> Promised:
        if self.run is not None:
            self._durable[self.run.id] = self.run.durable_records
            self._accepted[self.run.id] = self.run._journal._appender.accepted_n
        return Promised(
            self._opened,
            tuple(self._durable.items()),
            tuple(self._accepted.items()),
            self._kept,
            self._n_documents,
            self._n_weights,
            tuple(self.torn),
        )

    @property
    def _session(self) -> eventlog.Session:
        assert self.run is not None
        return self.run

    def _log(self, event: str, **fields: Any) -> None:
        n, errors = self._session.records, self._session.errors
        self.logged[self._session.id, n] = (event, fields)
        self._session.log(event, **fields)
        assert self._session.errors == errors, f"a {event!r} event was not taken"

    def _end(self) -> None:
        appender = self._session._journal._appender
        self._sync_failed = appender.sync_failed or appender._has_hole
        self.promised()
        self.run = None

    def _note_moment(self) -> None:
        self.moments.append(self.promised())


# ---- stories


def of_a_run(story: Story) -> None:
    """A run as it should be: evals, checkpoints, compactions, events while the disk works."""
    story.open()
    story.iter(2)
    story.eval()
    story.checkpoint()
    story.turn()
    story.iter(2)
    story.sync(meanwhile=story.iter)
    story.compact()
    story.iter()
    story.checkpoint()
    story.note(200)
    story.compact()
    story.iter(2)
    story.close()
    story.compact()


def of_a_power_loss(story: Story) -> None:
    """The tail is torn, the run goes back and takes iterations again."""
    story.open()
    story.iter(2)
    story.sync()
    story.checkpoint()
    story.iter(3)
    story.power_loss(random.Random(1), torn=True)
    story.compact()
    story.open(from_iter=1)
    story.iter()
    story.rewind(0)
    story.eval()
    story.kill()
    story.open()
    story.checkpoint()
    story.close("interrupted")
    story.compact()


def of_a_failing_disk(story: Story) -> None:
    """Syncs fail, twice: the session goes on in a segment, and in another on the other disk."""
    story.open()
    story.iter(2)
    story.sync()
    story.iter(2)
    story.disk.refuse = once("sync", errno.EIO)
    story.turn()
    story.iter()
    story.sync(meanwhile=story.iter)
    story.disk.refuse = once("sync", errno.EIO)
    story.turn()
    story.iter()
    story.checkpoint()
    story.sync()
    story.close()
    story.compact()
    story.open(from_iter=3)
    story.iter()
    story.close()


def of_a_full_disk(story: Story) -> None:
    """Writes are short, then refused, until there is space again."""
    story.open()
    story.disk.refuse = once("write", 0.3)
    story.iter()
    story.steps.sleep(2)
    story.iter()
    for part in (0.3, 0.99, 0.0):
        story.disk.refuse = once("write", part)
        story.iter(2)
        story.steps.sleep(2)
    story.disk.refuse = lambda operation, name: errno.ENOSPC if operation == "write" else None
    story.iter(3)
    story.eval()
    story.disk.refuse = lambda operation, name: None
    story.steps.sleep(2)
    story.turn()
    story.iter()
    story.checkpoint()
    story.sync()
    story.disk.refuse = once("write", 0.5)
    story.iter()
    story.kill()
    story.open()
    story.iter()
    story.close()
    story.compact()


def of_a_network_file_system(story: Story) -> None:
    """Each resumed session has a file of its own; nothing is ever cut."""
    story.disk.network = True
    story.open()
    story.iter(2)
    story.sync()
    story.iter(2)
    story.power_loss(random.Random(1), torn=True)
    story.open(from_iter=1)
    story.iter()
    story.checkpoint()
    story.iter()
    story.kill()
    story.open()
    story.eval()
    story.close()
    story.compact()


def random_story(story: Story, rng: random.Random, n_steps: int) -> None:
    """Anything that may happen to a run, in any order."""
    story.disk.network = rng.random() < 0.1
    story.open()
    for _ in range(n_steps):
        step = rng.choices(_STEPS, _WEIGHTS)[0]
        if story.run is None and step not in ("compact", "power loss"):
            story.disk.refuse = lambda operation, name: None
            story.open(from_iter=rng.choice([None, None, rng.randint(0, story.i)]))
        _take(story, step, rng)
    story.disk.refuse = lambda operation, name: None
    if story.run is not None:
        story.close()
    story.compact()


_CHANCES = {
    "iter": 8,
    "eval": 3,
    "note": 2,
    "rewind": 1,
    "sync": 3,
    "turn": 2,
    "checkpoint": 2,
    "compact": 2,
    "short write": 2,
    "refused write": 1,
    "failed sync": 1,
    "close": 1,
    "kill": 1,
    "power loss": 1.5,
}
_STEPS, _WEIGHTS = list(_CHANCES), list(_CHANCES.values())


def _take(story: Story, step: str, rng: random.Random) -> None:
    match step:
        case "iter":
            story.iter(rng.randint(1, 3))
        case "note":
            story.note(rng.choice([0, 10, 300]))
        case "rewind":
            story.rewind(rng.randint(0, story.i))
        case "sync":
            story.sync(meanwhile=rng.choice([None, story.iter, story.eval]))
        case "short write":
            story.disk.refuse = once("write", rng.random() * 0.99)
            story.iter()
        case "refused write":
            story.disk.refuse = once("write", errno.ENOSPC)
            story.iter()
        case "failed sync":
            story.disk.refuse = once("sync", errno.EIO)
            story.turn()
        case "power loss":
            story.power_loss(rng)
        case "checkpoint" | "compact":
            with contextlib.suppress(OSError):  # of a fault before
                getattr(story, step)()
        case _:
            getattr(story, step)()


def once(operation: str, answer: int | float) -> Callable[[str, str], int | float | None]:
    """A fault that the next call of `operation` meets, and no other."""
    left = [answer]
    return lambda asked, name: left.pop() if asked == operation and left else None
