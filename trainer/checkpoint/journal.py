"""What can be read from a run's journal: its status, its last iteration, its checkpoints."""

from pathlib import Path
from typing import NamedTuple

from eventlog import JOURNAL_SUFFIX as JOURNAL_SUFFIX  # for the other modules of the trainer
from eventlog import RUN_JSON_SUFFIX as RUN_JSON_SUFFIX
from eventlog import EventlogError, is_locked, load_run, scan
from trainer.storage.files import open_file


class LostTail(NamedTuple):
    """Records that a journal had when a checkpoint was saved and does not have any more."""

    session: str
    records: int
    """How many records of that session the checkpoint counted."""
    found: int


class History(NamedTuple):
    """A journal up to the event of one checkpoint."""

    run_id: str | None
    sessions: frozenset[str]
    n_records: int
    """Records of the checkpoint's session before the checkpoint."""
    sha256: str | None
    """Of the checkpoint, from its event; None if the process died before it was logged."""


def status_of(journal: Path) -> str:
    """`running`, `completed`, `interrupted`, `failed`, or `journal unreadable`."""
    try:
        return "running" if is_locked(journal) else load_run(journal).status
    except (EventlogError, OSError):
        return "journal unreadable"


def check_not_running(journal: Path) -> None:
    """Check that no other process is training the run.

    Raises:
        ValueError: another process is training this run.
    """
    if is_locked(journal):
        raise ValueError(
            f"{journal}: another process is training this run (see: eventlog status {journal}): "
            "wait until it ends, or stop it"
        )


def last_iteration(journal: Path) -> int:
    """The last iteration that was logged; -1: none, or the journal cannot be read."""
    try:
        run = load_run(journal)
    except (EventlogError, OSError):
        return -1
    if len(run.training_iterations):
        return int(run.training_iterations[-1]["iter"])
    # With --log_iterations=False: a completed run made all its iterations.
    if run.status == "completed" and not run.config.get("eval_only"):
        return int(run.config.get("max_iters", -1))
    return -1


def history_before(journal: Path, session: str, n_records: int) -> History:
    """Read the journal up to the event of the checkpoint that `session` saved.

    Args:
        n_records: how many records the session had when the checkpoint was saved: the first
            `checkpoint` event after them is the one of that checkpoint.
    """
    run_id = sha256 = None
    sessions, n_found = set(), 0
    for record in scan(journal):
        sessions.add(record.s)
        if run_id is None and record.event == "open":
            value = record.fields.get("run_id")
            run_id = value if isinstance(value, str) else None
        if record.s == session and record.n < n_records:
            n_found += 1
        elif record.s == session and record.event == "checkpoint":
            sha256 = record.fields.get("sha256")
            break
    return History(run_id, frozenset(sessions), n_found, sha256)


def journal_of_launch(out_dir: Path, launch: str | None) -> str | None:
    """The name of the journal in `out_dir` to which the processes of this launch have written.

    All sessions of each journal are searched: the launch may have resumed a run of an earlier one.

    Args:
        launch: the value of `launch` in the metadata of its sessions.
    """
    if not launch:
        return None
    paths = out_dir.glob(f"*{JOURNAL_SUFFIX}")
    for path in sorted(paths, key=lambda path: -path.stat().st_mtime_ns):
        # The bytes are searched first: journals of other launches need not be parsed.
        if contains(path, launch.encode()) and any(
            record.event == "open" and (record.fields.get("metadata") or {}).get("launch") == launch
            for record in scan(path)
        ):
            return path.name
    return None


def contains(path: Path, needle: bytes) -> bool:
    """Whether a file contains these bytes; False if it cannot be read."""
    previous = b""
    try:
        with open_file(path) as file:
            while chunk := file.read(1 << 20):
                if needle in previous + chunk:
                    return True
                previous = chunk[-len(needle) :]
    except OSError:
        pass
    return False
