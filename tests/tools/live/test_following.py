"""Following journals: the curves of a growing journal agree with its run JSON."""

import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import eventlog
from tests.strategies import (
    SESSIONS,
    T,
    begin_run,
    histories,
    journals,
    line,
    resume_run_that_went_on,
)
from tests.tools.conftest import GOLDEN
from tools.live.content import record_text
from tools.live.curves import Axis
from tools.live.folders import Folders
from tools.live.following import Following


def follow_to_the_end(run):
    while run.read_on() or run.is_reading:
        pass
    return run


def curve(rows, key):
    found = rows.curve(key, Axis("iter"))
    return list(zip(found.x.tolist(), found.y.tolist(), strict=True))


def expected(rows, key):
    return [(float(r["iter"]), float(r[key])) for r in rows if isinstance(r.get(key), int | float)]


def assert_shows_what_load_run_says(following, path):
    run = eventlog.load_run(path)
    assert following.iterations.iters.values.tolist() == [
        row["iter"] for row in run.training_iterations
    ]
    assert curve(following.iterations, "loss") == expected(run.training_iterations, "loss")
    assert curve(following.evals, "val_loss") == expected(run.eval_steps, "val_loss")
    shown = following.run()
    assert shown.summary == pytest.approx(run.summary)
    assert (shown.status, shown.run_name, shown.config) == (run.status, run.run_name, run.config)
    for session, folded in zip(shown.journal["sessions"], run.journal["sessions"], strict=True):
        assert session == folded
    counted = {k: v for k, v in run.journal["superseded"].items() if k != "checkpoints"}
    assert {k: shown.journal["superseded"][k] for k in counted} == counted


def lines_of(history):
    lines = []
    for s, steps in zip([*SESSIONS, "e5e5e5e5"], history, strict=False):
        for n, (event, number) in enumerate(steps):
            fields = {
                "open": {"run_id": "r", "run_name": "run", "config": {"seed": n}},
                "iter": {"iter": number, "loss": number / 7 + n, "time_ms": 50.0, "mfu": 30.0},
                "eval": {"iter": number, "train_loss": 1.0, "val_loss": number / 3},
                "checkpoint": {"iter": number, "val_loss": 1.0, "path": f"{n}.pt"},
                "rewind": {"to_iter": number},
            }[event]
            if event == "open" and number >= 0:
                fields["from_iter"] = number
            lines.append(line(n, s, event, T, **fields))
    return lines


@given(histories, st.lists(st.integers(0, 60), max_size=4))
def test_any_history_read_in_any_steps_is_shown_as_the_run_json_has_it(
    tmp_path_factory, history, stops
):
    lines = lines_of(history)
    path = tmp_path_factory.mktemp("live") / "run.jsonl"
    path.touch()
    following = Following(path)
    written = 0
    for stop in [*sorted(stops), len(lines)]:
        with path.open("ab") as file:
            file.writelines(lines[written:stop])
        written = max(written, stop)
        follow_to_the_end(following)

    assert_shows_what_load_run_says(following, path)


@given(journals, st.integers(0, 10_000))
def test_any_journal_cut_anywhere_is_shown_as_the_run_json_has_it(tmp_path_factory, written, cut):
    path = tmp_path_factory.mktemp("live") / "run.jsonl"
    path.write_bytes(written.data[: len(written.data) - cut % len(written.data)])
    following = follow_to_the_end(Following(path))

    try:
        run = eventlog.load_run(path)
    except eventlog.UnreadableRun:
        assert "not one whole record" in following.error
        return
    assert following.run().summary == run.summary
    assert following.iterations.iters.values.tolist() == [
        row["iter"] for row in run.training_iterations
    ]


@pytest.mark.parametrize("name", ["guide", "guide_crashed", "guide_mfu_object", "guide_nan"])
def test_an_older_loggers_file_is_shown_too(name):
    path = GOLDEN / f"{name}.json"
    following = follow_to_the_end(Following(path))

    run = eventlog.load_run(path)
    assert following.iterations.iters.values.tolist() == [
        row["iter"] for row in run.training_iterations
    ]
    assert following.run().summary == run.summary


def test_a_killed_run_is_interrupted_and_goes_on_without_a_gap_or_a_double(tmp_path):
    killed = (
        "import os, sys, eventlog\n"
        "run = eventlog.open_run(sys.argv[1], run_name='r', save_interval=0)\n"
        "for i in range(8): run.log_iter(i, 6.0 - i / 10, 50.0, 30.0)\n"
        "os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", killed, tmp_path], check=False)
    (path,) = tmp_path.glob("*.jsonl")
    following = follow_to_the_end(Following(path))
    generation = following.content.generation
    assert following.status == "interrupted"

    with eventlog.open_run(journal=path, from_iter=5, save_interval=0) as run:
        run.log_iter(5, 3.0, 50.0)
        follow_to_the_end(following)
        assert following.status == "running"
        run.log_iter(6, 2.9, 50.0)
    follow_to_the_end(following)

    assert following.status == "completed"
    assert following.iterations.iters.values.tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert following.content.generation > generation
    ((table, removed, _),) = following.content.superseded
    assert table == "iter"
    assert removed.iters.values.tolist() == [5, 6, 7]


def test_a_run_that_ended_in_a_segment_and_was_resumed_is_read_again_in_its_order(tmp_path):
    path = tmp_path / "run.jsonl"
    begin_run(path)
    following = follow_to_the_end(Following(path))
    resume_run_that_went_on(path, tmp_path / "fallback")

    follow_to_the_end(following)

    assert_shows_what_load_run_says(following, path)


def test_a_replaced_journal_is_read_again_and_the_old_one_shown_until_then(tmp_path):
    path, other = tmp_path / "run.jsonl", tmp_path / "other"
    path.write_bytes(b"".join(lines_of([[("open", -1), ("iter", 1), ("iter", 2)]])))
    other.write_bytes(
        line(0, SESSIONS[1], "open", run_name="other")
        + b"".join(line(n, SESSIONS[1], "iter", iter=n, loss=1.0) for n in range(1, 50))
    )
    following = follow_to_the_end(Following(path))

    os.replace(other, path)
    follow_to_the_end(following)

    assert following.run().run_name == "other"
    assert len(following.iterations) == 49


def test_a_journal_that_is_gone_is_an_error_in_a_line_and_comes_back(tmp_path):
    path = tmp_path / "run.jsonl"
    path.write_bytes(b"".join(lines_of([[("open", -1), ("iter", 1)]])))
    following = follow_to_the_end(Following(path))

    path.rename(tmp_path / "away")
    following.read_on()
    assert following.error == "No such file or directory"
    (tmp_path / "away").rename(path)
    follow_to_the_end(following)

    assert following.error == ""
    assert len(following.iterations) == 1


def test_what_is_not_finite_is_kept_apart_and_breaks_the_line(tmp_path):
    path = tmp_path / "run.jsonl"
    losses = [1.0, float("nan"), float("nan"), float("inf"), 2.0]
    path.write_bytes(
        b"".join(line(i, event="iter", iter=i, loss=loss) for i, loss in enumerate(losses))
    )
    following = follow_to_the_end(Following(path))

    found = following.iterations.curve("loss", Axis("iter"))

    assert found.nonfinite == [(1.0, "nan"), (3.0, "inf")]
    assert np.isnan(found.y).tolist() == [False, True, True, True, False]
    assert np.isnan(found.means).tolist() == [False, True, True, True, False]


def test_a_journal_with_new_names_in_every_event_does_not_fill_the_memory(tmp_path):
    path = tmp_path / "run.jsonl"
    path.write_bytes(
        b"".join(
            line(i, event="iter", iter=i, **{f"key{i}": 1.0}, nonfinite={f"no{i}": "nan"})
            for i in range(2_000)
        )
    )

    following = follow_to_the_end(Following(path))

    assert len(following.iterations) == 2_000
    assert len(following.iterations.columns) <= 300
    assert len(following.iterations.nonfinite) <= 300


def test_every_column_of_a_wide_table_is_followed_through_a_resume(tmp_path):
    names = [f"key{k}" for k in range(1_000)]
    with eventlog.open_run(tmp_path, save_interval=0) as run:
        for i in range(4):
            run.log_iter(i, 3.0, 50.0, **{name: i + k / 1e4 for k, name in enumerate(names)})
    with eventlog.open_run(journal=run.journal_path, from_iter=2, save_interval=0) as run:
        run.log_iter(2, 3.0, 50.0, key0=-1.0, key999=-2.0)

    content = follow_to_the_end(Following(run.journal_path)).content

    assert {*names} < {*content.series()}
    for name, last in (("key0", -1.0), ("key500", None), ("key999", -2.0)):
        table, rows, column = content.find(name)
        found = curve(rows, column)
        start = int(name[3:]) / 1e4
        assert table == "iter"
        assert found == [(0, start), (1, 1 + start), *([(2, last)] if last else [])]


def test_the_text_of_a_record_names_what_is_not_finite():
    fields = {"iter": 7, "loss": None, "lr": None, "nonfinite": {"loss": "nan"}}
    record = eventlog.Record(1, SESSIONS[0], "", "iter", fields)

    assert record_text(record) == "7  loss nan"


def test_tokens_follow_the_sessions_that_change_them(tmp_path):
    path = tmp_path / "run.jsonl"
    path.write_bytes(
        line(0, event="open", run_id="r", metadata={"tokens_per_iter": 100})
        + b"".join(line(i + 1, event="iter", iter=i, loss=1.0) for i in range(4))
        + line(0, SESSIONS[1], "open", run_id="r", from_iter=2, metadata={"tokens_per_iter": 10})
        + b"".join(line(i, SESSIONS[1], "iter", iter=i + 1, loss=1.0) for i in range(1, 4))
    )
    following = follow_to_the_end(Following(path))

    axis = following.axis("tokens")

    assert axis.place(following.iterations, np.arange(5)).tolist() == [0, 100, 200, 210, 220]
    assert axis.rows(following.iterations, np.array([0.0, 150, 200, 215])).tolist() == [0, 2, 2, 4]


@pytest.mark.parametrize("has_run_json", [True, False])
def test_a_run_that_is_half_read_has_no_status_and_no_value_of_its_own(
    tmp_path, monkeypatch, has_run_json
):
    with eventlog.open_run(tmp_path, save_interval=0, durability="never") as run:
        for i in range(5_000):
            run.log_iter(i, 5.0 - i / 1_000)
    if has_run_json:
        eventlog.compact(run.journal_path)
    monkeypatch.setattr("tools.live.folders.SLICE_S", 0)
    folders = Folders([str(tmp_path)])
    folders.refresh()
    (entry,) = folders._entries.values()
    entry.following = entry.following or Following(entry.path)

    rows = []
    while folders.read_on():
        rows += folders.rows()
    rows += folders.rows()

    seen = {(row["status"], row["final_loss"]) for row in rows}
    assert len(rows) > 2
    assert (rows[-1]["status"], rows[-1]["final_loss"]) == ("completed", pytest.approx(0.001))
    assert {status for status, _ in seen} <= {"completed", *(() if has_run_json else ["reading"])}
    assert len({loss for status, loss in seen if status == "completed"}) == 1


def test_folders_are_complete_only_when_each_run_has_a_row_and_that_is_a_change(tmp_path):
    for k in range(3):
        with eventlog.open_run(tmp_path, run_name=f"r{k}", save_interval=0) as run:
            run.log_iter(0, 5.0)
    (tmp_path / "empty.jsonl").write_bytes(b"")
    folders = Folders([str(tmp_path)])
    folders.refresh()
    listed, version = len(folders.rows()), folders.version
    was_complete = folders.is_complete

    while folders.read_on():
        pass

    assert (listed, was_complete) == (0, False)
    assert folders.is_complete
    assert {row["run"].split("_")[0] for row in folders.rows()} >= {"r0", "r1", "r2"}
    assert folders.version > version
