"""A journal as text: one line per event, for any event."""

import math
import re
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventlog import Scanner, scan
from eventlog.blocks import read_chunks
from eventlog.cli import tail
from eventlog.cli.pace import Pace
from eventlog.cli.tail import Lines
from eventlog.format.files import segment_name
from eventlog.format.record import encode, encode_header
from eventlog.read import reader
from tests.strategies import (
    SESSIONS,
    T,
    any_text,
    begin_run,
    json_fields,
    line,
    record,
    resume_run_that_went_on,
)

A, B, C, D = SESSIONS
GOLDEN = Path(__file__).parents[2] / "golden" / "format_1.jsonl"
START = datetime(2026, 11, 23, 3, 25, tzinfo=UTC)


def after(seconds):
    """The time so many seconds after the start, as a record says it."""
    return (START + timedelta(seconds=seconds)).isoformat(timespec="microseconds")


def shown(event, lines=None, second=1, **fields):
    """What the line of an event says behind its time."""
    shown_text = (lines or Lines()).line(record(1, event=event, t=after(second), **fields))
    assert shown_text.startswith("2026-11-23 03:2")
    return shown_text[21:]


# ---- a line for each kind


@pytest.mark.parametrize(
    ("event", "fields", "shown_text"),
    [
        ("iter", {"iter": 7, "loss": 2.34567}, "iter      7  loss 2.3457"),
        (
            "iter",
            {"iter": 7, "loss": 2.5, "time_ms": 52.13, "tokens_per_s": 123456.7, "mfu": 31.234},
            "iter      7  loss 2.5000  52.1 ms  123,457 tokens/s  mfu 31.23%",
        ),
        ("iter", {"iter": 7, "loss": 2.5, "mfu": -100.0}, "iter      7  loss 2.5000"),
        ("iter", {"iter": 7, "loss": math.nan}, "iter      7  loss nan"),
        ("iter", {"iter": 7, "loss": -math.inf}, "iter      7  loss -inf"),
        ("iter", {"iter": 7, "loss": None}, "iter      7  loss -"),
        ("iter", {"iter": 7, "loss": "text"}, "iter      7  loss -"),
        ("iter", {}, "iter   None  loss -"),
        ("iter", {"iter": [1], "loss": {}}, "iter    [1]  loss -"),
        (
            "eval",
            {"iter": 50, "train_loss": 8.358, "val_loss": math.nan},
            "eval     50  train 8.3580  val nan",
        ),
        ("checkpoint", {"iter": 50, "path": "out/ckpt.pt"}, "saved     50  out/ckpt.pt"),
        (
            "checkpoint",
            {"iter": 50, "path": "out/ckpt.pt", "size_bytes": 124_439_808},
            "saved     50  out/ckpt.pt  124.4 MB",
        ),
        (
            "open",
            {"run_name": "mine", "pid": 7, "host": "node7"},
            f"open     mine, pid 7 on node7, session {A}",
        ),
        (
            "open",
            {"run_name": "m", "pid": 7, "host": "h", "from_iter": 5, "found": {"torn": {}}},
            f"open     m, pid 7 on h, session {A}, from iteration 5, after a torn tail (torn)",
        ),
        ("close", {"status": "completed"}, "close    completed"),
        ("close", {"status": "failed", "reason": "x"}, "close    failed: x"),
        ("signal", {"signal": "SIGTERM"}, "signal   signal SIGTERM"),
        ("rewind", {"to_iter": 5, "durable": 3}, "rewind   to_iter 5  durable_ 3"),
        ("note", {"text": "a\nb\x1b[31m\u2028c"}, r"note     text a\nb\x1b[31m\u2028c"),
        ("moon phase", {"phase": "new", "day": 3}, "moon phase phase new  day 3"),
    ],
)
def test_an_event_is_one_line(event, fields, shown_text):
    assert shown(event, **fields) == shown_text


def test_every_line_begins_with_its_time():
    assert Lines().line(record(1, event="close", status="completed")) == (
        "2026-11-23 03:25:01  close    completed"
    )


@given(
    st.sampled_from(["iter", "eval", "checkpoint", "open", "close", "note"]) | any_text,
    any_text,
    json_fields,
    st.fixed_dictionaries(
        {},
        optional={
            "iter": st.integers() | any_text | st.none(),
            "config": st.just({"max_iters": 10}),
            "found": st.lists(any_text),
        },
    ),
)
def test_any_event_is_one_line_without_anything_a_terminal_obeys(event, t, fields, known):
    lines = Lines()
    encoded = [
        encode(n, A, t.encode("utf-8", "replace").decode(), event, fields | known) for n in (1, 2)
    ]

    for one in Scanner().feed(b"".join(encoded)):
        assert lines.line(one).isprintable()


def test_the_golden_journal_is_shown_from_its_first_line_to_its_last():
    lines = Lines()
    shown_text = [re.sub(r"^\S+ \S+  ", "", lines.line(one)) for one in scan(GOLDEN)]

    assert [one.split("  ")[0].split()[0] for one in shown_text] == [
        *("open", "eval", "iter", "iter", "iter", "iter", "eval", "saved", "iter", "nonfinite"),
        *("rewind", "iter", "iter", "note", "open", "iter", "iter", "io_error", "gap", "signal"),
        *("open", "iter", "iter", "iter", "iter", "iter", "eval", "saved", "error", "close"),
    ]
    assert shown_text[8].startswith("iter 4/9  loss nan  54.0 ms  mfu 34.00%")
    assert shown_text[-1] == "close    failed: a teapot"


# ---- the estimate of the end


def etas(steps, max_iters=100):
    """What the iterations of (number, second) say of the end."""
    lines = Lines()
    lines.line(record(0, event="open", config={"max_iters": max_iters}))
    found = [re.search(r"eta (\S.*)$", shown("iter", lines, s, iter=i, loss=1.0)) for i, s in steps]
    return [eta and eta[1] for eta in found]


def test_an_even_pace_gives_the_time_that_is_left():
    assert etas([(i, 2 * i) for i in range(4)]) == [None, "3m 18s", "3m 16s", "3m 14s"]


def test_pauses_for_evals_and_saves_are_in_the_estimate():
    assert etas([(0, 0), (1, 1), (2, 11)]) == [None, "1m 39s", "8m 59s"]


def test_the_estimate_rests_on_the_last_iterations_only():
    slow_then_fast = [(i, 10 * i) for i in range(10)] + [(i, 90 + i - 9) for i in range(10, 80)]

    assert etas(slow_then_fast)[-1] == "21s"


@pytest.mark.parametrize(
    "steps",
    [
        [(0, 0)],
        [(99, 0), (100, 1)],
        [(100, 0), (101, 1)],
        [(5, 10), (6, 9)],
        [(5, 0), (3, 1)],
        [(5, 0), (5, 1)],
    ],
)
def test_there_is_no_estimate_where_there_is_nothing_to_estimate(steps):
    """One iteration, the end, a clock that was set back, a rewind."""
    assert etas(steps)[-1] is None


def test_without_an_end_there_is_no_estimate():
    assert etas([(0, 0), (1, 1)], max_iters=None) == [None, None]


def test_a_session_that_resumes_begins_a_new_estimate():
    lines = Lines()
    lines.line(record(0, event="open", config={"max_iters": 10}))
    assert shown("iter", lines, 0, iter=0, loss=1.0).endswith("loss 1.0000")
    assert shown("iter", lines, 1, iter=1, loss=1.0).endswith("eta 9s")

    lines.line(record(0, B, "open", config={"max_iters": 10}))
    assert shown("iter", lines, 180, iter=2, loss=1.0).endswith("loss 1.0000")
    assert shown("iter", lines, 182, iter=3, loss=1.0).endswith("eta 14s")


def at(second, **fields):
    return record(0, t=after(second), **fields)


def test_of_several_rows_of_a_step_one_counts_and_metrics_beside_iterations_do_not():
    pace = Pace()
    pace.begin(at(0, event="open", config={"max_steps": 10}))
    rows = [(0, 0), (0, 1), (1, 10), (1, 11), (2, 20)]
    steps = [pace.remaining_s(at(s, event="metrics", step=i)) for i, s in rows]

    first, beside, second = (
        pace.remaining_s(at(30, event="iter", iter=2)),
        pace.remaining_s(at(31, event="metrics", step=500)),
        pace.remaining_s(at(32, event="iter", iter=3)),
    )

    assert steps == [None, None, 90, None, 80]
    assert (first, beside, second) == (None, None, 14)


# ---- in a terminal


def in_terminal(columns, *records):
    lines = Lines(columns)
    return [shown for one in records for shown in lines.shown(lines.line(one))]


METRICS = {f"grad/layer{n}.weight": 0.5 for n in range(60)} | {"train/loss": 0.25}


def test_in_a_terminal_an_event_is_one_line_with_the_fields_that_fit_and_a_count():
    event = at(0, event="metrics", step=7, **METRICS)

    date, line = in_terminal(80, event)
    (piped,) = in_terminal(None, event)

    assert re.fullmatch(r"\d{4}-\d\d-\d\d UTC", date)
    assert re.search(r"^\d\d:\d\d:\d\d  metrics  step 7  grad/layer0.weight 0.5  .*… \+59$", line)
    assert len(line) <= 80
    assert piped.endswith("train/loss 0.25")


def test_a_field_that_does_not_fit_gives_way_to_a_shorter_one_behind_it():
    event = at(0, event="metrics", step=7, **{"x" * 70: 1.0, "train/loss": 0.25})

    assert in_terminal(80, event)[1].endswith("  train/loss 0.25  … +1")


def test_in_a_narrow_terminal_the_date_is_a_line_of_its_own_when_it_changes():
    day_s = 24 * 3600
    events = [at(s, event="iter", iter=s, loss=1.0) for s in (0, 1, day_s)]

    narrow, wide = in_terminal(80, *events), in_terminal(120, *events)

    assert [line.endswith(" UTC") for line in narrow] == [True, False, False, True, False]
    assert [line[11:] for line in wide] == [line for line in narrow if not line.endswith(" UTC")]


def test_wide_characters_take_two_columns():
    event = at(0, event="metrics", step=7, **{"損失" * 15: 1.0, "a": 1.0})

    line = in_terminal(80, event)[1]

    assert line.endswith("  a 1  … +1")


# ---- the last lines of a file, and following it


@pytest.fixture
def followed(tmp_path, monkeypatch):
    """A journal of three lines, and a poll that does not wait, but gives up."""
    polls = count()

    def sleep(seconds):
        assert next(polls) < 100, "nothing new came"

    monkeypatch.setattr(tail, "time", SimpleNamespace(sleep=sleep))
    path = tmp_path / "run.jsonl"
    path.write_bytes(line(0, event="open", run_name="r") + line(1, iter=0) + line(2, iter=1))
    return path


def short(shown_text):
    """A line without its time and its estimate."""
    return [re.sub(r"^\S+ \S+  ", "", one).split("  loss")[0] for one in shown_text]


@pytest.mark.parametrize("n_lines", [1, 2, 3, 9])
def test_the_last_lines_are_shown(n_lines, followed):
    whole = [f"open     r, pid None on None, session {A}", "iter      0", "iter      1"]

    assert short(tail.tail(followed, n_lines=n_lines)) == whole[-n_lines:]


def test_the_last_lines_of_a_long_journal_are_found_without_reading_it_all(followed, monkeypatch):
    with open(followed, "ab") as file:
        file.writelines(line(n, iter=n - 1) for n in range(3, 5000))
    begun = []

    def noting(path, offset, note_hole):
        begun.append(offset)
        return read_chunks(path, offset, note_hole)

    monkeypatch.setattr(reader, "read_chunks", noting)

    assert short(tail.tail(followed, n_lines=2)) == ["iter   4997", "iter   4998"]
    assert min(begun) > followed.stat().st_size - 100_000


def test_the_end_of_the_run_is_known_also_where_its_open_is_far_before(followed):
    with open(followed, "ab") as file:
        file.write(line(0, B, "open", config={"max_iters": 9000}))
        file.writelines(line(n, B, iter=n - 1) for n in range(1, 3000))

    assert "iter 2998/9000  loss" in next(tail.tail(followed, n_lines=1))


def test_following_shows_each_appended_event_once(followed):
    following = tail.tail(followed, n_lines=1, follow=True)
    assert short([next(following)]) == ["iter      1"]

    with open(followed, "ab", buffering=0) as file:
        file.write(line(3, iter=2))
        file.write(line(4, iter=3)[:40])
        assert short([next(following)]) == ["iter      2"]
        file.write(line(4, iter=3)[40:])
        file.write(line(5, event="close", status="completed"))

    assert short([next(following), next(following)]) == ["iter      3", "close    completed"]


def test_following_a_long_journal_shows_what_is_appended_and_nothing_twice(followed):
    with open(followed, "ab") as file:
        file.writelines(line(n, iter=n - 1) for n in range(3, 5000))
    following = tail.tail(followed, n_lines=1, follow=True)
    assert short([next(following)]) == ["iter   4998"]

    with open(followed, "ab") as file:
        file.write(line(5000, iter=4999))

    assert short([next(following)]) == ["iter   4999"]


@pytest.mark.parametrize("has_more", [False, True])
def test_the_last_lines_are_in_the_order_of_the_run_if_a_session_is_in_the_fallback_folder(
    tmp_path, followed, has_more
):
    fallback = tmp_path / "fallback"
    fallback.mkdir()
    opened = {"run_id": "r", "fallback": str(fallback)}
    rows = [line(n, iter=n - 1) for n in range(1, 5000)]
    followed.write_bytes(b"".join([line(0, event="open", session_number=1, **opened), *rows]))
    prev = {"s": A, "n": 4999}
    header = {"run_id": "r", "journal": followed.name, "session": B, "number": 0, "first_n": 0}
    resumed = line(0, B, "open", session_number=2, prev=prev, **opened), line(1, B, iter=4999)
    segment = fallback / segment_name(followed.stem, "r", B, 0)
    segment.write_bytes(b"".join([encode_header(**header, s="f0f0f0f0", t=T), *resumed]))
    if has_more:
        with open(followed, "ab") as file:
            prev = {"s": B, "n": 1}
            file.write(line(0, C, "open", session_number=3, prev=prev, **opened))
            file.writelines(line(n, C, iter=4999 + n) for n in range(1, 1000))

    last = 5998 if has_more else 4999
    assert short(tail.tail(followed, n_lines=1)) == [f"iter   {last}"]


def test_following_goes_on_through_a_torn_tail_its_repair_and_a_resumed_session(followed):
    whole = followed.read_bytes()
    following = tail.tail(followed, n_lines=1, follow=True)
    next(following)
    whole += line(3, iter=2)
    followed.write_bytes(whole + line(4, iter=3)[:50])
    assert short([next(following)]) == ["iter      2"]

    followed.write_bytes(whole + line(0, B, "open", run_name="r") + line(1, B, iter=2))

    assert short([next(following), next(following)]) == [
        f"open     r, pid None on None, session {B}",
        "iter      2",
    ]


def test_following_a_file_that_became_shorter_reports_it_and_begins_again(followed):
    following = tail.tail(followed, n_lines=1, follow=True)
    next(following)

    followed.write_bytes(line(0, B, "open", run_name="r"))

    assert next(following) == f"{followed}: became shorter; reading from its beginning"
    assert short([next(following)]) == [f"open     r, pid None on None, session {B}"]


def test_following_reads_again_where_a_segment_comes_after_the_run_was_resumed(tmp_path, followed):
    begin_run(followed)
    following = tail.tail(followed, n_lines=1, follow=True)
    next(following)

    resume_run_that_went_on(followed, tmp_path / "fallback")

    shown_text = [next(following) for _ in range(12)]
    assert "has a segment with records from before the latest ones" in "".join(shown_text)
    iters = [one for one in short(shown_text) if one.startswith("iter")]
    assert [one.split()[1] for one in iters][-4:] == ["0", "1", "2", "1"]


def test_damage_is_passed_over(followed):
    with open(followed, "ab") as file:
        file.write(bytes(600) + b"\n#\n" + line(9, iter=8))

    assert short(tail.tail(followed, n_lines=2)) == ["iter      1", "iter      8"]
