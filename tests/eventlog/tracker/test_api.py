"""`init`, `log`, `finish`: the API of other trackers, with the guarantees of the journal."""

import argparse
import contextlib
import json
import math
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import eventlog
from eventlog.disk import Disk
from eventlog.fold.document import KEYS
from eventlog.read.ends import opening_event
from eventlog.tracker import api
from eventlog.write.repair import recover
from tests.eventlog.tracker.conftest import begin, loaded
from tests.strategies import any_text

pytestmark = pytest.mark.usefixtures("clean")


def the_file(pattern):
    (path,) = Path("out").glob(pattern)
    return path


def rows(run):
    return list(loaded(run).metrics)


# ---- logging


def test_each_step_is_one_row_and_the_guides_keys_do_not_change():
    with eventlog.init(dir="out", config={"lr": 0.1}) as run:
        run.log({"loss": 2.0, "words": "ok"})
        run.log({"loss": 1.0, "good": True})

    document = json.loads(run.run_path.read_bytes())
    assert document["metrics"] == [
        {"step": 0, "loss": 2.0, "words": "ok"},
        {"step": 1, "loss": 1.0, "good": True},
    ]
    assert [k for k in document if k != "metrics"] == list(KEYS)
    assert document["training_iterations"] == []
    assert document["summary"]["total_iterations"] == 0


def test_rows_of_metrics_are_formatted_as_all_others():
    with eventlog.init(dir="out") as run:
        run.log({"a": 1.5, "b": "x,y"})

    assert b'\n    {"step": 0, "a": 1.5, "b": "x,y"}\n' in run.run_path.read_bytes()


def test_a_run_without_metrics_has_no_such_key():
    with eventlog.init(dir="out") as run:
        pass

    document = json.loads(run.run_path.read_bytes())
    assert "metrics" not in document
    assert "metrics" not in document["journal"]


def test_several_calls_at_a_step_are_one_row():
    with begin() as run:
        run.log({"loss": 2.0}, step=5)
        run.log({"val": {"loss": 3.0, "top": {"1": 0.5}}}, step=5)
        run.log({"loss": 2.5}, step=5)

    assert rows(run) == [{"step": 5, "loss": 2.5, "val.loss": 3.0, "val.top.1": 0.5}]


def test_without_a_step_each_call_is_a_new_step_unless_commit_is_false():
    with begin() as run:
        run.log({"a": 0})
        run.log({"a": 1}, commit=False)
        run.log({"b": 1})
        run.log({"a": 7}, step=7)
        run.log({"b": 7})
        run.log({"a": 8})

    steps = [(row["step"], row.get("a"), row.get("b")) for row in rows(run)]
    assert steps == [(0, 0, None), (1, 1, 1), (7, 7, 7), (8, 8, None)]


def test_a_late_log_at_an_earlier_step_joins_its_row_and_supersedes_nothing():
    with begin() as run:
        for step in range(5):
            run.log({"loss": float(step)}, step=step)
        run.log({"val_loss": 9.0}, step=2)

    assert [row["step"] for row in rows(run)] == [0, 1, 2, 3, 4]
    assert rows(run)[2] == {"step": 2, "loss": 2.0, "val_loss": 9.0}
    assert "metrics" not in loaded(run).journal["superseded"]


def test_a_number_that_is_not_finite_is_listed_until_it_is_logged_again():
    with begin() as run:
        run.log({"a": math.nan, "b": -math.inf}, step=0)
        run.log({"a": math.inf}, step=1)
        run.log({"a": 1.0}, step=0)

    assert rows(run) == [
        {"step": 0, "a": 1.0, "b": None, "nonfinite": {"b": "-inf"}},
        {"step": 1, "a": None, "nonfinite": {"a": "inf"}},
    ]
    names = loaded(run).journal["metrics"]["names"]
    assert names["a"] == {
        "count": 2,
        "last": None,
        "step": 1,
        "nonfinite": {"last": "inf"},
        "n_nonfinite": 1,
        "min": 1,
        "min_step": 0,
        "max": 1,
        "max_step": 0,
        "superseded": 1,
    }


def test_a_run_with_an_id_does_not_wait_where_folders_cannot_be_locked(monkeypatch):
    monkeypatch.setattr(Disk, "lock", lambda self, fd: None)
    monkeypatch.setattr(time, "sleep", lambda s: pytest.fail("waited for a lock"))

    with begin(id="a", resume="allow") as run:
        assert run.session is not None


def test_sync_of_a_run_makes_all_that_was_logged_durable():
    with begin() as run:
        run.log({"loss": 1.0})

        assert run.sync()
        assert run.sync(None) is False
        assert run.durable_records == run.records == 2


def test_reserved_names_get_a_suffix_and_no_value_is_lost():
    own = {"step": 1, "n": 2, "s": 3, "t": 4, "event": 5, "crc": 6, "durable": 7, "nonfinite": 8}
    with begin() as run:
        run.log(own | {"n_": 9, "iter": 10})

    (row,) = rows(run)
    assert row.pop("step") == 0
    assert sorted(row.values()) == list(range(1, 11))


@given(
    st.lists(
        st.tuples(
            st.dictionaries(
                any_text | st.integers() | st.sampled_from(["step", "a", "a.b", "nonfinite", "n"]),
                st.recursive(
                    st.none()
                    | st.booleans()
                    | st.integers()
                    | st.floats()
                    | any_text
                    | st.binary(max_size=3)
                    | st.builds(object),
                    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(any_text, inner),
                    max_leaves=5,
                ),
                max_size=4,
            )
            | st.none()
            | st.integers(),
            st.none() | st.integers() | st.floats() | any_text,
            st.none() | st.booleans(),
        ),
        max_size=4,
    )
)
def test_logging_any_value_never_raises_and_the_run_can_be_read(calls):
    with begin() as run:
        for data, step, commit in calls:
            run.log(data, step=step, commit=commit)

        logged_run = loaded(run)
    good = [step for data, step, _ in calls if isinstance(data, dict)]
    assert logged_run.journal["events"].get("metrics", 0) == len(good)
    assert run.errors == len(calls) - sum(map(is_step, good))
    assert logged_run.journal["defects"] == []
    steps = [row["step"] for row in logged_run.metrics]
    assert steps == sorted(set(steps))
    b"".join(logged_run.to_json()).decode()


def is_step(value):
    is_number = type(value) is int or (type(value) is float and value.is_integer())
    return value is None or (is_number and -(2**63) <= value < 2**63 - 1)


@pytest.mark.parametrize("step", ["7", 0.5, math.nan, 2**63, [1], print])
def test_a_step_that_is_none_is_counted_reported_once_and_its_values_are_logged(step, capsys):
    with begin(quiet=True) as run:
        run.log({"a": 1}, step=step)
        run.log({"a": 2}, step=step)
        run.rewind(step)

    assert run.errors == 3
    assert [row["a"] for row in rows(run)] in ([1, 2], [2])
    (line,) = capsys.readouterr().err.splitlines()
    assert "step" in line


def test_a_log_at_an_earlier_step_does_not_decrease_the_runs_step():
    with begin() as run:
        run.log({"a": 1}, step=10)
        run.log({"b": 2}, step=3, commit=True)
        run.log({"c": 3})

    assert [row["step"] for row in rows(run)] == [3, 10]
    assert rows(run)[-1] == {"step": 10, "a": 1, "c": 3}


def test_never_refuses_an_existing_id_but_not_an_existing_name():
    begin(name="mine").finish()

    run = begin(name="mine", resume="never")
    run.finish()

    assert not run.resumed
    assert len(list(Path("out").glob("mine_*.jsonl"))) == 2


values = st.integers(0, 3) | st.floats(width=16) | st.sampled_from(["x", True, None])
history = st.lists(
    st.tuples(
        st.sampled_from(["log", "log", "log", "rewind", "resume"]),
        st.integers(0, 6),
        st.dictionaries(st.sampled_from("abc"), values, min_size=1, max_size=2),
    ),
    max_size=12,
)


@given(history)
def test_any_history_of_logs_rewinds_and_resumes_equals_a_dict_of_dicts(story):
    run, cells, session = begin(), {}, 0  # of each step and name: the value, and who logged it
    for what, step, data in story:
        if what == "log":
            run.log(data, step=step)
            for name, value in data.items():  # it supersedes what earlier sessions have from there
                for at in [at for at, other in cells if other == name and at >= step]:
                    if cells[at, name][1] != session:
                        del cells[at, name]
                cells[step, name] = value, session
        else:
            if what == "rewind":
                run.rewind(step)
            else:
                run.finish()
                run, session = begin(id=run.id, rewind_to=step), session + 1
            cells = {(at, name): cell for (at, name), cell in cells.items() if at < step}
    run.finish()
    expected = {}
    for (step, name), (value, _) in cells.items():
        expected.setdefault(step, {})[name] = value

    def plain(value):
        return repr(value) if isinstance(value, float) and not math.isfinite(value) else value

    def row(fields):
        return {k: v for k, v in fields.items() if k not in ("step", "nonfinite")} | fields.get(
            "nonfinite", {}
        )

    assert {fields["step"]: row(fields) for fields in loaded(run).metrics} == {
        step: {k: plain(v) for k, v in data.items()} for step, data in sorted(expected.items())
    }
    metrics = loaded(run).journal.get("metrics", {"rows": 0, "names": {}})
    assert metrics["rows"] == len(expected)
    for name, of_name in metrics["names"].items():
        numbers = [
            data[name]
            for data in expected.values()
            if type(data.get(name)) in (int, float) and math.isfinite(data[name])
        ]
        assert of_name.get("min") == min(numbers, default=None)
        assert of_name.get("max") == max(numbers, default=None)


def test_a_log_after_the_end_is_counted_and_does_not_raise(capsys):
    run = begin()
    run.finish()
    run.log({"loss": 1.0})

    assert run.errors == 1
    assert "not logged" in capsys.readouterr().err


# ---- config, summary, tags, notes


def test_config_and_summary_are_in_the_journal_when_the_call_returns():
    run = begin(config=argparse.Namespace(lr=0.1, layers=[1, 2]))
    run.config.update({"seed": 7, "n": 3})
    run.config.lr = 0.2
    run.log({"loss": 2.0})
    run.summary["best"] = 1.5
    run.summary.update({"worst": math.nan, "gone": 1})
    del run.summary["gone"]

    logged_run = loaded(run)  # of a live run: nothing was closed
    assert logged_run.config == {"lr": 0.2, "layers": [1, 2], "seed": 7, "n": 3}
    assert logged_run.journal["summary"] == {"best": 1.5, "worst": "nan"}
    assert run.config["lr"] == run.config.lr == 0.2
    assert (run.summary["loss"], run.summary.best) == (2.0, 1.5)


@pytest.mark.parametrize(
    "args",
    [([("a", 1)],), ({"a": 1}, True), (zip(["a"], [1], strict=True),), ({"a": 1}.items(),)],
)
def test_a_config_is_updated_as_a_dict_and_as_in_wandb(args):
    with begin() as run:
        run.config.update(*args)

    assert dict(run.config) == {"a": 1}
    assert loaded(run).config == {"a": 1}


def test_tags_and_notes_are_logged_once_however_often_the_run_is_resumed():
    with begin(name="a", tags=["x", "y"], notes="why") as run:
        pass
    with begin(name="a", tags=["x"], notes="why", resume="allow") as run:
        run.tags = ("y", "z")

    journal = loaded(run).journal
    assert journal["tags"] == ["y", "z"]
    assert [note["text"] for note in journal["notes"]] == ["why"]


def test_project_group_and_job_type_are_metadata():
    with begin(project="gpt", group="sweep", job_type="train") as run:
        pass

    assert loaded(run).metadata == {"project": "gpt", "group": "sweep", "job_type": "train"}


# ---- going on


def log_steps(run, steps, loss):
    for step in steps:
        run.log({"loss": loss}, step=step)


@pytest.mark.parametrize(
    "settings",
    [{"name": "a"}, {"id": "my-id"}, {"id": "my-id", "name": "a"}],
    ids=["name", "id", "both"],
)
def test_allow_resumes_a_run_or_begins_one(settings):
    with begin(**settings, resume="allow", config={"lr": 1, "seed": 2}) as first:
        log_steps(first, range(3), 1.0)
    with begin(**settings, resume="allow", config={"lr": 3}) as second:
        assert (second.step, second.resumed, second.id) == (3, True, first.id)
        assert second.summary["loss"] == 1.0
        second.log({"loss": 0.5})

    assert not first.resumed
    assert second.journal_path == first.journal_path
    assert [row["step"] for row in rows(second)] == [0, 1, 2, 3]
    assert loaded(second).config == {"lr": 3, "seed": 2}


def test_rewind_to_supersedes_that_step_and_all_later_ones():
    with begin(name="a") as run:
        log_steps(run, range(10), 1.0)
    with begin(name="a", rewind_to=6) as run:
        assert run.step == 6
        run.log({"loss": 2.0})

    assert {row["step"]: row["loss"] for row in rows(run)} == dict.fromkeys(range(6), 1.0) | {
        6: 2.0
    }
    assert loaded(run).journal["superseded"]["metrics"] == 4


A_RANK = """
import sys, eventlog
from eventlog.disk import Disk
from eventlog.tracker import location
class WithoutFolderLocks(Disk):
    def lock(self, fd): raise OSError(9, "Bad file descriptor")
if sys.argv[1] == "unlocked": location.DISK = WithoutFolderLocks()
print("ready", flush=True)
sys.stdin.readline()
run = eventlog.init(dir="out", id="job", resume="allow", quiet=True, save_interval=0)
run.log({"loss": 1.0})
print("begun", flush=True)
sys.stdin.readline()
"""


def run_ranks(folders):
    """Four ranks that begin at once, and end together; what each prints on stderr."""
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    command = [sys.executable, "-c", A_RANK, folders]
    ranks = [subprocess.Popen(command, text=True, **pipes) for _ in range(4)]
    for rank in ranks:
        rank.stdout.readline()
    for rank in ranks:
        rank.stdin.write("begin\n")
        rank.stdin.flush()
    for rank in ranks:
        rank.stdout.readline()
    messages = [rank.communicate("end\n", timeout=60)[1] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0] * 4, messages
    return messages


def test_of_ranks_that_all_begin_one_id_one_has_it_and_all_are_logged():
    """And of those that resume it."""
    for n_sessions in (1, 2):
        messages = run_ranks("locked")
        runs = [eventlog.load_run(path) for path in Path("out").glob("*.jsonl")]
        ids = [opening_event(path).fields["run_id"] for path in Path("out").glob("*.jsonl")]

        assert sum(len(run.metrics) for run in runs) == 4 * n_sessions
        assert ids.count("job") == 1
        assert sum("A new run with another id begins" in text for text in messages) == 3


def test_where_folders_cannot_be_locked_it_is_reported_that_several_began_one_id():
    messages = run_ranks("unlocked")

    assert sum(len(eventlog.load_run(path).metrics) for path in Path("out").glob("*.jsonl")) == 4
    assert any("only one is to call init" in text for text in messages)


@pytest.mark.parametrize("reinit", [None, "create_new"])
def test_a_forked_worker_that_begins_a_run_logs_into_it(reinit):
    def work():
        eventlog.init(dir="out", name="worker", reinit=reinit, save_interval=0)
        eventlog.log({"loss": 1.0})
        eventlog.finish()

    with eventlog.init(dir="out", name="parent", save_interval=0) as run:
        worker = multiprocessing.get_context("fork").Process(target=work)
        worker.start()
        worker.join()
        eventlog.log({"loss": 2.0})

    (journal,) = Path("out").glob("worker*.jsonl")
    of_worker, of_parent = eventlog.load_run(journal), eventlog.load_run(run.journal_path)
    assert worker.exitcode == 0
    assert [row["loss"] for row in of_worker.metrics] == [1.0]
    assert [row["loss"] for row in of_parent.metrics] == [2.0]
    assert (of_worker.status, of_parent.journal.get("ignored")) == ("completed", None)


ON_A_NODE = """
import os, sys, time, eventlog
from eventlog.write import provenance
node, offset_s, resume, ends = sys.argv[1], float(sys.argv[2]), *sys.argv[3:]
now, now_ns = time.time, time.time_ns
time.time, time.time_ns = lambda: now() + offset_s, lambda: now_ns() + int(offset_s * 1e9)
if node != "this": provenance.this_boot = lambda: node
run = eventlog.init(dir="out", name="mine", resume=resume, quiet=True, save_interval=0)
run.log({"loss": 1.0})
print(run.journal_path)
if ends == "killed": sys.stdout.flush(); os.kill(os.getpid(), 9)
"""


def on_a_node(*arguments):
    """The journal of a run whose node has a clock of its own."""
    command = [sys.executable, "-c", ON_A_NODE, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60).stdout.strip()


@pytest.mark.parametrize(
    ("first", "second"), [("this", "this"), ("a", "b")], ids=["clock_set_back", "two_machines"]
)
def test_the_killed_run_is_resumed_by_name_also_if_its_clock_was_behind(first, second):
    completed = on_a_node(first, "0", "never", "completes")
    killed = on_a_node(second, "-3600", "never", "killed")

    assert completed != killed
    assert on_a_node(second, "-3500", "allow", "completes") == killed


def test_a_run_that_was_killed_long_ago_is_not_resumed_by_name_in_place_of_a_later_one():
    on_a_node("a", "-3600", "never", "killed")
    completed = on_a_node("b", "0", "never", "completes")

    assert on_a_node("b", "0", "allow", "completes") == completed


def recovered(out):
    """The earlier one had a torn line."""
    journal = min(out.glob("*.jsonl"))
    changed_s = journal.stat().st_mtime
    with journal.open("ab") as file:
        file.write(b'{"n":99,"to')
    os.utime(journal, (changed_s, changed_s))
    assert recover(journal)


def copied(out):
    """Copied much later than they were written, the later run first."""
    for journal in sorted(out.glob("*.jsonl"), reverse=True):
        changed_s = journal.stat().st_mtime + 7200
        os.utime(journal, (changed_s, changed_s + (journal.name == min(os.listdir(out)))))


@pytest.mark.parametrize("changed", [recovered, copied])
def test_files_that_were_changed_after_the_runs_do_not_decide_which_is_the_latest(changed):
    killed = on_a_node("a", "-3", "never", "killed")
    completed = on_a_node("b", "0", "never", "completes")
    assert sorted(map(str, Path("out").absolute().glob("*.jsonl"))) == [killed, completed]

    changed(Path("out"))

    assert on_a_node("c", "0", "allow", "completes") == completed


def test_resume_from_keeps_the_step_it_names_as_in_wandb():
    with begin(id="abc") as run:
        log_steps(run, range(10), 1.0)
    with begin(resume_from="abc?_step=6") as run:
        assert run.step == 7

    assert len(rows(run)) == 7


def test_a_session_that_repeats_steps_without_a_rewind_supersedes_them():
    with begin(name="a") as run:
        log_steps(run, range(8), 1.0)
    with begin(name="a", resume="allow") as run:
        log_steps(run, range(5, 7), 2.0)

    assert [row["loss"] for row in rows(run)] == [1.0] * 5 + [2.0] * 2
    assert loaded(run).journal["superseded"]["metrics"] == 3


def test_repeated_iterations_supersede_the_metrics_too():
    with begin() as run:
        for i in range(6):
            run.session.log_iter(i, 1.0)
            run.log({"extra": i}, step=i)
        run.session.log_iter(3, 2.0)

    assert [row["step"] for row in rows(run)] == [0, 1, 2]


def test_resume_must_never_and_auto():
    with pytest.raises(eventlog.EventlogError, match=r"no run named a .* resume='allow'"):
        begin(name="a", resume="must")
    with begin(name="a", id="i") as done:
        pass
    with pytest.raises(eventlog.EventlogError, match="run i already"):
        begin(id="i", resume="never")

    with begin(name="a", resume="auto") as new:
        assert new.journal_path != done.journal_path
    crashed = begin(name="a", id="j")
    crashed._finish("interrupted")
    with begin(name="a", resume=True) as again:
        assert again.id == "j"
    with begin(resume="must") as latest:
        assert latest.id == "j"


TOKEN = "hf_" + "Ab1Cd2Ef3Gh4Ij5Kl6Mn7Op8Qr9"


@pytest.mark.parametrize(
    "begin_wrongly",
    [
        lambda: begin(name=TOKEN, resume="must"),
        lambda: begin(id=TOKEN, resume="must"),
        lambda: begin(resume=TOKEN),
        lambda: begin(fork_from=TOKEN),
        lambda: begin(fork_from=f"{TOKEN}?_step=x"),
        lambda: begin(name="m", save_interval=TOKEN),
        lambda: begin(name="m", config_include_keys=TOKEN, config={TOKEN: 1}),
        lambda: begin(name="m").define_metric("a", goal=TOKEN),
        lambda: eventlog.say(f"no run {TOKEN}"),
    ],
)
def test_no_message_has_a_credential(begin_wrongly, capsys):
    text = ""
    try:
        begin_wrongly()
    except (eventlog.EventlogError, ValueError) as error:
        text = str(error)

    assert TOKEN[:12] not in text + capsys.readouterr().err


def test_a_new_run_with_an_existing_id_overwrites_no_run(capsys):
    with begin(id="i") as first:
        first.log({"loss": 1.0})
    with begin(id="i") as second:
        second.log({"loss": 2.0})

    assert (rows(first)[0]["loss"], rows(second)[0]["loss"]) == (1.0, 2.0)
    assert second.id != "i"
    assert "resume='allow'" in capsys.readouterr().err


@pytest.mark.parametrize("by", ["id", "path", "pair"])
def test_a_fork_begins_with_a_copy_of_the_others_history(by):
    with begin(id="i", config={"lr": 1}, tags=["old"]) as first:
        first.session.log_eval(0, 2.0, 3.0)
        first.session.log_iter(0, 2.5, grad_norm=math.nan)
        log_steps(first, range(10), 1.0)
    before = first.journal_path.read_bytes()
    source = {"id": "i?_step=4", "path": f"{first.journal_path}?_step=4", "pair": ("i", 4)}[by]

    with begin(fork_from=source, config={"lr": 2}) as fork:
        assert (fork.step, fork.resumed) == (5, False)
        fork.log({"loss": 0.5})

    run = loaded(fork)
    assert [row["loss"] for row in run.metrics] == [1.0] * 5 + [0.5]
    assert (run.eval_steps, list(run.training_iterations)) == (
        loaded(first).eval_steps,
        list(loaded(first).training_iterations),
    )
    assert run.config == {"lr": 2}
    assert run.metadata["forked_from"]["step"] == 4
    assert run.journal["tags"] == []
    assert fork.id != "i"
    assert first.journal_path.read_bytes() == before


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"resume": "mayb"}, "resume='mayb'"),
        ({"rewind_to": "7"}, "rewind_to='7'"),
        ({"rewind_to": 2**70}, "must be a step, a whole number >= 0"),
        ({"rewind_to": -4}, "rewind_to=-4: must be a step, a whole number >= 0"),
        ({"fork_from": "x?_step=y"}, "_step=200"),
    ],
)
def test_an_impossible_argument_of_init_is_refused_in_one_line(settings, message):
    with pytest.raises(ValueError, match=message) as refusal:
        begin(**settings)
    assert "\n" not in str(refusal.value)


def test_a_fork_of_an_unknown_run_is_refused():
    with pytest.raises(eventlog.EventlogError, match="no run x to fork"):
        begin(fork_from="x?_step=3")


# ---- modes, environment, names


def test_disabled_logs_nothing_and_every_method_can_be_called():
    with eventlog.init(mode="disabled", dir="out", config={"a": 1}) as run:
        run.log({"loss": 1.0})
        run.summary["x"] = 2
        run.config.b = 3
        run.tags = ["t"]
        run.log_checkpoint(1, "p")
        run.rewind(0)
        assert (run.config.as_dict(), run.summary["loss"]) == ({"a": 1, "b": 3}, 1.0)

    assert not os.path.exists("out")
    assert (run.journal_path, run.errors) == (None, 0)


def test_defaults_come_from_environment_variables(monkeypatch, tmp_path):
    settings = {
        "DIR": str(tmp_path / "here"), "PROJECT": "p", "NAME": "n", "RUN_ID": "i",
        "TAGS": "a, b", "GROUP": "g", "NOTES": "why", "RESUME": "allow",
    }  # fmt: skip
    for name, value in settings.items():
        monkeypatch.setenv(f"EVENTLOG_{name}", value)
    monkeypatch.setenv("WANDB_JOB_TYPE", "eval")
    monkeypatch.setenv("EVENTLOG_MODE", "offline")
    monkeypatch.setenv("WANDB_MODE", "disabled")  # ours counts

    with eventlog.init(save_interval=0) as first:
        pass
    with eventlog.init(save_interval=0, project="q") as run:
        pass

    assert run.journal_path == first.journal_path
    assert run.journal_path.parent == tmp_path / "here"
    assert (run.id, run.name, run.tags, run.notes) == ("i", "n", ("a", "b"), "why")
    assert loaded(run).metadata == {"project": "q", "group": "g", "job_type": "eval"}


def test_unsupported_arguments_and_names_of_wandb_are_accepted_and_reported_once(capsys):
    for _ in range(2):
        with begin(entity="me", anonymous="must", mode="online") as run:
            eventlog.watch(object(), log="all")
            run.define_metric("loss", summary="min")
            table = eventlog.Table(columns=["a", "b"])
            table.add_data(1, 2)
            run.log({"t": table, "i": [eventlog.Image("x.png", caption="c")]}, step=0)
            eventlog.plot.line_series(xs=[], ys=[])

    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == len(set(lines)) == 7
    table_text = "Table with columns a, b; its rows are not logged"
    assert rows(run) == [{"step": 0, "t_": table_text, "i": ["Image x.png (c)"]}]


def test_an_unknown_name_raises_attribute_error():
    with pytest.raises(AttributeError, match="'lgo'"):
        _ = eventlog.lgo
    with begin() as run, pytest.raises(AttributeError, match="'lgo'"):
        _ = run.lgo


def test_run_config_and_summary_of_the_module_are_those_of_the_latest_run(capsys):
    assert eventlog.run is None
    eventlog.log({"loss": 1.0})  # nothing to log to: a word, no exception
    assert "init()" in capsys.readouterr().err
    run = begin(config={"lr": 0.1})
    eventlog.log({"loss": 1.0}, step=3)
    eventlog.config.update({"b": 1}, allow_val_change=True)
    eventlog.summary["x"] = 1
    eventlog.alert("title", "text")
    assert eventlog.run is run
    eventlog.finish(exit_code=2)

    logged_run = loaded(run)
    assert eventlog.run is None
    assert (logged_run.config, logged_run.journal["summary"]) == ({"lr": 0.1, "b": 1}, {"x": 1})
    assert logged_run.journal["notes"][0]["text"] == "title: text"
    assert (logged_run.status, logged_run.journal["reason"]) == ("failed", "exit code 2")


def test_a_second_init_finishes_the_first_run_unless_reinit_says_otherwise():
    first = begin()
    beside = begin(reinit="create_new")
    assert eventlog.run is first
    assert begin(reinit="return_previous") is first
    second = begin()

    assert loaded(first).status == "completed"
    assert (eventlog.run, loaded(beside).status) == (second, "running")
    beside.finish()


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("n" * 240, marks=pytest.mark.slow),
        pytest.param("ü" * 200, marks=pytest.mark.slow),
        "🙂" * 100,
        "a" * 5000,
    ],
)
def test_a_name_too_long_for_a_file_is_complete_in_the_run(name):
    with eventlog.init(dir="out", name=name) as run:
        run.log({"loss": 1.0})
        run.session.log("big", text="x" * (1 << 20))  # is set aside under a longer name still
    eventlog.annotate(run.journal_path, "note", text="also beside it")
    with eventlog.init(dir="out", name=name, resume="must") as again:
        pass

    assert loaded(run).run_name.startswith(f"{name}_2")
    assert (run.errors, again.id) == (0, run.id)
    assert all(len(os.fsencode(file)) <= 255 for file in os.listdir("out"))


# ---- how a program ends


def run_program(code, *arguments):
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("last_words", "status", "reason"),
    [
        ("pass", "completed", None),
        ("sys.exit(0)", "completed", None),
        ("sys.exit(3)", "failed", "exit code 3"),
        ("sys.exit(143)", "interrupted", "exit code 143"),
        ("1 / 0", "failed", "ZeroDivisionError: division by zero"),
        ("raise KeyboardInterrupt", "interrupted", "KeyboardInterrupt"),
    ],
)
def test_an_unfinished_run_gets_its_status_from_how_the_program_ended(last_words, status, reason):
    run_program(
        f"import eventlog, sys\neventlog.init(save_interval=0).log({{'a': 1}})\n{last_words}"
    )

    run = eventlog.load_run(the_file("*.jsonl"))
    assert (run.status, run.journal["reason"]) == (status, reason)


KILLED = """
import os, sys, eventlog
run = eventlog.init(name="killed", resume="allow", rewind_to=None, save_interval=0)
for step in range(int(sys.argv[1]), 10**9):
    run.log({"loss": 1.0 / (step + 1), "epoch": step // 10}, step=step)
    os.write(1, b"%d\\n" % step)
"""


def test_a_run_killed_many_times_loses_nothing_acknowledged():
    begin_at = 0
    for n_lines in (40, 7, 90):
        command = [sys.executable, "-c", KILLED, str(begin_at)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            for _ in range(n_lines):
                process.stdout.readline()
            process.kill()
            rest = process.stdout.read()
        last_step = begin_at + n_lines - 1 + rest.count(b"\n")

        run = eventlog.load_run(the_file("*.jsonl"))
        steps = [row["step"] for row in run.metrics]
        assert process.returncode == -signal.SIGKILL
        assert steps[: last_step + 1] == list(range(last_step + 1))
        assert len(steps) - last_step - 1 in (0, 1)
        assert all(row["loss"] == 1.0 / (row["step"] + 1) for row in run.metrics)
        begin_at = last_step - 5


SCRIPT = """
import {library} as wandb
import random
from pathlib import Path

wandb.login()
run = wandb.init(
    project="my-awesome-project",
    entity="my-team",
    name="baseline",
    config={{"learning_rate": 0.02, "architecture": "CNN", "epochs": 10}},
    tags=["baseline", "paper1"],
    settings=wandb.Settings(console="off"),
)
wandb.define_metric("val/acc", summary="max")
wandb.config.update({{"batch_size": 32}}, allow_val_change=True)
offset = random.Random(wandb.config.epochs).random() / 5
Path("model.pt").write_text("weights")
table = wandb.Table(columns=["image", "prediction"])
for epoch in range(1, wandb.config["epochs"] + 1):
    acc = 1 - 2**-epoch - offset / epoch
    loss = 2**-epoch + offset / epoch
    wandb.log({{"train/loss": loss, "epoch": epoch}}, commit=False)
    wandb.log({{"val/acc": acc, "images": [wandb.Html("<b>a cat</b>")]}})
    if acc > wandb.run.summary.get("best", 0):
        wandb.run.summary["best"] = acc
    table.add_data("x.png", "cat")
artifact = wandb.Artifact("model", type="model")
artifact.add_file("model.pt")
wandb.log_artifact(artifact)
wandb.alert(title="Done", text=f"accuracy {{acc:.2f}}", level=wandb.AlertLevel.INFO)
wandb.finish()
"""


def test_a_wandb_script_runs_with_another_import_line():
    done = run_program(SCRIPT.format(library="eventlog"))

    assert done.returncode == 0, done.stderr
    run = eventlog.load_run(the_file("*.json"))
    assert [row["epoch"] for row in run.metrics] == list(range(1, 11))
    assert all({"train/loss", "val/acc", "images"} <= row.keys() for row in run.metrics)
    assert (run.status, run.config["batch_size"]) == ("completed", 32)
    assert run.journal["summary"]["best"] == run.metrics[-1]["val/acc"]
    assert run.journal["tags"] == ["baseline", "paper1"]
    assert "Done: accuracy" in run.journal["notes"][0]["text"]
    assert done.stderr.count("\n") < 15


@pytest.mark.slow
def test_that_script_also_runs_with_wandb_itself(monkeypatch):
    """pip install wandb && pytest -m slow -n 0 tests/eventlog/tracker/test_api.py"""
    if find_spec("wandb") is None:
        pytest.skip("pip install wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_API_KEY", 40 * "x")

    done = run_program(SCRIPT.format(library="wandb"))

    assert done.returncode == 0, done.stderr
    assert list(Path("wandb").glob("offline-run-*/*.wandb"))


def test_importing_the_api_does_not_hide_modules():
    assert KEYS[0] == "run_name"
    assert api.init is eventlog.init


def test_a_forked_child_logs_nothing_and_does_not_end_the_run():
    run = begin()
    run.log({"a": 1})
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            run.log({"a": 2})
            run.finish()
        os._exit(0)
    os.waitpid(child, 0)
    run.log({"a": 3})
    run.finish()

    assert [row["a"] for row in rows(run)] == [1, 3]
    assert loaded(run).status == "completed"


def test_a_forked_child_does_not_say_that_values_are_replaced(capfd):
    run = begin()
    run.log({"a": 1}, step=5)
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            run.log({"a": 2}, step=5)
        os._exit(0)
    os.waitpid(child, 0)
    run.finish()

    assert "replace" not in capfd.readouterr().err


def test_a_misspelled_argument_of_log_is_reported(capsys):
    with begin() as run:
        run.log({"a": 1}, stp=3)
        run.log({"a": 2}, sync=True)

    assert run.errors == 1
    assert "log: stp: unknown argument, ignored" in capsys.readouterr().err
    assert [row["a"] for row in rows(run)] == [1, 2]


def test_it_says_once_that_values_are_replaced(capsys):
    with begin() as run:
        for _ in range(3):
            for step in range(5):
                run.log({"loss": float(run.step + step)}, step=step)

    assert capsys.readouterr().err.count("was logged again, or after a later one") == 1
    assert loaded(run).journal["superseded"]["metrics"] > 0


def test_it_says_so_of_a_second_value_at_a_step(capsys):
    with begin() as run:
        run.log({"loss": 1.0}, step=1)
        run.log({"loss": 2.0}, step=1)

    assert "step 1 was logged again" in capsys.readouterr().err


def test_it_says_nothing_where_names_of_one_step_are_logged_one_by_one(capsys):
    with begin() as run:
        for step in range(3):
            for name in "abc":
                run.log({name: step, "epoch": 1}, step=step)

    assert "logged again" not in capsys.readouterr().err
    assert "metrics" not in loaded(run).journal["superseded"]


def test_a_metric_of_a_later_session_leaves_all_others_as_they_are(tmp_path):
    with begin(name="m") as run:
        for step in range(100):
            run.log({"loss": step}, step=step)
    with begin(id=run.id, resume="must") as again:
        for step in (70, 10, 40, 0):
            again.log({"test/acc": step / 100}, step=step)

    series = loaded(again).series()
    assert (series["loss"].count, series["loss"].n_superseded) == (100, 0)
    assert [*loaded(again).points("test/acc")] == [(0, 0.0), (10, 0.1), (40, 0.4), (70, 0.7)]


def test_what_is_missing_of_a_resumed_run_is_said_when_it_is_resumed(tmp_path, capsys):
    with eventlog.init(dir=tmp_path, id="r", save_interval=0) as run:
        for i in range(9):
            run.log({"loss": 1.0}, step=i)
    lines = run.journal_path.read_bytes().splitlines(keepends=True)
    run.journal_path.write_bytes(b"".join(lines[:4] + lines[6:]))
    capsys.readouterr()

    eventlog.init(dir=tmp_path, id="r", resume="must", save_interval=0).finish()

    assert "2 events of earlier sessions are missing" in capsys.readouterr().err
