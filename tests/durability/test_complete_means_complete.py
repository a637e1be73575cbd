"""`verify` says "complete" only if no acknowledged event is missing."""

import contextlib
import errno
import json
import os
import random
import re
import shutil

import pytest

import eventlog
from eventlog.cli import report
from eventlog.disk import Disk
from eventlog.fold.load import Folding

SEED = 20261129


class FailsNowAndThen(Disk):
    """Refuses a sync or a write when its test says so."""

    refuses: str | None = None

    def write(self, fd, data):
        if self.refuses == "write" and not _is_elsewhere(fd):
            raise OSError(errno.ENOSPC, "full")
        return super().write(fd, data)

    def sync_data(self, fd):
        if self.refuses == "sync":
            self.refuses = None
            raise OSError(errno.EIO, "lost pages")
        super().sync_data(fd)


def _is_elsewhere(fd):
    return "fallback" in os.readlink(f"/proc/self/fd/{fd}")


def tell_a_run(root, rng, *, compacted=True):
    """Up to three sessions with segments, large events and ordinary ones; the journal."""
    journal = None
    for _ in range(rng.randint(1, 3)):
        disk = FailsNowAndThen()
        run = eventlog.open_run(
            root / "out",
            journal=journal,
            save_interval=0,
            fallback=root / "fallback",
            disk=disk,
            durability="checkpoint",
        )
        journal = run.journal_path
        for _ in range(rng.randint(1, 6)):
            what = rng.choice(["iter", "iter", "note", "large", "fails", "full"])
            if what == "fails":
                run.log_iter(0, 1.0)
                disk.refuses = "sync"
                run.sync(1.0)
            elif what == "large":
                run.log("table", rows=str(rng.random()) + "x" * (1 << 20))
            elif what == "full":
                disk.refuses = "write"
                run.log("note", text="while it is full")
            else:
                for i in range(rng.randint(1, 5)):
                    run.log_iter(i, 1.0)
        run.close()
        assert run.errors == 0
        if rng.random() < 0.4:
            with eventlog.Annotator(journal) as notes:
                notes.log("note", text=str(rng.random()))
    if compacted:
        eventlog.compact(journal)
    return journal


def acknowledged(journal):
    """The records of a run, and the content of its large events, by name."""
    records = list(eventlog.scan(journal))
    names = {(r.s, r.n) for r in records}
    asides = {r.fields["set_aside"]["file"] for r in records if "set_aside" in r.fields}
    return names, asides


def files_of(root):
    paths = [path for path in sorted(root.rglob("*")) if path.is_file() and path.suffix != ".json"]
    return [path for path in paths if path.stat().st_size]


# ---- what happens to files


def deleted(path, rng):
    path.unlink()


def cut(path, rng):
    os.truncate(path, rng.randrange(path.stat().st_size))


def overwritten(path, rng):
    data = bytearray(path.read_bytes())
    at = rng.randrange(len(data))
    size = rng.choice([1, 8, 512, 4096])
    data[at : at + size] = bytes(len(data[at : at + size]))
    path.write_bytes(data)


def flipped(path, rng):
    data = bytearray(path.read_bytes())
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)


def robbed_of_lines(path, rng):
    lines = path.read_bytes().splitlines(keepends=True)
    at = rng.randrange(len(lines))
    del lines[at : at + rng.randint(1, 3)]
    path.write_bytes(b"".join(lines))


def its_beginning_zeroed(path, rng):
    data = path.read_bytes()
    size = min(len(data), rng.choice([512, 4096, 128 << 10]))
    path.write_bytes(bytes(size) + data[size:])


def replaced_by_a_folder(path, rng):
    path.unlink()
    path.mkdir()


def replaced_by_a_fifo(path, rng):
    path.unlink()
    os.mkfifo(path)


HARM = [
    deleted,
    cut,
    overwritten,
    flipped,
    robbed_of_lines,
    its_beginning_zeroed,
    replaced_by_a_folder,
    replaced_by_a_fifo,
]


def is_all_there(journal, names, asides, contents):
    """Whether every record is read, and every large event has its content."""
    try:
        names_read = {(r.s, r.n) for r in eventlog.scan(journal)}
    except (OSError, eventlog.EventlogError):
        return False
    folders = [journal.parent, journal.parent.parent / "fallback"]
    asides_read = {
        name
        for name in asides
        for folder in folders
        if (folder / name).is_file() and (folder / name).read_bytes() == contents[name]
    }
    return names <= names_read and asides <= asides_read


def says_complete(journal):
    try:
        folding = Folding(journal, with_rows=False)
        folding.read_on(to_the_end=True)
    except (OSError, eventlog.EventlogError):
        return False
    return report.exit_code(folding) == report.COMPLETE


# ---- and what is done before anybody has looked


def compact(journal):
    with contextlib.suppress(OSError, eventlog.EventlogError):
        eventlog.compact(journal)


def resume(journal):
    fallback = journal.parent.parent / "fallback"
    with (
        contextlib.suppress(OSError, eventlog.EventlogError),
        eventlog.open_run(journal=journal, save_interval=0, fallback=fallback) as run,
    ):
        run.log_iter(7, 1.0)


def annotate(journal):
    with contextlib.suppress(OSError, eventlog.EventlogError):
        eventlog.annotate(journal, "note", text="after it")


THEN = [
    (),
    (compact,),
    (resume,),
    (resume, compact),
    (annotate,),
    (annotate, resume),
    (resume, annotate),
]


def contents_of(root):
    return {path.name: path.read_bytes() for path in root.rglob("*.aside")}


def wrongly_complete(root, n, seed):
    """Of `n` damaged runs: those that were reported complete although something is missing."""
    rng = random.Random(seed)
    wrong, missing = [], 0
    for _ in range(n):
        whole = root / "whole"
        journal = tell_a_run(whole, rng)
        (names, asides), contents = acknowledged(journal), contents_of(whole)
        assert says_complete(journal)
        for _ in range(10):
            rng_state = rng.random()
            backup = root / "backup"
            shutil.copytree(whole, backup)
            hurt = rng.choice(files_of(whole))
            harm = rng.choice(HARM)
            harm(hurt, random.Random(rng_state))
            if not is_all_there(journal, names, asides, contents):
                missing += 1
                next_steps = rng.choice(THEN)
                for step in next_steps:
                    step(journal)
                if says_complete(journal):
                    wrong.append((harm.__name__, hurt.name, rng_state, next_steps))
            shutil.rmtree(whole)
            backup.rename(whole)
        shutil.rmtree(whole)
    return wrong, missing


def test_verify_never_reports_complete_if_something_acknowledged_is_missing(tmp_path):
    wrong, missing = wrongly_complete(tmp_path, 8, SEED)

    assert missing > 25
    assert wrong == []


def test_a_missing_file_is_reported_also_without_a_run_json(tmp_path):
    """Of which its journal, or a link beside it, says that there was one."""
    rng = random.Random(SEED)
    for k in range(6):
        root = tmp_path / str(k)
        journal = tell_a_run(root, rng, compacted=False)
        (names, asides), contents = acknowledged(journal), contents_of(root)
        others = [path for path in files_of(root) if path != journal and not path.is_symlink()]
        for path in others:
            backup = path.read_bytes()
            path.unlink()
            if not is_all_there(journal, names, asides, contents):
                assert not says_complete(journal), path
            path.write_bytes(backup)


def test_a_missing_file_is_reported_also_if_another_program_formatted_the_run_json(tmp_path):
    with eventlog.open_run(tmp_path, save_interval=0) as run:
        run.log_iter(0, 1.0)
    eventlog.annotate(run.journal_path, "note", text="worth keeping")
    eventlog.compact(run.journal_path)
    run.run_path.write_text(json.dumps(json.loads(run.run_path.read_text()), indent=4))
    (segment,) = tmp_path.glob("*.segment")
    segment.unlink()

    assert not says_complete(run.journal_path)


def test_a_note_that_an_earlier_versions_run_json_counts_is_missed_after_a_compaction(
    tmp_path,
):
    """Such a run JSON does not name those who annotate, so that it knows their number alone."""
    with eventlog.open_run(tmp_path, save_interval=0) as run:
        run.log_iter(0, 1.0)
    run_json = run.run_path
    eventlog.annotate(run.journal_path, "note", text="worth keeping")
    eventlog.compact(run.journal_path)
    text = re.sub(r'"annotators": ?\{[^}]*\},\s*', "", run_json.read_text())
    assert "annotators" not in text
    run_json.write_text(text)
    (segment,) = tmp_path.glob("*.segment")
    segment.unlink()
    eventlog.compact(run.journal_path)

    assert not says_complete(run.journal_path)


@pytest.mark.slow
def test_verify_never_reports_complete_for_ten_thousand_damaged_runs(tmp_path):
    wrong, missing = wrongly_complete(tmp_path, 1000, SEED + 1)

    assert missing > 4000
    assert wrong == []
