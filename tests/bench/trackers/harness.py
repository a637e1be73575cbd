"""The tests, the same for all: kill, torn tail, damage, cut, end, cost, power loss.

An event is one log call with four numbers. A number that the tracker's own reader does not return
counts as a quarter of an event lost. A number that it returns without an error although it was
never logged counts as wrong. Both are judged by value.
"""

import json
import math
import mmap
import os
import random
import selectors
import shutil
import signal
import statistics
import struct
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.bench.trackers import Tracker, log_files, trackers
from tests.bench.trackers.child import NAMES, values_of

ROOT = Path(__file__).parents[3]
CHILD = [sys.executable, "-m", "tests.bench.trackers.child"]
MARK = "TRACKERS_TRIAL"
START_PATIENCE_S = 120.0
READ_PATIENCE_S = 60.0
CHILDREN_PATIENCE_S = 20.0
TORN_EVENTS, RESUMED_EVENTS = (300, 700), 50
POWER_RATE, POWER_SECONDS = 50, 25
DAMAGES: dict[str, Callable[[int, random.Random], int]] = {
    "bit flip": lambda byte, rng: byte ^ 1 << rng.randrange(8),
    "0x00": lambda byte, rng: 0x00,
    "0xFF": lambda byte, rng: 0xFF,
    "LF": lambda byte, rng: 0x0A,
}

Summary = dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """How much of each test. Rate 0 is as fast as it goes."""

    kills: tuple[tuple[int, int, int, int], ...]
    """(events a second, trials, fewest events before the kill, most)."""
    torn: int
    damages: int
    """Of each of the four kinds."""
    cuts: int
    ends: int
    """Trials of SIGTERM, and as many of an exception."""
    events: int
    """In the run whose files are damaged and cut."""
    cost: tuple[int, int, int]
    """(rounds, blocks a round, calls a block)."""
    power: int


TINY = Plan(((1000, 2, 120, 180),), 1, 4, 6, 1, 250, (1, 1, 20), 0)
QUICK = Plan(((50, 2, 50, 150), (0, 3, 200, 1000)), 3, 10, 20, 2, 500, (1, 4, 50), 0)
FULL = Plan(
    ((50, 4, 50, 250), (500, 12, 100, 1000), (0, 12, 200, 1500)),
    8, 50, 60, 6, 1000, (3, 10, 100), 2,
)  # fmt: skip


# ---- processes


class Trainer:
    """A process that logs, and the whole tree of processes that its logger starts."""

    def __init__(
        self,
        name: str,
        folder: Path,
        *,
        first: int = 0,
        count: int = 10**9,
        rate: float = 0,
        end: str = "finish",
        beside: Path | None = None,
    ) -> None:
        """`beside`: the folder for the harness' own files; by default next to `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        beside = beside or folder.parent
        shared = beside / "acknowledged"
        shared.write_bytes(struct.pack("<q", first))
        with open(shared, "r+b") as file:
            self._shared = mmap.mmap(file.fileno(), 8)
        self._output_file = beside / "output"
        self._mark = uuid.uuid4().hex
        more = (folder, shared, first, count, rate, end)
        with open(self._output_file, "wb") as output:
            self.process = subprocess.Popen(
                [*CHILD, "write", name, *map(str, more)],
                cwd=folder,
                env=child_environment(beside) | {MARK: self._mark},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self._first = first

    @property
    def acknowledged(self) -> int:
        """The step after the last whose call returned."""
        return int(struct.unpack("<q", self._shared[:8])[0])

    def wait_for(self, step: int) -> None:
        """Wait until calls up to `step` have returned. Raises RuntimeError if it ends before."""
        give_up = time.monotonic() + START_PATIENCE_S
        while self.acknowledged < step:
            if self.process.poll() is not None and self.acknowledged < step:
                raise RuntimeError(f"the trainer ended by itself: {self.output()}")
            if time.monotonic() > give_up:
                raise TimeoutError(f"{self.acknowledged} of {step} events in {START_PATIENCE_S} s")
            time.sleep(0.0002)

    def output(self) -> str:
        """The end of what it printed."""
        return self._output_file.read_text(errors="replace").strip()[-300:]

    def tree(self) -> list[int]:
        """Living processes that have this trial's mark, the trainer first."""
        mark = f"{MARK}={self._mark}".encode()
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if mark in (process / "environ").read_bytes():
                    found.append(int(process.name))
        return sorted(found, key=lambda pid: pid != self.process.pid)

    def kill_tree(self, known: Iterable[int] = ()) -> int:
        """Send SIGKILL to all of them; returns how many events were acknowledged by then.

        They are stopped first, the trainer before its children, so that none can react to the
        death of another.
        """
        tree = list(known) or self.tree()
        while tree:
            for number in (signal.SIGSTOP, signal.SIGKILL):
                for pid in tree:
                    with suppress(ProcessLookupError):
                        os.kill(pid, number)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(0.05)
            tree = self.tree()
        self.process.wait()
        return self.acknowledged

    def wait_for_children(self) -> None:
        """Let the children of an ended trainer finish; kill those that do not end."""
        give_up = time.monotonic() + CHILDREN_PATIENCE_S
        while self.tree() and time.monotonic() < give_up:
            time.sleep(0.05)
        self.kill_tree()

    def finish(self, patience_s: float = START_PATIENCE_S) -> int:
        """Wait until it and its children have ended by themselves; returns its exit status."""
        try:
            status = self.process.wait(patience_s)
        finally:
            self.wait_for_children()
        return status


def child_environment(home: Path) -> dict[str, str]:
    """Our environment, without settings and accounts of the trackers."""
    ours = ("WANDB_", "MLFLOW_", "TRACKIO_", "DVC", "HF_", "OPTUNA_")
    others = {k: v for k, v in os.environ.items() if not k.startswith(ours)}
    quiet = {"WANDB_ERROR_REPORTING": "false", "DO_NOT_TRACK": "1"}
    return others | quiet | {"PYTHONPATH": str(ROOT), "HOME": str(home)}


class Reader:
    """A process that reads folders with a logger's own reader; it may hang or die."""

    def __init__(self, name: str, home: Path) -> None:
        self._name = name
        self._home = home
        self._process: subprocess.Popen[bytes] | None = None

    def read(self, folder: Path) -> "Answer":
        if self._process is None:
            self._process = subprocess.Popen(
                [*CHILD, "read", self._name],
                cwd=self._home,
                env=child_environment(self._home),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(f"{folder}\n".encode())
        process.stdin.flush()
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            line = process.stdout.readline() if selector.select(READ_PATIENCE_S) else b""
        if line:
            answer = json.loads(line)
            return Answer([tuple(v) for v in answer["values"]], answer["error"])
        self.close()
        return Answer([], "the reader hung or died")

    def close(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            assert process.stdin is not None
            assert process.stdout is not None
            process.kill()
            process.wait()
            process.stdin.close()
            process.stdout.close()


# ---- judging


@dataclass
class Answer:
    """The result of a reader: (step, name, value), and its error, if it raised one."""

    values: list[tuple[Any, Any, Any]]
    error: str | None = None

    def right(self) -> set[tuple[int, str]]:
        """Which (step, name) it has, with the value that was logged."""
        return {(step, name) for step, name, value in self.values if is_right(step, name, value)}

    def n_wrong(self) -> int:
        """How many values of our names were never logged, if the reader raised no error."""
        if self.error is not None:
            return 0
        ours = (v for v in self.values if v[1] in NAMES)
        return sum(not is_right(*value) for value in ours)


def is_right(step: Any, name: Any, value: Any) -> bool:
    return type(step) is int and name in NAMES and value == values_of(step)[name]


@dataclass
class Tally:
    """Trials of one test, summed up."""

    lost: list[float] = field(default_factory=list)
    wrong: int = 0
    refused: int = 0
    unreadable: int = 0
    acknowledged: int = 0
    examples: set[str] = field(default_factory=set)

    def add(self, answer: Answer, must: set[tuple[int, str]]) -> None:
        """`must`: what the answer should have."""
        right = answer.right()
        self.lost.append(len(must - right) / len(NAMES))
        self.wrong += answer.n_wrong() > 0
        self.acknowledged += len(must) // len(NAMES)
        if answer.error is not None:
            self.refused += 1
            self.unreadable += not right
            self.examples.add(answer.error)

    def summary(self) -> Summary:
        return {
            "trials": len(self.lost),
            "events": self.acknowledged,
            "lost": sum(self.lost),
            "lost_mean": statistics.fmean(self.lost),
            "lost_worst": max(self.lost),
            "wrong_trials": self.wrong,
            "refused": self.refused,
            "unreadable": self.unreadable,
            "errors": sorted(self.examples)[:3],
        }


def every(steps: Iterable[int]) -> set[tuple[int, str]]:
    """All values of these steps."""
    return {(step, name) for step in steps for name in NAMES}


# ---- the tests


class Bench:
    """One tracker, and the folder in which it is tested."""

    def __init__(self, name: str, workdir: Path, plan: Plan, seed: int) -> None:
        self.name = name
        self.tracker: Tracker = trackers()[name]
        self.workdir = workdir
        self.plan = plan
        self.seed = seed
        workdir.mkdir(parents=True)
        self.reader = Reader(name, workdir)
        self._n_folders = 0

    def close(self) -> None:
        self.reader.close()
        shutil.rmtree(self.workdir, ignore_errors=True)

    def chances(self, test: str) -> random.Random:
        return random.Random(f"{self.seed} {self.name} {test}")

    @contextmanager
    def folder(self) -> Iterator[Path]:
        """An empty folder, removed afterwards together with the files beside it."""
        self._n_folders += 1
        outer = self.workdir / str(self._n_folders)
        (outer / "run").mkdir(parents=True)
        try:
            yield outer / "run"
        finally:
            shutil.rmtree(outer, ignore_errors=True)

    def read(self, folder: Path) -> Answer:
        """The result of reading a copy, because some readers write."""
        with self.folder() as copy:
            if folder.exists():  # a power cut may have removed it
                shutil.copytree(folder, copy, symlinks=True, dirs_exist_ok=True)
            return self.reader.read(copy)

    @contextmanager
    def clean_run(self, n_events: int) -> Iterator[Path]:
        """A run that was closed as documented. Raises if its reader does not return all of it."""
        with self.folder() as folder:
            trainer = Trainer(self.name, folder, count=n_events)
            if trainer.finish() != 0:
                raise RuntimeError(f"the trainer failed: {trainer.output()}")
            answer = self.read(folder)
            missing = every(range(n_events)) - answer.right()
            if missing or answer.error or answer.n_wrong():
                raise RuntimeError(
                    f"{len(missing)} values of a clean run are missing, {answer.n_wrong()} wrong: "
                    f"{answer.error}"
                )
            yield folder

    def kill(self) -> Summary:
        """SIGKILL for the whole process tree, by rate."""
        rows = []
        for rate, trials, fewest, most in self.plan.kills:
            chances = self.chances(f"kill {rate}")
            tally = Tally()
            for _ in range(trials):
                with self.folder() as folder:
                    acknowledged = self._killed(folder, rate, chances.randint(fewest, most))
                    tally.add(self.read(folder), every(range(acknowledged)))
            rows.append({"rate": rate} | tally.summary())
        return {"by_rate": rows}

    def _killed(self, folder: Path, rate: float, at: int) -> int:
        trainer = Trainer(self.name, folder, rate=rate)
        try:
            trainer.wait_for(1)
            tree = trainer.tree()
            trainer.wait_for(at)
        except BaseException:
            trainer.kill_tree()
            raise
        return trainer.kill_tree(tree)

    def torn(self) -> Summary:
        """Killed, the newest file cut by 1 to 12 bytes, resumed for 50 events, read again."""
        chances = self.chances("torn")
        tally = Tally()
        resume_refused, waited_s = 0, 0.0
        refusals = set()
        for _ in range(self.plan.torn):
            with self.folder() as folder:
                acknowledged = self._killed(folder, 500, chances.randint(*TORN_EVENTS))
                before = self.read(folder).right()
                self._cut_newest(folder, chances.randint(1, 12))
                begin = time.monotonic()
                trainer = Trainer(self.name, folder, first=acknowledged, count=RESUMED_EVENTS)
                if trainer.finish() != 0:
                    resume_refused += 1
                    refusals.add(trainer.output().splitlines()[-1][:200])
                waited_s = max(waited_s, time.monotonic() - begin)
                after = every(range(acknowledged, trainer.acknowledged))
                tally.add(self.read(folder), before | after)
        return tally.summary() | {
            "resume_refused": resume_refused,
            "resume_worst_s": waited_s,
            "resume_errors": sorted(refusals)[:3],
        }

    def _cut_newest(self, folder: Path, n_bytes: int) -> None:
        files = [p for p in log_files(self.tracker, folder) if p.stat().st_size > n_bytes]
        if files:  # a logger that had nothing on disk yet has nothing to cut
            newest = max(files, key=lambda path: path.stat().st_mtime_ns)
            os.truncate(newest, newest.stat().st_size - n_bytes)

    def damage(self) -> Summary:
        """One byte of a clean run's files changed: each trial another one."""
        chances = self.chances("damage")
        must = every(range(self.plan.events))
        tally = Tally()
        with self.clean_run(self.plan.events) as clean:
            for kind in list(DAMAGES) * self.plan.damages:
                with self.folder() as copy:
                    shutil.copytree(clean, copy, symlinks=True, dirs_exist_ok=True)
                    self._damage(copy, DAMAGES[kind], chances)
                    tally.add(self.reader.read(copy), must)
        return tally.summary() | {"run_events": self.plan.events, "kinds": list(DAMAGES)}

    def _damage(
        self, folder: Path, change: Callable[[int, random.Random], int], chances: random.Random
    ) -> None:
        before = after = 0
        while before == after:
            path, offset = self._anywhere(folder, chances)
            with open(path, "r+b") as file:
                file.seek(offset)
                before = file.read(1)[0]
                after = change(before, chances)
                file.seek(offset)
                file.write(bytes((after,)))

    def _anywhere(self, folder: Path, chances: random.Random) -> tuple[Path, int]:
        """A byte of the files that hold the values, each as likely as any other."""
        sizes = [(path, path.stat().st_size) for path in log_files(self.tracker, folder)]
        at = chances.randrange(sum(size for _, size in sizes))
        for path, size in sizes:
            if at < size:
                return path, at
            at -= size
        raise AssertionError

    def cut(self) -> Summary:
        """One file of a clean run cut at any length: what of the whole events before is lost?

        An event is whole if a number of a later one still stands in what is left of the file.
        """
        chances = self.chances("cut")
        tally = Tally()
        with self.clean_run(self.plan.events) as clean:
            places = {
                path.relative_to(clean): places_of(path.read_bytes(), self.plan.events)
                for path in log_files(self.tracker, clean)
            }
            for _ in range(self.plan.cuts):
                with self.folder() as copy:
                    shutil.copytree(clean, copy, symlinks=True, dirs_exist_ok=True)
                    path, length = self._anywhere(copy, chances)
                    os.truncate(path, length)
                    cut = path.relative_to(copy)
                    must = whole(places[cut], length)
                    must = must.union(*(p for other, p in places.items() if other != cut))
                    tally.add(self.reader.read(copy), must)
        return tally.summary() | {"run_events": self.plan.events}

    def end(self) -> Summary:
        """SIGTERM to the trainer alone, and an exception in it; children may do their work."""
        chances = self.chances("end")
        sigterm, exception = Tally(), Tally()
        for _ in range(self.plan.ends):
            at = chances.randint(100, 600)
            with self.folder() as folder:
                trainer = Trainer(self.name, folder, rate=500)
                trainer.wait_for(at)
                trainer.process.terminate()
                trainer.finish()
                sigterm.add(self.read(folder), every(range(trainer.acknowledged)))
            with self.folder() as folder:
                trainer = Trainer(self.name, folder, rate=500, count=at, end="raise")
                trainer.finish()
                exception.add(self.read(folder), every(range(trainer.acknowledged)))
        return {"sigterm": sigterm.summary(), "exception": exception.summary()}

    def size(self) -> Summary:
        """Bytes an event adds to the files that hold the values."""
        sizes = []
        for n_events in (100, 1100):
            with self.clean_run(n_events) as folder:
                sizes.append(sum(p.stat().st_size for p in log_files(self.tracker, folder)))
        return {"bytes_per_event": (sizes[1] - sizes[0]) / 1000}

    def cost_round(self, blocks: int, calls: int, period_ms: float) -> dict[str, list[int]]:
        """Durations in ns of calls of the tracker and of a bare write, in the same process."""
        with self.folder() as folder:
            more = (folder, blocks, calls, period_ms)
            subprocess.run(
                [*CHILD, "cost", self.name, *map(str, more)],
                cwd=folder,
                env=child_environment(folder.parent),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=600,
                check=True,
            )
            took: dict[str, list[int]] = json.loads((folder / "cost.json").read_bytes())
            return took


def places_of(data: bytes, n_events: int) -> dict[tuple[int, str], int]:
    """Where in a file's bytes the first copy of each number stands, as text or binary."""

    def find(write: Callable[[float], bytes], n: int) -> dict[tuple[int, str], int]:
        found = {(i, k): data.find(write(v)) for i in range(n) for k, v in values_of(i).items()}
        return {key: at for key, at in found.items() if at >= 0}

    spellings: tuple[Callable[[float], bytes], ...] = (
        lambda v: repr(v).encode(),
        lambda v: b"\x15" + struct.pack("<f", v),  # protobuf's tag of Summary.Value.simple_value
        lambda v: struct.pack(">d", v),  # SQLite
    )
    best = max(spellings, key=lambda spelling: len(find(spelling, min(n_events, 20))))
    return find(best, n_events)


def whole(places: dict[tuple[int, str], int], length: int) -> set[tuple[int, str]]:
    """Values in a file's first `length` bytes that belong to whole events."""
    last = max((step for (step, _), at in places.items() if at < length), default=-1)
    return {(step, name) for (step, name), at in places.items() if at < length and step < last}


def sync_folder(folder: Path) -> None:
    """Make the entries of a folder survive power loss: only the tracker's files may be lost."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sum_up(trials: list[Summary]) -> Summary:
    """The sums of several trials, as one row."""
    failed = [trial for trial in trials if "failed" in trial]
    if failed:
        return failed[0]
    summed: Summary = {
        key: sum(trial[key] for trial in trials)
        for key in ("trials", "events", "lost", "wrong_trials", "refused", "unreadable")
    }
    return summed | {
        "lost_mean": summed["lost"] / summed["trials"],
        "lost_worst": max(trial["lost_worst"] for trial in trials),
        "lost_s": summed["lost"] / summed["trials"] / POWER_RATE,
        "errors": sorted({error for trial in trials for error in trial["errors"]})[:3],
    }


TESTS = ("kill", "torn", "damage", "cut", "end", "size")
"""The tests of one tracker alone, two of which can run at the same time."""


# ---- tests of all trackers together


def cost(benches: list[Bench], plan: Plan, say: Callable[[str], None]) -> dict[str, Summary]:
    """Duration of a call, hot and with a pause of 1 ms before each, the trackers in turns."""
    rounds, blocks, calls = plan.cost
    took: dict[tuple[str, str], list[dict[str, list[int]]]] = {}
    results: dict[str, Summary] = {}
    for round_ in range(rounds):
        for bench in benches:
            say(f"{bench.name}: cost, round {round_ + 1} of {rounds}")
            try:
                for pace, period_ms in (("hot", 0.0), ("paced", 1.0)):
                    one = bench.cost_round(blocks, calls, period_ms)
                    took.setdefault((bench.name, pace), []).append(one)
            except (OSError, subprocess.SubprocessError) as error:
                results[bench.name] = {"failed": str(error)[:200]}
    for (name, pace), parts in took.items():
        tracker = [ns for part in parts for ns in part["tracker"]]
        bare = [ns for part in parts for ns in part["bare"]]
        results.setdefault(name, {})[pace] = {
            "calls": len(tracker),
            "rounds": len(parts),
            "p50_us": statistics.median(tracker) / 1000,
            "p99_us": percentile(tracker, 99) / 1000,
            "mean_us": statistics.fmean(tracker) / 1000,
            "bare_p50_us": statistics.median(bare) / 1000,
            "bare_p99_us": percentile(bare, 99) / 1000,
            "ratio": statistics.median(
                statistics.median(part["tracker"]) / statistics.median(part["bare"])
                for part in parts
            ),
        }
    return results


def percentile(numbers: list[int], percent: float) -> int:
    """The smallest number that `percent` percent of the numbers do not exceed."""
    return sorted(numbers)[max(0, math.ceil(len(numbers) * percent / 100) - 1)]


def power(
    benches: list[Bench], kind: str, workdir: Path, seed: int, say: Callable[[str], None]
) -> dict[str, Summary]:
    """One power cut for each, after about 25 s at 50 events a second; each has its own disk.

    Nothing else is synced there. Raises `Unavailable` if there can be no such file system.
    """
    from tests.durability.filesystems import MAKE

    results: dict[str, Summary] = {}
    with ExitStack() as stack:
        disks, trainers, workdirs = {}, {}, {}
        for bench in benches:
            own = workdirs[bench.name] = workdir / f"{kind}-{bench.name}"
            own.mkdir(parents=True)
            stack.callback(shutil.rmtree, own, ignore_errors=True)
            disks[bench.name] = stack.enter_context(MAKE[kind](own))
        for bench in benches:
            folder = disks[bench.name].path / "run"
            folder.mkdir()
            sync_folder(folder.parent)
            trainer = Trainer(bench.name, folder, rate=POWER_RATE, beside=workdirs[bench.name])
            stack.callback(trainer.kill_tree)
            trainers[bench.name] = trainer
        for name, trainer in trainers.items():
            try:
                trainer.wait_for(1)
            except (RuntimeError, TimeoutError) as error:
                results[name] = {"failed": str(error)[:200]}
        seconds = random.Random(f"{seed} power {kind}").uniform(0.92, 1.08) * POWER_SECONDS
        say(f"power on {kind}: all log, the cut comes in {seconds:.1f} s")
        time.sleep(seconds)
        acknowledged = {}
        for name, trainer in trainers.items():
            acknowledged[name] = trainer.acknowledged
            disks[name].power_cut()
        for bench in benches:
            trainers[bench.name].kill_tree()
            if bench.name in results:
                continue
            disks[bench.name].restart()
            tally = Tally()
            answer = bench.read(disks[bench.name].path / "run")
            tally.add(answer, every(range(acknowledged[bench.name])))
            results[bench.name] = tally.summary()
    return results
