"""In every state that a power loss may leave, all promises hold and the run can be resumed.

The calls of whole stories are recorded, every state that a crash may leave between two
calls is built, and recovery is run on it. That the search finds what is wrong is shown by
protocols that are wrong on purpose: each must be caught.
"""

import errno
import os
import random
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

import eventlog
from eventlog import compact as compact_function
from eventlog.read.candidates import Candidate
from eventlog.read.reader import Reader
from eventlog.write import line_writer, relocation, repair
from eventlog.write.appender import Appender
from eventlog.write.journal import Journal
from eventlog.write.sync import Goal
from tests.durability import stories
from tests.durability.crash_states import TracingDisk
from tests.durability.recovery import Violation, examine
from tests.durability.stories import (
    FAST,
    Story,
    of_a_clock_that_is_set,
    of_a_failing_disk,
    of_a_full_disk,
    of_a_network_file_system,
    of_a_power_loss,
    of_a_run,
    of_a_shared_fallback,
    of_an_end_on_a_full_disk,
    of_other_hands,
    once,
    random_story,
)

SEED = int(os.environ.get("CRASH_STATES_SEED", "1"))
LONG_STATES = int(os.environ.get("CRASH_STATES", "1000000"))
SHARDS = 4


@pytest.mark.parametrize(
    ("tell", "limit"),
    [
        (of_a_run, 400),
        (of_a_power_loss, 300),
        (of_a_failing_disk, 8),
        (of_a_full_disk, 40),
        (of_a_network_file_system, 14),
        (of_an_end_on_a_full_disk, 10),
        (of_a_shared_fallback, 9),
        (of_other_hands, 12),
        (of_a_clock_that_is_set, 16),
    ],
)
def test_all_promises_hold_in_every_state_after_a_power_loss(tell, limit, tmp_path):
    examination = examine(tell, tmp_path, limit=limit, limit_of_a_file=75, rng=random.Random(SEED))

    print(f"{len(examination.seen):,} states, {examination.n_recoveries:,} recoveries")
    assert len(examination.seen) > 300


@pytest.mark.slow
@pytest.mark.parametrize("shard", range(SHARDS))
def test_all_promises_hold_in_a_million_states(shard):
    """Stories by seed, until there are so many states; CRASH_STATES and CRASH_STATES_SEED tell."""
    seen, n_recoveries, n_stories = set(), 0, 0
    with tempfile.TemporaryDirectory(dir=FAST) as root:
        while len(seen) < LONG_STATES / SHARDS:
            seed = f"{SEED}.{shard}.{n_stories}"
            rng = random.Random(seed)
            tell = partial(random_story, rng=rng, n_steps=rng.randint(5, 25))
            try:
                examination = examine(tell, Path(root), limit=800, rng=rng, seen=seen)
            except Exception as error:
                error.add_note(f"in the story of seed {seed}")
                raise
            n_stories += 1
            n_recoveries += examination.n_recoveries

    print(
        f"shard {shard}: {len(seen):,} states, {n_recoveries:,} recoveries, {n_stories:,} stories"
    )


# ---- what is easily forgotten


def of_more_than_memory_holds(story):
    """More is written between two syncs than is remembered, and then the sync fails."""
    story.open()
    story.iter(8)
    story.disk.refuse = once("sync", errno.EIO)
    story.turn()
    story.iter()
    story.sync()
    story.iter()
    story.close()


def test_records_no_longer_in_memory_when_a_sync_fails_are_not_counted_as_durable(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(line_writer, "UNSYNCED_MAX_BYTES", 300)

    examine(of_more_than_memory_holds, tmp_path, limit=12, rng=random.Random(SEED))


def of_a_damaged_journal_on_a_network_file_system(story):
    """The last whole line is no record: all the same the file may be another machine's too."""
    story.disk.network = True
    story.open()
    story.iter()
    story.kill()
    data = story.journal.read_bytes()
    story.disk.lose_power({story.journal.name: data + bytes(100) + b"\n"})
    story.open()
    story.iter()
    story.close()


def test_a_damaged_journal_on_a_network_file_system_is_not_changed(tmp_path):
    examination = examine(
        of_a_damaged_journal_on_a_network_file_system, tmp_path, limit=20, rng=random.Random(SEED)
    )

    trace = examination.story.disk.trace
    crash = next(at for at, op in enumerate(trace) if op[0] == "power loss")
    (journal,) = trace[crash][2].values()
    assert [op for op in trace[crash:] if op[0] in ("write", "truncate") and op[1] == journal] == []


def test_a_run_copied_to_a_local_disk_resumes_with_each_iteration_once(tmp_path):
    """Sessions with a file of their own come before one that is appended to the journal later."""
    with stories.stepwise() as steps:
        story = Story(tmp_path, steps)
        story.disk.network = True
        story.open()
        story.iter(3)
        story.kill()
        story.open(from_iter=1)
        story.iter(3)
        story.kill()
        story.disk.network = False
        story.open(from_iter=3)
        story.iter(2)
        story.close()

    run = eventlog.load_run(story.journal)
    assert [row["iter"] for row in run.training_iterations] == [0, 1, 2, 3, 4]
    assert run.journal["superseded"]["iterations"] == 3


# ---- folders


def into_a_new_fallback(story):
    """The other disk has no folder of ours yet: the writer makes it."""
    story.open()
    story.iter()
    story.disk.refuse = lambda op, name: errno.EIO if op == "sync" and ".1." not in name else None
    story.turn()
    story.disk.refuse = lambda op, name: None
    story.iter()
    story.sync()
    story.close()


def test_a_fallback_folder_made_by_the_writer_is_durable(tmp_path):
    examine(into_a_new_fallback, tmp_path, limit=12, rng=random.Random(SEED), has_fallback=False)


def test_an_out_folder_made_by_the_writer_is_durable(tmp_path):
    with stories.stepwise():
        disk = TracingDisk(tmp_path)
        run = eventlog.open_run(tmp_path / "out", save_interval=0, disk=disk)
        states = list(disk.world().states(100, random.Random(SEED)))
        run.close()

    assert all(f"out/{run.journal_path.name}" in state for state in states)


# ---- protocols that are wrong on purpose


def latest_name(disk):
    """The name that was made or given last."""
    return next((op[2] for op in reversed(disk.trace) if op[0] in ("create", "rename")), "")


def without_folder_sync(of):
    """The folder is not synced after a name that ends so was made."""

    def wrong(patch):
        sync_dir = TracingDisk.sync_dir
        patch.setattr(
            TracingDisk,
            "sync_dir",
            lambda disk, path: None if latest_name(disk).endswith(of) else sync_dir(disk, path),
        )

    wrong.__name__ = f"no_folder_sync_after_{of[-5:]}"
    return wrong


def without_sync(of):
    """Syncs of files whose names end so do nothing and report success."""

    def wrong(patch):
        sync_data = TracingDisk.sync_data

        def skip(disk, fd):
            begin = len(disk.trace)
            sync_data(disk, fd)
            if os.readlink(f"/proc/self/fd/{fd}").endswith(of):
                ops = disk.trace[begin:]
                disk.trace[begin:] = [op if op[0] == "write" else ("nothing",) for op in ops]

        patch.setattr(TracingDisk, "sync_data", skip)

    wrong.__name__ = f"no_sync_of_{of}"
    return wrong


def open_without_sync(patch):
    """The `open` event is not synced before `open_run` returns."""
    sync_data = TracingDisk.sync_data

    def skip(disk, fd):
        if any(op[0].startswith("sync") for op in disk.trace):
            sync_data(disk, fd)

    patch.setattr(TracingDisk, "sync_data", skip)


def durable_before_the_sync(patch):
    def wrong(journal, *, is_wanted=True):
        while (goal := journal._appender.goal()) is not None:
            journal._appender.reached(goal)
            journal._disk.sync_data(goal.fd)
            if goal.folder is not None:
                journal._disk.sync_dir(goal.folder)

    patch.setattr(Journal, "_sync_once", wrong)


def durable_is_what_was_written_meanwhile_too(patch):
    reached = Appender.reached
    patch.setattr(
        Appender,
        "reached",
        lambda self, goal: reached(
            self, Goal(goal.fd, self.accepted_n, self.accepted_n, goal.folder)
        ),
    )


def the_old_file_is_synced_after_going_on_in_a_segment(patch):
    goal = Appender.goal

    def wrong(appender):
        true_goal = goal(appender)
        return true_goal and replace(true_goal, fd=appender.files.written[0])

    reached = Appender.reached
    patch.setattr(Appender, "goal", wrong)
    patch.setattr(Appender, "reached", lambda self, goal: reached(self, replace(goal, fd=self.fd)))


def a_failed_sync_is_tried_again(patch):
    """The second one succeeds: the kernel has nothing left to write."""
    patch.setattr(Appender, "missed", lambda self, error: True)


def a_segment_begins_with_what_comes_next(patch):
    to_segment = Appender.to_segment

    def wrong(appender, first=None):
        appender._unsynced.clear()
        return to_segment(appender, first)

    patch.setattr(Appender, "to_segment", wrong)


def cut_before_it_is_kept(patch):
    save = repair._save

    def wrong(copy, tail, disk):
        fd = disk.open_append(next(copy.parent.glob("*.jsonl")))
        disk.truncate(fd, os.fstat(fd).st_size - len(tail))
        disk.sync_data(fd)
        disk.close(fd)
        save(copy, tail, disk)

    patch.setattr(repair, "_save", wrong)


def cut_and_not_kept(patch):
    patch.setattr(repair, "_save", lambda *args: None)


def a_whole_last_line_is_cut_for_want_of_its_line_feed(patch):
    def wrong(fd, path, *, name, disk):
        data = path.read_bytes()
        start = data.rfind(b"\n") + 1
        if data[start:]:
            repair._save(path.with_name(f"{path.stem}.{name}.torn"), data[start:], disk)
            disk.truncate(fd, start)
        return None, False

    patch.setattr("eventlog.write.journal.repair_tail", wrong)


def a_torn_tail_is_written_on(patch):
    patch.setattr("eventlog.write.journal.repair_tail", lambda *args, **named: (None, False))


def no_line_feed_after_a_short_write(patch):
    patch.setattr(
        Appender, "_torn", property(lambda self: False, lambda self, torn: None), raising=False
    )


def the_number_of_a_refused_record_is_used_again(patch):
    append = Appender.append

    def wrong(appender, event, encoded, asides=()):
        line = append(appender, event, encoded, asides)
        appender.n -= bool(appender.n_waiting)
        return line

    patch.setattr(Appender, "append", wrong)


def a_refused_record_is_forgotten(patch):
    wait = Appender._wait

    def wrong(appender, entry):
        appender.writing = None
        if not entry[2]:
            wait(appender, entry)

    patch.setattr(Appender, "_wait", wrong)


def refused_records_are_written_last_first(patch):
    def wrong(appender, entry):
        appender.writing = None
        (appender._waiting.droppable if entry[2] else appender._waiting.required).appendleft(entry)

    patch.setattr(Appender, "_wait", wrong)


def close_does_not_wait_for_the_disk(patch):
    patch.setattr(stories, "_do_last_round", lambda writer: None)


def replace_in_place(patch):
    def wrong(path, write, *, disk, digest=None):
        fd = disk.open_append(path)
        disk.truncate(fd, 0)
        with os.fdopen(os.dup(fd), "wb") as file:
            file.write = lambda data: disk.write(fd, data)
            file.writelines = lambda pieces: disk.write(fd, b"".join(pieces))
            write(file)
        disk.sync_data(fd)
        disk.close(fd)
        disk.sync_dir(path.parent)

    patch.setattr("eventlog.atomic_write", wrong)
    patch.setitem(compact_function.__globals__, "atomic_write", wrong)


def the_run_json_does_not_wait_for_the_journal(patch):
    patch.setitem(compact_function.__globals__, "_sync_journal", lambda files, disk: None)


def a_checkpoint_is_logged_before_it_is_saved(patch):
    def wrong(story):
        story._log("checkpoint", iter=story.i, path="ckpt.pt", version=len(story.weights))
        story.save()

    patch.setattr(Story, "checkpoint", wrong)


def what_waits_at_the_end_is_forgotten(patch):
    def wrong(appender):
        appender._waiting.clear()
        appender._waiting_bytes = 0
        return True

    patch.setattr(Appender, "write_end", wrong)


def what_is_lost_at_the_end_is_not_noted(patch):
    patch.setattr(Appender, "note_in_journal", lambda self, line: True)


def the_note_of_what_is_lost_is_not_synced(patch):
    patch.setattr(
        Appender, "_has_note", property(lambda self: False, lambda self, has: None), raising=False
    )


def segments_of_other_runs_are_ours(patch):
    patch.setattr(Candidate, "is_of_another_run", lambda self, run_id: False)
    patch.setattr(Candidate, "belongs_to", lambda self, run_id: True)


def a_segment_takes_the_name_of_another(patch):
    """As if it were opened without O_EXCL."""

    def wrong(disk, path):
        if path.exists():
            disk.unlink(path)
        return open_new(disk, path)

    open_new = TracingDisk.open_new
    patch.setattr(TracingDisk, "open_new", wrong)
    patch.setattr(
        "eventlog.write.segments.segment_name", lambda stem, run, s, n: f"{stem}.{s}.{n}.segment"
    )


def a_replaced_journal_is_written_on_at_the_old_offset(patch):
    def wrong(appender, what):
        old, fd = appender.fd, appender.disk.open_append(appender.path)
        appender.use(fd, appender.end[1])
        appender.disk.close(old)

    patch.setattr(relocation, "_go_on_beside", wrong)


def a_deleted_journal_begins_anew(patch):
    patch.setattr(relocation, "_copy", lambda old, path, disk: disk.open_append(path))


def a_cut_journal_is_written_on_in_the_same_line(patch):
    patch.setattr(Appender, "was_cut", lambda self, size: setattr(self, "end", (self.end[0], size)))


def a_moved_journal_begins_anew(patch):
    """The path decides, as in a program that opens its file for each line."""

    def wrong(appender):
        old, fd = appender.fd, appender.disk.open_append(appender.path)
        appender.use(fd, 0)
        appender.disk.close(old)

    patch.setattr(relocation, "_follow", wrong)


def records_are_read_by_their_time(patch):
    read_on = Reader.read_on
    patch.setattr(
        Reader,
        "read_on",
        lambda self, **how: iter(sorted(read_on(self, **how), key=lambda record: record.t)),
    )


LOST = "although it was durable"
NOT_KEPT = "not kept anywhere"
NOT_WHOLE = "neither the old nor the new one|not complete"
NOT_A_LINE = "does not stand in a line of its own"

WRONG = [
    (without_folder_sync(".jsonl"), of_a_run, "the journal is not there"),
    (without_folder_sync(".segment"), of_a_failing_disk, LOST),
    (without_folder_sync(".json"), of_a_run, "the run JSON is gone"),
    (without_folder_sync("ckpt.pt"), of_a_run, "not complete"),
    (without_folder_sync(".torn"), of_a_power_loss, NOT_KEPT),
    (without_sync(".jsonl"), of_a_run, LOST),
    (without_sync(".segment"), of_a_failing_disk, LOST),
    (without_sync(".tmp"), of_a_run, NOT_WHOLE),
    (without_sync(".torn"), of_a_power_loss, NOT_KEPT),
    (open_without_sync, of_a_run, LOST),
    (durable_before_the_sync, of_a_run, LOST),
    (durable_is_what_was_written_meanwhile_too, of_a_run, LOST),
    (the_old_file_is_synced_after_going_on_in_a_segment, of_a_failing_disk, LOST),
    (a_failed_sync_is_tried_again, of_a_failing_disk, LOST),
    (a_segment_begins_with_what_comes_next, of_a_failing_disk, f"{LOST}|of has not"),
    (cut_before_it_is_kept, of_a_power_loss, NOT_KEPT),
    (cut_and_not_kept, of_a_power_loss, NOT_KEPT),
    (a_whole_last_line_is_cut_for_want_of_its_line_feed, of_a_run, "changed what was there"),
    (a_torn_tail_is_written_on, of_a_power_loss, NOT_A_LINE),
    (no_line_feed_after_a_short_write, of_a_full_disk, NOT_A_LINE),
    (the_number_of_a_refused_record_is_used_again, of_a_full_disk, "two records are named"),
    (a_refused_record_is_forgotten, of_a_full_disk, "although it was"),
    (refused_records_are_written_last_first, of_a_full_disk, "higher number|although it was"),
    (close_does_not_wait_for_the_disk, of_a_run, LOST),
    (replace_in_place, of_a_run, NOT_WHOLE),
    (the_run_json_does_not_wait_for_the_journal, of_a_run, "it was made of has not"),
    (a_checkpoint_is_logged_before_it_is_saved, of_a_run, "not complete"),
    (what_waits_at_the_end_is_forgotten, of_an_end_on_a_full_disk, LOST),
    (what_is_lost_at_the_end_is_not_noted, of_an_end_on_a_full_disk, "does not say so"),
    (the_note_of_what_is_lost_is_not_synced, of_an_end_on_a_full_disk, "does not say so"),
    (segments_of_other_runs_are_ours, of_a_shared_fallback, "was never written"),
    (a_segment_takes_the_name_of_another, of_a_shared_fallback, "of another run was changed"),
    (a_replaced_journal_is_written_on_at_the_old_offset, of_other_hands, "although it was"),
    (a_deleted_journal_begins_anew, of_other_hands, "although it was|is not there"),
    (a_cut_journal_is_written_on_in_the_same_line, of_other_hands, NOT_A_LINE),
    (a_moved_journal_begins_anew, of_other_hands, "although it was"),
    (records_are_read_by_their_time, of_a_clock_that_is_set, "changed what was there"),
]


@pytest.mark.parametrize(
    ("wrong", "run_story", "message"), WRONG, ids=[wrong.__name__ for wrong, _, _ in WRONG]
)
def test_a_wrong_order_of_calls_is_found(wrong, run_story, message, tmp_path, monkeypatch):
    wrong(monkeypatch)

    with pytest.raises(Violation, match=message):
        examine(run_story, tmp_path, limit=20, limit_of_a_file=12, rng=random.Random(SEED))


def test_every_call_that_changes_a_file_is_recorded(tmp_path):
    """What the writer did beside the disk object would be missing from all the states above."""
    with stories.stepwise() as steps:
        story = Story(tmp_path, steps)
        random_story(story, random.Random(SEED), 30)
        (state, *_) = story.disk.world().states(1, random.Random(SEED))

    assert state == {
        str(path.relative_to(tmp_path)): (
            os.readlink(path).encode() if path.is_symlink() else path.read_bytes()
        )
        for path in tmp_path.rglob("*")
        if path.is_file()
    }
