"""The rules of the guard: healthy runs raise nothing, each problem is reported."""

import math
import random
from dataclasses import replace
from datetime import UTC, datetime
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

import eventlog
from tests.tools.monitor.healthy import BEGIN, Shape, records, shapes
from tools.monitor import rules
from tools.monitor.rules import Limits, Window
from tools.monitor.vitals import Vitals

LIMITS = Limits()
GB = 10**9
values = st.floats(0.01, 1e6)
gaps = st.lists(st.floats(0, 1e5), max_size=20)


def watch(events, every_s=5.0, limits=LIMITS):
    """What a guard that looks `every_s` seconds says of a run, while somebody writes it."""
    vitals, findings, looked = Vitals(limits), [], BEGIN
    for t, record in events:
        while looked + every_s < t:
            looked += every_s
            findings += vitals.standing(looked, is_alive=True).values()
        findings += vitals.add(record)
    return findings


# ---- healthy


@pytest.mark.parametrize("seed", range(20))
def test_a_healthy_run_raises_no_alarm_whatever_its_rhythm_and_noise(seed):
    shape = shapes()[seed]

    assert watch(records(shape, seed)) == []


@pytest.mark.slow  # 140 runs, two minutes: pytest -m slow tests/tools/monitor/test_rules.py
@pytest.mark.parametrize("seed", range(20, 160))
def test_none_of_many_healthy_runs_raises_an_alarm(seed):
    shape = shapes(160)[seed]

    assert watch(records(shape, seed)) == []


@given(st.lists(st.floats(1, 1e3), min_size=40, max_size=200))
def test_no_loss_within_the_range_of_those_before_it_is_a_spike(losses):
    window = Window()
    for loss in losses:
        window.add(loss)

    for loss in (min(losses), median(losses), min(max(losses), 1.2 * median(losses) - 1e-6)):
        assert rules.spike(window, loss, LIMITS) is None


@given(st.lists(st.floats(0.9, 1.1), min_size=40, max_size=120), st.floats(1e-3, 1e3))
def test_a_spike_is_one_at_any_scale(losses, scale):
    one, other = Window(), Window()
    for loss in losses:
        one.add(loss)
        other.add(loss * scale)

    assert rules.spike(one, 9.0, LIMITS)
    assert rules.spike(other, 9.0 * scale, LIMITS)


@given(st.lists(st.floats(0.8, 1.2), min_size=6, max_size=6), st.floats(1e-3, 1e3))
def test_steps_as_long_as_before_are_not_slow(recent, step_s):
    before = [step_s * random.Random(7).uniform(0.8, 1.2) for _ in range(30)]

    assert rules.slow([r * step_s for r in recent], before, LIMITS) is None


# ---- wrong


@given(gaps, gaps, gaps)
def test_a_stall_is_one_after_the_deadline_and_never_before(steps, evals, saves):
    allowed_s = rules.deadline_s({"iter": steps, "eval": evals, "checkpoint": saves}, LIMITS)

    assert allowed_s >= LIMITS.stall_s
    assert rules.stall(allowed_s, allowed_s) is None
    assert rules.stall(allowed_s * 1.01, allowed_s) is not None


@given(gaps, gaps, gaps, st.floats(0, 1e5))
def test_a_longer_pause_never_shortens_the_deadline(steps, evals, saves, longer):
    known = {"iter": steps, "eval": evals, "checkpoint": saves}
    now = rules.deadline_s(known, LIMITS)

    later = rules.deadline_s(known | {"checkpoint": [s + longer for s in saves]}, LIMITS)

    assert later >= now


@pytest.mark.parametrize(
    ("is_alive", "quiet_s", "dead"), [(False, 6, True), (False, 4, False), (True, 600, False)]
)
def test_a_process_that_released_the_lock_without_a_close_event_crashed(is_alive, quiet_s, dead):
    problem = rules.crash(quiet_s, is_alive=is_alive, after_s=5)

    assert (problem is not None) == dead


def test_a_run_that_hangs_is_named_when_its_silence_is_longer_than_its_evals_explain():
    vitals = Vitals(LIMITS)
    for t, record in records(Shape(eval_s=30, n_iters=150), 1):  # noqa: B007 (the last time)
        if record.event != "close":
            vitals.add(record)

    assert vitals.standing(t + 100, is_alive=True) == {}
    assert set(vitals.standing(t + 400, is_alive=True)) == {"stall"}


def test_a_thread_that_lives_on_does_not_hide_that_the_training_hangs():
    vitals = Vitals(LIMITS)
    events = list(records(Shape(n_iters=150), 1))[:-1]
    for _, record in events:
        vitals.add(record)
    t, last = events[-1]
    vitals.add(last._replace(n=last.n + 1, event="system", t="2030-01-01T00:00:00+00:00"))

    assert set(vitals.standing(t + 400, is_alive=True)) == {"stall"}


def changed(change, shape=Shape(), seed=3):  # noqa: B008 (frozen)
    for t, record in records(shape, seed):
        yield t, record._replace(fields=record.fields | change(record))


def loss_at(target, value):
    def change(record):
        is_there = record.event == "iter" and record.fields["iter"] in target
        if not is_there:
            return {}
        if math.isnan(value):
            return {"loss": None, "nonfinite": {"loss": "nan"}}
        return {"loss": value}

    return change


def test_a_spike_is_reported_once_with_its_values():
    findings = watch(changed(loss_at({700, 701, 705}, 30.0)))

    (finding,) = findings
    assert (finding.rule, finding.iter, finding.values["loss"]) == ("spike", 700, 30.0)


def test_a_second_spike_long_after_the_first_is_a_second_one():
    findings = watch(changed(loss_at({400, 900}, 30.0)))

    assert [(f.rule, f.iter) for f in findings] == [("spike", 400), ("spike", 900)]


def test_nan_after_nan_is_named_once_and_again_after_finite_ones():
    findings = watch(changed(loss_at({*range(500, 520), 900}, math.nan)))

    assert [(f.rule, f.iter) for f in findings] == [("nonfinite", 500), ("nonfinite", 900)]


def test_steps_that_float16_leaves_out_are_healthy_until_there_are_many_in_a_row():
    def left_out(record):
        i = record.fields.get("iter", 0)
        if record.event != "iter" or not (i % 50 == 0 or i > 1000):
            return {}
        return {"skipped": True, "nonfinite": {"grad_norm": "inf"}}

    findings = watch(changed(left_out))

    assert [(f.rule, f.iter) for f in findings] == [("nonfinite", 1007)]


def test_a_run_that_is_three_times_slower_is_reported_within_minutes():
    def slowed():
        late = 0.0
        for t, record in records(Shape(eval_every=10_000, save_every=10_000), 5):
            late += 1.0 if record.event == "iter" and record.fields["iter"] > 800 else 0.0
            yield t + late, at(record, t + late)

    findings = watch(slowed())

    assert {f.rule for f in findings} == {"slow"}
    assert 800 < findings[0].iter < 800 + 120 / 1.5


def at(record, t):
    return record._replace(t=datetime.fromtimestamp(t, UTC).isoformat(timespec="microseconds"))


def test_a_missing_checkpoint_is_overdue_after_the_runs_usual_interval():
    def no_more(events):
        for t, record in events:
            if record.event != "checkpoint" or record.fields["iter"] <= 400:
                yield t, record

    findings = watch(no_more(records(Shape(save_every=100), 2)))

    assert {f.rule for f in findings} == {"checkpoint_overdue"}
    assert findings[0].iter == pytest.approx(700, abs=15)


def test_a_run_that_saves_only_better_checkpoints_is_never_overdue():
    events = [
        (t, record._replace(fields=record.fields | {"config": {"always_save_checkpoint": False}}))
        if record.event == "open"
        else (t, record)
        for t, record in records(Shape(save_every=100), 2)
        if record.event != "checkpoint" or record.fields["iter"] <= 400
    ]

    assert watch(events) == []


def test_a_failed_run_is_reported_unless_its_nan_was_reported_before():
    def failing(record):
        is_close = record.event == "close"
        return {"status": "failed", "reason": "out of memory"} if is_close else {}

    alone = watch(changed(failing))
    after_nan = watch(changed(lambda r: failing(r) | loss_at({1499}, math.nan)(r)))

    assert [f.rule for f in alone] == ["failed"]
    assert [f.rule for f in after_nan] == ["nonfinite"]


@pytest.mark.parametrize(
    ("free", "needed", "history", "wrong"),
    [
        (500 * GB, 0, [], False),
        (9 * GB, 0, [], True),  # little
        (60 * GB, 70 * GB, [], True),  # not enough for the next checkpoint
        (150 * GB, 0, [(60 * i, (207 - 3 * i) * GB) for i in range(20)], True),  # in 50 min
        (150 * GB, 0, [(60 * i, 150 * GB) for i in range(20)], False),
        (800 * GB, 0, [(60 * i, (990 - 10 * i) * GB) for i in range(20)], False),
    ],
)
def test_a_disk_is_nearly_full_by_what_is_left_and_by_its_trend(free, needed, history, wrong):
    assert bool(rules.disk(1000 * GB, free, needed, history, LIMITS)) == wrong


# ---- any


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=4,
)
fields = st.dictionaries(
    st.sampled_from(["iter", "loss", "nonfinite", "time_ms", "config", "from_iter", "status",
                     "size_bytes", "skipped", "to_iter", "rule", "save_ms"]), values, max_size=5,
)  # fmt: skip
any_record = st.builds(
    eventlog.Record,
    st.integers(0, 9),
    st.sampled_from(["a", "b"]),
    st.sampled_from(["2026-11-23T03:25:01.123456+00:00", "", "2026", "x", "9999-12-31T23:59:59"]),
    st.sampled_from(["open", "iter", "eval", "checkpoint", "close", "rewind", "nonfinite", "?"]),
    fields,
)


@given(st.lists(any_record, max_size=60), st.floats(0, 4e9), st.booleans())
def test_no_journal_makes_a_rule_raise(journal, now, is_alive):
    vitals = Vitals(LIMITS)

    for record in journal:
        vitals.add(record)
        vitals.standing(now, is_alive=is_alive)


@given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=300))
def test_the_median_of_a_window_is_that_of_its_latest_values(values):
    window = Window(50)
    for value in values:
        window.add(value)

    assert window.median == median(values[-50:])


@given(st.floats(1, 100), st.floats(1, 100))
def test_the_limits_are_what_decides(stall_s, quiet_s):
    limits = replace(LIMITS, stall_s=stall_s)

    problem = rules.stall(quiet_s, rules.deadline_s({"iter": [0.01] * 9}, limits))

    assert (problem is not None) == (quiet_s > stall_s)
