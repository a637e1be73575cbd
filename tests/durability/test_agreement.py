"""Random sequences of appends and failures, compared with a plain list of what must be there.

The disk refuses, is full, tells lies about syncs; the process dies, the machine dies, the
run is continued, goes back, is compacted. After each step the journal says what the list
says.
"""

import contextlib
import errno
import os
import random
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

import eventlog
from eventlog.fold.load import Folding
from eventlog.format.files import run_path
from tests.durability.recovery import CollectingFold
from tests.durability.stories import FAST, Story, stepwise

LONG_STEPS = int(os.environ.get("AGREEMENT_STEPS", "1000000"))
SHARDS = 4

errnos = st.sampled_from([errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EFBIG])
is_running = precondition(lambda self: self.story.run is not None)
is_over = precondition(lambda self: self.story.run is None)


class Agreement(RuleBasedStateMachine):
    """One run, and the plain list of its events."""

    n_steps = 0
    """Steps taken by all machines of this process."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(dir=FAST))
        self.patches = contextlib.ExitStack()
        self.story = Story(self.root, self.patches.enter_context(stepwise()))
        self.was_there: list[tuple[str, int]] = []
        """What the reader found after the last crash, in order: it stays."""
        self.faults: list[Any] = []
        self.fault = ("write", 0)

    def teardown(self) -> None:
        if self.story.run is not None:
            self.story.kill()
        self.patches.close()
        shutil.rmtree(self.root)

    # ---- what a trainer does

    @initialize()
    def begin(self) -> None:
        self.story.disk.refuse = self._answer
        self.story.open()

    @is_over
    @rule(back=st.none() | st.integers(0, 4))
    def resume(self, back):
        self.faults.clear()
        self.story.open(from_iter=None if back is None else max(0, self.story.i - back))

    @is_running
    @rule(n=st.integers(1, 3))
    def take_iterations(self, n):
        self.story.iter(n)

    @is_running
    @rule()
    def evaluate(self):
        self.story.eval()

    @is_running
    @rule(n_bytes=st.integers(0, 400))
    def note(self, n_bytes):
        self.story.note(n_bytes)

    @is_running
    @rule(back=st.integers(0, 4))
    def go_back(self, back):
        self.story.rewind(max(0, self.story.i - back))

    @is_running
    @rule()
    def checkpoint(self):
        with contextlib.suppress(OSError):  # the trainer's own affair: no event then
            self.story.checkpoint()

    @is_running
    @rule(meanwhile=st.sampled_from([None, "iter", "eval"]))
    def sync(self, meanwhile):
        n = self.story.run.records
        healthy = not self.faults and not self.story.run._journal._appender.n_waiting

        done = self.story.sync(meanwhile and getattr(self.story, meanwhile))

        assert done == (self.story.run.durable_records >= n)
        assert done or not healthy

    @is_running
    @rule()
    def let_the_sync_thread_work(self):
        self.story.turn()

    @is_running
    @rule(status=st.sampled_from(["completed", "interrupted", "failed"]))
    def close(self, status):
        self.faults.clear()
        self.story.steps.sleep(2)
        self.story.close(status)

    @rule()
    def compact(self):
        self.faults.clear()
        self.story.compact()
        first = run_path(self.story.journal).read_bytes()
        self.story.compact()

        assert run_path(self.story.journal).read_bytes() == first
        assert eventlog.load_run(self.story.journal).summary == self._run_json().summary

    @is_running
    @rule()
    def second_writer(self):
        before = self.story.journal.read_bytes()

        with pytest.raises(eventlog.JournalLocked, match="is being written by"):
            eventlog.open_run(journal=self.story.journal, save_interval=0)

        assert self.story.journal.read_bytes() == before

    # ---- what a disk does

    @is_running
    @rule(parts=st.lists(st.floats(0, 0.99), min_size=1, max_size=3))
    def take_only_a_part_of_the_next_writes(self, parts):
        self.fault, self.faults = "write", parts

    @is_running
    @rule(code=errnos, n=st.integers(1, 4))
    def refuse_the_next_writes(self, code, n):
        self.fault, self.faults = "write", [code] * n

    @is_running
    @rule(code=errnos, n=st.integers(1, 3))
    def fail_the_next_syncs(self, code, n):
        self.fault, self.faults = "sync", [code] * n

    @rule()
    def have_space_again(self):
        self.faults.clear()
        self.story.steps.sleep(100)

    def _answer(self, operation: str, name: str) -> int | float | None:
        ours = name.endswith((".jsonl", ".segment"))
        return self.faults.pop(0) if self.faults and ours and operation == self.fault else None

    # ---- how it ends

    @is_running
    @rule()
    def kill(self):
        accepted = {k for k in self._names() if self._is_accepted(k)}
        self.story.kill()

        self._crashed(at_least=accepted)

    @rule(seed=st.integers(0, 2**32))
    def lose_power(self, seed):
        durable = {(s, n) for s, end in self.story.promised().durable for n in range(end)}
        self.story.power_loss(random.Random(seed))

        self._crashed(at_least=durable)

    @is_over
    @rule(back=st.integers(1, 600))
    def cut_the_tail(self, back):
        """Anywhere behind the last `open`, also where it was durable: what is whole stays."""
        state = self.story.disk.files()
        data = state[self.story.journal.name]
        opened = data.index(b"\n", data.rindex(b'"event":"open"')) + 1
        cut = data[: max(opened, len(data) - back)]
        self.story.disk.lose_power(state | {self.story.journal.name: cut})
        self.story.forget()

        self._crashed(at_least=set())

    def _crashed(self, at_least: set[tuple[str, int]]) -> None:
        names = self._names()
        assert at_least <= set(names)
        self.was_there = names

    # ---- the list

    @invariant()
    def agrees_with_the_list(self):
        Agreement.n_steps += 1
        if not self.story.journal.exists():
            return  # before the first step
        folding = Folding(self.story.journal)
        folding.fold = fold = CollectingFold()
        folding.read_on(to_the_end=self.story.run is None)
        records = fold.records
        names = [(r.s, r.n) for r in records]
        assert len(set(names)) == len(names)
        assert names[: len(self.was_there)] == self.was_there
        assert self.story.disk.repeated_syncs == 0
        for r in records:
            if (r.s, r.n) in self.story.logged:
                fields = {k: v for k, v in r.fields.items() if k != "durable"}
                assert (r.event, fields) == self.story.logged[r.s, r.n]
        if self.story.run is not None:
            s = self.story.run.id
            accepted = self.story.run._journal._appender.accepted_n
            assert [n for t, n in names if t == s] == list(range(accepted))
            assert self.story.run.durable_records <= accepted <= self.story.run.records
        self._check_curve(records, folding.run(alive=self.story.run is not None))

    def _check_curve(self, records: list[eventlog.Record], run: eventlog.Run) -> None:
        iterations, evals = curve(records)
        assert [(row["iter"], row["loss"]) for row in run.training_iterations] == iterations
        assert [(row["iter"], row["val_loss"]) for row in run.eval_steps] == evals
        n_taken = sum(r.event == "iter" for r in records)
        assert run.journal["superseded"]["iterations"] == n_taken - len(iterations)
        assert run.summary["total_iterations"] == len(iterations)

    def _names(self) -> list[tuple[str, int]]:
        return [(r.s, r.n) for r in eventlog.scan(self.story.journal)]

    def _is_accepted(self, name: tuple[str, int]) -> bool:
        return any(name[0] == s and name[1] < n for s, n in self.story.promised().accepted)

    def _run_json(self) -> eventlog.Run:
        return eventlog.load_run(run_path(self.story.journal))


def curve(records: list[eventlog.Record]) -> tuple[list[Any], list[Any]]:
    """Logging iteration i supersedes the earlier iteration i and all later ones."""
    iterations: list[Any] = []
    evals: list[Any] = []
    for r in records:
        i = r.fields.get("iter")
        if r.event == "iter":
            to = i if iterations and i <= iterations[-1][0] else None
        elif r.event == "eval":
            evals = [e for e in evals if e[0] < i] + [(i, r.fields["val_loss"])]
            continue
        else:
            to = r.fields.get("to_iter" if r.event == "rewind" else "from_iter")
        if to is not None:
            iterations = [e for e in iterations if e[0] < to]
            evals = [e for e in evals if e[0] <= to]
        if r.event == "iter":
            iterations.append((i, r.fields["loss"]))
    return iterations, evals


SETTINGS = settings(
    max_examples=max(100, settings().max_examples),
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


class TestAgreement(Agreement.TestCase):
    """In the suite about 3,000 steps; HYPOTHESIS_PROFILE=deep takes 5,000 runs of 30."""

    settings = SETTINGS


@pytest.mark.slow
@pytest.mark.parametrize("shard", range(SHARDS))
def test_a_million_random_steps_agree_with_a_plain_list(shard):
    """AGREEMENT_STEPS in all, divided among the shards."""
    Agreement.n_steps = 0
    while Agreement.n_steps < LONG_STEPS // SHARDS:
        run_state_machine_as_test(
            Agreement, settings=settings(SETTINGS, max_examples=1000, stateful_step_count=50)
        )

    print(f"{Agreement.n_steps:,} steps")
