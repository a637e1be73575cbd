"""`import eventlog as wandb`: what scripts read, call, compare and catch is there."""

import copy
import math
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urlparse

import pytest

import eventlog
from eventlog.tracker.compatibility import REFUSED
from tests.eventlog.tracker.conftest import begin, loaded

pytestmark = pytest.mark.usefixtures("clean")


def events(run, kind):
    fields = [r.fields for r in eventlog.scan(run.journal_path) if r.event == kind]
    return [{k: v for k, v in one.items() if k != "durable"} for one in fields]


# ---- the names of W&B

OF_PYTHON = {"__builtins__", "__cached__", "__file__", "__loader__", "__name__", "__package__",
             "__path__", "__spec__", "__doc__", "__annotations__", "__all__"}  # fmt: skip


def test_every_name_of_the_module_wandb_exists_or_is_refused_with_a_reason():
    pytest.importorskip("wandb")
    program = "import wandb; print(*dir(wandb), *wandb.__all__)"  # no module of it is imported yet
    command = [sys.executable, "-W", "ignore", "-c", program]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    names = {name for name in printed if name == "__version__" or not name.startswith("_")}
    names -= {"annotations"}  # of `from __future__`

    missing = {name for name in names if not hasattr(eventlog, name) and name not in REFUSED}
    needless = {name for name in REFUSED if hasattr(eventlog, name)}

    assert (missing, needless) == (set(), set())


def test_every_name_of_a_run_of_wandb_exists():
    wandb = pytest.importorskip("wandb")
    names = {name for name in dir(wandb.sdk.wandb_run.Run) if not name.startswith("_")}
    run = begin()

    assert {name for name in names if not hasattr(run, name)} == set()


def test_every_argument_of_wandbs_init_is_accepted():
    wandb = pytest.importorskip("wandb")
    import inspect

    names = inspect.signature(wandb.init).parameters.keys()

    with begin(**dict.fromkeys(names - {"dir"})) as run:
        run.log({"loss": 1.0})
    assert len(loaded(run).metrics) == 1


@pytest.mark.parametrize("module", ["errors", "plot", "data_types"])
def test_every_name_of_these_modules_of_wandb_exists(module):
    wandb = pytest.importorskip("wandb")
    kind = type(wandb.errors)  # not the modules below it
    theirs = vars(getattr(wandb, module))
    names = {
        name
        for name, value in theirs.items()
        if not name.startswith("_") and not isinstance(value, kind)
    }

    assert {name for name in names if not hasattr(getattr(eventlog, module), name)} == set()


@pytest.mark.parametrize("name", REFUSED)
def test_a_refused_name_says_why(name):
    with pytest.raises(AttributeError, match=f"'{name}': {re.escape(REFUSED[name])}"):
        getattr(eventlog, name)


# ---- what is read of a run


def test_a_run_has_the_values_that_are_true_without_a_server():
    run = begin(project="gpt", entity="me", group="g", job_type="train", id="abc", name="mine")
    run.log({"a": 1})

    assert (run.entity, run.project, run.group, run.job_type) == ("me", "gpt", "g", "train")
    assert run.path == "me/gpt/abc"
    assert (run.mode, run.offline, run.disabled) == ("offline", True, False)
    assert (run.sweep_id, run.sweep_url) == (None, None)
    assert Path(unquote(urlparse(run.url).path)) == run.journal_path
    assert run.url == run.get_url()
    assert run.get_project_url() == run.project_url == run.journal_path.parent.as_uri()
    assert (run.step, run.starting_step, run.resumed) == (1, 0, False)
    assert (run.settings.mode, run.settings.run_id, run.settings.start_method) == (
        "offline",
        "abc",
        None,
    )
    assert loaded(run).metadata["entity"] == "me"


def test_a_resumed_run_has_the_values_of_its_first_session():
    with begin(id="a", project="p", group="g") as first:
        first.log({"x": 1}, step=4)
    with begin(id="a", resume="allow") as run:
        assert (run.project, run.group, run.starting_step) == ("p", "g", 5)
        assert run.start_time == first.start_time


def test_a_run_without_project_or_group_has_texts_for_them_as_in_wandb():
    run = begin(id="a")

    assert (run.project, run.entity, run.group, run.job_type) == ("uncategorized", "", "", "")
    assert run.path == "uncategorized/a"
    assert loaded(run).metadata == {}


@pytest.mark.parametrize("mode", ["offline", "disabled"])
def test_the_folder_of_a_run_is_its_own_and_a_file_can_be_written_to_it(mode):
    first, second = begin(mode=mode), begin(mode=mode, reinit="create_new")

    Path(os.path.join(eventlog.run.dir, "model.pt")).write_text("weights")

    assert first.dir == first.dir != second.dir
    assert Path(first.dir, "model.pt").read_text() == "weights"
    assert Path("out").exists() == (mode == "offline")
    second.finish()


def test_the_folder_of_a_run_is_beside_its_journal_and_not_made_until_it_is_read():
    run = begin()
    assert [path.suffix for path in Path("out").iterdir()] == [".jsonl"]

    assert Path(run.dir) == run.journal_path.with_suffix(".files")
    assert eventlog.compact(run.journal_path).journal["defects"] == []


def test_the_repr_of_a_run_says_which_it_is_and_where():
    run = begin(id="abc", name="mine")
    run.log({"a": 1}, step=6)

    assert repr(run) == f"<eventlog run 'mine', id 'abc', at step 6: {run.journal_path}>"
    run.finish()
    assert "finished" in repr(run)
    assert "disabled" in repr(begin(mode="disabled"))


def test_an_unknown_name_of_a_run_raises_attribute_error():
    run = begin()

    with pytest.raises(AttributeError, match="lgo"):
        _ = run.lgo
    assert copy.copy(run.config) == {}


# ---- what is caught and compared


def test_errors_of_wandb_are_classes_that_except_accepts():
    for name in ("Error", "CommError", "UsageError"):
        assert getattr(eventlog.errors, name) is getattr(eventlog, name)
        assert issubclass(getattr(eventlog, name), eventlog.Error)

    with pytest.raises(eventlog.Error):
        begin(id="a", resume="must")
    with pytest.raises(eventlog.errors.UsageError, match="resume='allow' begins one"):
        begin(id="a", resume="must")


def test_the_classes_of_wandb_are_classes_that_isinstance_accepts():
    run = begin()

    assert isinstance(run, eventlog.sdk.wandb_run.Run)
    assert isinstance(run, eventlog.wandb_run.Run)
    assert isinstance(run.config, eventlog.Config)
    for name in [
        "Table",
        "Image",
        "Histogram",
        "Html",
        "Audio",
        "Video",
        "Object3D",
        "Graph",
        "Artifact",
    ]:
        kind = getattr(eventlog, name)
        assert isinstance(kind("x"), kind)
        assert not isinstance(1.0, kind)
    assert isinstance(eventlog.Table(), eventlog.data_types.WBValue)


class Hostile:
    def __getattribute__(self, name):
        raise RuntimeError(name)

    __str__ = __repr__ = __bool__ = __eq__ = __iter__ = lambda *_: 1 / 0


@pytest.mark.parametrize("name", ["Table", "Image", "Histogram", "Html", "Artifact", "Plotly"])
def test_media_of_any_class_are_logged_as_text(name):
    kind = getattr(eventlog, name)
    with begin() as run:
        run.log({"m": kind(Hostile()), "k": kind(data=Hostile(), caption=Hostile()), "n": 1})

    assert run.errors == 0
    assert loaded(run).metrics[0]["m"].startswith(name)


class Frame:
    columns = ("a", "b", "c")
    values = type("Values", (), {"tolist": lambda _: [[1, 2, 3]] * 32_000})()

    def __len__(self):
        return 32_000


ROWS = [[1, 2, 3]] * 32_000


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((["a", "b", "c"], ROWS), {}),
        ((), {"columns": ["a", "b", "c"], "data": ROWS}),
        ((), {"columns": ["a", "b", "c"], "rows": ROWS}),
        ((), {"dataframe": Frame()}),
    ],
)
def test_the_text_of_a_table_says_how_many_rows_are_not_logged(arguments, named, capsys):
    with begin() as run:
        run.log({"table": eventlog.Table(*arguments, **named)})

    text = "Table of 32,000 rows with columns a, b, c; its rows are not logged"
    assert loaded(run).metrics[0]["table"] == text
    assert "Table: logged as text; its rows are not logged; a journal" in capsys.readouterr().err


def test_a_table_keeps_its_rows():
    table = eventlog.Table(columns=["a", "b"], data=[[1, 2]])
    table.add_data(3, 4)
    table.add_column("c", [5, 6])

    assert table.columns == ["a", "b", "c"]
    assert table.data == [[1, 2, 5], [3, 4, 6]]
    assert table.get_column("b") == [2, 4]
    assert list(table.iterrows()) == [(0, [1, 2, 5]), (1, [3, 4, 6])]
    assert pickle.loads(pickle.dumps(table)) == copy.deepcopy(table) == str(table)


def test_an_artifact_has_its_name_and_goes_through_all_calls():
    run = begin()
    artifact = eventlog.Artifact("model", type="weights", metadata={"k": 1})
    artifact.add_file("model.pt")
    with artifact.new_file("note.txt") as file:
        file.write("text")
    artifact.metadata["acc"] = 0.5

    logged = run.log_artifact(artifact, aliases=["best"]).wait()
    assert (logged.name, logged.type, logged.metadata) == ("model", "weights", {"k": 1, "acc": 0.5})
    assert run.use_artifact("data:latest").download() == os.path.join("artifacts", "data-latest")
    assert run.log_artifact("file.txt", name="x").name == "x"


def test_saved_files_stay_where_they_are_and_restore_opens_those_of_the_runs_folder():
    run = begin()
    Path("a.txt").write_text("a")
    Path(run.dir, "b.txt").write_text("b")

    assert run.save("*.txt") == [os.path.abspath("a.txt")]
    assert run.save(Hostile()) == run.save() == []
    with run.restore("b.txt") as file:
        assert file.read() == "b"
    assert run.restore("c.txt") is None


def test_lines_that_wandb_would_capture_are_lines_of_the_programs_log():
    with begin() as run:
        run.write_logs("hello")

    assert events(run, "log") == [{"text": "hello"}]


# ---- what needs the server


@pytest.mark.parametrize("name", ["sweep", "agent", "controller"])
def test_a_sweep_is_refused_with_what_to_use_instead(name):
    with pytest.raises(eventlog.errors.UnsupportedError, match=r"no server.*runs tune"):
        getattr(eventlog, name)({"method": "grid"})


def test_the_api_says_when_it_is_used_that_there_is_no_server():
    api = eventlog.Api(timeout=3)

    with pytest.raises(eventlog.CommError, match=r"no server.*load_run"):
        api.run("me/gpt/abc")


CALLS = {
    "login": lambda run: eventlog.login(key="x"),
    "setup": lambda run: eventlog.setup(),
    "watch": lambda run: eventlog.watch(object()),
    "save": lambda run: eventlog.save("x"),
    "log_code": lambda run: run.log_code("."),
    "mark_preempting": lambda run: run.mark_preempting(),
    "log_artifact": lambda run: eventlog.log_artifact("x"),
    "log_model": lambda run: run.log_model("x"),
    "use_model": lambda run: run.use_model("x"),
    "link_model": lambda run: run.link_model("x", "y"),
    "link_artifact": lambda run: run.link_artifact(eventlog.Artifact("a"), "y"),
}


@pytest.mark.parametrize("call", CALLS)
def test_what_has_no_use_does_nothing_and_is_reported_once_at_most(call, capsys):
    run = begin(quiet=True)
    for _ in range(3):
        CALLS[call](run)
    run.finish()

    lines = [line for line in capsys.readouterr().err.splitlines() if call in line]
    assert len(lines) == (call != "setup")
    assert run.errors == 0


@pytest.mark.parametrize("variable", ["EVENTLOG_SILENT", "WANDB_SILENT"])
def test_such_messages_can_be_turned_off_and_errors_cannot(variable, monkeypatch, capsys):
    monkeypatch.setenv(variable, "true")
    with begin() as run:
        eventlog.watch(object())
        run.log({"t": eventlog.Table(columns=["a"])})
        run.log(5)

    (line,) = capsys.readouterr().err.splitlines()
    assert "not logged" in line


# ---- where it logs


def test_a_run_says_once_where_it_logs(capsys):
    with begin(name="with space") as run:
        run.log({"a": 1})

    (line,) = capsys.readouterr().err.splitlines()
    path = run.journal_path
    assert line == f"eventlog: logging to {path}; follow with: tail -f '{path}'"


def test_a_resumed_run_says_which_step_was_logged_last(capsys):
    with begin(id="a", quiet=True) as run:
        run.log({"a": 1}, step=6)
    begin(id="a", resume="allow").finish()

    assert f"{run.journal_path}; its last logged step is 6;" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [{"quiet": True}, {"settings": eventlog.Settings(silent=True)}, {"mode": "disabled"}],
)
def test_a_quiet_run_says_nothing(arguments, capsys):
    begin(**arguments).finish()

    assert capsys.readouterr().err == ""


# ---- arguments


def test_fields_of_settings_are_arguments_and_what_is_passed_counts_more():
    settings = eventlog.Settings(
        project="p", run_id="i", run_name="n", run_group="g", run_tags=["t"], entity="e"
    )
    with begin(settings=settings, name="m") as run:
        pass
    with begin(settings={"run_id": "j", "mode": "disabled"}) as off:
        assert (off.id, off.disabled) == ("j", True)

    assert (run.id, run.name, run.group, run.tags, run.path) == ("i", "m", "g", ("t",), "e/p/i")


def test_an_argument_without_effect_is_reported_once(capsys):
    for _ in range(2):
        begin(quiet=True, sync_tensorboard=True, anonymous="must", save_code=False).finish()
        begin(quiet=True, settings=eventlog.Settings(console="off")).finish()

    assert capsys.readouterr().err.splitlines() == [
        "eventlog: init: sync_tensorboard: not supported, ignored",
        "eventlog: init: settings: console: not supported, ignored",
    ]


def test_keys_of_the_config_are_excluded_or_alone_included():
    config = {"a": 1, "b": 2, "c": 3}

    with begin(config=config, config_exclude_keys=["a"]) as run:
        assert loaded(run).config == {"b": 2, "c": 3}
    with begin(config=config, config_include_keys=["a", "b"]) as run:
        assert loaded(run).config == {"a": 1, "b": 2}


WANDB = {
    "DIR": "here", "PROJECT": "p", "ENTITY": "e", "NAME": "n", "RUN_ID": "i", "TAGS": "a, b",
    "RUN_GROUP": "g", "JOB_TYPE": "j", "NOTES": "why",
}  # fmt: skip


@pytest.mark.parametrize("resume", ["allow", "auto", "must"])
def test_a_run_is_resumed_by_the_variables_of_wandb(monkeypatch, resume):
    for name, value in WANDB.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    with eventlog.init(save_interval=0) as first:
        first.log({"a": 1})
    monkeypatch.setenv("WANDB_RESUME", resume)

    with eventlog.init(save_interval=0) as run:
        assert (run.resumed, run.step, run.id) == (True, 1, "i")

    assert run.journal_path == first.journal_path
    assert run.journal_path.parent.name == "here"
    assert (run.path, run.name, run.tags, run.notes) == ("e/p/i", "n", ("a", "b"), "why")
    assert (run.group, run.job_type) == ("g", "j")


def test_the_variable_never_refuses_a_run_id_that_exists(monkeypatch):
    begin(id="i").finish()
    monkeypatch.setenv("WANDB_RUN_ID", "i")
    monkeypatch.setenv("WANDB_RESUME", "never")

    with pytest.raises(eventlog.UsageError, match="run i already"):
        begin()


@pytest.mark.parametrize(
    ("variables", "is_disabled"),
    [
        ({"WANDB_MODE": "disabled"}, True),
        ({"WANDB_DISABLED": "true"}, True),
        ({"WANDB_DISABLED": "false"}, False),
        ({"WANDB_MODE": "online"}, False),
        ({"EVENTLOG_MODE": "offline", "WANDB_DISABLED": "true"}, False),
        ({"EVENTLOG_MODE": "disabled", "WANDB_MODE": "online"}, True),
    ],
)
def test_the_mode_comes_from_variables(monkeypatch, variables, is_disabled):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    assert begin().disabled == is_disabled
    assert not begin(mode="offline").disabled


# ---- config and summary


def test_what_is_set_before_init_is_part_of_the_next_run(capsys):
    held = eventlog.config
    eventlog.config.lr = 0.1
    eventlog.config.update({"seed": 1, "n": 2})
    eventlog.summary["best"] = 3
    assert (eventlog.config.lr, held["seed"]) == (0.1, 1)

    with begin(config={"n": 5}, quiet=True) as run:
        held.late = 4
        assert dict(run.config) == {"lr": 0.1, "seed": 1, "n": 5, "late": 4}
    with begin(quiet=True) as other:
        held.after = 1
    held.last = 2

    assert loaded(run).config == {"lr": 0.1, "seed": 1, "n": 5, "late": 4}
    assert loaded(run).journal["summary"] == {"best": 3}
    assert loaded(other).config == {"after": 1}
    assert capsys.readouterr().err.splitlines() == [
        "eventlog: config: set before init(), is part of the next run",
        "eventlog: summary: set before init(), is part of the next run",
    ]
    assert begin().config.last == 2


def resumed_summary(run):
    run.finish()
    with begin(id=run.id, resume="must") as again:
        return dict(again.summary)


def log_some(run):
    run.log({"a": 1, "b": 2.5, "text": "x", "none": None, "flag": True})
    run.log({"a": 3})


def set_some(run):
    log_some(run)
    run.summary["best"] = 1.5
    run.summary["a"] = 7
    run.summary.update({"nested": {"k": [1]}, "gone": 1})


def remove_some(run):
    set_some(run)
    del run.summary["gone"]
    del run.summary["b"]


def log_what_was_set(run):
    set_some(run)
    run.log({"a": 9})


def log_what_was_removed(run):
    remove_some(run)
    run.log({"b": 4})


def log_what_is_not_finite(run):
    run.log({"a": math.inf, "b": -math.inf})
    run.summary["worst"] = math.inf


def rewind_once(run):
    for step in range(5):
        run.log({"a": step}, step=step)
    run.rewind(2)
    run.log({"c": 1})


def log_many_names(run):
    run.log({f"m{i}": i for i in range(1500)})


@pytest.mark.parametrize(
    "change",
    [log_some, set_some, remove_some, log_what_was_set, log_what_was_removed,
     log_what_is_not_finite, rewind_once, log_many_names],
)  # fmt: skip
def test_the_summary_is_the_same_after_a_resume(change):
    run = begin(id="a")
    change(run)
    before = dict(run.summary)

    assert resumed_summary(run) == before
    with begin(id="a", resume="must") as twice:
        assert dict(twice.summary) == before


# ---- an id is one run


@pytest.mark.parametrize("resume", ["allow", "auto", True, "must"])
def test_a_run_that_completed_goes_on_in_its_journal_if_it_is_resumed_by_id(resume):
    with begin(id="i", name="n") as first:
        first.log({"a": 1})
    with begin(id="i", name="n", resume=resume) as second:
        second.log({"a": 2})

    assert second.journal_path == first.journal_path
    assert len(list(Path("out").glob("*.jsonl"))) == 1
    assert [row["a"] for row in loaded(second).metrics] == [1, 2]


# ---- define_metric


def test_a_definition_is_one_event_with_the_fields_that_were_passed():
    with begin() as run:
        for _ in range(3):
            epoch = run.define_metric("epoch", hidden=True)
            val = run.define_metric(
                "val/*", step_metric=epoch, step_sync=True, summary="min,last", goal="minimize",
                overwrite=True, unit="nats", description="of all tokens",
            )  # fmt: skip
        eventlog.define_metric("val/*", summary="max")

    assert (val.name, val.step_metric) == ("val/*", "epoch")
    assert events(run, "define") == [
        {"name": "epoch", "hidden": True},
        {"name": "val/*", "step_metric": "epoch", "step_sync": True, "summary": ["min", "last"],
         "goal": "minimize", "overwrite": True, "unit": "nats", "description": "of all tokens"},
        {"name": "val/*", "summary": ["max"]},
    ]  # fmt: skip
    assert loaded(run).journal["events"]["define"] == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": ""}, "name: must be"),
        ({"name": "a", "summary": "largest"}, "summary='largest': must be some of"),
        ({"name": "a", "summary": 5}, "summary=5: must be some of"),
        ({"name": "a", "goal": "up"}, "goal='up': must be one of"),
        ({"name": "a", "hidden": "no"}, "hidden='no': must be True or False"),
        ({"name": "a", "step_metric": 5}, "step_metric=5: must be text"),
        ({"name": "a", "goal": Hostile()}, "not logged"),
    ],
)
def test_an_impossible_definition_is_counted_and_reported_and_does_not_raise(
    arguments, message, capsys
):
    with begin(quiet=True) as run:
        run.define_metric(**arguments)

    assert run.errors == 1
    assert message in capsys.readouterr().err
    assert events(run, "define") == []


# ---- a script that ends in order


def test_teardown_finishes_the_run():
    run = begin()
    eventlog.teardown(exit_code=1)

    assert loaded(run).status == "failed"


def test_a_script_that_uses_all_of_it_ends_with_exit_code_0(tmp_path):
    script = """
import eventlog as wandb, os
wandb.login(); wandb.setup(); wandb.require("core")
run = wandb.init(project="p", config={"lr": 1})
wandb.define_metric("epoch"); run.define_metric("val/*", step_metric="epoch")
wandb.watch(object()); wandb.termlog("hello"); wandb.util.generate_id()
os.path.join(wandb.run.dir, "x"), run.url.split("/"), f"{run.start_time:.2f}", wandb.env.MODE
wandb.log({"t": wandb.Table(columns=["a"]), "p": wandb.plot.line(None, "a", "b", title="t")})
run.alert("t", "x", level=wandb.AlertLevel.WARN)
try: wandb.Api().runs("x")
except wandb.errors.CommError: pass
run.unwatch(); run.log_code(); run.mark_preempting(); run.finish(); wandb.teardown()
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True
    )

    assert (done.returncode, done.stdout) == (0, "")
