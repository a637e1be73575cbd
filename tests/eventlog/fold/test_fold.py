"""Records to run: one curve after any rewinds, and a summary that can be checked by hand."""

import copy
import json
import math
import sys
from fractions import Fraction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from eventlog import MFU_UNKNOWN, Fold
from eventlog.fold.summary import summarize
from eventlog.fold.tables import Column
from eventlog.format.record import Record
from tests.strategies import SESSIONS, T, any_floats, histories, json_fields, json_values

A, B, C, D = SESSIONS


def fold(*records):
    """A fold of (session, event, fields) triples, numbered within their sessions."""
    folding, counts = Fold(), dict.fromkeys(SESSIONS, 0)
    for s, event, fields in records:
        folding.add(Record(counts[s], s, T, event, fields))
        counts[s] += 1
    return folding


def it(i, loss=1.0, s=A, **more):
    return (s, "iter", {"iter": i, "loss": loss, "time_ms": 50.0, "mfu": 30.0} | more)


def ev(i, val_loss=1.0, s=A, **more):
    return (s, "eval", {"iter": i, "train_loss": 2.0, "val_loss": val_loss, "lr": 0.5} | more)


def ck(i, path="ckpt.pt", s=A):
    return (s, "checkpoint", {"iter": i, "val_loss": 1.0, "path": path})


def op(s=A, **fields):
    return (s, "open", {"format": 1, "run_id": "r"} | fields)


def losses(run):
    """{iteration: loss} of the curve."""
    return {row["iter"]: row["loss"] for row in run.training_iterations}


# ---- one curve


def test_a_first_line_of_a_session_that_a_damaged_journal_has_later_on_rewinds_nothing():
    folding = fold(op(), it(0), it(1), it(1, 2.0, B), it(2, 3.0, B), op(B, from_iter=1))

    assert [row["loss"] for row in folding.run().training_iterations][1:] == [2.0, 3.0]
    assert folding.superseded["iterations"] == 1


def test_a_resumed_run_supersedes_the_iterations_it_repeats():
    first = [op(), *(it(i, 1.0) for i in range(5))]
    run = fold(*first, op(B, from_iter=3), it(3, 2.0, B), it(4, 2.0, B)).run()

    assert losses(run) == {0: 1.0, 1: 1.0, 2: 1.0, 3: 2.0, 4: 2.0}
    assert run.journal["superseded"] == {"iterations": 2, "evals": 0, "checkpoints": 0}


def test_a_resumed_run_supersedes_them_at_once_before_its_first_iteration():
    run = fold(op(), it(0), it(1), it(2), op(B, from_iter=1)).run()

    assert losses(run) == {0: 1.0}


def test_an_eval_and_a_checkpoint_of_the_very_iteration_one_resumes_from_stay():
    """They were made before its step; later ones go."""
    folding = fold(op(), it(0), ev(1), ck(1), it(1), ev(2), ck(2), it(2), op(B, from_iter=1))
    run = folding.run()

    assert losses(run) == {0: 1.0}
    assert [row["iter"] for row in run.eval_steps] == [1]
    assert [row["iter"] for row in run.checkpoints] == [1]
    assert run.journal["superseded"] == {"iterations": 2, "evals": 1, "checkpoints": 1}


def test_a_rewind_within_a_session_is_as_a_resumption():
    run = fold(op(), it(0), it(1), it(2), (A, "rewind", {"to_iter": 1}), it(1, 9.0)).run()

    assert losses(run) == {0: 1.0, 1: 9.0}
    assert run.journal["superseded"]["iterations"] == 2


def test_numbers_that_go_back_are_a_rewind():
    run = fold(it(0), it(1), ev(2), ck(2), it(2), it(1, 9.0)).run()

    assert losses(run) == {0: 1.0, 1: 9.0}
    assert (run.eval_steps, run.checkpoints) == ([], [])
    assert run.journal["superseded"] == {"iterations": 2, "evals": 1, "checkpoints": 1}


def test_a_repeated_eval_supersedes_the_earlier_one_and_no_iteration():
    run = fold(it(0), ev(1, 5.0), it(1), ev(1, 4.0, B)).run()

    assert [row["val_loss"] for row in run.eval_steps] == [4.0]
    assert losses(run) == {0: 1.0, 1: 1.0}


def test_one_iteration_may_leave_several_files():
    run = fold(ck(1, "latest"), ck(1, "best"), ck(2, "latest"), ck(2, "latest")).run()

    assert [(row["iter"], row["path"]) for row in run.checkpoints] == [
        (1, "latest"),
        (1, "best"),
        (2, "latest"),
    ]
    assert run.journal["superseded"]["checkpoints"] == 1


@pytest.mark.parametrize("to", [None, "3", 2.0, True, [1]])
def test_a_rewind_without_a_number_supersedes_nothing(to):
    run = fold(it(0), it(5), (A, "rewind", {"to_iter": to}), op(B, from_iter=to)).run()

    assert losses(run) == {0: 1.0, 5: 1.0}


def model_of(history):
    """The same rule on plain lists: each event is marked live or not, nothing is ever removed."""
    events = []  # [event, iteration, mark, live, path]

    def supersede(kind, i):
        for event in events:
            if event[0] == kind and event[1] >= i:
                event[3] = False

    def rewind(i):
        supersede("iter", i)
        supersede("eval", i + 1)
        supersede("checkpoint", i + 1)

    mark = 0
    for session in history:
        for event, number in session:
            mark += 1
            if event == "rewind" or (event == "open" and number >= 0):
                rewind(number)
            elif event == "iter":
                if any(e[0] == "iter" and e[3] and e[1] >= number for e in events):
                    rewind(number)
                events.append([event, number, mark, True, None])
            elif event == "eval":
                supersede("eval", number)
                events.append([event, number, mark, True, None])
            elif event == "checkpoint":
                path = f"file{mark % 2}"
                supersede("checkpoint", number + 1)
                for other in events:
                    if other[:2] == ["checkpoint", number] and other[4] == path:
                        other[3] = False
                events.append([event, number, mark, True, path])
    return events


def records_of(history):
    """The records of a history; each says which step of it it is, as `mark`."""
    records, mark = [], 0
    for index, session in enumerate(history):
        for n, (event, number) in enumerate(session):
            mark += 1
            fields = {"mark": mark}
            if event == "open":
                fields |= {"from_iter": number} if number >= 0 else {}
            elif event == "rewind":
                fields |= {"to_iter": number}
            else:
                fields |= {"iter": number, "path": f"file{mark % 2}"}
            records.append(Record(n, f"{index:08x}", T, event, fields))
    return records


@given(histories)
def test_every_event_is_live_or_superseded_once_however_a_run_was_rewound(history):
    folding = Fold()
    for one in records_of(history):
        folding.add(one)
    run = folding.run()

    live = {
        "iter": run.training_iterations,
        "eval": run.eval_steps,
        "checkpoint": run.checkpoints,
    }
    model = model_of(history)
    for kind, name in (
        ("iter", "iterations"),
        ("eval", "evals"),
        ("checkpoint", "checkpoints"),
    ):
        of_kind = [event for event in model if event[0] == kind]
        kept = sorted((e[1], e[2]) for e in of_kind if e[3])
        assert sorted((row["iter"], row["mark"]) for row in live[kind]) == kept
        assert run.journal["superseded"][name] == len(of_kind) - len(kept)
        assert run.journal["events"].get(kind, 0) == len(of_kind)


@given(histories)
def test_the_curve_always_rises_and_holds_each_iteration_once(history):
    folding = Fold()
    for one in records_of(history):
        folding.add(one)

        numbers = [row["iter"] for row in folding.run().training_iterations]
        assert numbers == sorted(set(numbers))


# ---- purity


def document(folding, **how):
    return b"".join(folding.run(**how).to_json())


@given(histories, st.data())
def test_a_fold_does_not_depend_on_when_its_run_is_read(history, data):
    records = records_of(history)
    copies = copy.deepcopy(records)
    looked_at, alone = Fold(), Fold()

    for one in records:
        looked_at.add(one)
        if data.draw(st.booleans()):
            looked_at.run(alive=True)
    for one in records:
        alone.add(one)

    assert document(looked_at) == document(alone)
    assert records == copies


def test_a_run_does_not_change_when_more_is_folded_in_later():
    folding = fold(op(config={"lr": 1}), it(0), ev(0), ck(0))
    run = folding.run()
    before = b"".join(run.to_json())

    for one in ([it(1), it(0)], [ev(1), ck(1)], [op(B, config={"lr": 2}, from_iter=0)]):
        for s, event, fields in one:
            folding.add(Record(0, s, T, event, fields))

    assert b"".join(run.to_json()) == before


@given(st.sampled_from(["iter", "eval", "checkpoint", "open", "close", "signal"]), json_fields)
def test_an_event_of_any_fields_is_folded(event, fields):
    """Also those that lack what their kind should have."""
    folding = fold((A, event, fields), (A, event, fields | {"iter": 1}))

    assert json.loads(document(folding))["journal"]["events"][event] == 2
    assert sum(folding.kinds.values()) >= 2


@given(json_values)
def test_an_iteration_without_a_number_is_counted_and_left_out(number):
    if type(number) is int and -(2**63) <= number < 2**63:
        return
    run = fold(it(0), it(number)).run()

    assert losses(run) == {0: 1.0}
    assert run.journal["events"] == {"iter": 2, "iter without a number": 1}


# ---- rows


def test_a_row_has_the_fields_of_the_guide_first_and_the_others_after():
    mixed = {"lr": 0.1, "mfu": 30.0, "x": None, "time_ms": 5.0, "loss": 2.0, "iter": 1}
    run = fold(
        (A, "iter", mixed | {"durable": 7}),
        (A, "eval", {"val_loss": 2.0, "iter": 1, "note": "a", "train_loss": 3.0}),
        (A, "checkpoint", {"size_bytes": 5, "path": "p", "iter": 1}),
    ).run()

    assert list(run.training_iterations[0].items()) == [
        ("iter", 1),
        ("loss", 2.0),
        ("time_ms", 5.0),
        ("mfu", 30.0),
        ("lr", 0.1),
        ("x", None),
    ]
    assert list(run.eval_steps[0].items()) == [
        ("iter", 1),
        ("train_loss", 3.0),
        ("val_loss", 2.0),
        ("lr", None),
        ("timestamp", T),
        ("note", "a"),
    ]
    assert list(run.checkpoints[0].items()) == [
        ("iter", 1),
        ("val_loss", None),
        ("path", "p"),
        ("timestamp", T),
        ("size_bytes", 5),
    ]


@pytest.mark.parametrize("mfu", [None, "fast", {"mfu_percent": 3}, True])
def test_mfu_is_always_a_number_so_that_it_can_be_compared(mfu):
    run = fold(it(0, mfu=mfu)).run()

    assert run.training_iterations[0]["mfu"] == MFU_UNKNOWN == -100.0
    assert run.summary["avg_mfu"] is None


# ---- the summary


def test_the_summary_by_hand():
    run = fold(
        op(),
        ev(0, 9.0),
        it(0, 8.0, time_ms=100.0, mfu=-100.0),
        it(1, 7.0, time_ms=50.0, mfu=30.0),
        ev(2, 5.0),
        ck(2),
        it(2, 6.0, time_ms=60.0, mfu=40.0),
        ev(3, 6.5),
    ).run()

    assert run.summary == {
        "total_iterations": 3,
        "final_iter": 2,
        "final_train_loss": 6.0,
        "best_val_loss": 5.0,
        "avg_time_ms": 70.0,
        "avg_mfu": 35.0,
        "total_eval_steps": 3,
        "total_checkpoints": 1,
    }


def test_the_summary_is_of_the_live_events_only():
    folding = fold(
        it(0, 3.0), ev(1, 0.5), it(1, 2.0), op(B, from_iter=0), it(0, 4.0, B), ev(1, 5.0, B)
    )
    summary = folding.run().summary

    assert (summary["total_iterations"], summary["final_train_loss"]) == (1, 4.0)
    assert (summary["best_val_loss"], summary["total_eval_steps"]) == (5.0, 1)


def test_what_was_never_measured_is_null():
    assert Fold().run().summary == {
        "total_iterations": 0,
        "final_iter": None,
        "final_train_loss": None,
        "best_val_loss": None,
        "avg_time_ms": None,
        "avg_mfu": None,
        "total_eval_steps": 0,
        "total_checkpoints": 0,
    }


def test_a_loss_that_is_not_a_number_is_in_the_curve_and_not_in_the_summary():
    nan = {"loss": None, "nonfinite": {"loss": "nan"}}
    folding = fold(it(0, 3.0), it(1, **nan), ev(2, 7.0), ev(3, None), it(2, **nan, time_ms=None))
    run = folding.run()

    assert losses(run) == {0: 3.0, 1: None, 2: None}
    assert run.training_iterations[1]["nonfinite"] == {"loss": "nan"}
    assert run.summary["final_train_loss"] == 3.0
    assert run.summary["final_iter"] == 2
    assert run.summary["best_val_loss"] == 7.0
    assert run.summary["avg_time_ms"] == 50.0
    assert run.summary["total_eval_steps"] == 2


@given(st.lists(st.tuples(any_floats, any_floats, any_floats, any_floats), max_size=8))
@example([(0.0, sys.float_info.max, sys.float_info.max, 0.0)] * 3)
def test_the_summary_equals_exact_arithmetic(rows):
    columns = list(zip(*rows, strict=True)) if rows else [(), (), (), ()]
    times_ms, mfus = Column(columns[1]), Column(columns[2], floor=0.0)
    got = summarize(list(range(len(rows))), list(columns[0]), times_ms, mfus, list(columns[3]), 0)

    finite = [[x for x in column if math.isfinite(x)] for column in columns]
    known_mfu = [x for x in finite[2] if x > 0]
    exact = {
        "avg_time_ms": sum(map(Fraction, finite[1])) / len(finite[1]) if finite[1] else None,
        "avg_mfu": sum(map(Fraction, known_mfu)) / len(known_mfu) if known_mfu else None,
    }
    assert got["final_train_loss"] == (finite[0][-1] if finite[0] else None)
    assert got["best_val_loss"] == min(finite[3], default=None)
    for key, value in exact.items():
        assert got[key] == (None if value is None else pytest.approx(float(value), rel=1e-12))


# ---- status and reason


CLOSE = {"status": "completed", "reason": None}
KILLED = "no close event: the process was killed, or its machine stopped"
TERMINATED = "SIGTERM was received, then no close event"
FAILED = "ValueError: x, then no close event"


@pytest.mark.parametrize(
    ("records", "alive", "status", "reason"),
    [
        ([op(), (A, "close", CLOSE)], False, "completed", None),
        ([op(), (A, "close", CLOSE)], True, "completed", None),
        ([op(), (A, "close", {"status": "failed", "reason": "x"})], False, "failed", "x"),
        ([op(), (A, "close", {"status": "interrupted", "reason": "y"})], False, "interrupted", "y"),
        ([op(), (A, "close", {})], False, "completed", None),
        ([op(), it(0)], True, "running", None),
        ([op(), it(0)], False, "interrupted", KILLED),
        ([op(), (A, "signal", {"signal": "SIGTERM"})], False, "interrupted", TERMINATED),
        ([op(), (A, "error", {"error": "ValueError: x"})], False, "interrupted", FAILED),
        ([op(), (A, "close", CLOSE), op(B)], False, "interrupted", KILLED),
        ([op(), (A, "close", CLOSE), op(B)], True, "running", None),
        ([op(), it(0), op(B), (B, "close", CLOSE)], False, "completed", None),
        ([], False, "interrupted", None),
    ],
)
def test_the_status_is_that_of_the_last_session(records, alive, status, reason):
    run = fold(*records).run(alive=alive)

    assert (run.status, run.journal["reason"]) == (status, reason)
    assert (run.end_time is None) == (status == "running" or not records)


def test_the_run_begins_with_its_first_record_and_ends_with_its_last():
    folding = Fold()
    for second, (s, event) in enumerate([(A, "open"), (A, "iter"), (B, "open"), (B, "note")]):
        folding.add(Record(second, s, f"2026-11-23T03:25:0{second}.000000+00:00", event, {}))
    run = folding.run()

    assert run.start_time == "2026-11-23T03:25:00.000000+00:00"
    assert run.end_time == "2026-11-23T03:25:03.000000+00:00"
    assert [(s["s"], s["started"][18], s["last"][18]) for s in run.journal["sessions"]] == [
        (A, "0", "1"),
        (B, "2", "3"),
    ]


# ---- sessions


def test_the_latest_settings_count_and_each_change_is_noted():
    first = {"lr": 0.1, "batch_size": 8, "layers": 2}
    folding = fold(
        op(config=first, metadata={"device": "cpu"}, run_name="mine", host="node7", pid=7),
        op(B, config=first | {"lr": 0.2}, metadata={"device": "cpu"}, from_iter=0),
        op(C, config=first | {"lr": 0.2, "new": 1}, metadata={"device": "cuda"}, run_name="other"),
        op(D),
    )
    run = folding.run()

    assert run.config == {"lr": 0.2, "batch_size": 8, "layers": 2, "new": 1}
    assert run.metadata == {"device": "cuda"}
    assert run.run_name == "mine"
    assert [session.get("changed") for session in run.journal["sessions"]] == [
        None,
        {"lr": [0.1, 0.2]},
        {"new": [None, 1], "device": ["cpu", "cuda"]},
        None,
    ]


def test_a_session_has_its_writer_its_progress_and_its_end():
    run = fold(
        op(host="node7", pid=7, boot_id="b", command=["x"], from_iter=None),
        it(0),
        it(3),
        (A, "signal", {"signal": "SIGTERM"}),
        op(B, pid=8, from_iter=2, checkpoint="ckpt.pt"),
        (B, "close", {"status": "failed", "reason": "x"}),
    ).run()

    assert run.journal["sessions"] == [
        {
            "s": A,
            "started": T,
            "last": T,
            "records": 4,
            "last_iter": 3,
            "host": "node7",
            "pid": 7,
            "boot_id": "b",
            "status": None,
            "reason": "SIGTERM was received",
        },
        {
            "s": B,
            "started": T,
            "last": T,
            "records": 2,
            "last_iter": None,
            "pid": 8,
            "from_iter": 2,
            "checkpoint": "ckpt.pt",
            "status": "failed",
            "reason": "x",
        },
    ]


def test_kinds_are_counted_unknown_ones_too():
    run = fold(op(), it(0), it(1), (A, "moon phase", {"phase": "new"})).run()

    assert run.journal["events"] == {"iter": 2, "moon phase": 1, "open": 1}


def test_the_latest_count_of_durable_records_is_kept():
    folding = fold(op(), (A, "note", {"durable": 1}), (A, "note", {"durable": 2}), (A, "note", {}))

    assert folding.sessions[A].durable_n == 2


# ---- missing iterations


@pytest.mark.parametrize(
    ("logged", "missing"),
    [
        ([], []),
        ([5], []),
        ([0, 1, 2], []),
        ([0, 1, 2, 5, 6, 7], [[3, 4]]),
        ([0, 1, 3], [[2, 2]]),
        ([0, 1, 2, 4, 5, 9], [[3, 3], [6, 8]]),
        ([0, 10], []),
        ([0, 10, 20, 30], []),
        ([0, 10, 11], [[1, 9]]),
        ([3, 4, 5], []),
    ],
)
def test_a_run_that_logs_each_iteration_names_those_that_are_missing(logged, missing):
    """One that logs every tenth by intention has no hole."""
    assert fold(*map(it, logged)).run().journal["missing_iterations"] == missing
