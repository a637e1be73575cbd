"""The name of a new session, its number in the run, and the record that it follows."""

import os
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from eventlog.blocks import open_to_read
from eventlog.disk import DISK
from eventlog.format.files import parse_segment_name, short_run_id
from eventlog.format.record import MAX_LINE_BYTES, Record, decode
from eventlog.interruption import ignoring
from eventlog.read.ends import last_open, last_record


def new_session_name() -> str:
    """Eight random hex digits, the first a letter, so that it is never read as a number."""
    return secrets.choice("abcdef") + secrets.token_hex(4)[1:]


def place_in_run(
    journal: Path, folders: Sequence[Path], run_id: str
) -> tuple[int, dict[str, Any] | None]:
    """The number of a new session of a run, from 1, and the last record of the one before it.

    The record is `{"s": ..., "n": ...}`; None if it is damaged or there is none. Sessions in
    segments count too: those of the run `run_id` in `folders`.
    """
    opened = last_open(journal)
    last = last_record(journal)
    numbers = {opened.s: _number(opened)} if opened is not None else {}
    ends = {last.s: last.n} if last is not None else {}
    is_damaged = last is None and DISK.identity(journal) and os.stat(journal).st_size > 0
    for path in _segments(journal, folders, run_id):
        with ignoring(OSError):
            opened, last = _first_open(path), last_record(path)
            if opened is not None:
                numbers[opened.s] = _number(opened)
            if last is not None and "annotates" not in last.fields:
                ends[last.s] = max(last.n, ends.get(last.s, -1))
    known = [s for s in ends if numbers.get(s, 0) == max(numbers.values(), default=0)]
    number = 1 + max([*numbers.values(), len(numbers.keys() | ends.keys())], default=0)
    if is_damaged or not known:
        return number, None
    return number, {"s": known[0], "n": ends[known[0]]}


def _number(opened: Record) -> int:
    number = opened.fields.get("session_number")
    return number if type(number) is int else 0  # earlier versions wrote no number


def _segments(journal: Path, folders: Sequence[Path], run_id: str) -> list[Path]:
    paths = []
    for folder in dict.fromkeys(folders):
        with ignoring(OSError):
            for name in os.listdir(folder):
                segment = parse_segment_name(name, journal.stem)
                if segment is not None and (
                    segment.run == short_run_id(run_id)
                    or (not segment.run and folder == journal.parent)
                ):
                    paths.append(folder / name)
    return sorted(path for path in paths if path.is_file())


def _first_open(segment: Path) -> Record | None:
    """The `open` event of a session that was written to a segment from its first record on."""
    with open(open_to_read(segment), "rb") as file:
        for line in (file.readline(MAX_LINE_BYTES), file.readline(MAX_LINE_BYTES)):
            record = decode(line.rstrip(b"\n"))
            if record is not None and record.event == "open":
                return record
    return None
