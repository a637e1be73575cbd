"""What each subcommand does; its exit code is what it returns."""

import argparse
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import orjson

from eventlog.blocks import check_is_file
from eventlog.cli import report, run_status, terminal
from eventlog.cli.journals import Journals, find_journals, newest_journal, print_result, say
from eventlog.cli.tail import tail as tail_lines
from eventlog.errors import (
    EventlogError,
    JournalLocked,
    NewerFormat,
    NotAJournal,
    UnreadableRun,
)
from eventlog.fold.compaction import follow, write_run
from eventlog.fold.load import Folding
from eventlog.format.files import SEGMENT_SUFFIX, run_path
from eventlog.format.record import printable_line
from eventlog.format.text import print_lines, printable, printable_json
from eventlog.read.identify import may_be_journal
from eventlog.read.reader import Reader
from eventlog.write.repair import recover

PROGRESS_COLUMNS = 79  # a longer line would not be erased whole
PROGRESS_FROM = 4  # files; fewer are done before a bar can be read


def compact(arguments: argparse.Namespace) -> int:
    """Write the run JSON of each journal; for `recover`, cut an incomplete last line first."""
    if arguments.follow:
        return _follow(arguments)
    paths, worst = find_journals(arguments.paths)
    for path in _with_progress(paths):
        try:
            worst = max(worst, _compact_one(path, arguments))
        except (UnreadableRun, NotAJournal) as error:
            worst = max(worst, report.EMPTY)
            say(str(error))
        except (NewerFormat, JournalLocked) as error:
            worst = max(worst, report.CONFLICT)
            say(str(error))
        except OSError as error:
            worst = max(worst, report.IO_ERROR)
            say(f"{path}: {error.strerror or error}; its run JSON was not changed")
    return worst


def _compact_one(path: Path, arguments: argparse.Namespace) -> int:
    check_is_file(path)
    if arguments.recover and path.suffix != SEGMENT_SUFFIX:  # its writer holds no lock on it
        _say_repaired(path, recover(path))
    folding = Folding(path)
    write_run(folding, with_superseded=arguments.with_superseded)
    code = report.exit_code(folding, with_content=False)
    print_result(printable(run_path(path)))
    if code:
        say("\n".join(map(printable, report.report_lines(folding, with_content=False))))
    return code


def _say_repaired(path: Path, repair: dict[str, Any] | None) -> None:
    """What was done with an incomplete last line; None where there was none."""
    if repair and "not_cut" in repair:
        say(f"{path}: its last line is incomplete and was not cut: {repair['not_cut']}")
    torn = (repair or {}).get("torn")
    if not torn:
        return
    line = f"an incomplete last line of {torn['size_bytes']:,} bytes at byte {torn['offset']:,}"
    if torn["kept_in"]:
        say(f"{path}: cut {line}; the bytes are saved in {torn['kept_in']}")
    else:
        say(f"{path}: {line} was not cut, because it could not be saved: {torn['error']}")


def _follow(arguments: argparse.Namespace) -> int:
    """Compact a journal while it is written, until standard input closes: the writer ended."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    os.nice(10)
    path = Path(arguments.paths[0])  # it may have been moved or deleted since, and come again
    try:
        follow(path, every=arguments.every, until=sys.stdin.buffer)
    except OSError as error:
        say(f"{run_path(path)}: could not be written ({error.strerror or error})")
        return report.IO_ERROR
    return 0


def verify(arguments: argparse.Namespace) -> int:
    """Print for each journal whether it is complete and what is wrong with it."""
    paths, worst = find_journals(arguments.paths, with_ranks=True)
    for path in _with_progress(paths):
        try:
            check_is_file(path)
            folding = Folding(path, with_rows=False)
            folding.read()
        except OSError as error:
            say(f"{path}: {error.strerror or error}")
            worst = max(worst, report.IO_ERROR)
            continue
        if arguments.json:
            print_result(printable_json(orjson.dumps(report.report(folding)).decode()))
        else:
            _print_lines(map(printable, report.report_lines(folding)), indent=4)
        worst = max(worst, report.exit_code(folding))
    return worst


def cat(arguments: argparse.Namespace) -> int:
    """Print the lines of each journal that are intact."""
    kinds = set(arguments.event or ())

    def print_records(path: Path) -> None:
        reader = Reader(path)
        for record in reader.read_on(to_the_end=True):
            if not kinds or record.event in kinds:
                sys.stdout.buffer.write(printable_line(record.line) + b"\n")
        if not reader.sequence.n_records:
            raise NotAJournal(f"{path}: {report.VERDICTS[report.EMPTY]}")

    return _for_each(find_journals(arguments.paths), print_records)


def tail(arguments: argparse.Namespace) -> int:
    """Print the last events of a journal, and each new one with `--follow`."""
    path = newest_journal(arguments.path)
    if not arguments.follow and not may_be_journal(path):
        raise NotAJournal(f"{path}: {report.VERDICTS[report.EMPTY]}")
    width = terminal.columns()
    for line in tail_lines(path, n_lines=arguments.lines, follow=arguments.follow, columns=width):
        print_lines(line, flush=arguments.follow)
    return 0


def status(arguments: argparse.Namespace) -> int:
    """Print who writes each journal, how far the run is and what is durable."""

    def print_status(path: Path) -> None:
        status = run_status.status_of(path)
        if arguments.json:
            print_result(printable_json(orjson.dumps(status).decode()))
        else:
            _print_lines(map(printable, run_status.status_lines(status)), indent=13)

    return _for_each(find_journals(arguments.paths, with_orphans=True), print_status)


def _print_lines(lines: Iterable[str], *, indent: int) -> None:
    """Print lines on stdout; what is too long for a terminal continues in further ones."""
    width = terminal.columns()
    print_result("\n".join(lines if width is None else terminal.wrapped(lines, width, indent)))


def _for_each(journals: Journals, do: Callable[[Path], None]) -> int:
    """Call `do` for each journal; one that cannot be read is named and skipped."""
    code = min(journals.code, report.IO_ERROR)
    for path in journals.paths:
        try:
            check_is_file(path)
            do(path)
        except BrokenPipeError:
            raise
        except (EventlogError, OSError) as error:
            name = "" if str(path) in str(error) else f"{path}: "
            say(f"{name}{error}")
            code = max(code, report.IO_ERROR)
    return code


def _with_progress(paths: list[Path]) -> Iterator[Path]:
    """`paths`, with a progress bar on stderr if they are many and stderr is a terminal.

    The results on stdout show the progress where that is a terminal, too.
    """
    show = len(paths) >= PROGRESS_FROM and sys.stderr.isatty() and not sys.stdout.isatty()
    for done, path in enumerate(paths):
        if show:
            bar = "#" * (30 * done // len(paths))
            text = f"[{bar:.<30}] {done}/{len(paths)} {printable(path.name)}"
            print(
                f"\r\x1b[K{terminal.cut(text, PROGRESS_COLUMNS)}",
                end="",
                file=sys.stderr,
                flush=True,
            )
        yield path
    if show:
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)
