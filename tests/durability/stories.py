"""A run that tests drive step by step, and what was promised after each step.

The writer is the real one; only its thread, its clock and its random names are replaced,
so that the same story makes the same calls each time: `stepwise`.
"""

import contextlib
import errno
import itertools
import queue
import random
import secrets
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest

import eventlog
from eventlog.format import record
from eventlog.format.files import segment_name
from eventlog.format.record import decode, encode, encode_header
from eventlog.tracker import location, opening, session
from eventlog.write import appender, durability, journal, line_writer, lock, reserve, sync
from tests.durability.crash_states import State, TracingDisk

TIME_OF_OTHERS = "2026-11-23T00:00:00.000000+00:00"

FAST = Path("/dev/shm") if Path("/dev/shm").is_dir() else None
"""A folder in memory, if there is one: here no power is lost but in thought."""


WALL_S = 1_795_000_000.0  # in November 2026
RESERVE_BYTES = 2048  # in place of 4 MiB: a full disk is to take a few lines, not 23,000


class Steps:
    """Threads, clocks and names for a writer that does one thing after the other."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.wall = WALL_S
        """What the wall clock is ahead of `now`: others set it, and `now` does not see that."""
        self.names = itertools.count()
        self.threading = SimpleNamespace(
            RLock=_Lock,
            current_thread=lambda: None,
            Thread=lambda target, **named: _Thread(self, target),
        )
        self.work: Callable[[], object] = _nothing
        """A round of the sync thread of the session that was opened last."""
        self.time = SimpleNamespace(monotonic=lambda: self.now, sleep=self.sleep)
        self.wall_time = SimpleNamespace(
            time_ns=self.time_ns, strftime=time.strftime, gmtime=time.gmtime
        )

    def name(self, n_bytes: int) -> str:
        return f"{next(self.names):0{2 * n_bytes}x}"

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def time_ns(self) -> int:
        """Half a second for each event."""
        self.now += 0.5
        return int((self.wall + self.now) * 1e6) * 1000


class _Lock(contextlib.nullcontext[None]):
    def _is_owned(self) -> bool:
        return False


class _Queue:
    """A wait for the sync thread does the thread's work instead."""

    def __init__(self, steps: Steps) -> None:
        self._steps = steps

    def put(self, item: None) -> None:
        pass

    def get(self, timeout: float) -> None:
        self._steps.work()
        self._steps.sleep(timeout)
        raise queue.Empty


class _Thread:
    """Does nothing by itself."""

    ident = None

    def __init__(self, steps: Steps, target: Callable[[], object]) -> None:
        self._steps, self._round = steps, target.__self__.sync_once

    def start(self) -> None:
        self._steps.work = self._round


def _do_last_round(thread: sync.SyncThread) -> None:
    """A wait for the thread's end does its last round."""
    thread._run()


class _FixedDay(datetime):
    @classmethod
    def now(cls, tz: object = None) -> datetime:
        return datetime(2026, 11, 23)


@contextlib.contextmanager
def stepwise() -> Iterator[Steps]:
    """Within it a writer has no thread of its own, and every run makes the same calls."""
    steps = Steps()
    with pytest.MonkeyPatch.context() as patch:
        for module in (journal, durability, appender, line_writer, lock, sync):
            for name in ("threading", "time"):
                if hasattr(module, name):
                    patch.setattr(module, name, getattr(steps, name))
            if hasattr(module, "say"):
                patch.setattr(module, "say", _nothing)
        patch.setattr(durability, "free_after_fork", lambda lock: lock)  # it is no lock of threads
        patch.setattr(sync, "SimpleQueue", lambda: _Queue(steps))
        patch.setattr(sync.SyncThread, "_is_woken", lambda thread, timeout_s: False)
        patch.setattr(
            sync.SyncThread, "wait_for_end", lambda thread, timeout_s: _do_last_round(thread)
        )
        patch.setattr(record, "time", steps.wall_time)
        patch.setattr(reserve, "RESERVE_BYTES", RESERVE_BYTES)
        patch.setattr(reserve, "LAST_BYTES", RESERVE_BYTES // 4)
        patch.setattr(secrets, "token_hex", steps.name)
        patch.setattr(secrets, "choice", lambda letters: letters[0])
        patch.setattr(location, "datetime", _FixedDay)
        patch.setattr(opening, "origin", lambda: {"host": "h", "pid": 1})
        patch.setattr(session, "say", _nothing)
        patch.setattr(opening, "say", _nothing)
        patch.setattr(session, "atexit", SimpleNamespace(register=_nothing, unregister=_nothing))
        yield steps


def _nothing(*args: object) -> None:
    pass


class Promised(NamedTuple):
    """What is promised at one moment: this must not be lost, whatever happens next."""

    opened: bool
    """`open_run` has returned: the journal is there."""
    durable: tuple[tuple[str, int], ...]
    """Records of each session that survive power loss, from the first on."""
    accepted: tuple[tuple[str, int], ...]
    """Records of each session that survive the death of the process."""
    survived: frozenset[tuple[str, int]]
    """Records that were there after a power loss: they stay."""
    n_documents: int
    """Compactions that have returned."""
    n_weights: int
    """Checkpoints whose saving has returned."""
    torn: tuple[tuple[int, bytes], ...]
    """Ends of lines that a session met, and where: they are not thrown away."""
    journal: str
    """The name of the journal."""
    stated_lost: frozenset[tuple[str, int]] = frozenset()
    """Records that no disk took by the end: the journal says so."""
    cut_off: frozenset[tuple[str, int]] = frozenset()
    """Records that another program cut off: they may be lost."""
    is_disturbed: bool = False
    """Another program changed the journal, and the writer has not checked it yet."""


def ends_inside_a_line(data: bytes) -> bool:
    tail = data[data.rfind(b"\n") + 1 :]
    return bool(tail) and not tail.endswith(b"\0") and decode(tail) is None


class Story:
    """A run in `root`, driven by methods; `moments` has what was promised before each call."""

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
        self.journal = root / f"run_{_FixedDay.now():%Y%m%d_%H%M%S}.jsonl"
        self.run: eventlog.Session | None = None
        self.torn: list[tuple[int, bytes]] = []
        self.i = 0
        self._survived: frozenset[tuple[str, int]] = frozenset()
        self._durable: dict[str, int] = {}
        self._accepted: dict[str, int] = {}
        self._n_documents = self._n_weights = 0
        self._opened = self._sync_failed = False
        self._is_disturbed = self._has_failed_for_good = False
        self._stated_lost: frozenset[tuple[str, int]] = frozenset()
        self._cut_off: frozenset[tuple[str, int]] = frozenset()
        self.others: dict[str, bytes] = {}
        """Files of other runs in the folders of this one."""
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
        """Save, then log it, as a trainer does."""
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
        # Where no folder took that segment it stays so.
        is_vain = self.disk.owes_an_error or self._failed_for_good
        self.documented.append(frozenset() if is_vain else of)
        self._n_documents = len(self.documents)

    def sync(self, meanwhile: Callable[[], object] | None = None) -> bool:
        """All that was logged becomes durable; `meanwhile` happens while the disk works on it."""
        self.disk.meanwhile = meanwhile
        done = self._session.sync(timeout_s=1.0)
        self.disk.meanwhile = None
        return done

    def turn(self) -> None:
        """The sync thread does one round."""
        self._session._journal._sync_once()

    def close(self, status: str = "completed") -> None:
        self._session.close(status)
        lost, n = self._session.lost, self._session._journal.close_n
        assert self._session.errors == lost
        assert self.disk.full or not lost
        self.logged[self._session.id, n] = ("close", {"status": status, "reason": None})
        session_id, records = self._session.id, self._session.records
        self._end()
        if lost:
            self._stated_lost |= self._lost_at_the_end(session_id, n, lost)
        elif not self._sync_failed:  # close returns when everything is durable
            self._durable[session_id] = records

    def _lost_at_the_end(self, s: str, close_n: int, n_lost: int) -> frozenset[tuple[str, int]]:
        """What the journal reports as lost, if it had space for that; `close` is not lost then."""
        lost = frozenset((s, n) for n in range(self._accepted[s], close_n))
        return lost if len(lost) == n_lost else frozenset()

    def kill(self) -> None:
        """The process dies; the kernel closes its files, nothing else happens to them."""
        self._session._journal._appender.files.close()
        self._session._journal._counter.close()
        journal._LIVE.discard(self._session._journal)
        self._end()

    def power_loss(self, rng: random.Random, *, torn: bool = False) -> State:
        """The machine dies too; one of the possible states is there afterwards.

        `torn`: one whose journal ends inside a line. A whole line that lacks its LF is not cut.
        """
        if self.run is not None:
            self.kill()
        promised = self.promised()
        states = list(self.disk.world().states(200, rng))
        if torn:
            states = [state for state in states if ends_inside_a_line(state[self.journal.name])]
        state = rng.choice(states)
        self.disk.lose_power(state)
        self.found_after_loss(promised, state)
        return state

    def found_after_loss(self, promised: Promised, state: State) -> None:
        """From now on all that is there stays; other accepted records may be lost."""
        self._accepted.clear()
        self._has_failed_for_good = False
        data = state.get(self.journal.name)
        if data is None:
            assert not promised.opened
            self._opened = False
            return
        self._survived |= {(r.s, r.n) for r in eventlog.scan(self.journal)}
        start = data.rfind(b"\n") + 1
        if data[start:] and decode(data[start:]) is None:
            self.torn.append((start, data[start:]))

    def forget(self) -> None:
        """The files were damaged: what was there before is not promised any more."""
        self._survived = frozenset()
        self._durable.clear()
        self._accepted.clear()
        self.torn.clear()

    # ---- what others do

    def step_clock(self, hours: float) -> None:
        """Another program sets the clock."""
        self.steps.wall += hours * 3600

    def fill(self, *, fallback: bool) -> None:
        """Other programs fill the journal's disk, or that of the fallback folder as well."""
        root = self.disk.root
        self.disk.full = frozenset([root, root / "fallback"] if fallback else [root])

    def free(self) -> None:
        """There is space again, and no fault."""
        self.disk.full = frozenset()
        self.disk.refuse = lambda operation, name: None

    def share_the_fallback(self) -> None:
        """Other runs have segments with the same stem there; one of them was killed."""
        stem, ours = self.journal.stem, self._run_id()
        twin = ours[:8] + "f" * 24  # an id that begins as ours does
        next_s = f"a{next(self.steps.names) + 1:07x}"  # what a session of ours will be called
        header = {"journal": self.journal.name, "number": 0, "first_n": 0, "t": TIME_OF_OTHERS}
        for k, (run_id, s, name) in enumerate(
            [
                ("b" * 32, "b0000001", segment_name(stem, "b" * 32, "b0000001", 0)),
                (twin, next_s, segment_name(stem, twin, next_s, 0)),
                ("c" * 32, self._session.id, f"{stem}.{self._session.id}.0.segment"),
            ]
        ):
            first = encode_header(run_id=run_id, session=s, s=f"d000000{k}", **header)
            lines = [encode(n, s, TIME_OF_OTHERS, "note", {"of": run_id}) for n in range(3)]
            data = b"".join([first, *lines])[: None if k else -20]
            path = self.disk.root / "fallback" / name
            self.disk.put_file(path, data)
            self.disk.sync_folder(path.parent)
            self.others[f"fallback/{name}"] = data

    def disturb(self, how: str, *, amount: float = 0.5, meanwhile: int = 1) -> None:
        """Another program deletes, replaces, cuts or moves the journal; then the writer checks it.

        `amount`: how much is left of it. `meanwhile`: iterations before the writer looks, which
        it does every second. Until it has looked, and has synced what it wrote again, nothing
        is promised; afterwards all is but what was cut, or stood in earlier sessions only.
        """
        self._is_disturbed = True
        before = self._session.records - self._session._journal._appender.n_waiting
        size = self._size_left(amount)
        {"delete": self._delete, "replace": self._replace, "cut": self._cut, "move": self._move}[
            how
        ](size)
        self.iter(meanwhile)
        after = self._session.records
        self.turn()
        self.journal = self._session.journal_path
        self.free()
        for _ in range(3):
            self.steps.sleep(61)  # a minute after a failed segment another one is tried
            self.turn()
            if self.sync():
                break
        if how == "cut":  # a line written before the writer looked may stand behind half of one
            self._cut_off |= {(self._session.id, n) for n in range(before, after)}
        self._is_disturbed = False

    def _size_left(self, amount: float) -> int:
        data = self.journal.read_bytes()
        begin = data.index(b"\n") + 1
        return begin + int(amount * (len(data) - begin))

    def _delete(self, size: int) -> None:
        self.disk.take_file(self.journal)

    def _replace(self, size: int) -> None:
        """With an older version of it, as `git checkout` does."""
        data = self.journal.read_bytes()
        size = data.rindex(b"\n", 0, size) + 1
        self._take(data[size:], but_of=self._session.id)
        self.disk.put_file(self.journal, data[:size])

    def _cut(self, size: int) -> None:
        data = self.journal.read_bytes()
        self._take(data[data.rindex(b"\n", 0, size) + 1 :])
        self.disk.cut_file(self.journal, size)

    def _move(self, size: int) -> None:
        """Rename all files of the run."""
        stem = self.journal.stem
        self.disk.move_files(
            {
                path: path.with_name(f"moved_{path.name}")
                for folder in (self.disk.root, self.disk.root / "fallback")
                for path in (folder.iterdir() if folder.is_dir() else ())
                if path.name.startswith(f"{stem}.") and self.disk.relative(path) not in self.others
            }
        )
        self.journal = self.journal.with_name(f"moved_{self.journal.name}")

    def _take(self, data: bytes, but_of: str = "") -> None:
        """`data` is removed from the journal: what was only there is lost."""
        records = (decode(line) for line in data.split(b"\n"))
        self._cut_off |= {(r.s, r.n) for r in records if r is not None and r.s != but_of}
        self.torn.clear()

    def _run_id(self) -> str:
        return str(next(eventlog.scan(self.journal)).fields["run_id"])

    # ---- what it was promised

    def promised(self) -> Promised:
        if self._is_disturbed:
            documents = (self._n_documents, self._n_weights)
            return Promised(
                False, (), (), frozenset(), *documents, (), self.journal.name, is_disturbed=True
            )
        if self.run is not None:
            self._durable[self.run.id] = self.run.durable_records
            self._accepted[self.run.id] = self.run._journal._appender.accepted_n
        return Promised(
            self._opened,
            tuple(self._durable.items()),
            tuple(self._accepted.items()),
            self._survived,
            self._n_documents,
            self._n_weights,
            tuple(self.torn),
            self.journal.name,
            self._stated_lost,
            self._cut_off,
        )

    @property
    def _session(self) -> eventlog.Session:
        assert self.run is not None
        return self.run

    def _log(self, event: str, **fields: Any) -> None:
        n, errors = self._session.records, self._session.errors
        self.logged[self._session.id, n] = (event, fields)
        self._session.log(event, **fields)
        assert self._session.errors == errors, f"a {event!r} event was not logged"

    def _end(self) -> None:
        self._sync_failed = self._session._journal._appender.cannot_sync
        self._has_failed_for_good = self._failed_for_good
        self.promised()
        self.run = None

    @property
    def _failed_for_good(self) -> bool:
        """Whether a sync failed since the last power loss, and no folder took a segment."""
        now = self.run is not None and self.run._journal._appender.sync_failed
        return now or self._has_failed_for_good

    def _note_moment(self) -> None:
        self.moments.append(self.promised())


# ---- stories


def of_a_run(story: Story) -> None:
    """A normal run: evals, checkpoints, compactions, events while the disk syncs."""
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
    """The tail is torn; the run is resumed from an earlier iteration."""
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
    """Syncs fail twice: the session goes on in a segment, and in another one on the other disk."""
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


def of_an_end_on_a_full_disk(story: Story) -> None:
    """The disk is still full when runs end; one has a fallback, one has none."""
    for fallback in (False, True):
        story.open()
        story.iter(2)
        story.sync()
        story.fill(fallback=fallback)
        story.iter(12)
        story.eval()
        story.turn()  # of what the disk took all is durable
        story.close()
        story.free()
    story.compact()


def of_a_shared_fallback(story: Story) -> None:
    """The fallback has segments of other runs, and of a killed session of this one."""
    story.open()
    story.share_the_fallback()
    story.iter()
    story.fill(fallback=False)
    story.disk.refuse = once("sync", errno.EIO)
    story.turn()
    story.iter()
    story.sync()
    story.kill()
    story.free()
    story.open()
    story.iter()
    story.fill(fallback=False)
    story.disk.refuse = once("sync", errno.EIO)
    story.turn()
    story.iter()
    story.close()
    story.free()
    story.compact()


def of_other_hands(story: Story) -> None:
    """The journal is moved, deleted, replaced and cut while the run goes on."""
    story.open()
    story.iter(2)
    for how in ("move", "delete", "cut", "replace"):
        story.disturb(how, meanwhile=how != "cut")
        story.iter()
    story.close()
    story.compact()


def of_a_clock_that_is_set(story: Story) -> None:
    """The clock goes back by hours, and ahead, between events and between sessions."""
    story.open()
    story.iter()
    story.step_clock(-5)
    story.iter()
    story.sync()
    story.step_clock(9)
    story.iter()
    story.disk.refuse = once("sync", errno.EIO)
    story.turn()
    story.step_clock(-7)
    story.iter()
    story.kill()
    story.step_clock(-50)
    story.open()
    story.eval()
    story.close()
    story.compact()


def of_a_network_file_system(story: Story) -> None:
    """Each resumed session writes a file of its own; nothing is ever cut."""
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
    story.disk.can_reserve = rng.random() < 0.7
    story.open()
    if rng.random() < 0.2:
        story.share_the_fallback()
    for _ in range(n_steps):
        step = rng.choices(_STEPS, _WEIGHTS)[0]
        if story.run is None and step not in _WITHOUT_A_SESSION:
            story.free()
            story.open(from_iter=rng.choice([None, None, rng.randint(0, story.i)]))
        _take(story, step, rng)
    if rng.random() < 0.8:
        story.free()
    if story.run is not None:
        story.close()
    story.free()
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
    "full disk": 1,
    "space again": 1,
    "disturb": 1,
    "clock": 1,
    "close": 1,
    "kill": 1,
    "power loss": 1.5,
}
_STEPS, _WEIGHTS = list(_CHANCES), list(_CHANCES.values())


_WITHOUT_A_SESSION = frozenset(("compact", "power loss", "clock", "full disk", "space again"))


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
        case "full disk":
            story.fill(fallback=rng.random() < 0.4)
        case "space again":
            story.free()
            story.steps.sleep(2)
        case "disturb":
            how = rng.choice(["delete", "replace", "cut", "move"])
            story.disturb(how, amount=rng.random(), meanwhile=rng.randint(0, 2))
        case "clock":
            story.step_clock(rng.uniform(-30, 30))
        case "power loss":
            story.power_loss(rng)
        case "checkpoint" | "compact":
            with contextlib.suppress(OSError):  # of a fault before
                getattr(story, step)()
        case _:
            getattr(story, step)()


def once(operation: str, answer: int | float) -> Callable[[str, str], int | float | None]:
    """A fault of the next call of `operation` only."""
    left = [answer]
    return lambda asked, name: left.pop() if asked == operation and left else None
