"""Which segments belong to a run, and the order of sessions that are in segments alone."""

import errno
import itertools
import os
import random

import pytest

import eventlog
from eventlog.cli.report import COMPLETE, exit_code
from eventlog.disk import Disk
from eventlog.fold.load import Folding
from eventlog.format.files import short_run_id
from eventlog.format.record import decode, encode, header_fields
from eventlog.read.order import SessionStart, in_order
from eventlog.read.reader import Reader, scan
from tests.eventlog.read.test_missing import RUN, iters, opening, segment
from tests.steps import lines_run
from tests.strategies import SESSIONS, line

A, B, C, D = SESSIONS


def names(path):
    """The sessions that are read, in order."""
    return "".join(s[0] for s, _ in itertools.groupby(r.s for r in scan(path)))


def at(second, s, number=None, prev=None, n=0, **fields):
    """The `open` event of a session that began at a second of a minute."""
    position = {"session_number": number} if number else {}
    position |= {"prev": {"s": prev, "n": n}} if prev else {}
    t = f"2026-11-23T03:25:{second:02}.000000+00:00"
    return line(0, s, "open", t, format=1, run_id=RUN, **position, **fields)


# ---- whose


def test_runs_with_one_fallback_folder_and_one_name_read_their_own_segments(tmp_path):
    """Three runs that began in the same second in three folders."""
    for k, s in enumerate((A, B, C)):
        (tmp_path / f"{k}").mkdir()
        run_id = f"{k}" * 32
        (tmp_path / f"{k}" / "run.jsonl").write_bytes(
            line(0, s, "open", run_id=run_id, fallback=str(tmp_path / "fallback"))
        )
        segment(tmp_path / "fallback", s, first_n=1, data=iters(s, 1, 5 + k), run_id=run_id)

    for k, s in enumerate((A, B, C)):
        records = list(scan(tmp_path / f"{k}" / "run.jsonl"))
        assert {r.s for r in records} == {s}
        assert len(records) == 6 + k


def test_of_equal_records_that_of_the_earlier_segment_is_read_also_as_a_last_line_without_lf(
    tmp_path,
):
    path, later = tmp_path / "run.jsonl", [line(n, A, iter=n) for n in (3, 5, 4)]
    path.write_bytes(opening())
    first = b"".join(line(n, A, iter=n) for n in (1, 2, 3, 4))
    segment(tmp_path, number=0, first_n=1, data=first.rstrip(b"\n"))
    segment(tmp_path, number=1, first_n=3, data=b"".join(later))

    assert [record.n for record in scan(path)] == [0, 1, 2, 3, 4, 5]


def test_whole_sessions_of_other_runs_in_the_fallback_folder_are_left_there(tmp_path):
    path = tmp_path / "run.jsonl"
    path.write_bytes(opening(fallback=str(tmp_path / "fallback")) + iters(A, 1, 2))
    other = "another-run-00000"
    data = line(0, B, "open", run_id=other) + iters(B, 1, 2)
    segment(tmp_path / "fallback", B, data=data, run_id=other)
    (tmp_path / "fallback" / f"run.{C}.0.segment").write_bytes(line(0, C, "open", run_id=other))

    folding = Folding(path)
    folding.read()

    assert {r.s for r in scan(path)} == {A}
    assert exit_code(folding) == COMPLETE


def test_a_session_that_is_in_the_fallback_folder_alone_is_read(tmp_path):
    path = tmp_path / "run.jsonl"
    fallback = str(tmp_path / "fallback")
    path.write_bytes(opening(fallback=fallback) + iters(A, 1, 2))
    segment(tmp_path / "fallback", B, data=opening(B, 2, (A, 2)) + iters(B, 1, 2))
    (tmp_path / "fallback" / f"run.{C}.0.segment").write_bytes(opening(C, 3, (B, 2)))

    assert names(path) == "abc"


def test_a_run_id_in_the_header_counts_more_than_its_beginning_in_the_name(tmp_path):
    path = tmp_path / "run.jsonl"
    path.write_bytes(opening() + iters(A, 1, 2))
    segment(tmp_path, B, data=line(0, B, "open", run_id=RUN), run_id=RUN[:8] + "another")

    folding = Folding(path)
    folding.read()

    assert {r.s for r in scan(path)} == {A}
    assert [(d.kind, d.lost) for d in folding.defects()] == [("other_file", 0)]


def test_a_segment_with_a_damaged_header_is_assigned_by_its_name(tmp_path):
    path = tmp_path / "run.jsonl"
    path.write_bytes(opening(fallback=str(tmp_path / "fallback")) + iters(A, 1, 2))
    other = "another-run-00000"
    segment(tmp_path / "fallback", A, first_n=3, data=iters(A, 3, 4), run_id=other)
    (file,) = (tmp_path / "fallback").iterdir()
    file.write_bytes(b"damaged" + file.read_bytes()[7:])

    assert [r.n for r in scan(path)] == [0, 1, 2]


def test_the_first_line_of_a_segment_has_its_run_session_and_first_record(tmp_path):
    class FailsOnce(Disk):
        fails = False

        def sync_data(self, fd):
            if self.fails:
                self.fails = False
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            super().sync_data(fd)

    disk = FailsOnce()
    run = eventlog.open_run(tmp_path, run_id=RUN, save_interval=0, disk=disk)
    run.log_iter(0, 1.0)
    assert run.sync()
    disk.fails = True
    run.log_iter(1, 1.0)
    run.close()

    (opened, *_) = scan(run.journal_path)
    (path,) = tmp_path.glob("*.segment")
    header, first, *_ = map(decode, path.read_bytes().splitlines())
    assert header_fields(header) == {
        "run_id": RUN,
        "journal": run.journal_path.name,
        "session": opened.s,
        "number": 0,
        "first_n": 2,
    }
    assert (first.s, first.n) == (opened.s, 2)


def test_the_header_is_not_an_event_of_the_run(tmp_path):
    path = tmp_path / "run.jsonl"
    path.write_bytes(opening() + iters(A, 1, 2))
    segment(tmp_path, first_n=3, data=iters(A, 3, 4))

    run = eventlog.load_run(path)

    assert run.journal["records"] == 5
    assert "segment" not in run.journal["events"]
    assert [row["s"] for row in run.journal["sessions"]] == [A]


def test_a_segment_with_a_damaged_header_is_found_by_its_name(tmp_path):
    path = tmp_path / "run.jsonl"
    path.write_bytes(opening() + iters(A, 1, 2))
    part = segment(tmp_path, first_n=3, data=iters(A, 3, 4))
    part.write_bytes(b"#" + part.read_bytes()[1:])

    assert len(list(scan(path))) == 5


def test_damage_behind_a_header_is_counted_by_the_numbers(tmp_path):
    path = tmp_path / "run.jsonl"
    path.write_bytes(opening() + iters(A, 1, 2))
    segment(tmp_path, first_n=3, data=iters(A, 3, 3).replace(b"loss", b"lass") + iters(A, 4, 4))

    reader = Reader(path)
    list(reader.read_on(to_the_end=True))

    assert sorted((d.kind, d.lost) for d in reader.defects) == [("edited", 0), ("gap", 1)]


# ---- in which order


def test_a_clock_ahead_does_not_move_a_session(tmp_path):
    """A node 90 s ahead wrote session b, the resumed one; c and d are in the journal again."""
    path = tmp_path / "run.jsonl"
    path.write_bytes(at(1, A, 1) + at(20, C, 3, B) + at(30, D, 4, C))
    segment(tmp_path, B, data=at(59, B, 2, A))

    assert names(path) == "abcd"


def test_a_clock_behind_does_not_move_a_session(tmp_path):
    path = tmp_path / "run.jsonl"
    path.write_bytes(at(30, A, 1) + at(40, B, 2, A))
    segment(tmp_path, C, data=at(0, C, 3, B))

    assert names(path) == "abc"


def test_the_run_of_a_node_with_a_fast_clock_is_not_interrupted(tmp_path):
    path = tmp_path / "run.jsonl"
    path.write_bytes(at(1, A, 1) + iters(A, 1, 3))
    ahead = at(59, B, 2, A, 3, from_iter=3) + line(1, B, iter=3, loss=1.0)
    segment(tmp_path, B, data=ahead)
    end = at(20, C, 3, B, 1, from_iter=4) + line(1, C, iter=4, loss=1.0)
    segment(tmp_path, C, data=end + line(2, C, "close", status="completed"))

    run = eventlog.load_run(path)

    assert run.status == "completed"
    assert [row["iter"] for row in run.training_iterations] == [0, 1, 2, 3, 4]
    assert run.journal["superseded"]["iterations"] == 0


def test_old_sessions_that_all_met_the_same_one_are_ordered_by_time(tmp_path):
    path = tmp_path / "run.jsonl"
    path.write_bytes(at(1, A))
    (tmp_path / f"run.{B}.0.segment").write_bytes(at(9, B, prev=A))
    (tmp_path / f"run.{C}.0.segment").write_bytes(at(5, C, prev=A))

    assert names(path) == "acb"


def start(s, t=0, number=None, prev=None):
    return SessionStart(s, f"{t:02}", number, prev)


@pytest.mark.parametrize(
    ("journal", "others", "order"),
    [
        ([start("a"), start("b")], [start("x", 9, prev="a")], "axb"),
        ([start("a", number=1), start("b", number=2)], [start("x", 0, 3, "a")], "abx"),
        ([start("a", number=1), start("b", number=4)], [start("x", 99, 3, "a")], "axb"),
        ([start("a")], [start("x", 2, prev="a"), start("y", 1, prev="a")], "ayx"),
        ([start("a")], [start("x", 1, 3, "a"), start("y", 2, 2, "a")], "ayx"),
        ([start("a")], [start("x", 1, prev="y"), start("y", 2, prev="a")], "ayx"),
        ([start("a", 1), start("b", 5)], [start("x", 3)], "axb"),
        ([start("a", 1), start("b", 5)], [start("x", 9)], "abx"),
        ([start("a", 1, 1), start("b", 5, 3)], [start("x", 99, 2, "lost")], "axb"),
        ([], [start("x", 2, prev="y"), start("y", 1, prev="x")], "yx"),
        ([], [start("x", 2), start("y", 1)], "yx"),
    ],
)
def test_sessions_in_segments_alone_are_ordered_by_their_open_events(journal, others, order):
    assert "".join(in_order(journal, others)) == order


def test_the_order_does_not_depend_on_how_the_files_are_listed():
    rng = random.Random(7)
    for _ in range(200):
        journal = [start(s, rng.randint(0, 9), rng.choice([None, k])) for k, s in enumerate("abc")]
        others = [
            start(s, rng.randint(0, 5), rng.choice([None, 1, 2, 3]), rng.choice([*"abcxyz", None]))
            for s in "wxyz"
        ]
        orders = {tuple(in_order(journal, p)) for p in itertools.permutations(others)}
        assert len(orders) == 1
        assert [s for s in orders.pop() if s in "abc"] == ["a", "b", "c"]


def in_plain_order(journal, others):
    """As `in_order` says it, step by step."""
    order, left = list(journal), sorted(others, key=lambda o: (o.number or 0, o.t, o.s))

    def smaller(one, other):
        return None not in (one.number, other.number) and one.number < other.number

    while left:
        placed, names = {o.s for o in order}, {o.s for o in left}
        ready = [o for o in left if o.prev in placed]
        for o in reversed(ready):
            at = [other.s for other in order].index(o.prev) + 1
            while at < len(order) and smaller(order[at], o):
                at += 1
            order.insert(at, o)
        if not ready:
            ready = [first := next((o for o in left if o.prev not in names), left[0])]
            is_behind = [
                o.t > first.t if first.number is None else smaller(first, o) for o in order
            ]
            order.insert([*is_behind, True].index(True), first)
        left = [o for o in left if o not in ready]
    return [o.s for o in order]


def test_any_sessions_are_in_the_order_of_the_specification(monkeypatch):
    rng = random.Random(11)
    for k in range(2000):
        monkeypatch.setattr(eventlog.read.order, "_BLOCK", rng.choice([1, 2, 64]))
        names = [f"s{i}" for i in range(rng.randint(1, 12) if k % 50 else 200)]
        met = [*names, "gone", None]
        starts = [
            start(s, rng.randint(0, 9), rng.choice([None, *range(9)]), rng.choice(met))
            for s in names
        ]
        journal, others = starts[: len(names) // 3], starts[len(names) // 3 :]
        assert in_order(journal, others) == in_plain_order(journal, others)


@pytest.mark.parametrize(
    ("number", "prev"),
    [
        (lambda k: k, lambda k, n: f"s{k - 1}"),
        (lambda k: k, lambda k, n: None),
        (lambda k: None, lambda k, n: None),
        (lambda k: k, lambda k, n: "s0"),
        (lambda k: k, lambda k, n: f"s{(k - 1) % n}"),
    ],
    ids=["chain", "alone", "unnumbered", "star", "ring"],
)
def test_four_times_the_sessions_take_about_four_times_the_steps(number, prev):
    steps = []
    for n in (400, 1600):
        others = [SessionStart(f"s{k}", f"{k:06}", number(k), prev(k, n)) for k in range(n)]
        steps.append(lines_run(lambda others=others: in_order([], others)))

    assert steps[1] < 8 * steps[0]


def test_a_session_that_turns_up_late_is_read_in_its_place(tmp_path):
    path = tmp_path / "run.jsonl"
    path.write_bytes(at(1, A, 1) + iters(A, 1, 3) + at(9, C, 3, B) + line(1, C, iter=9, loss=1.0))
    folding = Folding(path)
    folding.read_on(to_the_end=False)

    segment(tmp_path, B, data=at(5, B, 2, A) + line(1, B, iter=5, loss=1.0))
    folding.read_on(to_the_end=False)

    assert [*folding.fold.sessions] == [A, B, C]
    assert [row["iter"] for row in folding.run(alive=False).training_iterations] == [0, 1, 2, 5, 9]


def name_of(k):
    return f"a{k:07x}"


def begun(k, **fields):
    position = {"format": 1, "run_id": RUN, "session_number": k + 1, **fields}
    return encode(0, name_of(k), "2026-11-23T03:25:01.123456+00:00", "open", position)


def many_fallbacks(folder, n):
    """Sessions that each name another fallback folder, and none of them is there."""
    return b"".join(begun(k, fallback=f"/not/there/{k}") for k in range(n))


def many_in_folders(folder, n):
    """Sessions that each have a segment in another fallback folder."""
    for k in range(n):
        (folder / str(k)).mkdir()
        file = folder / str(k) / f"run.{short_run_id(RUN)}.{name_of(k)}.0.segment"
        file.write_bytes(begun(k))
    return b"".join(begun(k, fallback=f"{folder}/{k}") for k in range(n))


def many_alone(folder, n):
    """Sessions that stand in segments alone, and each met the one before."""
    for k in range(1, n):
        file = folder / f"run.{short_run_id(RUN)}.{name_of(k)}.0.segment"
        file.write_bytes(begun(k, prev={"s": name_of(k - 1), "n": 0}))
    return begun(0)


def many_alone_and_as_many_not(folder, n):
    """As many sessions in the journal as in segments alone."""
    return many_alone(folder, n) + b"".join(begun(k) for k in range(n, 2 * n))


def many_in_both(folder, n):
    """Sessions that each have records in the journal and in a segment."""
    time = "2026-11-23T03:25:01.123456+00:00"
    lines = [encode(1, name_of(k), time, "note", {"text": "x"}) for k in range(n)]
    return many_alone(folder, n) + b"".join(lines)


def many_that_are_no_files(folder, n):
    """Directories and FIFOs with the names of segments."""
    for k in range(n):
        make = os.mkfifo if k % 2 else os.mkdir
        make(folder / f"run.{short_run_id(RUN)}.{name_of(k)}.0.segment")
    return begun(0)


@pytest.mark.parametrize(
    "many",
    [
        many_fallbacks, many_in_folders, many_alone, many_alone_and_as_many_not, many_in_both,
        many_that_are_no_files,
    ],
)  # fmt: skip
def test_four_times_the_sessions_take_about_four_times_the_steps_to_read(tmp_path, many):
    steps = []
    for n in (150, 600):
        (tmp_path / str(n)).mkdir()
        path = tmp_path / str(n) / "run.jsonl"
        path.write_bytes(many(path.parent, n))
        folding = Folding(path)
        steps.append(lines_run(lambda folding=folding: (folding.read(), folding.defects())))

    assert steps[1] < 5 * steps[0]


def test_a_reader_notices_another_journal_that_was_written_into_the_same_file(tmp_path):
    path = tmp_path / "run.jsonl"
    path.write_bytes(line(0, event="open", run_id="r", run_name="short"))
    reader = Reader(path)
    assert not reader.is_outdated
    list(reader.read_on(to_the_end=False))
    assert not reader.is_outdated

    with path.open("r+b") as file:  # not smaller, and no new file
        file.write(
            line(0, event="open", run_id="q", run_name="another") + line(1, iter=0, loss=1.0)
        )

    assert reader.is_outdated
    reader.restart()
    assert [record.event for record in reader.read_on(to_the_end=False)] == ["open", "iter"]
