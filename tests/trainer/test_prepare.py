"""Text to tokens: once, completely or not at all, with errors that name the file."""

import gzip
import hashlib
import json
import os
import re
import subprocess
import sys

import numpy as np
import pyarrow
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from trainer import prepare
from trainer.data import corpus, pieces, tokenizer
from trainer.prepare import main


def prepared(tmp_path, input, tokenizer="bytes", text_column="text"):
    return prepare.prepare(
        tmp_path / "data", input=str(input), text_column=text_column, tokenizer=tokenizer
    )


def text_of(folder, split):
    """The documents of a split, decoded with the tokenizer in the folder."""
    meta = json.loads((folder / "meta.json").read_text())
    files = [folder / shard["file"] for shard in meta["shards"][split]]
    tokens = [id for file in files for id in np.fromfile(file, meta["dtype"]).tolist()]
    encoding = tokenizer.from_json(json.loads((folder / "tokenizer.json").read_text()))
    return encoding.decode(tokens).split(tokenizer.END_OF_TEXT)[:-1]


@pytest.mark.parametrize("name", ["bytes", "bpe:300"])
def test_text_comes_back_as_it_was(tmp_path, name):
    documents = [f"Dokument {i}: äöü 漢字 🙂\n\tdef f(): return {i}\n" * 5 for i in range(12)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": d}) + "\n" for d in documents))

    folder = prepared(tmp_path, tmp_path / "a.jsonl", name)

    assert text_of(folder, "val") == [documents[9]]
    assert text_of(folder, "train") == documents[:9] + documents[10:]


def test_one_book_gives_its_last_tenth_for_validation(tmp_path):
    (tmp_path / "book.txt").write_text("0123456789" * 100)

    folder = prepared(tmp_path, tmp_path / "book.txt")

    assert text_of(folder, "train") == ["0123456789" * 90]
    assert text_of(folder, "val") == ["0123456789" * 10]


def test_a_long_document_is_encoded_in_pieces_and_is_still_one_document(tmp_path, monkeypatch):
    monkeypatch.setattr(pieces, "PIECE_CHARACTERS", 7)
    monkeypatch.setattr(pieces, "GROUP_CHARACTERS", 20)
    monkeypatch.setattr(corpus, "CHUNK_BYTES", 11)
    text = "".join(f"line {i}\n" for i in range(100))
    (tmp_path / "book.txt").write_text(text)

    folder = prepared(tmp_path, tmp_path / "book.txt")

    assert text_of(folder, "train") + text_of(folder, "val") == [text[:711], text[711:]]


def texts(path, column="text"):
    documents = corpus.open_input(path, column).documents()
    return ["".join(corpus.chunks(document)) for document in documents]


def test_parquet_jsonl_and_text_lie_in_one_folder(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    parquet.write_table(pyarrow.table({"text": ["from parquet", None]}), source / "a.parquet")
    (source / "b.jsonl").write_text('{"text": "from jsonl"}\n\n')
    (source / "c.txt").write_text("from text")
    (source / ".hidden").write_bytes(b"\xff")

    found = texts(source)

    assert found == ["from parquet", "from jsonl", "from text"]


def test_prepared_data_is_reused(tmp_path, books, monkeypatch):
    first = prepared(tmp_path, books)
    monkeypatch.setattr(prepare, "write_dataset", None)

    assert prepared(tmp_path, books) == first


def test_different_text_or_tokenizer_gives_another_folder(tmp_path):
    path = tmp_path / "book.txt"
    path.write_text("one text " * 50)
    first = prepared(tmp_path, path)
    other_tokenizer = prepared(tmp_path, path, "bpe:260")
    path.write_text("one text " * 49 + "one test ")
    other_text = prepared(tmp_path, path)

    assert len({first, other_tokenizer, other_text}) == 3


def test_training_a_tokenizer_twice_gives_the_same_bytes(tmp_path, books):
    one = prepared(tmp_path / "one", books, "bpe:300")
    two = prepared(tmp_path / "two", books, "bpe:300")

    for name in ("train.000.bin", "val.000.bin", "tokenizer.json", "meta.json"):
        assert (one / name).read_bytes() == (two / name).read_bytes()


def test_prepared_data_does_not_change_between_versions(tmp_path):
    """If these change, runs of earlier versions cannot be resumed exactly."""
    lines = "".join(f"line {i}: {i * i} {chr(200 + i % 800)}\n" for i in range(60_000))
    (tmp_path / "book.txt").write_text(lines, "utf-8")  # more than one piece

    folder = prepared(tmp_path, tmp_path / "book.txt", "bpe:400")

    digests = {
        split: hashlib.sha256((folder / f"{split}.000.bin").read_bytes()).hexdigest()[:12]
        for split in ("train", "val")
    }
    assert folder.name == "book-bpe400-36ae77f0147b"
    assert digests == {"train": "b0bc5e14e640", "val": "c28da1680849"}


def refusal(tmp_path, input, **more):
    with pytest.raises(ValueError) as refused:  # noqa: PT011  # each caller checks the message
        prepared(tmp_path, input, **more)
    left = tmp_path / "data"
    assert not left.exists() or not [path for path in left.iterdir() if path.is_dir()]
    return str(refused.value)


def test_a_missing_input_is_an_error_that_names_it(tmp_path):
    assert "nowhere: no such file or folder" in refusal(tmp_path, tmp_path / "nowhere")


def test_an_empty_input_is_an_error_that_names_it(tmp_path):
    (tmp_path / "empty.txt").touch()

    assert "empty.txt: is empty" in refusal(tmp_path, tmp_path / "empty.txt")


def test_an_input_without_text_is_an_error_that_names_it(tmp_path):
    (tmp_path / "blank.jsonl").write_text("\n\n\n")

    assert "blank.jsonl: contains no text" in refusal(tmp_path, tmp_path / "blank.jsonl")


def test_a_wrong_column_is_an_error_that_lists_the_columns(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "x"}\n{"content": "x", "id": 1}\n')
    parquet.write_table(pyarrow.table({"body": ["x"]}), tmp_path / "b.parquet")

    jsonl = refusal(tmp_path, tmp_path / "a.jsonl")
    table = refusal(tmp_path, tmp_path / "b.parquet")

    assert "a.jsonl, line 2: no field 'text', found content, id; give" in jsonl
    assert "b.parquet: no column 'text', found body; give the right one" in table


def test_a_line_that_is_not_json_is_an_error_that_names_it(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "x"}\n{"text": \n')

    assert "a.jsonl, line 2: not JSON" in refusal(tmp_path, tmp_path / "a.jsonl")


def test_a_field_that_is_not_text_is_an_error_that_names_it(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": 5}\n')

    assert "line 1: the field 'text' is not text" in refusal(tmp_path, tmp_path / "a.jsonl")


def test_invalid_utf8_is_an_error_that_names_line_and_byte(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"good\nbad \xff\n")
    (tmp_path / "b.jsonl").write_bytes(b'{"text": "\xff"}\n')

    assert "a.txt, line 2, byte 9: not UTF-8" in refusal(tmp_path, tmp_path / "a.txt")
    assert "b.jsonl, line 1, byte 10: not UTF-8" in refusal(tmp_path, tmp_path / "b.jsonl")


def write_packed(path, content):
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(content))
    else:
        path.write_bytes(pyarrow.compress(content, codec="zstd", asbytes=True))


@pytest.mark.parametrize("packing", ["gz", "zst"])
def test_compressed_files_are_decompressed(tmp_path, packing):
    write_packed(tmp_path / f"a.jsonl.{packing}", b'{"text": "one"}\n{"text": "two"}\n')
    write_packed(tmp_path / f"b.txt.{packing}", "drei: äöü\n".encode())

    assert texts(tmp_path) == ["one", "two", "drei: äöü\n"]


@pytest.mark.parametrize("packing", ["gz", "zst"])
def test_a_truncated_compressed_file_is_an_error_that_names_the_place(tmp_path, packing):
    lines = b"".join(b'{"text": "%s"}\n' % os.urandom(40).hex().encode() for _ in range(9000))
    path = tmp_path / f"a.jsonl.{packing}"
    write_packed(path, lines)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    assert re.search(r"a\.jsonl\.\w+, after line [\d,]{4,}: cannot", refusal(tmp_path, path))


def test_a_damaged_row_group_is_an_error_that_names_it(tmp_path):
    path = tmp_path / "a.parquet"
    rows = [os.urandom(100).hex() for _ in range(4000)]
    parquet.write_table(
        pyarrow.table({"text": rows}), path, row_group_size=1000, write_page_checksum=True
    )
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) * 5 // 8] ^= 1
    path.write_bytes(damaged)

    answer = refusal(tmp_path, path)

    assert "a.parquet, row group 2: cannot be read as Parquet" in answer
    assert "\n" not in answer


def test_all_rows_of_all_groups_are_read_in_order(tmp_path, monkeypatch):
    monkeypatch.setattr(corpus, "PARQUET_ROWS", 7)
    rows = [f"row {i}" for i in range(100)]
    parquet.write_table(
        pyarrow.table({"id": range(100), "text": rows}), tmp_path / "a.parquet", row_group_size=30
    )

    assert texts(tmp_path / "a.parquet") == rows


def test_a_lone_surrogate_is_replaced(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "a \\ud800 b"}\n')

    folder = prepared(tmp_path, tmp_path / "a.jsonl", "bpe:300")

    assert "".join(text_of(folder, "train")) == "a \ufffd b"


def test_a_line_nested_too_deeply_is_not_json(tmp_path):
    (tmp_path / "a.jsonl").write_text("[" * 100_000)

    assert "a.jsonl, line 1: not JSON" in refusal(tmp_path, tmp_path / "a.jsonl")


@given(content=st.text(max_size=60), chunk_bytes=st.integers(1, 9))
def test_any_text_is_read_completely_in_chunks_of_any_size(tmp_path_factory, content, chunk_bytes):
    path = tmp_path_factory.mktemp("text") / "a.txt"
    path.write_bytes(content.encode())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(corpus, "CHUNK_BYTES", chunk_bytes)
        read = "".join(corpus.read_text(path))

    assert read == content


@given(good=st.binary(max_size=30), chunk_bytes=st.integers(1, 9))
def test_any_byte_that_is_not_utf8_is_named_where_a_whole_reading_finds_it(
    tmp_path_factory, good, chunk_bytes
):
    content = good + b"\xff"
    path = tmp_path_factory.mktemp("text") / "a.txt"
    path.write_bytes(content)
    with pytest.raises(UnicodeDecodeError) as whole:
        content.decode()
    at = whole.value.start
    line = content.count(b"\n", 0, at) + 1

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(corpus, "CHUNK_BYTES", chunk_bytes)
        with pytest.raises(ValueError, match=f"line {line}, byte {at}: not UTF-8"):
            list(corpus.read_text(path))


def test_a_sample_has_a_proportional_share_of_every_file(tmp_path):
    for name, n in (("a", 4000), ("b", 1000)):
        (tmp_path / f"{name}.jsonl").write_text(f'{{"text": "{name * 90}"}}\n' * n)
    (tmp_path / "c.txt").write_text("c" * 500_000)

    sample = "".join(corpus.open_input(tmp_path, "text").sample(10_000))

    assert 8_000 < len(sample.replace("c", "")) < 12_000 or "c" in sample
    assert sample.count("a") > 3 * sample.count("b") > 0


def test_a_sample_larger_than_the_text_is_all_of_it(tmp_path, books):
    whole = [path.read_text() for path in sorted(books.iterdir())]

    assert list(corpus.open_input(books, "text").sample(10**9)) == whole


def test_a_file_that_is_not_parquet_is_an_error_that_names_it(tmp_path):
    (tmp_path / "a.parquet").write_text("no parquet")

    answer = refusal(tmp_path, tmp_path / "a.parquet")

    assert "a.parquet: cannot be read as Parquet" in answer


@pytest.mark.parametrize("name", ["gpt5", "bpe", "bpe:", "bpe:ten", "bpe:256", "bpe:-300"])
def test_an_unknown_tokenizer_is_an_error_before_any_work(tmp_path, name):
    assert f"--tokenizer={name}: must be bytes" in refusal(tmp_path, "nowhere", tokenizer=name)


def test_parquet_without_pyarrow_says_what_to_install(tmp_path, monkeypatch):
    parquet.write_table(pyarrow.table({"text": ["x"]}), tmp_path / "a.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)

    assert "pip install pyarrow" in refusal(tmp_path, tmp_path / "a.parquet")


def test_gpt2_without_a_network_says_what_to_do(tmp_path, books, monkeypatch):
    def offline(name):
        raise ConnectionError

    monkeypatch.setattr(tokenizer.tiktoken, "get_encoding", offline)

    assert "--tokenizer=bpe:4096" in refusal(tmp_path, books, tokenizer="gpt2")


def test_the_corpus_of_the_python_library_has_no_tests():
    library = corpus.python_library()

    names = {path.relative_to(library.root).as_posix() for path in library.files}
    assert {"json/decoder.py", "ast.py"} <= names
    assert not [name for name in names if "site-packages/" in name or "/tests/" in name]
    assert library.size_bytes > 5_000_000


def test_the_digest_of_unchanged_text_is_cached(tmp_path, books, monkeypatch):
    monkeypatch.setattr(prepare, "RACY_NS", 0)
    first = prepared(tmp_path, books)
    monkeypatch.setattr(corpus.Corpus, "sha256", None)

    assert prepared(tmp_path, books) == first


def test_changed_text_with_the_same_size_and_mtime_is_detected(tmp_path, monkeypatch):
    monkeypatch.setattr(prepare, "RACY_NS", 0)
    book = tmp_path / "book.txt"
    book.write_text("one text " * 50)
    first, before = prepared(tmp_path, book), book.stat()
    book.write_text("two text " * 50)
    os.utime(book, ns=(before.st_atime_ns, before.st_mtime_ns))

    assert prepared(tmp_path, book) != first


def test_the_digest_of_text_just_written_is_not_cached(tmp_path):
    """Within one tick of the file system's clock a second change keeps the mtime."""
    (tmp_path / "book.txt").write_text("one text " * 50)

    prepared(tmp_path, tmp_path / "book.txt")

    assert not list((tmp_path / "data").glob(".*.sha256"))


def test_text_that_is_modified_while_it_is_read_is_an_error(tmp_path, monkeypatch):
    book = tmp_path / "book.txt"
    book.write_text("one text " * 50)
    learn = prepare.train_tokenizer

    def learn_while_another_writes(*arguments):
        book.write_text("two text " * 50)
        return learn(*arguments)

    monkeypatch.setattr(prepare, "train_tokenizer", learn_while_another_writes)

    assert "book.txt was modified while it was read" in refusal(tmp_path, book)


def test_the_command_prints_its_speed(tmp_path, books, capsys):
    main([f"--data_dir={tmp_path}", f"--input={books}", "--tokenizer=bytes"])

    assert re.search(
        r"encoded 0\.0 million .* tokens per second, on \d+ thr", capsys.readouterr().err
    )


def test_verify_detects_one_wrong_bit(tmp_path, books, capsys):
    argv = [f"--data_dir={tmp_path}", f"--input={books}", "--tokenizer=bytes", "--verify=True"]
    assert main(argv) == 0
    (shard,) = tmp_path.glob("books*/val.000.bin")
    shard.write_bytes(bytes([shard.read_bytes()[0] ^ 1]) + shard.read_bytes()[1:])

    assert main(argv) == 1

    assert "damaged: val.000.bin: delete the folder" in capsys.readouterr().err


def test_the_command_prints_the_folder_or_a_one_line_error(tmp_path, books, capsys):
    argv = [f"--data_dir={tmp_path}", "--tokenizer=bytes"]

    assert main([*argv, f"--input={books}"]) == 0
    assert f"{tmp_path}/{books.name}-bytes-" in capsys.readouterr().out
    assert main([*argv, "--input=nowhere"]) == 1
    assert capsys.readouterr().err == ("prepare.py: --input=nowhere: no such file or folder\n")


def test_two_processes_at_once_prepare_once(tmp_path, books):
    command = [
        sys.executable,
        "-m",
        "trainer.prepare",
        f"--data_dir={tmp_path}",
        f"--input={books}",
        "--tokenizer=bytes",
    ]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [process.communicate(timeout=60)[0] for process in both]

    assert outputs[0] == outputs[1]
    assert [process.returncode for process in both] == [0, 0]
