"""Segments: the files a session goes on in when its journal fails. Their names and their headers.

    run_20261123_032501.5f0c9a1e.a1b2c3d4.0.segment
    stem of the journal, run id, session, number

A fallback folder may hold the segments of many runs whose journals have the same name. The
run id in the name, and the header that is the first line, say which run a segment belongs to.
"""

import re
from pathlib import Path
from typing import Any, NamedTuple

from eventlog.format.record import Record, encode

SEGMENT_SUFFIX = ".segment"
RUN_ID_LENGTH = 8  # of the run id, in a file name

_END = re.compile(
    rf"(?:(?!rank\d+\.)(?P<run>[^.]{{{RUN_ID_LENGTH}}})\.)?(?P<s>[0-9a-f]{{8}})\.(?P<number>\d+)"
    + re.escape(SEGMENT_SUFFIX)
)
_NOT_IN_A_NAME = re.compile(r"[^0-9A-Za-z_-]")


class SegmentName(NamedTuple):
    """What the file name of a segment says."""

    number: int
    s: str
    """The session whose records it has."""
    run: str
    """The beginning of the run id; empty in names that were written before it was part of them."""


def short_run_id(run_id: str) -> str:
    """The part of a run id that stands in file names."""
    return _NOT_IN_A_NAME.sub("_", run_id)[:RUN_ID_LENGTH].ljust(RUN_ID_LENGTH, "_")


def segment_name(stem: str, run_id: str, s: str, number: int) -> str:
    """The file name of segment `number` of session `s` of the run whose journal is `stem`.jsonl."""
    return f"{stem}.{short_run_id(run_id)}.{s}.{number}{SEGMENT_SUFFIX}"


def parse_segment_name(name: str, stem: str) -> SegmentName | None:
    """What a file name says, if it is that of a segment of a journal called `stem`."""
    if not name.startswith(f"{stem}."):
        return None
    match = _END.fullmatch(name, len(stem) + 1)
    if match is None:  # of a rank of the run (<stem>.rank3.<session>...), or no segment
        return None
    return SegmentName(int(match["number"]), match["s"], match["run"] or "")


def of_orphan(path: Path) -> tuple[str, str] | None:
    """The stem of the journal and the run of a segment that is read as a journal is; else None."""
    stem = path.name.rsplit(".", 4)[0]
    named = parse_segment_name(path.name, stem)
    return (stem, named.run) if named is not None and named.run else None


def encode_header(
    *, run_id: str, journal: str, session: str, number: int, first_n: int, s: str, t: str
) -> bytes:
    """The first line of a segment, LF included. `s`: a session name of the header's own."""
    return encode(
        0,
        s,
        t,
        "segment",
        {
            "run_id": run_id,
            "journal": journal,
            "session": session,
            "number": number,
            "first_n": first_n,
        },
    )


def header_fields(record: Record) -> dict[str, Any] | None:
    """The fields of a segment's header; None: `record` is another record."""
    is_header = record.event == "segment" and record.n == 0 and "session" in record.fields
    return record.fields if is_header else None
