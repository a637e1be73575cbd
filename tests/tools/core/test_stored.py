"""The tables of a large run JSON, read in pieces, are those of the run loaded as a whole."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

import eventlog
from eventlog.fold.document import Run
from tools.core import runs, stored

TABLES = ("iterations", "evals", "metrics", "checkpoints")


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    monkeypatch.setattr(stored, "LARGE_BYTES", 1)
    monkeypatch.setattr(stored, "PIECE_BYTES", 64)


@pytest.fixture
def run_json(tmp_path):
    with eventlog.open_run(tmp_path, run_name="r", save_interval=0) as run:
        for i in range(30):
            run.log_iter(i, float("nan") if i == 7 else 3.0 - i / 100, 5.0)
            values = {"a": i, "text": 'x"}, {\n  ]', "in": {"b": [1, {"c": 2}]}}
            run.log("metrics", step=i, **values)
        run.log_eval(29, 2.0, 2.5)
    eventlog.compact(run.journal_path)
    return run.journal_path.with_suffix(".json")


def test_rows_in_pieces_are_those_of_the_run_as_a_whole(run_json):
    whole, read = eventlog.load_run(run_json), stored.read(run_json)

    for table in TABLES:
        rows = [row for piece in stored.pieces(read, table) for row in piece]
        assert repr(rows) == repr([*whole.rows(table)])
        assert repr([*read.rows(table)]) == repr(rows)
    assert (len(read.metrics), read.metrics[-1], read.metrics[3:5]) == (
        30, whole.metrics[-1], whole.metrics[3:5],
    )  # fmt: skip
    assert not read.checkpoints


values = st.dictionaries(
    st.text(max_size=8), st.none() | st.booleans() | st.floats() | st.text(max_size=8), max_size=4
)


@given(st.lists(values, max_size=12), st.lists(values, max_size=5), st.integers(1, 300))
def test_any_rows_are_read_in_pieces_of_any_size(tmp_path_factory, rows, evals, n_bytes):
    path = tmp_path_factory.mktemp("any") / "run.json"
    run = Run("r", metrics=rows, eval_steps=evals, journal={"format": 1, "status": "completed"})
    path.write_bytes(b"".join(run.to_json()))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stored, "PIECE_BYTES", n_bytes)
        read = stored.read(path)
        tables = [*read.metrics], [*read.eval_steps], [*read.training_iterations]

    whole = eventlog.load_run(path)
    assert tables == (whole.metrics, whole.eval_steps, [])


def test_a_file_that_is_replaced_is_read_as_it_was(run_json, tmp_path):
    read = stored.read(run_json)

    os.replace(_written(tmp_path / "other", b"{}"), run_json)

    assert len([*read.metrics]) == 30


@pytest.mark.parametrize("damage", [b"\0" * 40, b"7,"], ids=["zeros", "number"])
def test_damage_in_the_middle_is_an_error_that_names_the_place(run_json, damage):
    data = run_json.read_bytes()
    at = data.index(b'\n    {"step": 11')
    _written(run_json, data[: at + 5] + damage + data[at + 5 :])

    with pytest.raises(eventlog.UnreadableRun, match=r"cannot be read from byte [\d,]+ on"):
        [*stored.read(run_json).metrics]


def test_a_run_that_is_live_or_of_another_logger_is_loaded_as_a_whole(tmp_path, zoo):
    with eventlog.open_run(tmp_path, run_name="live") as run:
        run.log_iter(0, 1.0, 1.0)
        eventlog.compact(run.journal_path)
        live = run.journal_path.with_suffix(".json")
        assert stored.read(live) is None
    assert stored.read(zoo / "guide.json") is None
    assert runs.read_at(zoo / "guide.json").run == eventlog.load_run(zoo / "guide.json")


def _written(path, data):
    path.write_bytes(data)
    return path
