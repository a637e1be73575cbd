"""The run document: laid out as the guide prints it, strict JSON, and every old file is read."""

import contextlib
import json
import math
import re
from pathlib import Path

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from eventlog import Fold, Run, UnreadableRun, scan
from eventlog.fold.document import KEYS, parse_run
from eventlog.fold.rows import Rows
from eventlog.format.json_rows import encode_row
from tests.strategies import any_floats, any_text, json_values, text

GOLDEN = Path(__file__).parents[2] / "golden"
HERE = Path("out/run.json")


def written(run):
    return b"".join(run.to_json())


def strict(data):
    """`data` as JSON, read by two parsers that both refuse NaN."""

    def refuse(name):
        raise ValueError(f"{name} is not JSON")

    value = json.loads(data, parse_constant=refuse)
    assert orjson.loads(data) is not None
    return value


# ---- layout


EXAMPLE = """{
  "run_name": "run_20231031_162345",
  "start_time": "2023-10-31T16:23:45.123456+00:00",
  "end_time": null,

  "config": {
    "learning_rate": 0.0006,
    "betas": [0.9, 0.95],
    "data": {"files": ["a", "b"], "seed": 1}
  },

  "training_iterations": [
    {"iter": 0, "loss": 11.0049, "time_ms": 19130.8, "mfu": -100.0},
    {"iter": 1, "loss": null, "time_ms": 3978.64, "mfu": 31.2, "nonfinite": {"loss": "nan"}}
  ],

  "eval_steps": [
    {"iter": 0, "train_loss": 11.004, "val_loss": 10.9977, "lr": 0.0006, "timestamp": "..."}
  ],

  "checkpoints": [],

  "metadata": {},

  "summary": {
    "total_iterations": 2
  },

  "journal": {
    "status": "running",
    "missing_iterations": [[3, 4], [6, 6]],
    "defects": [
      {"kind": "torn", "offset": 5},
      {"kind": "gap", "offset": 6}
    ],
    "sessions": []
  }
}
"""


def test_the_document_is_laid_out_as_the_guide_prints_it():
    run = Run(**{k: v for k, v in json.loads(EXAMPLE).items() if v is not None})

    assert written(run).decode() == EXAMPLE


def test_the_keys_are_those_of_the_guide_in_its_order_and_then_ours():
    guide = json.loads((GOLDEN / "guide.json").read_text())

    assert KEYS[:3] == ("run_name", "start_time", "end_time")
    assert set(KEYS[:9]) == set(guide)
    assert [k for k in guide if k not in ("end_time", "summary")] == [
        k for k in KEYS[:9] if k not in ("end_time", "summary")
    ]
    assert KEYS[9:] == ("journal",)
    assert list(strict(written(Run()))) == list(KEYS)


rows = st.lists(st.dictionaries(any_text, json_values | any_floats, max_size=4), max_size=4)
objects = st.dictionaries(any_text, json_values | any_floats, max_size=4)
runs = st.builds(
    Run,
    run_name=any_text,
    start_time=st.none() | text,
    end_time=st.none() | text,
    config=objects,
    training_iterations=rows,
    eval_steps=rows,
    checkpoints=rows,
    metadata=objects,
    summary=objects,
    journal=objects,
)


@given(runs)
def test_any_run_is_strict_json_with_one_element_a_line(run):
    data = written(run)

    document = strict(data)
    assert list(document) == list(KEYS)
    for key in ("training_iterations", "eval_steps", "checkpoints"):
        block = re.search(rb'^  "%b": \[\n(.*?)\n  \]' % key.encode(), data, re.M | re.S)
        lines = block[1].split(b"\n") if block else []
        assert [orjson.loads(line.rstrip(b",")) for line in lines] == orjson.loads(data)[key]
        assert len(lines) == len(getattr(run, key))


clean_rows = st.lists(st.dictionaries(text, json_values, max_size=4), max_size=4)
clean_objects = st.dictionaries(text, json_values, max_size=4)


@given(
    st.builds(
        Run,
        run_name=text,
        start_time=st.none() | text,
        config=clean_objects,
        training_iterations=clean_rows,
        eval_steps=clean_rows,
        summary=clean_objects,
        journal=clean_objects,
    )
)
def test_what_is_read_back_is_what_was_written_and_equal_runs_are_equal_bytes(run):
    document = strict(written(run))
    rows = Rows([encode_row(row) for row in document["training_iterations"]])
    again = Run(
        **{k: v for k, v in document.items() if v is not None} | {"training_iterations": rows}
    )

    assert document == {key: getattr(run, key) for key in KEYS}
    assert again == run
    assert written(again) == written(run)


# ---- rows


AWKWARD_KEYS = ["a,", ":a", 'a"b', '":', ',"', ",", ":", "", '{"', "\\", '\\"', "{", ',":', '":"']


@given(
    st.dictionaries(text | st.sampled_from(AWKWARD_KEYS), json_values | any_floats | st.integers())
)
@example({":a": 1, "b,": 2})
@example({"a": 1, ":b": 2})
@example({"a,": 1})
@example({"a": [{"b": 1}, [2]]})
@example({"a": 2**64, "b": -(2**63) - 1})
@example({"a": {}})
def test_a_row_is_the_json_of_its_dict_whatever_its_keys(row):
    """The fast way, by replacing bytes, and the slow one say the same."""
    without = json.loads(json.dumps(row), parse_constant=lambda name: None)

    encoded = encode_row(row)
    assert json.loads(encoded, parse_constant=float) == without
    assert b"\n" not in encoded


def test_a_row_of_numbers_is_spaced_as_in_the_guide():
    assert encode_row({"iter": 0, "loss": 11.0049, "mfu": -100.0}) == (
        b'{"iter": 0, "loss": 11.0049, "mfu": -100.0}'
    )
    assert encode_row({"path": "a,b:c", "n": 1}) == b'{"path": "a,b:c", "n": 1}'
    assert encode_row("ünï") == '"ünï"'.encode()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"loss": math.nan}, {"loss": None}),
        ({"loss": [math.inf, {"a": -math.inf}], "x": "y"}, {"loss": [None, {"a": None}], "x": "y"}),
        ({"name": "lone \udcff"}, {"name": "lone \\udcff"}),
        ({"lone \udcff": 1}, {"lone \\udcff": 1}),
        ({1: "a"}, {"1": "a"}),
        ({"path": Path("x")}, {"path": "x"}),
        ({"betas": (1, 2)}, {"betas": [1, 2]}),
    ],
)
def test_a_value_that_json_does_not_have_is_written_as_text(value, expected):
    assert strict(encode_row(value)) == expected


def test_rows_are_a_sequence_of_dicts():
    rows = Rows([b'{"iter":0,"loss":1.5}', b'{"iter":1,"loss":2.5}'])

    assert rows[1] == {"iter": 1, "loss": 2.5}
    assert rows[-1] == rows[1]
    assert rows[:1] == [{"iter": 0, "loss": 1.5}]
    assert [row["loss"] for row in rows] == [1.5, 2.5]
    assert rows == [{"iter": 0, "loss": 1.5}, {"iter": 1, "loss": 2.5}]
    assert rows != [{"iter": 0, "loss": 1.5}]
    assert rows != 5
    assert {"iter": 0, "loss": 1.5} in rows
    with pytest.raises(IndexError):
        rows[2]
    assert repr(rows) == "<2 rows>"


MOVES = st.lists(
    st.tuples(st.just("append"), st.just(1))
    | st.tuples(st.just("extend"), st.integers(1, 5))
    | st.tuples(st.just("cut"), st.integers(0, 30)),
    max_size=12,
)


@given(MOVES, st.integers(-40, 40), st.slices(30))
def test_after_any_growth_and_cuts_rows_are_those_that_are_left(moves, at, some):
    rows, known, n = Rows(), [], 0
    for move, size in moves:
        if move == "cut":
            at_row = min(size, len(known))
            looked_at = rows[at_row - 1] if at_row else None
            assert [*map(orjson.loads, rows.cut(at_row))] == known[at_row:]
            del known[at_row:]
            assert looked_at == (known[-1] if known else None)
        else:
            new = [{"iter": k} for k in range(n, n + size)]
            rows.extend(b"\n".join(map(encode_row, new)), size)
            known += new
            n += size

    same = rows.copy()
    rows.append(b"{}")

    assert [*same] == same[:] == known
    assert [orjson.loads(row) for row in same.encoded] == known
    assert same[some] == known[some]
    assert [same[k] for k in range(len(known))] == known
    assert (at < -len(known) or at >= len(known)) or same[at] == known[at]


def test_rows_that_were_added_together_are_written_a_line_each():
    rows = Rows()
    rows.append(b'{"iter": 0}')
    rows.extend(b'{"iter": 1}\n{"iter": 2}', 2)

    document = written(Run(training_iterations=rows))

    assert document == written(Run(training_iterations=[{"iter": k} for k in range(3)]))


def test_a_run_is_equal_to_itself_wherever_it_was_read():
    assert Run(run_name="a", path=Path("x")) == Run(run_name="a", path=Path("y"))
    assert Run(run_name="a") != Run(run_name="b")


# ---- the golden journal


def test_the_golden_journal_still_makes_its_run_json_byte_for_byte():
    from eventlog import load_run

    run = load_run(GOLDEN / "format_1.jsonl")

    assert written(run) == (GOLDEN / "format_1.json").read_bytes()


def test_the_golden_run_json_equals_one_made_by_hand():
    """Three sessions: the second took 4 and 5 again, the third 5 and on; 6 was not a number."""
    run = strict((GOLDEN / "format_1.json").read_bytes())

    assert {row["iter"]: row["loss"] for row in run["training_iterations"]} == {
        **dict(enumerate([11.0, 10.0, 9.0, 8.0, 7.125])),
        **dict(enumerate([6.0, None, 4.0, 3.0, 2.0], start=5)),
    }
    assert run["training_iterations"][6]["nonfinite"] == {"loss": "nan"}
    assert [(row["iter"], row["val_loss"]) for row in run["eval_steps"]] == [
        (0, 10.9977),
        (4, 7.6),
        (9, 2.625),
    ]
    assert [row["iter"] for row in run["checkpoints"]] == [4, 9]
    assert run["summary"] == {
        "total_iterations": 10,
        "final_iter": 9,
        "final_train_loss": 2.0,
        "best_val_loss": 2.625,
        "avg_time_ms": 54.5,
        "avg_mfu": 35.5,
        "total_eval_steps": 3,
        "total_checkpoints": 2,
    }
    assert run["journal"]["superseded"] == {"iterations": 4, "evals": 0, "checkpoints": 0}
    assert [(d["kind"], d["lost"]) for d in run["journal"]["defects"]] == [("torn", 0)]
    assert run["journal"]["sessions"][1]["changed"] == {"learning_rate": [0.0006, 0.0003]}


def test_the_golden_journal_has_every_kind_of_event():
    kinds = {record.event for record in scan(GOLDEN / "format_1.jsonl")}

    assert kinds == {
        *("open", "iter", "eval", "checkpoint", "rewind", "nonfinite", "note"),
        *("io_error", "gap", "signal", "error", "close"),
    }


# ---- files of earlier loggers


def golden(name):
    path = GOLDEN / name
    return parse_run(path.read_bytes(), path), json.loads(path.read_text())


def test_a_file_of_the_guides_own_logger_is_read_as_it_is():
    run, document = golden("guide.json")

    assert {key: getattr(run, key) for key in KEYS[:9]} == document
    assert run.journal == {}
    assert run.status == "completed"
    assert run.path == GOLDEN / "guide.json"


def test_a_run_of_that_logger_that_crashed_is_read_without_end_and_summary():
    run, document = golden("guide_crashed.json")

    assert "end_time" not in document
    assert (run.end_time, run.summary, run.status) == (None, {}, "unknown")
    assert run.training_iterations == document["training_iterations"]


def test_mfu_as_an_object_becomes_a_number_and_keeps_its_breakdown():
    run, document = golden("guide_mfu_object.json")
    plain, _ = golden("guide.json")

    assert [row["mfu"] for row in run.training_iterations] == [
        row["mfu"] for row in plain.training_iterations
    ]
    assert run.training_iterations[50]["mfu_breakdown"] == {
        "mfu_percent": 32.5,
        "achieved_tflops": 102.5,
        "tokens_per_sec": 3510.0,
    }
    assert "mfu_breakdown" not in run.training_iterations[0]
    assert run.training_iterations[0]["memory"] == {"allocated_gb": 12.0}
    assert document["training_iterations"][50]["mfu"]["mfu_percent"] == 32.5


def test_bare_nan_is_read_and_named_as_this_format_does():
    run, _ = golden("guide_nan.json")
    last = run.training_iterations[100]

    assert (last["loss"], last["nonfinite"]) == (None, {"loss": "nan"})
    assert run.training_iterations[99]["nonfinite"] == {"loss": "inf"}
    assert run.summary["final_train_loss"] is None
    strict(written(run))


@pytest.mark.parametrize("name", ["guide", "guide_crashed", "guide_mfu_object", "guide_nan"])
def test_an_old_file_written_again_is_strict_and_reads_the_same(name):
    run, _ = golden(f"{name}.json")

    again = parse_run(written(run), HERE)
    assert again == run
    assert list(strict(written(run))) == list(KEYS)


# ---- what is no run


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", r"at byte 0 of 0"),
        (b'{"run_name": "a", "training', r"at byte 27 of 27"),
        (b"{'a': 1}", r"at byte 1 of 8"),
        (b"\xff\xfe", r"not a run JSON"),
        (b"[" * 100_000, r"not a run JSON"),
        (b"[]", r"it has no training_iterations"),
        (b"17", r"it has no training_iterations"),
        (b"NaN", r"it has no training_iterations"),
        (b"{}", r"it has no training_iterations"),
        (b'{"training_iterations": {}}', r"it has no training_iterations"),
        (b'{"training_iterations": [1, 2]}', r"training_iterations has the wrong type"),
        (
            b'{"training_iterations": [], "eval_steps": {}}',
            r"eval_steps has the wrong type",
        ),
        (
            b'{"training_iterations": [], "checkpoints": [5]}',
            r"checkpoints has the wrong type",
        ),
        (b'{"training_iterations": [], "config": []}', r"config has the wrong type"),
        (b'{"training_iterations": [], "summary": [1]}', r"summary has the wrong type"),
        (b'{"training_iterations": [], "run_name": 5}', r"run_name has the wrong type"),
    ],
)
def test_a_file_that_is_not_a_run_is_refused_with_its_name_and_the_place(data, message):
    with pytest.raises(UnreadableRun, match=rf"^out/run\.json: .*{message}"):
        parse_run(data, HERE)


def test_the_error_for_a_cut_run_json_names_the_command_that_restores_it():
    with pytest.raises(UnreadableRun, match=r"eventlog compact out/run\.jsonl$"):
        parse_run(b'{"training_iterations": [', HERE)


@given(st.binary(max_size=200) | text.map(str.encode) | json_values.map(json.dumps).map(str.encode))
def test_no_bytes_make_reading_a_run_raise_anything_else(data):
    with contextlib.suppress(UnreadableRun):
        assert isinstance(parse_run(data, HERE), Run)


@given(st.dictionaries(st.sampled_from(KEYS), json_values), clean_rows)
def test_an_object_with_any_values_under_our_keys_is_read_or_refused(document, rows):
    try:
        run = parse_run(orjson.dumps(document | {"training_iterations": rows}), HERE)
    except UnreadableRun:
        return

    strict(written(run))


def test_a_run_without_a_name_has_that_of_its_file():
    assert parse_run(b'{"training_iterations": []}', HERE).run_name == "run"


def test_a_fold_gives_the_document_that_it_says():
    folding = Fold()
    for record in scan(GOLDEN / "format_1.jsonl"):
        folding.add(record)
    document = strict(written(folding.run()))

    kept = strict((GOLDEN / "format_1.json").read_bytes())
    assert {k: document[k] for k in KEYS[:9]} == {k: kept[k] for k in KEYS[:9]}
