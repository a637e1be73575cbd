"""What a journal is worth: complete, or what was lost, where, and how sure that is."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from eventlog.compact import run_path
from eventlog.disk import is_locked
from eventlog.ledger import CONFLICTS, Defect
from eventlog.load import Folding

COMPLETE, IO_ERROR, MISUSE, LOSS, CONFLICT, EMPTY = range(6)
"""Exit codes of `verify` and `compact`."""

VERDICTS = {
    COMPLETE: "complete",
    LOSS: "events are lost",
    CONFLICT: "needs a person",
    EMPTY: "no journal: not one whole record",
}


def exit_code(folding: Folding) -> int:
    """0 complete (a torn tail allowed), 3 loss, 4 conflict or newer format, 5 no record."""
    defects = folding.reader.defects
    if any(d.kind in CONFLICTS for d in defects):
        return CONFLICT
    if not folding.reader.ledger.n_records:
        return EMPTY
    return LOSS if any(d.lost != 0 for d in defects) else COMPLETE


def report(folding: Folding) -> dict[str, Any]:
    """Everything `verify` knows, for programs."""
    reader, fold = folding.reader, folding.fold
    defects = reader.defects
    code = exit_code(folding)
    return {
        "journal": str(folding.path),
        "verdict": VERDICTS[code],
        "exit_code": code,
        "bytes": reader.journal.size_bytes,
        "crc": f"{reader.journal.crc:08x}",
        "records": reader.ledger.n_records,
        "events": dict(sorted(fold.kinds.items())),
        "lost_events": sum(d.lost or 0 for d in defects),
        "lost_unknown": sum(d.lost is None for d in defects),
        "missing_iterations": fold.missing_iterations(),
        "superseded": dict(fold.superseded),
        "sessions": [s.to_dict() for s in fold.sessions.values()],
        "defects": [d.to_dict() for d in defects],
    }


def words(folding: Folding) -> Iterator[str]:
    """The report for a person, the verdict first."""
    told = report(folding)
    verdict = told["verdict"]
    if told["exit_code"] == LOSS:
        lost, unknown = told["lost_events"], told["lost_unknown"]
        verdict = f"{lost:,} event{'s' * (lost != 1)} lost" if lost or not unknown else "damaged"
        if unknown:
            verdict += f", and {unknown:,} damaged place{'s' * (unknown != 1)} of unknown cost"
    yield f"{folding.path}: {verdict}"
    sessions = len(told["sessions"])
    yield (
        f"  {told['records']:,} records in {sessions:,} session{'s' * (sessions != 1)}, "
        f"{told['bytes']:,} bytes, CRC-32 {told['crc']}"
    )
    taken_back = ", ".join(f"{n:,} {name}" for name, n in told["superseded"].items() if n)
    if taken_back:
        yield f"  superseded by a later take, still in the journal: {taken_back}"
    for first, last in told["missing_iterations"]:
        yield f"  missing: iteration {first:,}" + (f" to {last:,}" if last > first else "")
    for defect in folding.reader.defects:
        yield f"  {defect}{_cost(defect)}"


def _cost(defect: Defect) -> str:
    if defect.lost is None:
        return "; cost unknown"
    return f"; {defect.lost:,} lost" if defect.lost else ""


def status(path: Path) -> dict[str, Any]:
    """Who writes a journal, how far the run is, and how much of it is durable."""
    alive = is_locked(path)
    folding = Folding(path)
    folding.read_on(to_the_end=not alive)
    run = folding.run(alive=alive)
    session = next(reversed(folding.fold.sessions.values()), None)
    opened = session.opened if session else {}
    last = run.training_iterations[-1] if len(run.training_iterations) else {}
    if not last and len(run.metrics):
        last = {"iter": run.metrics[-1]["step"], "loss": run.metrics[-1].get("loss")}
    return {
        "journal": str(path),
        "status": run.status,
        "reason": _why(run.journal["reason"], run.status, opened),
        "session": session.s if session else None,
        "host": opened.get("host"),
        "pid": opened.get("pid"),
        "since": session.started if session else None,
        "last_event": run.end_time or folding.fold.last,
        "iter": last.get("iter"),
        "max_iters": run.config.get("max_iters"),
        "loss": last.get("loss"),
        "best_val_loss": run.summary["best_val_loss"],
        "accepted_records": session.n_records if session else 0,
        "durable_records": session.durable_n if session else 0,
        "sessions": len(folding.fold.sessions),
        "superseded": run.journal["superseded"],
        "defects": len(run.journal["defects"]),
        "run_json": str(run_path(path)) if run_path(path).exists() else None,
    }


def _why(reason: str | None, status: str, opened: dict[str, Any]) -> str | None:
    """What this machine can add to why a run has no close event."""
    if status != "interrupted" or reason is None or "no close event" not in reason:
        return reason
    if opened.get("host") != socket.gethostname():
        return reason
    try:
        boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return reason
    if opened.get("boot_id") != boot_id:
        return f"{reason}; the machine was restarted since"
    gone = not os.path.exists(f"/proc/{opened.get('pid')}")
    where = "the process is gone" if gone else "its number belongs to another process now"
    return f"{reason}; {where} and the machine was not restarted: killed (SIGKILL, out of memory)"


def status_words(told: dict[str, Any]) -> Iterator[str]:
    """The status for a person."""
    yield told["journal"]
    state = told["status"] + (f": {told['reason']}" if told["reason"] else "")
    yield f"  state      {state}"
    yield (
        f"  writer     pid {told['pid']} on {told['host']} since {_when(told['since'])}, session "
        f"{told['session']} ({told['sessions']} in all)"
    )
    if told["iter"] is not None:
        of = f" of {told['max_iters']:,}" if isinstance(told["max_iters"], int) else ""
        loss = f", loss {told['loss']:.4f}" if isinstance(told["loss"], float | int) else ""
        best = "" if told["best_val_loss"] is None else f", best val {told['best_val_loss']:.4f}"
        last = _when(told["last_event"])
        yield f"  iteration  {told['iter']:,}{of}{loss}{best}, last event {last}"
    yield (
        f"  records    {told['accepted_records']:,} accepted in this session, at least "
        f"{told['durable_records']:,} durable"
    )
    if told["defects"]:
        yield f"  defects    {told['defects']:,}; see: eventlog verify {told['journal']}"
    yield f"  run JSON   {told['run_json'] or 'none yet; eventlog compact ' + told['journal']}"


def _when(t: str | None) -> str:
    return f"{t[:10]} {t[11:19]} UTC" if t else "an unknown time"
