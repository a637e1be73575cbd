"""`runs note`, `runs tag` and `runs rename`: kept as events, shown in the run, nothing edited."""

import orjson
import pytest

import eventlog
from tests.tools.conftest import make_run
from tools.cli import main


def journal_of(path):
    return orjson.loads(path.with_suffix(".json").read_bytes())["journal"]


def test_a_note_is_in_the_run_json_and_the_journal_keeps_its_bytes(tmp_path, capsys):
    path = make_run(tmp_path, "it")
    before = path.read_bytes()

    assert main(["note", str(path.with_suffix(".json")), "lr", "too high"]) == 0

    (note,) = journal_of(path)["notes"]
    assert note["text"] == "lr too high"
    assert path.read_bytes() == before


def test_tags_are_added_and_removed_and_printed(tmp_path, capsys):
    path = make_run(tmp_path, "it")
    for tags, left in [
        (["+good", "paper"], "good\npaper\n"),
        (["-good"], "paper\n"),
        ([], "paper\n"),
    ]:
        assert main(["tag", str(path), *tags]) == 0
        assert capsys.readouterr().out == left

    assert journal_of(path)["tags"] == ["paper"]


def test_a_live_run_is_tagged_while_it_is_written(zoo, capsys):
    assert main(["tag", str(zoo / "live.jsonl"), "+watch"]) == 0
    assert main(["ls", "--json", "--where", "tags like '%watch%'", str(zoo)]) == 0

    tagged, row = capsys.readouterr().out.splitlines()
    assert tagged == "watch"
    assert orjson.loads(row)["live"]


@pytest.mark.parametrize("tags", [["two words"], ["+"], ["-"], ["++x"], ["a,b"], ["+x", "-x"]])
def test_an_invalid_tag_is_refused_and_nothing_is_written(tmp_path, capsys, tags):
    path = make_run(tmp_path, "it")

    assert main(["tag", str(path), *tags]) == 2

    assert capsys.readouterr().err.count("\n") == 1
    assert list(tmp_path.glob("*.segment")) == []


@pytest.mark.parametrize("command", [["note", "words"], ["tag", "+x"]])
def test_a_note_or_tag_on_a_run_without_a_journal_is_refused(zoo, capsys, command):
    verb, word = command

    assert main([verb, str(zoo / "guide.json"), word]) == 1

    assert "has no journal guide.jsonl beside it" in capsys.readouterr().err


def test_a_run_named_by_its_beginning_gets_the_note(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with eventlog.open_run("out", run_name="mine", save_interval=0):
        pass

    assert main(["note", "min", "here"]) == 0

    (found,) = (tmp_path / "out").glob("mine_*.json")
    assert [note["text"] for note in journal_of(found)["notes"]] == ["here"]


def test_a_renamed_run_is_listed_shown_and_found_by_its_new_name_and_by_its_old_one(
    tmp_path, capsys
):
    path = make_run(tmp_path, "old", [3.0, 2.0])

    assert main(["rename", str(path), "the best"]) == 0

    capsys.readouterr()
    for argv in (["ls", str(tmp_path)], ["show", str(tmp_path / "the best")], ["show", str(path)]):
        assert main(argv) == 0
        assert "the best" in capsys.readouterr().out
    assert main(["rename", str(tmp_path / "the best"), ""]) == 0
    assert main(["ls", str(tmp_path)]) == 0
    assert "the best" not in capsys.readouterr().out


def test_a_new_name_is_that_of_its_run_alone_though_others_begin_with_it(tmp_path, capsys):
    make_run(tmp_path, "r1_2026", [3.0, 2.5])
    path = make_run(tmp_path, "other", [3.0, 1.5])
    assert main(["rename", str(path), "r1_2"]) == 0
    assert main(["note", str(tmp_path / "r1_2"), "mine"]) == 0

    assert [note["text"] for note in journal_of(path)["notes"]] == ["mine"]


def test_a_new_name_that_another_run_has_before_its_time_is_ambiguous(tmp_path, capsys):
    make_run(tmp_path, "r0_20261201_063727", [3.0, 2.5])
    path = make_run(tmp_path, "other", [3.0, 1.5])
    assert main(["rename", str(path), "r0"]) == 0

    assert main(["note", str(tmp_path / "r0"), "mine"]) == 2

    assert "ambiguous: matches 2 runs" in capsys.readouterr().err
    assert journal_of(path)["notes"] == []


@pytest.mark.parametrize("name", [" x", "a\nb", "\x1b[31mred", "x" * 201])
def test_a_name_that_cannot_be_shown_is_refused(tmp_path, capsys, name):
    path = make_run(tmp_path, "old", [3.0, 2.0])

    assert main(["rename", str(path), name]) == 2

    assert "a name must be" in capsys.readouterr().err
