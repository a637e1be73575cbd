"""Text to tokens: once, whole or not at all, and with errors that name the file."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

from trainer import corpus, prepare, tokenizer
from trainer.data import Dataset
from trainer.prepare import main


def prepared(tmp_path, input, tokenizer="bytes", text_column="text"):
    return prepare.prepare(
        tmp_path / "data", input=str(input), text_column=text_column, tokenizer=tokenizer
    )


def text_of(folder, split):
    """The documents of a split, decoded with the tokenizer that lies beside it."""
    meta = json.loads((folder / "meta.json").read_text())
    tokens = np.fromfile(folder / f"{split}.bin", meta["dtype"]).tolist()
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
    monkeypatch.setattr(prepare, "PIECE_CHARACTERS", 7)
    monkeypatch.setattr(prepare, "BATCH_CHARACTERS", 20)
    text = "".join(f"line {i}\n" for i in range(100))
    (tmp_path / "book.txt").write_text(text)

    folder = prepared(tmp_path, tmp_path / "book.txt")

    assert text_of(folder, "train") + text_of(folder, "val") == [text[:711], text[711:]]


def test_parquet_jsonl_and_text_lie_in_one_folder(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    parquet.write_table(pyarrow.table({"text": ["from parquet", None]}), source / "a.parquet")
    (source / "b.jsonl").write_text('{"text": "from jsonl"}\n\n')
    (source / "c.txt").write_text("from text")
    (source / ".hidden").write_bytes(b"\xff")

    found = list(corpus.open_input(source, "text").documents())

    assert found == ["from parquet", "from jsonl", "from text"]


def test_what_was_prepared_is_found_again(tmp_path, books, monkeypatch):
    first = prepared(tmp_path, books)
    monkeypatch.setattr(prepare, "write_dataset", None)

    assert prepared(tmp_path, books) == first


def test_another_byte_of_text_or_another_tokenizer_is_another_folder(tmp_path):
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

    for name in ("train.bin", "val.bin", "tokenizer.json", "meta.json"):
        assert (one / name).read_bytes() == (two / name).read_bytes()


@pytest.mark.parametrize("at_sync", range(5))
def test_killed_midway_it_leaves_nothing_that_is_trusted(tmp_path, books, at_sync):
    """SIGKILL at each of the moments before the folder gets its name; the next one does it all."""
    child = os.fork()
    if child == 0:
        left = [at_sync]

        def sync_or_die(path):
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left[0] -= 1

        prepare.sync = sync_or_die
        prepared(tmp_path, books)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert not list((tmp_path / "data").glob("books*"))

    folder = prepared(tmp_path, books)

    assert len(Dataset.open(folder, block_size=16).train) > 10_000
    assert [p.name for p in (tmp_path / "data").iterdir() if p.is_dir()] == [folder.name]


def refusal(tmp_path, input, **more):
    with pytest.raises(ValueError) as refused:  # noqa: PT011  # each caller checks the words
        prepared(tmp_path, input, **more)
    left = tmp_path / "data"
    assert not left.exists() or not [path for path in left.iterdir() if path.is_dir()]
    return str(refused.value)


def test_a_missing_input_is_named(tmp_path):
    assert "nowhere: there is no such file or folder" in refusal(tmp_path, tmp_path / "nowhere")


def test_an_empty_input_is_named(tmp_path):
    (tmp_path / "empty.txt").touch()

    assert "empty.txt: it is empty" in refusal(tmp_path, tmp_path / "empty.txt")


def test_an_input_without_text_is_named(tmp_path):
    (tmp_path / "blank.jsonl").write_text("\n\n\n")

    assert "blank.jsonl: there is no text in it" in refusal(tmp_path, tmp_path / "blank.jsonl")


def test_a_wrong_column_is_named_with_the_right_ones(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "x"}\n{"content": "x", "id": 1}\n')
    parquet.write_table(pyarrow.table({"body": ["x"]}), tmp_path / "b.parquet")

    jsonl = refusal(tmp_path, tmp_path / "a.jsonl")
    table = refusal(tmp_path, tmp_path / "b.parquet")

    assert "a.jsonl, line 2: no field 'text', there is content, id; name" in jsonl
    assert "b.parquet: no column 'text', there is body; name the right one" in table


def test_a_line_that_is_not_json_is_named(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "x"}\n{"text": \n')

    assert "a.jsonl, line 2: not JSON" in refusal(tmp_path, tmp_path / "a.jsonl")


def test_a_field_that_is_not_text_is_named(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": 5}\n')

    assert "line 1: the field 'text' is not text" in refusal(tmp_path, tmp_path / "a.jsonl")


def test_a_byte_that_is_not_utf8_is_named_with_its_line(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"good\nbad \xff\n")
    (tmp_path / "b.jsonl").write_bytes(b'{"text": "\xff"}\n')

    assert "a.txt, line 2, byte 9: not UTF-8" in refusal(tmp_path, tmp_path / "a.txt")
    assert "b.jsonl, line 1, byte 10: not UTF-8" in refusal(tmp_path, tmp_path / "b.jsonl")


def test_a_file_that_only_calls_itself_parquet_is_named(tmp_path):
    (tmp_path / "a.parquet").write_text("no parquet")

    answer = refusal(tmp_path, tmp_path / "a.parquet")

    assert "a.parquet: it cannot be read as Parquet" in answer


@pytest.mark.parametrize("name", ["gpt5", "bpe", "bpe:", "bpe:ten", "bpe:256", "bpe:-300"])
def test_an_unknown_tokenizer_is_refused_before_any_work(tmp_path, name):
    assert f"--tokenizer={name}: it takes bytes" in refusal(tmp_path, "nowhere", tokenizer=name)


def test_parquet_without_pyarrow_says_what_to_install(tmp_path, monkeypatch):
    parquet.write_table(pyarrow.table({"text": ["x"]}), tmp_path / "a.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)

    assert "pip install pyarrow" in refusal(tmp_path, tmp_path / "a.parquet")


def test_gpt2_without_a_network_says_what_to_do(tmp_path, books, monkeypatch):
    def offline(name):
        raise ConnectionError

    monkeypatch.setattr(tokenizer.tiktoken, "get_encoding", offline)

    assert "--tokenizer=bpe:4096" in refusal(tmp_path, books, tokenizer="gpt2")


def test_the_python_library_is_there_and_holds_no_tests():
    library = corpus.python_library()

    names = {path.relative_to(library.root).as_posix() for path in library.files}
    assert {"json/decoder.py", "ast.py"} <= names
    assert not [name for name in names if "site-packages/" in name or "/tests/" in name]
    assert library.size_bytes > 5_000_000


def test_the_command_prints_the_folder_and_refuses_in_one_line(tmp_path, books, capsys):
    argv = [f"--data_dir={tmp_path}", "--tokenizer=bytes"]

    assert main([*argv, f"--input={books}"]) == 0
    assert f"{tmp_path}/{books.name}-bytes-" in capsys.readouterr().out
    assert main([*argv, "--input=nowhere"]) == 1
    assert capsys.readouterr().err == (
        "prepare.py: --input=nowhere: there is no such file or folder\n"
    )


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
    said = [process.communicate(timeout=60)[0] for process in both]

    assert said[0] == said[1]
    assert [process.returncode for process in both] == [0, 0]
