"""A training process for tests that kill it, and its report outside of its own disk.

Run as a program it logs a run at a given rate. What was accepted and what is durable it reports
in shared memory, in a file on another file system than its journal: the run's promises are
checked against that when its disk is gone.
"""

import ctypes
import hashlib
import json
import mmap
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import eventlog
from eventlog.disk import Disk

LONGEST_LIFE_S = 120.0  # a writer whose test died does not stay


class Report(ctypes.Structure):
    """What a writer knows, readable at any time; each field is one aligned word."""

    _fields_ = (
        ("opened", ctypes.c_int64),  # open_run has returned
        ("iterations", ctypes.c_int64),  # log_iter has returned for so many
        ("accepted", ctypes.c_int64),  # session.records
        ("durable", ctypes.c_int64),  # session.durable_records
        ("sync_began", ctypes.c_double),  # 0: no sync of the journal is going on
        ("longest_sync_s", ctypes.c_double),
        ("synced_since", ctypes.c_double),  # when the last one that succeeded began
        ("failed_syncs", ctypes.c_int64),
        ("repeated_syncs", ctypes.c_int64),  # asked of a file after one of its syncs had failed
        ("errors", ctypes.c_int64),  # session.errors
        ("raised", ctypes.c_int64),  # what no training loop shall ever see
        ("stop", ctypes.c_int64),  # the test asks for a proper end
        ("closed", ctypes.c_int64),
    )

    @classmethod
    def at(cls, path):
        with open(path, "r+b") as file:
            return cls.from_buffer(mmap.mmap(file.fileno(), ctypes.sizeof(cls)))


class Writer:
    """The process, as its test sees it."""

    def __init__(self, out, report, **settings):
        """Logs into the folder `out`; `report` is a path on another file system.

        Settings: `rate` (iterations a second), `sync_interval_s`, `save_interval`,
        `checkpoint_bytes` (0: none is written beside), `journal` and `from_iter` to resume,
        `sync_delay_s` (a slow disk), `file_limit_bytes` (RLIMIT_FSIZE once the run is open),
        `state` (the user's state folder, by default beside `out`: it shares its disk's fate).
        """
        state = settings.pop("state", out.parent / "state")
        Path(report).write_bytes(bytes(ctypes.sizeof(Report)))
        self.report = Report.at(report)
        self._errors = Path(f"{report}.stderr")
        settings_json = json.dumps({"out": str(out), "report": str(report)} | settings, default=str)
        with open(self._errors, "wb") as errors:
            self.process = subprocess.Popen(
                [sys.executable, __file__, settings_json],
                stderr=errors,
                start_new_session=True,
                env=os.environ | {"XDG_STATE_HOME": str(state)},
            )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()

    @property
    def stderr(self):
        return self._errors.read_text()

    def wait_until(self, happened, patience_s=30.0):
        """Wait for `happened(report)`; a writer that ends before is a failure."""
        give_up = time.monotonic() + patience_s
        while not happened(self.report):
            if self.process.poll() is not None and not happened(self.report):
                raise AssertionError(f"the writer ended by itself: {self.stderr}")
            if time.monotonic() > give_up:
                raise AssertionError(f"the writer did not get there: {self.stderr}")
            time.sleep(0.0002)

    def lose_power(self, disk):
        """Cut the power of `disk` under it; the records that it had reported durable until then.

        The kernel takes a millisecond for this, and a sync that is under way meanwhile may report
        success for bytes that are lost (see `bare_writer`). On a machine without power nothing
        would run on to read that report, so it does not count. No later sync may succeed.
        """
        durable = self.report.durable
        disk.power_cut()
        cut_at = time.time()
        time.sleep(0.05)
        assert self.report.durable == durable or self.report.synced_since < cut_at
        return durable

    def kill(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def finish(self, patience_s=60.0):
        """Let it close its run and exit; its exit code."""
        self.report.stop = 1
        return self.process.wait(patience_s)


def records_in(*folders):
    """The records of the run in these folders, each once, by number, from any file."""
    files = [path for folder in folders for path in sorted(folder.rglob("*"))]
    return {
        record.n: record
        for path in files
        if path.suffix in (".jsonl", ".segment")
        for record in eventlog.scan(path)
    }


def loss_of(i):
    return 1.0 / (i + 1)


def checkpoint_of(i, size_bytes):
    """The content of the checkpoint of iteration i: its number, then data computed from it."""
    head = b"%020d" % i
    block = hashlib.sha256(head).digest()
    return (head + block * (size_bytes // len(block) + 1))[:size_bytes]


class SlowDisk(Disk):
    """The real disk, with syncs slow enough for a test to cut the power during one."""

    def __init__(self, sync_delay_s):
        self._sync_delay_s = sync_delay_s

    def sync_data(self, fd):
        time.sleep(self._sync_delay_s)
        super().sync_data(fd)


class WatchedDisk(SlowDisk):
    """Reports how long its syncs take, and whether one that failed was repeated."""

    def __init__(self, sync_delay_s, report):
        super().__init__(sync_delay_s)
        self._report = report
        self._failed = set()

    def sync_data(self, fd):
        status = os.fstat(fd)
        file = status.st_dev, status.st_ino
        self._report.repeated_syncs += file in self._failed
        begun = self._report.sync_began = time.time()
        try:
            super().sync_data(fd)
        except OSError:
            self._failed.add(file)
            self._report.failed_syncs += 1
            raise
        finally:
            self._report.sync_began = 0.0
        self._report.synced_since = begun
        self._report.longest_sync_s = max(self._report.longest_sync_s, time.time() - begun)


def train(
    out,
    report,
    rate=200.0,
    sync_interval_s=1.0,
    save_interval=0,
    checkpoint_bytes=0,
    checkpoint_pause_s=0.2,
    sync_delay_s=0.0,
    journal=None,
    from_iter=None,
    file_limit_bytes=None,
):
    report = Report.at(report)
    run = eventlog.open_run(
        out,
        journal=journal,
        from_iter=from_iter,
        save_interval=save_interval,
        sync_interval_s=sync_interval_s,
        disk=WatchedDisk(sync_delay_s, report),
    )
    report.durable, report.accepted = run.durable_records, run.records
    report.opened = 1
    if file_limit_bytes:
        limit_file_size(file_limit_bytes)
    threading.Thread(target=say_how_far, args=(run, report), daemon=True).start()
    if checkpoint_bytes:
        slow = SlowDisk(2 * sync_delay_s)
        args = run, report, Path(out), checkpoint_bytes, checkpoint_pause_s, slow
        threading.Thread(target=save_checkpoints, args=args, daemon=True).start()
    first = from_iter or 0
    begun, parent = time.monotonic(), os.getppid()
    for i in range(first, 1 << 40):
        try:
            run.log_iter(i, loss_of(i), 50.0, 3.0, tokens_per_s=1000.0 * i)
        except BaseException:
            report.raised += 1
        report.iterations = i + 1
        report.accepted, report.errors = run.records, run.errors
        elapsed_s = time.monotonic() - begun
        if report.stop or elapsed_s > LONGEST_LIFE_S or os.getppid() != parent:
            break
        time.sleep(max(0.0, (i + 1 - first) / rate - elapsed_s))
    if file_limit_bytes:
        limit_file_size(-1)
    run.close()
    report.accepted, report.durable, report.errors = run.records, run.durable_records, run.errors
    report.closed = 1


def say_how_far(run, report):
    """Report what is durable as soon as the session does: the test then cuts the power."""
    while True:
        report.durable = run.durable_records
        time.sleep(0.0005)


def save_checkpoints(run, report, out, size_bytes, pause_s, disk):
    """Weights as a trainer saves them: first the durable file, then the event.

    Every other one replaces the one before; the others get a name of their own.
    """
    for k in range(1 << 40):
        i = report.iterations
        path = out / ("latest.pt" if k % 2 else f"ckpt_{i:08}.pt")
        content = checkpoint_of(i, size_bytes)
        try:
            eventlog.atomic_write(path, lambda file, c=content: file.write(c), disk=disk)
        except OSError:  # the power is gone, or the disk is full
            return
        run.log_checkpoint(i, path, size_bytes=size_bytes)
        time.sleep(pause_s)


def limit_file_size(size_bytes):
    import resource

    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes if size_bytes > 0 else hard, hard))


if __name__ == "__main__":
    train(**json.loads(sys.argv[1]))
