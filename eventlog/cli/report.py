"""What a journal is worth: complete, or what was lost, where, and how sure that is."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from eventlog.fold.load import Folding
from eventlog.format.events import one_line
from eventlog.format.files import run_path
from eventlog.format.text import printable
from eventlog.read.alive import is_not_reaped, process_lives, this_boot
from eventlog.read.defects import CONFLICTS, DEFECTS, Defect

COMPLETE, IO_ERROR, MISUSE, LOSS, CONFLICT, EMPTY = range(6)
"""Exit codes of `verify` and `compact`."""

MAX_REMARKS = 10
MAX_ALIKE = 5  # defects of a kind in a file; more are one line

VERDICTS = {
    COMPLETE: "complete",
    CONFLICT: "needs a person",
    EMPTY: "no journal: not one whole record",
}


def exit_code(folding: Folding, *, with_content: bool = True) -> int:
    """0 complete (a torn tail allowed), 3 loss, 4 conflict or newer format, 5 no record.

    `with_content`: compare also the content of large events that stands in files of its own.
    """
    defects = folding.defects(with_content=with_content)
    if any(d.kind in CONFLICTS for d in defects):
        return CONFLICT
    if not folding.reader.sequence.n_records:
        return EMPTY
    return LOSS if any(d.lost != 0 for d in defects) else COMPLETE


def report(folding: Folding, *, with_content: bool = True) -> dict[str, Any]:
    """Everything `verify` knows, for programs."""
    reader, fold = folding.reader, folding.fold
    defects = folding.defects(with_content=with_content)
    code = exit_code(folding, with_content=with_content)
    return {
        "journal": str(folding.path),
        "verdict": _verdict(code, defects),
        "exit_code": code,
        "bytes": reader.journal.size_bytes,
        "crc": f"{reader.journal.crc:08x}",
        "records": reader.sequence.n_records,
        "events": dict(sorted(fold.kinds.items())),
        "lost_events": _n_lost(defects),
        "lost_unknown": _n_unknown(defects),
        "ignored_events": _n_ignored(folding),
        "missing_iterations": fold.missing_iterations(),
        "superseded": dict(fold.superseded),
        "sessions": [s.to_dict() for s in fold.sessions.values()],
        "segments": reader.segments,
        "defects": [d.to_dict() for d in defects],
    }


def _n_ignored(folding: Folding) -> int:
    """Events that forked processes logged and that are in no journal."""
    said = [r.fields.get("events") for r in folding.reader.remarks if r.event == "ignored"]
    return sum(n for n in said if type(n) is int)


def words(folding: Folding, *, with_content: bool = True) -> Iterator[str]:
    """The report for a person, the verdict first."""
    told = report(folding, with_content=with_content)
    yield f"{folding.path}: {told['verdict']}"
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
    yield from (f"  {line}" for line in _remarks(folding))
    yield from (f"  {line}" for line in _defect_lines(folding.defects(with_content=with_content)))


def _remarks(folding: Folding) -> list[str]:
    """What sessions say of records that are elsewhere, were not logged, or are lost."""
    said = [record for record in folding.reader.remarks if record.event != "ignored"]
    lines = [printable(one_line(record)) for record in said[:MAX_REMARKS]]
    ignored = _n_ignored(folding)
    if ignored:
        lines.insert(0, f"ignored    {ignored:,} events that forked children logged")
    return lines + [f"and {len(said) - MAX_REMARKS:,} more of these"] * (len(said) > MAX_REMARKS)


def _verdict(code: int, defects: list[Defect]) -> str:
    """The exit code in words: the same for people and programs."""
    if code != LOSS:
        return VERDICTS[code]
    lost, unknown = _n_lost(defects), _n_unknown(defects)
    said = f"{lost:,} event{'s' * (lost != 1)} lost" if lost else "damaged"
    if unknown:
        said += f", and {unknown:,} damaged place{'s' * (unknown != 1)} of unknown cost"
    return said


def _n_lost(defects: list[Defect]) -> int:
    return sum(d.lost or 0 for d in defects)


def _n_unknown(defects: list[Defect]) -> int:
    return sum(d.lost is None for d in defects)


def _defect_lines(defects: list[Defect]) -> Iterator[str]:
    """A line for each, and one for all of a kind where there are many of it in a file."""
    alike: dict[tuple[str, str], list[Defect]] = {}
    for defect in defects:
        alike.setdefault((defect.kind, defect.file), []).append(defect)
    for some in alike.values():
        if len(some) > MAX_ALIKE:
            yield _summed_up(some)
        else:
            yield from (f"{defect}{_cost(defect)}" for defect in some)


def _summed_up(alike: list[Defect]) -> str:
    """Many defects of one kind: how many, where the first are, what they cost."""
    first = alike[0]
    where = f" in {first.file}" if first.file else ""
    size_bytes = sum(d.size_bytes for d in alike)
    size = f", {size_bytes:,} bytes" if size_bytes else ""
    places = ", ".join(f"{d.offset:,}" for d in alike[:MAX_ALIKE])
    lost, unknown = _n_lost(alike), _n_unknown(alike)
    cost = f"; {lost:,} lost" if lost else ""
    cost += f"; cost of {unknown:,} unknown" if unknown else ""
    return (
        f"{first.kind}{where} in {len(alike):,} places{size}, the first at bytes {places}: "
        f"{DEFECTS[first.kind]}{cost}"
    )


def _cost(defect: Defect) -> str:
    if defect.lost is None:
        return "; cost unknown"
    return f"; {defect.lost:,} lost" if defect.lost else ""


def status(path: Path) -> dict[str, Any]:
    """Who writes a journal, how far the run is, and how much of it is durable."""
    folding = Folding(path)
    alive = folding.read()
    run = folding.run(alive=alive)
    session = next(reversed(folding.fold.sessions.values()), None)
    opened = session.opened if session else {}
    last = run.training_iterations[-1] if len(run.training_iterations) else {}
    if not last and len(run.metrics):
        last = {"iter": run.metrics[-1]["step"], "loss": run.metrics[-1].get("loss")}
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
        "iter": last.get("iter"),
        "max_iters": run.config.get("max_iters"),
        "loss": last.get("loss"),
        "best_val_loss": run.summary["best_val_loss"],
        "accepted_records": session.n_records if session else 0,
        "durable_records": _n_durable(folding),
        "ignored_events": _n_ignored(folding),
        "remarks": _remarks(folding),
        "sessions": len(folding.fold.sessions),
        "superseded": run.journal["superseded"],
        "defects": len(run.journal["defects"]),
        "run_json": str(run_path(path)) if run_path(path).exists() else None,
    }


def _n_durable(folding: Folding) -> int:
    """So many records of the latest session survive power loss, as far as it said.

    All of them, where its `close` says that all before it do: the writer waited for that.
    """
    session = next(reversed(folding.fold.sessions.values()), None)
    if session is None:
        return 0
    closed_n = folding.reader.closed.get(session.s)
    is_all = closed_n is not None and closed_n <= session.durable_n
    return session.n_records if is_all else session.durable_n


def _why(reason: str | None, status: str, opened: dict[str, Any], t: str) -> str | None:
    """What this machine can add to why a run has no close event."""
    if status != "interrupted" or reason is None or "no close event" not in reason:
        return reason
    if opened.get("host") != socket.gethostname():
        if opened.get("has_lock") is False:
            return f"{reason}, or it runs on {opened.get('host')}: from here nobody can tell"
        return reason
    if this_boot() is None or opened.get("boot_id") is None:
        return reason
    if opened["boot_id"] != this_boot():
        return f"{reason}; the machine was restarted since"
    if process_lives(opened, t):  # it was not killed, then
        reason = reason.partition(": the process was killed")[0]
    return f"{reason}; {_what_became_of(opened, t)}"


def _what_became_of(opened: dict[str, Any], t: str) -> str:
    """What is to be seen of a process that ran on this machine, which was not restarted since."""
    pid = opened.get("pid")
    lives = process_lives(opened, t)
    if lives:
        return (
            f"its process {pid} lives and does not hold the lock of this file: it runs another "
            f"program now, left the run without closing it, or writes the file that this is a "
            f"copy of"
        )
    is_there = os.path.exists(f"/proc/{pid}")
    if lives is None and is_there:
        return "a process of its number runs here and does not hold the journal's lock"
    where = "its number belongs to another process now" if is_there else "the process is gone"
    if is_there and is_not_reaped(opened):
        where = f"its process {pid} has ended, its parent has not asked yet how (a zombie),"
    return (
        f"{where} and the machine was not restarted: killed (SIGKILL, out of memory), "
        f"crashed, or left without closing the run"
    )


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
    accepted, durable = told["accepted_records"], told["durable_records"]
    known = f"all {durable:,}" if 0 < accepted <= durable else f"at least {durable:,}"
    yield f"  records    {accepted:,} accepted in this session, {known} durable"
    for line in told["remarks"]:
        yield f"  {line}"
    if told["defects"]:
        yield f"  defects    {told['defects']:,}; see: eventlog verify {told['journal']}"
    yield f"  run JSON   {told['run_json'] or 'none yet; eventlog compact ' + told['journal']}"


def _when(t: str | None) -> str:
    return f"{t[:10]} {t[11:19]} UTC" if t else "an unknown time"
