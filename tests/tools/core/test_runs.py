"""Names -> runs: each way to name one, and its current content."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import eventlog
from tests.strategies import line
from tests.tools.conftest import BROKEN, GOLDEN, READABLE, make_run
from tools.core import runs
from tools.core.rows import row
from tools.core.runs import Refusal, find


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working folder with out/: alpha_1, alpha_2, alpha_2_2 and beta."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").mkdir()
    for name in ("alpha_1", "alpha_2", "alpha_2_2", "beta"):
        make_run(tmp_path / "out", name)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "stems"),
    [
        ("out", ["alpha_1", "alpha_2", "alpha_2_2", "beta"]),
        ("out/alpha*", ["alpha_1", "alpha_2", "alpha_2_2"]),
        ("out/beta.json", ["beta"]),
        ("out/beta.jsonl", ["beta"]),
        ("beta", ["beta"]),
        ("be", ["beta"]),
        ("out/be", ["beta"]),
        ("alpha_2", ["alpha_2"]),  # its whole name, though it begins another one
        ("alpha_2.json", ["alpha_2"]),
    ],
)
def test_a_run_is_named_by_folder_glob_path_name_or_beginning(here, name, stems):
    assert [path.stem for path in find([name])] == stems


def test_an_ambiguous_name_is_refused_with_the_runs_it_matches(here):
    with pytest.raises(Refusal) as refusal:
        find(["al"])

    assert str(refusal.value) == "al: ambiguous: matches 3 runs (alpha_1, alpha_2, alpha_2_2)"


@pytest.mark.parametrize("is_renamed", [False, True])
def test_the_name_that_a_run_was_begun_with_wins_over_names_that_begin_so(here, is_renamed):
    for stem in ("term_20261123_053310", "term_table_20261123_053312", "terminal"):
        make_run(here / "out", stem)
    if is_renamed:  # the name inside is the one of the run
        begun = eventlog.open_run("out", run_name="term", save_interval=0)
        begun.close()
        begun.journal_path.rename("out/copy.jsonl")
        for path in (here / "out").glob("term_2026*"):
            path.unlink()

    assert [path.stem for path in find(["term"])] == (
        ["copy"] if is_renamed else ["term_20261123_053310"]
    )


@pytest.mark.parametrize("name", ["gamma", "out/gamma", "nowhere/beta", "out/gamma*"])
def test_an_unknown_name_is_reported(here, name):
    with pytest.raises(FileNotFoundError, match=f"^{name.replace('*', '.')}: no "):
        find([name])


def test_a_renamed_file_is_found_by_the_name_inside(here):
    inside = eventlog.load_run("out/beta.json").run_name

    assert [path.stem for path in find([inside])] == ["beta"]


def test_a_run_named_twice_is_listed_once(here):
    assert len(find(["out", "out/beta.json", "out/b*"])) == 4


def test_in_a_folder_a_run_is_its_run_json_until_its_journal_or_a_note_is_later(here):
    before = find(["out"])[-1]
    eventlog.Annotator("out/beta.jsonl").log("note", text="its run JSON is not folded yet")
    with eventlog.open_run(journal="out/alpha_1.jsonl", from_iter=2, save_interval=0) as again:
        again.log_iter(2, 1.0)

    after = find(["out"])

    assert before.suffix == ".json"
    assert (after[0].name, after[-1].name) == ("alpha_1.jsonl", "beta.jsonl")


def test_a_copied_folder_is_read_by_its_run_jsons_though_its_journals_are_later(here):
    eventlog.annotate("out/beta.jsonl", "note", text="folded")
    for path in (here / "out").iterdir():
        if path.suffix != ".json":
            os.utime(path, (2e9, 2e9))
    eventlog.Annotator("out/alpha_1.jsonl").log("note", text="not folded")

    names = [path.name for path in find(["out"])]

    assert names == ["alpha_1.jsonl", "alpha_2.json", "alpha_2_2.json", "beta.json"]


def test_a_run_json_that_says_running_is_replaced_by_its_journal(here):
    """The machine went down: no compactor was left to fold the journal again."""
    with eventlog.open_run(save_interval=0, run_name="lost") as run:
        run.log_iter(0, 1.0)
        eventlog.compact(run.journal_path)
    lines = run.journal_path.read_bytes().splitlines(keepends=True)
    run.journal_path.write_bytes(b"".join(lines[:-1]))  # no close
    os.utime(run.run_path)

    assert b'"status": "running"' in run.run_path.read_bytes()
    assert [found.run.status for found in runs.load([run.run_path])] == ["interrupted"]
    assert [found.run.status for found in runs.glance([run.run_path])] == ["interrupted"]


def test_a_run_json_without_its_journal_is_not_running_for_ever(here):
    with eventlog.open_run(save_interval=0, run_name="left") as run:
        run.log_iter(0, 1.0)
        eventlog.compact(run.journal_path)
        as_it_ran = run.run_path.read_bytes()
    run.journal_path.rename(here / "elsewhere.jsonl")
    run.run_path.write_bytes(as_it_ran)

    (glanced,) = runs.glance([run.run_path])
    (loaded,) = runs.load([run.run_path])
    assert [glanced.run.status, loaded.run.status] == ["unknown", "unknown"]
    assert "is gone from here; last state as of 20" in loaded.run.journal["reason"]


def test_a_broken_run_json_beside_its_journal_costs_nothing(here):
    (here / "out" / "beta.json").write_bytes(b"\0" * 100)

    (found,) = runs.load(["out/beta.json"])

    assert (found.path.suffix, found.run.status) == (".jsonl", "completed")


def test_every_kind_of_file_is_a_run_or_has_an_error(zoo):
    found = {f.path.stem: f for f in runs.load([zoo])}

    assert {stem for stem, f in found.items() if f.run is not None} == READABLE
    assert {stem for stem, f in found.items() if f.error} == BROKEN
    assert [stem for stem, f in found.items() if f.is_live] == ["live"]
    assert all(f.error.startswith(str(f.path)) for f in found.values() if f.error)
    assert all("\n" not in f.error for f in found.values())
    for stem in ("large", "large_journal"):  # it was not read to its end to say so
        assert "nothing in the first 1,048,576 of its 200,000,000 bytes" in found[stem].error


def test_a_glance_at_any_file_agrees_with_reading_it_whole(zoo):
    glanced = [row(found) for found in runs.glance([zoo])]

    assert glanced == [row(found) for found in runs.load([zoo])]


def test_a_glance_reads_the_two_ends_of_a_run_json_and_not_its_middle(tmp_path):
    journal = make_run(tmp_path, "long", [5.0] * 2000)
    data = journal.with_suffix(".json").read_bytes()
    middle = len(data) // 2
    tmp_path.joinpath("hole.json").write_bytes(data[:middle] + b"\0" + data[middle + 1 :])

    found = runs.glance_at(tmp_path / "hole.json")

    assert (found.is_whole, found.run.summary["total_iterations"]) == (False, 2000)
    assert runs.load_at(tmp_path / "hole.json").run is None


@pytest.mark.parametrize("n_config", [0, 3_000])  # the second: its head has 90 kB
def test_a_glance_finds_config_and_journal_however_long_they_are(tmp_path, n_config):
    config = {f"a_rather_long_name_{i}": '\n  "training_iterations": [' for i in range(n_config)}
    journal = make_run(tmp_path, "wide", [5.0] * 300, **config)

    found = runs.glance_at(journal.with_suffix(".json"))

    assert not found.is_whole
    assert found.run.config == eventlog.load_run(journal).config


@given(cut=st.integers(0, 9_000), flip=st.integers(0, 9_000))
def test_no_cut_and_no_flipped_bit_makes_a_glance_raise(tmp_path_factory, cut, flip):
    data = bytearray((GOLDEN / "guide.json").read_bytes()[:cut])
    if data:
        data[flip % len(data)] ^= 1 << flip % 8
    path = tmp_path_factory.mktemp("damaged") / "guide.json"
    path.write_bytes(data)

    found = runs.glance_at(path)

    assert (found.run is None) == bool(found.error)


def test_a_name_of_several_runs_is_refused_where_one_is_needed(here):
    (here / "out" / "empty.json").touch()

    with pytest.raises(Refusal, match="out: must be one run, has 5"):
        runs.one("out")
    with pytest.raises(eventlog.UnreadableRun, match=r"empty\.json: not a run JSON"):
        runs.one("empty")


@pytest.mark.slow
def test_two_hundred_megabytes_of_real_run_are_listed_without_reading_them(tmp_path):
    """`pytest -m slow tests/tools/core/test_runs.py`: about 20 s."""
    journal = make_run(tmp_path, "long", [5.0, 4.0])
    small = journal.with_suffix(".json").read_bytes()
    head, mark, rest = small.partition(b'"training_iterations": [\n')
    line = b'    {"iter": %d, "loss": 4.25, "time_ms": 50.125, "mfu": 30.0},\n'
    with open(tmp_path / "huge.json", "wb") as file:
        file.write(head + mark)
        file.writelines(line % i for i in range(3_000_000))
        file.write(rest)
    assert (tmp_path / "huge.json").stat().st_size > 200_000_000

    found = runs.glance_at(tmp_path / "huge.json")

    assert (found.is_whole, found.run.summary["best_val_loss"]) == (False, 4.0)
    assert len(runs.load_at(tmp_path / "huge.json").run.training_iterations) == 3_000_002


def test_an_unreadable_file_is_reported(here):
    shutil.rmtree("out")
    os.mkdir("out")
    os.symlink("nowhere", "out/gone.json")
    os.mkdir("out/folder.json")

    assert find(["out"]) == []


@pytest.mark.parametrize("name", ["lr=[0.1,0.2]", "x*y?", ".hidden", "L" * 300])
def test_a_run_with_any_name_is_listed_and_found_by_it(tmp_path, name):
    with eventlog.init(name=name, dir=tmp_path, save_interval=0) as run:
        run.log({"loss": 1.0}, step=0)

    (listed,) = runs.glance([tmp_path])

    assert runs.one(tmp_path / listed.run.run_name).path == listed.path


def test_a_file_that_macos_adds_beside_a_run_is_not_one(tmp_path):
    (tmp_path / "._run.json").write_bytes(b"\0\5\x16\7")

    assert runs.find([tmp_path]) == []


RESUMED = """
import sys, eventlog

run = eventlog.init(dir="out", id="a", resume="allow", fallback=sys.argv[1], quiet=True)
for step in range(run.step, run.step + 10):
    run.log({"loss": 1.0}, step=step)
run.finish()
"""


def resume(fallback, *, forbidden=()):
    """Ten more steps, with files that may not be changed meanwhile."""
    try:
        subprocess.run(["chattr", "+i", *forbidden], check=bool(forbidden))
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no file can be made immutable here")
    try:
        subprocess.run([sys.executable, "-c", RESUMED, fallback], check=True)
    finally:
        subprocess.run(["chattr", "-i", *forbidden], check=bool(forbidden))


@pytest.mark.parametrize("first", ["fallback", "another"])
def test_a_session_in_the_fallback_folder_is_seen_though_the_run_json_cannot_be_replaced(
    tmp_path, monkeypatch, first
):
    monkeypatch.chdir(tmp_path)
    resume(first)
    resume("fallback")
    assert [found.run.metrics[-1]["step"] for found in runs.load(["out"])] == [19]

    resume("fallback", forbidden=[*Path("out").glob("*.jsonl"), Path("out")])

    assert list(Path("fallback").glob("*.segment"))
    assert [found.run.metrics[-1]["step"] for found in runs.load(["out"])] == [29]
    assert [found.run.journal["metrics"]["last_step"] for found in runs.glance(["out"])] == [29]


def test_a_fallback_that_is_no_path_is_passed_over(tmp_path):
    journal = make_run(tmp_path, "mine").with_suffix(".jsonl")
    fields = {"run_id": "r", "run_name": "mine", "fallback": "a\0b"}
    journal.write_bytes(line(0, event="open", **fields) + line(1, iter=0, loss=1.0))
    eventlog.compact(journal)

    assert [found.run.run_name for found in runs.load([tmp_path])] == ["mine"]
