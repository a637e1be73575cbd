"""Who writes a session and with what: host, process, command line, git commit, versions.

`origin()` returns these fields of an `open` event. Environment variables are never recorded: they
hold secrets. A field that cannot be read is None; nothing here raises, and nothing waits longer
than `git.GIT_WAIT_S`.
"""

import os
import platform
import socket
import sys
from pathlib import Path
from typing import Any

import orjson

from eventlog.read.alive import start_of, this_boot
from eventlog.write.git import GitState, or_none


def origin() -> dict[str, Any]:
    """Host, process, program, commit and versions, as the `open` event has them."""
    with GitState(_program_folder()) as git:  # git runs while the rest is collected
        fields = {
            "host": or_none(socket.gethostname),
            "pid": os.getpid(),
            "pid_started": start_of(os.getpid()),
            "boot_id": this_boot(),
            "user": os.environ.get("USER") or os.environ.get("LOGNAME"),
            "cwd": or_none(os.getcwd),  # it may have been deleted
            "command": list(getattr(sys, "orig_argv", None) or getattr(sys, "argv", [])),
            "versions": _versions(),
            "platform": or_none(platform.platform),
        }
        return fields | {"git_commit": git.commit()}


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version(), "orjson": orjson.__version__}
    for name in ("torch", "numpy"):
        version = getattr(sys.modules.get(name), "__version__", None)
        if version is not None:
            versions[name] = str(version)
    return versions


def _program_folder() -> Path | None:
    """The folder of the running program; the working folder of an interactive one."""
    argv = getattr(sys, "argv", None)
    if argv and argv[0]:
        return or_none(lambda: Path(argv[0]).resolve().parent)
    return or_none(Path.cwd)
