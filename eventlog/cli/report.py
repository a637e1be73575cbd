"""Whether a journal is complete, and if not, what was lost and where."""

from collections.abc import Iterator
from typing import Any

from eventlog.fold.load import Folding
from eventlog.format.events import one_line
from eventlog.format.text import counted, printable
from eventlog.read.defects import CONFLICTS, DEFECTS, Defect

COMPLETE, IO_ERROR, MISUSE, LOSS, CONFLICT, EMPTY = range(6)
"""Exit codes of `verify` and `compact`."""

MAX_REMARKS = 10
MAX_ALIKE = 5  # defects of a kind in a file; more are one line

VERDICTS = {
    COMPLETE: "complete",
    CONFLICT: "needs a person",
    EMPTY: "not a journal: not one whole record",
}


def exit_code(folding: Folding, *, with_content: bool = True) -> int:
    """0 complete (a torn last line is not a loss), 3 loss, 4 conflict or newer format, 5 no record.

    `with_content`: compare the content of large events, which are in files of their own, too.
    """
    defects = folding.defects(with_content=with_content)
    if any(d.kind in CONFLICTS for d in defects):
        return CONFLICT
    if not folding.reader.sequence.n_records:
        return EMPTY
    return LOSS if any(d.lost != 0 for d in defects) else COMPLETE


def report(folding: Folding, *, with_content: bool = True) -> dict[str, Any]:
    """The report as a dict, as `verify --json` prints it."""
    reader, fold = folding.reader, folding.fold
    defects = folding.defects(with_content=with_content)
    code = exit_code(folding, with_content=with_content)
    return {
        "journal": str(folding.path),
        "verdict": _verdict(code, folding, defects),
        "exit_code": code,
        "bytes": reader.journal.size_bytes,
        "bytes_with_segments": _n_bytes(folding),
        "crc": f"{reader.journal.crc:08x}",
        "records": reader.sequence.n_records,
        "events": dict(sorted(fold.kinds.items())),
        "lost_events": _n_lost(defects),
        "lost_unknown": _n_unknown(defects),
        "ignored_events": reader.n_ignored,
        "missing_iterations": fold.missing_iterations(),
        "superseded": dict(fold.superseded),
        "sessions": [s.to_dict() for s in fold.sessions.values()],
        "segments": reader.segments,
        "defects": [d.to_dict() for d in defects],
    }


def verdict(folding: Folding) -> str:
    """The verdict alone, with the content of large events unread."""
    code = exit_code(folding, with_content=False)
    return _verdict(code, folding, folding.defects())


def report_lines(folding: Folding, *, with_content: bool = True) -> Iterator[str]:
    """The report as text, the verdict first."""
    fields = report(folding, with_content=with_content)
    yield f"{folding.path}: {fields['verdict']}"
    sessions = len(fields["sessions"])
    n_files = 1 + len(fields["segments"])
    files, of_journal = (f" in {n_files:,} files", " of the journal") if n_files > 1 else ("", "")
    yield (
        f"  {counted(fields['records'], 'record')} in {counted(sessions, 'session')}, "
        f"{fields['bytes_with_segments']:,} bytes{files}, CRC-32{of_journal} {fields['crc']}"
    )
    superseded = ", ".join(
        counted(n, name.removesuffix("s")) for name, n in fields["superseded"].items() if n
    )
    if superseded:
        yield f"  superseded by later rows, still in the journal: {superseded}"
    for first, last in fields["missing_iterations"]:
        yield f"  missing: iteration {first:,}" + (f" to {last:,}" if last > first else "")
    yield from (f"  {line}" for line in remark_lines(folding))
    yield from (f"  {line}" for line in _defect_lines(folding.defects(with_content=with_content)))


def remark_lines(folding: Folding) -> list[str]:
    """Lines about records that are in other files, were not logged or are lost."""
    remarks = [record for record in folding.reader.remarks if record.event != "ignored"]
    lines = [printable(one_line(record)) for record in remarks] + _unnamed_segments(folding)
    n_more = len(lines) - MAX_REMARKS
    lines = lines[:MAX_REMARKS]
    ignored = folding.reader.n_ignored
    if ignored:
        lines.insert(0, f"ignored    {counted(ignored, 'event')} that forked children logged")
    return lines + [f"and {n_more:,} more"] * (n_more > 0)


def _unnamed_segments(folding: Folding) -> list[str]:
    """A line for each segment that no record says its session goes on in: it began there."""
    reader = folding.reader
    named = {record.fields.get("file") for record in reader.remarks if record.event == "segment"}
    return [
        printable(f"segment    session {s} has records in {path}")
        for s in (folding.fold.sessions if reader.segments else ())
        for path in reader.segments_of((s,))
        if path.name not in named
    ]


def _n_bytes(folding: Folding) -> int:
    n_in_segments: int = sum(part["bytes"] for part in folding.reader.segments)
    return folding.reader.journal.size_bytes + n_in_segments


def _verdict(code: int, folding: Folding, defects: list[Defect]) -> str:
    """The exit code as text, the same for people and programs."""
    if code != LOSS:
        return VERDICTS[code]
    lost, unknown = _n_lost(defects), _n_unknown(defects)
    what = "missing, as is the journal" if folding.lacks_journal else "lost"
    text = f"{counted(lost, 'event')} {what}" if lost else "damaged"
    if unknown:
        text += f", and {unknown:,} damaged place{'s' * (unknown != 1)} of unknown cost"
    return text


def _n_lost(defects: list[Defect]) -> int:
    return sum(d.lost or 0 for d in defects)


def _n_unknown(defects: list[Defect]) -> int:
    return sum(d.lost is None for d in defects)


def _defect_lines(defects: list[Defect]) -> Iterator[str]:
    """A line for each defect; more than MAX_ALIKE of one kind in a file share a line."""
    groups: dict[tuple[str, str], list[Defect]] = {}
    for defect in defects:
        groups.setdefault((defect.kind, defect.file), []).append(defect)
    for group in groups.values():
        if len(group) > MAX_ALIKE:
            yield _summary_of(group)
        else:
            yield from (f"{defect}{_cost(defect)}" for defect in group)


def _summary_of(alike: list[Defect]) -> str:
    """Many defects of one kind: how many, where the first are, how many events are lost."""
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
