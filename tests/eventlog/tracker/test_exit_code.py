"""How an unfinished run records the end of its program."""

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


class Unwilling(int):
    def __int__(self):
        raise RuntimeError

    __index__ = __and__ = __int__


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (np.int64(0), "completed"),
        (np.int64(3), "failed"),
        (False, "completed"),
        (Unwilling(0), "completed"),
        (Unwilling(2), "failed"),
        ("no", "failed"),
    ],
)
def test_finish_accepts_whole_numbers_of_any_class(tmp_path, code, status):
    run = eventlog.init(dir=tmp_path, save_interval=0)
    run.finish(exit_code=code)

    assert eventlog.load_run(run.journal_path).status == status
