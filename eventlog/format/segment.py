"""The header of a segment: the first line of a file that a session goes on in.

It says whose the segment is; the lines after it are records of that session.
"""

from typing import Any

from eventlog.format.record import Record, encode


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
