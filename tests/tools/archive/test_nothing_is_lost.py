"""`runs archive`: what is archived of a run stays in the archive, whatever happens to its files.

An archived run loses a file, or the end of one, and is continued. When it is archived again, either
everything that ever was archived or is in the folder can be restored, or the command fails.
"""

import contextlib
import errno
import io
import shutil
import time
from hashlib import sha256

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import eventlog
from eventlog import Scanner
from eventlog.cli.main import main as main_eventlog
from tests import corrupt
from tests.disks import RefusingDisk
from tests.tools.archive.test_archive import ask
from tools.archive import comparison
from tools.archive.archive import archive, repair, restore, verify
from tools.archive.catalog import Catalog
from tools.cli import main

LARGE = "x" * 1_200_000  # is set aside


@pytest.fixture(scope="module")
def archived(tmp_path_factory):
    """A run that has a segment of its own, a large event, a note and a tag; and its archive."""
    home = tmp_path_factory.mktemp("archived")
    failing = []
    disk = RefusingDisk(lambda call, n: failing.pop() if call == "sync" and failing else None)
    with eventlog.open_run(home / "out", run_name="m", save_interval=0, disk=disk) as run:
        for i in range(20):
            run.log_iter(i, loss=1.0, time_ms=1.0)
        run.log("note", text=f"large {LARGE}")
        assert run.sync()
        failing.append(errno.EIO)
        run.log_checkpoint(19, "checkpoint.pt")
        wait_until(lambda: any((home / "out").glob("*.segment")))
        for i in range(20, 40):
            run.log_iter(i, loss=1.0, time_ms=1.0)
    eventlog.compact(run.journal_path)
    eventlog.annotate(run.journal_path, "note", text="IMPORTANT")
    eventlog.annotate(run.journal_path, "tags", add=["baseline"])
    archive([home / "out"], str(home / "kept"))
    return home


@pytest.fixture
def home(archived, tmp_path):
    """A copy of both."""
    shutil.copytree(archived, tmp_path / "home")
    return tmp_path / "home"


def wait_until(condition):
    deadline_s = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


def journal_of(home):
    (journal,) = (home / "out").glob("*.jsonl")
    return journal


def file_of(home, part):
    """The file that has this part of the run."""
    journal = journal_of(home)
    if part in ("journal", "run JSON"):
        return journal if part == "journal" else journal.with_suffix(".json")
    pattern, content = {
        "own segment": ("*.segment", b'"iter":30,'),
        "note": ("*.segment", b"IMPORTANT"),
        "tag": ("*.segment", b"baseline"),
        "large event": ("*.aside", b"x"),
    }[part]
    (path,) = (p for p in (home / "out").glob(pattern) if content in p.read_bytes())
    return path


def records_in(folder):
    """Every record in the files of a folder, with the content of its large values."""
    asides = {path.name: path.read_bytes() for path in folder.glob("*.aside")}
    found = {}
    for path in folder.iterdir():
        if path.suffix in (".jsonl", ".segment"):
            scanner = Scanner()
            for record in [*scanner.feed(path.read_bytes()), *scanner.finish()]:
                value = record.fields.get("set_aside")
                content = asides.get(value["file"], b"") if isinstance(value, dict) else b""
                if value is None or sha256(content).hexdigest() == value["sha256"]:
                    found[record.s, record.n] = record.line, content
    return found


def resume(home):
    with eventlog.open_run(journal=journal_of(home), from_iter=40, save_interval=0) as run:
        for i in range(40, 60):
            run.log_iter(i, loss=1.0, time_ms=1.0)
    eventlog.compact(run.journal_path)


def annotate(home):
    eventlog.annotate(journal_of(home), "note", text="second")


def archive_again(home):
    return main(["archive", str(home / "out"), "--to", str(home / "kept")])


def restored(home):
    back = home / "back"
    restore(journal_of(home).stem, str(home / "kept"), back)
    return back


def resume_and_annotate(home):
    resume(home)
    annotate(home)


# ---- what the tester found


@pytest.mark.parametrize(
    ("part", "go_on"),
    [("note", resume), ("large event", resume), ("own segment", resume), ("note", annotate)],
)
def test_a_file_that_is_missing_is_kept_when_the_run_has_grown(home, capsys, part, go_on):
    path = file_of(home, part)
    content, stat = path.read_bytes(), path.stat()
    path.unlink()
    go_on(home)

    assert archive_again(home) == 0

    output, err = capsys.readouterr()
    assert "1 grown" in output
    assert f"{path}: missing; the archive keeps its copy of it\n" in err
    back = restored(home) / path.name
    assert (back.read_bytes(), back.stat().st_mtime_ns) == (content, stat.st_mtime_ns)
    assert records_in(home / "out").items() <= records_in(home / "back").items()
    assert main_eventlog(["verify", str(home / "back")]) == 0
    assert list(verify(str(home / "kept"))) == []


@pytest.mark.parametrize("part", ["own segment", "note"])
def test_a_run_with_a_file_that_was_cut_is_refused_when_it_has_grown(home, capsys, part):
    path = file_of(home, part)
    whole = path.read_bytes()
    path.write_bytes(whole[:-150])
    annotate(home)

    assert archive_again(home) == 1

    err = capsys.readouterr().err
    assert f"{path}: has less than what was archived of it, which is kept" in err
    assert f"expected the {len(whole):,} bytes that are archived, found {len(whole) - 150:,}" in err
    assert f"runs archive --to {home / 'kept'} --restore " in err
    assert (restored(home) / path.name).read_bytes() == whole


@pytest.mark.parametrize("part", ["own segment", "note", "large event"])
def test_a_run_with_a_file_that_has_changed_is_refused(home, capsys, part):
    path = file_of(home, part)
    whole = path.read_bytes()
    path.write_bytes(corrupt.flip_bit(whole, len(whole) // 2))

    assert archive_again(home) == 1

    assert f"{path}: " in capsys.readouterr().err
    assert (restored(home) / path.name).read_bytes() == whole


# ---- whatever is lost


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(
    part=st.sampled_from(["journal", "run JSON", "own segment", "note", "tag", "large event"]),
    keep=st.one_of(st.just(-1), st.floats(0, 1, exclude_max=True)),
    go_on=st.sampled_from([resume, annotate, resume_and_annotate]),
    again=st.booleans(),
)
def test_every_event_can_be_restored_or_archive_says_no(
    archived, tmp_path_factory, part, keep, go_on, again
):
    home = tmp_path_factory.mktemp("home")
    shutil.copytree(archived, home, dirs_exist_ok=True)
    before, path = records_in(home / "out"), file_of(home, part)
    if keep < 0:
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])
    with contextlib.suppress(eventlog.EventlogError, OSError, ValueError):
        go_on(home)

    code = archive_again(home)
    if again:
        code = max(code, archive_again(home))

    now = records_in(home / "out")
    back = {}
    for run_id in Catalog.open(str(home / "kept")).entries:  # two, if the run began anew
        restore(run_id, str(home / "kept"), home / run_id)
        back |= records_in(home / run_id)
    assert before.items() <= back.items()
    assert code == 1 or now.items() <= back.items()
    main(
        ["prune", str(home / "out"), "--older-than", "0s", "--archive", str(home / "kept"), "--yes"]
    )
    assert now.items() <= (records_in(home / "out") | back).items()


# ---- the rest of the archive, and prune


def test_queries_and_a_repair_have_the_rows_of_a_file_that_was_kept(home):
    file_of(home, "own segment").unlink()
    resume(home)
    archive_again(home)
    sql = "select iter from iterations order by iter"

    assert ask(sql, home / "kept") == [(i,) for i in range(60)]

    (home / "kept" / "manifest.json").unlink()
    assert repair(str(home / "kept")).states == {"added": 1, "failed": 0}
    assert ask(sql, home / "kept") == [(i,) for i in range(60)]


def test_a_run_whose_missing_file_is_in_the_archive_is_unchanged_the_next_time(home):
    file_of(home, "note").unlink()
    annotate(home)
    archive_again(home)

    assert archive([home / "out"], str(home / "kept")).states == {"unchanged": 1}


def test_a_segment_on_a_disk_that_is_gone_is_kept_with_its_folder(home, tmp_path):
    fallback = tmp_path / "fallback"
    with eventlog.open_run(home / "out", run_name="far", fallback=fallback, save_interval=0) as run:
        run.log_iter(0, 1.5, 50.0)
    journal = run.journal_path
    lines = journal.read_bytes().splitlines(keepends=True)
    fallback.mkdir(exist_ok=True)
    segment = fallback / f"{journal.stem}.{orjson.loads(lines[0])['s']}.1.segment"
    segment.write_bytes(lines[1])
    journal.write_bytes(lines[0] + lines[2])
    archive([journal], str(home / "kept"))
    shutil.rmtree(fallback)
    eventlog.annotate(journal, "note", text="second")

    report = archive([journal], str(home / "kept"))

    assert report.states == {"grown": 1}
    assert list(report.carried) == [str(segment)]
    entry = Catalog.open(str(home / "kept")).find("far")
    assert {f.name: f.folder for f in entry.files}[segment.name] == str(fallback)
    restore("far", str(home / "kept"), home / "back")
    assert (home / "back" / segment.name).read_bytes() == lines[1]


def test_of_two_bundles_of_a_run_a_repair_keeps_what_only_one_of_them_has(home, capsys):
    (older,) = (home / "kept").glob("journals/*/*")
    left = older.read_bytes()
    file_of(home, "note").unlink()
    resume(home)
    archive([home / "out"], str(home / "kept"), replace=True)  # as earlier versions did
    older.write_bytes(left)

    code = main(["archive", "--to", str(home / "kept"), "--repair"])

    err = capsys.readouterr().err
    bundles = list((home / "kept").glob("journals/*/*"))
    assert (code, len(bundles), older.exists(), older.name in err) in [
        (0, 1, False, False),  # the later one was added to the older one
        (1, 2, True, True),
    ]
    if code == 0:
        assert b"IMPORTANT" in b"".join(p.read_bytes() for p in restored(home).glob("*.segment"))


def test_a_run_json_that_is_no_longer_readable_does_not_replace_the_archived_one(home, capsys):
    path = file_of(home, "run JSON")
    whole = path.read_bytes()
    path.write_bytes(b"x")

    assert archive_again(home) == 0
    assert (restored(home) / path.name).read_bytes() == whole

    copy_of_the_note = file_of(home, "note").read_bytes()
    path.with_name(f"{path.stem}.a1b2c3d4.torn").write_bytes(copy_of_the_note)
    assert archive_again(home) == 1
    assert f"{path}: was made from fewer records than the archived one" in capsys.readouterr().err


def test_a_journal_that_lost_its_end_is_refused_if_there_is_a_new_note(home, capsys):
    journal = journal_of(home)
    journal.write_bytes(journal.read_bytes()[:-200])
    annotate(home)

    assert archive_again(home) == 1

    assert f"{journal}: has less than what was archived of it" in capsys.readouterr().err


def test_a_record_without_its_line_end_is_not_taken_for_an_incomplete_line(home):
    line = file_of(home, "note").read_bytes()[:-1]
    before, after = (line[: -len(line.rpartition(b"\n")[2])], b'{"n":7}\n')

    def growth(old, new):
        return comparison.growth(io.BytesIO(old), io.BytesIO(new))

    assert growth(line, before + after) == "other"
    assert growth(line[:-1], before + after) == "longer"
    assert growth(line, line + b"\n" + after) == "longer"
    assert growth(line, before) == "shorter"


@pytest.mark.parametrize("part", ["note", "large event"])
def test_prune_deletes_a_run_only_with_everything_of_it_in_the_archive(home, part):
    path, stem = file_of(home, part), journal_of(home).stem
    content = path.read_bytes()
    path.unlink()
    annotate(home)
    left = records_in(home / "out")
    prune = ["prune", str(home / "out"), "--older-than", "0s", "--archive", str(home / "kept")]

    assert main([*prune, "--yes"]) == 0
    assert records_in(home / "out") == left  # the new note is not archived

    archive_again(home)
    assert main([*prune, "--yes"]) == 0
    assert (records_in(home / "out") == {}) == (part == "large event")  # a lost segment: it stays
    restore(stem, str(home / "kept"), home / "back")
    assert left.items() <= records_in(home / "back").items()
    assert (home / "back" / path.name).read_bytes() == content
