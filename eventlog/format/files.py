"""The names of a run's files. `<stem>` is the name of the journal without its suffix.

    <stem>.jsonl                     the journal
    <stem>.json                      the run JSON
    <stem>.json.before-loss          a run JSON that has more than its journal; then .2.before-loss
    <stem>.rank<r>.journal           the journal of a rank
    <stem>.<run>.<s>.<k>.segment     segment k of session s; <run>: the beginning of the run id
    <stem>.<s>.<k>.segment           the same, in older runs
    <stem>.<s>.torn                  what session s cut off the end of the journal
    <stem>.<h>.aside                 the content of an event too large for a line; <h>: its hash
    <stem>.jsonl.pruned              the journal of a run whose files are being deleted
    <stem>.files/                    files of the program itself: `run.dir` of a run of `init`
    .<name>.<random>.tmp             what `disk.atomic_write` makes before it replaces <name>

There are no lock files: the lock is one on the journal itself.
"""

import re
from pathlib import Path
from typing import NamedTuple

from eventlog.disk import fitting

JOURNAL_SUFFIX = ".jsonl"
RUN_JSON_SUFFIX = ".json"
PRUNED_SUFFIX = ".jsonl.pruned"
BEFORE_LOSS_SUFFIX = ".before-loss"
RANK_SUFFIX = ".journal"  # not that of a journal, so that ranks are not listed as runs
SEGMENT_SUFFIX = ".segment"
TORN_SUFFIX = ".torn"
ASIDE_SUFFIX = ".aside"
FILES_SUFFIX = ".files"

RUN_ID_LENGTH = 8  # of the run id, in a file name
HASH_LENGTH = 32  # of the SHA-256, in a file name

_SHORTENED_END = re.compile(
    rf"[0-9a-f]{{8}}\.(?P<sha256>[0-9a-f]{{{HASH_LENGTH}}}){re.escape(ASIDE_SUFFIX)}"
)
_RANKS_MAX = 10_000  # that the shortened name of an aside is looked for
_RANK_NAME = re.compile(rf"(?P<stem>.+)\.rank(?P<rank>\d+){re.escape(RANK_SUFFIX)}", re.DOTALL)
_SEGMENT_END = re.compile(
    rf"(?:(?!rank\d+\.)(?P<run>[^.]{{{RUN_ID_LENGTH}}})\.)?(?P<s>[0-9a-f]{{8}})\.(?P<number>\d+)"
    + re.escape(SEGMENT_SUFFIX)
)
_NOT_IN_A_RUN_ID = re.compile(r"[^0-9A-Za-z_-]")


def run_path(journal: Path) -> Path:
    """The run JSON of a journal."""
    return journal.with_suffix(RUN_JSON_SUFFIX)


def journal_path(run_json: Path) -> Path:
    """The journal of a run JSON."""
    return run_json.with_suffix(JOURNAL_SUFFIX)


def rank_path(journal: Path, rank: int) -> Path:
    """The journal of a rank; `journal`: the run's journal or run JSON."""
    return journal.with_suffix(f".rank{rank}{RANK_SUFFIX}")


def parse_rank_name(name: str) -> tuple[str, int] | None:
    """The run's stem and the rank, if `name` is that of a rank's journal."""
    match = _RANK_NAME.fullmatch(name)
    return (match["stem"], int(match["rank"])) if match is not None else None


def torn_path(journal: Path, s: str) -> Path:
    """Where session `s` keeps what it cuts off the end of a journal."""
    return journal.with_name(f"{journal.stem}.{s}{TORN_SUFFIX}")


def files_folder(journal: Path) -> Path:
    """The folder for files that the program itself writes."""
    return journal.with_suffix(FILES_SUFFIX)


def aside_name(stem: str, sha256: str) -> str:
    """The name of the file that has the content of a large event; `sha256`: its hash, in hex."""
    return fitting(stem, f".{sha256[:HASH_LENGTH]}{ASIDE_SUFFIX}")


def is_shortened_aside(name: str, stem: str) -> bool:
    """Whether it is the name of an aside of a run whose `stem` is too long to be part of it."""
    begin, _, end = name.rpartition("~")
    match = _SHORTENED_END.fullmatch(end)
    if match is None or not (begin.startswith(stem) or stem.startswith(begin)):
        return False
    ranks = (f"{stem}.rank{rank}" for rank in range(_RANKS_MAX))
    return any(aside_name(of, match["sha256"]) == name for of in (stem, *ranks))


# ---- segments


class SegmentName(NamedTuple):
    """The parts of a segment's file name."""

    number: int
    s: str
    """The session whose records it has."""
    run: str
    """The beginning of the run id; empty in names that were written before it was part of them."""


def short_run_id(run_id: str) -> str:
    """The part of a run id that file names have."""
    return _NOT_IN_A_RUN_ID.sub("_", run_id)[:RUN_ID_LENGTH].ljust(RUN_ID_LENGTH, "_")


def segment_name(stem: str, run_id: str, s: str, number: int) -> str:
    """The file name of segment `number` of session `s` of the run whose journal is `stem`.jsonl."""
    return f"{stem}.{short_run_id(run_id)}.{s}.{number}{SEGMENT_SUFFIX}"


def parse_segment_name(name: str, stem: str) -> SegmentName | None:
    """The parts of a file name, if it is that of a segment of the journal `stem`."""
    if not name.startswith(f"{stem}."):
        return None
    match = _SEGMENT_END.fullmatch(name, len(stem) + 1)
    if match is None:  # of a rank of the run (<stem>.rank3.<session>...), or no segment
        return None
    return SegmentName(int(match["number"]), match["s"], match["run"] or "")


def parse_orphan(path: Path) -> tuple[str, str] | None:
    """The journal's stem and the run, if `path` is a segment, to be read without its journal."""
    stem = path.name.rsplit(".", 4)[0]
    named = parse_segment_name(path.name, stem)
    return (stem, named.run) if named is not None and named.run else None
