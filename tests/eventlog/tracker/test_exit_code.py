"""How an unfinished run records the end of its program."""

import contextlib
import os
import subprocess
import sys

import numpy as np
import pytest

import eventlog

BEGIN = "import sys, eventlog\nrun = eventlog.init(name='m', save_interval=0)\nrun.log({'a': 1})\n"
ENDS = {
    "raise SystemExit(3)": ("failed", "exit code 3"),
    "exit(3)": ("failed", "exit code 3"),
    "quit(3)": ("failed", "exit code 3"),
    "sys.exit(3)": ("failed", "exit code 3"),
    "leave(3)": ("failed", "exit code 3"),
    "raise SystemExit('no data')": ("failed", "SystemExit: no data"),
    "sys.exit(2 ** 70)": ("failed", f"exit code {2**70}"),
    "sys.exit(True)": ("failed", "exit code True"),
    "class Mine(SystemExit): pass\nraise Mine(4)": ("failed", "exit code 4"),
    "def deep(): raise SystemExit(5)\ndeep()": ("failed", "exit code 5"),
    "sys.exit()": ("completed", None),
    "sys.exit(0)": ("completed", None),
    "raise SystemExit": ("completed", None),
    "try: sys.exit(3)\nexcept SystemExit as e: e.code": ("completed", None),
    "try: raise SystemExit(3)\nexcept BaseException: pass": ("completed", None),
    "try: leave(3)\nexcept SystemExit as e: print(e.code)\nleave(0)": ("completed", None),
    "import threading\nt = threading.Thread(target=lambda: sys.exit(3)); t.start(); t.join()": (
        "completed",
        None,
    ),
    "1 / 0": ("failed", "ZeroDivisionError: division by zero"),
    "raise KeyboardInterrupt": ("interrupted", "KeyboardInterrupt"),
    "sys.exit(143)": ("interrupted", "exit code 143"),
    "": ("completed", None),
}


@pytest.mark.parametrize("end", ENDS)
def test_a_run_that_is_not_finished_records_how_the_program_ended(tmp_path, end):
    code = "from sys import exit as leave\nfrom sys import exit\n" + BEGIN + end
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, stderr=subprocess.DEVNULL)

    (journal,) = (tmp_path / "out").glob("*.jsonl")
    run = eventlog.load_run(journal)
    assert (run.status, run.journal["reason"]) == ENDS[end]


OTHER_NAMES = {
    "in a module": "import types\nm = types.ModuleType('m'); m.die = sys.exit\n",
    "in a partial": "import functools\nm = functools.partial(sys.exit, 3)\n",
    "as an argument of a partial": "import functools\nm = functools.partial(call, sys.exit)\n",
    "as a default": "def m(die=sys.exit): die(3)\n",
    "as a keyword's default": "def m(*, die=sys.exit): die(3)\n",
    "in a class": "class m: die = sys.exit\n",
    "in a class, called by an instance": "class M: die = sys.exit\nm = M()\nM.die\n",
    "as a static method": "class m: die = staticmethod(sys.exit)\n",
    "in an instance": "class M: pass\nm = M()\nm.die = sys.exit\n",
    "in a dict": "m = {'die': sys.exit}\n",
    "in a list": "m = [sys.exit]\n",
    "in a closure": "def make():\n    die = sys.exit\n    return lambda: die(3)\nm = make()\n",
}
USES = {
    "in a dict": "m['die'](3)",
    "in a list": "m[0](3)",
    **dict.fromkeys(
        ["in a partial", "as a default", "as a keyword's default", "in a closure"], "m()"
    ),
    "as an argument of a partial": "m()",
}


@pytest.mark.parametrize("where", OTHER_NAMES)
def test_an_exit_through_a_name_from_before_the_run_is_recorded(tmp_path, where):
    code = "import sys\ndef call(die): die(3)\n" + OTHER_NAMES[where] + BEGIN
    code += USES.get(where, "m.die(3)")
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, stderr=subprocess.DEVNULL)

    assert done.returncode == 3
    (journal,) = (tmp_path / "out").glob("*.jsonl")
    run = eventlog.load_run(journal)
    assert (run.status, run.journal["reason"]) == ("failed", "exit code 3")


RETURNED = {
    "2": ("failed", "exit code 2"),
    "'no GPU found'": ("failed", "SystemExit: no GPU found"),
    "130": ("interrupted", "exit code 130"),
    "None": ("completed", None),
}


@pytest.mark.parametrize("code", RETURNED)
def test_the_exit_code_that_main_returns_is_recorded(tmp_path, code):
    main = f"def main():\n    eventlog.init(name='m', save_interval=0)\n    return {code}\n"
    program = f"import sys, eventlog\n{main}sys.exit(main())"
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, stderr=subprocess.DEVNULL)

    (journal,) = (tmp_path / "out").glob("*.jsonl")
    run = eventlog.load_run(journal)
    assert (run.status, run.journal["reason"]) == RETURNED[code]


@pytest.mark.parametrize("begin", ["init(save_interval=0)", "open_run(save_interval=0)"])
@pytest.mark.parametrize("end", ["1 / 0", "sys.exit(3)", ""])
def test_a_run_that_the_program_ends_by_atexit_records_how_the_program_ended(tmp_path, begin, end):
    if "open_run" in begin and end == "sys.exit(3)":
        pytest.skip("only init watches for exit codes")
    program = f"""
import atexit, sys, eventlog
run = eventlog.{begin}
atexit.register(run.finish if hasattr(run, "finish") else run.close)
{end}
"""
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, stderr=subprocess.DEVNULL)

    (journal,) = (tmp_path / "out").glob("*.jsonl")
    assert eventlog.load_run(journal).status == ("failed" if end else "completed")


@pytest.mark.parametrize("begin", ["init()", "open_run()"])
def test_an_exception_of_a_thread_that_outlives_the_main_thread_is_recorded(tmp_path, begin):
    program = f"""
import threading, eventlog
def train():
    run = eventlog.{begin}
    threading.main_thread().join()
    try: 1 / 0
    finally: run.finish() if hasattr(run, "finish") else run.close()
threading.Thread(target=train).start()
"""
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, stderr=subprocess.DEVNULL)

    (journal,) = (tmp_path / "out").glob("*.jsonl")
    run = eventlog.load_run(journal)
    assert (run.status, run.journal["reason"]) == ENDS["1 / 0"]


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="the built-in sys.exit is kept")
def test_after_gc_freeze_an_exit_through_a_name_of_a_module_is_recorded(tmp_path):
    (tmp_path / "helper.py").write_text("from sys import exit as die")
    code = "import gc, helper\ngc.freeze()\n" + BEGIN + "helper.die(3)"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path)

    (journal,) = (tmp_path / "out").glob("*.jsonl")
    assert eventlog.load_run(journal).status == "failed"


def test_a_programs_own_sys_exit_is_still_called(tmp_path):
    own = "import sys\nleave = sys.exit\ndef own(code):\n    print('own')\n    leave(code)\n"
    code = own + "sys.exit = own\n" + BEGIN + "sys.exit(3)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, stdout=subprocess.PIPE)

    (journal,) = (tmp_path / "out").glob("*.jsonl")
    assert (done.stdout, done.returncode) == (b"own\n", 3)
    assert eventlog.load_run(journal).journal["reason"] == "exit code 3"


def test_sys_exit_as_an_attribute_of_a_class_is_no_method():
    code = "import sys, eventlog\nclass Trainer: end = sys.exit\nTrainer().end(5)"

    assert subprocess.run([sys.executable, "-c", code]).returncode == 5


def test_sys_exit_can_be_pickled():
    code = "import pickle, sys\nfrom eventlog.tracker import exit_code\nexit_code.watch()\n"
    code += "assert pickle.loads(pickle.dumps(sys.exit)) is sys.exit"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


OWN_CODES = {
    "a property": "class Own(SystemExit):\n    @property\n    def code(self): return 7",
    "a value": "class Own(SystemExit):\n    code = 7",
    "a slot": "class Own(SystemExit):\n    __slots__ = ('code',)\n"
    "    def __init__(self): self.code = 7",
    "an inherited value": "class Base(SystemExit):\n    code = 7\nclass Own(Base): pass",
    "a value, then its own": "class Own(SystemExit):\n    code = 0\n"
    "    def __init__(self): self.code = 7",
}


@pytest.mark.parametrize("is_defined_first", [True, False])
@pytest.mark.parametrize("own", OWN_CODES.values(), ids=OWN_CODES)
def test_an_exit_whose_class_has_its_own_code_is_recorded(tmp_path, own, is_defined_first):
    parts = [own, BEGIN] if is_defined_first else [BEGIN, own]
    code = "\n".join([*parts, "raise Own()"])
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, stderr=subprocess.DEVNULL)

    assert done.returncode == 7
    (journal,) = (tmp_path / "out").glob("*.jsonl")
    run = eventlog.load_run(journal)
    assert (run.status, run.journal["reason"]) == ("failed", "exit code 7")


def test_a_code_of_a_class_can_be_read_set_and_deleted():
    code = """
import eventlog.tracker.exit_code
class Own(SystemExit):
    code = 7
eventlog.tracker.exit_code.watch()
error = Own()
assert (Own.code, error.code) == (7, 7)
error.code = 8
assert (Own.code, error.code, vars(error)) == (7, 8, {"code": 8})
del error.code
assert error.code == 7
try:
    del error.code
except AttributeError:
    pass
else:
    raise AssertionError
"""
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_exit_code_and_message_of_the_program_do_not_change(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", BEGIN + "raise SystemExit('no data')"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=os.environ | {"EVENTLOG_SILENT": "true"},
    )

    assert done.returncode == 1
    assert done.stderr == "no data\n"


def test_an_error_of_an_earlier_cell_does_not_mark_a_later_run(tmp_path):
    """In a notebook `sys.last_value` keeps its value."""
    code = "import sys\nsys.last_value = ValueError('of an earlier cell')\n" + BEGIN
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path)

    (journal,) = (tmp_path / "out").glob("*.jsonl")
    assert eventlog.load_run(journal).status == "completed"


def test_the_code_of_a_caught_exit_can_be_read_and_set():
    code = """
import eventlog.tracker.exit_code
eventlog.tracker.exit_code.watch()
try: raise SystemExit(4)
except SystemExit as error:
    error.code += 1
    print(error.code, error.args, SystemExit().code, SystemExit(1, 2).code)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    assert done.stdout == "5 (4,) None (1, 2)\n", done.stderr


@pytest.mark.parametrize("argument", ["SystemExit(3)", "(3, 4)", "None", "'no'", "0"])
def test_sys_exit_behaves_as_in_the_interpreter(argument):
    show = f"try: sys.exit({argument})\nexcept SystemExit as e: print(repr(e), e.code)\n"
    end = f"sys.exit({argument})"
    before, after = (
        subprocess.run([sys.executable, "-c", code], capture_output=True)
        for code in (
            "import sys\n" + show + end,
            "import sys\nfrom eventlog.tracker import exit_code\nexit_code.watch()\n" + show + end,
        )
    )

    assert (after.stdout, after.returncode) == (before.stdout, before.returncode)


@pytest.mark.parametrize("argument", ["()", "(3,)", "(3, 4)", "[]"])
def test_sys_exit_of_a_list_or_tuple_ends_the_program_as_the_interpreter_does(argument):
    before, after = (
        subprocess.run(
            [sys.executable, "-c", f"import {names}; sys.exit({argument})"], capture_output=True
        )
        for names in ("sys", "sys, eventlog")
    )

    assert (
        (after.stderr, after.returncode) == (before.stderr, before.returncode) == (before.stderr, 1)
    )


GOOD_CHILDREN = {
    "in an except": "try: raise MemoryError\nexcept MemoryError: start()",
    "in a finally": (
        "try:\n    try: raise MemoryError\n    finally: start()\nexcept MemoryError: pass"
    ),
}


@pytest.mark.parametrize("where", GOOD_CHILDREN)
@pytest.mark.parametrize("end", ["run.finish()", "run.session.close()", ""])
def test_a_run_of_a_forked_process_does_not_end_by_what_its_parent_was_handling(
    tmp_path, where, end
):
    program = f"""
import multiprocessing, eventlog
def train():
    run = eventlog.init(save_interval=0)
    {end}
def start():
    process = multiprocessing.get_context("fork").Process(target=train)
    process.start(); process.join()
{GOOD_CHILDREN[where]}
"""
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True)

    (journal,) = (tmp_path / "out").glob("*.jsonl")
    assert eventlog.load_run(journal).status == "completed"


def test_a_run_that_is_begun_while_an_exception_goes_on_does_not_end_by_it(tmp_path):
    with contextlib.suppress(MemoryError):
        try:
            raise MemoryError
        finally:
            run = eventlog.open_run(tmp_path, save_interval=0)
            run.close()

    assert eventlog.load_run(run.journal_path).status == "completed"


def test_a_run_that_is_begun_in_an_except_ends_by_the_exception_that_it_raises_once_more(tmp_path):
    with contextlib.suppress(MemoryError):
        try:
            raise MemoryError
        except MemoryError:
            run = eventlog.open_run(tmp_path, save_interval=0)
            try:
                raise
            finally:
                run.close()

    assert eventlog.load_run(run.journal_path).journal["reason"] == "MemoryError"


class Unwilling(int):
    def __int__(self):
        raise RuntimeError

    __index__ = __and__ = __int__


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (np.int64(0), "completed"),
        (np.int64(3), "failed"),
        (130, "interrupted"),
        (143, "interrupted"),
        (False, "completed"),
        (Unwilling(0), "completed"),
        (Unwilling(2), "failed"),
        ("no", "failed"),
    ],
)
def test_finish_with_an_exit_code_ends_a_run_as_a_program_with_that_code_does(
    tmp_path, code, status
):
    run = eventlog.init(dir=tmp_path, save_interval=0)
    run.finish(exit_code=code)

    assert eventlog.load_run(run.journal_path).status == status


ODD = {
    "an exception with a property": (
        "class Odd(Exception): __traceback__ = property(lambda self: 1 / 0)\n"
        "kept = [Odd()]\nraise SystemExit({})"
    ),
    "a signal meanwhile": (
        "import eventlog.tracker.exit_code as module, os, signal\n"
        "signal.signal(15, lambda number, frame: sys.exit(1))\n"
        "def behind(*args): os.kill(os.getpid(), 15)\n"
        "module.tracebacks_apart = behind\nraise SystemExit({})"
    ),
}


@pytest.mark.parametrize("code", [0, 3])
@pytest.mark.parametrize("end", ODD.values(), ids=ODD)
def test_a_program_exits_with_its_code_whatever_happens_while_that_is_noted(tmp_path, end, code):
    program = f"import sys\n{BEGIN}{end.format(code)}"
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True)

    assert done.returncode == code, done.stderr
