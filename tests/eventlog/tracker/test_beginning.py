"""A run that its function begins and does not come to finish."""

import subprocess
import sys

import pytest

import eventlog

START = "import os, sys, eventlog\nsettings = dict(save_interval=0, quiet=True)\n"
TRIAL = """
def trial(n):
    run = eventlog.init(name=f"t{n}", **settings)
    for i in range(9):
        run.log({"loss": 1.0})
        if n == 2 and i == 5: raise FloatingPointError("loss is nan")
    run.finish()
"""
LOOP = "for n in (1, 2, 3):\n    try: trial(n)\n    except Exception: pass\n"
POOL = """
import concurrent.futures, multiprocessing
with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as pool:
    for n in (1, 2, 3):
        try: pool.submit(trial, n).result()
        except FloatingPointError: pass
"""
GOES_ON = "\n    return 1"
MODULE = """
for n in (1, 2, 3):
    try:
        run = eventlog.init(name=f"t{n}", **settings)
        run.log({"loss": 1.0})
        if n == 2: 1 / 0
        run.finish()
    except ZeroDivisionError: print("failed")
"""
METHOD = """
class Trial:
    def run_it(self, n):
        self.run = eventlog.init(name=f"t{n}", **settings)
        if n == 2: raise FloatingPointError
        self.run.finish()
def trial(n): Trial().run_it(n)
"""
OF_THE_MODULE = (
    TRIAL.replace("run.finish", "eventlog.finish")
    .replace("run = ", "")
    .replace("run.log", "eventlog.log")
)
INTERRUPTED = {
    "a loop": TRIAL + LOOP,
    "the last one": TRIAL + LOOP.replace("(1, 2, 3)", "(1, 3, 2)"),
    "a pool of processes": TRIAL + POOL,
    "a loop in a module": MODULE,
    "an attribute": METHOD + LOOP,
    "eventlog.finish()": OF_THE_MODULE + LOOP,
    "a function that handles it": (
        TRIAL.replace("for i in", "try:\n     for i in")
        .replace("    run.finish()", "     run.finish()")
        .replace("        run.log", "          run.log")
        .replace("        if", "          if")
        + "    except Exception: pass\nfor n in (1, 2, 3): trial(n)"
    ),
}


def statuses(code, folder):
    done = subprocess.run([sys.executable, "-c", START + code], cwd=folder, capture_output=True)
    runs = map(eventlog.load_run, (folder / "out").glob("*.jsonl"))
    return {run.run_name[:2]: run.status for run in runs}, done


@pytest.mark.parametrize("code", INTERRUPTED.values(), ids=INTERRUPTED)
def test_a_trial_that_an_exception_ends_before_its_finish_is_not_completed(tmp_path, code):
    found, done = statuses(code, tmp_path)

    assert found == {"t1": "completed", "t2": "interrupted", "t3": "completed"}, done.stderr


BEGIN = "    run = eventlog.init(name='t1', **settings)\n    run.log({'loss': 1.0})\n"
END = "    run.finish()\ntrial()"
COMPLETED = {
    "no finish": f"def trial():\n{BEGIN}trial()",
    "finish on a condition": f"def trial():\n{BEGIN}    if not run: run.finish()\ntrial()",
    "finish of something else": (
        f"class Bar:\n    def finish(self): pass\ndef trial():\n{BEGIN}    Bar().finish()\n"
        f"    bar = Bar()\n    bar.finish()\ntrial()"
    ),
    "finish is passed on": (
        f"import threading\ndef trial():\n{BEGIN}    timer = threading.Timer(3600, run.finish)\n"
        f"    timer.daemon = True; timer.start()\ntrial()"
    ),
    "eventlog.finish is passed on": (
        f"import atexit\ndef trial():\n{BEGIN}    atexit.register(eventlog.finish)\ntrial()"
    ),
    "the run is returned": f"def begin():\n{BEGIN}    return run\nbegin()",
    "a return before": f"def trial():\n{BEGIN}    if run: return\n    run.finish()\ntrial()",
    "sys.exit(0) before": f"def trial():\n{BEGIN}    if run: sys.exit(0)\n{END}",
    "sys.exit() before": f"def trial():\n{BEGIN}    if run: sys.exit()\n{END}",
    "a generator": f"def trial():\n{BEGIN}    yield\n    run.finish()\nt = trial(); next(t)",
    "a function that is running": f"def trial(n=1):\n{BEGIN}    if n: trial(0)\n{END}",
    "a loop that does not finish": (
        "for n in (1, 2):\n    run = eventlog.init(name=f't{n}', **settings)\nrun.finish()"
    ),
    "an exit in a process": (
        f"import multiprocessing\ndef trial():\n{BEGIN}    if run: sys.exit(0)\n    run.finish()\n"
        f"p = multiprocessing.get_context('fork').Process(target=trial); p.start(); p.join()"
    ),
}


@pytest.mark.parametrize("code", COMPLETED.values(), ids=COMPLETED)
def test_a_run_whose_function_does_not_always_finish_it_is_completed(tmp_path, code):
    found, done = statuses(code, tmp_path)

    assert set(found.values()) == {"completed"}, done.stderr
    assert done.returncode == 0
