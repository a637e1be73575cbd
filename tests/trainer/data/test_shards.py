"""Shards: the same bytes with any number of threads, and after any number of kills."""

import errno
import json
import os
import random
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from trainer import prepare
from trainer.data import pieces, shards
from trainer.data.dataset import Dataset
from trainer.data.tokenizer import build_tokenizer

SHARD_CHARACTERS = 7_000  # six parts, from the books' 37,000


def write_shards(data_dir, input, *, report=lambda line: None, n_threads=2):
    """With the tokenizer `bytes`: BPE training uses threads, which a fork does not copy."""
    return prepare.prepare(
        data_dir,
        input=str(input),
        text_column="text",
        tokenizer="bytes",
        report=report,
        n_threads=n_threads,
    )


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def tokens_in(folder):
    opened = Dataset.open(folder, block_size=8)
    return [split.window(0, len(split)).tolist() for split in (opened.train, opened.val)]


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(shards, "SHARD_CHARACTERS", SHARD_CHARACTERS)
    monkeypatch.setattr(pieces, "GROUP_CHARACTERS", 1_000)
    monkeypatch.setattr(prepare, "RACY_NS", 0)  # the books were written just now


@pytest.fixture
def whole(tmp_path, books):
    """The files of an uninterrupted process, with one thread."""
    return contents(write_shards(tmp_path / "whole", books, n_threads=1))


def in_a_child(action):
    """The exit status of a forked process; it may be killed."""
    child = os.fork()
    if child == 0:
        action()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def killed_at_sync(number, data_dir, books):
    """Prepare, and die just before the `number`-th sync; False: there were fewer."""

    def act():
        left = [number]

        def or_die(sync):
            def call(descriptor):
                if left[0] == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                left[0] -= 1
                sync(descriptor)

            return call

        os.fsync, os.fdatasync = or_die(os.fsync), or_die(os.fdatasync)
        write_shards(data_dir, books)

    return in_a_child(act) == -signal.SIGKILL


def test_there_are_several_shards_and_each_has_its_length_and_checksum(whole):
    listed = json.loads(whole["meta.json"])["shards"]

    assert len(listed["train"]) > 4
    assert {shard["file"] for split in listed for shard in listed[split]} == {
        name for name in whole if name.endswith(".bin")
    }


def test_killed_before_any_sync_it_continues_to_the_same_bytes(tmp_path, books, monkeypatch):
    """At every sync of a file or a folder, and at the rename at the end."""
    monkeypatch.setattr(shards, "SHARD_CHARACTERS", 20_000)  # two parts
    whole = contents(write_shards(tmp_path / "whole", books, n_threads=1))
    number = 0
    while killed_at_sync(number, tmp_path / str(number), books):
        data_dir = tmp_path / str(number)
        trusted = list(data_dir.glob("books*"))
        folder = write_shards(data_dir, books)

        assert contents(folder) == whole
        assert trusted in ([], [folder])
        assert [path for path in data_dir.iterdir() if path.is_dir()] == [folder]
        number += 1
    assert number == 20


def test_killed_repeatedly_it_still_finishes(tmp_path, books, whole):
    """Each process makes eight syncs: one shard of each split, and the manifest."""
    n_kills = 0
    while killed_at_sync(8, tmp_path / "data", books):
        n_kills += 1
        assert n_kills < 20, "it begins anew each time"

    assert contents(write_shards(tmp_path / "data", books)) == whole
    assert n_kills > 3


def test_killed_at_any_moment_it_continues_to_the_same_bytes(tmp_path, books, whole):
    kill_at_random_moments(tmp_path, books, whole, n_rounds=8)


def kill_at_random_moments(tmp_path, books, whole, n_rounds):
    chance = random.Random(0)
    n_killed = 0
    for round in range(n_rounds):
        data_dir = tmp_path / str(round)
        child = os.fork()
        if child == 0:
            write_shards(data_dir, books)
            os._exit(0)
        time.sleep(chance.uniform(0, 0.1))
        os.kill(child, signal.SIGKILL)
        n_killed += os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0

        assert contents(write_shards(data_dir, books)) == whole
    assert n_killed > 0


@pytest.mark.slow  # pytest -n 0 -m slow tests/trainer/data/test_shards.py
def test_killed_at_any_moment_with_many_rounds(tmp_path, books, whole):
    kill_at_random_moments(tmp_path, books, whole, n_rounds=300)


def half_done(data_dir, books):
    """A partial folder left by a killed process, and its manifest."""
    assert killed_at_sync(22, data_dir, books)
    (partial,) = data_dir.glob(".books*.partial")
    return partial, json.loads((partial / "manifest.json").read_text())


def test_finished_shards_are_not_written_again(tmp_path, books):
    partial, manifest = half_done(tmp_path, books)
    before = {path.name: path.stat().st_ino for path in (partial / "data").glob("*.bin")}
    finished = [part["train"]["file"] for part in manifest["parts"]]
    reports = []

    folder = write_shards(tmp_path, books, report=reports.append)

    assert len(finished) >= 2
    assert reports[0] == f"continuing after {len(finished)} finished parts"
    assert all((folder / name).stat().st_ino == before[name] for name in finished)


def test_files_that_the_manifest_does_not_list_are_removed(tmp_path, books, whole):
    """Such as a shard that is half written, or one of another version."""
    partial, _ = half_done(tmp_path, books)
    (partial / "data" / "val.099.bin").write_bytes(b"of another version")

    assert contents(write_shards(tmp_path, books)) == whole


def damaged(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("name", ["train.000.bin", "train.001.bin", "tokenizer.json"])
@pytest.mark.parametrize("harm", [damaged, Path.unlink, lambda path: os.truncate(path, 9)])
def test_damaged_files_are_written_again(tmp_path, books, whole, name, harm):
    partial, _ = half_done(tmp_path, books)
    harm(partial / "data" / name)

    assert contents(write_shards(tmp_path, books)) == whole


@pytest.mark.parametrize("manifest", ["", "{", "[]", "{}", '{"tokenizer": 1, "parts": 2}'])
def test_an_invalid_manifest_starts_from_the_beginning(tmp_path, books, whole, manifest):
    partial, _ = half_done(tmp_path, books)
    (partial / "manifest.json").write_text(manifest)
    (partial / "data" / "stray.bin").write_bytes(b"of another version")

    assert contents(write_shards(tmp_path, books)) == whole


def test_after_a_full_disk_finished_shards_are_kept(tmp_path, books, whole, monkeypatch, capsys):
    def full(path, sync=shards.sync):
        if path.name == "train.003.bin":
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        sync(path)

    argv = [f"--data_dir={tmp_path}", f"--input={books}", "--tokenizer=bytes"]
    with monkeypatch.context() as patch:
        patch.setattr(shards, "sync", full)
        assert prepare.main(argv) == 1
    assert "No space left on device" in capsys.readouterr().err

    assert prepare.main(argv) == 0

    assert "continuing after 3 finished parts" in capsys.readouterr().err
    (folder,) = tmp_path.glob("books*")
    assert contents(folder) == whole


@settings(max_examples=12, deadline=None)
@given(
    shard_characters=st.integers(1, 50_000),
    group_characters=st.integers(1, 50_000),
    n_threads=st.integers(1, 4),
)
def test_any_size_of_shards_and_any_number_of_threads_give_the_same_tokens(
    tmp_path_factory, books, shard_characters, group_characters, n_threads
):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "SHARD_CHARACTERS", shard_characters)
        patch.setattr(pieces, "GROUP_CHARACTERS", group_characters)
        other = write_shards(tmp_path_factory.mktemp("other"), books, n_threads=n_threads)

    documents = [path.read_bytes() for path in sorted(books.iterdir())]
    splits = [documents[:9] + documents[10:19], [documents[9], documents[19]]]
    assert tokens_in(other) == [[id for d in split for id in [*d, 256]] for split in splits]


def test_threads_give_the_same_bytes_as_one(tmp_path, books, whole):
    assert contents(write_shards(tmp_path, books, n_threads=4)) == whole


def test_results_are_in_order_and_the_input_is_read_only_a_little_ahead():
    read, ahead = [], []

    def items():
        for i in range(100):
            read.append(i)
            yield i

    def slow_at_first(i):
        time.sleep(0.02 if i < 3 else 0)
        return i

    results = []
    for result in shards.in_order(slow_at_first, items(), 3):
        results.append(result)
        ahead.append(len(read) - len(results))

    assert results == list(range(100))
    assert max(ahead) <= 6


@given(text=st.text(alphabet="ab \n", max_size=400), chunk=st.integers(1, 50))
@example(text="a" * 12 + "\n", chunk=50)  # the document ends where a piece might
def test_pieces_do_not_depend_on_how_a_document_is_read(text, chunk):
    """Its pieces add up to the text; each ends with a line or has the maximum length."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pieces, "PIECE_CHARACTERS", 10)
        patch.setattr(pieces, "LONGEST_PIECE_CHARACTERS", 40)
        read = (text[i : i + chunk] for i in range(0, len(text), chunk))
        cut = list(pieces.pieces([("train", read)]))
        at_once = list(pieces.pieces([("train", iter([text]))]))

    assert cut == at_once
    assert "".join(piece.text for piece in cut) == text
    assert [piece.ends_document for piece in cut] == [False] * (len(cut) - 1) + [True] * bool(cut)
    for piece in cut[:-1]:
        assert len(piece.text) == 40 or (piece.text.endswith("\n") and 10 < len(piece.text) <= 40)


def test_each_thread_has_its_own_tokenizer():
    made, together = [], threading.Barrier(2, timeout=30)

    def make():
        made.append(threading.get_ident())
        return build_tokenizer("bytes", [])

    encoder = shards.Encoder(make, np.dtype("<u2"))
    made.clear()  # this thread has one, too

    def encoded(text):
        together.wait()  # both threads are at it
        return encoder([pieces.Piece("train", text, True)]).tokens["train"].tolist()

    found = list(shards.in_order(encoded, ["ab", "c"], 2))

    assert found == [[97, 98, 256], [99, 256]]
    assert len(set(made)) == len(made) == 2
