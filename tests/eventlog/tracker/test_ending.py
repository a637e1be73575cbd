"""How a run ends that `finish()` closes before its program ends with an error."""

import json
import os
import subprocess
import sys

import pytest

import eventlog

BEGIN = (
    "import atexit, os, signal, sys, time, eventlog\n"
    "run = eventlog.init(name='m', save_interval=0)\nrun.log({'a': 1})\n"
)
LOOP = "os.kill(os.getpid(), {}); time.sleep(9)\nrun.finish()\n"


def run_of(code, folder):
    """The run of a program, and the program's exit code."""
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, timeout=60)
    (journal,) = (folder / "out").glob("*.jsonl")
    return eventlog.load_run(journal), done.returncode


def ends(code, folder):
    run, _ = run_of(code, folder)
    return run.status, run.journal["reason"]


HANDLERS = {
    "sys.exit(143)": 143,
    "sys.exit(1)": 1,
    "os._exit(1)": 1,
    "pass": -9,
    "signal.signal(number, signal.SIG_DFL); os.kill(os.getpid(), number)": -15,
}


@pytest.mark.parametrize("then", HANDLERS)
def test_a_run_that_a_signal_handler_finishes_is_interrupted(tmp_path, then):
    handler = f"def stop(number, frame):\n    run.finish()\n    {then}\n"
    code = BEGIN + handler + "signal.signal(signal.SIGTERM, stop)\n" + LOOP.format(15)
    code += "os.kill(os.getpid(), signal.SIGKILL)"

    run, returncode = run_of(code.replace("sleep(9)", "sleep(.1)"), tmp_path)

    assert returncode == HANDLERS[then]
    assert (run.status, run.journal["reason"]) == ("interrupted", "SIGTERM, in its handler")
    assert run.journal["events"]["signal"] == 1


OTHER_HANDLERS = {
    "a lambda": "signal.signal(2, lambda *a: (run.finish(), sys.exit(130)))\n",
    "a method": (
        "class Stop:\n    def on(self, number, frame):\n        run.finish(); sys.exit(1)\n"
        "signal.signal(2, Stop().on)\n"
    ),
    "one that first restores the default": (
        "def stop(number, frame):\n    signal.signal(2, signal.SIG_DFL)\n    end()\n"
        "def end():\n    run.finish(); sys.exit(1)\n"
        "signal.signal(2, stop)\n"
    ),
    "open_run": (
        "run.finish(exit_code=0); os.remove(run.journal_path)\n"
        "run = eventlog.open_run(save_interval=0)\n"
        "signal.signal(2, lambda *a: (run.close(), sys.exit(1)))\n"
    ),
}


@pytest.mark.parametrize("handler", OTHER_HANDLERS.values(), ids=OTHER_HANDLERS)
def test_a_signal_handler_is_known_whatever_it_is(tmp_path, handler):
    code = BEGIN + handler + LOOP.format(2)

    assert ends(code, tmp_path) == ("interrupted", "SIGINT, in its handler")


def test_a_signal_without_a_name_is_a_signal_too(tmp_path):
    code = BEGIN + "signal.signal(40, lambda *a: run.finish())\nos.kill(os.getpid(), 40)"

    assert ends(code, tmp_path) == ("interrupted", "signal 40, in its handler")


def test_a_run_that_begins_and_finishes_in_a_signal_handler_is_completed(tmp_path):
    handler = f"def work(number, frame):\n    {BEGIN.splitlines()[1]}\n    run.finish()\n"
    code = BEGIN.splitlines()[0] + f"\n{handler}signal.signal(10, work)\nos.kill(os.getpid(), 10)"

    assert ends(code, tmp_path) == ("completed", None)


OWN = "class Own(Exception): pass\n"
EXITS = {
    "sys.exit(0)": "def stop(number, frame): sys.exit(0)\n",
    "sys.exit(1)": "def stop(number, frame): sys.exit(1)\n",
    "sys.exit(143)": "def stop(*_): sys.exit(143)\n",
    "sys.exit('text')": "def stop(*_): sys.exit('preempted')\n",
    "a lambda": "stop = lambda s, f: sys.exit(0)\n",
    "raise SystemExit": "def stop(number, frame): raise SystemExit\n",
    "raise KeyboardInterrupt": "def stop(number, frame): raise KeyboardInterrupt\n",
    "a function that it calls": "def end(): sys.exit(0)\ndef stop(number, frame): end()\n",
    "a signal that is ignored first": (
        "def stop(number, frame):\n    signal.signal(15, signal.SIG_IGN)\n    sys.exit(0)\n"
    ),
    "an exit in an except": (
        "def stop(number, frame):\n    try: 1 / 0\n    except Exception: sys.exit(0)\n"
    ),
}
RESTORED = "finally: signal.signal(15, old)\n"
BLOCKS = {
    "the handler before it is installed again": f"try: work()\n{RESTORED}",
    "the same in a with": f"with run:\n    try: work()\n    {RESTORED}",
    "unfinished": "work()\n",
    "unfinished, in a block": "try: work()\nfinally: pass\n",
    "with": "with run: work()\n",
    "finally": "try: work()\nfinally: run.finish()\n",
    "except that raises": "try: work()\nexcept BaseException:\n    run.finish()\n    raise\n",
    "generator": (
        "def items():\n    with run:\n        for i in range(9): yield i\n"
        "def train():\n    for i in items(): work()\ntrain()\n"
    ),
}
WORK = "def work():\n    os.kill(os.getpid(), 15)\n    time.sleep(9)\n"


IN_AN_EXCEPT = "an exit in an except"
PAIRS = [(one, "unfinished") for one in EXITS] + [(IN_AN_EXCEPT, one) for one in BLOCKS]


@pytest.mark.parametrize(("handler", "block"), PAIRS)
def test_a_run_whose_program_a_signal_handler_ends_is_interrupted(tmp_path, handler, block):
    install = "old = signal.signal(signal.SIGTERM, stop)\n"
    code = f"{BEGIN}{EXITS[handler]}{install}{WORK}{BLOCKS[block]}"

    assert ends(code, tmp_path) == ("interrupted", "SIGTERM, in its handler")


def test_open_run_is_interrupted_by_a_signal_handler_that_exits(tmp_path):
    begin = BEGIN.splitlines()[0] + "\nrun = eventlog.open_run(save_interval=0)\n"
    code = f"{begin}signal.signal(15, lambda s, f: sys.exit(0))\n{WORK}with run: work()"

    assert ends(code, tmp_path) == ("interrupted", "SIGTERM, in its handler")


def test_a_handler_that_deletes_its_arguments_is_a_signals_too(tmp_path):
    stop = "def stop(number, frame):\n    del number, frame\n    sys.exit(0)\n"
    code = f"{BEGIN}{stop}signal.signal(15, stop)\n{WORK}work()"

    assert ends(code, tmp_path) == ("interrupted", "exit code 0 in a signal handler")


WALKERS = {
    "a number and a frame": "def visit(depth, frame): raise ValueError('bad')\n",
    "the frame of another": (
        "def visit(depth, frame):\n    if depth == 2: raise ValueError('bad')\n"
        "    visit(depth + 1, frame)\n"
    ),
}


@pytest.mark.parametrize("walker", WALKERS)
def test_a_function_with_a_number_and_a_frame_is_no_signal_handler(tmp_path, walker):
    code = f"{BEGIN}{WALKERS[walker]}visit(1, sys._getframe())"

    assert ends(code, tmp_path) == ("failed", "ValueError: bad")


LEAVES_A_BLOCK = {
    "SIGTERM": ("interrupted", "SIGTERM, in its handler: Own: late"),
    "SIGUSR1": ("interrupted", "SIGUSR1, in its handler: Own: late"),
    "SIGALRM": ("failed", "Own: late"),
    "SIGCHLD": ("failed", "Own: late"),
}


@pytest.mark.parametrize("name", LEAVES_A_BLOCK)
@pytest.mark.parametrize("then", ["with run: {}", "{}"])
def test_another_exception_of_a_handler_interrupts_if_its_signal_asks_to_end(tmp_path, name, then):
    handler = f"{OWN}def stop(s, f): raise Own('late')\nsignal.signal(signal.{name}, stop)\n"
    code = BEGIN + handler + then.format(f"os.kill(os.getpid(), signal.{name}); time.sleep(9)")

    assert ends(code, tmp_path) == LEAVES_A_BLOCK[name]


def test_an_exit_with_an_error_because_of_a_signal_interrupts(tmp_path):
    handler = f"{OWN}def stop(s, f): raise Own\nsignal.signal(15, stop)\n"
    code = f"{BEGIN}{handler}{WORK}try: work()\nexcept Own: sys.exit(1)"

    assert ends(code, tmp_path)[0] == "interrupted"


ENDS_WELL = {
    "an exception that the program handles": (
        f"{OWN}def stop(s, f): raise Own\n",
        "try: work()\nexcept Own as e: error = e\nsys.exit(0)",
    ),
    "an exception whose traceback the program keeps": (
        f"{OWN}def stop(s, f): raise Own\n",
        "try: work()\nexcept Own as e: kept = e.__traceback__\nsys.exit(0)",
    ),
    "an exception whose traceback is in a cycle": (
        f"{OWN}def stop(s, f): raise Own\n",
        "def main():\n    try: work()\n    except Own: kept = sys.exc_info()[2]\n"
        "main()\nsys.exit(0)",
    ),
    "one exception for all signals": (
        f"{OWN}own = Own()\ndef stop(s, f): raise own\n",
        "try: work()\nexcept Own: pass\nsys.exit(0)",
    ),
    "an exit that the program handles": (
        "def stop(s, f): sys.exit(0)\n",
        "try: work()\nexcept SystemExit as e: error = e\nsys.exit(0)",
    ),
    "a flag": (
        "flags = []\ndef stop(s, f): flags.append(s)\n",
        "while not flags: os.kill(os.getpid(), 15)\nsys.exit(0)",
    ),
    "a handler that the program calls itself": (
        "def stop(number=None, frame=None): sys.exit(0)\n",
        "stop()",
    ),
    "one that it calls itself with any arguments": (
        "def stop(*_): sys.exit(0)\n",
        "stop(15, None)",
    ),
    "a run that was finished before": (
        "def stop(s, f): sys.exit(143)\n",
        "run.finish()\nwork()",
    ),
    "a generator that was closed before": (
        "def stop(s, f): sys.exit(0)\n",
        "def items():\n    with run: yield 1\nfor i in items(): break\nwork()",
    ),
}


@pytest.mark.parametrize("case", ENDS_WELL)
def test_a_run_that_a_signal_handler_does_not_end_is_completed(tmp_path, case):
    handler, then = ENDS_WELL[case]
    code = f"{BEGIN}{handler}signal.signal(signal.SIGTERM, stop)\n{WORK}{then}"

    assert ends(code, tmp_path) == ("completed", None)


DIE = "def die(e): raise RuntimeError('no data') from e\n"
MAIN = (
    "def main():\n    try: 1 / 0\n    except Exception:\n        run.finish()\n        return 1\n"
)
FAILS = {
    "sys.exit(rc) behind it": (
        "rc = 0\ntry: 1 / 0\nexcept Exception: rc = 1\nrun.finish()\nsys.exit(rc)",
        "exit code 1",
    ),
    "sys.exit(rc)": (
        "rc = 3\ntry: 1 / 0\nexcept Exception:\n    run.finish()\n    sys.exit(rc)",
        "exit code 3",
    ),
    "sys.exit('text')": (
        "try: 1 / 0\nexcept Exception as e:\n    run.finish()\n    sys.exit(f'bad: {e}')",
        "SystemExit: bad: division by zero",
    ),
    "sys.exit(main())": (MAIN + "sys.exit(main())", "exit code 1"),
    "a function that raises": (
        DIE + "try: 1 / 0\nexcept Exception as e:\n    run.finish()\n    die(e)",
        "RuntimeError: no data",
    ),
    "raised behind it": (
        "try: 1 / 0\nexcept Exception as e:\n    error = e\n    run.finish()\nraise error",
        "ZeroDivisionError: division by zero",
    ),
    "raised on a condition": (
        "try: 1 / 0\nexcept Exception as e:\n    run.finish()\n    if e: raise ValueError('so')",
        "ValueError: so",
    ),
}


@pytest.mark.parametrize("case", FAILS)
def test_a_run_that_is_finished_in_an_except_fails_if_the_program_then_does(tmp_path, case):
    code, reason = FAILS[case]

    assert ends(BEGIN + code, tmp_path) == ("failed", reason)


def test_a_run_whose_program_exits_with_the_code_of_a_signal_is_interrupted(tmp_path):
    code = BEGIN + "code = 143\nrun.finish()\nsys.exit(code)"

    assert ends(code, tmp_path) == ("interrupted", "exit code 143")


AGAIN = "run = eventlog.init(name='n', dir='other', save_interval=0)\n"
COMPLETED = {
    "exit code 0": "try: 1 / 0\nexcept Exception:\n    run.finish()\n    sys.exit(0)",
    "no error": "try: 1 / 0\nexcept Exception: run.finish()",
    "an error behind it": "run.finish()\n1 / 0",
    "another error behind an except": "try: 1 / 0\nexcept Exception: run.finish()\nint('x')",
    "the same error again elsewhere": ("try: int('x')\nexcept ValueError: run.finish()\nint('x')"),
    "an error of a later run": f"run.finish()\n{AGAIN}1 / 0",
    "an exit code of a later run": f"run.finish()\n{AGAIN}run.finish()\nsys.exit(1)",
    "a later run after an except": (
        f"try: 1 / 0\nexcept Exception: run.finish()\n{AGAIN}run.finish()\nsys.exit(1)"
    ),
    "finish(0)": "try: 1 / 0\nexcept Exception:\n    run.finish(0)\n    sys.exit(rc := 1)",
    "a forked child": ("run.finish()\nif not os.fork(): sys.exit(3)\nos.wait()"),
    "a forked child that finishes it too": (
        "if not os.fork():\n    time.sleep(.5)\n    run.finish()\n    sys.exit(3)\n"
        "run.finish()\nos.wait()"
    ),
    "with": "with run: pass\nsys.exit(rc := 3)",
}


@pytest.mark.parametrize("code", COMPLETED.values(), ids=COMPLETED)
def test_a_run_that_is_finished_before_something_else_fails_is_completed(tmp_path, code):
    assert ends(BEGIN + code, tmp_path) == ("completed", None)


def test_an_exit_code_of_a_program_with_two_runs_is_of_neither(tmp_path):
    before = "import eventlog\neventlog.init(dir='other', save_interval=0).finish()\n"

    assert ends(before + BEGIN + "run.finish()\nsys.exit(rc := 1)", tmp_path)[0] == "completed"


def test_a_corrected_run_is_complete_and_has_its_run_json_written_again(tmp_path):
    code = BEGIN.replace("save_interval=0", "save_interval=1") + FAILS["sys.exit(rc)"][0]
    run_of(code, tmp_path)

    (path,) = (tmp_path / "out").glob("*.json")
    journal = json.loads(path.read_text())["journal"]
    assert (journal["status"], journal["reason"]) == ("failed", "exit code 3")
    assert (journal["events"]["close"], journal["defects"]) == (2, [])
    assert len(journal["sessions"]) == 1
    verify = [sys.executable, "-m", "eventlog", "verify", str(path.with_suffix(".jsonl"))]
    assert subprocess.run(verify, capture_output=True).returncode == 0


CHANGED = {
    "deleted": "os.remove(run.journal_path)",
    "resumed": "eventlog.open_run(journal=run.journal_path, save_interval=0).close('completed')",
    "being resumed": (
        "import fcntl\nlock = open(run.journal_path); fcntl.flock(lock, fcntl.LOCK_EX)"
    ),
    "followed by another line": "open(run.journal_path, 'ab').write(b'x')",
}


@pytest.mark.parametrize("change", CHANGED.values(), ids=CHANGED)
def test_a_journal_that_is_not_as_the_run_left_it_is_not_corrected(tmp_path, change):
    show = "print(os.path.exists(p) and open(p, 'rb').read(), flush=True)"
    before = f"run.finish()\np = run.journal_path\n{change}\n{show}\n"
    code = (
        f"import atexit\natexit.register(lambda: exec({show!r}))\n{BEGIN}{before}sys.exit(rc := 1)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True)

    left, after = done.stdout.splitlines()
    assert left == after
    assert done.returncode == 1


def test_a_run_that_went_on_in_a_segment_is_corrected_there(tmp_path):
    code = BEGIN + "run.session._journal._writer.begin_segment()\n" + FAILS["sys.exit(rc)"][0]
    run, _ = run_of(code, tmp_path)

    assert (run.status, run.journal["reason"]) == ("failed", "exit code 3")


def test_a_disk_that_refuses_the_correction_leaves_the_journal_as_it_was(tmp_path):
    limit = "import resource\nsize = os.path.getsize(run.journal_path)\n"
    limit += "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
    limit += "resource.setrlimit(resource.RLIMIT_FSIZE, (size + 20, size + 20))\n"
    run, _ = run_of(f"{BEGIN}run.finish()\n{limit}sys.exit(size)", tmp_path)

    assert (run.status, run.journal["defects"]) == ("completed", [])
    assert os.stat(run.path.with_suffix(".jsonl")).st_size == run.journal["bytes"]


ASYNC = "import asyncio, threading\n"
WAITS = {
    "finally": "    try: await asyncio.sleep(9)\n    finally: run.finish()\n",
    "with": "    with run: await asyncio.sleep(9)\n",
    "nothing": "    await asyncio.sleep(9)\n",
}


@pytest.mark.parametrize("waits", WAITS.values(), ids=WAITS)
def test_ctrl_c_interrupts_the_run_of_a_coroutine(tmp_path, waits):
    code = (
        f"{ASYNC}{BEGIN}async def main():\n    os.kill(os.getpid(), 2)\n{waits}asyncio.run(main())"
    )

    assert ends(code, tmp_path) == ("interrupted", "KeyboardInterrupt")


@pytest.mark.parametrize("waits", WAITS.values(), ids=WAITS)
def test_a_signal_handler_that_exits_interrupts_the_run_of_a_coroutine_that_waits(tmp_path, waits):
    handler = "signal.signal(15, lambda s, f: sys.exit(0))\n"
    kill = "    threading.Timer(.3, os.kill, (os.getpid(), 15)).start()\n"
    code = f"{ASYNC}{BEGIN}{handler}async def main():\n{kill}{waits}asyncio.run(main())"

    assert ends(code, tmp_path) == ("interrupted", "SIGTERM, in its handler")


def test_a_coroutine_that_is_cancelled_in_another_way_fails(tmp_path):
    main = f"async def main():\n{WAITS['finally']}asyncio.run(asyncio.wait_for(main(), .1))"

    assert ends(ASYNC + BEGIN + main, tmp_path) == ("failed", "CancelledError")


ITEMS = {
    "finally": (
        "def items():\n    try:\n        for i in range(9): yield i\n    finally: run.finish()\n"
    ),
    "with": "def items():\n    with run:\n        for i in range(9): yield i\n",
}
CONSUMERS = {
    "raises": ("for i in items():\n    if i == 3: 1 / 0", "failed"),
    "raises in a function": (
        "def train():\n    for i in items():\n        if i == 3: 1 / 0\ntrain()",
        "failed",
    ),
    "breaks": ("for i in items():\n    if i == 3: break", "completed"),
    "breaks, and then raises": ("for i in items():\n    if i == 3: break\n1 / 0", "completed"),
    "ends": ("for i in items(): pass\n1 / 0", "completed"),
}


@pytest.mark.parametrize("items", ITEMS.values(), ids=ITEMS)
@pytest.mark.parametrize("case", CONSUMERS)
def test_the_run_of_a_generator_fails_if_its_consumer_raises(tmp_path, case, items):
    code, status = CONSUMERS[case]

    assert ends(BEGIN + items + code, tmp_path)[0] == status


@pytest.mark.parametrize("end", ["with run: yield", "try: yield\n    finally: run.close()"])
def test_a_generator_that_is_closed_completes_a_run_of_open_run(tmp_path, end):
    items = f"def items():\n    run = eventlog.open_run(save_interval=0)\n    {end}\n"

    assert ends(f"import eventlog\n{items}for i in items(): break", tmp_path) == ("completed", None)


def test_an_asynchronous_generator_that_is_closed_completes_its_run(tmp_path):
    items = "async def items():\n    with run:\n        while True: yield\n"
    main = "async def main():\n    it = items()\n    await anext(it)\n    await it.aclose()\n"

    assert ends(f"{ASYNC}{BEGIN}{items}{main}asyncio.run(main())", tmp_path) == ("completed", None)


INTERRUPTED_EXITS = {
    "sys.exit(1)": "try: raise KeyboardInterrupt\nexcept KeyboardInterrupt: sys.exit(1)",
    "an exception of a library": (
        "class Abort(Exception): pass\n"
        "try:\n    try: raise KeyboardInterrupt\n"
        "    except KeyboardInterrupt as e: raise Abort from e\n"
        "except Abort: sys.exit(1)"
    ),
}


@pytest.mark.parametrize("code", INTERRUPTED_EXITS.values(), ids=INTERRUPTED_EXITS)
def test_an_exit_with_an_error_because_of_ctrl_c_interrupts_a_run(tmp_path, code):
    assert ends(BEGIN + code, tmp_path) == ("interrupted", "KeyboardInterrupt")


def test_an_exit_with_an_error_after_ctrl_c_was_handled_fails(tmp_path):
    code = "try: raise KeyboardInterrupt\nexcept KeyboardInterrupt: pass\nsys.exit(1)"

    assert ends(BEGIN + code, tmp_path) == ("failed", "exit code 1")


CLICK = "import click\n@click.command()\n@click.pass_context\ndef main(ctx):\n"
CLICK_ENDS = {
    "ctx.exit() in a with": ("with run: ctx.exit()", ("completed", None)),
    "ctx.exit(3) in a with": ("with run: ctx.exit(3)", ("failed", "exit code 3")),
    "ctx.exit() and finally": ("try: ctx.exit()\n    finally: run.finish()", ("completed", None)),
    "Ctrl-C": ("raise KeyboardInterrupt", ("interrupted", "KeyboardInterrupt")),
    "a wrong argument": ("raise click.ClickException('x')", ("failed", "exit code 1")),
    "Ctrl-C, handled": (
        "try: raise KeyboardInterrupt\n    except KeyboardInterrupt: pass\n    ctx.exit(1)",
        ("failed", "exit code 1"),
    ),
}


@pytest.mark.parametrize("case", CLICK_ENDS)
def test_a_program_of_click_ends_its_run_as_it_exits(tmp_path, case):
    pytest.importorskip("click")
    code, expected = CLICK_ENDS[case]

    assert ends(f"{BEGIN}{CLICK}    {code}\nmain()", tmp_path) == expected


@pytest.mark.parametrize(("code", "status"), [("", "completed"), ("3", "failed")])
def test_a_program_of_typer_ends_its_run_as_it_exits(tmp_path, code, status):
    pytest.importorskip("typer")
    main = f"def main():\n    with run: raise typer.Exit({code})\n"

    assert ends(f"import typer\n{BEGIN}{main}typer.run(main)", tmp_path)[0] == status


SPAWN = """
import os, signal, time, torch.multiprocessing as mp
def train(rank):
    import eventlog
    if rank == 0:
        {}
    if rank == 0: os.kill(os.getpid(), {})
    time.sleep(.2)
    if rank == 0 and not os.getpid(): run.finish()
if __name__ == "__main__": mp.spawn(train, nprocs=1)
"""
BEGINS = ["run = eventlog.init(save_interval=0)", "run = eventlog.open_run(save_interval=0)"]


@pytest.mark.parametrize(
    ("begin", "number", "status"),
    [(BEGINS[0], 2, "interrupted"), (BEGINS[1], 2, "interrupted"), (BEGINS[0], 0, "completed")],
)
def test_ctrl_c_in_a_process_that_torch_spawns_interrupts_its_run(tmp_path, begin, number, status):
    pytest.importorskip("torch")
    (tmp_path / "train.py").write_text(SPAWN.format(begin, number))
    subprocess.run([sys.executable, "train.py"], cwd=tmp_path, capture_output=True, check=True)

    (journal,) = (tmp_path / "out").glob("*.jsonl")
    run = eventlog.load_run(journal)
    assert (run.status, run.journal["reason"]) == (status, "KeyboardInterrupt" if number else None)


LEFT = {
    "an asynchronous generator that the loop left": "    async for _ in items(): break\n",
    "a task that goes on": (
        "    async def train():\n        async for _ in items(): await asyncio.sleep(0)\n"
        "    task = asyncio.create_task(train())\n    await asyncio.sleep(.05)\n"
    ),
}


@pytest.mark.parametrize("main", LEFT.values(), ids=LEFT)
def test_what_asyncio_cancels_when_the_main_coroutine_has_returned_completes_its_run(
    tmp_path, main
):
    items = "async def items():\n    with run:\n        while True: yield\n"
    code = f"{ASYNC}{BEGIN}{items}async def main():\n{main}asyncio.run(main())"

    assert ends(code, tmp_path) == ("completed", None)
