"""Journals of a run's ranks, written by hand; by real ranks: tests/trainer/test_log_ranks.py"""

import json
import os
import signal
import time

import pytest

import eventlog
from tools.archive import files
from tools.cli import main
from tools.commands import ranks
from tools.core import runs

FAST, SLOW = 2.0, 9.0


@pytest.fixture
def main_run(tmp_path):
    """A run that is being written, in a folder of its own."""
    with eventlog.open_run(tmp_path / "out", save_interval=0) as run:
        yield run


def log_rank(run, rank, own_ms, *, n=10, status="completed", reason=None, session="s1", **opening):
    """A rank that did `n` steps; with status None a process of its own, which is then killed."""
    child = os.fork() if status is None else None
    if child:
        os.waitpid(child, 0)
        return
    metadata = {"rank": rank, "world_size": 2, "session": session}
    log = eventlog.open_run(journal=run.journal_path, rank=rank, metadata=metadata, **opening)
    for i in range(opening.get("from_iter") or 0, n):
        log.log("iter", iter=i, time_ms=20.0, own_ms=own_ms if i else 500.0)
    if child == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    log.close(status, reason)


def table(capsys, out):
    assert main(["ranks", str(out)]) == 0
    return capsys.readouterr().out


def read(run):
    return ranks.read(runs.one(run.journal_path))


def test_the_straggler_is_named(main_run, capsys):
    for rank, own_ms in enumerate((FAST, FAST, SLOW)):
        log_rank(main_run, rank, own_ms)

    output = table(capsys, main_run.journal_path.parent)

    assert "straggler: rank 2: 9.0000 ms per step, the others 2.0" in output
    assert "slowest in 100% of the steps" in output
    assert "no rank died" in output


@pytest.mark.parametrize("own_ms", [(3.0, 3.0, 3.0), (3.0, 3.1, 3.0)])
def test_ranks_that_take_as_long_as_each_other_have_no_straggler(main_run, capsys, own_ms):
    for rank, ms in enumerate(own_ms):
        log_rank(main_run, rank, ms)

    assert "no straggler" in table(capsys, main_run.journal_path.parent)


def test_a_rank_that_is_sometimes_slow_is_not_a_straggler(main_run):
    log_rank(main_run, 0, FAST)
    log_rank(main_run, 1, FAST)
    with eventlog.open_run(journal=main_run.journal_path, rank=1, from_iter=0, metadata={}) as log:
        for i in range(10):
            log.log("iter", iter=i, own_ms=SLOW if i == 5 else FAST - 0.1)

    assert ranks.straggler(read(main_run)) is None


def test_the_rank_that_fell_silent_first_is_named(main_run, capsys, monkeypatch):
    monkeypatch.setattr(ranks, "ALIVE_S", 0.0)
    log_rank(main_run, 1, FAST, n=7, status=None)
    time.sleep(0.002)
    log_rank(main_run, 0, FAST, n=7, status=None)

    output = table(capsys, main_run.journal_path.parent)

    assert "first to die: rank 1, after iteration 6, last seen" in output
    assert "without a close event" in output


def test_of_ranks_silent_at_the_same_time_the_one_that_got_least_far_died_first(main_run):
    log_rank(main_run, 0, FAST, n=7, status=None)
    log_rank(main_run, 1, FAST, n=6, status=None)

    assert [rank.rank for rank in ranks.first_to_die(read(main_run))] == [1]


def test_if_the_first_to_die_is_undecidable_both_are_named(main_run):
    log_rank(main_run, 0, FAST, status=None)
    log_rank(main_run, 1, FAST, status=None)

    assert [rank.rank for rank in ranks.first_to_die(read(main_run))] == [0, 1]


def test_a_silent_rank_died_before_the_rank_that_failed_because_of_it(main_run):
    log_rank(main_run, 0, FAST, status="failed", reason="RuntimeError: closed by peer")
    log_rank(main_run, 1, FAST, status=None)

    assert [rank.rank for rank in ranks.first_to_die(read(main_run))] == [1]


def test_a_rank_that_failed_long_before_the_others_were_killed_is_the_first(main_run, capsys):
    log_rank(main_run, 1, FAST, status="failed", reason="OutOfMemoryError: no room")
    log_rank(main_run, 0, FAST, status=None)
    ranks_, far = read(main_run), "2030-01-01T00:00:00.000000+00:00"
    ranks_[0].last_seen = far

    first = ranks.first_to_die(ranks_)

    assert [rank.rank for rank in first] == [1]
    assert "OutOfMemoryError: no room" in ranks._first_to_die_line(ranks_, first)


def test_json_has_each_rank_and_marks_the_straggler_and_the_first_to_die(main_run, capsys):
    log_rank(main_run, 0, FAST)
    log_rank(main_run, 1, SLOW, n=4, status=None)

    assert main(["ranks", "--json", str(main_run.journal_path)]) == 0

    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    shown = [(r["rank"], r["status"], r["last_iter"], r["own_ms"], r["slowest"]) for r in rows]
    assert shown == [(0, "completed", 9, FAST, 0.0), (1, "died", 3, SLOW, 1.0)]
    assert [(row["straggler"], row["first_to_die"]) for row in rows] == [
        (False, False),
        (True, True),
    ]


def test_a_rank_of_an_earlier_larger_session_is_left_out(main_run):
    for rank in range(3):
        log_rank(main_run, rank, FAST, n=5)
    for rank in range(2):
        log_rank(main_run, rank, FAST, n=9, from_iter=5, session="s2")

    found = read(main_run)

    assert [rank.rank for rank in found] == [0, 1]
    assert [sorted(rank.steps) for rank in found] == [[6, 7, 8]] * 2


def test_a_run_without_them_says_which_flag_it_needs(main_run, capsys):
    assert main(["ranks", str(main_run.journal_path)]) == 2

    assert "--log_ranks=True" in capsys.readouterr().err


def test_files_of_ranks_belong_to_their_run(main_run):
    log_rank(main_run, 0, FAST)
    beside = main_run.journal_path.with_name(f"{main_run.journal_path.stem}.rank0.a1b2c3d4.torn")
    beside.touch()

    found = files.group(main_run.journal_path.parent)

    (own,) = eventlog.find_ranks(main_run.journal_path).values()
    assert found == {main_run.journal_path.stem: sorted([main_run.journal_path, own, beside])}
