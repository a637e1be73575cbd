"""`runs archive`: restored bytes are equal, damage is named, a kill costs at most one batch."""

import errno
import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import eventlog
from eventlog.format.files import aside_name
from tests import corrupt
from tests.tools.conftest import make_run
from tools.archive import bundle, comparison, files, manifest
from tools.archive.archive import archive, repair, restore, verify
from tools.archive.archiver import Archiver
from tools.archive.catalog import Catalog
from tools.archive.query import answer
from tools.archive.store import Bucket, Damaged, Folder, open_store
from tools.cli import main
from tools.core.runs import Refusal


def bytes_of(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}


def stored(folder):
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


def ask(sql, *places):
    with answer(sql, map(str, places)) as result:
        return list(result.rows)


@pytest.fixture
def out(tmp_path):
    """Three runs; one of them has every kind of file that a run may have beside its journal."""
    folder = tmp_path / "out"
    folder.mkdir()
    for name, best in (("alpha", 3.5), ("beta", 3.25), ("gamma", 3.75)):
        make_run(folder, name, (5.0, 4.0, best), learning_rate=1e-3)
    journal = folder / "alpha.jsonl"
    with eventlog.open_run(journal=journal, from_iter=3, save_interval=0) as run:
        run.log_iter(3, float("nan"), 50.0, text="x" * (1 << 20))  # set aside
    with journal.open("ab") as file:
        file.write(b'{"n":99,"s":"a1')  # what a power loss leaves
    with eventlog.open_run(journal=journal, from_iter=4, save_interval=0) as run:
        run.log_iter(4, 2.5, 50.0)
    eventlog.compact(journal)
    beta = (folder / "beta.jsonl").read_bytes().splitlines(keepends=True)
    session = orjson.loads(beta[0])["s"]
    (folder / "beta.jsonl").write_bytes(b"".join(beta[:-1]))  # its disk failed before the end
    (folder / f"beta.{session}.1.segment").write_bytes(beta[-1])
    return folder


@pytest.fixture
def kept(out, tmp_path):
    """An archive of `out`."""
    archive([out], str(tmp_path / "kept"))
    return tmp_path / "kept"


# ---- the bytes


def test_archived_runs_are_restored_byte_for_byte(out, kept):
    before = bytes_of(out)
    assert {Path(name).suffix for name in before} == {
        ".jsonl", ".json", ".segment", ".torn", ".aside",
    }  # fmt: skip
    shutil.rmtree(out)

    for name in ("alpha", "beta", "gamma"):
        restore(name, str(kept), out)

    assert bytes_of(out) == before


def test_a_bundle_needs_nothing_but_tar_and_zstd(out, kept, tmp_path):
    if shutil.which("tar") is None or shutil.which("zstd") is None:
        pytest.skip("tar or zstd is not installed")
    (path,) = kept.glob("journals/*/alpha-*.tar.zst")

    subprocess.run(["tar", "--zstd", "-xf", path, "-C", tmp_path], check=True)

    assert (tmp_path / "alpha.jsonl").read_bytes() == (out / "alpha.jsonl").read_bytes()


def test_a_segment_on_another_disk_is_kept_too(out, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    with eventlog.open_run(out, run_name="far", fallback=elsewhere, save_interval=0) as run:
        run.log_iter(0, 1.5, 50.0)
    journal = run.journal_path
    lines = journal.read_bytes().splitlines(keepends=True)
    name = f"{journal.stem}.{orjson.loads(lines[0])['s']}.1.segment"
    (elsewhere / name).write_bytes(lines[1])
    journal.write_bytes(lines[0] + lines[2])

    archive([journal], str(tmp_path / "kept"))
    restore("far", str(tmp_path / "kept"), tmp_path / "back")

    assert (tmp_path / "back" / name).read_bytes() == lines[1]
    assert ask("select loss from iterations", tmp_path / "kept") == [(1.5,)]


def test_restore_does_not_overwrite_a_file_that_differs(out, kept, tmp_path):
    back = tmp_path / "back"
    back.mkdir()
    (back / "beta.json").write_text("mine")

    with pytest.raises(Refusal, match=r"beta\.json: exists and differs"):
        restore("beta", str(kept), back)

    assert bytes_of(back) == {"beta.json": b"mine"}


# ---- damage


def flipped(path, at, by):
    path.write_bytes(corrupt.set_byte(data := path.read_bytes(), at, data[at] ^ by))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_one_damaged_byte_is_found_and_its_file_named(kept, data):
    name = data.draw(st.sampled_from(sorted(stored(kept))))
    path = kept / name
    at = data.draw(st.integers(0, path.stat().st_size - 1))
    by = data.draw(st.integers(1, 255))

    flipped(path, at, by)
    try:
        result = damage(kept)
    finally:
        flipped(path, at, by)

    assert [line for line in result if name in line] != []


@pytest.mark.slow
def test_every_one_damaged_byte_is_found_and_its_file_named(kept):
    """pytest -m slow tests/tools/archive/test_archive.py -k every_one: minutes"""
    for name in sorted(stored(kept)):
        for at in range((kept / name).stat().st_size):
            flipped(kept / name, at, 1)
            result = damage(kept)
            flipped(kept / name, at, 1)
            assert [line for line in result if name in line] != [], f"{name} at {at}"


def damage(kept):
    try:
        return list(verify(str(kept)))
    except Damaged as found:
        return [str(found)]


@pytest.mark.parametrize("change", ["missing", "longer", "cut"])
def test_a_file_that_is_missing_longer_or_cut_is_named(kept, change, capsys):
    for name in sorted(stored(kept) - {"manifest.json"}):
        whole = (kept / name).read_bytes()
        if change == "missing":
            (kept / name).unlink()
        else:
            (kept / name).write_bytes(whole + b"x" if change == "longer" else whole[:-1])

        assert main(["archive", "--to", str(kept), "--verify"]) == 1

        assert f"{name}: " in capsys.readouterr().out
        (kept / name).write_bytes(whole)
    assert main(["archive", "--to", str(kept), "--verify"]) == 0


def test_a_damaged_manifest_is_one_line_and_exit_one(out, kept, capsys):
    flipped(kept / "manifest.json", 30, 1)

    for args in ([out], ["--verify"], ["--restore", "beta", "--out", "back"]):
        assert main(["archive", "--to", str(kept), *map(str, args)]) == 1
        result, err = capsys.readouterr()
        assert (result, err.count("\n")) == ("", 1)
        assert "manifest.json: damaged" in err


def test_a_damaged_bundle_is_not_restored(kept, tmp_path):
    (path,) = kept.glob("journals/*/gamma-*")
    flipped(path, path.stat().st_size // 2, 1)

    with pytest.raises(Damaged, match=r"gamma-.*damaged"):
        restore("gamma", str(kept), tmp_path / "back")

    assert not (tmp_path / "back").exists()


def test_a_damaged_bundle_is_replaced_from_its_run(out, kept):
    (path,) = kept.glob("journals/*/gamma-*")
    flipped(path, path.stat().st_size // 2, 1)

    archive([out / "gamma.jsonl"], str(kept), replace=True)

    assert damage(kept) == []


def test_a_file_that_cannot_be_read_is_named_and_the_rest_checked(kept):
    (bad,) = kept.glob("journals/*/alpha-*")
    bad.unlink()
    bad.mkdir()  # what reading it says: EISDIR, as a bad sector says EIO
    (flipped_one,) = kept.glob("journals/*/gamma-*")
    flipped(flipped_one, 40, 1)

    result = damage(kept)

    assert [name for name in ("alpha-", "gamma-") if any(name in line for line in result)] == [
        "alpha-", "gamma-",
    ]  # fmt: skip


def test_a_file_that_is_replaced_during_verify_is_not_damage(out, kept, monkeypatch):
    with eventlog.open_run(journal=out / "gamma.jsonl", from_iter=2, save_interval=0) as run:
        run.log_iter(2, 0.25, 50.0)
    need = manifest.need

    def need_then_archive(store):
        result = need(store)
        monkeypatch.setattr(manifest, "need", need)
        archive([out], str(kept))
        return result

    monkeypatch.setattr(manifest, "need", need_then_archive)

    result = list(verify(str(kept)))

    assert [line for line in result if "bundles cannot be checked" not in line] == []


# ---- repair


def everything(kept):
    tables = ("runs", "iterations", "evals", "checkpoints")
    return [sorted(map(repr, ask(f"select * exclude ({'source' if table == 'runs' else 'run_id'})"
                                 f" from {table}", kept))) for table in tables]  # fmt: skip


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=8)
@given(data=st.data())
def test_repair_rebuilds_everything_but_the_bundles(kept, data):
    names = sorted(name for name in stored(kept) if not name.startswith("journals"))
    before, bundles = everything(kept), {p: p.read_bytes() for p in kept.glob("journals/*/*")}
    for name in data.draw(st.sets(st.sampled_from(names), min_size=1)):
        if data.draw(st.booleans()):
            (kept / name).unlink()
        else:
            flipped(kept / name, data.draw(st.integers(0, (kept / name).stat().st_size - 1)), 1)

    report = repair(str(kept))

    assert report.states == {"added": 3, "failed": 0}
    assert damage(kept) == []
    assert everything(kept) == before
    assert {p: p.read_bytes() for p in kept.glob("journals/*/*")} == bundles


def test_after_a_repair_nothing_has_to_be_archived_again(out, kept):
    (kept / "manifest.json").unlink()

    repair(str(kept))

    assert archive([out], str(kept)).states == {"unchanged": 3}
    files = Catalog.open(str(kept)).find("alpha").files
    assert {(f.name, f.mtime_ns) for f in files} == {
        (path.name, path.stat().st_mtime_ns) for path in out.glob("alpha.*")
    }


def test_a_bundle_that_cannot_be_recovered_is_named_and_stays(kept, capsys):
    (path,) = kept.glob("journals/*/gamma-*")
    flipped(path, path.stat().st_size // 2, 1)

    assert main(["archive", "--to", str(kept), "--repair"]) == 1

    result, err = capsys.readouterr()
    assert "2 runs rebuilt" in result
    assert path.name in err
    assert err.count("\n") == 1
    assert path.exists()


def test_repair_without_bundles_is_refused_in_one_line(tmp_path, capsys):
    assert main(["archive", "--to", str(tmp_path), "--repair"]) == 1

    assert "nothing to repair" in capsys.readouterr().err
    assert os.listdir(tmp_path) == []


def test_bundles_without_a_manifest_are_not_an_empty_folder(out, kept, capsys):
    before = stored(kept)
    for name in ("manifest.json", "README.txt"):
        (kept / name).unlink()

    assert main(["archive", str(out), "--to", str(kept)]) == 2

    assert "--repair" in capsys.readouterr().err
    assert stored(kept) == before - {"manifest.json", "README.txt"}


def test_an_older_copy_of_the_manifest_loses_no_run(out, kept, tmp_path):
    shutil.copytree(kept, tmp_path / "copy")
    make_run(out, "later", (5.0, 4.0))
    archive([out], str(kept))
    before, journal = everything(kept), (out / "later.jsonl").read_bytes()
    shutil.rmtree(out)
    for name in stored(kept):
        if not name.startswith("journals"):
            (kept / name).unlink()
    shutil.copytree(tmp_path / "copy", kept, dirs_exist_ok=True)

    with Archiver.open(str(kept)):
        pass

    assert len(everything(kept)[0]) == len(before[0]) == 4
    assert everything(kept)[1:] == before[1:]
    restore("later", str(kept), tmp_path / "back")
    assert (tmp_path / "back" / "later.jsonl").read_bytes() == journal


@pytest.mark.parametrize("what", ["journal", "run JSON"])
def test_an_older_bundle_left_by_a_kill_does_not_replace_a_newer_one(out, kept, tmp_path, what):
    (older,) = kept.glob("journals/*/gamma-*")
    left = older.read_bytes()
    if what == "journal":
        with eventlog.open_run(journal=out / "gamma.jsonl", from_iter=2, save_interval=0) as run:
            run.log_iter(2, 0.25, 50.0)
    else:
        (out / "gamma.json").write_bytes((out / "gamma.json").read_bytes() + b"\n")
    assert archive([out], str(kept)).states == {"unchanged": 2, "grown": 1}
    before = stored(kept)
    older.write_bytes(left)

    with Archiver.open(str(kept)):
        pass

    assert stored(kept) == before
    restore("gamma", str(kept), tmp_path / "back")
    for path in (tmp_path / "back").iterdir():
        assert path.read_bytes() == (out / path.name).read_bytes()


# ---- again


def test_a_second_time_nothing_is_written(out, kept):
    before = {name: (kept / name).stat().st_mtime_ns for name in stored(kept)}

    report = archive([out], str(kept))

    assert report.states == {"unchanged": 3}
    assert {name: (kept / name).stat().st_mtime_ns for name in stored(kept)} == before


def test_a_run_that_has_grown_replaces_what_was_archived_of_it(out, kept, tmp_path):
    with eventlog.open_run(journal=out / "gamma.jsonl", from_iter=2, save_interval=0) as run:
        run.log_iter(2, 0.25, 50.0)
        run.log_iter(3, 0.125, 50.0)

    report = archive([out], str(kept))

    assert report.states == {"grown": 1, "unchanged": 2}
    result = ask("select iter, loss from iterations where run like 'gamma%' order by iter", kept)
    assert result == [(0, 6.0), (1, 5.0), (2, 0.25), (3, 0.125)]
    restore("gamma", str(kept), tmp_path / "back")
    assert (tmp_path / "back" / "gamma.jsonl").read_bytes() == run.journal_path.read_bytes()
    assert damage(kept) == []
    assert len(list(kept.glob("journals/*/gamma-*"))) == 1


def test_a_run_whose_torn_tail_was_cut_and_that_has_grown_is_archived(out, kept):
    journal = out / "torn.jsonl"
    shutil.copy(out / "gamma.jsonl", journal)
    with journal.open("ab") as file:
        file.write(b'{"n":')
    archive([journal], str(kept))
    with eventlog.open_run(journal=journal, from_iter=3, save_interval=0) as run:
        run.log_iter(3, 0.5, 50.0)

    assert archive([journal], str(kept)).states == {"grown": 1}


def test_a_journal_that_lost_its_end_does_not_replace_the_archived_one(out, kept, tmp_path):
    journal = out / "gamma.jsonl"
    whole = journal.read_bytes()
    journal.write_bytes(whole[: len(whole) // 2])

    assert archive([out], str(kept)).states == {"unchanged": 3}

    restore("gamma", str(kept), tmp_path / "back")
    assert (tmp_path / "back" / "gamma.jsonl").read_bytes() == whole


def test_a_journal_that_does_not_continue_the_archived_one_is_refused(out, kept, tmp_path, capsys):
    journal = out / "gamma.jsonl"
    whole = journal.read_bytes()
    journal.write_bytes(corrupt.flip_bit(whole, len(whole) // 2))

    assert main(["archive", str(out), "--to", str(kept)]) == 1

    out_text, err = capsys.readouterr()
    assert "2 unchanged, 1 failed" in out_text
    assert "gamma.jsonl: no longer begins with what was archived" in err
    restore("gamma", str(kept), tmp_path / "back")
    assert (tmp_path / "back" / "gamma.jsonl").read_bytes() == whole
    assert main(["archive", str(journal), "--to", str(kept), "--replace"]) == 0


@given(
    st.lists(st.binary(max_size=9).map(lambda b: b.replace(b"\n", b"") + b"\n"), max_size=5),
    st.data(),
)
def test_a_journal_that_grew_is_distinguished_from_one_that_changed(lines, data):
    import io

    whole = b"".join(lines)
    torn = data.draw(st.binary(min_size=1, max_size=5)).replace(b"\n", b"")
    more = whole + b"more\n"

    def growth(old, new):
        return comparison.growth(io.BytesIO(old), io.BytesIO(new))

    assert growth(whole, whole) == "same"
    assert growth(whole + torn, more) in ("longer", "same")
    assert growth(whole, more) == "longer"
    assert growth(more, whole) == "shorter"
    if whole:
        at = data.draw(st.integers(0, len(whole) - 1))
        assert growth(more, corrupt.set_byte(more, at, whole[at] ^ 1)) == "other"


def test_a_live_run_is_skipped_until_the_next_time(out, kept, capsys):
    with eventlog.open_run(out, run_name="live", save_interval=0) as run:
        run.log_iter(0, 1.0, 50.0)

        assert main(["archive", str(out), "--to", str(kept)]) == 0

        assert f"{run.journal_path}: is being written" in capsys.readouterr().err
        assert ask("select count(*) from runs", kept) == [(3,)]
    assert archive([out], str(kept)).states == {"unchanged": 3, "new": 1}


def test_files_that_are_not_runs_are_named_and_the_rest_archived(zoo, tmp_path, capsys):
    code = main(["archive", "--json", str(zoo), "--to", str(tmp_path / "kept")])

    result = orjson.loads(capsys.readouterr().out)
    assert code == 1
    assert {Path(path).stem for path in result["left_out"]} == {
        "live", "empty", "empty_journal", "binary", "binary_journal", "no_run", "half", "large",
        "large_journal",
    }  # fmt: skip
    assert result["new"] == 9
    assert damage(tmp_path / "kept") == []


# ---- killed, and several at once

_KILLED = """
import os, sys
from tools import cli
from tools.archive import parts, parts
out, kept, left = sys.argv[1], sys.argv[2], int(sys.argv[3])
parts.PART_ROWS = 12  # small batches
def count(event, args):
    global left
    if event in ("open", "os.rename", "os.remove") and str(args[0]).startswith(kept):
        left -= 1
        if left == 0:
            os.kill(os.getpid(), 9)
sys.addaudithook(count)
sys.exit(cli.main(["archive", out, "--to", kept]))
"""


def archive_and_kill(out, kept, n_steps):
    """Archive in small batches; SIGKILL before it opens, renames or removes its nth file of
    the archive. Whether it died."""
    command = [sys.executable, "-c", _KILLED, out, kept, str(n_steps)]
    process = subprocess.run(command, stdout=subprocess.DEVNULL, check=False)
    return process.returncode == -signal.SIGKILL


def kill_archiving(out, kept, n_kills, seed):
    """After each kill the archive is whole; at the end it has everything and nothing else."""
    chance, n_died = random.Random(seed), 0
    for _ in range(n_kills):
        n_died += archive_and_kill(out, kept, chance.randrange(1, 120))
        if (kept / "manifest.json").exists():
            assert damage(kept) == []
            n_runs, n_rows = (ask(f"select count(*) from {t}", kept)[0][0] for t in
                              ("runs", "iterations"))  # fmt: skip
            assert n_rows == 3 * n_runs
    archive([out], str(kept))
    assert damage(kept) == []
    result = Catalog.open(str(kept))
    named = {f.name for f in result.manifest.files} | {
        e.bundle.name for e in result.entries.values()
    }
    assert stored(kept) == named | {"manifest.json"}
    return n_died


def many_runs(folder, n_runs):
    folder.mkdir()
    make_run(folder, "seed", (5.0, 4.0, 3.0))
    lines = (folder / "seed.jsonl").read_bytes()
    for i in range(n_runs):
        (folder / f"run_{i:03}.jsonl").write_bytes(lines)
    for path in folder.glob("seed.*"):
        path.unlink()
    return folder


def test_killed_at_random_moments_the_archive_is_intact_and_can_be_completed(tmp_path):
    out = many_runs(tmp_path / "out", 12)

    n_died = kill_archiving(out, tmp_path / "kept", 4, seed=1)

    assert n_died >= 2
    assert ask("select count(*) from iterations", tmp_path / "kept") == [(36,)]


@pytest.mark.slow
def test_killed_a_hundred_times_the_archive_is_intact(tmp_path):
    """pytest -m slow tests/tools/archive/test_archive.py -k hundred"""
    n_died = 0
    for trial in range(20):
        out = many_runs(tmp_path / f"out{trial}", 40)
        n_died += kill_archiving(out, tmp_path / f"kept{trial}", 5, seed=trial)
    assert n_died >= 80


def test_a_second_archiver_of_a_folder_is_refused_by_name(out, kept, capsys):
    with Archiver.open(str(kept)):
        assert main(["archive", str(out), "--to", str(kept)]) == 2

    assert "another process is archiving there" in capsys.readouterr().err


def test_of_two_archivers_of_an_object_storage_one_wins_and_the_other_is_refused(out):
    url = "memory://two-archivers"
    with Archiver.open(url) as first:
        first.add(out / "alpha.jsonl", [out / "alpha.jsonl"])
        archive([out / "beta.jsonl"], url)

        with pytest.raises(Refusal, match="another process archived there meanwhile"):
            first.commit()
        first._batch.clear()

    assert list(verify(url)) == []
    assert archive([out], url).states == {"new": 2, "unchanged": 1}


def test_of_two_archivers_that_switch_at_the_same_time_neither_removes_files_of_the_other(
    out, monkeypatch
):
    url = "memory://at-once"
    archive([out / "gamma.jsonl"], url)
    with eventlog.open_run(journal=out / "gamma.jsonl", from_iter=2, save_interval=0) as run:
        run.log_iter(2, 0.25, 50.0)
    write = Bucket.write

    def write_late(store, name, content):
        if name == manifest.NAME:  # it found no other archiver; now there is one
            monkeypatch.setattr(Bucket, "write", write)
            archive([out / "gamma.jsonl"], url)
        return write(store, name, content)

    with Archiver.open(url) as first:
        first.add(out / "beta.jsonl", [out / "beta.jsonl"])
        monkeypatch.setattr(Bucket, "write", write_late)

    assert list(verify(url)) == []
    assert archive([out], url).states == {"new": 1, "grown": 2}
    assert list(verify(url)) == []


def test_folders_without_locks_are_treated_like_object_storage(out, kept, monkeypatch):
    def refuse(fd, how):
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))  # what NFS says

    monkeypatch.setattr("fcntl.flock", refuse)

    with Folder(kept).locked() as is_alone:
        assert not is_alone


def test_a_file_in_an_object_storage_is_complete_or_absent():
    store = open_store("memory://half")

    def write(file):
        file.write(b"half")
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        store.write("x", write)

    assert store.names() == {}


def test_a_run_that_shrinks_while_it_is_packed_does_not_stop_the_others(out, kept, monkeypatch):
    for name in ("beta", "gamma"):
        with (out / f"{name}.jsonl").open("ab") as file:
            file.write(b"\n")
    stat = os.fstat

    def longer(fd):
        result = stat(fd)
        if os.readlink(f"/proc/self/fd/{fd}").endswith("beta.jsonl"):
            return os.stat_result((*result[:6], result.st_size + 9, *result[7:]), {
                name: getattr(result, name) for name in ("st_mtime_ns",)})  # fmt: skip
        return result

    monkeypatch.setattr(bundle.os, "fstat", longer)

    report = archive([out], str(kept))

    assert report.states == {"unchanged": 1, "grown": 1, "failed": 1}
    assert "became shorter" in "".join(report.left_out.values())


def test_a_folder_with_other_files_does_not_become_an_archive(out, capsys):
    before = bytes_of(out)

    assert main(["archive", str(out), "--to", str(out)]) == 2

    assert "not an archive, and not empty" in capsys.readouterr().err
    assert bytes_of(out) == before


def test_files_of_others_within_an_archive_are_left_alone(out, kept):
    (kept / "notes.txt").write_text("mine")
    (kept / "iterations" / "mine.parquet").write_text("mine")

    archive([out], str(kept))

    assert {"notes.txt", "iterations/mine.parquet"} <= stored(kept)


# ---- places and sizes


@pytest.mark.parametrize("scheme", ["memory://", "file://"])
def test_an_archive_may_be_behind_a_url(out, tmp_path, scheme):
    url = f"{scheme}{tmp_path}/by-url"

    archive([out], url)

    assert list(verify(url)) == []
    assert archive([out], url).states == {"unchanged": 3}
    restore("alpha", url, tmp_path / "back")
    assert bytes_of(tmp_path / "back").items() <= bytes_of(out).items()


def test_an_unsupported_url_is_one_line(out, capsys):
    assert main(["archive", str(out), "--to", "nowhere://x"]) == 2

    assert capsys.readouterr().err.count("\n") == 1


def test_parts_are_of_bounded_size_and_never_within_a_run(tmp_path, monkeypatch):
    monkeypatch.setattr("tools.archive.parts.PART_ROWS", 10)
    out = many_runs(tmp_path / "out", 30)

    archive([out], str(tmp_path / "kept"))

    parts = manifest.need(open_store(str(tmp_path / "kept"))).of("iterations")
    assert all(part.n_rows <= 21 for part in parts)
    assert sum(part.n_rows for part in parts) == 90
    assert all(part.n_rows % 3 == 0 for part in parts)
    assert len(parts) >= 5


def test_adding_a_run_a_night_leaves_few_parts_and_writes_little(tmp_path):
    out, kept = many_runs(tmp_path / "out", 32), tmp_path / "kept"
    n_written, before = 0, set()

    for journal in sorted(out.iterdir()):
        archive([journal], str(kept))
        there = set(kept.glob("iterations/*/*"))
        n_written += sum(pq.read_metadata(path).num_rows for path in there - before)
        before = there

    assert len(before) <= 5
    assert n_written <= 32 * 3 * 5
    assert ask("select count(*) from iterations", kept) == [(96,)]


def test_a_run_that_has_grown_leaves_no_rows_in_a_full_part(tmp_path, monkeypatch):
    monkeypatch.setattr("tools.archive.parts.PART_ROWS", 10)
    out, kept = many_runs(tmp_path / "out", 30), str(tmp_path / "kept")
    archive([out], kept)
    with eventlog.open_run(journal=out / "run_007.jsonl", from_iter=1, save_interval=0) as run:
        run.log_iter(1, 0.5, 50.0)

    archive([out], kept)

    grown = "run_id in (select run_id from runs where total_iterations = 2)"
    assert ask("select count(*) from iterations", kept) == [(89,)]
    assert ask(f"select loss from iterations where {grown} order by iter", kept) == [(6.0,), (0.5,)]


def test_a_column_that_gets_a_wider_type_has_it_in_every_part(tmp_path, monkeypatch):
    monkeypatch.setattr("tools.archive.parts.PART_ROWS", 1)
    for name, x in (("first", 3), ("second", 0.5), ("third", 2**60 + 1)):
        with eventlog.open_run(tmp_path / name, run_name=name, save_interval=0) as run:
            run.log_iter(0, 1.0, 50.0, x=x)

        archive([tmp_path / name], str(tmp_path / "kept"))

    parts = list((tmp_path / "kept").glob("iterations/*/*.parquet"))
    assert [pq.read_schema(part).field("x").type for part in parts] == [pa.string()] * 3
    result = ask("select x from iterations order by run", tmp_path / "kept")
    assert [float(x) for (x,) in result] == [3.0, 0.5, float(2**60 + 1)]
    assert result[2] == (str(2**60 + 1),)
    assert damage(tmp_path / "kept") == []


def test_the_name_that_an_archived_run_was_begun_with_wins_over_names_that_begin_so(tmp_path):
    for name in ("term_20261123_053310", "term_table_20261123_053312"):
        make_run(tmp_path, name)
    archive([tmp_path], str(tmp_path / "kept"))

    restore("term", str(tmp_path / "kept"), tmp_path / "back")

    assert [path.stem for path in (tmp_path / "back").glob("*.json")] == ["term_20261123_053310"]


def test_runs_with_the_same_name_are_distinguished_by_id(tmp_path, capsys):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        make_run(tmp_path / folder, "same", (5.0, 4.0))
        archive([tmp_path / folder], str(tmp_path / "kept"))

    code = main(["archive", "--to", str(tmp_path / "kept"), "--restore", "same",
                 "--out", str(tmp_path / "back")])  # fmt: skip

    assert code == 2
    assert "ambiguous: matches 2 runs" in capsys.readouterr().err
    for (run_id,) in ask("select run_id from runs", tmp_path / "kept"):
        restore(run_id, str(tmp_path / "kept"), tmp_path / run_id)


@pytest.mark.parametrize(
    "args",
    [
        ["--to", "x"],
        ["out", "--to", "x", "--verify"],
        ["--to", "x", "--restore", "r"],
        ["out", "--to", "x", "--out", "y"],
    ],
)
def test_misuse_is_one_line(args, capsys):
    assert main(["archive", *args]) == 2

    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("args", [["--verify"], ["--restore", "r", "--out", "o"]])
def test_a_missing_archive_is_reported(args, tmp_path, capsys):
    assert main(["archive", "--to", str(tmp_path / "none"), *args]) == 1

    assert "not an archive: it has no manifest.json" in capsys.readouterr().err
    assert os.listdir(tmp_path) == []


_WITHOUT = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name in ("zstandard", "pyarrow", "duckdb", "fsspec", "matplotlib"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Missing())
from tools import cli
sys.exit(cli.main(sys.argv[1:]))
"""


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["ls", "{out}"], 0, ""),
        (["prune", "{out}", "--older-than", "1d", "--unarchived"], 0, "0 of 3 runs"),
        (["archive", "{out}", "--to", "kept"], 2, "pip install pyarrow"),
        (["query", "select 1", "{out}"], 2, "pip install duckdb"),
    ],
)
def test_only_commands_that_need_a_missing_library_fail(out, args, code, message):
    command = [sys.executable, "-c", _WITHOUT, *(word.format(out=out) for word in args)]

    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert (done.returncode, message in done.stderr) == (code, True), done.stderr
    assert done.stderr.count("\n") <= 1


@pytest.mark.parametrize("length", [90, 100, 104, 130, 146, 200])
def test_the_large_events_of_a_run_with_a_long_name_belong_to_it(tmp_path, length):
    stem = "r" * length
    of_ranks = [f"{stem}.rank{rank}" for rank in (0, 7, 131)]
    names = [f"{stem}.jsonl", *(aside_name(of, "a1" * 32) for of in (stem, *of_ranks))]
    for name in [*names, "q" * length + ".jsonl"]:
        (tmp_path / name).touch()

    found = files.group(tmp_path)

    assert {path.name for path in found[stem]} == set(names)
    assert set(files.check_file_names(names)) == set(names)


def test_a_run_json_that_was_kept_before_a_loss_belongs_to_its_run(tmp_path):
    names = ["a.json", "a.json.2.before-loss", "a.json.before-loss", "a.jsonl"]
    for name in names:
        (tmp_path / name).touch()

    found = files.group(tmp_path)

    assert {stem: [path.name for path in paths] for stem, paths in found.items()} == {"a": names}


def test_a_run_that_was_renamed_without_the_file_of_a_large_event_is_not_archived(tmp_path, capsys):
    with eventlog.open_run(tmp_path / "out", save_interval=0) as run:
        run.log("table", rows="x" * 1_200_000)
    stem = run.journal_path.stem
    for path in list((tmp_path / "out").glob(f"{stem}.json*")):
        path.rename(path.with_name(path.name.replace(stem, "other")))
    (aside,) = (tmp_path / "out").glob("*.aside")
    archive, prune = (
        ["archive", tmp_path / "out", "--to", tmp_path / "kept"],
        ["prune", tmp_path / "out"],
    )

    assert main([*map(str, archive)]) == 1
    assert f"Copy it to {aside.name.replace(stem, 'other')}" in capsys.readouterr().err
    main([*map(str, prune), "--older-than", "0s", "--archive", str(tmp_path / "kept"), "--yes"])
    assert (tmp_path / "out" / "other.jsonl").exists()
    aside.rename(aside.with_name(aside.name.replace(stem, "other")))
    assert main([*map(str, archive)]) == 0
