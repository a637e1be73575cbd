"""Run this repository's programs in forks of one process, which has imported what they import.

Importing torch takes 4 s; the server does it once for all commands of a test module. It has a
single thread, so that a fork cannot inherit a lock that another thread holds. It imports neither
pandas nor pyarrow: these start a thread.
"""

import atexit
import contextlib
import gc
import importlib
import io
import json
import os
import runpy
import signal
import subprocess
import sys
import threading
import traceback
import types
import warnings
from pathlib import Path
from typing import Any

PRELOADED = ("torch", "torch._dynamo", "tyro", "matplotlib.pyplot", "rich.table")
TIMEOUT_S = 100


class ProgramServer:
    """Runs a Python script, or code with `-c`, as `python ...` does, in a new fork for each."""

    def __init__(self, env: dict[str, str]) -> None:
        command = [sys.executable, str(Path(__file__))]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env
        )

    def run(self, args: list[str], folder: Path, output: Path) -> int:
        """Run `python *args` in `folder`; its output goes to a file.

        Returns:
            The exit status: minus the signal's number if a signal ended it.
        """
        assert self._process.stdin
        assert self._process.stdout
        request = {"args": args, "folder": str(folder), "output": str(output)}
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def stop(self) -> None:
        self._process.communicate()


def serve() -> None:
    del sys.path[0]  # the folder of the tests
    for name in PRELOADED:
        importlib.import_module(name)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
        sys.argv = ["runs", "--help"]
        runpy.run_path(str(Path(sys.executable).parent / "runs"), run_name="__main__")
    sys.modules["torch"].set_num_threads(1)
    gc.freeze()  # so that a collection in a fork copies nothing
    assert len(os.listdir("/proc/self/task")) == 1
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            os._exit(finish(**json.loads(line)))
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


def finish(args: list[str], folder: str, output: str) -> int:
    """Run a program to its end, without the second that freeing all of torch would take."""
    status: object = 0
    try:
        become(args, folder, output)
    except SystemExit as exit:
        status = exit.code
    except BaseException:
        traceback.print_exc()
        status = 1
    if isinstance(status, str):
        print(status, file=sys.stderr)
        status = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    return int(status or 0)  # type: ignore[call-overload]


def become(args: list[str], folder: str, output: str) -> None:
    """What the interpreter does before a program's first line, and that program."""
    signal.alarm(TIMEOUT_S)
    os.chdir(folder)
    fd = os.open(output, os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(fd, 1)
    os.dup2(fd, 2)
    sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w", 1), open(2, "w", 1)  # noqa: SIM115
    if args[:2] == ["-W", "error"]:
        warnings.simplefilter("error")
        args = args[2:]
    if args[0] == "-c":
        sys.argv = ["-c", *args[2:]]
        sys.path.insert(0, "")
        main: Any = types.ModuleType("__main__")
        sys.modules["__main__"] = main
        exec(compile(args[1], "<string>", "exec"), main.__dict__)
        return
    sys.argv = args
    sys.path.insert(0, os.path.dirname(os.path.abspath(args[0])))
    runpy.run_path(args[0], run_name="__main__")


if __name__ == "__main__":
    serve()
