"""Values whose code raises, exits or changes what is being logged: the event is kept."""

import ctypes
import enum
import functools
import json
import os
import signal
import struct
import subprocess
import sys
import threading
import uuid
from datetime import date

import pytest

import eventlog


class RaisesForClass(type):
    def __getattribute__(cls, name):
        raise ValueError(name)

    def __hash__(cls):
        raise ValueError

    __repr__ = __hash__


class OfSuchAClass(metaclass=RaisesForClass):
    pass


class RaisesAsEnum(enum.Enum):
    A = 1
    value = property(lambda self: 1 / 0)


class IsItsOwnValue(enum.Enum):
    A = 1
    value = property(lambda self: self)


def without_int():
    value = uuid.UUID(int=1)
    copy = object.__new__(uuid.UUID)
    assert type(value) is type(copy)
    return copy


def scalar(item):
    """A number of a library whose `item` is written in C."""
    return type("Scalar", (), {"shape": (), "ndim": 0, "item": staticmethod(item)})()


class Shown:
    def __init__(self, error):
        self._error = error

    def __repr__(self):
        raise self._error


class WithoutText(Exception):
    __module__ = None

    @property
    def args(self):
        raise RuntimeError

    @property
    def __traceback__(self):
        raise RuntimeError

    def __str__(self):
        raise self


class ListAsTime(date):
    def isoformat(self):
        return [RaisesAsEnum.A]


VALUES = {
    "its class raises": OfSuchAClass,
    "an object of such a class": OfSuchAClass(),
    "an Enum raises": RaisesAsEnum.A,
    "an Enum is its own value": IsItsOwnValue.A,
    "a UUID without a number": without_int(),
    "C raises an error of its module": scalar(functools.partial(struct.unpack, "i", b"")),
    "C raises an error without arguments": scalar(functools.partial(next, iter(()))),
    "a timeout of its own": Shown(TimeoutError("timed out")),
    "a timeout of its own, in C": scalar(functools.partial(exec, "raise TimeoutError('slow')")),
    "an error without text": Shown(WithoutText()),
    "a time that is no text": ListAsTime(2026, 1, 1),
}


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("name", VALUES)  # pytest, too, would run the code of the values
def test_a_value_whose_code_raises_costs_only_that_value(tmp_path, name, nested):
    value = [1, {"in": VALUES[name]}] if nested else VALUES[name]
    run = eventlog.init(dir=tmp_path, save_interval=0)
    run.log({"a": value, "b": 1.0})
    run.config["c"] = value
    run.summary["d"] = value
    run.session.log_iter(0, 1.0, 1.0, 1.0, more=value)
    run.finish()

    events = [r.event for r in eventlog.scan(run.journal_path)]
    assert events == ["open", "metrics", "config", "summary", "iter", "close"]
    assert run.errors == 0
    (row,) = eventlog.load_run(run.journal_path).rows("metrics")
    assert row["b"] == 1.0


@pytest.mark.parametrize("name", VALUES)
def test_a_kind_of_event_whose_code_raises_is_logged_as_text(tmp_path, name):
    with eventlog.open_run(tmp_path, save_interval=0) as run:
        run.log(VALUES[name], b=1.0)

    (event,) = [r for r in eventlog.scan(run.journal_path) if r.event not in ("open", "close")]
    assert event.fields["b"] == 1.0
    assert run.errors == 0


CHANGING = """
import signal, sys, threading, eventlog
from tests.eventlog.tracker.test_hostile_values import Changes, Number
run = eventlog.open_run("out", save_interval=0)
many = [Number(i) for i in range(300)]
values, named = list(many), {str(i): v for i, v in enumerate(many)}
def change(*_):
    values[:] = many if len(values) < 9 else many[:3]
    named.pop("5", None) or named.update({"5": Number(1)})
"""
WAYS_TO_CHANGE = {
    "by a signal handler": """
signal.signal(signal.SIGALRM, change)
signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
""",
    "by another thread": """
over = threading.Event()
sys.setswitchinterval(1e-5)
def keep_changing():
    while not over.is_set():
        change()
threading.Thread(target=keep_changing, daemon=True).start()
""",
    "by a value": """
Changes.change = change
many[7] = values[7] = Changes(7)
""",
}


class Number:
    shape, ndim = (), 0

    def __init__(self, value):
        self.value = value

    def item(self):
        return float(self.value)


class Changes(Number):
    def item(self):
        Changes.change()
        return 1.0


@pytest.mark.parametrize("way", WAYS_TO_CHANGE.values(), ids=WAYS_TO_CHANGE)
def test_a_list_that_changes_while_it_is_logged_does_not_end_the_program(tmp_path, way):
    log = """
for i in range(400):
    run.log_iter(i, 1.0, 1.0, window=values, named=named)
signal.setitimer(signal.ITIMER_REAL, 0)
run.close()
print(run.errors)
"""
    done = subprocess.run(
        [sys.executable, "-c", CHANGING + way + log],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.getcwd()},
        capture_output=True,
        text=True,
    )

    assert (done.returncode, done.stdout) == (0, "0\n"), done.stderr
    (journal,) = (tmp_path / "out").glob("*.jsonl")
    rows = eventlog.load_run(journal).training_iterations
    assert [row["iter"] for row in rows] == list(range(400))
    assert all(type(number) is float for row in rows for number in row["window"])
    assert json.loads(journal.read_bytes().splitlines()[-1])["event"] == "close"


# ---- and what comes from outside still passes


def test_a_watchdog_that_restores_the_handler_before_it_raises_passes(tmp_path):
    before = signal.getsignal(signal.SIGALRM)

    def expire(number, frame):
        signal.signal(signal.SIGALRM, before)
        raise TimeoutError("the step took too long")

    class Slow:
        def __repr__(self):
            signal.raise_signal(signal.SIGALRM)
            return "slow"

    run = eventlog.init(dir=tmp_path, save_interval=0)
    signal.signal(signal.SIGALRM, expire)
    with pytest.raises(TimeoutError, match="the step took too long"):
        run.log({"a": Slow()})
    run.finish()


class Expired(Exception):
    pass


def test_an_exception_that_another_thread_sets_while_a_value_is_read_passes(tmp_path):
    me = ctypes.c_ulong(threading.get_ident())
    send = functools.partial(
        ctypes.pythonapi.PyThreadState_SetAsyncExc, me, ctypes.py_object(Expired)
    )
    run = eventlog.init(dir=tmp_path, save_interval=0)

    with pytest.raises(Expired):
        run.log({"a": scalar(send), "b": 1.0})
    run.finish()


class Slow:
    def __repr__(self):
        return "slow" * 10


@pytest.mark.parametrize(
    "kind", [ValueError, KeyError, OSError, TimeoutError, eventlog.JournalClosed, Expired]
)
def test_every_exception_of_a_signal_handler_reaches_the_loop(tmp_path, kind, monkeypatch):
    """At whatever moment of a call it is raised, also within Python's own library.

    The interpreter itself ignores one that is raised in a weak reference's callback.
    """
    raised = caught = 0
    is_inside = False
    ignored = []
    monkeypatch.setattr(sys, "unraisablehook", ignored.append)

    def expire(number, frame):
        nonlocal raised, is_inside
        if is_inside:
            raised, is_inside = raised + 1, False
            raise kind("expired")

    run = eventlog.init(dir=tmp_path, save_interval=0)
    before = signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.0007)
    for i in range(3000):
        try:
            is_inside = True
            run.log({"text": "some words", "slow": Slow(), "i": i})
            is_inside = False
        except kind:
            caught += 1
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)
    run.finish()

    assert raised > 50
    assert (caught + len(ignored), run.errors) == (raised, 0)


@pytest.mark.skipif(sys.platform != "linux", reason="limits the address space")
@pytest.mark.parametrize("left_mib", [40, 100])
def test_a_text_for_which_there_is_no_memory_costs_its_event_and_not_the_process(
    tmp_path, left_mib
):
    code = f"""
import resource, eventlog
run = eventlog.init(save_interval=0)
text = "y" * 30_000_000
run.log({{"a": 1, "word": "x"}})
used_pages = int(open("/proc/self/statm").read().split()[0])
most = used_pages * resource.getpagesize() + ({left_mib} << 20)
resource.setrlimit(resource.RLIMIT_AS, (most, resource.RLIM_INFINITY))
run.log({{"a": 2, "text": text}})
resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)
run.log({{"a": 3}})
run.finish()
print(run.errors, [row["a"] for row in eventlog.load_run(run.journal_path).metrics])
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )

    assert (done.returncode, done.stdout) == (0, "1 [1, 3]\n"), done.stderr
    assert "was not logged: MemoryError" in done.stderr
