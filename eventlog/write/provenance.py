"""Who writes a session and with what: host, process, command line, git commit, versions.

`origin()` returns these fields of an `open` event. Environment variables are never recorded: they
hold secrets. A field that cannot be read is None; nothing here raises, and nothing waits longer
than GIT_WAIT_S.
"""

import os
import platform
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import orjson

from eventlog.interruption import ignoring
from eventlog.read.alive import start_of, this_boot

GIT_WAIT_S = 0.5
KILL_WAIT_S = 0.2
_FILE_MAX_BYTES = 64 << 20  # of a repository's packed-refs, the largest file that is read
_SYMREFS_MAX = 5  # references that name another reference, as git follows them
_GIT = (
    "git",
    "--no-optional-locks",
    "--no-pager",
    *("-c", "core.fsmonitor=false"),
    *("-c", "core.hooksPath=/dev/null"),
    *("-c", "core.untrackedCache=false"),
)
_STATUS = (
    *("status", "--porcelain=v2", "--branch", "--no-ahead-behind"),
    *("--untracked-files=no", "--no-renames"),
)
_GIT_ENVIRONMENT = {
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ALLOW_PROTOCOL": "none",  # a partial clone would download what it compares
    "GIT_NO_LAZY_FETCH": "1",
}
_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")

T = TypeVar("T")


class GitState:
    """The commit of the repository that a folder belongs to, and whether its files differ from it.

        <commit>     no tracked file differs from it
        <commit>+    tracked files differ from it
        <commit>?    git is missing, refused or took too long: whether files differ is unknown

    The commit itself is read from the files in `.git`; only the comparison runs git. That takes no
    lock of the repository (an `index.lock` makes the user's own `git commit` fail), runs no hook,
    no file-system monitor and no pager, downloads nothing, asks for nothing, and is killed with all
    processes it started after GIT_WAIT_S. A context manager that ends git.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._git_dir = or_none(lambda: _find_git_dir(folder)) if folder else None
        self._started = time.monotonic()
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "GitState":
        if self._git_dir is not None:
            with ignoring(OSError, ValueError, subprocess.SubprocessError):
                self._process = subprocess.Popen(
                    [*_GIT, "-C", str(self._folder), *_STATUS],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    env=os.environ | _GIT_ENVIRONMENT,
                    start_new_session=True,  # so that all processes it starts are killed with it
                )
        return self

    def __exit__(self, *error: object) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if process.returncode is None:  # not reaped yet: the group's number is still its own
            with ignoring(OSError):
                os.killpg(process.pid, signal.SIGKILL)
        if process.stdout is not None:
            process.stdout.close()
        if not _has_ended(process):
            with ignoring(RuntimeError):  # no thread can start
                threading.Thread(target=process.wait, name="git-wait", daemon=True).start()

    def commit(self) -> str | None:
        """The commit and its mark; None outside a repository and before its first commit."""
        if self._git_dir is None:
            return None
        lines = self._status()
        if lines is not None:
            first = lines[0].removeprefix("# branch.oid ") if lines else ""
            if _COMMIT.fullmatch(first):
                differs = any(line and not line.startswith("#") for line in lines)
                return f"{first}+" if differs else first
        git_dir = self._git_dir
        commit = or_none(lambda: _head_commit(git_dir))
        return f"{commit}?" if commit else None

    def _status(self) -> list[str] | None:
        """What `git status` printed; None if it failed or took too long."""
        if self._process is None:
            return None
        left = self._started + GIT_WAIT_S - time.monotonic()
        with ignoring(subprocess.SubprocessError, OSError, ValueError):
            printed, _ = self._process.communicate(timeout=max(left, 0.01))
            if self._process.returncode == 0:
                return printed.decode("utf-8", "replace").splitlines()
        return None


def _has_ended(process: "subprocess.Popen[bytes]") -> bool:
    """Whether a killed process ends within KILL_WAIT_S; on a hung file system it does not."""
    with ignoring(subprocess.TimeoutExpired):
        process.wait(KILL_WAIT_S)
    return process.returncode is not None


def _find_git_dir(folder: Path) -> Path | None:
    """The repository that git would find for a folder, by git's own rules."""
    if named := os.environ.get("GIT_DIR"):
        return folder / named
    ceilings = set(filter(None, os.environ.get("GIT_CEILING_DIRECTORIES", "").split(os.pathsep)))
    device = folder.stat().st_dev
    for parent in (folder, *folder.parents):
        if parent.stat().st_dev != device:
            return None  # git stops at a mount point
        path = parent / ".git"
        if path.is_dir():
            return path
        if path.is_file():  # a worktree or a submodule
            text = _read(path).decode("utf-8", "surrogateescape").strip()
            return parent / text.removeprefix("gitdir:").strip()
        if str(parent.parent) in ceilings:
            return None
    return None


def _head_commit(git_dir: Path) -> str | None:
    """The commit that is checked out, read from the repository's files."""
    common = git_dir
    with ignoring(OSError):  # a worktree shares its references with others
        common = git_dir / _read(git_dir / "commondir").decode("utf-8", "surrogateescape").strip()
    name = "HEAD"
    for _ in range(_SYMREFS_MAX):
        value = _reference(git_dir, name) or _reference(common, name) or _packed(common, name)
        if value is None or _COMMIT.fullmatch(value):
            return value
        name = value.removeprefix("ref:").strip()
        if not value.startswith("ref:") or not name.startswith("refs/") or ".." in name:
            return None
    return None


def _reference(folder: Path, name: str) -> str | None:
    """The content of a reference's own file."""
    with ignoring(OSError):
        return _read(folder / name).decode("utf-8", "surrogateescape").strip() or None
    return None


def _packed(folder: Path, name: str) -> str | None:
    """The commit of a reference that has no file of its own."""
    with ignoring(OSError):
        suffix = f" {name}".encode("utf-8", "surrogateescape")
        for line in _read(folder / "packed-refs").splitlines():
            if line.endswith(suffix):
                return line.removesuffix(suffix).decode("ascii", "replace")
    return None


def _read(path: Path) -> bytes:
    """A file's bytes; of a pipe none, without waiting."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(fd, "rb") as file:
        return file.read(_FILE_MAX_BYTES) or b""


def or_none(read: Callable[[], T]) -> T | None:
    """What `read` returns; None if it cannot be read."""
    with ignoring(OSError, ValueError, LookupError, RuntimeError):
        return read()
    return None


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
    """The folder of the running program; the working folder if it is installed or interactive.

    The program of a notebook is installed, and so are `python -m MODULE` and console scripts.
    """
    argv = getattr(sys, "argv", None)
    if argv and argv[0]:
        folder = or_none(lambda: Path(argv[0]).resolve().parent)
        if folder is None or not _is_installed(folder):
            return folder
    return or_none(Path.cwd)


def _is_installed(folder: Path) -> bool:
    user = getattr(sys.modules.get("site"), "USER_BASE", None)
    places = [os.path.dirname(os.__file__), os.path.dirname(sys.executable or "")]
    places += [sys.prefix] if sys.prefix != sys.base_prefix else []  # a virtual environment
    places += [os.path.join(user, "bin")] if user else []
    if not {"site-packages", "dist-packages"}.isdisjoint(folder.parts):
        return True
    return any(folder.is_relative_to(os.path.realpath(place)) for place in places if place)
