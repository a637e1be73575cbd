"""A disk that cannot read a part of a journal: a real file system on a device with a real error.

The device is a file that was cut after one of the journal's blocks: the kernel returns EIO for
the later ones, as for a bad sector.
"""

import errno
import fcntl
import os
import struct
from pathlib import Path

import pytest

from eventlog.cli.main import main
from eventlog.cli.report import COMPLETE, LOSS
from eventlog.fold.load import load_run
from tests.durability.filesystems import Unavailable, ext4
from tests.eventlog.read.test_missing import iters, opening
from tests.strategies import SESSIONS

FIBMAP = 1
BLOCK_BYTES = 4096
A, *_ = SESSIONS


def block_on_device(fd, block):
    """The number of a file's block on its device."""
    return struct.unpack("i", fcntl.ioctl(fd, FIBMAP, struct.pack("i", block)))[0]


@pytest.fixture
def disk(tmp_path):
    try:
        with ext4(tmp_path, 64 << 20) as disk:
            yield disk
    except Unavailable as reason:
        pytest.skip(str(reason))


def test_a_journal_is_read_before_and_after_unreadable_bytes(disk, capsys):
    path = disk.path / "run.jsonl"
    data = opening() + iters(A, 1, 4000)
    path.write_bytes(data)
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)
    last = len(data) // BLOCK_BYTES - 3
    end = block_on_device(fd, last)
    if max(block_on_device(fd, k) for k in range(last)) > end:
        pytest.skip("the file system scattered the journal")
    try:
        os.truncate(disk.image, end * BLOCK_BYTES)
        Path("/proc/sys/vm/drop_caches").write_text("3")
        numbers = []
        try:
            os.pread(fd, BLOCK_BYTES, last * BLOCK_BYTES)
        except OSError as error:
            numbers.append(error.errno)
        if not numbers:
            pytest.skip("the device gives zeros for what its file does not have")
        assert numbers == [errno.EIO]

        codes = {c: main([c, str(path)]) for c in ("verify", "tail", "status", "cat")}
        run = load_run(path)
    finally:
        os.truncate(disk.image, 64 << 20)
        os.close(fd)

    assert codes == {"verify": LOSS, "tail": COMPLETE, "status": COMPLETE, "cat": COMPLETE}
    out = capsys.readouterr().out
    assert "unreadable" in out
    assert data[: last * BLOCK_BYTES].count(b"\n") - 1 <= len(run.training_iterations) < 4000
