"""eventlog compact | recover | verify | cat | tail | status: thin commands over the library.

stdout is data, stderr is words. Exit codes: 0 fine, 1 a file could not be read or
written, 2 misuse, 3 events are lost (each is named), 4 a person must look, 5 no record.
"""

import argparse
import glob
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson

from eventlog import report
from eventlog.compact import follow, run_path, write_run
from eventlog.disk import is_locked
from eventlog.errors import EventlogError, JournalLocked, NewerFormat, UnreadableRun
from eventlog.journal import recover
from eventlog.load import JOURNAL_SUFFIX, Folding
from eventlog.reader import Reader
from eventlog.record import HEAD
from eventlog.scan import read_chunks
from eventlog.tail import tail

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
    worst = 0
    for path in _with_progress(_journals(arguments.paths)):
        folding = Folding(path)
        try:
            if arguments.recover:
                _say_found(path, recover(path))
            write_run(folding, with_superseded=arguments.with_superseded)
        except UnreadableRun as error:
            code = report.EMPTY
            _say(str(error))
        except (NewerFormat, JournalLocked) as error:
            code = report.CONFLICT
            _say(str(error))
        except OSError as error:
            code = report.IO_ERROR
            _say(f"{path}: {error.strerror or error}; its run JSON, if there is one, is unchanged")
        else:
            code = report.exit_code(folding)
            print(run_path(path), flush=True)
            if code:
                _say("\n".join(report.words(folding)))
        worst = max(worst, code)
    return worst


def _say_found(path: Path, found: dict[str, Any] | None) -> None:
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
    (path,) = _journals(arguments.paths)
    try:
        follow(path, every=arguments.every, until=sys.stdin.buffer)
    except OSError as error:
        _say(f"{run_path(path)}: could not be written ({error.strerror or error})")
        return report.IO_ERROR
    return 0


def _verify(arguments: argparse.Namespace) -> int:
    worst = 0
    for path in _with_progress(_journals(arguments.paths)):
        try:
            folding = Folding(path, with_rows=False)
            folding.read_on(to_the_end=not is_locked(path))
        except OSError as error:
            _say(f"{path}: {error.strerror or error}")
            worst = max(worst, report.IO_ERROR)
            continue
        if arguments.json:
            print(orjson.dumps(report.report(folding)).decode(), flush=True)
        else:
            print("\n".join(report.words(folding)), flush=True)
        worst = max(worst, report.exit_code(folding))
    return worst


def _cat(arguments: argparse.Namespace) -> int:
    wanted = set(arguments.event or ())
    for path in _journals(arguments.paths):
        for record in Reader(path).read_on(to_the_end=True):
            if not wanted or record.event in wanted:
                sys.stdout.buffer.write(record.line + b"\n")
    return 0


def _tail(arguments: argparse.Namespace) -> int:
    for line in tail(_newest(arguments.path), n_lines=arguments.lines, follow=arguments.follow):
        print(line, flush=arguments.follow)
    return 0


def _status(arguments: argparse.Namespace) -> int:
    for path in _journals(arguments.paths):
        told = report.status(path)
        print(
            orjson.dumps(told).decode() if arguments.json else "\n".join(report.status_words(told))
        )
    return 0


def _journals(paths: Sequence[str]) -> list[Path]:
    """The journals that folders, globs and names mean; a run JSON means its journal."""
    found: list[Path] = []
    for name in paths:
        path = Path(name)
        if path.is_dir():
            found += filter(_may_be_journal, sorted(path.glob(f"*{JOURNAL_SUFFIX}")))
        elif path.exists():
            beside = path.with_suffix(JOURNAL_SUFFIX)
            found.append(beside if path.suffix == ".json" and beside.exists() else path)
        elif matches := sorted(glob.glob(name, recursive=True)):
            found += _journals([m for m in matches if m.endswith(JOURNAL_SUFFIX)])
        else:
            raise FileNotFoundError(f"{name}: no such journal, folder or glob")
    if not found:
        raise FileNotFoundError(f"{' '.join(paths)}: no journal (*{JOURNAL_SUFFIX}) there")
    return list(dict.fromkeys(found))


def _may_be_journal(path: Path) -> bool:
    """Whether a folder's .jsonl may be ours: a data set of ten gigabytes is not read to see."""
    begin = next(read_chunks(path), b"")
    if HEAD in begin:
        return True
    _say(f"{path}: skipped, its first {len(begin):,} bytes hold no record")
    return False


def _newest(name: str) -> Path:
    """The journal named, or the one last written to in a folder."""
    return max(_journals([name]), key=lambda path: path.stat().st_mtime)


def _with_progress(paths: list[Path]) -> Iterator[Path]:
    """`paths`, with a bar on stderr when they are many and a terminal looks."""
    show = len(paths) >= PROGRESS_FROM and sys.stderr.isatty()
    for done, path in enumerate(paths):
        if show:
            bar = "#" * (30 * done // len(paths))
            print(
                f"\r\x1b[K[{bar:.<30}] {done}/{len(paths)} {path.name}",
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
    print(words, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
