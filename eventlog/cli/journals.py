"""Names on a command line -> the journals that they mean."""

import contextlib
import errno
import glob
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from eventlog.blocks import check_is_file, open_to_read
from eventlog.cli.report import COMPLETE, IO_ERROR, LOSS
from eventlog.format.files import (
    ASIDE_SUFFIX,
    BEFORE_LOSS_SUFFIX,
    HASH_LENGTH,
    JOURNAL_SUFFIX,
    PRUNED_SUFFIX,
    RANK_SUFFIX,
    RUN_JSON_SUFFIX,
    SEGMENT_SUFFIX,
    is_shortened_aside,
    journal_path,
    parse_rank_name,
    parse_segment_name,
    run_path,
)
from eventlog.format.text import print_lines
from eventlog.read.candidates import find_orphans, orphans
from eventlog.read.evidence import known_from, stated_by
from eventlog.read.identify import begins_like_journal, may_be_journal
from eventlog.read.subfolders import Listing, Walk

_OF_A_RUN = re.compile(
    rf"(?P<stem>.+){re.escape(RUN_JSON_SUFFIX)}(\.\d+)?{re.escape(BEFORE_LOSS_SUFFIX)}"
    rf"|.+\.(?P<hash>[0-9a-f]{{{HASH_LENGTH}}}){re.escape(ASIDE_SUFFIX)}"
)


class Journals(NamedTuple):
    """The journals that names mean, and the exit code for those that could not be read."""

    paths: list[Path]
    code: int


def find_journals(
    names: Sequence[str], *, with_ranks: bool = False, with_orphans: bool = False
) -> Journals:
    """The journals that folders, globs and files mean, each once; a run JSON means its journal.

    A folder means also those in its subfolders, at any depth.

    Of a folder also, `with_ranks`: the journals of ranks, and what is left of runs whose journal is
    gone is named; `with_orphans`: the segments of such runs.

    Raises:
        FileNotFoundError: there is none.
    """
    paths: list[Path] = []
    code = COMPLETE
    walk = Walk()
    for name in names:
        path = Path(name)
        if path.is_dir():
            for listing in walk.below(path):
                in_folder = _journals_in(listing, with_ranks)
                paths += in_folder.paths
                paths += find_orphans(listing.path) if with_orphans else []
                code = max(code, in_folder.code)
        elif os.path.lexists(path):
            beside = (journal_path(path), path.with_suffix(SEGMENT_SUFFIX))  # `compact` of one
            is_json = path.suffix == RUN_JSON_SUFFIX
            paths.append(next((b for b in beside if is_json and b.exists()), path))
        elif matches := sorted(glob.glob(name, recursive=True)):
            paths += find_journals([m for m in matches if m.endswith(JOURNAL_SUFFIX)]).paths
        else:
            paths += _in_segments_alone(path)
    for message in walk.left_out:
        say(message)
    if not paths and code == COMPLETE:
        raise FileNotFoundError(f"{' '.join(names)}: no journal (*{JOURNAL_SUFFIX}) found")
    return Journals(_each_once(paths), code)


def _each_once(paths: Sequence[Path]) -> list[Path]:
    """Each file by one path, which is a link only if it has no other."""
    chosen: dict[str, Path] = {}
    for path in paths:
        real = os.path.realpath(path)
        known = chosen.get(real)
        if known is None or (known.is_symlink() and not path.is_symlink()):
            chosen[real] = path
    return list(chosen.values())


def _in_segments_alone(path: Path) -> list[Path]:
    """The segments of a journal that does not exist any more; they are named on stderr.

    Raises:
        FileNotFoundError: there are none; the message says where they were looked for.
    """
    from eventlog.tracker.location import state_folder  # not imported by readers otherwise

    missing = f"{path}: no such journal, folder or glob"
    if path.suffix not in (JOURNAL_SUFFIX, RUN_JSON_SUFFIX):
        raise FileNotFoundError(missing)
    state = state_folder()
    segments = orphans(path.stem, [path.parent, *([state] if state else [])])
    if not segments:
        raise FileNotFoundError(f"{missing}; nor is there a segment of it in {state}")
    for segment in segments:
        say(f"{path}: is gone; its events are in {segment}")
    return segments


def _journals_in(listing: Listing, with_ranks: bool) -> Journals:
    """The journals in a folder; other files with a journal's name are named on stderr, unless they
    are in a subfolder: data sets may be there."""
    folder = Path(listing.path)
    names = sorted(entry.name for entry in listing.files)
    is_journal = begins_like_journal if listing.is_below else may_be_journal
    paths, code = [], COMPLETE
    for path in (folder / name for name in names):
        is_ranks = with_ranks and parse_rank_name(path.name) is not None
        if path.suffix != JOURNAL_SUFFIX and not is_ranks:
            continue
        try:
            check_is_file(path)
            if is_journal(path) or known_from(run_path(path)).sessions:
                paths.append(path)
            elif not listing.is_below:
                say(f"{path}: skipped, it holds no record of a journal")
        except OSError as error:
            is_no_file = error.errno == errno.EINVAL  # a folder, a FIFO
            say(f"{path}: {'skipped, it ' if is_no_file else ''}{error.strerror or error}")
            code = code if is_no_file else max(code, IO_ERROR)
    for name in _without_journal(folder, names, paths, all_files=with_ranks):
        say(f"{folder / name}: belongs to a run whose journal is not here")
        code = max(code, LOSS)
    return Journals(paths, code)


def _without_journal(
    folder: Path, names: list[str], journals: list[Path], *, all_files: bool
) -> list[str]:
    """The names of segments without their journal, or the journal of their rank.

    `all_files`: also of run JSONs that were made from a journal, of those that were kept before a
    loss, and of files of large events.
    """
    stems = {path.name.removesuffix(path.suffix) for path in journals}
    for suffix in (RANK_SUFFIX, PRUNED_SUFFIX):
        stems |= {name.removesuffix(suffix) for name in names if name.endswith(suffix)}
    with_records = [*journals, *(folder / n for n in names if n.endswith(SEGMENT_SUFFIX))]
    left = []
    for name in names:
        parts = name.split(".")
        heads = {".".join(parts[:k]) for k in range(1, len(parts))}
        if name.endswith(SEGMENT_SUFFIX):
            own = {stem for stem in heads if parse_segment_name(name, stem)}
        elif not all_files:
            continue
        elif name.endswith(RUN_JSON_SUFFIX):
            own = {name.removesuffix(RUN_JSON_SUFFIX)}
            if not own & stems:
                known = stated_by(folder / name)  # of another name: a copy
                own = (
                    own | {known.journal.removesuffix(JOURNAL_SUFFIX)} if known.sessions else set()
                )
        elif match := _OF_A_RUN.fullmatch(name):
            own = heads if match["hash"] else {match["stem"]}
            if any(is_shortened_aside(name, stem) for stem in stems):
                continue
            if match["hash"] and not own & stems and _is_named(name, with_records):
                continue
        else:
            continue
        if own and not own & stems:
            left.append(name)
    return left


def _is_named(aside: str, paths: list[Path]) -> bool:
    """Whether a journal or segment names a file of a large event, as one that was renamed does."""
    for path in paths:
        with contextlib.suppress(OSError), open(open_to_read(path), "rb") as file:
            if any(aside.encode() in line for line in file):
                return True
    return False


def newest_journal(name: str) -> Path:
    """The journal that a name means; of several, the one that was written to last."""
    paths = find_journals([name]).paths
    if not paths:
        raise FileNotFoundError(f"{name}: no journal (*{JOURNAL_SUFFIX}) found")
    return max(paths, key=lambda path: path.stat().st_mtime if path.exists() else 0.0)


def say(text: str) -> None:
    """Print a message to stderr."""
    print_lines(text, file=sys.stderr, flush=True)


def print_result(text: str) -> None:
    """Print on stdout. If nobody reads it (`| head`), the command goes on: its work and its exit
    code count."""
    try:
        print_lines(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
