"""A journal with a sector that the disk cannot read, and one that is cut while it is read."""

import errno
import os
import subprocess
import sys

import pytest

import eventlog
from eventlog import blocks
from eventlog.blocks import read_at, read_chunks, rfind
from eventlog.cli.main import main
from eventlog.cli.report import COMPLETE, LOSS, exit_code
from eventlog.fold.compaction import compact
from eventlog.fold.load import Folding
from eventlog.read.ends import has_session, last_open, last_record, unclosed_session
from eventlog.write.journal import Journal
from tests.eventlog.read.test_missing import iters, opening
from tests.strategies import SESSIONS, line

A, B, *_ = SESSIONS


@pytest.fixture
def unreadable(monkeypatch):
    """Make bytes of all files unreadable: any read that touches one of them is EIO."""
    bad = []
    pread = os.pread

    def refusing(fd, size_bytes, offset):
        if any(offset < end and begin < offset + size_bytes for begin, end in bad):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return pread(fd, size_bytes, offset)

    monkeypatch.setattr(os, "pread", refusing)
    return bad


@pytest.fixture
def journal(tmp_path):
    path = tmp_path / "run.jsonl"
    path.write_bytes(opening() + iters(A, 1, 4000) + line(4001, A, "close", status="completed"))
    return path


def test_an_unreadable_sector_costs_the_records_in_it_and_no_others(journal, unreadable):
    unreadable.append((200 * 512, 201 * 512))

    folding = Folding(journal)
    folding.read()

    damage, gap = folding.defects()
    assert (damage.kind, damage.lost) == ("unreadable", 0)
    assert damage.offset <= 200 * 512 < damage.offset + damage.size_bytes < 202 * 512
    assert gap.kind == "gap"
    assert folding.reader.sequence.n_records == 4002 - gap.lost > 3990
    assert exit_code(folding) == LOSS


@pytest.mark.parametrize("sectors", [[(0, 1)], [(3, 11)], [(5, 6), (9, 10)], [(300, 600)]])
def test_every_command_reads_around_what_is_unreadable(journal, unreadable, sectors, capsys):
    unreadable += [(begin * 512, end * 512) for begin, end in sectors]

    codes = [main([c, str(journal)]) for c in ("verify", "compact", "cat", "tail", "status")]

    assert codes == [LOSS, LOSS, COMPLETE, COMPLETE, COMPLETE]
    assert "unreadable at byte" in capsys.readouterr().out
    assert eventlog.load_run(journal).status == "completed"


def test_following_a_journal_reads_around_what_is_unreadable(journal, unreadable):
    unreadable.append((200 * 512, 201 * 512))
    whole = journal.read_bytes()
    journal.write_bytes(whole[:103_000])
    folding = Folding(journal)
    for cut in (103_500, 150_000, len(whole)):
        journal.write_bytes(whole[:cut])
        folding.read_on(to_the_end=False)

    assert [d.kind for d in folding.defects()] == ["unreadable", "gap"]


def test_the_unreadable_end_of_a_journal_is_of_unknown_cost(journal, unreadable):
    size = journal.stat().st_size
    unreadable.append((size // 512 * 512, size + 512))

    folding = Folding(journal)
    folding.read()

    assert [(d.kind, d.lost) for d in folding.defects()] == [("unreadable", None)]


def test_a_session_goes_on_behind_an_unreadable_end_which_is_not_cut(journal, unreadable):
    os.truncate(journal, journal.stat().st_size - 30)
    size = journal.stat().st_size
    before = journal.read_bytes()
    unreadable.append((size // 512 * 512, size))

    later = Journal(journal, {"format": 1, "run_id": "r"})
    unreadable.clear()
    later.close({})

    assert journal.read_bytes().startswith(before)
    assert last_open(journal).fields["found"]["torn"]["error"].endswith("are unreadable")


def test_what_is_not_unreadable_is_read_to_the_byte(tmp_path, unreadable):
    path = tmp_path / "file"
    path.write_bytes(bytes(range(256)) * 40)
    unreadable += [(700, 701), (5000, 5001)]
    holes = []

    data = b"".join(read_chunks(path, 3, lambda offset, size: holes.append((offset, size))))

    expected = bytearray(path.read_bytes())
    for begin in (512, 4608):
        expected[begin : begin + 512] = bytes(512)
    assert data == expected[3:]
    assert holes == [(512, 512), (4608, 512)]


def test_an_error_other_than_the_disks_is_not_a_hole(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_bytes(b"x")

    def stale(fd, size_bytes, offset):
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    monkeypatch.setattr(os, "pread", stale)

    with pytest.raises(OSError, match="tale"):
        list(read_chunks(path))


@pytest.mark.parametrize("chunk", [1, 7, 64, 100_000])
def test_a_mark_is_found_wherever_the_pieces_of_a_file_end(tmp_path, monkeypatch, chunk):
    monkeypatch.setattr(blocks, "CHUNK_BYTES", chunk)
    path = tmp_path / "run.jsonl"
    path.write_bytes(opening() + iters(A, 1, 20) + opening(B, 2, (A, 20)) + iters(B, 1, 20))

    with open(path, "rb") as file:
        data = file.read()
        for mark in (b"\n", b'"event":"open"', b'"n":20,', b"none"):
            for end in (len(data), len(data) - 1, 1000):
                assert rfind(file.fileno(), mark, end) == data.rfind(mark, 0, end)
            assert blocks.find(file.fileno(), mark, 100) == data.find(mark, 100)
        assert read_at(file.fileno(), 10, 1 << 20) == data[10:]
    assert (last_open(path).s, last_record(path).n) == (B, 20)
    assert unclosed_session(path).s == B
    assert has_session(path, A)
    assert not has_session(path, "c3c3c3c3")


def test_a_journal_that_is_cut_under_its_reader_does_not_end_the_process(tmp_path):
    """While `tail -f` or a resume searches for the last `open` event, the file is truncated."""
    path = tmp_path / "run.jsonl"
    path.write_bytes(opening() + iters(A, 1, 20_000))
    program = f"""
import os
from pathlib import Path
from eventlog import blocks; from eventlog.read import ends
path, read = Path({str(path)!r}), os.pread
def cutting(fd, size, offset):
    os.truncate(path, 1000)
    return read(fd, size, offset)
os.pread = cutting
print(ends.last_record(path), ends.last_open(path), sum(map(len, blocks.read_chunks(path))))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)

    assert (done.returncode, done.stderr) == (0, "")


def test_neither_a_command_nor_a_resume_maps_the_journal_into_memory(journal):
    """Of a mapped file an unreadable sector ends the process (SIGBUS)."""
    program = f"""
import sys, eventlog
from eventlog.cli.main import main
mapped = []
sys.addaudithook(lambda event, arguments: event == "mmap.__new__" and mapped.append(arguments))
for command in ("verify", "recover", "compact", "cat", "tail", "status"):
    main([command, {str(journal)!r}])
eventlog.load_run({str(journal)!r})
eventlog.open_run(journal={str(journal)!r}, save_interval=0).close()
print("mapped:", mapped)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)

    assert done.stdout.endswith("\nmapped: []\n"), done.stderr


def test_the_same_journal_with_a_hole_gives_the_same_run_json_twice(journal, unreadable):
    unreadable.append((200 * 512, 201 * 512))
    path = journal.with_suffix(".json")

    compact(journal)
    first = path.read_bytes()
    compact(journal)

    assert path.read_bytes() == first
