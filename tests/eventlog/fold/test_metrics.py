"""The fold takes time for the events it is given, however many there were before."""

import random
from array import array

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventlog.fold import fold, metrics, tables
from eventlog.fold.fold import Fold
from eventlog.fold.metrics import Metrics
from eventlog.fold.tables import StepRows
from tests.strategies import record

FEW, MANY = 400, 1600


def names_of_one_step(n):
    return [("metrics", {"step": 0, f"n{k}": 1.5}) for k in range(n)]


def names_that_are_nan(n):
    return [("metrics", {"step": 0, f"grad.n{k}": float("nan")}) for k in range(n)]


def names_that_are_nan_and_then_numbers(n):
    values = [float("nan")] * (n // 2) + [1.5] * (n // 2)
    return [("metrics", {"step": 0, f"grad.n{k % (n // 2)}": v}) for k, v in enumerate(values)]


def names_of_ten_steps_in_turn(n):
    return [("metrics", {"step": k % 10, f"n{k // 10}": 1.5}) for k in range(n)]


def names_of_twenty_steps_one_name_after_the_other(n):
    return [("metrics", {"step": k % 20, f"n{k // 20}": 1.5}) for k in range(n)]


def one_name_again_and_again(n):
    first = ("metrics", {"step": 0} | {f"n{k}": 1.5 for k in range(n)})
    return [first, *(("metrics", {"step": k % 2, "n0": k}) for k in range(n))]


def steps_that_descend(n):
    return [("metrics", {"step": -k, "loss": 1.5}) for k in range(n)]


def steps_in_any_order(n):
    return [("metrics", {"step": s, "loss": 1.5}) for s in random.Random(1).sample(range(n), n)]


def rewinds_of_one_step(n):
    return [
        ("rewind", {"to_iter": n}) if k % 2 else ("metrics", {"step": n - k % 4, "loss": 1.5})
        for k in range(n)
    ]


def settings_one_by_one(n):
    return [("config", {"config": {f"k{k}": k}}) for k in range(n)]


def own_summary_one_by_one(n):
    return [("summary", {"summary": {f"k{k}": k}}) for k in range(n)]


def checkpoints_of_one_iteration(n):
    return [("checkpoint", {"iter": 1, "path": f"{k}.pt"}) for k in range(n)]


def checkpoints_that_descend(n):
    return [("checkpoint", {"iter": -k, "path": "ckpt.pt"}) for k in range(n)]


def evals_that_descend(n):
    return [("eval", {"iter": -k, "val_loss": 1.5}) for k in range(n)]


def iterations_that_descend(n):
    return [("iter", {"iter": -k, "loss": 1.5}) for k in range(n)]


HISTORIES = [
    names_of_one_step,
    names_that_are_nan,
    names_that_are_nan_and_then_numbers,
    names_of_ten_steps_in_turn,
    names_of_twenty_steps_one_name_after_the_other,
    one_name_again_and_again,
    steps_that_descend,
    steps_in_any_order,
    rewinds_of_one_step,
    settings_one_by_one,
    own_summary_one_by_one,
    checkpoints_of_one_iteration,
    checkpoints_that_descend,
    evals_that_descend,
    iterations_that_descend,
]


class Work:
    """How much is parsed, encoded and copied, in elements."""

    def __init__(self, monkeypatch):
        self.n = 0
        for module in (fold, metrics):
            monkeypatch.setattr(module, "encode_row", self.counted(module.encode_row))
        monkeypatch.setattr(metrics.orjson, "loads", self.counted(orjson.loads), raising=True)

    def counted(self, function):
        def call(value):
            result = function(value)
            self.n += max(len(value), len(result)) if hasattr(value, "__len__") else 1
            return result

        return call


class Watched(dict):
    """A dict that counts what is copied of it."""

    n_copied = 0

    def __or__(self, other):
        Watched.n_copied += len(self)
        return Watched({**self, **other})


@pytest.fixture
def work(monkeypatch):
    class Json:
        dumps = staticmethod(orjson.dumps)

    counted = Json()
    monkeypatch.setattr(metrics, "orjson", counted)
    counted.loads = orjson.loads
    return Work(monkeypatch)


def work_of(events, work):
    folding = Fold()
    folding.config = Watched()
    work.n = Watched.n_copied = 0
    for n, (event, fields) in enumerate(events):
        folding.add(record(n, event=event, **fields))
    folding.run()
    return work.n + Watched.n_copied


@pytest.mark.parametrize("history", HISTORIES, ids=lambda history: history.__name__)
def test_four_times_as_many_events_are_four_times_the_work(history, work):
    few, many = (work_of(history(n), work) for n in (FEW, MANY))

    assert many <= 6 * few + 1000


@pytest.mark.parametrize("history", HISTORIES, ids=lambda history: history.__name__)
def test_four_times_as_many_events_are_four_times_the_lines_of_python(history, count_lines):
    few, many = (count_lines(history(n)) for n in (FEW, MANY))

    assert many <= 6 * few + 1000


@pytest.fixture
def count_lines():
    """Lines that the fold executes: what a comprehension or a loop over all rows would multiply."""
    import sys

    def count(events):
        records = [record(n, event=event, **fields) for n, (event, fields) in enumerate(events)]
        folding, lines = Fold(), [0]

        def trace(frame, event, arg):
            if not frame.f_globals.get("__name__", "").startswith("eventlog"):
                return None
            lines[0] += 1
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            for each in records:
                folding.add(each)
            folding.run()
        finally:
            sys.settrace(before)
        return lines[0]

    return count


# ---- rows ordered by step


STEP_OPERATIONS = st.sampled_from(["put", "cut", "extend", "remove", "between", "snapshot"])


@given(st.lists(st.tuples(STEP_OPERATIONS, st.integers(-40, 40)), max_size=200))
def test_rows_are_those_of_a_sorted_dict_whatever_is_put_and_cut(operations):
    rows, model = StepRows(), {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tables, "ROW_BLOCK", 3)
        snapshots = []
        for k, (operation, step) in enumerate(operations):
            if operation == "snapshot":
                snapshots.append((rows.rows(), [model[s] for s in sorted(model)]))
            elif operation == "between":
                found = rows.between(step, step + 9)
                assert found == sorted((s, r) for s, r in model.items() if step <= s < step + 9)
            elif operation == "remove" and step in model:
                rows.remove(step)
                del model[step]
            elif operation == "extend" and step > max(model, default=-99):
                new = {step + i: b"%d" % (k + i) for i in range(k % 7)}
                rows.extend(array("q", new), b"\n".join(new.values()))
                model |= new
            elif operation == "cut" and step > 0:
                removed = rows.cut(step)
                assert removed == sorted((s, r) for s, r in model.items() if s >= step)
                model = {s: r for s, r in model.items() if s < step}
            else:
                rows.put(step, b"%d" % k)
                model[step] = b"%d" % k
            assert rows.get(step) == model.get(step)
            assert [*rows.items()] == sorted(model.items())
            assert len(rows) == len(model)
            assert rows.ends_before(step) == (bool(model) and step > max(model))
        assert all(taken.encoded == expected for taken, expected in snapshots)


def test_a_block_never_grows_beyond_twice_its_size_by_insertions():
    rows = StepRows()
    for step in range(10_000, 0, -1):
        rows.put(step, b"")

    assert max(map(len, rows._rows)) <= 2 * tables.ROW_BLOCK


# ---- merging


def merged_at_once(events):
    """A row as FORMAT.md has it, made the slow way."""
    row = {}
    for values in events:
        marks = {
            path: name
            for path, name in row.get("nonfinite", {}).items()
            if path not in values
            and not any(path.startswith(f"{name}.") and path not in row for name in values)
        }
        had = "nonfinite" in row
        row |= values
        if had:
            row["nonfinite"] = marks | values.get("nonfinite", {})
            if not row["nonfinite"]:
                del row["nonfinite"]
    return row


names = st.sampled_from(["a", "a.b", "a.b.c", "ab", "b", "a.c"])
marks = st.dictionaries(names, st.sampled_from(["nan", "inf"]), min_size=1)
events_of_a_row = st.lists(
    st.tuples(st.dictionaries(names, st.integers(0, 3)), st.none() | marks).map(
        lambda pair: pair[0] | ({"nonfinite": pair[1]} if pair[1] else {})
    ),
    min_size=1,
    max_size=12,
)


@given(events_of_a_row, st.sets(st.integers(0, 12)))
def test_merging_into_a_row_equals_merging_into_all_of_its_fields(events, left_after):
    table = Metrics()
    for k, values in enumerate(events):
        table.add("s", 5, values | {"step": 5})
        if k in left_after:
            table.add("s", 6 + k, {"step": 6 + k})

    (row,) = [row for row in table.rows() if row["step"] == 5]
    assert list(row.items()) == list(({"step": 5} | merged_at_once(events)).items())


def summaries_of(rows):
    """By name: how many, the last value, its step, the least and the greatest and their steps."""
    summaries = {}
    for row in rows:
        for name, value in row.items() - {("step", row["step"])}:
            known = summaries.setdefault(name, {"count": 0, "last": None, "step": None})
            if value is not None:
                known |= {"last": value, "step": row["step"], "count": known["count"] + 1}
                if "min" not in known or value < known["min"]:
                    known |= {"min": value, "min_step": row["step"]}
                if "max" not in known or value > known["max"]:
                    known |= {"max": value, "max_step": row["step"]}
    return summaries


def without_superseded(summary):
    return {
        name: {k: v for k, v in of_name.items() if k != "superseded"}
        for name, of_name in summary["names"].items()
    }


@given(
    st.lists(
        st.tuples(st.integers(0, 6), st.sampled_from("abc"), st.sampled_from([1, 1.0, 2, None])),
        max_size=20,
    ),
    st.sets(st.integers(0, 20)),
)
def test_the_summary_does_not_depend_on_when_it_is_read(events, looks):
    watched, left_alone = Metrics(), Metrics()
    for k, (step, name, value) in enumerate(events):
        for table in (watched, left_alone):
            table.add("s", step, {"step": step, name: value})
        if k in looks:
            watched.summary()

    if events:
        assert orjson.dumps(watched.summary()) == orjson.dumps(left_alone.summary())
        assert without_superseded(left_alone.summary()) == summaries_of(left_alone.rows())
        assert watched.rows().encoded == left_alone.rows().encoded


def logged(table, session, *events):
    for step, values in events:
        table.add(session, step, {"step": step} | values)


def test_a_later_session_supersedes_what_it_logs_again_and_no_other_name():
    table = Metrics()
    logged(table, "a", *[(step, {"loss": step, "acc": -step}) for step in range(5)])
    logged(table, "b", (2, {"loss": 20}), (3, {"loss": 30}))

    assert [*table.rows()] == [
        {"step": 0, "loss": 0, "acc": 0},
        {"step": 1, "loss": 1, "acc": -1},
        {"step": 2, "acc": -2, "loss": 20},
        {"step": 3, "acc": -3, "loss": 30},
        {"step": 4, "acc": -4},
    ]
    assert table.n_superseded == 3
    assert table.summary()["names"]["loss"]["superseded"] == 3


def test_a_metric_is_added_to_old_steps_of_a_finished_run_in_any_order():
    table = Metrics()
    logged(table, "a", *[(step, {"loss": step}) for step in range(100)])
    steps = random.Random(1).sample(range(0, 100, 10), 10)
    logged(table, "b", *[(step, {"test/acc": step / 100}) for step in steps])

    rows = [*table.rows()]
    assert [row["loss"] for row in rows] == [*range(100)]
    assert [row["test/acc"] for row in rows if "test/acc" in row] == [k / 10 for k in range(10)]
    assert table.n_superseded == 0


def test_epochs_that_each_count_from_zero_keep_the_last_and_count_the_others():
    table = Metrics()
    for epoch in range(3):
        logged(table, "a", *[(step, {"loss": epoch * 10 + step}) for step in range(4)])

    assert [row["loss"] for row in table.rows()] == [20, 21, 22, 23]
    assert table.n_superseded == 8
    assert [orjson.loads(row) for row in table.superseded[:2]] == [
        {"step": 0, "loss": 0},
        {"step": 1, "loss": 1},
    ]


def test_an_equal_value_that_is_logged_again_supersedes_nothing():
    table = Metrics()
    logged(table, "a", (0, {"epoch": 1, "loss": 2.0}), (0, {"epoch": 1, "acc": 0.5}))

    assert [*table.rows()] == [{"step": 0, "epoch": 1, "loss": 2.0, "acc": 0.5}]
    assert table.n_superseded == 0


def test_the_mark_of_a_name_with_a_dot_stays_when_a_name_that_it_begins_with_is_logged():
    table = Metrics()
    logged(table, "a", (1, {"train.loss": None, "nonfinite": {"train.loss": "nan"}}))
    logged(table, "a", (1, {"train": 1.0}))

    (row,) = table.rows()
    assert row["nonfinite"] == {"train.loss": "nan"}


def test_the_mark_of_an_element_is_gone_when_its_value_is_replaced():
    table = Metrics()
    logged(table, "a", (1, {"losses": [1.0, None], "nonfinite": {"losses.1": "nan"}}))
    logged(table, "a", (1, {"losses": [1.0, 2.0]}))

    assert [*table.rows()] == [{"step": 1, "losses": [1.0, 2.0]}]


history_of_sessions = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", "c"]),
        st.integers(0, 6),
        st.dictionaries(st.sampled_from(["x", "y", "z"]), st.integers(0, 3), min_size=1),
    ),
    max_size=25,
)


@given(history_of_sessions, st.sets(st.integers(0, 24)))
def test_every_value_ever_logged_is_in_the_run_equal_to_one_that_is_or_counted(events, looks):
    """Against a model: each cell with the turn of the session that logged it."""
    table, cells, turn, last, n_superseded = Metrics(), {}, 0, None, 0
    for k, (session, step, values) in enumerate(events):
        turn, last = turn + (session != last), session
        for name, value in values.items():
            for at in [at for at, n in cells if n == name and at >= step]:
                if cells[at, name][1] != turn:
                    del cells[at, name]
                    n_superseded += 1
            n_superseded += cells.get((step, name), (value,))[0] != value
            cells[step, name] = value, turn
        table.add(session, step, {"step": step} | values)
        if k in looks:
            table.summary()

    found = {(r["step"], n): v for r in table.rows() for n, v in r.items() if n != "step"}
    assert found == {key: value for key, (value, _) in cells.items()}
    assert table.n_superseded == n_superseded
    assert all(len(row) > 1 for row in table.rows())


def test_an_event_is_not_changed_by_those_that_are_merged_with_it():
    fields = {"step": 1, "a": None, "nonfinite": {"a": "nan"}}
    table = Metrics()
    table.add("s", 1, fields)
    table.add("s", 1, {"step": 1, "b": None, "nonfinite": {"b": "inf"}})

    assert fields == {"step": 1, "a": None, "nonfinite": {"a": "nan"}}
