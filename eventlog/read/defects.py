"""What may be wrong with a journal: the kinds of defects, and one defect."""

from dataclasses import asdict, dataclass
from typing import Any

DEFECTS = {
    "torn": "the end of a line was cut, as by a power loss, a full disk or an unfinished copy",
    "unterminated": "the last line is whole but for its line feed; it was accepted",
    "glued": "a cut line with a whole one behind it; the whole one was accepted",
    "damaged": "bytes that are no record",
    "edited": "valid JSON whose checksum does not match: edited by hand, or damaged",
    "foreign": "a line of valid JSON that is no record of this format",
    "nul": "a run of zero bytes, the mark of a power loss",
    "oversize": "more than a line may hold, without a line feed",
    "unreadable": "bytes that the disk could not read",
    "gap": "records that the numbering says existed and that are not here",
    "duplicate": "a record that stands here twice with the same bytes",
    "dropped": "events that the session says it dropped, more than the numbering shows",
    "fewer_records": "the run JSON was made from more records than are here",
    "missing_session": "sessions that the numbering of sessions says existed",
    "missing_segment": "a file in which a session went on, and that is not here or not readable",
    "missing_folder": "a folder where a session may have gone on is gone or not readable",
    "missing_aside": "the file with the content of a large event is not here or not readable",
    "damaged_aside": "the file with the content of a large event is not what was written",
    "other_file": "has the name of a file of this run and is none; it was left out",
    "bom": "a byte order mark before the first line; some editor put it there",
    "crlf": "lines that end in CR LF; some editor or transfer put them there",
    "conflict": "two different records of the same name",
    "two_writers": "two sessions wrote at the same time",
    "reordered": "sessions, or the records of one, stand in another order than they were written",
    "foreign_run": "a session of another run; its events were left out",
    "newer_format": "written by a newer, incompatible format",
}
CONFLICTS = frozenset(("conflict", "two_writers", "reordered", "foreign_run", "newer_format"))


@dataclass(slots=True)
class Defect:
    """One thing that is wrong with a journal, and what it cost."""

    kind: str
    offset: int
    size_bytes: int = 0
    session: str = ""
    first_n: int = -1
    last_n: int = -1
    lost: int | None = 0
    """Events lost here; None: cannot be known. What a gap counts is counted only there."""
    count: int = 1
    file: str = ""
    """The segment it is in; empty: the journal's own file."""
    detail: str = ""
    """What else is known: where a missing file was, why it could not be read."""

    def __str__(self) -> str:
        where = f"in {self.file} " if self.file else ""
        where += f"at byte {self.offset:,}" if self.offset >= 0 else "beside it"
        if self.size_bytes:
            where += f", {self.size_bytes:,} bytes"
        if self.session:
            where += f", session {self.session}"
        if self.first_n >= 0:
            last = f" to {self.last_n:,}" if self.last_n > self.first_n else ""
            where += f", n {self.first_n:,}{last}"
        times = f" ({self.count:,} times)" if self.count > 1 else ""
        detail = f" ({self.detail})" if self.detail else ""
        return f"{self.kind} {where}: {DEFECTS[self.kind]}{detail}{times}"

    def to_dict(self) -> dict[str, Any]:
        """The fields that differ from their defaults, for JSON."""
        defaults: dict[str, Any] = {
            "size_bytes": 0,
            "session": "",
            "first_n": -1,
            "last_n": -1,
            "count": 1,
            "file": "",
            "detail": "",
        }
        return {k: v for k, v in asdict(self).items() if k not in defaults or v != defaults[k]}
