"""eventlog compact | recover | verify | cat | tail | status: thin commands over the library.

stdout is data, stderr is words. Exit codes: 0 fine, 1 a file could not be read or
written, 2 misuse, 3 events are lost (each is named), 4 a person must look, 5 no record.
"""

import argparse
import errno
import glob
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from eventlog.blocks import check_is_file
from eventlog.cli import report
from eventlog.cli.tail import tail
from eventlog.errors import (
    EventlogError,
    JournalLocked,
    NewerFormat,
    NotAJournal,
    UnreadableRun,
)
from eventlog.fold.compaction import follow, write_run
from eventlog.fold.load import Folding
from eventlog.format.files import (
    JOURNAL_SUFFIX,
    RANK_SUFFIX,
    RUN_JSON_SUFFIX,
    SEGMENT_SUFFIX,
    journal_path,
    parse_segment_name,
    run_path,
)
from eventlog.format.record import printable_line
from eventlog.format.text import print_lines, printable, printable_json
from eventlog.read.candidates import orphans
from eventlog.read.evidence import known_from
from eventlog.read.identify import may_be_journal
from eventlog.read.reader import Reader
from eventlog.write.recovery import recover

_SUFFIXES = (JOURNAL_SUFFIX, RANK_SUFFIX)
PROGRESS_FROM = 4  # files; fewer are done before a bar can be read


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; its exit code."""
    arguments = _parser().parse_args(argv)
    try:
        code: int = arguments.run(arguments)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # `eventlog cat ... | head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130
    except (EventlogError, OSError) as error:
        _say(str(error))
        return report.IO_ERROR


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="eventlog", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(
        name: str, run: Callable[[argparse.Namespace], int], words: str, paths: str
    ) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=words, description=words)
        sub.set_defaults(run=run)
        many = paths == "PATH"
        sub.add_argument(
            "paths" if many else "path",
            nargs="+" if many else None,
            metavar=paths,
            help="a journal (.jsonl), a folder of them, or a quoted glob"
            if many
            else "a journal (.jsonl), or a folder: its newest journal",
        )
        return sub

    sub = command(
        "compact", _compact, "Write the run JSON of each journal: recovers crashed runs.", "PATH"
    )
    sub.add_argument(
        "--follow",
        action="store_true",
        help="go on beside a live writer until standard input closes",
    )
    sub.add_argument(
        "--every",
        type=_positive,
        default=100,
        metavar="N",
        help="with --follow: compact every N iterations (default 100)",
    )
    sub.add_argument(
        "--with-superseded",
        action="store_true",
        help="keep what a later take replaced in the run JSON too, under journal",
    )
    sub.set_defaults(recover=False)
    sub = command(
        "recover",
        _compact,
        "After a crash: cut half a line at the end, keeping it aside; then compact.",
        "PATH",
    )
    sub.set_defaults(recover=True, follow=False, with_superseded=False)
    sub = command(
        "verify", _verify, "Say exactly what is wrong with a journal and what it cost.", "PATH"
    )
    sub.add_argument("--json", action="store_true", help="one JSON object a line")
    sub = command(
        "cat", _cat, "Print the verified lines only: safe for jq, pandas, DuckDB.", "PATH"
    )
    sub.add_argument(
        "--event",
        action="append",
        metavar="KIND",
        help="only events of this kind; may be given several times",
    )
    sub = command(
        "tail", _tail, "Print the last events for people; -f goes on as they come.", "JOURNAL"
    )
    sub.add_argument("-f", "--follow", action="store_true", help="go on as events are appended")
    sub.add_argument(
        "-n",
        "--lines",
        type=_positive,
        default=10,
        metavar="N",
        help="how many of the last events (default 10)",
    )
    sub = command(
        "status", _status, "Say who writes a journal, how far it is, what is durable.", "PATH"
    )
    sub.add_argument("--json", action="store_true", help="one JSON object a line")
    return parser


def _compact(arguments: argparse.Namespace) -> int:
    if arguments.follow:
        return _follow(arguments)
    found = _journals(arguments.paths)
    worst = found.code
    for path in _with_progress(found.paths):
        try:
            worst = max(worst, _compact_one(path, arguments))
        except (UnreadableRun, NotAJournal) as error:
            worst = max(worst, report.EMPTY)
            _say(str(error))
        except (NewerFormat, JournalLocked) as error:
            worst = max(worst, report.CONFLICT)
            _say(str(error))
        except OSError as error:
            worst = max(worst, report.IO_ERROR)
            _say(f"{path}: {error.strerror or error}; its run JSON, if there is one, is unchanged")
    return worst


def _compact_one(path: Path, arguments: argparse.Namespace) -> int:
    check_is_file(path)
    if arguments.recover and path.suffix != SEGMENT_SUFFIX:  # who writes one holds no lock of it
        _say_found(path, recover(path))
    folding = Folding(path, known=known_from(run_path(path)))
    write_run(folding, with_superseded=arguments.with_superseded)
    code = report.exit_code(folding, with_content=False)
    print_lines(printable(run_path(path)), flush=True)
    if code:
        _say("\n".join(map(printable, report.words(folding, with_content=False))))
    return code


def _say_found(path: Path, found: dict[str, Any] | None) -> None:
    if found and "not_cut" in found:
        _say(f"{path}: ends inside a line, which stays as it is: {found['not_cut']}")
    torn = (found or {}).get("torn")
    if torn and torn["kept_in"]:
        _say(
            f"{path}: cut {torn['size_bytes']:,} bytes of half a line at byte "
            f"{torn['offset']:,}; they are kept in {torn['kept_in']}"
        )
    elif torn:
        _say(
            f"{path}: {torn['size_bytes']:,} bytes of half a line at byte {torn['offset']:,} "
            f"could not be kept aside ({torn['error']}), so they were not cut"
        )


def _follow(arguments: argparse.Namespace) -> int:
    """The compactor beside a trainer: ends with it, not before, and never in its way."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    os.nice(10)
    path = _journals(arguments.paths).paths[0]
    try:
        follow(path, every=arguments.every, until=sys.stdin.buffer)
    except OSError as error:
        _say(f"{run_path(path)}: could not be written ({error.strerror or error})")
        return report.IO_ERROR
    return 0


def _verify(arguments: argparse.Namespace) -> int:
    found = _journals(arguments.paths)
    worst = found.code
    for path in _with_progress(found.paths):
        try:
            check_is_file(path)
            folding = Folding(path, with_rows=False, known=known_from(run_path(path)))
            folding.read()
        except OSError as error:
            _say(f"{path}: {error.strerror or error}")
            worst = max(worst, report.IO_ERROR)
            continue
        if arguments.json:
            print_lines(printable_json(orjson.dumps(report.report(folding)).decode()), flush=True)
        else:
            print_lines("\n".join(map(printable, report.words(folding))), flush=True)
        worst = max(worst, report.exit_code(folding))
    return worst


def _cat(arguments: argparse.Namespace) -> int:
    wanted = set(arguments.event or ())

    def print_records(path: Path) -> None:
        for record in Reader(path).read_on(to_the_end=True):
            if not wanted or record.event in wanted:
                sys.stdout.buffer.write(printable_line(record.line) + b"\n")

    return _for_each(_journals(arguments.paths), print_records)


def _tail(arguments: argparse.Namespace) -> int:
    for line in tail(_newest(arguments.path), n_lines=arguments.lines, follow=arguments.follow):
        print_lines(line, flush=arguments.follow)
    return 0


def _status(arguments: argparse.Namespace) -> int:
    def print_status(path: Path) -> None:
        told = report.status(path)
        words = "\n".join(map(printable, report.status_words(told)))
        print_lines(printable_json(orjson.dumps(told).decode()) if arguments.json else words)

    return _for_each(_journals(arguments.paths), print_status)


def _for_each(found: "_Found", do: Callable[[Path], None]) -> int:
    """Do something with each journal; one that cannot be read does not keep the others from it."""
    code = min(found.code, report.IO_ERROR)
    for path in found.paths:
        try:
            check_is_file(path)
            do(path)
        except BrokenPipeError:
            raise
        except (EventlogError, OSError) as error:
            name = "" if str(path) in str(error) else f"{path}: "
            _say(f"{name}{error}")
            code = max(code, report.IO_ERROR)
    return code


class _Found(NamedTuple):
    """What names on a command line mean."""

    paths: list[Path]
    code: int
    """The exit code for what was found and could not be read."""


def _journals(names: Sequence[str]) -> _Found:
    """The journals that folders, globs and names mean; a run JSON means its journal."""
    found: list[Path] = []
    code = report.COMPLETE
    for name in names:
        path = Path(name)
        if path.is_dir():
            in_folder = _journals_in(path)
            found += in_folder.paths
            code = max(code, in_folder.code)
        elif os.path.lexists(path):
            beside = journal_path(path)
            found.append(beside if path.suffix == RUN_JSON_SUFFIX and beside.exists() else path)
        elif matches := sorted(glob.glob(name, recursive=True)):
            found += _journals([m for m in matches if m.endswith(JOURNAL_SUFFIX)]).paths
        else:
            found += _in_segments_alone(path)
    if not found and code == report.COMPLETE:
        raise FileNotFoundError(f"{' '.join(names)}: no journal (*{JOURNAL_SUFFIX}) there")
    return _Found(list(dict.fromkeys(found)), code)


def _in_segments_alone(path: Path) -> list[Path]:
    """The segments to read for a journal that is gone; says which.

    Raises:
        FileNotFoundError: there are none; says where they would be.
    """
    from eventlog.tracker.location import state_folder  # what only writers need

    missing = f"{path}: no such journal, folder or glob"
    if path.suffix not in (JOURNAL_SUFFIX, RUN_JSON_SUFFIX):
        raise FileNotFoundError(missing)
    state = state_folder()
    found = orphans(path.stem, [path.parent, *([state] if state else [])])
    if not found:
        raise FileNotFoundError(f"{missing}; nor is there a segment of it in {state}")
    for segment in found:
        _say(f"{path}: is gone; its events are in {segment}")
    return found


def _journals_in(folder: Path) -> _Found:
    """The journals in a folder. What only is called like one is named and left out."""
    names = sorted(os.listdir(folder))
    found, code = [], report.COMPLETE
    for path in (folder / name for name in names if name.endswith(JOURNAL_SUFFIX)):
        try:
            check_is_file(path)
            if may_be_journal(path) or known_from(run_path(path)).sessions:
                found.append(path)
            else:
                _say(f"{path}: skipped, it holds no record of a journal")
        except OSError as error:
            is_other = error.errno == errno.EINVAL  # a directory, a FIFO: certainly no journal
            _say(f"{path}: {'skipped, it ' if is_other else ''}{error.strerror or error}")
            code = code if is_other else max(code, report.IO_ERROR)
    for name in _without_journal(names):
        _say(f"{folder / name}: is a segment of a journal that is not here")
        code = max(code, report.LOSS)
    return _Found(found, code)


def _without_journal(names: list[str]) -> list[str]:
    """The segments in a folder whose journals, or those of whose ranks, are not there."""
    stems = {name.removesuffix(suffix) for name in names for suffix in _SUFFIXES}
    return [
        name
        for name in names
        if name.endswith(SEGMENT_SUFFIX)
        and (parts := name.split("."))
        and not any(
            ".".join(parts[:k]) in stems and parse_segment_name(name, ".".join(parts[:k]))
            for k in range(1, len(parts))
        )
        and any(parse_segment_name(name, ".".join(parts[:k])) for k in range(1, len(parts)))
    ]


def _newest(name: str) -> Path:
    """The journal named, or the one last written to in a folder."""
    found = _journals([name]).paths
    if not found:
        raise FileNotFoundError(f"{name}: no journal (*{JOURNAL_SUFFIX}) there")
    return max(found, key=lambda path: path.stat().st_mtime if path.exists() else 0.0)


def _with_progress(paths: list[Path]) -> Iterator[Path]:
    """`paths`, with a bar on stderr when they are many and a terminal looks."""
    show = len(paths) >= PROGRESS_FROM and sys.stderr.isatty()
    for done, path in enumerate(paths):
        if show:
            bar = "#" * (30 * done // len(paths))
            print(
                f"\r\x1b[K[{bar:.<30}] {done}/{len(paths)} {printable(path.name)}",
                end="",
                file=sys.stderr,
                flush=True,
            )
        yield path
    if show:
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive whole number")
    return value


def _say(words: str) -> None:
    print_lines(words, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
