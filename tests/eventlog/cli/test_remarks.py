"""Remarks on records that are not in the journal: one line each in verify, status and tail."""

import orjson
import pytest

from eventlog.cli.main import main
from eventlog.cli.report import COMPLETE
from eventlog.cli.tail import Lines
from tests.eventlog.read.test_missing import RUN, iters, opening, segment, went_on
from tests.strategies import SESSIONS, T, line, record

A, B, *_ = SESSIONS


@pytest.fixture
def journal(tmp_path):
    """A run whose forked child logged 100 events, and whose orphaned child logged 20 more."""
    path = tmp_path / "run.jsonl"
    path.write_bytes(
        opening()
        + line(1, A, "ignored", events=100, why="a forked process logged them")
        + line(2, A, "close", status="completed")
    )
    ignored = line(0, B, "ignored", events=20, why="its parent\x1b[31m has ended", annotates=RUN)
    segment(tmp_path, B, data=ignored)
    return path


def test_ignored_events_are_reported_and_do_not_count_as_loss(journal, capsys):
    assert main(["verify", str(journal)]) == COMPLETE
    verify = capsys.readouterr().out
    assert main(["status", str(journal)]) == COMPLETE
    status = capsys.readouterr().out

    for out in (verify, status):
        assert "  ignored    120 events that forked children logged\n" in out


def test_programs_get_the_number_of_ignored_events(journal, capsys):
    for command in ("verify", "status"):
        main([command, "--json", str(journal)])
        assert orjson.loads(capsys.readouterr().out)["ignored_events"] == 120


def test_many_remarks_do_not_hide_the_rest(tmp_path, capsys):
    path = tmp_path / "run.jsonl"
    path.write_bytes(
        opening()
        + b"".join(line(n, A, "lost_tail", session=B, records=1, found=1) for n in range(1, 31))
    )

    main(["verify", str(path)])

    assert "and 20 more" in capsys.readouterr().out


def test_verify_says_in_which_file_a_session_went_on(tmp_path, capsys):
    path = tmp_path / "run.jsonl"
    part = segment(tmp_path, first_n=2, data=iters(A, 3, 4))
    path.write_bytes(opening() + iters(A, 1, 1) + went_on(A, 2, part))

    assert main(["verify", str(path)]) == COMPLETE
    assert f"session {A} goes on in {part} from record 2" in capsys.readouterr().out


def test_verify_counts_bytes_as_it_counts_records_with_those_in_segments(tmp_path, capsys):
    path = tmp_path / "run.jsonl"
    part = segment(tmp_path, first_n=2, data=iters(A, 3, 4))
    path.write_bytes(opening() + iters(A, 1, 1) + went_on(A, 2, part))
    n_bytes = path.stat().st_size + part.stat().st_size

    main(["verify", str(path)])
    text = capsys.readouterr().out
    main(["verify", "--json", str(path)])
    fields = orjson.loads(capsys.readouterr().out)

    assert f"  5 records in 1 session, {n_bytes:,} bytes in 2 files, CRC-32 of the journal" in text
    assert (fields["records"], fields["bytes_with_segments"]) == (5, n_bytes)
    assert fields["bytes"] == path.stat().st_size


@pytest.mark.parametrize("command", ["verify", "status"])
def test_the_segment_of_a_session_that_began_in_the_fallback_folder_is_named(
    tmp_path, command, capsys
):
    path, fallback = tmp_path / "run.jsonl", tmp_path / "fallback"
    path.write_bytes(opening(fallback=str(fallback)) + line(1, A, "close", status="completed"))
    began = segment(fallback, B, data=opening(B, number=2, prev=(A, 1)) + iters(B, 1, 2))
    note = line(0, "c0c0c0c0", "note", text="of a person", annotates=RUN)
    segment(tmp_path, "c0c0c0c0", data=note)

    assert main([command, str(path)]) == COMPLETE
    out = capsys.readouterr().out
    assert f"  segment    session {B} has records in {began}\n" in out
    assert "c0c0c0c0" not in out


@pytest.mark.parametrize(
    ("event", "fields", "text"),
    [
        ("segment", {"file": "x", "folder": "/y", "first_n": 7}, "goes on in /y/x from record 7"),
        ("ignored", {"events": 3, "why": "a fork"}, "ignored    3 events were not logged: a fork"),
        (
            "lost_tail",
            {"session": A, "records": 9, "found": 4},
            f"session {A} had 9 records when its checkpoint was written, 4 were found",
        ),
        ("lost_tail", {}, "session None had None records"),
    ],
)
def test_tail_prints_one_line_of_each(event, fields, text):
    printed = Lines().line(record(5, A, event, T, **fields))

    assert text in printed
    assert "\n" not in printed
