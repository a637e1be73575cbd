"""Runs recovery on every state that a power loss may leave, and checks the promises on each."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

import eventlog
from eventlog.disk import Disk
from eventlog.fold.compaction import compact, write_run
from eventlog.fold.load import Folding, load_run
from eventlog.format.record import decode
from eventlog.read.reader import Reader
from tests.durability.crash_states import State, World, put
from tests.durability.stories import Promised, Story, stepwise

Identity = tuple[str, int]
Contents = tuple[tuple[str, bytes], ...]
AFTERWARDS = 10**6  # the iteration that is logged after a recovery
THOROUGH_EVERY = 16
NOT_LAST = "the next session is not in the run JSON"
REFUSED = "the next session does not take the journal for one"
_READ_BY_RECOVERY = (".jsonl", ".segment")


class Violation(AssertionError):
    """A promise that does not hold in some state."""


class QuietDisk(Disk):
    """The real disk without syncs: what recovery writes here need not survive."""

    def __init__(self, network: bool = False) -> None:
        self.network = network

    def sync_data(self, fd):
        pass

    def sync_dir(self, directory):
        pass

    def reserve(self, fd, offset, size_bytes):
        pass

    def is_network(self, path):
        return self.network


class CollectingFold(eventlog.Fold):
    """A fold that also keeps the records themselves."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[eventlog.Record] = []

    def add(self, record: eventlog.Record) -> None:
        super().add(record)
        self.records.append(record)


class Found(NamedTuple):
    """What a reader finds in a state, and whether the run can be resumed."""

    records: dict[Identity, eventlog.Record]
    missing: frozenset[Identity]
    """Those that the reader says are missing."""
    problem: str = ""
    """What went wrong in recovery itself."""


@dataclass
class Examination:
    """All states of one story, checked, with counts."""

    story: Story
    seen: set[bytes] = field(default_factory=set)
    """Digests of the states that were checked, in this story and in those before it."""
    n_recoveries: int = 0
    """Different contents of the journal and its segments, each recovered and written on."""
    n_moments: int = 0
    _found: dict[tuple[str, Contents], Found] = field(default_factory=dict)
    _checked: set[tuple[Contents, Promised, bool]] = field(default_factory=set)
    _lines: dict[Identity, set[bytes]] = field(default_factory=dict)

    def look_at_all(
        self, limit: int, rng: random.Random, limit_of_a_file: int = 200
    ) -> "Examination":
        """Every state before every call of the story, at most `limit` a call.

        Raises:
            Violation: a promise does not hold in one of them.
        """
        self._collect_lines()
        world, before = World(), None
        known: set[Contents] = set()
        moments = zip(self.story.disk.trace, self.story.moments, strict=True)
        for op, promised in (*moments, (None, self.story.promised())):
            if promised != before:
                known.clear()  # the states may be the same, but more is promised of them
            states = world.states(limit, rng, limit_of_a_file=limit_of_a_file)
            for index, state in enumerate(states):
                contents = tuple(sorted(state.items()))
                if contents not in known:
                    known.add(contents)
                    self._look_at(state, promised, process_only=index == 0)
                    self.seen.add(_digest(contents))
            if op is not None:
                world.apply(op)
            before = promised
            self.n_moments += 1
        return self

    def _collect_lines(self) -> None:
        """Every line that the writer tried to write, by session and number."""
        of_others = self.story.others.values()
        writes = (op[2] for op in self.story.disk.trace if op[0] == "write")
        pieces = [data for data in writes if data not in of_others]
        # one piece may begin a line that the next ends, or stand behind half of another
        for line in (b"".join(pieces) + b"\n" + b"\n".join(pieces)).split(b"\n"):
            record = decode(line)
            if record is not None:
                lines = self._lines.setdefault((record.s, record.n), set())
                lines.add(line)
                if len(lines) > 1:
                    raise Violation(f"two records are named {record.s} {record.n}")

    def _look_at(self, state: State, promised: Promised, *, process_only: bool) -> None:
        if promised.opened and promised.journal not in state:
            raise Violation("the journal is not there, although open_run has returned")
        journal = tuple(sorted(f for f in state.items() if f[0].endswith(_READ_BY_RECOVERY)))
        for path, data in self.story.others.items():
            if state.get(path, data) != data:
                raise Violation("a file of another run was changed")
        found = self._recovered(journal, state, promised.journal)
        if found.problem and promised.is_disturbed:
            return  # somebody deleted the journal, and it may be half written again
        # Where somebody took away the `open` event of a session that went on in a segment, the
        # clock alone says where it belongs, and that may have been set.
        has_no_place = found.problem == NOT_LAST and any(n == 0 for _, n in promised.cut_off)
        if found.problem and not has_no_place:
            raise Violation(found.problem)
        if (journal, promised, process_only) not in self._checked:
            self._check_records(found, promised, process_only)
            if process_only:
                self._check_lines(state, promised)
            self._checked.add((journal, promised, process_only))
        self._check_document(state, promised, found)
        self._check_weights(state, promised, found)
        for offset, torn in promised.torn:
            self._check_kept(state[promised.journal], state, offset, torn)

    # ---- the promises

    def _check_records(self, found: Found, promised: Promised, process_only: bool) -> None:
        cut_off = promised.cut_off
        for s, n_records in promised.durable:
            for n in range(n_records):
                if (s, n) not in found.records and (s, n) not in cut_off:
                    raise Violation(f"record {n} of {s} is lost, although it was durable")
        if process_only:
            for s, n_records in promised.accepted:
                for n in range(n_records):
                    if (s, n) not in found.records and (s, n) not in cut_off:
                        raise Violation(f"record {n} of {s} is lost, although it was accepted")
        if not promised.stated_lost <= found.missing:
            raise Violation("records were lost at the end, and the journal does not say so")
        if not promised.survived - cut_off <= found.records.keys():
            raise Violation("a record that one power loss had left is lost later")
        last: dict[str, int] = {}
        for (s, n), record in found.records.items():
            if record.line not in self._lines.get((s, n), ()):
                raise Violation(f"record {n} of {s} was never written")
            logged = self.story.logged.get((s, n))
            fields = {k: v for k, v in record.fields.items() if k != "durable"}
            if logged is not None and logged != (record.event, fields):
                raise Violation(f"record {n} of {s} is not what was logged")
            # Who cut or overwrote the journal may have left other lines of the session before its
            # first one, which is then written again.
            is_harmed = promised.is_disturbed or (n == 0 and any(name == s for name, _ in cut_off))
            if n < last.get(s, -1) and not is_harmed:
                raise Violation(f"record {n} of {s} comes after one of a higher number")
            last[s] = max(n, last.get(s, -1))
        for s, end in last.items():
            holes = {(s, n) for n in range(end)} - found.records.keys()
            if not holes <= found.missing:
                raise Violation(f"records of {s} are missing and not reported")

    def _check_lines(self, state: State, promised: Promised) -> None:
        """For other programs that read the file: each record is on a line of its own."""
        lines = {
            line
            for path, data in state.items()
            if path.endswith((".jsonl", ".segment"))
            for line in data.split(b"\n")
        }
        for s, n_records in promised.accepted:
            for n in range(n_records):
                if (s, n) not in promised.cut_off and lines.isdisjoint(self._lines.get((s, n), ())):
                    raise Violation(f"record {n} of {s} does not stand in a line of its own")

    def _check_document(self, state: State, promised: Promised, found: Found) -> None:
        data = state.get(Path(promised.journal).with_suffix(".json").name)
        if data is None:
            if promised.n_documents:
                raise Violation("the run JSON is gone")
            return
        least = max(0, promised.n_documents - 1)
        if data not in self.story.documents[least:]:
            raise Violation("the run JSON is neither the old nor the new one")
        of = self.story.documented[self.story.documents.index(data, least)]
        if promised.opened and not of - promised.cut_off <= found.records.keys():
            raise Violation("the run JSON has survived, but the journal it was made of has not")

    def _check_weights(self, state: State, promised: Promised, found: Found) -> None:
        data = state.get("ckpt.pt")
        versions = [r.fields["version"] for r in found.records.values() if r.event == "checkpoint"]
        least = max([promised.n_weights - 1, *versions])
        if least >= 0 and data not in self.story.weights[least:]:
            raise Violation("a checkpoint that has an event is not complete")
        if data is not None and data not in self.story.weights:
            raise Violation("the checkpoint is neither the old nor the new one")

    def _check_kept(self, data: bytes, state: State, offset: int, torn: bytes) -> None:
        aside = [data for path, data in state.items() if path.endswith(".torn")]
        if not _is_kept(torn, data[offset : offset + len(torn)], aside):
            raise Violation("the bytes that were cut off are not kept anywhere")

    # ---- recovery

    def _recovered(self, journal: Contents, state: State, name: str) -> Found:
        """What recovery finds; it depends on the journal and its segments only."""
        found = self._found.get((name, journal))
        if found is None:
            self.n_recoveries += 1
            thorough = self.n_recoveries % THOROUGH_EVERY == 0
            try:
                found = recover(self.story, state, name, thorough=thorough)
            except eventlog.NotAJournal:
                found = Found({}, frozenset(), REFUSED)
            self._found[name, journal] = found
        return found


def _digest(contents: Contents) -> bytes:
    digest = blake2b(digest_size=16)
    for path, data in contents:
        digest.update(b"%b %d " % (path.encode(), len(data)))
        digest.update(data)
    return digest.digest()


def recover(story: Story, state: State, name: str, *, thorough: bool = True) -> Found:
    """Read a state, resume the run, compact, and read, as a user does after a crash.

    `thorough`: compact before resuming as well, and load the run JSON.
    """
    root, disk = story.disk.root, QuietDisk(story.disk.network)
    journal = root / name
    if journal.name not in state:
        return Found({}, frozenset())
    put(root, state)
    reader = Reader(journal)
    before = list(reader.read_on(to_the_end=True))
    if reader.is_misordered:  # a folder with segments was named too late, as every reader does
        reader.restart()
        before = list(reader.read_on(to_the_end=True))
    missing = frozenset(
        (d.session, n)
        for d in reader.defects
        if d.kind == "gap"
        for n in range(d.first_n, d.last_n + 1)
    )
    if thorough and before:
        compact(journal, disk=disk)
    with eventlog.open_run(
        journal=journal, save_interval=0, disk=disk, fallback=root / "fallback"
    ) as run:
        run.log_iter(AFTERWARDS, loss=0.5)
    folding = Folding(journal)
    folding.fold = after = CollectingFold()
    document = write_run(folding, disk=disk)
    problem = (
        _problem_with_records(before, after.records, run.id)
        or _problem_with_bytes(root, state[journal.name], journal.read_bytes())
        or _problem_with_documents(journal, document, thorough)
    )
    return Found({(r.s, r.n): r for r in before}, missing, problem)


def _problem_with_records(
    before: list[eventlog.Record], after: list[eventlog.Record], s: str
) -> str:
    if [r[:5] for r in after if r.s != s] != [r[:5] for r in before]:
        return "the next session changed what was there"
    if [(r.n, r.event) for r in after if r.s == s] != [(0, "open"), (1, "iter"), (2, "close")]:
        return "what the next session wrote cannot be read"
    return ""


def _problem_with_bytes(root: Path, old: bytes, new: bytes) -> str:
    whole = old[: old.rfind(b"\n") + 1]
    if not new.startswith(whole):
        return "bytes inside the journal were changed"
    aside = [path.read_bytes() for path in root.glob("*.torn")]
    if _is_kept(old[len(whole) :], new[len(whole) : len(old)], aside):
        return ""
    return "the bytes that were cut off are not kept anywhere"


def _is_kept(torn: bytes, place: bytes, aside: list[bytes]) -> bool:
    """Whether all of `torn` is still in its place, or its end in a file beside it."""
    return place == torn or any(
        place.startswith(torn[: -len(end)]) for end in aside if end and torn.endswith(end)
    )


def _problem_with_documents(journal: Path, run: eventlog.Run, thorough: bool) -> str:
    if not run.training_iterations or run.training_iterations[-1]["iter"] != AFTERWARDS:
        return NOT_LAST
    if thorough:
        loaded, folded = load_run(journal.with_suffix(".json")), load_run(journal)
        if not (loaded.summary == folded.summary == run.summary):
            return "the run JSON and the journal do not agree"
        if loaded.training_iterations != run.training_iterations:
            return "the run JSON and the journal do not agree"
    return ""


def examine(
    tell: Callable[[Story], object],
    root: Path,
    *,
    limit: int,
    limit_of_a_file: int = 200,
    rng: random.Random,
    seen: set[bytes] | None = None,
    has_fallback: bool = True,
) -> Examination:
    """Run a story in an empty folder and check all its states.

    Raises:
        Violation: a promise does not hold in one of them.
    """
    put(root, {})
    with stepwise() as steps:
        story = Story(root, steps, has_fallback=has_fallback)
        tell(story)
        examination = Examination(story, set() if seen is None else seen)
        return examination.look_at_all(limit, rng, limit_of_a_file)
