"""How a run that a notebook leaves unfinished ends: as the last cell did."""

import subprocess
import sys

import pytest

import eventlog

BEGIN = (
    "import eventlog, sys\nrun = eventlog.init(name='first', save_interval=0)\nrun.log({'a': 1})"
)
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
