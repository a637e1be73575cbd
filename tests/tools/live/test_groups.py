"""Curves of metrics: sparse names, steps in any order, values that are superseded, many names."""

import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventlog import Fold, Scanner
from eventlog.read import scanner as scanner_module
from tests.strategies import SESSIONS, line, record
from tools.live.content import Content
from tools.live.curves import Axis
from tools.live.groups import Groups
from tools.live.pyramid import Spill

T = "2026-11-23T03:25:01.{:06}+00:00"
values = st.one_of(st.floats(-9, 9), st.sampled_from(["nan", "inf", "-inf"]), st.just("a word"))
events = st.one_of(
    st.tuples(
        st.just("metrics"),
        st.integers(0, 12),
        st.dictionaries(st.sampled_from(["a", "b", "val/c", "d.e"]), values, min_size=1),
    ),
    st.tuples(st.just("rewind"), st.integers(0, 12), st.just({})),
)
sessions = st.lists(st.lists(events, max_size=12), min_size=1, max_size=4)


def fields_of(step, values):
    """An event as the logger writes it: what is not finite is null, and named."""
    marks = {k: v for k, v in values.items() if v in ("nan", "inf", "-inf")}
    fields = {"step": step} | {k: None if k in marks else v for k, v in values.items()}
    return fields | ({"nonfinite": marks} if marks else {})


def records_of(history):
    for s, steps in zip(SESSIONS, history, strict=False):
        yield record(0, s, "open")
        for n, (event, step, values) in enumerate(steps, 1):
            fields = {"to_iter": step} if event == "rewind" else fields_of(step, values)
            yield record(n, s, event, T.format(n), **fields)


def read(content, items):
    for _ in content.read(iter(items)):
        pass


def drawn(content, name):
    """The points of a curve: finite values, and what the others are."""
    _, rows, column = content.find(name)
    curve = rows.curve(column, Axis("iter"))
    finite = [(x, y) for x, y in zip(curve.x, curve.y, strict=True) if math.isfinite(y)]
    marks = [
        (int(rows.iters.values[row]), mark)
        for first, last, mark in rows.nonfinite_between(column, 0, len(rows))
        for row in range(first, last + 1)
    ]
    return finite, marks


def wanted(run, name):
    points = [(step, y) for step, y in run.points(name) if type(y) is float]
    return (
        [(float(step), y) for step, y in points if math.isfinite(y)],
        [(step, str(y)) for step, y in points if not math.isfinite(y)],
    )


@given(sessions, st.sets(st.integers(0, 60)))
def test_any_history_of_metrics_is_drawn_as_the_run_has_it(history, settled_after):
    content, fold = Content(), Fold()

    for at, one in enumerate(records_of(history)):
        read(content, [one])
        fold.add(one)
        if at in settled_after:
            content.settle()
    content.settle()

    run = fold.run()
    for name, series in run.series().items():
        if series.is_numeric:
            assert drawn(content, name) == wanted(run, name)
    assert {name for name, one in run.series().items() if one.is_numeric} <= set(content.series())


names = st.sampled_from([("a",), ("a", "b"), ("b", "val/c"), ("d.e",), ("a", "nested")])
stretches = st.lists(
    st.tuples(
        st.sampled_from(["metrics", "iter", "eval", "rewind"]),
        names,
        st.integers(0, 60),
        st.integers(1, 12),
        st.sampled_from([1.5, 7, None, "a word"]),
    ),
    max_size=6,
)


def journal_of(history):
    """The lines of sessions that log even stretches of rows, among them some that are marked."""
    for s, stretches in zip(SESSIONS, history, strict=False):
        yield line(0, s, "open")
        n = 0
        for event, names, first, n_rows, kind in stretches:
            if event == "rewind":
                n += 1
                yield line(n, s, event, T.format(n), to_iter=first)
                continue
            for step in range(first, first + n_rows):
                n += 1
                lead = {"iter": step, "loss": step / 7, "time_ms": 5.5, "mfu": 31.5}
                lead = {"step": step} if event == "metrics" else lead
                more = {name: value_of(name, kind, step) for name in names}
                marks = {"nonfinite": dict.fromkeys(names, "nan")} if kind is None else {}
                yield line(n, s, event, T.format(n), **lead, **more, **marks)


def value_of(name, kind, step):
    if name == "nested":
        return {"constant": 3}
    return step * kind if isinstance(kind, int | float) else kind


@given(st.lists(stretches, min_size=1, max_size=3), st.sampled_from([1, 8]))
def test_rows_that_are_read_many_at_once_are_drawn_as_those_of_single_events(history, least):
    data = b"".join(journal_of(history))
    at_once, singly = Content(), Content()
    scanner = Scanner(in_batches=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scanner_module, "_LEAST_LINES", least)
        read(at_once, scanner.feed_on(data) + scanner.finish())
    read(singly, Scanner().feed(data))
    at_once.settle()
    singly.settle()

    assert at_once.n_records == singly.n_records
    assert [r.line for r in at_once.latest] == [r.line for r in singly.latest]
    assert at_once.n_rows == singly.n_rows
    assert at_once.marks == singly.marks
    assert {*at_once.series()} == {*singly.series()}
    for name in singly.series():
        assert drawn(at_once, name) == drawn(singly, name)
        assert times_of(at_once, name) == times_of(singly, name)


def test_the_size_of_a_large_value_in_another_file_is_not_drawn():
    aside = {"file": "a.aside", "size_bytes": 2_000_000, "sha256": "0" * 64}
    rows = [line(n, event="metrics", step=n, a=n / 7, set_aside=aside) for n in range(2)]
    rows.append(line(2, event="iter", iter=2, loss=1.0, time_ms=1.0, mfu=1.0, set_aside=aside))
    content = Content()
    read(content, Scanner().feed(b"".join(rows)))
    content.settle()

    assert {*content.series()} == {"a", "loss", "time_ms", "mfu"}


def test_the_latest_records_are_the_same_whether_read_singly_or_at_once():
    lines = [line(n, event="metrics", step=n, a=n / 7) for n in range(700)]
    data = b"".join([*lines[:300], line(300, event="note", text="x"), *lines[301:]])
    at_once, singly = Content(), Content()
    generation = at_once.generation

    read(at_once, Scanner(in_batches=True).feed_on(data))
    read(singly, Scanner().feed(data))
    at_once.settle()
    singly.settle()

    assert at_once.generation == generation, "a page reads all rows again"
    assert len(at_once.latest) == 200
    assert [*at_once.latest] == [*singly.latest]


def times_of(content, name):
    _, rows, _ = content.find(name)
    return rows.times.values.tolist()


def shown_after(*events):
    """What is drawn of `a`, and what the run has, after events (session, step, values)."""
    content, fold = Content(), Fold()
    for n, (s, step, values) in enumerate(events):
        one = record(n, SESSIONS[s], "metrics", T.format(n), **fields_of(step, values))
        read(content, [one])
        fold.add(one)
    content.settle()
    return drawn(content, "a"), wanted(fold.run(), "a")


def test_a_session_that_steps_back_keeps_what_it_logged_of_later_steps():
    shown, run = shown_after((0, 1, {"a": 1.0}), (1, 5, {"a": 5.0}), (1, 0, {"a": 0.0}))

    assert shown == run == ([(0.0, 0.0), (5.0, 5.0)], [])


def test_text_takes_the_place_of_the_number_of_its_step():
    text = (0, 1, {"a": "a word", "b": 1.0})
    shown, run = shown_after(text, (0, 2, {"a": 1.0}), (0, 2, {"a": "a word", "b": 1.0}))

    assert shown == run == ([], [])


def test_names_that_are_logged_together_share_their_steps():
    groups = Groups(Spill(), lambda rows: None)

    for step in range(10):
        groups.add(step, T.format(step), {"step": step, "loss": 1.0, "lr": 0.1})
    groups.add(10, T.format(10), {"step": 10, "acc": 0.5})
    groups.add(11, T.format(11), {"step": 11, "loss": 0.5})
    groups.settle()

    assert groups.by_name["loss"].iters.values.tolist() == [*range(10), 11]
    assert groups.by_name["lr"].iters.values.tolist() == [*range(10)]
    assert groups.by_name["acc"].iters.values.tolist() == [10]


def test_values_that_are_logged_late_are_drawn_where_and_when_they_were_logged():
    groups = Groups(Spill(), lambda rows: None)
    steps = [50, 10, 30, 20, 40]

    for second, step in enumerate(steps):
        groups.add(step, f"1970-01-01T00:00:0{second}.000000+00:00", {"step": step, "acc": step})
        groups.settle()

    by_step = groups.by_name["acc"].curve("acc", Axis("iter"))
    by_time = groups.by_name["acc"].curve("acc", Axis("time"))
    assert by_step.y.tolist() == sorted(steps)
    assert (by_time.x.tolist(), by_time.y.tolist()) == ([0, 1, 2, 3, 4], steps)


def test_a_page_gets_only_the_rows_that_it_lacks():
    groups = Groups(Spill(), lambda rows: None)
    for step in range(100):
        groups.add(step, T.format(step), {"step": step, "loss": 1.0})
        groups.add(step, T.format(step), {"step": step, "acc": 0.5})
        groups.settle()

    assert groups.by_name["loss"].n_rows_of(198) == 99
    assert groups.by_name["loss"].n_rows_of(3) == 0  # too long ago: all of them


def test_twenty_thousand_names_of_few_values_take_little_memory():
    names = [f"layer/{k}/norm" for k in range(20_000)]
    row = dict.fromkeys(names, 1.0)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]

    groups = Groups(Spill(), lambda rows: None)
    for step in range(3):
        groups.add(step, T.format(step), {"step": step} | row)
        groups.settle()
    used = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()

    assert np.isfinite(groups.by_name[names[-1]].columns[names[-1]].last())
    assert used < 20 << 20


def test_a_series_of_iterations_is_found_where_a_metric_of_its_name_was_superseded():
    content = Content()
    read(content, [record(0, event="metrics", step=8, loss=1.0)])
    read(content, [record(1, event="iter", iter=9, loss=2.0)])
    read(content, [record(2, event="iter", iter=0, loss=3.0)])  # supersedes both
    content.settle()

    assert drawn(content, "loss") == ([(0.0, 3.0)], [])
