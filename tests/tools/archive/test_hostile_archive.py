"""A crafted archive: no file outside of it is changed or read, and the rest of it works."""

import io
import os
import tarfile
from dataclasses import replace
from hashlib import file_digest

import psutil
import pyarrow as pa
import pytest
import zstandard

import eventlog
from eventlog.format.files import rank_path
from tests.tools.conftest import make_run
from tools.archive import bundle, files, manifest, parts, prune
from tools.archive.archive import archive, restore
from tools.archive.catalog import INDEX, Catalog
from tools.archive.store import Damaged, open_store
from tools.cli import main

MADE_UP = (
    "../victim.jsonl", "/etc/victim.jsonl", "a/b.jsonl", "..", ".", "", ".bashrc", ".x.jsonl",
    "a\\b.jsonl", "a\n.jsonl", "a\x1b[2J.jsonl", "a\u202e.jsonl", "authorized_keys",
    "x" * 300 + ".jsonl",
)  # fmt: skip


@pytest.fixture
def kept(tmp_path):
    """An archive of two runs, beside a file that is not the archive's."""
    out = tmp_path / "out"
    out.mkdir()
    for name in ("alpha", "beta"):
        make_run(out, name, (5.0, 4.0))
    archive([out], str(tmp_path / "kept"))
    (tmp_path / "victim.jsonl").write_text("precious")
    (tmp_path / "victim-00000000.tar.zst").write_text("precious")
    (tmp_path / "victim-00000000.parquet").write_text("precious")
    return tmp_path / "kept"


def rewritten(kept, change_rows=None, change_manifest=None):
    """The archive with another index and manifest, both with checksums that are right."""
    store = open_store(str(kept))
    catalog = Catalog(store, manifest.need(store))
    contents = catalog.manifest
    if change_rows:
        rows = catalog.index.to_pylist()
        change_rows(rows)
        table = pa.Table.from_pylist(rows, INDEX)
        contents = replace(contents, runs=parts.write_parquet(store, contents.runs.name, table))
    if change_manifest:
        contents = change_manifest(contents)
    store.write(manifest.NAME, lambda file: file.write(contents.to_bytes()))


def tar_of(*members, size_bytes=None):
    """A bundle with these (TarInfo, bytes)."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for info, data in members:
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return zstandard.compress(plain.getvalue())


def file_of(name, data=b"x", **more):
    info = tarfile.TarInfo(name)
    for key, value in more.items():
        setattr(info, key, value)
    return info, data


def precious(tmp_path):
    return {p.name: p.read_text() for p in tmp_path.glob("victim*")} == {
        "victim.jsonl": "precious", "victim-00000000.tar.zst": "precious",
        "victim-00000000.parquet": "precious",
    }  # fmt: skip


# ---- names


@pytest.mark.parametrize("name", MADE_UP)
def test_a_name_that_no_file_of_a_run_can_have_is_refused(name):
    with pytest.raises(ValueError, match=r"must|has control|is not a file of a run"):
        files.check_file_name(name)


@pytest.mark.parametrize(
    "name", ["a.jsonl", "a.b.json", "a.1234abcd.0.val.table.aside", "ü läuft.jsonl", "a.torn"]
)
def test_the_names_of_a_runs_files_are_accepted(name):
    assert files.check_file_name(name) == name


@pytest.mark.parametrize(
    "name", ["../victim-00000000.tar.zst", "/tmp/victim-00000000.tar.zst",
             "journals/month=../../victim-00000000.tar.zst",
             "journals/month=2026-11/../../../victim-00000000.tar.zst"]
)  # fmt: skip
@pytest.mark.parametrize("verb", ["--replace", "--verify", "--restore", "--repair"])
def test_a_bundles_name_that_leads_out_deletes_and_reads_nothing(
    kept, tmp_path, capsys, name, verb
):
    rewritten(kept, lambda rows: rows[0].update(bundle=name))
    args = {
        "--replace": [str(tmp_path / "out"), "--replace"],
        "--restore": ["--restore", "alpha", "--out", str(tmp_path / "back")],
    }.get(verb, [verb])

    code = main(["archive", "--to", str(kept), *args])

    assert precious(tmp_path)
    assert code == (0 if verb == "--repair" else 2 if verb == "--restore" else 1)
    if verb != "--repair":
        assert "is left out: its entry in the index" in "".join(capsys.readouterr())
    restore("beta", str(kept), tmp_path / "back")
    assert (tmp_path / "back" / "beta.jsonl").exists()


@pytest.mark.parametrize("name", MADE_UP)
def test_a_file_name_in_the_index_that_leads_out_is_named_and_the_rest_restored(
    kept, tmp_path, capsys, name
):
    rewritten(kept, lambda rows: rows[0]["files"][0].update(name=name))

    assert main(["archive", "--to", str(kept), "--verify"]) == 1
    assert main(["archive", "--to", str(kept), "--restore", "alpha", "--out", str(tmp_path)]) == 2

    assert capsys.readouterr().err.count("is left out: its entry in the index") == 1
    assert precious(tmp_path)
    assert len(restore("beta", str(kept), tmp_path / "back")) == 2


@pytest.mark.parametrize("month", ["..", "../..", "2026-11/../../..", "a b"])
def test_a_month_or_a_part_in_the_manifest_that_leads_out_writes_nothing(
    kept, tmp_path, capsys, month
):
    def change(contents):
        part = replace(contents.parts[0], month=month, name="../victim-00000000.parquet")
        return replace(contents, parts=(part, *contents.parts[1:]))

    rewritten(kept, change_manifest=change)

    assert main(["archive", "--to", str(kept), str(tmp_path / "out"), "--replace"]) == 1
    assert main(["query", "select 1 from iterations", str(kept)]) == 1
    assert main(["archive", "--to", str(kept), "--repair"]) == 0

    assert capsys.readouterr().err.count("\n") == 2
    assert precious(tmp_path)


def test_a_link_within_an_archive_that_leads_out_is_not_followed(kept, tmp_path):
    (folder,) = kept.glob("iterations/month=*")
    outside = tmp_path / "outside"
    folder.rename(outside)
    folder.symlink_to(outside)
    before = sorted(os.listdir(outside))

    assert main(["archive", "--to", str(kept), str(tmp_path / "out"), "--replace"]) == 1
    assert main(["archive", "--to", str(kept), "--verify"]) == 1

    assert sorted(os.listdir(outside)) == before


def test_a_fifo_in_an_archive_does_not_hang_verify_and_repair(kept, capsys):
    (path,) = kept.glob("journals/*/alpha-*")
    path.unlink()
    os.mkfifo(path)

    assert main(["archive", "--to", str(kept), "--verify"]) == 1
    assert main(["archive", "--to", str(kept), "--repair"]) == 1

    assert "it is not a file" in capsys.readouterr().err


# ---- bundles

BAD_BUNDLES = {
    "parent folder": lambda: tar_of(file_of("../victim.jsonl")),
    "absolute": lambda: tar_of(file_of("/victim.jsonl")),
    "dot-file": lambda: tar_of(file_of(".bashrc")),
    "foreign file": lambda: tar_of(file_of("authorized_keys")),
    "two runs": lambda: tar_of(file_of("a.jsonl"), file_of("b.jsonl")),
    "twice": lambda: tar_of(file_of("a.jsonl"), file_of("a.jsonl")),
    "folder": lambda: tar_of(file_of("a.jsonl", b"", type=tarfile.DIRTYPE)),
    "symlink": lambda: tar_of(
        file_of("a.jsonl", b"", type=tarfile.SYMTYPE, linkname="/etc/passwd"), file_of("a.jsonl")
    ),
    "hard link": lambda: tar_of(
        file_of("a.jsonl", b"", type=tarfile.LNKTYPE, linkname="../victim.jsonl")
    ),
    "fifo": lambda: tar_of(file_of("a.jsonl", b"", type=tarfile.FIFOTYPE)),
    "device": lambda: tar_of(file_of("a.jsonl", b"", type=tarfile.CHRTYPE)),
    "odd time": lambda: tar_of(file_of("a.jsonl", pax_headers={"mtime": "1e999999999"})),
    "no time": lambda: tar_of(file_of("a.jsonl", pax_headers={"mtime": "nan"})),
    "no run": lambda: tar_of(file_of("a.jsonl", b"\0" * 999)),
    "deep JSON": lambda: tar_of(file_of("a.json", b'{"training_iterations":' + b"[" * 10**6)),
    "nothing": lambda: tar_of(),
    "no tar": lambda: zstandard.compress(b"\xff" * 100_000),
    "no zstd": lambda: bytes(range(256)) * 40,
    "cut": lambda: tar_of(file_of("a.jsonl", os.urandom(100_000)))[:-50_000],
    "empty": lambda: b"",
}


@pytest.mark.parametrize("what", BAD_BUNDLES)
def test_one_bad_bundle_is_named_and_the_others_are_repaired(kept, tmp_path, capsys, what):
    (good,) = kept.glob("journals/*/beta-*")
    bad = good.with_name("aaaa-00000000.tar.zst")
    bad.write_bytes(BAD_BUNDLES[what]())

    assert main(["archive", "--to", str(kept), "--repair"]) == 1

    output, err = capsys.readouterr()
    assert "2 runs rebuilt" in output
    assert bad.name in err
    assert err.count("\n") == 1
    assert precious(tmp_path)
    assert len(restore("alpha", str(kept), tmp_path / "back")) == 2


def test_a_bundle_that_expands_to_gigabytes_is_refused_after_a_bounded_part(kept, tmp_path):
    compressor = zstandard.ZstdCompressor(level=3)
    header, _ = file_of("bomb.jsonl")
    header.size = 2 << 30
    bomb = io.BytesIO()
    with compressor.stream_writer(bomb, closefd=False) as stream:
        stream.write(header.tobuf(tarfile.PAX_FORMAT))
        for _ in range(512):
            stream.write(bytes(1 << 20))

    unpacked = bundle.unpack(io.BytesIO(bomb.getvalue()))
    packed = next(unpacked)
    with pytest.raises(Damaged, match="times its size"):
        file_digest(packed.content, "sha256")


def test_a_header_of_gigabytes_uses_no_memory():
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.XHDTYPE, 200 << 20
    data = zstandard.compress(header.tobuf(tarfile.PAX_FORMAT) + bytes(200 << 20))
    process = psutil.Process()
    before = process.memory_info().rss

    with pytest.raises(Damaged, match="a header in it has more than"):
        list(bundle.unpack(io.BytesIO(data)))

    assert process.memory_info().rss - before < 50 << 20


def test_an_index_that_claims_billions_of_rows_is_not_read(kept, capsys):
    store = open_store(str(kept))
    contents = manifest.need(store)
    table = pa.table({"run": pa.repeat(pa.scalar("x"), 20_000_000)})
    stored = parts.write_parquet(store, contents.runs.name, table)
    rewritten_manifest = replace(contents, runs=stored)
    store.write(manifest.NAME, lambda file: file.write(rewritten_manifest.to_bytes()))

    assert main(["archive", "--to", str(kept), "--verify"]) == 1

    assert "cannot be checked" in capsys.readouterr().out


# ---- all files of a run


def archived_names(kept, run):
    return {f.name for f in Catalog.open(str(kept)).find(run).files}


def test_every_file_of_a_run_is_archived_before_prune_deletes_it(tmp_path, capsys):
    out, kept = tmp_path / "out", tmp_path / "kept"
    out.mkdir()
    with eventlog.open_run(out, run_name="a", save_interval=0) as run:
        run.log("val.table", rows=["x" * 1000] * 2000)  # a kind with a dot, too large for a line
    stem, run_id = run.journal_path.stem, next(eventlog.scan(run.journal_path)).fields["run_id"]
    rank = rank_path(run.journal_path, 3)
    rank.write_bytes(run.journal_path.read_bytes())
    beside = [
        f"{stem}.{'0f' * 16}.aside", f"{stem}.rank3.{'1e' * 16}.aside", f"{stem}.a1b2c3d4.torn",
        f"{stem}.a1b2c3d4.0.segment", f"{stem}.{run_id[:8]}.a1b2c3d4.1.segment",
        f"{stem}.rank3.{run_id[:8]}.a1b2c3d4.1.segment",
    ]  # fmt: skip
    for name in beside:
        (out / name).write_bytes(b"{}\n")
    names = {path.name for path in out.iterdir()}
    for path in out.iterdir():
        os.utime(path, (1, 1))

    archive([out], str(kept))
    main(["prune", str(out), "--older-than", "1d", "--archive", str(kept), "--yes"])

    assert archived_names(kept, stem) == names
    assert os.listdir(out) == []
    restore(stem, str(kept), out)
    assert {path.name for path in out.iterdir()} == names


def test_only_segments_and_asides_of_this_run_are_archived_from_a_shared_fallback(tmp_path):
    out, fallback = tmp_path / "out", tmp_path / "fallback"
    out.mkdir()
    fallback.mkdir()
    with eventlog.open_run(out, run_name="a", fallback=fallback, save_interval=0) as run:
        run.log("table", rows=["x" * 1000] * 2000)
    stem, first = run.journal_path.stem, next(eventlog.scan(run.journal_path))
    (aside,) = out.glob("*.aside")
    aside.rename(fallback / aside.name)
    ours = {
        f"{stem}.{first.fields['run_id'][:8]}.a1b2c3d4.0.segment", f"{stem}.{first.s}.1.segment",
        aside.name,
    }  # fmt: skip
    others = {
        f"{stem}.ffffffff.a1b2c3d4.0.segment", f"{stem}.deadbeef.1.segment", "b.torn",
        f"{stem}.{'0f' * 16}.aside",
    }  # fmt: skip
    for name in (ours | others) - {aside.name}:
        (fallback / name).write_bytes(b"{}\n")

    os.mkfifo(fallback / f"{stem}.{first.s}.7.segment")

    archive([out], str(tmp_path / "kept"))

    beside = {path.name for path in out.iterdir()}
    assert archived_names(tmp_path / "kept", stem) == beside | ours


def test_a_segment_of_an_earlier_run_of_that_name_is_neither_archived_nor_deleted(tmp_path):
    make_run(tmp_path, "a", (5.0, 4.0))
    other = tmp_path / "a.ffffffff.a1b2c3d4.0.segment"
    other.write_bytes(b"{}\n")

    archive([tmp_path / "a.jsonl"], str(tmp_path / "kept"))
    for candidate in prune.select_candidates(tmp_path):
        prune.delete(candidate)

    assert archived_names(tmp_path / "kept", "a") == {"a.jsonl", "a.json"}
    assert other.exists()
