"""The results of scanning a journal: its records, and each defect with its place and its cost.

Each case says what was read AND which defect stands where AND what was lost, after the
manner of leveldb's log_test. `lost` is 0, a number, or None where nobody can know.
"""

import re
import tracemalloc
import zlib
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from eventlog import blocks
from eventlog.cli.report import COMPLETE, CONFLICT, EMPTY, LOSS, exit_code, report_lines
from eventlog.format import record as record_room
from eventlog.format.record import MAX_LINE_BYTES, decode, encode
from eventlog.read import scanner as scanner_module
from eventlog.read.defects import DEFECTS, Defect
from eventlog.read.scanner import MAX_DEFECTS, Scanner, scan_file
from eventlog.read.sequence import Numbers
from tests import corrupt
from tests.strategies import SESSIONS, T, damages, journal, journals, line

A, B, C, D = SESSIONS
GOLDEN = Path(__file__).parents[2] / "golden" / "format_1.jsonl"


def read(data):
    """(records, scanner) of a whole journal, fed at once."""
    scanner = Scanner()
    return [*scanner.feed(data), *scanner.finish()], scanner


def names(records):
    """Which records: session letter and number, as in `a0 a1 b0`."""
    return " ".join(f"{r.s[0]}{r.n}" for r in records)


def found(scanner):
    """Each defect as (kind, offset, size_bytes, lost)."""
    return [(d.kind, d.offset, d.size_bytes, d.lost) for d in scanner.defects]


def cost(scanner):
    """(events known to be lost, whether more may be)."""
    lost = [d.lost for d in scanner.defects]
    return sum(filter(None, lost)), None in lost


def opening(s=A, **fields):
    return line(0, s, "open", **({"format": 1, "run_id": "r"} | fields))


def lines(s, *numbers):
    """Lines of one session; number 0 is its `open`."""
    return [opening(s) if n == 0 else line(n, s, iter=n, loss=1.5) for n in numbers]


A0, A1, A2, A3, A4 = lines(A, 0, 1, 2, 3, 4)
B0, B1, B2 = lines(B, 0, 1, 2)
C0, C1 = lines(C, 0, 1)


def at(*before):
    """The offset behind these."""
    return len(b"".join(before))


# ---- a whole journal


def test_a_whole_journal_gives_its_records_with_their_places_and_no_defect():
    records, scanner = read(A0 + A1 + A2 + B0 + B1)

    assert names(records) == "a0 a1 a2 b0 b1"
    assert [(r.offset, r.size_bytes) for r in records] == [
        (0, len(A0) - 1),
        (at(A0), len(A1) - 1),
        (at(A0, A1), len(A2) - 1),
        (at(A0, A1, A2), len(B0) - 1),
        (at(A0, A1, A2, B0), len(B1) - 1),
    ]
    assert records[1].fields == {"iter": 1, "loss": 1.5}
    assert found(scanner) == []
    assert scanner.sequence.sessions == [A, B]
    assert scanner.size_bytes == len(A0 + A1 + A2 + B0 + B1)
    assert scanner.crc == zlib.crc32(A0 + A1 + A2 + B0 + B1)


@pytest.mark.parametrize("data", [b"", b"\n", b"\n\n \t\n"])
def test_nothing_is_a_journal_without_records_and_without_defects(data):
    records, scanner = read(data)

    assert (records, found(scanner)) == ([], [])


def test_blank_lines_are_not_a_defect():
    records, scanner = read(A0 + b"\n" + A1 + b"  \t\n\n" + A2)

    assert names(records) == "a0 a1 a2"
    assert found(scanner) == []


def test_an_unknown_kind_is_a_record_like_any_other():
    records, scanner = read(A0 + line(1, A, "moon phase", phase="new"))

    assert (records[1].event, records[1].fields) == ("moon phase", {"phase": "new"})
    assert found(scanner) == []


# ---- torn, unterminated, glued


def test_a_torn_tail_is_named_and_costs_nothing():
    records, scanner = read(A0 + A1 + A2[:40])

    assert names(records) == "a0 a1"
    assert found(scanner) == [("torn", at(A0, A1), 40, 0)]
    torn = scanner.defects[0]
    assert (torn.session, torn.first_n, torn.last_n) == (A, 2, 2)


@pytest.mark.parametrize("size", [1, 4, 5, 6, 30, len(A2) - 19, len(A2) - 12, len(A2) - 2])
def test_a_tail_cut_anywhere_is_torn_not_damaged(size):
    _, scanner = read(A0 + A1 + A2[:size])

    assert found(scanner) == [("torn", at(A0, A1), size, 0)]


def test_a_tail_cut_in_the_middle_of_a_letter_is_torn():
    cut = line(1, A, "note", text="日本")
    cut = cut[: cut.index("日".encode()) + 2]

    assert found(read(A0 + cut)[1]) == [("torn", at(A0), len(cut), 0)]


def test_a_tail_cut_behind_a_field_named_crc_is_torn():
    cut = line(1, A, "note", file={"size": 1, "crc": "01234567"}, more=1)
    cut = cut[: cut.index(b'"more') + 10]

    assert found(read(A0 + cut)[1]) == [("torn", at(A0), len(cut), 0)]


def test_a_whole_last_line_without_line_feed_is_accepted():
    records, scanner = read(A0 + A1[:-1])

    assert names(records) == "a0 a1"
    assert found(scanner) == [("unterminated", at(A0), len(A1) - 1, 0)]


def test_a_torn_line_with_a_whole_one_behind_it_is_glued_and_the_whole_one_accepted():
    """As a plain append onto a cut tail leaves it. The number of the cut record comes again."""
    records, scanner = read(A0 + A1[:40] + A1 + A2)

    assert names(records) == "a0 a1 a2"
    assert found(scanner) == [("glued", at(A0), 40, 0)]
    assert records[1].offset == at(A0) + 40


def test_a_torn_line_glued_to_a_later_record_costs_what_the_gap_says():
    records, scanner = read(A0 + A1[:40] + A3)

    assert names(records) == "a0 a3"
    assert found(scanner) == [("glued", at(A0), 40, 0), ("gap", at(A0) + 40, 0, 2)]


def test_a_torn_line_glued_to_another_session_has_unknown_cost():
    records, scanner = read(A0 + A1[:70] + B0)

    assert names(records) == "a0 b0"
    assert found(scanner) == [("glued", at(A0), 70, None)]


@pytest.mark.parametrize("many", [2, 3, 9])
def test_lines_without_their_line_feeds_are_all_accepted(many):
    whole = [A0, *lines(A, *range(1, many))]

    records, scanner = read(b"".join(e[:-1] for e in whole) + b"\n")
    assert names(records) == " ".join(f"a{n}" for n in range(many))
    assert found(scanner) == []


def test_a_record_with_a_field_of_its_own_named_crc_is_found_in_a_glued_line():
    inner = line(1, A, "checkpoint", file={"path": "x", "crc": "01234567"}, again={"n": 5})

    records, scanner = read(A0[:-1] + b"x" + inner + A2)
    assert names(records) == "a0 a1 a2"
    assert found(scanner) == [("glued", len(A0) - 1, 1, 0)]


def test_a_retried_short_write_is_torn_and_costs_nothing():
    """The writer begins the next write with a line feed and repeats the record whole."""
    records, scanner = read(A0 + A1[:50] + b"\n" + A1 + A2)

    assert names(records) == "a0 a1 a2"
    assert found(scanner) == [("torn", at(A0), 50, 0)]


@pytest.mark.parametrize(
    ("noted", "lost"),
    [
        ({"torn": {"offset": at(A0, A1), "size_bytes": 50, "kept_in": None}}, 0),
        ({"torn": {"offset": at(A0, A1), "size_bytes": 49, "kept_in": None}}, None),
        ({"torn": {"offset": at(A0), "size_bytes": 50, "kept_in": None}}, None),
        ({"torn": "yes"}, None),
        ("yes", None),
        (None, None),
    ],
)
def test_a_torn_line_before_a_new_session_costs_nothing_if_that_session_met_it(noted, lost):
    """Otherwise it may as well be whole lines that something wrote over."""
    records, scanner = read(A0 + A1 + A2[:50] + b"\n" + opening(B, found=noted) + B1)

    assert names(records) == "a0 a1 b0 b1"
    assert found(scanner) == [("torn", at(A0, A1), 50, lost)]


def test_a_line_feed_after_a_cut_line_means_that_writing_went_on():
    """So the end of the file is no excuse: what came after it may be lost."""
    _, scanner = read(A0 + A1 + A2[:50] + b"\n")

    assert found(scanner) == [("torn", at(A0, A1), 50, None)]


def test_damage_before_a_torn_tail_still_counts_as_loss():
    damage = b"#" * 100 + b"\n"

    _, scanner = read(A0 + damage + A1[:50])
    assert found(scanner) == [
        ("damaged", at(A0), 100, None),
        ("torn", at(A0, damage), 50, None),
    ]


# ---- damaged, edited, foreign


def test_a_damaged_line_costs_what_the_gap_around_it_counts():
    damaged = corrupt.set_byte(A0 + A1 + A2 + A3, at(A0, A1) + 1, 0xFF)

    records, scanner = read(damaged)
    assert names(records) == "a0 a1 a3"
    assert found(scanner) == [
        ("damaged", at(A0, A1), len(A2) - 1, 0),
        ("gap", at(A0, A1, A2), 0, 1),
    ]
    gap = scanner.defects[1]
    assert (gap.session, gap.first_n, gap.last_n) == (A, 2, 2)


def test_damage_at_the_end_has_unknown_cost():
    damaged = corrupt.set_byte(A0 + A1 + A2, at(A0, A1) + 1, 0xFF)

    records, scanner = read(damaged)
    assert names(records) == "a0 a1"
    assert found(scanner) == [("damaged", at(A0, A1), len(A2) - 1, None)]


def test_damage_between_two_sessions_has_unknown_cost():
    """A whole session may have stood there, also between a `close` and an `open`."""
    close = line(2, A, "close", status="completed")
    hidden = B0 + B1

    records, scanner = read(A0 + A1 + close + b"#" * (len(hidden) - 1) + b"\n" + C0 + C1)
    assert names(records) == "a0 a1 a2 c0 c1"
    assert found(scanner) == [("damaged", at(A0, A1, close), len(hidden) - 1, None)]


def test_damage_too_small_for_any_record_costs_nothing():
    """As the line feed between two sessions, turned into something else."""
    records, scanner = read(A0 + A1[:-1] + b"x" + B0)

    assert names(records) == "a0 a1 b0"
    assert found(scanner) == [("glued", at(A0, A1) - 1, 1, 0)]


def test_neighbouring_damage_is_one_defect_with_a_count():
    records, scanner = read(A0 + b"###\n" * 5 + A1)

    assert names(records) == "a0 a1"
    assert found(scanner) == [("damaged", at(A0), 19, 0)]
    assert scanner.defects[0].count == 5


@pytest.mark.parametrize("name", [b"n", b"s", b"crc", b"iter"])
def test_a_line_with_a_name_changed_is_edited_not_foreign(name):
    """All of it is there, as JSON, but its checksum does not hold."""
    damaged = A2.replace(b'"' + name + b'"', b'"' + name[:-1] + b'Q"')

    records, scanner = read(A0 + A1 + damaged)
    assert names(records) == "a0 a1"
    assert found(scanner) == [("edited", at(A0, A1), len(A2) - 1, None)]


def test_a_line_with_a_number_changed_by_hand_is_edited_and_left_out():
    edited = A1.replace(b"1.5", b"0.5")

    records, scanner = read(A0 + edited + A2)
    assert names(records) == "a0 a2"
    assert found(scanner) == [("edited", at(A0), len(A1) - 1, 0), ("gap", at(A0, A1), 0, 1)]


def test_a_line_that_an_editor_reformatted_is_edited():
    spaced = b'{"n": 1, "s": "a1a1a1a1", "t": "t", "event": "iter", "crc": "00000000"}\n'

    assert found(read(A0 + spaced)[1]) == [("edited", at(A0), len(spaced) - 1, None)]


@pytest.mark.parametrize("other", [b'{"step": 1, "loss": 2.5}', b"[1]", b"17", b'"a"', b"null"])
def test_json_that_is_none_of_ours_is_foreign_and_costs_nothing(other):
    records, scanner = read(A0 + other + b"\n" + B0)

    assert names(records) == "a0 b0"
    assert found(scanner) == [("foreign", at(A0), len(other), 0)]


# ---- nul


def test_a_nul_tail_is_named_and_its_cost_unknown():
    """As ext4 leaves it after a power loss: the length was stored, the content was not."""
    records, scanner = read(A0 + A1 + bytes(4096))

    assert names(records) == "a0 a1"
    assert found(scanner) == [("nul", at(A0, A1), 4096, None)]


def test_a_hole_in_the_middle_keeps_both_sides_and_names_the_gap_exactly():
    whole = [A0, *lines(A, *range(1, 200))]
    data = b"".join(whole)
    begin, end = at(*whole[:60]) + 13, at(*whole[:150]) + 70

    records, scanner = read(corrupt.zero_block(data, begin, end - begin))
    assert names(records) == " ".join(f"a{n}" for n in [*range(60), *range(151, 200)])
    assert [r.fields for r in records] == [r.fields for r in read(data)[0] if not 60 <= r.n <= 150]
    assert found(scanner) == [
        ("nul", at(*whole[:60]), at(*whole[60:151]) - 1, 0),
        ("gap", at(*whole[:151]), 0, 91),
    ]
    gap = scanner.defects[1]
    assert (gap.first_n, gap.last_n) == (60, 150)


def test_a_hole_over_the_end_of_a_session_has_unknown_cost():
    data = A0 + A1 + A2 + B0 + B1 + B2
    begin, end = at(A0) + 5, at(A0, A1, A2, B0) + 5

    records, scanner = read(corrupt.zero_block(data, begin, end - begin))
    assert names(records) == "a0 b2"
    assert found(scanner) == [
        ("nul", at(A0), at(A1, A2, B0, B1) - 1, None),
        ("gap", at(A0, A1, A2, B0, B1), 0, 2),
    ]
    assert scanner.defects[1].session == B


# ---- oversize


def test_more_than_a_line_may_hold_is_one_defect_and_reading_goes_on():
    junk = b"x" * (5 * MAX_LINE_BYTES + 17)

    records, scanner = read(A0 + junk + b"\n" + A1)
    assert names(records) == "a0 a1"
    assert found(scanner) == [("oversize", at(A0), len(junk), 0)]


def test_a_record_glued_behind_an_endless_line_is_accepted():
    junk = b"x" * (5 * MAX_LINE_BYTES + 17)

    records, scanner = read(A0 + junk + A1 + A2)
    assert names(records) == "a0 a1 a2"
    assert [kind for kind, *_ in found(scanner)] == ["oversize"]
    assert cost(scanner) == (0, False)


# ---- numbers: gap, duplicate, conflict


@pytest.mark.parametrize(
    ("numbers", "gaps"),
    [
        ([0, 1, 2], []),
        ([1, 2], [(0, 0)]),
        ([5], [(0, 4)]),
        ([0, 2, 4], [(1, 1), (3, 3)]),
        ([0, 4, 2], [(1, 1), (3, 3)]),
        ([4, 3, 2, 1, 0], []),
        ([0, 10, 3, 7, 5, 4], [(1, 2), (6, 6), (8, 9)]),
        ([0, 10**17], [(1, 10**17 - 1)]),
    ],
)
def test_numbers_that_are_missing_are_named_exactly_in_any_order(numbers, gaps):
    records, scanner = read(b"".join(lines(A, *numbers)))

    assert [r.n for r in records] == numbers
    assert [(d.first_n, d.last_n) for d in scanner.defects] == gaps
    assert [d.lost for d in scanner.defects] == [last - first + 1 for first, last in gaps]
    assert {d.kind for d in scanner.defects} <= {"gap"}


@given(st.lists(st.integers(0, 30), unique=True, max_size=31))
def test_gaps_are_the_numbers_that_are_not_there_whatever_the_order(numbers):
    _, scanner = read(b"".join(lines(A, *numbers)))

    missing = {n for d in scanner.defects for n in range(d.first_n, d.last_n + 1)}
    assert missing == set(range(max(numbers, default=-1) + 1)) - set(numbers)
    assert sum(d.lost for d in scanner.defects) == len(missing)


def test_a_repeated_record_counts_once():
    records, scanner = read(A0 + A1 + A2 + A1 + A3 + A1)

    assert names(records) == "a0 a1 a2 a3"
    assert found(scanner) == [("duplicate", at(A0, A1, A2), len(A1) - 1, 0)]
    assert scanner.defects[0].count == 2


def test_a_repeated_late_record_counts_once():
    records, scanner = read(A0 + A3 + A1 + A1)

    assert names(records) == "a0 a3 a1"
    assert [kind for kind, *_ in found(scanner)] == ["gap", "duplicate"]


def test_two_different_records_of_one_name_are_a_conflict_and_the_first_is_kept():
    other = line(1, A, iter=1, loss=99.0)

    records, scanner = read(A0 + A1 + other + A2)
    assert [r.fields.get("loss") for r in records] == [None, 1.5, 1.5]
    assert found(scanner) == [("conflict", at(A0, A1), len(other) - 1, 0)]


# ---- sessions: two writers, foreign run, newer format


def test_sessions_that_alternate_were_two_writers_and_both_are_kept():
    records, scanner = read(A0 + A1 + B0 + A2 + B1 + A3)

    assert names(records) == "a0 a1 b0 a2 b1 a3"
    assert found(scanner) == [
        ("two_writers", at(A0, A1, B0), len(A2) - 1, 0),
        ("two_writers", at(A0, A1, B0, A2), len(B1) - 1, 0),
    ]
    assert [d.count for d in scanner.defects] == [2, 1]


def test_sessions_one_after_the_other_are_one_writer_at_a_time():
    assert found(read(A0 + A1 + B0 + B1 + C0)[1]) == []


def test_a_session_of_another_run_is_left_out_and_counted():
    foreign = opening(B, run_id="other") + B1 + B2

    records, scanner = read(A0 + A1 + foreign + C0 + C1)
    assert names(records) == "a0 a1 c0 c1"
    assert found(scanner) == [("foreign_run", at(A0, A1), 0, 0)]
    assert scanner.defects[0].count == 3
    assert scanner.n_records == 4


def test_two_journals_put_together_are_the_first_and_a_foreign_run():
    first, second = A0 + A1 + A2, opening(B, run_id="other") + B1

    records, scanner = read(first + second)
    assert names(records) == "a0 a1 a2"
    assert [d.kind for d in scanner.defects] == ["foreign_run"]


def test_a_journal_put_behind_itself_is_read_once():
    """Duplicates are not two writers, though the sessions come again."""
    data = A0 + A1 + B0 + B1

    records, scanner = read(data + data)
    assert names(records) == "a0 a1 b0 b1"
    assert found(scanner) == [
        ("duplicate", len(data), len(A0) - 1, 0),
        ("duplicate", len(data) + at(A0, A1), len(B0) - 1, 0),
    ]


@pytest.mark.parametrize("number", [2, 99, "2", None, 1.5, True])
def test_a_newer_format_is_named(number):
    newer = opening(A, format=number)

    _, scanner = read(newer)
    assert found(scanner) == [("newer_format", 0, len(newer) - 1, 0)]
    assert scanner.sequence.newer_format == number


def test_a_session_without_its_open_event_is_read():
    records, scanner = read(A1 + A2)

    assert names(records) == "a1 a2"
    assert found(scanner) == [("gap", 0, 0, 1)]


# ---- what editors and transfers do


def test_a_byte_order_mark_does_not_count_as_loss():
    records, scanner = read(b"\xef\xbb\xbf" + A0 + A1)

    assert names(records) == "a0 a1"
    assert found(scanner) == [("bom", 0, 3, 0)]


def test_line_ends_of_another_system_do_not_count_as_loss():
    records, scanner = read((A0 + A1 + A2).replace(b"\n", b"\r\n"))

    assert names(records) == "a0 a1 a2"
    assert found(scanner) == [("crlf", len(A0) - 1, 1, 0)]
    assert scanner.defects[0].count == 3


def test_a_file_in_utf_16_is_damaged_from_end_to_end():
    records, scanner = read((A0 + A1).decode().encode("utf-16"))

    assert records == []
    assert cost(scanner) == (0, True)


# ---- every byte, every length


def every_byte_journal():
    """Three sessions, one killed, one that goes back, values of every shape."""
    return journal(
        [
            ("iter", {"iter": 0, "loss": 11.0049, "time_ms": 52.1, "mfu": -100.0}),
            ("iter", {"iter": 1, "loss": 10.9733, "time_ms": 51.7, "mfu": 31.2, "lr": 6e-4}),
            ("eval", {"iter": 2, "train_loss": 10.5, "val_loss": 10.6}),
            ("note", {"text": "ünï", "file": {"size": 1, "crc": "01234567"}}),
        ],
        [("rewind", {"to_iter": 1}), ("iter", {"iter": 1, "loss": float("nan")})],
        [("iter", {"iter": 2, "loss": 9.5}), ("close", {"status": "completed"})],
    )


def check_damage(whole, damaged, most_lost):
    """What was read is correct and in order, and the loss is reported."""
    records, scanner = read(damaged)
    right = {(r.s, r.n): (place, r[:5]) for place, r in enumerate(whole)}
    places, values = zip(*(right[r.s, r.n] for r in records), strict=True) if records else ((), ())
    lost = len(whole) - len(records)
    known, more = cost(scanner)
    assert list(values) == [r[:5] for r in records]
    assert list(places) == sorted(places)
    assert lost <= most_lost
    assert known == lost or (known < lost and more), (lost, found(scanner))
    return scanner


@pytest.mark.parametrize(
    ("source", "every"),
    [
        ("every kind of value", 1),
        ("golden", 7),
        pytest.param("golden", 1, marks=pytest.mark.slow),
    ],
)
def test_any_single_byte_damaged_costs_one_event_at_most_and_no_wrong_value(source, every):
    """Every byte, or one in `every`, four ways: a flipped bit, 0x00, 0xFF, a line feed."""
    data = GOLDEN.read_bytes() if source == "golden" else every_byte_journal().data
    data = data[: data.rfind(b"\n") + 1]
    whole = read(data)[0]

    for offset in range(0, len(data), every):
        byte = data[offset]
        for value in {byte ^ (1 << offset % 8), 0x00, 0xFF, 0x0A} - {byte}:
            scanner = check_damage(whole, corrupt.set_byte(data, offset, value), most_lost=1)
            assert [d for d in scanner.defects if -1 <= offset - d.offset <= d.size_bytes]


@pytest.mark.parametrize("source", ["every kind of value", "golden"])
def test_a_journal_cut_at_any_length_loses_no_complete_event(source):
    data = GOLDEN.read_bytes() if source == "golden" else every_byte_journal().data
    data = data[: data.rfind(b"\n") + 1]
    whole = read(data)[0]

    for length in range(len(data) + 1):
        records, scanner = read(data[:length])
        complete = [r for r in whole if r.offset + r.size_bytes <= length]
        begin = complete[-1].offset + complete[-1].size_bytes + 1 if complete else 0
        assert records == complete
        assert cost(scanner) == (0, False)
        if length == begin - 1:
            assert found(scanner) == [
                ("unterminated", complete[-1].offset, complete[-1].size_bytes, 0)
            ]
        else:
            assert found(scanner) == ([("torn", begin, length - begin, 0)] * (length > begin))


@given(st.data())
def test_overwritten_bytes_never_cost_more_than_is_reported(data):
    """Flips, blocks of zeros and of anything, in any places, several at once."""
    whole = data.draw(journals)
    records = read(whole.data)[0]
    assume(len({(r.s, r.n) for r in records}) == len(whole.events))

    check_damage(records, data.draw(damages(whole.data, in_place=True)), most_lost=len(records))


@given(st.data())
def test_after_any_accidents_nothing_raises_and_every_record_is_one_that_was_written(data):
    """Also ranges of bytes that were removed, inserted or repeated."""
    whole = data.draw(journals)
    damaged = data.draw(damages(whole.data, in_place=False))

    records, scanner = read(damaged)
    assert all((r.s, r.n, r.event, r.fields) in whole.events for r in records)
    assert len({(r.s, r.n) for r in records}) == len(records)
    assert all(d.kind in DEFECTS and 0 <= d.offset <= len(damaged) for d in scanner.defects)
    assert all(str(d) and d.to_dict()["kind"] == d.kind for d in scanner.defects)


@given(st.binary(max_size=2000))
@example(b"\n{\x00}\r\n\xff" * 9)
@example(b'{"n":' * 50 + b',"crc":"00000000"}' * 50)
def test_no_bytes_at_all_make_a_scanner_raise(junk):
    records, scanner = read(junk)

    assert records == []
    assert scanner.size_bytes == len(junk)
    assert scanner.crc == zlib.crc32(junk)


# ---- in pieces


@given(st.data())
def test_a_journal_fed_in_pieces_of_any_size_reads_the_same(data):
    """Also where a line is too long: its limit is set low here, to what was written."""
    whole = data.draw(journals).data
    limit = max(300, *map(len, whole.splitlines(keepends=True)), 0)
    if data.draw(st.booleans()):
        junk = data.draw(st.integers(0, 3000)) * b"x"
        whole = corrupt.insert(whole, data.draw(st.integers(0, len(whole))), junk)
    whole = data.draw(damages(whole, in_place=False))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=12)))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scanner_module, "MAX_LINE_BYTES", limit)
        at_once, one = read(whole)
        pieces, in_pieces = Scanner(), []
        for begin, end in zip([0, *cuts], [*cuts, len(whole)], strict=True):
            in_pieces += pieces.feed(whole[begin:end])
        in_pieces += pieces.finish()

    assert in_pieces == at_once
    assert pieces.defects == one.defects
    assert (
        (pieces.size_bytes, pieces.crc)
        == (one.size_bytes, one.crc)
        == (
            len(whole),
            zlib.crc32(whole),
        )
    )
    assert (pieces.n_records, pieces.sequence.sessions) == (one.n_records, one.sequence.sessions)


def test_a_file_is_read_as_its_bytes_are(tmp_path, monkeypatch):
    monkeypatch.setattr(blocks, "CHUNK_BYTES", 100)
    path = tmp_path / "run.jsonl"
    path.write_bytes(A0 + A1 + b"#\n" + A2[:50])
    scanner = Scanner()

    assert names(scan_file(path, scanner)) == "a0 a1"
    assert found(scanner) == found(read(A0 + A1 + b"#\n" + A2[:50])[1])


def test_a_half_line_is_forgotten_when_it_was_cut_away_meanwhile():
    scanner = Scanner()
    records = scanner.feed(A0 + A1 + A2[:30])
    assert scanner.size_bytes == at(A0, A1)

    scanner.forget_pending()
    records += scanner.feed(B0)
    assert names(records) == "a0 a1 b0"
    assert found(scanner) == []


# ---- time and memory, by counting


def bytes_hashed(monkeypatch, data):
    """How many bytes the scanner sends through CRC-32 for `data`."""
    hashed = 0

    def counting(piece, start=0):
        nonlocal hashed
        hashed += len(piece)
        return zlib.crc32(piece, start)

    with monkeypatch.context() as patch:
        patch.setattr(record_room, "crc32", counting)
        patch.setattr(scanner_module, "crc32", counting)
        read(data)
    return hashed


@pytest.mark.parametrize(
    "hostile",
    [
        lambda n: b'{"n":' * (n // 5),
        lambda n: b',"crc":"00000000"}' * (n // 18),
        lambda n: b'{"n":1,"crc":"00000000"}' * (n // 24),
        lambda n: b'{"n":' * (n // 10) + b',"crc":"00000000"}' * (n // 36),
        lambda n: (A1[:60] + b"\n") * (n // 61),
        lambda n: (A1[:60] + A1) * (n // (60 + len(A1))),
    ],
    ids=["starts", "ends", "pairs", "starts then ends", "torn lines", "glued lines"],
)
def test_the_work_grows_with_the_file_and_no_faster(hostile, monkeypatch):
    """Every byte is hashed 34 times at the very worst: 16 starts for two ends, and twice more."""
    small, large = hostile(50_000), hostile(200_000)

    hashed = bytes_hashed(monkeypatch, large)
    assert hashed <= 34 * len(large)
    assert hashed <= 4.2 * bytes_hashed(monkeypatch, small)


def test_a_session_read_backwards_is_one_range():
    """A range for each number, or one that grows at its front, would take quadratic time."""
    numbers = Numbers()

    for n in reversed(range(50_000)):
        assert numbers.admit(n, 0, 0, "") == "new"

    assert list(numbers.gaps(A)) == []
    assert numbers.starts == [49_999]


@pytest.mark.parametrize("byte", [b"x", b"\0", b"{", b" "])
def test_a_file_without_a_line_feed_is_read_in_bounded_memory(byte):
    chunk = byte * (1 << 20)
    scanner = Scanner()
    tracemalloc.start()

    for _ in range(16):
        scanner.feed(chunk)
    scanner.finish()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert scanner.size_bytes == 16 << 20
    assert peak < 8 << 20
    assert len(scanner.defects) <= 1


def test_the_defects_of_a_file_that_is_not_a_journal_do_not_fill_the_memory():
    data = b'#\n{"a":1}\n' * 2 * MAX_DEFECTS

    _, scanner = read(data)
    assert len(scanner.defects) <= MAX_DEFECTS + len(DEFECTS)
    assert Counter(d.kind for d in scanner.defects).keys() == {"damaged", "foreign"}
    assert sum(d.count for d in scanner.defects) == 4 * MAX_DEFECTS
    assert cost(scanner) == (0, True)


def test_damage_beyond_the_limit_of_defects_is_still_damage_of_unknown_cost(monkeypatch):
    monkeypatch.setattr(scanner_module, "MAX_DEFECTS", 2)
    three = A0 + b"#\n" + A1 + b"#\n" + A2 + b"#\n" + A3 + b"#" * 100 + b"\n" + B0

    _, scanner = read(three)
    assert [(d.kind, d.count, d.lost) for d in scanner.defects] == [
        ("damaged", 1, 0),
        ("damaged", 1, 0),
        ("damaged", 2, None),
    ]


def test_what_is_counted_beyond_the_limit_is_as_unsure_as_its_worst(monkeypatch):
    monkeypatch.setattr(scanner_module, "MAX_DEFECTS", 0)

    _, scanner = read(b'{"a": 1}' + A0 + b"#" * 100 + B0)
    assert [(d.kind, d.count, d.lost) for d in scanner.defects] == [("glued", 2, None)]


# ---- texts


def test_every_defect_is_reported_with_its_place_and_its_cost():
    _, scanner = read(A0 + A1.replace(b"1.5", b"9.5") + A3)

    assert [str(d) for d in scanner.defects] == [
        f"edited at byte {len(A0)}, {len(A1) - 1} bytes, session {A}, n 1: " + DEFECTS["edited"],
        f"gap at byte {at(A0, A1)}, session {A}, n 1 to 2: " + DEFECTS["gap"],
    ]
    assert [d.to_dict() for d in scanner.defects] == [
        {
            "kind": "edited",
            "offset": len(A0),
            "size_bytes": len(A1) - 1,
            "session": A,
            "first_n": 1,
            "last_n": 1,
            "lost": 0,
        },
        {
            "kind": "gap",
            "offset": at(A0, A1),
            "session": A,
            "first_n": 1,
            "last_n": 2,
            "lost": 2,
        },
    ]
    assert Defect("duplicate", 1234, 1, count=1500).to_dict()["count"] == 1500
    assert "at byte 1,234, 1 bytes" in str(Defect("duplicate", 1234, 1, count=1500))
    assert str(Defect("duplicate", 1, count=1500)).endswith("(1,500 times)")


@pytest.mark.parametrize(
    ("data", "code", "verdict"),
    [
        (A0 + A1, COMPLETE, "complete"),
        (A0 + A1 + A2[:50], COMPLETE, "complete"),
        (A0 + A1[:-1], COMPLETE, "complete"),
        (A0 + b'{"step": 1}\n' + A1, COMPLETE, "complete"),
        (A0 + A2, LOSS, "1 event lost"),
        (A0 + A4, LOSS, "3 events lost"),
        (A0 + bytes(512), LOSS, "damaged, and 1 damaged place of unknown cost"),
        (A0 + A2 + bytes(512), LOSS, "1 event lost, and 1 damaged place of unknown cost"),
        (A0 + A1 + line(1, A, iter=9), CONFLICT, "needs a person"),
        (A0 + B0 + A1, CONFLICT, "needs a person"),
        (b"no journal\n", EMPTY, "not a journal: not one whole record"),
        (b"", EMPTY, "not a journal: not one whole record"),
    ],
)
def test_the_verdict_is_as_sure_as_the_defects_are(data, code, verdict, tmp_path):
    from eventlog.fold.load import Folding

    path = tmp_path / "run.jsonl"
    path.write_bytes(data)
    folding = Folding(path)
    folding.read_on(to_the_end=True)

    assert exit_code(folding) == code
    assert next(report_lines(folding)) == f"{path}: {verdict}"


def test_every_class_of_defect_has_a_test_here():
    source = "".join(path.read_text() for path in Path(__file__).parents[1].rglob("test_*.py"))

    assert [kind for kind in DEFECTS if not re.search(rf'[("\[]"?{kind}"', source)] == []


def test_a_record_of_the_greatest_size_is_read_from_a_damaged_neighbourhood():
    n_free = MAX_LINE_BYTES - len(encode(1, A, T, "note", {"text": ""}))
    large = encode(1, A, T, "note", {"text": "x" * n_free})
    assert decode(large[:-1]) is not None

    records, scanner = read(A0[:-1] + b"#" + large[:-1] + b"#" + A2)
    assert names(records) == "a0 a1 a2"
    assert cost(scanner) == (0, False)


def test_records_lost_at_a_sessions_end_are_counted_by_the_next_sessions_prev():
    """`prev` of an `open` event: without it the end of the session before is unknown."""
    opened = line(0, B, "open", prev={"s": A, "n": 3})
    scanner = Scanner()
    scanner.feed(line(0) + line(1) + line(2)[:-9] + b"\0" * 9 + b"\n" + opened)

    kinds = {d.kind: d for d in scanner.defects}
    assert (kinds["gap"].session, kinds["gap"].first_n, kinds["gap"].last_n) == (A, 2, 3)
    assert kinds["gap"].lost == 2
    assert [d.lost for d in scanner.defects if d.kind != "gap"] == [0]


def test_a_session_that_is_gone_altogether_is_counted_where_the_next_one_met_it():
    scanner = Scanner()
    scanner.feed(line(0, B, "open", prev={"s": A, "n": 6}))

    (gap,) = scanner.defects
    assert (gap.kind, gap.session, gap.first_n, gap.last_n, gap.lost) == ("gap", A, 0, 6, 7)
