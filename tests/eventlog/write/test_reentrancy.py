"""Appends from signal handlers, destructors, forks and threads: none hangs, is lost or repeated."""

import ctypes
import gc
import itertools
import logging
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest

import eventlog
from eventlog.write import fork
from tests.durability import reentrancy


@pytest.mark.parametrize("way", reentrancy.WAYS)
def test_no_interrupted_append_hangs_is_lost_or_is_written_twice(way):
    outcome = reentrancy.outcome_of(way, 6_000, timeout_s=120)

    assert outcome.interruptions > 0
    assert outcome.is_clean, outcome


@pytest.mark.slow
@pytest.mark.parametrize("way", reentrancy.WAYS)
def test_a_million_interrupted_appends(way):
    outcome = reentrancy.outcome_of(way, 1_000_000, timeout_s=3600)

    assert outcome.is_clean, outcome


def run_of(code, tmp_path, *arguments, timeout_s=60):
    """A program that has `run`, in a folder of its own; what it printed."""
    begin = "import os, sys, eventlog\nrun = eventlog.init(name='m', save_interval=0)\n"
    return subprocess.run(
        [sys.executable, "-c", begin + code, *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        env=os.environ | {"XDG_STATE_HOME": str(tmp_path / "state")},
    )


def assert_prints(output, code, tmp_path):
    """The program prints exactly this."""
    done = run_of(code, tmp_path)
    assert done.stdout == output, done.stderr


def output_with_stderr(fd, code, tmp_path):
    """What a program prints whose stderr is `fd`; it hangs where it waits for a reader of that."""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=fd, timeout=30)
    return done.stdout


def only_run(tmp_path):
    (journal,) = (tmp_path / "out").glob("*.jsonl")
    return eventlog.load_run(journal)


class LogsInsideAppend:
    """Logs in its `__repr__`, as a value that warns through `logging` does."""

    def __init__(self, run):
        self.run = run

    def __repr__(self):
        self.run.log("note", text="from inside")
        return "a value"


def test_an_event_logged_by_a_values_repr_is_kept(tmp_path):
    with eventlog.open_run(tmp_path, save_interval=0) as run:
        run.log("metrics", step=0, what=LogsInsideAppend(run))

    events = [r.event for r in eventlog.scan(run.journal_path)]
    assert events == ["open", "note", "metrics", "close"]


WAITS_FOR_A_THREAD = """
import threading
def log_in_a_thread():
    thread = threading.Thread(target=run.log, args=({"logged_in_the_thread": 1.0},))
    thread.start(); thread.join()
class Repr:
    def __repr__(self): log_in_a_thread(); return "a value"
class Scalar:
    ndim = 0
    def item(self): log_in_a_thread(); return 1.5
class Items(dict):
    def __getitem__(self, name): log_in_a_thread(); return super().__getitem__(name)
"""


@pytest.mark.parametrize(
    "call",
    [
        "run.log({'what': Repr()})",
        "run.log({'loss': Scalar()})",
        "run.log({'loss': 1.0}, step=Scalar())",
        "run.log(Items(loss=1.0))",
        "run.session.log_iter(0, Scalar())",
        "run.config.update({'what': Repr()})",
    ],
)
def test_a_value_that_waits_for_a_thread_which_logs_into_the_run_does_not_hang(tmp_path, call):
    """A value becomes bytes before the lock of the append is acquired."""
    assert_prints("done\n", f"{WAITS_FOR_A_THREAD}\n{call}\nrun.finish(); print('done')", tmp_path)
    assert any("logged_in_the_thread" in row for row in only_run(tmp_path).metrics)


def test_an_event_logged_during_another_ones_write_comes_after_it(tmp_path, monkeypatch):
    run = eventlog.open_run(tmp_path, save_interval=0)
    write = run._journal._appender._write

    def interrupted(fd, data):
        monkeypatch.setattr(run._journal._appender, "_write", write)
        n_bytes = write(fd, data)
        run.log("note", text="of a handler")
        return n_bytes

    monkeypatch.setattr(run._journal._appender, "_write", interrupted)
    run.log("signal", signal="SIGUSR1")
    run.close()

    events = [r.event for r in eventlog.scan(run.journal_path)]
    assert events == ["open", "signal", "note", "close"]


@pytest.mark.parametrize("part", [0.0, 0.5, 1.0])
def test_a_write_that_an_exception_interrupts_leaves_the_record_once(tmp_path, monkeypatch, part):
    """Whether none, half or all of the line was written when it came."""
    run = eventlog.open_run(tmp_path, save_interval=0)
    write = run._journal._appender._write

    def interrupted(fd, data):
        monkeypatch.setattr(run._journal._appender, "_write", write)
        os.write(fd, data[: int(len(data) * part)])
        raise KeyboardInterrupt

    monkeypatch.setattr(run._journal._appender, "_write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run.log("note", text="interrupted")
    run.log("note", text="after it")
    run.close()

    texts = [r.fields["text"] for r in eventlog.scan(run.journal_path) if r.event == "note"]
    assert texts == ["interrupted", "after it"]


def test_a_handler_that_ends_the_run_during_an_append_does_not_hang(tmp_path):
    code = """
import signal
def stop(*_):
    run.log({"preempted": 1}); run.finish(); print("finished", flush=True); sys.exit(0)
signal.signal(signal.SIGALRM, stop)
signal.setitimer(signal.ITIMER_REAL, .3)
while True: run.log({"loss": 1.0})
"""
    for _ in range(5):
        done = run_of(code, tmp_path, timeout_s=20)
        assert done.stdout == "finished\n", done.stderr

    for journal in (tmp_path / "out").glob("*.jsonl"):
        assert eventlog.load_run(journal).status == "interrupted"


def test_a_logging_handler_on_stderr_that_logs_into_the_run_does_not_hang(tmp_path):
    """The journal's own messages go to a stderr that is code of the program."""
    code = """
class Stderr:
    def write(self, text): run.log({"stderr": text})
    def flush(self): pass
sys.stderr = Stderr()
os.close(run.session._journal._appender.fd)
for i in range(3): run.log({"loss": i})
run.finish(); print("done")
"""
    assert_prints("done\n", code, tmp_path)
    assert [row["loss"] for row in only_run(tmp_path).metrics if "loss" in row] == [0, 1, 2]


FOREIGN_CODE_IN_THE_SYNC_THREAD = """
import errno, gc, threading, eventlog.write.line_writer as line_writer
class Logs:
    "Garbage that logs when it is collected."
    def __init__(self): self.me = self
    def __del__(self): log("of a destructor")
class Stderr:
    "Waits for a thread that logs, as a logging handler with a queue may."
    def write(self, text):
        with is_running:
            if is_over: return
            thread = threading.Thread(target=log, args=("of stderr",))
            thread.start(); thread.join()
    def flush(self): pass
n_logged, sync_thread, is_running, is_over = 0, None, threading.RLock(), True
is_collecting = is_refusing = fails = False
def log(text):
    global n_logged
    n_logged += 1
    run.log("note", text=text)
def collect():
    global is_collecting
    if threading.current_thread() is not sync_thread or is_collecting: return
    with is_running:
        if is_over: return
        is_collecting = True
        Logs(); gc.collect()
        is_collecting = False
class Disk(eventlog.disk.Disk):
    def size(self, fd): collect(); return super().size(fd)
    def identity(self, file): collect(); return super().identity(file)
    def sync_dir(self, folder): collect(); super().sync_dir(folder)
    def open_new(self, path):
        collect()
        if is_refusing == "all": raise OSError(errno.EROFS, "read-only")
        return super().open_new(path)
    def write(self, fd, data):
        if is_refusing and os.path.samestat(os.fstat(fd), journal):
            raise OSError(errno.ENOSPC, "full")
        n_bytes = super().write(fd, data)
        collect()  # not before it: around the system call there is no code of Python's
        return n_bytes
    def sync_data(self, fd):
        global fails
        collect()
        if fails:
            fails = False
            raise OSError(errno.EIO, "failed")
        super().sync_data(fd)
run.finish()
run = eventlog.open_run("out", run_name="tried", save_interval=0, disk=Disk(), sync_interval_s=.05)
journal = os.stat(run.journal_path)
(sync_thread,) = [t for t in threading.enumerate() if t.name == "journal-sync"]
sys.stderr, is_over = Stderr(), False
"""
TROUBLE = {
    "io_error": "fails = True; run.log_iter(0, 1.0)",
    "segment": """
line_writer.WAITING_MAX_BYTES = 2000; is_refusing = "journal"
for i in range(100): run.log_iter(i, 1.0)
""",
    "gap": """
line_writer.WAITING_MAX_BYTES = 2000; is_refusing = "all"
for i in range(100): run.log_iter(i, 1.0)
line_writer.WAITING_MAX_BYTES = 1 << 26; is_refusing = False
""",
    "ignored": """
child = os.fork()
if not child: run.log_iter(0, 1.0), os._exit(0)
os.waitpid(child, 0)
""",
}


@pytest.mark.parametrize("event", TROUBLE)
def test_the_sync_thread_logs_its_events_while_code_of_the_program_logs_others(tmp_path, event):
    """Destructors run in each of its calls of the disk, and its stderr logs."""
    code = f"""
import time
{FOREIGN_CODE_IN_THE_SYNC_THREAD}{TROUBLE[event]}
give_up = time.time() + 20
while time.time() < give_up:
    if any(r.event == "{event}" for r in eventlog.scan(run.journal_path)): break
    time.sleep(.05)
with is_running: is_over = True  # what is logged after the end is refused
run.close(); print(n_logged)
"""
    done = run_of(code, tmp_path)

    (journal,) = (tmp_path / "out").glob("tried*.jsonl")
    records = [*eventlog.scan(journal)]
    logged = eventlog.load_run(journal)
    assert int(done.stdout) == sum(r.event == "note" for r in records) > 0, done.stderr
    assert event in {r.event for r in records}
    dropped = sum(r.fields["dropped"] for r in records if r.event == "gap")
    assert {d["kind"] for d in logged.journal["defects"]} == ({"gap"} if dropped else set())
    assert sum(d["lost"] for d in logged.journal["defects"]) == dropped


def test_a_full_stderr_pipe_does_not_block_the_training(tmp_path):
    read, write = os.pipe()
    os.set_blocking(write, False)
    try:
        while True:
            os.write(write, b"x" * 65536)
    except BlockingIOError:
        os.set_blocking(write, True)
    code = """
import eventlog, os
run = eventlog.open_run("out", save_interval=0)
os.close(run._journal._appender.fd)  # it has something to say of that
run.log_iter(0, 1.0); run.close(); print("done")
"""
    done = output_with_stderr(write, code, tmp_path)

    assert done == b"done\n"
    os.close(read), os.close(write)


def test_a_warning_inside_an_append_that_goes_to_the_journal_does_not_hang(tmp_path):
    run = eventlog.open_run(tmp_path, save_interval=0)

    class ToJournal(logging.Handler):
        def emit(self, record):
            run.log("log", text=record.getMessage())

    class Warns:
        ndim = 0

        def item(self):
            warnings.warn("slow", stacklevel=1)
            return 1.5

    logger, handler = logging.getLogger("py.warnings"), ToJournal()
    logger.addHandler(handler)
    logging.captureWarnings(True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            run.log_iter(0, Warns())
    finally:
        logging.captureWarnings(False)
        logger.removeHandler(handler)
    run.close()

    assert eventlog.load_run(run.journal_path).training_iterations[0]["loss"] == 1.5
    assert eventlog.load_run(run.journal_path).journal["events"]["log"] >= 1


# ---- exceptions from outside


def test_an_exception_of_a_watchdog_reaches_the_loop_and_is_not_mistaken_for_a_disk_error(
    tmp_path, capsys
):
    class Slow:
        ndim = 0

        def item(self):
            signal.raise_signal(signal.SIGALRM)
            return 1.0

    def too_slow(*_):
        raise TimeoutError("the step takes too long")

    before = signal.signal(signal.SIGALRM, too_slow)
    run = eventlog.open_run(tmp_path, save_interval=0)
    try:
        with pytest.raises(TimeoutError, match="too long"):
            run.log_iter(0, Slow())
    finally:
        signal.signal(signal.SIGALRM, before)
    run.log_iter(1, 1.0)
    run.close()

    assert run.errors == 0
    assert capsys.readouterr().err == ""
    assert [row["iter"] for row in eventlog.load_run(run.journal_path).training_iterations] == [1]


class Interrupts:
    """Raises at the `at`-th line, call or return in this thread."""

    def __init__(self, at):
        self.left = at

    def __call__(self, frame, event, argument):
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt
        return self


def test_an_exception_anywhere_in_a_sync_leaves_no_lock_held(tmp_path):
    run = eventlog.open_run(tmp_path, save_interval=0)
    for at in itertools.count(1):
        run.log_iter(at, 1.0)
        interrupts = Interrupts(at)
        try:
            sys.settrace(interrupts)
            run.sync()
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(None)
        if interrupts.left > 0:
            break

    assert at > 20
    assert run.sync(10)
    run.close()


def test_a_timeout_of_the_disk_is_a_disk_error(tmp_path):
    class TimesOut(eventlog.disk.Disk):
        n_times = 0

        def write(self, fd, data):
            if self.n_times:
                self.n_times -= 1
                raise OSError(110, "the server does not answer")
            return super().write(fd, data)

    disk = TimesOut()
    run = eventlog.open_run(tmp_path, save_interval=0, disk=disk)
    disk.n_times = 1
    run.log("note", text="kept")
    run.close()

    assert [r.event for r in eventlog.scan(run.journal_path)] == ["open", "note", "close"]


def test_an_exception_that_another_thread_sets_inside_init_log_passes(tmp_path):
    me = ctypes.c_ulong(threading.get_ident())

    class Shoots:
        ndim = 0

        def item(self):
            ctypes.pythonapi.PyThreadState_SetAsyncExc(me, ctypes.py_object(TimeoutError))
            return 1.0

    run = eventlog.init(dir=tmp_path, save_interval=0)
    with pytest.raises(TimeoutError):
        run.log({"loss": Shoots(), "more": list(range(100))})
    run.finish()

    assert run.errors == 0


def test_an_error_of_a_values_own_code_does_not_reach_the_loop(tmp_path):
    class Broken:
        def __repr__(self):
            raise NotImplementedError

    with eventlog.open_run(tmp_path, save_interval=0) as run:
        run.log("note", what=Broken())

    note = next(r for r in eventlog.scan(run.journal_path) if r.event == "note")
    assert note.fields["what"] == "<Broken: NotImplementedError>"


# ---- forks


def test_a_fork_while_a_run_is_opened_neither_hangs_nor_keeps_its_lock(tmp_path):
    code = """
import threading, time
run.finish()
over, children, (begun, begins) = threading.Event(), [], os.pipe()
def fork():
    while not over.is_set():
        child = os.fork()
        if not child:
            os.write(begins, b"b")
            time.sleep(30)
            os._exit(0)
        children.append(child)
        time.sleep(.005)
thread = threading.Thread(target=fork); thread.start()
runs = []
for k in range(40):
    r = eventlog.open_run("forked", save_interval=0)
    r.log_iter(0, 1.0); r.close(); runs.append(r.journal_path)
    if len(children) > 60: break
over.set(); thread.join()
for _ in children: os.read(begun, 1)  # a child that has not run yet has let nothing go
print([p for p in runs if eventlog.is_locked(p)], len(children) > 0)
for c in children: os.kill(c, 9); os.waitpid(c, 0)
"""
    assert_prints("[] True\n", code, tmp_path)


def test_a_fork_while_a_run_is_closed_does_not_keep_its_lock(tmp_path, monkeypatch):
    run = eventlog.open_run(tmp_path, save_interval=0)
    appender = run._journal._appender
    close, children = appender.close, []

    def forks():
        child = os.fork()
        if not child:
            signal.pause()
        children.append(child)
        close()

    monkeypatch.setattr(appender, "close", forks)
    run.close()
    for _ in range(100):  # the child gives it up as soon as it runs
        if not eventlog.is_locked(run.journal_path):
            break
        time.sleep(0.05)
    is_locked = eventlog.is_locked(run.journal_path)
    os.kill(children[0], signal.SIGKILL)
    os.waitpid(children[0], 0)

    assert not is_locked


NO_DESCRIPTOR = {
    "all are taken": """
taken = []
try:
    while True: taken.append(os.open(os.devnull, 0))
except OSError: pass
""",
    "fewer are allowed than there are": """
taken = []
resource.setrlimit(resource.RLIMIT_NOFILE, (3, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
""",
}


@pytest.mark.parametrize("why", NO_DESCRIPTOR)
def test_a_child_that_is_forked_while_no_descriptor_is_free_does_not_keep_the_lock(tmp_path, why):
    code = """
import resource, signal
limit = resource.getrlimit(resource.RLIMIT_NOFILE)
begin, begun = os.pipe()
%s
child = os.fork()
if not child:
    os.write(begun, b"x"), signal.pause()
[os.close(fd) for fd in taken]
resource.setrlimit(resource.RLIMIT_NOFILE, limit)
os.read(begin, 1)
run.finish()
print(eventlog.is_locked(run.journal_path))
os.kill(child, signal.SIGKILL)
"""
    assert run_of(code % NO_DESCRIPTOR[why], tmp_path).stdout == "False\n"


def test_events_of_a_forked_child_are_counted_in_the_writers_journal(tmp_path):
    run = eventlog.open_run(tmp_path, save_interval=0)
    child = os.fork()
    if not child:
        for i in range(7):
            run.log_iter(i, 1.0)
        os._exit(run.errors)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    run.close()

    ignored = [r.fields for r in eventlog.scan(run.journal_path) if r.event == "ignored"]
    assert sum(fields["events"] for fields in ignored) == 7


PARENTS = {
    "is gone": """
writer = os.getpid()
if os.fork(): os._exit(0)
while os.getppid() == writer: time.sleep(0.01)
""",
    "is just ending": """
if os.fork():
    time.sleep(0.5)
    os._exit(0)
""",
}


@pytest.mark.parametrize("fork", PARENTS.values(), ids=PARENTS)
def test_events_of_a_child_whose_parent_ends_are_counted_beside_the_journal(tmp_path, fork):
    code = f"""
import time
{fork}
for i in range(250): run.log({{"loss": i}})
run.finish()
"""
    run_of(code, tmp_path)

    (journal,) = (tmp_path / "out").glob("*.jsonl")
    ignored = [r.fields["events"] for r in eventlog.scan(journal) if r.event == "ignored"]
    assert sum(ignored) == 250


def test_events_of_a_child_after_its_parent_has_closed_the_run_are_counted_too(tmp_path):
    run = eventlog.open_run(tmp_path, save_interval=0)
    is_closed, say_closed = os.pipe()
    child = os.fork()
    if not child:
        for i in range(7):
            run.log_iter(i, 1.0)
            if i == 3:
                os.read(is_closed, 1)
        run.close()
        os._exit(0)
    time.sleep(0.1)
    run.close()
    os.write(say_closed, b"x")
    os.waitpid(child, 0)

    ignored = [r.fields["events"] for r in eventlog.scan(run.journal_path) if r.event == "ignored"]
    assert sum(ignored) == 7


def test_a_run_that_a_child_of_multiprocessing_opens_and_leaves_is_completed(tmp_path):
    code = """
import multiprocessing, eventlog, sys
def work(fails):
    run = eventlog.init(name="child", dir="children", save_interval=0)
    run.log({"loss": 1.0})
    if fails: raise ValueError("of the child")
for fails in (False, True):
    child = multiprocessing.get_context("fork").Process(target=work, args=(fails,))
    child.start(); child.join()
"""
    subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, stderr=subprocess.DEVNULL, timeout=60
    )

    runs = sorted(
        (tmp_path / "children").glob("*.jsonl"), key=lambda path: (len(path.name), path.name)
    )
    assert [eventlog.load_run(path).status for path in runs] == ["completed", "failed"]


def test_an_append_that_a_fork_interrupts_is_not_written_by_the_child(tmp_path, monkeypatch):
    """A handler forks within an append; the child continues in the middle of it."""
    run = eventlog.open_run(tmp_path, save_interval=0)
    appender = run._journal._appender
    write = appender._write

    def forks(fd, data):
        monkeypatch.setattr(appender, "_write", write)
        child = os.fork()
        if child:
            os.waitpid(child, 0)
            return write(fd, data)
        write(fd, data)
        os._exit(0)

    monkeypatch.setattr(appender, "_write", forks)
    run.log("note", text="once")
    run.close()

    assert run.journal_path.read_bytes().count(b'"once"') == 1


def test_a_destructor_that_logs_into_a_closed_run_does_not_repeat_for_ever(tmp_path, capsys):
    run = eventlog.open_run(tmp_path, save_interval=0)
    run.close()
    for i in range(1000):
        run.log_iter(i, 1.0)
    gc.collect()

    assert run.errors == 1000
    assert capsys.readouterr().err.count("\n") == 1


def test_a_fork_does_not_wait_for_a_hanging_disk(tmp_path):
    """As a frozen file system does: a write of another thread does not return."""
    is_stuck, is_thawed = threading.Event(), threading.Event()

    class Frozen(eventlog.disk.Disk):
        hangs = False

        def write(self, fd, data):
            if self.hangs:
                is_stuck.set()
                is_thawed.wait(60)
            return super().write(fd, data)

    disk = Frozen()
    run = eventlog.open_run(tmp_path, save_interval=0, disk=disk)
    disk.hangs = True
    thread = threading.Thread(target=run.log_iter, args=(0, 1.0))
    thread.start()
    is_stuck.wait()

    child = os.fork()
    if not child:
        run.log_iter(1, 1.0)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0

    is_thawed.set()
    thread.join()
    run.close()
    assert [row["iter"] for row in eventlog.load_run(run.journal_path).training_iterations] == [0]


def test_a_handler_that_closes_the_run_and_returns_is_not_followed_by_another_record(tmp_path):
    code = """
import signal, time
run.finish()
for k in range(60):
    s = eventlog.open_run("closed", save_interval=0)
    over = False
    def stop(*_):
        global over
        s.close("interrupted", "SIGALRM")
        global after
        after = eventlog.open_run("next", save_interval=0)
        over = True
    signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, .002 + k / 40000)
    i = 0
    while not over:
        s.log_iter(i, 1.0, 2.0); i += 1
    locked = eventlog.is_locked(s.journal_path)
    mixed = s.id.encode() in after.journal_path.read_bytes()
    last = list(eventlog.scan(s.journal_path))[-1].event
    after.close()
    if locked or mixed or last != "close": print("WRONG", k, locked, mixed, last)
print("done")
"""
    assert_prints("done\n", code, tmp_path)


def test_an_exception_while_a_forked_child_gives_up_one_run_leaves_none_of_them_open(tmp_path):
    code = """
from eventlog.write.journal import Journal
from eventlog.write.sync import SyncThread
run.finish()
runs = [eventlog.open_run("forked", run_name=f"run{k}", save_interval=0) for k in range(3)]
end, calls = SyncThread.end_in_child, []
def raises_at_first(thread):
    calls.append(thread)
    if len(calls) == 1: raise TimeoutError
    end(thread)
SyncThread.end_in_child = raises_at_first
for s in runs: s.log_iter(0, 1.0)
if child := os.fork(): os.waitpid(child, 0)
else:
    sys.unraisablehook = print
    for s in runs: s.log_iter(1, 1.0)
    os._exit(0)
for s in runs:
    s.log_iter(2, 1.0)
    s.close()
    print([row["iter"] for row in eventlog.load_run(s.journal_path).training_iterations])
"""
    assert_prints("[0, 2]\n" * 3, code, tmp_path)


def test_a_child_forked_by_a_signal_handler_writes_nothing(tmp_path):
    code = """
import signal, time
run.finish()
s = eventlog.open_run("forked", save_interval=0)
children, parent, begun = [], os.getpid(), time.time()
def goes_on(): return time.time() < begun + 2 or len(children) <= 10
def fork(*_):
    if os.getpid() == parent and goes_on():
        child = os.fork()
        if child: children.append(child)
        signal.setitimer(signal.ITIMER_REAL, .01)
signal.signal(signal.SIGALRM, fork)
signal.setitimer(signal.ITIMER_REAL, .01)
i = 0
while goes_on():
    s.log_iter(i, 1.0); i += 1
    if os.getpid() != parent:
        for k in range(20): s.log_iter(-1, 1.0)
        os._exit(0)
signal.setitimer(signal.ITIMER_REAL, 0)
left, give_up = set(children), time.time() + 20
while left and time.time() < give_up:
    left -= {c for c in left if os.waitpid(c, os.WNOHANG)[0]}
    time.sleep(.01)
for c in left: os.kill(c, 9)
s.close()
logged_run = eventlog.load_run(s.journal_path)
print(len(children) > 10, len(left), [d["kind"] for d in logged_run.journal["defects"]],
      len(logged_run.training_iterations) == i)
"""
    assert_prints("True 0 [] True\n", code, tmp_path)


def test_no_other_thread_gets_the_lock_of_a_run_while_a_thread_forks(tmp_path):
    """It may get it, and not have noted yet that it has: the child could not free that lock."""
    with eventlog.init(dir=tmp_path, save_interval=0) as run:
        locks = [run._lock, run.session._journal._lock]
        with ThreadPoolExecutor() as pool:
            fork._before_fork()
            during = list(pool.map(lambda lock: lock.acquire(timeout=0.2), locks))
            fork._release()
            after = list(pool.map(take_and_free, locks))

    assert (during, after) == ([False, False], [True, True])


def take_and_free(lock):
    with lock:
        return True


LOCKS = {
    "append": ("s._journal._lock", "s.log_iter(1, 1.0)"),
    "close": ("s._journal._lock", "s.close()"),
    "open": (
        "eventlog.write.fork.OPENING",
        # Both processes open it: if at the same time, one of them is refused.
        "try: eventlog.open_run('other', save_interval=0).close()\n"
        "except eventlog.JournalLocked: pass",
    ),
}


@pytest.mark.parametrize("way", LOCKS)
def test_a_child_forked_by_a_handler_while_its_thread_waits_for_a_lock_does_not_hang(tmp_path, way):
    lock, wait = LOCKS[way]
    code = f"""
import signal, threading, time
run.finish()
s = eventlog.open_run("forked", save_interval=0)
held, over, child = threading.Event(), threading.Event(), None
def hold():
    with {lock}:
        held.set(); over.wait(30)
threading.Thread(target=hold).start()
held.wait()
def fork(*_):
    global child
    child = os.fork()
    if child: over.set()
signal.signal(signal.SIGALRM, fork)
signal.setitimer(signal.ITIMER_REAL, .2)
{wait}
if not child: os._exit(7)
for _ in range(1000):
    done, status = os.waitpid(child, os.WNOHANG)
    if done: break
    time.sleep(.01)
else: os.kill(child, 9)
s.close()
print(os.waitstatus_to_exitcode(status) if done else "hangs")
"""
    assert_prints("7\n", code, tmp_path)


@pytest.mark.parametrize(
    "raises",
    [
        "signal.signal(signal.SIGALRM, signal.SIG_DFL); raise TimeoutError('step took too long')",
        "raise TimeoutError('step took too long')",
        "raise Slow('x')",
    ],
)
def test_whatever_a_watchdog_does_before_it_raises_its_exception_passes(tmp_path, raises):
    code = f"""
import signal
class Slow(Exception): pass
def watchdog(*_): {raises}
def train():
    while True: run.log({{"loss": 1.0}})
passed, raised = 0, 300
for k in range(raised):
    signal.signal(signal.SIGALRM, watchdog)
    try:
        signal.setitimer(signal.ITIMER_REAL, .0005 + k / 2e6)
        train()
    except (TimeoutError, Slow): passed += 1
signal.signal(signal.SIGALRM, signal.SIG_IGN)
run.finish(); print(passed, run.errors)
"""
    assert_prints("300 0\n", code, tmp_path)


def test_no_argument_raises_into_the_loop(tmp_path):
    code = """
class Bad(Exception):
    def __str__(self): raise ValueError("no text")
class Odd:
    def __str__(self): raise ValueError("no text")
    __repr__ = __str__
    def items(self): raise Bad()
    keys = values = __iter__ = items
from collections.abc import Mapping
class OddMapping(Odd, Mapping):
    def __getitem__(self, name): raise Bad()
    def __len__(self): return 1
run.log(OddMapping()); run.alert(Odd()); run.log_checkpoint(1, None)
run.log_checkpoint(1, "p", iter=1); run.config.update({Odd(): 1}); run.tags = 5
run.notes = Odd()
try:
    with run: raise Bad()
except Bad: pass
other = eventlog.init(name=5, tags=5, notes=Odd(), save_interval=0); other.finish()
print("done", run.is_finished)
"""
    assert_prints("done True\n", code, tmp_path)


def test_a_message_longer_than_a_pipe_does_not_block_the_training(tmp_path):
    read, write = os.pipe()
    code = """
import eventlog
run = eventlog.init(save_interval=0)
class Long(dict):
    def items(self): raise ValueError("x" * 200_000)
run.log(Long(a=1)); run.finish(); print("done")
"""
    done = output_with_stderr(write, code, tmp_path)

    assert done == b"done\n"
    os.close(read), os.close(write)


IN_AN_IMPORT = """
import importlib.abc, os, signal, sys, eventlog
interrupted, of_handler = sys.argv[1:]

class Interrupting(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == interrupted:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), signal.SIGUSR1)

def begin(api, name):
    if api == "init":
        with eventlog.init(name=name, save_interval=0) as run:
            run.log({"text": name})
    else:
        with eventlog.open_run("out", run_name=name, save_interval=0) as run:
            run.log("note", text=name)

signal.signal(signal.SIGUSR1, lambda *_: begin(of_handler, "handler"))
sys.meta_path.insert(0, Interrupting())
begin("init", "main")
"""


@pytest.mark.parametrize("api", ["init", "open_run"])
@pytest.mark.parametrize("module", ["names", "rules"])
def test_a_handler_that_interrupts_the_import_of_masking_logs_its_run(module, api, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", IN_AN_IMPORT, f"eventlog.masking.{module}", api],
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True,
        env=os.environ | {"XDG_STATE_HOME": str(tmp_path / "state")},
    )  # fmt: skip

    runs = {run.run_name[:4]: run.status for run in map(eventlog.load_run, journals(tmp_path))}
    assert runs == {"main": "completed", "hand": "completed"}, done.stderr


def journals(folder):
    return sorted(folder.rglob("*.jsonl"))
