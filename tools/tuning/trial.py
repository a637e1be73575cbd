"""One trial of a study: its folder, its process, and its journal.

    out/lr/trial_0003/process       the pid; the process holds a lock on the file while it lives
    out/lr/trial_0003/output.log    its output
    out/lr/trial_0003/run_....jsonl its journal

The process inherits the lock, and the kernel releases it in whatever way the process ends. So a
tuner that was killed and started again knows for certain whether the process is alive, and adopts
it.
"""

import contextlib
import errno
import math
import os
import re
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import psutil

import eventlog

from ..core.formats import is_number
from ..core.locks import lock
from .space import Point

Ending = Literal["pruned", "silent", "stopped"]
"""Why the tuner ended a trial: it was worse than others, it hung, the study stops."""

PROCESS, OUTPUT = "process", "output.log"
OUTPUT_TAIL_BYTES = 16 << 10  # torchrun writes a page about a worker that failed
LINE_MAX = 300
_ERROR = re.compile(r"(Error|Exception|error|\.py): |\[Errno ")
START_S = 5.0  # from the fork until the shell has written its pid; usually a millisecond
# The shell writes its pid and becomes the command, so that no process runs whose pid is unknown.
_BEGIN = 'echo $$ > "$0" && exec "$@"'


class Trial:
    """A trial, whichever tuner started its process."""

    def __init__(self, number: int, params: Point, folder: Path, slot: int = 0) -> None:
        self.number = number
        self.params = params
        self.folder = folder
        self.slot = slot
        self.values: dict[int, float] = {}
        """The metric of each evaluation, by iteration."""
        self.n_records = 0
        self.iter: int | None = None
        self.ending: Ending | None = None
        self.began = self.last_event_at = time.monotonic()
        self._kill_at = 0.0
        self._process: subprocess.Popen[bytes] | None = None
        self._reader: eventlog.Reader | None = None

    # ---- the process

    def start(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Start the process, or start it again in the same folder.

        Raises:
            OSError: it cannot be started.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        fd = os.open(self.folder / PROCESS, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            if lock(fd) is False:
                raise BlockingIOError(errno.EWOULDBLOCK, "is running already", str(self.folder))
            os.ftruncate(fd, 0)
            with open(self.folder / OUTPUT, "ab") as output:
                self._process = subprocess.Popen(
                    ["/bin/sh", "-c", _BEGIN, os.fspath(self.folder / PROCESS), *command],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env=dict(environment),
                    start_new_session=True,  # what kills the tuner does not kill the trial
                    pass_fds=[fd],
                )
        finally:
            os.close(fd)
        self.began = self.last_event_at = time.monotonic()

    def adopt(self) -> bool:
        """Adopt the process that an earlier tuner started; returns whether it is still running."""
        self.last_event_at = time.monotonic()
        return self.is_alive

    @property
    def is_alive(self) -> bool:
        if self._process is not None:
            return self._process.poll() is None
        return eventlog.is_locked(self.folder / PROCESS)

    @property
    def exit_code(self) -> int | None:
        """Exit code of the process, or minus a signal; None if another tuner was the parent."""
        return None if self._process is None else self._process.poll()

    def stop(self, ending: Ending, grace_s: float) -> None:
        """Ask the process to end; `kill_if_overdue` kills it after `grace_s`."""
        if self.ending is None:
            self.ending = ending
            self._kill_at = time.monotonic() + grace_s
            self._signal(signal.SIGTERM)

    def kill_if_overdue(self) -> None:
        """Kill the process and its children if it was asked to end and has not."""
        if self.ending is None or time.monotonic() < self._kill_at or not self.is_alive:
            return
        pid = self._pid()
        children: list[psutil.Process] = []
        with contextlib.suppress(psutil.Error):
            children = psutil.Process(pid).children(recursive=True) if pid else []
        self._signal(signal.SIGKILL)
        for child in children:  # torchrun starts workers in sessions of their own
            with contextlib.suppress(psutil.Error):
                child.kill()
        self._kill_at = time.monotonic() + 1.0

    def _signal(self, number: signal.Signals) -> None:
        pid = self._pid()
        if pid and self.is_alive:  # else the pid may belong to another process
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, number)

    def _pid(self) -> int | None:
        if self._process is not None:
            return self._process.pid
        until = time.monotonic() + START_S
        while self.is_alive and time.monotonic() < until:
            text = (self.folder / PROCESS).read_text().strip()
            if text.isdecimal():
                return int(text)
            time.sleep(0.01)
        return None

    # ---- its journal and output

    @property
    def journal(self) -> Path | None:
        """The journal of the latest start; None if there is none yet."""
        try:
            paths = [
                (path.stat().st_mtime_ns, path)
                for path in self.folder.glob(f"*{eventlog.JOURNAL_SUFFIX}")
            ]
        except OSError:
            return None
        return max(paths)[1] if paths else None

    def read_on(self, field: str, *, to_the_end: bool = False) -> dict[int, float]:
        """What was logged of `field`, a series or a field of evals, since the last call, by step.

        `to_the_end`: the process has ended, so an incomplete last line stays incomplete.
        """
        reader = self._reader_of(self.journal)
        if reader is None or not (to_the_end or reader.is_behind):
            return {}
        if reader.is_outdated:
            reader.restart()
        new = {}
        for record in reader.read_on(to_the_end=to_the_end):
            self.n_records += 1
            i = record.fields.get("step", record.fields.get("iter"))
            if type(i) is int:
                self.iter = i
            value = _value(record, field)
            if type(i) is int and value is not None:
                known = i in self.values
                self.values[i] = value
                if not known:
                    new[i] = value
            self.last_event_at = time.monotonic()
        return new

    def _reader_of(self, journal: Path | None) -> eventlog.Reader | None:
        if journal is not None and (self._reader is None or self._reader.path != journal):
            self._reader = eventlog.Reader(journal)
        return self._reader

    def run(self) -> eventlog.Run | None:
        """The run as it is now; None if there is no readable one."""
        if self.journal is None:
            return None
        try:
            return eventlog.load_run(self.journal)
        except (eventlog.EventlogError, OSError):
            return None

    def last_output(self) -> str:
        """The last error in its output, else the last line, else an empty text."""
        try:
            with open(self.folder / OUTPUT, "rb") as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - OUTPUT_TAIL_BYTES))
                lines = file.read().decode(errors="replace").splitlines()
        except OSError:
            return ""
        printed = [line.strip() for line in lines if any(c.isalnum() for c in line)]
        errors = [line for line in printed if _ERROR.search(line) and "ChildFailed" not in line]
        return (errors or printed or [""])[-1][:LINE_MAX]


def _value(record: eventlog.Record, field: str) -> float | None:
    """The value of a series in a record, NaN if it is not a finite number; None: it has none."""
    kind = eventlog.KINDS.get(record.event)
    column = None if kind is None else eventlog.column_of(field, kind.rule)
    fields: Mapping[str, Any] = record.fields
    if column is not None and column not in fields and kind and kind.rule == "metrics":
        fields = eventlog.flatten(fields)
    if column is None or column not in fields:
        column = field if record.event == "eval" and field in fields else None
    if column is None:
        return None
    return float(fields[column]) if is_number(fields[column]) else math.nan
