"""`runs archive`: store runs for years and restore them byte for byte.

    runs archive out --to /backup/runs          add what is new or has grown
    runs archive --to /backup/runs --verify     check every byte
    runs archive --to /backup/runs --restore my_experiment --out back
    runs archive --to /backup/runs --repair     rebuild everything but the bundles from them

The archive has the files of each run, compressed, and the rows of all runs in one Parquet data
set that any engine reads. `manifest.py` describes the layout. A run that is being written is
skipped until the next time.

A run that has grown replaces its archived copy, which must lose nothing by that: a file that the
run no longer has is kept, and a run is refused if a file of it is shorter than what is archived of
it, or different.
"""

import argparse
import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from pathlib import Path
from shutil import copyfileobj
from typing import Any

import eventlog

from ..core import runs
from ..core.library import need
from ..core.runs import Refusal
from ..core.table import print, print_json, printable, with_progress
from . import bundle
from .files import group, only_its_own


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    summary, description = (__doc__ or "").split("\n", 1)
    command = commands.add_parser(
        "archive",
        help="Archive runs, compressed and verified, and restore them.",
        description=summary.partition(": ")[2] + "\n" + description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("paths", nargs="*", metavar="DIR", help="folders, runs or globs to add")
    command.add_argument(
        "--to", required=True, metavar="URL", help="a folder, s3://bucket/runs, gs://..., file://"
    )
    command.add_argument("--verify", action="store_true", help="read and compare every byte")
    command.add_argument(
        "--repair", action="store_true", help="rebuild damaged files from the bundles"
    )
    command.add_argument("--restore", metavar="RUN", help="a name or id, or the beginning of one")
    command.add_argument("--out", metavar="DIR", help="the folder that --restore writes to")
    command.add_argument(
        "--replace",
        action="store_true",
        help="archive again, also runs that do not continue what is archived",
    )
    command.add_argument("--json", action="store_true", help="one JSON object per line")
    command.set_defaults(run=_archive)


def _archive(arguments: argparse.Namespace) -> int:
    verbs = [
        bool(arguments.paths), arguments.verify, arguments.repair, arguments.restore is not None
    ]  # fmt: skip
    if sum(verbs) != 1 or (arguments.out is None) != (arguments.restore is None):
        raise Refusal(
            "runs archive: give folders to add, or --verify, or --repair, or --restore RUN --out "
            "DIR"
        )
    for library in ("pyarrow", "zstandard"):
        need(library)
    if arguments.verify:
        return _verify(arguments)
    if arguments.restore is not None:
        return _restore(arguments)
    if arguments.repair:
        return _repair(arguments)
    return _add(arguments)


# ---- add


@dataclass
class Report:
    """How many runs were added, and which ones were left out."""

    states: Counter[str] = field(default_factory=Counter)
    left_out: dict[str, str] = field(default_factory=dict)
    """Path -> why: live or unreadable."""
    carried: dict[str, str] = field(default_factory=dict)
    """Files that are missing and that the archive keeps."""


def archive(names: Iterable[str], url: str, *, replace: bool = False) -> Report:
    """Add the runs that `names` match to the archive at `url`; an unreadable one is skipped.

    Raises:
        FileNotFoundError: a name matches nothing.
        Refusal: another process is archiving there, or it holds other files.
        tools.archive.store.Damaged: the archive's manifest or index is damaged.
        OSError: the archive cannot be written; what was committed stays.
    """
    from .archiver import Archiver
    from .store import Damaged

    paths = runs.find(names)
    groups = {folder: group(folder) for folder in {path.parent for path in paths}}
    report = Report()
    with Archiver.open(url, replace=replace) as archiver:
        for path in with_progress(sorted(paths, key=os.path.getmtime), "archiving"):
            files = groups[path.parent].get(runs.stem_of(path), [])
            own = only_its_own(sorted({path, *files}))
            beside = [f for f in own if f not in (path, runs.journal_of(path))]
            for file in [f for f in beside if not _is_readable(f)]:
                own.remove(file)  # archive what can be read
                report.left_out[str(file)] = f"{file}: cannot be read; its run is archived without"
                report.states["failed"] += 1
            try:
                state = archiver.add(path, own)
            except (
                Refusal, Damaged, eventlog.EventlogError, FileNotFoundError, PermissionError,
            ) as error:  # fmt: skip
                state = "failed"
                report.left_out[str(path)] = str(error)
            if state == "live":
                report.left_out[str(path)] = (
                    f"{path}: is being written; skipped until the next time"
                )
            report.states[state] += 1
        report.states.update(dict.fromkeys(archiver.left_out, "failed").values())
        report.left_out |= archiver.left_out
        report.carried = archiver.carried
    return report


def _is_readable(path: Path) -> bool:
    try:
        path.open("rb").close()
    except OSError:
        return False
    return True


def _add(arguments: argparse.Namespace) -> int:
    report = archive(arguments.paths, arguments.to, replace=arguments.replace)
    for why in report.carried.values():
        print(why, file=sys.stderr)
    states = {name: report.states[name] for name in ("new", "grown", "unchanged", "live", "failed")}
    text = ", ".join(f"{n:,} {name}" for name, n in states.items() if n) or "no runs"
    _print_report(arguments, states, report.left_out, text)
    return 1 if states["failed"] else 0


def _print_report(
    arguments: argparse.Namespace, states: Mapping[str, int], left_out: Mapping[str, str], text: str
) -> None:
    for why in left_out.values():
        print(why, file=sys.stderr)
    if arguments.json:
        print_json([{"archive": arguments.to, **states, "left_out": left_out}])
    else:
        print(f"{arguments.to}: {text}")


# ---- verify


def verify(url: str) -> Iterator[str]:
    """A line for every file of the archive that is damaged.

    Raises:
        FileNotFoundError: there is no archive.
        tools.archive.store.Damaged: its manifest is damaged, so nothing else can be checked.
    """
    from . import manifest
    from .catalog import Catalog, check_bundle
    from .store import Damaged, open_store

    store = open_store(url)
    contents = manifest.need(store)
    checks = [(file.name, partial(store.check, file)) for file in contents.files]
    try:
        catalog = Catalog(store, contents)
        yield from catalog.bad.values()
        entries = catalog.entries.values()
        checks += [(e.bundle.name, partial(check_bundle, store, e)) for e in entries]
    except Damaged:
        yield f"the bundles cannot be checked without {contents.runs and contents.runs.name}"
    for name, check in with_progress(checks, "verifying"):
        try:
            check()
        except Damaged as damage:
            if not _was_removed(store, contents, name):
                yield str(damage)


def _was_removed(store: Any, contents: Any, name: str) -> bool:
    """Whether another process has archived meanwhile and removed the file."""
    from . import manifest
    from .catalog import Catalog

    now = manifest.need(store)
    if now == contents:
        return False
    bundles = {entry.bundle.name for entry in Catalog(store, now).entries.values()}
    return name not in bundles | {file.name for file in now.files}


def _verify(arguments: argparse.Namespace) -> int:
    n_damaged = 0
    for damage in verify(arguments.to):
        n_damaged += 1
        if arguments.json:
            print_json([{"archive": arguments.to, "damage": damage}])
        else:
            print(damage)
    if n_damaged:
        advice = (
            f"{arguments.to}: {n_damaged:,} damaged. Bundles: `runs archive DIR --replace` if "
            f"you still have the runs. All else: `--repair` rebuilds it from the bundles"
        )
        print(advice, file=sys.stderr)
        return 1
    print(f"{arguments.to}: every byte is as it was written", file=sys.stderr)
    return 0


# ---- repair


def repair(url: str) -> Report:
    """Rebuild everything but the bundles from the bundles; a damaged one is skipped.

    Raises:
        FileNotFoundError: there are no bundles.
        Refusal: another process is archiving there.
    """
    from .archiver import Archiver

    with Archiver.open(url, repair=True) as archiver:
        archiver.commit()
        states = Counter(added=len(archiver.catalog.entries), failed=len(archiver.left_out))
        return Report(states, archiver.left_out)


def _repair(arguments: argparse.Namespace) -> int:
    report = repair(arguments.to)
    text = f"{report.states['added']:,} runs rebuilt from their bundles"
    _print_report(arguments, report.states, report.left_out, text)
    return 1 if report.left_out else 0


# ---- restore


def restore(name: str, url: str, out: Path) -> list[Path]:
    """Write the files of one run as they were archived to the folder `out`; returns their paths.

    Raises:
        Refusal: no such run, or several; or `out` has another file of the same name.
        tools.archive.store.Damaged: the archive no longer has the bytes.
    """
    from .catalog import Catalog, check_bundle
    from .store import Damaged

    archive = Catalog.open(url)
    entry = archive.find(name)
    for file in entry.files:
        path = out / file.name
        if path.exists() and eventlog.sha256_of(path) != file.sha256:
            raise Refusal(f"{path}: exists and differs; nothing was restored")
    check_bundle(archive.store, entry)
    out.mkdir(parents=True, exist_ok=True)
    originals = {f.name: f for f in entry.files}
    paths = []
    with archive.store.read(entry.bundle.name) as stream:
        for packed in bundle.unpack(stream):
            original, path, digest = originals[packed.name], out / packed.name, sha256()
            bundle.check_space(packed, out)
            eventlog.atomic_write(path, partial(copyfileobj, packed.content), digest=digest)
            if digest.hexdigest() != original.sha256:
                raise Damaged(f"{entry.bundle.name}: {packed.name} in it was damaged meanwhile")
            os.utime(path, ns=(original.mtime_ns, original.mtime_ns))
            paths.append(path)
    return paths


def _restore(arguments: argparse.Namespace) -> int:
    paths = restore(arguments.restore, arguments.to, Path(arguments.out))
    if arguments.json:
        print_json({"path": str(path), "size_bytes": path.stat().st_size} for path in paths)
    else:
        print("\n".join(map(printable, paths)))
    return 0
