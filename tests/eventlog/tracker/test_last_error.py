"""How a run that a notebook or a prompt leaves unfinished ends: as the last cell did."""

import os
import pty
import signal
import subprocess
import sys
import weakref
from contextlib import suppress

import pytest

import eventlog

BEGIN = (
    "import eventlog, sys\nrun = eventlog.init(name='first', save_interval=0)\nrun.log({'a': 1})"
)
DIVIDED = ("failed", "ZeroDivisionError: division by zero")
GOOD = "run.log({'a': 2})"
ASYNC_ERROR = "import asyncio\nawait asyncio.sleep(0)\n1 / 0"
LAST_VALUE = "import sys\nsys.last_value = ValueError('old')"

COMPLETED = {
    "no error": [BEGIN],
    "an error": [BEGIN, "1 / 0", GOOD],
    "an error before the run": ["1 / 0", BEGIN],
    "sys.exit(3)": [BEGIN, "sys.exit(3)", GOOD],
    "a syntax error": [BEGIN, "x = = 1", GOOD],
    "an error in an async cell": [BEGIN, ASYNC_ERROR, GOOD],
    "Ctrl-C": [BEGIN, "raise KeyboardInterrupt", GOOD],
    "sys.last_value is set": [BEGIN, LAST_VALUE, GOOD],
    "sys.last_value is set in the last cell": [BEGIN, LAST_VALUE],
    "sys.exit(0) in the last cell": [BEGIN, "sys.exit(0)"],
    "an error in a cell that does not log": [BEGIN, "1 / 0", "print(1)"],
    "a run that is logged to in the cell of an error and later": [BEGIN + "\n1 / 0", GOOD, "1"],
    "a run that is finished by hand": [BEGIN + "\n1 / 0", "run.finish()"],
}
TRAINS = "for i in range(9):\n    run.log({{'a': i}})\n    if i == 5:\n        {}"
IN_THE_LAST_CELL = {
    "1 / 0": ("failed", "ZeroDivisionError: division by zero"),
    ASYNC_ERROR: ("failed", "ZeroDivisionError: division by zero"),
    "sys.exit(3)": ("failed", "exit code 3"),
    "raise KeyboardInterrupt": ("interrupted", "KeyboardInterrupt"),
}


def runs_of(cells, folder):
    """The run of each name after a notebook with these cells."""
    program = (
        "from IPython.core.interactiveshell import InteractiveShell\n"
        f"for cell in {cells!r}: InteractiveShell.instance().run_cell(cell)"
    )
    subprocess.run([sys.executable, "-c", program], cwd=folder, capture_output=True, check=True)
    runs = map(eventlog.load_run, (folder / "out").glob("*.jsonl"))
    return {run.run_name.split("_")[0]: (run.status, run.journal["reason"]) for run in runs}


@pytest.mark.parametrize("cells", COMPLETED.values(), ids=COMPLETED)
def test_a_run_is_completed_if_the_last_cell_succeeds(tmp_path, cells):
    assert runs_of(cells, tmp_path) == {"first": ("completed", None)}


@pytest.mark.parametrize("cell", IN_THE_LAST_CELL)
def test_an_error_in_the_last_cell_is_how_the_run_ends(tmp_path, cell):
    assert runs_of([BEGIN, GOOD, cell], tmp_path) == {"first": IN_THE_LAST_CELL[cell]}


@pytest.mark.parametrize("cell", IN_THE_LAST_CELL)
@pytest.mark.parametrize("begin", [[BEGIN], []])
def test_an_error_in_the_last_cell_that_logs_is_how_the_run_ends(tmp_path, begin, cell):
    train = TRAINS.format(cell.replace("\n", "\n        "))
    cells = [*begin, train if begin else f"{BEGIN}\n{train}", "print(1)", "x = = 1", "print(2)"]

    assert runs_of(cells, tmp_path) == {"first": IN_THE_LAST_CELL[cell]}


def test_a_run_that_begins_after_an_error_leaves_the_one_before_failed(tmp_path):
    runs = runs_of([BEGIN, "1 / 0", BEGIN.replace("first", "second")], tmp_path)

    assert runs["first"] == ("failed", "ZeroDivisionError: division by zero")
    assert runs["second"] == ("completed", None)


def test_an_error_of_a_script_that_ipython_runs_is_how_the_run_ends(tmp_path):
    (tmp_path / "train.py").write_text(f"{BEGIN}\n1 / 0")
    program = [sys.executable, "-m", "IPython", "--no-banner", "train.py"]
    subprocess.run(program, cwd=tmp_path, capture_output=True)

    (journal,) = (tmp_path / "out").glob("*.jsonl")
    assert eventlog.load_run(journal).status == "failed"


def test_an_error_of_a_script_in_a_cell_is_none_of_a_run_that_begins_after_it(tmp_path):
    (tmp_path / "bad.py").write_text(f"{BEGIN}\n1 / 0")
    (tmp_path / "good.py").write_text(BEGIN.replace("first", "second"))

    runs = runs_of(["%run bad.py\n%run good.py"], tmp_path)

    assert runs == {"first": DIVIDED, "second": ("completed", None)}


class Model:
    """Something large."""


@pytest.mark.parametrize("later", [[], ["print(3)"]])
def test_an_error_of_a_script_that_a_cell_runs_is_how_its_run_ends(tmp_path, later):
    (tmp_path / "train.py").write_text(f"{BEGIN}\n{GOOD}\n1 / 0")

    assert runs_of(["%run train.py", *later], tmp_path) == {"first": DIVIDED}


@pytest.mark.usefixtures("clean")
def test_a_run_does_not_keep_the_variables_of_an_earlier_error(monkeypatch):
    model = Model()
    kept = weakref.ref(model)
    try:
        raise MemoryError(model)
    except MemoryError as error:
        monkeypatch.setattr(sys, "last_value", error, raising=False)
    with eventlog.init(dir="out", save_interval=0):
        sys.last_value = model = None

        assert kept() is None


@pytest.mark.usefixtures("clean")
def test_a_run_does_not_keep_the_variables_of_a_function_that_may_handle_signals():
    def train(rank, world):
        signal.getsignal(signal.SIGTERM)
        model = Model()
        kept = weakref.ref(model)
        with eventlog.init(dir="out", save_interval=0):
            model = None
            return kept() is None, rank, world

    assert train(0, 1) == (True, 0, 1)


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="`exec` makes none in functions")
@pytest.mark.usefixtures("clean")
def test_variables_that_exec_made_stay():
    def train(rank, world):
        signal.getsignal(signal.SIGTERM)
        exec("lr = 0.1")
        with eventlog.init(dir="out", save_interval=0):
            return eval("lr"), rank, world

    assert train(0, 1) == (0.1, 0, 1)


@pytest.mark.usefixtures("clean")
def test_variables_of_a_function_that_is_traced_stay():
    def begin(frame, event, arg):
        if event == "line" and not runs:
            runs.append(eventlog.init(dir="out", save_interval=0))
        return begin

    def train(rank, world):
        signal.getsignal(signal.SIGTERM)
        lr = 0.1
        return lr, rank, world

    runs, trace = [], sys.gettrace()
    sys.settrace(lambda *args: begin if args[0].f_code is train.__code__ else None)
    try:
        assert train(0, 1) == (0.1, 0, 1)
    finally:
        sys.settrace(trace)
    assert len(runs) == 1


@pytest.mark.usefixtures("clean")
def test_variables_that_the_program_has_read_stay_in_its_dict():
    def train(rank, world):
        signal.getsignal(signal.SIGTERM)
        mine = locals()
        with eventlog.init(dir="out", save_interval=0):
            return mine

    assert train(0, 1)["world"] == 1


TRAIN = "def train():\n    run.log({'a': 2})\n    1 / 0\n\ntrain()"
LOOP = "for i in range(9):\n    run.log({'a': i})\n    if i == 3: 1 / 0\n"
AT_A_PROMPT = {
    "a misspelled name": (["prnt(3)"], ("completed", None)),
    "a syntax error": (["x = = 1"], ("completed", None)),
    "an error of a library": (["import json; json.loads('x')"], ("completed", None)),
    "an error of a function that logs": ([TRAIN, "1"], DIVIDED),
    "an error of a line that logs": ([LOOP, "1"], DIVIDED),
    "a misspelled name behind it": ([TRAIN, "prnt(3)"], DIVIDED),
    "an exit code": (["prnt(3)", "exit(3)"], ("failed", "exit code 3")),
}


def run_at_a_prompt(folder, lines, *args):
    """The run of a session at Python's prompt, in a terminal."""
    ours, its = pty.openpty()
    prompt = subprocess.Popen(
        [sys.executable, *args], cwd=folder, stdin=its, stdout=its, stderr=its
    )
    os.close(its)
    os.write(ours, "\n".join([*lines, "exit()", ""]).encode())
    with suppress(OSError):  # the prompt has ended
        while os.read(ours, 4096):
            pass
    os.close(ours)
    prompt.wait(60)
    (journal,) = (folder / "out").glob("*.jsonl")
    run = eventlog.load_run(journal)
    return run.status, run.journal["reason"]


@pytest.mark.parametrize("case", AT_A_PROMPT)
def test_an_error_at_pythons_prompt_is_of_the_run_if_it_came_from_what_logs(tmp_path, case):
    lines, ends = AT_A_PROMPT[case]

    assert run_at_a_prompt(tmp_path, [BEGIN, *lines]) == ends


AFTER_A_SCRIPT = {"1 / 0": DIVIDED, "": ("completed", None)}


@pytest.mark.parametrize("last", AFTER_A_SCRIPT)
@pytest.mark.parametrize("lines", [[], ["prnt(3)"]])
def test_at_the_prompt_behind_a_script_its_run_ends_as_the_script_did(tmp_path, last, lines):
    (tmp_path / "train.py").write_text(f"{BEGIN}\n{last}")

    assert run_at_a_prompt(tmp_path, lines, "-i", "train.py") == AFTER_A_SCRIPT[last]


def test_a_misspelled_name_at_a_prompt_within_a_program_is_not_how_its_run_ends(tmp_path):
    (tmp_path / "train.py").write_text(f"{BEGIN}\nimport code; code.interact()")

    assert run_at_a_prompt(tmp_path, ["prnt(3)"], "train.py") == ("completed", None)


def test_an_error_of_a_program_from_stdin_is_how_its_run_ends(tmp_path):
    subprocess.run([sys.executable], input=f"{BEGIN}\n1 / 0".encode(), cwd=tmp_path)

    (journal,) = (tmp_path / "out").glob("*.jsonl")
    assert eventlog.load_run(journal).status == "failed"
