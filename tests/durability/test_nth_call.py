"""Any system call fails, once or for a while: training does not notice, and nothing is lost.

A session is run to the end with the n-th call of one operation failing, for every n, every
operation, and every error that a disk has.
"""

import contextlib
import errno
import itertools
import shutil
import tempfile
from pathlib import Path

import pytest

import eventlog
from eventlog.write import line_writer
from tests.durability.stories import FAST, Story, stepwise

REASONS = [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EFBIG]
OPERATIONS = ["open", "create", "write", "sync", "sync_dir", "truncate", "reserve"]
OPERATIONS += ["replace", "unlink"]


@pytest.fixture
def root():
    folder = Path(tempfile.mkdtemp(dir=FAST))
    yield folder
    shutil.rmtree(folder)


def tell(root, fails):
    """A session whose disk asks `fails` before each of its calls; the story, and what was logged.

    What a trainer asks of the disk itself, to save and to fold, may raise: that is its own.
    """
    with stepwise() as steps:
        story = Story(root, steps)
        story.open()
        story.disk.refuse = fails
        for _ in range(2):
            story.iter(2)
            story.eval()
            story.turn()
            with contextlib.suppress(OSError):
                story.checkpoint()
            story.sync()
            with contextlib.suppress(OSError):
                story.compact()
            story.note(300)
            steps.sleep(100)
        story.iter()
        story.disk.refuse = lambda operation, name: None  # there is space again
        steps.sleep(100)
        story.turn()
        story.close()
        return story


class Failing:
    """The calls of one operation fail, from the n-th on, a number of times; counts all of them."""

    def __init__(self, operation, first, n_times, answer):
        self.operation, self.answer = operation, answer
        self.failing = range(first, first + n_times)
        self.n_calls = 0

    def __call__(self, operation, name):
        if operation != self.operation:
            return None
        self.n_calls += 1
        return self.answer if self.n_calls in self.failing else None


def check(story):
    """Every event is in the run, in order, once; no file was synced after a failed sync."""
    records = list(eventlog.scan(story.journal))
    records_by_name = {
        (r.s, r.n): (r.event, {k: v for k, v in r.fields.items() if k != "durable"})
        for r in records
    }
    assert records_by_name.items() >= story.logged.items()
    assert [r.n for r in records] == list(range(len(records)))
    assert story.disk.repeated_syncs == 0
    lost = [d for d in eventlog.load_run(story.journal).journal["defects"] if d["lost"] != 0]
    assert lost == []


def times_asked(root, operation):
    """How often a session calls an operation if nothing fails."""
    count = Failing(operation, 0, 0, None)
    tell(root, count)
    return count.n_calls


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("reason", REASONS, ids=errno.errorcode.get)
def test_no_event_is_lost_whichever_call_fails(root, operation, reason):
    tried = itertools.count(1)
    n_calls = times_asked(root, operation)
    for first, n_times in itertools.product(itertools.islice(tried, n_calls), (1, 2, 7)):
        fails = Failing(operation, first, n_times, reason)
        check(tell(root, fails))
        assert fails.n_calls >= first


@pytest.mark.parametrize("part", [0.0, 0.01, 0.5, 0.99])
def test_no_event_is_lost_whichever_write_is_short(root, part):
    for first, n_times in itertools.product(range(1, times_asked(root, "write") + 1), (1, 2, 7)):
        check(tell(root, Failing("write", first, n_times, part)))


@pytest.mark.parametrize("reason", REASONS, ids=errno.errorcode.get)
def test_a_failed_sync_is_logged(root, reason):
    """With what was durable by then, and the file in which the session goes on."""
    for first in range(1, times_asked(root, "sync") + 1):
        story = tell(root, Failing("sync", first, 1, reason))

        segments = [path.name for path in story.disk.root.rglob("*.segment")]
        errors = [r.fields for r in eventlog.scan(story.journal) if r.event == "io_error"]
        assert [Path(fields["segment"]).name for fields in errors] == segments
        shutil.rmtree(root)
        root.mkdir()


@pytest.mark.parametrize("operation", ["write", "create", "sync"])
def test_a_disk_that_refuses_for_ever_costs_bounded_memory(root, monkeypatch, operation):
    """From any call on: both waiting and unsynced records are limited."""
    monkeypatch.setattr(line_writer, "WAITING_MAX_BYTES", 3000)
    monkeypatch.setattr(line_writer, "UNSYNCED_MAX_BYTES", 3000)
    for first in range(1, 20):
        with stepwise() as steps:
            story = Story(root, steps)
            story.open()
            story.disk.refuse = Failing(operation, first, 10**9, errno.EIO)
            for _ in range(100):
                story.iter()
                story.turn()
            held = story.run._journal._appender
            waiting = sum(len(entry[1]) for entry in held._waiting)
            unsynced = sum(len(entry[1]) for entry in held._unsynced)
            story.kill()

        assert waiting <= 3000 + 200
        assert unsynced <= 3000 + 200
