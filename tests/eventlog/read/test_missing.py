"""`verify` never says "complete" if an acknowledged event is missing."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import orjson
import pytest

import eventlog
from eventlog.cli.main import main
from eventlog.cli.report import COMPLETE, CONFLICT, LOSS, exit_code
from eventlog.cli.report import report_lines as texts_of
from eventlog.disk import made_ns
from eventlog.fold.compaction import compact
from eventlog.fold.load import Folding
from eventlog.format.files import run_path, segment_name
from eventlog.format.record import encode_header
from eventlog.read.ends import opening_event
from tests.strategies import SESSIONS, T, line

A, B, C, D = SESSIONS
RUN = "5f0c9a1e00000000"


def opening(s=A, number=1, prev=None, **fields):
    met = {"prev": {"s": prev[0], "n": prev[1]}} if prev else {}
    fields = {"format": 1, "run_id": RUN, "run_name": "run", "session_number": number} | fields
    return line(0, s, "open", **fields | met)


def iters(s, first, last):
    return b"".join(line(n, s, iter=n - 1, loss=1.0) for n in range(first, last + 1))


def went_on(s, n, path, number=0):
    """The record that says in which segment session `s` goes on."""
    fields = {"file": path.name, "folder": str(path.parent), "number": number, "first_n": n}
    return line(n, s, "segment", **fields)


def segment(folder, s=A, number=0, first_n=0, data=b"", run_id=RUN):
    """A segment of run.jsonl in `folder`, with its header."""
    folder.mkdir(exist_ok=True)
    path = folder / segment_name("run", run_id, s, number)
    head = {"run_id": run_id, "journal": "run.jsonl", "session": s, "number": number}
    path.write_bytes(encode_header(**head, first_n=first_n, s="f0f0f0f0", t=T) + data)
    return path


def verified(path):
    folding = Folding(path, with_rows=False)
    folding.read()
    return folding


def kinds(folding):
    return [d.kind for d in folding.defects()]


@pytest.fixture
def run(tmp_path):
    """A journal whose only session went on in a segment in another folder."""
    path = tmp_path / "run.jsonl"
    part = segment(tmp_path / "fallback", first_n=4)
    part.write_bytes(part.read_bytes() + went_on(A, 4, part) + iters(A, 5, 9))
    path.write_bytes(opening() + iters(A, 1, 3) + went_on(A, 4, part))
    return path, part


def test_a_segment_that_the_journal_names_is_read_where_the_journal_says(run):
    path, _ = run

    folding = verified(path)

    assert exit_code(folding) == COMPLETE
    assert [row["iter"] for row in folding.reader.read_on(to_the_end=True)] == []
    assert folding.reader.sequence.n_records == 10


def test_a_segment_that_the_journal_names_and_that_is_gone_is_named(run, capsys):
    path, part = run
    part.unlink()

    assert main(["verify", str(path)]) == LOSS
    out = capsys.readouterr().out
    assert "missing_segment" in out
    assert str(part) in out


def test_a_missing_fallback_folder_is_named(run):
    path, part = run
    part.unlink()
    part.parent.rmdir()

    assert "No such file" in next(d for d in verified(path).defects()).detail


def test_a_moved_segment_is_found_beside_the_journal(run):
    path, part = run
    part.rename(path.with_name(part.name))

    assert exit_code(verified(path)) == COMPLETE


def test_status_shows_where_a_run_went_on_and_not_that_it_was_killed(run, capsys):
    path, part = run
    part.unlink()

    assert main(["status", str(path)]) == 0
    out = capsys.readouterr().out
    assert f"went on in another file, which is not here or not readable: {part}" in out
    assert "killed" not in out


def test_a_closed_session_loses_nothing_with_a_segment_of_repeated_records(tmp_path):
    path = tmp_path / "run.jsonl"
    gone = tmp_path / segment_name("run", RUN, A, 0)
    path.write_bytes(opening() + went_on(A, 1, gone) + line(2, A, "close", status="completed"))

    folding = verified(path)

    assert kinds(folding) == ["missing_segment"]
    assert exit_code(folding) == COMPLETE


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
def test_a_segment_that_may_not_be_read_is_named_and_the_rest_is_read(run):
    path, part = run
    part.parent.chmod(0o755)
    part.chmod(0o600)
    for folder in path.parents:
        if not folder.stat().st_mode & 0o001:
            folder.chmod(folder.stat().st_mode | 0o055)
    os.seteuid(65534)
    try:
        folding = verified(path)
    finally:
        os.seteuid(0)

    assert kinds(folding) == ["missing_segment"]
    assert "Permission denied" in folding.defects()[0].detail
    assert exit_code(folding) == LOSS
    assert folding.reader.sequence.n_records == 5


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
def test_a_fallback_folder_of_another_user_is_named_by_verify_and_by_status(run):
    path, part = run
    part.parent.chmod(0o700)
    for folder in path.parents:
        if not folder.stat().st_mode & 0o001:
            folder.chmod(folder.stat().st_mode | 0o055)
    os.seteuid(65534)
    try:
        folding = verified(path)
        reason = eventlog.load_run(path).journal["reason"]
    finally:
        os.seteuid(0)

    assert exit_code(folding) == LOSS
    assert "Permission denied" in folding.defects()[0].detail
    assert "went on in another file" in reason


FORBIDDEN_JOURNAL = """
import os, signal, subprocess, sys
import eventlog

folder, fallback = sys.argv[1:]
run = eventlog.init(dir=folder, name="run", fallback=fallback, save_interval=0)
run.log({"loss": 1.0})
run.sync()
print(run.journal_path, flush=True)
forbidden = [str(run.journal_path), folder]
subprocess.run(["chattr", "+i", *forbidden], check=True)
run.log({"loss": 2.0})
print(run.sync(), flush=True)
subprocess.run(["chattr", "-i", *forbidden], check=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def forbidden(tmp_path):
    """A killed run that could not write beside its journal any more, and its fallback folder."""
    try:
        for change in ("+i", "-i"):
            subprocess.run(["chattr", change, tmp_path], check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no folder can be made immutable here")
    folder, fallback = tmp_path / "out", tmp_path / "fallback"
    program = [sys.executable, "-c", FORBIDDEN_JOURNAL, folder, fallback]
    run = subprocess.run(program, capture_output=True, text=True, check=False)
    path, synced = run.stdout.split()
    assert synced == "True", run.stderr
    return Path(path), fallback


def test_a_killed_run_whose_fallback_folder_is_gone_is_not_complete(forbidden, capsys):
    path, fallback = forbidden
    assert exit_code(verified(path)) == COMPLETE
    shutil.rmtree(fallback)

    folding = verified(path)

    assert exit_code(folding) == LOSS
    assert str(fallback) in folding.defects()[0].detail
    reason = eventlog.load_run(path).journal["reason"]
    assert "the process was killed" in reason
    assert f"may have gone on in {fallback}" in reason
    where = {"dir": path.parent, "fallback": fallback.with_name("another")}
    eventlog.init(id=opening_event(path).fields["run_id"], resume="must", **where).finish()
    assert f"may have gone on in a folder that is gone: {fallback}" in capsys.readouterr().err


def test_a_killed_run_whose_fallback_folder_another_run_has_made_again_is_not_complete(forbidden):
    path, fallback = forbidden
    if made_ns(fallback) is None:
        pytest.skip("this file system has no birth times")
    shutil.rmtree(fallback)
    eventlog.init(dir=path.parent, name="another", fallback=fallback).finish()

    folding = verified(path)

    assert exit_code(folding) == LOSS
    assert f"{fallback}: deleted and made again" in folding.defects()[0].detail


DEVICE = os.stat(tempfile.gettempdir()).st_dev  # that of `tmp_path`


@pytest.mark.parametrize(
    ("folder", "fields", "ends", "is_complete", "is_named"),
    [
        ("", {"fallback_device": DEVICE, "host": socket.gethostname()}, False, False, True),
        ("", {"fallback_device": DEVICE, "host": "node7"}, False, True, True),
        ("home", {"fallback_device": DEVICE, "host": socket.gethostname()}, False, False, True),
        ("home", {"fallback_device": DEVICE + 1, "host": socket.gethostname()}, False, True, True),
        ("", {"host": socket.gethostname()}, False, True, False),
        ("", {"fallback_device": DEVICE, "host": socket.gethostname()}, True, True, False),
    ],
    ids=[
        "gone",
        "on_another_machine",
        "gone_with_its_parent",
        "in_another_container",
        "never_there",
        "closed",
    ],
)
def test_a_fallback_folder_that_is_not_here_counts_if_it_was_there_and_the_session_did_not_end(
    tmp_path, folder, fields, ends, is_complete, is_named
):
    path, fallback = tmp_path / "run.jsonl", str(tmp_path / folder / "fallback")
    end = line(1, A, "close", status="completed") if ends else b""
    path.write_bytes(opening(fallback=fallback, **fields) + end)

    folding = verified(path)

    assert exit_code(folding) == (COMPLETE if is_complete else LOSS)
    assert kinds(folding) == ["missing_folder"] * is_named
    assert all(fallback in defect.detail for defect in folding.defects())
    reason = folding.run(alive=False).journal["reason"] or ""
    assert ("may have gone on" in reason) == (not is_complete)


def made_again(tmp_path, opened, **more):
    """The journal of a killed session whose fallback folder is another one by now."""
    path, fallback = tmp_path / "run.jsonl", tmp_path / "fallback"
    fallback.mkdir()
    if made_ns(fallback) is None:
        pytest.skip("this file system has no birth times")
    fields = {"run_id": RUN, "format": 1, "session_number": 1, "host": socket.gethostname()}
    fields |= {"fallback": str(fallback), "fallback_device": DEVICE, "fallback_made_ns": 1} | more
    path.write_bytes(line(0, A, "open", t=opened, **fields) + iters(A, 1, 1))
    return path, fallback


def now():
    return f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%f}+00:00"


def test_a_fallback_folder_that_the_writer_made_again_is_no_loss(tmp_path):
    path, fallback = made_again(tmp_path, now())
    assert kinds(verified(path)) == ["missing_folder"]
    segment(fallback, first_n=2, data=iters(A, 2, 2))

    assert kinds(verified(path)) == []


def test_a_restored_journal_does_not_make_its_restored_fallback_folder_a_loss(tmp_path):
    path, _ = made_again(tmp_path, T)

    assert kinds(verified(path)) == []


def test_a_folder_that_was_restored_with_its_time_is_no_loss(tmp_path):
    path, fallback = made_again(tmp_path, now())
    os.utime(fallback, (1, 1))

    assert kinds(verified(path)) == []


def test_a_fallback_folder_of_another_machine_is_named_also_if_there_is_one_here(tmp_path):
    path, fallback = made_again(tmp_path, now(), host="node7")

    folding = verified(path)

    assert [(d.kind, d.lost, d.detail) for d in folding.defects()] == [
        ("missing_folder", 0, f"{fallback} of node7")
    ]


@pytest.mark.parametrize("n_folded", [2, 1])
def test_a_fallback_folder_does_not_count_if_the_run_json_was_made_when_it_was_there(
    tmp_path, n_folded
):
    path, fallback = tmp_path / "run.jsonl", tmp_path / "fallback"
    fields = {"fallback": str(fallback), "fallback_device": DEVICE, "host": socket.gethostname()}
    lines = [opening(**fields), iters(A, 1, 1)]
    fallback.mkdir()
    path.write_bytes(b"".join(lines[:n_folded]))
    compact(path)
    path.write_bytes(b"".join(lines))
    fallback.rmdir()

    folding = verified(path)

    assert kinds(folding) == ["missing_folder"] * (n_folded < 2)
    reason = folding.run(alive=False).journal["reason"]
    assert ("may have gone on" in reason) == (n_folded < 2)


def test_a_missing_segment_is_found_by_the_numbers_of_the_next_one(tmp_path):
    path = tmp_path / "run.jsonl"
    path.write_bytes(opening() + iters(A, 1, 3))
    segment(tmp_path, number=1, first_n=8, data=iters(A, 8, 9))

    folding = verified(path)

    assert [(d.kind, d.first_n, d.last_n, d.lost) for d in folding.defects()] == [("gap", 4, 7, 4)]
    assert exit_code(folding) == LOSS


def test_a_session_without_any_records_left_is_reported_by_its_number(tmp_path):
    path = tmp_path / "run.jsonl"
    path.write_bytes(opening() + iters(A, 1, 3) + opening(B, number=3, prev=(A, 3)))

    folding = verified(path)

    assert kinds(folding) == ["missing_session"]
    assert exit_code(folding) == LOSS


def test_sessions_without_a_session_number_are_not_reported_missing(tmp_path):
    path = tmp_path / "run.jsonl"
    old = line(0, A, "open", format=1, run_id=RUN) + line(0, B, "open", format=1, run_id=RUN)
    path.write_bytes(old + opening(C, number=3))

    assert exit_code(verified(path)) == COMPLETE


# ---- a tail lost before a resume


def lost_tail(n, records, found):
    return line(n, B, "lost_tail", session=A, records=records, found=found)


def test_a_tail_that_the_checkpoint_knew_of_is_lost(tmp_path):
    path = tmp_path / "run.jsonl"
    path.write_bytes(opening() + iters(A, 1, 5) + opening(B, 2, prev=(A, 5)) + lost_tail(1, 10, 6))

    folding = verified(path)

    assert [(d.kind, d.session, d.first_n, d.lost) for d in folding.defects()] == [("gap", A, 6, 4)]
    assert exit_code(folding) == LOSS
    assert any("10 records" in message for message in texts_of(folding))


def test_a_tail_that_turned_up_after_all_is_not_lost(tmp_path):
    path = tmp_path / "run.jsonl"
    path.write_bytes(opening() + iters(A, 1, 9) + opening(B, 2, prev=(A, 9)) + lost_tail(1, 10, 6))

    assert exit_code(verified(path)) == COMPLETE


# ---- what a session says that it dropped


def test_dropped_events_show_as_missing_numbers(tmp_path):
    path = tmp_path / "run.jsonl"
    path.write_bytes(opening() + iters(A, 1, 2) + line(6, A, "gap", dropped=3, why="full"))

    folding = verified(path)

    assert [(d.kind, d.lost) for d in folding.defects()] == [("gap", 3)]


def test_dropped_events_that_no_number_shows_are_counted(tmp_path):
    path = tmp_path / "run.jsonl"
    path.write_bytes(opening() + iters(A, 1, 2) + line(4, A, "gap", dropped=3, why="full"))

    folding = verified(path)

    assert sorted((d.kind, d.lost) for d in folding.defects()) == [("dropped", 2), ("gap", 1)]
    assert exit_code(folding) == LOSS


# ---- the order of lines and sessions


def test_sessions_in_another_order_than_they_were_written_need_a_person(tmp_path):
    path = tmp_path / "run.jsonl"
    first = opening() + iters(A, 1, 3)
    second = opening(B, 2, prev=(A, 3)) + iters(B, 1, 2)
    path.write_bytes(second + first)

    folding = verified(path)

    assert "reordered" in kinds(folding)
    assert exit_code(folding) == CONFLICT


def test_an_old_session_behind_the_one_that_met_it_needs_a_person(tmp_path):
    path = tmp_path / "run.jsonl"
    first = line(0, A, "open", run_id=RUN) + iters(A, 1, 3)
    path.write_bytes(line(0, B, "open", run_id=RUN, prev={"s": A, "n": 3}) + first)

    assert kinds(verified(path)) == ["reordered"]


def test_lines_of_a_session_in_another_order_need_a_person(tmp_path):
    path = tmp_path / "run.jsonl"
    path.write_bytes(opening() + iters(A, 1, 3) + iters(A, 7, 9) + iters(A, 4, 6))

    assert kinds(verified(path)) == ["reordered"]


# ---- the content of large events


def aside(path, content=b"{}", name=None):
    """A journal with one large event; the file with its content."""
    digest = sha256(content).hexdigest()
    kept = path.with_name(name or f"run.{digest[:32]}.aside")
    kept.write_bytes(content)
    held = {"file": kept.name, "size_bytes": len(content), "sha256": digest}
    path.write_bytes(opening() + line(1, A, "table", rows="<large>", set_aside=held))
    return kept


@pytest.mark.parametrize("name", [None, f"run.{A}.1.table.aside"])
def test_a_large_event_with_its_content_is_complete(tmp_path, name):
    path = tmp_path / "run.jsonl"
    aside(path, name=name)

    assert exit_code(verified(path)) == COMPLETE


@pytest.mark.parametrize(
    ("happens", "kind", "message"),
    [
        (lambda kept: kept.unlink(), "missing_aside", "No such file"),
        (lambda kept: kept.write_bytes(b"[]"), "damaged_aside", "SHA-256"),
        (lambda kept: kept.write_bytes(b""), "damaged_aside", "has 0 bytes"),
        (lambda kept: (kept.unlink(), os.mkfifo(kept)), "missing_aside", "a FIFO"),
        (lambda kept: (kept.unlink(), kept.mkdir()), "missing_aside", "a directory"),
        (lambda kept: (kept.unlink(), kept.symlink_to("none")), "missing_aside", "No such file"),
    ],
)
def test_a_large_event_without_its_content_is_lost(tmp_path, happens, kind, message):
    path = tmp_path / "run.jsonl"
    happens(aside(path))

    folding = verified(path)

    assert exit_code(folding) == LOSS
    (defect,) = folding.defects(with_content=True)
    assert (defect.kind, defect.lost) == (kind, 1)
    assert message in defect.detail


@pytest.mark.parametrize("part", ["config", "metadata"])
def test_a_large_config_without_its_content_is_lost(tmp_path, part):
    path = tmp_path / "run.jsonl"
    held = {"file": "run.ab.aside", "size_bytes": 2, "sha256": "ab"}
    path.write_bytes(opening(**{part: {"lr": 1, "set_aside": held}}))

    assert main(["verify", str(path)]) == LOSS


def test_a_line_cannot_send_verify_to_a_file_of_another_folder(tmp_path):
    path = tmp_path / "run.jsonl"
    held = {"file": "../secret", "size_bytes": 2, "sha256": "ab"}
    path.write_bytes(opening() + line(1, A, "table", set_aside=held))

    (defect,) = verified(path).defects(with_content=True)

    assert defect.kind == "damaged_aside"
    assert "is not a file name" in defect.detail


def test_the_file_of_a_content_that_many_steps_share_is_checked_as_well(tmp_path):
    """Many events that differ in their numbers alone are read at once."""
    path = tmp_path / "run.jsonl"
    held = {"file": "run.ab.aside", "size_bytes": 2, "sha256": "ab"}
    steps = (line(n, A, "metrics", step=n, set_aside=held) for n in range(1, 40))
    path.write_bytes(opening() + b"".join(steps))

    assert kinds(verified(path)) == ["missing_aside"]


# ---- what the run JSON was made from


def test_a_journal_that_was_cut_has_fewer_records_than_its_run_json(tmp_path, capsys):
    path = tmp_path / "run.jsonl"
    whole = opening() + iters(A, 1, 9)
    path.write_bytes(whole)
    compact(path)
    path.write_bytes(opening() + iters(A, 1, 5))

    assert main(["verify", "--json", str(path)]) == LOSS

    report = orjson.loads(capsys.readouterr().out)
    assert [(d["kind"], d["lost"]) for d in report["defects"]] == [("fewer_records", 4)]


def test_what_the_numbering_counts_is_not_counted_again(tmp_path):
    path = tmp_path / "run.jsonl"
    path.write_bytes(opening() + iters(A, 1, 9))
    compact(path)
    path.write_bytes(opening() + iters(A, 1, 4) + iters(A, 6, 9))

    assert main(["verify", str(path)]) == LOSS
    assert [d.lost for d in verified(path).defects()] == [1]


def test_a_deleted_note_is_missed(tmp_path):
    path = tmp_path / "run.jsonl"
    path.write_bytes(opening() + iters(A, 1, 3) + line(4, A, "close", status="completed"))
    eventlog.annotate(path, "note", text="keep this")
    assert main(["verify", str(path)]) == COMPLETE

    next(tmp_path.glob("*.segment")).unlink()

    assert main(["verify", str(path)]) == LOSS


def test_another_note_does_not_stand_for_a_lost_one(tmp_path):
    path = tmp_path / "run.jsonl"
    path.write_bytes(opening() + iters(A, 1, 3) + line(4, A, "close", status="completed"))
    eventlog.annotate(path, "note", text="keep this")
    next(tmp_path.glob("*.segment")).unlink()

    eventlog.annotate(path, "note", text="later")

    assert main(["verify", str(path)]) == LOSS
    assert b"keep this" in (tmp_path / "run.json.before-loss").read_bytes()


def test_an_emptied_journal_in_a_folder_is_not_skipped(tmp_path, capsys):
    path = tmp_path / "run.jsonl"
    path.write_bytes(opening() + iters(A, 1, 9))
    compact(path)
    path.write_bytes(b"")

    assert main(["verify", str(tmp_path)]) != COMPLETE
    assert "run.jsonl: skipped" not in capsys.readouterr().err


# ---- folders


@pytest.mark.parametrize("n_bytes", [128 << 10, 5 << 20])
def test_a_journal_of_a_folder_that_begins_with_zeros_is_not_skipped(tmp_path, n_bytes, capsys):
    path = tmp_path / "run.jsonl"
    path.write_bytes(bytes(n_bytes) + iters(A, 1000, 1009))

    assert main(["verify", str(tmp_path)]) == LOSS
    assert "skipped" not in capsys.readouterr().err


def test_a_journal_that_begins_with_other_text_is_not_skipped(tmp_path, capsys):
    path = tmp_path / "run.jsonl"
    path.write_bytes(b'{"text": "once"}\n' * 20_000 + iters(A, 1000, 1009))

    assert main(["verify", str(tmp_path)]) == LOSS


def test_a_journal_that_an_editor_reformatted_is_not_skipped(tmp_path):
    path = tmp_path / "run.jsonl"
    rows = [orjson.loads(row) for row in (opening() + iters(A, 1, 9)).splitlines()]
    text = "".join(orjson.dumps(row).decode().replace(",", ", ") + "\n" for row in rows)
    path.write_text(text.replace(":", ": "))

    assert main(["verify", str(tmp_path)]) != COMPLETE


def test_segments_without_their_journal_are_reported(run, capsys):
    path, part = run
    path.unlink()

    assert main(["verify", str(part.parent)]) == LOSS
    assert f"{part}: belongs to a run whose journal is not here" in capsys.readouterr().err


LEFT_OF_A_RUN = {
    "its run JSON": {"*.jsonl", "*.aside"},
    "its file of a large event": {"*.jsonl", "*.json"},
    "its kept run JSON": {"*.jsonl", "*.aside"},
}


@pytest.mark.parametrize("what", LEFT_OF_A_RUN)
def test_a_run_of_a_folder_whose_journal_is_gone_is_reported_by_what_is_left(
    tmp_path, what, capsys
):
    for name in ("gone", "whole"):
        with eventlog.open_run(tmp_path, run_name=name) as run:
            run.log("table", rows="x" * (1 << 20))
    (run_json,) = tmp_path.glob("gone*.json")
    for pattern in LEFT_OF_A_RUN[what]:
        next(tmp_path.glob(f"gone{pattern}")).unlink()
    if "kept" in what:
        run_json.rename(f"{run_json}.before-loss")

    assert main(["verify", str(tmp_path)]) == LOSS
    assert "belongs to a run whose journal is not here" in capsys.readouterr().err


def test_copies_and_renamed_files_of_a_whole_run_are_no_loss(tmp_path, capsys):
    with eventlog.open_run(tmp_path, run_name="a") as run:
        run.log("table", rows="x" * (1 << 20))
    run.run_path.with_name("best.json").write_bytes(run.run_path.read_bytes())
    assert main(["verify", str(tmp_path)]) == COMPLETE

    run.journal_path.rename(tmp_path / "x.jsonl")
    run.run_path.rename(tmp_path / "x.json")
    (tmp_path / "best.json").unlink()

    assert main(["verify", str(tmp_path)]) == COMPLETE
    assert "belongs to" not in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"", bytes(9000)])
def test_an_emptied_journal_with_a_segment_is_reported(run, content, capsys):
    path, part = run
    path.write_bytes(content)
    part.rename(path.with_name(part.name))

    assert main(["verify", str(path.parent)]) == LOSS


def test_a_damaged_run_json_is_kept_since_it_may_have_had_more(tmp_path):
    path = tmp_path / "run.jsonl"
    path.write_bytes(opening() + iters(A, 1, 3) + line(4, A, "close", status="completed"))
    run_path(path).write_bytes(bytes(512))
    compact(path)

    assert main(["verify", str(path)]) == LOSS
    assert (tmp_path / "run.json.before-loss").read_bytes() == bytes(512)


def test_a_run_json_has_the_defects_of_its_journals_files(run):
    path, part = run
    part.unlink()

    compact(path)

    (defect,) = orjson.loads(run_path(path).read_bytes())["journal"]["defects"]
    assert defect["kind"] == "missing_segment"
    assert defect["detail"].startswith(str(part))


@pytest.mark.parametrize("ends", [False, True])
def test_a_session_without_an_end_may_have_events_in_a_fallback_that_is_not_a_folder(
    tmp_path, ends
):
    """Nothing in the journal says that it went on there: it could not be written any more."""
    path, fallback = tmp_path / "run.jsonl", tmp_path / "fallback"
    fallback.write_text("a file of somebody")
    close = line(3, A, "close", status="completed") if ends else b""
    path.write_bytes(opening(fallback=str(fallback)) + iters(A, 1, 2) + close)

    folding = Folding(path)
    folding.read()

    assert exit_code(folding) == (COMPLETE if ends else LOSS)
