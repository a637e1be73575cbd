"""What `eventlog status` shows: a run's writer, its progress, and how much of it is durable."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from eventlog.cli.pace import planned_iterations
from eventlog.cli.report import COMPLETE, VERDICTS, remark_lines, verdict
from eventlog.cli.tail import remaining_s
from eventlog.fold.document import Run
from eventlog.fold.flat_rows import restore_nonfinite
from eventlog.fold.load import Folding
from eventlog.format.files import run_path
from eventlog.format.times import duration
from eventlog.read.alive import is_not_reaped, process_lives, this_boot
from eventlog.read.evidence import journal_part


def status_of(path: Path) -> dict[str, Any]:
    """The status of the run in a journal, for programs."""
    folding = Folding(path)
    alive = folding.read()
    run = folding.run(alive=alive)
    session = next(reversed(folding.fold.sessions.values()), None)
    opened = session.opened if session else {}
    return {
        "journal": str(path),
        "status": run.status,
        "reason": _why(
            run.journal["reason"], run.status, opened, session.started if session else ""
        ),
        "session": session.s if session else None,
        "host": opened.get("host"),
        "pid": opened.get("pid"),
        "since": session.started if session else None,
        "last_event": run.end_time or folding.fold.last,
        "max_iters": planned_iterations(run.config),
        **_progress(run),
        "eta_s": remaining_s(path) if run.status == "running" else None,
        "accepted_records": _n_accepted(folding),
        "durable_records": _n_durable(folding),
        "ignored_events": folding.reader.n_ignored,
        "remarks": remark_lines(folding),
        "sessions": len(folding.fold.sessions),
        "superseded": run.journal["superseded"],
        "defects": len(run.journal["defects"]),
        "verdict": verdict(folding),
        "run_json": str(run_path(path)) if run_path(path).exists() else None,
        "run_json_is_older": _is_older(run_path(path), run),
    }


def _progress(run: Run) -> dict[str, Any]:
    """The last iteration and its loss; of a run that logged none, by the names of its metrics."""
    if len(run.training_iterations) or not len(run.metrics):
        last = restore_nonfinite(run.training_iterations[-1]) if run.training_iterations else {}
        return {
            "iter": last.get("iter"),
            "loss": last.get("loss"),
            "loss_name": "loss",
            "best_val_loss": run.summary["best_val_loss"],
        }
    loss, val_loss = run.losses()
    return {
        "iter": run.metrics[-1]["step"],
        "loss": loss.last if loss else None,
        "loss_name": loss.name if loss else None,
        "best_val_loss": val_loss.min if val_loss else None,
    }


def _is_older(run_json: Path, run: Run) -> bool | None:
    """Whether the run JSON of a run that has ended lacks something; None: it may be running."""
    if run.status == "running":
        return None
    journal = journal_part(run_json)
    if not isinstance(journal, dict):
        return run_json.exists()
    n_records, n_known = run.journal["records"], journal.get("records")
    if type(n_known) is not int or n_known < n_records:
        return True
    return bool(n_known == n_records) and journal.get("status") != run.journal["status"]


def _n_accepted(folding: Folding) -> int:
    """How many records the last session wrote: also those that are missing or damaged here."""
    session = next(reversed(folding.fold.sessions.values()), None)
    if session is None:
        return 0
    return session.n_records + folding.reader.sequence.lost_of(session.s)


def _n_durable(folding: Folding) -> int:
    """How many records of the latest session are known to be durable.

    All of them if its first `close` event says that all before it are: the writer then waited for
    the last sync, and another `close` behind it is synced by itself.
    """
    session = next(reversed(folding.fold.sessions.values()), None)
    if session is None:
        return 0
    closed_n = folding.reader.closed.get(session.s)
    is_all = closed_n is not None and closed_n <= session.durable_n
    return session.n_records if is_all else session.durable_n


def _why(reason: str | None, status: str, opened: dict[str, Any], t: str) -> str | None:
    """Why a run has no close event, with what this machine knows of its process."""
    if status != "interrupted" or reason is None or "no close event" not in reason:
        return reason
    if opened.get("host") != socket.gethostname():
        if opened.get("has_lock") is False:
            return f"{reason}, or it runs on {opened.get('host')}: this machine cannot tell"
        return reason
    if this_boot() is None or opened.get("boot_id") is None:
        return reason
    if opened["boot_id"] != this_boot():
        return f"{reason}; the machine was restarted since"
    reason = reason.partition(": the process was killed")[0]  # this machine knows more
    return f"{reason}; {_what_became_of(opened, t)}"


def _what_became_of(opened: dict[str, Any], t: str) -> str:
    """What happened to a process that began after this machine's latest boot."""
    pid = opened.get("pid")
    lives = process_lives(opened, t)
    if lives:
        return (
            f"its process {pid} lives and does not hold the lock of this file: it runs another "
            f"program now, left the run without closing it, or this file is a copy of the one that "
            f"it writes"
        )
    is_there = os.path.exists(f"/proc/{pid}")
    if lives is None and is_there:
        return "a process with its number runs here and does not hold the journal's lock"
    where = "another process has its number now" if is_there else "the process is gone"
    if is_there and is_not_reaped(opened):
        where = f"its process {pid} has ended, a zombie whose exit status its parent has not read,"
    return (
        f"{where} and the machine was not restarted: killed (SIGKILL, SIGTERM, SIGHUP, out of "
        f"memory), crashed, or left without closing the run"
    )


def status_lines(status: dict[str, Any]) -> Iterator[str]:
    """The status as text."""
    yield status["journal"]
    state = status["status"] + (f": {status['reason']}" if status["reason"] else "")
    yield f"  state      {state}"
    who = f"pid {status['pid']} on {status['host']}" if status["host"] else "unknown"
    yield f"  writer     {who} since {_when(status['since'])}"
    if status["iter"] is not None:
        of = f" of {status['max_iters']:,}" if isinstance(status["max_iters"], int) else ""
        is_number = isinstance(status["loss"], float | int)
        loss = f", {status['loss_name']} {status['loss']:.4f}" if is_number else ""
        best_loss = status["best_val_loss"]
        best = "" if best_loss is None else f", best val {best_loss:.4f}"
        yield f"  iteration  {status['iter']:,}{of}{loss}{best}"
    yield f"  last event {_when(status['last_event'])}"
    if status["status"] == "running":
        eta_s = status["eta_s"]
        yield f"  eta        {'-' if eta_s is None else duration(round(eta_s))}"
    accepted, durable = status["accepted_records"], status["durable_records"]
    known = f"all {durable:,}" if 0 < accepted <= durable else f"at least {durable:,}"
    session = f"session {status['session']} ({status['sessions']} in all)"
    yield f"  records    {accepted:,} accepted in {session}, {known} durable"
    for line in status["remarks"]:
        yield f"  {line}"
    if status["verdict"] != VERDICTS[COMPLETE]:
        yield f"  journal    {status['verdict']}; see: eventlog verify {status['journal']}"
    run_json = status["run_json"] or "none yet"
    if status["run_json_is_older"]:
        run_json += ", older than the journal"
    if status["run_json_is_older"] or not status["run_json"]:
        run_json += f". If no compactor writes it: eventlog compact {status['journal']}"
    yield f"  run JSON   {run_json}"


def _when(t: str | None) -> str:
    return f"{t[:10]} {t[11:19]} UTC" if t else "an unknown time"
