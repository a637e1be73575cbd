"""Notes and tags: durable, on a live run or long after, and nothing else changes."""

import errno
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

import eventlog
from eventlog.cli import report
from eventlog.disk import Disk
from eventlog.fold.load import Folding
from eventlog.format.record import decode, encode
from eventlog.tracker import session
from tests.disks import RecordingDisk, RefusingDisk

NOTED = ("tags", "notes", "events", "records", "segments")


def ended_run(folder, n=3):
    with eventlog.open_run(folder, save_interval=0, config={"seed": 1}) as run:
        for i in range(n):
            run.log_iter(i, 5.0 - i, 50.0)
    eventlog.compact(run.journal_path)
    return run


def in_json(run):
    return orjson.loads(run.run_path.read_bytes())


def segments(folder):
    return sorted(folder.glob("*.segment"))


def test_a_note_is_in_the_run_json_and_changes_nothing_else_there(tmp_path):
    run = ended_run(tmp_path)
    before, journal = in_json(run), run.journal_path.read_bytes()

    eventlog.annotate(run.run_path, "note", text="lr too high?", by="ann")

    after = in_json(run)
    (note,) = after["journal"]["notes"]
    assert (note["text"], note["by"], list(note)) == ("lr too high?", "ann", ["t", "text", "by"])
    assert list(after["journal"].pop("annotators").values()) == [1]
    for key in NOTED:
        before["journal"].pop(key), after["journal"].pop(key)
    assert after == before
    assert run.journal_path.read_bytes() == journal


def test_tags_are_those_that_were_added_and_not_removed_later(tmp_path):
    run = ended_run(tmp_path)

    eventlog.annotate(run.journal_path, "tag", add=["good", "baseline"])
    eventlog.annotate(run.journal_path, "tag", add=["paper"], remove=["good", "never there"])

    assert in_json(run)["journal"]["tags"] == ["baseline", "paper"]


def test_a_run_has_the_name_that_it_was_last_renamed_to_and_its_own_after_an_empty_one(tmp_path):
    run = ended_run(tmp_path)
    own, names = in_json(run)["run_name"], []

    for name in ("best", "the best so far", ""):
        eventlog.annotate(run.journal_path, "rename", name=name)
        names.append(eventlog.load_run(run.journal_path).name)

    assert names == ["best", "the best so far", own]
    assert in_json(run)["run_name"] == own


def test_a_note_on_a_live_run_loses_none_of_its_events(tmp_path):
    with eventlog.open_run(tmp_path, save_interval=1) as run:
        run.log_iter(0, 5.0)
        eventlog.annotate(run.journal_path, "note", text="during")
        status = eventlog.load_run(run.journal_path).status
        run.log_iter(1, 4.0)

    ended = in_json(run)["journal"]
    assert status == "running"
    assert [note["text"] for note in ended["notes"]] == ["during"]
    assert (ended["status"], len(ended["sessions"]), ended["defects"]) == ("completed", 1, [])
    assert report.exit_code(read(run.journal_path)) == report.COMPLETE


def test_a_note_on_a_killed_run_does_not_make_it_running(tmp_path):
    code = (
        "import os, sys, eventlog\n"
        "run = eventlog.open_run(sys.argv[1], save_interval=0)\n"
        "run.log_iter(0, 1.0)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path], check=False)
    (journal,) = tmp_path.glob("*.jsonl")
    before = eventlog.load_run(journal)

    eventlog.annotate(journal, "note", text="why?")

    after = eventlog.load_run(journal)
    assert (after.status, after.end_time) == ("interrupted", before.end_time)
    assert after.journal["reason"] == before.journal["reason"]


def test_a_note_with_a_late_clock_changes_neither_start_nor_end(tmp_path):
    run = ended_run(tmp_path)
    before = eventlog.load_run(run.journal_path)
    line = encode(0, "beef0001", "2001-01-01T00:00:00.000000+00:00", "note", {
        "text": "early", "annotates": run_id(run),
    })  # fmt: skip
    run.journal_path.with_suffix(".beef0001.0.segment").write_bytes(line)

    after = eventlog.load_run(run.journal_path)

    assert (after.start_time, after.end_time) == (before.start_time, before.end_time)
    assert [note["text"] for note in after.journal["notes"]] == ["early"]


def test_line_and_file_name_are_durable_when_annotate_returns(tmp_path):
    run = ended_run(tmp_path)
    disk = RecordingDisk()

    eventlog.Annotator(run.journal_path, disk=disk).log("note", text="kept")

    (name,) = [path.name for path in segments(tmp_path)]
    assert disk.calls == [f"open {name}", f"write {name}", f"sync {name}", "sync folder"]


@pytest.mark.parametrize("operation", ["open", "write", "sync", "sync_dir"])
def test_a_note_that_the_disk_refuses_leaves_nothing_and_the_next_is_written(tmp_path, operation):
    run = ended_run(tmp_path)
    disk = RefusingDisk(lambda call, n: errno.EIO if (call, n) == (operation, 1) else None)
    annotator = eventlog.Annotator(run.journal_path, disk=disk)

    with pytest.raises(OSError, match="Input/output error"):
        annotator.log("note", text="refused")
    annotator.log("note", text="kept")
    annotator.close()

    journal = in_json(run)["journal"]
    assert [note["text"] for note in journal["notes"]] == ["kept"]
    assert journal["defects"] == []


def test_a_half_written_line_is_removed_and_earlier_notes_stay(tmp_path):
    run = ended_run(tmp_path)
    disk = RefusingDisk(lambda call, n: 0.5 if (call, n) == ("write", 2) else None)
    with eventlog.Annotator(run.journal_path, disk=disk) as annotator:
        annotator.log("note", text="first")
        with pytest.raises(OSError, match="only a part"):
            annotator.log("note", text="half")
        annotator.log("note", text="last")

    journal = in_json(run)["journal"]
    assert [note["text"] for note in journal["notes"]] == ["first", "last"]
    assert journal["defects"] == []


def test_concurrent_notes_are_all_in_the_run_json(tmp_path):
    run = ended_run(tmp_path)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: eventlog.annotate(run.run_path, "note", text=str(i)), range(24)))

    assert {note["text"] for note in in_json(run)["journal"]["notes"]} == set(map(str, range(24)))


def test_a_note_added_while_another_is_folded_is_in_the_run_json(tmp_path):
    run = ended_run(tmp_path)

    class Interrupting(Disk):
        def replace(self, source, target):
            if not segments(tmp_path)[1:]:
                eventlog.annotate(run.journal_path, "note", text="second")
            super().replace(source, target)

    eventlog.annotate(run.journal_path, "note", text="first", disk=Interrupting())

    assert [note["text"] for note in in_json(run)["journal"]["notes"]] == ["first", "second"]


def test_a_killed_annotator_loses_no_acknowledged_note(tmp_path):
    run = ended_run(tmp_path)
    code = (
        "import sys, eventlog\n"
        "a = eventlog.Annotator(sys.argv[1])\n"
        "for i in range(10**9):\n"
        "    a.log('note', text=str(i))\n"
        "    print(i, flush=True)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, run.journal_path], stdout=subprocess.PIPE, text=True
    )
    lines = [process.stdout.readline() for _ in range(5)]
    time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    lines += process.communicate()[0].splitlines()

    notes = [note["text"] for note in eventlog.load_run(run.journal_path).journal["notes"]]
    acknowledged = [line.strip() for line in lines if line.strip()]
    assert notes[: len(acknowledged)] == acknowledged
    assert report.exit_code(read(run.journal_path)) == report.COMPLETE


@given(cut=st.integers(0, 400))
def test_a_cut_segment_loses_only_the_notes_after_the_cut(tmp_path_factory, cut):
    run = ended_run(tmp_path_factory.mktemp("cut"))
    with eventlog.Annotator(run.journal_path) as annotator:
        annotator.log("note", text="a")
        annotator.log("note", text="b")
    (segment,) = segments(run.journal_path.parent)
    lines = segment.read_bytes().splitlines(keepends=True)
    os.truncate(segment, min(cut, segment.stat().st_size))

    after = eventlog.load_run(run.journal_path)

    whole = sum(cut >= len(b"".join(lines[: i + 2])) - 1 for i in range(2))  # the LF may be gone
    assert [note["text"] for note in after.journal["notes"]] == ["a", "b"][:whole]
    assert (after.status, len(after.training_iterations)) == ("completed", 3)


@given(st.permutations(range(6)), st.integers(0, 6))
def test_the_run_json_does_not_depend_on_when_notes_are_read(tmp_path_factory, order, n_before):
    """A follower reads a note when it appears, a later compaction before all sessions or after."""
    folder = tmp_path_factory.mktemp("order")
    run = ended_run(folder)
    following = Folding(run.journal_path)
    for done, i in enumerate(order):
        if done == n_before:
            following.read_on(to_the_end=False)
        t = f"2026-11-23T0{i}:00:00.000000+00:00"
        fields = {"text": str(i)} if i % 2 else {"add": [f"t{i}"], "remove": [f"t{i - 2}"]}
        event = "note" if i % 2 else "tag"
        line = encode(0, f"beef000{i}", t, event, fields | {"annotates": run_id(run)})
        run.journal_path.with_suffix(f".beef000{i}.0.segment").write_bytes(line)
    following.read_on(to_the_end=True)

    at_once = read(run.journal_path)
    assert document(following) == document(at_once)
    assert [n["text"] for n in at_once.fold.remarks.of_kind("note")] == ["1", "3", "5"]
    assert at_once.fold.remarks.tags() == ["t4"]


def test_a_note_on_another_run_is_reported_and_left_out(tmp_path):
    run, other = ended_run(tmp_path / "a"), ended_run(tmp_path / "b")
    eventlog.annotate(other.journal_path, "note", text="not of this run")
    (segment,) = segments(tmp_path / "b")
    segment.rename(run.journal_path.with_suffix(".beef0001.0.segment"))

    folding = read(run.journal_path)

    assert folding.fold.remarks.of_kind("note") == []
    assert [defect.kind for defect in folding.reader.defects] == ["other_file"]
    assert report.exit_code(folding) == report.COMPLETE


def test_notes_of_the_run_itself_are_among_the_notes(tmp_path):
    with eventlog.open_run(tmp_path, save_interval=0) as run:
        run.log("note", text="warm restart", iter=3)
        run.log("tag", add=["restarted"])

    journal = eventlog.load_run(run.journal_path).journal
    assert [(n["text"], n["iter"]) for n in journal["notes"]] == [("warm restart", 3)]
    assert journal["tags"] == ["restarted"]


def test_a_run_without_a_journal_is_refused_with_the_reason(tmp_path):
    run = ended_run(tmp_path)
    run.journal_path.unlink()

    with pytest.raises(FileNotFoundError, match=r"has no journal run_.*jsonl beside it"):
        eventlog.annotate(run.run_path, "note", text="where?")


def test_a_file_that_is_not_a_journal_is_not_annotated(tmp_path):
    (tmp_path / "data.jsonl").write_text('{"a": 1}\n')

    with pytest.raises(eventlog.UnreadableRun, match="not one whole record"):
        eventlog.annotate(tmp_path / "data.jsonl", "note", text="x")

    assert segments(tmp_path) == []


def test_a_journal_that_lost_its_first_line_can_be_annotated(tmp_path):
    run = ended_run(tmp_path)
    lines = run.journal_path.read_bytes().splitlines(keepends=True)
    run.journal_path.write_bytes(b"".join(lines[1:]))

    eventlog.annotate(run.journal_path, "note", text="no open")

    assert [n["text"] for n in in_json(run)["journal"]["notes"]] == ["no open"]


def test_annotations_do_not_affect_a_later_session(tmp_path):
    run = ended_run(tmp_path)
    eventlog.annotate(run.journal_path, "note", text="between")
    with eventlog.open_run(journal=run.journal_path, from_iter=3, save_interval=0) as again:
        again.log_iter(3, 1.0)

    folding = read(run.journal_path)
    assert len(folding.fold.sessions) == 2
    assert report.exit_code(folding) == report.COMPLETE


def read(journal):
    folding = Folding(journal)
    folding.read_on(to_the_end=True)
    return folding


def document(folding):
    return b"".join(folding.run(alive=False).to_json())


def run_id(run):
    return decode(run.journal_path.read_bytes().splitlines()[0]).fields["run_id"]


def test_an_event_with_a_field_named_annotates_stays_in_the_run(tmp_path):
    with eventlog.init(dir=tmp_path, save_interval=0) as run:
        run.log({"loss": 1.0, "annotates": "x"})
        run.session.log_iter(0, 1.0, annotates="x")
        run.session.log_checkpoint(1, "a.pt", annotates="x")
        run.session.log("note", text="mine", annotates="x")

    loaded = eventlog.load_run(run.journal_path)
    assert [*loaded.metrics] == [{"step": 0, "loss": 1.0, "annotates_": "x"}]
    assert [row["annotates_"] for row in loaded.training_iterations] == ["x"]
    assert [row["annotates_"] for row in loaded.checkpoints] == ["x"]
    assert [note["text"] for note in loaded.journal["notes"]] == ["mine"]
    assert loaded.journal["defects"] == []


def test_a_journal_with_such_a_field_from_an_earlier_version_keeps_its_events(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(session, "_renamed", lambda fields: fields)  # as it was once written
    with eventlog.open_run(tmp_path, save_interval=0) as run:
        run.log_iter(0, 1.0, annotates=1)

    assert [row["loss"] for row in eventlog.load_run(run.journal_path).training_iterations] == [1.0]
