"""A failing disk or a strange config costs the log, not the training."""

import copy
import ctypes
import errno
import io
import math
import os
import pickle
import queue
import shutil
import signal
import stat
import subprocess
import sys
import threading
import weakref

import pytest
import torch

import eventlog
from eventlog.cli.main import main
from eventlog.disk import Disk
from eventlog.interruption import is_interruption
from eventlog.tracker import opening
from eventlog.tracker.annotation import Annotator
from eventlog.tracker.resume import find_journal


@pytest.fixture(autouse=True)
def _state(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def a_file(tmp_path):
    (tmp_path / "taken").write_text("mine")
    return tmp_path / "taken"


def in_a_file(tmp_path):
    return a_file(tmp_path) / "deeper"


def where_nothing_can_be_made(tmp_path):
    return "/proc/nowhere"


@pytest.mark.parametrize("folder", [a_file, in_a_file, where_nothing_can_be_made])
def test_if_the_folder_cannot_be_written_the_run_is_in_the_fallback(tmp_path, folder, capsys):
    with eventlog.init(
        dir=folder(tmp_path), fallback=tmp_path / "fallback", save_interval=0
    ) as run:
        run.log({"loss": 1.0})

    assert run.journal_path.parent == tmp_path / "fallback"
    assert eventlog.load_run(run.journal_path).metrics[0]["loss"] == 1.0
    assert str(run.journal_path) in capsys.readouterr().err


@pytest.mark.parametrize("resume", ["must", "allow", "auto"])
@pytest.mark.parametrize("elsewhere", ["fallback", None])
def test_a_run_in_the_fallback_is_resumed_there_by_its_id(tmp_path, elsewhere, resume, capsys):
    folders = {"dir": "/proc/nowhere", "save_interval": 0}
    folders |= {"fallback": tmp_path / elsewhere} if elsewhere else {}
    with eventlog.init(**folders, id="mine") as run:
        run.log({"loss": 1.0})

    folders["dir"] = tmp_path / "writable again"
    with eventlog.init(**folders, id="mine", resume=resume) as again:
        again.log({"loss": 0.5})

    assert (again.resumed, again.journal_path) == (True, run.journal_path)
    assert [row["loss"] for row in eventlog.load_run(run.journal_path).metrics] == [1.0, 0.5]
    with pytest.raises(eventlog.EventlogError, match="have no run other to resume"):
        eventlog.init(**folders, id="other", resume="must")
    with pytest.raises(eventlog.EventlogError, match="is run mine already"):
        eventlog.init(**folders, id="mine", resume="never")


def test_a_run_of_the_same_name_in_the_fallback_is_not_resumed(tmp_path):
    folders = {"fallback": tmp_path / "fallback", "save_interval": 0, "name": "n"}
    with eventlog.init(dir="/proc/nowhere", **folders) as run:
        run.log({"loss": 1.0})

    with eventlog.init(dir=tmp_path / "out", resume="allow", **folders) as other:
        other.log({"loss": 0.5})

    assert other.journal_path.parent == tmp_path / "out" != run.journal_path.parent


def test_without_a_fallback_the_run_is_written_to_the_users_state_folder(tmp_path):
    with eventlog.init(dir="/proc/nowhere", save_interval=0) as run:
        run.log({"loss": 1.0})

    assert run.journal_path.parent == tmp_path / "state" / "eventlog"


def test_if_no_folder_can_be_written_the_program_goes_on_and_events_are_counted(capsys):
    run = eventlog.init(dir="/proc/a", fallback="/proc/b", name="n", save_interval=0)
    run.log({"loss": 1.0})
    run.log({"loss": 0.5}, step=3)
    run.config.update({"lr": 1.0})
    run.log_checkpoint(1, "ckpt.pt")
    run.finish()

    assert run.errors >= 2
    assert not run.disabled
    assert run.summary["loss"] == 0.5
    assert "nothing of this run is logged" in capsys.readouterr().err


@pytest.fixture(params=[errno.EINVAL, errno.ENOTSUP], ids=errno.errorcode.get)
def unsupported(monkeypatch, request):
    """A function that makes syncs of one kind of file (`stat.S_ISDIR`, say) unsupported."""

    def refusing(call, kind):
        def sync(fd):
            if kind(os.fstat(fd).st_mode):
                raise OSError(request.param, os.strerror(request.param))
            call(fd)

        return sync

    def refuse(kind):
        for call in (os.fsync, os.fdatasync):
            monkeypatch.setattr(os, call.__name__, refusing(call, kind))

    return refuse


def init_in(folder, **settings):
    return eventlog.init(dir=folder, **settings)


KINDS = pytest.mark.parametrize("kind", [stat.S_ISDIR, stat.S_ISREG], ids=["folders", "files"])


@KINDS
@pytest.mark.parametrize("begin", [init_in, eventlog.open_run], ids=["init", "open_run"])
def test_where_folders_or_files_cannot_be_synced_a_run_begins_and_is_kept_there(
    tmp_path, unsupported, kind, begin
):
    unsupported(kind)

    with begin(tmp_path / "out", fallback=tmp_path / "fallback", save_interval=0) as run:
        getattr(run, "session", run).log_iter(0, 1.0)
    compacted = eventlog.compact(run.journal_path)

    assert (compacted.status, compacted.journal["defects"]) == ("completed", [])
    assert [row["iter"] for row in compacted.training_iterations] == [0]
    assert run.errors == 0
    assert not any((tmp_path / "fallback").iterdir())


@KINDS
@pytest.mark.parametrize("is_recovered", [False, True])
def test_where_folders_or_files_cannot_be_synced_a_killed_run_is_recovered_and_goes_on(
    tmp_path, unsupported, kind, is_recovered
):
    unsupported(kind)
    with eventlog.open_run(tmp_path, save_interval=0) as run:
        run.log_iter(0, 1.0)
    with open(run.journal_path, "ab") as file:
        file.write(b'{"n":3,"s":')

    if is_recovered:
        assert main(["recover", str(run.journal_path)]) == 0
    with eventlog.open_run(journal=run.journal_path, save_interval=0) as later:
        later.log_iter(1, 1.0)

    assert [*tmp_path.glob("*.torn")] != []
    assert later.errors == 0
    iterations = eventlog.load_run(run.journal_path).training_iterations
    assert [row["iter"] for row in iterations] == [0, 1]


@KINDS
def test_where_folders_or_files_cannot_be_synced_a_deleted_run_is_written_again(
    tmp_path, unsupported, kind
):
    unsupported(kind)
    run = eventlog.open_run(tmp_path / "out", save_interval=0, fallback=tmp_path / "fallback")
    run.log_iter(0, 1.0)

    shutil.rmtree(tmp_path / "out")
    run.log_iter(1, 1.0)
    run.close()

    iterations = eventlog.load_run(run.journal_path).training_iterations
    assert [row["iter"] for row in iterations] == [0, 1]
    assert not any((tmp_path / "fallback").iterdir())


@KINDS
def test_where_folders_or_files_cannot_be_synced_a_note_is_added(tmp_path, unsupported, kind):
    unsupported(kind)
    with eventlog.open_run(tmp_path, save_interval=0) as run:
        run.log_iter(0, 1.0)

    with Annotator(run.journal_path) as annotator:
        annotator.log("note", text="a good one")

    assert eventlog.load_run(run.run_path).journal["events"]["note"] == 1


class Missing(dict):
    """As `???` in OmegaConf: the name is there, and reading the value raises."""

    def __getitem__(self, name):
        if name == "data":
            raise ValueError("Missing mandatory value: data")
        return super().__getitem__(name)

    def items(self):
        raise ValueError("Missing mandatory value: data")


class Unreadable:
    @property
    def __dict__(self):
        raise RuntimeError("no")


class NotIterable(dict):
    def __iter__(self):
        raise RuntimeError("no")

    keys = items = values = __iter__


@pytest.mark.parametrize(
    "config", [Missing(lr=0.5, data="???"), Unreadable(), NotIterable(a=1), 5, "text", [1, 2]]
)
def test_a_run_begins_with_a_config_of_any_class(tmp_path, config):
    with eventlog.init(dir=tmp_path, config=config, save_interval=0) as run:
        run.config.update(config)
        run.log({"loss": 1.0})

    assert eventlog.load_run(run.journal_path).status == "completed"


def test_a_config_with_a_missing_value_keeps_the_others(tmp_path):
    with eventlog.init(dir=tmp_path, config=Missing(lr=0.5, data="???"), save_interval=0) as run:
        pass

    config = eventlog.load_run(run.journal_path).config
    assert config["lr"] == 0.5
    assert "Missing mandatory value" in config["data"]


def test_an_omegaconf_config_with_a_missing_value_keeps_the_others(tmp_path):
    omegaconf = pytest.importorskip("omegaconf")
    config = omegaconf.OmegaConf.create({"lr": 0.5, "data": "???", "model": {"depth": "???"}})
    with eventlog.init(dir=tmp_path, config=config, save_interval=0) as run:
        run.log({"loss": 1.0})

    assert eventlog.load_run(run.journal_path).config["lr"] == 0.5


@pytest.mark.parametrize("of", ["config", "summary"])
def test_copies_of_config_and_summary_are_plain_dicts(tmp_path, of):
    run = eventlog.init(dir=tmp_path, config={"lr": 0.5, "deep": {"er": [1]}}, save_interval=0)
    run.log({"loss": 1.0})
    values = getattr(run, of)
    events = run.session.records

    buffer = io.BytesIO()
    torch.save({"config": values}, buffer)
    buffer.seek(0)
    copies = [
        torch.load(buffer)["config"],
        copy.copy(values),
        copy.deepcopy(values),
        pickle.loads(pickle.dumps(values)),
    ]
    for other in copies:
        assert isinstance(other, dict)
        assert other == values
        other["mine"] = 1

    assert "mine" not in values
    assert run.session.records == events
    run.finish()


@pytest.mark.parametrize("mode", ["offline", "disabled", "refused"])
def test_a_log_call_of_any_thread_after_a_fork_does_not_wait_for_a_lock(tmp_path, mode):
    """Another thread held the run's lock when the process forked: the child must free it."""
    folder = "/proc/a" if mode == "refused" else tmp_path
    fallback = "/proc/b" if mode == "refused" else None
    run = eventlog.init(dir=folder, fallback=fallback, mode=mode, save_interval=0)
    is_held, is_over = threading.Event(), threading.Event()

    def hold():
        with run._lock:
            is_held.set()
            is_over.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    is_held.wait()
    child = os.fork()
    if not child:
        signal.alarm(10)
        run.log({"loss": 1.0})
        os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    is_over.set()
    thread.join()
    run.finish()


def test_a_bare_exception_class_is_only_an_interruption_where_nothing_raises_it():
    def raises():
        raise NotImplementedError

    with pytest.raises(NotImplementedError) as caught:
        raises()
    assert not is_interruption(caught.value)


def test_an_exception_of_c_code_in_a_values_repr_does_not_reach_the_loop(tmp_path):
    class Waits:
        def __repr__(self):
            return queue.SimpleQueue().get_nowait()

    with eventlog.init(dir=tmp_path, save_interval=0) as run:
        run.log({"a": Waits(), "b": 1})

    assert [*eventlog.load_run(run.journal_path).metrics] == [
        {"step": 0, "a": "<Waits: Empty>", "b": 1}
    ]


def test_an_exception_that_another_thread_sets_during_a_values_repr_reaches_the_loop(tmp_path):
    class Barked(Exception):
        pass

    class Loops:
        def __repr__(self):
            threading.Timer(0.05, bark).start()
            while True:
                pass

    def bark():
        ctypes.pythonapi.PyThreadState_SetAsyncExc(me, ctypes.py_object(Barked))

    me = ctypes.c_ulong(threading.get_ident())
    run = eventlog.init(dir=tmp_path, save_interval=0)
    with pytest.raises(Barked):
        run.log({"a": Loops()})
    run.finish()


# ---- arguments of the wrong kind


class Strange:
    """Has no text, no truth, and is equal to nothing without an error."""

    def __repr__(self):
        raise ValueError("no words")

    __str__ = __bool__ = __repr__
    __hash__ = object.__hash__

    def __eq__(self, other):
        raise ValueError("not compared")


class Lazy:
    """As a proxy whose object cannot be made."""

    @property
    def __class__(self):
        raise RuntimeError("not yet")


class Gone:
    pass


def dead():
    """A weak proxy of a deleted object."""
    return weakref.proxy(Gone())


def made(value):
    """pytest cannot hold these two."""
    return value() if value is dead or value is Lazy else value


STRANGE = [
    dead,
    Lazy,
    5,
    0.5,
    float("nan"),
    b"\xff\0",
    "a\0b",
    "a\ud800b",
    [1],
    {"a": 1},
    print,
    Strange(),
]
SETTINGS = (
    "project name config tags group job_type notes id mode dir fallback reinit durability "
    "save_interval settings entity config_exclude_keys config_include_keys quiet another"
)


@pytest.mark.parametrize("setting", SETTINGS.split())
@pytest.mark.parametrize("value", STRANGE, ids=range(len(STRANGE)))
def test_a_run_with_a_setting_of_any_class_logs_its_events(tmp_path, monkeypatch, setting, value):
    monkeypatch.chdir(tmp_path)

    with eventlog.init(**{"save_interval": 0, setting: made(value)}) as run:
        run.log({"loss": 1.0})

    assert [row["loss"] for row in eventlog.load_run(run.journal_path).metrics] == [1.0]


@pytest.mark.parametrize("text", ["a\ud800b", "a/b\udcff", "a\0b\ud800" * 60])
@pytest.mark.parametrize("known_by", ["name", "id"])
@pytest.mark.parametrize("begun_by", ["init", "open_run"])
def test_a_run_whose_name_has_a_lone_surrogate_is_found_again(tmp_path, text, known_by, begun_by):
    begin = {
        "init": lambda: eventlog.init(dir=tmp_path, save_interval=0, **{known_by: text}),
        "open_run": lambda: eventlog.open_run(
            tmp_path, save_interval=0, **{f"run_{known_by}": text}
        ),
    }[begun_by]
    with begin() as run:
        first = run.journal_path

    with eventlog.init(dir=tmp_path, resume="must", save_interval=0, **{known_by: text}) as run:
        assert run.journal_path == first
    assert find_journal(tmp_path, **{known_by: text}) == first


@pytest.mark.parametrize("setting", ["dir", "fallback", "durability", "save_interval"])
def test_a_setting_that_is_replaced_is_reported_on_stderr(tmp_path, monkeypatch, capsys, setting):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("eventlog.write.messages._printed", set())

    eventlog.init(**{"save_interval": 0, "quiet": True, setting: Strange()}).finish()

    lines = capsys.readouterr().err.splitlines()  # a slow compactor is reported as well
    (line,) = [line for line in lines if line.startswith("eventlog: init:")]
    assert f"{setting}=<Strange: ValueError>" in line
    assert "used instead" in line


@pytest.mark.parametrize("setting", ["resume", "rewind_to", "resume_from", "fork_from"])
@pytest.mark.parametrize("value", [5.5, [1], Strange()], ids=["float", "list", "strange"])
def test_a_run_to_resume_of_the_wrong_type_is_refused_in_one_line(tmp_path, setting, value):
    with pytest.raises(ValueError, match=r"\A.+\Z") as refusal:
        eventlog.init(dir=tmp_path, **{setting: value})

    assert len(str(refusal.value)) < 200


def test_a_config_key_that_is_not_a_string_becomes_one_at_any_depth(tmp_path):
    config = {5: "a", (1, 2): "b", "deep": {Strange(): "c", None: [{0.5: "d"}]}}
    with eventlog.init(dir=tmp_path, config=config, save_interval=0) as run:
        pass

    assert eventlog.load_run(run.journal_path).config == {
        "5": "a",
        "(1, 2)": "b",
        "deep": {"<Strange: ValueError>": "c", "None": [{"0.5": "d"}]},
    }


class Same:
    def __str__(self):
        return "same"


@pytest.mark.parametrize("where", ["log", "config", "deep"])
def test_thousands_of_keys_with_one_text_each_keep_their_value_under_a_short_name(tmp_path, where):
    values = {Same(): k for k in range(3000)}
    with eventlog.init(dir=tmp_path, config={"lr": 1}, save_interval=0) as run:
        if where == "log":
            run.log(values)
        else:
            run.config.update(values if where == "config" else {"deep": values})

    loaded = eventlog.load_run(run.journal_path)
    row = {"log": loaded.metrics[:1], "config": [loaded.config]}.get(where) or [
        loaded.config["deep"]
    ]
    values = {name: value for name, value in row[0].items() if name.startswith("same")}
    assert list(values)[:3] == ["same", "same_", "same_2"]
    assert sorted(values.values()) == list(range(3000))
    assert max(map(len, values)) == len("same_2999")


# ---- a process that has no descriptor or thread left

FEW_DESCRIPTORS = """
import os, resource, sys, threading, eventlog
eventlog.init(dir="first").finish()
begin = set(os.listdir("/proc/self/fd"))
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
held = []
try:
    while True: held.append(os.open("/dev/null", os.O_RDONLY))
except OSError: pass
for _ in range(int(sys.argv[1])): os.close(held.pop())
run = eventlog.init(dir="few"); run.log({"loss": 1.0})
has_journal = run.journal_path is not None
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
for fd in held: os.close(fd)
run.finish()
left = [os.readlink(f"/proc/self/fd/{fd}") for fd in set(os.listdir("/proc/self/fd")) - begin
        if os.path.exists(f"/proc/self/fd/{fd}")]
print(left, has_journal)
"""


@pytest.mark.parametrize("spare", [0, 2, 3, 5])
def test_init_with_few_descriptors_leaves_none_open_and_three_are_enough(tmp_path, spare):
    done = subprocess.run(
        [sys.executable, "-c", FEW_DESCRIPTORS, str(spare)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert done.stdout == f"[] {spare >= 3}\n", done.stderr


@pytest.mark.parametrize("name", ["journal-sync", "journal-compactor"])
def test_a_thread_that_cannot_start_leaves_no_journal_locked(tmp_path, monkeypatch, name):
    start = threading.Thread.start

    def refuses(thread):
        if thread.name == name:
            raise RuntimeError("can't start new thread")
        start(thread)

    def no_process(*args, **kwargs):
        raise OSError(errno.EAGAIN, "no process")

    monkeypatch.setattr(threading.Thread, "start", refuses)
    monkeypatch.setattr("eventlog.fold.compactor.start_follower", no_process)
    begin = os.listdir("/proc/self/fd")
    run = eventlog.init(dir=tmp_path)
    run.log({"loss": 1.0})
    run.finish()

    assert os.listdir("/proc/self/fd") == begin
    assert not [path for path in tmp_path.rglob("*.jsonl") if eventlog.is_locked(path)]
    assert [row["loss"] for row in eventlog.load_run(run.run_path).metrics] == [1.0]


@pytest.mark.parametrize("durability", ["interval", "every", "checkpoint"])
def test_a_run_without_a_thread_is_synced_by_its_calls(tmp_path, monkeypatch, capsys, durability):
    """A container that allows no more threads and processes."""

    def no_thread(thread):
        raise RuntimeError("can't start new thread")

    def no_process(*args, **kwargs):
        raise OSError(errno.EAGAIN, "no process")

    monkeypatch.setattr(threading.Thread, "start", no_thread)
    monkeypatch.setattr("eventlog.fold.compactor.start_follower", no_process)
    run = eventlog.init(dir=tmp_path, durability=durability)
    for step in range(50):
        run.log({"loss": 1.0}, step=step)
    run.session.log_eval(50, 1.0, 2.0)

    assert run.session.durable_records == run.session.records
    run.log({"loss": 1.0}, step=50)
    assert run.session.sync()
    shutil.rmtree(tmp_path)
    run.session.log_eval(51, 1.0, 2.0)  # is durable at once: the files are checked
    assert run.journal_path.exists()
    run.finish()
    (journal,) = tmp_path.rglob("*.jsonl")
    log = eventlog.load_run(journal)
    assert (len(log.metrics), log.status, run.errors) == (51, "completed", 0)
    assert capsys.readouterr().err.count("no thread can sync it") == 1


class Watchdog(KeyboardInterrupt):
    """An exception of a signal handler."""


@pytest.mark.parametrize(
    "where",
    ["masking.masking.mask_event", "tracker.opening.origin", "tracker.opening.Session",
     "tracker.api.opening_event", "tracker.api.ActiveRun", "tracker.api.ActiveRun.annotate",
     "tracker.api._made_current", "tracker.session.Compactor"],
)  # fmt: skip
def test_an_exception_while_a_run_begins_leaves_nothing_open_and_no_empty_journal(
    tmp_path, monkeypatch, where
):
    def barks(*args, **kwargs):
        raise Watchdog

    monkeypatch.setattr(f"eventlog.{where}", barks)
    begin = os.listdir("/proc/self/fd")
    with pytest.raises(Watchdog):
        eventlog.init(dir=tmp_path, save_interval=1)

    journals = [*tmp_path.rglob("*.jsonl")]
    assert os.listdir("/proc/self/fd") == begin
    assert not any(map(eventlog.is_locked, journals))
    assert all(path.stat().st_size for path in journals)
    assert eventlog.run is None


@pytest.mark.parametrize("kind", ["Journal", "Session"])
def test_an_exception_right_after_a_file_was_opened_closes_it(tmp_path, monkeypatch, kind):
    real = getattr(opening, kind)

    def barks(*args, **kwargs):
        real(*args, **kwargs)
        raise Watchdog

    monkeypatch.setattr(opening, kind, barks)
    with pytest.raises(Watchdog):
        eventlog.open_run(tmp_path)

    (journal,) = tmp_path.glob("*.jsonl")
    assert not eventlog.is_locked(journal)
    assert threading.active_count() == 1


@pytest.mark.parametrize("interval", [math.inf, 1e10, "1", math.nan, -1, 0, None])
def test_an_impossible_sync_interval_is_refused_and_leaves_no_file(tmp_path, interval):
    with pytest.raises(ValueError, match=r"sync_interval_s=.*must be a number of seconds"):
        eventlog.open_run(tmp_path, sync_interval_s=interval)

    assert not [*tmp_path.iterdir()]


def test_a_run_that_cannot_begin_leaves_no_empty_journal(tmp_path):
    class Refuses(Disk):
        def write(self, fd, data):
            raise OSError(errno.ENOSPC, "no room")

    with pytest.raises(OSError, match=r"first line|no room"):
        eventlog.open_run(tmp_path, disk=Refuses(), fallback=tmp_path / "fallback")

    assert not [*tmp_path.glob("*.jsonl")]


@pytest.mark.parametrize("value", STRANGE, ids=range(len(STRANGE)))
def test_a_value_of_any_class_does_not_affect_the_others(tmp_path, value):
    value = made(value)
    with eventlog.init(dir=tmp_path, save_interval=0) as run:
        run.log({"a": value, "b": 1})
        run.log({"a": {"c": value}, "b": 2}, commit=value)
        run.alert(value, value)
        run.tags = ["t", value]
        run.notes = value
        run.log_checkpoint(1, value, value)
        run.session.log(value, a=1)
        run.log({"b": 3}, step=value)

    loaded = eventlog.load_run(run.journal_path)
    assert {row["b"] for row in loaded.metrics} >= {1, 3}
    assert "t" in loaded.journal["tags"]
    assert run.errors == (0 if type(value) is int else 1)  # of the step alone


@pytest.mark.parametrize("value", STRANGE, ids=range(len(STRANGE)))
def test_finish_accepts_a_value_of_any_class(tmp_path, value):
    value = made(value)
    run = eventlog.init(dir=tmp_path, save_interval=0)
    run.finish(exit_code=value)

    assert eventlog.load_run(run.journal_path).status == "failed"


@pytest.mark.parametrize("interval", ["x", None, 1.5, [5]])
def test_a_save_interval_that_is_no_number_is_refused_before_a_file_is_made(tmp_path, interval):
    with pytest.raises(ValueError, match=r"save_interval=.*must be a whole number of iterations"):
        eventlog.open_run(tmp_path, save_interval=interval)

    assert list(tmp_path.iterdir()) == []


WITHOUT_CTYPES = """
import sys
sys.modules["_ctypes"] = sys.modules["ctypes"] = None  # as in a Python built without libffi
import eventlog
with eventlog.init(dir=sys.argv[1], fallback=sys.argv[2], name="run") as run:
    run.log({"loss": 1.0})
"""


def test_a_python_without_ctypes_logs(tmp_path):
    program = [sys.executable, "-c", WITHOUT_CTYPES, tmp_path / "out", tmp_path / "fallback"]

    done = subprocess.run(program, capture_output=True, text=True, check=True)

    (journal,) = (tmp_path / "out").glob("*.jsonl")
    run = eventlog.load_run(journal)
    assert (run.status, len(run.metrics), "cannot" in done.stderr) == ("completed", 1, False)
